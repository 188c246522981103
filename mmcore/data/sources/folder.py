"""Parallel folders of files that share their stems."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.files import inside, natural, part_and_rest, part_of, shown
from mmcore.data.sources.layout import Layout, asked_parts, find_places, parts_of
from mmcore.data.sources.manifest import TABLES, Manifest
from mmcore.data.sources.pairs import Affixes, check_pairs, check_zeros, join, told_of, unmet
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


def _choose(tables: "Sequence[Manifest]") -> str:
    """How one of several tables is chosen."""
    if len(tables) < 2:
        return ""
    some = f", such as options.tables=[{json.dumps(tables[0].path.name)}]"
    parts = {part_and_rest(table.path.stem)[0] for table in tables}
    joined = "; written as one, with a column split of train and test, both are read, and tell the parts"
    return some + (joined if "train" in parts and "" not in parts else "")


_FORM = "submission"
"""Part of the name of a table whose values only show the form of an answer, as competitions hand them out."""
_Joined = tuple[str, dict[str, dict[str, int]]]


def _tables(path: Path, parts: Sequence[str]) -> list[str]:
    """The tables in a folder, and in the folders of its parts."""
    tops = [at for at in inside(path) if at.is_dir() and part_of(at.name) in parts]
    found = [("", path), *((f"{top.name}/", top) for top in tops)]
    return [
        f"{start}{at.name}"
        for start, top in found
        for at in inside(top)
        if at.is_file() and at.suffix.lower() in TABLES
    ]


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
            ``{part}`` in it stands for the name of the part's folder: ``{image = "_{part}"}`` for ``training/21_training.tif`` and ``test/01_test.tif``.
        prefixes: what goes before it.
        ignore: patterns of files that are left out, such as ``["*_superpixels.png"]``.
        delimiter: between the cells of CSV tables; by default what a table's first line has.
        decimal: what is before a number's fraction in them.
        encoding: of them, such as ``"cp1252"``.
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
        delimiter: str | None = None,
        decimal: str = ".",
        encoding: str = "utf-8",
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
        found = tables is None
        if tables is None:
            tables = _tables(self.path, parts_of(places))
            for form in [table for table in tables if _FORM in table.rpartition("/")[2].casefold()]:
                tables.remove(form)
                self.notes.append(
                    f"{form} is called as a form of answers, which are no truths: left out; options.tables reads it"
                )
        cells: dict[str, Any] = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding}
        self.tables = [Manifest(existing(self.path / table, "folder", "tables"), **cells) for table in tables]
        # Which part a line means can be told only with all parts at hand.
        names = parts_of(places) or ("",)
        files = {name: layout.files(name) for name in (names if tables else asked)}
        joined = [self._join(table, name, files) for table, name in zip(self.tables, tables, strict=True)]
        if found and not unpaired:
            joined = self._without_lists(files, joined)
        if names != ("",) and not unpaired:
            stems = [stem for part in files.values() for some in part.values() for stem in some]
            for table, (key, lines) in zip(self.tables, joined, strict=True):
                met = sum(map(len, lines.values()))
                self.notes += told_of(self.path, table, key, met, stems)
        self._columns = [
            tuple(name for name in table.names if name != key)
            for table, (key, _) in zip(self.tables, joined, strict=True)
        ]
        self._parts = [_Part.of(name, files[name], [lines.get(name, {}) for _, lines in joined]) for name in asked]
        self._starts = [0, *accumulate(len(one.stems) for one in self._parts)]
        if not len(self):
            there = ", ".join(shown(at.name) for at in inside(self.path)[:6]) or "nothing"
            raise RequestError(
                f"folder: found {there} in {shown(str(self.path))}, expected folders of files such as images/, or a table such as labels.csv"
            )
        self.names = tuple(dict.fromkeys([*places, *(name for names in self._columns for name in names)]))
        for one in self._parts:
            told = [columns for columns, lines in zip(self._columns, one.lines, strict=True) if lines]
            count = Counter([*places, *(name for columns in told for name in columns)])
            twice = {name for name, n in count.items() if n > 1}
            if not twice:
                continue
            raise RequestError(
                f"folder: {self.path} has {', '.join(sorted(twice))} twice, expected one place for each variable; "
                f"options.folders and options.tables name those to read{_choose(self.tables)}"
            )
        self.notes += [note for table in self.tables for note in table.notes]
        for one in () if unpaired else self._parts:
            lines = {table.path.name: some for table, some in zip(self.tables, one.lines, strict=True)}
            where = f"{shown(str(self.path))}{f' ({one.name})' if one.name else ''}"
            check_zeros(one.files, lines, where)
            check_pairs({**one.files, **lines}, where, lines)
        for one in self._parts:
            self.notes += [
                note
                for table, some in zip(self.tables, one.lines, strict=True)
                if some and (note := unmet(one.files, some, table.path.name))
            ]

    @classmethod
    def parts(cls, path: str | Path, folders: Any = None, **_: Any) -> tuple[str, ...]:
        """The parts that the folders say, without reading any file."""
        return parts_of(find_places(existing(path, "folder", folder=True), folders))

    def _without_lists(self, files: Mapping[str, Any], joined: "list[_Joined]") -> "list[_Joined]":
        """The tables without those of a few lines that name no file: lists of classes, colours or sources."""
        stems = {stem for part in files.values() for some in part.values() for stem in some}
        kept = []
        for table, one in zip(self.tables, joined, strict=True):
            met = any(stem in stems for lines in one[1].values() for stem in lines)
            if met or 2 * len(table) >= len(stems):
                kept.append((table, one))
            else:
                self.notes.append(
                    f"{table.path.name}: none of its {len(table)} lines names a file, such as {min(stems)!r}, so that it is left out"
                )
        self.tables = [table for table, _ in kept]
        return [one for _, one in kept]

    def _join(self, table: Manifest, name: str, files: dict[str, Any]) -> tuple[str, dict[str, dict[str, int]]]:
        """The lines of a table by part and stem, and the column that names them; a table in a part's folder is of that part."""
        part = part_of(name.partition("/")[0]) if "/" in name else ""
        key, lines = join(table, {part: files[part]} if part in files else files)
        if key != table.names[0]:
            self.notes.append(f"{name}: its column {key} names the files")
        return key, lines

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, index: int) -> tuple[_Part, int]:
        place = bisect_right(self._starts, index) - 1
        return self._parts[place], index - self._starts[place]

    def __getitem__(self, index: int) -> Row:
        part, place = self._at(index)
        stem = part.stems[place]
        row: dict[str, Any] = dict.fromkeys(self.names)
        for name, files in part.files.items():
            if stem in files:
                row[name] = self.path / files[stem]
        for table, lines, names in zip(self.tables, part.lines, self._columns, strict=True):
            if stem in lines:
                line = table[lines[stem]]
                row |= {name: line.get(name) for name in names}
        return row

    def column(self, name: str) -> Sequence[Any]:
        told = {k: self.tables[k].column(name) for k, names in enumerate(self._columns) if name in names}
        if not told:
            return super().column(name)
        return [
            next((values[part.lines[k][stem]] for k, values in told.items() if stem in part.lines[k]), None)
            for part in self._parts
            for stem in part.stems
        ]

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
