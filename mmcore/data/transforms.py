"""Changes of a row's raw values on their way to a model: those of images and masks here, and whatever a plugin brings."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import attrs
import numpy as np
import torch
from PIL import Image

from mmcore.errors import OptionError, PluginError, RequestError
from mmcore.modality.base import ModalityProtocol
from mmcore.options import SIDES, one_of, require, sides, within
from mmcore.plugins.loading import brief
from mmcore.rng import Rng


class Transform(ABC):
    """A change of a row's raw values, one for all its variables together: a resize, or an augmentation such as a random crop.

    A subclass says ``varies`` and has ``__call__``. It is given to :class:`mmcore.data.Dataset` as an object; offered by the hook
    ``mmcore_transforms``, it is the ``kind`` of a ``[[data.transforms]]`` in a configuration, whose other keys go to its constructor.

    Attributes:
        varies: whether a row changes anew in every epoch. Such a transform is for training: rows that are held out do
            without it (:meth:`steady`), and rows are read again in every epoch instead of once.
    """

    varies: bool

    @abstractmethod
    def __call__(self, values: dict[str, Any], rng: Rng) -> Mapping[str, Any]:
        """Change one row.

        Args:
            values: the row's raw values by variable, such as PIL images, arrays, numbers and texts, without those that it lacks. They are
                copies: they may be changed in place.
            rng: random numbers of this transform, row and epoch, for one row, so that ``rng.uniform()`` has the shape ``(1,)``. Where the
                transform does not vary, they are the same in every epoch. Those of a global generator would not survive resuming.

        Returns:
            a value for each of the same names; None where the row shall lack it.

        Raises:
            RequestError: the row cannot be changed; it is told of as a bad row.
        """

    def bind(self, variables: Sequence[ModalityProtocol]) -> "Transform":
        """The same transform for a data set's variables, whose specs tell images from masks; by default it needs to know nothing.

        Raises:
            RequestError: it does not fit them.
        """
        return self

    moves: bool = False
    """Whether it moves pixels about and leaves their values: then what is true of pixels, such as which are known, goes the same way."""

    def undo_pixels(self, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Numbers of one variable's pixels, put back to where the pixels were before this change; by default it has not moved them.

        Args:
            name: of the variable.
            plane: ``(H, W)`` of float32, such as probabilities, after the change.
            size: height and width before it.

        Returns:
            ``size`` of float32; NaN where the change cut pixels away.
        """
        return plane

    def undo_values(self, name: str, raw: Any) -> Any:
        """A raw value as it may have been before this change of values, so that the change gives it back; by default the change is none."""
        return raw

    def steady(self) -> "Transform | None":
        """What takes its place for rows that are held out; None leaves it out, as is the default for one that varies."""
        return None if self.varies else self


def check_transform(transform: Any, place: str) -> None:
    """Refuse what is no transform.

    Raises:
        RequestError: what was found, and what it lacks.
    """
    if isinstance(transform, type):
        name = transform.__name__
        raise RequestError(f"data: {place} is the class {name}, expected an object of it, {name}(…)")
    if not isinstance(transform, Transform):
        raise RequestError(
            f"data: {place} is a {type(transform).__name__}, expected an object of a subclass of mmcore.data.Transform, with varies "
            "and __call__(values, rng)"
        )
    if not isinstance(getattr(transform, "varies", None), bool):
        raise RequestError(
            f"data: {place}, a {type(transform).__name__}, lacks varies, expected True (it changes rows anew in every epoch) or False"
        )


def transformed(transform: Transform, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
    """A row's values, changed; those that are None then are left out.

    Raises:
        RequestError: the row could not be changed, or nothing is left of it.
        PluginError: the transform gave no row, or one of other names.
    """
    name = type(transform).__name__
    try:
        changed = transform(dict(values), rng)
    except (RequestError, PluginError):
        raise
    except Exception as error:
        raise RequestError(
            f"the transform {name} gave {brief(error)}, expected {', '.join(values)} to be changed"
        ) from error
    if not isinstance(changed, Mapping):
        raise PluginError(
            f"data: the transform {name} returned a {type(changed).__name__}, expected a mapping with {', '.join(values)}"
        )
    if changed.keys() != values.keys():
        raise PluginError(
            f"data: the transform {name} returned {', '.join(map(str, changed)) or 'nothing'}, expected {', '.join(values)} (None for one "
            "that the row shall lack)"
        )
    present = {key: value for key, value in changed.items() if value is not None}
    if not present:
        raise RequestError(f"the transform {name} left nothing of {', '.join(values)}, expected one of them at least")
    return present


def copied(raw: Any) -> Any:
    """A raw value that may be changed in place: what a source keeps must be the same in the next epoch."""
    if isinstance(raw, np.ndarray):
        # An embedded value still knows by what it was made.
        return np.array(raw, subok=hasattr(raw, "fingerprint"))
    if isinstance(raw, torch.Tensor):
        return raw.clone()
    if isinstance(raw, Image.Image):
        return raw.copy()
    return copy.deepcopy(raw) if isinstance(raw, list | dict) else raw


@attrs.frozen(eq=False)
class Trace:
    """How a row came to be of the model's size: its transforms, and how large its pictures were before each.

    Attributes:
        steps: each transform, and height and width of what has pixels, by variable.
    """

    steps: list[tuple[Transform, dict[str, tuple[int, int]]]] = attrs.field(factory=list)

    def add(self, transform: Transform, values: Mapping[str, Any]) -> None:
        """One more transform of the row's values."""
        sizes = {name: size for name, raw in values.items() if (size := _size_of(raw)) is not None}
        self.steps.append((transform, sizes))

    def undo_pixels(self, name: str, plane: np.ndarray) -> np.ndarray:
        """A variable's numbers ``(H, W)`` of float32, moved back to the pixels of the file; NaN where the row was cut.

        Where the row lacks the variable, its file would have the size of the pictures that are changed with it.
        """
        for number in reversed(range(len(self.steps))):
            if (size := self._size(name, number)) is not None:
                plane = self.steps[number][0].undo_pixels(name, plane, size)
        return plane

    def undo_values(self, name: str, raw: Any) -> Any:
        """A raw value from which the transforms of values make it."""
        for transform, _ in reversed(self.steps):
            raw = transform.undo_values(name, raw)
        return raw

    def _size(self, name: str, number: int) -> tuple[int, int] | None:
        """Height and width of a variable before a transform."""
        transform, sizes = self.steps[number]
        beside = [sizes[one] for one in (name, *changed_by(transform, sizes)) if one in sizes]
        if not beside and not any(name in changed_by(earlier, (name,)) for earlier, _ in self.steps[:number]):
            beside = list(self.steps[0][1].values())
        return beside[0] if beside else None


def changed_by(transform: Transform, names: Collection[str]) -> Collection[str]:
    """Those whose pixels a transform changes; of one that does not say it, all."""
    pixels = getattr(transform, "pixels", None)
    return names if pixels is None else pixels


def _size_of(raw: Any) -> tuple[int, int] | None:
    try:
        return _Plane.of(raw, "").size
    except RequestError:
        return None


class _OfPixels(Transform):
    """A change of images and masks, which must be of one size.

    Args:
        variables: what it changes; by default every image and mask, known by the two or three axes of their modalities.
    """

    moves = True

    def __init__(self, variables: Sequence[str] | None = None) -> None:
        self.variables = None if variables is None else tuple(variables)
        self.pixels: tuple[str, ...] | None = self.variables
        self.masks: frozenset[str] = frozenset()
        self.apart: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """What messages call it."""
        return type(self).__name__.lower()

    def bind(self, variables: Sequence[ModalityProtocol]) -> Self:
        """Raises RequestError for names of variables that there are not, or that have no pixels."""
        grids = {m.name: not m.spec.dtype.is_floating_point for m in variables if m.planar}
        for option, names in self._named().items():
            for name in names or ():
                if name not in grids:
                    known = (
                        f"names among {', '.join(grids)}, not {name!r}" if grids else "none, as no variable has pixels"
                    )
                    raise OptionError("data", option, list(names or ()), known)
        bound = copy.copy(self)
        bound.masks = frozenset(name for name, whole in grids.items() if whole)
        # Between a number and a hole there is nothing, as there is nothing between two classes.
        bound.apart = bound.masks | {m.name for m in variables if m.planar and m.spec.void is not None}
        if self.variables is None:
            bound.pixels = tuple(name for name in grids if bound._takes(name))
        return bound

    def _named(self) -> dict[str, tuple[str, ...] | None]:
        """Variables that its options name, by option."""
        return {"variables": self.variables}

    def _takes(self, name: str) -> bool:
        """Whether it changes an image or mask where its options name no variables."""
        return True

    def undo_pixels(self, name: str, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return self._back(plane, size) if name in (self.pixels or ()) else plane

    def _back(self, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return plane

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        if self.pixels is None:
            raise RequestError(
                f"{self.title}: used outside of a Dataset, expected variables=[…] to say what it changes"
            )
        planes = {name: _Plane.of(values[name], name) for name in self.pixels if name in values}
        if not planes:
            return values
        sizes = {name: plane.size for name, plane in planes.items()}
        size = next(iter(sizes.values()))
        if any(other != size for other in sizes.values()):
            found = ", ".join(f"{name} of {h} × {w}" for name, (h, w) in sizes.items())
            raise RequestError(f"found {found}, expected one size, to {self.title} them together")
        change = self._change(size, rng)
        return {**values, **{name: change(plane, name) for name, plane in planes.items()}}

    @abstractmethod
    def _change(self, size: tuple[int, int], rng: Rng) -> Callable[["_Plane", str], Any]:
        """What becomes of each image and mask of a row, all of this size."""


class Resize(_OfPixels):
    """Images and masks at one height and width, masks by the nearest pixel.

    Args:
        size: height and width, or one number for both.
        fit: ``"stretch"`` to the size, or ``"cover"`` it with the sides' ratio kept, and cut what is over.
        nearest: variables resized to the nearest pixel, as class maps must be; by default those of integer values, and those with holes.
        variables: what it changes; by default every image and mask.

    Raises:
        OptionError: a size or fit that cannot be.
    """

    varies = False

    def __init__(
        self,
        size: int | Sequence[int],
        fit: str = "stretch",
        nearest: Sequence[str] | None = None,
        variables: Sequence[str] | None = None,
    ) -> None:
        super().__init__(variables)
        self.size, self.fit = sides(size), fit
        self.nearest = None if nearest is None else tuple(nearest)
        require("resize", size=(self.size, SIDES), fit=(fit, one_of("stretch", "cover")))

    def _named(self) -> dict[str, tuple[str, ...] | None]:
        return {"variables": self.variables, "nearest": self.nearest}

    def _change(self, size: tuple[int, int], rng: Rng) -> Callable[["_Plane", str], Any]:
        target, nearest = self.size, self.apart if self.nearest is None else self.nearest
        inner = self._inner(size)
        top, left = _middle(inner, target)
        return lambda plane, name: _Plane.of(plane.resized(inner, name in nearest), "").cut(top, left, target)

    def _inner(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of the whole picture when it is resized, of which ``self.size`` is kept."""
        if self.fit == "stretch":
            return self.size
        scale = max(t / s for t, s in zip(self.size, size, strict=True))
        return max(self.size[0], round(size[0] * scale)), max(self.size[1], round(size[1] * scale))

    def cut(self, size: tuple[int, int]) -> float:
        """The share of the pixels of a picture of this height and width that is cut away."""
        return 1 - math.prod(self.size) / math.prod(self._inner(size))

    def _back(self, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        inner = self._inner(size)
        known = _around(np.isfinite(plane), inner, False)
        # What is cut away is unknown; with the edges repeated there, what is known keeps its values up to its own edge.
        whole = filled(_around(plane, inner, np.nan))
        back, seen = (_Plane(one, (0, 1)).resized(size, nearest) for one, nearest in ((whole, False), (known, True)))
        return np.where(seen, back, np.float32(np.nan))


class Crop(_OfPixels):
    """A part of images and masks, the same of all: their middle, or a random place in each epoch.

    Args:
        size: height and width of the part, or one number for both.
        random: at a random place; rows that are held out are cropped in the middle.
        variables: what it changes; by default every image and mask.

    Raises:
        OptionError: a size that cannot be.
    """

    def __init__(self, size: int | Sequence[int], random: bool = False, variables: Sequence[str] | None = None) -> None:
        super().__init__(variables)
        self.size, self.varies = sides(size), random
        require("crop", size=(self.size, SIDES), random=(random, one_of(True, False)))

    def steady(self) -> "Crop":
        """The crop of the middle."""
        steady = copy.copy(self)
        steady.varies = False
        return steady

    def _change(self, size: tuple[int, int], rng: Rng) -> Callable[["_Plane", str], Any]:
        target = self.size
        spare = (size[0] - target[0], size[1] - target[1])
        if min(spare) < 0:
            raise RequestError(
                f"found {size[0]} × {size[1]} pixels, expected at least {target[0]} × {target[1]} to crop"
            )
        if self.varies:
            top, left = (int(u * (n + 1)) for u, n in zip(rng.uniform(2)[0].tolist(), spare, strict=True))
        else:
            top, left = _middle(size, target)
        return lambda plane, name: plane.cut(top, left, target)

    def _back(self, plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return _around(plane, size, np.nan)


class Flip(_OfPixels):
    """Images and masks mirrored at random, all of a row or none, in each epoch anew; rows that are held out never.

    Args:
        probability: of a row's being mirrored.
        axis: ``"horizontal"`` (left becomes right) or ``"vertical"``.
        variables: what it changes; by default every image and mask.

    Raises:
        OptionError: a probability or axis that cannot be.
    """

    varies = True

    def __init__(
        self, probability: float = 0.5, axis: str = "horizontal", variables: Sequence[str] | None = None
    ) -> None:
        super().__init__(variables)
        self.probability, self.axis = probability, axis
        require("flip", probability=(probability, within(0, 1)), axis=(axis, one_of("horizontal", "vertical")))

    def _change(self, size: tuple[int, int], rng: Rng) -> Callable[["_Plane", str], Any]:
        turned = rng.uniform().item() < self.probability
        return lambda plane, name: plane.flipped(self.axis) if turned else plane.raw


class Threshold(_OfPixels):
    """A mask of 0 and 1 out of grey values or an alpha channel.

    Args:
        level: the smallest value that becomes 1.
        variables: what it changes; by default every mask.

    Raises:
        OptionError: a level that is no number.
    """

    varies = False
    moves = False

    def __init__(self, level: float = 128, variables: Sequence[str] | None = None) -> None:
        super().__init__(variables)
        self.level = level
        require("threshold", level=(level, within(-math.inf)))

    def _takes(self, name: str) -> bool:
        return name in self.masks

    def _change(self, size: tuple[int, int], rng: Rng) -> Callable[["_Plane", str], Any]:
        return lambda plane, name: plane.above(self.level)

    def undo_values(self, name: str, raw: Any) -> Any:
        """Bytes 0 and 255 for a map of 0 and 1; 0 and 1 where that is enough, and the level where it is larger."""
        if name not in (self.pixels or ()):
            return raw
        high = 1 if self.level <= 1 else 255 if self.level <= 255 else self.level
        written = np.where(np.asarray(raw) > 0, high, 0)
        return Image.fromarray(written.astype(np.uint8)) if high <= 255 else written.astype(np.float32)


_GREY = 2
"""How far the channels of a grey pixel may be apart: JPEG rounds each by itself."""


@attrs.frozen(eq=False)
class _Plane:
    """A PIL image, or an array whose height and width are at ``axes``."""

    raw: Any
    axes: tuple[int, int]

    @classmethod
    def of(cls, raw: Any, name: str) -> "_Plane":
        if isinstance(raw, Image.Image):
            return cls(raw, (0, 1))
        if isinstance(raw, list | tuple | torch.Tensor):
            raw = np.asarray(raw)
        if not isinstance(raw, np.ndarray) or raw.ndim not in (2, 3):
            raise RequestError(f"{name}: found {type(raw).__name__}, expected an image or an array (H, W) to transform")
        # Channels come first only where the last axis has too many to be channels.
        first = raw.ndim == 3 and raw.shape[2] > 4 and raw.shape[0] <= 4
        return cls(raw, (1, 2) if first else (0, 1))

    @property
    def size(self) -> tuple[int, int]:
        if isinstance(self.raw, Image.Image):
            return self.raw.height, self.raw.width
        return self.raw.shape[self.axes[0]], self.raw.shape[self.axes[1]]

    def resized(self, size: tuple[int, int], nearest: bool) -> Any:
        if size == self.size:
            return self.raw
        if isinstance(self.raw, Image.Image):
            image = self.raw if nearest else _smooth(self.raw)
            return image.resize((size[1], size[0]), _filter(nearest))
        if nearest:
            rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, self.size, strict=True))
            return self.raw.take(rows, self.axes[0]).take(columns, self.axes[1])
        last = np.moveaxis(self.raw, self.axes, (0, 1))
        flat = last.reshape(*self.size, -1).astype(np.float32)
        planes = [
            np.asarray(Image.fromarray(flat[..., c]).resize((size[1], size[0]), _filter(False)))
            for c in range(flat.shape[2])
        ]
        out = np.stack(planes, axis=2).reshape(*size, *last.shape[2:])
        if not np.issubdtype(self.raw.dtype, np.floating):
            out = out.round()
        return np.moveaxis(out.astype(self.raw.dtype), (0, 1), self.axes)

    def cut(self, top: int, left: int, size: tuple[int, int]) -> Any:
        if isinstance(self.raw, Image.Image):
            return self.raw.crop((left, top, left + size[1], top + size[0]))
        cut = [slice(None)] * self.raw.ndim
        cut[self.axes[0]], cut[self.axes[1]] = slice(top, top + size[0]), slice(left, left + size[1])
        return self.raw[tuple(cut)]

    def flipped(self, axis: str) -> Any:
        if isinstance(self.raw, Image.Image):
            way = Image.Transpose.FLIP_LEFT_RIGHT if axis == "horizontal" else Image.Transpose.FLIP_TOP_BOTTOM
            return self.raw.transpose(way)
        return np.flip(self.raw, self.axes[1] if axis == "horizontal" else self.axes[0])

    def above(self, level: float) -> np.ndarray:
        """A map of 0 and 1; of several channels the last, which is the alpha of two or four; three must be grey.

        Raises:
            RequestError: colours without an alpha, which have no one value; a map of 0 and 1 already, which a higher level would empty.
        """
        raw = self.raw
        if isinstance(raw, Image.Image) and raw.mode in ("P", "1"):
            raw = raw.convert("RGB" if raw.mode == "P" else "L")  # a palette's numbers are no grey values
        values = np.asarray(raw)
        if values.ndim == 3:
            channel = 3 - sum(self.axes)
            grey = values.shape[channel] == 3 and not np.ptp(values.astype(np.float64), channel).max(initial=0) > _GREY
            if not grey and values.shape[channel] not in (1, 2, 4):
                raise RequestError(
                    f"found {values.shape[channel]} channels, expected grey values or an alpha to threshold"
                )
            values = values.take(0 if grey else -1, channel)
        if values.dtype == bool:
            return values.astype(np.uint8)  # black and white, as bits of files are
        if level > 1 and values.dtype.kind in "iu" and values.size and (values.min(), values.max()) == (0, 1):
            raise RequestError(
                f"found the values 0 and 1 alone, of which level = {level:g} makes 0 everywhere, expected grey values; write 255 for 1, or another level"
            )
        return (values >= level).astype(np.uint8)


def _middle(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Where the middle of a picture begins: its top and left."""
    return (size[0] - target[0]) // 2, (size[1] - target[1]) // 2


def _around(plane: np.ndarray, size: tuple[int, int], beyond: float) -> np.ndarray:
    """A plane in the middle of a larger one, which has ``beyond`` around it."""
    (top, left), (height, width) = _middle(size, plane.shape), plane.shape
    whole = np.full(size, beyond, dtype=plane.dtype)
    whole[top : top + height, left : left + width] = plane
    return whole


def filled(plane: np.ndarray) -> np.ndarray:
    """A plane whose middle is finite, the edges of which are repeated around it."""
    known = np.isfinite(plane)
    around, middle = [], []
    for axis, side in enumerate(plane.shape):
        here = np.flatnonzero(known.any(1 - axis))
        middle.append(slice(here[0], here[-1] + 1))
        around.append((int(here[0]), int(side - here[-1] - 1)))
    return np.pad(plane[tuple(middle)], around, mode="edge")


def _smooth(image: Image.Image) -> Image.Image:
    """The image in a mode that Pillow interpolates: of palettes it would mix indices, of bits and a transparent colour nothing."""
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("LA" if image.mode == "L" else "RGBA")
    return image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode))


def _filter(nearest: bool) -> Image.Resampling:
    return Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
