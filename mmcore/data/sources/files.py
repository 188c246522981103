"""Files as people and systems leave them: which are data, which stem they share, which part a folder is. Imports no torch."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmcore.data.decode import IMAGES, VALUES
from mmcore.errors import RequestError

_STRAY = frozenset(
    ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "$recycle.bin", "@eadir", "lost+found")
)
_PARTS = {
    **dict.fromkeys(("train", "training", "trainval", "train_val"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_CACHED = re.compile(r"[0-9a-f]{16}\.(keys|vectors)\.npy")
"""Files of :class:`mmcore.data.embed.Cache`, which may lie in the folder of the data."""
_KNOWN = (*VALUES, ".npz", ".safetensors")


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden, ``Thumbs.db``, ``__MACOSX`` and their like, or of a cache of embeddings."""
    return name.startswith(".") or name.casefold() in _STRAY or _CACHED.fullmatch(name) is not None


def part_of(name: str) -> str:
    """The part that a folder's name says: ``"train"`` of ``training`` and ``train2017``, ``"validation"`` of ``val``; else ``""``."""
    return _PARTS.get(name.casefold().rstrip("0123456789"), "")


def part_and_rest(name: str) -> tuple[str, str]:
    """A name such as ``train_masks``, ``masks-val`` or ``testA`` cut into part and rest; no part where the name says none, or several."""
    if part_of(name):
        return part_of(name), ""
    words = re.finditer(r"[A-Z]?[^A-Z_\-. ]+|[A-Z]+", name)
    parts = [word for word in words if part_of(word[0])]
    if len(parts) != 1:
        return "", name
    (word,) = parts
    before, after = name[: word.start()].rstrip("_-. "), name[word.end() :].lstrip("_-. ")
    return part_of(word[0]), "_".join(filter(None, (before, after)))


def normal(text: str) -> str:
    """A name in Unicode's composed form (NFC): what macOS keeps decomposed is the same name."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def shown(name: str) -> str:
    """A name as it can be printed, whatever bytes it has on the disk."""
    return name.encode("utf-8", "backslashreplace").decode()


def without_suffix(name: str) -> str:
    """A file's name without the suffix of a kind that is known: ``a.b`` of ``a.b.png``, and ``a.b`` of ``a.b``."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in _KNOWN else name


def singular(name: str) -> str:
    """``image`` of ``images``."""
    return name[:-1] if name.endswith("s") and not name.endswith("ss") and len(name) > 1 else name


def natural(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their size: ``a2`` before ``a10``."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name)]


def inside(folder: Path) -> list[Path]:
    """What lies in a folder and is the user's, by name.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not is_stray(name)]
    except OSError as error:
        raise RequestError(f"folder: found {shown(str(folder))} unreadable ({error.strerror or error})") from error


def folders_in(folder: Path) -> list[Path]:
    """The user's folders in a folder that hold anything of the user's."""
    return [at for at in inside(folder) if at.is_dir() and any(True for _ in files_below(at))]


def files_below(folder: Path, lost: list[str] | None = None) -> Iterator[str]:
    """The user's files in a folder and the folders in it, as paths relative to it with ``/``; links are followed, once.

    Args:
        folder: to look in.
        lost: takes the links that lead nowhere.

    Raises:
        RequestError: a folder cannot be read.
    """
    seen = set[str]()
    waiting = [""]
    while waiting:
        here = waiting.pop()
        at = folder / here
        real = os.path.realpath(at)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(at) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise RequestError(f"folder: found {shown(str(at))} unreadable ({error.strerror or error})") from error
        below = []
        for entry in names:
            if is_stray(entry.name):
                continue
            relative = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir():
                below.append(relative)
            elif entry.is_file():  # no pipe, which would wait for ever
                yield relative
            elif lost is not None and entry.is_symlink():
                lost.append(relative)
        waiting += reversed(below)


def suffix_of(name: str) -> str:
    """A file's suffix in small letters; of a path too."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and not stem.endswith("/") and "/" not in suffix else ""


def is_image(name: str) -> bool:
    """Whether a file is an image by its suffix."""
    return suffix_of(name) in IMAGES


def data_files(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Files of one variable, and those beside them that are of no kind known: where most are images or arrays, others are left out."""
    names = list(names)
    known = {name for name in names if suffix_of(name) in VALUES}
    pictures = {name for name in known if is_image(name) or suffix_of(name) == ".npy"}
    # A text or JSON file beside the picture of its own name tells of it, and is no second one.
    stems = {without_suffix(name) for name in pictures}
    left = {name for name in known - pictures if without_suffix(name) in stems}
    left |= {name for name in set(names) - known if name.rpartition(".")[0] in stems}
    if 2 * len(pictures) > len(names) - len(left):
        left |= set(names) - pictures
    return [name for name in names if name not in left], sorted(left)
