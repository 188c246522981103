"""Answers beside the truth, against brute force, cases by hand and a library."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mmcore import RequestError, Rng
from mmcore.metrics import accuracy, calibration_error, cosine, log_score, mean_iou, retrieval


def test_accuracy() -> None:
    found = accuracy(torch.tensor([1, 2, 3, 3]), torch.tensor([1, 2, 3, 4]))
    assert (found.value, found.n) == (0.75, 4)
    assert 0.25 <= found.low <= 0.75 <= found.high == 1.0


# ---- calibration ----


def predictor(seed: int, n: int, classes: int, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Probabilities, and classes drawn from them: calibrated."""
    rng = Rng.for_rows(seed, n)
    p = (sharpness * rng.of("p").normal(classes, dtype=torch.float64)).softmax(1)
    return p, rng.of("y").categorical(p)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 5), st.integers(1, 20))
def test_the_calibration_error_by_brute_force(seed: int, n: int, classes: int, bins: int) -> None:
    p, y = predictor(seed, n, classes)
    want = 0.0
    for b in range(bins):
        mine = [i for i in range(n) if b / bins < float(p[i].max()) <= (b + 1) / bins]
        if mine:
            right = np.mean([int(p[i].argmax()) == int(y[i]) for i in mine])
            want += len(mine) / n * abs(right - np.mean([float(p[i].max()) for i in mine]))
    assert calibration_error(p, y, bins=bins, resamples=2).value == pytest.approx(want, abs=1e-12)


def test_the_calibration_error_is_a_librarys() -> None:
    library = pytest.importorskip("torchmetrics.functional.classification", reason="an independent implementation")
    p, y = predictor(0, 500, 6)
    want = library.multiclass_calibration_error(p, y, num_classes=6, n_bins=15)
    assert calibration_error(p, y).value == pytest.approx(float(want), abs=1e-6)


def test_the_calibration_error_of_a_calibrated_predictor_is_small_and_of_others_what_they_are() -> None:
    p, y = predictor(1, 40_000, 4)
    assert calibration_error(p, y, resamples=2).value < 0.012
    # Always sure of class 0, which is right in three of four cases.
    sure = F.one_hot(torch.zeros(400, dtype=torch.int64), 4).double()
    assert calibration_error(sure, torch.tensor([0, 0, 0, 1] * 100)).value == pytest.approx(0.25)


def test_the_interval_of_the_calibration_error_covers_its_expectation() -> None:
    """Of a predictor that is too sure by a tenth."""
    sets = []
    for seed in range(200):
        p, y = predictor(seed, 300, 3)
        sets.append((0.9 * p + 0.1 * F.one_hot(p.argmax(1), 3), y))
    figures = [calibration_error(p, y, bins=10, seed=i, resamples=200) for i, (p, y) in enumerate(sets)]
    expected = np.mean([f.value for f in figures])
    covered = np.mean([f.low <= expected <= f.high for f in figures])
    assert 0.88 <= covered <= 0.99


# ---- mean IoU ----


def test_mean_iou_by_hand() -> None:
    """Class 0: 2 of 4; class 1: 2 of 3; class 2: 0 of 1; class 3 is nowhere. Counted over both samples together."""
    truth = torch.tensor([[[0, 0], [1, 9]], [[0, 1], [1, 9]]])
    guess = torch.tensor([[[0, 2], [1, 3]], [[0, 1], [0, 2]]])
    found = mean_iou(guess, truth, 4, void=9)
    assert found.value == pytest.approx((2 / 4 + 2 / 3 + 0 / 1) / 3)
    assert found.n == 2
    # Each sample by itself has another figure, so it is no mean over samples; resamples are both, or one twice.
    alone = [mean_iou(guess[i : i + 1], truth[i : i + 1], 4, void=9).value for i in (0, 1)]
    assert alone == [pytest.approx((1 / 2 + 1 + 0) / 3), pytest.approx((1 / 2 + 1 / 2) / 2)]
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(0.5))


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_mean_iou_by_the_confusion_matrix(seed: int, n: int, classes: int) -> None:
    rng = Rng.for_rows(seed, n)
    guess, truth = (rng.of(k).integers(0, classes, 3, 3) for k in "ab")
    truth[rng.of("void").uniform(3, 3) < 0.3] = 255
    truth[0, 0, 0] = 0
    confusion = np.zeros((classes, classes))
    for a, b in zip(guess.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if b != 255:
            confusion[b, a] += 1
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    want = np.mean(confusion.diagonal()[union > 0] / union[union > 0])
    assert mean_iou(guess, truth, classes, void=255, resamples=2).value == pytest.approx(want)


def test_mean_iou_is_a_librarys() -> None:
    library = pytest.importorskip("torchmetrics.functional.classification", reason="an independent implementation")
    rng = Rng.for_rows(0, 6)
    guess, truth = (rng.of(k).integers(0, 5, 8, 8) for k in "ab")
    truth[rng.of("void").uniform(8, 8) < 0.3] = 11
    want = library.multiclass_jaccard_index(guess, truth, num_classes=5, average="macro", ignore_index=11)
    assert mean_iou(guess, truth, 5, void=11).value == pytest.approx(float(want), abs=1e-6)


# ---- vectors ----


def test_cosine() -> None:
    found = cosine(torch.tensor([[1.0, 0.0], [3.0, 3.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    assert found.value == pytest.approx(0.5)


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 6))
def test_retrieval_by_brute_force(seed: int, n: int, top: int) -> None:
    truth = Rng.for_rows(seed, n).normal(4)
    guess = truth + Rng.for_rows(seed + 1, n).normal(4)

    def cos(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    a, b = guess.double().numpy(), truth.double().numpy()
    hits = []
    for i in range(n):
        order = sorted(range(n), key=lambda j: -cos(a[i], b[j]))
        hits.append(i in order[:top])
    assert retrieval(guess, truth, top=top, resamples=2).value == pytest.approx(np.mean(hits))


def test_retrieval_of_one_answer_for_all_is_chance() -> None:
    truth = Rng.for_rows(0, 40).normal(8)
    for top in (1, 5):
        assert retrieval(truth[:1].expand(40, 8), truth, top=top).value == pytest.approx(top / 40)
        # And where all truths are the same, whatever is answered.
        assert retrieval(truth, truth[:1].expand(40, 8), top=top).value == pytest.approx(top / 40)


def test_retrieval_shares_what_twins_cannot_tell() -> None:
    """Each truth occurs twice: the first place is a coin's, the first two are sure."""
    truth = Rng.for_rows(0, 10).normal(8).repeat(2, 1)
    assert retrieval(truth, truth, top=1).value == pytest.approx(0.5)
    assert retrieval(truth, truth, top=2).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: accuracy(torch.ones(3), torch.ones(4)), r"predicted classes \(3,\) and true ones \(4,\)"),
        (lambda: calibration_error(torch.ones(3, 2), torch.ones(3)), "probabilities in row 0 sum to 2, expected 1"),
        (lambda: calibration_error(torch.ones(3), torch.ones(3)), r"probabilities \(3,\) and classes \(3,\)"),
        (lambda: mean_iou(torch.full((1, 2), 4), torch.zeros(1, 2), 2), "the prediction has class 4, expected 0 … 1"),
        (lambda: mean_iou(torch.zeros(1, 2), torch.full((1, 2), 5), 2), "the truth has class 5, expected 0 … 1"),
        (lambda: mean_iou(torch.zeros(1, 2), torch.full((1, 2), 5), 2, void=5), "void everywhere"),
    ],
)
def test_wrong_requests_are_named(call, match: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RequestError, match=match):
        call()


def test_the_log_score_is_the_cross_entropy_and_counts_no_infinity() -> None:
    p, y = predictor(0, 200, 5)
    assert log_score(p, y).value == pytest.approx(float(F.nll_loss(p.log(), y)))
    sure = F.one_hot(torch.tensor([0, 0]), 3).double()
    assert log_score(sure, torch.tensor([0, 1])).value == pytest.approx(0.5 * 708.396, rel=1e-3)
    with pytest.raises(RequestError, match="probabilities in row 1 sum to 2, expected 1"):
        log_score(torch.tensor([[0.5, 0.5], [1.0, 1.0]]), torch.tensor([0, 1]))
