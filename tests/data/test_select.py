"""Columns, splits, filters, limits and transforms: which rows and pixels a model is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data import (
    ColumnOptions,
    DataOptions,
    FilterOptions,
    Rows,
    SplitOptions,
    Table,
    TensorBatch,
    TransformOptions,
    measured,
    open_data,
    open_loader,
    open_source,
)
from mmcore.data.select import Named, keep, split
from mmcore.data.transforms import make_transforms
from mmcore.modality.base import Modality

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
        (lambda: TransformOptions("resize"), "size is missing, expected a number of pixels, .* to resize"),
        (lambda: TransformOptions("blur"), "one of resize, crop, flip, threshold"),
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


def planes(registry: Registry) -> list[Modality]:
    return [registry.modality("image", channels=1, size=4), registry.modality("mask", size=4, classes=200)]


@pytest.mark.parametrize("kind", ["PIL", "array", "channels first"])
def test_image_and_mask_move_together(kind: str, registry: Registry) -> None:
    # Each pixel's value is its place, so that equal values prove equal moves.
    pixels = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
    image: Any = {"PIL": Image.fromarray(pixels), "array": pixels, "channels first": pixels[None]}[kind]
    options = [
        TransformOptions("crop", 6, random=True),
        TransformOptions("flip"),
        TransformOptions("flip", axis="vertical"),
    ]
    steps = make_transforms(options, planes(registry), seed=1, random=True)
    seen = set()
    for index in range(6):
        for epoch in range(3):
            values: dict[str, Any] = {"image": image, "mask": pixels, "label": 1}
            for step in steps:
                values = step(values, index, epoch)
            moved = np.asarray(values["image"]).reshape(6, 6)
            assert (moved == values["mask"]).all()
            corner, far = int(moved[0, 0]), int(moved[5, 5])
            assert abs(corner // 10 - far // 10) == abs(corner % 10 - far % 10) == 5
            seen.add((corner, far))
    assert len(seen) > 8


def test_fewer_rows_are_spread_evenly_over_all() -> None:
    x = torch.arange(10)
    table = Table(TensorBatch({"x": x}, (x > 4)[:, None]))
    few = table.spread(4)
    assert few.rows.values["x"].tolist() == [0, 2, 5, 7]
    assert few.rows.present[:, 0].tolist() == [False, False, True, True]
    assert table.spread(10) is table.spread(99) is table


def test_a_threshold_makes_a_map_of_an_alpha_however_it_comes(registry: Registry) -> None:
    alpha = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    colours = np.stack([np.full_like(alpha, 7)] * 3 + [alpha], axis=2)
    wanted = np.arange(0, 256, 4).reshape(8, 8) >= 100
    (step,) = make_transforms([TransformOptions("threshold", level=100)], planes(registry), seed=0, random=True)
    for raw in (alpha, colours, colours.transpose(2, 0, 1), Image.fromarray(colours, "RGBA"), Image.fromarray(alpha)):
        image = np.zeros((8, 8, 3), np.uint8)
        changed = step({"image": image, "mask": raw}, 0, 0)
        np.testing.assert_array_equal(changed["mask"], wanted)
        assert changed["image"] is image
    with pytest.raises(RequestError, match="found 3 channels, expected grey values or an alpha"):
        step({"mask": colours[..., :3]}, 0, 0)


def test_masks_are_resized_to_the_nearest_pixel_and_images_are_not(registry: Registry) -> None:
    mask = np.kron(np.asarray([[0, 7], [3, 1]], np.uint8), np.ones((8, 8), np.uint8))
    (step,) = make_transforms([TransformOptions("resize", 6)], planes(registry), seed=0, random=False)
    out = step({"image": Image.fromarray(mask * 30), "mask": mask}, 0, 0)
    assert set(np.unique(out["mask"])) == {0, 7, 3, 1}
    assert len(np.unique(np.asarray(out["image"]))) > 4
    (step,) = make_transforms([TransformOptions("resize", (4, 4), fit="cover")], planes(registry), seed=0, random=False)
    wide = np.tile(np.repeat(np.arange(16, dtype=np.uint8), 1), (8, 1))
    assert (step({"mask": wide}, 0, 0)["mask"] == [5, 7, 9, 11]).all()  # the middle half of every second column


def test_a_mask_of_another_size_is_told(registry: Registry) -> None:
    (step,) = make_transforms([TransformOptions("crop", 2)], planes(registry), seed=0, random=False)
    with pytest.raises(
        RequestError,
        match="found image of 8 × 8, mask of 4 × 4, expected one size",
    ):
        step({"image": np.zeros((8, 8)), "mask": np.zeros((4, 4))}, 0, 0)


def test_random_changes_depend_on_row_and_epoch_alone(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(0))
    np.savez(tmp_path / "a.npz", image=rng.random((30, 9, 9), np.float32))
    variables = planes(registry)[:1]
    base = DataOptions("npz", {"path": str(tmp_path / "a.npz")}, transforms=(TransformOptions("crop", 4, random=True),))
    dataset = open_data(registry, base, variables, seed=4)
    assert dataset.varies
    places = torch.arange(90)
    whole = dataset.__getitems__(places.tolist()).values["image"]
    assert torch.equal(dataset.__getitems__([71]).values["image"][0], whole[71])
    assert sum(torch.equal(whole[i], whole[i + 30]) for i in range(30)) < 10
    held = open_data(
        registry,
        DataOptions("npz", base.options, split=SplitOptions(test=0.5), transforms=base.transforms),
        variables,
        "test",
    )
    assert not held.varies
    batch = next(iter(open_loader(dataset, base, 8, 0)))
    assert batch.values["image"].shape == (8, 1, 4, 4)


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
