"""Calibration from draws: scores against closed forms and a library, what exchangeable draws have, and what others do.

Where a figure of samples is compared with its expectation, five standard errors are left: false alarms below one in a million.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcore import RequestError, Rng, Spec
from mmcore.metrics.figure import Figure
from mmcore.metrics.telling import Told, wanted
from mmcore.modality.calibration import (
    CONFIDENCES,
    RANKS,
    Calibrates,
    Calibration,
    brier,
    classes,
    crps,
    depth,
    distances,
    energy,
    least,
    numbers,
    places,
    reliability,
    widths,
)
from mmcore.runs.answers import enough

ERRORS = 5


def normal(seed: int, n: int, *shape: int) -> Tensor:
    return Rng.for_rows(seed, n).normal(*shape, dtype=torch.float64)


def near(values: Tensor, want: float | Tensor) -> None:
    """The mean over rows is what is wanted, to five standard errors."""
    error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - want).abs() <= ERRORS * error + 1e-12).all(), (values.mean(0), want, error)


def all_known(y: Tensor) -> Tensor:
    return torch.ones_like(y, dtype=torch.bool)


# ---- scores ----


def test_the_fair_scores_are_a_librarys() -> None:
    library = pytest.importorskip("scoringrules", reason="an independent implementation")
    x, y = normal(0, 9, 5, 3), normal(1, 5, 3)
    want = library.crps_ensemble(y.numpy(), x.numpy(), m_axis=0, estimator="fair")
    np.testing.assert_allclose(crps(x, y), want, atol=1e-12)
    want = library.es_ensemble(y.numpy(), x.transpose(0, 1).numpy(), estimator="fair")
    np.testing.assert_allclose(energy(distances(x, y, all_known(y))), want, atol=1e-12)


@pytest.mark.parametrize("M", [2, 5, 39])
def test_the_crps_of_few_normal_draws_is_the_normal_distributions_in_the_mean(M: int) -> None:
    """``σ (z (2 Φ(z) - 1) + 2 φ(z) - 1/√π)`` with ``z = (y - μ)/σ`` (Gneiting and Raftery 2007), whatever M."""
    mean, deviation = 0.3, 1.7
    for y in (-2.0, 0.3, 4.0):
        z = (y - mean) / deviation
        phi, Phi = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(z / math.sqrt(2)))
        want = deviation * (z * (2 * Phi - 1) + 2 * phi - 1 / math.sqrt(math.pi))
        x = mean + deviation * normal(M, 4000, M).T[..., None]
        near(crps(x, torch.full((4000, 1), y, dtype=torch.float64))[:, 0], want)


def test_the_energy_score_of_one_number_is_its_crps() -> None:
    x, y = normal(0, 6, 8, 1), normal(1, 8, 1)
    torch.testing.assert_close(energy(distances(x, y, all_known(y))), crps(x, y)[:, 0])


def test_the_brier_score_of_few_draws_is_that_of_the_probabilities_in_the_mean() -> None:
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    for y in range(3):
        want = float((p - torch.eye(3, dtype=torch.float64)[y]).square().sum())
        for M in (2, 7):
            x = Rng.for_rows(M, 8000).of("x").categorical(p.expand(8000, M, 3)).T[..., None]
            near(brier(x, torch.full((8000, 1), y))[:, 0], want)


def test_distances_of_classes_count_what_is_known_and_unlike() -> None:
    x, y = torch.tensor([[[0, 1, 2]], [[0, 2, 2]]]), torch.tensor([[0, 1, 1]])
    known = torch.tensor([[True, True, False]])
    assert distances(x, y, known)[0].tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert distances(x, y, all_known(y))[0, 1, 2] == pytest.approx(math.sqrt(2))


# ---- ranks ----


def test_places_by_hand() -> None:
    """Three draws, and a truth above one of them and equal to another: evenly in the second and third quarter."""
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    (row,) = places(x, torch.tensor([[2.0]]))[0]
    assert row.sum() == pytest.approx(1)
    assert row.tolist() == pytest.approx([0] * 10 + [1 / 20] * 20 + [0] * 10)
    # With 39 draws a bin is a rank.
    x = torch.arange(39).reshape(39, 1, 1)
    for y in (-1, 0.5, 38):
        row = places(x.double(), torch.tensor([[y]]).double())[0, 0]
        below, equal = int((x < y).sum()), int((x == y).sum())
        assert row[below : below + equal + 1].tolist() == pytest.approx([1 / (equal + 1)] * (equal + 1))


@pytest.mark.parametrize("M", [2, 7, 20, 39])
@pytest.mark.parametrize("kind", ["real", "counts", "constant"])
def test_ranks_of_exchangeable_draws_are_uniform_also_with_ties(kind: str, M: int) -> None:
    n = 4000
    values = normal(M, n, M + 1)
    values = {"real": values, "counts": values.mul(1.5).round(), "constant": values * 0}[kind].T[..., None]
    near(places(values[:M], values[M])[:, 0], 1 / RANKS)


@pytest.mark.parametrize("M", [2, 20, 39])
@pytest.mark.parametrize("kind", ["real", "classes"])
def test_depths_of_exchangeable_draws_are_uniform(kind: str, M: int) -> None:
    n = 4000
    values = normal(M, n, M + 1, 3)
    values[..., 1] += 2 * values[..., 0]
    values = (values if kind == "real" else (values > 0).long()).transpose(0, 1)
    x, y = values[:M], values[M]
    near(depth(distances(x, y, all_known(y))), 1 / RANKS)


def test_a_missing_correlation_is_seen_jointly_alone() -> None:
    """Six numbers with correlations of 0.8, draws without: each number is calibrated, all together are not; and honest draws score better."""
    n, k, rho = 1000, 6, 0.8
    common = normal(2, n, 40, 1)
    values = (math.sqrt(rho) * common + math.sqrt(1 - rho) * normal(0, n, 40, k)).transpose(0, 1)
    truth = values[39]
    apart = numbers(normal(1, n, 39, k).transpose(0, 1), truth, entries=True)
    figures = told(apart)
    for name in ("coverage_80", *(f"coverage_80[{i}]" for i in range(k))):
        assert figures[name].value == pytest.approx(0.8, abs=0.065), name
    assert figures["rank_dispersion"].value == pytest.approx(1, abs=0.1)
    assert figures["joint_coverage_95"].high < 0.95
    together = numbers(values[:39], truth)
    honest = told(together)
    assert honest["joint_coverage_95"].value == pytest.approx(0.95, abs=ERRORS * math.sqrt(0.95 * 0.05 / n))
    worse = apart.scores["energy"] - together.scores["energy"]
    assert worse.mean() > 3 * worse.std() / math.sqrt(n)
    assert honest["crps"].value == pytest.approx(figures["crps"].value, rel=0.1)


# ---- intervals ----


def test_the_fewest_draws_are_those_of_predict() -> None:
    assert [least(level) for level in (50, 80, 95)] == [3, 9, 39] == [enough(level / 100) for level in (50, 80, 95)]


@pytest.mark.parametrize("M", [3, 9, 20, 39, 50])
def test_widths_are_those_of_the_intervals_that_predict_writes(M: int) -> None:
    x = normal(3, M, 4, 2)
    found = widths(x)
    assert list(found) == [level for level in (50, 80, 95) if least(level) <= M]
    for level, width in found.items():
        low, high = np.quantile(x.numpy(), [(1 - level / 100) / 2, (1 + level / 100) / 2], axis=0, method="weibull")
        np.testing.assert_allclose(width, high - low, atol=1e-12)


def test_with_39_draws_coverage_is_the_share_inside_the_intervals_that_predict_writes() -> None:
    x, y = 0.7 * normal(0, 39, 300, 1), normal(1, 300, 1)
    figures = told(numbers(x, y))
    for level in (50, 80, 95):
        ends = np.quantile(x.numpy(), [(1 - level / 100) / 2, (1 + level / 100) / 2], axis=0, method="weibull")
        inside = float(((y.numpy() > ends[0]) & (y.numpy() < ends[1])).mean())
        assert figures[f"coverage_{level}"].value == pytest.approx(inside, abs=1e-12)
        assert figures[f"coverage_{level}"].n == 300


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_coverage_ranks_and_spread_of_draws_that_are_too_narrow_or_wide(scale: float) -> None:
    """Truth N(0, 1), draws N(0, s²): covered is ``P(|y| < s z)``; the predicted variance over the square error is ``s² (1 + 1/M)/(1 + s²/M)``."""
    n, M = 6000, 199
    figures = told(numbers(scale * normal(0, n, M).T[..., None], normal(1, n, 1)), draws=M, resamples=100)
    for level, z in ((50, 0.674490), (80, 1.281552), (95, 1.959964)):
        want = math.erf(scale * z / math.sqrt(2))
        error = math.sqrt(want * (1 - want) / n)
        # Ends of 199 draws, not of all: 0.01 for that.
        slack = 0 if scale == 1 else 0.01
        assert figures[f"coverage_{level}"].value == pytest.approx(want, abs=ERRORS * error + slack)
        assert figures[f"width_{level}"].value == pytest.approx(2 * scale * z, rel=0.02)
    want = scale * math.sqrt((1 + 1 / M) / (1 + scale**2 / M))
    assert figures["spread_error"].value == pytest.approx(want, rel=ERRORS / math.sqrt(2 * n))
    assert (figures["rank_dispersion"].value > 1.2) == (scale < 1)
    assert (figures["rank_dispersion"].value < 0.8) == (scale > 1)
    assert figures["rank_mean"].value == pytest.approx(0.5, abs=0.03)


def test_nine_draws_tell_eighty_percent_exactly_and_no_95() -> None:
    n = 4000
    figures = told(numbers(normal(0, n, 9).T[..., None], normal(1, n, 1)), draws=9, resamples=50)
    assert "coverage_95" not in figures
    assert "width_95" not in figures
    assert figures["coverage_80"].value == pytest.approx(0.8, abs=ERRORS * math.sqrt(0.16 / n))


def test_the_interval_of_coverage_covers_like_a_binomial_one() -> None:
    """Of 200 data sets of 100 rows, 95 % intervals of the 80 % coverage hold 0.8: 0.95 is wanted, to 3 binomial errors and the percentile bootstrap's want."""
    hold = []
    for seed in range(200):
        values = normal(seed, 100, 10).T[..., None]
        figure = told(numbers(values[:9], values[9]), draws=9, resamples=200, seed=seed)["coverage_80"]
        assert 0.1 < figure.high - figure.low < 0.22  # the binomial interval has 2 · 1.96 · 0.04 = 0.157
        hold.append(figure.low <= 0.8 <= figure.high)
    assert 0.88 <= np.mean(hold) <= 0.99


def test_few_rows_that_are_all_covered_say_nothing_against_95_percent() -> None:
    """Of 30 rows a fifth of all calibrated data sets has every one inside; resampling alone would be sure of a coverage of 1."""
    hold, all_inside = [], 0
    for seed in range(200):
        values = normal(seed, 30, 40).T[..., None]
        figure = told(numbers(values[:39], values[39]), draws=39, resamples=100, seed=seed)["coverage_95"]
        hold.append(figure.low <= 0.95 <= figure.high)
        if figure.value > 1 - 1e-9:
            all_inside += 1
            assert (figure.low, figure.high) == pytest.approx((0.025 ** (1 / 30), 1))
    assert 200 * 0.95**30 - 4 * 6 < all_inside < 200 * 0.95**30 + 4 * 6  # four binomial errors
    assert np.mean(hold) >= 0.92
    # None inside: as many rows tell as much of a coverage of 0.
    far = told(numbers(normal(0, 30, 39).T[..., None], normal(1, 30, 1) + 99), draws=39, resamples=100)["coverage_95"]
    assert (far.low, far.high) == pytest.approx((0, 1 - 0.025 ** (1 / 30)))


# ---- confidence ----


def predictor(seed: int, n: int, k: int, M: int, sharper: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draws ``(M, n, k)`` of four classes by probabilities ``p^sharper``, and truths by ``p``."""
    rng = Rng.for_rows(seed, n)
    p = rng.of("p").uniform(k, 4, dtype=torch.float64).pow(3)
    q = p.pow(sharper)
    x = rng.of("x").categorical(q[:, None].expand(n, M, k, 4)).transpose(0, 1)
    return x, rng.of("y").categorical(p)


@pytest.mark.parametrize("M", [2, 5, 39])
def test_confidence_and_share_of_right_ones_agree_in_every_bin(M: int) -> None:
    """Where draws are exchangeable with the truth; the chosen class's share among all the draws would be too high."""
    x, y = predictor(M, 4000, 1, M)
    found = reliability(x, y, all_known(y))
    near(found[..., 2] - found[..., 1], 0.0)
    assert found[..., 0].sum() == pytest.approx(4000)
    naive = torch.stack([(x == one).sum(0) for one in x]).max(0).values / M
    right = float(found[..., 2].sum()) / 4000
    assert float(naive.mean()) > right + 0.05 if M < 39 else float(naive.mean()) > right


def test_the_bins_of_confidence_by_hand() -> None:
    """Of four draws each half chooses by two: 0, 0 | 0, 1. The second half is tied, and takes its first."""
    x = torch.tensor([0, 0, 0, 1]).reshape(4, 1, 1)
    found = reliability(x, torch.tensor([[1]]), torch.tensor([[True]]))[0]
    want = torch.zeros(CONFIDENCES, 3, dtype=torch.float64)
    want[9] = torch.tensor([0.5, 0.25, 0.0])  # sure of 0 by the first half, of which the second has one half
    want[4] = torch.tensor([0.5, 0.5, 0.0])
    torch.testing.assert_close(found, want)


def test_the_calibration_error_of_draws_that_are_too_sure() -> None:
    x, y = predictor(0, 3000, 1, 39, sharper=3.0)
    sure, honest = told(classes(x, y)), told(classes(*predictor(0, 3000, 1, 39)))
    assert sure["calibration_error_of_draws"].low > 0.1
    assert honest["calibration_error_of_draws"].high < 0.05
    assert sure["brier"].value > honest["brier"].value


# ---- what counts ----


def told(found: Calibration, draws: int = 39, **options: Any) -> dict[str, Figure]:
    figures = Told("a->b", "b", draws, {"seed": 0, "resamples": 200, **options}).figures(found)
    return {name.removeprefix("a->b b."): figure for name, figure in figures.items()}


def same(one: Calibration, other: Calibration) -> None:
    assert [part[:2] for part in one.parts()] == [part[:2] for part in other.parts()]
    for (_, name, a), (_, _, b) in zip(one.parts(), other.parts(), strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, msg=name)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_a_row_counts_by_itself_and_hidden_elements_not_at_all(kind: str) -> None:
    function = numbers if kind == "numbers" else classes
    x, y = normal(0, 6, 5, 4), normal(1, 5, 4)
    if kind == "classes":
        x, y = x.gt(0).long(), y.gt(0).long()
    known = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    known[3] = False
    whole = function(x, y, known)
    same(whole, Calibration.join([function(x[:, k : k + 1], y[k : k + 1], known[k : k + 1]) for k in range(5)]))
    same(whole, function(torch.where(known, x, 7), torch.where(known, y, 3), known))
    assert whole.scores["energy"].isnan().tolist() == [False] * 3 + [True, False]
    assert float(whole.depths["joint"][3].sum()) == 0
    if kind == "numbers":
        same(whole, function(x, torch.where(known, y, torch.nan)))
        assert whole.ranks[""].sum(1).tolist() == pytest.approx(known.sum(1).tolist())
        # Of the known elements alone, as if there were no others.
        only = numbers(x[:, :1, known[0]], y[:1, known[0]])
        torch.testing.assert_close(only.scores["energy"], whole.scores["energy"][:1])
        torch.testing.assert_close(only.ranks[""], whole.ranks[""][:1])
    else:
        assert whole.reliability[""][..., 0].sum(1).tolist() == pytest.approx(known.sum(1).tolist())


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (Spec(()), {"crps"}),
        (Spec((3,)), {"crps", "energy", "crps[0]", "crps[1]", "crps[2]"}),
        (Spec((9,)), {"crps", "energy"}),
        (Spec((4,), unit_norm=True), {"crps", "energy"}),
        (Spec((1, 3, 4), low=-1, high=1), {"crps", "energy"}),
        (Spec((), torch.int64, 0, 4), {"brier"}),
        (Spec((5,), torch.bool), {"brier", "energy"}),
        (Spec((3, 4), torch.int64, 0, 400, void=999), {"brier", "energy"}),
    ],
    ids=lambda x: str(x.shape) if hasattr(x, "shape") else " ".join(sorted(x)),
)
def test_what_is_told_follows_from_the_spec(spec: Spec, names: set[str]) -> None:
    class Kind(Calibrates):
        def __init__(self) -> None:
            self.spec = spec

    n, M = 4, 5
    values = normal(0, n, M + 1, *spec.shape).transpose(0, 1)
    values = (
        values
        if spec.dtype.is_floating_point
        else (values * 100).abs().long().clamp(max=int(spec.high or 1)).to(spec.dtype)
    )
    draws, truth = values[:M], values[M].clone()
    if spec.void is not None:
        truth[:, 0] = spec.void
    found = Kind().calibration(draws, truth)
    assert set(found.scores) == names
    for part, name, x in found.parts():
        assert x.shape == (n, *Calibration.SHAPES[part]), (part, name)
    if spec.void is not None:
        assert found.reliability[""][..., 0].sum(1).tolist() == pytest.approx([8] * n)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_draw_that_is_no_number_is_told_and_no_row_left_out(value: float) -> None:
    x, y = normal(0, 5, 4, 2), normal(1, 4, 2)
    x[3, 2, 1] = value
    with pytest.raises(RequestError, match=f"calibration: draw 3 of row 2 is {value}, expected finite values"):
        numbers(x, y)
    y[2, 1] = math.nan
    assert numbers(x, y).scores["crps"].isfinite().all()


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(RequestError, match="calibration: 1 draw of each row, expected at least 2"):
        numbers(normal(0, 1, 4), normal(1, 4))
    with pytest.raises(
        RequestError, match=r"calibration: draws \(3, 4\) and truth \(5,\), expected \(M, B, …\) and \(B, …\)"
    ):
        classes(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))


def test_what_is_wanted_of_a_figure_by_name() -> None:
    names = ["coverage_80", "coverage_95[1]", "joint_coverage_50", "rank_mean", "rank_dispersion[0]", "spread_error", "calibration_error_of_draws", "pose_coverage_50[1]", "crps", "width_80"]  # fmt: skip
    assert [wanted(f"a->b b.{name}") for name in names] == [0.8, 0.95, 0.5, 0.5, 1.0, 1.0, 0.0, 0.5, None, None]


# ---- properness, by enumeration ----


def test_scores_are_best_at_the_true_distribution_by_enumeration() -> None:
    """Two draws from each distribution over three classes and truths from another: the expected score is exact, and least where both are one."""
    grid = [torch.tensor(p, dtype=torch.float64) / 4 for p in itertools.product(range(5), repeat=3) if sum(p) == 4]
    pairs = torch.tensor(list(itertools.product(range(3), repeat=3)))  # two draws and a truth
    x, y = pairs[:, :2].T[..., None], pairs[:, 2:]
    scored = {"brier": brier(x, y)[:, 0], "crps": crps(x.double(), y.double())[:, 0]}
    for name, scores in scored.items():
        for truth in grid:
            expected = [float((q[pairs[:, 0]] * q[pairs[:, 1]] * truth[pairs[:, 2]] * scores).sum()) for q in grid]
            best = min(range(len(grid)), key=expected.__getitem__)
            assert torch.equal(grid[best], truth), name


def test_ranks_are_counted_as_places_say() -> None:
    x = normal(0, 7, 6, 5).mul(1.5).round()
    y = normal(1, 6, 5).mul(1.5).round()
    torch.testing.assert_close(numbers(x, y).ranks[""], places(x, y).sum(1))
