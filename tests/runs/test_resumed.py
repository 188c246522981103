"""A run that goes on is the run that was: what decides its result is compared, its data are known again, and what is free is free."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from mmcore import Registry, RequestError
from mmcore.config.resolve import configured
from mmcore.data import Dataset, Table
from mmcore.data.digest import digest
from mmcore.runs.run import train
from mmcore.store.checkpoint import folders, newest, write
from mmcore.training.resuming import FREE


def write_rows(path: Path, shift: int = 0, edited: int | None = None) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 4, 4), np.uint8)
    if edited is not None:
        image[edited, 0, 0] ^= 1
    label = np.arange(300) % 3
    other = rng.integers(0, 256, (300, 4, 4), np.uint8)
    np.savez(path, image=image, image2=other, label=(label + shift) % 3, label2=(label + 1) % 3)


def tables(folder: Path, **data: Any) -> dict[str, Any]:
    return {
        "out": str(folder / "run"),
        "device": "cpu",
        "data": {"source": "npz", "options": {"path": str(folder / "a.npz")}, **data},
        "modalities": {
            "image": {"channels": 1, "size": 4, "mean": 0.0, "std": 0.5},
            "label": {"classes": 3, "frequencies": [0.34, 0.33, 0.33]},
        },
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}, "schedule_options": {"steps": 20}},
        "training": {"steps": 6, "batch_size": 8, "save_steps": 3, "keep": 4},
        "sampling": {"n": 2, "steps": 2},
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    """A run that was cut off after three of six steps, and beside it one that was not."""
    folder = tmp_path_factory.mktemp("stopped")
    write_rows(folder / "a.npz")
    write_rows(folder / "b.npz", shift=1)
    train(configured(tables(folder), registry=registry), quiet=True)
    shutil.copytree(folder / "run", folder / "whole")
    for step, at in folders(folder / "run" / "checkpoints"):
        if step > 3:
            shutil.rmtree(at)
    shutil.rmtree(folder / "run" / "model")
    return folder


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "home")
    return tmp_path / "home"


def go_on(home: Path, registry: Registry, given: dict[str, Any], **how: Any) -> Path:
    return train(configured(given, registry=registry), quiet=True, resume=True, **how)


def same(home: Path, stopped: Path) -> bool:
    one, two = (at / "model" / "model.safetensors" for at in (home / "run", stopped / "whole"))
    return one.read_bytes() == two.read_bytes()


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "path": ({"options": {"path": "b.npz"}}, r"run.data.options.path: '.*a.npz' before, '.*b.npz' now"),
    "transforms": ({"transforms": [{"kind": "flip"}]}, r"run.data.transforms"),
    "columns": ({"columns": {"image": "image2"}}, r"run.data.columns.image"),
    "missing": ({"columns": {"label": {"column": "label", "missing": [0]}}}, r"run.data.columns.label"),
    "filters": ({"filters": [{"column": "label", "keep": [0, 1, 2]}]}, "run.data.filters"),
    "bad rows": ({"on_bad_row": "skip"}, "run.data.on_bad_row: 'stop' before, 'skip' now"),
    "split": ({"split": {"test": 0.1}}, "run.data.split.test"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_other_data_are_not_gone_on_with(
    name: str, home: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, text = CHANGED[name]
    given = tables(home, **changed)
    given["data"]["options"] = {"path": str(home / Path(given["data"]["options"]["path"]).name)}
    with pytest.raises(RequestError, match=f"resume: the configuration is not that of .*{text}.*--accept-changes"):
        go_on(home, registry, given)
    assert not (home / "run" / "model").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"memory": False},
        {"memory": False, "workers": 1, "prefetch": 1},
        {"bad_row_limit": 3, "compared": 7, "expect": {"label": 0.5}},
    ],
)
def test_what_changes_no_result_is_free(
    changed: dict[str, Any], stopped: Path, tmp_path: Path, registry: Registry
) -> None:
    # In the same place, as a path is part of the configuration.
    kept = tmp_path / "kept"
    shutil.copytree(stopped / "run", kept)
    try:
        go_on(stopped, registry, tables(stopped, **changed) | {"sampling": {"n": 3, "steps": 3}})
        assert same(stopped, stopped)
    finally:
        shutil.rmtree(stopped / "run")
        shutil.copytree(kept, stopped / "run")


def test_data_edited_in_place_are_noticed(stopped: Path, tmp_path: Path, registry: Registry, capfd: Any) -> None:
    kept, data = tmp_path / "kept", (stopped / "a.npz").read_bytes()
    shutil.copytree(stopped / "run", kept)
    try:
        write_rows(stopped / "a.npz", edited=0)
        with pytest.raises(RequestError, match="the rows' values are not what they were"):
            go_on(stopped, registry, tables(stopped))
        go_on(stopped, registry, tables(stopped), accept_changes=True)
        assert "resume: configuration: the rows' values are not what they were" in capfd.readouterr().err
    finally:
        (stopped / "a.npz").write_bytes(data)
        shutil.rmtree(stopped / "run")
        shutil.copytree(kept, stopped / "run")


@pytest.mark.parametrize("memory", [True, False])
def test_all_rows_are_compared_if_asked(memory: bool, registry: Registry, tmp_path: Path) -> None:
    """Each single edit of one bit changes the digest of all rows; of 256 of 300 it changes just if the row is one of them."""
    m = [registry.modality("image", channels=1, size=4, mean=0.0, std=0.5), registry.modality("label", classes=3)]

    def found(most: int, edited: int | None) -> str:
        write_rows(tmp_path / "x.npz", edited=edited)
        rows = Dataset(registry.source("npz", path=str(tmp_path / "x.npz")), m)
        return digest(Table.read(rows) if memory else rows, most)

    among = {k * 300 // 256 for k in range(256)}
    for edited in (0, 5, 6, 7, 150, 299):
        assert found(0, edited) != found(0, None)
        assert (found(256, edited) != found(256, None)) == (edited in among)
    assert found(256, None) == found(256, None)


def test_another_number_of_threads_is_told(stopped: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(stopped / "run", kept)
    program = (
        "import sys, json, torch\nfrom mmcore.config.resolve import configured\nfrom mmcore.runs.run import train\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "train(configured(json.loads(sys.argv[1])), quiet=True, resume=True)\n"
    )
    try:
        run = [sys.executable, "-c", program, json.dumps(tables(stopped)), "2"]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "resume: 1 threads before, 2 now: sums in another order" in done.stderr
    finally:
        shutil.rmtree(stopped / "run")
        shutil.copytree(kept, stopped / "run")


def test_a_checkpoint_of_format_2_goes_on_and_says_what_it_cannot_compare(
    stopped: Path, tmp_path: Path, registry: Registry, capfd: Any
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(stopped / "run", kept)
    try:
        root = stopped / "run" / "checkpoints"
        checkpoint = newest(root, lambda line: None)
        told = dict(checkpoint.files["state.json"])
        configuration = dict(told["configuration"])
        configuration["rows"] = configuration.pop("data")["rows"]
        del configuration["run"], told["threads"]
        told |= {"format": 2, "configuration": configuration}
        shutil.rmtree(root)
        write(root, checkpoint.step, {**checkpoint.files, "state.json": told}, 3)
        go_on(stopped, registry, tables(stopped))
        assert same(stopped, stopped)
        assert "resume: what was said of the data, and their values, cannot be compared" in capfd.readouterr().err
    finally:
        shutil.rmtree(stopped / "run")
        shutil.copytree(kept, stopped / "run")


def test_a_script_s_rows_are_known_again(tmp_path: Path, registry: Registry) -> None:
    def fit(first: int, **how: Any) -> None:
        m = [registry.modality("label", name=name, classes=4) for name in ("a", "b")]
        torch.manual_seed(0)
        model = mmcore.compose(m, backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
        rows = [{"a": first if k == 0 else k % 4, "b": k % 4} for k in range(20)]
        mmcore.fit(model, rows, out=tmp_path / "run", steps=3, batch_size=4, device="cpu", quiet=True, **how)

    fit(1)
    fit(1, resume=True)
    with pytest.raises(RequestError, match="the rows' values are not what they were"):
        fit(2, resume=True)


def test_what_is_free_is_an_option() -> None:
    from mmcore.data import DataOptions

    assert set(FREE) <= {field.name for field in DataOptions.__attrs_attrs__}


def test_a_plugin_of_the_same_name_installed_later_is_not_the_run_s(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcore.runs.run import Run
    from tests.installing import HEALTHY, install

    write_rows(tmp_path / "a.npz")
    train(configured(tables(tmp_path), registry=registry), quiet=True)
    site = tmp_path / "site"
    install(site, "later", {"modality.label": "later", "source.npz": "later"}, {"later": HEALTHY.format(name="label")})
    monkeypatch.syspath_prepend(site)
    both = mmcore.discover()
    with pytest.raises(RequestError, match="modality 'label' is offered by 2 distributions"):
        both.find("modality", "label")
    # The core's own names are its own.
    assert both.find("source", "npz").distribution == "mmcore-diffusion"
    opened = Run.open(tmp_path / "run", both)
    assert opened.setup.config.modalities["label"].plugin == "mmcore-label:label"
    answer = mmcore.sample(opened.model("cpu"), 3, steps=2)
    before = mmcore.sample(Run.open(tmp_path / "run", registry).model("cpu"), 3, steps=2)
    assert all(torch.equal(answer[name], before[name]) for name in answer)
