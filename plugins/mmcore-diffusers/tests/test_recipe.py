"""The recipe of latents, by the commands of its page, on tiny files in the form of the real ones."""

import gzip
import json
import re
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mmcore
from mmcore.__main__ import main
from mmcore.rng import Rng
from mmcore_diffusers import small

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the page's commands find what they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "fashion-mnist").mkdir()
    rng = Rng.for_rows(0, 80)
    images = (rng.of("image").uniform(28, 28) * 255).byte().numpy()
    labels = (rng.of("label").uniform(1)[:, 0] * 10).byte().numpy()
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            data = gzip.compress(head + array.tobytes())
            (tmp_path / "fashion-mnist" / f"{part}-{name}-ubyte.gz").write_bytes(data)
    return tmp_path


def typed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = shlex.split(line)
    if program == "python":
        assert words[:2] == ["-m", "mmcore_diffusers.small"]
        small.main([*words[2:], "--steps", "2"])
        return
    if words[0] == "train":
        for setting in (
            "training.steps=2",
            "model.backbone_options={width = 16, depth = 1, features = 2}",
            "sampling.steps=2",
        ):
            words += ["--set", setting]
    if words[0] == "evaluate":
        words += ["--rows", "8"]
    monkeypatch.setattr(sys, "argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, line


def test_the_commands_of_the_page_work_and_answers_are_pictures(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "recipes" / "latent-image-label.md").read_text()
    lines = [line for block in re.findall(r"```shell\n(.*?)```", page, re.S) for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        typed(line, monkeypatch)
    told = capsys.readouterr().out
    assert "image: the likelihood of an autoencoder's latent, not of the data themselves" in told
    assert re.search(
        r"label->image image\.mse .*\n.*image\.latent_mse .*\n.*image\.autoencoder_mse  +0\.\d+ .*n = 64\)", told
    )
    # What a run keeps of the autoencoder: its statistics, its digest, its error.
    config = json.loads((home / "runs/latent-image-label/model/config.json").read_text())
    (image,) = (one for one in config["modalities"] if one["name"] == "image")
    assert image["options"].keys() >= {"mean", "std", "digest", "reconstruction"}
    # Filled in, an image is a picture of the size of the row's others.
    (home / "rows.csv").write_text("label\nbag\nboot\n")
    typed("mmcore predict runs/latent-image-label rows.csv -o filled", monkeypatch)
    written = sorted((home / "filled" / "image").glob("*.png"))
    assert len(written) == 2
    for file in written:
        with Image.open(file) as picture:
            assert picture.size == (28, 28)
    # Another autoencoder in its place is refused.
    small.main(shlex.split("idx --set path=fashion-mnist --size 28 --width 16 --steps 1 --seed 1 --out other"))
    (home / "autoencoder").rename(home / "kept")
    (home / "other").rename(home / "autoencoder")
    monkeypatch.setattr(sys, "argv", ["mmcore", "sample", "runs/latent-image-label"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.search(
        r"config.toml: modalities.image.autoencoder.*whose latents these are, not that of [0-9a-f]{12}…", error
    )


def test_a_small_autoencoder_learns_and_is_one_of_diffusers(tmp_path: Path) -> None:
    """Stripes, whose width and place are all there is to know."""
    rng = Rng.for_rows(0, 256)
    u = rng.of("stripe").uniform(2)
    across = torch.arange(8)[None, None, None, :].float()
    x = (0.8 * torch.sin(across * (0.4 + 0.8 * u[:, :1, None, None]) + 6.3 * u[:, 1:, None, None])).expand(-1, 1, 8, 8)
    net = small.train(x, latents=2, width=8, steps=250, batch_size=32)
    with torch.no_grad():
        error = float((net.decode(net.encode(x).latents).sample - x).square().mean() / x.var())
    assert error < 0.1
    net.save_pretrained(tmp_path)
    m = mmcore.discover().modality("latent", autoencoder=str(tmp_path), size=8)
    pixels = ((x[0, 0] + 1) * 127.5).round().byte().numpy()
    assert np.abs(np.asarray(m.show(m.read(pixels))).astype(int) - pixels).mean() < 25
    # The same seed gives the same bytes.
    again = (
        small.train(x, latents=2, width=8, steps=2, batch_size=32),
        small.train(x, latents=2, width=8, steps=2, batch_size=32),
    )
    assert all(
        torch.equal(a, b) for a, b in zip(again[0].state_dict().values(), again[1].state_dict().values(), strict=True)
    )
    assert load_file(tmp_path / "diffusion_pytorch_model.safetensors").keys() == net.state_dict().keys()


def test_faint_colours_are_learned_sooner_where_they_count_more() -> None:
    """Grey waves of variance 0.3, and of each picture one hue of variance 0.02."""
    u = Rng.for_rows(1, 256).of("hue").uniform(5)
    across = torch.arange(8)[None, None, None, :].float()
    wave = 0.8 * torch.sin(across * (0.4 + 0.8 * u[:, :1, None, None]) + 6.3 * u[:, 1:2, None, None])
    hue = 0.6 * (u[:, 2:] - u[:, 2:].mean(1, keepdim=True))[..., None, None]
    x = (wave + hue).expand(-1, 3, 8, 8)

    def left(colour: float) -> float:
        net = small.train(x, latents=4, width=8, steps=150, batch_size=32, colour=colour)
        with torch.no_grad():
            made = net.decode(net.encode(x).latents).sample
        return float((made - made.mean(1, keepdim=True) - hue).square().mean() / hue.square().mean())

    assert left(8.0) < 0.75 * left(0.0)


def test_training_begins_at_the_pictures_mean() -> None:
    """After one step, at a rate of 0.0001, bright red pictures are made of that colour; by the initial weights they are far from it."""
    x = torch.tensor([0.9, 0.3, 0.5])[None, :, None, None].expand(8, 3, 8, 8)

    def far(centred: bool) -> float:
        net = small.train(x, latents=2, width=8, steps=1, batch_size=4, centred=centred)
        with torch.no_grad():
            return float((net.decode(net.encode(x).latents).sample - x).square().mean().sqrt())

    assert far(centred=True) < 0.4 < 1 < far(centred=False)
