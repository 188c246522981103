"""Data sets of Hugging Face's ``datasets`` library, saved on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore import files
from mmcore.data.options import PARTS
from mmcore.data.source import LazyRow, Row, Source, existing
from mmcore.data.sources.files import part_of
from mmcore.data.sources.parquet import file_of, plain
from mmcore.errors import OptionError, RequestError
from mmcore.files import expanded
from mmcore.limits import RECORD


class Saved(Source):
    """Rows of a folder that ``datasets.Dataset.save_to_disk`` or ``datasets.DatasetDict.save_to_disk`` wrote; mapped into memory.

    A ``DatasetDict``'s splits are the parts, also by their other names (``dev``, ``valid``). A class of -1 is none, as the library has it.

    Args:
        path: the folder.
        part: of a folder with several splits, the one to read, by the part's name or its own; ``"all"`` reads one after the other.

    Attributes:
        classes: names of the classes that a ``ClassLabel`` column's whole numbers stand for.

    Raises:
        RequestError: the library is not installed (extra ``mmcore-diffusion[datasets]``), no such folder or split, or a damaged one.
    """

    def __init__(self, path: str | Path, *, part: str = "train") -> None:
        self.path = existing(path, "datasets", folder=True)
        try:
            import datasets
        except ImportError as error:
            raise RequestError(
                "datasets: the library is not installed; pip install 'mmcore-diffusion[datasets]'"
            ) from error
        try:
            found: Any = datasets.load_from_disk(str(self.path))
            if isinstance(found, datasets.DatasetDict):
                splits = _splits(self.path, list(map(str, found)), part)
                found = datasets.concatenate_datasets([found[name] for name in splits])
            elif part not in ("train", "all"):
                expected = f"train or all, as there are no splits in {self.path}"
                raise OptionError("datasets", "part", part, expected, mend=f"split.{part} holds rows out")
            # As bytes, so that columns that are not asked for are not decoded, and errors name the row.
            for name, feature in found.features.items():
                if isinstance(feature, datasets.Image):
                    found = found.cast_column(name, datasets.Image(decode=False))
        except RequestError:
            raise
        except Exception as error:  # the library raises many kinds
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise RequestError(
                f"datasets: found {self.path} unreadable ({why}), expected what save_to_disk writes"
            ) from error
        self.features, self.rows = dict(found.features), found.with_format("arrow")
        self.names = tuple(self.features)
        self._columns: dict[str, Any] | None = None
        self._count = len(found)
        self.classes = {name: tuple(f.names) for name, f in self.features.items() if isinstance(f, datasets.ClassLabel)}
        if not self._count:
            raise RequestError(f"datasets: found no row in {self.path}, expected at least one")

    @classmethod
    def parts(cls, path: str | Path, **_: Any) -> tuple[str, ...]:
        """The parts that the splits are; of a folder that is not there, whatever there may be."""
        at = expanded(path)
        if not at.exists():
            return PARTS
        try:
            splits = json.loads(files.read(at / "dataset_dict.json", RECORD))["splits"]
            return tuple(part for part in PARTS if any(part in (name, part_of(name)) for name in splits))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = index if self.rows._indices is None else self.rows._indices.column(0)[index].as_py()
        return LazyRow(self.names, lambda name: value_of(self._table[name][place], self.features[name]))

    @property
    def _table(self) -> dict[str, Any]:
        """The columns as they are mapped into memory: by the library's own way to a row, reading one takes ten times as long."""
        if self._columns is None:
            self._columns = {name: self.rows.data.column(name) for name in self.names}
        return self._columns

    def __getstate__(self) -> dict[str, Any]:
        # A worker maps the files again.
        return {**self.__dict__, "_columns": None}

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            return [None] * len(self)
        return (
            [value_of(value, self.features[name]) for value in self.rows.data.column(name)]
            if self.rows._indices is None
            else super().column(name)
        )

    def where(self, index: int) -> str:
        return f"{self.path.name} row {index}"


def _splits(path: Path, names: list[str], part: str) -> list[str]:
    """The splits that a part is: one, or for ``"all"`` each of them."""
    if part == "all" or part in names:
        return names if part == "all" else [part]
    found = [name for name in names if part_of(name) == part]
    if len(found) != 1:
        alike = f", of which {' and '.join(found)} are {part} alike" if found else ""
        raise OptionError("datasets", "part", part, f"one of the splits in {path}: {', '.join(names)}{alike}")
    return found


def value_of(value: Any, feature: Any) -> Any:
    """An Arrow value as a raw value, by the library's feature of its column, or by its own type where that is None."""
    kind = type(feature).__name__
    if not value.is_valid:
        return None
    if kind == "Image":
        return file_of(value.as_py())
    if kind in ("List", "LargeList", "Sequence") and type(feature.feature).__name__ == "ClassLabel":
        return value.as_py()  # a list of classes, not a vector of numbers
    if kind.startswith("Array"):
        return np.asarray(value.as_py(), dtype=feature.dtype)
    return plain(value, classes=kind == "ClassLabel")
