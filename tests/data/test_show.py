"""What is shown of data, against numpy on data that are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data import Dataset
from mmcore.data.show import picture, summarize
from mmcore.modality.base import Modality, Spec

ROWS = 40


def columns() -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(3))
    return {
        "image": rng.integers(0, 256, (ROWS, 4, 5, 3), np.uint8),
        "mask": rng.choice(np.asarray([0, 1, 2, 9]), (ROWS, 4, 5), p=[0.5, 0.3, 0.1, 0.1]),
        "label": np.arange(ROWS) % 4 % 3,
        "tags": rng.random((ROWS, 3)) < [0.1, 0.5, 0.9],
        "embedding": rng.normal(2, 3, (ROWS, 6)).astype(np.float32),
    }


HERE = {
    "image": lambda i: i % 4 > 0,
    "mask": lambda i: i % 5 > 1,
    "label": lambda i: i != 7,
    "tags": lambda i: True,
    "embedding": lambda i: i >= 30,
}


def rows() -> list[dict[str, Any]]:
    data = columns()
    return [
        {name: x[i].item() if x[i].ndim == 0 else x[i] for name, x in data.items() if HERE[name](i)}
        for i in range(ROWS)
    ]


@pytest.fixture
def variables(registry: Registry) -> list[Modality]:
    return [
        registry.modality("image", channels=3, size=[4, 5], mean=0.1, std=0.4),
        registry.modality("mask", size=[4, 5], classes=3, void=9),
        registry.modality("label", classes=3),
        registry.modality("label", name="tags", classes=3, multi=True),
        registry.modality("clip", name="embedding", width=6, unit_norm=False, scale=2.0),
    ]


def seen(name: str) -> np.ndarray:
    return columns()[name][[i for i in range(ROWS) if HERE[name](i)]]


def test_counts_and_presence_are_those_of_the_rows(variables: list[Modality]) -> None:
    train, test = Dataset(rows(), variables), Dataset(rows()[:11], variables)
    summary = summarize({"train": train, "test": test})
    assert summary.rows == {"train": ROWS, "test": 11}
    assert (summary.read, summary.bad) == (ROWS, ())
    assert summary.together == pytest.approx(sum(all(h(i) for h in HERE.values()) for i in range(ROWS)) / ROWS)
    for one in summary.variables:
        assert one.present == pytest.approx(len(seen(one.name)) / ROWS)
    assert "rows: 40 train, 11 test; 40 read" in summary.text()


def test_ranges_and_moments_are_numpys(variables: list[Modality]) -> None:
    found = {one.name: one for one in summarize({"all": Dataset(rows(), variables)}).variables}
    values = {name: seen(name).astype(np.float64) for name in found}
    values["image"] = values["image"] / 127.5 - 1
    for name, x in values.items():
        one = found[name]
        assert (one.low, one.high) == pytest.approx((x.min(), x.max()), abs=1e-6)
        assert (one.mean, one.std) == pytest.approx((x.mean(), x.std()), rel=1e-5)
    assert found["image"].shape == (3, 4, 5)
    assert [found[name].dtype for name in ("image", "mask", "tags")] == ["float32", "int64", "bool"]


def test_class_shares_are_those_counted_void_apart(variables: list[Modality]) -> None:
    found = {one.name: one.classes for one in summarize({"all": Dataset(rows(), variables)}).variables}
    mask, label = seen("mask"), seen("label")
    assert found["mask"] == pytest.approx([(mask == k).sum() / (mask != 9).sum() for k in range(3)])
    assert found["label"] == pytest.approx([(label == k).mean() for k in range(3)])
    # Of tags each is told by itself: they exclude no other.
    assert found["tags"] == pytest.approx(seen("tags").mean(0).tolist())
    assert found["image"] == found["embedding"] == ()


def test_code_variances_are_those_of_the_codes_by_hand(variables: list[Modality]) -> None:
    found = {one.name: one for one in summarize({"all": Dataset(rows(), variables)}).variables}
    image = (seen("image").astype(np.float64) / 127.5 - 1 - 0.1) / 0.4
    embedding = seen("embedding").astype(np.float64) / 2
    for name, code in (("image", image), ("embedding", embedding)):
        flat = code.reshape(len(code), -1)
        assert found[name].code_variance == pytest.approx(flat.var(), rel=1e-5)
        each = flat.var(0)
        assert found[name].code_range == pytest.approx((each.min(), each.max()), rel=1e-5)


def test_a_variable_in_no_row_has_no_figures(variables: list[Modality]) -> None:
    only = [{"label": i % 3} for i in range(6)]
    one = summarize({"all": Dataset(only, variables[:1] + variables[2:3])}).variables[0]
    assert one.present == 0
    assert all(map(math.isnan, (one.low, one.mean, one.code_variance)))
    assert one.classes == ()


def test_rows_are_spread_evenly_and_bad_ones_are_told(variables: list[Modality]) -> None:
    label = variables[2:3]
    # The first half is of class 0: the first rows alone would show no other.
    half = [{"label": 0 if i < 500 else 2} for i in range(1000)]
    summary = summarize({"all": Dataset(half, label)}, rows=100)
    assert summary.read == 100
    assert summary.variables[0].classes == (0.5, 0.0, 0.5)
    half[30] = {"label": 5}
    skipping = summarize({"all": Dataset(half, label, on_bad_row="skip")}, rows=100)
    assert skipping.bad == ("row 30, label: found class 5, expected 0 … 2",)
    assert skipping.variables[0].present == 0.99
    assert "1 bad\n" in skipping.text()
    assert skipping.text().endswith("bad: row 30, label: found class 5, expected 0 … 2")
    with pytest.raises(RequestError, match="row 30, label: found class 5"):
        summarize({"all": Dataset(half, label)}, rows=100)


class Counted(Modality):
    """A whole number up to ``high``."""

    def __init__(self, high: int | None) -> None:
        self.name, self.code = "n", (1,)
        self.spec = Spec((), torch.int64, 2, high)

    def read(self, raw: Any) -> torch.Tensor:
        return torch.tensor(raw)

    def encoder(self) -> Any:
        return lambda x: x[:, None].float()

    decoder = loss = show = typical = None  # type: ignore[assignment]


@pytest.mark.parametrize(("high", "told"), [(5, [0.5, 0.25, 0, 0.25]), (66, []), (None, [])])
def test_classes_are_told_from_the_lowest_and_only_if_few(high: int | None, told: list[float]) -> None:
    data = Dataset([{"n": n} for n in (2, 3, 2, 5)], [Counted(high)])
    assert list(summarize({"all": data}).variables[0].classes) == told


def told(registry: Registry, rows: list[dict[str, Any]], **variables: dict[str, Any]) -> list[str]:
    made = [registry.modality(o.pop("plugin", name), name=name, **o) for name, o in variables.items()]
    return list(summarize({"train": Dataset(rows, made)}).warnings())


def test_what_is_hardly_ever_right_is_warned_of(registry: Registry) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    pixels = rng.integers(1, 255, (20, 8, 8), np.uint8)
    mask = rng.integers(0, 2, (20, 8, 8))
    fine = [{"image": pixels[i], "mask": mask[i]} for i in range(20)]
    image, two = {"channels": 1, "size": 8}, {"size": 8}
    assert told(registry, fine, image=dict(image), mask=dict(two)) == []
    # A class that occurs nowhere, and one below 1 in 10,000.
    assert told(registry, fine, mask=two | {"classes": 3}) == [
        "mask: 1 of 3 classes are hardly there or nowhere: 2 (0.00%); are there so many?"
    ]
    rare = np.zeros((20, 40, 40), int)
    rare[0, 0, 0] = rare[1, 0, 0] = 1
    assert "1 (0.01%)" in told(registry, [{"mask": x} for x in rare], mask={"size": 40})[0]
    rare[2:4, 0, 0] = 1
    assert not any("hardly there" in one for one in told(registry, [{"mask": x} for x in rare], mask={"size": 40}))
    # Nothing but one value; void; rows that never meet; a variable in no row.
    assert "mask is 0 everywhere" in " ".join(told(registry, [{"mask": x * 0} for x in mask], mask=dict(two)))
    void = np.where(rng.random(mask.shape) < 0.95, 255, mask)
    assert "of the elements are void" in told(registry, [{"mask": x} for x in void], mask=two | {"void": 255})[0]
    apart = [{"image": pixels[0]}, {"mask": mask[0]}]
    assert told(registry, apart, image=dict(image), mask=dict(two))[0].startswith("no row has every variable")
    assert "image is in no row" in told(registry, [{"mask": x} for x in mask], image=dict(image), mask=dict(two))


def test_pictures_that_are_hardly_pictures_are_warned_of(registry: Registry) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    pixels = rng.integers(1, 255, (20, 8, 8), np.uint8)
    image = {"channels": 1, "size": 8}
    flat = [{"image": x if i > 2 else x * 0 + 7} for i, x in enumerate(pixels)]
    assert told(registry, flat, image=dict(image)) == [
        "image: 3 of the pictures read are of one value; are they empty or unreadable?"
    ]
    bits = [{"image": (x > 100) * np.uint8(255)} for x in pixels]
    assert "100.0% of the values are at the ends" in told(registry, bits, image=dict(image))[0]
    deep = [{"image": x.astype(int) * 16} for x in pixels]
    assert told(registry, deep, image=image | {"limits": [0, 4095]}) == []
    clipped = told(registry, deep, image=image | {"limits": [0, 2000], "clip": True})[0]
    share = (pixels.astype(int) * 16 >= 2000).mean()
    assert clipped.startswith(
        f"image: 0.0% and {share:.1%} of the values are at the ends of its limits, many of them clipped"
    )
    dark = told(registry, deep, image=image | {"limits": [0, 65535]})[0]
    assert dark.startswith("image: its code has the variance 0.00")
    assert "expected about 1" in dark


def test_the_picture_has_each_value_in_its_cell_and_grey_where_there_is_none(
    variables: list[Modality], tmp_path: Path
) -> None:
    side, gap, head = 20, 4, 16
    flat = [
        {"image": np.full((4, 5, 3), 40 * i, np.uint8)} | ({"mask": np.zeros((4, 5), int)} if i != 2 else {})
        for i in range(4)
    ]
    at = picture(Dataset(flat, variables[:2]), tmp_path / "deep" / "rows.png", rows=2, columns=2, side=side)
    with Image.open(at) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (head + 2 * (side + gap) + gap, 2 * (2 * (side + gap) + gap), 3)
    for k in range(4):
        line, column = divmod(k, 2)
        top, left = head + gap + line * (side + gap), column * (2 * (side + gap) + gap) + gap
        assert (pixels[top + 5, left + 5] == 40 * k).all()
        mask = variables[1].show(torch.zeros(4, 5, dtype=torch.int64)).convert("RGB").getpixel((0, 0))
        want = (200, 200, 200) if k == 2 else mask
        assert tuple(pixels[top + 5, left + side + gap + 5]) == want
