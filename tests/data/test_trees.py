"""Whatever lies in a folder, and whatever is assumed of it, ends in a configuration or in a line."""

import math
import random
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.trees import judge, plant, run
from mmcore import MmcoreError, Registry
from mmcore.config.writing import _toml
from mmcore.data.decode import decode
from mmcore.data.sources.survey import survey


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
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder) / "tree", random.Random(seed))
        outcome(lambda: look(Path(folder) / "tree", registry))


@pytest.mark.parametrize("seed", range(24))
def test_random_trees_end_in_a_configuration_or_a_line(seed: int, tmp_path: Path) -> None:
    assert judge(tmp_path, 7_000_000 + seed, Counter()) == ""


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans() | st.lists(st.text()), max_size=3))  # fmt: skip
@example({"größe": "image", "画像": math.inf, "a b": -math.inf, "": []})
def test_what_is_written_toml_reads_whatever_it_is_called(table: dict[str, Any]) -> None:
    """Bare keys are of ASCII, though `größe` is a word to Python; infinity is `inf`."""
    table = {name: x for name, x in table.items() if not _unseen(name, x)}
    assert tomllib.loads(f"x = {_toml(table)}")["x"] == table


def _unseen(*texts: Any) -> bool:
    """Whether there is half a character, which no TOML holds."""
    return any("\ud800" <= c <= "\udfff" for text in texts for c in str(text))


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
