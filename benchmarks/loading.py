"""Rows per second of a loader against a bare DataLoader that does the least for the same tensors, and memory of streaming.

    python -m benchmarks.loading [--rows 4000] [--rounds 5] [--workers 0 1 2] [--stream 100000]

A round measures the loader and the bare one in turn, so that whatever else the machine does slows both; the ratio is that of the medians.
"""

import argparse
import gc
import io
import itertools
import multiprocessing
import os
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils import data
from torch.utils.data import DataLoader

import mmcore
from mmcore.data import DataOptions, Dataset, Loader, Table, open_data

BATCH, SIZE = 64, 32


class Bare(data.Dataset[Any]):
    """What a careful user writes by hand: one row at a time, an image and a label."""

    def __init__(self, images: Sequence[Any], labels: Sequence[int], read: Callable[[Any], np.ndarray]) -> None:
        self.images, self.labels, self.read = images, labels, read

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        x = torch.from_numpy(self.read(self.images[index])).permute(2, 0, 1)
        return x.float() / 127.5 - 1, self.labels[index]


class InMemory(data.Dataset[Any]):
    """All rows as tensors, taken a batch at a time."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        at = torch.as_tensor(indices)
        return self.images[at], self.labels[at]


def from_file(path: Path) -> np.ndarray:
    """An image file's pixels."""
    with Image.open(path) as image:
        return np.array(image)


def from_shard(place: tuple[int, int, int]) -> np.ndarray:
    """An image's pixels at a place of an open tar file."""
    return np.array(Image.open(io.BytesIO(os.pread(*place))))


def write(rows: int, at: Path) -> list[int]:
    """Photograph-like PNGs as parallel folders and as a shard; the labels."""
    rng = np.random.Generator(np.random.Philox(0))
    (at / "images").mkdir()
    labels = rng.integers(0, 10, rows).tolist()
    with tarfile.open(at / "rows-0.tar", "w") as archive:
        for i in range(rows):
            coarse = rng.integers(0, 256, (SIZE // 4, SIZE // 4, 3), np.uint8)
            path = at / "images" / f"{i}.png"
            Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)
            for name, data in ((f"{i:06d}.png", path.read_bytes()), (f"{i:06d}.cls", str(labels[i]).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    (at / "labels.csv").write_text("stem,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    return labels


def places(path: Path) -> list[tuple[int, int, int]]:
    """The images' places in a shard."""
    file = os.open(path, os.O_RDONLY)
    with tarfile.open(path) as archive:
        return [(file, m.size, m.offset_data) for m in archive if m.name.endswith(".png")]


def rate(batches: Iterable[Any], count: int) -> float:
    """Rows per second over ``count`` batches, after one that starts the workers."""
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    for _ in itertools.islice(iterator, count):
        pass
    return count * BATCH / (time.perf_counter() - started)


def bare(dataset: data.Dataset[Any], workers: int) -> Iterable[Any]:
    """A shuffled DataLoader over and over."""
    same: dict[str, Any] = {"collate_fn": lambda batch: batch} if hasattr(dataset, "__getitems__") else {}
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0, **same
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def speed(rows: int, rounds: int, workers: Sequence[int]) -> None:
    """Print the table of rates."""
    registry = mmcore.discover()
    variables = [registry.modality("image", channels=3, size=SIZE), registry.modality("label", classes=10)]
    print("| rows | workers | bare, rows/s | mmcore, rows/s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        labels = write(rows, at)
        files = open_data(registry, DataOptions("folder", {"path": folder, "tables": ["labels.csv"]}), variables)
        shard = open_data(registry, DataOptions("shards", {"path": folder}), variables)
        table = Table.read(files)
        paths = [at / "images" / f"{i}.png" for i in range(rows)]
        pairs = {
            "memory": (table, InMemory(table.rows.values["image"], table.rows.values["label"]), 40 * rows // BATCH),
            "PNG files": (files, Bare(paths, labels, from_file), rows // BATCH - 1),
            "shards": (shard, Bare(places(at / "rows-0.tar"), labels, from_shard), rows // BATCH - 1),
        }
        for name, (mine, other, count) in pairs.items():
            for number in workers:
                few = count if number == 0 or name != "memory" else count // 8
                found: tuple[list[float], list[float]] = ([], [])
                for _ in range(rounds):
                    found[0].append(rate(bare(other, number), few))
                    found[1].append(rate(Loader(mine, BATCH, 0, workers=number), few))
                    gc.collect()
                theirs, ours = (statistics.median(one) for one in found)
                print(f"| {name} | {number} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |", flush=True)


def anonymous() -> float:
    """Memory of this process in MB that is no file's, so that it cannot be given back."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024


def stream(rows: int) -> None:
    """Print memory while streaming ``rows`` rows of each kind of source twice in shuffled order, each in a process of its own."""
    print(
        "| source | MB on disk | opened, MB | a tenth read, MB | all read, MB | all read twice, MB |\n|---|---|---|---|---|---|"
    )
    for kind in ("npz", "idx", "shards", "table"):
        with tempfile.TemporaryDirectory() as folder:
            options = DataOptions(kind, _written(kind, rows, Path(folder)))
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                marks = process.submit(streamed, options, rows).result()
            print(f"| {kind} | {size:.0f} | " + " | ".join(f"+{mark:.1f}" for mark in marks) + " |", flush=True)


def streamed(options: DataOptions, rows: int) -> list[float]:
    """MB more than before a source is opened: with the first batch, after a tenth of its rows, after all, and after all once more."""
    warnings.filterwarnings("ignore", message=".*set_vital.*")
    torch.set_num_threads(1)
    registry = mmcore.discover()
    variables = [registry.modality("image", channels=3, size=16), registry.modality("label", classes=10)]
    # What is imported and set up once is of no source: a few rows at hand go the whole way first.
    few = Dataset([{"image": np.zeros((16, 16, 3), np.uint8), "label": 0}] * 200, variables)
    for _ in itertools.islice(Loader(few, 100, 0), 4):
        pass
    gc.collect()
    before = anonymous()
    loader = iter(Loader(open_data(registry, options, variables), 100, 0))
    next(loader)
    marks = [anonymous() - before]
    for part in (rows // 1000, rows // 100 - rows // 1000 - 1, rows // 100):
        for _ in itertools.islice(loader, part):
            pass
        marks.append(anonymous() - before)
    return marks


def _written(kind: str, rows: int, at: Path) -> dict[str, Any]:
    rng = np.random.Generator(np.random.Philox(1))
    labels = rng.integers(0, 10, rows)
    if kind in ("npz", "idx"):
        images = rng.integers(0, 256, (rows, 16, 16, 3), np.uint8)
        if kind == "npz":
            np.savez(at / "rows.npz", image=images, label=labels)
            return {"path": str(at / "rows.npz")}
        files = {}
        for name, array in (("image", images), ("label", labels.astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
            (at / f"{name}.idx").write_bytes(head + array.tobytes())
            files[name] = str(at / f"{name}.idx")
        return {"files": files}
    if kind == "shards":
        for start in range(0, rows, 10_000):
            with tarfile.open(at / f"rows-{start}.tar", "w") as archive:
                for i in range(start, min(start + 10_000, rows)):
                    file = io.BytesIO()
                    np.save(file, rng.integers(0, 256, (16, 16, 3), np.uint8))
                    for name, data in (("image.npy", file.getvalue()), ("cls", str(labels[i]).encode())):
                        info = tarfile.TarInfo(f"{i:06d}.{name}")
                        info.size = len(data)
                        archive.addfile(info, io.BytesIO(data))
        return {"path": str(at)}
    # A few files that many lines name: the table's own memory is what is measured.
    for i in range(100):
        np.save(at / f"{i}.npy", rng.integers(0, 256, (16, 16, 3), np.uint8))
    lines = "".join(f"{i % 100}.npy,{label}\n" for i, label in enumerate(labels))
    (at / "rows.csv").write_text("image,label\n" + lines)
    return {"path": str(at / "rows.csv")}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--stream", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*set_vital.*")
    if arguments.workers:
        speed(arguments.rows, arguments.rounds, arguments.workers)
    if arguments.stream:
        stream(arguments.stream)


if __name__ == "__main__":
    main()
