"""Latents: what a pretrained autoencoder makes of pictures, learned, shown, kept on disk, and told apart from another's."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import mmcore
from mmcore import OptionError, Registry, RequestError
from mmcore.data import DataOptions, Dataset, EmbedOptions, open_data
from mmcore.data.opening import embed, measured
from mmcore.metrics.bound import evaluate
from mmcore.testing import conformance_suite
from mmcore_diffusers import LatentEmbedder, LatentModality

diffusers = pytest.importorskip("diffusers")

TINY: dict[str, Any] = {
    "in_channels": 1,
    "out_channels": 1,
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "num_encoder_blocks": [1, 1, 1],
    "num_decoder_blocks": [1, 1, 1],
    "latent_channels": 2,
}
KL: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "latent_channels": 3,
}
DC: dict[str, Any] = {
    "latent_channels": 4,
    "attention_head_dim": 4,
    "encoder_block_types": ["ResBlock", "EfficientViTBlock"],
    "decoder_block_types": ["ResBlock", "EfficientViTBlock"],
    "encoder_block_out_channels": [8, 16],
    "decoder_block_out_channels": [8, 16],
    "encoder_layers_per_block": [1, 1],
    "decoder_layers_per_block": [1, 1],
    "encoder_qkv_multiscales": [[], [5]],
    "decoder_qkv_multiscales": [[], [5]],
    "scaling_factor": 0.5,
}
CONFIGS = {"AutoencoderTiny": TINY, "AutoencoderKL": KL, "AutoencoderDC": DC}


def saved(at: Path, name: str, seed: int = 0, **changes: Any) -> Path:
    """A tiny random autoencoder of diffusers' own class, as diffusers saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(diffusers, name)(**CONFIGS[name] | changes).save_pretrained(at)
    return at


@pytest.fixture(scope="module")
def registry() -> Registry:
    return mmcore.discover()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("tiny"), "AutoencoderTiny")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("other"), "AutoencoderTiny", seed=1)


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(3)).integers(0, 256, (n, *shape), np.uint8)


def codes(name: str, net: Any, x: Tensor) -> Tensor:
    coded = net.encode(x)
    if name == "AutoencoderKL":
        return coded.latent_dist.mode()
    return coded.latents if name == "AutoencoderTiny" else coded.latent


@pytest.mark.parametrize("name", CONFIGS)
def test_a_picture_becomes_the_autoencoders_own_latent_and_is_shown_as_it_decodes(name: str, tmp_path: Path) -> None:
    m = LatentModality(saved(tmp_path, name), 16)
    net = getattr(diffusers, name).from_pretrained(tmp_path).eval()
    channels = net.config.in_channels
    images = pictures(3, 16, 16, channels)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        # One by one, as they are read: a batch is summed in another order on some processors.
        want = torch.cat([codes(name, net, one[None]) for one in x])
        back = net.decode(want).sample.clamp(-1, 1)
    got = m.read_many(list(images))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    told = m.measured(got)
    # Alone it is the same to the last bit, so that a resumed run finds its rows again.
    assert torch.equal(m.read(images[1]), got[1])
    shown = np.asarray(m.show(got[1])).reshape(16, 16, channels)
    np.testing.assert_allclose(shown, (back[1].permute(1, 2, 0).numpy() + 1) * 127.5, atol=0.51)
    # The codes have the scale that networks trained on this autoencoder expect.
    factor = net.config.scaling_factor
    torch.testing.assert_close(m.encoder()(got), want * factor, rtol=0, atol=1e-4)
    twin = LatentModality(tmp_path, 16, **told)
    code = twin.encoder()(got).transpose(0, 1).flatten(1)
    torch.testing.assert_close(code.mean(1), torch.zeros(len(code)), atol=1e-3, rtol=0)
    torch.testing.assert_close(code.std(1, correction=0), torch.ones(len(code)), atol=1e-3, rtol=0)
    assert twin.floors()["autoencoder_mse"] == (pytest.approx(float((back - x).square().mean()), rel=1e-3), 3)


NAMED = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Layers of attention, and what they were called in most files that are published."""


def test_an_autoencoder_of_the_first_years_is_read_as_diffusers_reads_it(tmp_path: Path) -> None:
    """As `stabilityai/sd-vae-ft-mse` is: attention under its old names, and a configuration that leaves out what is a default, the scaling factor too."""
    new, old = saved(tmp_path / "new", "AutoencoderKL"), tmp_path / "old"
    old.mkdir()
    tensors = load_file(new / "diffusion_pytorch_model.safetensors")
    for today, then in NAMED.items():
        tensors = {name.replace(f".{today}.", f".{then}."): x for name, x in tensors.items()}
    assert sum(".proj_attn." in name for name in tensors) == 4
    save_file(tensors, old / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    config = json.loads((new / "config.json").read_text())
    config = {key: config[key] for key in ("_class_name", *KL, "in_channels", "out_channels")}
    (old / "config.json").write_text(json.dumps(config))
    net: Any = diffusers.AutoencoderKL.from_pretrained(old).eval()
    m = LatentModality(old, 16, statistics="own")
    x = m.read_many(list(pictures(2, 16, 16, 3)))
    torch.testing.assert_close(x, LatentModality(new, 16).read_many(list(pictures(2, 16, 16, 3))), rtol=0, atol=0)
    assert net.config.scaling_factor == 0.18215
    torch.testing.assert_close(m.encoder()(x), x * net.config.scaling_factor, rtol=1e-5, atol=1e-6)
    # With statistics of each channel, as some later ones have them, the factor counts as well.
    told = {"latents_mean": [0.1, 0.2, 0.3], "latents_std": [1.0, 2.0, 4.0], "scaling_factor": 0.5}
    (old / "config.json").write_text(json.dumps(config | told))
    mean, std = (torch.tensor(told[key])[:, None, None] for key in ("latents_mean", "latents_std"))
    codes = LatentModality(old, 16, statistics="own").encoder()(x)
    torch.testing.assert_close(codes, (x - mean) * 0.5 / std, rtol=1e-5, atol=1e-6)


def test_measured_and_filled_in_it_is_a_picture(folder: Path) -> None:
    m = LatentModality(folder, 16)
    a, b = m.typical(3, 0), m.typical(3, 1)
    want = (m.autoencoder.decode(a) - m.autoencoder.decode(b)).square().mean((1, 2, 3))
    torch.testing.assert_close(m.metrics()["mse"](a, b), want)
    assert m.raw(a[0]).size == (16, 16)
    again = m.autoencoder.encode(m.picture.read(m.raw(a[0]))[None])[0]
    assert torch.equal(m.read(m.raw(a[0])), again)


def tuned(registry: Registry, folder: Path, **options: Any) -> tuple[mmcore.JointModel, list[dict[str, Any]]]:
    images = pictures(24, 16, 16)
    rows = [{"latent": image, "label": k % 2} for k, image in enumerate(images)]
    parts = [
        registry.modality("latent", autoencoder=str(folder), size=16, **options),
        registry.modality("label", classes=2),
    ]
    variables = measured(registry, parts, Dataset(rows, parts), 16)
    return mmcore.compose(variables, backbone="mlp", registry=registry), rows


def test_a_model_tells_that_its_bound_is_of_the_latent_and_keeps_the_digest(
    registry: Registry, folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = tuned(registry, folder)
    found = evaluate(model, rows, draws=2)
    assert "latent: the likelihood of an autoencoder's latent, not of the data themselves" in found.table()
    assert found.json()["of"] == {"latent": "an autoencoder's latent"}
    table = mmcore.data.Table.read(rows, model.variables)
    figures = mmcore.metrics.report(model, table, ["label->latent"], steps=2)
    error = figures["label->latent latent.autoencoder_mse"]
    assert (error.value, error.n) == (model.variable("latent").reconstruction[0], 16)
    answered = mmcore.sample(model, 2, given={"label": torch.tensor([0, 1])}, steps=2)["latent"]
    saved_at = mmcore.save(model, tmp_path / "model")
    told = json.loads((saved_at / "config.json").read_text())
    assert str(folder) not in json.dumps(told)
    with pytest.raises(RequestError, match=r"kept beside it, sha256 [0-9a-f]{64}, and none of .* is it"):
        mmcore.load(saved_at, beside=[other], registry=registry)
    again = mmcore.load(saved_at, beside=[folder], registry=registry)
    want = mmcore.sample(again, 2, given={"label": torch.tensor([0, 1])}, steps=2)["latent"]
    assert torch.equal(want, answered)
    assert again.variable("latent").show(want[0]).size == (16, 16)
    # The same weights under another configuration decode to other pictures.
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "diffusion_pytorch_model.safetensors").symlink_to(folder / "diffusion_pytorch_model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (twin / "config.json").write_text(json.dumps(config | {"act_fn": "silu"}))
    with pytest.raises(RequestError, match=r"latent: autoencoder = .*expected the autoencoder of digest"):
        mmcore.load(saved_at, beside=[twin], registry=registry)


def test_embedded_latents_are_made_once_and_known_again(
    registry: Registry, folder: Path, other: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    images = pictures(5, 16, 20)
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{k}.png")
    own = {"autoencoder": str(folder), "size": 16}
    one = EmbedOptions("latent", "image", "latent", own, str(tmp_path / "cache"), 2)
    options = DataOptions("folder", {"path": str(tmp_path)}, embed=(one,))
    assert [report.made for report in embed(registry, options, quiet=True)] == [5]
    assert [report.made for report in embed(registry, options, quiet=True)] == [0]
    m = registry.modality("latent", **own)
    batch = open_data(registry, options, [m]).take(range(5))
    want = m.read_many([image[:, 2:18] for image in images])  # type: ignore[attr-defined]
    assert torch.equal(batch.values["latent"], want)
    # The autoencoder's own error is measured on the pictures that the latents are of.
    twin = registry.modality("latent", **own)
    twin.read_many([image[:, 2:18] for image in images])  # type: ignore[attr-defined]
    open_data(registry, options, [reader := registry.modality("latent", **own)]).take(range(5))
    assert reader.measured(want)["reconstruction"] == twin.measured(want)["reconstruction"]
    stranger = registry.modality("latent", autoencoder=str(other), size=16)
    with pytest.raises(RequestError, match=r"0, latent: found a latent of another autoencoder .*mmcore embed"):
        open_data(registry, options, [stranger]).take([0])


def edited(folder: Path, at: Path, **changes: Any) -> Path:
    at.mkdir()
    for file in folder.iterdir():
        (at / file.name).write_bytes(file.read_bytes())
    config = json.loads((at / "config.json").read_text())
    (at / "config.json").write_text(json.dumps(config | changes))
    return at


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda folder, at: at / "none", r"found no folder .*none, expected a local folder of a model of diffusers"),
        (lambda folder, at: at, r"found no config.json in "),
        (lambda folder, at: folder.parent, r"found no config.json in .*; it may be one of its parts: "),
        (lambda folder, at: edited(folder, at / "x", _class_name="UNet2DModel"), "holds a UNet2DModel, expected Auto"),
        (lambda folder, at: edited(folder, at / "x", latent_channels=3), "is of another network: .* there, .* here"),
        (lambda folder, at: edited(folder, at / "x", act_fn="none"), "AutoencoderTiny .*"),
    ],
)
def test_what_is_no_autoencoder_is_told_in_one_line(
    broken: Callable[[Path, Path], Path], told: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=told) as error:
        LatentModality(broken(folder, tmp_path), 16).read(np.zeros((16, 16), np.uint8))
    assert "\n" not in str(error.value)


def test_pickles_sizes_and_numbers_that_cannot_be_are_told(folder: Path, tmp_path: Path) -> None:
    at = edited(folder, tmp_path / "x")
    (at / "diffusion_pytorch_model.safetensors").rename(at / "diffusion_pytorch_model.bin")
    with pytest.raises(RequestError, match=r"found no .*safetensors .*model.bin there may be a pickle, which is never"):
        LatentModality(at, 16)
    with pytest.raises(RequestError, match=r"size = 18 × 18 comes back as \d+ × \d+ from the AutoencoderTiny"):
        LatentModality(folder, 18)
    for options in ({"mean": [1, 2, 3]}, {"std": 0.0}, {"reconstruction": [1]}, {"statistics": "all"}):
        with pytest.raises(OptionError, match=next(iter(options))):
            LatentModality(folder, 16, **options)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="found shape"):
        LatentModality(folder, 16).read(np.zeros((15, 16), np.uint8))


def _kit() -> Any:
    import tempfile

    at = Path(tempfile.mkdtemp())
    few = {name: [4, 4] for name in ("encoder_block_out_channels", "decoder_block_out_channels")}
    few |= {name: [1, 1] for name in ("num_encoder_blocks", "num_decoder_blocks")}
    return conformance_suite(LatentModality(saved(at, "AutoencoderTiny", **few), 4))


test_kit = _kit()


def _embedder() -> Any:
    import tempfile

    at = saved(Path(tempfile.mkdtemp()), "AutoencoderTiny")
    return conformance_suite(functools.partial(LatentEmbedder, str(at), 8), kind="embedder", name="latent")


test_embedder_kit = _embedder()
