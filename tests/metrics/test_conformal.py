"""What is set by rows held out holds for a new row as often as it says: counted over every choice of the new row."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcore.metrics.conformal import Sureness, Widening, central, fewest


def rows(n: int, seed: int, *, narrow: float, positive: bool = False, size: int = 1) -> tuple[Tensor, Tensor]:
    """Draws ``(n, 16, size)`` that are too narrow or too wide by a factor, and truths ``(n, size)``: a new row is any of them."""
    rng = torch.Generator().manual_seed(seed)
    middle, width = torch.randn(n, 1, size, generator=rng), torch.rand(n, 1, size, generator=rng) + 0.1
    draws = middle + narrow * width * torch.randn(n, 16, size, generator=rng)
    truth = (middle + width * torch.randn(n, 1, size, generator=rng))[:, 0]
    return (draws.exp(), truth.exp()) if positive else (draws, truth)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(5, 40),
    st.integers(0, 10**6),
    st.sampled_from([0.01, 0.3, 1.0, 4.0]),
    st.sampled_from([0.5, 0.8, 0.9]),
    st.booleans(),
)
def test_of_all_choices_of_the_new_row_just_the_promised_share_is_held(
    n: int, seed: int, narrow: float, interval: float, positive: bool
) -> None:
    """Of n + 1 rows each is the new one in turn, and the others set its interval: the law is exact, whatever the draws are."""
    draws, truth = rows(n + 1, seed, narrow=narrow, positive=positive)
    held = 0
    for new in range(n + 1):
        others = torch.arange(n + 1) != new
        widening = Widening.of(draws[others], truth[others], interval, ratio=positive)
        if n < fewest(interval):
            assert widening is None
            return
        assert widening is not None
        low, high = widening.ends(draws[new], interval, None, None)
        held += bool(low <= truth[new] + 1e-9 * truth[new].abs() and truth[new] <= high + 1e-9 * high.abs())
    promised = math.ceil((n + 1) * interval - 1e-9)
    # Where intervals are too wide, what would be less than empty holds its middle, which no truth is.
    assert held == promised or (narrow > 1 and held <= promised)


def test_intervals_too_narrow_by_far_hold_what_they_say() -> None:
    """2,000 new rows by 100 held out, 20 times: the mean of what is held is 0.802 with a deviation of 0.009."""
    shares = []
    for seed in range(20):
        draws, truth = rows(2100, seed, narrow=0.1)
        widening = Widening.of(draws[:100], truth[:100], 0.8, ratio=False)
        assert widening is not None
        assert widening.held < 0.25
        ends = [widening.ends(one, 0.8, None, None) for one in draws[100:]]
        low, high = (torch.stack(end) for end in zip(*ends, strict=True))
        shares.append(((low <= truth[100:]) & (truth[100:] <= high)).double().mean().item())
    # Four of these deviations: once in 16,000.
    assert abs(np.mean(shares) - 81 / 101) < 4 * 0.009


def test_each_number_of_a_vector_has_its_own() -> None:
    draws, truth = rows(60, 0, narrow=0.2, size=3)
    together = Widening.of(draws, truth, 0.8, ratio=False)
    assert together is not None
    for k in range(3):
        alone = Widening.of(draws[..., k], truth[..., k], 0.8, ratio=False)
        assert alone is not None
        assert together.by[k] == alone.by


def test_ends_stay_inside_the_limits_and_in_order() -> None:
    draws, truth = rows(50, 1, narrow=0.1)
    widening = Widening.of(draws, truth, 0.8, ratio=False)
    assert widening is not None
    low, high = widening.ends(draws[0], 0.8, -0.01, 0.02)
    assert -0.01 <= low <= high <= 0.02
    wide = Widening.of(draws + 50 * torch.randn(50, 16, 1), truth, 0.8, ratio=False)
    assert wide is not None
    assert wide.by[0] < 0
    low, high = wide.ends(draws[0], 0.8, None, None)  # narrower by more than they are wide
    assert low == high
    assert draws[0].min() <= low <= draws[0].max()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.95]))
def test_central_intervals_are_numpys(draws: int, seed: int, interval: float) -> None:
    x = torch.randn(draws, 2, 3, generator=torch.Generator().manual_seed(seed))
    want = np.quantile(x.double().numpy(), [(1 - interval) / 2, (1 + interval) / 2], axis=0, method="weibull")
    for found, end in zip(central(x, interval), want, strict=True):
        np.testing.assert_allclose(found.numpy(), end, rtol=1e-9, atol=1e-12)


def test_few_rows_tell_nothing() -> None:
    assert (fewest(0.5), fewest(0.8), fewest(0.9), fewest(0.95)) == (1, 4, 9, 19)
    draws, truth = rows(3, 0, narrow=1)
    assert Widening.of(draws, truth, 0.8, ratio=False) is None
    assert Sureness.of([16] * 9, [True] * 9, 16) is None


# ---- classes ----


def test_the_fit_is_that_of_the_largest_likelihood() -> None:
    """Beside scikit-learn's logistic regression without penalty, in which a row of a wanted value p counts p times right, 1 - p times wrong."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    counts = rng.integers(6, 17, 80).tolist()
    right = (rng.random(80) < np.array(counts) / 20).tolist()
    found = Sureness.of(counts, right, 16)
    assert found is not None
    x = np.log((np.array(counts) + 0.5) / (16.5 - np.array(counts)))
    hits = sum(right)
    wanted = np.where(right, (hits + 1) / (hits + 2), 1 / (80 - hits + 2))
    model = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(np.r_[x, x][:, None], np.r_[np.ones(80), np.zeros(80)], sample_weight=np.r_[wanted, 1 - wanted])
    assert found.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found.offset == pytest.approx(model.intercept_[0], abs=1e-4)


def test_a_class_that_all_draws_have_is_as_probable_as_it_is_right() -> None:
    """What a network that knows its rows by heart says: always sure, right in a third of the rows."""
    right = [k % 3 == 0 for k in range(60)]
    found = Sureness.of([16] * 60, right, 16)
    assert found is not None
    assert found.probability(16, 16) == pytest.approx((20 * 21 / 22 + 40 / 42) / 60, abs=1e-6)
    assert (found.told_share, found.right) == (1, 20 / 60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16), st.booleans()), min_size=10, max_size=40))
def test_more_draws_are_never_less_probable_and_nothing_is_certain(seen: list[tuple[int, bool]]) -> None:
    found = Sureness.of([count for count, _ in seen], [right for _, right in seen], 16)
    assert found is not None
    told = [found.probability(count, 16) for count in range(1, 17)]
    assert all(one <= two + 1e-12 for one, two in itertools.pairwise(told))
    assert told[0] > 0
    assert told[-1] < 1
