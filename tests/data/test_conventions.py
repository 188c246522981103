"""Rows drawn at random and written in any convention come back as they were, to the bit, from every source."""

import io
import json
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import Registry
from mmcore.data.decode import decode
from mmcore.data.source import Source

Row = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
STEM = st.text(st.characters(codec="utf-8", exclude_characters="/\\.,;|\"'[]#", exclude_categories=("Cs", "Cc", "Cf", "Z", "S", "P", "M", "Nd", "C", "No")), min_size=1, max_size=4)  # fmt: skip
WORD = st.sampled_from(["cat", "dog", "ein Hund", "h\u00f6he", "a, b", 'say "x"', "x;y", "True", "NA", "7a"])


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """A few rows with pictures, class maps, words, numbers and vectors, of which some lack some."""
    stems = draw(st.lists(STEM, min_size=2, max_size=5, unique_by=lambda stem: unicodedata.normalize("NFC", stem).casefold()))  # fmt: skip
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32 - 1))))
    colour = draw(st.booleans())
    rows = []
    for k, stem in enumerate(stems):
        shape = (int(rng.integers(1, 5)), int(rng.integers(1, 5)), *((3,) if colour else ()))
        row: Row = {
            "key": unicodedata.normalize("NFC", stem),
            "image": rng.integers(0, 256, shape, np.uint8),
            "mask": rng.integers(0, 3, shape[:2], np.uint8),
            "vector": rng.normal(size=4).astype(np.float32),
            "word": draw(WORD),
            "count": int(rng.integers(-5, 100)),
            "size": float(np.float32(rng.normal())),
        }
        for name in ("mask", "vector", "word", "count", "size"):
            if k and draw(st.integers(0, 4)) == 0:
                row[name] = None
        rows.append(row)
    return rows


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="png")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FILES: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {"image": (".png", png), "mask": (".png", png), "vector": (".npy", npy)}  # fmt: skip
CELLS = ("word", "count", "size")


def put(at: Path, data: bytes) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_bytes(data)


def form(stem: str, draw: Draw) -> str:
    return unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), stem)


def litter(home: Path, draw: Draw) -> None:
    for name in draw(st.lists(st.sampled_from(["Thumbs.db", "._x.png", ".DS_Store", "desktop.ini", "__MACOSX/x.png", ".git/x"]), max_size=3)):  # fmt: skip
        put(home / name, b"\0\5\x16\7")


def csv_of(lines: list[dict[str, Any]], draw: Draw) -> bytes:
    """A CSV file in any style."""
    import csv

    mark, end = draw(st.sampled_from([",", ";", "\t"])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    index, blank = draw(st.booleans()), draw(st.booleans())
    # A whole number beside an empty cell is a fraction to pandas.
    whole = not any(line["count"] is None for line in lines) or draw(st.booleans())
    missing = draw(st.sampled_from(["", "NaN", "nan"]))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerow([*([""] if index else []), *lines[0]])
    for k, line in enumerate(lines):
        cells = []
        for name, value in line.items():
            if value is None:
                cells.append(missing if name in ("count", "size") else "")
            elif isinstance(value, int | float):
                cells.append(repr(value) if whole or name != "count" else repr(float(value)))
            else:
                cells.append(value)
        writer.writerow([*([k] if index else []), *cells])
        if blank:
            out.write(end)
    return (("\ufeff" if draw(st.booleans()) else "") + out.getvalue()).encode()


def folder(rows: list[Row], home: Path, draw: Draw) -> tuple[str, Row]:
    deep, part = draw(st.sampled_from(["", "deep/"])), draw(st.sampled_from(["", "train/", "training/"]))
    options: Row = {"path": str(home), "prefixes": {}, "suffixes": {}}
    for name, (suffix, pack) in FILES.items():
        before, after = draw(st.sampled_from(["", "x_"])), draw(st.sampled_from(["", f"_{name}", "_gt"]))
        options["prefixes"] |= {name: before} if before else {}
        options["suffixes"] |= {name: after} if after else {}
        for row in rows:
            if row[name] is not None:
                put(home / f"{name}s/{part}{deep}{before}{form(row['key'], draw)}{after}{suffix}", pack(row[name]))
        (home / f"{name}s" / part).mkdir(parents=True, exist_ok=True)
    used = [name for name in FILES if any(row[name] is not None for row in rows)]
    options["folders"] = {name: f"{name}s" for name in used}
    for option in ("prefixes", "suffixes"):
        options[option] = {name: text for name, text in options[option].items() if name in used}
    named = draw(st.sampled_from(["{}", "{}.png", "images/{}.png", "images\\{}.png"]))
    lines = [{"file": named.format(form(row["key"], draw)), **{name: row[name] for name in CELLS}} for row in rows]
    put(home / "labels.csv", csv_of(draw(st.permutations(lines)), draw))
    litter(home / "images", draw)
    return "folder", options


def manifest(rows: list[Row], home: Path, draw: Draw) -> tuple[str, Row]:
    slash = draw(st.sampled_from(["/", "\\"]))
    lines = []
    for row in rows:
        line: Row = {}
        for name, (suffix, pack) in FILES.items():
            line[name] = None
            if row[name] is not None:
                put(home / "files" / f"{form(row['key'], draw)}_{name}{suffix}", pack(row[name]))
                line[name] = f"files{slash}{form(row['key'], draw)}_{name}{suffix}"
        lines.append({**line, **{name: row[name] for name in CELLS}})
    if draw(st.booleans()):
        put(home / "rows.csv", csv_of(lines, draw))
        return "table", {"path": str(home / "rows.csv")}
    end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    text = end.join(json.dumps({k: v for k, v in line.items() if v is not None or draw(st.booleans())}, ensure_ascii=draw(st.booleans())) for line in lines)  # fmt: skip
    put(home / "rows.jsonl", (("\ufeff" if draw(st.booleans()) else "") + text).encode())
    return "table", {"path": str(home / "rows.jsonl")}


def parquet(rows: list[Row], home: Path, draw: Draw) -> tuple[str, Row]:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {name: pa.array([row[name] for row in rows]) for name in CELLS}
    struct = draw(st.booleans())
    for name in ("image", "mask"):
        data = [None if row[name] is None else png(row[name]) for row in rows]
        columns[name] = pa.array([one and {"bytes": one, "path": None} for one in data] if struct else data, pa.struct({"bytes": pa.binary(), "path": pa.string()}) if struct else pa.binary())  # fmt: skip
    columns["vector"] = pa.array([row["vector"] for row in rows], draw(st.sampled_from([pa.list_(pa.float32()), pa.list_(pa.float32(), 4), pa.large_list(pa.float32())])))  # fmt: skip
    if draw(st.booleans()):
        columns["word"] = columns["word"].dictionary_encode()
    pq.write_table(pa.table(columns), home / "rows.parquet")
    return "table", {"path": str(home / "rows.parquet")}


def shards(rows: list[Row], home: Path, draw: Draw) -> tuple[str, Row]:
    members = []
    for row in rows:
        told = {name: row[name] for name in CELLS if row[name] is not None}
        members.append((row["key"], "json", json.dumps(told).encode()))
        for name, (suffix, pack) in FILES.items():
            if row[name] is not None:
                members.append((row["key"], f"{name}{suffix}", pack(row[name])))
    count = draw(st.integers(1, 3))
    with ExitStack() as stack:
        files = [stack.enter_context(tarfile.open(home / f"{k}.tar", "w")) for k in range(count)]
        for key, rest, data in [*draw(st.permutations(members)), ("._x", "png", b"\0\5")]:
            info = tarfile.TarInfo(f"{draw(st.sampled_from(['', './']))}{form(key, draw)}.{rest}")
            info.size = len(data)
            files[draw(st.integers(0, count - 1))].addfile(info, io.BytesIO(data))
    return "shards", {"path": str(home)}


def imagefolder(rows: list[Row], home: Path, draw: Draw) -> tuple[str, Row]:
    lines = []
    for row in rows:
        name = f"{draw(st.sampled_from(['', 'a/']))}{form(row['key'], draw)}.png"
        put(home / name, png(row["image"]))
        line = {"file_name": form(name, draw), "mask_file_name": None, "vector_file_name": None}
        for other in ("mask", "vector"):
            suffix, pack = FILES[other]
            if row[other] is not None:
                line[f"{other}_file_name"] = f"{other}/{row['key']}{suffix}"
                put(home / f"{other}/{row['key']}{suffix}", pack(row[other]))
        lines.append({**line, **{name: row[name] for name in CELLS}})
    put(home / "metadata.csv", csv_of(lines, draw))
    litter(home, draw)
    return "imagefolder", {"path": str(home)}


def values(source: Source, names: Any) -> list[Row]:
    return [{name: decode(row.get(name)) for name in names} for row in source]


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(b, np.ndarray):
        found = np.asarray(a)
        return found.shape == b.shape and found.dtype == b.dtype and found.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("write", [folder, manifest, parquet, shards, imagefolder])
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_rows_come_back_to_the_bit(write: Any, registry: Registry, data: st.DataObject) -> None:
    rows = data.draw(tables())
    with tempfile.TemporaryDirectory() as at:
        kind, options = write(rows, Path(at), data.draw)
        source = registry.source(kind, **options)
        names = [*FILES, *CELLS]
        found = values(source, names)
        keys = [source.key(index) for index in range(len(source))]
    if write in (folder, shards, imagefolder):
        # In an order of their own, by name.
        stems = [key.rpartition("/")[2].removesuffix(".png") for key in keys]
        found = [found[stems.index(row["key"])] for row in rows]
    assert len(keys) == len(rows)
    for row, other in zip(rows, found, strict=True):
        for name in names:
            assert same(other[name], row[name]), (name, other[name], row[name])
