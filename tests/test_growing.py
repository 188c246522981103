"""Models that grow: old answers stay what they were, in every composition; and what is taken away again leaves the old model."""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

import mmcore
from mmcore import JointModel, Modality, Registry, RequestError, Rng, Role, Task
from mmcore.model.adapters import plain
from mmcore.model.growing import carry, changes, groups_of
from mmcore.store.adapters import save_adapters

from .training.runs import fit, rows
from .training.test_resume import StopError, stop_at

MAKE: dict[str, Callable[[Registry, str], Modality]] = {
    "image": lambda reg, name: reg.modality("image", name=name, channels=1, size=4),
    "wide": lambda reg, name: reg.modality("image", name=name, channels=2, size=(4, 6)),
    "mask": lambda reg, name: reg.modality("mask", name=name, size=4, classes=3, void=9),
    "label": lambda reg, name: reg.modality("label", name=name, classes=5),
    "tags": lambda reg, name: reg.modality("label", name=name, classes=3, multi=True),
    "words": lambda reg, name: reg.modality("clip", name=name, width=6, unit_norm=False),
    "number": lambda reg, name: reg.modality("scalar", name=name),
}
BACKBONES = {
    "mlp": {"width": 8, "depth": 2, "features": 4, "rank": 2},
    "transformer": {"width": 8, "depth": 1, "heads": 2, "features": 4},
}


@st.composite
def compositions(draw: st.DrawFn) -> dict[str, Any]:
    """Kinds of old and new modalities, and all that a composition may say."""
    kinds = st.sampled_from([*MAKE])
    count, more = draw(st.integers(2, 8)), draw(st.integers(1, 2))
    new = draw(st.lists(kinds, min_size=min(more, count - 1), max_size=min(more, count - 1)))
    old = draw(st.lists(kinds, min_size=count - len(new), max_size=count - len(new)))
    names = [f"{kind}{k}" for k, kind in enumerate(old)]
    block = [draw(st.integers(0, draw(st.integers(0, len(old) - 1)))) for _ in old]
    order = draw(st.permutations(names))
    groups = [[n for n in order if block[names.index(n)] == k] for k in sorted({*block})]
    return {
        "old": old,
        "new": new,
        "layout": draw(st.sampled_from(["shared", "separate", groups])),
        "spare": draw(st.integers(0, 2)),
        "overlap": draw(st.booleans()),
        "reading": draw(st.sampled_from(["codes", "codes", "space"])),
        "schedule": draw(st.sampled_from(["cosine", "linear", "paper", "cosine powers"])),
        "backbone": draw(st.sampled_from([*BACKBONES])),
        "turned": draw(st.booleans()),
        "beside": draw(st.booleans()),
        "deeper": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


def shaken(model: JointModel, seed: int) -> JointModel:
    """As if trained: no weight is where it began, least of all at zero. In float64, so that only rounding is left."""
    model = model.double().eval()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            if p.requires_grad and p.ndim:
                p += 0.3 * Rng.for_rows(seed + i, 1).normal(*p.shape, dtype=p.dtype)[0]
    return model


def of(case: Mapping[str, Any], registry: Registry) -> tuple[JointModel, list[Modality], list[Task] | None]:
    """The old model of a case, and what is new."""
    old = [MAKE[kind](registry, f"{kind}{k}") for k, kind in enumerate(case["old"])]
    new = [MAKE[kind](registry, f"new{k}") for k, kind in enumerate(case["new"])]
    name, _, powers = case["schedule"].partition(" ")
    codes = [m.code for m in old]
    members = mmcore.space.Layout.groups(case["layout"], [m.name for m in old])
    least = mmcore.Space.for_codes(codes, members)
    largest = max(math.prod(code) for code in codes)
    tight = case["overlap"] and len(members) == 1 and largest <= least.size - math.prod(least.grid)
    shape = (least.shape[0] - 1, *least.grid) if tight else (least.shape[0] + case["spare"], *least.grid)
    turned = [m.name for m in old if case["turned"] and len(m.code) == 1 and m.code[0] > 1]
    tasks, more = [Task(m.name, m.name) for m in old], None
    if case["beside"]:
        edges = registry.modality("label", name="edges", classes=2)
        tasks += [Task("edges", edges), Task("again", old[0].name)]
        more = [*(Task(m.name, m.name) for m in new), Task("second", old[-1].name, weight=2.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mmcore.compose(
            old,
            tasks,
            layout=case["layout"],
            space=shape,
            overlap=tight,
            schedule=name,
            powers=[1.0 + 0.5 * k for k in range(len(old))] if powers else None,
            backbone=case["backbone"],
            backbone_options=BACKBONES[case["backbone"]],
            trained_encoders=turned,
            reading=case["reading"],
            registry=registry,
        )
    return shaken(model, case["seed"]), new, more


def questions(model: JointModel, seed: int) -> list[dict[str, Role]]:
    """Everything generated, and a few drawn; something is always generated."""
    names = [m.name for m in model.modalities]
    drawn = Rng.for_rows(seed, 3).integers(0, 3, len(names)).tolist()
    asked = [dict(zip(names, map(Role, row), strict=True)) for row in drawn if Role.GENERATE in row]
    return [dict.fromkeys(names, Role.GENERATE), *asked]


def predicted(
    model: JointModel, asked: Mapping[str, Role], seed: int, blocks: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """What the network says at a drawn timestep of each block: each task's distribution. What is not asked about is absent.

    The model's blocks are the first of a larger model's, and so are their channels; or ``blocks`` of it.
    """
    B, process = 3, model.process
    roles = torch.tensor([[int(asked.get(m.name, Role.ABSENT)) for m in model.variables]] * B)
    batch = {m.name: m.typical(B, seed + sum(map(ord, m.name))) for m in model.variables}
    batch = {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}
    rng = Rng.for_rows(seed, B)
    t = rng.of("t").integers(1, process.steps + 1, 16)[:, list(blocks or range(process.blocks))]
    noise = rng.of("noise").normal(*model.space.shape, dtype=torch.float64)
    if blocks is not None:
        each = rng.of("noise").normal(16, *model.space.grid, dtype=torch.float64)
        noise = each[:, list(blocks)]
    placed = model.frame.place(model.encode(batch))
    drive = model.drive(t, roles)
    condition = model.condition(placed, drive, model.there(batch))
    read = model.read(model.noisy(placed, drive, noise), drive)
    with torch.inference_mode():
        return model.predict(read, drive.t, drive.timesteps, roles, condition)


def answered(model: JointModel, asked: Mapping[str, Role], seed: int, registry: Registry) -> dict[str, Tensor]:
    """Samples of a question, in float64 on the way: what it observes is typical, and all that it does not name is absent."""
    model.encode = lambda batch: JointModel.encode(model, batch).double()  # type: ignore[method-assign]
    known = {m.name: m.typical(2, seed) for m in model.modalities if asked.get(m.name) == Role.OBSERVE}
    absent = [m.name for m in model.modalities if asked.get(m.name, Role.ABSENT) == Role.ABSENT]
    return mmcore.sample(model, 2, given=known, absent=absent, steps=3, draw=True, seed=seed, registry=registry)


def same(found: Mapping[str, Tensor], told: Mapping[str, Tensor]) -> None:
    for name, x in told.items():
        torch.testing.assert_close(found[name], x, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def check_law(case: Mapping[str, Any], registry: Registry) -> None:
    """Old answers with the new absent are the same, and what is taken away again is the old model, weight by weight."""
    model, new, tasks = of(case, registry)
    depth = BACKBONES[case["backbone"]]["depth"] + 2 if case["deeper"] else None
    larger = mmcore.extend(model, new, tasks, depth=depth, seed=case["seed"], registry=registry)
    assert [m.name for m in larger.modalities] == [m.name for m in (*model.modalities, *new)]
    assert larger.grown is not None
    assert not larger.grown.unfit
    assert not larger.grown.left
    for number, asked in enumerate(questions(model, case["seed"])):
        same(predicted(larger, asked, number), predicted(model, asked, number))
    asked = questions(model, case["seed"])[-1]
    same(answered(larger, asked, 5, registry), answered(model, asked, 5, registry))
    again = mmcore.without(larger, [m.name for m in new], registry=registry)
    state, mine = model.state_dict(), again.state_dict()
    if depth is None:
        assert all(torch.equal(mine[name], x) for name, x in state.items())
    if depth is None and tasks is None:
        assert state.keys() == mine.keys()
        before, after = model.config, again.config
        assert before is not None
        assert after is not None
        assert (before.space, before.reading, before.overlap) == (after.space, after.reading, after.overlap)
    assert (again.process.channels, groups_of(again)) == (model.process.channels, groups_of(model))
    for number, asked in enumerate(questions(model, case["seed"])):
        same(predicted(again, asked, number), predicted(model, asked, number))


@settings(max_examples=25)
@given(case=compositions())
def test_old_answers_stay_what_they_were(registry: Registry, case: dict[str, Any]) -> None:
    check_law(case, registry)


@pytest.mark.parametrize("reading", ["codes", "space"])
def test_one_block_lists_its_modalities_in_any_order(registry: Registry, reading: str) -> None:
    """In the larger model it is one of several, where codes lie in the order of its list."""
    case: dict[str, Any] = {
        "old": ["words", "label", "image"],
        "new": ["label"],
        "layout": [["label1", "image2", "words0"]],
    }
    how = {
        "spare": 1,
        "overlap": False,
        "schedule": "cosine powers",
        "backbone": "mlp",
        "turned": False,
        "beside": False,
    }
    check_law(case | how | {"reading": reading, "deeper": False, "seed": 3}, registry)


def test_one_block_that_stays_lists_its_modalities_in_any_order(registry: Registry) -> None:
    parts = [MAKE[kind](registry, kind) for kind in ("words", "label", "image")]
    how = {"backbone": "mlp", "backbone_options": BACKBONES["mlp"], "registry": registry}
    model = shaken(mmcore.compose(parts, layout=[["label", "words"], ["image"]], powers=[1, 1.5, 2], **how), 2)
    smaller = mmcore.without(model, ["image"], registry=registry)
    for number, asked in enumerate(questions(smaller, 1)):
        same(predicted(model, asked, number), predicted(smaller, asked, number))
    asked = questions(smaller, 1)[0]
    same(answered(model, asked, 5, registry), answered(smaller, asked, 5, registry))


def test_a_model_made_in_double_precision_grows(registry: Registry) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = small(registry)
    finally:
        torch.set_default_dtype(before)
    larger = mmcore.extend(model, [MAKE["words"](registry, "words")], registry=registry)
    assert {p.dtype for p in larger.parameters()} == {torch.float64}


def test_codes_that_lie_elsewhere_are_told(registry: Registry) -> None:
    """As in a configuration whose layout lists a block's modalities in another order."""
    parts = [MAKE[kind](registry, kind) for kind in ("words", "label", "image")]
    how = {"backbone": "mlp", "backbone_options": BACKBONES["mlp"], "registry": registry}
    old = mmcore.compose(parts[:2], layout="shared", **how)
    for group, told in (
        (["words", "label"], []),
        (
            ["label", "words"],
            ["the codes of words, label lie elsewhere in their block, which lists them in another order"],
        ),
    ):
        new = mmcore.compose(
            parts,
            layout=[group, ["image"]],
            space=(old.space.shape[0] + 4, *old.space.grid),
            channels=[old.space.shape[0], 4],
            **how,
        )
        assert changes(old, new, carry(old, new)) == told


# ---- what is refused ----


def small(registry: Registry, tasks: list[Task] | None = None, **options: Any) -> JointModel:
    parts = [MAKE["image"](registry, "image"), MAKE["label"](registry, "label")]
    settings = {"backbone": "mlp", "backbone_options": BACKBONES["mlp"]} | options
    return mmcore.compose(parts, tasks, registry=registry, **settings)


class Net(nn.Module):
    """A network of one's own, which may say how it grows."""

    def __init__(self, channels: int, modalities: int, blocks: int) -> None:
        super().__init__()
        self.features = 3
        self.mix = nn.Conv2d(3 * channels, 3, 1)
        self.told = nn.Linear(modalities + blocks, 3)

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        told = self.told(torch.cat([t / 1000, roles], 1).to(z))
        return self.mix(torch.cat([z, condition], 1)) + told[:, :, None, None]


class Other(Net):
    pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reg, m: {"modalities": [MAKE["label"](reg, "label")]}, r"modalities = 'label', expected names that are new; 'label' is in the model already; give it another name, name=…"),
        (
            lambda reg, m: {"modalities": [reg.modality("label", classes=7)]},
            r"'label' is in the model already, and this one has a code of \(7,\), not \(5,\); give it another name",
        ),
        (lambda reg, m: {"modalities": [MAKE["words"](reg, "label")]}, "another kind, ClipModality in place of LabelModality"),
        (lambda reg, m: {"modalities": ["depth"]}, "modalities = 'depth', expected mmcore.Modality objects"),
        (lambda reg, m: {}, "nothing is new, expected modalities, tasks or a depth"),
        (lambda reg, m: {"tasks": [Task("label", "image")]}, "tasks = 'label', expected names that are new, not one of image, label"),
        (lambda reg, m: {"tasks": [Task("more", "depth")]}, "tasks.more.target = 'depth', expected one of image, label"),
        (lambda reg, m: {"depth": 1}, "depth = 1, expected a whole number of at least 2, the depth of the model"),
        (lambda reg, m: {"modalities": [MAKE["words"](reg, "w")], "gains": [1.0, 2.0]}, r"gains = \[1.0, 2.0\], expected 1 numbers"),
        (lambda reg, m: {"modalities": [MAKE["words"](reg, "w")], "backbone": Net(5, 3, 2)}, "the backbone given is a Net, expected a Mlp, as the model's: weights of another class do not go over"),
    ],
)  # fmt: skip
def test_what_is_no_extension(registry: Registry, change: Callable[..., dict[str, Any]], words: str) -> None:
    model = small(registry)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(RequestError, match=words):
        mmcore.extend(model, registry=registry, **change(registry, model))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_network_of_ones_own_is_given_again_and_says_how_it_grows(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(registry, backbone=Net(2, 2, 1), backbone_options=None)
    words = [MAKE["words"](registry, "words")]
    with pytest.raises(
        RequestError,
        match=r"a Net, is an object .* backbone=Net\(…\) for space = \(3, 4, 4\), 3 modalities and 2 blocks",
    ):
        mmcore.extend(model, words, registry=registry)
    with pytest.raises(
        RequestError,
        match=r"old answers would change: backbone.mix.weight \(3, 6, 1, 1\) there, \(3, 9, 1, 1\) here.* Net has no weight_axes",
    ):
        mmcore.extend(model, words, backbone=Net(3, 3, 2), registry=registry)
    with pytest.raises(RequestError, match="is a Other, expected a Net"):
        mmcore.extend(model, words, backbone=Other(3, 3, 2), registry=registry)


def test_what_cannot_be_taken_away(registry: Registry) -> None:
    model = small(registry)
    for names, told in (
        (["image"], "names = 'image', expected a modality with a block of its own; it shares one with label"),
        (["lable"], "names = 'lable', expected one of image, label; did you mean 'label'"),
        ("image", "names = 'image', expected a list of texts"),
        (["image", "label"], "no modality would stay that a task recovers"),
    ):
        with pytest.raises(RequestError, match=told):
            mmcore.without(model, names, registry=registry)
    larger = mmcore.extend(small(registry, reading="space"), [MAKE["words"](registry, "words")], registry=registry)
    with pytest.raises(RequestError, match="sees the noise of absent blocks"):
        mmcore.without(shaken(larger, 0), ["words"], registry=registry)


# ---- what is kept, and what learns ----


@pytest.mark.parametrize("backbone", [*BACKBONES])
def test_what_was_trained_since_is_taken_away_by_what_its_absence_said(registry: Registry, backbone: str) -> None:
    """Whatever the weights of the larger model became, the smaller one answers as it does with the modality absent."""
    model = small(registry, layout="separate", backbone=backbone, backbone_options=BACKBONES[backbone])
    larger = shaken(mmcore.extend(model, [MAKE["words"](registry, "words")], registry=registry), 3)
    for gone in (["words"], ["image"], ["label", "words"]):
        smaller = mmcore.without(larger, gone, registry=registry)
        for number, asked in enumerate(questions(smaller, 2)):
            # Each block has one channel.
            stay = [b for b, m in enumerate(larger.modalities) if m.name not in gone]
            told = predicted(larger, asked, number, range(3))
            same(told, predicted(smaller, asked, number, stay))


def test_it_is_kept_with_the_model(registry: Registry, tmp_path: Path) -> None:
    """Channels, what became of the weights, and the answers."""
    model = small(registry, space=(4, 4, 4), schedule="paper")
    larger = mmcore.extend(shaken(model, 0).float(), [MAKE["words"](registry, "words")], registry=registry)
    assert larger.process.channels == (4, 1)
    folder = mmcore.save(larger, tmp_path / "larger")
    again = mmcore.load(folder, registry=registry)
    assert again.process.channels == (4, 1)
    assert again.grown is not None
    assert larger.grown is not None
    assert again.grown.record() == larger.grown.record()
    assert str(again.grown) == str(larger.grown)
    assert "backbone.read.weight" in str(again.grown)
    assert "decoders.words" in str(again.grown)
    assert "Grown from a model of image, label" in (folder / "README.md").read_text()
    answers = [mmcore.sample(m.eval(), 3, steps=2, registry=registry) for m in (larger, again)]
    assert all(torch.equal(x, answers[1][name]) for name, x in answers[0].items())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "grown": {**config["grown"], "over": 3}}))
    with pytest.raises(
        RequestError, match=r"config.json lacks or misstates grown.over as int, expected a list of names"
    ):
        mmcore.load(folder, registry=registry)


@pytest.mark.parametrize("backbone", [*BACKBONES])
def test_new_parts_alone_learn(registry: Registry, backbone: str) -> None:
    """Bytes of all that went over stay, in weights that are new in part too, decay or not; so the old model is still in there."""
    model = shaken(small(registry, backbone=backbone, backbone_options=BACKBONES[backbone]), 0).float()
    larger = mmcore.extend(model, [MAKE["words"](registry, "words")], registry=registry)
    assert larger.grown is not None
    before = {name: x.clone() for name, x in larger.state_dict().items()}
    learned = {name: p.requires_grad for name, p in larger.named_parameters()}
    table = rows(larger, 40)
    mmcore.fit(larger, table, steps=6, batch_size=8, lr=1e-2, weight_decay=1.0, learns="new", quiet=True, device="cpu")
    fresh = larger.grown.fresh
    assert fresh is not None
    for name, x in larger.state_dict().items():
        new = (
            torch.ones_like(x, dtype=torch.bool)
            if name in larger.grown.made
            else fresh.get(name, torch.zeros_like(x, dtype=torch.bool))
        )
        assert torch.equal(x[~new], before[name][~new]), name
        # What is observed in a block of its own lies in the space itself, and is not told beside it.
        if new.any() and name in larger.grown.part and name != "backbone.observe.weight":
            assert not torch.equal(x[new], before[name][new]), name
    assert {name: p.requires_grad for name, p in larger.named_parameters()} == learned
    old = model.state_dict()
    smaller = mmcore.without(larger, ["words"], registry=registry).state_dict()
    idle = {"backbone.timestep.mix.0.bias", "backbone.timestep.roles.bias"}
    assert {name for name, x in old.items() if not torch.equal(x, smaller[name])} <= idle


def test_adapters_learn_beside_the_new_parts(registry: Registry) -> None:
    """peft's LoRA in the attention, the new columns beside it, and nothing else."""
    model = shaken(small(registry, backbone="transformer", backbone_options=BACKBONES["transformer"]), 0).float()
    larger = mmcore.extend(model, [MAKE["words"](registry, "words")], registry=registry)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["qkv", "up"]), larger.backbone)
    before = {name: x.clone() for name, x in larger.state_dict().items()}
    mmcore.fit(larger, rows(larger, 40), steps=4, batch_size=8, lr=1e-2, learns="new", quiet=True, device="cpu")
    changed = {name for name, x in larger.state_dict().items() if not torch.equal(x, before[name])}
    assert any("lora_B" in name for name in changed)
    assert larger.grown is not None
    assert {name for name in changed if "lora" not in name} <= {*larger.grown.part, *larger.grown.made}
    assert "backbone.read.weight" in changed


@pytest.mark.parametrize("modules", ["attention", "all"])
def test_beside_adapters_what_is_new_is_read(registry: Registry, tmp_path: Path, modules: str) -> None:
    """Old weights of the network keep their bytes, new columns, adapters and heads learn; at first old answers are as they were."""
    model = shaken(small(registry, backbone="transformer", backbone_options=BACKBONES["transformer"]), 0)
    words, adapters = [MAKE["words"](registry, "words")], {"rank": 2, "modules": modules}
    larger = mmcore.extend(model, words, adapters=adapters, registry=registry)
    assert larger.grown is not None
    assert not larger.grown.unfit + larger.grown.left
    for number, asked in enumerate(questions(model, 1)):
        same(predicted(larger, asked, number), predicted(model, asked, number))
    larger = larger.float()
    before = {plain(name): x.clone() for name, x in larger.state_dict().items()}
    learned = {name: p.requires_grad for name, p in larger.named_parameters()}
    mmcore.fit(larger, rows(larger, 40), steps=4, batch_size=8, lr=1e-2, weight_decay=1.0, quiet=True, device="cpu")
    assert {name: p.requires_grad for name, p in larger.named_parameters()} == learned
    fresh, after = larger.grown.fresh, {plain(name): x for name, x in larger.state_dict().items()}
    assert fresh is not None
    for name, x in after.items():
        changed = x != before[name]
        if name.startswith("backbone.") and "lora" not in name:
            new = fresh.get(name, torch.zeros_like(changed))
            assert not changed[~new].any(), name
            # What is observed in a block of its own lies in the space itself, and is not told beside it.
            assert changed[new].any() or not new.any() or name == "backbone.observe.weight", name
        elif "lora_B" in name and "observe" not in name:
            assert changed.any(), name
    folder = mmcore.save(larger.eval(), tmp_path / "m")
    again = mmcore.load(folder, registry=registry)
    told, found = (mmcore.sample(m, 3, steps=2, registry=registry) for m in (larger, again))
    assert all(torch.equal(found[name], x) for name, x in told.items())
    # Its base is in no file, and beside adapters nothing new would learn twice.
    with pytest.raises(RequestError, match=r"adapters: the model has grown.* mmcore.save"):
        save_adapters(larger, tmp_path / "a", base="base")
    for change in (lambda: mmcore.extend(again, words), lambda: mmcore.without(again, ["words"])):
        with pytest.raises(RequestError, match=r"the model has adapters, .* mmcore merge MODEL -o merged"):
            change()


def test_cut_off_beside_adapters_it_goes_on_to_the_same_bytes(registry: Registry, tmp_path: Path) -> None:
    old = shaken(small(registry, backbone="transformer", backbone_options=BACKBONES["transformer"]), 0).float()

    def larger() -> JointModel:
        return mmcore.extend(old, [MAKE["words"](registry, "words")], adapters={"rank": 2}, registry=registry)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(registry, whole, model=larger())
    with pytest.raises(StopError):
        fit(registry, cut, model=larger(), save_steps=1, watch=[stop_at(4)])
    fit(registry, cut, model=larger(), save_steps=1, resume=True)
    found, told = (load_file(at / "model" / "model.safetensors") for at in (cut, whole))
    assert all(torch.equal(found[name], x) for name, x in told.items())


@pytest.mark.parametrize("read", [False, True])
def test_only_what_has_grown_here_says_what_is_new(registry: Registry, tmp_path: Path, read: bool) -> None:
    model = small(registry)
    if read:
        larger = mmcore.extend(model, [MAKE["words"](registry, "words")], registry=registry)
        model = mmcore.load(mmcore.save(larger, tmp_path / "m"), registry=registry)
    told = "was read from a folder" if read else "has grown from none"
    with pytest.raises(RequestError, match=f"learns = 'new', but the model {told}"):
        mmcore.fit(model, rows(model, 8), steps=1, learns="new", quiet=True, device="cpu")


# ---- other sizes, other classes ----


def test_places_are_interpolated_and_sums_over_them_kept(registry: Registry) -> None:
    """A field that is linear in the places stays so inside; what is summed over places sums to the same."""

    def of_size(size: int) -> JointModel:
        parts = [registry.modality("image", channels=1, size=size), MAKE["label"](registry, "label")]
        options = {"width": 8, "depth": 1, "heads": 2, "features": 4, "patch": 1}
        return mmcore.compose(parts, backbone_options=options, registry=registry)

    old, new = of_size(4), of_size(8)
    position = old.get_parameter("backbone.position")
    with torch.no_grad():
        at = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1).reshape(16, 2)
        position[:, 0] = 1 + at @ torch.tensor([2.0, 3.0])
    grown = carry(old, new)
    assert not grown.unfit
    found = new.get_parameter("backbone.position")[:, 0].reshape(8, 8)
    # The centre of a place of the finer grid, in places of the coarser.
    at = (torch.arange(8) + 0.5) / 2 - 0.5
    expected = 1 + 2 * at[:, None] + 3 * at[None]
    torch.testing.assert_close(found[1:-1, 1:-1], expected[1:-1, 1:-1])
    for name in ("backbone.glance.places", "backbone.glance_known.places", "decoders.label.head.pool"):
        torch.testing.assert_close(new.get_parameter(name).sum(0), old.get_parameter(name).sum(0))
    assert any("image has a code of (1, 8, 8), not (1, 4, 4)" in line for line in changes(old, new, grown))


def test_classes_go_by_their_names(registry: Registry) -> None:
    def of_names(names: list[str]) -> JointModel:
        label = registry.modality("label", classes=len(names), names=names)
        image, mask = MAKE["image"](registry, "image"), registry.modality("mask", size=4, classes=len(names))
        options = {"backbone": "mlp", "backbone_options": BACKBONES["mlp"]}
        return mmcore.compose([image, label, mask], layout="separate", registry=registry, **options)

    old, new = shaken(of_names(["cat", "dog", "cow"]), 0), of_names(["cow", "ant", "cat", "dog"]).double()
    made = new.get_parameter("decoders.label.head.out.weight")[1].clone()
    grown = carry(old, new)
    for name in ("weight", "bias"):
        there, here = (m.get_parameter(f"decoders.label.head.out.{name}") for m in (old, new))
        assert torch.equal(here[[2, 3, 0]], there)
        there, here = (m.get_parameter(f"decoders.mask.map.out.{name}") for m in (old, new))
        assert torch.equal(here[: len(there)], there)
    assert torch.equal(new.get_parameter("decoders.label.head.out.weight")[1], made)
    assert "decoders.label.head.out.weight" in grown.part


def test_a_shallower_network_and_another_head_change_answers(registry: Registry) -> None:
    """What a caller of ``carry`` alone may have made."""
    old = small(registry, tasks=[Task("image", "image"), Task("label", "label"), Task("more", "label")])
    tasks = [Task("more", "label"), Task("label", "label"), Task("image", "image")]
    new = small(registry, tasks=tasks, backbone_options=BACKBONES["mlp"] | {"depth": 1})
    told = changes(old, new, carry(old, new))
    assert told[0] == "label is read by the task more, not label"
    assert told[1].startswith("the backbone has no place for backbone.blocks.1.own.weight, ")
    assert not changes(old, old, carry(old, old))
