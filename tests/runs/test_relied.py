"""Whoever has rows filled in is told how often such intervals held the truth of rows held out, or that nobody has looked."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcore import Registry
from mmcore.cli.program import app
from mmcore.config.resolve import configured
from mmcore.runs.calibrated import RECORD, relied
from mmcore.runs.run import train
from tests.runs.test_predict import tables, write_photos


def figure(value: float) -> dict[str, float]:
    return {"value": value, "n": 120, "low": value - 0.09, "high": value + 0.09}


FIGURES = {
    "image->age age.coverage_50": figure(0.311),
    "image->age age.coverage_80": figure(0.558),
    "image,kind->age age.coverage_80": figure(0.602),
    "image->age age.crps": figure(7.25),
    "mask->image image.coverage_80": figure(0.789),
}


@pytest.fixture
def run(tmp_path: Path, registry: Registry) -> Path:
    write_photos(tmp_path / "photos")
    return train(configured(tables(tmp_path), registry=registry), quiet=True)


def said(run: Path, out: str, *more: str) -> list[str]:
    done = CliRunner().invoke(app, ["predict", str(run), "test", "-o", str(run.parent / out), "--steps", "1", *more])
    assert done.exit_code == 0, done.output
    return [line for line in done.output.splitlines() if line.startswith("note: ")]


def test_what_is_known_of_intervals_is_told_beside_them(run: Path) -> None:
    command = f"mmcore evaluate {run} --calibration"
    kind, line = said(run, "a")
    assert kind == "note: kind: the probability is the draws' share, as too few rows are held out to set it"
    assert line == f"note: how often intervals of age hold the truth is not measured: {command}"
    # One draw has no interval, and classes have none.
    assert said(run, "b", "--draws", "1") == []
    assert relied(run, []) == []
    RECORD.save(run, {"rows": "the run's test data", "figures": FIGURES})
    assert said(run, "c") == [
        kind,
        "note: age: of the run's test data, image->age, intervals of 80 % hold 0.558 (0.468 … 0.648, n = 120)",
        "note: age: of the run's test data, image,kind->age, intervals of 80 % hold 0.602 (0.512 … 0.692, n = 120)",
    ]
    # Of other weights it says nothing.
    text = json.loads((run / RECORD.name).read_text())
    (run / RECORD.name).write_text(json.dumps(text | {"model": "0" * 64}))
    assert said(run, "d") == [kind, line]
    (run / RECORD.name).write_text("{")
    _, told = said(run, "e")
    assert RECORD.name in told
    # A model folder has no rows of its own.
    shutil.rmtree(run.parent / "photos" / "masks")
    assert "note" not in CliRunner().invoke(app, ["predict", str(run / "model"), str(run.parent / "photos"), "-o", str(run.parent / "f"), "--steps", "1"]).output  # fmt: skip
