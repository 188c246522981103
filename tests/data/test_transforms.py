"""Transforms: what a configuration's mean, a transform of one's own, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import mmcore
from mmcore import Registry
from mmcore.config.resolve import configured
from mmcore.data import DataOptions, Dataset, LoaderOptions, Transform, open_data, open_loader
from mmcore.data.transforms import Crop, Flip, Resize, Threshold, Trace, filled
from mmcore.errors import ConfigError, MmcoreError, PluginError, RequestError
from mmcore.modality.base import Modality
from mmcore.rng import Rng
from tests.installing import install

# Each pixel of row k says where it is from: 50 k + 6 row + column.
PIXELS = np.stack([np.arange(48, dtype=np.uint8).reshape(8, 6) + 50 * k for k in range(4)])


def opened(
    registry: Registry, folder: Path, transforms: list[dict[str, Any]], size: tuple[int, int], part: str = "train"
) -> Dataset:
    """Four rows of an image and its mask, as a configuration with these transforms reads them."""
    np.savez(folder / "rows.npz", image=PIXELS, mask=PIXELS, label=np.arange(4) % 3)
    tables = {
        "seed": 3,
        "data": {
            "source": "npz",
            "options": {"path": str(folder / "rows.npz")},
            "transforms": transforms,
            "split": {"test": 0.5} if part == "test" else {},
        },
        "modalities": {
            "image": {"channels": 1, "size": list(size)},
            "mask": {"size": list(size), "classes": 200},
            "label": {"classes": 3},
        },
        "model": {"backbone": "mlp", "backbone_options": {"width": 4, "depth": 1, "features": 2}},
    }
    return configured(tables, registry=registry).rows(part)


def pixels(dataset: Dataset, epochs: int = 1) -> tuple[Tensor, Tensor]:
    """Image and mask of all rows in some epochs, ``(epochs · n, H, W)``, in the pixels' own numbers."""
    values = dataset.__getitems__(range(epochs * len(dataset))).values
    return ((values["image"][:, 0] + 1) * 127.5).round().long(), values["mask"]


MOVES = [
    {"kind": "crop", "size": [3, 2], "random": True},
    {"kind": "flip"},
    {"kind": "flip", "axis": "vertical", "probability": 0.3},
]


def test_a_configurations_random_changes_are_those_they_were(registry: Registry, tmp_path: Path) -> None:
    dataset = opened(registry, tmp_path, MOVES, (3, 2))
    image, mask = pixels(dataset, 3)
    assert dataset.varies
    assert torch.equal(image, mask)
    # The first and the last pixel, written down when transforms were no plugins yet: four rows, three epochs.
    first = [27, 83, 118, 182, 18, 63, 115, 166, 3, 82, 135, 159]
    last = [14, 94, 107, 195, 7, 74, 126, 177, 16, 69, 146, 172]
    assert [image[:, 0, 0].tolist(), image[:, -1, -1].tolist()] == [first, last]
    for crop, one, other in zip(image, first, last, strict=True):
        # The offsets within the crop are those of 3 x 2 neighbours, each axis one way or the other.
        down, right = 6 if other > one else -6, (other - one - (12 if other > one else -12))
        assert right in (1, -1)
        assert crop.tolist() == [[one + down * i + right * j for j in range(2)] for i in range(3)]


def test_a_configurations_held_out_rows_are_cropped_in_the_middle_and_not_flipped(
    registry: Registry, tmp_path: Path
) -> None:
    dataset = opened(registry, tmp_path, MOVES, (3, 2), "test")
    image, mask = pixels(dataset, 2)
    assert not dataset.varies
    assert torch.equal(image, mask)
    assert image.tolist() == [PIXELS[k, 2:5, 2:4].tolist() for k in (0, 3)] * 2


BLENDED = [[55, 57, 59], [66, 68, 69], [78, 80, 81], [88, 90, 92]]
COVERED = [[3, 4, 6, 7], [12, 13, 15, 16], [21, 23, 24, 26], [31, 32, 34, 35]]


@pytest.mark.parametrize(
    ("options", "row", "image", "mask"),
    [
        ({"size": [4, 3]}, 1, BLENDED, PIXELS[1][1::2, 1::2]),
        ({"size": 4, "fit": "cover"}, 0, COVERED, PIXELS[0][[0, 2, 4, 5]][:, [0, 2, 3, 5]]),
        ({"size": [4, 3], "nearest": ["image"]}, 1, PIXELS[1][1::2, 1::2], BLENDED),
        ({"size": [4, 3], "nearest": []}, 1, BLENDED, BLENDED),
    ],
)
def test_a_configurations_resize_is_the_one_it_was(
    options: dict[str, Any], row: int, image: Any, mask: Any, registry: Registry, tmp_path: Path
) -> None:
    size = options["size"] if isinstance(options["size"], list) else [4, 4]
    found = pixels(opened(registry, tmp_path, [{"kind": "resize", **options}], tuple(size)))
    np.testing.assert_array_equal(found[0][row], image)
    np.testing.assert_array_equal(found[1][row], mask)


def test_a_configurations_threshold_is_the_one_it_was(registry: Registry, tmp_path: Path) -> None:
    image, mask = pixels(opened(registry, tmp_path, [{"kind": "threshold", "level": 70}], (8, 6)))
    assert torch.equal(image, torch.from_numpy(PIXELS).long())
    np.testing.assert_array_equal(mask, PIXELS >= 70)
    changed = [{"kind": "threshold", "level": 70, "variables": ["image"]}]
    image, mask = pixels(opened(registry, tmp_path, changed, (8, 6)))
    np.testing.assert_array_equal(image, PIXELS >= 70)
    assert torch.equal(mask, torch.from_numpy(PIXELS).long())


# The built-in ones by themselves.


def planes(registry: Registry) -> list[Modality]:
    return [registry.modality("image", channels=1, size=4), registry.modality("mask", size=4, classes=200)]


def draws(index: int, epoch: int = 0, purpose: str = "") -> Rng:
    return Rng(1, torch.tensor([index]), epoch).of(purpose)


@pytest.mark.parametrize("kind", ["PIL", "array", "channels first"])
def test_image_and_mask_move_together(kind: str, registry: Registry) -> None:
    # Each pixel's value is its place, so that equal values prove equal moves.
    plane = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
    image: Any = {"PIL": Image.fromarray(plane), "array": plane, "channels first": plane[None]}[kind]
    steps = [one.bind(planes(registry)) for one in (Crop(6, random=True), Flip(), Flip(axis="vertical"))]
    seen = set()
    for index in range(6):
        for epoch in range(3):
            values: dict[str, Any] = {"image": image, "mask": plane, "label": 1}
            for number, step in enumerate(steps):
                values = step(values, draws(index, epoch, str(number)))
            moved = np.asarray(values["image"]).reshape(6, 6)
            assert (moved == values["mask"]).all()
            assert values["label"] == 1
            corner, far = int(moved[0, 0]), int(moved[5, 5])
            assert abs(corner // 10 - far // 10) == abs(corner % 10 - far % 10) == 5
            seen.add((corner, far))
    assert len(seen) > 8


def test_a_threshold_is_of_grey_values_whatever_holds_them() -> None:
    grey = PIXELS[0]
    rows = {"grey": grey, "equal": np.dstack([grey, grey, grey + 2]), "bits": Image.fromarray(grey >= 20)}
    palette = Image.fromarray(255 - grey, "P")
    palette.putpalette([255 - k // 3 for k in range(768)])
    for name, raw in {**rows, "palette": palette}.items():
        made = Threshold(20, ["mask"])({"mask": raw}, Rng.for_rows(0, 1))["mask"]
        assert np.array_equal(made, grey >= 20), name
    with pytest.raises(RequestError, match="found 3 channels, expected grey values or an alpha"):
        Threshold(20, ["mask"])({"mask": np.dstack([grey, grey, grey + 3])}, Rng.for_rows(0, 1))


def test_a_map_of_0_and_1_is_not_emptied_by_a_threshold() -> None:
    """As masks of another program, given to a model that was trained on grey ones: all of them would be background."""
    ones = np.eye(4, dtype=np.uint8)
    for raw in (ones, Image.fromarray(ones), np.dstack([ones] * 3), ones.astype(np.int64)):
        with pytest.raises(
            RequestError, match="found the values 0 and 1 alone, of which level = 128 makes 0 everywhere"
        ):
            Threshold(128, ["mask"])({"mask": raw}, Rng.for_rows(0, 1))
        assert np.array_equal(Threshold(1, ["mask"])({"mask": raw}, Rng.for_rows(0, 1))["mask"], ones)
    for raw, right in ((ones > 0, ones), (ones * 0, ones * 0), (ones * 255, ones), (ones * 0.9, ones * 0)):
        assert np.array_equal(Threshold(128, ["mask"])({"mask": raw}, Rng.for_rows(0, 1))["mask"], right)


def test_a_transparent_palette_is_resized_as_its_colours() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 2, 4))
    palette.info["transparency"] = 0
    made = Resize(2, variables=["image"])({"image": palette}, Rng.for_rows(0, 1))["image"]
    assert np.array_equal(
        np.asarray(made), np.asarray(palette.convert("RGBA").resize((2, 2), Image.Resampling.BILINEAR))
    )
    assert np.asarray(made)[0].tolist()[1][:3] == [255, 0, 0]  # no black of the hidden colour is mixed in


def test_a_threshold_makes_a_map_of_an_alpha_however_it_comes(registry: Registry) -> None:
    alpha = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    colours = np.stack([np.full_like(alpha, 7)] * 3 + [alpha], axis=2)
    wanted = np.arange(0, 256, 4).reshape(8, 8) >= 100
    step = Threshold(100).bind(planes(registry))
    for raw in (alpha, colours, colours.transpose(2, 0, 1), Image.fromarray(colours, "RGBA"), Image.fromarray(alpha)):
        image = np.zeros((8, 8, 3), np.uint8)
        changed = step({"image": image, "mask": raw}, draws(0))
        np.testing.assert_array_equal(changed["mask"], wanted)
        assert changed["image"] is image
    with pytest.raises(RequestError, match="found 3 channels, expected grey values or an alpha"):
        step({"mask": colours[..., 1:]}, draws(0))


def test_masks_are_resized_to_the_nearest_pixel_and_images_are_not(registry: Registry) -> None:
    mask = np.kron(np.asarray([[0, 7], [3, 1]], np.uint8), np.ones((8, 8), np.uint8))
    out = Resize(6).bind(planes(registry))({"image": Image.fromarray(mask * 30), "mask": mask}, draws(0))
    assert set(np.unique(out["mask"])) == {0, 7, 3, 1}
    assert len(np.unique(np.asarray(out["image"]))) > 4
    wide = np.tile(np.repeat(np.arange(16, dtype=np.uint8), 1), (8, 1))
    covered = Resize((4, 4), fit="cover").bind(planes(registry))({"mask": wide}, draws(0))
    assert (covered["mask"] == [5, 7, 9, 11]).all()  # the middle half of every second column


def test_a_mask_of_another_size_is_told(registry: Registry) -> None:
    values = {"image": np.zeros((8, 8)), "mask": np.zeros((4, 4))}
    with pytest.raises(
        RequestError, match="found image of 8 × 8, mask of 4 × 4, expected one size, to crop them together"
    ):
        Crop(2).bind(planes(registry))(values, draws(0))


def test_random_changes_depend_on_row_and_epoch_alone(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(0))
    np.savez(tmp_path / "a.npz", image=rng.random((30, 9, 9), np.float32))
    variables = planes(registry)[:1]
    crop = [{"kind": "crop", "size": 4, "random": True}]
    base = DataOptions("npz", {"path": str(tmp_path / "a.npz")}, transforms=crop)
    dataset = open_data(registry, base, variables, seed=4)
    assert dataset.varies
    whole = dataset.__getitems__(range(90)).values["image"]
    assert torch.equal(dataset.__getitems__([71]).values["image"][0], whole[71])
    assert sum(torch.equal(whole[i], whole[i + 30]) for i in range(30)) < 10
    other = open_data(registry, base, variables, seed=5).__getitems__(range(90)).values["image"]
    assert sum(torch.equal(*pair) for pair in zip(whole, other, strict=True)) < 30
    batch = next(iter(open_loader(dataset, base, 8, 0)))
    assert batch.values["image"].shape == (8, 1, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(0), r"resize: size = \(0, 0\), expected a number of pixels, or \[height, width\]"),
        (lambda: Crop([3, 4, 5]), r"crop: size = \(3, 4, 5\), expected a number of pixels"),
        (lambda: Resize(True), "resize: size = True"),
        (lambda: Resize(4, fit="fill"), "resize: fit = 'fill', expected one of stretch, cover"),
        (lambda: Flip(1.5), "flip: probability = 1.5, expected a number in 0 … 1"),
        (lambda: Flip(axis="left"), "flip: axis = 'left', expected one of horizontal, vertical"),
        (lambda: Threshold("half"), "threshold: level = 'half', expected a number"),  # type: ignore[arg-type]
        (lambda: Flip()({}, draws(0)), r"flip: used outside of a Dataset, expected variables=\[…\]"),
        (lambda: DataOptions("npz", transforms="flip"), "transforms = 'flip', expected a list of names"),
        (
            lambda: DataOptions("npz", transforms=[{"size": 4}]),
            r"transforms = \({'size': 4},\), expected a list of names",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"kind": "blur"}],
            r"data\.transforms\[0\].*no transform 'blur' is installed; expected one of crop, flip, resize, threshold",
        ),
        ([{"kind": "flip"}, {"kind": "crop"}], r"data\.transforms\[1\]\.size: is missing"),
        (["flip", {"kind": "resize", "sise": 4, "size": 4}], r"data\.transforms\[1\]\.sise = 4.*did you mean 'size'"),
        ([{"kind": "flip", "probability": 2}], r"data\.transforms\[0\]\.probability = 2: expected a number in 0 … 1"),
        (
            [{"kind": "flip", "probability": "often"}],
            r"data\.transforms\[0\]\.probability = \"often\": expected a finite number",
        ),
        ([{"size": 4}], r"data\.transforms.*tables with such a name as kind"),
    ],
)
def test_a_configuration_tells_which_transform_is_wrong(
    transforms: list[Any], message: str, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        opened(registry, tmp_path, transforms, (8, 6))
    assert len(caught.value.problems) == 1


def test_variables_that_a_data_set_lacks_are_told_as_it_is_opened(registry: Registry, tmp_path: Path) -> None:
    for option, name in (("variables", "label"), ("nearest", "maks")):
        message = rf"data\.transforms\[0\]\.{option} = \[\"{name}\"\]: expected names among image, mask, not '{name}'"
        with pytest.raises(ConfigError, match=message):
            opened(registry, tmp_path, [{"kind": "resize", "size": 4, option: [name]}], (4, 4))


def test_a_configuration_states_every_default_and_reads_what_it_writes(registry: Registry, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", image=PIXELS)
    tables = {
        "data": {"source": "npz", "options": {"path": str(tmp_path / "rows.npz")}, "transforms": ["flip"]},
        "modalities": {"image": {"channels": 1, "size": [8, 6]}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 4, "depth": 1, "features": 2}},
    }
    setup = configured(tables, registry=registry)
    written = setup.tables()
    assert written["data"]["transforms"] == [{"kind": "flip", "probability": 0.5, "axis": "horizontal"}]
    assert configured(written, registry=registry).tables() == written


# One of one's own.


class Roll(Transform):
    """Rolls image and mask by the same number of columns."""

    varies = True

    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        by = int(rng.integers(0, 6))
        return {**values, **{name: np.roll(values[name], by, 1) for name in ("image", "mask")}}


class Fixed(Roll):
    """The same in every epoch."""

    varies = False


def rows(registry: Registry, *transforms: Any, count: int = 4, **options: Any) -> Dataset:
    image = registry.modality("image", channels=1, size=[8, 6])
    mask = registry.modality("mask", size=[8, 6], classes=200)
    given = [{"image": PIXELS[k % 4].copy(), "mask": PIXELS[k % 4].copy()} for k in range(count)]
    return Dataset(given, [image, mask], transforms=transforms, **options)


def test_ones_own_draws_by_row_and_epoch_for_image_and_mask_alike(registry: Registry) -> None:
    dataset = rows(registry, Roll(), count=8)
    assert dataset.varies
    image, mask = pixels(dataset, 6)
    assert torch.equal(image, mask)
    shifts = mask[:, 0, 0] % 50
    # A roll by n brings the pixel of column -n to the front.
    for place, (moved, front) in enumerate(zip(mask, shifts, strict=True)):
        np.testing.assert_array_equal(moved, np.roll(PIXELS[place % 4], -int(front), 1))
    by_epoch = shifts.view(6, 8)
    assert set(shifts.tolist()) == set(range(6))
    assert not any(torch.equal(by_epoch[0], other) for other in by_epoch[1:])
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert torch.equal(pixels(rows(registry, Roll(), count=8), 6)[0], image)
    assert torch.equal(dataset.__getitems__([29]).values["mask"][0], mask[29])
    assert not torch.equal(pixels(rows(registry, Roll(), count=8, seed=1), 6)[0], image)


def test_two_of_a_kind_draw_apart(registry: Registry) -> None:
    once, twice = (pixels(rows(registry, *some), 6)[1][:, 0, 0] % 50 for some in ([Roll()], [Roll(), Roll()]))
    assert not torch.equal(twice, once * 2 % 6)


def test_held_out_rows_go_without_what_varies_and_keep_what_does_not(registry: Registry) -> None:
    held = rows(registry, Roll(), Flip(), augment=False)
    assert not held.varies
    np.testing.assert_array_equal(pixels(held, 2)[1], np.concatenate([PIXELS, PIXELS]))
    fixed = rows(registry, Fixed(), augment=False)
    kept = pixels(fixed, 3)[1].view(3, 4, 8, 6)
    assert not np.array_equal(kept[0], PIXELS)
    assert all(torch.equal(kept[0], other) for other in kept[1:])
    assert torch.equal(pixels(rows(registry, Fixed()))[1], kept[0])


def test_what_a_source_keeps_is_not_changed_in_place(registry: Registry) -> None:
    class Cutout(Transform):
        varies = False

        def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
            values["image"][:] = 0
            values["mask"] = values["mask"] // 2
            return values

    dataset = rows(registry, Cutout())
    image, mask = pixels(dataset)
    assert image.unique().tolist() == [0]
    np.testing.assert_array_equal(mask, PIXELS // 2)
    assert torch.equal(pixels(dataset)[1], mask)
    np.testing.assert_array_equal([row["image"] for row in dataset.source], PIXELS)


def test_a_variable_made_none_is_missing_in_that_row(registry: Registry) -> None:
    class Dropping(Transform):
        varies = True

        def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
            return {**values, "mask": None if rng.uniform() < 0.5 else values["mask"]}

    present = rows(registry, Dropping(), count=40).__getitems__(range(40)).present
    assert present[:, 0].all()
    assert 8 < int(present[:, 1].sum()) < 32


class Broken(Transform):
    """Returns what it is told to."""

    varies = False

    def __init__(self, returned: Callable[[dict[str, Any]], Any]) -> None:
        self.returned = returned

    def __call__(self, values: dict[str, Any], rng: Rng) -> Any:
        return self.returned(values)


@pytest.mark.parametrize(
    ("returned", "kind", "message"),
    [
        (lambda v: None, PluginError, "the transform Broken returned a NoneType, expected a mapping with image, mask"),
        (
            lambda v: {"image": v["image"]},
            PluginError,
            "returned image, expected image, mask .None for one that the row",
        ),
        (lambda v: {**v, "maks": 1}, PluginError, "returned image, mask, maks, expected image, mask"),
        (lambda v: dict.fromkeys(v), RequestError, "row 2: the transform Broken left nothing of image, mask"),
        (
            lambda v: v["image"][99],
            RequestError,
            "row 2: the transform Broken gave IndexError: .*expected image, mask to be",
        ),
    ],
)
def test_what_ones_own_does_wrong_is_told(
    returned: Any, kind: type[Exception], message: str, registry: Registry
) -> None:
    with pytest.raises(kind, match=message):
        rows(registry, Broken(returned)).__getitems__([2])


class Unsaid(Transform):
    def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
        return values


class Lost(Roll):
    def bind(self, variables: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (
            lambda values, index: values,
            r"transforms\[0\] is a function, expected an object of a subclass of mmcore.data.Transform",
        ),
        (Roll, r"transforms\[0\] is the class Roll, expected an object of it, Roll\(…\)"),
        (Unsaid(), r"transforms\[0\], a Unsaid, lacks varies, expected True"),
        (Lost(), r"what transforms\[0\] is bound to is a NoneType"),
    ],
)
def test_what_is_no_transform_is_refused_with_what_it_lacks(thing: Any, message: str, registry: Registry) -> None:
    with pytest.raises(RequestError, match=message):
        rows(registry, thing)


PLUGIN = """
from mmcore import Offer, hookimpl
from mmcore.data import Transform


@hookimpl
def mmcore_transforms():
    return [Offer("darker", "darker_transform:Darker", "fewer grey values"), Offer("none", "darker_transform:none")]


class Darker(Transform):
    varies = False

    def __init__(self, by: int = 2):
        self.by = by

    def __call__(self, values, rng):
        return {**values, "mask": values["mask"] // self.by}


def none():
    return len
"""


def test_a_plugins_transform_is_named_in_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {"transform.darker": "darker_transform", "transform.none": "darker_transform"}
    install(tmp_path, "acme-darker", points, {"darker_transform": PLUGIN})
    registry = mmcore.discover()
    chosen = [{"kind": "darker", "by": 3}, "darker"]
    np.testing.assert_array_equal(pixels(opened(registry, tmp_path, chosen, (8, 6)))[1], PIXELS // 3 // 2)
    with pytest.raises(ConfigError, match=r'data.transforms\[0\].by = "x": expected an integer'):
        opened(registry, tmp_path, [{"kind": "darker", "by": "x"}], (8, 6))
    options = DataOptions("npz", {"path": str(tmp_path / "rows.npz")}, transforms=["none"])
    with pytest.raises(MmcoreError, match=r"a builtin_function_or_method.* expected an? .*mmcore.data.Transform"):
        open_data(registry, options, [registry.modality("mask", size=[8, 6], classes=200)])


def test_a_model_trains_on_rows_with_ones_own(registry: Registry) -> None:
    parts = [registry.modality("image", channels=1, size=[8, 6]), registry.modality("mask", size=[8, 6], classes=200)]
    small = {"width": 4, "depth": 1, "features": 2}
    weights = []
    for workers in (0, 0, 1):
        model = mmcore.compose(parts, backbone="mlp", backbone_options=small, registry=registry)
        dataset = rows(registry, Roll(), count=10)
        mmcore.fit(
            model, dataset, steps=3, batch_size=4, loading=LoaderOptions(workers=workers), device="cpu", quiet=True
        )
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


# ---- back to where pixels were ----


def moved(transforms: list[Transform], plane: np.ndarray) -> tuple[np.ndarray, Trace]:
    """A float plane through transforms, as a row goes, and how."""
    trace, values = Trace(), {"x": plane}
    for transform in transforms:
        trace.add(transform, values)
        values = dict(transform(values, Rng.for_rows(0, 1)))
    return np.asarray(values["x"]), trace


SIDE = st.integers(6, 40)


@settings(max_examples=150)
@given(st.data())
def test_what_is_undo_pixels_lies_where_it_was(data: st.DataObject) -> None:
    """A ramp of both coordinates: wherever it is known again, it is what it was, to a pixel of the smaller of the two grids."""
    h, w = data.draw(SIDE), data.draw(SIDE)
    kinds = data.draw(st.lists(st.sampled_from(["stretch", "cover", "crop"]), min_size=1, max_size=3))
    transforms: list[Transform] = []
    here, coarse = (h, w), [1.0, 1.0]
    for kind in kinds:
        if kind == "crop":
            size = (data.draw(st.integers(3, here[0])), data.draw(st.integers(3, here[1])))
            transforms.append(Crop(size, variables=["x"]))
        else:
            size = (data.draw(SIDE), data.draw(SIDE))
            transforms.append(Resize(size, kind, variables=["x"]))
            ratio = [a / b for a, b in zip(here, size, strict=True)]
            ratio = [min(ratio)] * 2 if kind == "cover" else ratio
            coarse = [max(c, 1.0) * max(r, 1.0) for c, r in zip(coarse, ratio, strict=True)]
        here = size
    for axis in (0, 1):
        ramp = np.broadcast_to(
            np.arange((h, w)[axis], dtype=np.float32)[:, None] if axis == 0 else np.arange(w, dtype=np.float32), (h, w)
        )
        plane, trace = moved(transforms, np.ascontiguousarray(ramp))
        assert plane.shape == here
        back = trace.undo_pixels("x", plane)
        assert back.shape == (h, w)
        known = np.isfinite(back)
        assert known.any()
        # Bilinear resizing keeps a ramp but at the edges, where it flattens over a pixel of the coarser grid for each step.
        assert np.abs(back - ramp)[known].max() <= 1.5 * len(kinds) * coarse[axis] + 1


@given(SIDE, SIDE, SIDE, SIDE)
def test_what_was_cut_is_unknown(h: int, w: int, tall: int, wide: int) -> None:
    tall, wide = min(h, tall), min(w, wide)
    x = np.random.default_rng(h * w).random((h, w)).astype(np.float32)
    plane, trace = moved([Crop((tall, wide), variables=["x"])], x)
    back = trace.undo_pixels("x", plane)
    top, left = (h - tall) // 2, (w - wide) // 2
    inside = np.zeros((h, w), dtype=bool)
    inside[top : top + tall, left : left + wide] = True
    assert (np.isfinite(back) == inside).all()
    assert (back[inside] == x[inside]).all()
    whole = filled(back)
    rows, columns = np.clip(np.arange(h), top, top + tall - 1), np.clip(np.arange(w), left, left + wide - 1)
    assert (whole == x[np.ix_(rows, columns)]).all()


def test_what_a_row_lacks_has_the_size_of_what_it_has() -> None:
    both = Resize(8)
    variables = [mmcore.discover().modality(plugin, name=plugin, size=8) for plugin in ("image", "mask")]
    bound = both.bind(variables)
    trace = Trace()
    trace.add(bound, {"image": np.zeros((20, 30, 3), dtype=np.uint8)})
    assert trace.undo_pixels("mask", np.ones((8, 8), dtype=np.float32)).shape == (20, 30)
    # By two transforms, each of its own variable: of the mask's own nothing is there, so it is as the row's picture was at first.
    trace = Trace()
    trace.add(Resize(8, variables=["image"]), {"image": np.zeros((20, 30, 3), dtype=np.uint8)})
    trace.add(Resize(8, variables=["mask"]), {"image": np.zeros((8, 8, 3), dtype=np.uint8)})
    assert trace.undo_pixels("mask", np.ones((8, 8), dtype=np.float32)).shape == (20, 30)
    assert Trace().undo_pixels("mask", np.ones((8, 8), dtype=np.float32)).shape == (8, 8)


@pytest.mark.parametrize(("level", "high"), [(128, 255), (1, 1), (0.5, 1), (255, 255), (1000, 1000)])
def test_a_threshold_s_map_is_written_so_that_it_is_read_again(level: float, high: float) -> None:
    threshold = Threshold(level, variables=["x"])
    x = np.random.default_rng(0).integers(0, 2, (5, 7))
    written = threshold.undo_values("x", Image.fromarray(x.astype(np.uint8)))
    assert set(np.unique(np.asarray(written))) == {0, high}
    assert (threshold({"x": written}, Rng.for_rows(0, 1))["x"] == x).all()
    assert threshold.undo_values("y", x) is x
