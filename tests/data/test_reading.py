"""From raw rows to tensors: together as one by one, with the same words for what is wrong."""

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import PluginError, RequestError
from mmcore.data import Dataset, Rows, Table
from mmcore.data.decode import IMAGES, Encoded, decode
from mmcore.data.sources.manifest import Manifest
from mmcore.modality.base import Modality, ModalityProtocol
from mmcore.modality.spec import Spec
from mmcore_image import ImageModality
from mmcore_mask import MaskModality

H, W = 3, 5
SEEDS = st.integers(0, 2**32 - 1)


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@st.composite
def pictures(draw: st.DrawFn, channels: int) -> Any:
    """A raw image of ``channels`` in any form that is read."""
    form = draw(st.sampled_from(["PIL", "last", "first", "floats", "doubles", "tensor", "half", "grey"]))
    pixels = _rng(draw(SEEDS)).integers(0, 256, (H, W, channels), np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    return {
        "PIL": image,
        "last": pixels,
        "first": pixels.transpose(2, 0, 1),
        "floats": (pixels / 255).astype(np.float32),
        "doubles": pixels.transpose(2, 0, 1) / 255.0,
        "tensor": torch.from_numpy(pixels),
        "half": torch.from_numpy(pixels).to(torch.bfloat16) / 256,
        "grey": image.convert("LA"),  # converted to the modality's channels
    }[form]


@st.composite
def maps(draw: st.DrawFn, classes: int, void: int | None) -> Any:
    """A raw mask in any form that is read."""
    forms = [
        "PIL",
        "int64",
        "floats",
        "tensor",
        *(["bits", "bit tensor", "alpha", "alpha array"] if classes == 2 else []),
    ]
    form = draw(st.sampled_from(forms))
    values = [*range(classes), *([] if void is None else [void])]
    pixels = _rng(draw(SEEDS)).choice(np.asarray(values, np.uint8), (H, W))
    rgba = np.stack([pixels] * 3 + [(pixels % 2) * 255], axis=2).astype(np.uint8)
    return {
        "PIL": Image.fromarray(pixels),
        "int64": pixels.astype(np.int64),
        "floats": pixels.astype(np.float32),
        "tensor": torch.from_numpy(pixels),
        "bits": pixels % 2 == 1,
        "bit tensor": torch.from_numpy(pixels % 2 == 1),
        "alpha": Image.fromarray(rgba),
        "alpha array": rgba,
    }[form]


def one_by_one(modality: ModalityProtocol, raws: Sequence[Any]) -> torch.Tensor:
    return torch.stack([modality.read(raw) for raw in raws])


def assert_reads_alike(modality: ModalityProtocol, raws: Sequence[Any]) -> None:
    together, alone = modality.read_many(raws), one_by_one(modality, raws)
    assert (together.dtype, together.shape) == (alone.dtype, alone.shape)
    assert torch.equal(together, alone)
    assert together.is_contiguous()
    modality.spec.check(together, modality.name)


@given(st.data(), st.sampled_from([1, 3]))
@settings(max_examples=60)
def test_images_read_together_are_those_read_one_by_one(data: st.DataObject, channels: int) -> None:
    raws = data.draw(st.lists(pictures(channels), min_size=1, max_size=7))
    assert_reads_alike(ImageModality(channels, (H, W)), raws)


@given(st.data(), st.sampled_from([(2, None), (4, None), (4, 9)]))
@settings(max_examples=60)
def test_masks_read_together_are_those_read_one_by_one(data: st.DataObject, kind: tuple[int, int | None]) -> None:
    raws = data.draw(st.lists(maps(*kind), min_size=1, max_size=7))
    assert_reads_alike(MaskModality((H, W), kind[0], void=kind[1], channel="alpha"), raws)


def test_pixels_are_scaled_as_by_hand() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    read = ImageModality(1, 16).read_many([pixels, pixels.T])
    want = torch.arange(256).reshape(16, 16) / 255 * 2 - 1
    assert torch.equal(read, torch.stack([want, want.T])[:, None])


TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("turn", list(TURNS))
def test_pictures_are_upright_as_their_files_say(suffix: str, turn: int, tmp_path: Path) -> None:
    stored = np.kron(_rng(1).integers(0, 2, (2, 3)) * 255, np.ones((16, 16))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(
        tmp_path / f"a.{suffix}", exif=exif, **({} if suffix != "webp" else {"lossless": True})
    )
    upright = TURNS[turn](stored)
    for raw in (tmp_path / f"a.{suffix}", Encoded((tmp_path / f"a.{suffix}").read_bytes(), f".{suffix}")):
        assert np.array_equal(np.asarray(decode(raw).convert("L")) > 127, upright > 127)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "npy"])
def test_bytes_without_a_name_are_what_they_begin_as(suffix: str) -> None:
    pixels, file = np.zeros((4, 4), np.uint8), BytesIO()
    if suffix == "npy":
        np.save(file, pixels)
    else:
        Image.fromarray(pixels).save(file, format={"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    for raw in (
        file.getvalue(),
        {"bytes": file.getvalue(), "path": None},
        {"bytes": file.getvalue(), "path": f"a.{suffix}"},
    ):
        found = decode(raw)
        assert isinstance(found, np.ndarray if suffix == "npy" else Image.Image)
        assert (np.asarray(found.convert("L") if suffix != "npy" else found) == 0).all()


def test_other_bytes_and_tables_are_left_as_they_are(tmp_path: Path) -> None:
    Image.new("L", (2, 3)).save(tmp_path / "a.png")
    for raw in (b"BM is no bitmap", b"", {"bytes": 1, "other": 2}, {"x": b""}):
        assert decode(raw) == raw
    assert decode({"bytes": None, "path": str(tmp_path / "a.png")}).size == (2, 3)
    assert decode({"bytes": None, "path": None}) is None


def test_no_other_program_is_run_to_open_a_picture() -> None:
    """Pillow would hand PostScript to Ghostscript."""
    assert ".eps" not in IMAGES
    with pytest.raises(RequestError, match="no image format that is known"):
        decode(Encoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n", ".png"))


class Negative(ImageModality):
    """Images of which dark is light, read in a way of their own."""

    def read(self, raw: Any) -> torch.Tensor:
        return -super().read(raw)


def test_who_reads_in_a_way_of_its_own_reads_many_that_way() -> None:
    raws = [_rng(k).integers(0, 256, (H, W, 3), np.uint8) for k in range(4)]
    plain = ImageModality(3, (H, W))
    assert torch.equal(Negative(3, (H, W)).read_many(raws), -plain.read_many(raws))
    rows = Dataset([{"image": raw} for raw in raws], [Negative(3, (H, W))])
    assert torch.equal(rows.__getitems__(range(4)).values["image"], -plain.read_many(raws))


def faulty(raw: np.ndarray, how: str) -> Any:
    """The picture with a fault."""
    if how == "shape":
        return raw[:, :-1]
    if how == "dtype":
        return raw.astype(np.int16)
    if how == "kind":
        return "no such file.png"
    return np.where(raw > raw.mean(), np.nan if how == "nan" else 2, raw / 255)


SKIPS = '; on_bad_row = "skip" passes over such rows'
FAULTS = st.sampled_from(["shape", "dtype", "kind", "nan", "large"])


@given(
    st.integers(1, 9), st.dictionaries(st.integers(0, 8), FAULTS, max_size=4), st.sets(st.integers(0, 8), max_size=3)
)
@settings(max_examples=60)
def test_what_is_wrong_in_a_batch_is_told_as_of_the_row_alone(
    count: int, faults: dict[int, str], lacking: set[int]
) -> None:
    images = [_rng(k).integers(0, 256, (H, W, 3), np.uint8) for k in range(count)]
    masks: list[Any] = [image[..., 0] % 4 for image in images]
    rows: list[dict[str, Any]] = [{"image": i, "mask": m} for i, m in zip(images, masks, strict=True)]
    faults = {k: how for k, how in faults.items() if k < count}
    for k, how in faults.items():
        rows[k]["image" if k % 2 else "mask"] = faulty(images[k] if k % 2 else masks[k], how)
    for k in lacking - faults.keys():
        if k < count:
            del rows[k]["image"]
    variables = [ImageModality(3, (H, W)), MaskModality((H, W), 4)]
    skipping = Dataset(rows, variables, on_bad_row="skip")
    batch = skipping.__getitems__(range(count))
    alone = {}
    for k in range(count):
        one = skipping.__getitems__([k])
        alone |= {bad.index: bad.problem for bad in one.bad}
        assert torch.equal(one.present[0], batch.present[k])
        for name in ("image", "mask"):
            assert torch.equal(one.values[name][0], batch.values[name][k])
    assert {bad.index: bad.problem for bad in batch.bad} == alone
    # The mask's pixels as floats are whole numbers but for the faults that are not.
    assert alone.keys() <= faults.keys()
    assert {k for k, how in faults.items() if how in ("shape", "kind", "nan") or k % 2} <= alone.keys()
    stopping = Dataset(rows, variables)
    if alone:
        with pytest.raises(RequestError) as told:
            stopping.__getitems__(range(count))
        assert str(told.value).removesuffix(SKIPS) in alone.values()
    else:
        assert torch.equal(stopping.__getitems__(range(count)).present, batch.present)


class Together(Modality):
    """A number whose ``read_many`` does as it is told."""

    name, spec, code = "x", Spec((1,)), (1,)

    def __init__(self, how: str) -> None:
        self.how = how

    def read(self, raw: Any) -> torch.Tensor:
        return torch.tensor([float(raw)])

    def read_many(self, raws: Sequence[Any]) -> torch.Tensor:
        x = torch.tensor([[float(raw)] for raw in raws])
        if self.how == "raises":
            raise KeyError("together")
        return {"short": x[:-1], "wide": x.repeat(1, 2), "nan": x * np.nan}[self.how]

    encoder = decoder = loss = show = typical = None  # type: ignore[assignment]


@pytest.mark.parametrize("how", ["raises", "short", "wide", "nan"])
@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
def test_a_read_many_that_fails_where_read_does_not_is_the_plugins_fault(how: str, on_bad_row: str) -> None:
    dataset = Dataset([{"x": k} for k in range(4)], [Together(how)], on_bad_row=on_bad_row)
    with pytest.raises(PluginError, match=r"modality 'x': its read_many gave .* for 4 values, expected what its read"):
        dataset.__getitems__(range(4))


def test_many_rows_are_read_a_few_at_a_time() -> None:
    held: list[int] = []

    class Counted(Together):
        def read_many(self, raws: Sequence[Any]) -> torch.Tensor:
            held.append(len(raws))
            return torch.tensor([[float(raw)] for raw in raws])

    rows = Rows([{"x": None if k % 7 == 1 else float("nan") if k in (300, 301) else k, "y": 0} for k in range(700)])
    dataset = Dataset(rows, [Counted(""), _Named("y")], on_bad_row="skip")
    batch = dataset.take(range(700))
    assert max(held) < 300
    here = [k % 7 != 1 and k not in (300, 301) for k in range(700)]
    assert batch.present[:, 0].tolist() == here
    assert batch.present[:, 1].tolist() == [k not in (300, 301) for k in range(700)]
    assert batch.values["x"][:, 0].tolist() == [float(k) if is_here else 0.0 for k, is_here in enumerate(here)]
    assert [bad.index for bad in batch.bad] == [300, 301]
    table = Table.read(dataset)
    assert torch.equal(table.rows.values["x"], batch.values["x"])


class _Named(Together):
    def __init__(self, name: str) -> None:
        super().__init__("")
        self.name = name

    def read_many(self, raws: Sequence[Any]) -> torch.Tensor:
        return torch.stack([self.read(raw) for raw in raws])


def verdict(spec: Spec, x: torch.Tensor) -> bool:
    """Whether ``x`` fits, number by number."""
    for value in x.flatten().tolist():
        if value != value or value in (float("inf"), -float("inf")):
            return False
        if value == spec.void and spec.void is not None:
            continue
        if (spec.low is not None and value < spec.low - 1e-6) or (spec.high is not None and value > spec.high + 1e-6):
            return False
    return True


@given(
    st.lists(
        st.sampled_from([-3.0, -1.0, -0.5, 0.0, 1.0, 2.0, 7.0, float("nan"), float("inf"), -float("inf")]), max_size=6
    ),
    st.sampled_from([None, -1.0, 0.0]),
    st.sampled_from([None, 1.0, 2.0]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]),
    st.sampled_from([None, 7]),
)
@settings(max_examples=200)
def test_a_specs_check_is_that_of_each_number(
    numbers: list[float], low: float | None, high: float | None, dtype: torch.dtype, void: int | None
) -> None:
    if not dtype.is_floating_point:
        numbers = [abs(n) if dtype != torch.int64 else n for n in numbers if np.isfinite(n)]
    x = torch.tensor(numbers).to(dtype)
    spec = Spec((), dtype, low, high, void=void)
    try:
        spec.check(x, "x")
    except RequestError:
        fits = False
    else:
        fits = True
    assert fits == verdict(spec, x)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0_", exclude_categories=("Cs", "Nd")), max_size=6)


@given(st.lists(st.tuples(CELL, CELL, st.one_of(CELL, st.just('a "quoted"\ntext,'))), min_size=1, max_size=6))
@settings(max_examples=100)
def test_csv_cells_are_those_of_the_csv_module(rows: list[tuple[str, str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b", "c"), *rows])
        source = Manifest(path, paths=(), texts=("a", "b", "c"), header=True)
        found = [tuple(row[name] or "" for name in "abc") for row in source]
    assert found == rows
