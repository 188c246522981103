"""From what the fields of a page hold to a value, and back: for every control that is no drawing board, in plain values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.base import Modality
from mmcore.modality.control import Choice, Control, Group, Number, Numbers, Text

MOST_TEXT = 20_000


def fields(control: Control) -> int:
    """How many fields a control has."""
    if isinstance(control, Numbers):
        return len(control.parts)
    if isinstance(control, Group):
        # Of each part, whether it is known too.
        return sum(1 + fields(part) for part in control.parts.values())
    return 1


def taken(name: str, control: Control, found: Sequence[Any]) -> Any:
    """The raw value that fields hold; None where they are empty.

    Args:
        name: of the variable, for messages.
        control: its own, of any kind but pictures, paintings and files.
        found: one for each field, whatever a page has sent.

    Raises:
        RequestError: what is no value of this control.
    """
    if isinstance(control, Choice):
        return _chosen(name, control, found[0])
    if isinstance(control, Number):
        return _number(name, control, found[0])
    if isinstance(control, Numbers):
        numbers = [
            _number(f"{name} {part.name}".strip(), part, one) for part, one in zip(control.parts, found, strict=True)
        ]
        if all(one is None for one in numbers):
            return None
        if None in numbers:
            raise RequestError(
                f"{name}: found {numbers.count(None)} empty fields of {len(numbers)}, expected a number in each"
            )
        return numbers
    if isinstance(control, Text):
        if found[0] is None or found[0] == "":
            return None
        if not isinstance(found[0], str) or len(found[0]) > MOST_TEXT:
            raise RequestError(f"{name}: expected a text of at most {MOST_TEXT:,} characters")
        return found[0]
    if isinstance(control, Group):
        values, at = {}, 0
        for part, own in control.parts.items():
            count = fields(own)
            values[part] = taken(f"{name}, {part}", own, found[at + 1 : at + 1 + count]) if found[at] is True else None
            at += 1 + count
        return values if any(one is not None for one in values.values()) else None
    raise RequestError(f"{name}: {type(control).__name__} has no fields")


def filled(m: Modality, control: Control, x: Tensor | None) -> list[Any]:
    """What the fields show of a sample.

    Args:
        m: the variable.
        control: its own, of any kind but pictures, paintings and files.
        x: ``(*spec.shape)``; None for none.
    """
    if isinstance(control, Group):
        return _grouped(m, control, x)
    if x is None:
        return _empty(control)
    if isinstance(control, Choice):
        return [x.reshape(-1).nonzero()[:, 0].tolist()] if control.several else [_place(m, control, x)]
    if isinstance(control, Number | Numbers):
        raw = m.raw(x)
        return [
            _plain(one) for one in (np.asarray(raw).reshape(-1).tolist() if isinstance(control, Numbers) else [raw])
        ]
    if isinstance(control, Text):
        raw = m.raw(x)
        return [raw if isinstance(raw, str) else str(m.show(x))]
    return [None] * fields(control)


def _empty(control: Control) -> list[Any]:
    """What fields show to begin with."""
    if isinstance(control, Number | Numbers):
        return [_middle(part) for part in (control.parts if isinstance(control, Numbers) else [control])]
    if isinstance(control, Choice):
        return [[] if control.several else 0]
    return [""] if isinstance(control, Text) else [None]


def _grouped(m: Modality, control: Group, x: Tensor | None) -> list[Any]:
    """Of a modality made of parts, each part's fields, and whether it is there."""
    parts: Mapping[str, Modality] = getattr(m, "parts", {})
    raws = [None] * len(control.parts) if x is None else list(m.raw(x))
    shown: list[Any] = []
    for (name, own), raw in zip(control.parts.items(), raws, strict=True):
        part = parts[name]
        shown += [raw is not None, *filled(part, own, None if raw is None else part.read(raw))]
    return shown


def _chosen(name: str, control: Choice, found: Any) -> Any:
    count = len(control.options)
    several = found if isinstance(found, list) else [found]
    if found is None:
        return None
    for one in several:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < count:
            raise RequestError(f"{name}: found {_brief(one)}, expected one of {count} choices")
    if not control.several:
        if isinstance(found, list):
            raise RequestError(f"{name}: found {len(found)} choices, expected one")
        return control.options[found]
    bits = np.zeros(count, dtype=bool)
    bits[several] = True
    return bits


def _number(name: str, control: Number, found: Any) -> float | int | None:
    if found is None or found == "":
        return None
    if isinstance(found, str):
        try:
            found = float(found)
        except ValueError:
            raise RequestError(f"{name}: found {_brief(found)}, expected a number") from None
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        raise RequestError(f"{name}: found {_brief(found)}, expected a finite number")
    if control.whole:
        if found != round(found):
            raise RequestError(f"{name}: found {found:g}, expected a whole number")
        found = round(found)
    low, high = control.low, control.high
    if (low is not None and found < low) or (high is not None and found > high):
        ends = f"{'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}"
        raise RequestError(f"{name}: found {found:g}, expected a number in {ends}")
    return found


def _middle(part: Number) -> float | int:
    """A number to begin with."""
    low, high = part.span or (0.0, 0.0)
    middle = (low + high) / 2
    return round(middle) if part.whole else float(f"{middle:.3g}")


def _place(m: Modality, control: Choice, x: Tensor) -> int:
    for place, option in enumerate(control.options):
        if torch.equal(m.read(option), x):
            return place
    return 0


def _plain(one: Any) -> Any:
    return one.item() if isinstance(one, np.generic) else one


def _brief(found: Any) -> str:
    text = repr(found)
    return text if len(text) < 40 else f"{text[:37]}…"
