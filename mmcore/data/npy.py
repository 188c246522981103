"""Arrays of ``.npy`` files, and what their headers say. Imports no torch."""

import io
import math
import sys
from typing import BinaryIO, Literal

import numpy as np

_READ = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype] | None:
    """What a ``.npy`` file says of its array: shape, whether its first axis is the inner one, and type; None for the third version.

    Raises:
        ValueError: it is none.
    """
    version = np.lib.format.read_magic(file)
    if version not in _READ:
        return None
    return _READ[version](file)


def from_npy(data: bytes) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
        ValueError: it is none, ends early, or has objects.
    """
    file = io.BytesIO(data)
    header = npy_header(file)
    if header is None:  # of names that are not Latin
        file.seek(0)
        return characters(np.lib.format.read_array(file, allow_pickle=False))
    shape, fortran, dtype = header
    if dtype.hasobject:
        raise ValueError("it has objects, expected numbers, booleans or texts")
    promised, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if promised > found:
        raise ValueError(f"it has {found} bytes of data, its header tells of {promised}")
    order: Literal["F", "C"] = "F" if fortran else "C"
    return characters(np.ndarray(shape, dtype, data, file.tell(), order=order).copy(order))


def characters(array: np.ndarray) -> np.ndarray:
    """The array itself, whose texts are of characters that there are: NumPy makes strings of any numbers, at which Python fails later.

    Raises:
        ValueError: a text of a number that is no character.
    """
    if array.dtype.kind == "U" and array.nbytes:
        most = int(np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(array.dtype.byteorder)).max())
        if most > sys.maxunicode:
            raise ValueError(f"it has a text with {most:#x} in it, which is no character")
    return array
