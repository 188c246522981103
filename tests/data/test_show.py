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
from mmcore.data.show import summarize
from mmcore.modality.base import Modality
from mmcore.modality.spec import Spec
from mmcore.testing.reference import Reference

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
    values["mask"] = values["mask"][values["mask"] != 9]
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


def pixels(low: int = 1, high: int = 255) -> np.ndarray:
    return np.random.Generator(np.random.Philox(1)).integers(low, high, (20, 8, 8), np.uint8)


def masks() -> np.ndarray:
    return np.random.Generator(np.random.Philox(2)).integers(0, 2, (20, 8, 8))


IMAGE, TWO = {"channels": 1, "size": 8}, {"size": 8}


def test_of_healthy_data_nothing_is_warned(registry: Registry) -> None:
    fine = [{"image": x, "mask": m, "label": i % 3} for i, (x, m) in enumerate(zip(pixels(), masks(), strict=True))]
    assert told(registry, fine, image=dict(IMAGE), mask=dict(TWO), label={"classes": 3}) == []
    # A picture of one pixel is of one value, and nothing is wrong with it.
    one = [{"image": x[:1, :1]} for x in pixels()]
    assert told(registry, one, image=IMAGE | {"size": 1}) == []


def test_classes_that_are_hardly_there_are_warned_of_with_the_option_that_names_them(registry: Registry) -> None:
    rows = [{"mask": x} for x in masks()]
    assert told(registry, rows, mask=TWO | {"classes": 3}) == [
        "mask: 1 of 3 classes are hardly there or nowhere: 2 0.00%; classes in [modalities.mask] says which there are"
    ]
    assert told(registry, rows, mask=TWO | {"values": [0, 1, 7]}) == [
        "mask: 1 of 3 classes are hardly there or nowhere: 2 (7 on disk) 0.00%; values in [modalities.mask] says which there are"
    ]
    # 2 of 32,000 pixels are fewer than 1 in 10,000; 4 are not.
    rare = np.zeros((20, 40, 40), int)
    rare[:2, 0, 0] = 1
    assert (
        "1 of 2 classes are hardly there or nowhere: 1 0.01%;"
        in told(registry, [{"mask": x} for x in rare], mask={"size": 40})[0]
    )
    rare[2:4, 0, 0] = 1
    assert not any("hardly there" in one for one in told(registry, [{"mask": x} for x in rare], mask={"size": 40}))
    # Of many classes a few are told, however many there are.
    many = told(
        registry, [{"label": i % 3} for i in range(20)], label={"classes": 150, "names": [f"n{k}" for k in range(150)]}
    )
    assert many[0].startswith("label: 147 of 150 classes are hardly there or nowhere: 3 (n3) 0.00%, 4 (n4) 0.00%")
    assert many[0].endswith("10 (n10) 0.00% …; names in [modalities.label] says which there are")


def test_what_has_nothing_to_learn_is_warned_of(registry: Registry) -> None:
    nothing = "there is nothing to learn; leave out [modalities.mask], or columns.mask"
    flat = told(registry, [{"mask": x * 0} for x in masks()], mask=dict(TWO))
    assert f"mask is 0 everywhere: {nothing}" in flat[-1]
    # Void beside one class is one class.
    void = told(registry, [{"mask": np.where(x, 255, 0)} for x in masks()], mask=TWO | {"void": 255})
    assert f"mask is 0 everywhere: {nothing}" in void[-1]
    alike = told(registry, [{"mask": masks()[0]} for _ in range(5)], mask=dict(TWO))
    assert alike[0].startswith(f"mask is the same in all 5 rows read: {nothing}")
    assert told(registry, [{"mask": masks()[k % 2]} for k in range(5)], mask=dict(TWO)) == []


def test_void_and_what_never_meets_are_warned_of(registry: Registry) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    for share, warned in ((0.95, True), (0.8, False)):
        void = np.where(rng.random((20, 8, 8)) < share, 255, masks())
        found = told(registry, [{"mask": x} for x in void], mask=TWO | {"void": 255})
        # A map of nothing but void is none.
        there = void[(void != 255).any((1, 2))]
        expected = [
            f"mask: {(there == 255).mean():.1%} of the elements are void, and count for nothing; void in [modalities.mask] says which value "
            "is, if it is a class"
        ]
        assert [one for one in found if "void" in one] == (expected if warned else [])
    image, mask = ({"image": x} for x in pixels()), ({"mask": x} for x in masks())
    apart = told(registry, [*image, *mask], image=dict(IMAGE), mask=dict(TWO))
    assert apart == [
        "0 of the 40 rows read have every variable (image in 50.0%, mask in 50.0%): do their names or keys meet? columns, or suffixes in "
        "options, in [data] let them"
    ]
    together = [
        {"image": pixels()[0], "mask": masks()[0]},
        *({"image": x} for x in pixels()),
        *({"mask": x} for x in masks()),
    ]
    assert told(registry, together, image=dict(IMAGE), mask=dict(TWO)) == []
    absent = told(registry, [{"mask": x} for x in masks()], image=dict(IMAGE), mask=dict(TWO))
    assert absent[1] == 'image is in no row; columns.image = "…" in [data] names its column'


def test_pictures_of_one_value_are_warned_of_by_their_places(registry: Registry) -> None:
    rows = [{"image": x if i > 2 else x * 0 + 7} for i, x in enumerate(pixels())]
    assert told(registry, rows, image=dict(IMAGE)) == [
        "image: 3 of the 20 pictures read are of one value (row 0, row 1, row 2); take out those that are empty or damaged, or limits = "
        "[low, high] in [modalities.image] says what the others' values mean"
    ]
    # One colour is one value, whatever its channels are.
    red = [{"image": np.stack([x if i else x * 0 + k for k in (200, 10, 10)], -1)} for i, x in enumerate(pixels())]
    assert (
        "1 of the 20 pictures read are of one value (row 0)" in told(registry, red, image={"channels": 3, "size": 8})[0]
    )


def test_clipped_values_are_those_beyond_the_limits_on_the_disk(registry: Registry) -> None:
    deep = [{"image": x.astype(int) * 16} for x in pixels()]
    assert told(registry, deep, image=IMAGE | {"limits": [0, 4095], "clip": True}) == []
    share = (pixels().astype(int) * 16 > 2000).mean()
    clipped = told(registry, deep, image=IMAGE | {"limits": [0, 2000], "clip": True, "mean": 0.4, "std": 0.7})
    assert clipped == [
        f"image: {share:.1%} of the values are beyond its limits 0 … 2000, and clipped; limits = [16, 4064] in [modalities.image] keeps them"
    ]
    # At the limits is not beyond them: white paper is no clipped value.
    white = [{"image": np.where(x > 120, 255, x)} for x in pixels()]
    options = IMAGE | {"limits": [0, 255], "clip": True, "mean": 0.3, "std": 0.7}
    assert told(registry, white, image=options) == []
    bits = [{"image": (x > 100) * np.uint8(255)} for x in pixels()]
    assert told(registry, bits, image=IMAGE | {"std": 1.0}) == [
        'image: 100.0% of the values are at the ends of its range; if it is a class map, plugin = "mask" in [modalities.image] says so'
    ]


def test_a_code_far_from_unit_variance_is_warned_of_with_what_mends_it(registry: Registry) -> None:
    deep = [{"image": x.astype(int)} for x in pixels()]
    dim = pixels().astype(float) / 65535 * 2 - 1
    for options, mend in (
        ({}, "measure = 4096 in [data] lets it be measured"),
        ({"mean": -0.9, "std": 0.5}, "leave mean and std out of [modalities.image], that the data say it"),
    ):
        variance = dim.var() / 0.25
        assert told(registry, deep, image=IMAGE | {"limits": [0, 65535]} | options) == [
            f"image: its code has the variance {variance:.3g}, expected about 1; {mend}"
        ]
    # A quarter of the variance is not yet far.
    for std, warned in ((pixels().std() / 127.5 * 1.99, False), (pixels().std() / 127.5 * 2.01, True)):
        found = told(registry, [{"image": x} for x in pixels()], image=IMAGE | {"std": float(std)})
        assert bool(found) == warned


def test_the_disk_is_told_beside_what_is_seen_and_shares_by_name(registry: Registry, tmp_path: Path) -> None:
    for i, x in enumerate(masks()):
        Image.fromarray((x * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    rows = [{"mask": tmp_path / f"{i}.png", "label": "ab"[i % 4 == 0], "tags": float(i)} for i in range(20)]
    variables = [
        registry.modality("mask", size=8, values=[0, 255]),
        registry.modality("label", classes=2, names=["a", "b"]),
        registry.modality("scalar", name="tags"),
    ]
    one = masks().mean()
    lines = summarize({"train": Dataset(rows, variables)}).text().splitlines()
    assert lines[5:10] == [
        "mask: on disk 20 PNG of mode L, 8 × 8, values 0 and 255; the model sees classes 0 (0 on disk), 1 (255 on disk), 8 × 8",
        "label: on disk 20 texts, 'a' and 'b'; the model sees classes 0 (a), 1 (b)",
        "tags: on disk 20 numbers, values 0 … 19; the model sees 0 … 19",
        f"classes of mask: 0 (0 on disk) {1 - one:.1%}  1 (255 on disk) {one:.1%}",
        "classes of label: 0 (a) 75.0%  1 (b) 25.0%",
    ]


class Maps(Reference):
    """Real numbers on some axes, of which the last two are a picture's or not."""

    def __init__(self, *shape: int, planar: bool) -> None:
        self.name, self.spec, self.code, self.pictures = "maps", Spec(shape, low=0.0, high=1.0), shape, planar

    @property
    def planar(self) -> bool:
        return self.pictures


@pytest.mark.parametrize(("shape", "planar"), [((2, 6), False), ((2, 6), True), ((1, 2, 6), True), ((1, 2, 6), False)])
def test_only_pictures_are_blank_or_at_the_ends_of_their_range(shape: tuple[int, ...], planar: bool) -> None:
    values = torch.linspace(0, 1, 12).expand(10, 12).clone()
    values[3] = 0.5
    seen = summarize(
        {"all": Dataset([{"maps": x.reshape(shape).tolist()} for x in values], [Maps(*shape, planar=planar)])}
    )
    (one,) = seen.variables
    assert len(one.flat) == (1 if planar else 0)
    assert one.ends == pytest.approx((9 / 120, 9 / 120) if planar else (0, 0))


def test_of_many_classes_the_largest_and_the_rare_are_told(registry: Registry) -> None:
    rows = [{"label": k} for k in range(30) for _ in range(1 + (k in (4, 21)))]
    seen = summarize({"all": Dataset(rows, [registry.modality("label", classes=10_000)])}).variables[0]
    assert len(seen.classes) == 10_000
    assert {4, 21} < set(seen.largest())
    assert len(seen.largest()) == 12
    text = seen.shares()
    assert "4 6.2%" in text
    assert "18 more  9,970 hardly there or nowhere: 30 0.00%" in text
    assert len(text) < 400


def test_of_large_pictures_fewer_rows_are_read(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcore.data.show.ELEMENTS", 64 * 18)
    data = Dataset([{"mask": x} for x in [*masks(), *masks()]], [registry.modality("mask", size=8)])
    assert summarize({"all": data}).read == 18
    monkeypatch.setattr("mmcore.data.show.ELEMENTS", 1)
    assert summarize({"all": data}).read == 16


def test_nothing_of_a_stranger_is_printed_raw(registry: Registry, tmp_path: Path) -> None:
    bad = tmp_path / "a\x1b[2J\u202e.png"
    rows = [{"label": "x\x1b[31m\n" + "w" * 5000}, {"label": "cat"}, {"image": bad}, {"image": pixels()[0]}]
    made = [
        registry.modality("image", **IMAGE),
        registry.modality("label", classes=2, names=["cat", "x\x1b[31m\n" + "w" * 5000]),
    ]
    text = summarize({"all": Dataset(rows, made, on_bad_row="skip")}).text()
    assert all(line.isprintable() and len(line) < 1000 for line in text.split("\n"))
    assert r"a\x1b[2J\u202e.png" in text
    assert r"1 (x\x1b[31m\nwww" in text


@pytest.mark.parametrize(
    ("fit", "shape", "share"), [("cover", (4, 80), 0.8), ("cover", (4, 18), 0.0), ("stretch", (4, 80), 0.0)]
)
def test_pixels_that_a_resize_cuts_away_are_told(
    fit: str, shape: tuple[int, int], share: float, registry: Registry
) -> None:
    """As of panoramas, of which a model would see the middle alone."""
    picture, names = np.zeros((*shape, 3), np.uint8), ("image", "mask")
    rows = [{"image": picture + 40 * k, "mask": np.eye(*shape, k, np.uint8)} for k in range(4)]
    made = [registry.modality("image", channels=3, size=[8, 32]), registry.modality("mask", size=[8, 32], classes=2)]
    resize = registry.transform("resize", size=[8, 32], fit=fit)
    summary = summarize({"all": Dataset(rows, made, transforms=[resize])})
    found = {one.name: one.cut for one in summary.variables}
    right = {"cover": 1 - 8 * 32 / (8 * round(shape[1] * max(2, 32 / shape[1]))), "stretch": 0.0}[fit]
    assert found == pytest.approx(dict.fromkeys(names, right))
    assert (right > 0.25) == (share > 0)
    warned = [line for line in summary.warnings() if "resize cuts" in line]
    assert len(warned) == (2 if share else 0)
    assert all(f"resize cuts {share:.0%} of the pixels away" in line for line in warned)


def test_variables_that_say_the_same_are_told(registry: Registry) -> None:
    """As a class's number beside its name, or an age in months: given one, the other is no prediction."""
    rng = np.random.Generator(np.random.Philox(5))
    rows = []
    for k in range(30):
        age = float(rng.normal(40, 9))
        rows.append({"age": age, "months": 12 * age + 1, "dose": age + float(rng.normal()), "kind": k % 3, "code": 2 - k % 3, "sex": k % 2, "rare": int(k == 7), "first": int(k == 7)})  # fmt: skip
    numbers = [registry.modality("scalar", name=name) for name in ("age", "months", "dose")]
    classes = [registry.modality("label", name=name, classes=3) for name in ("kind", "code", "sex", "rare", "first")]
    found = {one.name: one.copy for one in summarize({"all": Dataset(rows, [*numbers, *classes])}).variables}
    assert found == {**dict.fromkeys(found, ""), "months": "age", "code": "kind"}
    text = summarize({"all": Dataset(rows, [*numbers, *classes])}).text()
    assert "warning: code says the same as kind in all rows read" in text
    few = summarize({"all": Dataset(rows[:12], [*numbers, *classes])}).variables
    assert not any(one.copy for one in few)
