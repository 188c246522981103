"""Changes of raw images and masks, the same for all variables of a row."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from mmcore.data.options import TransformOptions
from mmcore.errors import OptionError, RequestError
from mmcore.modality.base import ModalityProtocol
from mmcore.rng import Rng


@attrs.frozen(eq=False)
class Transform:
    """One change, as a function of raw values, row and epoch.

    Attributes:
        options: which.
        pixels: the variables that it changes.
        nearest: those among them whose pixels are classes.
        rng: of one row; None leaves out what is random.
        name: of its random numbers.
    """

    options: TransformOptions
    pixels: tuple[str, ...]
    nearest: frozenset[str]
    rng: Rng | None
    name: str

    @property
    def varies(self) -> bool:
        """Whether it depends on the epoch."""
        return self.rng is not None and (self.options.kind == "flip" or self.options.random)

    def __call__(self, values: dict[str, Any], index: int, epoch: int) -> dict[str, Any]:
        """The values changed; those of other variables as they are.

        Raises:
            RequestError: images and masks of different sizes, or too small to crop.
        """
        planes = {name: _Plane.of(values[name], name) for name in self.pixels if name in values}
        if not planes:
            return values
        sizes = {name: plane.size for name, plane in planes.items()}
        size = next(iter(sizes.values()))
        if any(other != size for other in sizes.values()):
            found = ", ".join(f"{name} of {h} × {w}" for name, (h, w) in sizes.items())
            raise RequestError(f"found {found}, expected one size, to {self.options.kind} them together")
        change = getattr(self, f"_{self.options.kind}")(size, index, epoch)
        return {**values, **{name: change(plane, name in self.nearest) for name, plane in planes.items()}}

    def _uniform(self, index: int, epoch: int) -> list[float]:
        assert self.rng is not None
        return attrs.evolve(self.rng, rows=torch.tensor([index])).at(epoch).of(self.name).uniform(2)[0].tolist()

    def _resize(self, size: tuple[int, int], index: int, epoch: int) -> Callable[["_Plane", bool], Any]:
        target = self.options.size
        if self.options.fit == "stretch":
            return lambda plane, nearest: plane.resized(target, nearest)
        scale = max(t / s for t, s in zip(target, size, strict=True))
        inner = (max(target[0], round(size[0] * scale)), max(target[1], round(size[1] * scale)))
        top, left = (inner[0] - target[0]) // 2, (inner[1] - target[1]) // 2
        return lambda plane, nearest: _Plane.of(plane.resized(inner, nearest), "").cut(top, left, target)

    def _crop(self, size: tuple[int, int], index: int, epoch: int) -> Callable[["_Plane", bool], Any]:
        target = self.options.size
        spare = (size[0] - target[0], size[1] - target[1])
        if min(spare) < 0:
            raise RequestError(
                f"found {size[0]} × {size[1]} pixels, expected at least {target[0]} × {target[1]} to crop"
            )
        if self.options.random and self.rng is not None:
            top, left = (int(u * (n + 1)) for u, n in zip(self._uniform(index, epoch), spare, strict=True))
        else:
            top, left = spare[0] // 2, spare[1] // 2
        return lambda plane, nearest: plane.cut(top, left, target)

    def _flip(self, size: tuple[int, int], index: int, epoch: int) -> Callable[["_Plane", bool], Any]:
        turned = self.rng is not None and self._uniform(index, epoch)[0] < self.options.probability
        return lambda plane, nearest: plane.flipped(self.options.axis) if turned else plane.raw

    def _threshold(self, size: tuple[int, int], index: int, epoch: int) -> Callable[["_Plane", bool], Any]:
        return lambda plane, nearest: plane.above(self.options.level)


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
            # Pillow interpolates no palette: its indices would become other colours.
            image = self.raw.convert("RGB") if self.raw.mode == "P" and not nearest else self.raw
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
        """A map of 0 and 1; of several channels the last, which is the alpha of two or four.

        Raises:
            RequestError: colours without an alpha, which have no one value.
        """
        values = np.asarray(self.raw)
        if values.ndim == 3:
            channel = 3 - sum(self.axes)
            if values.shape[channel] not in (1, 2, 4):
                raise RequestError(
                    f"found {values.shape[channel]} channels, expected grey values or an alpha to threshold"
                )
            values = values.take(-1, channel)
        return (values >= level).astype(np.uint8)


def _filter(nearest: bool) -> Image.Resampling:
    return Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR


def make_transforms(
    options: Sequence[TransformOptions], variables: Sequence[ModalityProtocol], *, seed: int, random: bool
) -> list[Transform]:
    """Transforms of these variables, in order.

    Args:
        options: which.
        variables: of the data set; those with two axes or three are images and masks.
        seed: of what is random in them.
        random: whether anything is: false for held-out parts.

    Raises:
        RequestError: a variable that there is not, or that is neither.
    """
    grids = {m.name: not m.spec.dtype.is_floating_point for m in variables if len(m.spec.shape) in (2, 3)}
    made = []
    for number, one in enumerate(options):
        for what, asked in (("variables", one.variables or ()), ("nearest", one.nearest or ())):
            for name in asked:
                if name not in grids:
                    known = (
                        f"names among {', '.join(grids)}, not {name!r}" if grids else "none, as no variable has pixels"
                    )
                    raise OptionError("data", f"transforms[{number}].{what}", list(asked), known)
        masks = tuple(name for name, whole in grids.items() if whole)
        pixels = one.variables if one.variables is not None else masks if one.kind == "threshold" else tuple(grids)
        nearest = frozenset(masks if one.nearest is None else one.nearest)
        rng = Rng.for_rows(seed, 1).of("transform") if random else None
        made.append(Transform(one, pixels, nearest, rng, f"{number}/{one.kind}"))
    return made
