"""Parallel folders of files that share their stems."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.files import inside, natural, shown
from mmcore.data.sources.layout import Layout, asked_parts, find_places, parts_of
from mmcore.data.sources.manifest import TABLES, Manifest
from mmcore.data.sources.pairs import Affixes, check_pairs, join
from mmcore.errors import OptionError, RequestError


@attrs.frozen(eq=False)
class _Part:
    """The files of one part, and the lines that name them.

    Attributes:
        name: of the part; empty where the data are one whole.
        files: by variable and stem, relative to the data's folder.
        stems: of its rows, in order.
        lines: of each table, by stem.
    """

    name: str
    files: dict[str, dict[str, str]]
    stems: list[str]
    lines: list[dict[str, int]]

    @classmethod
    def of(cls, name: str, files: dict[str, dict[str, str]], lines: list[dict[str, int]]) -> "_Part":
        stems = {stem for some in (*files.values(), *lines) for stem in some}
        return cls(name, files, sorted(stems, key=natural), lines)

    def key(self, index: int) -> str:
        return f"{self.name}/{self.stems[index]}" if self.name else self.stems[index]


class Folder(Source):
    """A row for every stem: ``images/a.png``, ``masks/a.png``, ``embeddings/a.npy`` and the line of ``labels.csv`` that names ``a``.

    A stem that one of them lacks is a row without that variable. Folders and tables are named in the plural, variables in the singular: ``images``
    holds ``image``. The stem of a file in a folder of a variable's folder has that folder's name before it. A table names the stem (or the file)
    in the column that meets most of them, by default the first; the others are variables of their names. Names are compared in Unicode's
    composed form, and what systems leave (``Thumbs.db``, ``.DS_Store``, ``__MACOSX``) is passed over.

    Folders called ``train/images``, ``images/train`` or ``train_images`` are parts.

    Args:
        path: the folder that holds the others.
        part: ``"train"``, ``"validation"`` or ``"test"``, where folders say which; ``"all"`` for one after the other.
        folders: the folder of each variable, such as ``{image = "photos"}``, or of each of its parts, such as ``{image = {train = "a", test = "b"}}``;
            by default all folders that there are.
        tables: tables with a line for each stem; by default all that there are.
        suffixes: what follows the stem in a variable's files, such as ``{mask = "_mask"}``; a file without it is left out.
        prefixes: what goes before it.
        ignore: patterns of files that are left out, such as ``["*_superpixels.png"]``.
        unpaired: whether stems need not meet, so that rows may have one variable each.

    Attributes:
        notes: what was left out, for a person.

    Raises:
        RequestError: no such folder, no file in any, two files of one stem, or stems that do not meet: of a folder or table fewer than half
            have a partner, and it is the partner of fewer than half.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        part: str = "train",
        folders: "Mapping[str, str | Mapping[str, str]] | None" = None,
        tables: Sequence[str] | None = None,
        suffixes: Mapping[str, str] | None = None,
        prefixes: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
        unpaired: bool = False,
    ) -> None:
        self.path = existing(path, "folder", folder=True)
        self.notes: list[str] = []
        places = find_places(self.path, folders)
        asked = asked_parts(self.path, parts_of(places), part, "folder")
        affixes = {name: Affixes((prefixes or {}).get(name, ""), (suffixes or {}).get(name, "")) for name in places}
        for option, given in (("suffixes", suffixes or {}), ("prefixes", prefixes or {})):
            for name in given.keys() - places.keys():
                expected = f"a variable that has a folder: {', '.join(places) or 'none has'}"
                raise OptionError("folder", f"{option}.{name}", given[name], expected)
        layout = Layout(self.path, places, affixes, tuple(ignore), self.notes)
        if tables is None:
            tables = [at.name for at in inside(self.path) if at.is_file() and at.suffix.lower() in TABLES]
        self.tables = [Manifest(existing(self.path / table, "folder", "tables")) for table in tables]
        # Which part a line means can be told only with all parts at hand.
        names = parts_of(places) or ("",)
        files = {name: layout.files(name) for name in (names if tables else asked)}
        joined = [join(table, files) for table in self.tables]
        self._columns = [
            tuple(name for name in table.names if name != key)
            for table, (key, _) in zip(self.tables, joined, strict=True)
        ]
        self._parts = [_Part.of(name, files[name], [lines[name] for _, lines in joined]) for name in asked]
        self._starts = [0, *accumulate(len(one.stems) for one in self._parts)]
        if not len(self):
            there = ", ".join(shown(at.name) for at in inside(self.path)[:6]) or "nothing"
            raise RequestError(
                f"folder: found {there} in {shown(str(self.path))}, expected folders of files such as images/, or a table such as labels.csv"
            )
        self.names = (*places, *(name for names in self._columns for name in names))
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise RequestError(
                f"folder: {self.path} has {', '.join(sorted(twice))} twice, expected one place for each variable; "
                "options.folders and options.tables name those to read"
            )
        self.notes += [note for table in self.tables for note in table.notes]
        for one in () if unpaired else self._parts:
            lines = {table.path.name: some for table, some in zip(self.tables, one.lines, strict=True)}
            where = f"{shown(str(self.path))}{f' ({one.name})' if one.name else ''}"
            check_pairs({**one.files, **lines}, where, lines)

    @classmethod
    def parts(cls, path: str | Path, folders: Any = None, **_: Any) -> tuple[str, ...]:
        """The parts that the folders say, without reading any file."""
        return parts_of(find_places(existing(path, "folder", folder=True), folders))

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, index: int) -> tuple[_Part, int]:
        place = bisect_right(self._starts, index) - 1
        return self._parts[place], index - self._starts[place]

    def __getitem__(self, index: int) -> Row:
        part, place = self._at(index)
        stem = part.stems[place]
        row: dict[str, Any] = {}
        for name, files in part.files.items():
            row[name] = self.path / files[stem] if stem in files else None
        for table, lines, names in zip(self.tables, part.lines, self._columns, strict=True):
            line = table[lines[stem]] if stem in lines else {}
            row |= {name: line.get(name) for name in names}
        return row

    def column(self, name: str) -> Sequence[Any]:
        for k, (table, names) in enumerate(zip(self.tables, self._columns, strict=True)):
            if name in names:
                values = table.column(name)
                return [
                    values[part.lines[k][stem]] if stem in part.lines[k] else None
                    for part in self._parts
                    for stem in part.stems
                ]
        return super().column(name)

    def has(self, name: str) -> Sequence[bool] | None:
        if name not in self.names:
            return [False] * len(self)
        if name in self._parts[0].files:
            return [stem in part.files[name] for part in self._parts for stem in part.stems]
        return None

    def where(self, index: int) -> str:
        return f"{shown(self.path.name)}/ {shown(self.key(index))}"

    def key(self, index: int) -> str:
        part, place = self._at(index)
        return part.key(place)
