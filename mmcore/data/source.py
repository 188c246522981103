"""Sources: lazy sequences of raw rows. Importing this module imports no torch."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmcore.errors import OptionError, RequestError, plainly
from mmcore.files import expanded

Row = Mapping[str, Any]
"""Raw values by name; None or a missing name means that the row lacks it."""
_SHOWN = 8
"""How many columns a line names before it counts."""


class LazyRow(Row):
    """A row whose values are read when they are asked for.

    Args:
        names: that it has.
        read: the value of one of them.
    """

    def __init__(self, names: Collection[str], read: Callable[[str], Any]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class InShort:
    """Rows that a notebook shows in one line, ``<Digits: 1,433 rows of image, label>``, which never fails, whatever a source of one's own does."""

    def __repr__(self) -> str:
        try:
            names = getattr(self, "names", None)
            names = list(map(str, names)) if isinstance(names, tuple | list) else []
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            of = f" of {', '.join(names[:_SHOWN])}{more}" if names else ""
            return plainly(f"<{type(self).__name__}: {self._counted()}{of}>", 400)
        except Exception:  # such as of names that a server has, which does not answer
            return f"<{type(self).__name__}>"

    def _counted(self) -> str:
        try:
            count = len(self)  # type: ignore[arg-type]
        except Exception:  # such as of a server that does not answer
            return "rows"
        return f"{count:,} row{'s' * (count != 1)}"


class Source(InShort, ABC):
    """A data set's rows before they are tensors: a sized sequence, each row read when it is asked for.

    A subclass has ``__len__`` and ``__getitem__``. It is given to :func:`mmcore.fit` or :class:`mmcore.data.Dataset` as an object; offered by
    the hook ``mmcore_sources``, it is the ``source`` of a configuration. Order, splits, resuming and sharding are functions of indices, for
    every kind of source alike. Workers read copies of it, so it must survive pickling.

    Attributes:
        disjoint: options, with ``part``, by which the source's own parts share no row.
        names: its columns, where they are known.
        classes: the names of the classes that a column's whole numbers or texts are, by column, where the data hold them.
        notes: how the data were read where that is not plain, and what was left out, a line each.
    """

    disjoint: ClassVar[Mapping[str, Any]] = {}
    names: Any = None
    classes: Any = {}
    notes: Any = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Row:
        """Row ``index``, ``0 … len - 1``: raw values by variable, the same whenever it is asked for.

        A raw value is what the variable's modality reads, such as a PIL image, an array, a number, a text, or the path of a file; None or a
        missing name means that the row lacks it.

        Raises:
            RequestError: the row cannot be read; what was found and what was expected.
        """

    def where(self, index: int) -> str:
        """The row's place, for messages, such as ``"train.csv line 17"``."""
        return f"row {index}"

    def place(self, index: int, name: str | None) -> str:
        """The place of one of the row's values, or without a name of the row, for messages."""
        return self.where(index) + (f", {name}" if name else "")

    def key(self, index: int) -> str:
        """What names the row among all others, whatever their order; its number by default."""
        return str(index)

    def column(self, name: str) -> Sequence[Any]:
        """The raw value of one name in every row, None where it is missing; read without the others where that can be."""
        return [self[i].get(name) for i in range(len(self))]

    def has(self, name: str) -> Sequence[bool] | None:
        """Whether each row has a value of one name, where that is known without reading any; else None."""
        return None

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))


class Rows(Source):
    """Rows at hand: a sequence of mappings, or whatever has a length and rows by index, such as a torch ``Dataset``.

    Args:
        rows: mappings, named tuples, or with ``names`` tuples. What has a length and no index is read into a list.
        names: of the values of rows that are tuples, such as ``("image", "label")``.
        limit: read this many at most of an iterable without a length, which may have no end.

    Raises:
        RequestError: there is none, or what is no rows: what it lacks, or what to pass in its place.
    """

    def __init__(self, rows: Iterable[Any], *, names: Sequence[str] | None = None, limit: int | None = None) -> None:
        if names is not None:
            self.names = tuple(names)
        self._given = self.names
        if problem := _no_rows(rows):
            raise RequestError(f"data: found {problem}")
        lacking = [name for name in ("__len__", "__getitem__") if not hasattr(rows, name)]
        if lacking and not hasattr(rows, "__iter__"):
            # With __getitem__ alone Python would iterate too, for ever over rows that are made as they are asked for.
            raise RequestError(
                f"data: found a {type(rows).__name__}, which lacks {' and '.join(lacking)}, expected rows: a list of mappings, or a "
                "source (mmcore.data.Source)"
            )
        if "__len__" in lacking and limit is None:
            raise RequestError(
                f"data: found a {type(rows).__name__}, which has no length and may have no end, expected rows: list(rows) reads all of it, "
                "mmcore.data.Rows(rows, limit=1000) its first 1,000, and a stream (mmcore.data.Stream) is trained on as it comes"
            )
        self.rows: Any = list(itertools.islice(iter(rows), limit)) if lacking or limit is not None else rows
        if not len(self.rows):
            raise RequestError("data: found no row, expected at least one")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        if hasattr(row, "get"):
            return row
        if self._given is None and hasattr(row, "_asdict"):
            return row._asdict()
        if not isinstance(row, tuple | list):
            raise RequestError(f"found a {type(row).__name__}, expected a mapping from name to raw value")
        kinds = ", ".join(type(value).__name__ for value in row[:6])
        if self._given is None:
            raise RequestError(
                f"found a {type(row).__name__} ({kinds}), expected a mapping from name to raw value; "
                'mmcore.data.Rows(rows, names=("image", "label")) gives its values names'
            )
        if len(row) != len(self._given):
            raise RequestError(
                f"found {len(row)} values ({kinds}), expected {len(self._given)}: {', '.join(self._given)}"
            )
        return dict(zip(self._given, row, strict=True))


def _no_rows(rows: Any) -> str:
    """What is no rows though it looks like some, and what to pass in its place; empty for what may be rows."""
    kind = type(rows).__name__
    if isinstance(rows, type):
        return f"the class {rows.__name__}, expected an object of it, {rows.__name__}(…)"
    if isinstance(rows, Mapping) and rows and all(hasattr(value, "column_names") for value in rows.values()):
        return f"a {kind} of {', '.join(map(str, rows))}, expected one of them, such as rows[{next(iter(rows))!r}]"
    if isinstance(rows, Mapping):
        return (
            f"a {kind}, expected rows: a list of mappings, one for each row, or a source; of columns of equal length, "
            "[dict(zip(rows, values)) for values in zip(*rows.values())]"
        )
    if isinstance(rows, str | bytes):
        return f'a {kind}, expected rows: a list of mappings, or a source such as registry.source("npz", path=…)'
    if hasattr(rows, "batch_size") and hasattr(rows, "dataset"):
        return f"a {kind}, which gives batches, expected rows, of which batches are made here: pass its dataset"
    module = type(rows).__module__.partition(".")[0]
    calls = {"pandas": 'to_dict("records")', "polars": "to_dicts()", "pyarrow": "to_pylist()"}
    if module in calls and kind in ("DataFrame", "Table", "RecordBatch"):
        return f"a {kind} of {module}, expected rows: rows.{calls[module]}"
    return ""


def classes_of(source: Source) -> Mapping[str, Sequence[str]]:
    """A source's :attr:`Source.classes`; none where a source of one's own has another thing of that name."""
    return source.classes if isinstance(source.classes, Mapping) else {}


def existing(path: str | Path, source: str, option: str = "path", *, folder: bool = False) -> Path:
    """``path``, if it is there.

    Args:
        path: of a file.
        source: whose option it is.
        option: the option's name.
        folder: whether it is of a folder.

    Raises:
        OptionError: it is not, or is a folder where a file is expected, or the other way.
    """
    at = expanded(path)
    kind = "a folder" if folder else "a file"
    if not at.exists():
        near = at.parent if at.parent.exists() else at.absolute().parents[-1]
        expected = f"{kind}, found nothing at {at} ({near} is there; is the path relative to another folder?)"
        raise OptionError(source, option, str(path), expected)
    if at.is_dir() != folder:
        found = "a folder" if at.is_dir() else "a file"
        raise OptionError(source, option, str(path), f"{kind}, found {found} at {at}")
    return at
