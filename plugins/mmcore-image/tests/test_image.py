"""Images: what is read, what is refused, and the dequantised likelihood against numerical integration."""

import math
from pathlib import Path

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
        (np.zeros((5, 5)), r"found shape \(5, 5\), expected an image of 1 × 8 × 8"),
        (np.zeros((8, 8), dtype=np.int64), "found dtype torch.int64, expected uint8"),
        (np.full((8, 8), 1.5), "found values 1.5 … 1.5, expected floats in 0 … 1"),
        (np.full((8, 8), np.nan), "found values nan"),
        ("/no/such/file.png", "found no file /no/such/file.png, expected an image"),
        (7, "found int, expected a path"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        ImageModality(1, 8).read(raw)


@pytest.mark.parametrize("options", [{"channels": 0}, {"size": 0}, {"levels": 1}, {"std": 0.0}])
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
