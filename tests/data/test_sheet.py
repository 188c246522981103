"""The picture of rows: each cell against the file's own pixels, and the model's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data import Dataset, Rows
from mmcore.data.decode import Encoded, as_stored, decode
from mmcore.data.disk import OnDisk, brief, drawn, escaped, listed, opened
from mmcore.data.options import ColumnOptions
from mmcore.data.select import Named, Subset, column_called
from mmcore.data.sheet import CAPTIONS, GAP, LINE, WIDTH, fitted, picture, plain, shortened, wrapped
from mmcore.data.transforms import Resize
from mmcore.modality.spec import Spec

GREY, MAP = Spec((1, 4, 6), torch.float32, -1, 1), Spec((4, 6), torch.int64, 0, 255)
SIDE = 24


def sheet(rows: list[dict[str, Any]], variables: list[Any], at: Path, **options: Any) -> np.ndarray:
    """The sheet's pixels."""
    made = Dataset(rows, variables, **{"on_bad_row": "skip", **options})
    with Image.open(picture(made, at / "deep" / "data.png", side=SIDE)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def cell(pixels: np.ndarray, column: int, size: tuple[int, int]) -> np.ndarray:
    """A cell's first ``size`` pixels, of the sheet's only line of rows: below it are captions and a gap."""
    top = len(pixels) - GAP - (SIDE + (CAPTIONS + 1) * LINE + GAP) + LINE
    left = GAP + column * (SIDE + GAP // 2)
    return pixels[top : top + size[0], left : left + size[1]]


def test_a_cell_on_disk_is_the_file_and_beside_it_is_what_the_model_sees(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    file = rng.integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(file).save(tmp_path / "a.png")
    image = registry.modality("image", size=[4, 6])
    pixels = sheet([{"image": tmp_path / "a.png"}], [image], tmp_path, transforms=[Resize([4, 6])])
    assert (cell(pixels, 0, (16, 24)) == np.kron(file, np.ones((2, 2, 1), np.uint8))).all()
    seen = np.asarray(Image.fromarray(file).resize((6, 4), Image.Resampling.BILINEAR))
    assert (cell(pixels, 1, (16, 24)) == np.kron(seen, np.ones((4, 4, 1), np.uint8))).all()


def test_a_mask_of_0_and_255_is_black_and_white_and_its_legend_has_its_colours(
    registry: Registry, tmp_path: Path
) -> None:
    x = np.zeros((8, 8), np.uint8)
    x[:2] = 255
    mask = registry.modality("mask", size=8, classes=3, colours=["#000000", "#ffffff", "#12ab34"])
    pixels = sheet([{"mask": x}], [mask], tmp_path)
    shades, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(shade): int(n) for shade, n in zip(shades.tolist(), counts, strict=True)}
    # A third class is nowhere in the pictures; its colour is in the legend, a square of 10 pixels with a border.
    assert found[0x12, 0xAB, 0x34] == 64
    for column in (0, 1):
        got = cell(pixels, column, (24, 24))
        assert (got == np.kron(x, np.ones((3, 3), np.uint8))[..., None]).all()


def test_what_a_row_lacks_is_grey_and_says_so(registry: Registry, tmp_path: Path) -> None:
    image = registry.modality("image", channels=1, size=8)
    rows = [{"image": np.full((8, 8), 77, np.uint8), "n": 1}, {"n": 2}, {"image": tmp_path / "none.png", "n": 3}]
    pixels = sheet(rows, [image, registry.modality("scalar", name="n")], tmp_path)
    block = 2 * SIDE + GAP // 2 + 2 * GAP + SIDE + 2 * GAP
    for k, value in enumerate((77, None, None)):
        shown = pixels[:, k * block : (k + 1) * block]
        corner = cell(shown, 0, (2, 24))[1, 20]
        assert (corner == (77 if value else (0xD9, 0xDC, 0xE2))).all()
        red = (shown == (0xB3, 0x26, 0x1E)).all(-1).any()
        assert red == (k == 2)  # only the skipped row says why
    with pytest.raises(RequestError, match=r"found no file .*none\.png"):
        sheet(rows[2:], [image], tmp_path, on_bad_row="stop")


def palette(indices: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette(colours)
    return image


def test_pictures_are_drawn_as_their_files_have_them() -> None:
    x = np.arange(24).reshape(4, 6)
    colours = [(40 * k + c * 7) % 256 for k in range(6) for c in range(3)]
    got = np.asarray(drawn(palette(x % 6, colours), MAP))
    assert (got == np.asarray(colours).reshape(6, 3)[x % 6]).all()
    bits = Image.fromarray(x % 2 == 0)
    assert (np.asarray(drawn(bits, MAP))[..., 0] == (x % 2 == 0) * 255).all()
    deep = (x * 1000 + 500).astype(np.uint16)
    scaled = (x * 255 / 23).round()
    for value in (
        Image.fromarray(deep),
        deep,
        deep.astype(">u2"),
        deep.astype(np.float32),
        torch.tensor(x),
        x.tolist(),
    ):
        assert (np.asarray(drawn(value, GREY)) == scaled[..., None]).all()
    # 8 bits are as they are, never stretched.
    assert (np.asarray(drawn(x.astype(np.uint8), GREY)) == x[..., None]).all()
    rgb = np.random.Generator(np.random.Philox(1)).integers(0, 256, (4, 6, 3), np.uint8)
    assert (np.asarray(drawn(rgb, GREY)) == rgb).all()
    assert (np.asarray(drawn(rgb.transpose(2, 0, 1), GREY)) == rgb).all()
    # Over a chequerboard shows what is clear, and what is opaque is as the file has it.
    alpha = np.dstack([rgb, np.where(x < 12, 255, 0)]).astype(np.uint8)
    over = np.asarray(drawn(Image.fromarray(alpha), GREY))
    assert (over[:2] == rgb[:2]).all()
    assert set(np.unique(over[2:])) == {200, 255}
    many = np.random.Generator(np.random.Philox(2)).random((40, 4, 6))
    first = drawn(many, Spec((40, 4, 6)))
    assert first is not None
    assert first.size == (6, 4)
    assert (np.asarray(first) == np.asarray(drawn(many[0], GREY))).all()
    for none in ("cat", 3, [[1], [1, 2]], np.zeros((0, 4)), np.zeros((4, 6), complex), np.zeros(5), object()):
        assert drawn(none, GREY) is None
    assert np.asarray(drawn(np.full((4, 6), np.nan), GREY)).max() == 0
    assert drawn(x.astype(np.uint8), Spec((24,))) is None


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photograph_is_shown_as_it_is_stored_and_seen_upright(turn: int, tmp_path: Path) -> None:
    x = np.random.Generator(np.random.Philox(turn)).integers(0, 256, (5, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(x).save(tmp_path / "a.png", exif=exif)
    upright = decode(tmp_path / "a.png")
    assert upright.size == ((5, 7) if turn > 4 else (7, 5))
    stored = opened(tmp_path / "a.png", GREY)
    assert (np.asarray(stored) == x).all()
    assert (np.asarray(as_stored(upright)) == x).all()
    assert stored.format == "PNG"
    disk = OnDisk(GREY)
    disk.add(stored)
    assert disk.text().startswith("1 PNG of mode RGB, 5 × 7, values")
    assert disk.text().endswith("1 of them turned (EXIF)") == (turn > 1)


def told(spec: Spec, *values: Any) -> str:
    disk = OnDisk(spec)
    for value in values:
        disk.add(value)
    return disk.text()


def test_raw_values_are_told_in_words() -> None:
    x = np.arange(24).reshape(4, 6)
    assert told(MAP, palette(x % 3, [0, 0, 0, 9, 9, 9, 7, 7, 7])) == "1 picture of mode P, 4 × 6, indices 0 … 2"
    assert told(MAP, *[x.astype(np.uint8) % 2 * 255] * 2) == "2 arrays of uint8, 4 × 6, values 0 and 255"
    assert told(MAP, (x == 3).astype(">i4") * 7, x[:2] * 0) == (
        "1 array of int32 and 1 array of int64, 2 × 6 … 4 × 6, values 0 and 7"
    )
    assert told(GREY, x / 24) == "1 array of float64, 4 × 6, values 0 … 0.9583"
    assert told(GREY, x * np.nan) == "1 array of float64, 4 × 6, NaN or infinity"
    two = np.where(x[..., None] > 5, [255, 0, 0], [0, 0, 9]).astype(np.uint8)
    assert told(MAP, Image.fromarray(two)) == "1 picture of mode RGB, 4 × 6, #000009 and #ff0000"
    clear = Image.fromarray(np.dstack([two[..., 0], x * 0 + [0, 255] * 3]).astype(np.uint8))
    assert told(MAP, clear) == "1 picture of mode LA, 4 × 6, alpha 0 and 255, values 0 and 255"
    flat = Spec((), torch.int64, 0, 2)
    assert told(flat, 2, 1, 2) == "3 numbers, 1 and 2"
    assert told(flat, *range(30)) == "30 numbers, values 0 … 29"
    assert told(flat, True, False) == "2 truth values, False and True"
    assert told(flat, "b", "a", "b") == "3 texts, 'a' and 'b'"
    assert told(flat, *map(str, range(2000))).startswith("2,000 texts, more than 1,024 different, such as '0'")
    assert told(Spec((5,)), np.arange(5.0), np.arange(5.0) / 2) == "2 arrays of float64, 5, values 0 … 4"
    assert told(flat) == "nothing"
    assert told(flat, {"a": 1}, {1}, b"x", Path("a.wav"), 10**5000).startswith("1 dict and 1 set and 1 bytes")


@pytest.mark.parametrize(
    ("values", "text"),
    [([0], "0"), ([0, 1], "0 and 1"), ([0, 1, 2, 255], "0 … 2 and 255"), ([1, 3, 5, 7, 9, 11, 13], "7 of 1 … 13")],
)
def test_whole_numbers_are_told_as_runs(values: list[int], text: str) -> None:
    assert listed(values) == text


def test_the_column_is_found_through_what_chooses_rows() -> None:
    named = Named(Rows([{"a": 1}, {"a": 2}]), {"label": ColumnOptions("a")})
    assert column_called(Subset(named, np.asarray([1])), "label") == "a"
    assert column_called(named, "other") == column_called(named.source, "other") == "other"


def test_texts_are_escaped_shortened_and_wrapped() -> None:
    assert escaped("a\x1b[2J\n\u202eb\udcff") == r"a\x1b[2J\n\u202eb\udcff"
    assert escaped("x" * 10, 4) == "xxx…"
    assert plain("Füße 48 × 64 … 猫\x07") == r"Fu\xdfe 48 x 64 ... \u732b\x07"
    assert shortened("abc", 500) == "abc"
    short = shortened("images/" + "a" * 300 + ".png", 120)
    assert short.startswith("images/a")
    assert short.endswith("a.png")
    assert "..." in short
    lines = wrapped("one two three four five six seven", 60, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert wrapped("w" * 200, 60, 99)[0].strip("w") == ""
    assert brief("a\nb") == r"'a\nb'"
    assert brief(np.float32(0.5)) == "0.5"
    assert brief(np.arange(9)) == "[0, 1, 2, 3, …]"

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Bad" in brief(Bad())


def test_pictures_fit_their_cells_whatever_their_sides() -> None:
    for size, fit in (
        ((1, 1), (64, 64)),
        ((4000, 2), (64, 3)),
        ((2, 4000), (3, 64)),
        ((63, 5), (63, 5)),
        ((128, 64), (64, 32)),
    ):
        assert fitted(Image.new("RGB", size), 64, 64, True).size == fit


def test_odd_rows_make_a_picture_of_bounded_size(registry: Registry, tmp_path: Path) -> None:
    clear = io.BytesIO()
    Image.new("LA", (4, 4), (3, 9)).save(clear, "PNG")
    image = [
        tmp_path / ("a" * 120 + "\x1b[31m\n.png"), Encoded(clear.getvalue(), ".png"), Encoded(b"\x89PNG\r\n\x1a\nxx", ".png"),
        "nowhere", {"a": object()}, 10**5000, np.zeros((0, 4)), np.full((4, 4), np.nan), np.zeros((4, 4), complex), [[1, 2], [3]],
        np.zeros((2, 5000), np.uint8), Image.new("LAB", (4, 4)), Image.new("CMYK", (9000, 1)), None,
    ]  # fmt: skip
    rows = [{"image": x, "word": "\u202e" + "w" * 5000} for x in image]
    variables = [
        registry.modality("image", size=4),
        registry.modality("label", name="word", classes=2, names=["cat", "\u202e" + "w" * 5000]),
    ]
    for some in (rows[:7], rows[7:]):
        assert max(sheet(some, variables, tmp_path).shape[:2]) <= WIDTH


def test_many_variables_and_classes_make_a_picture_of_bounded_size(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    many = registry.modality("mask", size=4, classes=10_000, void=-1)
    rows = [{"mask": rng.integers(-1, 10_000, (4, 4)), "image": rng.random((40, 8, 8))} for _ in range(3)]
    wide = sheet(rows, [many, registry.modality("image", size=8, channels=40)], tmp_path)
    assert max(wide.shape[:2]) <= WIDTH
    numbers = [registry.modality("scalar", name=f"v{k}") for k in range(400)]
    tall = sheet([{m.name: 1.0 * i for m in numbers} for i in range(3)], numbers, tmp_path)
    assert tall.shape[1] <= WIDTH
    assert tall.shape[0] <= 2500


def test_of_an_enormous_picture_every_few_pixels_are_drawn_and_counted() -> None:
    x = np.zeros((5000, 3), np.uint8)
    x[::3] = 200
    disk = OnDisk(GREY)
    for value in (x, Image.fromarray(x)):
        image = drawn(value, GREY)
        assert image is not None
        assert image.size == (3, 1667)
        assert set(np.unique(np.asarray(image))) <= {0, 200}
        disk.add(value)
    assert "5000 × 3" in disk.text()
