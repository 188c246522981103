"""Samplers on correlated Gaussian data, where the best predictor is linear and known: nothing is drawn.

Each modality is a scalar of unit variance with an axis of its own. The state is then
``z_t = W_t x + σ_t ε`` in ``R^N``, its conditional mean ``E[x | z_t]`` a matrix, and a sampler's output
mean and covariance are products of matrices.
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from mmcore.process import Process, schedule

SAMPLERS = ("ancestral", "ddim")


def pair(rho):
    return np.array([[1.0, rho], [rho, 1.0]])


def chain_of(n, rho):
    """``ρ^|i-j|``: neighbours correlate most."""
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)


def mixed(n, seed):
    """A random correlation matrix, negative entries included."""
    root = np.random.default_rng(seed).normal(size=(n, n + 1))
    covariance = root @ root.T
    scale = np.sqrt(np.diag(covariance))
    return covariance / scale[:, None] / scale


DATA = {
    "one": np.eye(1),
    "independent": np.eye(3),
    "half": pair(0.5),
    "negative": pair(-0.8),
    "nearly equal": pair(0.99),
    "chain of 4": chain_of(4, 0.7),
    "mixed 5": mixed(5, 0),
    "eight": chain_of(8, 0.5),
}


def questions(n):
    """Every set of observed modalities but the full one."""
    return [list(chosen) for size in range(n) for chosen in combinations(range(n), size)]


def answers(covariance, observed):
    """The true conditional, in ``R^N``: regression on the observations and covariance, zero where observed."""
    n = len(covariance)
    regression, left = np.zeros((n, n)), np.zeros((n, n))
    asked = [i for i in range(n) if i not in observed]
    joint = covariance[np.ix_(asked, asked)]
    if observed:
        cross = covariance[np.ix_(asked, observed)]
        gain = np.linalg.solve(covariance[np.ix_(observed, observed)], cross.T).T
        regression[np.ix_(asked, observed)] = gain
        joint = joint - gain @ cross.T
    left[np.ix_(asked, asked)] = joint
    return regression, left


def sample(process, regression, covariance, sampler):
    """The output's regression on the observations and its covariance, for a stack of questions ``(Q, N, N)``.

    The predictor knows the observations: given them, ``x ~ N(R o, C)``. Every step from ``T`` to 1 is visited, and
    the answer is the conditional mean at ``t = 1``.
    """
    n, T = covariance.shape[-1], process.steps
    level = process.level(torch.arange(T + 1))
    jump = process.jump(torch.arange(T), torch.arange(1, T + 1))
    W, variance = level.W.numpy(), level.sigma.square().numpy()
    k, beta = jump.k.numpy(), jump.beta.numpy()
    if sampler == "ddim":
        k, beta = np.sqrt(variance[:-1] / variance[1:]), np.zeros(T)
    identity = np.eye(n)
    mean, spread = np.zeros_like(covariance), np.broadcast_to(identity, covariance.shape)
    for t in range(T, 0, -1):
        # E[x | z_t, o] = R o + G (z_t - W_t R o): Gaussian conditioning.
        cross = covariance * W[t]
        gain = np.linalg.solve(W[t][:, None] * cross + variance[t] * identity, np.swapaxes(cross, -1, -2))
        gain = np.swapaxes(gain, -1, -2)
        shift = regression - gain @ (W[t][:, None] * regression)
        if t == 1:
            return gain @ mean + shift, gain @ spread @ np.swapaxes(gain, -1, -2)
        into = (W[t - 1] - k[t - 1] * W[t])[:, None]
        step = into * gain + k[t - 1] * identity
        mean = step @ mean + into * shift
        spread = step @ spread @ np.swapaxes(step, -1, -2) + beta[t - 1] * identity
    raise AssertionError


def error(name, steps, data, sampler, observed=((),), **options):
    """The largest error of any entry of the outputs' regressions and covariances."""
    truth = [answers(data, list(chosen)) for chosen in observed]
    regression, covariance = (np.stack(part) for part in zip(*truth, strict=True))
    process = Process(schedule.NAMED[name](steps, len(data), **options))
    mean, spread = sample(process, regression, covariance, sampler)
    return max(np.abs(mean - regression).max(), np.abs(spread - covariance).max())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_i15_joint(data, sampler):
    """Under ``cosine`` the output is the joint distribution, as ``1/T``."""
    coarse, fine = (error("cosine", steps, data, sampler) for steps in (1000, 4000))
    assert coarse <= 0.006
    assert 3.5 <= coarse / fine <= 4.5


@pytest.mark.parametrize(("sampler", "figures"), [("ancestral", (0.0049, 0.0012)), ("ddim", (0.0026, 0.0006))])
def test_i15_figures(sampler, figures):
    """The errors stated for two modalities of correlation 0.5."""
    for steps, figure in zip((1000, 4000), figures, strict=True):
        assert error("cosine", steps, pair(0.5), sampler) == pytest.approx(figure, abs=6e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_i15_roles(data, sampler):
    """With roles the output is the true conditional, for every observed subset, as ``1/T``."""
    if len(data) > 5:
        data = data[:4, :4]
    observed = questions(len(data))
    coarse, fine = (error("cosine", steps, data, sampler, observed) for steps in (500, 2000))
    assert coarse <= 0.012
    assert 3.5 <= coarse / fine <= 4.5


PAPER = {1: 0.85, 2: 0.79, 8: 0.66}


@pytest.mark.parametrize("N", PAPER)
def test_paper_ancestral_loses_variance(N):
    """Under ``paper`` ancestral steps with mean predictions lose variance, whatever the number of steps."""
    covariance = np.eye(N)[None]
    found = []
    for steps in (1000, 4000):
        _, spread = sample(Process(schedule.paper(steps, N)), np.zeros_like(covariance), covariance, "ancestral")
        found.append(spread[0, 0, 0])
    assert found[1] == pytest.approx(PAPER[N], abs=0.005)
    assert found[0] == pytest.approx(found[1], abs=0.005)


@pytest.mark.parametrize("N", PAPER)
def test_paper_deterministic_keeps_variance(N):
    """Under ``paper`` deterministic steps depend on the marginals only, and are right."""
    covariance = np.eye(N)[None]
    _, spread = sample(Process(schedule.paper(4000, N)), np.zeros_like(covariance), covariance, "ddim")
    assert spread[0, 0, 0] == pytest.approx(0.9994, abs=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1000, 4000])
def test_paper_steps_fades(sampler, steps):
    """Under ``paper-steps`` mean readings lose covariance whatever the sampler."""
    found = error("paper-steps", steps, pair(0.5), sampler)
    assert 0.63 <= found <= 0.66
