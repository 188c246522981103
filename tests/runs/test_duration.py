"""The time that a dry run tells is that of all a training does, each as often as the training does it."""

from pathlib import Path
from typing import Any

import pytest

import mmcore
from mmcore.config import configured
from mmcore.progress import words
from mmcore.runs import dry
from mmcore.runs.duration import Seconds, by_rows, checkpoints, occasions, shares
from mmcore.runs.run import train
from mmcore.training import TrainOptions
from mmcore.training.saving import Saver


def tables(**training: Any) -> dict[str, Any]:
    return {
        "out": "run",
        "device": "cpu",
        "data": {"source": "digits", "limit": 60, "split": {"validation": 0.4}},
        "modalities": {"image": {"channels": 1, "size": 8}, "label": {}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1, "features": 2}},
        "training": {"batch_size": 8, "seed": 4, "save_seconds": 0, "keep": 99, **training},
        "sampling": {"n": 2, "steps": 2},
    }


@pytest.mark.parametrize(
    "training",
    [
        {"steps": 10, "validate_every": 3, "pictures_every": 4, "save_steps": 5},
        {"steps": 9, "validate_every": 3, "pictures_every": 0, "save_steps": 0},
        {"steps": 1, "validate_every": 5, "pictures_every": 1, "save_steps": 1},
        {"steps": 4, "validate_every": 0, "pictures_every": 9, "save_steps": 4},
    ],
)
def test_what_a_dry_run_counts_a_training_does(
    training: dict[str, int], registry: mmcore.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = {share.name: share.count for share in dry.dry_run(configured(tables(**training), registry=registry)).shares}
    assert not list(tmp_path.iterdir())
    # A checkpoint that is there already is not written anew.
    written: list[int] = []
    save = Saver._write
    monkeypatch.setattr(Saver, "_write", lambda self, step, *rest: written.append(step) or save(self, step, *rest))
    folder = train(configured(tables(**training), registry=registry), quiet=True)
    validations = folder / "validation.jsonl"
    done = {
        "start": 1,
        "step": training["steps"],
        "validation": len(validations.read_text().splitlines()),
        "sheet": len(list((folder / "samples").glob("step-*.png"))),
        "checkpoint": len(written),
        "end": 1,
    }
    assert told == {name: count for name, count in done.items() if count}


def test_the_parts_add_up_to_the_whole(registry: mmcore.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second whenever it is read."""
    clock = iter(range(10_000))
    monkeypatch.setattr(dry, "_now", lambda device: float(next(clock)))
    monkeypatch.setattr(dry, "LONG", 4.0)
    setup = configured(tables(steps=100, validate_every=10, pictures_every=50, save_steps=25), registry=registry)
    run = dry.dry_run(setup, before=50.0)
    seconds = {share.name: share.seconds for share in run.shares}
    held = len(setup.rows("validation"))
    assert 50 < seconds["start"] < 100
    assert (run.first_step, run.step, run.warm, run.sampling) == (1.0, 1.0, 4, 1.0)
    assert seconds == {
        "start": pytest.approx(seconds["start"]),
        "step": 1.0,
        "validation": -(-held // 8),
        "checkpoint": 1.0,
        "sheet": 1.0,
        "end": 1.0,
    }
    assert run.training == pytest.approx(seconds["start"] + 100 + 10 * -(-held // 8) + 2 + 5 + 1)
    line = next(line for line in run.table().splitlines() if line.startswith("training"))
    assert f"about {words(run.training)}: " in line
    assert all(part in line for part in ("100 steps 100 s", "10 validations", "2 sheets 2.0 s", "5 checkpoints 5.0 s"))


def test_a_step_is_the_median_of_the_warm_ones_and_the_first_counts_once() -> None:
    found = {s.name: s for s in shares(TrainOptions(steps=11), Seconds(first=5.0, step=1.0, start=2.0, end=3.0))}
    assert found["step"].whole == pytest.approx(15.0)
    assert {name: share.count for name, share in found.items()} == {"start": 1, "step": 11, "checkpoint": 2, "end": 1}


def test_steps_that_take_long_are_two(registry: mmcore.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000_000, 100))
    monkeypatch.setattr(dry, "_now", lambda device: float(next(clock)))
    run = dry.dry_run(configured(tables(steps=5), registry=registry))
    assert (run.warm, run.step) == (1, 100.0)
    assert "median" not in run.table()


@pytest.mark.parametrize(("steps", "every", "count"), [(10, 3, 4), (9, 3, 3), (2, 5, 1), (7, 0, 0), (1, 1, 1)])
def test_occasions_are_every_so_many_steps_and_the_last(steps: int, every: int, count: int) -> None:
    assert occasions(steps, every) == count
    assert count == sum(every > 0 and (step % every == 0 or step == steps) for step in range(1, steps + 1))


def test_checkpoints_are_by_steps_or_by_time() -> None:
    timed = TrainOptions(steps=1000, save_seconds=60.0)
    assert [checkpoints(timed, seconds) for seconds in (10.0, 61.0, 3600.0)] == [2, 3, 62]
    assert checkpoints(TrainOptions(steps=1000, save_seconds=0.0), 3600.0) == 2
    assert checkpoints(TrainOptions(steps=1000, save_seconds=60.0, save_steps=10), 61.0) == 101


def test_many_samples_are_told_by_fewer() -> None:
    asked: list[int] = []

    def measure(rows: int) -> float:
        asked.append(rows)
        return 0.5 + 0.1 * rows

    assert by_rows(measure, [1, 64, 500], within=2.0) == pytest.approx([0.6, 6.9, 50.5])
    assert asked == [1, 4, 16]
    asked.clear()
    assert by_rows(measure, [1, 6, 6], within=100.0) == pytest.approx([0.6, 1.1, 1.1])
    assert asked == [1, 4, 6]
    assert by_rows(lambda rows: 8.0 + rows, [1, 64, 64], within=2.0) == [9.0, 72.0, 72.0]
    assert by_rows(lambda rows: 9.0, [1, 1, 1], within=2.0) == [9.0, 9.0, 9.0]
    assert by_rows(lambda rows: 1.0 / rows, [1, 4, 16], within=100.0)[2] == pytest.approx(1 / 16)


def test_times_are_in_the_unit_that_fits() -> None:
    assert [words(s) for s in (0.04, 9.9, 10, 119, 120, 7199, 7200)] == ["0.0 s", "9.9 s", "10 s", "119 s", "2 min", "120 min", "2.0 h"]  # fmt: skip
