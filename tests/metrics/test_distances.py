"""Distances of sets against closed forms, brute force and a library."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmcore import RequestError, Rng
from mmcore.metrics import frechet, frechet_distance, kernel, precision, precision_recall, recall


def normal(seed: int, n: int, d: int) -> Tensor:
    return Rng.for_rows(seed, n).normal(d, dtype=torch.float64)


# ---- Fréchet ----


def test_frechet_distance_of_known_gaussians() -> None:
    """Against the closed form with scipy's matrix square root, and zero for equal samples."""
    linalg = pytest.importorskip("scipy.linalg", reason="the reference's matrix square root")
    a = normal(0, 500, 6)
    b = a @ normal(1, 6, 6) + 1
    cov_a, cov_b = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(float(want), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.1, 10), st.floats(-5, 5))
def test_frechet_distance_in_closed_form(seed: int, d: int, scale: float, shift: float) -> None:
    """``|δ|² + (s - 1)² tr Σ`` for the same sample scaled by ``s`` and shifted; symmetric; unmoved by a rotation of both."""
    a = normal(seed, 40, d)
    b = scale * a + shift
    delta = (b.mean(0) - a.mean(0)).square().sum()
    want = float(delta + (scale - 1) ** 2 * a.var(0).sum())
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-7, abs=1e-7)
    assert frechet_distance(b, a) == pytest.approx(want, rel=1e-7, abs=1e-7)
    turn = torch.linalg.qr(normal(seed + 1, d, d))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(want, rel=1e-7, abs=1e-7)


def test_frechet_of_fewer_samples_than_dimensions() -> None:
    """Singular covariances, against the roots of the eigenvalues of their product, and of one set with a regular one."""
    for n, m in ((7, 9), (7, 40), (40, 9)):
        a, b = normal(0, n, 12), 2 * normal(1, m, 12) + 0.3
        product = np.cov(a.T.numpy()) @ np.cov(b.T.numpy())
        cross = np.sqrt(np.linalg.eigvals(product).real.clip(0)).sum()
        want = float((a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum() - 2 * cross)
        assert frechet_distance(a, b) == pytest.approx(want, rel=1e-6)
        assert frechet(a, b, resamples=2).value == pytest.approx(want, rel=1e-6)


def test_the_figure_is_the_distance_and_its_resamples_are_those_of_repeated_rows() -> None:
    a, b = normal(0, 30, 3), normal(1, 25, 3) + 0.5
    found = frechet(a, b, seed=7, resamples=20)
    assert (found.value, found.n) == (pytest.approx(frechet_distance(a, b), rel=1e-9), 30)
    values = []
    for k in range(400):
        rng = Rng.for_rows(7, 1, start=k).of("bootstrap")
        drawn = (x[rng.of(str(i)).integers(0, len(x), len(x))[0]] for i, x in enumerate((a, b)))
        values.append(frechet_distance(*drawn))
    shifted = np.asarray(values[:20]) - np.mean(values[:20]) + found.value
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(shifted, [2.5, 97.5])), rel=1e-9)
    # Resampling is noise in both means and covariances, which enlarges the distance: hence the centring. Were the resamples as often
    # below the figure, a share of 0.5 + 5.1 / (2 √400) would come by chance in 2e-7 of the cases; it is 0.72.
    assert np.mean(np.asarray(values) > found.value) > 0.63


def test_the_interval_of_frechet_covers_its_expectation_at_this_size() -> None:
    """80 data sets of 60 and 60 samples in three dimensions."""
    n, d, sets = 60, 3, 80
    pairs = [(normal(2 * i, n, d), 1.2 * normal(2 * i + 1, n, d) + 0.3) for i in range(sets)]
    expected = np.mean([frechet_distance(a, b) for a, b in pairs])
    figures = [frechet(a, b, seed=i, resamples=60) for i, (a, b) in enumerate(pairs)]
    covered = np.mean([f.low <= expected <= f.high for f in figures])
    assert 0.86 <= covered <= 1


# ---- kernel distance ----


def brute_kernel(x: np.ndarray, y: np.ndarray, ids: np.ndarray, other: np.ndarray) -> float:
    """The definition, pair by pair; pairs of one original with itself are none."""
    d = x.shape[1]

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / d + 1) ** 3

    def within(z: np.ndarray, who: np.ndarray) -> float:
        values = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if who[i] != who[j]]
        return sum(values) / len(values)

    cross = [k(a, b) for a in x for b in y]
    return within(x, ids) + within(y, other) - 2 * sum(cross) / len(cross)


def test_the_kernel_distance_is_its_definition_and_so_are_its_resamples() -> None:
    x, y = normal(0, 12, 4), normal(1, 9, 4) + 0.4
    found = kernel(x, y, seed=3, resamples=5)
    assert found.value == pytest.approx(brute_kernel(x.numpy(), y.numpy(), np.arange(12), np.arange(9)), rel=1e-10)
    values = []
    for k in range(5):
        rng = Rng.for_rows(3, 1, start=k).of("bootstrap")
        i, j = (rng.of(str(s)).integers(0, n, n)[0].numpy() for s, n in ((0, 12), (1, 9)))
        values.append(brute_kernel(x.numpy()[i], y.numpy()[j], i, j))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), rel=1e-9)


def test_the_kernel_distance_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcore.metrics import distances

    x, y = normal(0, 30, 4), normal(1, 30, 4) + 0.4
    whole = kernel(x, y)
    monkeypatch.setattr(distances, "_ROWS", 7)
    blocks = kernel(x, y)
    assert (blocks.value, blocks.low, blocks.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-10)
    assert precision(x, y).value == precision_recall(x, y)[0]


def test_the_kernel_distance_is_a_librarys() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid", reason="an independent implementation")
    x, y = normal(0, 50, 8), normal(1, 50, 8) * 1.3
    assert kernel(x, y, resamples=2).value == pytest.approx(float(kid.poly_mmd(x, y)), rel=1e-10)


def test_the_kernel_distance_of_equal_laws_is_0_on_average() -> None:
    """The mean of 150 within four of its standard errors; of unequal laws it is far beyond."""
    values, apart = (
        torch.tensor(
            [kernel(normal(2 * i, 25, 3), normal(2 * i + 1, 25, 3) + s, resamples=2).value for i in range(150)]
        )
        for s in (0.0, 0.5)
    )
    assert abs(values.mean()) < 4 * values.std() / 150**0.5
    assert (values < 0).double().mean() > 0.4
    assert apart.mean() > 10 * apart.std() / 150**0.5


def test_the_interval_of_the_kernel_distance() -> None:
    """It holds 0 for equal laws at least as often as it says, and the exact distance of others about as often.

    With one dimension and ``y`` normal of mean ``s``, moments give the distance: ``Σ_p C(3, p) (E x^p - E y^p)²``.
    """
    for shift, low, high in ((0.0, 0.95, 1.0), (0.8, 0.9, 0.99)):
        moments = np.array([1, shift, shift**2 + 1, shift**3 + 3 * shift]) - np.array([1, 0, 1, 0])
        exact = float((np.array([1, 3, 3, 1]) * moments**2).sum())
        figures = [kernel(normal(2 * i, 80, 1), normal(2 * i + 1, 80, 1) + shift, seed=i) for i in range(120)]
        covered = np.mean([f.low <= exact <= f.high for f in figures])
        assert low <= covered <= high, (shift, covered)
        assert np.mean([f.value for f in figures]) == pytest.approx(exact, abs=0.05 + 0.1 * exact)


# ---- precision and recall ----


def test_precision_and_recall_of_extremes() -> None:
    a = Rng.for_rows(0, 200).normal(4)
    assert precision_recall(a, a) == (1.0, 1.0)
    assert precision_recall(a + 100, a) == (0.0, 0.0)
    # One point repeated is precise and recalls little.
    p, r = precision_recall(a[:1].expand(200, 4) + 1e-3 * Rng.for_rows(1, 200).normal(4), a)
    assert p == 1.0
    assert r < 0.05


@given(st.integers(0, 10**6), st.integers(4, 12), st.integers(4, 12), st.integers(1, 3))
def test_precision_and_recall_by_brute_force(seed: int, n: int, m: int, k: int) -> None:
    made, real = normal(seed, n, 2).numpy(), normal(seed + 1, m, 2).numpy() + 0.5

    def share(points: np.ndarray, centres: np.ndarray) -> float:
        radius = [sorted(math.dist(c, o) for o in centres)[k] for c in centres]
        return float(np.mean([any(math.dist(p, c) <= r for c, r in zip(centres, radius, strict=True)) for p in points]))

    a, b = torch.tensor(made), torch.tensor(real)
    p, r = precision(a, b, k=k, resamples=2), recall(a, b, k=k, resamples=2)
    assert (p.value, r.value) == (pytest.approx(share(made, real)), pytest.approx(share(real, made)))
    assert (p.n, r.n) == (n, m)
    assert precision_recall(a, b, k) == (p.value, r.value)


@pytest.mark.parametrize(
    ("made", "real", "match"),
    [
        (
            torch.ones(5, 2),
            torch.ones(5, 3),
            r"generated features are torch.float32 \(5, 2\), expected floats \(n, d\)",
        ),
        (torch.ones(5, 2), torch.ones(5, 2).long(), "real features are torch.int64"),
        (torch.ones(3, 2), torch.ones(5, 2), "3 generated samples, expected at least 4"),
        (torch.ones(5, 2), torch.tensor([[1.0, torch.nan]] * 5), "real features have NaN or infinity in row 0"),
    ],
)
def test_wrong_features_are_named(made: Tensor, real: Tensor, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        precision(made, real)
