"""Embeddings: what is read, what is refused, and the spherical density against its integral."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmcore import OptionError, RequestError, Rng, Space
from mmcore.modality import NoisyCode
from mmcore.modality.likelihood import bounded_log_scale
from mmcore.testing import conformance_suite
from mmcore_clip import ClipModality

test_clip = conformance_suite(ClipModality(16))
test_clip_vectors = conformance_suite(ClipModality(16, unit_norm=False, scale=3.0), name="vectors")


def test_vectors_and_files_read_alike(tmp_path: Path) -> None:
    x = np.array([3.0, 0.0, 4.0], dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    save_file({"x": torch.tensor(x)}, tmp_path / "x.safetensors")
    for raw in (x, x.tolist(), torch.tensor(x), tmp_path / "x.npy", str(tmp_path / "x.safetensors")):
        torch.testing.assert_close(ClipModality(3).read(raw), torch.tensor([0.6, 0.0, 0.8]))
        torch.testing.assert_close(ClipModality(3, unit_norm=False).read(raw), torch.tensor(x))


@pytest.mark.parametrize("log_kappa", [-2.0, 1.0, 4.0])
def test_spherical_density_integrates_to_one(log_kappa: float) -> None:
    """On the sphere in three dimensions, by the cosine ``t``, whose area element is ``2π dt``."""
    m = ClipModality(3)
    n = 100_000
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    x = torch.stack([t, (1 - t * t).sqrt(), torch.zeros_like(t)], dim=1)
    params = torch.tensor([1.0, 0.0, 0.0, log_kappa], dtype=torch.float64).expand(n, 4)
    area = (-m.loss()(params, x)).exp().mean() * 2 * 2 * math.pi
    torch.testing.assert_close(area, torch.tensor(1.0, dtype=torch.float64), rtol=1e-4, atol=0)


@pytest.mark.parametrize("d", [2, 5, 64])
def test_spherical_draws_have_the_densitys_mean_cosine(d: int) -> None:
    """``E[μ·x] = κ / (κ + d - 1)``, and the rest of the vector points nowhere."""
    decoder, n, kappa = ClipModality(d).decoder(1, Space((1, 4))), 100_000, 6.0
    mu = torch.nn.functional.normalize(torch.arange(1.0, d + 1), dim=0)
    log_kappa = 14 * math.atanh(math.log(kappa) / 14)
    x = decoder.sample(torch.cat([mu, torch.tensor([log_kappa])]).expand(n, d + 1), Rng.for_rows(0, n))
    cosine = x @ mu
    assert abs(cosine.mean() - kappa / (kappa + d - 1)) < 5.1 * cosine.std() / math.sqrt(n)
    rest = x - cosine[:, None] * mu
    assert (rest.mean(0).abs() < 5.5 * rest.std(0) / math.sqrt(n) + 1e-5).all()


@pytest.mark.parametrize("kappa", [0.5, 4.0, 60.0])
@pytest.mark.parametrize("weight", [0.3, 0.9])
def test_what_the_own_noisy_code_says_is_joined_by_bayes_rule(kappa: float, weight: float) -> None:
    """In three dimensions, against the integral of prior times likelihood over the sphere; to count a power spherical distribution as one of von Mises and Fisher costs a little."""
    m = ClipModality(3)
    decoder = m.decoder(1, Space((1, 4)))
    n = 400
    t, phi = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1, (torch.arange(n) + 0.5) / n * 2 * math.pi
    t, phi = t[:, None].expand(n, n).flatten(), phi.double()[None].expand(n, n).flatten()
    x = torch.stack([t, (1 - t * t).sqrt() * phi.cos(), (1 - t * t).sqrt() * phi.sin()], dim=1)
    prior = torch.tensor([[0.6, 0.0, 0.8, 14 * math.atanh(math.log(kappa) / 14)]], dtype=torch.float64)
    sigma = (1 - weight**2) ** 0.5
    z = torch.tensor([[0.9, -0.4, 0.5]], dtype=torch.float64)
    log_p = -m.loss()(prior.expand(n * n, 4), x) - (z - weight * x / m.scale).square().sum(1) / (2 * sigma**2)
    truth = log_p.softmax(0) @ x
    own = NoisyCode(z, torch.tensor([weight]).double(), torch.tensor([sigma]).double())
    params = decoder._joined(prior, own)
    found = m.expected_code(params, lambda y: y, decoder)[0]
    assert (found - truth).norm() < 0.03


def test_vectors_begin_from_their_own_noisy_code_as_a_normal_one_does() -> None:
    """Element by element, by the product of two normal densities."""
    decoder = ClipModality(4, unit_norm=False, scale=3.0).decoder(1, Space((1, 4)))
    torch.nn.init.normal_(decoder.head.out.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    features = torch.randn(5, 1, 4, generator=torch.Generator().manual_seed(1))
    weight, sigma = torch.full((5,), 0.8), torch.full((5,), 0.6)
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    alone, joined = decoder(features, weight), decoder(features, weight, NoisyCode(z, weight, sigma))
    precision = (-2 * bounded_log_scale(alone[:, -1:])).exp()
    more = 0.8**2 / (0.6**2 * 3.0**2)
    torch.testing.assert_close((-2 * bounded_log_scale(joined[:, -1:])).exp(), precision + more)
    mean = (precision * alone[:, :-1] + more * 3.0 * z / 0.8) / (precision + more)
    torch.testing.assert_close(joined[:, :-1], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sigma", [0.0064, 0.1, 0.9, 1.0])
def test_half_precision_joins_as_single_precision_does(unit_norm: bool, dtype: torch.dtype, sigma: float) -> None:
    """Gains and concentrations are beyond its largest number near ``t = 0``."""
    m = ClipModality(512, unit_norm=unit_norm)
    decoder, generator = m.decoder(4, Space((2, 4))), torch.Generator().manual_seed(0)
    x, weight = m.typical(8, 0), math.sqrt(1 - sigma**2)
    z = weight * m.encoder()(x) + sigma * torch.randn(8, 512, generator=generator)
    features = torch.randn(8, 4, 4, generator=generator)

    def answered(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own = NoisyCode(*(one.to(dtype) for one in (z, torch.full((8,), weight), torch.full((8,), sigma))))
        params = decoder.to(dtype)(features.to(dtype), torch.ones(8), own)
        assert params.dtype == dtype
        (grad,) = torch.autograd.grad(params.float().square().sum(), decoder.head.out.weight)
        return params.detach(), m.loss()(params.detach(), x.to(dtype)), grad

    params, loss, grad = answered(dtype)
    assert params.isfinite().all()
    assert loss.isfinite().all()
    assert grad.isfinite().all()
    close = torch.nn.functional.cosine_similarity(
        decoder.point(params).float(), decoder.point(answered(torch.float32)[0])
    )
    # Where the code says nothing, all begin from the same direction, or from none.
    assert (close > 0.99).all() or (not unit_norm and sigma == 1.0)


def test_the_spherical_density_keeps_its_digits_where_it_is_sharp() -> None:
    m = ClipModality(512)
    x = torch.nn.functional.normalize(torch.randn(6, 512, generator=torch.Generator().manual_seed(0)), dim=1)
    params = torch.cat([x.roll(1, 1) * 1e-3 + x, torch.full((6, 1), 14 * math.atanh(13.5 / 14))], dim=1)
    torch.testing.assert_close(m.loss()(params, x), m.loss()(params.double(), x.double()).float(), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (np.zeros(4, dtype=np.float32), r"found shape \(4,\), expected \(3,\)"),
        (np.zeros(3, dtype=np.float32), "found a vector of norm 0, expected one with a direction"),
        (np.array([1, 2, 3]), "found dtype torch.int64, expected floats"),
        (np.array([1.0, np.inf, 0.0]), "found NaN or infinity"),
        (["a", "b", "c"], "found a list that is no vector"),
        ("/no/such.npy", "unreadable"),
        ("x.txt", "expected a .npy or .safetensors file"),
        (3, "found int"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        ClipModality(3).read(raw)


def test_a_pickled_array_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(RequestError, match="unreadable"):
        ClipModality(3).read(tmp_path / "x.npy")


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError, match="width = 1, expected a whole number of at least 2") as refused:
        ClipModality(1, scale=0.0)
    assert [one.option for one in (refused.value, *refused.value.also)] == ["width", "scale"]
