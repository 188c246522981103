"""Samplers as they run, for every layout, with the exact predictor of Gaussian data: their moments against the truth.

Nothing is drawn: see :mod:`tests.oracle`. All that a question can be is asked: every variable generated, observed or absent.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mmcore import RequestError
from mmcore.process import schedule

from .oracle import (
    ABSENT,
    GENERATE,
    HARD,
    LAYOUTS,
    OBSERVE,
    SAMPLERS,
    answer,
    conditional,
    equal,
    errors,
    mixed,
    questions,
)
from .oracle import gaussian_model as model_of

pytestmark = pytest.mark.filterwarnings("ignore:.*(overlap|does not reach the prior)")


def scalars(name: str, T: int, N: int, layout: str | list[list[str]] = "shared", **options: Any) -> Any:
    """A model of ``N`` scalars with an element each."""
    return model_of(schedule.NAMED[name](T, N), [1] * N, layout, **{"space": (N, 1)} | options)


@functools.cache
def moments(layout: str, sampler: str, T: int) -> tuple[np.ndarray, np.ndarray]:
    """The answers of three scalars under ``cosine`` to all 19 questions, regressions and covariances."""
    asked = questions(3)
    return answer(scalars("cosine", T, 3, LAYOUTS[layout]), [HARD] * len(asked), asked, **SAMPLERS[sampler])


def error(found: tuple[np.ndarray, np.ndarray], data: np.ndarray, asked: Sequence[Sequence[int]]) -> float:
    truth = zip(*(conditional(data, roles) for roles in asked), strict=True)
    return max(float(np.abs(f - np.stack(t)).max()) for f, t in zip(found, truth, strict=True))


# Every sampler at full length in the layout that has both a block of its own and a shared one; in the others one
# sampler, and below the law that layouts do not differ. ``python -m benchmarks.exactness`` runs the whole table.
FULL = [("two blocks", sampler) for sampler in SAMPLERS] + [("shared", "ancestral"), ("separate", "ancestral")]


@pytest.mark.parametrize(("layout", "sampler"), FULL)
def test_i15_every_question_tends_to_the_truth(layout: str, sampler: str) -> None:
    """Within 0.006 at ``T = 1000``, for the joint, every marginal and every conditional, and at least as ``1/T``."""
    coarse, fine = (error(moments(layout, sampler, T), HARD, questions(3)) for T in (250, 1000))
    assert fine <= 0.006
    assert coarse / fine >= 3.5
    if sampler in ("ancestral", "ddim, eta 0", "ddim, eta 0.5"):
        assert coarse / fine <= 4.5


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_layouts_do_not_differ_by_more_than_rounding(layout: str, sampler: str) -> None:
    """With the exact predictor and powers 1, blocks whose timesteps go down together are one block."""
    for found, other in zip(moments(layout, sampler, 100), moments("two blocks", sampler, 100), strict=True):
        np.testing.assert_allclose(found, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_i15_of_two(layout: str, sampler: str) -> None:
    """The same for pairs of several correlations; at ``T = 100`` ten times the error is allowed."""
    data = [equal(2, rho) for rho in (0.0, 0.5, -0.8, 0.99)]
    model = scalars("cosine", 100, 2, LAYOUTS[layout])
    assert max(errors(model, data, questions(2), **SAMPLERS[sampler])) <= 10 * 0.006


@pytest.mark.parametrize("sampler", ["ancestral", "ddim, eta 0", "2m"])
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_i15_of_vectors_seen_in_part(layout: str, sampler: str) -> None:
    """Two vectors in the space that ``compose`` makes for them (with copies in blocks of their own), by element."""
    model = model_of(schedule.cosine(100, 2), [3, 2], layout)
    g, o, a = GENERATE, OBSERVE, ABSENT
    asked = [(g, o, g, g, g), (o, g, o, g, o), (g, o, o, o, o), (g, o, g, a, a), (o, o, o, g, o), (a, a, a, o, g)]
    data = [mixed(5, seed) for seed in (0, 1)]
    assert max(errors(model, data, asked, **SAMPLERS[sampler])) <= 10 * 0.006


def test_an_absent_modality_is_marginalised_out() -> None:
    """What a sampler answers does not depend on how an absent modality relates to the rest, bit for bit."""
    other = HARD.copy()
    other[1:2, [0, 2]] = other[[0, 2], 1:2] = 0
    for layout in LAYOUTS.values():
        model = scalars("cosine", 50, 3, layout)
        asked = [(GENERATE, ABSENT, OBSERVE), (GENERATE, ABSENT, GENERATE)]
        with_it, without = (answer(model, [data] * 2, asked) for data in (HARD, other))
        for found, same in zip(with_it, without, strict=True):
            np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("name", ["cosine", "paper"])
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_drawn_codes_are_exact_for_independent_data(layout: str, name: str) -> None:
    """Where the prediction factorises, ancestral steps by draws are draws from the true posterior: right in any number of steps."""
    model = scalars(name, 400, 2, layout)
    how = {"sampler": "ancestral", "steps": [400, 300, 90, 20, 1], "draw": True}
    asked = [(GENERATE, GENERATE), (OBSERVE, GENERATE), (GENERATE, ABSENT)]
    lacks = max(errors(model, [np.eye(2)], asked, **how))
    # What is left is that the start is N(0, I), not q(z_T).
    assert max(errors(model, [np.eye(2)], asked, codes="draw-all", **how)) < 1e-4
    assert lacks > 0.1


def test_drawn_codes_need_fewer_steps_for_little_correlation() -> None:
    """They keep each modality's own variance, so what 20 steps lack of the truth is less."""
    model, asked = scalars("cosine", 1000, 2), questions(2)
    how = {"sampler": "ancestral", "steps": 20}
    mean, draws = (max(errors(model, [equal(2, 0.3)], asked, codes=codes, **how)) for codes in ("mean", "draw-all"))
    assert draws < 0.5 * mean


# ---- approximate combinations, and by how much ----


@pytest.mark.parametrize(("sampler", "figure"), [("ancestral", 0.27), ("ddim, eta 0", 0.18)])
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_posterior_conditioning_regresses_too_little(layout: str, sampler: str, figure: float) -> None:
    """The article's conditioning has a regression of 0.27 (0.18 without noise) for a true 0.5; by roles it is 0.5."""
    model = scalars("cosine", 250, 2, layout)
    asked = [(OBSERVE, GENERATE)]
    regression, _ = answer(model, [equal(2, 0.5)], asked, conditioning="posterior", **SAMPLERS[sampler])
    assert regression[0, 1, 0] == pytest.approx(figure, abs=0.01)
    regression, _ = answer(model, [equal(2, 0.5)], asked, steps=50, **SAMPLERS[sampler])
    assert regression[0, 1, 0] == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("draw", [False, True])
def test_overlapping_codes_answer_too_alike(draw: bool) -> None:
    """Two scalars along one direction, true correlation 0.5: 0.75 read by draws, 1.00 by means."""
    with pytest.warns(UserWarning, match="overlap"):
        model = scalars("cosine", 250, 2, space=(1, 1), overlap=True)
    _, covariance = answer(model, [equal(2, 0.5)], [(GENERATE, GENERATE)], draw=draw)
    deviation = np.sqrt(np.diag(covariance[0]))
    assert covariance[0, 0, 1] / deviation.prod() == pytest.approx(0.75 if draw else 1.0, abs=0.02)


@pytest.mark.parametrize(("layout", "N", "figure"), [("shared", 1, 0.85), ("separate", 2, 0.79)])
def test_paper_loses_variance_by_ancestral_steps_only(layout: str, N: int, figure: float) -> None:
    """Under ``paper`` mean predictions lose variance at any number of steps; without noise nothing is lost."""
    asked, data = [(GENERATE,) * N], [np.eye(N)]
    model = scalars("paper", 250, N, layout)
    assert answer(model, data, asked, sampler="ancestral")[1][0, 0, 0] == pytest.approx(figure, abs=0.02)
    assert answer(model, data, asked, sampler="2m")[1][0, 0, 0] == pytest.approx(1, abs=0.002)
    # DDIM is deterministic by default under this schedule.
    assert answer(model, data, asked)[1][0, 0, 0] == pytest.approx(1, abs=0.012)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim, eta 0", "ddim, eta 0.5"])
def test_paper_steps_loses_covariance(sampler: str) -> None:
    """Under ``paper-steps`` the joint lacks 0.63 to 0.66 of a variance of 1 whatever the sampler; 2M and Heun refuse."""
    model = scalars("paper-steps", 400, 2)
    joint = [(GENERATE, GENERATE)]
    assert 0.63 <= max(errors(model, [equal(2, 0.5)], joint, **SAMPLERS[sampler])) <= 0.66
    for refused in ("2m", "heun"):
        with pytest.raises(RequestError, match="signal-to-noise ratio is above zero and falls with t"):
            answer(model, [equal(2, 0.5)], joint, sampler=refused)


def test_linear_starts_from_a_prior_that_is_nearly_reached() -> None:
    """``linear`` ends at ``A_T = 4e-5``: with observations a deterministic answer is off by what the start lacks."""
    model, data, asked = scalars("linear", 250, 2), [equal(2, 0.5)], [(OBSERVE, GENERATE)]
    from_prior, _ = errors(model, data, asked, sampler="2m")
    from_marginal, _ = errors(model, data, asked, sampler="2m", exact_start=True)
    assert from_prior == pytest.approx(0.0025, abs=1e-4)
    assert from_marginal < from_prior / 50
