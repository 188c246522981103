"""What a page shows to give a value: plain, as the spec says, and read back as what was given."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.base import Modality
from mmcore.modality.control import Choice, Control, File, Group, Number, Numbers, Painting, Picture, Text
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.surroundings import left_alone

INSIDE = (Choice, Number, Numbers, Text)
"""What a group may hold."""
SIDE = 4096
"""The longest side that a page draws on."""
Wrong = tuple[str, str]
"""What was found, and what was expected."""


@check("control.plain", fault="a control of one's own class, options without names, a slider without ends", core=False)
def plain(c: Context) -> None:
    """`control` gives one of the classes of `mmcore.modality.control`, the same each time, of plain values that are whole in themselves.

    As many names as options or colours, each by another name; ends in their order and inside the limits; sizes and colours that a page can draw.
    """
    with left_alone(c, "as its control was asked for"):
        control, again = c.modality.control(), c.modality.control()
    for found, expected in _unsound(control):
        c.fail(found, expected)
    if control != again:
        c.fail(f"first {control}, then {again}", "the same control each time")


def _unsound(control: Any) -> Iterator[Wrong]:
    if isinstance(control, Group):
        if not isinstance(control.parts, Mapping) or not control.parts:
            yield f"a group of {control.parts!r}", "a mapping from names to controls"
            return
        for name, part in control.parts.items():
            if not isinstance(part, INSIDE):
                yield f"a {type(part).__name__} in a group", f"one of {', '.join(one.__name__ for one in INSIDE)}"
            yield from ((f"{name}: {found}", expected) for found, expected in _unsound(part))
    elif isinstance(control, Numbers):
        if not control.parts or not all(isinstance(part, Number) for part in control.parts):
            yield f"numbers of {control.parts!r}", "a Number for each"
            return
        for part in control.parts:
            yield from _unsound(part)
    elif isinstance(control, Number):
        yield from _unsound_number(control)
    elif isinstance(control, Choice):
        yield from _named("options", control.options, control.names)
        if wrong := [one for one in control.options if not isinstance(one, str | int | float | bool | tuple | None)]:
            yield f"an option as {type(wrong[0]).__name__}", "a text or a number"
    elif isinstance(control, Painting | Picture):
        if len(control.size) != 2 or not all(isinstance(n, int) and 1 <= n <= SIDE for n in control.size):
            yield f"the size {control.size}", f"height and width, whole numbers in 1 … {SIDE}"
        if isinstance(control, Painting):
            yield from _named("colours", control.colours, control.names)
            yield from _uncoloured(control.colours)
    elif isinstance(control, File):
        if not control.suffixes or not all(isinstance(s, str) and s.startswith(".") for s in control.suffixes):
            yield f"the suffixes {control.suffixes!r}", "some that begin with a dot"
        yield from _untold("what is expected", control.expected, least=1)
    elif isinstance(control, Text):
        yield from _untold("the hint", control.hint)
        if not isinstance(control.lines, int) or control.lines < 1:
            yield f"{control.lines!r} lines", "1 at least"
    else:
        yield f"a control as {type(control).__name__}", "one of the classes of mmcore.modality.control"


def _unsound_number(number: Number) -> Iterator[Wrong]:
    ends = [end for end in (number.low, number.high, *(number.span or ())) if end is not None]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends):
        yield f"the ends {ends}", "finite numbers of Python's, or None"
        return
    low = -math.inf if number.low is None else number.low
    high = math.inf if number.high is None else number.high
    first, last = number.span or (max(low, -1e300), min(high, 1e300))
    if not low < high or not first < last:
        yield f"{low:g} … {high:g} with a slider of {first:g} … {last:g}", "the smaller end first"
    elif first < low or last > high:
        yield f"a slider of {first:g} … {last:g}", f"one inside the limits {low:g} … {high:g}"
    if number.whole and any(end != round(end) for end in ends):
        yield f"the ends {ends} of a whole number", "whole ones"
    yield from _untold("the unit", number.unit)
    yield from _untold("the name", number.name)


def _named(what: str, things: Any, names: Any) -> Iterator[Wrong]:
    if not things or len(things) != len(names):
        yield f"{len(things)} {what} with {len(names)} names", "as many names, and one at least"
        return
    for name in names:
        yield from _untold("a name", name, least=1)
    if len(set(names)) < len(names) or len({repr(one) for one in things}) < len(things):
        yield f"{what} or names of them that are there twice: {', '.join(map(str, names))}", "each once"


def _untold(what: str, text: Any, least: int = 0) -> Iterator[Wrong]:
    if not isinstance(text, str) or len(text) < least or not text.isprintable():
        yield f"{what} {text!r}", "a text of one line" + (", not empty" if least else "")


def _uncoloured(colours: Any) -> Iterator[Wrong]:
    for colour in colours:
        if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
            yield f"the colour {colour}", "red, green and blue, whole numbers in 0 … 255"


@check("control.agrees", fault="a slider of other limits than the spec, a class too few, a board of another size", core=False)  # fmt: skip
def agrees(c: Context) -> None:
    """What a control says is what the spec says: limits, whole numbers, how many numbers, which classes in which colours, height and width.

    Limits are compared where raw values are in the spec's own units. Most typical values lie on the slider.
    """
    for m, control, x in _controls(c):
        spec = m.spec
        if isinstance(control, Picture | Painting):
            shown = m.show(x[0])
            own = {tuple(spec.shape[-2:])} | ({shown.size[::-1]} if isinstance(shown, Image.Image) else set())
            if tuple(control.size) not in own:
                c.fail(f"a board of {control.size}", f"one of {tuple(spec.shape[-2:])}")
        if isinstance(control, Painting):
            _painted(c, m, control)
        if isinstance(control, Choice) and not control.several and (count := _classes(m)) and count != len(control.options):  # fmt: skip
            c.fail(f"{len(control.options)} options", f"the {count} classes")
        if isinstance(control, Choice) and control.several and len(control.options) != math.prod(spec.shape):
            c.fail(f"{len(control.options)} options, each of which holds or not", f"{math.prod(spec.shape)}, one for each element")  # fmt: skip
        if isinstance(control, Number | Numbers):
            parts = control.parts if isinstance(control, Numbers) else (control,)
            if len(parts) != math.prod(spec.shape):
                c.fail(f"{len(parts)} numbers", f"{math.prod(spec.shape)}, one for each element")
            _ranged(c, m, parts, x)


def _controls(c: Context) -> Iterator[tuple[Modality, Control, Tensor]]:
    """The modality's control, or of one of several parts each part's, with typical samples."""
    m, control = c.modality, c.modality.control()
    if isinstance(control, File):
        raise NotRun("its values come as files")
    if not isinstance(control, Group):
        yield m, control, m.typical(64, c.seed)
        return
    parts: Any = getattr(m, "parts", None)
    if not isinstance(parts, Mapping) or list(parts) != list(control.parts):
        c.fail(f"a group of {', '.join(control.parts)}", f"the modality's parts: {', '.join(parts or ('none',))}")
    for name, part in control.parts.items():
        yield parts[name], part, parts[name].typical(64, c.seed)


def _classes(m: Modality) -> int:
    """How many values a single class has; 0 for what is none, or has no ends."""
    spec = m.spec
    if spec.shape or spec.dtype.is_floating_point:
        return 0
    if spec.dtype == torch.bool:
        return 2
    return 0 if spec.low is None or spec.high is None else int(spec.high - spec.low) + 1


def _painted(c: Context, m: Modality, control: Painting) -> None:
    spec = m.spec
    values = [0, 1] if spec.dtype == torch.bool else list(range(int(spec.low or 0), int(spec.high or 0) + 1))
    if len(control.colours) != len(values):
        c.fail(f"{len(control.colours)} colours", f"one for each of {len(values)} classes")
    for value, colour in zip(values, control.colours, strict=True):
        shown = m.show(torch.full(spec.shape, value).to(spec.dtype))
        # Lines between classes may be drawn, so the middle is looked at.
        seen = shown.convert("RGB").getpixel((shown.width // 2, shown.height // 2)) if isinstance(shown, Image.Image) else None  # fmt: skip
        if seen is not None and seen != tuple(colour):
            c.fail(f"class {value} in the colour {tuple(colour)}", f"{seen}, in which it is shown")


def _ranged(c: Context, m: Modality, parts: tuple[Number, ...], x: Tensor) -> None:
    told = np.array([np.asarray(m.raw(row), dtype=np.float64).reshape(-1) for row in x])
    if told.shape != (len(x), len(parts)):
        c.fail(f"raw values of shape {told.shape[1:]}", f"{len(parts)} numbers, as the control asks for")
    own, known = x.reshape(len(x), -1).double().numpy(), m.spec.there(x).reshape(len(x), -1).numpy()
    alike = np.allclose(told[known], own[known], rtol=1e-3, atol=1e-3 * own[known].std() + 1e-12)
    for k, part in enumerate(parts):
        name, values = part.name or f"number {k + 1}", told[known[:, k], k]
        slack = 1e-4 * (np.abs(values).max() if len(values) else 1.0)
        for end, limit, sign in ((part.low, m.spec.limits(k)[0], 1), (part.high, m.spec.limits(k)[1], -1)):
            # Positive numbers have no smallest one to name.
            told_so = end == limit or (end is None and 0 < (limit or 0) < 1e-30)
            near = end is not None and limit is not None and math.isclose(end, limit, rel_tol=1e-4, abs_tol=slack)
            if alike and not told_so and not near:
                c.fail(f"{name} with the limit {end}", f"{limit}, as the spec has it")
            if end is not None and (sign * (values - end) < -slack).any():
                c.fail(f"{name} with the limit {end:g}, beyond which typical values lie", "a limit of all values")
        if part.whole and (values != values.round()).any():
            c.fail(f"{name} as a whole number, where typical values are such as {values[values != values.round()][0]:g}", "one with a fraction")  # fmt: skip
        if not part.whole and not m.spec.dtype.is_floating_point:
            c.fail(f"{name} with a fraction", "a whole number, as the spec has it")
        if part.span and len(values) and np.mean((values >= part.span[0] - slack) & (values <= part.span[1] + slack)) < 0.5:  # fmt: skip
            c.fail(f"{name} with a slider of {part.span[0]:g} … {part.span[1]:g}, on which fewer than half of the typical values lie", "one over most values")  # fmt: skip


@check("control.back", fault="a value of the control that read refuses, or reads as another", core=False)
def back(c: Context) -> None:
    """Every value that a control can give is read into the spec, and read as that value: ends and middles of numbers, each option, each class, a drawn picture, a text.

    A number comes back by `raw` as what was given, an option by `show` under its own name.
    """
    for m, control, x in _controls(c):
        if isinstance(control, Choice) and not control.several:
            _chosen(c, m, control, x)
        elif isinstance(control, Choice):
            for k in range(len(control.options)):
                bits = np.arange(len(control.options)) == k
                if (got := _read(c, m, bits, f"option {control.names[k]!r} alone")).tolist() != bits.tolist():
                    c.fail(f"option {control.names[k]!r} alone read as {got.tolist()}", f"{bits.tolist()}")
        elif isinstance(control, Number | Numbers):
            _numbers(c, m, control)
        elif isinstance(control, Text):
            for row in x[:8]:
                raw = m.raw(row)
                text = raw if isinstance(raw, str) else str(m.show(row))
                if not torch.equal(_read(c, m, text, "a typical sample's text"), row):
                    c.fail(f"{text!r}, a typical sample's text, read as another sample", "the same")
        elif isinstance(control, Picture) and control.drawn:
            mode = "RGB" if control.colours else "L"
            for colour in (0, 127, 255):
                drawn = Image.new(
                    mode, (control.size[1], control.size[0]), (colour,) * 3 if control.colours else colour
                )
                _read(c, m, drawn, f"a drawn picture in mode {mode}")
        elif isinstance(control, Painting):
            for row in x[:4]:
                if not torch.equal(_read(c, m, m.raw(row), "a painted map"), row):
                    c.fail("a painted map read as another", "the same classes")


def _read(c: Context, m: Modality, value: Any, what: str) -> Tensor:
    try:
        got = m.read(value)
        m.spec.check(got[None], what)
    except RequestError as error:
        c.fail(f"{what} that is refused: {error}", "one that is read, as the control gives it")
    return got


def _chosen(c: Context, m: Modality, control: Choice, x: Tensor) -> None:
    read = [_read(c, m, option, f"option {option!r}") for option in control.options]
    seen: dict[bytes, Any] = {}
    for option, got in zip(control.options, read, strict=True):
        key = got.numpy().tobytes()
        if key in seen:
            c.fail(f"options {seen[key]!r} and {option!r} read as the same", "each as another value")
        seen[key] = option
    known = m.spec.there(x).reshape(len(x), -1).all(1)
    if away := [row for row in x[known] if row.numpy().tobytes() not in seen]:
        c.fail(f"no option for the typical value {away[0].tolist()}", "an option for each")
    for name, got in zip(control.names, read, strict=True):
        shown = m.show(got)
        if isinstance(shown, str) and shown != name and shown in control.names:
            c.fail(f"an option {name!r} that is shown as {shown!r}", "each by its own name")


def _numbers(c: Context, m: Modality, control: Number | Numbers) -> None:
    parts = control.parts if isinstance(control, Numbers) else (control,)
    for share in (0.0, 0.25, 0.5, 1.0):
        # Each number at a place of its own, so that two which are exchanged show.
        given = [_at(part, (share + 0.37 * k) % 1 if k else share) for k, part in enumerate(parts)]
        got = _read(c, m, given if isinstance(control, Numbers) else given[0], f"{given}")
        again = np.asarray(m.raw(got), dtype=np.float64).reshape(-1)
        for part, value, told in zip(parts, given, again, strict=True):
            width = 0.0 if part.span is None or part.whole else 1e-3 * (part.span[1] - part.span[0])
            if not math.isclose(value, told, rel_tol=1e-4, abs_tol=width):
                c.fail(f"{value:g} given and {told:g} told again", "the same number")


def _at(part: Number, share: float) -> float | int:
    """A number of a slider, at this share of its way; of a number that is typed one inside its limits."""
    low, high = part.span or (part.low, part.high)
    low = (0.0 if high is None else min(0.0, high - 1)) if low is None else low
    high = low + 1 if high is None else high
    value = low + share * (high - low)
    return round(value) if part.whole else value
