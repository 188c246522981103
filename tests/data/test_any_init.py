"""``mmcore init`` on any tree of files, whole or damaged: a configuration that opens, or a refusal of one line; nothing else comes through."""

import random
import tempfile
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.trees import damaged, plant
from mmcore import MmcoreError, Registry
from mmcore.config import configured
from mmcore.config.guess import configuration
from mmcore.errors import ConfigError
from tests.data.test_situations import CASES

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB")
TYPES = ("?", "u1", ">u2", "<u4", "i1", ">i8", "f2", ">f4", "f8", "c8", "U3", "O", "M8[s]")


def picture(at: Path, rng: np.random.Generator) -> None:
    """A picture of any mode, or an array of any type and shape."""
    size = tuple(rng.integers(1, 7, 2).tolist())
    if at.suffix == ".npy":
        shape = tuple(rng.integers(0, 4, int(rng.integers(0, 5))).tolist())
        kind = np.dtype(str(rng.choice(TYPES)))
        x = rng.integers(0, 3, shape).astype(kind) if kind.kind != "M" else np.zeros(shape, kind)
        np.save(at, x, allow_pickle=kind.hasobject)
        return
    image = Image.fromarray(rng.integers(0, int(rng.choice([2, 3, 256])), (*size, 3)).astype(np.uint8))
    mode = str(rng.choice(MODES))
    grey = image.convert("L")
    image = grey if mode in ("I;16", "I", "F", "LA") else image
    try:
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        image.save(at)
    except (OSError, ValueError, KeyError):
        grey.save(at)


def mixed(home: Path, rng: np.random.Generator) -> Path:
    """Folders that meet, with pictures of any kind in them, and a table."""
    names = rng.choice(
        ["images", "masks", "labels", "things", "depth", "x", "class", "values"], int(rng.integers(1, 4)), False
    )
    suffix = str(rng.choice([".png", ".tif", ".npy", ".jpg", ".gif", ".webp"]))
    for name in names:
        (home / str(name)).mkdir()
        for i in range(int(rng.integers(1, 6))):
            at = home / str(name) / f"{i}{suffix}"
            try:
                picture(at, rng)
            except (OSError, ValueError):
                at.write_bytes(b"")
            at.write_bytes(damaged(at.read_bytes(), plain(rng), 0.1))
    cells = ["0", "1", "-1", "7", "1.5", "cat", "", "NaN", "inf", "True", "[1, 2]", "1e400", "99999999999999999999"]
    if rng.random() < 0.5:
        rows = [f"{i},{rng.choice(cells)},{rng.choice(cells)}" for i in range(5)]
        (home / "rows.csv").write_text("\n".join(["file,age,label", *rows]) + "\n")
    return home


def harmed(home: Path, rng: np.random.Generator) -> Path:
    """A situation of which some files are damaged or gone."""
    path = CASES[str(rng.choice(list(CASES)))].write(home)
    for at in sorted(home.rglob("*")):
        if at.is_file():
            at.write_bytes(damaged(at.read_bytes(), plain(rng), 0.15))
    return path


def wild(home: Path, rng: np.random.Generator) -> Path:
    plant(home / "tree", plain(rng))
    return home / "tree"


def plain(rng: np.random.Generator) -> random.Random:
    """Python's own generator, continued from NumPy's."""
    return random.Random(int(rng.integers(2**32)))


def check(seed: int, registry: Registry) -> str:
    """How it ends: refused, written, or written and read."""
    rng = np.random.Generator(np.random.Philox(seed))
    with tempfile.TemporaryDirectory() as folder:
        path = (mixed, harmed, wild)[seed % 3](Path(folder), rng)
        said: list[str] = []
        end = "refused"
        try:
            guess = configuration(path, registry)
            end = "written"
            setup = configured(tomllib.loads(guess.text), registry=registry)
            rows = setup.rows("all")
            rows.take(range(len(rows)))
            end = "read"
        except ConfigError as error:
            said = [str(problem) for problem in error.problems]
            # What is wrong with a configuration is known before one is written, but for what its rows lack.
            end = "wrong" if end == "written" and not any("data" in line for line in said) else end
        except MmcoreError as error:
            said = [str(error)]
    assert end != "wrong", said
    assert not any("\n" in line for line in said), said
    return end


@pytest.mark.parametrize("part", range(6))
def test_any_tree_of_files_ends_in_a_configuration_or_one_line(part: int, registry: Registry) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = [check(seed, registry) for seed in range(60 * part, 60 * part + 60)]
    assert {"refused", "read"} <= set(ends)
