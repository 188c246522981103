"""Likelihoods, means and draws against scipy's distributions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from mmcore import Rng, Space
from mmcore.modality.likelihood import bounded_log_scale
from mmcore_scalar import ScalarModality

N = 20_000
"""Draws; each comparison by draws fails a right distribution with probability 1e-8 at most, and the seeds are fixed."""
LIMITS = {"low": 10.0, "high": 100.0}
MEAN, STD = 41.0, 18.0


def params(modality: ScalarModality, location: float, scale: float) -> Tensor:
    """Parameters ``(1, 2)`` of a location and a scale in the units of what is coded, by Newton's method through the library's own maps."""
    like: Any = modality.likelihood
    want = torch.tensor([[(location - MEAN) / STD, math.log(scale / STD)]], dtype=torch.float64)
    raw = want.clone()
    for _ in range(50):
        raw.requires_grad_()
        if hasattr(like, "tail"):
            _, place, log_scale = like._parts(raw)
        else:
            place, log_scale = raw[:, 0], bounded_log_scale(raw[:, 1])
        slopes = torch.autograd.grad(place.sum() + log_scale.sum(), raw)[0]
        raw = (raw - (torch.stack([place, log_scale], 1) - want) / slopes).detach()
    return raw


def nats(modality: ScalarModality, p: Tensor, x: np.ndarray) -> np.ndarray:
    return modality.loss()(p.expand(len(x), 2), torch.as_tensor(x, dtype=torch.float64)).numpy()


def truncated(whole: Any, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """The log density of a scipy distribution inside limits."""
    return lambda x: whole.logpdf(x) - math.log(whole.cdf(high) - whole.cdf(low))


NORMAL, STUDENT = stats.norm(37.0, 9.0), stats.t(4, 37.0, 9.0)
REAL: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "normal": ({}, NORMAL.logpdf),
    "student": ({"tail": "student"}, STUDENT.logpdf),
    "normal in limits": (LIMITS, truncated(NORMAL, 10, 100)),
    "student in limits": ({"tail": "student", **LIMITS}, truncated(STUDENT, 10, 100)),
    "normal above": ({"low": 30.0}, truncated(NORMAL, 30, math.inf)),
    "student below": ({"tail": "student", "high": 50.0}, truncated(STUDENT, -math.inf, 50)),
}


def made(options: dict[str, Any]) -> ScalarModality:
    return ScalarModality(mean=MEAN, std=STD, **options)


@pytest.mark.parametrize("case", REAL)
def test_real_numbers_have_the_density_that_scipy_says(case: str) -> None:
    options, log_density = REAL[case]
    m = made(options)
    low, high = m.scale.low or -40.0, m.scale.high or 160.0
    x = np.linspace(max(low, -40.0), high, 101)
    np.testing.assert_allclose(-nats(m, params(m, 37.0, 9.0), x), log_density(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", REAL)
def test_mean_and_draws_of_real_numbers_are_the_density_s(case: str) -> None:
    options, log_density = REAL[case]
    m = made(options)
    low, high = (
        (-math.inf if m.scale.low is None else m.scale.low),
        (math.inf if m.scale.high is None else m.scale.high),
    )
    p = params(m, 37.0, 9.0)
    decoder = m.decoder(4, Space((1, 2)))
    mean = integrate.quad(lambda x: x * math.exp(float(log_density(np.array(x)))), low, high, limit=400)[0]
    assert decoder.point(p).item() == pytest.approx(mean, abs=1e-5)
    assert m.expected_code(p, m.encoder(), decoder).item() == pytest.approx((mean - MEAN) / STD, abs=1e-6)
    x = decoder.sample(p.expand(N, 2), Rng.for_rows(3, N)).double().numpy()
    whole = STUDENT if options.get("tail") == "student" else NORMAL
    cdf = lambda v: (whole.cdf(v) - whole.cdf(low)) / (whole.cdf(high) - whole.cdf(low))  # noqa: E731
    assert stats.kstest(x, cdf).pvalue > 1e-8
    assert x.mean() == pytest.approx(mean, abs=5.73 * x.std() / math.sqrt(N))


def test_logarithms_are_normal() -> None:
    m = ScalarModality(log=True, mean=5.0, std=1.2, units="€")
    p = torch.tensor([[0.4, 0.0]], dtype=torch.float64)
    truth = stats.lognorm(s=1.2, scale=math.exp(5 + 1.2 * 0.4))
    x = np.geomspace(0.5, 1e5, 60)
    np.testing.assert_allclose(-nats(m, p, x), truth.logpdf(x), rtol=1e-6)
    draws = m.decoder(4, Space((1, 2))).sample(p.expand(N, 2), Rng.for_rows(1, N)).double().numpy()
    assert stats.kstest(draws, truth.cdf).pvalue > 1e-8
    assert m.decoder(4, Space((1, 2))).point(p).item() == pytest.approx(truth.median())


def test_each_number_of_a_vector_has_its_own_units() -> None:
    m = ScalarModality(2, mean=[40.0, 0.5], std=[12.0, 0.01])
    p = torch.tensor([[[0.5, -1.0], [0.2, -0.3]]], dtype=torch.float64)
    x = torch.tensor([[50.0, 0.48]], dtype=torch.float64)
    scale = bounded_log_scale(p[0, 1]).exp().numpy()
    truth = stats.norm.logpdf(50, 46, 12 * scale[0]) + stats.norm.logpdf(0.48, 0.49, 0.01 * scale[1])
    assert m.loss()(p, x).item() == pytest.approx(-truth, rel=1e-6)
    only = m.loss()(p, x, torch.tensor([[False, True]])).item()
    assert only == pytest.approx(-stats.norm.logpdf(0.48, 0.49, 0.01 * scale[1]), rel=1e-6)


def counted(location: float, scale: float, low: int, high: int | None) -> dict[int, float]:
    """The probabilities of ``⌊X + U⌋`` clipped to limits, ``X`` logistic and ``U`` uniform, by numerical integration over ``U``."""
    whole = stats.logistic(location, scale)
    found: dict[int, float] = {}
    for k in range(int(location) - 200, int(location) + 201):
        points = [min(max(location - k, 0), 1), min(max(location - k + 1, 0), 1)]
        p = integrate.quad(lambda u, k=k: whole.cdf(k + 1 - u) - whole.cdf(k - u), 0, 1, points=points, epsabs=1e-13)[0]
        at = max(k, low) if high is None else min(max(k, low), high)
        found[at] = found.get(at, 0.0) + p
    return found


COUNTS = {
    "plenty": (37.0, 6.0, {}),
    "few, at the limit": (2.3, 1.7, {}),
    "stars": (4.1, 0.8, {"low": 1, "high": 5}),
    "certain": (7.0, 0.02 * STD, {}),
    "between two": (7.3, 0.02 * STD, {"high": 9}),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts_have_the_probabilities_of_a_clipped_rounded_logistic_number(case: str) -> None:
    location, scale, options = COUNTS[case]
    m = ScalarModality(kind="count", mean=MEAN if "high" not in options else 3.0, std=STD, **options)
    p = torch.tensor([[(location - m.scale.mean) / STD, 0.0]], dtype=torch.float64)  # type: ignore[operator]
    p[0, 1] = params(m, location, scale)[0, 1]
    truth = counted(location, scale, int(m.scale.low or 0), options.get("high"))
    k = np.array(sorted(truth), dtype=float)
    own = np.exp(-nats(m, p, k))
    np.testing.assert_allclose(own, [truth[int(one)] for one in k], rtol=1e-6, atol=1e-12)
    assert own.sum() == pytest.approx(1, abs=1e-9)
    mean = float((own * k).sum())
    decoder = m.decoder(4, Space((1, 2)))
    assert m.expected_code(p, m.encoder(), decoder).item() == pytest.approx((mean - m.scale.mean) / STD, abs=1e-7)  # type: ignore[operator]
    assert decoder.point(p).item() == round(mean)
    x = decoder.sample(p.expand(N, 2), Rng.for_rows(2, N)).double().numpy()
    assert set(x) <= set(k)
    for value, chance in zip(k, own, strict=True):
        # Bernstein's bound at 1e-8.
        bound = math.sqrt(2 * chance * (1 - chance) * 19.2 / N) + 19.2 / N
        assert abs((x == value).mean() - chance) < bound, value


def test_a_count_far_from_what_is_predicted_has_finite_nats_and_slopes() -> None:
    m = ScalarModality(kind="count", low=0, high=10**6, mean=300, std=80)
    for x in (0.0, 1.0, 5e5, 1e6):
        for raw in (-1e3, -9.0, 0.0, 9.0, 1e3):
            p = torch.tensor([[0.3, raw]], requires_grad=True)
            loss = m.loss()(p, torch.tensor([x]))
            loss.sum().backward()
            assert loss.isfinite().all()
            assert p.grad is not None
            assert p.grad.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"tail": "student"}, {"kind": "count"}])
def test_whatever_is_predicted_the_answer_is_inside_the_limits(options: dict[str, Any]) -> None:
    m = ScalarModality(low=0, high=5, mean=1, std=2, **options)
    grid = torch.tensor([-1e6, -30.0, -1.0, 0.0, 1.0, 30.0, 1e6])
    p = torch.cartesian_prod(grid, grid)
    decoder = m.decoder(4, Space((1, 2)))
    for x in (decoder.point(p), decoder.sample(p, Rng.for_rows(0, len(p)))):
        assert x.min() >= 0
        assert x.max() <= 5
    assert decoder.point(torch.tensor([[-1e6, -30.0]])).item() == pytest.approx(0, abs=0.05)
    assert decoder.point(torch.tensor([[1e6, -30.0]])).item() == pytest.approx(5, abs=0.05)
