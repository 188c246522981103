"""Masks: a class for each pixel, or a void that counts for nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.data.batch import read_alike
from mmcore.data.decode import picture
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import categorical, total
from mmcore.options import SIDES, require, sides, whole


class MaskModality(Modality):
    """Class index maps ``(H, W)`` in 0 … classes - 1; with ``void``, one more value that says nothing.

    The code of a pixel is its one-hot vector, centred and scaled by the classes' frequencies (one channel is
    enough for two classes); that of a void pixel is zero.

    Args:
        size: height and width, or one number for both.
        classes: ``K``, at least 2.
        void: the value of pixels to ignore, outside 0 … K - 1; None where there are none.
        frequencies: of the classes in the data, for unit variance; equal by default.
    """

    discrete = True

    def __init__(
        self,
        size: int | Sequence[int] = 32,
        classes: int = 2,
        *,
        void: int | None = None,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        require("mask", size=(sides(size), SIDES), classes=(classes, whole(2)))
        height, width = sides(size)
        if void is not None and 0 <= void < classes:
            expected = f"a value that is none of the classes 0 … {classes - 1}"
            raise OptionError("mask", "void", void, expected, beside=("classes",))
        p = torch.full((classes,), 1 / classes) if frequencies is None else torch.tensor(list(frequencies))
        if p.shape != (classes,) or not (p > 0).all():
            raise OptionError("mask", "frequencies", frequencies, f"{classes} numbers above 0", beside=("classes",))
        self.name = "mask"
        self.classes, self.void, self.frequencies = classes, void, p / p.sum()
        self.spec = Spec((height, width), torch.int64, 0, classes - 1, void=void)
        self.code = (1 if classes == 2 else classes, height, width)

    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        """All of a known pixel's channels are known."""
        return where[:, None].expand(-1, *self.code)

    def encoder(self) -> Encoder:
        return MaskEncoder(self.frequencies, self.void)

    def decoder(self, width: int, space: Space) -> Decoder:
        return MaskDecoder(width, space, self.classes, self.spec.shape)

    def loss(self) -> LossTerm:
        return MaskLoss(self.classes, self.void)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The codes of the classes, weighted by their probabilities."""
        classes = torch.arange(self.classes, device=params.device)
        # A map of one pixel each: a pixel's code is its own.
        codes = encode(classes[:, None, None])[:, :, 0, 0]
        return torch.einsum("bkhw,kc->bchw", params.softmax(1), codes.to(params.dtype))

    def read(self, raw: Any) -> Tensor:
        """A class index map, a boolean map, a path or a PIL image; an RGBA image gives its alpha as a binary mask."""
        return read_alike([self._array(raw)], self._indices)[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        return read_alike([self._array(raw) for raw in raws], self._indices)

    def _array(self, raw: Any) -> np.ndarray | Tensor:
        if isinstance(raw, str | Path):
            raw = picture(raw)
        if isinstance(raw, Image.Image):
            if raw.mode not in ("1", "L", "P", "I", "I;16", "RGBA", "LA"):
                raise RequestError(
                    f"found a PIL image of mode {raw.mode}, expected indices (L, P, I), bits (1) or an alpha"
                )
            raw = np.asarray(raw)
        if not isinstance(raw, np.ndarray | Tensor):
            raise RequestError(f"found {type(raw).__name__}, expected a path, a PIL image or an array")
        return raw

    def _indices(self, x: Tensor) -> Tensor:
        """Maps ``(B, H, W)``, or pictures with an alpha ``(B, H, W, 2)`` or ``(B, H, W, 4)``, as the spec has them."""
        height, width = self.spec.shape
        found = tuple(x.shape[1:])
        if x.ndim == 4 and x.shape[-1] in (2, 4) and self.classes == 2:
            alpha = x[..., -1]
            x = alpha >= (128 if alpha.dtype == torch.uint8 else 0.5)
        if x.shape[1:] != self.spec.shape:
            raise RequestError(f"found shape {found}, expected {height} × {width}")
        if x.dtype == torch.bool and self.classes != 2:
            raise RequestError(f"found a boolean map, expected indices of {self.classes} classes")
        if x.is_floating_point() and not (x == x.round()).all():
            raise RequestError(f"found dtype {x.dtype} with fractions, expected class indices")
        x = x.long()
        wrong = (x < 0) | (x >= self.classes)
        if self.void is not None:
            wrong &= x != self.void
        if wrong.any():
            void = "" if self.void is None else f" or void {self.void}"
            raise RequestError(f"found class {int(x[wrong][0])}, expected 0 … {self.classes - 1}{void}")
        return x

    def show(self, x: Tensor) -> Image.Image:
        """Grey levels for two classes, else a palette of distinct colours; void is mid-grey."""
        x = x.detach().cpu()
        hues = torch.arange(self.classes) / self.classes
        if self.classes == 2:
            colours = torch.tensor([[0, 0, 0], [255, 255, 255]])
        else:
            channels = [((hues + shift) % 1 * 6 - 3).abs().sub(1).clamp(0, 1) for shift in (0, 2 / 3, 1 / 3)]
            colours = (torch.stack(channels, 1) * 255).long()
        valid = (x >= 0) & (x < self.classes)
        pixels = torch.where(valid[..., None], colours[x.clamp(0, self.classes - 1)], 128)
        return Image.fromarray(pixels.to(torch.uint8).numpy())

    def metrics(self) -> Mapping[str, Metric]:
        return {"iou": self._iou, "pixel_accuracy": self._accuracy}

    def _valid(self, target: Tensor) -> Tensor:
        return torch.ones_like(target, dtype=torch.bool) if self.void is None else target != self.void

    def _iou(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Intersection over union of class 1 (binary), or its mean over the classes in either map."""
        valid = self._valid(target)
        classes = [1] if self.classes == 2 else range(self.classes)
        scores, counted = [], []
        for k in classes:
            a, b = (prediction == k) & valid, (target == k) & valid
            union = (a | b).flatten(1).sum(1)
            scores.append(torch.where(union > 0, (a & b).flatten(1).sum(1) / union.clamp(min=1), 0.0))
            counted.append(union > 0)
        count = torch.stack(counted).sum(0)
        return torch.where(count > 0, torch.stack(scores).sum(0) / count.clamp(min=1), 1.0)

    def _accuracy(self, prediction: Tensor, target: Tensor) -> Tensor:
        valid = self._valid(target)
        return ((prediction == target) & valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """The classes' frequencies over all pixels that are not void; at least a thousandth, for codes of bounded size."""
        valid = samples[(samples >= 0) & (samples < self.classes)]
        share = torch.bincount(valid, minlength=self.classes).double() / max(len(valid), 1)
        return {"frequencies": share.clamp(min=1e-3).tolist()}

    def typical(self, n: int, seed: int) -> Tensor:
        """Smooth random regions whose classes have the stated frequencies."""
        height, width = self.spec.shape
        coarse = Rng.for_rows(seed, n).of("typical").normal(1, -(-height // 4) + 1, -(-width // 4) + 1)
        field = F.interpolate(coarse, (height, width), mode="nearest")[:, 0]
        # The normal's distribution function makes the field uniform, whatever the class frequencies.
        edges = self.frequencies.cumsum(0)[:-1]
        return torch.bucketize(torch.special.ndtr(field), edges)


class MaskEncoder(Encoder):
    """The centred, scaled one-hot code of each pixel; zero where void."""

    table: Tensor

    def __init__(self, frequencies: Tensor, void: int | None) -> None:
        super().__init__()
        self.void = void
        scaled = (torch.eye(len(frequencies)) - frequencies) / (frequencies * (1 - frequencies)).sqrt()
        self.register_buffer("table", scaled[:, 1:] if len(frequencies) == 2 else scaled, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        code = F.embedding(x.clamp(0, len(self.table) - 1), self.table)
        if self.void is not None:
            code = torch.where((x == self.void)[..., None], torch.zeros_like(code), code)
        return code.movedim(-1, 1)


class MaskDecoder(Decoder):
    """Logits ``(B, K, H, W)``."""

    def __init__(self, width: int, space: Space, classes: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = (classes, *size)
        grid = len(space.grid)
        self.map = SpatialHead(width, space, classes, size) if grid == 2 else None
        self.flat = None if grid == 2 else PooledHead(width, space, torch.Size(self.shape).numel())

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.map(features) if self.map is not None else self.flat(features).unflatten(1, self.shape)  # type: ignore

    def point(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return rng.categorical(params.softmax(1).movedim(1, -1))


class MaskLoss:
    """The categorical likelihood of the pixels that are not void."""

    def __init__(self, classes: int, void: int | None) -> None:
        self.classes, self.void = classes, void

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        if self.void is not None:
            known = target != self.void
            where = known if where is None else where & known
        return total(categorical(params, target.clamp(0, self.classes - 1)), where)
