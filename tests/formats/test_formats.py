"""Folders that former versions wrote are read as they were meant."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mmcore
from mmcore import Registry, RequestError

HERE = Path(__file__).parent
ONE = HERE / "model-1"
"""Written by mmcore 0.1.0 as format 1: an image and a mask in blocks of their own, a mask that only a task predicts, gains and one weight."""


# The distributions' versions go on, those in the folder do not.
@pytest.mark.filterwarnings("ignore:load. .* was made with")
def test_a_model_folder_of_format_1_answers_as_it_did(registry: Registry, tmp_path: Path) -> None:
    model = mmcore.load(ONE, registry=registry)
    answer = load_file(HERE / "model-1-answer.safetensors")
    drawn = mmcore.sample(model, 4, steps=8, seed=1, sampler="ddim", eta=0.0)
    assert drawn.keys() == answer.keys() == {"image", "mask", "side"}
    torch.testing.assert_close(drawn["image"], answer["image"], rtol=1e-4, atol=1e-5)
    assert torch.equal(drawn["mask"], answer["mask"])
    assert torch.equal(drawn["side"], answer["side"])
    assert [task.weight for task in model.tasks] == [1.0, 0.5, 1.0]
    written = mmcore.save(model, tmp_path / "today")
    again = mmcore.load(written, registry=registry)
    saved = {
        name.replace("backbone.clock.", "backbone.timestep."): x
        for name, x in load_file(ONE / "model.safetensors").items()
    }
    assert "backbone.timestep.roles.weight" in saved
    assert saved.keys() == again.state_dict().keys()
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in saved.items())
    config = json.loads((written / "config.json").read_text())
    assert config["format"] == 4
    before = json.loads((ONE / "config.json").read_text())
    for key in ("modalities", "tasks", "layout", "space", "overlap", "trained_encoders"):
        assert config[key] == before[key]
    for key in ("schedule", "backbone"):
        assert {**config[key], "distribution": "mmcore"} == before[key]


def test_a_damaged_folder_of_format_1_is_refused_in_one_line(registry: Registry, tmp_path: Path) -> None:
    shutil.copytree(ONE, tmp_path / "m")
    config = json.loads((ONE / "config.json").read_text())
    for key, value in (("tasks", None), ("tasks", [{"name": "x"}]), ("backbone", "mlp"), ("schedule", None)):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(RequestError, match=r"config.json lacks or misstates") as caught:
            mmcore.load(tmp_path / "m", registry=registry)
        assert "\n" not in str(caught.value)
