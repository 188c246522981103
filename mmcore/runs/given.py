"""Values that a question gives: words, files, folders, patterns and tables, to raw values."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.config.files import value_of
from mmcore.data import Source
from mmcore.data.decode import VALUES
from mmcore.data.options import ColumnOptions
from mmcore.data.select import Named
from mmcore.data.source import Row
from mmcore.data.sources.files import inside, is_stray, natural, shown, suffix_of, without_suffix
from mmcore.data.sources.manifest import TABLES, Manifest
from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.modality.base import ModalityProtocol


def raws(m: ModalityProtocol, value: Any, what: str, column: ColumnOptions) -> list[Any]:
    """The raw values that one variable is given.

    Args:
        m: the variable.
        value: a file, a folder or pattern of files, a table, a word or number as text, a raw value, or a list of these.
        what: messages call it.
        column: where its values are in a table.

    Raises:
        RequestError: there is no such file, or none that can be read.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise RequestError(f"{what}: found an empty list, expected a value at least")
        return list(value)
    if isinstance(value, str) and not value:
        raise RequestError(f"{what}: found nothing, expected a value")
    if not isinstance(value, str | Path):
        return [value]
    # A word is a class though there may be a file of the same name.
    if isinstance(value, str) and not m.spec.shape and _readable(m, word := _word(m, value)):
        return [word]
    if found := _files(m, value, what, column):
        return found
    text = str(value)
    if isinstance(value, str) and not m.planar and suffix_of(text) not in VALUES and not set(text) & set("*?"):
        return [_word(m, text)]
    raise RequestError(f"{what}: found no file there, expected one")


def _word(m: ModalityProtocol, text: str) -> Any:
    """A value as TOML has it, or else a word; a word may look like a number, such as a class called "3"."""
    value = value_of(text)
    tries = [text, str(value)] if isinstance(value, str) else [value, text]
    return next((one for one in tries if _readable(m, one)), tries[0])


def _readable(m: ModalityProtocol, raw: Any) -> bool:
    try:
        m.read(raw)
    except Exception:  # a plugin's own code
        return False
    return True


def _files(m: ModalityProtocol, value: str | Path, what: str, column: ColumnOptions) -> list[Any]:
    """What lies at a path or meets a pattern; nothing where there is none such."""
    at = expanded(value)
    try:
        if at.is_dir():
            files = [one for one in inside(at) if one.is_file() and not is_stray(one.name)]
        elif at.is_file():
            files = [at]
        else:
            files = matching(value)
    except (OSError, ValueError):  # a text too long for a path, or with a zero in it
        return []
    if at.is_file() and suffix_of(at.name) in TABLES:
        return _column(m, at, what, column)
    if len(files) > 1 or at.is_dir():
        files = [one for one in files if suffix_of(one.name) in VALUES]
    if not files and at.is_dir():
        raise RequestError(f"{what}: found no file there that can be read, expected one at least")
    return sorted(files, key=lambda one: natural(str(one)))


def matching(pattern: str | Path) -> list[Path]:
    """The files that meet a pattern such as ``"new/*.jpg"``, in their order."""
    if not glob.has_magic(str(pattern)):
        return []
    found = [Path(one) for one in glob.glob(str(expanded(pattern)), recursive=True)]
    return sorted((one for one in found if one.is_file()), key=lambda one: natural(str(one)))


def _column(m: ModalityProtocol, table: Path, what: str, column: ColumnOptions) -> list[Any]:
    """A variable's values in a table."""
    rows = Manifest(table)
    known = [str(one) for one in rows.names]
    name = next((one for one in (column.column, m.name) if one in known), known[0] if len(known) == 1 else "")
    if not name:
        raise RequestError(f"{what}: found the columns {', '.join(known)}, expected {m.name} among them")
    source = Named(rows, {m.name: attrs.evolve(column, column=name, present=None)})
    return [source[k].get(m.name) for k in range(len(source))]


@attrs.frozen(eq=False)
class Values:
    """Values that are asked about.

    Attributes:
        tensors: ``(rows, *spec.shape)`` by name, as the model sees them.
        rows: the raw values.
    """

    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]]

    def repeated(self, n: int, option: str = "given") -> dict[str, Tensor]:
        """The values for ``n`` samples, each in turn: ``(n, *spec.shape)`` by name.

        Raises:
            RequestError: there are more values than samples.
        """
        return {name: x[turns(len(x), n, option)] for name, x in self.tensors.items()}


class Given(Source):
    """Rows of what a question gives, called in messages as the question calls them."""

    def __init__(self, rows: Sequence[Row], option: str, asked: Mapping[str, Any]) -> None:
        self.given, self.option, self.asked = rows, option, asked

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Row:
        return self.given[index]

    def where(self, index: int) -> str:
        return f"{self.option} {', '.join(self._told(index, name) for name in self.given[index])}"

    def place(self, index: int, name: str | None) -> str:
        return f"{self.option} {self._told(index, name)}" if name else self.where(index)

    def _told(self, index: int, name: str) -> str:
        """A value as it was asked, or if there are several, this one."""
        asked, raw = self.asked[name], self.given[index][name]
        told = asked if isinstance(asked, str | int | float) and len(self.given) == 1 else raw
        return f"{name}={shown(str(told))}" if isinstance(told, str | Path | int | float) else name


def check_stems(option: str, lists: Mapping[str, Sequence[Any]]) -> None:
    """Refuse files that are not called alike: which of them belong together is told by their names."""
    files = {name: some for name, some in lists.items() if all(isinstance(one, Path) for one in some)}
    first = next(iter(files), "")
    for name, some in files.items():
        for one, two in zip((path.name for path in files[first]), (path.name for path in some), strict=True):
            if without_suffix(one) != without_suffix(two):
                raise RequestError(
                    f"{option} {name}: found the file {two} for {one} of {first}, expected files of the same names"
                )


def turns(count: int, n: int, option: str) -> Tensor:
    """Which of ``count`` values each of ``n`` samples has: each in turn."""
    if n < count:
        raise RequestError(
            f"{option}: found {count} values for {n} samples, expected a sample for each at least (-n {count})"
        )
    return torch.arange(n) % count
