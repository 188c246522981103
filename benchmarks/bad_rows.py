"""Every fault of every variable in every kind of source: what the one line says that a user reads.

python -m benchmarks.bad_rows [--out benchmarks/results/bad_rows.md]
"""

import argparse
import csv
import io
import itertools
import json
import signal
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image

import mmcore
from mmcore.data import DataOptions, open_data
from mmcore.errors import RequestError

ROWS, BAD, SIZE, WIDTH, CLASSES, SECONDS = 5, 3, 8, 6, 4, 20


@attrs.frozen
class Value:
    """A value as a file: its suffix and bytes; no bytes: the file is not there."""

    suffix: str
    data: bytes | None


@attrs.frozen
class Case:
    """One fault.

    Attributes:
        source: the kind of source.
        variable: that is at fault; "row" for the whole row.
        fault: what is wrong.
        options: that open the source.
        where: what the message must name as its place.
    """

    source: str
    variable: str
    fault: str
    options: DataOptions
    where: str


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    """``array`` as a PNG's bytes."""
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, format="png")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """``array`` as a .npy file's bytes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def good(row: int) -> dict[str, Any]:
    """A row without faults."""
    pixels = ((np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 3 + row * 20) % 256).astype(np.uint8)
    return {
        "image": Value(".png", png(pixels)),
        "mask": Value(".png", png((pixels % CLASSES).astype(np.uint8))),
        "label": row % CLASSES,
        "embedding": Value(".npy", npy(np.linspace(1, 2, WIDTH, dtype=np.float32) + row)),
    }


def file_faults() -> Iterator[tuple[str, str, Value]]:
    """Variable, fault and the file that has it."""
    pixels = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    for name in ("image", "mask"):
        whole = png((pixels % CLASSES).astype(np.uint8))
        yield name, "no such file", Value(".png", None)
        yield name, "an empty file", Value(".png", b"")
        for cut in (8, 30, 45, 60, len(whole) - 20):
            yield name, f"a PNG cut at {cut} of {len(whole)} bytes", Value(".png", whole[:cut])
        yield name, "a text called .png", Value(".png", b"not an image")
        yield name, "a PNG with a damaged header", Value(".png", whole[:16] + b"\0\0\0\0" + whole[20:])
        yield name, "another size", Value(".png", png(np.zeros((SIZE, SIZE + 1), np.uint8)))
    floats = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    for fault, array in (
        ("NaN", np.where(floats > 0.5, np.nan, floats)),
        ("infinity", np.where(floats > 0.5, np.inf, floats)),
        ("values up to 255 as floats", floats * 255),
        ("dtype int64", pixels.astype(np.int64)),
        ("an axis too many", floats[None, None]),
        ("objects in a .npy", np.array([{}, None], dtype=object)),
    ):
        yield "image", fault, Value(".npy", npy(array))
    yield "image", "a .npy cut in half", Value(".npy", npy(floats)[: -floats.nbytes // 2])
    yield "mask", "class 9", Value(".png", png(np.full((SIZE, SIZE), 9, np.uint8)))
    yield "mask", "an RGB image", Value(".png", png(pixels, "RGB"))
    yield "mask", "fractions", Value(".npy", npy(floats * 2.5))
    yield "mask", "a negative class", Value(".npy", npy(pixels.astype(np.int64) * 0 - 1))
    vector = np.linspace(1, 2, WIDTH, dtype=np.float32)
    for fault, array in (
        ("one number too few", vector[1:]),
        ("NaN", vector * np.nan),
        ("infinity", vector / 0.0),
        ("dtype int64", np.arange(WIDTH)),
        ("no direction", vector * 0),
        ("two axes", vector[:, None]),
    ):
        yield "embedding", fault, Value(".npy", npy(array))
    yield "embedding", "no such file", Value(".npy", None)
    yield "embedding", "an empty file", Value(".npy", b"")
    yield "embedding", "a .npy cut short", Value(".npy", npy(vector)[:-3])
    yield "embedding", "a text called .npy", Value(".npy", b"1 2 3")


LABELS: dict[str, Any] = {
    "class 4 of 4": CLASSES,
    "a negative class": -1,
    "a fraction": 1.5,
    "a word": "cat",
}


def write_folder(rows: list[dict[str, Any]], at: Path) -> None:
    """Parallel folders."""
    for name in ("image", "mask", "embedding"):
        (at / f"{name}s").mkdir()
        for i, row in enumerate(rows):
            value = row[name]
            if value is not None and value.data is not None:
                (at / f"{name}s" / f"r{i}{value.suffix}").write_bytes(value.data)
    with (at / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["stem", "label"], *([f"r{i}", row["label"]] for i, row in enumerate(rows))])


def write_table(rows: list[dict[str, Any]], at: Path, kind: str) -> Path:
    """A manifest of the files."""
    write_folder(rows, at)
    lines = []
    for i, row in enumerate(rows):
        paths = {name: row[name] and f"{name}s/r{i}{row[name].suffix}" for name in ("image", "mask", "embedding")}
        lines.append({**paths, "label": row["label"]})
    path = at / f"rows.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_shard(rows: list[dict[str, Any]], at: Path) -> Path:
    """One tar file."""
    path = at / "shard-0.tar"
    with tarfile.open(path, "w") as archive:
        for i, row in enumerate(rows):
            members = {f"{name}{row[name].suffix}": row[name].data for name in ("image", "mask", "embedding")}
            for name, data in {**members, "cls": str(row["label"]).encode()}.items():
                info = tarfile.TarInfo(f"{i:06d}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def arrays() -> dict[str, np.ndarray]:
    """All rows as arrays, without faults."""
    floats = np.linspace(0, 1, ROWS * SIZE * SIZE, dtype=np.float32).reshape(ROWS, SIZE, SIZE)
    return {
        "image": floats,
        "mask": (np.arange(ROWS * SIZE * SIZE) % CLASSES).reshape(ROWS, SIZE, SIZE),
        "label": np.arange(ROWS) % CLASSES,
        "embedding": np.linspace(1, 2, ROWS * WIDTH, dtype=np.float32).reshape(ROWS, WIDTH),
    }


def array_faults() -> Iterator[tuple[str, str, Callable[[dict[str, np.ndarray]], None]]]:
    """Variable, fault and what brings it about, in one row of arrays."""

    def at(name: str, value: float) -> Callable[[dict[str, np.ndarray]], None]:
        def change(data: dict[str, np.ndarray]) -> None:
            data[name][(BAD, 2) if data[name].ndim > 1 else BAD] = value

        return change

    for name in ("image", "embedding"):
        yield name, "NaN", at(name, np.nan)
        yield name, "infinity", at(name, np.inf)
    yield "image", "values below 0", at("image", -0.5)
    yield "image", "values above 1", at("image", 255)
    for name in ("mask", "label"):
        yield name, f"class {CLASSES} of {CLASSES}", at(name, CLASSES)
        yield name, "a large class", at(name, 200)
        yield name, "a negative class", at(name, -1)
    yield "embedding", "no direction", lambda data: data["embedding"].__setitem__(BAD, 0)


def cases(at: Path) -> Iterator[Case]:
    """All of them, each written into a folder of its own."""

    numbers = itertools.count(1)

    def fresh() -> Path:
        folder = at / f"case-{next(numbers):03d}"
        folder.mkdir()
        return folder

    faults = [(name, fault, value) for name, fault, value in file_faults()]
    faults += [("label", fault, value) for fault, value in LABELS.items()]
    for name, fault, value in faults:
        rows = [good(i) for i in range(ROWS)]
        rows[BAD][name] = value
        lost = isinstance(value, Value) and value.data is None
        if not lost:  # in parallel folders and shards a file that is not there is a missing value
            here = fresh()
            write_folder(rows, here)
            yield Case("folder", name, fault, DataOptions("folder", {"path": str(here)}), f"r{BAD}")
            options = DataOptions("shards", {"path": str(write_shard(rows, fresh()))})
            yield Case("shards", name, fault, options, f"shard-0.tar member {BAD:06d}")
        for kind, line in (("csv", BAD + 2), ("jsonl", BAD + 1)):
            options = DataOptions("table", {"path": str(write_table(rows, fresh(), kind))})
            yield Case(f"table ({kind})", name, fault, options, f"rows.{kind} line {line}")
    for name, fault, change in array_faults():
        data = arrays()
        change(data)
        here = fresh()
        np.savez(here / "rows.npz", **data)  # type: ignore[arg-type]
        yield Case("npz", name, fault, DataOptions("npz", {"path": str(here / "rows.npz")}), f"rows.npz row {BAD}")
        if name not in ("mask", "label") or -1 < data[name].max() < 256:
            files = {}
            for column, array in data.items():
                kind = (0x0D, ">f4") if array.dtype == np.float32 else (0x0B, ">i2")
                head = bytes([0, 0, kind[0], array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
                files[column] = here / f"{column}.idx"
                files[column].write_bytes(head + array.astype(kind[1]).tobytes())
            options = DataOptions("idx", {"files": {column: str(path) for column, path in files.items()}})
            yield Case("idx", name, fault, options, f"image.idx row {BAD}")
    for fault, kind, edit in (
        ("a cell too few", "csv", lambda line: line.rpartition(",")[0]),
        ("a cell too many", "csv", lambda line: f"{line},7"),
        ("no cell at all", "csv", lambda line: ",,,"),
        ("no JSON", "jsonl", lambda line: line[:-4]),
        ("a list", "jsonl", lambda line: "[1, 2]"),
        ("nothing that is asked for", "jsonl", lambda line: "{}"),
        ("a path that is a number", "jsonl", lambda line: '{"image": 7}'),
    ):
        path = write_table([good(i) for i in range(ROWS)], fresh(), kind)
        lines = path.read_text().splitlines()
        number = BAD + (1 if kind == "csv" else 0)
        lines[number] = edit(lines[number])
        path.write_text("\n".join(lines) + "\n")
        yield Case(
            f"table ({kind})", "row", fault, DataOptions("table", {"path": str(path)}), f"rows.{kind} line {number + 1}"
        )


def verdict(case: Case, registry: mmcore.Registry) -> tuple[str, str]:
    """The line that a user reads, and what is wrong with it ("" for nothing)."""
    variables = [
        registry.modality("image", channels=1, size=SIZE),
        registry.modality("mask", size=SIZE, classes=CLASSES),
        registry.modality("label", classes=CLASSES),
        registry.modality("clip", name="embedding", width=WIDTH),
    ]

    def too_long(number: int, frame: Any) -> None:
        raise TimeoutError(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        dataset = open_data(registry, case.options, variables)
        dataset.__getitems__(range(len(dataset)))
    except RequestError as error:
        line = str(error)
    except BaseException as error:
        return repr(error), f"a {type(error).__name__} came through"
    else:
        return "", "nothing was noticed"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    asked = [case.where, "found", "expected", *([case.variable] if case.variable != "row" else [])]
    lacking = [word for word in asked if word not in line]
    if "\n" in line:
        return line, "more than one line"
    return line, f"does not say {', '.join(lacking)}" if lacking else ""


def main() -> None:
    """Print the table, and end with status 1 if any line is not as it must be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="a Markdown page for the table")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    registry = mmcore.discover()
    with tempfile.TemporaryDirectory() as folder:
        judged = [(case, *verdict(case, registry)) for case in cases(Path(folder))]
        lines = [
            "# Bad rows",
            "",
            f"{len(judged)} rows with one fault each, in every kind of source, and the line that a user reads; "
            "`python -m benchmarks.bad_rows` makes this page.",
            f"{sum(1 for *_, wrong in judged if not wrong)} name source, row, variable, what was found and what was expected.",
            "",
            "| source | variable | fault | line |",
            "|---|---|---|---|",
        ]
        for case, line, wrong in judged:
            told = line.replace(folder, "…").replace("|", "\\|").replace("<", "&lt;")
            lines.append(
                f"| {case.source} | {case.variable} | {case.fault} | {told}{f' **({wrong})**' if wrong else ''} |"
            )
    page = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(page)
    else:
        print(page)
    failed = [f"{case.source}, {case.variable}, {case.fault}: {wrong}: {line}" for case, line, wrong in judged if wrong]
    print(f"{len(judged)} cases, {len(failed)} not as they must be", file=sys.stderr)
    print(*failed, sep="\n", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
