"""What a run asks after its first step is asked when its configuration is read, and refused there with its key."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmcore
from mmcore.config import configured, files
from mmcore.errors import ConfigError
from mmcore.modality.base import Modality
from mmcore.runs.run import CONFIG, Run, train
from tests.config.counted import counting
from tests.config.test_config import SMALL, changed, problems

STORED: dict[str, Any] = changed("data", {"source": "npz", "options": {"path": "rows.npz"}})
TRAINED: dict[str, Any] = changed(
    "training", {"steps": 2, "batch_size": 4}, changed("sampling", {"n": 2, "steps": 2}, changed("device", "cpu"))
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


CASES: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "samples that nothing is given to reject by": (
        changed("sampling.conditioning", "rejection"),
        "sampling.conditioning",
        "expected roles or posterior",
    ),
    "the best by a task that there is not": (
        changed("training.best", "labl"),
        "training.best",
        "expected one of image, label, total; did you mean 'label'?",
    ),
    "a task called as the sum of all is": (
        changed("tasks.total", {"target": "image"}),
        "tasks.total",
        "expected another name for the task",
    ),
    "validation of rows that nothing holds out": (
        changed("training.validate_every", 5, STORED),
        "training.validate_every",
        "split.validation = 0.0, expected what says which rows the part 'validation' has",
    ),
    "validation of a source whose part is fixed": (
        changed("training.validate_every", 5, changed("data.options", {"part": "train"})),
        "training.validate_every",
        "split.validation",
    ),
    "a sampler that takes no eta": (changed("sampling", {"sampler": "2m", "eta": 0.5}), "sampling", "eta = 0.5"),
    "codes drawn by a sampler without noise": (
        changed("sampling", {"sampler": "ddim", "eta": 0.0, "codes": "draw"}),
        "sampling",
        "expected 'mean' with a deterministic sampler",
    ),
    "a folder that is a file": (changed("out", "taken"), "out", "expected a folder, "),
    "a folder below a file": (changed("out", "taken/run"), "out", "expected a folder, "),
}


@pytest.mark.parametrize("what", CASES)
def test_what_a_run_would_refuse_at_its_end_is_refused_at_its_place(what: str, registry: mmcore.Registry) -> None:
    Path("taken").write_text("")
    tables, key, words = CASES[what]
    (found,) = problems(tables, registry).items()
    assert found[0] == key or found[0].startswith(f"{key}.")
    assert words in found[1]


def test_validation_of_a_folder_is_refused_just_if_no_folder_is_of_that_part(registry: mmcore.Registry) -> None:
    for part in ("train", "val"):
        for name in ("images", "labels"):
            Path("parted", name, part).mkdir(parents=True)
    tables = {where: changed("data", {"source": "folder", "options": {"path": where}}) for where in ("parted", "whole")}
    Path("whole/images").mkdir(parents=True)
    for at in (*Path("parted").glob("*/*"), Path("whole/images")):
        (at / "a.png").write_bytes(b"")
    read = configured(changed("training.validate_every", 5, tables["parted"]), registry=registry)
    assert read.config.training.validate_every == 5
    assert list(problems(changed("training.validate_every", 5, tables["whole"]), registry)) == [
        "training.validate_every"
    ]


def test_a_sampler_that_the_models_own_schedule_forbids(registry: mmcore.Registry) -> None:
    tables = changed("model.schedule", "paper-steps", changed("sampling.sampler", "2m"))
    (found,) = problems(tables, registry).items()
    assert found[0].startswith("sampling")
    assert "'paper-steps'" in found[1]
    assert configured(changed("sampling.sampler", "auto", tables), registry=registry)


def test_a_folder_that_cannot_be_written(registry: mmcore.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    # As root every folder can be.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert list(problems(changed("out", "a/b"), registry)) == ["out"]


def test_validation_is_right_where_the_split_or_the_source_has_the_part(registry: mmcore.Registry) -> None:
    split = changed("data.split", {"validation": 0.5}, changed("training.validate_every", 5, STORED))
    by_value = changed("data.split", {"by": "image", "values": {"validation": [1]}}, split)
    for tables in (split, by_value, changed("training.validate_every", 5)):
        assert configured(tables, registry=registry).config.training.validate_every == 5
    other = changed("data.split.values", {"test": [1]}, by_value)
    assert list(problems(other, registry)) == ["training.validate_every"]


@pytest.mark.parametrize("broken", ["show", "typical", "measured", "a table for a picture"])
def test_a_modality_whose_samples_cannot_be_shown_is_told_of_before_training(
    broken: str, registry: mmcore.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Modality, *rest: Any) -> Any:
        raise ZeroDivisionError("nothing to show")

    kind = type(registry.modality("label"))
    if broken == "a table for a picture":
        monkeypatch.setattr(kind, "show", lambda self, x: np.zeros((2, 2)))
    else:
        monkeypatch.setattr(kind, broken, lambda self, *rest, **more: fails(self))
    (found,) = problems(SMALL, registry).items()
    assert found[0] == "modalities.label"
    wanted = "its show gives a ndarray" if "table" in broken else "ZeroDivisionError: nothing to show"
    assert wanted in found[1]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[mmcore.Registry]:
    yield counting(tmp_path / "site", monkeypatch)[0]
    sys.modules.pop("counting_plugin", None)


def test_a_source_without_the_part_is_told_of_before_anything_is_written(
    installed: mmcore.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(part: str = "train") -> list[dict[str, int]]:
        if part != "train":
            raise mmcore.OptionError("counted", "part", part, "train")
        return [{"first": i % 4} for i in range(8)]

    monkeypatch.setattr(sys.modules["counting_plugin"], "rows", rows)
    tables = changed("data", {"source": "counted"}, TRAINED)
    tables = changed("training.validate_every", 1, changed("modalities", {"first": {"plugin": "counted"}}, tables))
    setup = configured(tables, where="a.toml", registry=installed)
    with pytest.raises(ConfigError) as refused:
        train(setup, quiet=True)
    (problem,) = refused.value.problems
    assert problem.key == "training.validate_every"
    assert "expected train" in problem.text
    assert str(refused.value).startswith("a.toml: training.validate_every = 1: expected 0, or rows to validate on")
    assert not Path("run").exists()


def test_data_that_are_not_there_are_told_of_at_their_place(registry: mmcore.Registry) -> None:
    setup = configured(STORED, where="a.toml", registry=registry)
    with pytest.raises(ConfigError) as refused:
        setup.rows()
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("data.options.path", str(Path("rows.npz").absolute()))
    assert "found nothing at" in problem.text
    np.savez("rows.npz", image=np.zeros((4, 8, 8), np.uint8), kind=np.arange(4))
    with pytest.raises(ConfigError) as refused:
        setup.rows()
    (problem,) = refused.value.problems
    assert problem.key == "data.columns.label"
    with pytest.raises(ConfigError) as refused:
        configured(changed("data.columns", {"label": "knd"}, STORED), registry=registry).rows()
    (problem,) = refused.value.problems
    assert str(problem) == "data.columns.label.column = \"knd\": expected one of image, kind; did you mean 'kind'?"


def test_a_run_that_is_there_is_opened_whatever_its_folder_or_its_end_would_be_now(registry: mmcore.Registry) -> None:
    tables = configured(TRAINED, registry=registry).tables()
    Path("moved").mkdir()
    tables |= {"out": "/dev/null/run"}
    tables["sampling"]["conditioning"] = "rejection"
    (Path("moved") / CONFIG).write_text(files.text(tables))
    run = Run.open("moved", registry)
    assert run.setup.config.sampling.conditioning == "rejection"
