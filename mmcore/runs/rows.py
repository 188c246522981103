"""Rows that a trained model is asked about: where they are, and which of their columns are its variables."""

import glob
import itertools
import re
import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.config.check import Constructor
from mmcore.data import Source
from mmcore.data.decode import IMAGES, VALUES, decode
from mmcore.data.opening import open_source
from mmcore.data.options import PARTS, ColumnOptions, DataOptions
from mmcore.data.source import LazyRow, Row, classes_of
from mmcore.data.sources.files import shown, singular, suffix_of, without_suffix
from mmcore.data.sources.manifest import CELLS
from mmcore.data.sources.survey import survey
from mmcore.errors import MmcoreError, OptionError, RequestError, nearest, plainly
from mmcore.files import expanded
from mmcore.modality.base import ModalityProtocol
from mmcore.plugins import Registry
from mmcore.plugins.metadata import one_line
from mmcore.runs.given import matching

Columns = Mapping[str, str | ColumnOptions]


@attrs.frozen(eq=False)
class Opened:
    """Rows to be asked about.

    Attributes:
        source: of the rows, under the variables' names.
        said: how they were read, a line each.
        columns: where the variables' values are; none of the run's own rows, of which the run says it.
    """

    source: Source
    said: Sequence[str]
    columns: Mapping[str, ColumnOptions] = attrs.field(factory=dict)


_FEW = 8
"""Rows by which a column of pictures is known, and names that are told."""
_LOOKED = 64
"""Rows by which a column of numbers is known."""


def rows_at(
    registry: Registry, options: DataOptions | None, data: str | Path, variables: Sequence[ModalityProtocol]
) -> tuple[Source, list[str]]:
    """What lies at a path: as the run's own data are read, or else as ``mmcore init`` would; and how it was read, a line each.

    Args:
        registry: where sources are found.
        options: of the run's data.
        data: a path, or a pattern of files.
        variables: of the model.

    Raises:
        RequestError: nothing there, or nothing that a source reads.
    """
    if not str(data):
        raise RequestError("data: found an empty path, expected data")
    at, text = expanded(data), one_line(shown(str(data)))
    if glob.has_magic(str(data)) and not at.exists():
        files = [one for one in matching(data) if suffix_of(one.name) in VALUES]
        if not files:
            raise RequestError(f"{text}: no file that can be read meets this pattern")
        return _Files(files), [f"{text}: {len(files):,} files"]
    if not at.exists():
        parts = ", ".join(PARTS)
        raise RequestError(f"{text}: there is nothing here, expected data, or one of {parts} for the run's own rows")
    if at.is_file() and suffix_of(at.name) in VALUES:
        return _Files([at]), [f"{text}: one file"]
    if options is not None and "path" in options.options:
        here = _carried(registry, options, at)
        try:
            same = open_source(registry, DataOptions(options.source, here), "all")
        except RequestError:
            pass  # of another form than the run's data
        else:
            if (other := _nearer(registry, same, variables, at, options)) is not None:
                return other
            plain = Constructor.of(registry.factory(registry.find("source", options.source))[0]).defaults
            told = {
                name: value for name, value in here.items() if name != "path" and value not in ([], {}, plain.get(name))
            }
            more = ", ".join(f"{name} = {value!r}" for name, value in told.items())
            how = f"with {one_line(more)}, " if more else ""
            notes = [f"note: {one_line(note)}" for note in same.notes]
            return same, [f"{text}: read by the source {options.source}, {how}as the run's own data", *notes]
    return _surveyed(registry, at, options)


def _surveyed(registry: Registry, at: Path, options: DataOptions | None) -> tuple[Source, list[str]]:
    """As ``mmcore init`` would read it, and tables as the run's own."""
    text = one_line(shown(str(at)))
    cells = {} if options is None else {name: value for name, value in options.options.items() if name in CELLS}
    try:
        found = survey(at, cells=cells)
    except RequestError as error:
        raise RequestError(str(error).removeprefix("init: ")) from error
    if found.question:
        raise RequestError(f"{text}: {one_line(found.question.partition(';')[0])}; expected data like those of the run")
    read = {**found.options, **(cells if found.source in ("table", "folder", "imagefolder") else {})}
    source = open_source(registry, DataOptions(found.source, read), "all")
    return source, [one_line(f"{text}: read by the source {'; '.join([found.source, *found.evidence])}")]


def _nearer(
    registry: Registry, same: Source, variables: Sequence[ModalityProtocol], at: Path, options: DataOptions
) -> tuple[Source, list[str]] | None:
    """The same data as ``mmcore init`` would read them, where the run's own way misses their pictures and that one finds them."""
    if not at.is_dir() or any(_is_picture(m) and m.name in _names(same) for m in variables):
        return None
    try:
        other, said = _surveyed(registry, at, options)
    except MmcoreError:
        return None
    own, theirs = (sum(_holds_pictures(one, name) for name in _names(one)) for one in (same, other))
    return (other, said) if theirs and len(other) >= len(same) and theirs >= own else None


def _carried(registry: Registry, options: DataOptions, at: Path) -> dict[str, Any]:
    """The run's options of its source, for data at another path: those that are paths are of the run's own data."""
    factory, _ = registry.factory(registry.find("source", options.source))
    known = Constructor.of(factory).options
    own = {name: value for name, value in options.options.items() if "Path" not in str(known.get(name))}
    same = expanded(str(options.options["path"])).resolve() == at.resolve()
    return {**(options.options if same else own), "path": str(at)}


def named(
    variables: Sequence[ModalityProtocol], own: Mapping[str, ColumnOptions], source: Source, columns: Columns
) -> tuple[dict[str, ColumnOptions], list[str]]:
    """Where each variable's values are, and what is to be said of it, a line each.

    Args:
        variables: of the model.
        own: where they are in the run's data.
        source: of the rows.
        columns: where they are in these, as far as somebody says it.

    Raises:
        RequestError: no such variable or column; no column that is a variable; pictures that are left over.
    """
    names, known = [m.name for m in variables], _names(source)
    found: dict[str, ColumnOptions] = {}
    for name, column in columns.items():
        if name not in names or not isinstance(column, str | ColumnOptions):
            raise RequestError(f"column {name}={column}: expected one of {', '.join(names)}{nearest(name, names)}")
        default = own.get(name, ColumnOptions(name))
        found[name] = attrs.evolve(default, column=column) if isinstance(column, str) else column
        if found[name].column not in known:
            raise OptionError("data", f"columns.{name}", found[name].column, choices=tuple(known))
    for name in names:
        column = next((one for one in (own[name].column if name in own else name, name) if one in known), None)
        if name not in found and column is not None:
            found[name] = attrs.evolve(own.get(name, ColumnOptions(name)), column=column)
    said = []
    for name, column in found.items():
        if column.present is not None and column.present not in known:
            said.append(
                f"{name}: no column {column.present} says which rows have it, as in the run's data; all that are there count"
            )
            found[name] = attrs.evolve(column, present=None)
    used = {one for column in found.values() for one in (column.column, column.present)}
    left = [one for one in known if one not in used]
    lacking = [m.name for m in variables if m.name not in found and _is_picture(m)]
    lost = [name for name in names if name not in found]
    pictures = [one for one in left if _holds_pictures(source, one)] if lacking else []
    if len(lacking) == len(pictures) == 1:
        what = "the pictures are" if isinstance(source, _Files) else f"the column {one_line(pictures[0])} is"
        said.append(
            f"{what} taken as {lacking[0]}" + ("" if isinstance(source, _Files) else ", as no column is called so")
        )
        found[lacking[0]] = attrs.evolve(
            own.get(lacking[0], ColumnOptions(lacking[0])), column=pictures[0], present=None
        )
        left.remove(pictures[0])
    elif not found or pictures:
        what = "the pictures of" if pictures else "the columns"
        some = _some(pictures or known)
        mend = _options(_alike(left, lost)) or f"--column {(lacking or names)[0]}=…"
        raise RequestError(
            f"data: found {what} {some}, expected some of {', '.join(names)}; {mend} says which is which, "
            "and a pattern such as 'new/**/*.png' reads files of several folders"
        )
    if left:
        mend = _options(_alike(left, lost))
        said.append(f"not used, as no variable is called so: {_some(left)}{f'; {mend} reads it' if mend else ''}")
    return found, said


def _plain(name: str) -> str:
    """A name in small letters alone, in the singular."""
    return singular(re.sub(r"[\W_]", "", name.casefold()))


def _alike(columns: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """By variable a column that is called nearly as it is: in other letters, or with a word more after it."""
    found = {}
    for name in names:
        mine = _plain(name)
        column = next((one for one in columns if mine in (_plain(one), _plain(re.split(r"[\W_]", one)[0]))), "")
        if column and mine:
            found[name] = column
    return found


def warn_of_others(
    source: Source, found: Mapping[str, ColumnOptions], variables: Sequence[ModalityProtocol], told: Collection[str]
) -> None:
    """Warn, of rows at hand, of a column that nothing reads and that is called as a variable is but for case, signs and the plural; no command says it of them.

    Args:
        source: of the rows.
        found: where variables' values are.
        variables: of the model.
        told: columns that are read in another way.
    """
    left = [one for one in _names(source) if one not in {*told, *(column.column for column in found.values())}]
    near = _alike(left, [m.name for m in variables if m.name not in found])
    for name, one in [pair for pair in near.items() if _plain(pair[0]) == _plain(pair[1])][:_FEW]:
        text = f"rows have {one!r}, which nothing reads; if it is {name}, say columns={{{name!r}: {one!r}}}"
        warnings.warn(f"data: {plainly(text, 400)}", stacklevel=4)


def _options(columns: Mapping[str, str]) -> str:
    """The options of a command by which these are read."""
    said = [f"--column {shlex.quote(one_line(shown(f'{name}={column}')))}" for name, column in columns.items()]
    return " ".join(said[:_FEW])


def by_place(source: Source, variables: Sequence[ModalityProtocol]) -> list[str]:
    """What is to be said of numbers of classes that have names: which is which nothing tells but their order.

    Args:
        source: of the rows, under the variables' names.
        variables: of the model.
    """
    said = []
    for m in variables:
        names = tuple(getattr(m, "names", None) or ())
        if not names or m.spec.shape or (source.names is not None and m.name not in source.names):
            continue
        for index in range(min(len(source), _LOOKED)):
            try:
                raw = source[index].get(m.name)
            except MmcoreError:  # told when the row is read
                continue
            if isinstance(raw, int | np.integer) and not isinstance(raw, bool) and str(raw) not in names:
                some = ", ".join(f"{place} is {name}" for place, name in enumerate(names[:3]))
                more = " …" if len(names) > 3 else ""
                said.append(
                    f"note: {m.name}: numbers are taken for the classes in their order, {some}{more}; write the names if they count otherwise"
                )
                break
    return said


def _some(names: Sequence[str]) -> str:
    return one_line(shown(", ".join(names[:_FEW]) + (" …" if len(names) > _FEW else ""))) or "nothing"


def _is_picture(m: ModalityProtocol) -> bool:
    return len(m.spec.shape) == 3 and m.spec.dtype.is_floating_point


def _holds_pictures(source: Source, column: str) -> bool:
    for index in range(min(len(source), _FEW)):
        try:
            raw = source[index].get(column)
            if isinstance(raw, Path):
                return suffix_of(raw.name) in IMAGES
            raw = decode(raw)
        except MmcoreError:  # told when the row is read
            continue
        if raw is not None:
            return hasattr(raw, "mode") or np.ndim(raw) in (2, 3)
    return False


def _names(source: Source) -> list[str]:
    """A source's columns, of the first rows where it does not say them."""
    if source.names is not None:
        return [str(name) for name in source.names]
    return list(dict.fromkeys(str(name) for index in range(min(len(source), 64)) for name in source[index]))


class Worded(Source):
    """A source whose numbers of classes are read as the names that it gives them, for a model that has its own order of names.

    Args:
        source: of the rows, under the variables' names.
        variables: of the model.
    """

    def __init__(self, source: Source, variables: Sequence[ModalityProtocol]) -> None:
        self.source, self.names, self.notes = source, source.names, source.notes
        theirs = {m.name: tuple(classes_of(source).get(m.name) or ()) for m in variables}
        mine = {m.name: tuple(getattr(m, "names", None) or ()) for m in variables}
        self._keys = _by_picture(source, [m.name for m in variables if _is_picture(m)])
        self.words = {name: words for name, words in theirs.items() if words and mine[name] and words != mine[name]}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Row:
        row = self.source[index]
        return LazyRow(list(row), lambda name: self._word(name, row[name]))

    def _word(self, name: str, value: Any) -> Any:
        words = self.words.get(name)
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return words[int(value)] if words and whole and 0 <= value < len(words) else value

    def where(self, index: int) -> str:
        return self.source.where(index)

    def key(self, index: int) -> str:
        return self.source.key(index) if self._keys is None else self._keys[index]


def _by_picture(source: Source, names: Sequence[str]) -> list[str] | None:
    """Rows that are only numbered, called by the stems of their pictures, if these tell them apart."""
    count = len(source)
    for name in names:
        if not count or source.key(count - 1) != str(count - 1):
            return None
        files = source.column(name) if source.names is None or name in source.names else []
        if len(files) == count and all(isinstance(one, Path) for one in files):
            stems = [without_suffix(one.name) for one in files]
            return stems if len({stem.casefold() for stem in stems}) == count else None
    return None


class _Files(Source):
    """A row for each file, called by its stem, or if that does not tell them apart by its path."""

    names = ("file",)

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        keys = [without_suffix(one.name) for one in files]
        if len({key.casefold() for key in keys}) < len(keys):
            top = Path(*_common([one.parent.parts for one in files]))
            keys = [one.relative_to(top).as_posix() for one in files]
        self.keys = keys

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Row:
        return {"file": self.files[index]}

    def where(self, index: int) -> str:
        return shown(str(self.files[index]))

    def key(self, index: int) -> str:
        return self.keys[index]


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    """The parts that paths begin with alike."""
    return [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]
