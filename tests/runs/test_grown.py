"""``mmcore train CONFIG --from MODEL``: a run that begins with another's weights, and what it may not change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import mmcore
from mmcore import Registry, RequestError
from mmcore.cli.program import app
from mmcore.config import files
from mmcore.config.resolve import configured
from mmcore.model.adapters import plain
from mmcore.runs.run import Run, train
from mmcore.runs.specialise import specialise

Tables = dict[str, Any]


def tables(folder: Path, out: str, **more: Any) -> Tables:
    """Images and labels; ``more`` are further modalities."""
    return {
        "out": str(folder / out),
        "device": "cpu",
        "data": {"source": "npz", "options": {"path": str(folder / "a.npz")}},
        "modalities": {"image": {"channels": 1, "size": 4}, "label": {"classes": 3}, **more},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}, "schedule_options": {"steps": 20}},
        "training": {"steps": 4, "batch_size": 8},
        "sampling": {"n": 2, "steps": 2},
    }


@pytest.fixture(scope="module")
def folder(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of three modalities, and a run that knows two of them."""
    folder = tmp_path_factory.mktemp("grown")
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    image = (label[:, None, None] * 100 + rng.integers(0, 50, (90, 4, 4))).astype(np.uint8)
    large = image.repeat(2, 1).repeat(2, 2)
    np.savez(folder / "a.npz", image=image, label=label, words=rng.normal(size=(90, 6)), large=large)
    train(configured(tables(folder, "old"), registry=registry), quiet=True)
    return folder


WORDS = {"words": {"plugin": "clip", "width": 6, "unit_norm": False}}


def larger(folder: Path, out: str = "new", **model: Any) -> Tables:
    """The next configuration: the same, and words."""
    found = tables(folder, out, **WORDS)
    return {**found, "model": {**found["model"], "grows_from": str(folder / "old"), **model}}


def test_the_configuration_says_only_what_is_new(registry: Registry, folder: Path) -> None:
    """What the data measured is the old model's, the answers are as they were, and the run's configuration says all."""
    setup = configured(larger(folder), registry=registry)
    model, old = setup.model(), Run.open(folder / "old", registry).model("cpu")
    assert setup.config.model.layout == [["image", "label"], ["words"]]
    assert setup.config.modalities["label"].options == old.variable("label").made.options  # type: ignore[union-attr]
    how: Any = {"steps": 4, "seed": 3, "registry": registry}
    told, found = mmcore.sample(old, 5, **how), mmcore.sample(model.eval(), 5, absent=["words"], **how)
    for name, x in told.items():
        torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-5)
    # The run's own configuration says all, and is one by which it would be trained again.
    assert Path(setup.recorded()["model"]["grows_from"]).is_absolute()
    again = configured(setup.recorded(), registry=registry)
    assert again.recorded() == setup.recorded()


def test_a_run_of_its_own_goes_on_and_is_trained_further(
    registry: Registry, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "larger.toml").write_text(files.text(tables(folder, "run", **WORDS)))
    before = {path: path.read_bytes() for path in (folder / "old").rglob("*") if path.is_file()}
    said = CliRunner().invoke(app, ["train", str(folder / "larger.toml"), "--from", str(folder / "old")])
    assert said.exit_code == 0, said.output
    assert "grown from:  image, label" in said.output
    assert "made new:    decoders.words (5)" in said.output
    assert {path: path.read_bytes() for path in (folder / "old").rglob("*") if path.is_file()} == before
    model = Run.open(folder / "run", registry).model("cpu")
    assert model.grown is not None
    assert model.grown.modalities == ("image", "label")
    shutil.copytree(folder / "run", folder / "kept")
    again = CliRunner().invoke(app, ["train", str(folder / "larger.toml"), "--from", str(folder / "old"), "--resume"])
    assert again.exit_code == 0, again.output
    weights = [(folder / run / "model" / "model.safetensors").read_bytes() for run in ("run", "kept")]
    assert weights[0] == weights[1]
    # A model that has grown is specialised from what it is now.
    out = specialise(folder / "kept", "image -> words", out=folder / "words", registry=registry, quiet=True)
    assert Run.open(out, registry).setup.config.model.grows_from == str((folder / "kept" / "model").resolve())
    told = json.loads((out / "model" / "config.json").read_text())
    assert told["grown"]["modalities"] == ["image", "label", "words"]
    assert not told["grown"]["part"] + told["grown"]["made"]


@pytest.mark.parametrize("schedule", ["paper", "paper-steps"])
def test_a_schedule_that_the_number_of_modalities_enters(registry: Registry, folder: Path, schedule: str) -> None:
    """The article's a_t has N + 1 below it: by its name alone old modalities would get other weights. Twice, as what has grown grows again."""
    first = configured(tables(folder, "x") | {"model": {**tables(folder, "x")["model"], "schedule": schedule, "schedule_options": {"steps": 20, "gains": [1.0, 2.0]}}}, registry=registry)  # fmt: skip
    old, more = first.model(), dict(WORDS)
    told = mmcore.sample(old.eval(), 3, steps=4, registry=registry)
    for turn in range(2):
        mmcore.save(old, folder / f"{schedule}-{turn}")
        given = tables(folder, "new", **more)
        given["model"] = {"grows_from": str(folder / f"{schedule}-{turn}")}
        setup = configured(given, registry=registry)
        model = setup.model()
        found = mmcore.sample(model.eval(), 3, steps=4, absent=list(more), registry=registry)
        for name, x in told.items():
            torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-5)
        # The new modality, of gain 1, is as loud as the old one of gain 1.
        W = model.process.schedule.W
        torch.testing.assert_close(W[:, -1], W[:, 0], rtol=1e-12, atol=0)
        assert configured(setup.recorded(), registry=registry).recorded() == setup.recorded()
        old, more = model, more | {"also": WORDS["words"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["model"].update(layout="shared"), r'''model.layout = "shared": expected \[\["image", "label"\], \["words"\]\], or old answers would change; leave it out, or --set 'model.layout=\[\['''),
        (lambda t: t["model"].update(space=[4, 4, 4]), r"model.space = \[4, 4, 4\]: expected \[3, 4, 4\], or old answers would change"),
        (lambda t: t["model"].update(backbone="transformer", backbone_options={}), "model.grows_from = .*: expected a model of which some weight fits"),
        (lambda t: t["model"].update(backbone_options={"width": 16, "depth": 1}), r"model.grows_from = .*: expected a model of which .*"),
        (lambda t: t["model"].update(backbone_options={"width": 8, "depth": 1, "rank": 4}), "blocks.0.own.weight"),
        (lambda t: t["model"].update(schedule="linear"), "expected a model of which old answers stay the same: the schedule 'linear' gives them other weights"),
        (lambda t: t["model"].update(schedule_options={"steps": 30}), "the schedule has 30 steps, not 20"),
        (lambda t: t["model"].update(reading="space"), "reading is 'space', not 'codes'"),
        (lambda t: t["model"].update(trained_encoders=["label"]), "the encoder of label is trained"),
        (lambda t: t["model"].update(grows_from="nowhere"), "model.grows_from = \"nowhere\": .*nowhere.config.json"),
        (lambda t: t["modalities"].pop("label"), "modalities.label: is in .* and left out here, which would change old answers; keep it, or take it away"),
        (lambda t: t.update(modalities={"words": WORDS["words"], **{k: v for k, v in t["modalities"].items() if k != "words"}}), "modalities: expected image, label first, as in .*; write their tables in this order"),
        (lambda t: t["modalities"]["image"].update(mean=0.5), "image has another mean"),
        (lambda t: t.update(tasks={"label": False}), "the task label is left out"),
    ],
)  # fmt: skip
def test_what_would_change_old_answers(
    registry: Registry, folder: Path, change: Callable[[Tables], Any], words: str
) -> None:
    found = larger(folder)
    found["modalities"] = {name: dict(one) for name, one in found["modalities"].items()}
    change(found)
    with pytest.raises(RequestError, match=words) as caught:
        configured(found, registry=registry).model()
    assert len(str(caught.value).splitlines()) == 1


def test_another_size_and_other_classes_are_told_of(registry: Registry, folder: Path) -> None:
    """Old questions are not asked of them, so nothing is refused; what fits goes over, and what does not is named."""
    found = larger(folder)
    found["modalities"] |= {"image": {"channels": 1, "size": 8}, "label": {"classes": 4}}
    found["data"]["columns"] = {"image": "large"}
    setup = configured(found, registry=registry)
    rows = setup.rows()
    setup = setup.measured(rows)
    grown = setup.model().grown
    assert grown is not None
    assert {"backbone.blocks.0.up.weight", "backbone.timestep.mix.2.weight"} <= {*grown.over}
    assert "decoders.label.head.out.weight" in grown.part
    assert any(line.startswith("backbone.read.weight (8, 32) there, (8,") for line in grown.unfit)
    assert len(setup.config.modalities["label"].options["frequencies"]) == 4


ADAPTERS = {"rank": 2, "modules": "all"}


def test_adapters_are_put_beside_an_old_model_and_are_merged_before_the_next(registry: Registry, folder: Path) -> None:
    """From a configuration: old weights of the network stay, and what is new is read."""
    given = larger(folder, "adapted", adapters=ADAPTERS)
    train(configured(given, registry=registry), quiet=True)
    old, new = (Run.open(folder / name, registry).model("cpu").state_dict() for name in ("old", "adapted"))
    new = {plain(name): x for name, x in new.items()}
    read, before = new["backbone.read.weight"], old["backbone.read.weight"]
    assert torch.equal(read[:, : before.shape[1]], before)
    assert read[:, before.shape[1] :].any()
    assert all(torch.equal(new[name], x) for name, x in old.items() if name.startswith("backbone.blocks"))
    # It is specialised with its adapters, and grows once they are in the weights.
    specialise(folder / "adapted", "image -> label", out=folder / "one", registry=registry, quiet=True)
    more = tables(folder, "more", **WORDS, also=WORDS["words"])
    more["data"]["columns"] = {"also": "words"}
    for own in ({}, {"adapters": ADAPTERS}, {"adapters": {**ADAPTERS, "rank": 3}}):
        wanted = {**more, "model": {**more["model"], "grows_from": str(folder / "adapted"), **own}}
        with pytest.raises(RequestError, match=r"model.adapters = .* mmcore merge .*adapted/model -o merged") as told:
            configured(wanted, registry=registry).model()
        assert len(str(told.value).splitlines()) == 1
    done = CliRunner().invoke(app, ["merge", str(folder / "adapted"), "-o", str(folder / "merged")])
    assert done.exit_code == 0, done.output
    wanted = {
        **more,
        "model": {**more["model"], "grows_from": str(folder / "merged"), "adapters": {**ADAPTERS, "rank": 3}},
    }
    assert configured(wanted, registry=registry).model().grown is not None
