"""Columns, splits, filters and limits: which rows a model is given."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore import Registry, RequestError
from mmcore.data import (
    ColumnOptions,
    DataOptions,
    FilterOptions,
    Rows,
    SplitOptions,
    Table,
    TensorBatch,
    measured,
    open_data,
    open_source,
)
from mmcore.data.select import Named, keep, split

PARTS = ("train", "validation", "test")


def rows(count: int = 400) -> Rows:
    return Rows([{"label": i % 3, "concept": f"c{i // 4}", "part": i % 5, "width": i} for i in range(count)])


@given(st.integers(0, 5), st.sampled_from([None, "concept"]))
def test_parts_share_no_row_and_no_group_and_lose_none(seed: int, by: str | None) -> None:
    source, options = rows(), SplitOptions(by, validation=0.2, test=0.3, seed=seed)
    parts = {part: split(source, options, part) for part in PARTS}
    widths = {part: set(one.column("width")) for part, one in parts.items()}
    assert sorted(w for some in widths.values() for w in some) == list(range(400))
    if by:
        groups = [set(one.column(by)) for one in parts.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))
    assert 0.12 < len(widths["validation"]) / 400 < 0.29
    assert 0.20 < len(widths["test"]) / 400 < 0.41


def test_a_rows_part_does_not_depend_on_the_others() -> None:
    options = SplitOptions("concept", test=0.3)
    few, many = (set(split(rows(n), options, "test").column("width")) for n in (200, 400))
    assert few == {width for width in many if width < 200}


def test_a_column_can_name_the_parts() -> None:
    options = SplitOptions("part", values={"validation": (1,), "test": (2, 3)})
    found = {part: set(split(rows(), options, part).column("part")) for part in PARTS}
    assert found == {"train": {0, 4}, "validation": {1}, "test": {2, 3}}


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (FilterOptions("label", keep=(1, 2)), [i for i in range(40) if i % 3]),
        (FilterOptions("label", drop=(0,)), [i for i in range(40) if i % 3]),
        (FilterOptions("width", least=10, most=12), [10, 11, 12]),
    ],
)
def test_filters_keep_what_they_say(one: FilterOptions, kept: list[int]) -> None:
    assert keep(rows(40), one).column("width") == kept


def test_flags_and_stand_ins_tell_what_is_missing() -> None:
    raw = Rows([{"vector": 1.0, "has": True, "class": 3}, {"vector": 2.0, "has": np.False_, "class": np.int64(-1)}])
    named = Named(raw, {"embedding": ColumnOptions("vector", "has"), "label": ColumnOptions("class", missing=(-1,))})
    assert [(row["embedding"], row["label"]) for row in named] == [(1.0, 3), (None, None)]
    assert (named.column("embedding"), named.column("label")) == ([1.0, None], [3, None])
    assert len(keep(named, FilterOptions("label", present=True))) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplitOptions(validation=0.6, test=0.4), "less than 1"),
        (lambda: SplitOptions(values={"test": (1,)}), "a column named by split.by"),
        (lambda: FilterOptions("a"), "one of keep, drop, least, most, present with it"),
        (lambda: DataOptions("digits", on_bad_row="ignore"), "one of stop, skip"),
        (lambda: DataOptions("digits", workers=-1), "workers = -1"),
        (
            lambda: split(rows(), SplitOptions(), "test"),
            "split.test = 0.0, expected what says which rows the part 'test' has",
        ),
        (
            lambda: split(rows(), SplitOptions("nowhere", test=0.5), "test"),
            "split.by = 'nowhere', expected a column that has texts or numbers, such as",
        ),
        (
            lambda: keep(rows(), FilterOptions("label", keep=(7,))),
            "filters = 'label', expected at least one row, it keeps none of 400",
        ),
        (lambda: keep(rows(), FilterOptions("concept", least=1)), "found 'c0' at row 0, expected a number"),
    ],
)
def test_descriptions_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


def test_the_digits_own_parts_are_disjoint_and_cover_all(registry: Registry) -> None:
    options = DataOptions("digits")
    keys = {part: [s.key(i) for i in range(len(s))] for part in PARTS for s in [open_source(registry, options, part)]}
    everything = [key for some in keys.values() for key in some]
    assert len(everything) == len(set(everything)) == 1797


def test_fewer_rows_are_spread_evenly_over_all() -> None:
    x = torch.arange(10)
    table = Table(TensorBatch({"x": x}, (x > 4)[:, None]))
    few = table.spread(4)
    assert few.rows.values["x"].tolist() == [0, 2, 5, 7]
    assert few.rows.present[:, 0].tolist() == [False, False, True, True]
    assert table.spread(10) is table.spread(99) is table


def test_modalities_measure_training_rows_once_and_keep_it(registry: Registry) -> None:
    variables = [
        registry.modality("image", channels=1, size=8, levels=17, std=0.4),
        registry.modality("mask", size=8),
        registry.modality("label", classes=10),
        registry.modality("clip", name="embedding", width=20, unit_norm=False),
    ]
    dataset = open_data(registry, DataOptions("digits"), variables)
    image, mask, label, vector = measured(registry, variables, dataset, 10_000)
    rows = dataset.__getitems__(range(len(dataset))).values
    assert image.made.options["std"] == 0.4  # the user's word counts
    assert image.made.options["mean"] == pytest.approx(float(rows["image"].mean()), abs=1e-3)
    assert mask.made.options["frequencies"][1] == pytest.approx(float(rows["mask"].double().mean()), abs=1e-6)
    assert sum(label.made.options["frequencies"]) == pytest.approx(1)
    assert vector.made.options["scale"] == pytest.approx(float(rows["embedding"].square().mean().sqrt()), rel=1e-3)
    for m in (mask, label, vector):
        code = m.encoder()(rows[m.name]).double()
        assert float(code.square().mean()) == pytest.approx(1, abs=0.1)
    assert (image.name, vector.name) == ("image", "embedding")
