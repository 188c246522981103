"""What a column of pictures or class maps holds, counted over all its values. Importing this module imports no torch."""

import contextlib
from collections import Counter
from typing import Any

import attrs
import numpy as np

from mmcore.data.contract import native

MIDDLE = 512
"""The side of the middle of a map in which it is looked for what lies on edges alone."""
FLAT, RICH = 8, 16
_SEEN = 2048
MOST = 1024
"""Different values, or colours, up to which each is counted."""


@attrs.define
class Tally:
    """How often each value occurs, up to :data:`MOST` different ones.

    Attributes:
        pixels: of each value.
        sets: how many pictures have just these values.
        many: whether there were more different ones; then the counts are worth nothing.
        seen: pixels of each value in the middles of the pictures.
        solid: those of them that lie in a square of 2 × 2 of the value: what is no line, and no single pixel.
    """

    pixels: Counter[int] = attrs.field(factory=Counter)
    sets: Counter[frozenset[int]] = attrs.field(factory=Counter)
    many: bool = False
    seen: Counter[int] = attrs.field(factory=Counter)
    solid: Counter[int] = attrs.field(factory=Counter)

    def add(self, plane: np.ndarray) -> None:
        """Count one picture's values ``(H, W)``."""
        if self.many:
            return
        here = _counts(plane)
        if len(here) > MOST:
            self.many = True
            return
        self.pixels.update(here)
        self.sets[frozenset(here)] += 1
        self.many = len(self.pixels) > MOST
        top, left = (max(0, side - MIDDLE) // 2 for side in plane.shape)
        middle = plane[top : top + MIDDLE, left : left + MIDDLE]
        self.seen.update(_counts(middle))
        self.solid.update(_counts(middle[_squares(middle)]))

    @property
    def values(self) -> list[int]:
        """All that occur, in order."""
        return sorted(self.pixels)

    def share(self, value: int) -> float:
        """Of all pixels."""
        return self.pixels[value] / max(sum(self.pixels.values()), 1)

    def together(self, a: int, b: int) -> bool:
        """Whether any picture has both."""
        return any(a in some and b in some for some in self.sets)


def _counts(numbers: np.ndarray) -> dict[int, int]:
    if numbers.dtype == np.uint8:
        counts = np.bincount(numbers.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(map(int, values), map(int, counts), strict=True))


def _squares(plane: np.ndarray) -> np.ndarray:
    """Which pixels ``(H, W)`` lie in a square of 2 × 2 of one value."""
    found = np.zeros(plane.shape, dtype=bool)
    if min(plane.shape) < 2:
        return found
    first = plane[:-1, :-1]
    same = (first == plane[1:, :-1]) & (first == plane[:-1, 1:]) & (first == plane[1:, 1:])
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            found[rows, columns] |= same
    return found


@attrs.define
class Pixels:
    """Pictures or maps of one column, counted.

    Attributes:
        count: of values.
        modes: of how many values Pillow's mode, or an array's type, is which.
        sizes: of how many the height and width are which.
        channels: of how many there are so many channels, palettes as their colours and without an alpha; 0 for shapes that are no picture's.
        shapes: of arrays.
        lossy: how many are JPEGs or their like, whose values are only about those that were written.
        codec: what such files are called.
        turned: how many were turned upright, as their files say.
        frames: how many have more than one frame.
        clear: how many have an alpha that is not opaque.
        alphas: how many have an alpha.
        grey: the values of those with one channel, or with three equal ones.
        colours: the colours, packed, of those with three.
        indices: the indices of palettes.
        palette: the colours that each index of a palette has in any of them.
        alpha: its values.
        below: the colours below an alpha.
        unequal: how many have three channels that are not equal.
        single: how many have one value only.
        flat: how many have two values or colours, and no more than :data:`FLAT`, as class maps have.
        flat_at: where the first of them is, for a person.
        rich: how many have more than :data:`RICH`, as photographs have.
        low: the smallest number.
        high: the largest.
        whole: whether all numbers are whole.
        finite: whether none is NaN or infinite.
        hot: of how many arrays just one of so many channels is 1 in every place, the first of all axes or the last.
    """

    count: int = 0
    modes: Counter[str] = attrs.field(factory=Counter)
    sizes: Counter[tuple[int, int]] = attrs.field(factory=Counter)
    channels: Counter[int] = attrs.field(factory=Counter)
    shapes: Counter[tuple[int, ...]] = attrs.field(factory=Counter)
    lossy: int = 0
    codec: str = "JPEG"
    turned: int = 0
    frames: int = 0
    clear: int = 0
    alphas: int = 0
    grey: Tally = attrs.field(factory=Tally)
    colours: Tally = attrs.field(factory=Tally)
    indices: Tally = attrs.field(factory=Tally)
    palette: dict[int, set[int]] = attrs.field(factory=dict)
    alpha: Tally = attrs.field(factory=Tally)
    below: Tally = attrs.field(factory=Tally)
    unequal: int = 0
    single: int = 0
    flat: int = 0
    flat_at: str = ""
    rich: int = 0
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    finite: bool = True
    hot: Counter[tuple[int, int]] = attrs.field(factory=Counter)

    def add(self, value: Any) -> tuple[int, int] | None:
        """Count one picture: a PIL image, or an array of two or three axes.

        Returns:
            its height and width; None for a shape that is no picture's.
        """
        self.count += 1
        if hasattr(value, "mode"):
            self._image(value)
            return value.height, value.width
        else:
            array = np.asarray(value)
            self.modes[str(array.dtype.newbyteorder("="))] += 1
            return self._array(native(array))

    @property
    def deep(self) -> bool:
        """Whether any has other numbers than bytes or bits."""
        return any(mode not in _BYTES for mode in self.modes)

    @property
    def bits(self) -> bool:
        """Whether all are bits."""
        return set(self.modes) <= {"1", "bool"}

    def _image(self, image: Any) -> None:
        mode = image.mode
        self.modes[mode] += 1
        self.sizes[image.height, image.width] += 1
        if image.format in ("JPEG", "MPO", "AVIF") or image.info.get("lossy"):
            self.lossy, self.codec = self.lossy + 1, {"MPO": "JPEG", "WEBP": "WebP"}.get(image.format, image.format)
        self.turned += bool(image.info.get("turned"))
        if mode == "P" and "transparency" not in image.info:
            indices = np.asarray(image)
            self.indices.add(indices)
            self._palette(image, indices)
        if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            if mode == "P":
                self.indices.add(np.asarray(image))
            self._alpha(np.asarray(image.convert("RGBA")))
        elif mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
            self._plane(native(np.asarray(image)), 255 if mode == "1" else 1)
        else:
            self._colours(np.asarray(image if mode == "RGB" else image.convert("RGB")))
        # Last, as to count them reads the file on, which may be damaged there.
        with contextlib.suppress(Exception):
            self.frames += image.format != "MPO" and getattr(image, "n_frames", 1) > 1

    def _palette(self, image: Any, indices: np.ndarray) -> None:
        colours = image.getpalette("RGB") or []
        for index in np.flatnonzero(np.bincount(indices.ravel(), minlength=256)).tolist():
            red, green, blue = [*colours[3 * index : 3 * index + 3], 0, 0, 0][:3]
            seen = self.palette.setdefault(index, set())
            if len(seen) < MOST:
                seen.add(red << 16 | green << 8 | blue)

    def _array(self, array: np.ndarray) -> tuple[int, int] | None:
        self.shapes[array.shape] += 1
        if (axis := _hot(array)) is not None:
            self.hot[array.shape[axis], axis] += 1
        if array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4) and array.shape[0] in (1, 3, 4):
            array = np.moveaxis(array, 0, 2)
        height, width, *rest = array.shape
        self.sizes[height, width] += 1
        channels = rest[0] if rest else 1
        if channels == 1:
            self._plane(array.reshape(height, width), 1)
        elif channels == 3 and array.dtype == np.uint8:
            self._colours(array)
        elif channels == 4 and array.dtype == np.uint8:
            self._alpha(array)
        else:
            self.channels[channels if channels in (3, 4) else 0] += 1
            self._extremes(array)
            if channels == 3:
                self.unequal += not bool((array[..., :1] == array).all())
        return (height, width) if channels in (1, 3, 4) else None

    def _plane(self, plane: np.ndarray, unit: int) -> None:
        self.channels[1] += 1
        if plane.dtype == bool:
            plane = plane.astype(np.uint8) * np.uint8(unit)
        self._extremes(plane)
        self._riches(plane)
        if self.whole and self.finite:
            self.grey.add(plane)
        else:
            self.grey.many = True

    def _colours(self, pixels: np.ndarray) -> None:
        self.channels[3] += 1
        self._extremes(pixels)
        first = pixels[..., 0]
        if np.ptp(pixels, 2).max(initial=0) == 0:
            self.grey.add(first)
            self._riches(first)
        else:
            self.unequal += 1
            self._riches(pack(pixels))
        if not self.colours.many:
            self.colours.add(pack(pixels))

    def _alpha(self, pixels: np.ndarray) -> None:
        alpha = pixels[..., 3]
        self.alphas += 1
        self.clear += bool((alpha < 255).any())
        self.alpha.add(alpha)
        if not self.below.many:
            self.below.add(pack(pixels))
        self._colours(pixels[..., :3])

    def _riches(self, plane: np.ndarray) -> None:
        """Count a picture ``(H, W)`` among those of few values or many."""
        flat = plane.ravel()
        some = len(np.unique(flat[:: max(1, flat.size // _SEEN)]))
        self.rich += some > RICH
        self.flat += some <= FLAT and 1 < len(np.unique(flat)) <= FLAT

    def _extremes(self, numbers: np.ndarray) -> None:
        if not numbers.size:
            return
        low, high = float(numbers.min()), float(numbers.max())
        self.single += low == high
        if numbers.dtype.kind == "f":
            if not (np.isfinite(low) and np.isfinite(high)):
                self.finite = False
                return
            self.whole = self.whole and bool((numbers == np.round(numbers)).all())
        self.low, self.high = min(self.low, low), max(self.high, high)


def _hot(array: np.ndarray) -> int | None:
    """The axis of channels of which just one is 1 in every place, and the others 0; None where there is none such."""
    if array.ndim != 3 or not array.size or array.max() != 1 or array.min() != 0:
        return None
    ones = array == 1
    if not (ones | (array == 0)).all():
        return None
    axes = [axis for axis in (2, 0) if array.shape[axis] > 1 and (ones.sum(axis) == 1).all()]
    return min(axes, key=lambda axis: array.shape[axis]) if axes else None


_BYTES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV", "uint8", "bool")


def pack(pixels: np.ndarray) -> np.ndarray:
    """Colours ``(H, W, 3)`` as one number each."""
    wide = pixels[..., :3].astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def unpack(colour: int) -> tuple[int, int, int]:
    """A packed colour's red, green and blue."""
    return colour >> 16 & 255, colour >> 8 & 255, colour & 255
