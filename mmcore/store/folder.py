"""The folder of a run: who may write in it, what is there already, and what of it a run has written."""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mmcore import files, limits
from mmcore.errors import OptionError, RequestError
from mmcore.store.checkpoint import MANIFEST, folders, let_go
from mmcore.store.reading import DamagedError, parse_json, read_bytes

CHECKPOINTS = "checkpoints"
RECORD = "run.json"
"""Written before anything else, so that what lies beside it is known to be a run's."""
_RECORD = {"format": 1, "what": "a run of mmcore"}
_ASIDE = r"(\.aside-(\d-)?)?"
_LOGS = r"(metrics|validation|timing)\.jsonl"
_TRACKED = rf"trackers/{_ASIDE}[a-z]+\.json"
_BEGUN = re.compile(rf"{_LOGS}|{_TRACKED}|tensorboard/events\.out\.tfevents\..+|checkpoints/\.aside-.+")
"""What a run leaves that was stopped before its first checkpoint; of these the logs are empty."""
_WRITTEN = re.compile(
    rf"{_BEGUN.pattern}"
    r"|checkpoints/step-\d{8,}"
    rf"|(model|best)/{_ASIDE}(model\.safetensors|config\.json|README\.md)"
    rf"|samples/{_ASIDE}(samples\.(png|json|safetensors)|data\.png|grid-.+\.png|step-\d{{8,}}-.+\.png)"
)
"""All that training writes, by its path in the folder."""
_PARTS = ("", CHECKPOINTS, "tensorboard", "trackers", "model", "best", "samples")


@contextmanager
def claimed(out: Path, *, resume: bool, replace: bool) -> Iterator[Path]:
    """The folder, made where it is missing, and locked against a second run.

    A folder in which a run has left something is neither overwritten nor continued unless told: either could lose work. What no run
    has left there is never overwritten or removed.

    Args:
        out: the folder.
        resume: go on with the run that is there.
        replace: remove the files of the run that is there; nothing else in the folder is touched.

    Raises:
        RequestError: the folder cannot be written; a run is training in it; there is a run, and nothing says what to do with it; there
            are files of other origin where a run would write its own; or there is no run to resume.
    """
    check_free(out, resume=resume, replace=replace)
    with alone(out, "training", "trains"):
        # Once more, as another run may have ended between.
        check_free(out, resume=resume, replace=replace)
        try:
            if not resume:
                _remove(out)
            if not _there(out / RECORD):
                files.write(out / RECORD, (json.dumps(_RECORD) + "\n").encode())
        except OSError as error:
            raise RequestError(f"training: the folder {out} cannot be written: {error.strerror or error}") from error
        yield out


def check_free(out: Path, *, resume: bool = False, replace: bool = False) -> None:
    """Refuse a folder in which a run must not begin or go on; nothing is made or changed.

    Args:
        out: the folder.
        resume: go on with the run that is there.
        replace: remove the run that is there.

    Raises:
        RequestError: naming a file, and what to do.
    """
    if resume and replace:
        raise RequestError("training: resume and replace exclude each other")
    try:
        checkpoints, ours = folders(out / CHECKPOINTS), is_run(out)
        found = [path for path in _written(out) if ours or _there(path)]
        other = [] if ours else [*found]
        other += [out / RECORD] if _there(out / RECORD) and not _recorded(out) else []
        other += [path for part in _PARTS[1:] if _there(path := out / part) and not path.is_dir()]
        linked = [out / part for part in _PARTS[1:] if (out / part).is_symlink()]
    except OSError as error:
        raise RequestError(f"training: the folder {out} cannot be read: {error.strerror or error}") from error
    if linked and (resume or replace):
        raise RequestError(
            f"training: {linked[0]} is a link, and nothing is written or removed outside of the run; put the folder in its place, or choose another"
        )
    if resume:
        if not checkpoints:
            raise RequestError(
                f"resume: there is no checkpoint in {out / CHECKPOINTS}; leave out resume to start the run"
            )
        return
    if other:
        raise RequestError(
            f"training: {other[0]} is there, where a run would write its own, and nothing says that a run has left it ({out} has neither a "
            f"{RECORD} of a run nor a whole checkpoint); choose another folder, or move the file away"
        )
    if replace:
        return
    if checkpoints:
        raise RequestError(
            f"training: {out} holds a run with a checkpoint of step {checkpoints[0][0]}; resume it (--resume, resume=True), choose another folder, or replace it (--replace, replace=True)"
        )
    for path in found:
        name = path.relative_to(out).as_posix()
        if not _BEGUN.fullmatch(name) or (re.fullmatch(_LOGS, name) and _there(path)):
            raise RequestError(
                f"training: {out} holds a run without its checkpoints (it has {name}); choose another folder, or replace it (--replace, replace=True)"
            )


def is_run(out: Path) -> bool:
    """Whether a run has written in a folder: its record is there, or a checkpoint of its own name."""
    return _recorded(out) or any(_named(folder) for _, folder in folders(out / CHECKPOINTS))


def _there(path: Path) -> bool:
    """Whether something is there that could be lost: anything but an empty file."""
    return os.path.lexists(path) and (path.is_symlink() or not path.is_file() or path.lstat().st_size > 0)


def _recorded(out: Path) -> bool:
    try:
        return (
            parse_json(read_bytes(out / RECORD, limits.RECORD, follow=False), out / RECORD).get("what")
            == _RECORD["what"]
        )
    except DamagedError:
        return False


def _named(folder: Path) -> bool:
    try:
        return read_bytes(folder / MANIFEST, limits.RECORD, follow=False).startswith(f"{folder.name}\n".encode())
    except DamagedError:
        return False


def _written(out: Path) -> list[Path]:
    """What is there of all that a run writes; no other folder is looked into."""
    return [
        path
        for part in _PARTS
        if (out / part).is_dir()
        for path in sorted((out / part).iterdir())
        if _WRITTEN.fullmatch(path.relative_to(out).as_posix())
    ]


def _remove(out: Path) -> None:
    """Remove what a run has written, and folders that are empty then."""
    for path in _written(out):
        if path.parent.name == CHECKPOINTS and not path.name.startswith("."):
            let_go(path)
        elif path.is_symlink() or not path.is_dir():
            path.unlink()
    for part in _PARTS[1:]:
        with suppress(OSError):  # something else is in it, or it is not there
            (out / part).rmdir()


_HELD: dict[tuple[int, int], int] = {}
"""Folders that are locked, by device and inode, each with the process that has locked it: a forked one holds none."""
_HOLDING = threading.Lock()


@contextmanager
def alone(out: Path, what: str, does: str) -> Iterator[Path]:
    """A folder, made where it is missing, in which nothing else does the same, in this process or another one.

    Args:
        out: the folder.
        what: is done, for messages, such as ``"training"``.
        does: the same of whoever does it already, such as ``"trains"``.

    Raises:
        RequestError: another does, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            facts = out.stat()
            # Before the file is opened: a process that closes it gives up its lock, whichever thread has that.
            stack.enter_context(_held((facts.st_dev, facts.st_ino), f"{what}: this process {does} in {out} already"))
            # A link that a stranger has put there is not followed, and no file is emptied.
            lock = stack.enter_context(files.edited(out / ".lock"))
        except OSError as error:
            raise RequestError(f"{what}: the folder {out} cannot be written: {error.strerror or error}") from error
        _lock(lock.fileno(), f"{what}: another process {does} in {out}")
        yield out


@contextmanager
def _held(folder: tuple[int, int], refusal: str) -> Iterator[None]:
    with _HOLDING:
        if _HELD.get(folder) == os.getpid():
            raise RequestError(
                f"{refusal}, in another thread or around this call; wait for it, or choose another folder"
            )
        _HELD[folder] = os.getpid()
    try:
        yield
    finally:
        with _HOLDING:
            _HELD.pop(folder, None)


def check_writable(out: Path) -> None:
    """Refuse a folder that cannot be made or written in; nothing is made.

    Raises:
        OptionError: of the option ``out``.
    """
    there = out.absolute()
    while not there.exists() and there.parent != there:
        there = there.parent
    if not there.is_dir():
        raise OptionError("", "out", str(out), f"a folder, {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OptionError("", "out", str(out), f"a folder that can be written, {there} cannot")


def _lock(descriptor: int, refusal: str) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        # The process's own: neither inherited by workers that outlive it, nor left behind when it is killed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise RequestError(refusal) from error
    except OSError:
        return  # a file system without locks
