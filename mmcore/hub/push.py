"""A model published on the Hub: its folder, with a card that says what is known of it and nothing that is not."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.errors import MmcoreError, RequestError
from mmcore.files import expanded
from mmcore.hub import card as cards
from mmcore.hub.service import CARD, CONFIG, PICTURE, WEIGHTS_FILE, hub, is_name, told
from mmcore.metrics.figure import Figure
from mmcore.model.joint import JointModel
from mmcore.store.model import save

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{1,60}")


def push_to_hub(
    model: JointModel,
    name: str,
    *,
    licence: str | None = None,
    run: str | Path | None = None,
    figures: Mapping[str, Figure] | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    message: str = "A joint diffusion model",
) -> str:
    """Publish a trained model, with its card, in one commit.

    The repository is made where it is missing. It gets ``config.json``, ``model.safetensors``, the card as ``README.md``, and of a run the picture
    of its samples. What the commit replaces stays in the repository's history. Paths of this machine are left out of the configuration.

    Args:
        model: in hand.
        name: of the repository, ``user/model``.
        licence: as the Hub writes it, such as ``"apache-2.0"``, ``"cc-by-nc-4.0"`` or ``"other"``. It must be given: the data may forbid one.
        run: the folder of the run that made the model; its samples and its calibration go into the card, where they are of these very weights.
        figures: further ones, such as :func:`mmcore.metrics.report` measures, with their intervals.
        private: whether the repository is private where it is made; by default as the account has it.
        revision: the branch; by default ``main``.
        token: of the Hub; by default that of ``hf auth login``.
        message: of the commit.

    Returns:
        the commit, by which ``from_pretrained(name, revision=...)`` finds this very model.

    Raises:
        RequestError: no licence, a name that is none, a run of other weights, no right to write, or a model that no file can hold.
        MmcoreError: the Hub cannot be reached.
    """
    if not isinstance(licence, str) or not _LICENCE.fullmatch(licence):
        raise RequestError(
            f"push_to_hub: licence is {licence!r}, expected one as the Hub writes it, such as 'apache-2.0', 'cc-by-nc-4.0' or 'other'; none is assumed"
        )
    if not is_name(name):
        raise RequestError(
            f"push_to_hub: {name!r} is no name on the Hub, expected such as 'user/model'; mmcore.save writes a folder"
        )
    library = hub("push_to_hub")
    with tempfile.TemporaryDirectory(prefix="mmcore-hub-") as place:
        folder = save(model, place)
        picture = cards.finish(
            folder, model, name, licence=licence, run=None if run is None else expanded(run), figures=figures
        )
        paths = [folder / one for one in (CONFIG, WEIGHTS_FILE, CARD)]
        if picture is not None:
            try:
                files.write(folder / PICTURE, picture)
            except OSError as error:
                raise MmcoreError(f"push_to_hub: {folder} cannot be written: {error.strerror or error}") from error
            paths.append(folder / PICTURE)
        operations = [library.CommitOperationAdd(path.name, str(path)) for path in paths]
        api: Any = library.HfApi(token=token, library_name="mmcore")
        with told("push_to_hub", name, revision):
            api.create_repo(name, exist_ok=True, private=private)
            return api.create_commit(name, operations, commit_message=message, revision=revision).oid
