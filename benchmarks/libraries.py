"""Rows per second of large data: each kind of source beside its own library alone, as a careful user would write it.

    python -m benchmarks.libraries [--rows 4000] [--rounds 5] [--workers 0 2] [--kinds datasets datasets-stream shards]

The same 32 × 32 colour PNGs and labels in each library's own files, shuffled, in batches of 64. A round measures both in turn, so that
whatever else the machine does slows both; the ratio is that of the medians. ``shards`` needs webdataset.
"""

import argparse
import gc
import importlib
import io
import itertools
import statistics
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

import mmcore
from benchmarks.loading import BATCH, SIZE, rate
from mmcore.data import DataOptions, LoaderOptions, open_data, open_loader

BUFFER, FILES = 1024, 8
KINDS = ("datasets", "datasets-stream", "shards")
Pair = tuple[bytes, int]


def rows(count: int) -> list[Pair]:
    """Photograph-like PNGs and their labels."""
    rng = np.random.Generator(np.random.Philox(0))
    found = []
    for _ in range(count):
        coarse, file = rng.integers(0, 256, (SIZE // 4, SIZE // 4, 3), np.uint8), io.BytesIO()
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, "PNG")
        found.append((file.getvalue(), int(rng.integers(0, 10))))
    return found


def tensor(image: Any) -> torch.Tensor:
    """A picture, or its file's bytes, as a tensor of one row."""
    if not isinstance(image, Image.Image):
        image = Image.open(io.BytesIO(image))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def collated(batch: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as a batch, whatever they call the picture and the label."""
    pairs = [tuple(row.values()) if isinstance(row, dict) else row for row in batch]
    return torch.stack([tensor(image) for image, _ in pairs]), torch.tensor([int(label) for _, label in pairs])


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


def loading(workers: int) -> dict[str, Any]:
    return {"num_workers": workers, "persistent_workers": workers > 0}


def datasets_theirs(at: Path, workers: int) -> Iterable[Any]:
    """A saved data set, by its own ``with_transform``."""
    import datasets

    saved: Any = datasets.load_from_disk(str(at / "saved"))
    saved = saved.with_transform(lambda some: {"image": [tensor(x) for x in some["image"]], "label": some["label"]})
    return endless(DataLoader(saved, BATCH, shuffle=True, drop_last=True, **loading(workers)))


def stream_theirs(at: Path, workers: int) -> Iterable[Any]:
    """Parquet files, streamed and shuffled by the library's own buffer."""
    from datasets.packaged_modules.parquet.parquet import Parquet

    found = sorted(map(str, (at / "parquet").glob("*.parquet")))
    stream: Any = Parquet(cache_dir=str(at / "cache"), data_files={"train": found}).as_streaming_dataset("train")
    # Of one file at a time, as here: by default datasets 5.2 sleeps for five seconds at the end of every epoch.
    stream = stream.shuffle(seed=0, buffer_size=BUFFER, max_buffer_input_shards=1)
    return endless(DataLoader(stream, BATCH, drop_last=True, collate_fn=collated, **loading(workers)))


def shards_theirs(at: Path, workers: int) -> Iterable[Any]:
    """Tar files, by webdataset."""
    wds: Any = importlib.import_module("webdataset")
    urls = sorted(map(str, (at / "tars").glob("*.tar")))
    stream = wds.WebDataset(urls, shardshuffle=FILES).repeat().shuffle(BUFFER).to_tuple("png", "cls")
    return wds.WebLoader(stream, batch_size=BATCH, collate_fn=collated, **loading(workers))


THEIRS: dict[str, Callable[[Path, int], Iterable[Any]]] = dict(
    zip(KINDS, (datasets_theirs, stream_theirs, shards_theirs), strict=True)
)


def write(kind: str, pairs: Sequence[Pair], at: Path) -> DataOptions:
    """The rows in a library's files; how they are opened here."""
    if kind in ("datasets", "datasets-stream"):
        import datasets

        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        columns = {"image": [{"bytes": x, "path": None} for x, _ in pairs], "label": [k for _, k in pairs]}
        whole: Any = datasets.Dataset.from_dict(columns, features=features)
        if kind == "datasets":
            whole.save_to_disk(str(at / "saved"))
            return DataOptions("datasets", {"path": str(at / "saved")})
        (at / "parquet").mkdir()
        for number in range(FILES):
            whole.shard(FILES, number, contiguous=True).to_parquet(str(at / "parquet" / f"train-{number}.parquet"))
        return DataOptions("datasets-stream", {"path": str(at / "parquet"), "buffer": BUFFER})
    (at / "tars").mkdir()
    for number in range(FILES):
        with tarfile.open(at / "tars" / f"rows-{number}.tar", "w") as archive:
            for k in range(number, len(pairs), FILES):
                for suffix, data in (("png", pairs[k][0]), ("cls", b"%d" % pairs[k][1])):
                    member = tarfile.TarInfo(f"{k:06d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return DataOptions("shards", {"path": str(at / "tars")})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    registry = mmcore.discover()
    variables = [registry.modality("image", channels=3, size=SIZE), registry.modality("label", classes=10)]
    pairs, count = rows(asked.rows), asked.rows // BATCH - 1
    print("| source | workers | its library alone, rows/s | mmcore, rows/s | ratio |\n|---|---|---|---|---|")
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as folder:
            data = open_data(registry, write(kind, pairs, Path(folder)), variables)
            for workers in asked.workers:
                options = LoaderOptions(memory=False, workers=workers)
                found: tuple[list[float], list[float]] = ([], [])
                for _ in range(asked.rounds):
                    found[0].append(rate(THEIRS[kind](Path(folder), workers), count))
                    found[1].append(rate(open_loader(data, options, BATCH, 0), count))
                    gc.collect()
                theirs, ours = (statistics.median(one) for one in found)
                print(f"| {kind} | {workers} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
