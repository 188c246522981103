"""What lies on the disk, for people: raw values in a few words, and as pictures of what a file holds before a model reads it."""

import contextlib
import math
import reprlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from torch import Tensor

from mmcore.data.census import MOST, Pixels
from mmcore.data.contract import hex_of, native
from mmcore.data.dataset import Dataset
from mmcore.data.decode import as_stored, decode, picture
from mmcore.errors import RequestError
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.spec import Spec

LOOKED = 256
"""The most rows whose raw values are counted."""
SECONDS = 10.0
"""For how long they are, once ``LEAST`` are."""
LEAST = 8
THIN = 2048
"""The longest side of a picture whose every pixel is counted."""
RUNS = 6
"""The most runs of values that are listed; where there are ``MANY`` values, two."""
MANY = 64
LISTED = 8
"""The most colours or words that are."""


def escaped(text: str, most: int = 400) -> str:
    """A stranger's text on one line, without what would move a terminal's cursor, and of bounded length."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def opened(stored: Any, spec: Spec) -> Any:
    """What a stored value holds, before any transform and as it lies there: a picture is not turned.

    Args:
        stored: as :meth:`Dataset.stored` has it.
        spec: of the variable; where it has pixels, a path is opened whatever its suffix, as its modality does.

    Raises:
        RequestError: it cannot be read.
    """
    value = decode(stored)
    if len(spec.shape) >= 2 and isinstance(value, str | Path):
        with contextlib.suppress(RequestError):  # of what is no picture's path
            value = picture(value)
    return as_stored(value) if isinstance(value, Image.Image) else value


def numbers(value: Any) -> np.ndarray | None:
    """An array of numbers, for what is one in any form; else None."""
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return native(array) if array.dtype.kind in "biuf" and array.size else None


def plane(value: Any, spec: Spec) -> np.ndarray | None:
    """A picture's numbers ``(H, W)`` or ``(H, W, C)``, for an array of two or three axes of a variable that has pixels; else None."""
    array = numbers(value) if len(spec.shape) >= 2 else None
    if array is None or array.ndim not in (2, 3):
        return None
    channels = {1, 2, 3, 4, *spec.shape[:-2]}
    first = array.ndim == 3 and array.shape[2] not in channels and array.shape[0] in channels
    return np.moveaxis(array, 0, 2) if first else array


def drawn(value: Any, spec: Spec) -> Image.Image | None:
    """A picture as its file has it: palettes in their colours, bits black and white, deep grey scaled, what is clear over a chequerboard.

    Args:
        value: as :func:`opened` gives it.
        spec: of the variable.

    Returns:
        an RGB picture, every few pixels of an enormous one; None for what is no picture.
    """
    if isinstance(value, Image.Image):
        image = _thin(value)
    else:
        array = plane(value, spec)
        if array is None:
            return None
        array = array[_steps(array.shape)]
        if array.ndim == 3 and array.shape[2] not in (3, 4):
            array = array[..., 0]
        image = Image.fromarray(np.ascontiguousarray(array if array.dtype == np.uint8 else _scaled(array)))
    try:
        return _coloured(image)
    except (OSError, ValueError):  # of modes that Pillow keeps and cannot show
        return None


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        square = max(1, max(image.size) // 8)
        rows, columns = (np.arange(side) // square for side in (image.height, image.width))
        board = np.where((rows[:, None] + columns) % 2, np.uint8(255), np.uint8(200))
        return Image.alpha_composite(Image.fromarray(board).convert("RGBA"), image).convert("RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_scaled(native(np.asarray(image))))
    return image.convert("RGB")


def _scaled(array: np.ndarray) -> np.ndarray:
    """Numbers as bytes, from the smallest, black, to the largest."""
    x = array.astype(np.float64)
    finite = np.isfinite(x)
    low, high = (x[finite].min(), x[finite].max()) if finite.any() else (0.0, 0.0)
    with np.errstate(all="ignore"):
        x = np.where(finite, (x - low) / ((high - low) or 1.0), 0)
    return (x * 255).round().clip(0, 255).astype(np.uint8)


def _steps(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(None, None, -(-side // THIN)) for side in shape[:2])


def _thin(image: Image.Image) -> Image.Image:
    """Every few pixels of an enormous picture."""
    width, height = (-(-side // -(-side // THIN)) for side in image.size)
    size = (width, height)
    if size == image.size:
        return image
    thin = image.resize(size, Image.Resampling.NEAREST)
    thin.format = image.format
    return thin


@attrs.define
class OnDisk:
    """The raw values of one variable, counted.

    Attributes:
        spec: of the variable.
        limits: beyond which its values are clipped; None where none is.
        count: of values.
        unreadable: how many could not be opened.
        kinds: of how many is which kind, in the singular and what comes after it.
        sizes: of how many pictures the height and width are which, or the shape of arrays.
        pixels: of pictures, what they hold.
        turned: how many pictures their files say to turn.
        words: how often each text or number occurs, up to 1,024 different ones.
        low: the smallest number.
        high: the largest.
        beyond: how many numbers of pictures are beyond the limits.
        elements: of how many.
    """

    spec: Spec
    limits: tuple[float, float] | None = None
    count: int = 0
    unreadable: int = 0
    kinds: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    sizes: Counter[tuple[int, ...]] = attrs.field(factory=Counter)
    pixels: Pixels = attrs.field(factory=Pixels)
    turned: int = 0
    words: Counter[str] = attrs.field(factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    beyond: int = 0
    elements: int = 0

    def add(self, value: Any) -> None:
        """Count one value, as :func:`opened` gives it."""
        self.count += 1
        if isinstance(value, Image.Image):
            self.kinds[value.format or "picture", f"of mode {value.mode}"] += 1
            self.sizes[value.height, value.width] += 1
            self.turned += "turned" in value.info
            self._pixels(_thin(value))
        elif (grid := plane(value, self.spec)) is not None:
            self.kinds["array", f"of {_dtype(value)}"] += 1
            self.sizes[np.shape(value)] += 1
            self._pixels(grid[_steps(grid.shape)])
        elif (array := numbers(value)) is not None and array.ndim:
            self.kinds["array", f"of {_dtype(value)}"] += 1
            self.sizes[array.shape] += 1
            self._extremes(array)
        else:
            self.kinds[_kind(value)] += 1
            if array is not None:
                self._extremes(array)
            if len(self.words) <= MOST:
                self.words[brief(value)] += 1

    def _pixels(self, value: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # of modes whose colours Pillow cannot tell
            self.pixels.add(value)
            self.low, self.high = self.pixels.low, self.pixels.high
        if self.limits is not None:
            array = np.asarray(value)
            self.beyond += int(((array < self.limits[0]) | (array > self.limits[1])).sum())
            self.elements += array.size

    def _extremes(self, array: np.ndarray) -> None:
        finite = array[np.isfinite(array)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def parts(self, *, counted: bool = True, most: int = RUNS) -> list[str]:
        """Kind, size and values in words, what there is of them; ``counted`` says how many too, ``most`` runs of values are listed."""
        return [part for part in (self._kinds(counted), self._sizes(), self._values(most)) if part]

    def text(self) -> str:
        """All of it, on one line."""
        more = [f"{self.turned:,} of them turned (EXIF)"] if self.turned else []
        more += [f"{self.unreadable:,} unreadable"] if self.unreadable else []
        return ", ".join([*self.parts(), *more]) or "nothing"

    def _kinds(self, counted: bool) -> str:
        some = self.kinds.most_common(3)
        told = [_counted(n, noun, rest) if counted else f"{noun} {rest}".strip() for (noun, rest), n in some]
        rest = self.count - sum(n for _, n in some)
        return " and ".join([*told, f"{rest:,} of other kinds"] if rest else told)

    def _sizes(self) -> str:
        if not self.sizes:
            return ""
        least, most = (" × ".join(map(str, of(self.sizes, key=math.prod))) for of in (min, max))
        alpha = f", alpha {listed(self.pixels.alpha.values, 3)}" if self.pixels.clear else ""
        return (least if len(self.sizes) == 1 else f"{least} … {most}") + alpha

    def _values(self, most: int) -> str:
        p = self.pixels
        extremes = f"{_number(self.low)} … {_number(self.high)}" if self.low <= self.high else ""
        if not p.finite:
            return f"NaN or infinity, {extremes}" if extremes else "NaN or infinity"
        if not p.count:
            return self._words(extremes)
        if p.indices.pixels and not p.indices.many and all(rest.endswith(" P") for _, rest in self.kinds):
            return f"indices {listed(p.indices.values, most)}"
        if p.unequal and not p.colours.many and len(p.colours.pixels) <= LISTED:
            return _joined([hex_of((c >> 16 & 255, c >> 8 & 255, c & 255)) for c in p.colours.values])
        few = len(p.grey.pixels) <= LISTED or not self.spec.dtype.is_floating_point
        if p.grey.pixels and few and not (p.unequal or p.grey.many):
            return f"values {listed(p.grey.values, most)}"
        return f"values {extremes}" if extremes else ""

    def _words(self, extremes: str) -> str:
        if not self.words or (extremes and len(self.words) > LISTED):
            return f"values {extremes}" if extremes else ""
        words = [word for word, _ in self.words.most_common(LISTED)]
        if len(self.words) <= LISTED:
            return _joined(sorted(words, key=_order))
        many = "more than " if len(self.words) > MOST else ""
        return f"{many}{min(len(self.words), MOST):,} different, such as {', '.join(words[:4])}"


def looked(dataset: Dataset, rows: int = LOOKED, seconds: float = SECONDS) -> dict[str, OnDisk]:
    """What lies on the disk, by variable, of rows that are spread evenly; bad ones are left out.

    Args:
        dataset: whose source is read.
        rows: how many at most.
        seconds: after which it is enough.
    """
    found = {m.name: OnDisk(m.spec, limits_of(m)) for m in dataset.variables}
    until = time.monotonic() + seconds
    for number, index in enumerate(spread(len(dataset), rows)):
        if number >= LEAST and time.monotonic() > until:
            break
        with contextlib.suppress(RequestError):
            for name, stored in dataset.stored(index).items():
                try:
                    value = opened(stored, found[name].spec)
                except RequestError:
                    found[name].unreadable += 1
                else:
                    if value is not None:
                        found[name].add(value)
    return found


def limits_of(modality: ModalityProtocol) -> tuple[float, float] | None:
    """The limits beyond which a modality clips what it reads, where it does."""
    limits = getattr(modality, "limits", None)
    return tuple(limits) if limits is not None and getattr(modality, "clip", False) else None


def spread(total: int, most: int) -> list[int]:
    """At most so many of ``total`` rows, evenly."""
    count = min(most, total)
    return [index * total // count for index in range(count)]


def brief(value: Any) -> str:
    """A value that is no picture, on one line of bounded length."""
    if isinstance(value, str):
        return f"'{escaped(value, 120)}'"
    if isinstance(value, Path):
        return escaped(value.name, 120)
    array = numbers(value)
    if array is not None and array.ndim == 0:
        one = array.item()
        return str(one) if isinstance(one, int) else f"{one:.6g}"
    if array is not None:
        head = ", ".join(f"{one:.4g}" for one in array.ravel()[:4].tolist())
        return f"[{head}{', …' if array.size > 4 else ''}]"
    try:
        return escaped(reprlib.repr(value), 120)
    except Exception:  # of a stranger's __repr__, whatever it raises
        return type(value).__name__


def listed(values: Sequence[int], most: int = RUNS) -> str:
    """Whole numbers in order, three and more in a row as a range: ``0 … 20 and 255``; of more than ``most`` such, ``13 of 0 … 255``."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    told: list[str] = []
    for low, high in runs:
        told += [f"{low} … {high}"] if high - low > 1 else [str(one) for one in range(low, high + 1)]
    return (
        _joined(told)
        if len(told) <= (most if len(values) < MANY else 2)
        else f"{len(values):,} of {values[0]} … {values[-1]}"
    )


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _counted(count: int, noun: str, rest: str) -> str:
    plural = "s" if count != 1 and noun.islower() else ""
    return f"{count:,} {noun}{plural} {rest}".strip()


def _dtype(value: Any) -> str:
    kind = str(getattr(value, "dtype", None) or numbers(value).dtype)  # type: ignore[union-attr]
    return str(np.dtype(kind).name) if kind[:1] in "<>=|" else kind.removeprefix("torch.")


def _kind(value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        return "text", ""
    if isinstance(value, Path):
        return "file", escaped(value.suffix, 12)
    array = numbers(value)
    if array is not None:
        return ("truth value" if array.dtype.kind == "b" else "number"), ""
    return escaped(type(value).__name__, 40), ""


def _order(word: str) -> tuple[float, str]:
    """Numbers by their size, before words."""
    try:
        return float(word), ""
    except ValueError:
        return math.inf, word


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
