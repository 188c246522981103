"""The process to its last digits, at its extremes, and the stated facts of the named schedules."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from mmcore.process import Gaussian, Process, Schedule, bound, schedule

EXACT = np.longdouble
NAMES = sorted(schedule.NAMED)


def published(name, T, N):
    """``a (T,)`` and ``W`` as a function of step, from the schedules' published formulas in extended precision.

    For ``paper-steps`` ``W`` is the step recursion itself; gains and powers are 1.
    """
    if name == "linear":
        alpha = 1 - np.minimum(np.linspace(EXACT("1e-4"), EXACT("0.02"), T) * 1000 / T, EXACT("0.999"))
    else:
        t = np.arange(T + 1).astype(EXACT)
        f = np.cos((t / T + EXACT("0.008")) / EXACT("1.008") * 2 * np.arctan(EXACT(1))) ** 2
        alpha = 1 - np.minimum(1 - f[1:] / f[:-1], EXACT("0.999"))
    bar = np.cumprod(alpha)
    if name in ("cosine", "linear"):
        return alpha, np.concatenate([[EXACT(1)], np.sqrt(bar)])
    a = alpha / (N + 1)
    if name == "paper":
        return a, np.concatenate([[EXACT(0)], np.sqrt(bar / (1 - bar)) * np.sqrt(1 - np.cumprod(a))])
    W = [EXACT(0)]
    for root, weight in zip(np.sqrt(a), np.sqrt(bar), strict=True):
        W.append(root * (W[-1] + weight))
    return a, np.array(W)


def brute(a, pairs):
    """Variances of ``z_s``, ``z_t`` and their covariance for each pair, by running the chain step by step."""
    T = len(a)
    variances = [EXACT(0)]
    for step in a:
        variances.append(step * variances[-1] + (1 - step))
    found = []
    for s, t in pairs:
        across = variances[s]
        carried = EXACT(0)
        gain = EXACT(1)
        for step in a[s:t]:
            across = across * np.sqrt(step)
            gain = gain * np.sqrt(step)
            carried = step * carried + (1 - step)
        found.append((variances[s], variances[t], across, gain, carried))
    assert max(t for _, t in pairs) <= T
    return np.array(found)


def relative(got, want):
    got, want = np.asarray(got, EXACT), np.asarray(want, EXACT)
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), EXACT("1e-290"))))


@pytest.mark.parametrize(("T", "limit"), [(2, 1e-12), (10, 1e-12), (100, 1e-12), (4000, 1e-10)])
@pytest.mark.parametrize("N", [1, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_coefficients_against_brute_force(name, N, T, limit):
    """Marginal, transition and posterior coefficients of a named schedule from its published formula alone."""
    a, W = published(name, T, N)
    rng = np.random.default_rng(T + N)
    pairs = [(0, 1), (0, T), (T - 1, T), (1, T), (1, 2)]
    pairs += [tuple(sorted(rng.choice(T + 1, 2, replace=False).tolist())) for _ in range(15)]
    pairs = [(s, t) for s, t in pairs if s < t <= T]
    p = Process(schedule.NAMED[name](T, N))
    s, t = torch.tensor(pairs).T
    var_s, var_t, across, gain, v = brute(a, pairs).T
    jump, level = p.jump(s, t), p.level(t)
    # An A below float64's smallest number may be 0; elsewhere it is held to the limit.
    normal = gain > EXACT("1e-290")
    assert relative(jump.a.numpy()[normal], gain[normal]) <= limit
    assert relative(jump.v.numpy(), v) <= limit
    assert relative(level.sigma.numpy() ** 2, var_t) <= limit
    assert relative(level.W.numpy(), np.repeat(W[t.numpy()][:, None], N, 1)) <= limit
    inner = np.array([s > 0 for s, _ in pairs])
    k = across / var_t
    seen = inner & (k > EXACT("1e-290"))
    assert relative(jump.k.numpy()[seen], k[seen]) <= limit
    # The Schur complement cancels: where little of it is left, its own rounding is larger than what is measured.
    schur = var_s - across**2 / var_t
    clear = inner & (schur > EXACT("1e-5") * var_s)
    assert clear.sum() >= min(3, inner.sum())
    assert relative(jump.beta.numpy()[clear], schur[clear]) <= limit
    assert (jump.beta.numpy()[~inner] == 0).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 100), st.integers(0, 2**20))
def test_random_tables_against_brute_force(T, seed):
    """The same for random steps, whose weights do not cancel."""
    rng = np.random.default_rng(seed)
    a, w, W0 = rng.uniform(0.05, 0.9999, T), rng.uniform(0, 1, (T, 2)), rng.uniform(0, 1, 2)
    p = Process(Schedule.from_steps(a, torch.as_tensor(w), W0))
    exact_a, W = a.astype(EXACT), [W0.astype(EXACT)]
    for root, weight in zip(np.sqrt(exact_a), w.astype(EXACT), strict=True):
        W.append(root * (W[-1] + weight))
    pairs = [(t - 1, t) for t in range(1, T + 1, max(1, T // 5))] + [(0, T)]
    s, t = torch.tensor(pairs).T
    _, var_t, _, gain, v = brute(exact_a, pairs).T
    jump, level = p.jump(s, t), p.level(t)
    assert relative(jump.a.numpy(), gain) <= 1e-12
    assert relative(level.sigma.numpy() ** 2, var_t) <= 1e-12
    assert relative(level.W.numpy(), np.array(W)[t.numpy()]) <= 1e-12
    # v is of a difference of log A, which has the last digit of log A to offer.
    digits = np.finfo(float).eps * -p.schedule.log_A[t].numpy()
    assert (np.abs(jump.v.numpy() - v) <= 1e-12 * v + 4 * digits).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("N", [0, 1, 8, 64])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_overflows(name, N, dtype):
    """Every coefficient and distribution is finite at every ``t`` of 4000."""
    T = 4000
    s = schedule.NAMED[name](T, N)
    p = Process(s)
    for table in (s.log_A, s.W, s.a, s.w, s.variance, s.terminal_snr):
        assert table.isfinite().all()
    t = torch.arange(1, T + 1)
    level, e = p.level(t), torch.ones(T, N, 1, dtype=dtype)
    for coefficient in (level.root_A, level.W, level.sigma):
        assert coefficient.isfinite().all()
    z = torch.full((T, 1), 3.0, dtype=dtype)
    for start in (t - 1, torch.zeros_like(t), t // 2):
        jump = p.jump(start, t)
        for coefficient in (jump.a, jump.v, jump.k, jump.beta):
            assert (coefficient.isfinite() & (coefficient >= 0)).all()
        for q in (p.marginal(e, t), p.transition(z, e, start, t), p.posterior(z, e, start, t)):
            assert q.mean.isfinite().all()
            assert (q.variance.isfinite() & (q.variance >= 0)).all()
    assert (p.marginal(e, t).variance > 0).all()
    if N:
        assert bound.posterior(p, torch.ones_like(e[1:]), t[1:]).isfinite().all()
    assert bound.prior(p, e[:2]).isfinite().all()


@pytest.mark.parametrize("N", [1, 2, 4, 8])
def test_paper_steps_snr(N):
    """The SNR of ``paper-steps`` is 1/N at ``t = 1``, peaks early, and fades."""
    s = schedule.paper_steps(1000, N)
    snr = s.W[1:, 0] ** 2 / s.variance[1:]
    # a_1 = α_1 / (N + 1), so α_1² / (N + 1 - α_1): 1/N but for α_1 being 1 - 4e-5.
    assert float(snr[0]) == pytest.approx(1 / N, rel=2e-4)
    peak = {1: 5.8, 4: 0.65, 8: 0.25}
    if N in peak:
        assert float(snr.max()) == pytest.approx(peak[N], abs=0.05 if N == 1 else 0.005)
    assert 8 <= int(snr.argmax()) + 1 <= 30
    assert float(snr[-1]) < 1e-4


@pytest.mark.parametrize(("N", "limit"), [(1, 2.41), (2, 1.37), (8, 0.50)])
def test_constant_weights_do_not_fade(N, limit):
    """With ``α = 1`` and ``w = 1`` throughout, ``W_T`` tends to ``1 / (sqrt(N + 1) - 1)``, not to the prior."""
    s = Schedule.from_steps(torch.full((200,), 1 / (N + 1)), torch.ones(200, N))
    # 1/(N+1) was given in float32.
    assert float(s.W[-1, 0]) == pytest.approx(1 / (math.sqrt(N + 1) - 1), rel=1e-6)
    assert float(s.W[-1, 0]) == pytest.approx(limit, abs=0.005)
    assert float(s.terminal_snr[0]) > 0.2


def test_underflow_of_A():
    """``A_t`` itself underflows float64 from ``t = 339`` at N = 8 under ``paper``; nothing else notices."""
    s = schedule.paper(1000, 8)
    A = s.log_A.exp()
    assert int((A == 0).nonzero()[0]) == 339
    assert A[338] > 0
    p, t = Process(s), torch.arange(330, 345)
    assert torch.allclose(p.jump(t - 1, t).a, s.a[t - 1].sqrt(), rtol=1e-12)
    e = torch.ones(15, 8, 2, dtype=torch.float64)
    q = p.posterior(torch.ones(15, 2, dtype=torch.float64), e, t - 1, t)
    assert q.mean.isfinite().all()
    assert torch.allclose(q.variance[:, 0], 1 - s.a[t - 1], rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_powers_and_gains(name):
    """``W_t^(i) = g_i A_t^(p_i/2)``: a power above 1 dissolves a modality sooner."""
    g, powers = [0.5, 2.0, 1.0], [1.0, 2.0, 0.5]
    s = schedule.NAMED[name](100, 3, g, powers)
    a, _ = published(name, 100, 3)
    A = np.concatenate([[EXACT(1)], np.cumprod(a)])
    want = np.stack([g[i] * A ** (EXACT(powers[i]) / 2) for i in range(3)], 1)
    assert relative(s.W.numpy(), want) <= 1e-12


# ---- the bound against torch.distributions ----


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.integers(1, 8), st.integers(2, 60), st.integers(0, 2**20))
def test_l0_is_the_kl_to_the_prior(name, N, T, seed):
    """``L0`` is the Gaussian KL of the chain's end, by another implementation."""
    a, W = published(name, T, N)
    e = torch.randn(3, N, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ((_, variance, *_),) = brute(a, [(0, T)])
    end = Normal(float(W[T]) * e.sum(1), math.sqrt(float(variance)))
    want = kl_divergence(end, Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(bound.prior(Process(schedule.NAMED[name](T, N)), e), want, rtol=1e-9, atol=1e-13)


def conditional(a, W, t, e, z):
    """``q(z_{t-1} | z_t)`` by conditioning the chain's joint covariance."""
    ((var_s, var_t, across, _, _),) = brute(a, [(t - 1, t)])
    total = e.sum(1)
    mean = float(W[t - 1]) * total + float(across / var_t) * (z - float(W[t]) * total)
    return Normal(mean, math.sqrt(float(var_s - across**2 / var_t)))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.integers(1, 8), st.integers(2, 60), st.data())
def test_l1_is_the_kl_of_the_posteriors(name, N, T, data):
    """``L1_t`` is the KL between the chain's conditional and the one with the predictions in place."""
    t = data.draw(st.integers(2, T))
    a, W = published(name, T, N)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    e, predicted = (torch.randn(2, N, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    z = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    true, model = (conditional(a, W, t, code, z) for code in (e, predicted))
    want = kl_divergence(true, model).sum(1)
    found = bound.posterior(Process(schedule.NAMED[name](T, N)), e - predicted, torch.full((2,), t))
    assert found.shape == (2, N)
    assert torch.allclose(found.sum(1), want, rtol=1e-6, atol=1e-12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**20))
def test_gaussian_against_torch(B, D, seed):
    """Densities, divergences and draws of the Gaussian are those of ``torch.distributions``."""
    generator = torch.Generator().manual_seed(seed)
    mean, other, x = (torch.randn(B, D, generator=generator, dtype=torch.float64) for _ in range(3))
    variance, wide = (0.1 + torch.rand(B, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    q, r = Gaussian(mean, variance), Gaussian(other, wide)
    normal, second = Normal(mean, variance.sqrt()), Normal(other, wide.sqrt())
    assert torch.allclose(q.log_prob(x), normal.log_prob(x).sum(1), rtol=1e-12, atol=1e-12)
    assert torch.allclose(q.kl(r), kl_divergence(normal, second).sum(1), rtol=1e-10, atol=1e-12)
    assert torch.allclose(normal.log_prob(q.draw(x)), Normal(0.0, 1.0).log_prob(x) - 0.5 * variance.log(), rtol=1e-9)


def test_kl_of_point_masses():
    """Equal point masses diverge by 0, and equal variances by the distance of the means alone."""
    zero, point = torch.zeros(1, 2), torch.zeros(1, 1)
    assert Gaussian(zero, point).kl(Gaussian(zero, point)).item() == 0
    one = torch.ones(1, 1)
    assert Gaussian(zero, one).kl(Gaussian(zero + 1, one)).item() == 1


def test_kl_of_different_point_masses():
    """Different point masses diverge by infinity, the limit of the distance."""
    zero, point = torch.zeros(1, 2), torch.zeros(1, 1)
    assert Gaussian(zero, point).kl(Gaussian(zero + 1, point)).item() == math.inf


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(0, 2**20))
def test_shares_divide_a_square_of_a_sum(N, seed):
    """They add up to the square; what stands at right angles to the rest has its own square; one that is zero has none."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(3, N, 2, 4, generator=generator, dtype=torch.float64)
    d[:, 0, 1] = 0
    found = bound.shares(d)
    assert torch.allclose(found.sum(1), d.sum(1).square().sum((1, 2)), rtol=1e-12)
    apart = torch.zeros(3, N, 2, N, dtype=torch.float64)
    for i in range(N):
        apart[:, i, :, i] = d[:, i, :, 0]
    assert torch.allclose(bound.shares(apart), apart.square().sum((2, 3)), rtol=1e-12)
    assert (bound.shares(torch.where(torch.arange(N)[:, None, None] == 0, 0.0, d))[:, 0] == 0).all()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(0, 2**20))
def test_what_does_not_count_is_as_if_not_there(N, seed):
    """``L1`` of some of the modalities is that of a process of these alone."""
    generator = torch.Generator().manual_seed(seed)
    gap, t = torch.randn(4, N, 3, generator=generator, dtype=torch.float64), torch.tensor([2, 3, 10, 50])
    tables = schedule.cosine(50, N)
    keep = torch.randint(2, (N,), generator=generator).bool()
    some = bound.posterior(Process(tables), gap, t, counts=keep.expand(4, -1))
    alone = bound.posterior(Process(tables.select(keep.nonzero()[:, 0].tolist())), gap[:, keep], t)
    assert torch.allclose(some[:, keep], alone, rtol=1e-12)
    assert (some[:, ~keep] == 0).all()
