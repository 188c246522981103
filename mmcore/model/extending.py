"""Models that grow: modalities and tasks added to a trained model, whose old answers stay what they were; and taken away again."""

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.modality.axes import Inputs, axes_of
from mmcore.modality.base import Modality, Task
from mmcore.model.backbones.base import maker
from mmcore.model.compose import STEPS, compose
from mmcore.model.composition import Composition
from mmcore.model.growing import another, carry, changes, groups_of
from mmcore.model.joint import JointModel
from mmcore.options import SEED, check_call, require
from mmcore.plugins import Registry, discover
from mmcore.process import Schedule
from mmcore.space import LAYOUTS, Layout


def extend(
    model: JointModel,
    modalities: Iterable[Modality] = (),
    tasks: Iterable[Task] | None = None,
    *,
    gains: Sequence[float] | None = None,
    depth: int | None = None,
    backbone: nn.Module | None = None,
    adapters: Mapping[str, Any] | None = None,
    seed: int = 0,
    registry: Registry | None = None,
) -> JointModel:
    """A larger model that answers what a trained one answers: the same, until it is trained further.

    .. code-block:: python

        model = mmcore.load("runs/digits/model")
        depth = reg.modality("image", name="depth", channels=1, size=8)
        larger = mmcore.extend(model, [depth])
        print(larger.grown)                                  # what went over, and what is new
        mmcore.fit(larger, rows, steps=500, out="runs/more") # rows that lack the new one keep training the old ones

    Each new modality has a block of the space of its own, with a timestep of its own, so that nothing else moves. Weights go over by name; what the
    network reads of the new modality begins at zero. So an answer to a question of the old model, the new modalities absent, is the same up to rounding. The network
    may become deeper as well; blocks that are added begin as the identity.

    Args:
        model: trained; it is left as it is. The new one is on its device, in its dtype and mode.
        modalities: the new ones.
        tasks: the new ones; by default each new modality's recovery. They may predict old modalities too; one that none recovered before is then generated along, where a
            question says neither given nor absent.
        gains: ``g_i`` of each new modality, 1 by default.
        depth: of the backbone, at least the old one.
        backbone: a network of the new sizes, where the model's was given as an object; of the same class, with
            :meth:`~mmcore.modality.axes.Growing.weight_axes`.
        adapters: LoRA beside the old weights, as of :func:`mmcore.compose`: they, what is new and the heads then learn, and the old weights of the network stay.
        seed: of the new parts' weights.
        registry: where the schedule and the backbone are looked up; by default a new :func:`mmcore.discover`.

    Returns:
        a new model, whose attribute ``grown`` says what became of the weights.

    Raises:
        OptionError: a name that is taken, or an option that cannot be.
        RequestError: nothing is new; a model with adapters; a backbone that does not say how it grows, or an extension that would change an old answer.
        PluginError: a plugin that is broken.
    """
    check_call(extend, locals(), apart=["modalities", "tasks", "depth"])
    require("extend", seed=(seed, SEED))
    _check_merged(model, "extend")
    added = _objects("modalities", modalities, Modality, "mmcore.Modality objects")
    own = {m.name: m for m in model.variables}
    for m in added:
        if m.name in own:
            difference = another(own[m.name], m)
            words = f"is in the model already{difference and f', and this one has {difference}'}"
            raise OptionError(
                "extend",
                "modalities",
                m.name,
                "names that are new",
                mend=f"{m.name!r} {words}; give it another name, name=…",
            )
    heads = (
        [Task(m.name, m.name) for m in added]
        if tasks is None
        else _objects("tasks", tasks, Task, "mmcore.Task objects")
    )
    taken = [task.name for task in model.tasks]
    for task in heads:
        if task.name in taken:
            raise OptionError("extend", "tasks", task.name, f"names that are new, not one of {', '.join(taken)}")
    if not added and not heads and depth is None:
        raise RequestError("extend: nothing is new, expected modalities, tasks or a depth")
    if gains is not None and (isinstance(gains, str) or len(gains) != len(added)):
        raise OptionError("extend", "gains", gains, f"{len(added)} numbers, one per new modality")
    composition, places = _composed(model), math.prod(model.space.grid)
    names = [m.name for m in model.modalities]
    groups = groups_of(model) + [[m.name] for m in added]
    channels = [*model.process.channels, *(-(-math.prod(m.code) // places) for m in added)]
    larger = _made_like(
        model,
        composition,
        [*model.modalities, *added],
        [*model.tasks, *heads],
        groups,
        channels,
        gains=[1.0] * len(added) if gains is None else list(gains),
        depth=depth,
        backbone=backbone,
        adapters=adapters,
        seed=seed,
        registry=registry,
    )
    grown = carry(model, larger)
    if told := changes(model, larger, grown):
        raise RequestError(f"extend: old answers would change: {'; '.join(told[:3])}{_says_not(larger)}")
    larger.grown = grown
    return larger


def without(model: JointModel, names: Collection[str], *, registry: Registry | None = None) -> JointModel:
    """A smaller model that answers as this one does with some modalities absent; right after :func:`extend` it is the old model again.

    Args:
        model: trained; it is left as it is.
        names: of modalities that have a block each, or share one among themselves. Their tasks go with them.
        registry: as of :func:`extend`.

    Raises:
        OptionError: a name that the model has not, or of a modality that shares a block with one that stays.
        RequestError: nothing would stay; a model that reads the space as it is (``reading="space"``) and was trained since, as its network sees the noise
            of blocks that are absent; or a model with adapters.
    """
    check_call(without, locals())
    _check_merged(model, "without")
    known = [m.name for m in model.modalities]
    for name in names:
        if name not in known:
            raise OptionError("without", "names", name, choices=known)
    composition, groups, channels = _composed(model), [], []
    for block, count in zip(model.process.members, model.process.channels, strict=True):
        group = [known[i] for i in block]
        gone = [name for name in group if name in names]
        if gone and len(gone) < len(group):
            stay = ", ".join(name for name in group if name not in names)
            raise OptionError(
                "without", "names", gone[0], f"a modality with a block of its own; it shares one with {stay}"
            )
        if not gone:
            groups.append(group)
            channels.append(count)
    tasks = [t for t, target in zip(model.tasks, model.heads.targets, strict=True) if target.name not in names]
    if not groups or not any(isinstance(task.target, str) for task in tasks):
        raise RequestError("without: no modality would stay that a task recovers, expected one at least")
    stay = [m for m in model.modalities if m.name not in names]
    if len(groups) == 1:
        # So that their codes lie in the whole space as they lay in their block.
        stay.sort(key=lambda m: groups[0].index(m.name))
    smaller = _made_like(model, composition, stay, tasks, groups, channels, registry=registry)
    if model.reading.how == "space" and not _unseen(model, names):
        raise RequestError(
            "without: the model reads the space as it is, so that its network sees the noise of absent blocks, and was trained with it; "
            "expected one with reading = 'codes'"
        )
    carry(model, smaller)
    return smaller


def _made_like(
    model: JointModel,
    composition: Composition,
    modalities: Sequence[Modality],
    tasks: Sequence[Task],
    groups: list[list[str]],
    channels: list[int],
    *,
    gains: Sequence[float] = (),
    depth: int | None = None,
    backbone: nn.Module | None = None,
    adapters: Mapping[str, Any] | None = None,
    seed: int = 0,
    registry: Registry | None = None,
) -> JointModel:
    """A new model of these parts, all else as in the model; the new modalities come last."""
    registry = registry or discover()
    names, shape = [m.name for m in modalities], (sum(channels), *model.space.grid)
    members = Layout.groups(groups, names)
    named = next((name for name in LAYOUTS if Layout.groups(name, names) == members), None)
    space = attrs.evolve(model.space, shape=shape)
    alone = Layout.fit(members, [m.code for m in modalities], space, overlap=composition.overlap).channels
    with warnings.catch_warnings():
        # What was said of the model when it was composed.
        warnings.simplefilter("ignore", UserWarning)
        made = compose(
            modalities,
            tasks,
            layout=named or groups,
            space=shape,
            channels=None if alone == tuple(channels) else channels,
            overlap=composition.overlap,
            trained_encoders=[name for name in composition.trained_encoders if name in names],
            reading=composition.reading,
            adapters=adapters,
            seed=seed,
            registry=registry,
            **_network(model, backbone, depth, shape, len(modalities), len(groups)),
            **_schedule(model, composition, names, gains, registry),
        )
    some = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return made.to(model.device, some.dtype).train(model.training)


def _network(
    model: JointModel, backbone: nn.Module | None, depth: int | None, shape: Sequence[int], modalities: int, blocks: int
) -> dict[str, Any]:
    """The backbone of the new model, as :func:`mmcore.compose` takes it."""
    made, kind = maker(model.backbone), type(model.backbone).__name__
    if backbone is not None:
        if depth is not None:
            raise OptionError("extend", "depth", depth, "none beside a backbone that is given as an object")
        if type(backbone) is not type(model.backbone):
            raise RequestError(
                f"extend: the backbone given is a {type(backbone).__name__}, expected a {kind}, as the model's: weights of another class do not go over"
            )
        return {"backbone": backbone}
    if made is None:
        sizes = f"for space = {tuple(shape)}, {modalities} modalities and {blocks} blocks"
        raise RequestError(
            f"extend: the model's backbone, a {kind}, is an object that no plugin makes, or is wrapped; merge or unwrap it, or give one of the new sizes, "
            f"backbone={kind}(…) {sizes}"
        )
    options = dict(made.options)
    if depth is not None:
        least = options.get(
            "depth", getattr(model.backbone, "depth", None) or len(getattr(model.backbone, "blocks", ()))
        )
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < least:
            raise OptionError("extend", "depth", depth, f"a whole number of at least {least}, the depth of the model")
        options["depth"] = depth
    return {"backbone": f"{made.distribution}:{made.offer}", "backbone_options": options}


def _schedule(
    model: JointModel, composition: Composition, names: Sequence[str], gains: Sequence[float], registry: Registry
) -> dict[str, Any]:
    """The schedule of the new model: by its name where that gives the old modalities their tables again, else by the tables."""
    old, made = model.process.schedule, composition.schedule
    known = [m.name for m in model.modalities]
    columns = [known.index(name) for name in names if name in known]
    if made is not None:
        listed = {}
        for option, new in (("gains", list(gains)), ("powers", [1.0] * len(gains))):
            given = made.options.get(option)
            if given is not None or (option == "gains" and any(g != 1 for g in new)):
                listed[option] = [1.0 if given is None else given[i] for i in columns] + new
        name = f"{made.distribution}:{made.offer}"
        try:
            _, full = registry.make("schedule", name, {"steps": STEPS, "modalities": len(names), **listed})
        except MmcoreError:
            full = None
        if (
            isinstance(full, Schedule)
            and full.log_A.equal(old.log_A)
            and full.W[:, : len(columns)].equal(old.W[:, columns])
        ):
            return {"schedule": name, **listed}
    return {"schedule": extended(old, columns, gains)}


def extended(old: Schedule, columns: Sequence[int], gains: Sequence[float]) -> Schedule:
    """A schedule's tables for these of its modalities and, after them, for new ones.

    A new modality has the root mean square of the old ones' weights, times its gain: its signal-to-noise ratio then falls as theirs does.

    Args:
        old: the tables.
        columns: the modalities that stay.
        gains: one for each that is new.
    """
    mean = old.W.square().mean(1, keepdim=True).sqrt()
    W = torch.cat([old.W[:, [*columns]], mean * torch.tensor([*gains], dtype=torch.float64)], dim=1)
    return Schedule.from_cumulative(old.log_A, W, name=old.name, eta=old.eta)


def _unseen(model: JointModel, names: Collection[str]) -> bool:
    """Whether the network reads nothing of the channels of these modalities' blocks."""
    gone = [any(model.modalities[i].name in names for i in block) for block in model.process.members]
    columns = torch.tensor(gone).repeat_interleave(torch.tensor(model.process.channels))
    weights = dict(model.named_parameters())
    read = [
        (weights[name], axis)
        for name, axis in axes_of(model).items()
        if isinstance(axis, Inputs) and axis.over == "channels"
    ]
    return not any(axis.split(w)[0][..., columns.to(w.device), :].any() for w, axis in read)


def _check_merged(model: JointModel, what: str) -> None:
    """Refuse a model with adapters: beside them a network's own weights do not learn, and their sizes are those of its layers."""
    if model.config is not None and model.config.adapters is not None:
        raise RequestError(
            f"{what}: the model has adapters, expected one whose own weights say all: add them to the weights first, mmcore merge MODEL -o merged"
        )


def _composed(model: JointModel) -> Composition:
    if model.config is None:
        raise RequestError("extend: the model was not made by mmcore.compose, so that nothing says how to make another")
    return model.config


def _objects(option: str, given: Any, kind: type, expected: str) -> list[Any]:
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for one in listed:
        if not isinstance(one, kind):
            raise OptionError("extend", option, one, expected)
    return listed


def _says_not(model: JointModel) -> str:
    kind = type(model.backbone).__name__
    silent = not hasattr(model.backbone, "weight_axes")
    return f"; {kind} has no weight_axes(), which says what the columns of its weights are" if silent else ""
