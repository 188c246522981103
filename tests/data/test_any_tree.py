"""Any tree of files, whole or damaged, is read or told in one line; nothing else comes through."""

import gzip
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import MmcoreError, Registry
from mmcore.data.decode import decode
from mmcore.data.sources.survey import survey


def png(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (3, 3), np.uint8)).save(file, format="png")
    return file.getvalue()


def npy(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    np.save(file, rng.normal(size=int(rng.integers(0, 4))))
    return file.getvalue()


def npz(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    names = rng.choice(["image", "label", "train_x", "test_x", "x_train", "names"], int(rng.integers(0, 4)), False)
    np.savez(file, **{str(name): np.zeros((int(rng.integers(0, 4)), int(rng.integers(0, 3)))) for name in names})
    return file.getvalue()


def tar(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for _ in range(int(rng.integers(0, 5))):
            info = tarfile.TarInfo(
                str(rng.choice(["0.png", "0.cls", "1.png", "a/0.png", "._0.png", "x", "0.json", "é.png"]))
            )
            data = png(rng)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def table(rng: np.random.Generator) -> bytes:
    cells = [
        "image",
        "label",
        "",
        "a.png",
        "images/0.png",
        "0",
        "1.0",
        '"',
        '"x',
        'x"',
        "cat",
        "NaN",
        "é",
        "file_name",
        "[1",
    ]
    mark = str(rng.choice([",", ";", "\t", " "]))
    end = str(rng.choice(["\n", "\r\n", "\r", "\n\n"]))
    lines = [mark.join(rng.choice(cells, int(rng.integers(1, 4)))) for _ in range(int(rng.integers(0, 5)))]
    return end.join(lines).encode(str(rng.choice(["utf-8", "utf-8-sig", "latin-1", "utf-16"])))


def lines(rng: np.random.Generator) -> bytes:
    rows: list[Any] = [
        {"file_name": "0.png", "x": 1},
        {"image": None},
        [1],
        "x",
        {"a": {"b": 1}},
        {"bytes": "x", "path": 3},
    ]
    return "\n".join(json.dumps(rows[k]) for k in rng.integers(0, len(rows), int(rng.integers(0, 4)))).encode()


def idx(rng: np.random.Generator) -> bytes:
    n = int(rng.integers(0, 4))
    return bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(n)


KINDS = {
    ".png": png, ".jpg": png, ".PNG": png, ".npy": npy, ".npz": npz, ".tar": tar, ".csv": table, ".tsv": table, ".jsonl": lines,
    ".parquet": png, "-idx1-ubyte": idx, "-idx1-ubyte.gz": lambda rng: gzip.compress(idx(rng)), ".txt": lambda rng: b"hello", ".json": lines,
    "": lambda rng: b"", ".cls": lambda rng: b"1",
}  # fmt: skip
STEMS = (
    "0",
    "1",
    "a",
    "a_mask",
    "metadata",
    "rows",
    "train-labels",
    "t10k-images",
    "é",
    "e\u0301",
    "Thumbs",
    "dataset_info",
    "._x",
)
FOLDERS = ("", "images", "masks", "train", "val", "train/images", "images/train", "cat", "dog", "train/cat", "__MACOSX", "x/y", "[a]", "saved")  # fmt: skip


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Some of the files cut, or with a byte changed, or with other bytes."""
    how = rng.integers(0, 8)
    if how == 0:
        return data[: int(rng.integers(0, len(data) + 1))]
    if how == 1 and data:
        place = int(rng.integers(0, len(data)))
        return data[:place] + bytes([int(rng.integers(0, 256))]) + data[place + 1 :]
    return rng.bytes(int(rng.integers(0, 40))) if how == 2 else data


def plant(home: Path, rng: np.random.Generator) -> None:
    folders = rng.choice(FOLDERS, int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(0, 9))):
        suffix = str(rng.choice(list(KINDS)))
        at = home / str(rng.choice(folders)) / f"{rng.choice(STEMS)}{suffix}"
        if at.is_dir() or any(above.is_file() for above in at.parents):
            continue
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(damaged(KINDS[suffix](rng), rng))


def outcome(read: Any) -> str:
    """``"read"``, or the line that was told; anything else comes through."""
    try:
        read()
    except MmcoreError as error:
        told = str(error)
    else:
        return "read"
    assert "\n" not in told
    assert told.encode()
    return told


def look(home: Path, registry: Registry) -> None:
    found = survey(home)
    source = registry.source(found.source, **found.options)
    factory = type(source)
    getattr(factory, "parts", lambda **_: ())(**found.options)
    assert len(source) > 0
    for index in range(min(len(source), 4)):
        source.where(index).encode()
        source.key(index)
        row = source[index]
        for name in row:
            outcome(lambda row=row, name=name: decode(row[name]))
    for name in source.names or ():
        outcome(lambda name=name: source.column(name))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=250, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_any_tree_is_read_or_told_in_one_line(registry: Registry, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder), rng)
        outcome(lambda: look(Path(folder), registry))
