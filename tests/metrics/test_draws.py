"""Calibration of a model: which rows are asked, whose draws meet whose truth, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, PluginError, Registry, RequestError, Rng
from mmcore.data import Table, TensorBatch
from mmcore.metrics import calibration
from mmcore.metrics import draws as module
from mmcore.modality import Calibration
from mmcore.progress import Progress
from mmcore.testing.reference import Reference

SMALL: dict[str, Any] = {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}}
N = 60


@pytest.fixture
def model(registry: Registry) -> JointModel:
    parts = [registry.modality("image", channels=1, size=4), Reference(2), registry.modality("label", classes=4)]
    return mmcore.compose(parts, registry=registry, **SMALL)


@pytest.fixture
def table(model: JointModel) -> Table:
    """Every sixth row lacks the vector, every tenth the image; the image of a row tells its number, by which its answers are drawn."""
    values = {m.name: m.typical(N, 3) for m in model.variables}
    values["image"] = torch.linspace(-1, 1, N).reshape(N, 1, 1, 1).expand(N, 1, 4, 4).contiguous()
    present = torch.ones(N, 3, dtype=torch.bool)
    present[::6, 1] = False
    present[::10, 0] = False
    return Table(TensorBatch(values, present))


def around(table: Table, scale: float, seen: list[dict[str, Any]]) -> Any:
    """A sampler that answers with each row's own truth, moved by one normal number for the row and one for the draw."""

    def sample(model: JointModel, n: int, *, given: dict[str, Tensor], numbers: list[int], seed: int, **how: Any) -> dict[str, Tensor]:  # fmt: skip
        seen.append({"n": n, "numbers": numbers, "given": set(given), **how})
        row = ((given["image"][:, 0, 0, 0] + 1) / 2 * (N - 1)).round().long()
        assert all(len(x) == n for x in given.values())
        own = Rng(1, row).normal(2)
        noise = Rng(seed, torch.tensor(numbers)).normal(2)
        label = table.rows.values["label"][row]
        return {"reference": table.rows.values["reference"][row] + own + scale * noise, "label": label}

    return sample


def test_the_draws_of_a_row_meet_its_own_truth(
    model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth is N(0, 1) about the midst of its row's draws, and of nobody else's."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "sample", around(table, 1.0, seen))
    found = calibration(model, table, ["image->reference,label"], draws=39, batch_size=100, steps=3, resamples=100)
    figures = {name.removeprefix("image->reference,label "): figure for name, figure in found.figures.items()}
    # 54 rows have the image; of those 46 the vector too.
    assert figures["reference.coverage_80"].n == 46
    assert figures["label.brier"].n == 54
    assert figures["label.brier"].value == 0
    assert figures["label.calibration_error_of_draws"].value == 0
    for name in ("reference.coverage_80", "reference.joint_coverage_80"):
        assert figures[name].value == pytest.approx(0.8, abs=0.15)
    assert figures["reference.spread_error"].value == pytest.approx(1, abs=0.3)
    assert figures["reference.crps"].value == pytest.approx(0.56, abs=0.15)
    # Two rows at once, as 100 are 2 × 39; every row's draws by its own numbers.
    assert [call["n"] for call in seen] == [78] * 27
    assert seen[0]["numbers"] == [39 * row + k for row in (1, 2) for k in range(39)]
    assert seen[0]["draw"] is True
    assert seen[0]["steps"] == 3
    assert found.notes == (
        "image->reference,label reference: 46 rows, fewer than 100: see how wide the intervals are",
        "image->reference,label label: 54 rows, fewer than 100: see how wide the intervals are",
    )
    kinds = [(d.kind, d.variable, d.name) for d in found.diagrams]
    assert kinds == [
        *((kind, "reference", name) for name in ("", "[0]", "[1]") for kind in ("ranks", "coverage")),
        ("coverage", "reference", "joint"),
        ("spread", "reference", ""),
        ("reliability", "label", ""),
    ]
    ranks, coverage = found.diagrams[:2]
    assert sum(point.y for point in ranks.points) == pytest.approx(1)
    assert sum(point.n for point in ranks.points) == pytest.approx(2 * 46)
    assert [point.x for point in coverage.points] == pytest.approx([k / 10 for k in range(1, 10)])
    assert coverage.points[7].y == pytest.approx(figures["reference.coverage_80"].value)
    (sure,) = found.diagrams[-1].points
    assert (sure.x, sure.y, sure.n) == (1, 1, 54)


def test_draws_that_are_too_narrow_are_told_of(
    model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sample", around(table, 0.1, []))
    figures = calibration(model, table, ["image->reference"], draws=9, resamples=100).figures
    assert figures["image->reference reference.coverage_80"].high < 0.4
    assert figures["image->reference reference.spread_error"].high < 0.3
    assert figures["image->reference reference.rank_dispersion"].low > 1.8
    assert "image->reference reference.coverage_95" not in figures


def test_rows_are_spread_and_questions_with_the_same_given_are_asked_once(
    model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "sample", around(table, 1.0, seen))
    found = calibration(model, table, ["image->reference", "image->label"], draws=2, rows=18, resamples=10)
    (call,) = seen
    here = [row for row in range(N) if row % 10]
    assert call["numbers"][::2] == [2 * here[3 * k] for k in range(18)]
    assert found.figures["image->label label.brier"].n == 18
    assert [note for note in found.notes if "interval of" in note] == [
        f"2 draws tell no interval of {level} %, which takes {least}" for level, least in ((50, 3), (80, 9), (95, 39))
    ]


def test_the_default_asks_each_from_all_others_of_a_real_sampler(model: JointModel, table: Table) -> None:
    """The same draws whatever the batch, and those of ``mmcore.sample`` with these numbers."""
    found = calibration(model, table, draws=3, rows=5, steps=2, resamples=10, seed=4)
    assert {name.split()[0] for name in found.figures} == {
        "reference,label->image",
        "image,label->reference",
        "image,reference->label",
    }
    again = calibration(model, table, draws=3, rows=5, steps=2, resamples=10, seed=4, batch_size=4)
    for name, figure in found.figures.items():
        assert again.figures[name].json() == pytest.approx(figure.json(), rel=1e-4), name
    rows = [row for row in range(N) if row % 10 and row % 6]
    row = rows[0]
    given = {
        name: table.rows.values[name][row].expand(3, *table.rows.values[name].shape[1:]) for name in ("image", "label")
    }
    drawn = mmcore.sample(
        model, 3, given=given, numbers=[3 * row, 3 * row + 1, 3 * row + 2], steps=2, seed=4, draw=True
    )
    truth = table.rows.values["reference"][[row]]
    want = model.variable("reference").calibration(drawn["reference"][:, None], truth)
    chosen = module._chosen(model, table, ("image", "label"), ["reference"], 5)
    assert int(chosen[0]) == row
    how = {"steps": 2, "seed": 4, "draw": True}
    with Progress("asking", 1, quiet=True) as bar:
        asked = module._ask(model, table, ("image", "label"), ["reference"], chosen, 3, 500, how, bar)
    torch.testing.assert_close(asked["reference"].scores["crps"][:1], want.scores["crps"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"draws": 1}, "calibration: draws = 1, expected a whole number of at least 2"),
        ({"draws": 2.5}, r"calibration: draws = 2\.5, expected"),
        ({"rows": 1}, "calibration: rows = 1, expected a whole number of at least 2"),
        ({"questions": ["joint"]}, "question 'joint' has no truth of a row, expected something given"),
        ({"questions": ["image->labl"]}, "no variable 'labl'"),
        ({"questions": []}, "nothing to ask"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(options: dict[str, Any], match: str, model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delattr(module, "sample")
    with pytest.raises(RequestError, match=match):
        calibration(model, table, **options)


def test_too_few_rows_are_told(model: JointModel, table: Table) -> None:
    present = table.rows.present.clone()
    present[2:, 2] = False
    few = Table(TensorBatch(table.rows.values, present))
    with pytest.raises(RequestError, match="calibration: 1 row has image and label, expected at least 2"):
        calibration(model, few, ["image->label"])
    present[:, 2] = False
    with pytest.raises(RequestError, match="calibration: no row has image and label, expected at least 2"):
        calibration(model, Table(TensorBatch(table.rows.values, present)), ["image->label"])


def test_a_modality_of_ones_own_answers_for_itself(
    model: JointModel, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = model.variable("reference")
    own = {"length": torch.tensor([2.0, float("nan")])}
    monkeypatch.setattr(
        m, "calibration", lambda draws, truth: Calibration(scores={k: x[: len(truth)] for k, x in own.items()})
    )
    pair = Table(TensorBatch({k: v[1:3] for k, v in table.rows.values.items()}, table.rows.present[1:3]))
    found = calibration(model, pair, ["image->reference"], draws=2, steps=1, resamples=5)
    assert found.figures["image->reference reference.length"].json() == {"value": 2, "n": 1, "low": 2, "high": 2}
    own["length"] = torch.full((2,), float("nan"))
    with pytest.raises(RequestError, match="nothing is known of 'reference' in these rows"):
        calibration(model, pair, ["image->reference"], draws=2, steps=1, resamples=5)
    own["length"] = torch.ones(1)
    with pytest.raises(
        PluginError, match=r"modality 'reference': its calibration gave scores 'length' of \(1,\), expected \(2,\)"
    ):
        calibration(model, pair, ["image->reference"], draws=2, steps=1)
    monkeypatch.setattr(m, "calibration", lambda draws, truth: {"length": truth})
    with pytest.raises(PluginError, match=r"its calibration gave dict, expected mmcore\.modality\.Calibration"):
        calibration(model, pair, ["image->reference"], draws=2, steps=1)
