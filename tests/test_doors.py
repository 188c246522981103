"""Parts given as objects: trained, killed, resumed, saved and loaded like a plugin's, and no file ever says how to make one."""

import functools
import json
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import mmcore
from mmcore import JointModel, MmcoreError, Modality, PluginError, Registry, RequestError, RoleMix, Space, Spec, Task
from mmcore.modality.mixed import Mixed
from mmcore.model.backbones.base import maker
from mmcore.store import checkpoint
from mmcore.training.draws import draws_globally
from mmcore.training.precision import backbone_execution
from mmcore.training.ranks import blocks
from mmcore_clip import ClipModality
from mmcore_label import LabelModality
from tests.training.processes import ranks
from tests.training.runs import digests, fit, rows


class MyNet(nn.Module):
    """What a network of one's own may do, and the core's do not: dropout, lists in lists, a layer that nobody calls, weights channels last."""

    def __init__(self, width: int = 8, features: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = features
        self.read = nn.Conv2d(2 + 4 + 1 + 2, width, 3, padding=1)
        stage = [nn.ModuleDict({"mix": nn.Conv2d(width, width, 1), "drop": nn.Dropout(dropout)}) for _ in range(2)]
        self.stages = nn.ModuleList([nn.ModuleList([part]) for part in stage])
        self.write = nn.Conv2d(width, features, 3, padding=1)
        self.unused = nn.Linear(width, width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        told = torch.cat([t / 1000, roles], dim=1).to(z.dtype)[:, :, None, None].expand(-1, -1, *z.shape[2:])
        x = self.read(torch.cat([z, condition, told], dim=1))
        for stage in self.stages:
            part: Any = stage[0]  # type: ignore[index]
            x = x + part["drop"](torch.relu(part["mix"](x)))
        return self.write(x)


def net(width: int = 8, features: int = 4, dropout: float = 0.3, seed: int = 5) -> MyNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MyNet(width, features, dropout)


class Sound(ClipModality):
    """A modality by hand."""

    def __init__(self, width: int = 6) -> None:
        super().__init__(width=width, unit_norm=False)
        self.name = "sound"


def plugins(registry: Registry) -> list[Modality]:
    words = registry.modality("clip", name="words", width=6, unit_norm=False)
    return [registry.modality("label", classes=4), words]


def own(registry: Registry, backbone: nn.Module | None = None, **composition: Any) -> JointModel:
    """:func:`tests.training.runs.small` around a network of one's own."""
    return mmcore.compose(
        plugins(registry), space=(2, 4, 4), backbone=backbone or net(), registry=registry, **composition
    )


def small(parts: list[Modality], registry: Registry, tasks: list[Task] | None = None, **how: Any) -> JointModel:
    options = {"width": 8, "depth": 1, "features": 4}
    return mmcore.compose(
        parts, tasks, space=(2, 4, 4), backbone="mlp", backbone_options=options, registry=registry, **how
    )


def same(first: JointModel, second: JointModel) -> None:
    """They answer alike, to the bit."""
    one, two = (mmcore.sample(model.eval(), 5, steps=3, seed=1) for model in (first, second))
    assert one.keys() == two.keys()
    for name, x in one.items():
        assert torch.equal(x, two[name]), name


def refused(call: Callable[[], object], match: str, kind: type[MmcoreError] = RequestError) -> None:
    """In one line."""
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def killed_at(step: int, work: Callable[[Any], object]) -> None:
    """Do the work in a process that is killed, as by ``kill -9``, when its training has taken a step."""

    def kill(state: Any, report: object) -> None:
        if state.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            work(kill)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


# ---- a network ----


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_a_network_of_ones_own_is_killed_and_ends_with_the_same_bytes(
    registry: Registry, tmp_path: Path, activation_checkpointing: bool
) -> None:
    def work(out: Path, **changes: Any) -> None:
        model = own(registry)
        fit(
            registry,
            out,
            model=model,
            rows=rows(model, 20),
            save_steps=2,
            activation_checkpointing=activation_checkpointing,
            accumulate=2,
            **changes,
        )

    work(tmp_path / "whole")
    for step in (2, 5):
        killed_at(step, lambda kill, step=step: work(tmp_path / "cut", watch=[kill], resume=step > 2))
        assert checkpoint.folders(tmp_path / "cut" / "checkpoints")[0][0] < 8
    work(tmp_path / "cut", resume=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_network_of_ones_own_is_saved_and_loaded(registry: Registry, tmp_path: Path) -> None:
    model = own(registry)
    fit(registry, tmp_path / "run", model=model, rows=rows(model))
    folder = mmcore.save(model, tmp_path / "mine")
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "run/model/model.safetensors").read_bytes()
    assert json.loads((folder / "config.json").read_text())["backbone"] == {"class": "MyNet", "features": 4}
    other = net(seed=6)
    loaded = mmcore.load(folder, backbone=other, registry=registry)
    assert loaded.backbone is other
    same(loaded, model)
    assert 'load("this folder", backbone=…)' in (folder / "README.md").read_text()
    again = mmcore.save(loaded, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_nothing_in_a_folder_names_code(registry: Registry, tmp_path: Path) -> None:
    parts: list[Modality] = [*plugins(registry), Sound()]
    model = mmcore.compose(parts, space=(3, 4, 4), backbone=Widest(), registry=registry)
    texts = [path.read_bytes() for path in mmcore.save(model, tmp_path).iterdir()]
    for word in (__name__, "tests", "test_doors", Path(__file__).name, "mmcore_clip"):
        assert not any(word.encode() in text for text in texts)


class Widest(nn.Module):
    """Takes any space."""

    features = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return self.scale * z[:, :3]


def test_a_given_network_is_compared_before_any_weight_is_put_in(registry: Registry, tmp_path: Path) -> None:
    folder = mmcore.save(own(registry), tmp_path / "mine")

    def load(**given: Any) -> JointModel:
        return mmcore.load(folder, registry=registry, **given)

    refused(load, r"give them again, load\(folder, backbone=…\): backbone was a MyNet with features = 4$")
    wide = net(width=9)
    before = {name: x.clone() for name, x in wide.state_dict().items()}
    refused(
        lambda: load(backbone=wide),
        r"the backbone given does not fit .*/model.safetensors: read.weight: float32 \(8, 9, 3, 3\) there, "
        r"float32 \(9, 9, 3, 3\) here; read.bias: float32 \(8,\) there, float32 \(9,\) here; .* and \d more$",
    )
    assert all(torch.equal(x, before[name]) for name, x in wide.state_dict().items())
    refused(lambda: load(backbone=net().double()), r"read.weight: float32 .* there, float64 \(8, 9, 3, 3\) here")
    more = net()
    more.extra = nn.Linear(2, 2, bias=False)
    refused(lambda: load(backbone=more), r"safetensors: extra.weight: none there, float32 \(2, 2\) here$")
    less = net()
    del less.unused
    refused(lambda: load(backbone=less), r"unused.bias: .*none here; unused.weight: float32 \(8, 8\) there, none here$")
    refused(
        lambda: load(backbone=net(features=5)), r"backbone is not what .* was made with: features 4 there, 5 given$"
    )
    refused(lambda: load(backbone=Widest()), r"class 'MyNet' there, 'Widest' given; features 4 there, 3 given$")
    refused(lambda: load(backbone=MyNet), r"load: backbone is a type, expected a torch.nn.Module$")
    refused(lambda: load(backbone="mlp"), r"load: backbone is a str, expected a torch.nn.Module$")
    plain = mmcore.save(small(plugins(registry), registry), tmp_path / "plain")
    refused(
        lambda: mmcore.load(plain, backbone=net(), registry=registry),
        r"load: backbone is given, but in .*/plain it was made by mmcore.*:mlp; leave it out$",
    )


def test_another_network_does_not_resume(registry: Registry, tmp_path: Path) -> None:
    data = rows(own(registry))
    fit(registry, tmp_path, model=own(registry), rows=data, steps=2)

    def resume(backbone: nn.Module, **changes: Any) -> None:
        fit(registry, tmp_path, model=own(registry, backbone), rows=data, steps=2, resume=True, **changes)

    refused(lambda: resume(net(features=5)), "model.backbone.features: 4 before, 5 now; put it back")
    refused(lambda: resume(Widest()), "model.backbone.class: 'MyNet' before, 'Widest' now")
    wide = r"model.safetensors: does not fit the model: backbone.read.weight: float32 \(8, 9, 3, 3\) there, float32 \(9, 9, 3, 3\) here"
    refused(lambda: resume(net(width=9)), wide)
    refused(lambda: resume(net(width=9), accept_changes=True), wide)
    mlp = small(plugins(registry), registry)
    refused(
        lambda: fit(registry, tmp_path, model=mlp, rows=data, steps=2, resume=True),
        "model.backbone.class: 'MyNet' before, None now; .*model.backbone.offer: None before, 'mlp' now",
    )
    resume(net(seed=9))


def test_dropout_is_drawn_by_the_step_and_leaves_the_global_generator_alone(registry: Registry) -> None:
    def weights(start: int, **changes: Any) -> Tensor:
        torch.manual_seed(start)
        before = torch.get_rng_state()
        model = own(registry)
        fit(registry, None, model=model, rows=rows(model), steps=3, **changes)
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([p.flatten() for p in model.backbone.parameters()])

    one = weights(1)
    assert torch.equal(one, weights(2))
    assert not torch.equal(one, weights(1, seed=7))
    # What is computed again is dropped again, or the gradient would be another network's.
    torch.testing.assert_close(weights(3, activation_checkpointing=True), one, rtol=1e-6, atol=1e-7)
    masks = []
    model = own(registry)
    model.backbone.stages[0][0]["drop"].register_forward_hook(  # type: ignore[index]
        lambda module, inputs, out: masks.append((out == 0) & (inputs[0] != 0))
    )
    fit(registry, None, model=model, rows=rows(model), steps=3)
    assert len(masks) == 3
    assert not torch.equal(masks[0], masks[1])
    assert 0.2 < masks[0].sum() / masks[0].numel() * 2 < 0.4  # as half of what passes a ReLU is zero already


def test_dropout_in_a_plugins_backbone_is_drawn_by_the_step_too(registry: Registry) -> None:
    model = mmcore.compose([registry.modality("label", classes=3)], backbone="mlp", registry=registry)
    assert not draws_globally(model)
    model.backbone.add_module("drop", nn.Dropout(0.1))
    assert maker(model.backbone) is not None
    assert draws_globally(model)
    model.backbone.drop.p = 0.0  # type: ignore[union-attr]
    assert not draws_globally(model)


def test_the_blocks_of_nested_lists_are_what_is_called() -> None:
    network = net(dropout=0.0)
    parts = [stage[0] for stage in network.stages]  # type: ignore[index]
    assert blocks(network) == [layer for part in parts for layer in (part["mix"], part["drop"])]
    given = torch.randn(2, 2, 4, 4), torch.ones(2, 1), torch.ones(2, 2), torch.randn(2, 4, 4, 4)
    kept: list[Tensor] = []
    for activation_checkpointing in (False, True):
        with backbone_execution(
            network, precision="float32", compiled=False, activation_checkpointing=activation_checkpointing
        ):
            network(*given).square().sum().backward()
        kept.append(network.read.weight.grad.clone())  # type: ignore[union-attr]
        network.zero_grad()
    torch.testing.assert_close(*kept)


class Tied(Widest):
    """One weight under two names, and one that is a part of another."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.scale
        self.register_buffer("table", torch.arange(6.0))
        self.register_buffer("head", self.table[:2])


def test_weights_that_share_memory_are_saved_apart(registry: Registry, tmp_path: Path) -> None:
    def model() -> JointModel:
        return mmcore.compose(plugins(registry), space=(3, 4, 4), backbone=Tied(), registry=registry)

    one = model()
    fit(registry, tmp_path / "run", model=one, rows=rows(one), steps=2)
    fit(registry, tmp_path / "run", model=model(), rows=rows(one), steps=2, resume=True)
    loaded = mmcore.load(mmcore.save(one, tmp_path / "m"), backbone=Tied(), registry=registry)
    assert loaded.backbone.again is loaded.backbone.scale
    assert loaded.backbone.scale.item() != 1
    same(loaded, one)


def test_what_no_file_can_hold_is_refused(registry: Registry, tmp_path: Path) -> None:
    class Extra(Widest):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    model = mmcore.compose(plugins(registry), space=(3, 4, 4), backbone=Extra(), registry=registry)
    match = "save: backbone._extra_state in the model's state is a dict, expected tensors alone$"
    refused(lambda: mmcore.save(model, tmp_path / "m"), match)
    refused(lambda: fit(registry, tmp_path / "run", model=model, rows=rows(model)), match)
    assert not (tmp_path / "run" / "checkpoints").exists()
    frozen = own(registry).requires_grad_(False)
    refused(lambda: fit(registry, None, model=frozen, rows=rows(frozen)), "no weight of the model learns")


def test_ranks_share_a_network_of_ones_own(registry: Registry, tmp_path: Path) -> None:
    """FSDP2 puts a class of its own in front, and what it wrote goes on alone."""

    def train(**changes: Any) -> None:
        network = net()
        # Several ranks ask that all is used, and in the usual order of memory.
        del network.unused
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model = own(registry, network)
        fit(registry, tmp_path, model=model, rows=rows(model), **changes)

    assert ranks(2, lambda rank: train(steps=2, parallel="fsdp")) == [0, 0]
    assert json.loads((tmp_path / "model/config.json").read_text())["backbone"]["class"] == "MyNet"
    train(steps=3, resume=True, accept_changes=True)


# ---- modalities and tasks ----


def test_a_modality_by_hand_is_resumed_saved_and_loaded(registry: Registry, tmp_path: Path) -> None:
    def model(width: int = 6) -> JointModel:
        return small([plugins(registry)[0], Sound(width)], registry)

    one = model()
    fit(registry, tmp_path / "whole", model=one, rows=rows(one), save_steps=2)
    killed_at(
        5, lambda kill: fit(registry, tmp_path / "cut", model=model(), rows=rows(one), save_steps=2, watch=[kill])
    )
    fit(registry, tmp_path / "cut", model=model(), rows=rows(one), save_steps=2, resume=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    refused(
        lambda: fit(registry, tmp_path / "cut", model=model(5), rows=rows(model(5)), resume=True),
        r"model.modalities\[1\].spec.shape\[0\]: 6 before, 5 now; .*model.modalities\[1\].code\[0\]: 6 before, 5 now",
    )
    folder = tmp_path / "whole/model"
    stranger = Sound()
    stranger.name = "noise"
    loaded = mmcore.load(folder, modalities={"sound": stranger}, registry=registry)
    assert [m.name for m in loaded.modalities] == ["label", "sound"]
    same(loaded, one)
    refused(
        lambda: mmcore.load(folder, registry=registry),
        r"give them again, load\(folder, modalities=\{'sound': …\}\): modalities\['sound'\] was a Sound of float32 \(6,\)$",
    )


def test_one_object_is_given_to_two_models(registry: Registry, tmp_path: Path) -> None:
    """Which call it otherwise: neither's own name, nor the object's, is changed by the other."""
    folders, made = [], []
    for name in ("high", "low"):
        sound = Sound()
        sound.name = name
        made.append(small([plugins(registry)[0], sound], registry))
        folders.append(mmcore.save(made[-1], tmp_path / name))
    given = Sound()
    read = [
        mmcore.load(folder, modalities={name: given}, registry=registry)
        for name, folder in zip(("high", "low"), folders, strict=True)
    ]
    assert given.name == Sound().name
    for model, before in zip(read, made, strict=True):
        assert [m.name for m in model.modalities] == [m.name for m in before.modalities]
        same(model, before)


def test_a_factory_that_keeps_what_it_made_makes_two(registry: Registry) -> None:
    mine = mmcore.discover()
    mine.register("modality", "sound", functools.cache(Sound))
    one = mine.modality("sound", name="one", width=5)
    two = mine.modality("sound", name="two", width=5)
    assert (one.name, two.name) == ("one", "two")
    assert mmcore.sample(small([one, two], registry), 2, steps=2).keys() == {"one", "two"}


def test_a_given_modality_is_compared(registry: Registry, tmp_path: Path) -> None:
    label, words = plugins(registry)
    folder = mmcore.save(small([label, Sound()], registry), tmp_path)

    def load(sound: object = None, **others: object) -> JointModel:
        return mmcore.load(folder, modalities={"sound": sound, **others}, registry=registry)  # type: ignore[dict-item]

    refused(
        lambda: load(Sound(5)),
        r"modalities\['sound'\] is not what .*: shape \[6\] there, \[5\] given; code \[6\] there, \[5\] given$",
    )
    refused(lambda: load(words), r"class 'Sound' there, 'ClipModality' given$")
    for spec, match in (
        (Spec((6,), dtype=torch.float64), "dtype 'float32' there, 'float64' given$"),
        (Spec((6,), low=-1.0), r"low None there, -1\.0 given$"),
        (Spec((6,), unit_norm=True), "unit_norm False there, True given$"),
        (Spec((6,), void=9), "void None there, 9 given$"),
    ):
        other = Sound()
        other.spec = spec
        refused(lambda other=other: load(other), match)
    refused(
        lambda: load(Sound(), label=label),
        r"modalities\['label'\] is given, but in .* it was made by mmcore-label:label; leave it out$",
    )
    refused(
        lambda: load(Sound(), tone=Sound()), r"modalities\['tone'\] is given, which .* has not; it has label, sound$"
    )
    refused(lambda: load("sound"), r"load: modalities\['sound'\] is a str, expected a mmcore.Modality$")
    refused(
        lambda: mmcore.load(folder, modalities=[Sound()], registry=registry),
        "modalities is a list, expected objects by their names",
    )  # type: ignore[arg-type]
    assert load(Sound()).modalities[1].spec.shape == (6,)


def hinge(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """A loss of one's own."""
    return (params - target).abs().flatten(1).mean(1)


class Head(mmcore.Decoder):
    """A decoder of one's own."""

    def __init__(self, width: int, space: Space) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 6)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.linear(features.flatten(2).mean(2))

    def point(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Tensor, rng: mmcore.Rng) -> Tensor:
        return params


def test_tasks_with_parts_of_their_own(registry: Registry, tmp_path: Path) -> None:
    """A decoder and a loss for a composed modality, and for a target by hand that nothing encodes."""

    def tasks() -> dict[str, Task]:
        return {
            "guess": Task("guess", "words", decoder=Head, loss=hinge, weight=0.5),
            "hear": Task("hear", Sound(), decoder=Head, loss=hinge),
        }

    label, words = plugins(registry)
    model = small([label, words], registry, [Task("label", "label"), Task("words", "words"), *tasks().values()])
    fit(registry, tmp_path / "run", model=model, rows=rows(model))
    folder = tmp_path / "run/model"
    kept = json.loads((folder / "config.json").read_text())["tasks"]
    assert kept[2] == {"name": "guess", "target": "words", "weight": 0.5, "decoder": "Head", "loss": "hinge"}

    def load(**given: Task) -> JointModel:
        return mmcore.load(folder, tasks=given, registry=registry)

    loaded = load(**tasks())
    same(loaded, model)
    assert [task.weight for task in loaded.tasks] == [1.0, 1.0, 0.5, 1.0]
    assert loaded.tasks[2].loss is hinge
    # A target may come with its task, or by its name among the modalities.
    hear = Task("hear", "sound", decoder=Head, loss=hinge)
    same(mmcore.load(folder, tasks={**tasks(), "hear": hear}, modalities={"sound": Sound()}, registry=registry), model)
    refused(
        load,
        r"load\(folder, modalities=\{'sound': …\}, tasks=\{'guess': …, 'hear': …\}\): modalities\['sound'\] was a Sound of float32 \(6,\), "
        r"tasks\['guess'\] was a Task on 'words' with the decoder Head and the loss hinge, tasks\['hear'\] was a Task on 'sound'",
    )
    for given, match in (
        (Task("guess", "label", decoder=Head, loss=hinge), "target 'words' there, 'label' given$"),
        (Task("guess", "words", decoder=Head), "loss 'hinge' there, None given$"),
        (Task("guess", "words", decoder=Head, loss=registry.modality("clip", width=6).loss()), "loss 'hinge' there, "),
        (Task("gues", "words", decoder=Head, loss=hinge), "name 'guess' there, 'gues' given$"),
    ):
        refused(lambda given=given: load(**{**tasks(), "guess": given}), rf"tasks\['guess'\] is not what .*{match}")
    plain = Task("label", "label")
    refused(
        lambda: load(**tasks(), label=plain),
        r"tasks\['label'\] is given, but .* neither decoder nor loss of its own; leave it out$",
    )
    refused(
        lambda: load(**tasks(), more=plain),
        r"tasks\['more'\] is given, which .* has not; it has label, words, guess, hear$",
    )


class Biased(mmcore.Decoder):
    """The same logits of three classes whatever the features are; or twice them, which only a loss of its own reads."""

    logits = torch.tensor([1.0, 0.5, -1.0])

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return (self.factor * self.logits).expand(len(features), -1)

    def point(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def sample(self, params: Tensor, rng: mmcore.Rng) -> Tensor:
        return rng.categorical((params / self.factor).softmax(1))


class BiasedTable(Biased):
    """The same of a table of one class."""

    def sample(self, params: Tensor, rng: mmcore.Rng) -> Tensor:
        return super().sample(params, rng)[:, None].float()


@pytest.mark.parametrize(("how", "near"), [("decoder", 1e-6), ("decoder and loss", 0.15), ("table", 0.15)])
def test_a_decoder_of_ones_own_has_the_mean_code_of_its_classes(registry: Registry, how: str, near: float) -> None:
    """Not that of the most probable one: joint answers would nearly all be of it."""
    label = LabelModality(3, frequencies=[0.5, 0.3, 0.2])
    read = label.loss()
    tasks = {
        "decoder": Task("label", "label", decoder=lambda width, space: Biased()),
        "decoder and loss": Task(
            "label",
            "label",
            decoder=lambda width, space: Biased(2.0),
            loss=lambda params, x, where=None: read(params / 2, x, where),
        ),
        "table": Task("label", "label", decoder=lambda width, space: BiasedTable()),
    }
    m = Mixed("label", {"one": label}) if how == "table" else label
    words = plugins(registry)[1]
    model = small([m, words], registry, [tasks[how], Task("words", "words")])
    features = torch.zeros(2, model.features, *model.space.grid)
    predictions = model.heads.predict(features, torch.ones(2, 2, dtype=torch.int64))
    code = model.heads.expected_codes(predictions)[0, :3]
    codes = label.encoder()(torch.arange(3))
    want = Biased.logits.softmax(0) @ codes
    assert (codes[0] - want).abs().max() > 0.3
    assert (code - want).abs().max() < near


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (lambda nats: nats[:, None], r"gave \(8, 1\), expected \(8,\)"),
        (lambda nats: nats.mean(), r"gave \(\), expected \(8,\)"),
        (lambda nats: 0.0, r"gave a float, expected \(8,\)"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_loss_that_is_not_one_number_of_each_row_is_told(
    registry: Registry, gives: Callable[[Tensor], Any], words: str, alone: bool
) -> None:
    label, clip = plugins(registry)
    own = clip.loss()
    tasks = [Task("words", "words", loss=lambda params, x, where=None: gives(own(params, x, where)))]
    model = small([label, clip], registry, tasks if alone else [*tasks, Task("label", "label")])
    refused(lambda: fit(registry, None, model=model, rows=rows(model)), f"the loss of the task 'words' {words}")


def test_a_loss_with_weights_that_would_never_learn_is_refused(registry: Registry) -> None:
    class Warm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            return hinge(params, target, where) * self.factor

    parts = plugins(registry)
    refused(
        lambda: small(parts, registry, [Task("words", "words", decoder=Head, loss=Warm())]),
        "the loss of the task 'words', a Warm, has weights that learn, expected fixed ones",
    )
    fixed = Warm().requires_grad_(False)
    model = small(parts, registry, [Task("words", "words", decoder=Head, loss=fixed)])
    assert fit(registry, None, model=model, rows=rows(model), steps=1).step == 1


def test_another_schedule_by_tables_does_not_resume(registry: Registry, tmp_path: Path) -> None:
    def train(steps: int, **changes: Any) -> None:
        model = own(registry, schedule=mmcore.process.schedule.cosine(steps, 2))
        fit(registry, tmp_path, model=model, rows=rows(model), steps=2, **changes)

    train(50)
    train(50, resume=True)
    refused(lambda: train(51, resume=True), r"model.schedule.sha256: '\w+' before, '\w+' now")


# ---- adapters ----


LORA: dict[str, Any] = {"r": 2, "lora_alpha": 4, "target_modules": ["qkv", "up", "down"], "lora_dropout": 0.2}


def wrapped(model: JointModel) -> JointModel:
    torch.manual_seed(3)
    model.backbone = peft.get_peft_model(model.backbone, peft.LoraConfig(**LORA))  # type: ignore[arg-type]
    return model


def injected(model: JointModel) -> JointModel:
    torch.manual_seed(3)
    peft.inject_adapter_in_model(peft.LoraConfig(**LORA), model.backbone)
    return model


@pytest.fixture(scope="module")
def base(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny transformer that was trained."""
    options = {"width": 8, "depth": 2, "features": 4, "heads": 2}
    model = mmcore.compose(
        plugins(registry), space=(2, 4, 4), backbone="transformer", backbone_options=options, registry=registry
    )
    out = tmp_path_factory.mktemp("base")
    fit(registry, out, model=model, rows=rows(model))
    return out / "model"


@pytest.mark.parametrize("adapted", [wrapped, injected])
def test_lora_trains_saves_loads_and_resumes(
    registry: Registry, base: Path, tmp_path: Path, adapted: Callable[[JointModel], JointModel]
) -> None:
    def fresh() -> JointModel:
        return adapted(mmcore.load(base, registry=registry))

    def train(out: Path, model: JointModel, **changes: Any) -> None:
        fit(registry, out, model=model, rows=rows(model), save_steps=2, **changes)

    model = fresh()
    model.decoders.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(tmp_path / "adapters", model)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != ("lora_" in name), name
    kept, tuned = load_file(base / "model.safetensors"), load_file(tmp_path / "adapters/model/model.safetensors")
    plain = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): x
        for name, x in tuned.items()
        if "lora_" not in name
    }
    assert plain.keys() == kept.keys()
    assert all(torch.equal(x, plain[name]) for name, x in kept.items())

    # The heads go on learning unless told otherwise.
    train(tmp_path / "whole", fresh())
    killed_at(5, lambda kill: train(tmp_path / "cut", fresh(), watch=[kill]))
    train(tmp_path / "cut", fresh(), resume=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")

    folder = tmp_path / "whole/model"
    loaded = mmcore.load(folder, backbone=fresh().backbone, registry=registry)
    again = mmcore.load(mmcore.save(loaded, tmp_path / "again"), backbone=fresh().backbone, registry=registry)
    same(loaded, again)
    with pytest.raises(AssertionError):
        same(loaded, mmcore.load(base, registry=registry))
    kind = type(fresh().backbone).__name__
    refused(lambda: mmcore.load(folder, registry=registry), rf"backbone was a {kind} with features = 4$")
    bare = mmcore.load(base, registry=registry).backbone
    refused(
        lambda: mmcore.load(folder, backbone=bare, registry=registry),
        r"class 'PeftModel' there, 'Transformer' given$|qkv.weight: none there, float32 \(24, 8\) here",
    )
    refused(lambda: train(tmp_path / "cut", mmcore.load(base, registry=registry), resume=True), "model.backbone")


def test_merged_adapters_leave_a_plugins_network(registry: Registry, base: Path, tmp_path: Path) -> None:
    model = mmcore.load(base, registry=registry)
    assert maker(model.backbone) is not None
    wrapped(model)
    assert maker(model.backbone) is None
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_()
    answers = mmcore.sample(model.eval(), 4, steps=3)
    model.backbone = model.backbone.merge_and_unload().requires_grad_(True)  # type: ignore[operator]
    loaded = mmcore.load(mmcore.save(model, tmp_path), registry=registry)
    same(loaded, model)
    for name, x in mmcore.sample(loaded, 4, steps=3).items():
        if x.is_floating_point():
            torch.testing.assert_close(x, answers[name], rtol=1e-3, atol=1e-4)


def test_adapters_on_a_base_of_low_precision_have_noise_of_the_heads(registry: Registry, base: Path) -> None:
    class Lowered(nn.Module):
        """A base in bf16, as large ones are kept, with a door of float32."""

        features = 4

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor, *rest: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.inner(z, *rest).float()

    model = wrapped(mmcore.load(base, registry=registry))
    for name, p in model.backbone.named_parameters():
        if "lora_" not in name and p.ndim > 1 and "glance" not in name:
            p.data = p.data.bfloat16()
    model.backbone = Lowered(model.backbone)
    seen: list[torch.dtype] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    state = fit(registry, None, model=model, rows=rows(model), steps=2, validation=rows(model, 8), validate_every=1)
    assert set(seen) == {torch.float32}
    assert state.step == 2


# ---- objects of the wrong protocol ----


class Three(nn.Module):
    features = 4

    def forward(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        return sample


class Flexible(nn.Module):
    features = 4

    def forward(self, *args: Tensor, **options: Any) -> Tensor:
        return args[0]


class Lazy(Widest):
    def __init__(self) -> None:
        super().__init__()
        self.lazy = nn.LazyLinear(3)


def with_features(value: object) -> nn.Module:
    network = Widest()
    network.features = value  # type: ignore[assignment]
    return network


class Nothing:
    pass


class Almost:
    """Quacks, but is no modality."""

    name, spec, code = "almost", Spec((2,)), (2,)

    def encoder(self) -> None: ...
    def decoder(self, width: int, space: Space) -> None: ...
    def loss(self) -> None: ...


class Bare(Sound):
    """Its constructor forgets both."""

    def __init__(self) -> None:
        self.name = "bare"


def bare(**members: Any) -> Modality:
    m = Bare()
    for name, value in members.items():
        setattr(m, name, value)
    return m


def test_what_a_network_lacks_is_named_before_anything_is_built(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, words = plugins(registry)
    built: list[str] = []
    for m in (label, words):
        monkeypatch.setattr(m, "encoder", lambda m=m: built.append(m.name))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Lazy modules")
        lazy = Lazy()
    number = "expected the number of its output's channels"
    for backbone, match in (
        (7, r"backbone is a int, expected a name or a torch.nn.Module \(mmcore.Backbone\)$"),
        (MyNet, r"backbone is the class MyNet, expected an object, MyNet\(…\)$"),
        (
            nn.Linear(2, 2),
            rf"a Linear, is no mmcore.Backbone: it has no attribute features, {number}; its forward takes \(input: .*, expected \(z, t, roles, condition\)$",
        ),
        (nn.Module(), r"it has no forward, expected forward\(z, t, roles, condition\)$"),
        (
            Three(),
            r"a Three, is no mmcore.Backbone: its forward takes \(sample: .*, timestep: .*, labels: .*\) -> .*, expected \(z, t, roles, condition\)$",
        ),
        (with_features("4"), rf"a Widest, is no mmcore.Backbone: it has features = '4', {number}$"),
        (with_features(0), rf"it has features = 0, {number}$"),
        (with_features(True), rf"it has features = True, {number}$"),
        (with_features([1, 2]), rf"it has a list as features, {number}$"),
        (lazy, "some of its parameters have no shape yet"),
    ):
        refused(lambda backbone=backbone: own(registry, backbone), f"compose: .*{match}")
    for m, match in (
        (Nothing(), r"modalities = <.*Nothing object at .*>, expected mmcore.Modality objects$"),
        (Sound, r"found the class Sound among the modalities, expected an object, Sound\(…\)$"),
        (Almost(), "modality Almost is no subclass of mmcore.Modality and has no read, show, typical$"),
        (bare(), "modality 'bare', a Bare, has no spec, expected a mmcore.Spec set in its constructor$"),
        (bare(spec=(3,)), "modality 'bare', a Bare, has a tuple as spec, expected a mmcore.Spec"),
        (bare(spec=Spec((3,))), r"modality 'bare', a Bare, has no code, expected its code's shape, such as \(8,\)"),
        (bare(spec=Spec((3,)), code=3), ".* has code = 3, expected its code's shape"),
        (bare(spec=Spec((3,)), code=(0, 2)), r".* has code = \(0, 2\), expected"),
    ):
        refused(lambda m=m: mmcore.compose([label, m], backbone=net(), registry=registry), f"compose: {match}")  # type: ignore[list-item]
    for task, match in (
        (Task("x", bare()), "modality 'bare', a Bare, has no spec"),
        (Task("x", "label", loss=1.0), r"task 'x' has loss = 1\.0, expected something to call, or None$"),  # type: ignore[arg-type]
        (Task("x", "label", decoder="head"), "task 'x' has decoder = 'head', expected something to call"),  # type: ignore[arg-type]
    ):
        refused(lambda task=task: small([label, words], registry, [Task("label", "label"), task]), match)
    assert not built
    with monkeypatch.context() as patch:
        made = registry.make("backbone", "mlp", {"space": Space((2, 4, 4)), "modalities": 2, "steps": 1000})[0]
        patch.setattr(registry, "make", lambda kind, name, options: (made, nn.Linear(2, 2)))
        refused(
            lambda: mmcore.compose(
                [label, words], schedule=mmcore.process.schedule.cosine(9, 2), backbone="mlp", registry=registry
            ),
            "backbone 'mlp' of mmcore.* 0.1.0: it has no attribute features, .*; its forward takes",
            PluginError,
        )
    assert own(registry, Flexible()).backbone.features == 4


class Analytic(nn.Module):
    """Without a weight."""

    features = 2

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return z


class Flat(Analytic):
    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return z.flatten(1)


class Pair(Analytic):
    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        return (z,)


def test_a_network_need_not_have_weights_but_must_return_features(registry: Registry, tmp_path: Path) -> None:
    model = own(registry, Analytic())
    fit(registry, tmp_path, model=model, rows=rows(model), steps=2, validation=rows(model, 8), validate_every=1)
    same(mmcore.load(tmp_path / "model", backbone=Analytic(), registry=registry), model)
    for network, found in ((Flat(), r"features of shape \(8, 32\)"), (Pair(), "a tuple")):
        model = own(registry, network)
        refused(
            lambda model=model: fit(registry, None, model=model, rows=rows(model)),
            rf"a {type(network).__name__}, returned {found}, expected \(8, 2, 4, 4\): \(B, features, \*grid\) as mmcore.Backbone says$",
        )


# ---- formats ----


def test_a_run_of_format_1_goes_on(registry: Registry, tmp_path: Path) -> None:
    """Its checkpoints tell of the model as a folder of format 1 does, and name an option and weights as they were named then."""
    # As all runs were then.
    how: dict[str, Any] = {"timesteps": "even", "balance": "rows", "roles": RoleMix(alone=0.0)}

    def made() -> JointModel:
        return small(plugins(registry), registry, reading="space")

    model = made()
    fit(registry, tmp_path / "whole", model=model, rows=rows(model), **how)
    first = made()
    # The checkpoint of step 4 waits for that of step 2, which is whole at the kill however slow the disk is.
    killed_at(
        6,
        lambda kill: fit(registry, tmp_path / "cut", model=first, rows=rows(first), watch=[kill], save_steps=2, **how),
    )
    found = checkpoint.read(checkpoint.folders(tmp_path / "cut/checkpoints")[0][1])
    told = found.files["state.json"]
    described, options = told["configuration"]["model"], told["configuration"]["options"]
    assert (told["format"], described["format"]) == (4, 4)
    assert described.pop("reading") == "space"
    del options["timesteps"], options["balance"], options["roles"]["alone"], options["roles"]["questions"]
    told["format"] = described["format"] = 1
    told["configuration"]["rows"] = told["configuration"].pop("data")["rows"]
    del told["configuration"]["run"], told["threads"]
    for part in (described["schedule"], described["backbone"]):
        part["distribution"] = "mmcore"
    options["recompute"] = options.pop("activation_checkpointing")
    files = {
        file: {name.replace("backbone.timestep.", "backbone.clock."): x for name, x in part.items()}
        for file, part in found.files.items()
    }
    assert files["optimizer.safetensors"].keys() != found.files["optimizer.safetensors"].keys()
    checkpoint.write(tmp_path / "cut/checkpoints", found.step, files, 9)
    fit(
        registry,
        tmp_path / "cut",
        model=made(),
        rows=rows(model),
        resume=True,
        save_steps=4,
        **how,
    )
    newest = checkpoint.folders(tmp_path / "cut/checkpoints")[0][1]
    last = checkpoint.folders(tmp_path / "whole/checkpoints")[0][1]
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert (newest / name).read_bytes() == (last / name).read_bytes()


def test_a_model_of_float64_comes_back_as_one(registry: Registry, tmp_path: Path) -> None:
    """And a device may be torch's own object, where its name does."""
    label = registry.modality("label", classes=3)
    model = mmcore.compose(
        [label], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p += torch.linspace(-0.1, 0.1, p.numel(), dtype=torch.float64).reshape(p.shape)
    mmcore.save(model, tmp_path / "model")
    again = mmcore.load(tmp_path / "model", registry=registry, device=torch.device("cpu"))
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in again.state_dict().items())
    assert next(again.parameters()).dtype == torch.float64
    assert torch.equal(mmcore.sample(model, 20)["label"], mmcore.sample(again, 20)["label"])
    mmcore.fit(
        again, [{"label": k % 3} for k in range(8)], steps=1, batch_size=4, device=torch.device("cpu"), quiet=True
    )
