"""How often a training asks what: shares counted against what the roles say in closed form, and what predicting says of them."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcore
from benchmarks.trees import run
from mmcore import JointModel, Registry, RoleMix
from mmcore.config.resolve import configured
from mmcore.runs.run import train
from mmcore.runs.seldom import ROWS, SELDOM, Taught

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def model(registry: Registry) -> JointModel:
    parts = [registry.modality("scalar", name=name, mean=0.0, std=1.0) for name in NAMES]
    return mmcore.compose(
        parts, backbone="mlp", backbone_options={"width": 8, "depth": 1, "features": 4}, registry=registry
    )


def taught(mix: RoleMix, model: JointModel, present: torch.Tensor) -> Taught:
    found = Taught.drawn(mix, model, present)
    assert found is not None
    return found


def near(share: float) -> object:
    """Within 4.5 standard errors of the rows that are drawn."""
    return pytest.approx(share, abs=4.5 * math.sqrt(max(share * (1 - share), 1e-12) / ROWS))


def test_shares_are_those_of_the_roles(model: JointModel) -> None:
    """Half of the rows give one and ask for the two others, a tenth gives two: each pair in a third of a half, and in its questions."""
    mix = RoleMix(joint=0.4, single=0.5, alone=0.0, questions={"a, b -> c": 0.1})
    found = taught(mix, model, torch.ones(7, 3, dtype=torch.bool))
    assert found.many == (1.0, near(0.6), near(0.1), 0.0)
    assert found.together["a", "c"] == near(0.5 / 3 + 0.1)
    assert found.together["c", "a"] == near(0.5 / 3)
    assert found.together["a", "a"] == 0
    assert list(found.told(["a", "b"], ["c"])) == []
    assert list(found.told([], ["a", "b", "c"])) == []


def test_rows_that_lack_values_ask_less(model: JointModel) -> None:
    """Of four rows one has all; one in four of the questions can be asked, and of the others none gives two."""
    present = torch.zeros(4000, 3, dtype=torch.bool)
    present[:, 0] = True
    present[::4] = True
    found = taught(RoleMix(joint=0.0, single=0.0, questions={"a, b -> c": 1.0}), model, present)
    assert found.many == (1.0, 1.0, 1.0, 0.0)
    single = taught(RoleMix(joint=0.5, single=0.5), model, present)
    assert single.many[1:3] == (near(0.125), 0.0)
    (line,) = single.told(["a", "b"], ["c"])
    assert line.startswith(
        "2 variables given: none of the training's rows were given so many, and answers may be worse than of 1 of them; --absent"
    )
    present[:, 2] = False
    never = taught(RoleMix(joint=0.5, single=0.5), model, present)
    assert list(never.told(["b", "a"], ["c"])) == [
        "c given a: none of the training's rows asked so; such an answer is a guess of the network, which no row has taught"
    ]
    assert Taught.drawn(RoleMix(), model, torch.zeros(5, 3, dtype=torch.bool)) is None


@pytest.mark.parametrize("columns", [12, 24])
def test_a_single_gap_of_a_wide_table_is_nothing_to_tell(columns: int, registry: Registry) -> None:
    """Rows that give all but one are few among random questions of many variables, and like those that give one less."""
    parts = [registry.modality("scalar", name=f"v{k}", mean=0.0, std=1.0) for k in range(columns)]
    wide = mmcore.compose(parts, backbone="mlp", backbone_options={"width": 8, "depth": 1, "features": 4}, registry=registry)  # fmt: skip
    names = [m.name for m in wide.modalities]
    found = taught(RoleMix(), wide, torch.ones(10, columns, dtype=torch.bool))
    for k in (1, columns // 2, columns - 1):
        assert list(found.told(names[:k], names[k:])) == []


def test_commands_say_what_the_training_hardly_asked(tmp_path: Path, registry: Registry) -> None:
    """Trained on rows of which none has more than two of three numbers; rows to fill in give two."""
    rng, lines = np.random.default_rng(0), []
    for k in range(300):
        cells = [f"{x:.4f}" for x in rng.normal(size=3)]
        cells[k % 3] = ""
        lines.append(cells)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(NAMES), *lines])
    tables = {
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "data": {"source": "table", "options": {"path": str(tmp_path / "rows.csv")}},
        "modalities": {name: {"plugin": "scalar"} for name in NAMES},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1, "features": 4}},
        "training": {"steps": 2, "batch_size": 8},
        "sampling": {"steps": 2, "n": 2},
    }
    train(configured(tables, registry=registry), quiet=True)
    (tmp_path / "gaps.csv").write_text("a,b,c\n0.1,0.2,\n0.3,,\n")
    found = mmcore.predict(tmp_path / "run", tmp_path / "gaps.csv", draws=1, calibrate=False, registry=registry)
    assert found.untaught() == []
    assert len(list(found)) == 2
    (line,) = found.untaught()
    assert line.startswith("2 variables given: none of the training's rows were given so many")
    assert SELDOM < 0.01
    for given, told in ((["a=0.1", "b=0.2"], True), (["a=0.1"], False)):
        asked = [part for one in given for part in ("--given", one)]
        code, _, said = run(["sample", str(tmp_path / "run"), "-n", "1", *asked])
        assert code == 0
        assert ("2 variables given: none of the training's rows" in said) == told
