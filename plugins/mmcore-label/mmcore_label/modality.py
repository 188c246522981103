"""Labels: one class of K, or any subset of K labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.limits import SPACE, takes
from mmcore.modality.axes import Axis, Rows
from mmcore.modality.control import Choice, Control
from mmcore.modality.heads import PooledHead
from mmcore.modality.likelihood import bernoulli, categorical, total
from mmcore.options import require, whole

MOST_TABLED = 1 << 10
"""Classes whose codes are kept in a table, of 4 MB at most."""


class LabelModality(Modality):
    """A class index in 0 … classes - 1, or with ``multi`` a boolean vector.

    Its code is the one-hot (or multi-hot) vector, each element centred and scaled by its frequency.

    Args:
        classes: ``K``, at least 2 (1 with ``multi``).
        multi: several labels at once, each on or off.
        names: of the classes, accepted when reading and used when showing; the text of a value is looked for among them.
        frequencies: of the classes in the data, for unit variance; equal by default (0.5 each with ``multi``).
    """

    discrete = True

    def __init__(
        self,
        classes: int = 10,
        *,
        multi: bool = False,
        names: Sequence[str] | None = None,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        require("label", classes=(classes, whole(1 if multi else 2)))
        SPACE.check("label", "classes", classes, classes, takes(classes))
        if names is not None and (len(names) != classes or len(set(names)) != classes):
            mend = f"classes = {len(names)} goes with them" if len(names) != classes else ""
            raise OptionError(
                "label",
                "names",
                list(names),
                f"{classes} different names, one of each class",
                mend=mend,
                beside=("classes",),
            )
        default = torch.full((classes,), 0.5 if multi else 1 / classes)
        p = default if frequencies is None else torch.tensor(list(frequencies), dtype=torch.float32)
        if p.shape != (classes,) or not ((p > 0) & (p < 1)).all():
            expected = f"{classes} numbers inside 0 … 1"
            raise OptionError("label", "frequencies", frequencies, expected, beside=("classes",))
        self.name = "label"
        self.classes, self.multi = classes, multi
        self.names = None if names is None else tuple(names)
        self.places = {name: index for index, name in enumerate(names or ())}
        self.numbered = 2 * sum(name.lstrip("-").isdigit() for name in self.places) >= len(self.places) > 0
        self.frequencies = p if multi else p / p.sum()
        self.spec = Spec((classes,), torch.bool) if multi else Spec((), torch.int64, 0, classes - 1)
        self.code = (classes,)

    def encoder(self) -> Encoder:
        return LabelEncoder(self.frequencies, self.multi)

    def decoder(self, width: int, space: Space) -> Decoder:
        return LabelDecoder(width, space, self.names or tuple(map(str, range(self.classes))), self.multi)

    def loss(self) -> LossTerm:
        return LabelLoss(self.multi)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The codes weighted by their probabilities."""
        if self.multi:
            off, on = encode(torch.arange(2, device=params.device)[:, None].bool().expand(2, self.classes))
            return torch.lerp(off.to(params.dtype), on.to(params.dtype), params.sigmoid())
        if type(encode) is not LabelEncoder:  # one of a subclass's own
            return params.softmax(1) @ encode(torch.arange(self.classes, device=params.device)).to(params.dtype)
        encoder = cast(LabelEncoder, encode)
        if (
            encoder.table is None
        ):  # so many that the codes of all of them would fill the memory; the code is affine in the one-hot vector
            return (params.softmax(1) - encoder.mean.to(params.dtype)) * encoder.scale.to(params.dtype)
        return params.softmax(1) @ encoder.table.to(params.dtype)

    def read(self, raw: Any) -> Tensor:
        """An index, a class's name, or of two classes a boolean; with ``multi`` a vector of booleans, or of 0 and 1, or a list of indices or names.

        The text of a number is looked for among the names first. Where at least half of them are numbers, it is no index. A one-hot vector is its class.
        """
        if isinstance(raw, Tensor):
            raw = raw.detach().cpu().numpy()
        if not self.multi:
            return torch.tensor(self._index(raw))
        if isinstance(raw, list) and raw and self._as_bits(raw):
            raw = np.asarray(raw)
        if isinstance(raw, np.ndarray):
            if raw.shape != (self.classes,):
                raise RequestError(f"found shape {raw.shape}, expected {self.classes} booleans")
            if raw.dtype != bool and not (raw.dtype.kind in "iuf" and np.isin(raw, (0, 1)).all()):
                raise RequestError(
                    f"found an array of {raw.dtype}, expected {self.classes} booleans, or numbers 0 and 1"
                )
            return torch.from_numpy(raw.astype(bool))
        if not isinstance(raw, list | tuple | set | frozenset):
            raise RequestError(
                f"found {type(raw).__name__}, expected {self.classes} booleans, or a list of indices or names"
            )
        x = torch.zeros(self.classes, dtype=torch.bool)
        for one in raw:
            x[self._index(one)] = True
        return x

    def _as_bits(self, raw: list[Any]) -> bool:
        """Whether a list is one number for each class, 0 or 1, rather than indices.

        Raises:
            RequestError: it may be both.
        """
        if len(raw) != self.classes or not all(isinstance(one, bool | int) and one in (0, 1) for one in raw):
            return False
        if not any(isinstance(one, bool) for one in raw) and len(set(raw)) == len(raw):
            raise RequestError(
                f"found the list {raw}, which may be indices or one number for each class, expected booleans"
            )
        return True

    def _index(self, raw: Any) -> int:
        if isinstance(raw, np.ndarray | np.generic):
            raw = self._hot(np.asarray(raw))
            raw = raw.item() if isinstance(raw, np.ndarray | np.generic) and raw.size == 1 else raw
        if isinstance(raw, float) and raw.is_integer():
            raw = int(raw)
        if self.names is not None:
            text = raw if isinstance(raw, str) else str(raw) if isinstance(raw, int) else ""
            if text in self.places:
                return self.places[text]
            if isinstance(raw, str) or (self.numbered and not isinstance(raw, bool)):
                raise RequestError(f"found {raw!r}, expected one of {self._some()}")
        elif isinstance(raw, str) and raw.isascii() and raw.isdecimal():
            raw = int(raw)  # one word in a table's column makes all of it text
        if isinstance(raw, bool) and self.classes == 2 and not self.multi:
            return int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int):
            words = "; names = [...] lets words be classes" if isinstance(raw, str) else ""
            if raw is None or (isinstance(raw, float) and raw != raw):
                words = "; leave it out where it is missing"
            raise RequestError(
                f"found {raw!r} ({type(raw).__name__}), expected a class index 0 … {self.classes - 1}{words}"
            )
        if not 0 <= raw < self.classes:
            named = "" if self.names is None else f" or one of {self._some()}"
            raise RequestError(f"found class {raw}, expected 0 … {self.classes - 1}{named}")
        return raw

    def _some(self) -> str:
        """The first of the classes' names."""
        return ", ".join((self.names or ())[:12]) + (f" … ({self.classes} in all)" if self.classes > 12 else "")

    def _hot(self, raw: np.ndarray) -> Any:
        """The class of a one-hot vector; what is none stays as it is."""
        one_hot = (
            raw.shape == (self.classes,)
            and raw.size > 1
            and raw.dtype.kind in "biuf"
            and np.isin(raw, (0, 1)).all()
            and raw.astype(int).sum() == 1
        )
        return int(raw.argmax()) if one_hot else raw

    def raw(self, x: Tensor) -> Any:
        """A class's name, or its index where there are no names; with ``multi`` a list of names, or of booleans."""
        if self.multi:
            on = x.tolist()
            return on if self.names is None else [name for name, here in zip(self.names, on, strict=True) if here]
        return int(x) if self.names is None else self.names[int(x)]

    def show(self, x: Tensor) -> str:
        names = self.names or tuple(map(str, range(self.classes)))
        return ", ".join(names[int(i)] for i in x.nonzero()[:, 0]) if self.multi else names[int(x)]

    def control(self) -> Control:
        """Classes to pick, by their names."""
        chosen = super().control()
        return attrs.evolve(chosen, names=self.names) if self.names and isinstance(chosen, Choice) else chosen

    def metrics(self) -> Mapping[str, Metric]:
        if self.multi:
            return {"label_accuracy": lambda prediction, target: (prediction == target).float().mean(1)}
        return {"accuracy": lambda prediction, target: (prediction == target).float()}

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """The classes' frequencies; as if each had been seen once more, so that none is 0."""
        if self.multi:
            counts = samples.double().sum(0)
            return {"frequencies": ((counts + 1) / (len(samples) + 2)).tolist()}
        counts = torch.bincount(samples, minlength=self.classes).double()
        return {"frequencies": ((counts + 1) / (len(samples) + self.classes)).tolist()}

    def typical(self, n: int, seed: int) -> Tensor:
        """Labels with the stated frequencies."""
        rng = Rng.for_rows(seed, n).of("typical")
        if self.multi:
            return rng.uniform(self.classes) < self.frequencies
        return rng.categorical(self.frequencies.expand(n, -1))


class LabelEncoder(Encoder):
    """The centred, scaled one-hot or multi-hot code.

    Attributes:
        table: the codes of all classes, ``(K, K)``, which every sampling step weighs; None of several labels, and of more classes than ``MOST_TABLED``.
    """

    mean: Tensor
    scale: Tensor
    table: Tensor | None

    def __init__(self, frequencies: Tensor, multi: bool) -> None:
        super().__init__()
        self.multi = multi
        self.register_buffer("mean", frequencies.clone(), persistent=False)
        self.register_buffer("scale", (frequencies * (1 - frequencies)).rsqrt(), persistent=False)
        self.register_buffer("table", None, persistent=False)
        if not multi and len(frequencies) <= MOST_TABLED:
            self.table = LabelEncoder.forward(self, torch.arange(len(frequencies), device=frequencies.device))

    def forward(self, x: Tensor) -> Tensor:
        if self.table is not None:
            return F.embedding(x, self.table)
        # scatter, as one_hot would first look for the largest class
        hot = (
            x.to(self.mean.dtype)
            if self.multi
            else self.mean.new_zeros(*x.shape, len(self.mean)).scatter_(-1, x[..., None], 1)
        )
        return (hot - self.mean) * self.scale


class LabelDecoder(Decoder):
    """Logits ``(B, K)``."""

    def __init__(self, width: int, space: Space, names: tuple[str, ...], multi: bool) -> None:
        super().__init__()
        self.multi, self.names = multi, names
        self.head = PooledHead(width, space, len(names))

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features)

    def weight_axes(self) -> dict[str, Axis]:
        """A row for each class."""
        return {"head.out.weight": Rows(self.names), "head.out.bias": Rows(self.names)}

    def point(self, params: Tensor) -> Tensor:
        return params > 0 if self.multi else params.argmax(1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        if self.multi:
            return rng.uniform(params.shape[1], dtype=torch.float64) < params.double().sigmoid()
        return rng.categorical(params.softmax(1))


class LabelLoss:
    """The categorical likelihood, or with ``multi`` that of independent booleans."""

    def __init__(self, multi: bool) -> None:
        self.multi = multi

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        return total(bernoulli(params, target) if self.multi else categorical(params, target), where)
