"""An answer of a model as files: whole, or seen not to be."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from mmcore import files
from mmcore.errors import RequestError
from mmcore.model.joint import JointModel
from mmcore.runs import pictures
from mmcore.store.folder import alone
from mmcore.store.reading import DamagedError, shapes

ANSWERED = "samples.json"
"""What is written last of an answer."""
HEARD = 64
"""The most samples of which sounds are written."""
_ANSWER = ("samples.safetensors", ANSWERED, "samples.png", "grid-*.png", "sound-*-[0-9]*.*")
_OURS = re.compile(r"(\.aside-(\d-)?)?(samples\.(safetensors|json|png)|grid-.+\.png|sound-.+-\d+\.\w+)|\.lock")


def write_samples(
    folder: Path, model: JointModel, answer: Mapping[str, Tensor], question: Mapping[str, Any]
) -> list[Path]:
    """Write an answer: a sheet and a grid for each modality as PNG, sounds as files, the tensors, and what was asked and answered in words.

    Args:
        folder: where to; made if need be.
        model: that answered.
        answer: ``(n, *spec.shape)`` by name.
        question: what was asked, as plain values.

    Returns:
        the files.
    """
    written = {"samples.safetensors": to_bytes({name: x.contiguous() for name, x in answer.items()})}
    written["samples.png"] = pictures.png(pictures.sheet(model.variables, answer))
    words = {}
    for m in model.variables:
        if m.name not in answer:
            continue
        grid = pictures.grid(m, answer[m.name])
        if grid is not None:
            written[f"grid-{m.name}.png"] = pictures.png(grid)
        else:
            words[m.name] = [m.show(x) for x in answer[m.name]]
        for number, x in enumerate(answer[m.name][:HEARD]):
            if (sound := m.heard(x)) is not None:
                written[f"sound-{m.name}-{number:03}{sound.suffix}"] = sound.data
    written["samples.json"] = (json.dumps({**question, "answers": words}, indent=2) + "\n").encode()
    # What says that an answer is whole goes first and comes last.
    (folder / ANSWERED).unlink(missing_ok=True)
    # Of the answer that was here before and had other modalities.
    before = _answered(folder)
    sounds = {path.name for name in before for path in folder.glob(f"sound-{escape(name)}-*.*")}
    for old in ({f"grid-{name}.png" for name in before} | sounds) - written.keys():
        (folder / old).unlink(missing_ok=True)
    for name, data in written.items():
        files.write(folder / name, data)
    return [folder / name for name in written]


def check_answers(folder: Path, *, force: bool) -> None:
    """Refuse a folder in which something would be lost.

    Args:
        folder: where an answer is to be written.
        force: another answer may be.

    Raises:
        RequestError: naming what is there.
    """
    found = [path for name in _ANSWER for path in sorted(folder.glob(name))]
    if found and not (folder / "samples.safetensors").exists():
        raise RequestError(f"--out {folder} has {found[0].name}, and no samples that it is of; name another folder")
    if found and not force:
        cut = "" if (folder / ANSWERED).exists() else ", whose writing was cut off"
        raise RequestError(
            f"--out {folder} holds samples already{cut}; name another folder, or overwrite them by --force"
        )


def _answered(folder: Path) -> list[str]:
    """What the answer is of that lies in a folder; nothing where there is none, or none that can be read."""
    try:
        # A name that leads elsewhere is of no file that was written here.
        return [name for name in shapes(folder / "samples.safetensors") if Path(name).name == name]
    except DamagedError:
        return []


@contextmanager
def own_folder(samples: Path) -> Iterator[Path]:
    """A folder of its own for an answer, ``asked-1``, ``asked-2`` …, also beside a call that makes one at the same time.

    One whose writing was cut off is used again.

    Args:
        samples: of a run, in which it is.

    Raises:
        RequestError: that is a link.
        OSError: it cannot be made.
    """
    if samples.is_symlink():
        raise RequestError(f"{samples} is a link, and nothing is written outside of the run; name a folder by --out")
    for number in count(1):
        asked = samples / f"asked-{number}"
        if asked.is_symlink() or (asked.exists() and not asked.is_dir()):
            continue
        asked.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                if not _taken(asked):
                    stack.enter_context(alone(asked, "sample", "samples"))
            except RequestError:  # another call writes it
                continue
            # Asked again, as that call may have ended between.
            if _taken(asked):
                continue
            stack.callback((asked / ".lock").unlink, missing_ok=True)
            for path in asked.iterdir():
                if path.name != ".lock":
                    path.unlink()
            yield asked
            return


def _taken(asked: Path) -> bool:
    return (asked / ANSWERED).exists() or not all(_OURS.fullmatch(path.name) for path in asked.iterdir())
