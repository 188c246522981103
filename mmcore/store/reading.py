"""Files that a stranger may have made, read as data and nothing else.

Tensors are safetensors, the rest is JSON; both formats hold no code, and what is neither is refused before a parser that could run it
sees it, for there is none here. Every fault is a :class:`DamagedError` that names the file.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mmcore.errors import RequestError

HEADER = 32 * 2**20
"""The longest safetensors header that is read, in bytes: some 200,000 tensors."""
TEXT = 64 * 2**20
"""The longest JSON file that is read, in bytes."""


class DamagedError(RequestError):
    """A file is not what it should be; the message begins with its path."""


@contextmanager
def opened(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    """A regular file, to be read.

    Raises:
        DamagedError: missing, no regular file (a device or pipe would never end), or unreadable, also while it is read.
    """
    try:
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DamagedError(f"{path}: found a folder, pipe or device, expected a file")
            yield file
    except MemoryError as error:
        raise DamagedError(f"{path}: has more bytes than memory is left") from error
    except OSError as error:
        why = "a link, expected a file" if path.is_symlink() and not follow else (error.strerror or str(error))
        raise DamagedError(f"{path} cannot be read: {why}") from error


def read_bytes(path: Path, limit: int | None = None, *, follow: bool = True) -> bytes:
    """All of a regular file.

    Args:
        path: to read.
        limit: the most bytes that it may have.
        follow: read what a link leads to; else a link is refused.

    Raises:
        DamagedError: missing, no regular file, too long, or unreadable.
    """
    with opened(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise DamagedError(f"{path}: has {size} bytes, expected at most {limit}")
        return file.read()


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedError: it is none, or nested too deep to be one of ours.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        fault = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DamagedError(f"{path} cannot be read: no JSON: {fault}") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path}: found {type(content).__name__}, expected a JSON object")
    return content


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own.

    Raises:
        DamagedError: another format, whatever the file's name says; or a header that does not fit it.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(HEADER, len(data) - 8):
        # Only now: a header's size may begin with the same bytes.
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise DamagedError(
                f"{path} cannot be read: it is a pickle or an archive of pickles, which is never loaded; expected safetensors"
            )
        raise DamagedError(
            f"{path} cannot be read: its header claims {size} bytes of {len(data)}, expected at most {HEADER} and no more than there are"
        )
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    # The parser's tensors lie in ``data`` at any offset; arithmetic may depend on the alignment in its last bit.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def read_json(path: Path) -> dict[str, Any]:
    """:func:`parse_json` of a file."""
    return parse_json(read_bytes(path, TEXT), path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """:func:`parse_tensors` of a file."""
    return parse_tensors(read_bytes(path), path)
