"""The one door by which files of data, models, runs and configurations are opened.

A file is opened once, and asked what it is by its descriptor: regular files alone are read, so that a pipe, a device, a socket or a folder
is refused at once and nothing waits; and none is longer than its limit (``mmcore.limits``). What is refused is an ``OSError``,
as what cannot be opened is. Importing this module imports no torch.
"""

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from mmcore.limits import Limit

_PIECE = 64 * 2**20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def descriptor(path: str | Path, *, inside: Path | None = None) -> int:
    """A descriptor of a regular file, to read.

    Args:
        path: links are followed.
        inside: a folder that links may not lead out of.

    Raises:
        OSError: there is none, it is no regular file, or it lies outside.
    """
    # Not blocking: opening a pipe that nobody writes to would wait for ever.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC if os.name == "posix" else os.O_RDONLY | os.O_BINARY
    )
    if inside is not None:
        real = os.path.realpath(path)
        if os.path.commonpath((real, os.path.realpath(inside))) != os.path.realpath(inside):
            raise OSError("a link that leads out of the folder, expected a file")
        path, flags = real, flags | getattr(os, "O_NOFOLLOW", 0)
    try:
        found = os.open(path, flags)
    except ValueError as error:  # a name with a zero byte
        raise OSError(str(error)) from error
    try:
        kind = stat.S_IFMT(os.fstat(found).st_mode)
        if kind != stat.S_IFREG:
            raise OSError(f"it is {_KINDS.get(kind, 'something else')}, expected a file")
    except BaseException:
        os.close(found)
        raise
    return found


def opened(path: str | Path, *, inside: Path | None = None) -> io.BufferedReader:
    """A regular file, to read; arguments and errors as :func:`descriptor`."""
    return open(descriptor(path, inside=inside), "rb")


class Bounded(io.BufferedReader):
    """A regular file for a parser that believes what the file says: no more is read at once than a directory of an archive takes.

    Args:
        path: of it.

    Raises:
        OSError: as :func:`descriptor`, or the parser asks for a piece that is too long, or goes on behind the end.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(io.FileIO(descriptor(path), "rb"))
        self._ended = 0

    def read(self, count: int | None = -1, /) -> bytes:
        """As a file's, but for refusals."""
        if count is None or count < 0:
            count = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if count > _PIECE:
            raise OSError(f"it asks for {count:,} bytes at once, expected at most {_PIECE:,}")
        data = super().read(count)
        self._ended += count > 0 and not data
        if self._ended > 16:
            raise OSError("it goes on behind its end")
        return data


def size(file: BinaryIO) -> int:
    """An open file's length now, in bytes."""
    return os.fstat(file.fileno()).st_size


def read(path: str | Path, limit: Limit, *, inside: Path | None = None) -> bytes:
    """All of a regular file.

    Args:
        path: of it.
        limit: of its length.
        inside: as :func:`descriptor` has it.

    Raises:
        OSError: as :func:`descriptor`, or it is longer.
    """
    with opened(path, inside=inside) as file:
        length = size(file)
        if too_long := limit.excess(length):
            raise OSError(f"it has {too_long}")
        return file.read(length)
