"""Codes that are not as large as the process assumes are told of when training begins."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import mmcore
from mmcore import JointModel, Registry
from mmcore.data import Table, TensorBatch
from mmcore.training import CodeScaleWarning
from mmcore.training.scale import ROWS
from tests.training.runs import digests, fit, small

COUNT = 2 * ROWS


def with_ages(registry: Registry, mean: float, std: float) -> JointModel:
    parts = [registry.modality("label", classes=4), registry.modality("scalar", name="age", mean=mean, std=std)]
    options = {"width": 8, "depth": 2, "features": 4}
    return mmcore.compose(parts, backbone="mlp", backbone_options=options, registry=registry, space=(2, 4, 4))


def ages(present: float = 1.0) -> Table:
    """Ages of mean 99.5 and deviation 30, which only some of the rows have."""
    generator = torch.Generator().manual_seed(0)
    values = {
        "label": torch.arange(COUNT) % 4,
        "age": 99.5 + 30 * torch.randn(COUNT, generator=generator),
    }
    there = torch.ones(COUNT, 2, dtype=torch.bool)
    there[:, 1] = torch.arange(COUNT) < present * COUNT
    values["age"] = torch.where(there[:, 1], values["age"], 1e6)
    return Table(TensorBatch(values, there))


def told(registry: Registry, mean: float, std: float, rows: Table | None = None, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"steps": 3, "batch_size": ROWS // 2} | options
        fit(registry, None, model=with_ages(registry, mean, std), rows=rows or ages(), **options)
    return [str(one.message) for one in caught if issubclass(one.category, CodeScaleWarning)]


def test_data_that_nobody_measured_are_told_of(registry: Registry) -> None:
    """The mean square of a code is μ² + σ² = 99.5² + 30² = 10,800; of 256 ages it is within a fifth of that."""
    (line,) = told(registry, 0.0, 1.0)
    assert "'age'" in line
    assert "first 256 rows" in line
    found = float(line.split("mean square of ")[1].split(",")[0])
    assert found == pytest.approx(99.5**2 + 30**2, rel=0.2)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 30.0), (99.5, 10.0), (99.5, 120.0)])
def test_a_wrong_mean_and_a_wrong_deviation(registry: Registry, mean: float, std: float) -> None:
    assert len(told(registry, mean, std)) == 1


def test_what_was_measured_is_silent(registry: Registry) -> None:
    assert told(registry, 99.5, 30.0) == []
    # Half as wide or twice is no mistake worth a line.
    assert told(registry, 99.5, 20.0) == told(registry, 99.5, 50.0) == []


def test_placeholders_of_rows_that_lack_it_do_not_count(registry: Registry) -> None:
    """In memory a row that lacks an age has some number in its place, here 10⁶."""
    assert told(registry, 99.5, 30.0, ages(present=0.5)) == []


def test_few_rows_say_too_little(registry: Registry) -> None:
    """Eight numbers that are small may be so by chance, eight that are large are not."""
    few = {"steps": 1, "batch_size": 8}
    assert told(registry, 99.5, 500.0, **few) == []
    assert len(told(registry, 0.0, 1.0, **few)) == 1


def test_looking_changes_nothing(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes as a run that nobody looks at, from an encoder that draws in training."""

    def run(out: Path) -> dict[str, str]:
        model = small(registry)
        encoder = model.encoders["words"]
        model.encoders["words"] = torch.nn.Sequential(encoder, torch.nn.Dropout(0.5))
        fit(registry, out, model=model)
        return digests(out)

    looked = run(tmp_path / "a")
    monkeypatch.setattr("mmcore.training.loop.CodeScale.looking", False)
    assert run(tmp_path / "b") == looked
