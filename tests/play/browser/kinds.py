"""Modalities that mmcore has never seen, one for each kind of control, each with a control of its own and values that only it reads."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore import RequestError
from mmcore.modality.control import Choice, Control, File, Number, Painting, Picture, Text
from mmcore.testing.reference import Reference
from mmcore_mask import MaskModality

KEYS = "abcdefg"


class Tune(Reference):
    """Four keys, typed."""

    def __init__(self) -> None:
        super().__init__(4)

    def control(self) -> Control:
        return Text(hint=f"four of {KEYS}")

    def read(self, raw: Any) -> Tensor:
        if not isinstance(raw, str) or len(raw) != 4 or set(raw) - set(KEYS):
            raise RequestError(f"found {raw!r}, expected four of {KEYS}")
        return torch.tensor([(KEYS.index(key) - 3) / 2 for key in raw])

    def raw(self, x: Tensor) -> str:
        return "".join(KEYS[round(float(v) * 2 + 3)] for v in x.clamp(-1.5, 1.5))


class Gear(Reference):
    """One of three, by words of its own."""

    WORDS = ("reverse", "idle", "forward")

    def __init__(self) -> None:
        super().__init__(1)

    def control(self) -> Control:
        return Choice(self.WORDS, ("backwards", "nowhere", "onwards"))

    def read(self, raw: Any) -> Tensor:
        if raw not in self.WORDS:
            raise RequestError(f"found {raw!r}, expected one of {', '.join(self.WORDS)}")
        return torch.tensor([self.WORDS.index(raw) - 1.0])

    def raw(self, x: Tensor) -> str:
        return self.WORDS[round(float(x.clamp(-1, 1))) + 1]


class Lamps(Reference):
    """Any of three."""

    def __init__(self) -> None:
        super().__init__(3)

    def control(self) -> Control:
        return Choice((0, 1, 2), ("red", "green", "blue"), several=True)

    def read(self, raw: Any) -> Tensor:
        return super().read(np.where(np.asarray(raw, bool), 1.0, -1.0))

    def raw(self, x: Tensor) -> np.ndarray:
        return (x > 0).numpy()


class Level(Reference):
    """A whole number to slide."""

    def __init__(self) -> None:
        super().__init__(1)

    def control(self) -> Control:
        return Number(0, 12, (0, 12), whole=True, unit="m")

    def read(self, raw: Any) -> Tensor:
        return super().read([(float(np.asarray(raw)) - 6) / 3])

    def raw(self, x: Tensor) -> int:
        return min(12, max(0, round(float(x) * 3 + 6)))


class Still(Reference):
    """A grey picture of 4 × 6, as a vector."""

    def __init__(self) -> None:
        super().__init__(24)

    def control(self) -> Control:
        return Picture((4, 6), colours=False)

    def read(self, raw: Any) -> Tensor:
        if not isinstance(raw, Image.Image):
            raise RequestError(f"found {type(raw).__name__}, expected a picture")
        return super().read(np.asarray(raw.convert("L").resize((6, 4)), np.float32).reshape(-1) / 127.5 - 1)

    def raw(self, x: Tensor) -> Image.Image:
        return Image.fromarray(((x.reshape(4, 6).clamp(-1, 1) + 1) * 127.5).round().byte().numpy())

    def show(self, x: Tensor) -> Image.Image:  # type: ignore[override]
        return self.raw(x)


class Log(Reference):
    """Five numbers, in a file."""

    def __init__(self) -> None:
        super().__init__(5)

    def control(self) -> Control:
        return File("five numbers", (".json",))


class Chart(MaskModality):
    """A map of three classes, in colours and names of its own."""

    def __init__(self) -> None:
        super().__init__(size=[5, 6], classes=3)

    def control(self) -> Control:
        return Painting((5, 6), ((230, 230, 255), (20, 120, 60), (250, 250, 90)), ("sea", "land", "sand"))


KINDS = (Tune, Gear, Lamps, Level, Still, Log, Chart)
