"""SqueezeNet and LPIPS, against numpy on random weights; with real ones, against published values."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mmcore import RequestError, Rng
from mmcore.metrics import SqueezeNet, extract, lpips
from mmcore.metrics.squeezenet import TAPS

FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192)} | {
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}
SHAPES: dict[str, tuple[int, ...]] = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
for place, (channels, squeeze, expand) in FIRES.items():
    for part, shape in (
        ("squeeze", (squeeze, channels, 1, 1)),
        ("expand1x1", (expand, squeeze, 1, 1)),
        ("expand3x3", (expand, squeeze, 3, 3)),
    ):
        SHAPES |= {f"features.{place}.{part}.weight": shape, f"features.{place}.{part}.bias": shape[:1]}
HEADS = {f"lin{i}.weight": (width,) for i, width in enumerate(TAPS.values())}


def random_weights(seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep the activations' size; heads are not negative."""
    found = {}
    for name, shape in {**SHAPES, **HEADS}.items():
        x = Rng.for_rows(seed, shape[0]).of(name).normal(*shape[1:])
        fan = int(np.prod(shape[1:]))
        found[name] = x.abs() / shape[0] if name in HEADS else 0.1 * x if x.ndim == 1 else x * (2 / fan) ** 0.5
    return found


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def path(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(weights, file)
    return file


@pytest.fixture(scope="module")
def network(path: Path) -> SqueezeNet:
    return SqueezeNet.load(path)


def images(seed: int, n: int, channels: int, height: int, width: int) -> Tensor:
    return 2 * Rng.for_rows(seed, n).uniform(channels, height, width) - 1


# ---- the same by numpy, in float64, written from the papers ----


def convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int = 1, pad: int = 0) -> np.ndarray:
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    k = w.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, w, optimize=True) + b[:, None, None]


def pooled(x: np.ndarray) -> np.ndarray:
    """The largest of 3 × 3 every 2; the last window may hang over the edge."""
    out = [-(-(size - 3) // 2) + 1 for size in x.shape[1:]]
    rows = []
    for i in range(out[0]):
        rows.append([x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(out[1])])
    return np.array(rows).transpose(2, 0, 1)


def taps(image: np.ndarray, weights: dict[str, Tensor]) -> list[np.ndarray]:
    def layer(name: str, x: np.ndarray, **how: int) -> np.ndarray:
        w, b = (weights[f"features.{name}.{part}"].double().numpy() for part in ("weight", "bias"))
        return np.maximum(convolve(x, w, b, **how), 0)

    # The training data's mean and deviation in 0 … 1, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), in -1 … 1.
    mean, std = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    x = layer("0", (image - mean[:, None, None]) / std[:, None, None], stride=2)
    found = [x]
    for place in range(2, 13):
        if place in FIRES:
            s = layer(f"{place}.squeeze", x)
            x = np.concatenate([layer(f"{place}.expand1x1", s), layer(f"{place}.expand3x3", s, pad=1)])
        else:
            x = pooled(x)
        if place in TAPS:
            found.append(x)
    return found


def test_lpips_and_features_by_numpy(network: SqueezeNet, weights: dict[str, Tensor]) -> None:
    a, b = images(0, 2, 3, 33, 46), images(1, 2, 3, 33, 46)
    for i in range(2):
        p, q = (taps(x[i].double().numpy(), weights) for x in (a, b))
        np.testing.assert_allclose(network(a)[i].numpy(), p[-1].mean((1, 2)), rtol=2e-4, atol=1e-5)
        want = 0.0
        for k, (x, y) in enumerate(zip(p, q, strict=True)):
            x, y = (v / (np.sqrt((v**2).sum(0)) + 1e-10) for v in (x, y))
            want += float(((x - y) ** 2 * weights[f"lin{k}.weight"].double().numpy()[:, None, None]).sum(0).mean())
        assert float(network.distance(a, b)[i]) == pytest.approx(want, rel=1e-4)
        assert want > 0.01


def test_lpips_is_0_for_equal_images_and_symmetric(network: SqueezeNet) -> None:
    a, b = images(0, 3, 3, 40, 40), images(1, 3, 3, 40, 40)
    assert network.distance(a, a).tolist() == [0, 0, 0]
    torch.testing.assert_close(network.distance(a, b), network.distance(b, a))


def test_figures_go_by_batches(network: SqueezeNet) -> None:
    a, b = images(0, 5, 3, 32, 32), images(1, 5, 3, 32, 32)
    found = lpips(a, b, network, batch_size=2)
    assert found.value == pytest.approx(float(network.distance(a, b).double().mean()), rel=1e-5)
    assert (found.n, found.low < found.value < found.high) == (5, True)
    torch.testing.assert_close(extract(network, a, batch_size=2), network(a), rtol=1e-4, atol=1e-5)
    assert extract(lambda x: x, a, batch_size=2).shape == (5, 3 * 32 * 32)


def test_grey_images_are_three_equal_channels_and_small_ones_are_enlarged(network: SqueezeNet) -> None:
    grey = images(0, 2, 1, 48, 48)
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))
    small = images(1, 2, 3, 8, 16)
    large = F.interpolate(small, (64, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(small), network(large))


def test_loading_draws_no_random_numbers_and_takes_half_precision(
    path: Path, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    before = torch.random.get_rng_state()
    full = SqueezeNet.load(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    half = {name: x.half() if name.startswith("features") else x for name, x in weights.items()}
    # As the authors keep the heads, and with a classifier that nothing here needs.
    half |= {name: x.reshape(1, -1, 1, 1) for name, x in weights.items() if name.startswith("lin")}
    save_file(half | {"classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "half.safetensors")
    network = SqueezeNet.load(tmp_path / "half.safetensors")
    a, b = images(0, 2, 3, 32, 32), images(1, 2, 3, 32, 32)
    torch.testing.assert_close(network.distance(a, b), full.distance(a, b), rtol=1e-2, atol=1e-4)
    assert network(a).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda w: w.pop("features.4.squeeze.bias"),
            r"there is no features.4.squeeze.bias, expected it with shape \(16,\)",
        ),
        (lambda w: w.pop("lin3.weight"), r"there is no lin3.weight, expected it with shape \(384,\)"),
        (
            lambda w: w.update({"features.0.weight": torch.zeros(96, 3, 7, 7)}),
            r"features.0.weight has shape \(96, 3, 7, 7\), expected \(64, 3, 3, 3\)",
        ),
        (lambda w: w["lin0.weight"].fill_(torch.nan), "lin0.weight has NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, match: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wrong = random_weights()
    change(wrong)
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(RequestError, match=rf"weights {tmp_path}/wrong.safetensors: {match}"):
        SqueezeNet.load(tmp_path / "wrong.safetensors")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nowhere: there is no such file, expected a safetensors file"):
        SqueezeNet.load(tmp_path / "nowhere")
    (tmp_path / "text").write_text("not tensors")
    with pytest.raises(RequestError, match=r"text: cannot be read \(.*\), expected a safetensors file"):
        SqueezeNet.load(tmp_path / "text")


def test_wrong_images_are_named(network: SqueezeNet, weights: dict[str, Tensor], tmp_path: Path) -> None:
    a = images(0, 2, 3, 32, 32)
    for wrong, match in (
        (images(0, 2, 2, 32, 32), r"torch.float32 \(2, 2, 32, 32\), expected floats \(n, 3, H, W\) or \(n, 1, H, W\)"),
        (a.mul(127).to(torch.uint8), "found images torch.uint8"),
        (255 * a.abs(), r"found pixels .* expected -1 … 1"),
    ):
        with pytest.raises(RequestError, match=match):
            network(wrong)
    with pytest.raises(RequestError, match=r"images \(2, 3, 32, 32\) and \(1, 3, 32, 32\), expected the same shape"):
        network.distance(a, a[:1])
    with pytest.raises(RequestError, match="the extractor gave"):
        extract(lambda x: x.mean(), a)
    save_file({name: x for name, x in weights.items() if name not in HEADS}, tmp_path / "bare.safetensors")
    bare = SqueezeNet.load(tmp_path / "bare.safetensors")
    assert bare(a).shape == (2, 512)
    with pytest.raises(RequestError, match="expected LPIPS's linear heads too"):
        bare.distance(a, a)


@pytest.mark.skipif("MMCORE_LPIPS" not in os.environ, reason="MMCORE_LPIPS names no file of LPIPS's SqueezeNet weights")
def test_published_values_of_lpips() -> None:
    """The examples in torchmetrics 1.9: one by a generator of seed 42, one by torch's global generator at that seed."""
    network = SqueezeNet.load(os.environ["MMCORE_LPIPS"])
    generator = torch.Generator().manual_seed(42)
    a, b = (2 * torch.rand(2, 3, 100, 100, generator=generator) - 1 for _ in range(2))
    assert network.distance(a, b).tolist() == pytest.approx([0.1024, 0.0938], abs=6e-5)
    generator = torch.Generator().manual_seed(42)
    a, b = (2 * torch.rand(10, 3, 100, 100, generator=generator) - 1 for _ in range(2))
    assert lpips(a, b, network).value == pytest.approx(0.1005, abs=6e-5)
