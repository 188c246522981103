"""The folder of a run: who may write in it, and what is there already."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmcore.errors import OptionError, RequestError
from mmcore.store.checkpoint import folders

CHECKPOINTS = "checkpoints"
_OURS = (CHECKPOINTS, "metrics.jsonl", "validation.jsonl", "timing.jsonl", "tensorboard", "model", "best", "samples")


@contextmanager
def claimed(out: Path, *, resume: bool, replace: bool) -> Iterator[Path]:
    """The folder, made where it is missing, and locked against a second run.

    A folder in which a run has left checkpoints is neither overwritten nor continued unless told: either could lose work.

    Args:
        out: the folder.
        resume: go on with the run that is there.
        replace: remove the run that is there; nothing else in the folder is touched.

    Raises:
        RequestError: the folder cannot be written; another process trains in it; there is a run, and nothing says what to do with
            it; or there is none to resume.
    """
    there = folders(out / CHECKPOINTS)
    if resume and replace:
        raise RequestError("training: resume and replace exclude each other")
    if resume and not there:
        raise RequestError(f"resume: there is no checkpoint in {out / CHECKPOINTS}; leave out resume to start the run")
    if there and not (resume or replace):
        raise RequestError(
            f"training: {out} holds a run with a checkpoint of step {there[0][0]}; resume it (--resume, resume=True), choose another folder, or replace it (--replace, replace=True)"
        )
    with ExitStack() as stack:
        stack.enter_context(alone(out, "training", f"another process trains in {out}"))
        try:
            if replace:
                for path in (out / name for name in _OURS):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            raise RequestError(f"training: the folder {out} cannot be written: {error.strerror or error}") from error
        yield out


@contextmanager
def alone(out: Path, what: str, taken: str) -> Iterator[Path]:
    """A folder, made where it is missing, in which no other process does the same.

    Args:
        out: the folder.
        what: is done, for messages, such as ``"training"``.
        taken: what to say where another process does it.

    Raises:
        RequestError: another does, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            # A link that a stranger has put there is not followed, and no file is emptied.
            descriptor = os.open(out / ".lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            stack.callback(os.close, descriptor)
        except OSError as error:
            raise RequestError(f"{what}: the folder {out} cannot be written: {error.strerror or error}") from error
        _lock(descriptor, f"{what}: {taken}")
        yield out


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
