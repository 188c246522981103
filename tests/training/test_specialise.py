"""Further training on one question: what it learns from, what it leaves alone, and how it is told."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import Registry, RequestError
from mmcore.config import files
from mmcore.config.resolve import configured
from mmcore.data import Dataset, Table, TensorBatch
from mmcore.runs.run import Run, train
from mmcore.runs.specialise import specialise
from mmcore.training import TrainOptions, TrainState
from mmcore.training.step import StepReport

from .runs import OPTIONS, digests, read_again, rows, small


def test_only_the_question_counts(registry: Registry) -> None:
    """In a quarter of the steps; rows that lack its answer are left out, and nothing is asked of any other task."""
    model = small(registry)
    table = rows(model, 40)
    seen: list[StepReport] = []
    steps = TrainOptions(**OPTIONS | {"steps": 16})
    before = [p.detach().clone() for p in model.decoders["words"].parameters()]
    state = mmcore.specialise(
        model, table, "words -> label", options=steps, quiet=True, watch=[lambda _, report: seen.append(report)]
    )
    assert isinstance(state, TrainState)
    assert len(seen) == state.options.steps == 4
    has = int(table.rows.present[:, 0].sum())
    assert 0 < has < len(table.rows.present)
    for report in seen:
        assert report.rows[1] == 0
        assert (report.losses[:, 1] == 0).all()
        assert (report.t[report.counts[:, 0]] == model.process.steps).all()
    assert sum(int(report.rows[0]) for report in seen) < sum(len(report.counts) for report in seen)
    # Decayed like all weights, the other head is not trained.
    for old, p in zip(before, model.decoders["words"].parameters(), strict=True):
        torch.testing.assert_close(p, old, rtol=1e-2, atol=0)
    assert any(p.requires_grad for p in model.decoders["label"].parameters())


@pytest.mark.parametrize(
    ("ask", "share", "words"),
    [
        ("words -> lable", 0.25, "questions = 'words -> lable', expected names of what it can generate"),
        ("words", 0.25, "shares in 0 … 1 by question, such as 'image -> label'"),
        ("words -> label", 0.0, "specialise: share = 0.0, expected a number above 0"),
        ("words -> label", float("nan"), "specialise: share = nan"),
    ],
)
def test_what_cannot_be_asked(registry: Registry, ask: str, share: float, words: str) -> None:
    model = small(registry)
    with pytest.raises(RequestError, match=words):
        mmcore.specialise(model, rows(model, 8), ask, share=share, quiet=True)


def test_a_question_of_several_that_no_row_has_together(registry: Registry) -> None:
    """Rows of either: asked without the other they would be another question."""
    three = mmcore.compose(
        [registry.modality("label", classes=3), registry.modality("label", name="kind", classes=3), registry.modality("scalar", mean=0.0, std=1.0)],
        backbone="mlp", backbone_options={"width": 8, "depth": 1, "features": 4}, registry=registry,
    )  # fmt: skip
    values = {m.name: m.typical(8, 0) for m in three.modalities}
    present = torch.ones(8, 3, dtype=torch.bool)
    present[:, 0], present[:, 1] = torch.arange(8) < 4, torch.arange(8) >= 4
    with pytest.raises(
        RequestError, match=r"'label, kind -> scalar', expected .* none of 8 has scalar with all of label, kind"
    ):
        mmcore.specialise(three, Table(TensorBatch(values, present)), "label, kind -> scalar", quiet=True)


@pytest.mark.parametrize("again", [False, True])
def test_a_question_that_no_row_answers(registry: Registry, tmp_path: Path, again: bool) -> None:
    """Rows of words, and rows of labels, but none of both: every step would be taken of nothing."""
    model = small(registry)
    table = rows(model, 8)
    table.rows.present[:, 0] = torch.arange(8) < 3
    table.rows.present[:, 1] = torch.arange(8) == 5
    table = Table(TensorBatch(table.rows.values, table.rows.present), unpaired=True)
    data = read_again(table, model) if again else table
    if isinstance(data, Dataset):
        data.unpaired = True
    with pytest.raises(
        RequestError,
        match="roles: questions = 'words -> label', expected one that rows answer: none of 8 has label with words",
    ):
        mmcore.specialise(model, data, "words -> label", quiet=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    if not again:
        mmcore.specialise(model, data, "-> label", quiet=True, options=TrainOptions(**OPTIONS | {"steps": 4}))


def test_a_run_of_its_own(registry: Registry, tmp_path: Path) -> None:
    """It begins with the run's weights, and the run itself stays as it is; the new model's card says what it is for."""
    rng = np.random.default_rng(0)
    label = np.arange(200) % 3
    image = (label[:, None, None] * 100 + rng.integers(0, 50, (200, 4, 4))).astype(np.uint8)
    np.savez(tmp_path / "a.npz", image=image, label=label)
    tables: dict[str, Any] = {
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "data": {"source": "npz", "options": {"path": str(tmp_path / "a.npz")}},
        "modalities": {"image": {"channels": 1, "size": 4}, "label": {"classes": 3}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}, "schedule_options": {"steps": 20}},
        "training": {"steps": 8, "batch_size": 8},
        "sampling": {"n": 2, "steps": 2},
    }
    run = train(configured(tables, registry=registry), quiet=True)
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = specialise(run, "image -> label", out=tmp_path / "label", share=1e-9, registry=registry, quiet=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == kept
    assert "Trained last on one question alone: image -> label." in (out / "model" / "README.md").read_text()
    assert "Trained last" not in (run / "model" / "README.md").read_text()
    joint, label_model = Run.open(run, registry).model("cpu"), Run.open(out, registry).model("cpu")
    # One step, from there.
    for (name, p), q in zip(joint.named_parameters(), label_model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0.01, msg=name)
    assert Run.open(out, registry).setup.config.training.steps == 1
    # Its configuration says where it begins: trained by it again, it is the same model, and what was interrupted goes on.
    told = configured(files.read(out / "config.toml") | {"out": str(tmp_path / "again")}, registry=registry)
    again = train(told, quiet=True)
    of_label, of_again = digests(out), digests(again)
    assert {name for name in of_again if of_label[name] != of_again[name]} <= {
        "config.toml",
        "model/config.json",
        "report.html",
    }
    shutil.rmtree(out / "model")
    train(configured(files.read(out / "config.toml"), registry=registry), resume=True, quiet=True)
    assert digests(out) == of_label
    with pytest.raises(RequestError, match="is the run itself, expected another folder"):
        specialise(run, "image -> label", out=run, registry=registry)
    with pytest.raises(RequestError, match="expected names of what it can generate"):
        specialise(run, "image -> mask", out=tmp_path / "other", registry=registry)
    assert not (tmp_path / "other").exists()
    # Weights fit images of another mean too, and would mean something else.
    text = (run / "config.toml").read_text()
    changed = re.sub(r"\nmean = .*\n", "\nmean = 0.5\n", text, count=1)
    assert changed != text
    (run / "config.toml").write_text(changed)
    with pytest.raises(
        RequestError,
        match=r"config\.toml image has another mean since the model was trained; expected the configuration",
    ):
        specialise(run, "image -> label", out=tmp_path / "other", registry=registry, quiet=True)
    assert not (tmp_path / "other").exists()
    (run / "config.toml").write_text(text)
    shutil.rmtree(run / "model")
    with pytest.raises(RequestError, match="there is no model yet"):
        specialise(run, "image -> label", out=tmp_path / "other", registry=registry)
