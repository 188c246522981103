"""Networks of diffusers as backbones: widened, mapped, and at first what they were."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mmcore
from mmcore import Registry, RequestError, RoleMix, Schedule
from mmcore.config import configured
from mmcore.rng import Rng
from mmcore.runs.run import Run, train
from mmcore.sampling import Ddim
from mmcore.testing import conformance_suite
from mmcore_diffusers import Dit, Unet
from mmcore_diffusers.levels import log_snr

from .tiny import AUTOENCODER, DIT, UNET

diffusers = pytest.importorskip("diffusers")

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusers-unet": ("UNet2DModel", {**UNET, "in_channels": 2, "out_channels": 2, "sample_size": 4}),
    # As the published DiT it returns the noise and, in as many channels, its variance.
    "diffusers-dit": ("DiTTransformer2DModel", {**DIT, "in_channels": 2, "out_channels": 4, "sample_size": 4}),
}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear"},
    "v": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
    },
    "sample": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return mmcore.discover()


def autoencoder(at: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        diffusers.AutoencoderTiny(**AUTOENCODER).save_pretrained(at)
    return at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return autoencoder(tmp_path_factory.mktemp("autoencoder"))


def pretrained(at: Path, name: str, scheduler: str = "scaled") -> Any:
    """A tiny random network of the real class, saved as a part of a pipeline, its scheduler beside it."""
    kind, config = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = getattr(diffusers, kind)(**config).eval()
    net.save_pretrained(at / "network")
    diffusers.DDPMScheduler(**SCHEDULERS[scheduler]).save_pretrained(at / "scheduler")
    return net


def theirs(scheduler: str) -> Schedule:
    """Their own noise as a schedule of one modality: its timestep t is their t - 1."""
    share = diffusers.DDPMScheduler(**SCHEDULERS[scheduler]).alphas_cumprod.double()
    share = torch.cat([torch.ones(1, dtype=torch.float64), share])
    return Schedule.from_cumulative(share.log(), share.sqrt()[:, None])


def own_samples(net: Any, scheduler: str, noise: Tensor, labels: dict[str, Any]) -> Tensor:
    """What diffusers itself makes of this noise, by DDIM in ten steps."""
    ddim = diffusers.DDIMScheduler(**SCHEDULERS[scheduler], timestep_spacing="trailing", clip_sample=False)
    ddim.set_timesteps(10)
    x = noise
    with torch.no_grad():
        for t in ddim.timesteps:
            out = net(x, timestep=t.expand(len(x)), **labels).sample[:, :2]
            x = ddim.step(out, t, x).prev_sample
    return x


def labels_of(name: str, n: int) -> dict[str, Any]:
    """No class, as DiT is told of."""
    return {"class_labels": torch.full((n,), 3)} if name == "diffusers-dit" else {}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_the_first_years_is_read_as_diffusers_reads_it(
    name: str, registry: Registry, folder: Path, tmp_path: Path
) -> None:
    """The UNet's attention was called otherwise, and the DiT's class; its configuration left out what is a default."""
    net = pretrained(tmp_path, name)
    at = tmp_path / "network"
    config, weights = at / "config.json", at / "diffusion_pytorch_model.safetensors"
    told, tensors = json.loads(config.read_text()), load_file(weights)
    if name == "diffusers-dit":
        told |= {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"}
        del told["patch_size"]
    else:
        for today, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            tensors = {key.replace(f".{today}.", f".{then}."): x for key, x in tensors.items()}
        assert any(".proj_attn." in key for key in tensors)
    config.write_text(json.dumps(told))
    save_file(tensors, weights)
    latent = registry.modality("latent", autoencoder=str(folder), size=8, statistics="own")
    options = {"folder": str(at), "features": 4}
    model = mmcore.compose([latent], backbone=name, backbone_options=options, registry=registry)
    own = {key.replace(".base.", "."): x for key, x in model.backbone.state_dict().items()}
    assert all(torch.equal(own[f"net.{key}"], x) for key, x in net.state_dict().items())


# Stable diffusion's noise leaves a part of the code.
@pytest.mark.filterwarnings("ignore:schedule 'custom'. L0 is")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_pretrained_networks_own_samples_are_unchanged(
    name: str, scheduler: str, registry: Registry, folder: Path, tmp_path: Path
) -> None:
    net = pretrained(tmp_path, name, scheduler)
    latent = registry.modality("latent", autoencoder=str(folder), size=8, statistics="own")
    # Where the noise at T has drowned the code, a network that reads codes is shown nothing; theirs is shown noise.
    reading = "codes" if scheduler in ("scaled", "v") else "space"
    model = mmcore.compose(
        [latent],
        schedule=theirs(scheduler),
        backbone=name,
        backbone_options={"folder": str(tmp_path / "network")},
        reading=reading,
        registry=registry,
    )
    noise = Rng(0, torch.arange(3)).of("sample").of("prior").normal(2, 4, 4)
    want = own_samples(net, scheduler, noise, labels_of(name, 3))
    got = mmcore.sample(model, 3, sampler=Ddim(steps=range(1000, 0, -100), eta=0.0), seed=0)["latent"]
    assert want.abs().mean() > 0.1
    assert (want - noise).abs().mean() > 0.1
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * max(1.0, float(want.abs().max())))


@pytest.mark.parametrize("name", NETWORKS)
def test_at_first_it_predicts_what_it_did_whatever_is_told_beside(
    name: str, registry: Registry, folder: Path, tmp_path: Path
) -> None:
    """In a schedule of our own, by log-SNR; observed codes, roles and other modalities change nothing yet, and then do."""
    net = pretrained(tmp_path, name)
    parts = [
        registry.modality("latent", autoencoder=str(folder), size=8, statistics="own"),
        registry.modality("label", classes=5),
    ]
    options = {"folder": str(tmp_path / "network"), "features": 6}
    model = mmcore.compose(parts, backbone=name, backbone_options=options, registry=registry)
    backbone = model.backbone
    assert backbone.features == NETWORKS[name][1]["out_channels"] + 6
    rng = Rng(0, torch.arange(4))
    z, condition = rng.of("z").normal(*model.space.shape), rng.of("c").normal(2 * model.space.shape[0], 4, 4)
    t, roles = torch.tensor([[7], [100], [500], [900]]), torch.tensor([[0, 1], [0, 2], [0, 0], [0, 1]])
    got = backbone(z, t, roles, condition)[:, :2]
    level = model.process.level(t)
    share = level.W[:, 0].square() / (level.W[:, 0].square() + level.sigma[:, 0].square())
    table = torch.from_numpy(log_snr(SCHEDULERS["scaled"]))
    want = []
    for row, a in zip(z[:, :2], share, strict=True):
        # The timestep whose log-SNR is ours, found by bisection between its neighbours.
        ours = float((a / (1 - a)).log())
        k = min(max(int((table > ours).sum()) - 1, 0), len(table) - 2)
        time = k + float(((table[k] - ours) / (table[k] - table[k + 1])).clamp(0, 1))
        a = torch.tensor(max(min(ours, float(table[0])), float(table[-1])), dtype=torch.float64).sigmoid()
        with torch.no_grad():
            noise = net(row[None], timestep=torch.tensor([time]), **labels_of(name, 1)).sample[0, :2]
        want.append((row - (1 - a).sqrt() * noise) / a.sqrt())
    torch.testing.assert_close(got, torch.stack(want).float(), rtol=1e-4, atol=1e-4)
    # The head begins from it.
    decoder, read = model.heads.decoder("latent"), backbone(z, t, roles, condition)
    torch.testing.assert_close(decoder.point(decoder(read, t[:, 0])), got, rtol=0, atol=1e-5)
    with torch.no_grad():
        for p in backbone.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    moved = backbone(z, t, roles, condition)
    assert not torch.allclose(backbone(z, t, roles, 0 * condition), moved)
    assert not torch.allclose(backbone(z, t, 2 - roles, condition)[:, 4:], moved[:, 4:])


def tuned(registry: Registry, folder: Path, at: Path, name: str = "diffusers-unet") -> mmcore.JointModel:
    parts = [
        registry.modality("latent", autoencoder=str(folder), size=8, statistics="own"),
        registry.modality("label", classes=2),
    ]
    options = {"folder": str(at / "network"), "features": 4}
    return mmcore.compose(parts, backbone=name, backbone_options=options, registry=registry)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns_and_a_model_folder_needs_the_networks_folder_no_more(
    name: str, registry: Registry, folder: Path, tmp_path: Path
) -> None:
    pretrained(tmp_path, name)
    model = tuned(registry, folder, tmp_path, name)
    images = (Rng(0, torch.arange(16)).uniform(8, 8) * 255).byte().numpy()
    rows = [{"latent": image, "label": k % 2} for k, image in enumerate(images)]
    before = {key: x.clone() for key, x in model.backbone.state_dict().items()}
    mmcore.fit(model, rows, steps=3, batch_size=8, roles=RoleMix(), device="cpu", quiet=True)
    unmoved = [key for key, x in model.backbone.state_dict().items() if torch.equal(x, before[key])]
    # The table of classes is told one class alone, and adaptive layer norm starts at zero in neither.
    assert not [key for key in unmoved if x_learns(model.backbone, key)]
    at = mmcore.save(model, tmp_path / "model")
    told = (at / "config.json").read_text()
    assert str(tmp_path) not in told
    for file in (tmp_path / "network").iterdir():
        file.unlink()
    again = mmcore.load(at, beside=[folder], registry=registry)
    given = {"label": torch.tensor([0, 1])}
    want, got = (mmcore.sample(one, 2, given=given, steps=3)["latent"] for one in (model, again))
    assert torch.equal(got, want)
    twice = mmcore.load(mmcore.save(again, tmp_path / "twice"), beside=[folder], registry=registry)
    assert torch.equal(mmcore.sample(twice, 2, given=given, steps=3)["latent"], want)
    # A folder that names a path is a stranger's.
    config = json.loads(told)
    config["backbone"]["options"] = {"folder": str(tmp_path / "network")}
    (at / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"names a path, which is never followed|found no config.json"):
        mmcore.load(at, beside=[folder], registry=registry)


def x_learns(module: nn.Module, key: str) -> bool:
    return dict(module.named_parameters())[key].requires_grad if key in dict(module.named_parameters()) else False


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_leave_every_byte_of_the_pretrained_network(
    name: str, registry: Registry, folder: Path, tmp_path: Path
) -> None:
    pretrained(tmp_path, name)
    saved = load_file(tmp_path / "network" / "diffusion_pytorch_model.safetensors")
    parts = [
        registry.modality("latent", autoencoder=str(folder), size=8, statistics="own"),
        registry.modality("label", classes=2),
    ]
    options = {"folder": str(tmp_path / "network"), "features": 4}
    model = mmcore.compose(parts, backbone=name, backbone_options=options, adapters={"rank": 2}, registry=registry)
    before = {key: x.clone() for key, x in model.backbone.state_dict().items()}
    images = (Rng(0, torch.arange(16)).uniform(8, 8) * 255).byte().numpy()
    rows = [{"latent": image, "label": k % 2} for k, image in enumerate(images)]
    mmcore.fit(model, rows, steps=4, batch_size=8, lr=1e-2, roles=RoleMix(), device="cpu", quiet=True)
    after, seen = model.backbone.state_dict(), set()
    for key, x in after.items():
        theirs = key.removeprefix("net.").replace(".base_layer", "").replace(".base.", ".")
        if key.startswith("net.") and ".lora_" not in key and ".more." not in key:
            assert x.numpy().tobytes() == saved[theirs].numpy().tobytes()
            seen.add(theirs)
        elif "lora_B" in key or key.endswith("more.weight"):
            assert not torch.equal(x, before[key]), key
    assert seen == saved.keys()
    assert {key.split(".lora_")[0].split(".")[-1] for key in after if ".lora_" in key} <= {"to_q", "to_k", "to_v", "0"}
    again = mmcore.load(mmcore.save(model, tmp_path / "model"), beside=[folder], registry=registry)
    given = {"label": torch.tensor([0, 1])}
    want = mmcore.sample(model, 2, given=given, steps=3)["latent"]
    assert torch.equal(mmcore.sample(again, 2, given=given, steps=3)["latent"], want)


def test_a_run_of_a_configuration_goes_on_and_is_opened_again(registry: Registry, folder: Path, tmp_path: Path) -> None:
    pretrained(tmp_path, "diffusers-unet")
    images = (Rng(0, torch.arange(16)).uniform(8, 8) * 255).byte().numpy()
    np.savez(tmp_path / "rows.npz", image=images, label=np.arange(16) % 2)
    tables = {
        "out": str(tmp_path / "run"),
        "device": "cpu",
        "data": {"source": "npz", "options": {"path": str(tmp_path / "rows.npz")}},
        "modalities": {
            "image": {"plugin": "latent", "autoencoder": str(folder), "size": 8, "statistics": "own"},
            "label": {"classes": 2},
        },
        "model": {
            "backbone": "diffusers-unet",
            "backbone_options": {"folder": str(tmp_path / "network"), "features": 4},
            "adapters": {"rank": 2},
        },
        "training": {"steps": 2, "batch_size": 4, "activation_checkpointing": True},
        "sampling": {"steps": 2, "n": 2},
    }
    train(configured(tables, registry=registry), quiet=True)
    longer = {**tables, "training": {**tables["training"], "steps": 3}}  # type: ignore[dict-item]
    train(configured(longer, registry=registry), resume=True, accept_changes=True, quiet=True)
    model = Run.open(tmp_path / "run", registry).model("cpu")
    assert mmcore.sample(model, 2, given={"label": torch.tensor([0, 1])}, steps=2)["image"].isfinite().all()
    assert model.variable("image").reconstruction is not None


def test_what_does_not_fit_is_told_in_one_line(registry: Registry, folder: Path, tmp_path: Path) -> None:
    pretrained(tmp_path, "diffusers-unet")
    network = str(tmp_path / "network")

    def refused(
        told: str, *, first: str = "latent", name: str = "diffusers-unet", size: int = 8, **options: Any
    ) -> None:
        parts = [
            registry.modality("latent", autoencoder=str(folder), size=size, statistics="own"),
            registry.modality("label", classes=3),
        ]
        parts = parts if first == "latent" else parts[::-1]
        with pytest.raises(RequestError, match=told) as error:
            mmcore.compose(parts, backbone=name, backbone_options=options, registry=registry)
        assert "\n" not in str(error.value)

    refused("found no folder .*none", folder=str(tmp_path / "none"))
    refused("found no config.json in .*; it may be one of its parts: network", folder=str(tmp_path))
    refused("holds a UNet2DModel, expected DiTTransformer2DModel", name="diffusers-dit", folder=network)
    refused("the first modality, 'label', has codes of", first="label", folder=network)
    refused("config = ", folder=network, config={"layers_per_block": 2})
    refused(
        "a UNet2DConditionModel is no network of .sample, timestep.: it wants encoder_hidden",
        model="UNet2DConditionModel",
    )
    refused("has no model 'Nothing'", model="Nothing")
    refused("a AutoencoderTiny is no network of", model="AutoencoderTiny")
    refused("UNet2DModel cannot be made of its configuration", config={"block_out_channels": [3]})
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    told = json.loads(scheduler.read_text())
    scheduler.write_text(json.dumps(told | {"prediction_type": "flow"}))
    refused("prediction_type = 'flow', expected epsilon, sample, v_prediction", folder=network)
    scheduler.write_text(json.dumps(told | {"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    refused("is a FlowMatchEulerDiscreteScheduler, expected one of noise by betas", folder=network)
    scheduler.unlink()
    refused("found no scheduler_config.json in .*; give its folder, or scheduler =", folder=network)
    (tmp_path / "network" / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "network" / "config.json").read_text()) | {"block_out_channels": [8, 16]})
    )
    refused("is of another network: .* there, .* here", folder=network, scheduler={"beta_schedule": "linear"})


test_unet = conformance_suite(functools.partial(Unet, config=UNET, features=8), kind="backbone", name="diffusers-unet")
test_dit = conformance_suite(functools.partial(Dit, config=DIT, features=8), kind="backbone", name="diffusers-dit")
