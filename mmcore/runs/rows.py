"""Rows that a trained model is asked about: where they are, and which of their columns are its variables."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mmcore.data import Source
from mmcore.data.decode import READERS, decode
from mmcore.data.opening import open_source
from mmcore.data.options import PARTS, ColumnOptions, DataOptions
from mmcore.data.source import Row
from mmcore.data.sources.files import shown, suffix_of, without_suffix
from mmcore.data.sources.survey import survey
from mmcore.errors import OptionError, RequestError, nearest
from mmcore.runs.given import matching

if TYPE_CHECKING:
    from mmcore.runs.reader import Reader

Columns = Mapping[str, str | ColumnOptions]


def rows_at(reader: "Reader", data: str | Path) -> tuple[Source, list[str]]:
    """What lies at a path: as the run's own data are read, or else as ``mmcore init`` would."""
    at, text = Path(data).expanduser(), shown(str(data))
    if glob.has_magic(str(data)) and not at.exists():
        files = [one for one in matching(data) if suffix_of(one.name) in READERS]
        if not files:
            raise RequestError(f"{text}: no file that can be read meets this pattern")
        return _Files(files), [f"{text}: {len(files):,} files"]
    if not at.exists():
        raise RequestError(
            f"{text}: there is nothing here, expected data, or one of {', '.join(PARTS)} for the run's own rows"
        )
    if at.is_file() and suffix_of(at.name) in READERS:
        return _Files([at]), [f"{text}: one file"]
    if reader.run is not None and "path" in (options := dict(reader.run.setup.config.data.options)):
        name = reader.run.setup.config.data.source
        try:
            same = open_source(reader.registry, DataOptions(name, {**options, "path": str(at)}), "all")
        except RequestError:
            pass
        else:
            return same, [f"{text}: read by the source {name}, as the run's own data"]
    found = survey(at)
    if found.question:
        raise RequestError(f"{text}: {found.question.partition(';')[0]}; expected data like those of the run")
    source = open_source(reader.registry, DataOptions(found.source, found.options), "all")
    return source, [f"{text}: read by the source {found.source}{''.join(f'; {one}' for one in found.evidence)}"]


def named(reader: "Reader", source: Source, columns: Columns, said: list[str]) -> dict[str, ColumnOptions]:
    """Where each variable's values are."""
    variables = [m.name for m in reader.model.variables]
    known = _names(source)
    for name, column in columns.items():
        wanted = column if isinstance(column, str) else column.column
        if name not in variables:
            raise RequestError(
                f"column {name}={wanted}: expected one of {', '.join(variables)}{nearest(name, variables)}"
            )
        if wanted not in known:
            raise OptionError("data", f"columns.{name}", wanted, choices=tuple(known))
    found: dict[str, ColumnOptions] = {}
    for name in variables:
        asked, own = columns.get(name), reader.columns.get(name)
        if isinstance(asked, ColumnOptions):
            found[name] = asked
        elif isinstance(asked, str):
            found[name] = ColumnOptions(asked, missing=() if own is None else own.missing)
        elif own is not None and own.column in known:
            found[name] = attrs.evolve(own, present=own.present if own.present in known else None)
        elif name in known:
            found[name] = ColumnOptions(name, missing=() if own is None else own.missing)
    if not found:
        name, column = _only_picture(reader, source, known)
        found = {name: ColumnOptions(column)}
        said.append(f"{column} is taken for {name}, the model's only picture")
    return found


def _only_picture(reader: "Reader", source: Source, known: Sequence[str]) -> tuple[str, str]:
    """The one variable that is a picture, and the one column that holds pictures."""
    pictures = [m.name for m in reader.model.modalities if len(m.spec.shape) == 3 and m.spec.dtype.is_floating_point]
    row = source[0]
    here = [one for one in known if hasattr(decode(row.get(one)), "mode")]
    if len(pictures) == len(here) == 1:
        return pictures[0], here[0]
    names = ", ".join(m.name for m in reader.model.variables)
    raise RequestError(
        f"data: found the columns {', '.join(map(shown, known)) or 'none'}, expected some of {names}; "
        f"--column {reader.model.variables[0].name}=… says which is which"
    )


class _Files(Source):
    """A row for each file."""

    names = ("file",)

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Row:
        return {"file": self.files[index]}

    def where(self, index: int) -> str:
        return shown(str(self.files[index]))

    def key(self, index: int) -> str:
        return without_suffix(self.files[index].name)


def _names(source: Source) -> list[str]:
    if source.names is not None:
        return [str(name) for name in source.names]
    return list(dict.fromkeys(str(name) for index in range(min(len(source), 64)) for name in source[index]))
