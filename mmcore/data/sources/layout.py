"""Where the files of each variable and part lie in a folder. Imports no torch."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

import attrs

from mmcore.data.options import PARTS
from mmcore.data.source import existing
from mmcore.data.sources.files import (
    data_files,
    files_below,
    folders_in,
    inside,
    is_image,
    normal,
    part_and_rest,
    part_of,
    shown,
    singular,
    suffix_of,
)
from mmcore.data.sources.manifest import TABLES
from mmcore.data.sources.pairs import Affixes, word_of
from mmcore.errors import OptionError, RequestError

Places = dict[str, dict[str, str]]
"""The folder of each variable, by part and relative to the data's; the part ``""`` stands for all parts."""


def find_places(path: Path, folders: "Mapping[str, str | Mapping[str, str]] | None" = None) -> Places:
    """The folders of the variables, as they are named or as they are found.

    ``images/``; or of parts ``train/images/``, ``images/train/`` or ``train_images/``.

    Args:
        path: of the data.
        folders: by variable, relative to ``path``; or by variable and part.

    Raises:
        OptionError: one is not there.
        RequestError: two folders are called after one variable.
    """
    places: Places = {}

    def add(name: str, part: str, folder: str) -> None:
        here = places.setdefault(name, {})
        if part in here:
            raise RequestError(
                f"folder: {path} has {name} twice ({here[part]} and {folder}), expected one place for each variable"
            )
        here[part] = folder

    tops = [at for at in inside(path) if at.is_dir() and part_of(at.name)]
    if folders is not None:
        for name, asked in folders.items():
            if isinstance(asked, Mapping):
                for part, folder in asked.items():
                    option = f"folders.{name}.{part}"
                    if part not in PARTS[:3]:
                        raise OptionError("folder", option, folder, f"parts among {', '.join(PARTS[:3])}")
                    existing(path / folder, "folder", option, folder=True)
                    add(name, part, folder)
            elif not (path / asked).is_dir() and (here := [top for top in tops if (top / asked).is_dir()]):
                for top in here:
                    add(name, part_of(top.name), f"{top.name}/{asked}")
            else:
                at = existing(path / asked, "folder", f"folders.{name}", folder=True)
                for part, folder in _parts_in(at, asked):
                    add(name, part, folder)
        return places
    found = folders_in(path)
    words = {at.name: part_and_rest(at.name) for at in found}
    parted = "train" in {part for part, _ in words.values()}
    for at in found:
        part, rest = words[at.name] if parted else ("", at.name)
        below = folders_in(at) if part and not rest else []
        for one in below:
            add(singular(one.name), part, f"{at.name}/{one.name}")
        if part and not below:
            add(singular(rest) or ("image" if any(map(is_image, files_below(at))) else "file"), part, at.name)
        for within, folder in () if part else _parts_in(at, at.name):
            add(singular(at.name), within, folder)
    return places


def _parts_in(at: Path, folder: str) -> list[tuple[str, str]]:
    """The parts of one variable's folder, or the folder itself where it has none."""
    below = inside(at)
    # Of the many files of a folder the first tells that it has no parts.
    parts = [(part_of(one.name), one.name) for one in below] if all(part_of(one.name) for one in below[:1]) else []
    if all(part for part, _ in parts) and "train" in dict(parts) and all(one.is_dir() for one in below):
        return [(part, f"{folder}/{name}" if folder != "." else name) for part, name in parts]
    return [("", folder)]


def parts_of(places: Places) -> tuple[str, ...]:
    """The parts that the folders have, in their order; none where they are one whole."""
    found = {part for here in places.values() for part in here}
    return tuple(part for part in PARTS if part in found)


def asked_parts(
    path: Path, known: Iterable[str], part: str, source: str, such: str = "folders such as train/ and validation/"
) -> tuple[str, ...]:
    """The parts to read for one that is asked for; ``("",)`` where the data are one whole.

    Raises:
        OptionError: there is no such part.
    """
    known = tuple(known)
    if part not in PARTS:
        raise OptionError(source, "part", part, choices=PARTS)
    if not known:
        if part in ("train", "all"):
            return ("",)
        expected = f"train or all, as {path} has no parts of its own: {such}"
        raise OptionError(source, "part", part, expected, mend=f"split.{part} holds rows out")
    if part == "all":
        return known
    if part not in known:
        expected = f"one of the parts in {path}: {', '.join(known)}"
        raise OptionError(source, "part", part, expected, mend=f"split.{part} holds rows of train out")
    return (part,)


@attrs.frozen
class Layout:
    """The files of a folder's variables.

    Attributes:
        path: of the folder.
        places: of the variables.
        affixes: what their files' names have around the stem.
        ignore: patterns of files that are left out.
        notes: it tells there what it left out.
    """

    path: Path
    places: Places
    affixes: Mapping[str, Affixes]
    ignore: tuple[str, ...]
    notes: list[str]

    def files(self, part: str) -> dict[str, dict[str, str]]:
        """The files of one part by variable and stem, relative to the folder; of those that belong to all parts the ones that meet its own."""
        own = {name: self._stems(name, here[part]) for name, here in self.places.items() if part in here}
        shared = {name: self._stems(name, here[""]) for name, here in self.places.items() if part and "" in here}
        met = {stem for some in own.values() for stem in some}
        shared = {name: {stem: at for stem, at in some.items() if stem in met} for name, some in shared.items()}
        return {name: {**own, **shared}.get(name, {}) for name in self.places}

    def _stems(self, name: str, folder: str) -> dict[str, str]:
        word = word_of(folder)
        mine, others = self.affixes[name].of(word), [one.of(word) for one in self._others(name, folder)]
        sharing = [
            self.affixes[other].of(word)
            for other, here in self.places.items()
            if other != name and folder in here.values()
        ]
        stems: dict[str, str] = {}
        without: list[str] = []
        listed = self._listed(folder)
        for file in listed:
            whole = normal(stem_of(file))
            stem = mine.strip(whole)
            if stem is None or any(other.strip(whole) is not None for other in others):
                if not any(one.strip(whole) is not None for one in sharing):
                    without.append(file)
                continue
            if stem in stems:
                ends = [one.rpartition(".")[2] for one in listed]
                end = min((stems[stem].rpartition(".")[2], file.rpartition(".")[2]), key=ends.count)
                raise RequestError(
                    f"folder: found {shown(stems[stem])} and {shown(f'{folder}/{file}')}, expected one file of a stem; "
                    f"move those of one kind into a folder of their own, or options.suffixes or options.ignore say which is meant, such as "
                    f'options.ignore=["*.{end}"]'
                )
            stems[stem] = f"{folder}/{file}"
        if without:
            self._left(folder, without, f"that are not named as {name} is")
        return stems

    def _others(self, name: str, folder: str) -> list[Affixes]:
        """What marks the files of other variables in the same folder, where nothing marks this one's."""
        if self.affixes[name] != Affixes():
            return []
        same = (other for other, here in self.places.items() if other != name and folder in here.values())
        return [self.affixes[other] for other in same if self.affixes[other] != Affixes()]

    def _listed(self, folder: str) -> list[str]:
        """The files of a folder, or where it has none of the folders in it; without what is no data."""
        lost: list[str] = []
        files = [
            file
            for file in files_below(self.path / folder, lost)
            if not any(fnmatch(file, mask) or fnmatch(file.rpartition("/")[2], mask) for mask in self.ignore)
        ]
        if lost:
            self.notes.append(
                f"{shown(folder)}: {len(lost)} links lead nowhere and are left out, such as {shown(lost[0])}"
            )
        taken, left = data_files(files)
        flat = [file for file in taken if "/" not in file]
        if flat and len(flat) < len(taken):
            self._left(folder, [file for file in taken if "/" in file], "in folders beside files")
            left = [file for file in left if "/" not in file]
        if left:
            texts = sum(suffix_of(file) == ".txt" for file in left)
            mend = (
                "; texts of pictures are read in a folder of their own, such as captions/"
                if 2 * texts > len(taken)
                else ""
            )
            self._left(folder, left, "that are no pictures or arrays", mend)
        return flat or taken

    def _left(self, folder: str, files: list[str], why: str, mend: str = "") -> None:
        files = [
            file
            for file in files
            if not ((part_of(folder) or folder == ".") and "/" not in file and suffix_of(file) in TABLES)
        ]  # of a part, or of the whole, which are read
        note = (
            f"{shown(folder)}: {len(files)} files {why} are left out, such as {shown(files[0])}{mend}" if files else ""
        )
        if note and note not in self.notes:
            self.notes.append(note)


def stem_of(file: str) -> str:
    """A file's path without its suffix."""
    folder, slash, name = file.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
