"""Parts registered in a process: found as installed ones are, told apart from them, and refused in one line where they are wrong."""

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import PluginError, RequestError
from mmcore.config import configured
from mmcore.data import open_source
from mmcore.data.options import DataOptions
from mmcore.hooks import REGISTERED
from mmcore.plugins import HOOKS, products
from mmcore.plugins.metadata import NAME, installed
from mmcore.plugins.probe import probe
from mmcore.plugins.products import PRODUCTS, misfit, required_of
from mmcore.process.schedule import cosine
from mmcore.store.model import describe
from mmcore.testing.snippet import command, maker


class Net(nn.Module):
    """A network of one's own, plain."""

    def __init__(self, *, space: mmcore.Space, modalities: int, steps: int, blocks: int, features: int = 3) -> None:
        super().__init__()
        self.engine = (modalities, steps, blocks)
        self.features = features
        self.mix = nn.Conv2d(3 * space.shape[0], features, 1)

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return self.mix(torch.cat([z, condition], dim=1)).tanh()


class Threes:
    """Rows of one's own, under another name for the parts."""

    def __init__(self, part: str = "train", rows: int = 30) -> None:
        self.part, self.count = part, rows

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"image": torch.full((1, 4, 4), (index % 3) / 2).numpy(), "label": index % 3}


def labels(classes: int = 3) -> mmcore.Modality:
    return mmcore.discover().modality("label", classes=classes)


@pytest.fixture
def mine() -> mmcore.Registry:
    registry = mmcore.discover()
    registry.register("backbone", "mine", Net, summary="a network of one's own")
    registry.register("source", "threes", Threes)
    registry.register("modality", "tag", labels)
    registry.register("schedule", "slow", functools.partial(cosine))
    return registry


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "strong", True, None])
def test_a_plugins_guidance_is_given_finite_scales_only(mine: mmcore.Registry, scale: Any) -> None:
    given: list[Any] = []
    mine.register("guidance", "mine", lambda scales: given.append(scales))
    with pytest.raises(mmcore.OptionError, match=r"guidance\.label.*a finite number"):
        mine.guidance("mine", scales={"image": 2.0, "label": scale})
    assert given == []


# ---- what is found ----


def test_every_way_to_a_part_finds_what_is_registered(mine: mmcore.Registry) -> None:
    made, net = mine.make(
        "backbone", "mine", {"space": mmcore.Space((2, 4, 4)), "modalities": 1, "steps": 7, "blocks": 2}
    )
    assert net.engine == (1, 7, 2)
    assert made == ("backbone", "mine", REGISTERED, "", made.options)
    assert made.registered
    assert isinstance(
        mine.backbone(f"{REGISTERED}:mine", space=mmcore.Space((2, 4, 4)), modalities=1, steps=7, blocks=2), Net
    )
    assert len(mine.source("threes", rows=5)) == 5
    tag = mine.modality("tag", name="kind", classes=4)
    assert (tag.name, tag.code, tag.made) == ("kind", (4,), ("modality", "tag", REGISTERED, "", {"classes": 4}))
    assert mine.schedule("slow", steps=9, modalities=2).steps == 9
    assert not labels().made.registered  # type: ignore[union-attr]


def test_compose_makes_a_registered_network_that_trains_and_samples(mine: mmcore.Registry) -> None:
    image = mine.modality("image", channels=1, size=4)
    model = mmcore.compose(
        [image, mine.modality("tag")], backbone="mine", backbone_options={"features": 5}, registry=mine
    )
    assert isinstance(model.backbone, Net)
    assert model.backbone.engine == (2, 1000, 1)
    assert describe(model)["backbone"] == {
        "offer": "mine",
        "distribution": REGISTERED,
        "version": "",
        "options": {"features": 5},
    }
    before = model.backbone.mix.weight.clone()
    threes = mine.source("threes")
    rows = [{"image": threes[k]["image"], "tag": threes[k]["label"]} for k in range(len(threes))]
    mmcore.fit(model, rows, steps=2, batch_size=4, quiet=True, device="cpu")
    assert not torch.equal(model.backbone.mix.weight, before)
    assert mmcore.sample(model, 2, steps=2)["tag"].shape == (2,)


def test_a_configuration_finds_what_is_registered_and_checks_its_options(mine: mmcore.Registry) -> None:
    tables = {
        "out": "run",
        "data": {"source": "threes", "options": {"rows": 12}, "columns": {"tag": "label"}},
        "modalities": {"image": {"channels": 1, "size": 4}, "tag": {"classes": 3}},
        "model": {
            "backbone": "mine",
            "backbone_options": {"features": 4},
            "schedule": "slow",
            "schedule_options": {"steps": 20},
        },
    }
    setup = configured(tables, registry=mine)
    assert len(setup.rows("train")) == 12
    model = setup.model()
    assert isinstance(model.backbone, Net)
    assert model.backbone.engine == (2, 20, 1)
    with pytest.raises(mmcore.errors.ConfigError, match=r"model\.backbone_options\.featurs.*did you mean 'features'"):
        configured(tables | {"model": {"backbone": "mine", "backbone_options": {"featurs": 4}}}, registry=mine)
    with pytest.raises(mmcore.errors.ConfigError, match=r"model\.backbone.*no backbone 'mine' is installed"):
        configured(tables | {"data": {"source": "digits"}})


@pytest.mark.parametrize(
    ("section", "table", "key", "words"),
    [
        ("sampling", {"sampler": "plain", "codes": "draw"}, "sampling.codes", "sampler 'plain' has no 'codes'"),
        ("sampling", {"sampler": "plain", "eta": 0.5}, "sampling.eta", "sampler 'plain' has no 'eta'"),
        ("sampling", {"sampler": "bad"}, "sampling.sampler", "its factory made an int without step()"),
        ("model", {"backbone": "bad"}, "model.backbone", "its factory made an int"),
        ("model", {"schedule": "bad"}, "model.schedule", "its factory made an int"),
        ("modalities", {"image": {"plugin": "bad"}}, "modalities.image.plugin", "its factory made an int without"),
        ("training", {"trackers": [{"kind": "bad"}]}, "training.trackers[0].kind", "its factory made an int without"),
    ],
)
def test_what_is_wrong_with_a_registered_part_is_told_at_its_key(
    mine: mmcore.Registry, section: str, table: dict[str, Any], key: str, words: str
) -> None:
    for kind in ("sampler", "backbone", "schedule", "modality", "tracker"):
        mine.register(kind, "bad", lambda **options: 3)
    mine.register("sampler", "plain", Plain)
    tables: dict[str, Any] = {
        "out": "run",
        "data": {"source": "threes", "columns": {"tag": "label"}},
        "modalities": {"image": {"channels": 1, "size": 4}, "tag": {"classes": 3}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
    }
    own = {} if "backbone" in table else tables.get(section, {})
    with pytest.raises(mmcore.errors.ConfigError) as error:
        configured(tables | {section: own | table}, registry=mine)
    (problem,) = error.value.problems
    assert (problem.key, words in problem.text) == (key, True)
    assert "other values of its options" not in problem.text


class Plain(mmcore.sampling.Sampler):
    """A sampler with one option."""

    def __init__(self, steps: int = 5) -> None:
        super().__init__(steps=steps)

    def step(self, denoiser: Any, here: Any, to: int, rng: Any, memory: Any) -> Any:
        return denoiser.move(here, denoiser.codes(here, rng), to)


def test_a_source_that_has_parts_is_told_which(mine: mmcore.Registry) -> None:
    assert open_source(mine, DataOptions("threes"), "test").rows.part == "test"  # type: ignore[attr-defined]


def test_the_table_lists_it_and_other_registries_know_nothing_of_it(mine: mmcore.Registry) -> None:
    rows = {(row["kind"], row["name"]): row for row in mine.table()}
    assert rows["backbone", "mine"] == {
        "kind": "backbone",
        "name": "mine",
        "distribution": REGISTERED,
        "version": "",
        "api": "v1",
        "status": "ok",
        "summary": "a network of one's own",
        "error": None,
    }
    with pytest.raises(
        RequestError,
        match=r"no backbone 'mine' is installed; .*\(install a plugin with the entry point backbone\.mine, or register it\)",
    ):
        mmcore.discover().find("backbone", "mine")
    with pytest.raises(RequestError, match=r"no backbone 'min' .* did you mean 'mine'\?"):
        mine.find("backbone", "min")
    mine.load()


def test_no_distribution_can_be_called_what_marks_it() -> None:
    assert not NAME.fullmatch(REGISTERED)
    assert REGISTERED not in {entry.distribution for entry in installed()}


def test_nothing_tries_it_in_a_process_of_its_own(mine: mmcore.Registry) -> None:
    assert probe([entry for entry in mine.entries if entry.registered]) == {}


def test_the_kit_does_not_say_that_it_can_be_made_by_its_name(mine: mmcore.Registry) -> None:
    tag = mine.modality("tag")
    assert command(tag, "modality", "tag", "spec.typical", "quick", 0) == ""
    made = maker(tag, "modality")
    assert made is None or "discover" not in "".join(made[1])


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "match"),
    {
        "kind": (("backbon", "x", Net), r"kind 'backbon', expected one of modality, .*tracker; did you mean 'backbone'\?$"),
        "no kind": ((None, "x", Net), r"kind None, expected one of modality, "),
        "name": (("backbone", "x:y", Net), r"backbone 'x:y', expected a name of letters, digits, '\.', '_' and '-'$"),
        "no name": (("backbone", 3, Net), r"backbone 3, expected a name"),
        "core's": (("backbone", "mlp", Net), r"backbone 'mlp' is offered by mmcore-diffusion 0\S*; choose another name$"),
        "plugin's": (
            ("modality", "label", labels),
            r"'label' is offered by mmcore-label 0\S*; choose another name, or discover\(without=\['mmcore-label:label'\]\)$",
        ),
        "registered": (("backbone", "mine", Net), r"backbone 'mine' is registered already; choose another name$"),
        "a word of mmcore's": (("sampler", "auto", Net), r"sampler 'auto' stands for mmcore's own choice; choose another name$"),
        "no factory": (("tracker", "x", 3), r"tracker 'x': the factory is an object, a int, expected what makes one: a class or a function$"),
        "abstract": (("modality", "x", mmcore.Modality), r"the class Modality lacks decoder\(\), encoder\(\), .*typical\(\), without which"),
    }.values(),
)  # fmt: skip
def test_what_cannot_be_registered_is_told_in_one_line(
    arguments: tuple[Any, ...], match: str, mine: mmcore.Registry
) -> None:
    before = mine.entries
    with pytest.raises(RequestError, match=f"^register: .*{match}") as refused:
        mine.register(*arguments)
    assert "\n" not in str(refused.value)
    assert mine.entries == before


def test_an_object_in_place_of_what_makes_one_is_told_of(mine: mmcore.Registry) -> None:
    net = mine.backbone("mine", space=mmcore.Space((2, 4, 4)), modalities=1, steps=7, blocks=1)
    with pytest.raises(
        RequestError, match=r"the factory is an object, a Net, expected what makes one: a class or a function$"
    ):
        mine.register("backbone", "object", net)


def test_the_name_of_a_blocked_plugin_is_free() -> None:
    registry = mmcore.discover(without=["mmcore-label:label"])
    registry.register("modality", "label", labels)
    assert registry.modality("label").made.registered  # type: ignore[union-attr]


def test_a_name_is_free_in_another_kind(mine: mmcore.Registry) -> None:
    mine.register("modality", "mine", labels)
    assert mine.modality("mine").name == "mine"


def test_options_that_a_registered_factory_does_not_take_are_the_users_fault(mine: mmcore.Registry) -> None:
    with pytest.raises(
        RequestError, match=r"source 'threes' with options {'row': 3}: .*unexpected keyword argument 'row'"
    ):
        mine.source("threes", row=3)


def test_a_registered_factory_that_fails_is_told_with_its_cause(mine: mmcore.Registry) -> None:
    mine.register("source", "fails", lambda: 1 / 0)
    with pytest.raises(PluginError, match=r"making source 'fails' gave ZeroDivisionError") as caught:
        mine.source("fails")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---- what a factory makes ----


class Stepper(ABC):
    order: int

    @abstractmethod
    def step(self) -> None: ...

    @property
    @abstractmethod
    def depth(self) -> int: ...

    def rest(self) -> int:
        return 0


class Follower(Protocol):
    name: str

    def follow(self) -> None: ...

    def __call__(self) -> None: ...

    @property
    def far(self) -> int: ...


class LongFollower(Follower, Protocol):
    def stop(self) -> None: ...


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds whose things must be of an abstract class, and of a protocol."""
    module = ModuleType("made_up")
    module.Stepper, module.Follower = Stepper, LongFollower  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up", module)
    monkeypatch.setitem(PRODUCTS, "sampler", "made_up:Stepper")
    monkeypatch.setitem(PRODUCTS, "guidance", "made_up:Follower")


def made(**members: Any) -> Callable[[], Any]:
    return type("Foo", (), members)


class Right(Stepper):
    depth = 2

    def __init__(self, order: int | None = 1) -> None:
        if order is not None:
            self.order = order

    def step(self) -> None: ...


def right_follower() -> Any:
    return made(name="a", far=3, follow=print, stop=print, __call__=print)()


def test_what_an_abstract_class_or_a_protocol_asks_for() -> None:
    assert required_of(Stepper) == {"order": False, "step": True, "depth": False}
    assert required_of(Right) == {}
    assert required_of(LongFollower) == {"name": False, "follow": True, "__call__": True, "far": False, "stop": True}


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("kind", "factory", "problem"),
    {
        "abstract": ("sampler", made(), "a Foo without order, step(), depth, expected a made_up.Stepper"),
        "no method": ("sampler", made(order=1, depth=2, step=3), "a Foo without step(), expected a made_up.Stepper"),
        "no value": ("sampler", lambda: Right(None), "a Right without order, expected a made_up.Stepper"),
        "duck": (
            "sampler",
            made(order=1, depth=2, step=print),
            "a Foo, expected a made_up.Stepper, of which its class must be a subclass",
        ),
        "class": ("sampler", lambda: Right, "the class Right, expected a made_up.Stepper, an object and no class"),
        "right": ("sampler", Right, ""),
        "protocol": ("guidance", made(follow=print, far=2, __call__=print), "a Foo without name, stop(), expected a made_up.Follower"),
        "not called": ("guidance", made(name="", follow=print, far=2, stop=print), "a Foo without __call__(), expected a made_up.Follower"),
        "right by its members": ("guidance", right_follower, ""),
        "class of protocol": ("guidance", lambda: Right, "the class Right, expected a made_up.Follower, an object and no class"),
        "nothing": ("modality", lambda: None, "a NoneType without spec, code, encoder(), decoder(), loss(), read(), show(), typical(), expected a mmcore.Modality"),
        "dict": ("schedule", dict, "a dict, expected a mmcore.Schedule"),
        "function": ("backbone", lambda: print, "a builtin_function_or_method, expected a torch.nn.Module"),
        "number": ("source", lambda: 3, "an int without __len__(), __getitem__(), expected a mmcore.data.Source or a sequence of rows"),
        "text": ("source", lambda: "ab", "a str, expected a mmcore.data.Source or a sequence of rows"),
        "rows": ("source", lambda: [{"x": 1}], ""),
        "iterator": ("source", lambda: iter([{"x": 1}]), ""),
        "embedder": ("embedder", made(__call__=print), "a Foo without fingerprint, expected a mmcore.data.embed.Embedder"),
    }.values(),
)  # fmt: skip
def test_a_thing_of_the_wrong_kind_is_told_with_what_it_lacks(
    kind: str, factory: Callable[[], Any], problem: str, mine: mmcore.Registry
) -> None:
    mine.register(kind, "some", factory)
    if not problem:
        assert mine.make(kind, "some", {})[0].registered
        return
    with pytest.raises(PluginError) as refused:
        mine.make(kind, "some", {})
    mend = f"mend what register({kind!r}, 'some', …) was given"
    assert str(refused.value) == f"plugin {REGISTERED}:some is broken: its factory made {problem}; {mend}"


def test_every_kind_has_a_hook_and_something_that_it_must_be() -> None:
    assert PRODUCTS.keys() == HOOKS.keys()


def test_every_kind_can_be_made_by_a_method_of_its_name() -> None:
    assert all(callable(getattr(mmcore.Registry, kind)) for kind in HOOKS)


def test_a_members_own_failure_is_the_plugins(mine: mmcore.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise OSError("no disk")

    mine.register("embedder", "x", made(__call__=print, fingerprint=property(fails)))
    with pytest.raises(PluginError, match="making embedder 'x' gave OSError: no disk"):
        mine.embedder("x")


def test_a_things_lack_is_known_without_registering() -> None:
    assert misfit("source", []) == ""
    assert products.unfinished(Stepper) == "depth(), step()"
    assert products.unfinished(Right) == products.unfinished(print) == ""
