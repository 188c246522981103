"""Configurations: what is right resolves to a fixed point and composes the same model; what is wrong is told of, all of it, with its place."""

import copy
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import mmcore
from benchmarks.malformed import VALID, cases, chosen, in_process
from mmcore.config import configured, files, load
from mmcore.config.check import Constructor, described, fits
from mmcore.errors import ConfigError
from mmcore.process import schedule

SMALL: dict[str, Any] = {
    "out": "run",
    "data": {"source": "digits"},
    "modalities": {"image": {"channels": 1, "size": 8}, "label": {}},
    "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1, "features": 2}},
}


def changed(place: str, value: Any, tables: Mapping[str, Any] = SMALL) -> dict[str, Any]:
    new = copy.deepcopy(dict(tables))
    table = new
    *above, last = place.split(".")
    for part in above:
        table = table.setdefault(part, {})
    table[last] = value
    return new


def problems(tables: Mapping[str, Any], registry: mmcore.Registry) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        configured(tables, where="x.toml", registry=registry)
    return {problem.key: str(problem) for problem in refused.value.problems}


# ---- what is right ----


def test_the_resolved_configuration_is_a_fixed_point_also_through_toml(registry: mmcore.Registry) -> None:
    for tables in (SMALL, VALID):
        once = configured(tables, registry=registry).tables()
        assert configured(once, registry=registry).tables() == once
        assert configured(tomllib.loads(files.text(once)), registry=registry).tables() == once


def test_every_default_is_stated_but_what_data_say(registry: mmcore.Registry) -> None:
    tables = configured(SMALL, registry=registry).tables()
    assert tables["modalities"]["image"] == {"plugin": "image", "channels": 1, "size": 8, "levels": 256, "clip": False}
    assert tables["model"]["space"] == [2, 8, 8]
    assert tables["model"]["schedule_options"] == {"steps": 1000}
    assert tables["tasks"] == {name: {"target": name, "weight": 1.0} for name in ("image", "label")}
    assert tables["training"]["roles"]["joint"] == 0.3


def test_it_composes_what_python_composes(registry: mmcore.Registry) -> None:
    tables = changed("seed", 5, changed("model.schedule_options", {"gains": [1.0, 0.5]}))
    model = configured(changed("tasks.image", {"weight": 0.5}, tables), registry=registry).model()
    by_hand = mmcore.compose(
        [registry.modality("image", channels=1, size=8), registry.modality("label")],
        [mmcore.Task("image", "image", weight=0.5), mmcore.Task("label", "label")],
        gains=[1.0, 0.5],
        backbone="mlp",
        backbone_options=SMALL["model"]["backbone_options"],
        seed=5,
        registry=registry,
    )
    assert [(t.name, t.target, t.weight) for t in model.tasks] == [(t.name, t.target, t.weight) for t in by_hand.tasks]
    assert torch.equal(model.process.schedule.W, by_hand.process.schedule.W)
    ours, theirs = model.state_dict(), by_hand.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_schedule_of_other_steps(registry: mmcore.Registry) -> None:
    model = configured(changed("model.schedule_options", {"steps": 50}), registry=registry).model()
    torch.testing.assert_close(model.process.schedule.W, schedule.cosine(50, 2).W)


def test_tasks_are_added_changed_and_left_out(registry: mmcore.Registry) -> None:
    tables = changed("tasks", {"label": False, "again": {"target": "image", "weight": 2}})
    tables["tasks"]["ink"] = {"target": {"plugin": "mask", "size": 8}}
    setup = configured(tables, registry=registry)
    model = setup.model()
    assert [(t.name, t.weight) for t in model.tasks] == [("image", 1.0), ("again", 2), ("ink", 1.0)]
    assert [m.name for m in model.variables] == ["image", "label", "ink"]
    assert not model.heads.reads("label")
    assert setup.tables()["tasks"]["label"] is False
    assert configured(setup.tables(), registry=registry).tables() == setup.tables()


def test_a_predicted_target_is_saved_and_loaded_with_its_weights(registry: mmcore.Registry, tmp_path: Path) -> None:
    tables = changed("tasks", {"ink": {"target": {"plugin": "mask", "size": 8, "classes": 3}, "weight": 0.5}})
    model = configured(tables, registry=registry).model()
    mmcore.save(model, tmp_path / "model")
    again = mmcore.load(tmp_path / "model", registry=registry)
    assert [(t.name, t.weight) for t in again.tasks] == [(t.name, t.weight) for t in model.tasks]
    assert again.variables[-1].spec == model.variables[-1].spec
    for one, other in zip(
        mmcore.sample(model, 3, steps=3).items(), mmcore.sample(again, 3, steps=3).items(), strict=True
    ):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])


def test_a_task_written_as_a_modality_is_refused_with_the_mend(registry: mmcore.Registry) -> None:
    found = problems(changed("tasks", {"ink": {"plugin": "mask", "size": 8}}), registry)
    assert found == {
        "tasks.ink.plugin": 'tasks.ink.plugin = "mask": a task has none: what it predicts is its target, [tasks.ink.target] with this '
        "plugin and its options"
    }
    found = problems(changed("tasks", {"label": {"plugin": "mask"}}), registry)
    assert list(found) == ["tasks.label.plugin"]
    assert "[modalities.label] says which plugin" in found["tasks.label.plugin"]


def test_seeds_come_from_the_configurations_own_where_sections_have_none(registry: mmcore.Registry) -> None:
    config = configured(changed("seed", 7, changed("sampling.seed", 3)), registry=registry).config
    assert (config.training.seed, config.sampling.seed) == (7, 3)


def test_data_fill_in_their_statistics_but_not_over_what_is_said(registry: mmcore.Registry) -> None:
    setup = configured(changed("modalities.image.std", 0.5, changed("data.limit", 50)), registry=registry)
    rows = setup.rows()
    measured = setup.measured(rows)
    pixels = torch.stack([torch.as_tensor(rows.source[i]["image"]) for i in range(len(rows))]) * 2 - 1
    options = measured.tables()["modalities"]["image"]
    assert options["mean"] == pytest.approx(float(pixels.mean()), abs=1e-4)
    assert options["std"] == 0.5
    assert len(measured.tables()["modalities"]["label"]["frequencies"]) == 10
    assert measured.modalities[0].mean == options["mean"]  # type: ignore[attr-defined]
    assert configured(measured.tables(), registry=registry).tables() == measured.tables()


def test_paths_are_seen_from_anywhere(
    registry: mmcore.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setup = configured(changed("data", {"source": "npz", "options": {"path": "a/b.npz"}}), registry=registry)
    assert setup.config.data.options["path"] == str(tmp_path / "a" / "b.npz")


def test_a_saved_model_keeps_the_configuration(registry: mmcore.Registry, tmp_path: Path) -> None:
    setup = configured(SMALL, registry=registry)
    again = mmcore.load(mmcore.save(setup.model(), tmp_path / "model"), registry=registry)
    assert again.configuration == setup.recorded()


# ---- the command line's changes ----


def test_changes_go_before_the_file_in_their_order(tmp_path: Path, registry: mmcore.Registry) -> None:
    file = tmp_path / "a.toml"
    file.write_text(files.text(SMALL))
    pairs = [
        "training.steps=4",
        "training.steps = 5",
        "training.roles.joint=0.5",
        "out=runs/x=1",
        "model.space=[2, 8, 8]",
    ]
    config = load(file, pairs, registry=registry).config
    assert (config.training.steps, config.training.roles.joint, config.out) == (5, 0.5, "runs/x=1")
    assert list(config.model.space or ()) == [2, 8, 8]


@pytest.mark.parametrize(
    ("pair", "match"),
    [
        ("training.steps", "has not the form a.b=value"),
        ("=3", "has not the form"),
        ("out.name=3", "out is a value, expected a table"),
        ("training..steps=3", "has not the form"),
    ],
)
def test_changes_that_are_none(pair: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        files.change(SMALL, [pair])


def test_words_and_values() -> None:
    texts = ("3", "3.0", "true", "[1, 2]", "a b", '"3"', "1\nx = 2", "")
    assert [files.value_of(text) for text in texts] == [3, 3.0, True, [1, 2], "a b", "3", "1\nx = 2", ""]


# ---- what is wrong ----


def test_all_that_is_wrong_is_told_of_at_once(registry: mmcore.Registry) -> None:
    tables = copy.deepcopy(SMALL)
    tables |= {"sed": 1, "threads": -1}
    tables["data"] |= {"sorce": "digits", "options": {"part": 3}, "split": {"validaton": 0.1}}
    tables["data"]["columns"] = {"image": "image", "label": {"colum": "y"}}
    tables["data"]["filters"] = [{"column": "x", "keep": 3}]
    tables["modalities"] |= {"foo": {}, "type": {"plugin": "label"}}
    tables["modalities"]["image"] |= {"chanels": 1, "size": "8"}
    tables["tasks"] = {"image": {"weight": "heavy", "target": "imag"}, "sky": {"target": "blue"}}
    tables["model"] |= {"layout": "shard", "trained_encoders": ["labels"], "schedule_options": {"gains": [1.0]}}
    tables["model"] |= {"space": [2, 8, 8]}
    tables["model"]["backbone_options"] |= {"width": 7, "depht": 2, "space": 1}
    tables["training"] = {"steps": 0, "ema": float("nan"), "batch_size": 2.5, "roles": {"joint": 0.9, "absent": 3}}
    tables["sampling"] = {"sampler": "heum", "n": 0}
    found = problems(tables, registry)
    assert set(found) == {
        *("sed", "threads", "data.sorce", "data.options.part", "data.split.validaton", "data.columns.label.colum"),
        *("data.columns.label.column", "data.filters[0].keep", "modalities.foo", "modalities.type"),
        *("modalities.image.chanels", "modalities.image.size", "tasks.image.weight", "tasks.image.target"),
        *("tasks.sky.target", "model.layout", "model.trained_encoders", "model.schedule_options.gains"),
        *("model.backbone_options.width", "model.backbone_options.depht", "model.backbone_options.space"),
        *("training.steps", "training.ema", "training.batch_size", "training.roles.joint", "training.roles.absent"),
        *("sampling.sampler", "sampling.n"),
    }
    assert found["data.sorce"].endswith("did you mean 'source'?")
    assert found["modalities.image.chanels"].startswith(
        "modalities.image.chanels = 1: modality 'image' has no 'chanels', expected one of channels, size, "
    )
    assert found["modalities.image.size"] == 'modalities.image.size = "8": expected an integer or a list of integers'
    assert found["model.layout"].endswith("did you mean 'shared'?")
    assert found["training.steps"] == "training.steps = 0: expected a whole number of at least 1"


def test_a_key_in_the_wrong_section_is_sent_home(registry: mmcore.Registry) -> None:
    assert problems(changed("batch_size", 3), registry)["batch_size"].endswith("did you mean 'training.batch_size'?")


def test_what_does_not_fit_together_is_told_of_where_it_can_be_mended(registry: mmcore.Registry) -> None:
    assert problems(changed("model.space", [1, 8, 8]), registry)["model.space"].endswith(
        "expected at least 64 + 10 = 74 elements for the codes, it has 64; give it 2 channels or, for an approximate model, overlap=True"
    )
    split = {"source": "digits", "split": {"validation": 0.5, "test": 0.6}}
    assert problems(changed("data", split), registry).keys() == {"data.split.test"}
    assert problems(changed("tasks", {"image": False, "label": False}), registry).keys() == {"tasks"}


@pytest.mark.parametrize(
    ("place", "value"),
    [("data.source", ""), ("data.limit", 0), ("data.on_bad_row", "skp"), ("tasks.image", {"weight": -1.0})],
)
def test_values_beside_a_key_that_cannot_be_left_out(place: str, value: Any, registry: mmcore.Registry) -> None:
    (key,) = problems(changed(place, value), registry)
    assert key == (place if place.startswith("data") else "tasks.image.weight")


def test_names_in_a_file_are_never_paths_or_code(registry: mmcore.Registry) -> None:
    before = set(sys.modules)
    for plugin in ("antigravity:fly", "this", "../label", "mmcore_label.modality:LabelModality"):
        assert "modalities.label.plugin" in problems(changed("modalities.label.plugin", plugin), registry)
    assert not {"antigravity", "this"} & (set(sys.modules) - before)
    for name in ("../x", "a/b", ".", "", "keys"):
        assert problems(changed("modalities", {**SMALL["modalities"], name: {"plugin": "label"}}), registry)


def test_malformed_configurations_made_by_rule(tmp_path: Path) -> None:
    """All of ``benchmarks.malformed``, without a process for each: status 2, and a line with the place and the mend."""
    assert len({case.data for case in chosen(200)}) == 200
    faults = {}
    for number, case in enumerate(cases()):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = in_process(case, folder)
        if outcome.fault(case):
            faults[case.what] = (outcome.fault(case), outcome.text)
    assert not faults


# ---- the parts ----


def test_fits_and_described() -> None:
    table: list[tuple[Any, Any, bool]] = [
        (3, int, True),
        (True, int, False),
        (3.0, int, False),
        (2**63, int, False),
        (3, float, True),
        (float("nan"), float, False),
        (float("inf"), float, False),
        (0, bool, False),
        ("a", str, True),
        ("a", Path, True),
        (3, int | str, True),
        (None, int | None, True),
        ([1, 2], Sequence[int], True),
        ("12", Sequence[str], False),
        ([1, "2"], Sequence[int], False),
        ([0.9, 0.99], tuple[float, float], True),
        ([0.9], tuple[float, float], False),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": "1"}, dict[str, int], False),
        ("x", Literal["x", "y"], True),
        ("z", Literal["x", "y"], False),
        (1, torch.Tensor, False),
        (object, Any, True),
    ]
    assert [fits(value, annotation) for value, annotation, _ in table] == [want for *_, want in table]
    assert described(int | Sequence[int] | torch.Tensor | None) == "an integer or a list of integers"
    assert described(tuple[float, float]) == "a list of 2 finite numbers"
    assert described(Literal["x", "y"]) == 'one of "x", "y"'
    assert described(torch.Tensor) == "a Tensor, which no file can hold"


def test_a_plugin_without_annotations_takes_what_it_names() -> None:
    def factory(a, *, b=3, **more):  # type: ignore[no-untyped-def]
        return a, b, more

    signature = Constructor.of(factory)
    assert signature.open
    assert not signature.check({"a": object(), "c": 1}, ("x",), "it")
    assert [p.key for p in signature.check({"b": 1}, ("x",), "it")] == ["x.a"]
