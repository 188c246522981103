"""Which experiment of a server a run is tracked in: kept in the run's folder, so that a resumed run goes on in the same one."""

import importlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.errors import RequestError
from mmcore.limits import RECORD
from mmcore.store.reading import DamagedError, parse_json, read_bytes

FOLDER = "trackers"
"""In the run's folder, one file for each kind of tracker."""
_IDENTITY = re.compile(r"[^\W_][\w .-]{0,199}")


def library(name: str, title: str) -> Any:
    """A tracker's library, imported now.

    Args:
        name: of its module, and of mmcore's extra that installs it.
        title: for people.

    Raises:
        RequestError: it is not installed, with the line that installs it, or it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name == name:
            raise RequestError(f"{name}: {title} is not installed; pip install 'mmcore-diffusion[{name}]'") from error
        raise RequestError(f"{name}: {title} cannot be imported: {' '.join(str(error).split())}") from error


def fresh() -> str:
    """An identity that no other experiment has."""
    return uuid.uuid4().hex[:12]


def kept(kind: str, folder: Path | None, after: int | None) -> str | None:
    """The experiment that a run goes on in.

    Args:
        kind: of tracker.
        folder: of the run.
        after: as :meth:`Tracker.begin <mmcore.training.trackers.Tracker.begin>` has it.

    Returns:
        its identity; None for a new run, and for one that was not tracked so far.
    """
    if folder is None or after is None:
        return None
    path = folder / FOLDER / f"{kind}.json"
    try:
        identity = parse_json(read_bytes(path, RECORD, follow=False), path).get("experiment")
    except DamagedError:
        return None
    return identity if isinstance(identity, str) and _IDENTITY.fullmatch(identity) else None


def keep(kind: str, folder: Path | None, identity: str) -> None:
    """Keep the experiment's identity in the run's folder, where there is one.

    Raises:
        OSError: it cannot be written.
    """
    if folder is not None:
        files.write(folder / FOLDER / f"{kind}.json", f"{json.dumps({'experiment': identity})}\n".encode())
