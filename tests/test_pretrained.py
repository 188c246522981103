"""Pretrained networks as encoders: their weights in the model's own, or beside it and known by digest."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mmcore
from mmcore import Encoder, Registry, RequestError, RoleMix
from mmcore.config.resolve import configured
from mmcore.modality import pretrained
from mmcore.modality.pretrained import Pretrained, WeightsFile
from mmcore.rng import Rng
from mmcore.testing.reference import Reference


def net() -> nn.Module:
    """One that would learn and forget, if it were let: with running statistics and dropout."""
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


class Featured(Reference):
    """Vectors whose code is that of a pretrained network."""

    code_draws = 32
    divisible = False  # type: ignore[assignment]

    def __init__(self, weights: str | Path | WeightsFile, *, keep: str = "inside") -> None:
        super().__init__(3)
        self.files = {"weights": WeightsFile.of(weights, keep=keep)}

    def encoder(self) -> Encoder:
        return FeaturedEncoder(self.files["weights"])


class FeaturedEncoder(Encoder):
    def __init__(self, file: WeightsFile) -> None:
        super().__init__()
        self.network = Pretrained(net, file)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    one = net()
    one(torch.randn(100, 3))
    path = tmp_path / "net.safetensors"
    save_file(one.state_dict(), path)
    return path


@pytest.fixture
def own() -> Registry:
    registry = mmcore.discover()
    registry.register("modality", "featured", Featured)
    return registry


def model_of(registry: Registry, **options: Any) -> mmcore.JointModel:
    parts = [registry.modality("featured", **options), registry.modality("label", classes=2)]
    return mmcore.compose(parts, backbone="mlp", registry=registry)


def expected(file: Path, x: Tensor) -> Tensor:
    one = net().eval()
    one.load_state_dict(load_file(file))
    with torch.no_grad():
        return one(x)


@pytest.mark.filterwarnings("ignore::mmcore.training.CodeScaleWarning")  # a random network's features are small
@pytest.mark.parametrize("keep", ["inside", "beside"])
def test_it_codes_as_the_network_does_and_never_changes(keep: str, file: Path, own: Registry) -> None:
    model, x = model_of(own, weights=str(file), keep=keep), torch.randn(5, 3)
    rows = [{"featured": row, "label": k % 2} for k, row in enumerate(torch.randn(40, 3))]
    mmcore.fit(model, rows, steps=4, roles=RoleMix(), device="cpu", quiet=True)
    assert torch.equal(model.train().encode({"featured": x, "label": torch.zeros(5).long()})[:, :3], expected(file, x))
    assert not any(p.requires_grad for p in model.encoders["featured"].parameters())
    assert any("encoders.featured" in name for name in model.state_dict()) == (keep == "inside")
    assert model.double().encode({"featured": x.double(), "label": torch.zeros(5).long()}).dtype == torch.float64


def test_kept_inside_the_folder_needs_no_file(file: Path, own: Registry, tmp_path: Path) -> None:
    model, x = model_of(own, weights=str(file)), torch.randn(5, 3)
    want, digest = expected(file, x), hashlib.sha256(file.read_bytes()).hexdigest()
    folder = mmcore.save(model, tmp_path / "model")
    file.unlink()
    told = (folder / "config.json").read_text()
    assert str(file) not in told
    assert "net.safetensors" not in told
    assert json.loads(told)["modalities"][0]["files"]["weights"]["sha256"] == digest
    again = mmcore.load(folder, registry=own)
    batch = {"featured": x, "label": torch.zeros(5).long()}
    assert torch.equal(again.encode(batch)[:, :3], want)
    # And once more, from what was loaded.
    twice = mmcore.load(mmcore.save(again, tmp_path / "twice"), registry=own)
    assert torch.equal(twice.encode(batch), model.eval().encode(batch))


def test_kept_beside_the_file_is_given_again_by_its_digest(
    file: Path, own: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = model_of(own, weights=file, keep="beside"), torch.randn(5, 3)
    folder = mmcore.save(model, tmp_path / "model")
    assert not any("featured" in name and "encoder" in name for name in load_file(folder / "model.safetensors"))
    want, batch = expected(file, x), {"featured": x, "label": torch.zeros(5).long()}
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "other-name.safetensors")
    with pytest.raises(
        RequestError, match=r"kept beside it, sha256 [0-9a-f]{64}, and it is not given; give it, load\(folder, beside="
    ):
        mmcore.load(folder, registry=own)
    for beside in ([moved], [moved.parent], str(moved)):
        assert torch.equal(mmcore.load(folder, registry=own, beside=beside).encode(batch)[:, :3], want)
    monkeypatch.setenv("MMCORE_BESIDE", f"{moved.parent}{os.pathsep}")
    assert torch.equal(mmcore.load(folder, registry=own).encode(batch)[:, :3], want)
    # One number changed is another file, though it is of the same length.
    tensors = load_file(moved)
    tensors["0.bias"][0] += 1
    save_file(tensors, moved)
    with pytest.raises(RequestError, match=r"and none of .*elsewhere is it"):
        mmcore.load(folder, registry=own)
    with pytest.raises(RequestError, match="nowhere, given beside the model, is not there"):
        mmcore.load(folder, registry=own, beside=[tmp_path / "nowhere"])
    with pytest.raises(RequestError, match="beside is int, expected paths"):
        mmcore.load(folder, registry=own, beside=3)  # type: ignore[arg-type]


def test_a_path_in_a_model_folder_is_never_followed(
    file: Path, own: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mmcore.save(model_of(own, weights=file), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    record = config["modalities"][0].pop("files")
    config["modalities"][0]["options"]["weights"] = str(file)
    (folder / "config.json").write_text(json.dumps(config))
    asked: list[Any] = []
    opened = pretrained.files.opened
    monkeypatch.setattr(pretrained.files, "opened", lambda *a, **o: asked.append(a) or opened(*a, **o))
    with pytest.raises(RequestError, match="names a path, which is never followed"):
        mmcore.load(folder, registry=own)
    assert not [a for a in asked if Path(a[0]) == file]
    for wrong in ({"sha256": "../x"}, {"bytes": "9"}, {"keep": "/etc"}, {"sha256": 3}):
        config["modalities"][0]["files"] = {"weights": record["weights"] | wrong}
        config["modalities"][0]["options"].pop("weights", None)
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(RequestError, match="of 'featured'"):
            mmcore.load(folder, registry=own)
    # A user's own path is followed again after all this.
    assert Featured(file).files["weights"].path == file


def test_wrong_files_are_one_line(file: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^weights: .*gone.* cannot be read: No such file"):
        Featured(tmp_path / "gone")
    with pytest.raises(RequestError, match="found int, expected the path"):
        Featured(3)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="keep = 'outside'"):
        Featured(file, keep="outside")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RequestError, match="it is a pipe"):
        Featured(pipe)
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors at all")
    with pytest.raises(RequestError, match="is no safetensors file"):
        Featured(text).encoder()
    other = tmp_path / "other.safetensors"
    save_file({"0.weight": torch.zeros(8, 4)}, other)
    with pytest.raises(RequestError, match=r"is of another network: 0.bias is none there, \(8,\) here and \d+ more"):
        Featured(other).encoder()
    changed = Featured(file)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(RequestError, match="has changed since"):
        changed.encoder()


def test_made_by_hand_the_file_is_compared(file: Path, own: Registry, tmp_path: Path) -> None:
    part = Featured(file)
    model = mmcore.compose([part], backbone="mlp")
    folder = mmcore.save(model, tmp_path / "model")
    x = {"reference": torch.randn(4, 3)}
    again = mmcore.load(folder, modalities={"reference": Featured(file)})
    assert torch.equal(again.encode(x), model.eval().encode(x))
    tensors = load_file(file)
    tensors["0.bias"][0] += 1
    save_file(tensors, file)
    with pytest.raises(RequestError, match=r"sha256 '[0-9a-f]{64}' there, '[0-9a-f]{64}' given"):
        mmcore.load(folder, modalities={"reference": Featured(file)})


def test_the_expected_code_is_that_of_draws(file: Path) -> None:
    m = Featured(file)
    encode, decoder = m.encoder(), m.decoder(4, mmcore.Space((2, 4)))
    params = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = m.expected_code(params, encode, decoder)
        rng = Rng(0, torch.zeros(5, dtype=torch.int64)).of("expected code")
        assert torch.allclose(
            found, torch.stack([encode(decoder.sample(params, rng.at(k))) for k in range(32)]).mean(0)
        )
        assert torch.allclose(m.expected_code(params[2:3], encode, decoder), found[2:3], atol=1e-6)
        many = encode(decoder.sample(params.repeat_interleave(20_000, 0), Rng.for_rows(1, 100_000))).unflatten(
            0, (5, -1)
        )
    # Of 15 numbers one is off by 4.5 standard errors with probability 1e-4.
    assert ((found - many.mean(1)).abs() < 4.5 * many.std(1) / 32**0.5).all()
    assert not torch.allclose(found, encode(decoder.point(params)), atol=0.05)


@pytest.mark.parametrize("keep", ["inside", "beside"])
def test_a_configuration_grows_from_a_model_of_the_same_file(
    keep: str, file: Path, own: Registry, tmp_path: Path
) -> None:
    """Which lies where the configuration says; a file of other weights is refused."""
    folder = mmcore.save(model_of(own, weights=str(file), keep=keep), tmp_path / "model")
    moved = file.rename(tmp_path / "moved.safetensors")
    (tmp_path / "rows.csv").write_text("label,words\n0,0\n1,1\n")
    tables: dict[str, Any] = {
        "data": {"source": "table", "options": {"path": str(tmp_path / "rows.csv")}},
        "modalities": {
            "featured": {"weights": str(moved), "keep": keep},
            "label": {"classes": 2},
            "words": {"plugin": "label", "classes": 2},
        },
        "model": {"grows_from": str(folder)},
    }
    grown = configured(tables, registry=own).model().grown
    assert grown is not None
    assert grown.modalities == ("featured", "label")
    weights = {name: x + 1 if x.is_floating_point() else x for name, x in load_file(moved).items()}
    save_file(weights, tmp_path / "other.safetensors")
    tables["modalities"]["featured"]["weights"] = str(tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match=r"featured has another weights|kept beside it, sha256"):
        configured(tables, registry=own)
