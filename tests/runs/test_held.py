"""Rows held out set intervals and probabilities: they are asked what new rows are asked, once, and nothing else is trusted."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mmcore
from mmcore import Reader, Registry
from mmcore.cli.program import app
from mmcore.config.resolve import configured
from mmcore.metrics import conformal
from mmcore.metrics.conformal import Sureness, Widening
from mmcore.runs import held
from mmcore.runs.filling import Predictions
from mmcore.runs.held import RECORD
from mmcore.runs.run import train
from tests.runs.test_predict import tables, write_photos


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    folder = tmp_path_factory.mktemp("held")
    write_photos(folder / "photos")
    train(configured(tables(folder, split={"test": 0.3, "validation": 0.4}), registry=registry), quiet=True)
    return folder


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Twenty photographs hold out fewer rows than set a class's probability.
    monkeypatch.setattr(conformal, "FEW", 2)
    (made / "run" / RECORD.name).unlink(missing_ok=True)
    return made


def ages(found: Predictions) -> dict[str, tuple[float, float]]:
    return {row.key: (row.answers["age"].low, row.answers["age"].high) for row in found if "age" in row.answers}


def asked(home: Path, **how: Any) -> Predictions:
    return mmcore.predict(home / "run", home / "photos", draws=9, interval=0.5, **how)


def test_the_interval_of_a_row_is_set_by_what_the_same_question_to_held_out_rows_says(home: Path) -> None:
    """By hand: each row held out that has the age, and has what the new row has, is asked for it given just that."""
    found, drawn = asked(home), asked(home, calibrate=False)
    reader = Reader.open(home / "run")
    model, names = reader.model, [m.name for m in reader.model.variables]
    assert reader.run is not None
    parts = [reader.run.setup.rows(part) for part in ("validation", "test")]
    batches = [part.take(range(len(part))) for part in parts]
    present = torch.cat([batch.present for batch in batches])
    values = {name: torch.cat([batch.values[name] for batch in batches]) for name in names}
    counted = 0
    for row, plain in zip(found, drawn, strict=True):
        if "age" not in row.answers:
            continue
        have = [name for name in names if name in row.given]
        fits = present[:, [names.index(name) for name in have]].all(1) & present[:, names.index("age")]
        outside = []
        for k in fits.nonzero()[:, 0].tolist():
            given = {name: values[name][k : k + 1].expand(9, *values[name].shape[1:]) for name in have}
            numbers = [k * 9 + draw for draw in range(9)]
            x = mmcore.sample(model, 9, given=given, numbers=numbers, steps=2, seed=5, draw=True)["age"].sort().values
            # Of nine draws the ends of 50 % are between the second and third, and the seventh and eighth.
            low, high = x[1:3].mean().item(), x[6:8].mean().item()
            truth = values["age"][k].item()
            outside.append(max(low - truth, truth - high))
        assert len(outside) >= 2
        by = sorted(outside)[-(-(len(outside) + 1) // 2) - 1]
        one, other = row.answers["age"], plain.answers["age"]
        assert torch.equal(one.draws, other.draws)
        assert one.low == pytest.approx(other.low - by, abs=0.02)
        assert one.high == pytest.approx(other.high + by, abs=0.02)
        counted += 1
    assert counted >= 5


def test_of_many_variables_rows_give_all_else_that_they_have(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row gives then does not matter, and each variable is asked but once."""
    monkeypatch.setattr(held, "EXACT", 3)
    found = asked(home)
    own = {row.key: row for row in found}
    assert found.held is not None
    assert sorted(found.held.known) == [f"given all that they have but {name}" for name in ("age", "kind")]
    rows, judged = found.held.rows, found.held.known["given all that they have but age"]["age"]
    reader = found.reader
    names = [m.name for m in reader.model.variables]
    outside = []
    for k in rows.present[:, names.index("age")].nonzero()[:, 0].tolist():
        have = [name for name in names if name != "age" and rows.present[k, names.index(name)]]
        given = {name: rows.values[name][k : k + 1].expand(9, *rows.values[name].shape[1:]) for name in have}
        x = mmcore.sample(reader.model, 9, given=given, numbers=[k * 9 + d for d in range(9)], steps=2, seed=5, draw=True)["age"].sort().values  # fmt: skip
        truth = rows.values["age"][k].item()
        outside.append(max(x[1:3].mean().item() - truth, truth - x[6:8].mean().item()))
    assert isinstance(judged, Widening)
    assert judged.by == pytest.approx(sorted(outside)[-(-(len(outside) + 1) // 2) - 1], abs=0.02)
    plain = {row.key: row for row in asked(home, calibrate=False)}
    assert {key for key, row in own.items() if "age" in row.answers}
    for key, row in own.items():
        if "age" in row.answers:
            assert row.answers["age"].high == pytest.approx(plain[key].answers["age"].high + judged.by, abs=1e-4)


def test_held_out_rows_are_asked_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, told = asked(home), asked(home)
    want = ages(first)
    assert want
    measured = []
    kept = held.HeldOut._measured
    monkeypatch.setattr(held.HeldOut, "_measured", lambda self, *a: measured.append(a) or kept(self, *a))
    assert ages(told) == want
    assert measured == []
    # Of other draws, another interval or other steps they are asked anew.
    for how in ({"draws": 12}, {"interval": 0.4}, {"steps": 3}):
        before = len(measured)
        ages(mmcore.predict(home / "run", home / "photos", **{"draws": 9, "interval": 0.5, **how}))
        assert len(measured) > before, how
    # Other weights have other answers.
    text = json.loads((home / "run" / RECORD.name).read_text())
    (home / "run" / RECORD.name).write_text(json.dumps(text | {"model": "0" * 64}))
    before = len(measured)
    assert ages(asked(home)) == want
    assert len(measured) > before


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '{"what": "the shopping"}', "slope", "by", "shape", "deep", "rows", "name", "format"],
)
def test_what_is_kept_is_not_trusted(home: Path, damage: str) -> None:
    want, path = ages(asked(home)), home / "run" / RECORD.name
    spoilt: dict[str, Any] = {
        "slope": ("slope", "x"),
        "by": ("by", "none"),
        "shape": ("by", [1.0, 2.0]),
        "deep": ("by", [[1.0]]),
        "rows": ("rows", -1),
        "name": ("", None),
        "format": ("", None),
    }
    if damage in spoilt:
        text, (field, value) = json.loads(path.read_text()), spoilt[damage]
        for question in text["questions"].values():
            for one in question.values():
                if field in one:
                    one[field] = value
            if damage == "name":
                question["nobody"] = question.pop("age", {})
        if damage == "format":
            text["format"] = 2
        damage = json.dumps(text)
    path.write_text(damage)
    assert ages(asked(home)) == want
    # What is none of a run's stays as it is.
    assert (path.read_text() == damage) == ("what" not in damage or "shopping" in damage)


def test_what_was_broken_off_is_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is replaced in one go the new file lies aside, whole, while it is written in place of the old one."""
    want, path = ages(asked(home)), home / "run" / RECORD.name
    whole, aside = path.read_bytes(), path.with_name(f".aside-{RECORD.name}")
    for torn in (whole, whole[: len(whole) // 2], b"", None):
        aside.write_bytes(whole)
        if torn is None:
            path.unlink()
        else:
            path.write_bytes(torn)
        monkeypatch.setattr(held.HeldOut, "_measured", None)
        assert ages(asked(home)) == want
        assert path.read_bytes() == whole
        assert not aside.exists()
    # What lies aside and is none of ours stays, and so does what is in its place.
    aside.write_text("mine")
    assert ages(asked(home)) == want
    assert aside.read_text() == "mine"
    aside.unlink()


def test_a_link_is_not_written_through(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    path = home / "run" / RECORD.name
    path.symlink_to(other)
    try:
        assert ages(asked(home))
        assert other.read_text() == "{}"
    finally:
        path.unlink()


def test_a_part_does_not_judge_its_own_answers(home: Path) -> None:
    found = mmcore.predict(home / "run", "test", draws=9, interval=0.5, again=["age"])
    list(found)
    assert found.held is not None
    setup = Reader.open(home / "run").run.setup  # type: ignore[union-attr]
    assert len(found.held.rows) == len(setup.rows("validation"))
    assert len(asked(home).held.rows) == len(setup.rows("validation")) + len(setup.rows("test"))  # type: ignore[union-attr]


def test_without_rows_held_out_answers_are_the_draws_own(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run" / "model", tmp_path / "model")
    found = mmcore.predict(tmp_path / "model", home / "photos", draws=9, interval=0.5, steps=2, seed=5)
    assert ages(found) == ages(mmcore.predict(tmp_path / "model", home / "photos", draws=9, interval=0.5, steps=2, seed=5, calibrate=False))  # fmt: skip
    assert not (tmp_path / "model" / RECORD.name).exists()


def test_classes_have_their_probability_beside_the_draws_share(home: Path) -> None:
    found = [row.answers["kind"] for row in asked(home) if "kind" in row.answers]
    assert found
    for one in found:
        assert one.probability is not None
        assert 0 < one.probability < 1
        assert round(one.agreement * 9) == pytest.approx(one.agreement * 9)
    assert all(row.answers["kind"].probability is None for row in asked(home, calibrate=False) if "kind" in row.answers)


def test_it_is_told(home: Path, tmp_path: Path) -> None:
    line = ["predict", str(home / "run"), str(home / "photos"), "--draws", "9", "--interval", "0.5"]
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    told = [one for one in done.output.splitlines() if one.startswith("note: ")]
    assert any(one.startswith("note: age: intervals of 50 % are set by ") and "given image" in one for one in told), (
        told
    )
    assert any(one.startswith("note: kind: probabilities are set by ") for one in told), told
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "b"), "--no-calibrate"])
    assert "are set by" not in done.output
    assert "is not measured" in done.output


def test_a_class_whose_probability_nothing_sets_is_told(made: Path, tmp_path: Path, registry: Registry) -> None:
    """The column means another thing then."""
    train(configured({**tables(made, split={"test": 0.05}), "out": str(tmp_path / "run")}, registry=registry), quiet=True)  # fmt: skip
    line = ["predict", str(tmp_path / "run"), str(made / "photos"), "--draws", "9", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    told = [one for one in done.output.splitlines() if one.startswith("note: ")]
    assert "note: kind: the probability is the draws' share, as too few rows are held out to set it" in told
    assert any(one.startswith("note: how often intervals of age hold the truth is not measured") for one in told)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.integers(0, 16))
def test_a_probability_is_one_whatever_a_file_says(slope: float, offset: float, count: int) -> None:
    assert 0 <= Sureness(slope, offset, 9, 0.5, 0.5).probability(count, 16) <= 1


def test_numbers_that_rounding_makes_nothing_have_ends() -> None:
    """Such as a price of 1e-300 in single precision."""
    draws, truth = torch.rand(30, 9) + 0.1, torch.rand(30) + 0.1
    draws[:, 0] = 0
    draws[3] = 0
    widening = Widening.of(draws, truth, 0.5, ratio=True)
    assert widening is not None
    low, high = widening.ends(draws[3], 0.5, 1e-30, None)
    assert 0 < low <= high < torch.inf


def test_a_folder_that_may_not_be_written_in_is_no_hindrance(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = ages(asked(home))
    (home / "run" / RECORD.name).unlink()

    def refused(*_: Any) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("mmcore.files.write", refused)
    assert ages(asked(home)) == want
    assert not (home / "run" / RECORD.name).exists()


def test_positive_numbers_are_compared_by_ratios(home: Path) -> None:
    scalar = mmcore.discover().modality("scalar", log=True)
    draws = torch.rand(30, 9) + 1
    truth = torch.rand(30) * 100 + 0.1
    judged = held._judge(scalar, draws, truth, 0.8)
    assert isinstance(judged, Widening)
    assert judged.ratio
    assert judged == Widening.of(draws, truth, 0.8, ratio=True)
    label = mmcore.discover().modality("label", classes=3)
    assert isinstance(held._judge(label, torch.zeros(12, 9, dtype=torch.int64), torch.zeros(12, dtype=torch.int64), 0.8), Sureness)  # fmt: skip
