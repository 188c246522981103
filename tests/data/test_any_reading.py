"""Rows drawn at random, written in any convention and read as ``mmcore init`` says or a person does: the right values, to the bit."""

import tempfile
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mmcore import Registry, RequestError
from mmcore.config import configured
from mmcore.config.guess import configuration
from tests.data.test_conventions import STEM, WORD, Row, folder, imagefolder, manifest, parquet, shards

MAPS: dict[str, tuple[list[int], dict[str, Any]]] = {
    "0 and 1": ([0, 1], {}),
    "0 and 255": ([0, 255], {"values": [0, 255]}),
    "0 … 2": ([0, 1, 2], {"classes": 3}),
    "ids with gaps": ([7, 11, 26], {"values": [7, 11, 26]}),
    "void": ([0, 1, 2, 255], {"classes": 3, "void": 255}),
}
"""The numbers of the classes in files, and a mask's options by hand."""
ROWS, SIDE = 14, 6


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[int], dict[str, Any]]:
    """Rows of which some lack some; the numbers of their maps' classes, and how these are said by hand."""
    stems = draw(st.lists(STEM, min_size=ROWS, max_size=ROWS, unique_by=lambda stem: unicodedata.normalize("NFC", stem).casefold()))  # fmt: skip
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32 - 1))))
    values, options = MAPS[draw(st.sampled_from(list(MAPS)))]
    words = draw(st.lists(WORD, min_size=3, max_size=3, unique=True))
    rows = []
    for k, stem in enumerate(stems):
        classes = rng.permutation(np.arange(SIDE * SIDE) % len(values)).reshape(SIDE, SIDE)
        row: Row = {
            "key": unicodedata.normalize("NFC", stem),
            "image": rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
            "mask": np.asarray(values, np.uint8)[classes],
            "vector": rng.normal(size=4).astype(np.float32),
            "word": words[k % 3],
            "count": int(rng.integers(-5, 100)),
            "size": float(np.float32(rng.normal())),
        }
        for name in ("mask", "vector", "word", "count", "size"):
            if k > 5 and rng.random() < 0.3:
                row[name] = None
        rows.append(row)
    return rows, values, options


def by_hand(rows: list[Row], options: dict[str, Any]) -> dict[str, Any]:
    """The modalities as a person writes them."""
    words = sorted({row["word"] for row in rows if row["word"] is not None})
    return {
        "image": {"channels": 3, "size": SIDE},
        "mask": {"size": SIDE, **options},
        "vector": {"plugin": "clip", "width": 4, "unit_norm": False},
        "word": {"plugin": "label", "classes": len(words), "names": words},
        "count": {"plugin": "scalar"},
        "size": {"plugin": "scalar"},
    }


def check(tables: dict[str, Any], registry: Registry, rows: list[Row], values: list[int], by_key: bool) -> None:
    """Compare what a training would see with what was written."""
    setup = configured(tables, registry=registry).rows("all")
    batch = setup.take(range(len(setup)))
    names = list(batch.values)
    assert sorted(names) == ["count", "image", "mask", "size", "vector", "word"]
    assert len(setup) == len(rows)
    keys = [setup.source.key(index).rpartition("/")[2].removesuffix(".png") for index in range(len(setup))]
    called = tables["modalities"]["word"]["names"]
    void = tables["modalities"]["mask"].get("void")
    for k, row in enumerate(rows):
        place = keys.index(row["key"]) if by_key else k
        for name in names:
            here = bool(batch.present[place, names.index(name)])
            assert here == (row[name] is not None), name
            if not here:
                continue
            found = batch.values[name][place].numpy()
            if name == "image":
                right = (np.moveaxis(row[name], 2, 0) / np.float32(255) * 2 - 1).astype(np.float32)
                assert np.allclose(found, right, rtol=0, atol=1e-6)
            elif name == "mask":
                right = np.vectorize({value: value if value == void else c for c, value in enumerate(values)}.get)(row[name])  # fmt: skip
                assert np.array_equal(found, right)
            elif name == "word":
                assert called[int(found)] == row[name]
            else:
                assert np.array_equal(found, np.float32(row[name]))


@pytest.mark.parametrize("write", [folder, manifest, parquet, shards, imagefolder])
@given(data=st.data())
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_any_rows_in_any_convention_are_read_right(write: Any, registry: Registry, data: st.DataObject) -> None:
    rows, values, options = data.draw(tables())
    by_key = write in (folder, shards, imagefolder)
    with tempfile.TemporaryDirectory() as at:
        kind, how = write(rows, Path(at), data.draw)
        hand = {
            "data": {"source": kind, "options": how},
            "modalities": by_hand(rows, options),
            "training": {"validate_every": 0},
        }
        check(hand, registry, rows, values, by_key)
        try:
            guess = configuration(Path(how["path"]), registry)
        except RequestError:
            # Of folders whose names meet by what stands around them, and by chance otherwise too.
            assert write is folder
            return
        check(tomllib.loads(guess.text), registry, rows, values, by_key)
