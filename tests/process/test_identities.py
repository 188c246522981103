"""The identities of the process, each against brute-force Gaussian algebra or a published formula.

The brute force knows only the step ``z_t = sqrt(a_t) (z_{t-1} + Σ_i w_t^(i) E_i) + sqrt(1 - a_t) ε`` and composes
it one step at a time, in extended precision, keeping the joint covariance of the steps asked for.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore.process import Process, Schedule, bound, schedule

EXACT = np.longdouble
NAMES = sorted(schedule.NAMED)
DTYPES = (torch.float32, torch.float64)
EPS = {torch.float32: 2e-6, torch.float64: 2e-12}
LOWEST_RANK = 0  # 0 once test_rank_0 passes
checked = settings(max_examples=60, deadline=None, derandomize=True)


# ---- the brute force ----


@dataclass
class Chain:
    """A process and the steps ``a (T,)``, ``w (T, N)``, ``W_0 (N,)`` it must agree with, in extended precision."""

    process: Process
    a: np.ndarray
    w: np.ndarray
    W0: np.ndarray

    @property
    def T(self):
        return len(self.a)

    @property
    def N(self):
        return self.w.shape[1]

    def joint(self, times, encodings, z0):
        """Mean ``(len(times), *Z)`` and covariance of ``z`` at increasing ``times``, for one row, step by step."""
        start = np.tensordot(self.W0, encodings, 1) + z0
        mean, variance = start, EXACT(0)
        kept, means, variances, covariance = [], [], [], np.zeros((len(times),) * 2, EXACT)
        cross = np.zeros(0, EXACT)
        for t in range(max(times) + 1):
            if t:
                a = self.a[t - 1]
                root = np.sqrt(a)
                mean = root * (mean + np.tensordot(self.w[t - 1], encodings, 1))
                variance = a * variance + (1 - a)
                cross = root * cross
            if t in times:
                row = len(kept)
                kept.append(t)
                means.append(mean)
                variances.append(variance)
                covariance[row, :row] = covariance[:row, row] = cross
                covariance[row, row] = variance
                cross = np.append(cross, variance)
        return np.stack(means), covariance


def condition(mean, covariance, of, on, value):
    """Mean and variance of element ``of`` given that element ``on`` is ``value``: the Schur complement."""
    gain = covariance[of, on] / covariance[on, on]
    return mean[of] + gain * (value - mean[on]), covariance[of, of] - gain * covariance[on, of]


def exact(tensor):
    return tensor.double().numpy().astype(EXACT)


def steps_of(s):
    """``a, w, W_0`` of a schedule's cumulative tables, by their definition."""
    log_A, W = exact(s.log_A), exact(s.W)
    a = np.exp(np.diff(log_A))
    return a, W[1:] / np.sqrt(a)[:, None] - W[:-1], W[0]


def close(got, want, dtype, scale=1.0, factor=1.0):
    got = got.detach().double().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    want = want.detach().double().numpy() if isinstance(want, torch.Tensor) else np.asarray(want)
    error = float(np.max(np.abs(got - want), initial=0))
    limit = factor * EPS[dtype] * (float(scale) + float(np.max(np.abs(want), initial=0)))
    assert error <= limit, f"error {error:.3g}, expected at most {limit:.3g}"


# ---- what is drawn ----


@st.composite
def chains(draw, max_T=12, N=None):
    """A chain by its steps, by its cumulative tables, or by name, starting at zero or at the encodings."""
    N = draw(st.integers(0, 8)) if N is None else N
    form = draw(st.sampled_from(["steps", "cumulative", *NAMES]))
    T = draw(st.one_of(st.integers(1, max_T), st.integers(1, max_T), st.sampled_from([50, 300, 300, 4000])))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    if form in NAMES:
        gains = rng.uniform(0.3, 2, N) if draw(st.booleans()) else None
        extra = {"powers": rng.uniform(0.5, 2, N)} if form in ("cosine", "linear") and draw(st.booleans()) else {}
        s = schedule.NAMED[form](T, N, gains, **extra)
        return Chain(Process(s), *steps_of(s))
    a = rng.uniform(0.05 if T < 20 else 0.9, 0.999, T)
    W0 = rng.normal(size=N) if draw(st.booleans()) else np.zeros(N)
    if form == "steps":
        w = rng.normal(size=(T, N)) * rng.integers(0, 2, (T, 1))
        s = Schedule.from_steps(a, torch.as_tensor(w), torch.as_tensor(W0))
        return Chain(Process(s), a.astype(EXACT), w.astype(EXACT), W0.astype(EXACT))
    W = np.concatenate([W0[None], rng.normal(size=(T, N))])
    log_A = np.concatenate([[0.0], np.cumsum(np.log(a))])
    s = Schedule.from_cumulative(log_A, torch.as_tensor(W))
    return Chain(Process(s), *steps_of(s))


@st.composite
def cases(draw, dtypes=DTYPES, lowest=0, N=None):
    """A chain with encodings, a base state where one may be given, and increasing steps per row."""
    chain = draw(chains(N=N))
    dtype = draw(st.sampled_from(dtypes))
    B = draw(st.integers(1, 3))
    Z = tuple(draw(st.lists(st.integers(1, 3), min_size=LOWEST_RANK, max_size=3)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    encodings = torch.randn(B, chain.N, *Z, generator=generator, dtype=torch.float64).to(dtype)
    z = torch.randn(B, *Z, generator=generator, dtype=torch.float64).to(dtype)
    z0 = None
    if not chain.W0.any() and draw(st.booleans()):
        z0 = torch.randn(B, *Z, generator=generator, dtype=torch.float64).to(dtype)
    lowest = min(lowest, chain.T - 1)
    s = torch.tensor([draw(st.integers(lowest, chain.T - 1)) for _ in range(B)])
    t = torch.tensor([draw(st.integers(int(u) + 1, chain.T)) for u in s])
    return Case(chain, encodings, z0, z, s, t)


@dataclass
class Case:
    chain: Chain
    encodings: torch.Tensor
    z0: torch.Tensor | None
    z: torch.Tensor
    s: torch.Tensor
    t: torch.Tensor

    @property
    def process(self):
        return self.chain.process

    @property
    def dtype(self):
        return self.z.dtype

    @property
    def scale(self):
        """The size of the sums of which a mean is made."""
        W = self.process.schedule.W
        weights = float(W.abs().max()) if W.numel() else 0.0
        largest = float(self.encodings.abs().max()) if self.encodings.numel() else 0.0
        return 4 + weights * largest * (self.chain.N + 1)

    def brute(self, row, times):
        z0 = np.zeros(self.z.shape[1:], EXACT) if self.z0 is None else exact(self.z0[row])
        return self.chain.joint(times, exact(self.encodings[row]), z0)


def affine(apply, shape, dtype):
    """Offset at ``z = 0`` and gain of an affine map of ``z``, by probing it with zeros and ones."""
    zero = apply(torch.zeros(shape, dtype=dtype))
    return zero, apply(torch.ones(shape, dtype=dtype)) - zero


# ---- the identities ----


@checked
@given(cases())
def test_i1_composed_steps_are_the_marginal(case):
    """The chain run step by step has the marginal at every ``t``."""
    q = case.process.marginal(case.encodings, case.t, case.z0)
    assert q.mean.shape == case.z.shape
    assert q.mean.dtype == q.variance.dtype == case.dtype
    variance = q.variance.expand_as(q.mean)
    for row, t in enumerate(case.t.tolist()):
        mean, covariance = case.brute(row, [t])
        close(q.mean[row], mean[0], case.dtype, case.scale)
        close(variance[row], np.full(variance[row].shape, covariance[0, 0]), case.dtype, 0)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(chains(), st.sampled_from(DTYPES), st.integers(0, 2**20))
def test_i1_composed_transitions_are_the_marginal(chain, dtype, seed):
    """Composing the process's own transitions ``1..t`` gives its marginal at every ``t``."""
    p, T = chain.process, chain.T
    e = torch.randn(1, chain.N, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    every, t = e.expand(T, -1, -1), torch.arange(1, T + 1)
    offset, gain = affine(lambda z: p.transition(z, every, t - 1, t).mean, (T, 2), dtype)
    added = p.transition(torch.zeros(T, 2, dtype=dtype), every, t - 1, t).variance
    q = p.marginal(every, t)
    mean, variance = exact(p.marginal(e, 0).mean[0]), np.zeros(2, EXACT)
    scale = 10 + 10 * float(q.mean.abs().max())
    for row in range(T):
        mean = exact(offset[row]) + exact(gain[row]) * mean
        variance = exact(gain[row]) ** 2 * variance + exact(added[row])
        close(q.mean[row], mean, dtype, scale, factor=1 + row)
        close(q.variance[row].expand(2), variance, dtype, 1, factor=1 + row)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_i1_many_steps(name, dtype):
    """The same at T = 4000."""
    s = schedule.NAMED[name](4000, 3)
    chain = Chain(Process(s), *steps_of(s))
    e = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    t = torch.tensor([1, 37, 2000, 4000])
    q = chain.process.marginal(e, t)
    for row in range(4):
        mean, covariance = chain.joint([int(t[row])], exact(e[row]), 0)
        close(q.mean[row], mean[0], dtype, 10, factor=50 if dtype == torch.float64 else 1)
        close(q.variance[row].expand(2), np.full(2, covariance[0, 0]), dtype, 0, factor=50)


@checked
@given(cases())
def test_i2_chapman_kolmogorov(case):
    """A jump r→s then s→t is the jump r→t, and is that of the chain run step by step."""
    p, shape, r = case.process, case.z.shape, torch.zeros_like(case.s)
    t = case.t.maximum(case.s + 1)
    if (case.s == 0).any():
        s, t = case.s + 1, torch.full_like(t, case.chain.T)
        if case.chain.T < 2 or (s >= t).any():
            return
    else:
        s = case.s
        r = s - 1
    first, gain_1 = affine(lambda z: p.transition(z, case.encodings, r, s, case.z0).mean, shape, case.dtype)
    second, gain_2 = affine(lambda z: p.transition(z, case.encodings, s, t, case.z0).mean, shape, case.dtype)
    whole, gain = affine(lambda z: p.transition(z, case.encodings, r, t, case.z0).mean, shape, case.dtype)
    v_1, v_2, v = (p.transition(case.z, case.encodings, *st_, case.z0).variance for st_ in ((r, s), (s, t), (r, t)))
    close(gain_1 * gain_2, gain, case.dtype, 4 * case.scale)
    close(second + gain_2 * first, whole, case.dtype, 4 * case.scale)
    square = (gain_2.reshape(len(gain_2), -1)[:, :1] ** 2).reshape(v_1.shape)
    close(square * v_1 + v_2, v, case.dtype, 4 * case.scale)


@checked
@given(cases())
def test_i2_transition_is_the_conditional_of_the_chain(case):
    """``q(z_t | z_s)`` is the chain's joint covariance conditioned on ``z_s``."""
    q = case.process.transition(case.z, case.encodings, case.s, case.t, case.z0)
    variance = q.variance.expand_as(q.mean)
    for row, (s, t) in enumerate(zip(case.s.tolist(), case.t.tolist(), strict=True)):
        mean, covariance = case.brute(row, [s, t])
        if s == 0:  # z_0 is known: leave it at its own value and nothing is left to condition on
            close(variance[row], np.full(variance[row].shape, covariance[1, 1]), case.dtype, 0)
            continue
        want, left = condition(mean, covariance, 1, 0, exact(case.z[row]))
        close(q.mean[row], want, case.dtype, case.scale)
        close(variance[row], np.full(variance[row].shape, left), case.dtype, 0)


@checked
@given(cases(lowest=1))
def test_i3_posterior_is_the_conditional_of_the_chain(case):
    """``q(z_s | z_t)`` is the chain's joint covariance conditioned on ``z_t``."""
    q = case.process.posterior(case.z, case.encodings, case.s, case.t, case.z0)
    variance = q.variance.expand_as(q.mean)
    for row, (s, t) in enumerate(zip(case.s.tolist(), case.t.tolist(), strict=True)):
        mean, covariance = case.brute(row, [s, t])
        want, left = condition(mean, covariance, 0, 1, exact(case.z[row]))
        close(q.mean[row], want, case.dtype, case.scale)
        close(variance[row], np.full(variance[row].shape, left), case.dtype, 0)


@checked
@given(cases(lowest=1))
def test_i3_bayes(case):
    """``q(z_s|z_t) q(z_t) = q(z_t|z_s) q(z_s)`` pointwise, and both are the joint density of the chain."""
    if (case.s == 0).any():
        return
    p, e, s, t, z0 = case.process, case.encodings, case.s, case.t, case.z0
    q_s, q_t = p.marginal(e, s, z0), p.marginal(e, t, z0)
    z_s = q_s.draw(case.z)
    z_t = p.transition(z_s, e, s, t, z0).draw(case.z.flip(0))
    back = p.posterior(z_t, e, s, t, z0).log_prob(z_s) + q_t.log_prob(z_t)
    ahead = p.transition(z_s, e, s, t, z0).log_prob(z_t) + q_s.log_prob(z_s)
    smallest = min(float(p.jump(s, t).beta.min()), float(p.jump(s, t).v.min()))
    scale = (case.scale + float(z_s.abs().max())) * case.z[0].numel() / math.sqrt(smallest) * 20
    close(back, ahead, case.dtype, scale)
    for row in range(len(s)):
        mean, covariance = case.brute(row, [int(s[row]), int(t[row])])
        x_s, x_t = exact(z_s[row]) - mean[0], exact(z_t[row]) - mean[1]
        determinant = covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2
        square = (
            covariance[1, 1] * x_s**2 - 2 * covariance[0, 1] * x_s * x_t + covariance[0, 0] * x_t**2
        ) / determinant
        density = np.sum(-0.5 * square - 0.5 * np.log(determinant) - np.log(2 * EXACT(np.pi)))
        close(back[row], density, case.dtype, scale)


@checked
@given(cases())
def test_i4_noise_form(case):
    """For adjacent steps the posterior mean is the noise form, in the article's own symbols."""
    p, a, w = case.process, case.chain.a, case.chain.w
    t = case.t
    q = p.posterior(case.z, case.encodings, t - 1, t, case.z0)
    for row, at in enumerate(t.tolist()):
        mean, covariance = case.brute(row, [at])
        sigma, z_t, e = np.sqrt(covariance[0, 0]), exact(case.z[row]), exact(case.encodings[row])
        noise = (z_t - mean[0]) / sigma
        want = (z_t - (1 - a[at - 1]) / sigma * noise) / np.sqrt(a[at - 1]) - np.tensordot(w[at - 1], e, 1)
        # At the last cosine step a_t is 0.001: its root divides what has been rounded.
        close(q.mean[row], want, case.dtype, case.scale, factor=4 / float(np.sqrt(a[at - 1])))


@pytest.mark.parametrize("form", ["none", "empty"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", [2, 50, 1000, 4000])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_i5_ddpm(name, T, dtype, form):
    """``N = 0`` with a base state is DDPM (Ho et al. 2020, equations 2, 4, 6 and 7)."""
    if name == "linear":
        beta = np.minimum(np.linspace(EXACT("1e-4"), EXACT("0.02"), T) * 1000 / T, EXACT("0.999"))
    else:
        f = [np.cos((EXACT(t) / T + EXACT("0.008")) / EXACT("1.008") * EXACT(np.pi) / 2) ** 2 for t in range(T + 1)]
        beta = np.array([min(1 - f[t] / f[t - 1], EXACT("0.999")) for t in range(1, T + 1)])
    alpha = 1 - beta
    alpha_bar = np.cumprod(alpha)
    p = Process(schedule.NAMED[name](T, 0))
    t = torch.tensor(sorted({1, 2, T // 2, T - 1, T} & set(range(2, T + 1))))
    generator = torch.Generator().manual_seed(T)
    x_0, x = (torch.randn(len(t), 3, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    encodings = None if form == "none" else torch.zeros(len(t), 0, 3, dtype=dtype)
    marginal = p.marginal(encodings, t, x_0)
    transition = p.transition(x, encodings, t - 1, t, x_0)
    posterior = p.posterior(x, encodings, t - 1, t, x_0)
    for row, at in enumerate(t.tolist()):
        b, al, bar, before = beta[at - 1], alpha[at - 1], alpha_bar[at - 1], alpha_bar[at - 2]
        r_0, r = exact(x_0[row]), exact(x[row])
        factor = 50 / float(np.sqrt(al))
        close(marginal.mean[row], np.sqrt(bar) * r_0, dtype, 1, factor)
        close(marginal.variance[row], [1 - bar], dtype, 0, factor)
        close(transition.mean[row], np.sqrt(1 - b) * r, dtype, 1, factor)
        close(transition.variance[row], [b], dtype, 0, factor)
        mean = np.sqrt(before) * b / (1 - bar) * r_0 + np.sqrt(al) * (1 - before) / (1 - bar) * r
        close(posterior.mean[row], mean, dtype, 1, factor)
        close(posterior.variance[row], [(1 - before) / (1 - bar) * b], dtype, 0, factor)


def three(process, case, encodings, h=None):
    """The three distributions at a case's arguments."""
    h_t = None if h is None else h[1]
    return (
        process.marginal(encodings, case.t, case.z0, h=h_t),
        process.transition(case.z, encodings, case.s, case.t, case.z0, h=h),
        process.posterior(case.z, encodings, case.s, case.t, case.z0, h=h),
    )


def same(case, left, right):
    for one, other in zip(left, right, strict=True):
        close(one.mean, other.mean, case.dtype, case.scale)
        close(one.variance, other.variance, case.dtype, 0)


@checked
@given(cases(), st.randoms(use_true_random=False))
def test_i6_permutation(case, random):
    """Modalities permuted with their weights change nothing."""
    order = list(range(case.chain.N))
    random.shuffle(order)
    permuted = Process(case.process.schedule.select(order))
    same(case, three(permuted, case, case.encodings[:, order]), three(case.process, case, case.encodings))


@checked
@given(cases(), st.integers(0, 8))
def test_i7_zero_weight(case, at):
    """A modality of weight 0 at every step is as if not there, whatever its code."""
    at = min(at, case.chain.N)
    s = case.process.schedule
    W = torch.cat([s.W[:, :at], torch.zeros(len(s.W), 1, dtype=torch.float64), s.W[:, at:]], 1)
    code = 100 + torch.zeros_like(case.z)[:, None]
    widened = torch.cat([case.encodings[:, :at], code, case.encodings[:, at:]], 1)
    same(case, three(Process(Schedule(s.log_A, W)), case, widened), three(case.process, case, case.encodings))


@checked
@given(cases(N=3))
def test_i8_equal_weights(case):
    """Codes of equal weights are as one code, their sum."""
    s = case.process.schedule
    equal = Process(Schedule(s.log_A, s.W[:, [0, 1, 1]]))
    merged = Process(Schedule(s.log_A, s.W[:, [0, 1]]))
    total = torch.stack([case.encodings[:, 0], case.encodings[:, 1] + case.encodings[:, 2]], 1)
    same(case, three(equal, case, case.encodings), three(merged, case, total))


@checked
@given(cases(), st.floats(-3, 3))
def test_i9_linear_mean(case, c):
    """Means are linear in encodings, base state and ``z``; variances depend on none of them."""

    def at(encodings, z0, z):
        return three(case.process, Case(case.chain, encodings, z0, z, case.s, case.t), encodings)

    e, f = case.encodings, case.encodings.flip(0).roll(1, -1) - 0.5
    b, d = (None, None) if case.z0 is None else (case.z0, case.z0.flip(0) + 1)
    y = case.z.flip(0) - 0.5
    left = at(e + c * f, None if b is None else b + c * d, case.z + c * y)
    one, other = at(e, b, case.z), at(f, d, y)
    for total, first, second in zip(left, one, other, strict=True):
        close(total.mean, first.mean + c * second.mean, case.dtype, 16 * case.scale)
        assert torch.equal(total.variance, first.variance)
        assert torch.equal(total.variance, second.variance)


@checked
@given(st.integers(1, 60), st.integers(0, 8), st.integers(0, 2**20))
def test_i10_steps_round_trip(T, N, seed):
    """``(a, w, W_0) -> (log A, W) -> (a, w, W_0)``, the tables in between being those of the recursion."""
    rng = np.random.default_rng(seed)
    a, w, W0 = rng.uniform(0.01, 0.9999, T), rng.normal(size=(T, N)), rng.normal(size=N)
    s = Schedule.from_steps(a, torch.as_tensor(w), W0)
    chain = Chain(Process(s), a.astype(EXACT), w.astype(EXACT), W0.astype(EXACT))
    for modality in range(N):
        mean, _ = chain.joint(list(range(T + 1)), np.eye(N, dtype=EXACT)[modality], 0)
        close(s.W[:, modality], mean, torch.float64)
    close(s.a, a, torch.float64)
    close(s.w, w, torch.float64, 100)
    close(s.W0, W0, torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("T", "N"), [(1, 0), (10, 1), (100, 8), (4000, 2)])
def test_i10_tables_round_trip(name, T, N):
    """``(log A, W) -> (a, w, W_0) -> (log A, W)`` for the named schedules."""
    s = schedule.NAMED[name](T, N)
    back = Schedule.from_steps(s.a, s.w, s.W0)
    assert (back.steps, back.modalities) == (T, N)
    close(back.log_A, s.log_A, torch.float64, 1, factor=10)
    close(back.W, s.W, torch.float64, 1, factor=100)


@checked
@given(cases())
def test_i11_averaged_posterior(case):
    """The posterior averaged over the chain's marginal at ``t`` is its marginal at ``s``."""
    p = case.process
    offset, gain = affine(
        lambda z: p.posterior(z, case.encodings, case.s, case.t, case.z0).mean, case.z.shape, case.dtype
    )
    beta = p.posterior(case.z, case.encodings, case.s, case.t, case.z0).variance.expand_as(case.z)
    for row, (s, t) in enumerate(zip(case.s.tolist(), case.t.tolist(), strict=True)):
        mean, covariance = case.brute(row, [s, t])
        k = exact(gain[row])
        close(exact(offset[row]) + k * mean[1], mean[0], case.dtype, 4 * case.scale)
        variance = np.full(k.shape, covariance[0, 0])
        close(k**2 * covariance[1, 1] + exact(beta[row]), variance, case.dtype, 4 * case.scale)


@checked
@given(cases(), st.integers(0, 2**20))
def test_i12_ddim_at_eta_1_is_the_posterior(case, seed):
    """DDIM with ``η = 1`` is a draw from the posterior, whatever the predictions."""
    p = case.process
    h = (p.marginal(case.encodings, case.s, case.z0).mean, p.marginal(case.encodings, case.t, case.z0).mean)
    noise = torch.randn(case.z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise.to(case.dtype)
    drawn = p.posterior(case.z, case.encodings, case.s, case.t, case.z0).draw(noise)
    close(p.step(case.z, *h, case.s, case.t, noise, 1.0), drawn, case.dtype, case.scale)


@checked
@given(cases(), st.floats(0, 1))
def test_i12_every_eta_keeps_the_marginals(case, eta):
    """With exact predictions a step from the chain's marginal at ``t`` arrives at its marginal at ``s``."""
    p, zero = case.process, torch.zeros_like(case.z)
    h = (p.marginal(case.encodings, case.s, case.z0).mean, p.marginal(case.encodings, case.t, case.z0).mean)
    offset, gain = affine(lambda z: p.step(z, *h, case.s, case.t, zero, eta), case.z.shape, case.dtype)
    _, noise = affine(lambda x: p.step(zero, *h, case.s, case.t, x, eta), case.z.shape, case.dtype)
    for row, (s, t) in enumerate(zip(case.s.tolist(), case.t.tolist(), strict=True)):
        mean, covariance = case.brute(row, [s, t])
        k = exact(gain[row])
        # Where σ_t is small the gain σ_s/σ_t stays below 1, so the offset's rounding is not amplified.
        close(exact(offset[row]) + k * mean[1], mean[0], case.dtype, 4 * case.scale)
        variance = np.full(k.shape, covariance[0, 0])
        close(k**2 * covariance[1, 1] + exact(noise[row]) ** 2, variance, case.dtype, 8 * case.scale)


@checked
@given(cases())
def test_i13_variances(case):
    """``0 ≤ β ≤ v``, and every mean and variance is finite."""
    for q in three(case.process, case, case.encodings):
        assert q.mean.isfinite().all()
        assert (q.variance.isfinite() & (q.variance >= 0)).all()
    _, transition, posterior = three(case.process, case, case.encodings)
    assert (posterior.variance <= transition.variance * (1 + EPS[case.dtype])).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("N", [0, 1, 8])
def test_i13_variances_of_every_pair(name, N):
    """``0 ≤ β_{t,s} ≤ v`` at every pair of steps."""
    p = Process(schedule.NAMED[name](120, N))
    s, t = torch.triu_indices(121, 121, 1)
    jump = p.jump(s, t)
    for coefficient in (jump.a, jump.v, jump.k, jump.beta):
        assert coefficient.isfinite().all()
        assert (coefficient >= 0).all()
    assert (jump.beta <= jump.v * (1 + 1e-14)).all()
    assert (jump.beta[s == 0] == 0).all()


@checked
@given(cases())
def test_i13_bound_is_not_negative(case):
    """``L0`` and ``L1_t`` are finite and not negative, and ``L1_t`` is 0 for the exact predictions."""
    prior = bound.prior(case.process, case.encodings, case.z0)
    assert prior.shape == case.t.shape
    assert prior.isfinite().all()
    assert (prior >= -EPS[case.dtype]).all()
    if case.chain.T < 2 or case.chain.N == 0:
        return
    t = case.t.clamp(min=2)
    predicted = case.encodings.flip(0) + 1
    terms = bound.posterior(case.process, case.encodings - predicted, t).sum(1)
    assert terms.shape == t.shape
    assert terms.isfinite().all()
    assert (terms >= 0).all()
    assert (bound.posterior(case.process, case.encodings - case.encodings, t) == 0).all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cases(dtypes=(torch.float64,)), st.sampled_from(["ancestral", 0.0, 0.3, 1.0]), st.randoms(use_true_random=False))
def test_i14_samplers_keep_the_marginals(case, sampler, random):
    """Started from ``q(z_T | X)``, exact predictions keep ``q(z_s | X)`` at every visited ``s``."""
    p, T = case.process, case.chain.T
    inner = random.sample(range(1, T), min(T - 1, random.randint(0, 12)))
    visits = sorted({*inner, T, 1}, reverse=True)
    e, z0 = case.encodings[:1], None if case.z0 is None else case.z0[:1]
    marginal, covariance = Case(case.chain, e, z0, case.z[:1], case.s, case.t).brute(0, visits[::-1])
    marginal, variances = marginal[::-1], np.diagonal(covariance)[::-1]
    mean, variance = marginal[0], variances[0]
    zero = torch.zeros_like(case.z[:1])
    for row in range(1, len(visits)):
        s, t = torch.tensor([visits[row]]), torch.tensor([visits[row - 1]])
        if sampler == "ancestral":
            offset, gain = affine(lambda z, s=s, t=t: p.posterior(z, e, s, t, z0).mean, zero.shape, zero.dtype)
            added = exact(p.posterior(zero, e, s, t, z0).variance.flatten())[0]
        else:
            h = (p.marginal(e, s, z0).mean, p.marginal(e, t, z0).mean)
            step = lambda z, x, h=h, s=s, t=t: p.step(z, *h, s, t, x, sampler)  # noqa: E731
            offset, gain = affine(lambda z, step=step: step(z, zero), zero.shape, zero.dtype)
            added = exact((step(zero, torch.ones_like(zero)) - step(zero, zero)).flatten())[0] ** 2
        mean = exact(offset[0]) + exact(gain[0]) * mean
        variance = exact(gain.flatten())[0] ** 2 * variance + added
        close(mean, marginal[row], case.dtype, 20 * case.scale)
        close(variance, variances[row], case.dtype, 20 * case.scale)


@checked
@given(cases())
def test_weighted_mean_replaces_the_encodings(case):
    """The weighted mean already made gives what the stack of encodings gives, and integer steps what tensors give."""
    p = case.process
    zero = EXACT(0) * exact(case.z)
    made = []
    for times in (case.s, case.t):
        W = exact(p.schedule.W)[times.numpy()]
        h = np.stack([np.tensordot(W[b], exact(case.encodings[b]), 1) for b in range(len(W))]) + zero
        made.append(torch.as_tensor(h.astype(np.float64)).to(case.dtype))
    same(case, three(p, case, None, (made[0], made[1])), three(p, case, case.encodings))
    one = p.marginal(case.encodings, int(case.t[0]), case.z0)
    all_rows = p.marginal(case.encodings, torch.full_like(case.t, int(case.t[0])), case.z0)
    assert torch.equal(one.mean, all_rows.mean)


def test_rank_0():
    """A space of rank 0: codes ``(B, N)``, states ``(B,)``."""
    p = Process(schedule.cosine(10, 2))
    e, t = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([3, 7])
    flat = p.marginal(e, t)
    wide = p.marginal(e[:, :, None], t)
    close(flat.mean, wide.mean[:, 0], torch.float32)
    close(flat.log_prob(torch.zeros(2)), wide.log_prob(torch.zeros(2, 1)), torch.float32, 1)
    close(bound.prior(p, e), bound.prior(p, e[:, :, None]), torch.float32, 1)


@pytest.mark.parametrize("N", [0, 1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *DTYPES])
def test_a_batch_of_timesteps_is_as_each_by_itself_bit_for_bit(dtype, N):
    """Whether looked up for all rows at once, by integers, or given as coefficients; for every dtype and rank after one another."""
    process = Process(schedule.cosine(30, N))
    generator = torch.Generator().manual_seed(0)
    t = torch.tensor([0, 1, 17, 30, 17])
    for shape in ((), (2,), (2, 3, 3)):
        z0, noise = (torch.randn(5, *shape, generator=generator).to(dtype) for _ in range(2))
        encodings = torch.randn(5, N, *shape, generator=generator).to(dtype) if N else None
        base = {} if process.schedule.W0.any() else {"z0": z0}
        if encodings is None and not base:
            continue
        rows = process.marginal(encodings, t, **base)
        level = process.marginal(encodings, process.level(t), **base)
        assert rows.mean.dtype == dtype
        for other in (rows, level):
            drawn = other.draw(noise)
            for k, one in enumerate(t.tolist()):
                own = {name: x[k : k + 1] for name, x in base.items()}
                alone = process.marginal(None if encodings is None else encodings[k : k + 1], one, **own)
                assert torch.equal(drawn[k : k + 1], alone.draw(noise[k : k + 1]))
