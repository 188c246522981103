"""Counter-based randomness: what a draw depends on, and that it is what it claims to be."""

import math

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore import Rng

SIGMAS = 5.1  # two-sided false-alarm rate 3.4e-7 for each normal statistic below, with fixed seeds


@given(
    st.integers(0, 2**40),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.integers(0, 20),
    st.sampled_from(["normal", "uniform"]),
)
def test_row_is_the_same_in_any_batch(seed: int, count: int, start: int, pick: int, kind: str) -> None:
    pick %= count
    whole = getattr(Rng.for_rows(seed, count, start=start).of("x").at(3), kind)(5, 3)
    alone = getattr(Rng.for_rows(seed, 1, start=start + pick).of("x").at(3), kind)(5, 3)
    assert torch.equal(whole[pick], alone[0])


def test_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = Rng.for_rows(0, 4).normal(8)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, Rng.for_rows(0, 4).normal(8))


@pytest.mark.parametrize("other", [Rng.for_rows(1, 400), Rng.for_rows(0, 400).at(1), Rng.for_rows(0, 400).of("x")])
def test_seed_step_and_purpose_are_independent_streams(other: Rng) -> None:
    a, b = Rng.for_rows(0, 400).normal(250, dtype=torch.float64), other.normal(250, dtype=torch.float64)
    correlation = (a * b).mean() * math.sqrt(a.numel())
    assert abs(correlation) < SIGMAS


def test_rows_and_elements_are_independent() -> None:
    z = Rng.for_rows(5, 500).normal(500, dtype=torch.float64)
    for shifted in (z.roll(1, 0), z.roll(1, 1), z.roll((1, 1), (0, 1)), z.T):
        assert abs((z * shifted).mean() * 500) < 1.5 * SIGMAS


def test_normal_has_the_normal_distribution() -> None:
    n = 400_000
    z = Rng.for_rows(2, 400).normal(1000, dtype=torch.float64).flatten()
    # Kolmogorov and Smirnov: P(sqrt(n) D > 2.77) = 4.3e-7
    gap = (torch.special.ndtr(z.sort().values) - (torch.arange(n) + 0.5) / n).abs().max() + 0.5 / n
    assert gap * math.sqrt(n) < 2.77
    for power, truth, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(z.pow(power).mean() - truth) < SIGMAS * math.sqrt(variance / n)


def test_uniform_is_uniform_and_never_touches_the_ends() -> None:
    n = 400_000
    for dtype in (torch.float32, torch.float64):
        u = Rng.for_rows(3, 400).uniform(1000, dtype=dtype).flatten()
        assert 0 < u.min() < u.max() < 1
        gap = (u.double().sort().values - (torch.arange(n) + 0.5) / n).abs().max() + 0.5 / n
        assert gap * math.sqrt(n) < 2.77


def test_categorical_and_integers_have_their_frequencies() -> None:
    n = 200_000
    p = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    counts = torch.bincount(Rng.for_rows(0, n).categorical(p.expand(n, 4)), minlength=4) / n
    assert counts[1] == 0
    assert ((counts - p).abs() <= SIGMAS * (p * (1 - p) / n).sqrt()).all()
    k = torch.bincount(Rng.for_rows(0, n).integers(3, 8), minlength=8) / n
    assert k[:3].sum() == 0
    assert ((k[3:] - 0.2).abs() < SIGMAS * math.sqrt(0.16 / n)).all()


@pytest.mark.parametrize("shape", [1.0, 1.5, 10.0, 400.0])
def test_gamma_has_its_moments(shape: float) -> None:
    n = 200_000
    g = Rng.for_rows(7, n).gamma(torch.full((n,), shape, dtype=torch.float64))
    assert abs(g.mean() - shape) < SIGMAS * math.sqrt(shape / n)
    fourth = 3 * shape**2 + 6 * shape
    assert abs((g - shape).square().mean() - shape) < SIGMAS * math.sqrt((fourth - shape**2) / n)


def splitmix(x: int) -> int:
    """The finaliser as it is published, in Python's integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_bits_are_mixed_as_published(words: list[int]) -> None:
    from mmcore.rng import _mix

    signed = torch.tensor([w - 2**64 if w >= 2**63 else w for w in words])
    assert [w % 2**64 for w in _mix(signed).tolist()] == [splitmix(w) for w in words]


@given(st.integers(0, 70), st.integers(1, 5), st.integers(0, 3), st.integers(1, 65))
def test_several_steps_at_once_have_each_its_own_numbers(first: int, steps: int, seed: int, count: int) -> None:
    rng, several = Rng.for_rows(seed, 6, start=3), range(first, first + steps)
    for dtype in (torch.float32, torch.float64):
        for draw in ("uniform", "normal"):
            found = getattr(rng.at(several).of("a"), draw)(count, dtype=dtype)
            wanted = [getattr(rng.at(step).of("a"), draw)(count, dtype=dtype) for step in several]
            assert torch.equal(found, torch.cat(wanted))


def test_rows_of_several_steps_have_no_other_step() -> None:
    several = Rng.for_rows(0, 2).at(range(4, 6))
    with pytest.raises(ValueError, match=r"rows of several steps \(range\(4, 6\)\), expected rows of one"):
        several.at(7)
    with pytest.raises(ValueError, match=r"other rows put in place of those of several steps \(range\(4, 6\)\)"):
        attrs.evolve(several, rows=several.rows[:2]).uniform(1)
