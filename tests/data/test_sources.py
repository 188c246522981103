"""Every kind of source gives the same rows of the same data, and tells one line where it cannot."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import Registry, RequestError
from mmcore.data import DataOptions, Dataset, Loader, Source, SplitOptions, Table, TensorBatch, open_data
from mmcore.modality.base import Modality
from tests.data import written
from tests.installing import install


@pytest.fixture(scope="module")
def digits(registry: Registry) -> list[dict[str, Any]]:
    return list(itertools.islice(registry.source("digits", part="all", components=8), 250))


@pytest.fixture(scope="module")
def variables(registry: Registry) -> list[Modality]:
    return [
        registry.modality("image", channels=1, size=8, levels=17),
        registry.modality("mask", size=8),
        registry.modality("label", classes=10),
        registry.modality("clip", name="embedding", width=8, unit_norm=False),
    ]


def batches(loader: Loader, count: int) -> list[TensorBatch]:
    return list(itertools.islice(loader, count))


def same(a: TensorBatch, b: TensorBatch) -> bool:
    values = all(torch.equal(a.values[name], b.values[name]) for name in {*a.values, *b.values})
    return values and torch.equal(a.present, b.present)


@pytest.mark.parametrize("kind", written.WRITERS)
def test_a_run_from_each_source_has_the_same_batches(
    kind: str, tmp_path: Path, digits: list[dict[str, Any]], variables: list[Modality], registry: Registry
) -> None:
    name, write, how = written.WRITERS[kind]
    options = DataOptions(name, write(digits, tmp_path, **how))
    dataset = open_data(registry, options, variables, "all")
    memory = Table.read(digits, variables)
    for mine, other in zip(batches(Loader(dataset, 64, 3), 6), batches(Loader(memory, 64, 3), 6), strict=True):
        assert same(mine, other)
    again = pickle.loads(pickle.dumps(dataset.source))
    row, other = dataset.source[77], again[77]
    assert row.keys() == other.keys()
    assert again.where(77) == dataset.source.where(77)
    for column in ("label",):
        assert list(dataset.source.column(column)) == [row["label"] for row in digits]


PIXELS = ("table, CSV", "folder", "shards", "datasets")


@pytest.mark.parametrize("kind", PIXELS)
def test_png_files_give_the_bytes_of_the_arrays(
    kind: str, tmp_path: Path, digits: list[dict[str, Any]], variables: list[Modality], registry: Registry
) -> None:
    rows = [row | {"image": np.round(row["image"] * 255).astype(np.uint8)} for row in digits[:60]]
    name, write, how = written.WRITERS[kind]
    options = DataOptions(name, write(rows, tmp_path, **how, images=".png"))
    dataset = open_data(registry, options, variables, "all")
    assert same(Table.read(dataset).rows, Table.read(rows, variables).rows)


# One of one's own.


class Counting(Source):
    """Row ``k`` is of class ``k mod 3``."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"label": index % 3}


def test_ones_own_is_read_whole_or_row_by_row_to_the_same_weights(registry: Registry) -> None:
    parts = [registry.modality("label", classes=3)]
    weights = []
    for rows in (Counting(), Dataset(Counting(), parts), Table.read(Counting(), parts), list(Counting())):
        small = {"width": 4, "depth": 1, "features": 2}
        model = mmcore.compose(parts, backbone="mlp", backbone_options=small, registry=registry)
        mmcore.fit(model, rows, steps=3, batch_size=4, device="cpu", quiet=True)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    assert Dataset(Counting(), parts).__getitems__(range(30)).values["label"].tolist() == [0, 1, 2] * 10


PLUGIN = """
from mmcore import Offer, hookimpl
from mmcore.data import Source


@hookimpl
def mmcore_sources():
    return [Offer("counting", "counting_source:Counting", "numbers")]


class Counting(Source):
    def __init__(self, count: int, classes: int = 3):
        self.count, self.classes = count, classes

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"label": index % self.classes}
"""


def test_a_plugins_source_has_held_out_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "acme-counting", {"source.counting": "counting_source"}, {"counting_source": PLUGIN})
    registry = mmcore.discover()
    options = DataOptions("counting", {"count": 400, "classes": 400}, split=SplitOptions(test=0.3))
    variables = [registry.modality("label", classes=400)]
    parts = [open_data(registry, options, variables, part) for part in ("train", "test")]
    values = [part.__getitems__(range(len(part))).values["label"].tolist() for part in parts]
    assert sorted(values[0] + values[1]) == list(range(400))
    assert 80 < len(values[1]) < 160


class Endless:
    """Python would iterate over it for ever."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"label": 0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (Endless(), "found a Endless, which lacks __len__, expected rows: a list of mappings, or a source"),
        (object(), "found a object, which lacks __len__ and __getitem__"),
        (Counting, r"found the class Counting, expected an object of it, Counting\(…\)"),
        ({"label": [0, 1]}, "found a dict, expected rows: a list of mappings, one for each row"),
        ("rows.npz", "found a str, expected rows"),
        ([], "found no row"),
        (
            [(0, 1)],
            r"row 0: found a tuple \(int, int\), expected a mapping from name to raw value; mmcore.data.Rows\(rows, names=",
        ),
        ([0], "row 0: found a int, expected a mapping"),
    ],
)
def test_what_are_no_rows_is_told_with_what_is_missing(rows: Any, message: str, registry: Registry) -> None:
    with pytest.raises(RequestError, match=message):
        Table.read(rows, [registry.modality("label", classes=3)])


def test_a_source_without_rows_by_index_is_told_by_python() -> None:
    with pytest.raises(TypeError, match="__getitem__"):
        type("Half", (Source,), {"__len__": lambda self: 3})()
