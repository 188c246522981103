"""Whatever lies in a folder, and whatever is assumed of it, ends in a configuration or in a line."""

import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.trees import judge, run


@pytest.mark.parametrize("seed", range(24))
def test_random_trees_end_in_a_configuration_or_a_line(seed: int, tmp_path: Path) -> None:
    assert judge(tmp_path, 7_000_000 + seed, Counter()) == ""


def test_a_folder_of_any_name_is_a_key_that_toml_takes(tmp_path: Path) -> None:
    """Its bare keys are of ASCII; `größe` is a word to Python."""
    for name in ("images", "größe", "画像"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for k in range(4):
            pixels = np.random.default_rng(k).integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tree" / name / f"{k}.png")
    code, _, told = run(["init", str(tmp_path / "tree"), "-o", str(tmp_path / "c.toml"), "--assume", "layout=modalities", "--assume", "größe=image", "--assume", "画像=image"])  # fmt: skip
    assert code == 0, told
    written = tomllib.loads((tmp_path / "c.toml").read_text())
    folders = written["data"]["options"]["folders"]
    assert {"größe", "画像"} <= {*folders, *folders.values()}
    code, _, told = run(["data", str(tmp_path / "c.toml"), "-o", str(tmp_path / "sheet.png")])
    assert code == 0, told


@pytest.mark.parametrize(
    ("assumed", "expected"),
    [
        ("image.limits=7.5", "found 7.5, expected two numbers, the smaller first, such as 0,1"),
        ("image.limits=1,0", "found 1,0, expected two numbers, the smaller first, such as 0,1"),
        ("image.limits=a,b", "found a,b, expected two numbers"),
        ("image.channels=x", "found x, expected a whole number of at least 1"),
        ("image.classes=0.5", "found 0.5, expected a whole number of at least 1"),
    ],
)
def test_what_is_assumed_must_be_of_its_kind(assumed: str, expected: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", image=np.random.default_rng(0).random((6, 4, 4)) * 7)
    code, _, told = run(["init", str(tmp_path / "rows.npz"), "-o", str(tmp_path / "c.toml"), "--assume", assumed])
    assert code == 2
    assert told.startswith(f"mmcore: init: --assume {assumed}: {expected}")
    code, _, _ = run(["init", str(tmp_path / "rows.npz"), "-o", str(tmp_path / "c.toml"), "--assume", "image.limits=0,7"])  # fmt: skip
    assert code == 0
    assert "limits = [0, 7]" in (tmp_path / "c.toml").read_text()
