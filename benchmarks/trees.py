"""Random trees of files, whole and damaged, given to ``mmcore init``: what does it do with each?

    python -m benchmarks.trees [--count 2000] [--seed 0]

Folders and files have the names that data sets have, and odd ones; files are pictures, tables, arrays, archives, texts and noise, some of them cut, emptied, mixed up or
mere links. Questions are answered at random, as they are asked. ``init`` must end with status 0, 1 or 2, without a traceback, and print no control codes. What it writes is given to ``mmcore data``,
which must end so too.
"""

import argparse
import gzip
import io
import json
import os
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmcore.cli import program

FOLDERS = ("images", "masks", "train", "val", "test", "cat", "dog", "labels", "annotations", "JPEGImages", "SegmentationClass", "gt", "0", "1", "__MACOSX", ".git", "a b", "größe", "x" * 100, "img\n", "data", "depth", "audio", "text")  # fmt: skip
STEMS = ("a", "b", "c", "0001", "0002", "7", "007", "a_mask", "b_mask", "a_gt", "IMG_1", "é", "é", "a b", "-x", "Thumbs", "._a", "rows", "labels", "metadata", "classes", "train-labels", "t10k-images", "dataset_info", "n01440764_1")  # fmt: skip
COLUMNS = ("file", "image", "mask", "label", "age", "target", "split", "id", "Unnamed: 0", "price", "key", "text", "x y", "", "values", "to", "fold")  # fmt: skip
CELLS = ("", "1", "2", "-1", "0", "3.5", "1,234", "1.234,5", "45%", "cat", "dog", "unknown", "NaN", "-999", "True", "a|b", "[1, 2]", "2024-05-01", "a.png", "images/a.png", "\x1b[31m", "é", "1e400")  # fmt: skip
BIDI = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


def picture(rng: random.Random) -> bytes:
    """A picture of a common mode and format, of few pixels."""
    side = rng.choice([(4, 4), (8, 6), (1, 1), (16, 16)])
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, rng.choice([1, 2, 3, 20, 256]), (*side, 3), np.uint8)  # fmt: skip
    values = values * rng.choice([1, 1, 127, 255]) if values.max() < 3 else values
    image = Image.fromarray(values.astype(np.uint8)).convert(rng.choice(["RGB", "L", "1", "P", "RGBA", "LA"]))
    data = io.BytesIO()
    try:
        image.save(data, rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    except OSError:
        image.save(data, "PNG")
    return data.getvalue()


def table(rng: random.Random) -> bytes:
    """A table as programs write them, and as they do not."""
    names = rng.sample(COLUMNS, rng.randint(1, 5)) + rng.sample(["label"], rng.randint(0, 1))
    kinds = [rng.sample(CELLS, rng.randint(1, 4)) for _ in names]
    mark = rng.choice([",", ",", ";", "\t", "|"])
    lines = [mark.join(names), *(mark.join(map(rng.choice, kinds)) for _ in range(rng.randint(0, 30)))]
    text = rng.choice(["\n", "\r\n"]).join(lines)
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"]), "replace")


def arrays(rng: random.Random) -> bytes:
    """An NPZ or NPY file."""
    data, some = io.BytesIO(), np.random.default_rng(rng.getrandbits(32))

    def one() -> np.ndarray:
        shape = rng.choice([(6,), (6, 1), (6, 4, 4), (6, 4, 4, 3), (5,), (0,), (6, 2)])
        return (some.random(shape) * rng.choice([1, 2, 255])).astype(rng.choice(["f4", "f8", "u1", ">i4", "i8", "?"]))

    if rng.random() < 0.3:
        np.save(data, one())
    else:
        chosen: Any = {name: one() for name in rng.sample(["image", "mask", "label", "train_images", "x", "y"], rng.randint(1, 4))}  # fmt: skip
        np.savez(data, **chosen)
    return data.getvalue()


def rows(rng: random.Random) -> bytes:
    """JSON, or lines of it."""
    found = [{name: rng.choice([*CELLS, 3, 2.5, None, True, [1, 2], {"a": 1}]) for name in rng.sample(COLUMNS, 3)} for _ in range(rng.randint(0, 9))]  # fmt: skip
    return (json.dumps(found) if rng.random() < 0.4 else "\n".join(map(json.dumps, found))).encode()


def idx(rng: random.Random) -> bytes:
    """A few bytes as MNIST has them, at times packed."""
    n = rng.randint(0, 4)
    data = bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(n)
    return gzip.compress(data) if rng.random() < 0.4 else data


def archive(rng: random.Random) -> bytes:
    """A tar or zip of such files."""
    data = io.BytesIO()
    members = [(f"{rng.choice(STEMS)}.{rng.choice(['png', 'cls', 'json', 'txt', 'mask.png'])}", content(rng, False)) for _ in range(rng.randint(0, 6))]  # fmt: skip
    if rng.random() < 0.7:
        with tarfile.open(fileobj=data, mode="w") as file:
            for name, told in members:
                info = tarfile.TarInfo(name)
                info.size = len(told)
                file.addfile(info, io.BytesIO(told))
    else:
        with zipfile.ZipFile(data, "w") as file:
            for name, told in dict(members).items():
                file.writestr(name, told)
    return data.getvalue()


def noise(rng: random.Random) -> bytes:
    """Anything."""
    return rng.choice([b"", b"cat\ndog\n", b"\x80\x04\x95", rng.randbytes(200), b"%PDF-1.4", b"DICM" * 40, b"<annotation/>"])  # fmt: skip


def content(rng: random.Random, archives: bool = True) -> bytes:
    """A file's bytes, whole or damaged."""
    makers: list[Callable[[random.Random], bytes]] = [picture, picture, picture, table, arrays, rows, idx, noise]
    makers += [archive] if archives else []
    return damaged(rng.choice(makers)(rng), rng, 0.08)


def damaged(data: bytes, rng: random.Random, share: float) -> bytes:
    """Some of the files cut, with a byte changed, or of other bytes."""
    if rng.random() >= share or not data:
        return data
    at = rng.randrange(len(data))
    return rng.choice([data[:at], data[:at] + rng.randbytes(1) + data[at + 1 :], rng.randbytes(rng.randint(0, 40))])


SUFFIXES = ("png", "jpg", "PNG", "csv", "json", "jsonl", "npz", "npy", "tar", "txt", "cls", "xml", "tif", "", "pkl", "parquet", "zip", "tsv", "-idx1-ubyte", "-idx1-ubyte.gz")  # fmt: skip


def called(stem: str, suffix: str) -> str:
    """A file's name."""
    return f"{stem}{suffix}" if not suffix or suffix.startswith("-") else f"{stem}.{suffix}"


ALIKE: dict[str, Callable[[random.Random], bytes]] = {"png": picture, "jpg": picture, "csv": table, "npz": arrays, "jsonl": rows, "tar": archive, "-idx1-ubyte": idx}  # fmt: skip
"""What files of a suffix are, where all is well."""


def grow(folder: Path, rng: random.Random, depth: int, stems: Sequence[str]) -> None:
    """Fill a folder at random: files of one kind most often, of stems that come again in other folders."""
    folder.mkdir(exist_ok=True)
    kind = rng.choice(["png", "png", "png", *ALIKE])
    several = kind in ("png", "jpg")
    for stem in stems if several else rng.sample(STEMS, rng.randint(0, 2)):
        odd = rng.random()
        path = folder / called(stem, kind if odd < 0.95 else rng.choice(SUFFIXES))
        if 0.985 < odd < 0.99:
            path.symlink_to(rng.choice([folder, Path("/dev/zero"), folder / "nowhere", path]))
        elif 0.99 < odd < 0.993:
            os.mkfifo(path)
        else:
            path.write_bytes(ALIKE[kind](rng) if odd < 0.93 else content(rng))
    if depth:
        for name in rng.sample(FOLDERS, rng.randint(0, 3)):
            grow(folder / name, rng, depth - 1, stems)


def plant(folder: Path, rng: random.Random) -> None:
    """A tree: of a layout that data sets have, or of none, and then things in it that do not belong there."""
    stems = rng.sample(STEMS[:9], rng.randint(2, 8))
    layout = rng.choice(["any", "any", "pairs", "classes", "table", "array"])
    if layout == "any":
        grow(folder, rng, rng.randint(0, 3), stems)
        return
    folder.mkdir()
    if layout == "table":
        (folder / "rows.csv").write_bytes(table(rng))
    elif layout == "array":
        (folder / "rows.npz").write_bytes(arrays(rng))
    for name in {"pairs": ["images", rng.choice(["masks", "labels", "gt", "depth"])], "classes": ["cat", "dog", "0"]}.get(layout, []):  # fmt: skip
        (folder / name).mkdir()
        for stem in stems:
            (folder / name / f"{stem}.png").write_bytes(picture(rng))
    if rng.random() < 0.4:
        (folder / rng.choice(["rows.csv", "metadata.csv", "labels.csv"])).write_bytes(table(rng))
    for _ in range(rng.randint(0, 2)):
        some = rng.choice([at for at in (folder, *folder.iterdir()) if at.is_dir()])
        (some / called(rng.choice(STEMS), rng.choice(SUFFIXES))).write_bytes(content(rng))


def run(arguments: list[str]) -> tuple[int, str, str]:
    """A command in this process: its status, and what it said."""
    said, told = io.StringIO(), io.StringIO()
    kept = sys.argv, sys.stdout, sys.stderr
    sys.argv, sys.stdout, sys.stderr = ["mmcore", *arguments], said, told
    code: object = 0
    try:
        program.main()
    except SystemExit as error:
        code = error.code or 0
    finally:
        sys.argv, sys.stdout, sys.stderr = kept
    return code if isinstance(code, int) else 1, said.getvalue(), told.getvalue()


def wrong(code: int, said: str, told: str) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if code not in (0, 1, 2):
        return f"status {code}"
    for text in (said, told):
        if "Traceback" in text or "a full report" in text or "please report" in text.lower():
            return "a traceback"
        if BIDI.search(text):
            return f"control codes: {BIDI.search(text)!r}"
    if code and not told.strip():
        return "no word"
    return ""


def spoilt(choice: str, rng: random.Random) -> str:
    """What is assumed, at times of another option or value than was proposed."""
    if rng.random() < 0.8:
        return choice
    key = choice.partition("=")[0].partition(".")[0]
    option = rng.choice(["", ".limits", ".classes", ".names", ".values", ".ignore", ".void", ".missing", ".channels", ".channel", ".colours", ".kind", ".separator", ".low"])  # fmt: skip
    return f"{key}{option}={rng.choice(['0', '-1', '0,1', '1,0', 'x', '[]', '1e400', 'label', 'scalar', 'image', 'mask', 'none', '#fff', 'a,b,b', '255', '10000000000', 'true', 'nan', '|'])}"


def judge(folder: Path, seed: int, ends: Counter[str]) -> str:
    """What is wrong with how one tree is read; empty where nothing is."""
    rng = random.Random(seed)
    plant(folder / "tree", rng)
    out, assumed, code = folder / "c.toml", [], 1
    for _ in range(6):
        code, said, told = run(["init", str(folder / "tree"), "-o", str(out), *assumed])
        if problem := wrong(code, said, told):
            return f"init {assumed}: {problem}\n{told[-2000:]}"
        choices = re.findall(r"--assume ('[^']*'|\"[^\"]*\"|\S+?)(?: \(|[;,]|$)", told) if code == 2 else []
        if not choices:
            break
        assumed += ["--assume", spoilt(rng.choice(choices).strip("'\""), rng)]
    ends["written" if code == 0 else "refused"] += 1
    if code == 0 and out.exists():
        code, said, told = run(["data", str(out), "-o", str(folder / "sheet.png")])
        if problem := wrong(code, said, told):
            return f"data after init {assumed}: {problem}\n{told[-2000:]}"
        ends["shown" if code == 0 else "not shown"] += 1
    return ""


def main() -> None:
    """Grow, ask and tell; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found, ends, slowest = 0, Counter[str](), 0.0
    for k in range(options.count):
        folder = Path(tempfile.mkdtemp(prefix="trees-"))
        begun = time.monotonic()
        problem = judge(folder, options.seed * 1_000_000 + k, ends)
        slowest = max(slowest, time.monotonic() - begun)
        if problem:
            found += 1
            print(f"tree {k}: {problem}", flush=True)
        shutil.rmtree(folder)
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(ends.items()))
    print(f"{options.count:,} trees, {found} wrong ({told}); the slowest took {slowest:.1f} s")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
