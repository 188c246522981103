"""Sources: lazy sequences of raw rows. Importing this module imports no torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmcore.errors import OptionError, RequestError

Row = Mapping[str, Any]
"""Raw values by name; None or a missing name means that the row lacks it."""


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


class Source(ABC):
    """A sized sequence of raw rows, each read when it is asked for.

    Order, splits, resuming and sharding are then functions of indices, for every kind of source alike.

    Attributes:
        disjoint: options, with ``part``, by which the source's own parts share no row.
        names: its columns, where they are known.
    """

    disjoint: ClassVar[Mapping[str, Any]] = {}
    names: Any = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Row:
        """Row ``index``, ``0 … len - 1``.

        Raises:
            RequestError: the row cannot be read; what was found and what was expected.
        """

    def where(self, index: int) -> str:
        """The row's place, for messages, such as ``"train.csv line 17"``."""
        return f"row {index}"

    def key(self, index: int) -> str:
        """What names the row among all others, whatever their order; its number by default."""
        return str(index)

    def column(self, name: str) -> Sequence[Any]:
        """The raw value of one name in every row, None where it is missing; read without the others where that can be."""
        return [self[i].get(name) for i in range(len(self))]

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))


class Rows(Source):
    """Rows at hand: a sequence of mappings, or whatever has a length and rows by index.

    Args:
        rows: without a length and an index, they are read into a list.

    Raises:
        RequestError: there is none.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        indexed = hasattr(rows, "__len__") and hasattr(rows, "__getitem__") and not isinstance(rows, Mapping)
        self.rows: Any = rows if indexed else list(rows)
        if not len(self.rows):
            raise RequestError("data: found no row, expected at least one")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


def as_source(rows: Iterable[Row]) -> Source:
    """``rows`` if it is a source, else one of them."""
    return rows if isinstance(rows, Source) else Rows(rows)


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
    at = Path(path).expanduser()
    kind = "a folder" if folder else "a file"
    if not at.exists():
        near = at.parent if at.parent.exists() else at.absolute().parents[-1]
        expected = f"{kind}, found nothing at {at} ({near} is there; is the path relative to another folder?)"
        raise OptionError(source, option, str(path), expected)
    if at.is_dir() != folder:
        found = "a folder" if at.is_dir() else "a file"
        raise OptionError(source, option, str(path), f"{kind}, found {found} at {at}")
    return at
