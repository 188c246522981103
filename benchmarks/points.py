"""Named points: the moments at which a process changes what lies on a disk, and what may happen to it there.

A point is named by what is done, to which file, for which time: ``replace run/metrics.jsonl #2``. Every opening to write, rename, link, removal and
folder made is seen by an audit hook, whichever library does it; writes, flushes, syncs and ends of files by stand-ins for ``open`` and
``os.fsync``; what happens inside a handler of signals by one for ``signal.signal``. Nothing of this is in the library.

A process that is watched cannot be unwatched: fork first.
"""

import builtins
import errno
import io
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

Plan = Mapping[int, str]
"""What happens at a point, by its number: ``kill`` at once, ``half`` of what is written before that, a signal (``term``, ``int``), or from there on
a ``full`` disk."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.rename": "replace", "os.remove": "remove", "os.rmdir": "rmdir", "os.mkdir": "mkdir", "os.link": "link", "os.symlink": "link", "os.truncate": "truncate"}  # fmt: skip
GROWS = ("open", "write", "flush", "close", "fsync", "mkdir", "replace", "link")
"""What a full disk refuses."""
_SIGNALS = {"term": signal.SIGTERM, "int": signal.SIGINT}
_ODD = re.compile(r"(tfevents)\..*|\.\d+$|[0-9a-f]{16}")
"""Of a file's name, what differs from run to run."""
_open, _signal = io.open, signal.signal


@attrs.define(eq=False)
class Watch:
    """What is seen of one process.

    Attributes:
        folder: only what lies below it is a point.
        plan: what happens, and where.
        happened: told of each thing that happened, before it does.
        names: of the points so far.
    """

    folder: Path
    plan: Plan
    happened: Callable[[str, str], object]
    names: list[str] = attrs.field(factory=list)
    full: bool = False
    refused: bool = False
    half: bool = False
    handling: bool = False
    _counts: Counter[str] = attrs.field(factory=Counter)
    _inside: bool = False

    def point(self, what: str, path: Any, *, grows: bool = True) -> None:
        """Something is about to be done.

        Raises:
            OSError: the disk is full.
        """
        if self._inside:
            return
        place = os.path.abspath(os.fsdecode(path))
        if not self.handling and not place.startswith(f"{self.folder}/"):
            return
        self._inside = True
        try:
            name = f"{what} {_ODD.sub(lambda found: found[1] or '…', os.path.relpath(place, self.folder))}"
            self._counts[name] += 1
            name = f"{'handler: ' if self.handling else ''}{name} #{self._counts[name]}"
            number = len(self.names)
            self.names.append(name)
            action = self.plan.get(number)
            if action == "half":
                self.half, action = what == "write", None if what == "write" else "kill"
            if action and action != "full":
                self.happened(action, name)
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            self.full |= action == "full"
            refused = self.full and grows and what in GROWS
            if refused and not self.refused:
                self.happened("full", name)
                self.refused = True
        finally:
            self._inside = False
        if action in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[action])
        if refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    def begin(self, *, odd: bool = False) -> None:
        """From now on this process is watched.

        Args:
            odd: replacing a file removes the old one and copies the new one, piece by piece, and no folder can be renamed: as on file systems that cannot do
                it in one go.
        """
        sys.addaudithook(self._hear)
        io.open = builtins.open = self._opened  # type: ignore[assignment]
        os.fsync = self._synced
        signal.signal = self._listened  # type: ignore[assignment]
        if odd:
            os.replace = os.rename = _moved

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if isinstance(path, str | bytes) and flags & _WRITES:
                self.point("open", path)
        elif what := _EVENTS.get(event):
            path = given[1] if what in ("replace", "link") else given[0]
            at = (
                next((x for x in given[1:] if isinstance(x, int) and x > 2), None)
                if event in ("os.remove", "os.rmdir")
                else None
            )
            if isinstance(path, int):
                path = f"/proc/self/fd/{path}"
            self.point(
                what, path if at is None else os.path.join(os.readlink(f"/proc/self/fd/{at}"), os.fsdecode(path))
            )

    def _opened(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        found = _open(file, mode, *args, **kwargs)
        if not set(mode) & set("wax+"):
            return found
        path = os.readlink(f"/proc/self/fd/{found.fileno()}")
        return _File(found, path, self) if path.startswith(f"{self.folder}/") else found

    def _synced(self, descriptor: Any) -> None:
        """A point and no more: a killed process loses nothing that it has written, synced or not, and a disk takes its time."""
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        self.point("fsync", os.readlink(f"/proc/self/fd/{number}"))

    def _listened(self, number: int, handler: Any) -> Any:
        if self.handling:
            self.point("signal.signal", str(number))
        if not callable(handler) or handler in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN):
            return _signal(number, handler)

        def heard(number: int, frame: Any) -> None:
            self.handling = True
            try:
                self.point("entered", str(number), grows=False)
                handler(number, frame)
                self.point("left", str(number), grows=False)
            finally:
                self.handling = False

        return _signal(number, heard)


class Told(io.StringIO):
    """A stream for lines to the user; inside a handler each is a point."""

    def __init__(self, file: Any, watch: Watch) -> None:
        super().__init__()
        self.file, self.watch = file, watch

    def write(self, text: str) -> int:
        if self.watch.handling:
            self.watch.point("told", "stderr", grows=False)
        return self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


class _File:
    """A file that is written; each write, flush and its end are points."""

    def __init__(self, file: Any, path: str, watch: Watch) -> None:
        self._file, self._path, self._watch, self._over = file, path, watch, False
        self._kept = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Any:
        return iter(self._file)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def write(self, data: Any) -> int:
        try:
            self._watch.point("write", self._path)
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        if self._watch.half:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._watch.happened("half", self._watch.names[-1])
            os.kill(os.getpid(), signal.SIGKILL)
        self._kept = True
        return self._file.write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._watch.point("flush", self._path, grows=self._kept)
        self._file.flush()
        self._kept = False

    def close(self) -> None:
        if self._over:
            return
        self._over = True
        try:
            self._watch.point("close", self._path, grows=self._kept)
        finally:
            self._file.close()


def _moved(source: Any, target: Any, **_: Any) -> None:
    if os.path.isdir(source):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
    if os.path.lexists(target):
        os.unlink(target)
    with open(source, "rb") as old, open(target, "wb") as new:
        new.write(old.read())
    os.unlink(source)


def digests(
    folder: Path, free: str, plain: Callable[[Path, bytes], bytes] = lambda path, data: data
) -> dict[str, bytes]:
    """All that lies in a folder, by path.

    Args:
        folder: of it.
        free: a pattern of paths that may differ.
        plain: a file's content without what may differ.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not re.fullmatch(free, name):
            found[name] = b"a folder" if path.is_dir() else plain(path, path.read_bytes())
    return found


def anew(template: Path, folder: Path) -> None:
    """The same folder again."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder, symlinks=True)
