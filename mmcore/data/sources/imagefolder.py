"""A folder of images for each class, or images that a metadata file tells of."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from mmcore.data.options import PARTS
from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.files import files_below, folders_in, inside, is_image, natural, normal, part_of, shown
from mmcore.data.sources.layout import asked_parts
from mmcore.data.sources.manifest import Manifest, written_path
from mmcore.data.sources.pairs import nearest_pair
from mmcore.errors import OptionError, RequestError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE = "file_name"


@attrs.frozen(eq=False)
class _Part:
    """The images of one part.

    Attributes:
        name: of the part; empty where the data are one whole.
        top: its folder.
        files: relative to ``top``, in order.
        table: what is told of them; None for nothing.
        lines: of the table, by file.
    """

    name: str
    top: Path
    files: list[str]
    table: Manifest | None
    lines: dict[str, int]


class ImageFolder(Source):
    """A row of ``image`` and ``label`` for every image: ``cat/7.png`` is of the class ``cat``, as torchvision's ``ImageFolder`` and ImageNet have it.

    The label is the class's name; the classes are in the order of their names, numbers in them by their size. An image in no class's folder has no
    label. Folders called ``train``, ``val`` and ``test``, with the classes in them, are parts.

    Where a ``metadata.csv``, ``.jsonl`` or ``.parquet`` lies beside the images, as in Hugging Face's ``imagefolder``, folders are no classes. Its column
    ``file_name`` names the image, a column ``mask_file_name`` a file that is the variable ``mask``; its other columns are variables of their names.

    Args:
        path: the folder that holds those of the classes, or those of the parts.
        part: ``"train"``, ``"validation"`` or ``"test"``, where folders say which; ``"all"`` for one after the other.
        classes: the folders that are classes, in the classes' order; by default all.
        ignore: patterns of files that are left out, such as ``["*_small.png"]``.
        delimiter: between the cells of CSV metadata; by default what their first line has.
        decimal: what is before a number's fraction in them.
        encoding: of them, such as ``"cp1252"``.

    Attributes:
        classes: the names of the classes in their order, by variable.
        notes: what was left out, for a person.

    Raises:
        RequestError: no such folder, part or class, no image, or metadata that tells of other files.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        part: str = "train",
        classes: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        delimiter: str | None = None,
        decimal: str = ".",
        encoding: str = "utf-8",
    ) -> None:
        self.path = existing(path, "imagefolder", folder=True)
        self.notes: list[str] = []
        tops = part_folders(self.path)
        asked = asked_parts(self.path, tops, part, "imagefolder")
        cells: dict[str, Any] = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding}
        told = {top: table for top in ("", *tops.values()) if (table := _metadata(self.path / top, cells))}
        self.classes: Mapping[str, Sequence[str]] = {}
        if not told:
            self.classes = self._named(class_folders(self.path, tops.values()), classes)
        elif classes is not None:
            beside = ", ".join(str(table.path.relative_to(self.path)) for table in told.values())
            raise OptionError(
                "imagefolder", "classes", list(classes), f"none beside {beside}, whose columns are the variables"
            )
        self._parts = []
        for name in asked:
            top = tops.get(name, "")
            table = told.get(top) or told.get("")
            start = "" if top in told or not top else f"{top}/"
            others = set() if table is None else _others(table)
            files = [
                file for file in self._images(self.path / top, tuple(ignore)) if start + normal(file) not in others
            ]
            lines = {} if table is None else _lines(table, files, start, name)
            self._parts.append(_Part(name, self.path / top, sorted({*files, *lines}, key=natural), table, lines))
        self._starts = [0, *accumulate(len(one.files) for one in self._parts)]
        if not len(self):
            there = ", ".join(shown(at.name) for at in inside(self.path)[:6]) or "nothing"
            raise RequestError(
                f"imagefolder: found {there} in {shown(str(self.path))}, expected a folder of images for each class, or images and a metadata.csv"
            )
        columns = [name.removesuffix(f"_{FILE}") for table in told.values() for name in table.names if name != FILE]
        self.names = tuple(dict.fromkeys(["image", *self.classes, *columns]))
        self.notes += [note for table in told.values() for note in table.notes]

    @classmethod
    def parts(cls, path: str | Path, **_: Any) -> tuple[str, ...]:
        """The parts that the folders say."""
        return tuple(part_folders(existing(path, "imagefolder", folder=True)))

    def _named(self, found: Sequence[str], classes: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
        """The classes; none where one folder holds all, which says nothing of them."""
        chosen = list(found) if classes is None else [normal(str(name)) for name in classes]
        for name in chosen:
            if name not in found:
                expected = f"folders among {', '.join(map(shown, found)) or 'none'}, not {name!r}"
                raise OptionError("imagefolder", "classes", list(classes or ()), expected)
        left = [name for name in found if name not in chosen]
        if left:
            self.notes.append(f"folders that are not among the classes are left out: {', '.join(map(shown, left[:5]))}")
        self._left = frozenset(left)
        return {"label": tuple(chosen)} if len(chosen) > 1 else {}

    def _images(self, top: Path, ignore: Sequence[str]) -> list[str]:
        left = getattr(self, "_left", frozenset())
        files, others = [], []
        lost: list[str] = []
        for file in files_below(top, lost):
            folder, slash, name = file.partition("/")
            if (slash and normal(folder) in left) or any(fnmatch(file, m) or fnmatch(name or file, m) for m in ignore):
                continue
            (files if is_image(file) else others).append(file)
        others = [file for file in others if file not in METADATA]
        if lost:
            self.notes.append(
                f"{shown(top.name)}: {len(lost)} links lead nowhere and are left out, such as {shown(lost[0])}"
            )
        if others:
            self.notes.append(
                f"{shown(top.name)}: {len(others)} files that are no images are left out, such as {shown(others[0])}"
            )
        return files

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, index: int) -> tuple[_Part, str]:
        place = bisect_right(self._starts, index) - 1
        part = self._parts[place]
        return part, part.files[index - self._starts[place]]

    def __getitem__(self, index: int) -> Row:
        part, file = self._at(index)
        row: dict[str, Any] = dict.fromkeys(self.names)
        if part.table is not None and file in part.lines:
            for name, value in part.table[part.lines[file]].items():
                if name.endswith(f"_{FILE}"):
                    row[name.removesuffix(f"_{FILE}")] = value and written_path(part.table.root, str(value))
                elif name != FILE:
                    row[name] = value
        row["image"] = part.top / file
        if self.classes:
            row["label"] = self._label(file)
        return row

    def _label(self, file: str) -> str | None:
        folder, slash, _ = file.partition("/")
        return normal(folder) if slash and normal(folder) in self.classes["label"] else None

    def column(self, name: str) -> Sequence[Any]:
        if name == "label" and self.classes:
            known = set(self.classes["label"])
            folders = (
                normal(file.partition("/")[0]) if "/" in file else "" for part in self._parts for file in part.files
            )
            return [folder if folder in known else None for folder in folders]
        return super().column(name)

    def where(self, index: int) -> str:
        return f"{shown(self.path.name)}/ {shown(self.key(index))}"

    def key(self, index: int) -> str:
        part, file = self._at(index)
        return normal(f"{part.name}/{file}" if part.name else file)


def part_folders(path: Path) -> dict[str, str]:
    """The folders of the parts, if all folders are parts and one is of training.

    Raises:
        RequestError: two are one part alike.
    """
    found = folders_in(path)
    parts: dict[str, str] = {}
    if not all(part_of(at.name) for at in found):
        return {}
    for at in found:
        part = part_of(at.name)
        if part in parts:
            raise RequestError(
                f"imagefolder: found {parts[part]} and {at.name} in {path}, expected one folder of the part {part}"
            )
        parts[part] = at.name
    return {part: parts[part] for part in PARTS if part in parts} if "train" in parts else {}


def class_folders(path: Path, tops: "Sequence[str] | Any") -> list[str]:
    """The names of the folders in a folder, or in those of its parts, that hold images; numbers in them by their size."""
    found = {
        normal(at.name)
        for top in (tuple(tops) or ("",))
        for at in folders_in(path / top)
        if any(map(is_image, files_below(at)))
    }
    return sorted(found, key=natural)


def _metadata(folder: Path, cells: Mapping[str, Any]) -> Manifest | None:
    """The table that tells of a folder's images.

    Raises:
        RequestError: it does not name them, or is damaged.
    """
    at = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if at is None:
        return None
    table = Manifest(at, paths=(), **cells)
    if FILE not in table.names:
        raise RequestError(
            f"imagefolder: found the columns {', '.join(table.names)} in {at}, expected {FILE}, which names the image; the source table reads others"
        )
    return table


def _others(table: Manifest) -> set[str]:
    """The files that are other variables than the image."""
    cells = (cell for name in table.names if name.endswith(f"_{FILE}") for cell in table.lines.texts_of(name))
    return {_written(cell) for cell in cells if cell is not None}


def _written(cell: str) -> str:
    return normal(cell.replace("\\", "/").removeprefix("./"))


def _lines(table: Manifest, files: Sequence[str], top: str, part: str) -> dict[str, int]:
    """A table's lines by image; a line whose image is not there is one of an image that is missing.

    Raises:
        RequestError: fewer than half name an image that is there, or one is named twice.
    """
    there = {normal(file): file for file in files}
    lines: dict[str, int] = {}
    for index, cell in enumerate(table.lines.texts_of(FILE)):
        if cell is None:
            raise RequestError(f"{table.where(index)}: found no {FILE}, expected the image that it is of")
        name = _written(cell)
        if not name.startswith(top):
            continue  # of another part
        file = there.get(name[len(top) :], name[len(top) :])
        if file in lines:
            raise RequestError(f"{table.where(index)}: found {cell!r} again, expected one line for each image")
        lines[file] = index
    met = sum(file in lines for file in files)
    if 2 * met < min(len(lines), len(files)):
        one, two = nearest_pair(list(there), list(lines))
        where = f"{table.path}{f' ({part})' if part else ''}"
        raise RequestError(
            f"imagefolder: found {met} of {len(lines)} names of {where} among the {len(files)} images (the images have {one!r}, {FILE} has {two!r}), "
            "expected names that meet; write paths relative to the table"
        )
    return lines
