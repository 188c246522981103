"""A model of the Hub: its configuration and weights are fetched, and nothing else of its repository."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.hub.service import CARD, CONFIG, WEIGHTS_FILE, hub, is_name, told
from mmcore.limits import RECORD, WEIGHTS
from mmcore.modality.base import Modality, Task
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.plugins.metadata import one_line
from mmcore.store.model import load, loaded

LIMITS = {CONFIG: RECORD, WEIGHTS_FILE: WEIGHTS}
"""All that is fetched, and how long each may be. Both formats hold no code."""
_SHOWN = 5
"""How many names of other files a message has."""


def from_pretrained(
    name: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache: str | Path | None = None,
    backbone: nn.Module | None = None,
    modalities: Mapping[str, Modality] | None = None,
    tasks: Mapping[str, Task] | None = None,
    beside: Sequence[str | Path] | None = None,
    registry: Registry | None = None,
    device: str | torch.device = "cpu",
) -> JointModel:
    """A trained model, from the Hub or from a folder.

    Of a repository ``config.json`` and ``model.safetensors`` are fetched, each up to its limit (``mmcore.limits``), into the Hub's own cache; what
    else it holds is not. They are read as :func:`mmcore.load` reads a stranger's folder: nothing is executed, and plugins are those installed.

    .. code-block:: python

        mmcore.JointModel.from_pretrained("user/model", revision="3f1c…")
        mmcore.JointModel.from_pretrained("runs/mine/model")

    Args:
        name: a folder, or where there is none of that name, a repository ``user/model``.
        revision: a commit, tag or branch; by default the newest of ``main``. A commit is the very same model at any time.
        token: of the Hub; by default that of ``hf auth login``.
        cache: where fetched files are kept; by default the Hub's own.
        backbone: this and what follows as :func:`mmcore.load` has them.
        modalities: those made by hand.
        tasks: those with parts of their own.
        beside: where pretrained weights are.
        registry: of plugins.
        device: of the model.

    Raises:
        RequestError: no folder and no name of a repository; no such repository or revision, or one without a model; a file beyond its limit; a plugin
            that is not installed, with the line that installs it; the Hub is switched off (``HF_HUB_OFFLINE``) and the cache lacks it; or as :func:`mmcore.load`.
        MmcoreError: the Hub cannot be reached.
    """
    how: dict[str, Any] = {"backbone": backbone, "modalities": modalities, "tasks": tasks, "beside": beside}
    how |= {"registry": registry, "device": device}
    if str(name) and (at := expanded(name)).is_dir():
        if revision is not None:
            raise RequestError(f"from_pretrained: {name} is a folder, which has no revisions; leave revision out")
        return load(at, **how)
    if not is_name(str(name)):
        raise RequestError(
            f"from_pretrained: {str(name)!r} is no folder that is there, and no name on the Hub; expected such as 'user/model'"
        )
    folder, inside = fetched(str(name), revision, token, None if cache is None else Path(cache))
    return loaded(folder, inside=inside, **how)


def fetched(name: str, revision: str | None, token: str | bool | None, cache: Path | None) -> tuple[Path, Path]:
    """A repository's model in the cache: its folder, and the cache, in which the folder's links lead.

    Raises:
        RequestError: as :func:`from_pretrained`.
        MmcoreError: the Hub cannot be reached.
    """
    library = hub("from_pretrained")
    from huggingface_hub import constants

    place = expanded(cache or constants.HF_HUB_CACHE).resolve()
    how: dict[str, Any] = {"cache_dir": place, "token": token, "allow_patterns": [*LIMITS], "library_name": "mmcore"}
    with told("from_pretrained", name, revision):
        try:
            files = library.snapshot_download(name, revision=revision, dry_run=True, **how)
        except library.errors.DryRunError as error:
            # Out of reach: what was fetched before is as good. Else the cause is told.
            try:
                folder = library.snapshot_download(name, revision=revision, local_files_only=True, **how)
            except library.errors.LocalEntryNotFoundError:
                raise (error.__cause__ or error) from None
            return Path(folder), place
        _check(name, {file.filename: file.file_size for file in files}, lambda: _others(library, name, revision, token))
        return Path(library.snapshot_download(name, revision=files[0].commit_hash, **how)), place


def _check(name: str, found: Mapping[str, int | None], others: Any) -> None:
    """Refuse a repository without a model, and files that are too long, before any of them is fetched."""
    lacking = [file for file in LIMITS if file not in found]
    if lacking:
        names = others()
        shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
        holds = f"; it holds {shown}, and nothing but {' and '.join(LIMITS)} is ever fetched" if names else ""
        raise RequestError(
            f"from_pretrained: {name} has no {' and no '.join(lacking)}, expected a model of mmcore{holds}"
        )
    for file, limit in LIMITS.items():
        length = found[file]
        if length is None:
            raise RequestError(f"from_pretrained: {file} of {name} has no length that the Hub tells, expected one")
        if too_long := limit.excess(length):
            raise RequestError(f"from_pretrained: {file} of {name} has {too_long}")


def _others(library: Any, name: str, revision: str | None, token: str | bool | None) -> list[str]:
    names = library.HfApi(token=token).list_repo_files(name, revision=revision)
    return sorted(one_line(file)[:80] for file in names if file not in (CARD, ".gitattributes"))
