"""The bound of data whose parts are known in closed form, the training weightings that estimate it, and what the command prints."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import JointModel, Registry, RequestError, Rng, Task
from mmcore.data import Table, TensorBatch
from mmcore.metrics.bound import Bound, Estimate, Terms
from mmcore.process import schedule
from mmcore.training.weighting import GAMMA, WEIGHTINGS, LearnedWeights, balance

from .oracle import ABSENT, GENERATE, OBSERVE, Oracle, equal, gaussian_model, uncorrelated

pytestmark = pytest.mark.filterwarnings("ignore:.*(overlap|does not reach the prior)")
HALF = equal(2, 0.5)
ERRORS = 4.5


def rows_of(covariance: np.ndarray, n: int) -> Table:
    """``n`` rows of scalars ``a, b, …`` whose mean and covariance are exactly those of the data.

    Every expectation here is one of squares, so over these rows it is the data's own.
    """
    root = torch.as_tensor(np.linalg.cholesky(covariance))
    x = uncorrelated([torch.zeros(1, n, 0, dtype=torch.float64)], len(covariance))[0] @ root.T
    values = {chr(97 + i): x[:, i : i + 1] for i in range(len(covariance))}
    return Table(TensorBatch(values, torch.ones(n, len(covariance), dtype=torch.bool)))


def model_of(T: int, layout: str = "shared", covariance: np.ndarray = HALF, **options: Any) -> JointModel:
    model = gaussian_model(schedule.cosine(T, len(covariance)), [1] * len(covariance), layout, each_row=True, **{"space": (len(covariance), 1)} | options)  # fmt: skip
    assert isinstance(model.backbone, Oracle)
    model.backbone.covariance = torch.as_tensor(covariance)[None]
    return model


def closed_form(T: int, covariance: np.ndarray, second_moment: np.ndarray) -> dict[str, np.ndarray]:
    """Each scalar's ``L0``, ``L1`` and ``L2`` for the exact predictor, by linear algebra, from a table of ``A``.

    Under ``cosine`` ``W² = A``; ``L1_t = ½ (SNR_{t-1} - SNR_t) Var(x_i | z_t)`` for a code with elements of its own.
    """
    A = schedule.cosine(T, 1).log_A.exp().numpy()
    snr = A[1:] / (1 - A[1:])
    left = [np.diag(np.linalg.inv(np.linalg.inv(covariance) + np.eye(len(covariance)) * r)) for r in snr]
    return {
        "L0": 0.5 * A[T] * second_moment,
        "L1": sum(0.5 * (snr[t - 2] - snr[t - 1]) * left[t - 1] for t in range(2, T + 1)),
        "L2": 0.5 * np.log(2 * np.pi * np.e * left[0]),
    }


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_the_bound_by_its_parts(layout: str) -> None:
    """``L0``, ``L1`` and ``L2`` of each modality are the exact predictor's own, within the stated error."""
    T = 300
    found = mmcore.evaluate(model_of(T, layout), rows_of(HALF, 500), draws=32)
    truth = closed_form(T, HALF, np.ones(2))
    for i, name in enumerate("ab"):
        terms = found.variables[name]
        for part in ("L0", "L1", "L2"):
            estimate = getattr(terms, part)
            assert abs(estimate.nats - truth[part][i]) <= ERRORS * estimate.error + 1e-9, part
        assert 0 < terms.L1.error < 0.1
    variance = -np.expm1(float(schedule.cosine(T, 1).log_A[-1]))
    assert found.space == pytest.approx(variance - 1 - np.log(variance), rel=1e-9)
    whole = sum(part.sum() for part in truth.values()) + found.space
    assert abs(found.all.total.nats - whole) <= ERRORS * found.all.total.error
    # The bound holds: it lies above the true value.
    true = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * HALF)[1]
    assert found.all.total.nats > true
    bits = found.all.bits_per_dimension
    assert bits.nats == pytest.approx(found.all.total.nats / 2 / np.log(2))


def test_the_bound_at_a_thousand_steps() -> None:
    """3.51 nats for a true 2.69: with mean predictions the bound is loose even for the exact predictor."""
    found = mmcore.evaluate(model_of(1000), rows_of(HALF, 400), draws=32)
    assert found.all.total.nats == pytest.approx(3.51, abs=0.005 + ERRORS * found.all.total.error)
    assert found.all.total.error < 0.15


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_the_bound_given_an_observation(layout: str) -> None:
    """Of ``b`` given ``a``, whose variance is 0.75; the same from rows that lack ``a`` has variance 1."""
    T, rows = 300, rows_of(HALF, 500)
    for missing, variance in ((False, 0.75), (True, 1.0)):
        table = rows
        if missing:
            present = rows.rows.present.clone()
            present[:, 0] = False
            table = Table(TensorBatch(rows.rows.values, present))
        found = mmcore.evaluate(model_of(T, layout), table, observed=() if missing else ["a"], draws=32)
        assert found.observed == (() if missing else ("a",))
        assert list(found.variables) == ["b"]
        truth = closed_form(T, np.array([[variance]]), np.ones(1))
        terms = found.variables["b"]
        for part in ("L0", "L1", "L2"):
            estimate = getattr(terms, part)
            assert abs(estimate.nats - truth[part][0]) <= ERRORS * estimate.error + 1e-9


def test_shares_of_overlapping_codes_sum_to_the_step() -> None:
    """Two codes along one direction: their shares are ``⟨d_i, Σ d⟩``, whose sum is the square of the sum."""
    T = 200
    model = model_of(T, space=(1, 1), overlap=True)
    found = mmcore.evaluate(model, rows_of(HALF, 500), draws=32)
    A = schedule.cosine(T, 1).log_A.exp().numpy()
    snr = A[1:] / (1 - A[1:])
    # s = a + b has variance 3, and is all that the space shows.
    left = 3 / (1 + 3 * snr)
    truth = sum(0.5 * (snr[t - 2] - snr[t - 1]) * left[t - 1] for t in range(2, T + 1))
    assert abs(found.all.L1.nats - truth) <= ERRORS * found.all.L1.error
    assert found.variables["a"].L1.nats + found.variables["b"].L1.nats == pytest.approx(found.all.L1.nats, rel=1e-6)


def test_the_stated_error_is_the_spread_over_seeds() -> None:
    """The standard deviation of 60 estimates is the mean stated error, within 3.5 of its own standard errors."""
    model, rows = model_of(100), rows_of(HALF, 40)
    found = [mmcore.evaluate(model, rows, draws=4, seed=seed).all.total for seed in range(60)]
    spread = float(np.std([x.nats for x in found], ddof=1))
    stated = float(np.sqrt(np.mean([x.error**2 for x in found])))
    assert spread == pytest.approx(stated, rel=3.5 / np.sqrt(2 * 59))


def test_rows_count_only_what_they_have() -> None:
    rows = rows_of(HALF, 30)
    present = rows.rows.present.clone()
    present[:10, 0] = False
    present[20:] = False
    found = mmcore.evaluate(model_of(50), Table(TensorBatch(rows.rows.values, present)), draws=8)
    assert (found.rows, found.variables["a"].rows, found.variables["b"].rows) == (20, 10, 20)
    parts = (10 * found.variables["a"].total.nats + 20 * found.variables["b"].total.nats) / 20
    assert found.all.total.nats == pytest.approx(parts + found.space, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"draws": 3}, "draws = 3, expected an even number"),
        ({"observed": ["c"]}, "observed names 'c', expected one of a, b"),
        ({"observed": ["a", "b"]}, "no row has a modality to generate"),
    ],
)
def test_bad_requests(options: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        mmcore.evaluate(model_of(20), rows_of(HALF, 4), **options)


# ---- weightings ----


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_elbo_estimates_the_bound(layout: str) -> None:
    """The mean over draws of timesteps and noise is ``L2 + Σ_t L1_t``, of each task."""
    T, n = 50, 20_000
    model, elbo = model_of(T, layout), WEIGHTINGS["elbo"]
    rows = rows_of(HALF, n).rows
    rng = Rng.for_rows(3, n)
    t = elbo.draw(model, rng.of("t"))
    if layout == "separate":
        # The closed form is that of timesteps which go down together.
        t = t[:, :1].expand(-1, 2)
    noise, roles = rng.of("noise").normal(*model.space.shape, dtype=torch.float64), torch.zeros(n, 2, dtype=torch.int64)
    with torch.no_grad():
        losses = model(rows.values, t, roles, noise, objective=elbo.objective) * elbo.factors(model, t)
    truth = closed_form(T, HALF, np.ones(2))
    error = ERRORS * losses.std(0) / n**0.5
    assert (losses.mean(0) - torch.as_tensor(truth["L1"] + truth["L2"])).abs().le(error).all()


def test_figures_of_any_size_stay_apart() -> None:
    def terms(size: float) -> Terms:
        return Terms(3, 2.0, *(Estimate(size * part, size / 7) for part in (0.001, 1.0, -2.0, 3.0)))

    bound = Bound(3, (), terms(1e9), {"x": terms(1.0), "a-name-of-some-length": terms(1e7)}, 0.0, {})
    head, *lines = bound.table().splitlines()
    assert len(head.split()) == 7
    assert [len(line.split()) for line in lines] == [8, 8, 8]
    assert {len(line) for line in lines} == {len(head)}
    assert float(lines[1].split()[4]) == 3e7


def test_balance_is_the_variance_left_of_a_normal_code() -> None:
    """``λ`` of ``simple`` against the exact predictor's own variance, for independent data."""
    model = model_of(100, covariance=np.eye(2))
    n = 100
    t = torch.arange(1, n + 1)[:, None]
    rng = Rng.for_rows(0, n)
    values = {"a": rng.of("a").normal(1, dtype=torch.float64), "b": rng.of("b").normal(1, dtype=torch.float64)}
    roles = torch.zeros(n, 2, dtype=torch.int64)
    found = balance(model, t)
    for i in range(n):
        one = slice(i, i + 1)
        placed = model.frame.place(model.encode({k: v[one] for k, v in values.items()}))
        drive = model.drive(t[one], roles[one])
        params = model.predict(
            model.read(torch.zeros(1, 2, 1, dtype=torch.float64), drive),
            drive.t,
            drive.timesteps,
            roles[one],
            model.condition(placed, drive),
        )
        left = torch.stack([params[name][0, 1] for name in "ab"]).square()
        torch.testing.assert_close(found[i].double(), left, rtol=1e-5, atol=1e-7)


def test_snr_is_clipped_and_has_mean_one() -> None:
    model = model_of(100)
    t = torch.arange(1, 101)[:, None]
    factor = WEIGHTINGS["snr"].factors(model, t).double() / balance(model, t)
    torch.testing.assert_close(factor.mean(0), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=0)
    A = schedule.cosine(100, 1).log_A[1:].exp()
    snr = A / (1 - A)
    clipped = snr >= GAMMA
    assert 0 < clipped.sum() < 100
    assert float(factor[clipped].std()) < 1e-5
    slope = factor[~clipped] / snr[~clipped, None]
    torch.testing.assert_close(slope, slope[:1].expand_as(slope), rtol=1e-5, atol=0)


def test_learned_weights_settle_at_the_inverse_of_the_loss() -> None:
    """At the minimum ``exp(s) = l/d``, so each task's share is its own weight; a negative loss does not run away."""
    model = model_of(10)
    learned = LearnedWeights(model).double()
    losses = torch.tensor([0.5, -4.0], dtype=torch.float64)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        weights, offset = learned(losses)
        (weights * losses + offset).sum().backward()
        optimizer.step()
    weights = learned(losses)[0]
    assert float(weights[0].detach()) == pytest.approx(1 / 0.5, rel=1e-3)
    assert 15 < float(weights[1].detach()) <= np.exp(3)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("task_weights", ["fixed", "learned"])
def test_every_weighting_trains(weighting: str, task_weights: str, registry: mmcore.Registry) -> None:
    """A short training lowers the bound of fresh rows below the untrained model's, beyond doubt."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    root = torch.linalg.cholesky(covariance)

    def table(seed: int) -> Table:
        x = root @ Rng.for_rows(seed, 400).normal(2, 2)
        return Table(TensorBatch({"a": x[:, 0], "b": x[:, 1]}, torch.ones(400, 2, dtype=torch.bool)))

    modalities = [registry.modality("clip", name=name, width=2, unit_norm=False) for name in "ab"]
    small = {"width": 32, "depth": 2}
    model = mmcore.compose(modalities, schedule=schedule.cosine(20, 2), backbone="mlp", backbone_options=small)
    before = mmcore.evaluate(model, table(1), draws=32).all.total
    state = mmcore.fit(model, table(0), steps=300, lr=3e-3, weighting=weighting, task_weights=task_weights, quiet=True)
    after = mmcore.evaluate(model, table(1), draws=32).all.total
    assert before.nats - after.nats > 5 * (before.error + after.error)
    moved = not torch.equal(state.task_weights(torch.ones(2, device=model.device))[0].detach().cpu(), torch.ones(2))
    assert moved == (task_weights == "learned")


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize("role", [GENERATE, OBSERVE, ABSENT])
def test_a_target_without_a_code_is_scored_at_the_first_step_whatever_the_other_blocks_do(
    layout: str, role: int, registry: Registry
) -> None:
    """Untrained, each class of three has probability 1/3: ``L2 = log 3`` nats, and so is the mean of ``elbo``."""
    parts = [registry.modality("clip", name=name, width=2, unit_norm=False) for name in "ab"]
    edge = registry.modality("label", name="y", classes=3)
    model = mmcore.compose(
        parts,
        [Task("a", "a"), Task("b", "b"), Task("y", edge)],
        layout=layout,
        schedule=schedule.cosine(20, 2),
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1},
        registry=registry,
    )
    n = 400
    rng = Rng.for_rows(0, n)
    values = {"a": rng.of("a").normal(2), "b": rng.of("b").normal(2), "y": rng.integers(0, 3)}
    roles = torch.tensor([[role, GENERATE, GENERATE]]).expand(n, 3)
    elbo = WEIGHTINGS["elbo"]
    t = elbo.draw(model, rng.of("t"))
    with torch.no_grad():
        losses = model(values, t, roles, rng.of("noise").normal(*model.space.shape), objective="bound")
    weighed = (losses * elbo.factors(model, t))[:, 2]
    assert (t == t[:, :1]).all()
    torch.testing.assert_close(weighed[t[:, 0] == 1], torch.full_like(weighed[t[:, 0] == 1], 2 * math.log(3)))
    assert (weighed[t[:, 0] > 1] == 0).all()
    if role != OBSERVE:
        present = torch.tensor([[role == GENERATE, True, True]]).expand(n, 3)
        found = mmcore.evaluate(model, Table(TensorBatch(values, present)), draws=2)
        assert found.variables["y"].L2.nats == pytest.approx(math.log(3), rel=1e-5)


def test_the_table_keeps_columns_apart_whatever_the_figures() -> None:
    estimate = Estimate(27659251.1153, 330729.4311)
    terms = Terms(12, 1920.0, Estimate(0.0, 0.0), estimate, estimate, estimate)
    bound = Bound(12, (), terms, {"a_name_of_more_than_fourteen": terms}, 0.0)
    head, *lines = bound.table().splitlines()
    assert head.split() == ["L0", "L1", "L2", "nats", "±", "bits/dim", "±"]
    bits = terms.bits_per_dimension
    shown = [f"{x:.4f}" for x in (0.0, *[estimate.nats] * 3, estimate.error, bits.nats, bits.error)]
    assert [line.split() for line in lines] == [[name, *shown] for name in ("a_name_of_more_than_fourteen", "all")]
    assert len({*map(len, [head, *lines])}) == 1
