"""What a page shows to give a value of a modality: data that know nothing of any page, so that a plugin chooses among them without one.

:meth:`mmcore.Modality.control` returns one. Its default looks at the spec and at how the modality writes its raw values; whatever a page
takes by a control is a raw value, which the modality reads as it reads training data.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.errors import PluginError
from mmcore.files import Encoded
from mmcore.modality.spec import Spec

if TYPE_CHECKING:
    from PIL import Image


MOST_OPTIONS = 1024
"""Classes that are offered to pick; of more the number is asked for."""
MOST_NUMBERS = 16
"""Numbers that are asked for one by one; of more a file is."""
MOST_COLOURS = 24
"""Classes of a map that are painted."""


@attrs.frozen
class Control:
    """How a person gives a value. One of the classes below; a page shows others as a :class:`File`."""


@attrs.frozen
class Picture(Control):
    """A picture to drop, or to draw on. Its value is a PIL image of any size.

    Attributes:
        size: height and width that the model sees, on which one draws.
        colours: whether one draws in colours, and not in black and white.
        drawn: whether one can draw; not where values are no bytes, as with 16 bits.
    """

    size: tuple[int, int]
    colours: bool = True
    drawn: bool = True


@attrs.frozen
class Painting(Control):
    """A map of classes to paint. Its value is an array ``(H, W)`` of class numbers, which :meth:`mmcore.Modality.raw` writes as the data do.

    Attributes:
        size: height and width.
        colours: each class's, ``(red, green, blue)``.
        names: each class's.
    """

    size: tuple[int, int]
    colours: tuple[tuple[int, int, int], ...]
    names: tuple[str, ...]


@attrs.frozen
class Choice(Control):
    """One of some values, or with ``several`` any of them. Its value is one of ``options``; with ``several`` an array of booleans, one for each.

    Attributes:
        options: raw values.
        names: what they are called, to read.
        several: whether any number of them may hold at once.
    """

    options: tuple[Any, ...]
    names: tuple[str, ...]
    several: bool = False


@attrs.frozen
class Number(Control):
    """A number to slide or type. Its value is a float, or with ``whole`` an int.

    Attributes:
        low: the smallest that there can be; None for no limit.
        high: the largest.
        span: the ends of a slider, between which most values lie; None for a number to type.
        whole: whether it is a whole number.
        unit: what is written behind it.
        name: what it is called, among others.
    """

    low: float | None = None
    high: float | None = None
    span: tuple[float, float] | None = None
    whole: bool = False
    unit: str = ""
    name: str = ""


@attrs.frozen
class Numbers(Control):
    """Several numbers. Its value is a list of them.

    Attributes:
        parts: each number.
    """

    parts: tuple[Number, ...]


@attrs.frozen
class Text(Control):
    """A text to type. Its value is a str, and never a path.

    Attributes:
        hint: what is shown while there is none.
        lines: how many are shown.
    """

    hint: str = ""
    lines: int = 1


@attrs.frozen
class File(Control):
    """A file that a person has, such as of a vector. Its value is what the file holds.

    Attributes:
        expected: what is in it, in words.
        suffixes: of its name.
    """

    expected: str
    suffixes: tuple[str, ...] = (".npy", ".json")


@attrs.frozen
class Group(Control):
    """Several values side by side, any of which may be missing. Its value is a mapping from names to values, None where one is missing.

    Attributes:
        parts: each value's control, by name; no groups among them.
    """

    parts: Mapping[str, Control]


class _Controlled(Protocol):
    """What the default asks of a modality."""

    name: str

    @property
    def spec(self) -> Spec: ...
    def raw(self, x: Tensor) -> Any: ...
    def show(self, x: Tensor) -> "Image.Image | str": ...


class Controlled:
    """Gives a modality the control that its spec and its raw values suggest."""

    def control(self: _Controlled) -> Control:
        """What a page (``mmcore play``) shows to give a value: one of the classes of ``mmcore.modality.control``.

        The default picks classes, slides numbers, and takes pictures where samples show themselves as pictures; for the rest it takes a file.
        """
        return suggested(self)


def suggested(m: _Controlled) -> Control:
    """The control that a modality's spec and raw values suggest, whatever its own is.

    Raises:
        Exception: any, where the modality cannot write or show a sample.
    """
    spec = m.spec
    parts = getattr(m, "parts", None)
    if isinstance(parts, Mapping) and parts:
        return _side_by_side(parts)
    shape, real = spec.shape, spec.dtype.is_floating_point
    valid = spec.placeholder(1)[0]
    raw = m.raw(valid)
    if isinstance(raw, Encoded):
        return File(f"a file {raw.suffix}", (raw.suffix, ".npy"))
    if isinstance(raw, str) and (shape or real):
        return Text()
    if not shape:
        return _one_of(m) if not real and _count(spec) <= MOST_OPTIONS else _number(spec, 0)
    if spec.dtype == torch.bool and len(shape) == 1 and shape[0] <= MOST_OPTIONS:
        return Choice(tuple(range(shape[0])), tuple(map(str, range(shape[0]))), several=True)
    if len(shape) == 1 and shape[0] <= MOST_NUMBERS and spec.dtype != torch.bool and not spec.unit_norm:
        parts = [_number(spec, k) for k in range(shape[0])]
        return Numbers(tuple(attrs.evolve(part, name=str(k + 1)) for k, part in enumerate(parts)))
    if len(shape) == 2 and not real and _count(spec) <= MOST_COLOURS:
        return painting(m)
    if len(shape) == 3 and real and not isinstance(shown := m.show(valid), str):
        return Picture((shown.height, shown.width), colours=shown.mode != "L", drawn=_is_bytes(raw))
    return File(f"an array of shape {' × '.join(map(str, shape))}")


def _side_by_side(parts: Mapping[str, "Controlled"]) -> Control:
    """Of several modalities in one: the parts' own controls, or a file where one of them takes a picture or a file itself."""
    own = {name: part.control() for name, part in parts.items()}  # type: ignore[misc]
    if all(isinstance(one, Choice | Number | Numbers | Text) for one in own.values()):
        return Group(own)
    return File(f"the values of {', '.join(own)}", (".json",))


def painting(m: _Controlled, names: Sequence[str] | None = None) -> Painting:
    """A map to paint in the colours in which it is shown.

    Args:
        m: a modality of maps ``(H, W)`` of few classes.
        names: of the classes; by default their numbers.

    Raises:
        PluginError: maps are not shown as pictures of their size.
    """
    height, width = m.spec.shape
    colours = []
    for k in _classes(m.spec):
        shown: Any = m.show(torch.full((height, width), k, dtype=m.spec.dtype))
        if isinstance(shown, str):
            raise PluginError(f"modality {m.name!r}: a map shows itself as text, expected a picture to paint on")
        colours.append(tuple(shown.convert("RGB").getpixel((0, 0))))
    return Painting((height, width), tuple(colours), tuple(names or map(str, _classes(m.spec))))


def _classes(spec: Spec) -> range:
    if spec.dtype == torch.bool:
        return range(2)
    return range(int(spec.low or 0), int(spec.high or 0) + 1)


def _count(spec: Spec) -> float:
    """How many values an element has."""
    if spec.dtype == torch.bool:
        return 2
    return math.inf if spec.low is None or spec.high is None else spec.high - spec.low + 1


def _one_of(m: _Controlled) -> Choice:
    classes = [torch.tensor(k, dtype=m.spec.dtype) for k in _classes(m.spec)]
    names = [shown if isinstance(shown := m.show(x), str) else str(x.item()) for x in classes]
    return Choice(tuple(_plain(m.raw(x)) for x in classes), tuple(names))


def _plain(raw: Any) -> Any:
    """A number of Python's in place of an array of one."""
    return raw.item() if isinstance(raw, np.ndarray | np.generic) and np.size(raw) == 1 else raw


def _number(spec: Spec, element: int) -> Number:
    low, high = spec.limits(element)
    span = None if low is None or high is None else (float(low), float(high))
    return Number(low, high, span, whole=not spec.dtype.is_floating_point)


def _is_bytes(raw: Any) -> bool:
    return getattr(raw, "mode", "") in ("L", "RGB", "RGBA")
