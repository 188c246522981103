"""What raw pixels mean: small readings that modalities and ``mmcore init`` share. Importing this module imports no torch."""

import re
from collections.abc import Sequence
from typing import Any

from mmcore.options import Rule

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def rgb(colour: Any) -> Any:
    """A colour as three numbers of 0 … 255; what is none stays as it is, for :data:`COLOUR`.

    Args:
        colour: ``"#rrggbb"`` or three numbers.
    """
    if isinstance(colour, str) and _HEX.fullmatch(colour):
        return tuple(bytes.fromhex(colour[1:]))
    return tuple(colour) if isinstance(colour, Sequence) and not isinstance(colour, str) else colour


def hex_of(colour: Sequence[int]) -> str:
    """A colour as ``"#rrggbb"``."""
    return "#" + bytes(int(one) for one in colour).hex()


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255 for one in value)
    )


COLOUR = Rule('a colour as "#rrggbb" or [red, green, blue]', _is_colour)


def native(array: Any) -> Any:
    """An array in this machine's byte order, and of a type that torch has: unsigned integers of 16 bits and more become signed ones that hold them."""
    import numpy as np

    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    return array
