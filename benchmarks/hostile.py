"""Hostile data, configurations and model folders, made by rule and chance: what does the command line do with each?

    python -m benchmarks.hostile [--count 2000] [--seed 0] [--markdown benchmarks/results/hostile.md]

Each is given to a command in a process of its own, whose memory and time are bounded. It must end in time, with an exit status of its own
and no traceback; say on stderr nothing but lines of ``mmcore:``; print no control codes; and touch nothing outside its folder.
"""

import argparse
import collections
import contextlib
import copy
import gzip
import io
import json
import math
import os
import random
import resource
import signal
import socket
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image

from benchmarks.malformed import VALID

SECONDS = 10
MEMORY = 3 << 30
"""Bytes of address space beyond what the process has when a case begins."""
NAMES = [
    "values", "to", "float", "training", "total", "eval", "a b", "a.b", "x" * 100, "1", "-", "a\tb", "a\x1b[2Jb", "a\nb", 'a"b', "\u202eevil",
    "a\x9b31mb", "null", "__class__", "../../up", "/etc/passwd", "a\x00b", "\u2028", "note\n[[data.embed]]\nvariable = 'e'\n#", "T_destination", "",
]  # fmt: skip
NUMBERS = [-1, 0, 2**31, 2**63, 10**9, 10**18, 10**400, -(10**400), math.nan, math.inf, 1e308, 0.5, True]
VALUES = [
    *NUMBERS,
    "x",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": {"b": {}}},
    [0] * 10_000,
    None,
]


@attrs.frozen
class Case:
    """One hostile folder, and the command that reads it.

    Attributes:
        kind: the rule that made it.
        what: it is.
        command: of ``mmcore``, in the folder.
    """

    kind: str
    what: str
    command: tuple[str, ...]


@attrs.frozen
class Outcome:
    """How a case ended.

    Attributes:
        status: the exit status; None where it had to be killed.
        text: what was printed, standard error after standard output.
        errors: standard error alone.
        seconds: it took.
        touched: what was changed outside.
    """

    status: int | None
    text: str
    errors: str
    seconds: float
    touched: str

    @property
    def broken(self) -> str:
        """What no command line may lead to; empty where nothing is."""
        if self.status is None:
            return f"hung or died after {self.seconds:.1f} s"
        if "Traceback" in self.text:
            return f"traceback: {self.text.strip().splitlines()[-1][:200]}"
        if self.status not in (0, 1, 2):
            return f"status {self.status}"
        if odd := sorted({c for c in self.text if not c.isprintable() and c != "\n"}):
            return f"control codes {odd}"
        if self.status and not self.errors.splitlines():
            return "no line"
        if "not expected" in self.errors:
            return f"unforeseen: {self.errors.strip().splitlines()[-1][:200]}"
        return f"touched {self.touched}" if self.touched else ""

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where nothing is."""
        if not self.broken and (
            strange := [line for line in self.errors.splitlines() if not line.startswith("mmcore: ")]
        ):
            return f"another line: {strange[0][:200]}"
        return self.broken


# ---- files ----


def png(side: int = 8, seed: int = 0) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)).save(file, "png")
    return file.getvalue()


def _bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 64)]  # fmt: skip
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(68)  # fmt: skip


def _npy(shape: tuple[int, ...], dtype: str = "<f8", data: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def npz(compressed: bool = False) -> bytes:
    """A small archive of arrays."""
    file, rng = io.BytesIO(), np.random.default_rng(0)
    (np.savez_compressed if compressed else np.savez)(
        file, image=rng.integers(0, 256, (40, 8, 8), np.uint8), label=np.arange(40) % 3
    )
    return file.getvalue()


def tar() -> bytes:
    """A small shard."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for k in range(20):
            for name, data in ((f"{k}.png", png(8, k)), (f"{k}.cls", str(k % 3).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _tar_of(kind: bytes, size: int, name: str = "x") -> bytes:
    """A good shard before which there is a member of a kind and size."""
    raw = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    number = size if size >= 0 else size + 256**12
    raw[124:136] = (
        (number | (0x80 << 88 if size >= 0 else 0)).to_bytes(12, "big")
        if size < 0 or size >= 8**11
        else b"%011o\0" % size
    )
    raw[156:157] = kind
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    whole = tar()
    return whole[:1024] + bytes(raw) + whole[1024:]


def idx(dims: tuple[int, ...], data: bytes) -> bytes:
    """An IDX file of bytes."""
    return bytes((0, 0, 8, len(dims))) + struct.pack(f">{len(dims)}I", *dims) + data


def _mutated(data: bytes, rng: random.Random) -> bytes:
    raw = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        return bytes(raw[: rng.randrange(len(raw))])
    if how == 1:
        at = rng.randrange(len(raw))
        raw[at : at + rng.randrange(1, 64)] = rng.randbytes(rng.randrange(64))
    else:
        for _ in range(rng.randrange(1, 12)):
            raw[rng.randrange(len(raw))] = rng.choice((0, 255, 128, rng.randrange(256)))
    return bytes(raw)


def _odd(at: Path, rng: random.Random, outside: Path) -> str:
    """Something at a path that is no file of data."""
    kind = rng.choice(("pipe", "zero", "random", "socket", "folder", "loop", "gone", "empty", "sparse"))
    if kind == "pipe":
        os.mkfifo(at)
    elif kind in ("zero", "random"):
        at.symlink_to(f"/dev/{'zero' if kind == 'zero' else 'urandom'}")
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(at.parent)  # as a socket's path is short
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(at.name)
        finally:
            os.chdir(here)
    elif kind == "folder":
        at.mkdir()
    elif kind == "loop":
        at.symlink_to(at.name)
    elif kind == "gone":
        at.symlink_to(outside / "nowhere")
    else:
        at.touch()
        if kind == "sparse":
            os.truncate(at, rng.choice((8, 100)) * 10**9)
    return kind


# ---- cases ----


def pictures(at: Path, rng: random.Random, outside: Path) -> Case:
    """A folder of pictures, one of which is hostile."""
    folder = at / "d" / "images"
    folder.mkdir(parents=True)
    for k in range(10):
        (folder / f"{k}.png").write_bytes(png(8, k))
    name = f"9.{rng.choice(('png', 'jpg', 'tif', 'gif', 'npy', 'json', 'webp'))}"
    (folder / "9.png").unlink()
    made = {
        "a bomb": lambda: _bomb(rng.choice((60_000, 2**31 - 1)), rng.choice((60_000, 2**31 - 1))),
        "a TIFF bomb": lambda: _tiff(rng.choice((10**5, 2**32 - 1)), 10**5),
        "an array that promises much": lambda: _npy((10**15,)),
        "deep JSON": lambda: b"[" * 100_000,
        "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
        "a cut picture": lambda: png()[: rng.randrange(100)],
        "a changed picture": lambda: _mutated(png(), rng),
        "bytes": lambda: rng.randbytes(rng.randrange(2000)),
    }
    what = rng.choice([*made, "odd"])
    if what == "odd":
        what = _odd(folder / name, rng, outside)
    else:
        (folder / name).write_bytes(made[what]())
    return Case("pictures", f"{name}: {what}", ("init", "d", "-o", "c.toml"))


def tables(at: Path, rng: random.Random, outside: Path) -> Case:
    """A table with hostile names, cells or lines."""
    lines, name, kind = rng.random() < 0.5, rng.choice(NAMES), rng.choice(("name", "name", "cell", "line", "odd"))
    file = at / ("r.jsonl" if lines else "r.csv")
    said = rng.choice(NAMES)
    if kind == "odd":
        return Case("table", f"{file.name}: {_odd(file, rng, outside)}", ("init", file.name, "-o", "c.toml"))
    rows: list[dict[str, Any]] = [{"v": k % 3, "x": round(k * 0.37 % 5, 2), "w": f"t{k % 3}"} for k in range(60)]
    if kind == "name":
        rows = [{(name if key == "v" else key): value for key, value in row.items()} for row in rows]
    elif kind == "cell":
        for row in rows[::3]:
            row["w"] = said
    text = io.StringIO()
    if lines:
        text.write("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import csv

        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    data = text.getvalue().encode()
    if kind == "line":
        extra = {
            "a long line": b"x" * (70 << 20),
            "deep JSON": b'{"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "a deep cell": b"1,2," + b"[" * 60_000,
            "many digits": b'{"v": ' + b"9" * 100_000 + b"}",
            "zero bytes": bytes(1000),
            "an open quote": b'"' + b"a\n" * 1000,
            "bytes": rng.randbytes(300),
            "half a character": b'{"v": "\\ud800", "\\udfff": 1}',
        }
        said = rng.choice(list(extra))
        data += extra[said] + b"\n"
    file.write_bytes(data)
    what = {"name": name, "cell": said, "line": said}[kind]
    return Case("table", f"{file.name} with the {kind} {what[:30]!r}", ("init", file.name, "-o", "c.toml"))


def arrays(at: Path, rng: random.Random, outside: Path) -> Case:
    """An archive of arrays that lies."""
    file = at / "r.npz"
    what = rng.choice(("odd", "changed", "changed", "changed", "promise", "pickle", "long"))
    if what == "odd":
        what = _odd(file, rng, outside)
    elif what == "changed":
        file.write_bytes(_mutated(npz(rng.random() < 0.5), rng))
    else:
        packed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        dtype = "|O" if what == "pickle" else rng.choice(("<f8", "|u1", "<U1000000"))
        shape = (
            (10**6, 20_000)
            if what == "long"
            else rng.choice(((10**15,), (10**9, 10**9), (2**63,), (40, 10**12), (-1, 8)))
        )
        with zipfile.ZipFile(file, "w", packed) as archive:
            archive.writestr("label.npy", _npy((40,), "<i8", np.arange(40).tobytes()))
            code = b"cos\nsystem\n(S'touch " + str(outside / "victim").encode() + b"'\ntR."
            archive.writestr("image.npy", _npy((40,) if what == "pickle" else shape, dtype, code))
    return Case("npz", what, ("init", "r.npz", "-o", "c.toml"))


def idx_files(at: Path, rng: random.Random, outside: Path) -> Case:
    """MNIST's files, of which one lies."""
    folder = at / "d"
    folder.mkdir()
    (folder / "train-labels-idx1-ubyte").write_bytes(idx((40,), bytes(k % 3 for k in range(40))))
    packed = rng.random() < 0.5
    file = folder / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    whole = idx((40, 8, 8), np.random.default_rng(0).integers(0, 256, 40 * 64, np.uint8).tobytes())
    what = rng.choice(("odd", "changed", "promise", "bomb"))
    if what == "odd":
        what = _odd(file, rng, outside)
    else:
        data = {
            "changed": _mutated(whole, rng),
            "promise": idx((40, rng.choice((10**5, 2**32 - 1)), 2**32 - 1), b""),
            "bomb": idx((40, 1000, 1000), bytes(10**6)),
        }[what]
        file.write_bytes(gzip.compress(data) if packed else data)
    return Case("idx", f"{file.name}: {what}", ("init", "d", "-o", "c.toml"))


def shards(at: Path, rng: random.Random, outside: Path) -> Case:
    """A tar file that lies."""
    file = at / "r.tar"
    what = rng.choice(("odd", "changed", "changed", "size", "size", "link", "name"))
    if what == "odd":
        what = _odd(file, rng, outside)
    elif what == "changed":
        file.write_bytes(_mutated(tar(), rng))
    elif what == "size":
        kind, size = (
            rng.choice(b"0LKxgSVD57").to_bytes(1, "big"),
            rng.choice((-512, -(2**62), 2**62, 10**11, 8**11 - 1, 513, 0)),
        )
        file.write_bytes(_tar_of(kind, size))
        if rng.random() < 0.3:
            os.truncate(file, 10**11)
        what = f"a member of type {kind!r} and size {size}"
    else:
        with tarfile.open(file, "w") as archive:
            for k in range(20):
                member = tarfile.TarInfo(f"{rng.choice(NAMES)}{k}.png")
                if what == "link":
                    member.type, member.linkname = tarfile.SYMTYPE, str(outside / "victim")
                member.size = 0 if what == "link" else len(png())
                archive.addfile(member, None if what == "link" else io.BytesIO(png()))
    return Case("tar", what, ("init", "r.tar", "-o", "c.toml"))


def parquet(at: Path, rng: random.Random, outside: Path) -> Case:
    """A changed Parquet file, or a hostile name in one."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    name, other = rng.choice([one for one in NAMES if one]), rng.random() < 0.5
    table = {(name if other else "v"): [k % 3 for k in range(60)], "x_": [k * 0.37 % 5 for k in range(60)]}
    pyarrow.parquet.write_table(pyarrow.table(table), file)
    (at / "r.parquet").write_bytes(file.getvalue() if other else _mutated(file.getvalue(), rng))
    return Case("parquet", repr(name[:30]) if other else "changed", ("init", "r.parquet", "-o", "c.toml"))


def configurations(at: Path, rng: random.Random, outside: Path) -> Case:
    """A configuration with one hostile value, name or form."""
    import tomli_w

    tables = copy.deepcopy(VALID)
    what = rng.choice(("value", "value", "value", "value", "name", "deep", "odd", "bytes"))
    if what == "odd":
        return Case("configuration", _odd(at / "c.toml", rng, outside), ("config", "c.toml"))
    if what in ("value", "name"):
        here, place = tables, []
        while True:
            place.append(rng.choice(list(here)))
            if not isinstance(here[place[-1]], dict) or not here[place[-1]] or rng.random() < 0.05:
                break
            here = here[place[-1]]
        value = rng.choice([one for one in VALUES if one is not None])
        here[rng.choice(NAMES) if what == "name" else place[-1]] = value
        text, what = tomli_w.dumps(tables).encode(), f"{'.'.join(place)} = {str(value)[:30]!r}"
    elif what == "deep":
        text = rng.choice(
            (b".".join([b"a"] * 800) + b" = 1", b".".join([b"a"] * 400_000) + b" = 1", b"a = " + b"[" * 100_000, b"a = { " + b".".join([b"a"] * 100_000) + b" = 1}", b"a = " + b"9" * 10_000, b"a" * (2 << 20))
        )  # fmt: skip
    else:
        text = _mutated(tomli_w.dumps(tables).encode(), rng)
    (at / "c.toml").write_bytes(text)
    return Case("configuration", what, ("config", "c.toml"))


def models(at: Path, rng: random.Random, outside: Path, model: Path) -> Case:
    """A model folder of which something was changed."""
    import shutil

    folder = at / "m"
    shutil.copytree(model, folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    what = rng.choice(("value", "value", "value", "odd", "weights", "sparse", "link", "bytes", "part"))
    if what == "value":
        tables = json.loads(config.read_text())
        here, place = tables, []
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            place.append(rng.choice(keys))
            if not isinstance(here[place[-1]], dict | list) or not here[place[-1]] or rng.random() < 0.1:
                break
            here = here[place[-1]]
        value = rng.choice(VALUES)
        here[place[-1]] = value
        config.write_text(json.dumps(tables))
        what = f"{'.'.join(map(str, place))} = {str(value)[:30]!r}"
    elif what in ("odd", "link"):
        file = rng.choice((config, weights))
        target = outside / file.name
        shutil.copy(file, target)
        file.unlink()
        if what == "odd":
            what = f"{file.name}: {_odd(file, rng, outside)}"
        else:
            file.symlink_to(target)
    elif what == "weights":
        weights.write_bytes(_mutated(weights.read_bytes(), rng))
    elif what == "bytes":
        config.write_bytes(_mutated(config.read_bytes(), rng))
    elif what == "sparse":
        os.truncate(weights, rng.choice((8, 100)) * 10**9)
    else:
        (folder / "samples").mkdir()
        for name in ("samples.json", ".aside-samples.json", "samples.safetensors", "asked-1"):
            (folder / "samples" / name).symlink_to(outside / "victim")
    return Case("model", what, ("sample", "m", "-n", "1", "--steps", "1", "--device", "cpu"))


RULES: tuple[Callable[..., Case], ...] = (
    pictures,
    tables,
    arrays,
    idx_files,
    shards,
    parquet,
    configurations,
    configurations,
    models,
    models,
)


# ---- running ----


def a_model(at: Path) -> Path:
    """A small model folder to change."""
    import mmcore

    registry = mmcore.discover()
    variables = [
        registry.modality("image", channels=1, size=8),
        registry.modality("label", classes=3, names=["a", "b", "c"]),
    ]
    model = mmcore.compose(variables, backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry)
    return mmcore.save(model, at)


def _state(folder: Path) -> dict[str, Any]:
    found = {}
    for at in sorted(folder.rglob("*")):
        facts = at.lstat()
        found[str(at.relative_to(folder))] = (facts.st_size, facts.st_mtime_ns, facts.st_mode)
    return found


def outcome(case: Case, at: Path, outside: Path, seconds: float = SECONDS) -> Outcome:
    """Give a case to the command line, in a fork of this process."""
    before, started = _state(outside), time.monotonic()
    streams = [at / ".out", at / ".err"]
    child = os.fork()
    if not child:
        _child(case, at, streams)
    status: int | None = None
    while time.monotonic() - started < seconds:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.WEXITSTATUS(code) if os.WIFEXITED(code) else None
            break
        time.sleep(0.002)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    out, err = (one.read_bytes().decode("utf-8", "backslashreplace") if one.exists() else "" for one in streams)
    after = _state(outside)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Outcome(status, out + err, err, time.monotonic() - started, ", ".join(changed))


def _child(case: Case, at: Path, streams: list[Path]) -> None:
    """In the fork: the command, and no return."""
    status = 3
    try:
        os.chdir(at)
        for number, path in zip((1, 2), streams, strict=True):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from mmcore.cli.program import main

        sys.argv = ["mmcore", *case.command]
        warnings.simplefilter("default")  # as a user has them, where tests take them for errors
        try:
            main()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0
        except BaseException:
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def warm(at: Path) -> None:
    """Import and run once what the cases will, so that a fork of this process begins at once."""
    from typer.testing import CliRunner

    from mmcore.cli.program import app

    (at / "d").mkdir()
    for k in range(10):
        (at / "d" / f"{k}.png").write_bytes(png(8, k))
    for command in (["init", str(at / "d"), "-o", str(at / "c.toml")], ["sample", str(at / "model"), "-n", "1", "--steps", "1", "--out", str(at / "o")]):  # fmt: skip
        CliRunner().invoke(app, command)


def outcomes(count: int, seed: int, folder: Path) -> Iterator[tuple[Case, Outcome]]:
    """That many cases with their outcomes.

    Args:
        count: of cases.
        seed: that decides them.
        folder: an empty one to make them in.
    """
    rng = random.Random(seed)
    model, outside = a_model(folder / "model"), folder / "outside"
    warm(folder)
    outside.mkdir()
    (outside / "victim").write_text("export IMPORTANT=1\n")
    for number in range(count):
        at = folder / f"case-{number}"
        at.mkdir()
        rule = RULES[number % len(RULES)]
        case = rule(at, rng, outside, model) if rule is models else rule(at, rng, outside)
        yield case, outcome(case, at, outside)
        import shutil

        shutil.rmtree(at)
        for one in outside.iterdir():
            if one.name != "victim":
                one.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    done: collections.Counter[str] = collections.Counter()
    faults, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, ended) in enumerate(outcomes(options.count, options.seed, Path(folder))):
            counts[case.kind] += 1
            done[case.kind] += ended.status == 0
            slowest = max(slowest, ended.seconds)
            if ended.fault:
                faults.append(f"{number} {case.kind}, {case.what}: {ended.fault}")
                print(faults[-1].encode("unicode_escape").decode(), flush=True)
    lines = ["| kind | cases | read or answered | refused | wrong |", "|---|---|---|---|---|"]
    for kind, count in counts.items():
        wrong = sum(fault.split(" ", 1)[1].startswith(f"{kind},") for fault in faults)
        lines.append(f"| {kind} | {count:,} | {done[kind]:,} | {count - done[kind]:,} | {wrong} |")
    lines.append(f"\nThe slowest took {slowest:.1f} s; seed {options.seed}, {len(faults)} of {options.count:,} wrong.")
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text(
            f"`python -m benchmarks.hostile --count {options.count}`\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
