"""Every constructor is called once: none for a configuration that is known to be wrong, one for each part of a right one."""

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

import mmcore
from mmcore.config import configured
from mmcore.errors import ConfigError
from mmcore.model.backbones.transformer import Transformer
from mmcore.runs.run import train
from tests.config.counted import counting
from tests.config.test_config import SMALL, changed

COUNTED: dict[str, Any] = {
    "out": "run",
    "device": "cpu",
    "data": {"source": "counted"},
    "modalities": {"first": {"plugin": "counted"}, "second": {"plugin": "counted", "classes": 3}},
    "model": {
        "backbone": "counted",
        "backbone_options": {"width": 6},
        "schedule": "counted",
        "schedule_options": {"steps": 20},
    },
    "training": {"steps": 2, "batch_size": 4},
    "sampling": {"n": 2, "steps": 2},
}
Installed = tuple[mmcore.Registry, "Counter[str]"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    monkeypatch.chdir(tmp_path)
    yield counting(tmp_path / "site", monkeypatch)
    sys.modules.pop("counting_plugin", None)


def equal(one: mmcore.JointModel, other: mmcore.JointModel) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("steps", [20, 1000])
def test_a_right_configuration_makes_each_part_once(installed: Installed, steps: int) -> None:
    registry, made = installed
    setup = configured(changed("model.schedule_options.steps", steps, COUNTED), registry=registry)
    once = {"modality": 2, "encoder": 2, "decoder": 2, "backbone": 1, "schedule": 1}
    assert made == once
    first = setup.model()
    assert made == once
    second = setup.model()
    assert made["backbone"] == 2
    assert first.backbone is not second.backbone
    assert equal(first, second)


def test_training_makes_the_backbone_once_and_modalities_again_only_by_what_was_measured(installed: Installed) -> None:
    registry, made = installed
    train(configured(COUNTED, registry=registry), quiet=True)
    assert (made["backbone"], made["schedule"], made["modality"], made["source"]) == (1, 1, 4, 1)
    made.clear()
    stated = changed("out", "stated", COUNTED)
    stated["modalities"] = {
        "first": {"plugin": "counted", "frequencies": [0.25] * 4},
        "second": {"plugin": "counted", "classes": 3, "frequencies": [0.3, 0.3, 0.4]},
    }
    train(configured(stated, registry=registry), quiet=True)
    assert made == {"modality": 2, "encoder": 2, "decoder": 2, "backbone": 1, "schedule": 1, "source": 1}


def test_a_backbone_that_is_kept_gives_the_bits_of_one_made_anew(registry: mmcore.Registry) -> None:
    tables = changed("model.trained_encoders", ["label"], changed("seed", 3))
    setup = configured(tables, registry=registry)
    rows = setup.rows()
    # With the statistics measured the model is composed again, around the backbone that was made to check.
    kept = setup.measured(rows).model()
    anew = configured(tables, registry=registry)
    anew.model()
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    again = anew.measured(rows).model()
    assert torch.equal(torch.get_rng_state(), before)
    assert kept.backbone is not again.backbone
    assert equal(kept, again)
    m = {v.name: v for v in setup.measured(rows).modalities}
    by_hand = mmcore.compose(
        [m["image"], m["label"]],
        backbone="mlp",
        backbone_options=SMALL["model"]["backbone_options"],
        trained_encoders=["label"],
        seed=3,
        registry=registry,
    )
    assert equal(kept, by_hand)


def test_a_changed_setup_does_not_get_the_model_it_was_checked_by(registry: mmcore.Registry) -> None:
    setup = configured(SMALL, registry=registry)
    model = setup.config.model
    wider = attrs.evolve(model, backbone_options={**model.backbone_options, "width": 12})
    other = attrs.evolve(setup, config=attrs.evolve(setup.config, model=wider)).model()
    assert other.backbone.read.out_features == 12  # type: ignore[union-attr]
    reseeded = configured(SMALL, registry=registry)
    reseeded = attrs.evolve(reseeded, config=attrs.evolve(reseeded.config, seed=9))
    assert not equal(reseeded.model(), configured(SMALL, registry=registry).model())


WRONG: dict[str, tuple[str, Any, str]] = {
    "an unknown option": ("model.backbone_options.widht", 3, "model.backbone_options.widht"),
    "a wrong type": ("model.backbone_options.width", "wide", "model.backbone_options.width"),
    "a wrong number elsewhere": ("training.steps", 0, "training.steps"),
    "a wrong modality": ("modalities.first.classes", 1, "modalities.first.classes"),
    "a space with no room": ("model.space", [1, 2], "model.space"),
    "a wrong gain": ("model.schedule_options.gains", [1.0], "model.schedule_options.gains"),
    "a question that has no answer": ("sampling.conditioning", "rejection", "sampling.conditioning"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_known_to_be_wrong_builds_no_backbone(installed: Installed, what: str) -> None:
    registry, made = installed
    place, value, key = WRONG[what]
    with pytest.raises(ConfigError) as refused:
        configured(changed(place, value, COUNTED), registry=registry)
    assert [p.key for p in refused.value.problems] == [key]
    assert made["backbone"] == 0
    assert made["modality"] <= 2


def test_a_plugin_that_does_not_say_which_option_is_asked_once_and_its_words_are_told(installed: Installed) -> None:
    registry, made = installed
    with pytest.raises(ConfigError) as refused:
        configured(changed("model.backbone_options.width", 9, COUNTED), registry=registry)
    (problem,) = refused.value.problems
    assert str(problem) == (
        "model.backbone_options: a width of 9 is too much; expected other values of its options width, depth"
    )
    assert made["backbone"] == 1


@pytest.mark.parametrize(
    ("options", "keys", "count"),
    [
        ({"width": 7}, ["width"], 0),
        ({"width": 16, "heads": 3}, ["width"], 0),
        ({"heads": 5}, ["heads"], 0),
        ({"patch": 3, "depth": 0}, ["depth", "patch"], 0),
        ({"width": 16, "depth": 1, "heads": 2}, [], 1),
    ],
)
def test_the_transformer_is_built_for_right_options_only(
    options: dict[str, int],
    keys: list[str],
    count: int,
    registry: mmcore.Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    before = Transformer.__init__

    @functools.wraps(before)
    def counted(self: Transformer, **options: Any) -> None:
        built.append(options)
        before(self, **options)

    monkeypatch.setattr(Transformer, "__init__", counted)
    tables = changed("model", {"backbone": "transformer", "backbone_options": options})
    if keys:
        with pytest.raises(ConfigError) as refused:
            configured(tables, registry=registry)
        assert [p.key for p in refused.value.problems] == [f"model.backbone_options.{key}" for key in keys]
    else:
        configured(tables, registry=registry).model()
    assert len(built) == count


def test_warnings_of_composing_come_with_the_model(registry: mmcore.Registry) -> None:
    tables = changed("model.space", [1, 8, 8], changed("model.overlap", True))
    setup = configured(tables, registry=registry)
    with pytest.warns(UserWarning, match="they overlap"):
        setup.model()
