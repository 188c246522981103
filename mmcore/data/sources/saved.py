"""Data sets of Hugging Face's ``datasets`` library, saved on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcore.data.decode import Encoded
from mmcore.data.source import LazyRow, Row, Source, existing
from mmcore.errors import OptionError, RequestError


class Saved(Source):
    """Rows of a folder that ``datasets.Dataset.save_to_disk`` or ``datasets.DatasetDict.save_to_disk`` wrote; mapped into memory.

    Args:
        path: the folder.
        part: of a folder with several splits, the one to read; ``"all"`` reads one after the other.

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
        except Exception as error:  # the library raises many kinds
            raise RequestError(
                f"datasets: found {self.path} unreadable ({str(error).splitlines()[0]}), expected what save_to_disk writes"
            ) from error
        if isinstance(found, datasets.DatasetDict):
            if part == "all":
                found = datasets.concatenate_datasets(list(found.values()))
            elif part in found:
                found = found[part]
            else:
                raise OptionError(
                    "datasets", "part", part, f"one of the splits in {self.path}: {', '.join(map(str, found))}"
                )
        elif part not in ("train", "all"):
            raise OptionError(
                "datasets",
                "part",
                part,
                f"train or all, as there are no splits in {self.path}",
                mend=f"split.{part} holds rows out",
            )
        # As bytes, so that columns that are not asked for are not decoded, and errors name the row.
        for name, feature in found.features.items():
            if isinstance(feature, datasets.Image):
                found = found.cast_column(name, datasets.Image(decode=False))
        self.features, self.rows = dict(found.features), found.with_format("arrow")
        self.names = tuple(self.features)
        if not len(found):
            raise RequestError(f"datasets: found no row in {self.path}, expected at least one")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        return LazyRow(self.names, lambda name: _value(row.column(name)[0], self.features[name]))

    def column(self, name: str) -> Sequence[Any]:
        if name not in self.names:
            return [None] * len(self)
        return (
            [_value(value, self.features[name]) for value in self.rows.data.column(name)]
            if self.rows._indices is None
            else super().column(name)
        )

    def where(self, index: int) -> str:
        return f"{self.path.name} row {index}"


def _value(value: Any, feature: Any) -> Any:
    plain = type(feature).__name__
    if not value.is_valid:
        return None
    if plain == "Image":
        image = value.as_py()
        if image["bytes"] is None:
            return Path(image["path"])
        return Encoded(image["bytes"], Path(image["path"] or "").suffix or ".png")
    if plain in ("List", "LargeList", "Sequence") and getattr(feature.feature, "dtype", "").startswith(
        ("float", "int", "uint", "bool")
    ):
        return value.values.to_numpy(zero_copy_only=False)
    if plain.startswith("Array"):
        return np.asarray(value.as_py(), dtype=feature.dtype)
    return value.as_py()
