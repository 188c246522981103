"""Images: what is read, what is refused, and the dequantised likelihood against numerical integration."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import OptionError, RequestError
from mmcore.testing import conformance_suite
from mmcore_image import ImageModality

test_image = conformance_suite(ImageModality(3, 8))


def test_arrays_pictures_and_paths_read_alike(tmp_path: Path) -> None:
    m = ImageModality(3, (4, 6))
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    want = torch.tensor(pixels).permute(2, 0, 1) / 255 * 2 - 1
    for raw in (
        pixels,
        pixels.transpose(2, 0, 1),
        pixels / 255.0,
        Image.fromarray(pixels),
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
    ):
        torch.testing.assert_close(m.read(raw), want)
    assert np.array_equal(np.asarray(m.show(want)), pixels)


def test_grey_images_need_no_channel() -> None:
    assert ImageModality(1, 8).read(np.zeros((8, 8))).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (
            np.zeros((5, 5)),
            r"found shape \(5, 5\), expected an image of 1 × 8 × 8; \[\[data.transforms\]\] with kind = .resize.",
        ),
        (np.zeros((8, 8, 3)), r"found shape \(8, 8, 3\), expected an image of 1 × 8 × 8$"),
        (np.zeros((8, 8), dtype=np.int64), "found dtype int64 in 0 … 0, expected uint8 .*; limits = .low, high. says"),
        (np.full((8, 8), 1.5), "found values 1.5 … 1.5, expected floats in 0 … 1"),
        (np.full((8, 8), np.nan), "found values nan"),
        ("/no/such/file.png", "found no file /no/such/file.png, expected an image"),
        (7, "found int, expected a path"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        ImageModality(1, 8).read(raw)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 0},
        {"size": 0},
        {"levels": 1},
        {"std": 0.0},
        {"limits": [1, 1]},
        {"limits": [0]},
        {"clip": 1},
        {"background": "white"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionError) as refused:
        ImageModality(**options)
    assert (refused.value.option, *refused.value.also) == (*options,)


@pytest.mark.parametrize("log_scale", [-2.5, -1.0, 0.5])
def test_likelihood_is_the_dequantised_one(log_scale: float) -> None:
    """``-E_u log N(x + u) - log δ`` by quadrature, and probabilities that sum to at most one."""
    m = ImageModality(1, 1, levels=17)
    width, mean, scale = 2 / 16, 0.2, math.exp(log_scale)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * width - width / 2
    params = torch.tensor([[[[mean]]], [[[log_scale]]]], dtype=torch.float64)[None].reshape(1, 2, 1, 1, 1)
    for x in (-1.0, 0.25, 1.0):
        normal = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), scale)
        want = -normal.log_prob(x + u).mean() - math.log(width)
        got = m.loss()(params, torch.full((1, 1, 1, 1), x, dtype=torch.float64))
        torch.testing.assert_close(got[0], want, rtol=1e-6, atol=1e-6)
    levels = torch.linspace(-1, 1, 17, dtype=torch.float64).reshape(17, 1, 1, 1)
    assert (-m.loss()(params.expand(17, 2, 1, 1, 1), levels)).exp().sum() <= 1


RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOURS = np.random.Generator(np.random.Philox(0)).integers(0, 256, (8, 8, 3), np.uint8)


@pytest.mark.parametrize("raw", [RAMP, RAMP.astype(">u2"), RAMP.astype(np.int64), Image.fromarray(RAMP), RAMP.tolist()])
def test_a_range_says_what_other_numbers_mean(raw: object) -> None:
    m = ImageModality(1, 8, limits=[0, 65535])
    want = torch.tensor(RAMP / 65535 * 2 - 1)[None].float()
    assert torch.equal(m.read(raw), want)
    assert torch.equal(ImageModality(3, 8, limits=[0, 65535]).read(Image.fromarray(RAMP)), want.expand(3, 8, 8))


@pytest.mark.parametrize(
    ("low", "high", "raw"),
    [
        (-1, 1, RAMP / 65535 * 2 - 1),
        (0, 255, GREY.astype(np.float32)),
        (0, 1, GREY > 100),
        (-1024, 3071, GREY.astype(np.float64) * 10 - 1000),
    ],
)
def test_any_numbers_may_have_a_range(low: float, high: float, raw: np.ndarray) -> None:
    want = (raw.astype(np.float64) - low) / (high - low) * 2 - 1
    assert torch.equal(ImageModality(1, 8, limits=[low, high]).read(raw)[0], torch.tensor(want).float())


def test_what_is_beyond_the_range_is_refused_or_clipped() -> None:
    with pytest.raises(RequestError, match=r"found values 0 … 65535, expected 0 … 4095 as limits says; clip = true"):
        ImageModality(1, 8, limits=[0, 4095]).read(RAMP)
    clipped = ImageModality(1, 8, limits=[0, 4095], clip=True).read(RAMP)[0]
    assert torch.equal(clipped, torch.tensor(RAMP.clip(0, 4095) / 4095 * 2 - 1).float())
    with pytest.raises(RequestError, match="found values nan"):
        ImageModality(1, 8, limits=[0, 1], clip=True).read(np.full((8, 8), np.nan))
    with pytest.raises(
        RequestError, match="found a picture of mode I;16 with values 0 … 65535, expected 8 bits; limits"
    ):
        ImageModality(1, 8).read(Image.fromarray(RAMP))
    with pytest.raises(RequestError, match="found a picture of 8 bits, expected values in 0 … 65535 as limits says"):
        ImageModality(1, 8, limits=[0, 65535]).read(Image.fromarray(GREY))
    with pytest.raises(RequestError, match="found an array of bytes, expected values in 0 … 65535 as limits says"):
        ImageModality(1, 8, limits=[0, 65535]).read(GREY)


def test_what_is_transparent_shows_the_background() -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    alpha[0, 0] = 51
    hidden = Image.fromarray(np.dstack([COLOURS, alpha]))
    seen = COLOURS * (alpha[..., None] / 255) + np.array([250, 0, 100]) * (1 - alpha[..., None] / 255)
    for raw in (hidden, np.asarray(hidden)):
        got = ImageModality(3, 8, background=[250, 0, 100]).read(raw)
        np.testing.assert_allclose((got.numpy().transpose(1, 2, 0) + 1) * 127.5, seen, atol=0.6)
        with pytest.raises(RequestError, match=r"found an alpha, 75.0% of the pixels are not opaque.*background"):
            ImageModality(3, 8).read(raw)
    assert torch.equal(
        ImageModality(4, 8).read(hidden), torch.tensor(np.asarray(hidden) / np.float32(255) * 2 - 1).permute(2, 0, 1)
    )
    # An opaque alpha hides nothing.
    opaque = Image.fromarray(np.dstack([COLOURS, np.full((8, 8), 255, np.uint8)]))
    assert torch.equal(ImageModality(3, 8).read(opaque), ImageModality(3, 8).read(COLOURS))


def test_palettes_bits_and_inks_are_their_colours() -> None:
    few = COLOURS // 128 * 255
    palette = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert torch.equal(ImageModality(3, 8).read(palette), ImageModality(3, 8).read(few))
    clear = palette.copy()
    clear.info["transparency"] = palette.getpixel((0, 0))
    seen = few.copy()
    seen[(few == few[0, 0]).all(2)] = 255
    assert torch.equal(ImageModality(3, 8, background="#ffffff").read(clear), ImageModality(3, 8).read(seen))
    bits = GREY > 100
    assert torch.equal(ImageModality(1, 8).read(Image.fromarray(bits)), ImageModality(1, 8).read(bits * np.uint8(255)))
    ink = Image.fromarray(few).convert("CMYK")
    assert torch.equal(ImageModality(3, 8).read(ink), ImageModality(3, 8).read(np.asarray(ink.convert("RGB"))))
    assert torch.equal(ImageModality(3, 8).read(Image.fromarray(GREY))[1], ImageModality(1, 8).read(GREY)[0])


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "RGB"),
        ({"channels": 1}, "L"),
        ({"channels": 4}, "RGBA"),
        ({"channels": 1, "limits": [0, 65535], "levels": 65536}, "I;16"),
        ({"channels": 1, "limits": [0, 1000], "levels": 1001}, "I;16"),
        ({"channels": 3, "limits": [0, 4095], "levels": 4096}, "uint16"),
        ({"channels": 1, "limits": [-1000, 1000]}, "float32"),
        ({"channels": 6, "limits": [0, 255]}, "uint8"),
        ({"channels": 2, "limits": [0, 1]}, "float32"),
    ],
)
def test_what_is_written_is_read_again(options: dict[str, Any], kind: str, tmp_path: Path) -> None:
    m = ImageModality(**{"channels": 3, "size": (5, 7), **options})
    x = m.typical(1, 0)[0]
    if m.limits and "levels" not in options:  # any number in the limits, of bytes but whole ones
        x = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1 if kind == "float32" else x
    raw = m.raw(x)
    assert (raw.mode if isinstance(raw, Image.Image) else str(raw.dtype)) == kind
    if isinstance(raw, Image.Image):
        raw.save(tmp_path / "x.png")
        raw = tmp_path / "x.png"
    torch.testing.assert_close(m.read(raw), x, rtol=0, atol=1e-6)


def test_bytes_that_are_channels_first_are_no_alpha_though_they_are_4_wide() -> None:
    """Of the shape that the model has they are a picture, not one of other sides with an alpha."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    m = ImageModality(channels=3, size=(5, 4))
    assert torch.equal(m.read(pixels), m.read(pixels.transpose(1, 2, 0)))
