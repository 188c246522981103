"""Arrays with a row in each element: their parts, and single rows as plain values. Imports no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmcore.data.options import PARTS
from mmcore.data.sources.files import part_and_rest, singular


def rows_of(array: np.ndarray) -> np.ndarray:
    """An array whose rows are numbers where they are arrays of one (``(N, 1)``), and vectors where they are a single one (``(N, 1, D)``)."""
    return array[:, 0] if array.ndim in (2, 3) and array.shape[1] == 1 else array


def value_of(value: Any) -> Any:
    """A row of an array: numbers and texts as Python's own, of which NaN is none; arrays as views, in the machine's byte order."""
    if isinstance(value, np.generic):
        value = value.item()
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return None if isinstance(value, float) and value != value else value
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def by_part(lengths: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """The arrays of each part by variable, where their names say parts: ``train_images`` or ``x_test``; else none.

    Args:
        lengths: of all arrays.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in lengths:
        part, rest = part_and_rest(name)
        if part and rest:
            parts.setdefault(part, {})[singular(rest)] = name
    named = {name for names in parts.values() for name in names.values()}
    even = all(len({lengths[name] for name in names.values()}) == 1 for names in parts.values())
    if "train" not in parts or not even:
        return {}
    most = max(lengths[name] for name in parts["train"].values())
    # Longer ones beside them are the rows themselves, of which train_ids or the like only tell.
    if any(length >= most for name, length in lengths.items() if name not in named):
        return {}
    return {part: parts[part] for part in PARTS if part in parts}
