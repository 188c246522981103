"""Parallel folders of files that share their stems."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcore.data.source import Row, Source, existing
from mmcore.data.sources.manifest import Csv, Manifest
from mmcore.errors import RequestError


class Folder(Source):
    """A row for every stem: ``images/a.png``, ``masks/a.png``, ``embeddings/a.npy`` and the line of ``labels.csv`` that names ``a``.

    A stem that one of them lacks is a row without that variable. Folders and tables are named in the plural, variables in the singular: ``images``
    holds ``image``. A table's first column names the stem (or the file); the others are variables of their names.

    Args:
        path: the folder that holds the others.
        folders: the folder of each variable, such as ``{image = "photos"}``; by default all folders that there are.
        tables: tables with a line for each stem; by default all that there are.

    Raises:
        RequestError: no such folder, no file in any, or two files of one stem.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        folders: Mapping[str, str] | None = None,
        tables: Sequence[str] | None = None,
    ) -> None:
        self.path = existing(path, "folder", folder=True)
        inside = sorted(at for at in self.path.iterdir() if not at.name.startswith("."))
        if folders is None:
            folders = {_singular(at.name): at.name for at in inside if at.is_dir()}
        if tables is None:
            tables = [at.name for at in inside if at.suffix in (".csv", ".tsv", ".jsonl")]
        self.files: dict[str, tuple[Path, dict[str, str]]] = {}
        for name, folder in folders.items():
            at = existing(self.path / folder, "folder", f"folders.{name}", folder=True)
            self.files[name] = (at, _stems(at))
        self.lines: list[tuple[Manifest, dict[str, int], tuple[str, ...]]] = []
        for table in tables:
            manifest = Manifest(self.path / table)
            if isinstance(manifest.lines, Csv):
                # 0007 names 0007.png, not 7.png.
                manifest.lines.texts = frozenset({manifest.names[0]})
            self.lines.append((manifest, _by_stem(manifest), manifest.names[1:]))
        stems = {stem for _, some in self.files.values() for stem in some} | {
            s for _, rows, _ in self.lines for s in rows
        }
        if not stems:
            there = ", ".join(at.name for at in inside[:6]) or "nothing"
            raise RequestError(
                f"folder: found {there} in {self.path}, expected folders of files such as images/, or a table such as labels.csv"
            )
        self.stems = sorted(stems, key=_natural)
        self.names = (*self.files, *(name for _, _, names in self.lines for name in names))
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise RequestError(
                f"folder: {self.path} has {', '.join(sorted(twice))} twice, expected one place for each variable"
            )

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> Row:
        stem = self.stems[index]
        row: dict[str, Any] = {}
        for name, (folder, files) in self.files.items():
            row[name] = folder / f"{stem}{files[stem]}" if stem in files else None
        for manifest, rows, names in self.lines:
            line = manifest[rows[stem]] if stem in rows else {}
            row |= {name: line.get(name) for name in names}
        return row

    def column(self, name: str) -> Sequence[Any]:
        for manifest, rows, names in self.lines:
            if name in names:
                values = manifest.column(name)
                return [values[rows[stem]] if stem in rows else None for stem in self.stems]
        return super().column(name)

    def where(self, index: int) -> str:
        return f"{self.path.name}/ {self.stems[index]}"

    def key(self, index: int) -> str:
        return self.stems[index]


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and len(name) > 1 else name


def _natural(stem: str) -> list[tuple[int, str]]:
    """Numbers in a stem by their size: ``a2`` before ``a10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", stem)]


def _stems(folder: Path) -> dict[str, str]:
    stems: dict[str, str] = {}
    for at in sorted(folder.iterdir()):
        if at.name.startswith(".") or at.is_dir():
            continue
        if at.stem in stems:
            raise RequestError(
                f"folder: found {at.stem}{stems[at.stem]} and {at.name} in {folder}, expected one file of a stem"
            )
        stems[at.stem] = at.suffix
    return stems


def _by_stem(manifest: Manifest) -> dict[str, int]:
    rows: dict[str, int] = {}
    for index, value in enumerate(manifest.lines.column(manifest.names[0])):
        if value is None:
            raise RequestError(f"{manifest.where(index)}: found no {manifest.names[0]}, expected a file's stem")
        stem = str(value)
        stem = Path(stem).stem if Path(stem).suffix.lower() in _SUFFIXES else stem
        if stem in rows:
            raise RequestError(f"{manifest.where(index)}: found {stem!r} again, expected one line for each stem")
        rows[stem] = index
    return rows


_SUFFIXES = {".png", ".jpg", ".jpeg", ".npy", ".webp", ".bmp", ".tif", ".tiff"}
