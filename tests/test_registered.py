"""Parts that were registered in process, in a model folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import Registry
from mmcore.config.resolve import configured
from mmcore.runs.run import train
from tests.test_doors import MyNet, Sound, fit, refused, rows, same


def registry_with(**factories: Any) -> Registry:
    registry = mmcore.discover()
    for kind, (name, factory) in factories.items():
        registry.register(kind, name, factory)
    return registry


def network(*, space: object, modalities: int, steps: int, blocks: int, width: int = 8) -> MyNet:
    return MyNet(width)


def test_registered_parts_are_found_again_in_a_registry_that_has_them(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"modality": ("sound", Sound), "backbone": ("mine", network)}

    def model(registry: Registry) -> mmcore.JointModel:
        modalities = [registry.modality("label", classes=4), registry.modality("sound", width=5)]
        return mmcore.compose(
            modalities, space=(2, 4, 4), backbone="mine", backbone_options={"width": 6}, registry=registry
        )

    registry = registry_with(**parts)
    one = model(registry)
    fit(registry, tmp_path / "run", model=one, rows=rows(one), steps=3)
    fit(registry, tmp_path / "run", model=model(registry_with(**parts)), rows=rows(one), steps=3, resume=True)
    folder = tmp_path / "run/model"
    same(mmcore.load(folder, registry=registry_with(**parts)), one)
    refused(
        lambda: mmcore.load(folder),
        r"made with a modality 'sound' that was registered in process, .* registry.register\('modality', 'sound', …\), load\(folder, registry=registry\)$",
    )
    refused(
        lambda: mmcore.load(folder, registry=registry_with(modality=parts["modality"])),
        r"a backbone 'mine' that was registered in process",
    )
    refused(
        lambda: mmcore.load(folder, registry=registry_with(**parts), modalities={"sound": Sound(5)}),
        r"modalities\['sound'\] is given, but in .* it was made by \(registered\):sound; leave it out$",
    )


def test_options_that_no_file_can_hold(tmp_path):
    registry = registry_with(modality=("sound", lambda width, rate: Sound(width)))
    m = mmcore.compose(
        [registry.modality("sound", width=6, rate=object())],
        backbone="mlp",
        backbone_options={"width": 8},
        registry=registry,
    )
    refused(lambda: mmcore.save(m, tmp_path), "save: modalities of the model have an option that no file can hold")


def test_numbers_and_arrays_of_numpy_are_kept_as_a_file_has_them(tmp_path: Path) -> None:
    """As the mean of an array is, of single precision, and the names that ``numpy.unique`` finds."""
    registry = mmcore.discover()
    pixels = np.linspace(0, 1, 64, dtype=np.float32)
    image = registry.modality(
        "image", channels=np.int64(1), size=(np.int32(4), 4), mean=pixels.mean(), std=pixels.std()
    )
    label = registry.modality("label", classes=2, names=np.unique(["b", "a"]), frequencies=np.array([0.25, 0.75]))
    options = {"width": np.int64(8), "depth": np.int8(1)}
    tasks = [mmcore.Task("image", "image", weight=np.float32(0.5)), mmcore.Task("label", "label")]
    model = mmcore.compose([image, label], tasks, backbone="mlp", backbone_options=options, registry=registry)
    again = mmcore.load(mmcore.save(model, tmp_path / "model"), registry=registry)
    same(again, model)
    one, two = again.variable("image"), again.variable("label")
    assert (one.mean, one.std) == (image.mean, image.std) == (float(pixels.mean()), float(pixels.std()))  # type: ignore[attr-defined]
    assert two.names == ("a", "b")  # type: ignore[attr-defined]


def test_a_runs_folder_is_its_model_and_a_file_says_where_it_is(tmp_path: Path) -> None:
    registry = mmcore.discover()
    model = mmcore.compose([registry.modality("label", classes=2), registry.modality("scalar")], backbone="mlp")
    folder = mmcore.save(model, tmp_path / "run" / "model")
    same(mmcore.load(tmp_path / "run", registry=registry), model)
    refused(
        lambda: mmcore.load(folder / "model.safetensors"), r"is a file of a model, expected its folder: .*run.model$"
    )
    refused(lambda: mmcore.Reader.open(model), r"Reader.of\(model\)")  # type: ignore[arg-type]
    refused(lambda: mmcore.Reader.of("model"), r"reader: model = 'model', expected a JointModel$")  # type: ignore[arg-type]


def test_a_model_of_inference_mode_cannot_learn() -> None:
    registry = mmcore.discover()
    with torch.inference_mode():
        model = mmcore.compose([registry.modality("label", classes=2), registry.modality("scalar")], backbone="mlp")
    rows = [{"label": k % 2, "scalar": k / 2} for k in range(4)]
    refused(
        lambda: mmcore.fit(model, rows, steps=1, device="cpu", quiet=True),
        r"torch.inference_mode\(\), .* made outside of it$",
    )


def test_a_folder_may_begin_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    registry = mmcore.discover()
    model = mmcore.compose([registry.modality("label", classes=2), registry.modality("scalar")], backbone="mlp")
    assert mmcore.save(model, "~/model") == tmp_path / "model"
    same(mmcore.load("~/model", registry=registry), model)
    rows = [{"label": k % 2, "scalar": k / 2} for k in range(4)]
    mmcore.fit(model, rows, steps=1, batch_size=2, out="~/run", device="cpu", quiet=True)
    assert (tmp_path / "run" / "model").exists()
    filled = mmcore.predict("~/run", [{"label": 1}], steps=1, registry=registry).write("~/filled", quiet=True)
    assert filled.folder == tmp_path / "filled"


def test_a_run_of_a_configuration_lies_in_one_folder_where_out_begins_with_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration and samples beside its model: none in a folder that is called ``~``."""
    registry = mmcore.discover()
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (home / "rows.csv").write_text("label\na\nb\n")
    tables = {
        "out": "~/run",
        "data": {"source": "table", "options": {"path": "~/rows.csv"}},
        "modalities": {"label": {"classes": 2, "names": ["a", "b"]}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
        "training": {"steps": 1, "batch_size": 2},
    }
    assert train(configured(tables, registry=registry), quiet=True) == home / "run"
    assert list(here.iterdir()) == []
    assert {"config.toml", "model", "samples", "report.html", "run.json"} <= {
        one.name for one in (home / "run").iterdir()
    }


@pytest.mark.parametrize("door", ["save", "load", "source", "predict", "squeezenet"])
def test_the_home_of_a_user_whom_nobody_knows_is_no_failure_of_pythons(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry, path = mmcore.discover(), "~nobody-is-called-so/x"
    model = mmcore.compose([registry.modality("label", classes=2)], backbone="mlp", registry=registry)
    if door == "save":
        assert mmcore.save(model, path) == Path(path)
        return
    doors: dict[str, Callable[[], Any]] = {
        "load": lambda: mmcore.load(path, registry=registry),
        "source": lambda: registry.source("npz", path=path),
        "predict": lambda: mmcore.predict(model, path, registry=registry),
        "squeezenet": lambda: mmcore.metrics.SqueezeNet.load(path),
    }
    refused(doors[door], "nobody-is-called-so")
