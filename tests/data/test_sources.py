"""Every kind of source gives the same rows of the same data, and tells one line where it cannot."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcore import Registry
from mmcore.data import DataOptions, Loader, Table, TensorBatch, open_data
from mmcore.modality.base import Modality
from tests.data import written


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
