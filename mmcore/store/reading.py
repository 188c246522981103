"""Files that a stranger may have made, read as data and nothing else.

Tensors are safetensors, the rest is JSON; both formats hold no code, and what is neither is refused before a parser that could run it
sees it, for there is none here. Every fault is a :class:`DamagedError` that names the file.
"""

import hashlib
import json
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from mmcore import files
from mmcore.errors import RequestError
from mmcore.limits import RECORD, WEIGHTS, Limit

HEADER = 32 * 2**20
"""The longest safetensors header that is read, in bytes: some 200,000 tensors."""


class DamagedError(RequestError):
    """A file is not what it should be; the message begins with its path."""


@contextmanager
def opened(path: Path, *, follow: bool = True, inside: Path | None = None) -> Iterator[BinaryIO]:
    """A regular file, to be read; a link may lead to another file of its folder, and not out of it.

    Args:
        path: to read.
        follow: else a link is refused.
        inside: another folder that a link may not lead out of.

    Raises:
        DamagedError: missing, no regular file (a device or pipe would never end), or unreadable, also while it is read.
    """
    try:
        if not follow and path.is_symlink():
            raise OSError("a link, expected a file")
        with files.opened(path, inside=inside or path.parent) as file:
            yield file
    except MemoryError as error:
        raise DamagedError(f"{path}: has more bytes than memory is left") from error
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error


def read_bytes(
    path: Path, limit: Limit, *, follow: bool = True, length: int | None = None, inside: Path | None = None
) -> bytes:
    """All of a regular file.

    Args:
        path: to read; a link may lead to another file of its folder, and not out of it.
        limit: the most bytes that it may have.
        follow: else a link is refused.
        length: how many it must have; told before any is read.
        inside: as :func:`opened` has it.

    Raises:
        DamagedError: missing, no regular file, too long, or unreadable.
    """
    with opened(path, follow=follow, inside=inside) as file:
        found = files.size(file)
        if length is not None and found != length:
            raise DamagedError(f"{path}: has {found} bytes, expected {length}")
        if too_long := limit.excess(found):
            raise DamagedError(f"{path}: has {too_long}")
        if limit is WEIGHTS:
            _check_header(file, found, path)
        return file.read(found)


def digest(path: Path) -> str:
    """By what weights, a file of safetensors, are known again: their SHA-256.

    Raises:
        DamagedError: as :func:`read_bytes`; told before much is read.
    """
    with opened(path) as file:
        found = files.size(file)
        if too_long := WEIGHTS.excess(found):
            raise DamagedError(f"{path}: has {too_long}")
        _check_header(file, found, path)
        told = hashlib.sha256()
        while part := file.read(1 << 20):
            told.update(part)
        return told.hexdigest()


def _check_header(file: BinaryIO, found: int, path: Path) -> None:
    """Refuse a safetensors file that is shorter or longer than its header says, before its tensors are read."""
    head = file.read(8)
    size = int.from_bytes(head, "little")
    if len(head) == 8 and size <= min(HEADER, found - 8):
        try:
            header = json.loads(file.read(size))
            ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
            length = 8 + size + max(ends, default=0)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise DamagedError(
                f"{path} cannot be read: its header is none of safetensors ({type(error).__name__})"
            ) from error
        if length != found:
            raise DamagedError(f"{path} cannot be read: has {found} bytes, its header tells of {length}")
    elif found > RECORD.most:
        _no_header(head, found, path)
    file.seek(0)


def _no_header(data: bytes, found: int, path: Path) -> NoReturn:
    # Only now: a header's size may begin with the same bytes.
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise DamagedError(
            f"{path} cannot be read: it is a pickle or an archive of pickles, which is never loaded; expected safetensors"
        )
    size = int.from_bytes(data[:8], "little")
    raise DamagedError(
        f"{path} cannot be read: its header claims {size} bytes of {found}, expected at most {HEADER} and no more than there are"
    )


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
        _no_header(data, len(data), path)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    # The parser's tensors lie in ``data`` at any offset; arithmetic may depend on the alignment in its last bit.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors by name; nothing but its header is read.

    Raises:
        DamagedError: as :func:`read_bytes`, or it is no safetensors file.
    """
    with opened(path) as file:
        found = files.size(file)
        if found < 8:
            _no_header(b"", found, path)
        _check_header(file, found, path)
        head = file.read(8)
        size = int.from_bytes(head, "little")
        if size > min(HEADER, found - 8):
            _no_header(head, found, path)
        told = parse_json(file.read(size), path)
    try:
        return {
            name: tuple(operator.index(side) for side in one["shape"])
            for name, one in told.items()
            if name != "__metadata__"
        }
    except (LookupError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read: its header is none of safetensors") from error


def read_json(path: Path, inside: Path | None = None) -> dict[str, Any]:
    """:func:`parse_json` of a file."""
    return parse_json(read_bytes(path, RECORD, inside=inside), path)


def read_tensors(path: Path, inside: Path | None = None) -> dict[str, Tensor]:
    """:func:`parse_tensors` of a file."""
    return parse_tensors(read_bytes(path, WEIGHTS, inside=inside), path)
