"""The one door by which files of data, models, runs and configurations are opened, to read and to write.

A file is opened once, and asked what it is by its descriptor: regular files alone are read, so that a pipe, a device, a socket or a folder
is refused at once and nothing waits; and none is longer than its limit (``mmcore.limits``). What is written is never written through a
link: a file is written beside its place (``.aside-NAME``, or where that is too long a digest of it) and renamed, or is opened as what it is. What is refused is an ``OSError``, as
what cannot be opened is. Importing this module imports no torch.
"""

import hashlib
import io
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

from mmcore.limits import Limit

_PIECE = 64 * 2**20


@dataclass(frozen=True)
class Encoded:
    """The bytes of a file, as a shard or a data set holds them, or as a sample is written.

    Attributes:
        data: the bytes.
        suffix: of the file's name, such as ``".png"``.
    """

    data: bytes = field(repr=False)
    suffix: str


def expanded(path: str | Path) -> Path:
    """A path that somebody gave, where ``~`` is the home folder; that of a user whom nobody knows stays as it is."""
    return Path(os.path.expanduser(path))


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


# ---- to write ----

ASIDE = ".aside-"
"""How the name of a file begins that is being written."""
_LONGEST = 255
"""Bytes of a name that file systems take."""
_WRITING = threading.Lock()


def write(path: str | Path, data: bytes, *, follow: bool = False, durable: bool = False) -> None:
    """Write a file in one go: whoever reads it finds the old or the new one, whenever this is stopped. What it has left then is used again.

    Args:
        path: of it; folders that are missing are made. A link that lies there is replaced.
        data: all of it.
        follow: for a path that the user has named: a link is followed, and what is no regular file, such as a terminal, is written to.
        durable: it is on the disk when this returns.

    Raises:
        OSError: it cannot be written; the old one is untouched.
    """
    path = Path(path)
    if "\0" in str(path):
        raise OSError("embedded null byte")
    if follow:
        if os.path.exists(path) and not path.is_file() and not path.is_dir():
            with open(path, "wb") as file:
                file.write(data)
            return
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Locks of files tell processes apart, and not threads.
    with _WRITING:
        part, file = _aside(path)
        try:
            with file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                _as_open(part, path)
                os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise


def _as_open(part: Path, path: Path) -> None:
    """What takes a file's place may be read and written by nobody who might not read or write that one."""
    with suppress(OSError):
        before, now = os.lstat(path).st_mode, os.lstat(part).st_mode
        if stat.S_ISREG(before):
            os.chmod(part, before & now & 0o777)


def _aside(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside another, which no other process writes."""
    for number in count(1):
        part = path.with_name(_aside_name(path.name, "" if number == 1 else f"{number}-"))
        while True:
            try:
                file = open(part, "xb")  # noqa: SIM115 - given to the caller
            except FileExistsError:
                if not _abandoned(part):
                    break
                continue
            if _locked(file.fileno()) and _same(part, file.fileno()):
                return part, file
            file.close()
    raise AssertionError("numbers do not end")


def _aside_name(name: str, number: str) -> str:
    """What a file is called while it is written; where that is longer than names may be, by the digest of its name."""
    called = f"{ASIDE}{number}{name}"
    if len(os.fsencode(called)) <= _LONGEST:
        return called
    return f"{ASIDE}{number}{hashlib.sha256(os.fsencode(name)).hexdigest()}"


def _abandoned(part: Path) -> bool:
    """Remove what a stopped process has left, or a stranger has put there; whether it is gone."""
    try:
        found = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return True
    except OSError:  # a link, a folder, another user's
        part.unlink()
        return True
    try:
        # Held while it is removed: whoever has made it just now has not locked it yet, and takes another name.
        if not _locked(found):
            return False
        if _same(part, found):
            part.unlink()
        return True
    finally:
        os.close(found)


def _locked(descriptor: int) -> bool:
    """Lock a file; whether no other process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def create(path: Path, data: bytes) -> None:
    """Write a new file, which is on the disk when this returns.

    Raises:
        OSError: something is there, or it cannot be written.
    """
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def edited(path: Path) -> io.BufferedRandom:
    """A regular file to read and write, made empty where it is missing.

    Raises:
        OSError: it is a link or no regular file, or cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    found = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError("expected a file")
    return os.fdopen(found, "r+b")


def append(path: Path, data: bytes) -> None:
    """Write at the end of a regular file.

    Raises:
        OSError: as :func:`edited`.
    """
    with edited(path) as file:
        file.seek(0, os.SEEK_END)
        file.write(data)


def sync(path: Path) -> None:
    """See to it that a file, or the names in a folder, are on the disk.

    Raises:
        OSError: they cannot be.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
