"""A table with numbers, by a configuration written by hand: trained, asked, refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mmcore
from mmcore import RequestError
from mmcore.cli import program
from mmcore.config.resolve import configured
from mmcore.runs import pictures
from mmcore_scalar import ScalarModality

CONFIGURATION = """
out = "run"
device = "cpu"

[data]
source = "table"
options = { path = "people.csv" }

[modalities.age]
plugin = "scalar"
units = "years"
low = 0
high = 120

[modalities.visits]
plugin = "scalar"
kind = "count"

[modalities.class]
plugin = "label"
names = ["a", "b"]
classes = 2

[model]
backbone = "mlp"
backbone_options = { width = 8, depth = 1, features = 2 }
schedule_options = { steps = 20 }

[training]
steps = 3
batch_size = 8

[sampling]
n = 5
steps = 2
"""
AGES = [18.5, 41, 77.25, 33, 0, 120, 60.5, 29]
VISITS = [3, 0, 12, 7, 1, 2, 5, 4]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows as people have them: an empty cell, ``41`` beside ``18.5``, counts that another program wrote as ``3.0``."""
    lines = [
        f"{'' if k == 3 else f'{age:g}'},{'ab'[k % 2]},{visits:.1f}"
        for k, (age, visits) in enumerate(zip(AGES, VISITS, strict=True))
    ]
    (tmp_path / "people.csv").write_text("age,class,visits\n" + "\n".join(lines) + "\n")
    (tmp_path / "people.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mmcore", *words])
    with pytest.raises(SystemExit) as caught:
        program.main()
    return int(caught.value.code or 0)


def test_a_table_s_numbers_are_trained_on_and_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "train", "people.toml") == 0
    age, visits, _ = mmcore.load(home / "run" / "model").variables
    assert isinstance(age, ScalarModality)
    assert isinstance(visits, ScalarModality)
    known = [one for k, one in enumerate(AGES) if k != 3]
    assert age.scale.mean == pytest.approx(np.mean(known))
    assert age.scale.std == pytest.approx(np.std(known), rel=1e-5)
    assert visits.scale.mean == pytest.approx(np.mean(VISITS))

    assert call(monkeypatch, "sample", "run", "--given", "age=41", "--draw") == 0
    asked = home / "run" / "samples" / "asked-1"
    answer = load_file(asked / "samples.safetensors")
    assert answer["age"].tolist() == [41] * 5
    assert torch.equal(answer["visits"], answer["visits"].round())
    assert answer["visits"].min() >= 0
    words = json.loads((asked / "samples.json").read_text())["answers"]
    assert words["age"] == ["41.0 years"] * 5
    assert words["visits"] == [f"{int(one)}" for one in answer["visits"]]

    assert call(monkeypatch, "sample", "run", "--given", "visits=3", "--given", "class=b") == 0
    age_given = load_file(home / "run" / "samples" / "asked-2" / "samples.safetensors")["age"]
    assert ((age_given >= 0) & (age_given <= 120)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("age=old", "--given age=old: found 'old', expected a number such as 3.5"),
        ("age=true", "--given age=true: found True, expected a number; yes or no is a label"),
        ("age=-1", "--given age=-1: found -1, expected at least low = 0"),
        ("visits=2.5", "--given visits=2.5: found 2.5, expected a whole number"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    home: Path, given: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = mmcore.discover()
    parts = [
        registry.modality("scalar", name="age", low=0, high=120),
        registry.modality("scalar", name="visits", kind="count"),
    ]
    options = {"width": 8, "depth": 1, "features": 2}
    mmcore.save(mmcore.compose(parts, backbone="mlp", backbone_options=options, registry=registry), home / "model")
    assert call(monkeypatch, "sample", "model", "--given", given) == 2
    assert capsys.readouterr().err.startswith(f"mmcore: {message}")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("old", "found 'old', expected a number such as 3.5"),
        ("-99", "found -99, expected at least low = 0"),
        ("1e3", "found 1000, expected at most high = 120"),
    ],
)
def test_a_cell_that_is_no_such_number_is_told_with_its_line(
    home: Path, cell: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "people.csv"
    path.write_text(path.read_text().replace("77.25", cell))
    assert call(monkeypatch, "train", "people.toml") == 2
    assert f"people.csv line 4, age: {message}" in capsys.readouterr().err


def test_an_option_that_cannot_be_is_told_at_its_place(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "people.toml"
    path.write_text(path.read_text().replace("low = 0", "low = 130"))
    assert call(monkeypatch, "config", "people.toml") == 2
    assert "modalities.age.high = 120: expected a number above low = 130" in capsys.readouterr().err


def test_a_number_stands_below_its_picture() -> None:
    registry = mmcore.discover()
    image, age = registry.modality("image", channels=1, size=4), registry.modality("scalar", name="age")
    answer = {"image": torch.zeros(2, 1, 4, 4), "age": torch.tensor([1.0, 2.0])}
    with_age, without = (pictures.sheet(parts, answer) for parts in ([image, age], [image]))
    assert with_age.height == without.height + pictures.LINE


def test_a_run_of_numbers_that_are_just_far_enough_apart_opens_again(tmp_path: Path) -> None:
    """Eight samples of its own distribution may be nearer to each other than the data were."""
    numbers = {"plugin": "scalar", "kind": "count", "mean": 1000020.0, "std": 10.01}
    given = {
        "out": str(tmp_path / "run"),
        "data": {"source": "table", "options": {"path": str(tmp_path / "t.csv")}},
        "modalities": {"n": numbers, "kind": {"plugin": "label", "classes": 2}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
    }
    made = configured(given, to_train=False).modalities[0]
    refused = 0
    for seed in range(20):
        try:
            made.measured(made.typical(8, seed))
        except RequestError:
            refused += 1
    assert refused  # so that the case is one
    assert configured(given).config.modalities["n"].options["std"] == 10.01
