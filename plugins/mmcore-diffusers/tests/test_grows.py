"""Models around networks of diffusers grow: old answers stay, what is new is read, and what is taken away again leaves the old model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, Registry, Rng
from mmcore.config import configured, files
from mmcore.runs.run import Run, train

from .tiny import AUTOENCODER, DIT, UNET

diffusers = pytest.importorskip("diffusers")

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusers-unet": ("UNet2DModel", UNET),
    "diffusers-dit": ("DiTTransformer2DModel", DIT | {"num_layers": 1}),
}
ENDS = {"in_channels": 2, "out_channels": 2, "sample_size": 4}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return mmcore.discover()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random autoencoder and networks of the real classes, with the noise that they would have been trained on."""
    at = tmp_path_factory.mktemp("parts")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        diffusers.AutoencoderTiny(**AUTOENCODER).save_pretrained(at / "autoencoder")
        for name, (kind, config) in NETWORKS.items():
            getattr(diffusers, kind)(**config, **ENDS).save_pretrained(at / name / "network")
            diffusers.DDPMScheduler(beta_schedule="scaled_linear").save_pretrained(at / name / "scheduler")
    return at


def trained(registry: Registry, folder: Path, name: str, kind: str, layout: str = "shared") -> JointModel:
    """Of an image's latent and a label, as if trained: no weight is where it began."""
    parts = [
        registry.modality("latent", autoencoder=str(folder / "autoencoder"), size=8, statistics="own"),
        registry.modality("label", classes=3),
    ]
    made: dict[str, Any] = {"config": NETWORKS[name][1]} if kind == "new" else {"folder": str(folder / name / "network")}  # fmt: skip
    options = {**made, "features": 4}
    model = mmcore.compose(parts, backbone=name, backbone_options=options, layout=layout, registry=registry)
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            p += 0.05 * Rng.for_rows(k, 1).normal(*p.shape)[0] if p.ndim else 0
    return model.eval()


def answers(model: JointModel, *absent: str) -> list[dict[str, Tensor]]:
    how: dict[str, Any] = {"steps": 3, "seed": 2, "absent": absent}
    given = {"label": torch.tensor([0, 1, 2])}
    return [mmcore.sample(model, 3, given=given, **how), mmcore.sample(model, 3, **how)]


def same(found: list[dict[str, Tensor]], told: list[dict[str, Tensor]]) -> None:
    for one, other in zip(found, told, strict=True):
        for name, x in other.items():
            torch.testing.assert_close(one[name], x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("kind", "layout"), [("new", "shared"), ("pretrained", "shared"), ("pretrained", "separate"), ("adapted", "shared")]
)
def test_old_answers_stay_and_the_new_modality_is_read(
    name: str, kind: str, layout: str, registry: Registry, folder: Path
) -> None:
    model = trained(registry, folder, name, kind, layout)
    # More channels than one, so that their order counts.
    more = registry.modality("latent", name="more", autoencoder=str(folder / "autoencoder"), size=8)
    adapters = {"rank": 2} if kind == "adapted" else None
    larger = mmcore.extend(model, [more], adapters=adapters, registry=registry)
    assert larger.grown is not None
    assert not larger.grown.unfit + larger.grown.left
    same(answers(larger, "more"), answers(model))
    if adapters is None:
        again = mmcore.without(larger, ["more"], registry=registry)
        assert again.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(again.state_dict()[key], x) for key, x in model.state_dict().items())
    rows = [{"label": k % 3, "latent": x, "more": x} for k, x in enumerate(more.typical(12, 0).numpy())]
    before = {key: x.clone() for key, x in larger.state_dict().items()}
    mmcore.fit(larger, rows, steps=3, batch_size=6, lr=1e-2, device="cpu", quiet=True)
    after = larger.state_dict()
    for key, new in (larger.grown.fresh or {}).items():
        assert not torch.equal(after[key][new], before[key][new]), f"{key} learned nothing of what is new"


def test_a_run_grows_by_its_configuration_and_needs_the_networks_folder_no_more(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    """What the configuration of the larger run keeps of the network is whole: no path, and nothing that a file cannot say."""
    x = (Rng(0, torch.arange(16)).uniform(8, 8) * 255).byte().numpy()
    np.savez(tmp_path / "rows.npz", image=x, label=np.arange(16) % 3, words=np.ones((16, 4), np.float32))
    network = tmp_path / "network"
    shutil.copytree(folder / "diffusers-unet", network)
    tables: dict[str, Any] = {
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "data": {"source": "npz", "options": {"path": str(tmp_path / "rows.npz")}},
        "modalities": {
            "image": {"plugin": "latent", "autoencoder": str(folder / "autoencoder"), "size": 8, "statistics": "own"},
            "label": {"classes": 3},
        },
        "model": {
            "backbone": "diffusers-unet",
            "backbone_options": {"folder": str(network / "network"), "features": 4},
        },
        "training": {"steps": 2, "batch_size": 4},
        "sampling": {"steps": 2, "n": 2},
    }
    train(configured(tables, registry=registry), quiet=True)
    shutil.rmtree(network)
    words = {"words": {"plugin": "clip", "width": 4, "unit_norm": False}}
    larger = {
        **tables,
        "out": str(tmp_path / "larger"),
        "modalities": tables["modalities"] | words,
        "model": {"grows_from": str(tmp_path / "run"), "adapters": {"rank": 2}},
    }
    file = tmp_path / "larger.toml"
    file.write_text(files.text(configured(larger, registry=registry).recorded()))
    train(configured(files.read(file), registry=registry), quiet=True)
    model = Run.open(tmp_path / "larger", registry).model("cpu")
    assert sorted(mmcore.sample(model, 2, given={"label": torch.tensor([0, 1])}, steps=2)) == ["image", "label", "words"]  # fmt: skip
    assert str(network) not in (tmp_path / "larger" / "config.toml").read_text()
