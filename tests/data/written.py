"""The same rows written as every kind of source."""

import csv
import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLUMNS = ("image", "mask", "label", "embedding")
Rows = Sequence[dict[str, Any]]


def npz(rows: Rows, at: Path, *, packed: bool = False) -> dict[str, Any]:
    arrays = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in COLUMNS}
    (np.savez_compressed if packed else np.savez)(at / "rows.npz", **arrays)
    return {"path": str(at / "rows.npz")}


def write_idx(array: np.ndarray, path: Path) -> None:
    code = {"uint8": 8, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}[str(array.dtype)]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


def idx(rows: Rows, at: Path, *, suffix: str = "") -> dict[str, Any]:
    kinds = {"image": None, "mask": np.uint8, "label": np.uint8, "embedding": np.float32}
    files = {}
    for name, kind in kinds.items():
        array = np.stack([np.asarray(row[name]) for row in rows])
        path = at / f"{name}.idx{suffix}"
        write_idx(array if kind is None else array.astype(kind), path)
        files[name] = str(path)
    return {"files": files}


def parallel(rows: Rows, at: Path, *, images: str = ".npy") -> dict[str, Any]:
    for name in ("images", "masks", "embeddings"):
        (at / name).mkdir()
    for i, row in enumerate(rows):
        _save(row["image"], at / "images" / f"{i}{images}")
        Image.fromarray(row["mask"].astype(np.uint8)).save(at / "masks" / f"{i}.png")
        np.save(at / "embeddings" / f"{i}.npy", row["embedding"])
    lines = [["file", "label"], *([str(i), row["label"]] for i, row in enumerate(rows))]
    with (at / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return {"path": str(at)}


def table(rows: Rows, at: Path, *, kind: str = "csv", images: str = ".npy") -> dict[str, Any]:
    parallel(rows, at, images=images)
    lines = [
        {
            "image": f"images/{i}{images}",
            "mask": f"masks/{i}.png",
            "label": row["label"],
            "embedding": row["embedding"].tolist(),
        }
        for i, row in enumerate(rows)
    ]
    path = at / f"rows.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({**line, "embedding": json.dumps(line["embedding"])} for line in lines)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), path)
    return {"path": str(path)}


def shards(rows: Rows, at: Path, *, images: str = ".npy", per_shard: int = 100) -> dict[str, Any]:
    for start in range(0, len(rows), per_shard):
        with tarfile.open(at / f"shard-{start // per_shard:04d}.tar", "w") as archive:
            for i, row in enumerate(rows[start : start + per_shard], start):
                add(archive, f"{i:06d}.image{images}", _bytes(row["image"], images))
                add(archive, f"{i:06d}.mask.png", _bytes(row["mask"].astype(np.uint8), ".png"))
                add(archive, f"{i:06d}.cls", str(row["label"]).encode())
                add(archive, f"{i:06d}.embedding.npy", _bytes(row["embedding"], ".npy"))
    return {"path": str(at)}


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def datasets(rows: Rows, at: Path, *, images: str = ".npy") -> dict[str, Any]:
    import datasets as hub

    size = rows[0]["image"].shape
    pixels = hub.Image() if images == ".png" else hub.Array2D(size, str(rows[0]["image"].dtype))
    features = hub.Features(
        image=pixels, mask=hub.Array2D(size, "bool"), label=hub.Value("int64"), embedding=hub.List(hub.Value("float32"))
    )
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    if images == ".png":
        columns["image"] = [Image.fromarray(x) for x in columns["image"]]
    hub.Dataset.from_dict(columns, features=features).save_to_disk(str(at / "saved"), num_proc=1)
    return {"path": str(at / "saved")}


def _save(array: np.ndarray, path: Path) -> None:
    path.write_bytes(_bytes(array, path.suffix))


def _bytes(array: np.ndarray, suffix: str) -> bytes:
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, array)
    else:
        Image.fromarray(array).save(file, format="png")
    return file.getvalue()


WRITERS: dict[str, tuple[str, Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "npz": ("npz", npz, {}),
    "npz, compressed": ("npz", npz, {"packed": True}),
    "idx": ("idx", idx, {}),
    "idx, gzipped": ("idx", idx, {"suffix": ".gz"}),
    "table, CSV": ("table", table, {"kind": "csv"}),
    "table, JSON lines": ("table", table, {"kind": "jsonl"}),
    "table, Parquet": ("table", table, {"kind": "parquet"}),
    "folder": ("folder", parallel, {}),
    "shards": ("shards", shards, {}),
    "datasets": ("datasets", datasets, {}),
}
"""The name of the source, what writes rows for it, and how."""
