"""LoRA by configuration: the base stays as it is to the byte, what is learned is kept, merged, and refused for another base."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mmcore
from mmcore import JointModel, OptionError, Registry, RequestError, RoleMix
from mmcore.cli.program import main
from mmcore.model.adapters import base_digest, is_adapter, merge
from mmcore.model.backbones.base import maker
from mmcore.store.adapters import load_adapters, save_adapters
from mmcore.testing.reference import Reference

SMALL = {"width": 8, "depth": 2, "features": 4, "heads": 2}


def composed(registry: Registry, seed: int = 0, **options: Any) -> JointModel:
    parts = [registry.modality("image", channels=1, size=4), registry.modality("label", classes=3)]
    model = mmcore.compose(
        parts, backbone="transformer", backbone_options=SMALL, seed=seed, registry=registry, **options
    )
    # As of a base that was trained: gates that begin at zero let nothing through.
    generator = torch.Generator().manual_seed(seed)
    for name, x in model.backbone.named_parameters():
        if not is_adapter(name):
            x.data += 0.2 * torch.randn(x.shape, generator=generator)
    return model


def trained(registry: Registry, **options: Any) -> tuple[JointModel, dict[str, Tensor]]:
    """A model that learned for some steps, and its weights before."""
    model = composed(registry, adapters={"rank": 2, **options})
    before = {name: x.clone() for name, x in model.state_dict().items()}
    image, label = model.modalities
    rows = [
        {"image": x, "label": int(y)} for x, y in zip((image.typical(24, 0) + 1) / 2, label.typical(24, 0), strict=True)
    ]
    mmcore.fit(model, rows, steps=6, batch_size=8, lr=1e-2, roles=RoleMix(), device="cpu", quiet=True)
    return model, before


def answers(model: JointModel) -> dict[str, Tensor]:
    return mmcore.sample(model, 4, given={"label": torch.tensor([0, 1, 2, 0])}, steps=3)


@pytest.mark.parametrize("modules", ["attention", "all", ["up"]])
def test_the_base_stays_as_it_is_and_adapters_and_heads_learn(modules: Any, registry: Registry) -> None:
    model, before = trained(registry, modules=modules)
    after = model.state_dict()
    base = {name: x for name, x in after.items() if name.startswith("backbone.") and not is_adapter(name)}
    assert base
    for name, x in base.items():
        assert x.numpy().tobytes() == before[name].numpy().tobytes()
    adapters = [name for name in after if is_adapter(name)]
    assert all(not torch.equal(after[name], before[name]) for name in adapters if "lora_B" in name)
    ends = {name.split(".lora_")[0].rpartition(".")[2] for name in adapters}
    assert ends == {
        "attention": {"qkv", "mix"},
        "all": {"qkv", "mix", "up", "down", "modulate", "read", "observe", "write"},
    }.get(str(modules), {"up"})
    assert any(not torch.equal(after[name], before[name]) for name in after if name.startswith("decoders."))


def test_at_first_they_change_nothing(registry: Registry) -> None:
    model, plain = composed(registry, adapters={"rank": 3}), composed(registry)
    space = model.space.shape
    z, condition = (
        torch.linspace(-1, 1, 3 * model.space.size).reshape(3, *space),
        torch.zeros(3, 2 * space[0], *space[1:]),
    )
    t, roles = torch.tensor([[1], [500], [1000]]), torch.tensor([[0, 1], [0, 0], [1, 0]])
    with torch.no_grad():
        got, want = (one.backbone(z, t, roles, condition) for one in (model, plain))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    own, theirs = model.backbone.state_dict(), plain.backbone.state_dict()
    assert all(
        torch.equal(
            own.get(name, own.get(name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"))),
            x,
        )
        for name, x in theirs.items()
    )


def test_a_folder_holds_them_and_merged_they_need_no_peft(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = trained(registry)
    want = answers(model)
    folder = mmcore.save(model, tmp_path / "model")
    again = mmcore.load(folder, registry=registry)
    assert all(torch.equal(answers(again)[name], x) for name, x in want.items())
    assert [n for n, p in again.named_parameters() if p.requires_grad] == [
        n for n, p in model.named_parameters() if p.requires_grad
    ]
    monkeypatch.setattr(sys, "argv", ["mmcore", "merge", str(folder), "-o", str(tmp_path / "merged")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    merged = mmcore.load(tmp_path / "merged", registry=registry)
    assert maker(merged.backbone) is not None
    assert not any(is_adapter(name) for name in merged.state_dict())
    assert all(p.requires_grad for p in merged.backbone.parameters())
    torch.testing.assert_close(answers(merged)["image"], want["image"], rtol=0, atol=1e-5)
    monkeypatch.setattr(sys, "argv", ["mmcore", "merge", str(tmp_path / "merged"), "-o", str(tmp_path / "twice")])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "has no adapters, expected a model that was trained with some" in capsys.readouterr().err
    # A model that is there is not lost by a name that is typed twice.
    there = (tmp_path / "merged" / "model.safetensors").read_bytes()
    line = ["mmcore", "merge", str(folder), "-o", str(tmp_path / "merged")]
    for more, status in (([], 2), (["--replace"], 0)):
        monkeypatch.setattr(sys, "argv", [*line, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
        assert (tmp_path / "merged" / "model.safetensors").read_bytes() == there
    assert "merged holds a model already; name another folder by -o" in capsys.readouterr().err


def test_a_folder_of_adapters_belongs_to_its_base(registry: Registry, tmp_path: Path) -> None:
    model, _ = trained(registry)
    folder = save_adapters(model, tmp_path / "adapters", base="the base")
    told = json.loads((folder / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["r"]) == ("the base", 2)
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < sum(x.nbytes for x in model.state_dict().values())
    for fresh in (composed(registry), composed(registry, adapters={"rank": 2})):
        assert base_digest(fresh.backbone) == base_digest(model.backbone)
        load_adapters(fresh, folder)
        assert all(torch.equal(answers(fresh)[name], x) for name, x in answers(model).items())
    other = composed(registry, seed=1)
    with pytest.raises(
        RequestError, match=r"belongs to another base, 'the base' of digest [0-9a-f]{12}…, not to this one"
    ) as error:
        load_adapters(other, folder)
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match=r"does not fit the model: .*lora_A"):
        load_adapters(composed(registry, adapters={"rank": 3}), folder)
    with pytest.raises(RequestError, match="adapters: the model has none"):
        save_adapters(other, tmp_path / "none", base="x")
    with pytest.raises(RequestError, match=r"adapter_config\.json"):
        load_adapters(other, tmp_path)


def of(folder: Path, at: Path, changes: Any, tensors: dict[str, Tensor] | None = None) -> Path:
    """A folder of adapters of which something was changed."""
    record = json.loads((folder / "adapter_config.json").read_text())
    record["adapters"] = record["adapters"] | changes if isinstance(changes, dict) else changes
    at.mkdir()
    (at / "adapter_config.json").write_text(json.dumps(record))
    save_file(load_file(folder / "adapter_model.safetensors") | (tensors or {}), at / "adapter_model.safetensors")
    return at


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rank": 10**9}, r"backbone.blocks.0.qkv.lora_A.default.weight: float32 \(2, 8\) there, float32 \(1000000000, 8\) here"),
        ({"rank": -1}, "adapter_config.json: adapters: rank = -1"),
        ({"alpha": float("inf")}, "alpha = inf, expected a number above 0, and finite"),
        ({"modules": ["x\n\x1b[31m"]}, "name no linear layer"),
        ({"rank": 3}, "does not fit the model: .*lora_A"),
        ([1], "adapter_config.json lacks or misstates adapters"),
        ({}, "evil�.*none here"),
    ],
)  # fmt: skip
def test_a_strangers_folder_is_refused_before_anything_is_made_of_it(
    changes: Any, told: str, registry: Registry, tmp_path: Path
) -> None:
    model = composed(registry, adapters={"rank": 2})
    folder = save_adapters(model, tmp_path / "own", base="base")
    more = {"evil\x1b[31m": torch.zeros(2)} if changes == {} else None
    strange, plain = of(folder, tmp_path / "strange", changes, more), composed(registry)
    before = {name: (p.requires_grad, p.data_ptr()) for name, p in plain.named_parameters()}
    with pytest.raises(RequestError, match=told) as error:
        load_adapters(plain, strange)
    assert str(error.value).isprintable()
    # The model is what it was: no adapter lies in it, and all of it learns.
    assert {name: (p.requires_grad, p.data_ptr()) for name, p in plain.named_parameters()} == before
    assert plain.config is not None
    assert plain.config.adapters is None


def test_adapters_that_count_otherwise_are_refused(registry: Registry, tmp_path: Path) -> None:
    """Of the same shapes, but another alpha: no shape shows it."""
    folder = save_adapters(composed(registry, adapters={"rank": 2, "alpha": 4.0}), tmp_path / "a", base="base")
    with pytest.raises(RequestError, match=r"has .*'alpha': 4.0.*, expected those of the model, .*'alpha': None"):
        load_adapters(composed(registry, adapters={"rank": 2}), folder)


@pytest.mark.parametrize(
    ("adapters", "told"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": -1.0}, "alpha"),
        ({"modules": "heads"}, "modules"),
        ({"ranks": 2}, "ranks"),
        ("attention", "adapters"),
        ({"modules": ["nothing"]}, r"name no linear layer of the Transformer, expected some of .*qkv"),
    ],
)
def test_what_cannot_be_is_refused(adapters: Any, told: str, registry: Registry) -> None:
    with pytest.raises((OptionError, RequestError), match=told) as error:
        composed(registry, adapters=adapters)
    assert "\n" not in str(error.value)


def test_a_configuration_says_them(registry: Registry, tmp_path: Path) -> None:
    from mmcore.config import configured

    tables = {
        "data": {"source": "digits", "options": {"part": "train"}},
        "modalities": {"image": {"channels": 1, "size": 8}, "label": {"classes": 10}},
        "model": {"backbone_options": SMALL, "adapters": {"rank": 2, "modules": ["qkv"]}},
    }
    setup = configured(tables, registry=registry)
    assert setup.tables()["model"]["adapters"] == {"rank": 2, "modules": ["qkv"]}
    model = setup.model()
    assert sum("lora_A" in name for name in model.state_dict()) == SMALL["depth"]
    again = configured(setup.tables(), registry=registry)
    assert again.tables() == setup.tables()


def test_merging_is_the_sum(registry: Registry) -> None:
    """Of two matrices, scaled, and the base: by hand."""
    model = composed(registry, adapters={"rank": 2, "alpha": 6.0, "modules": ["up"]})
    for name, p in model.backbone.named_parameters():
        if is_adapter(name):
            p.data.normal_()
    state = {name: x.clone() for name, x in model.backbone.state_dict().items()}
    want = {
        name.replace(".base_layer", ""): x
        + (
            0
            if ".base_layer.weight" not in name
            else 3.0
            * state[name.replace("base_layer", "lora_B.default")]
            @ state[name.replace("base_layer", "lora_A.default")]
        )
        for name, x in state.items()
        if not is_adapter(name)
    }
    merge(model.backbone)
    assert model.backbone.state_dict().keys() == want.keys()
    for name, x in model.backbone.state_dict().items():
        torch.testing.assert_close(x, want[name], rtol=1e-5, atol=1e-6)


def test_a_network_given_as_an_object_can_be_adapted() -> None:
    from mmcore.model.backbones.mlp import Mlp
    from mmcore.space import Space

    net = Mlp(space=Space((1, 3)), modalities=1, steps=1000, width=8, depth=1, features=2)
    chosen = {"rank": 2, "modules": ["up"]}
    for _ in range(2):
        model = mmcore.compose([Reference(3)], backbone=net, space=(1, 3), adapters=chosen)
    with pytest.raises(RequestError, match=r"the network has adapters already, .*'rank': 2"):
        mmcore.compose([Reference(3)], backbone=net, space=(1, 3), adapters={**chosen, "rank": 3})
    assert [name for name, p in model.backbone.named_parameters() if p.requires_grad] == [
        "blocks.0.up.lora_A.default.weight",
        "blocks.0.up.lora_B.default.weight",
    ]
