"""Checkpoints: folders that are whole or not there, and whose every byte is checked when they are read.

.. code-block:: text

    checkpoints/step-00000040/   *.safetensors  *.json  manifest

A checkpoint is written under another name, flushed to the disk (files, then folders), and renamed. Its ``manifest`` holds the folder's
name, then digest, size and name of every file, then the digest of the lines before. So a file that is cut, changed, missing,
added or another checkpoint's is found, and so is a manifest.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import save
from torch import Tensor

from mmcore import files as door
from mmcore.errors import MmcoreError, RequestError
from mmcore.limits import RECORD, WEIGHTS
from mmcore.store.reading import DamagedError, parse_json, parse_tensors, read_bytes

MANIFEST = "manifest"
_FOLDER = re.compile(r"step-(\d{8,})")
_FILE = r"[a-z_]+\.(?:safetensors|json)"
_LINE = re.compile(rf"([0-9a-f]{{64}}) (\d{{1,19}}) ({_FILE})")
_OURS = re.compile(rf"{MANIFEST}|{_FILE}")

Files = Mapping[str, Mapping[str, Tensor] | Mapping[str, Any]]
"""By file name: tensors for ``.safetensors``, anything that JSON can hold for ``.json``."""


@attrs.frozen(eq=False)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        step: how many steps were done.
        folder: where it is.
        files: the files' contents, as :func:`write` was given them.
    """

    step: int
    folder: Path
    files: dict[str, dict[str, Any]]


def folders(root: Path) -> list[tuple[int, Path]]:
    """Steps and folders of the checkpoints in ``root``, the newest first."""
    checkpoints = []
    if root.is_dir():
        for path in root.iterdir():
            if match := _FOLDER.fullmatch(path.name):
                checkpoints.append((int(match[1]), path))
    return sorted(checkpoints, reverse=True)


def write(root: Path, step: int, files: Files, keep: int) -> Path:
    """Write a checkpoint and let go of old ones.

    Checkpoints of later steps are let go of too: a run that goes on from here has passed them by, because they were damaged.

    Args:
        root: the folder of all checkpoints.
        step: how many steps are done.
        files: what it holds.
        keep: how many checkpoints stay, this one included.

    Raises:
        MmcoreError: the disk is full, or the folder cannot be written; older checkpoints are untouched.
    """
    name = f"step-{step:08d}"
    aside, final = root / f"{door.ASIDE}{name}", root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        aside.mkdir()
        lines = [f"{name}\n"]
        for file, content in files.items():
            tensors = file.endswith(".safetensors")
            data = _tensors(content) if tensors else json.dumps(content, indent=1).encode()
            door.create(aside / file, data)
            lines.append(f"{hashlib.sha256(data).hexdigest()} {len(data)} {file}\n")
        body = "".join(lines).encode()
        door.create(aside / MANIFEST, body + _seal(body))
        door.sync(aside)
        if final.exists():  # a damaged one: a whole one of this step would have been used
            let_go(final)
        _put_in_place(aside, final)
        door.sync(root)
        earlier = [path for s, path in folders(root) if s <= step]
        for path in [*earlier[keep:], *(path for s, path in folders(root) if s > step)]:
            let_go(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            sweep(root)
        left = next((f"the checkpoint of step {s} is untouched" for s, _ in folders(root)), "there is no older one")
        raise MmcoreError(f"checkpoint {final}: cannot be written: {error.strerror or error}; {left}") from error
    return final


def _tensors(content: Mapping[str, Tensor]) -> bytes:
    # A network may keep its weights in another order of memory (channels last); a file has one.
    return save({name: x.contiguous() for name, x in content.items()})


def let_go(folder: Path) -> None:
    """Remove a checkpoint. What no run has put there is kept, in a folder ``step-….kept`` beside it.

    Raises:
        OSError: it cannot be removed.
    """
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
        return
    # Its manifest first, so that it is whole or none. Not renamed: file systems in layers, as of containers, refuse that of a folder.
    for name in sorted(os.listdir(folder), key=lambda name: name != MANIFEST):
        path = folder / name
        if _OURS.fullmatch(name) and (path.is_symlink() or not path.is_dir()):
            path.unlink()
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        number = 1
        while os.path.lexists(kept := folder.with_name(f"{folder.name}.kept{'' if number == 1 else f'-{number}'}")):
            number += 1
        shutil.move(folder, kept)


def sweep(root: Path) -> None:
    """Remove what an interrupted :func:`write` has left."""
    for path in root.glob(f"{door.ASIDE}*"):
        shutil.rmtree(path)


def _put_in_place(aside: Path, final: Path) -> None:
    try:
        aside.rename(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Some file systems refuse that of a folder. Without its manifest, the last to come, a checkpoint is none.
        final.mkdir()
        for path in sorted(aside.iterdir(), key=lambda path: path.name == MANIFEST):
            path.rename(final / path.name)
        door.sync(final)
        aside.rmdir()


def _seal(body: bytes) -> bytes:
    return f"{hashlib.sha256(body).hexdigest()}\n".encode()


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint, every byte of it checked against its manifest before it is parsed.

    Raises:
        DamagedError: naming the file at fault.
    """
    match = _FOLDER.fullmatch(folder.name)
    if match is None or folder.is_symlink() or not folder.is_dir():
        raise DamagedError(f"{folder}: expected a folder step-…")
    listed = _manifest(folder)
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(there - set(listed)):
        raise DamagedError(f"{folder / name}: the manifest does not list it")
    files = {}
    for name, (digest, size) in listed.items():
        path = folder / name
        limit = RECORD if name.endswith(".json") else WEIGHTS
        data = read_bytes(path, limit, follow=False, length=size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedError(f"{path}: its bytes are not those that were saved (sha256)")
        files[name] = (parse_json if name.endswith(".json") else parse_tensors)(data, path)
    return Checkpoint(int(match[1]), folder, files)


def _manifest(folder: Path) -> dict[str, tuple[str, int]]:
    path = folder / MANIFEST
    data = read_bytes(path, RECORD, follow=False)
    end = data.rfind(b"\n", 0, -1) + 1
    if data[end:] != _seal(data[:end]):
        raise DamagedError(
            f"{path}: its bytes are not those that were saved (its last line is not the digest of the others)"
        )
    try:
        name, *lines = data[:end].decode("ascii").splitlines()
    except ValueError as error:
        raise DamagedError(f"{path}: no manifest") from error
    if name != folder.name:
        raise DamagedError(f"{path}: is that of {name!r}, expected {folder.name!r}")
    listed = {}
    for line in lines:
        entry = _LINE.fullmatch(line)
        # Only plain names pass the pattern, so no path leaves the folder.
        if entry is None or entry[3] in listed:
            raise DamagedError(f"{path}: has the line {line[:80]!r}, expected a digest, a size and a plain file name")
        listed[entry[3]] = (entry[1], int(entry[2]))
    return listed


def newest(
    root: Path, tell: Callable[[str], object], usable: Callable[[Checkpoint], Checkpoint] = lambda found: found
) -> Checkpoint:
    """The newest checkpoint that is whole.

    Args:
        root: the folder of all checkpoints.
        tell: given a line on each damaged one before it.
        usable: what it is made of; raises :class:`~mmcore.store.reading.DamagedError` for one that lacks or misstates something.

    Raises:
        RequestError: there is none.
    """
    checkpoints, faults = folders(root), []
    for _, folder in checkpoints:
        try:
            return usable(read(folder))
        except DamagedError as error:
            faults.append(str(error))
            tell(f"{error}; the checkpoint before it is tried")
    if checkpoints:
        raise RequestError(
            f"resume: none of the {len(checkpoints)} checkpoints in {root} is whole, or of this run ({faults[0]}); start anew in another folder"
        )
    raise RequestError(f"resume: there is no checkpoint in {root}; leave out resume to start the run")
