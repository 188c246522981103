"""Weights of a trained model in another model of more, fewer or other parts: what goes over, what is new, and what does not fit."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore.modality.axes import OVER, Axis, Inputs, Places, Rows, Still, axes_of
from mmcore.modality.base import Modality
from mmcore.model.adapters import is_adapter, plain
from mmcore.model.grown import Grown, listed
from mmcore.model.joint import JointModel

_MODES = ("linear", "bilinear", "trilinear")


def carry(old: JointModel, new: JointModel) -> Grown:
    """Put the weights of one model into another, by name; the new model's are overwritten where they go over.

    Of a weight whose axis runs over channels, modalities or blocks, those of the same names go over; what is new is zero, and what is taken away adds what it
    read where it was absent to the bias. Places of another grid are interpolated, classes go by name, and blocks that are added to the network's depth begin as the identity.
    Weights beside which the new model has adapters are those of the same names without.
    """
    before, after = old.state_dict(), new.state_dict()
    if not any(map(is_adapter, before)):
        after = {plain(name): x for name, x in after.items()}
    axes, axes_before, tables = axes_of(new), axes_of(old), _tables(old, new)
    found: dict[str, list[str]] = {name: [] for name in ("over", "part", "made", "unfit")}
    fresh: dict[str, Tensor] = {}
    # What adds to a bias is added when the bias itself has gone over.
    added: dict[str, Tensor] = {}
    for name, target in after.items():
        source, axis = before.get(name), axes.get(name)
        if source is None:
            if isinstance(axis, Still):
                target.zero_()
            found["made"].append(name)
            continue
        source = source.to(target)
        if axis is None or isinstance(axis, Still):
            moved = (source, torch.zeros_like(source, dtype=torch.bool)) if source.shape == target.shape else None
        else:
            moved = _moved(axes_before.get(name), axis, source, target, tables)
        if moved is None:
            found["unfit"].append(f"{name} {tuple(source.shape)} there, {tuple(target.shape)} here")
            continue
        target.copy_(moved[0])
        whole = source.shape == target.shape and not moved[1].any()
        found["over" if whole else "part"].append(name)
        if not whole:
            fresh[name] = moved[1]
        if isinstance(axis, Inputs) and axis.idle is not None and axis.bias:
            bias = f"{name.rpartition('.')[0]}.{axis.bias.rpartition('.')[2]}"
            added[bias] = _idle(axis, source, tables[axis.over])
    for name, more in added.items():
        if name in after and name in before:
            after[name].add_(more)
    left = tuple(name for name in before if name not in after)
    lists = {name: tuple(names) for name, names in found.items()}
    return Grown(tuple(m.name for m in old.modalities), **lists, left=left, fresh=fresh)


def _tables(old: JointModel, new: JointModel) -> dict[str, Tensor]:
    """Of each modality, block and channel of the new model its place in the old one; -1 where it is new."""

    def names(model: JointModel) -> list[str]:
        return [m.name for m in model.modalities]

    def blocks(model: JointModel) -> list[frozenset[str]]:
        return [frozenset(group) for group in groups_of(model)]

    def found(here: list[Any], there: list[Any]) -> list[int]:
        return [there.index(one) if one in there else -1 for one in here]

    of_block = found(blocks(new), blocks(old))
    starts = [sum(old.process.channels[:b]) for b in range(old.process.blocks)]
    channels: list[int] = []
    for block, count in zip(of_block, new.process.channels, strict=True):
        there = 0 if block < 0 else old.process.channels[block]
        channels += [starts[block] + c if c < there else -1 for c in range(count)]
    lists = (channels, found(names(new), names(old)), of_block)
    return dict(zip(OVER, map(torch.tensor, lists), strict=True))


def _moved(
    before: Axis | None, axis: Axis, source: Tensor, target: Tensor, tables: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """A weight as the new model has it, and which of its elements are new; None where it does not fit."""
    if isinstance(axis, Inputs) and isinstance(before, Inputs):
        alike = all(
            getattr(axis, key) == getattr(before, key) for key in ("over", "inner", "parts", "axis", "skip", "tail")
        )
        table = tables[axis.over].to(source.device)
        n = axis.count(target.shape[axis.axis])
        if not alike or n != len(table) or before.count(source.shape[axis.axis]) < 0:
            return None
        there, rest = before.split(source)
        value = axis.split(torch.zeros_like(target))[0]
        if value.shape[:-2] != there.shape[:-2]:
            return None
        known = table >= 0
        value[..., known, :] = there[..., table[known], :]
        fresh = (~known)[:, None].expand(value.shape)
        return axis.join(value, rest), axis.join(fresh, torch.zeros_like(rest, dtype=torch.bool))
    if isinstance(axis, Places) and isinstance(before, Places):
        fits = source.shape[1:] == target.shape[1:] and len(axis.grid) == len(before.grid)
        sizes = (len(source), len(target)) == (math.prod(before.grid), math.prod(axis.grid))
        return _at_places(before, axis, source) if fits and sizes else None
    if isinstance(axis, Rows) and isinstance(before, Rows):
        size = axis.inner
        lengths = (len(source), len(target)) == (size * len(before.names), size * len(axis.names))
        if size != before.inner or not lengths or source.shape[1:] != target.shape[1:]:
            return None
        value, fresh = target.clone(), torch.ones_like(target, dtype=torch.bool)
        for at, name in enumerate(axis.names):
            if name in before.names:
                here, there = slice(at * size, (at + 1) * size), before.names.index(name) * size
                value[here], fresh[here] = source[there : there + size], False
        return value, fresh
    return None


def _at_places(before: Places, axis: Places, source: Tensor) -> tuple[Tensor, Tensor]:
    fresh = torch.zeros(math.prod(axis.grid), *source.shape[1:], dtype=torch.bool, device=source.device)
    if before.grid == axis.grid:
        return source, fresh
    columns = source.flatten(1).T.unflatten(1, before.grid)[None]
    value = F.interpolate(columns, axis.grid, mode=_MODES[len(axis.grid) - 1], align_corners=False)
    value = value[0].flatten(1).T.unflatten(1, source.shape[1:])
    if axis.summed:
        value = value * (math.prod(before.grid) / math.prod(axis.grid))
    return value, fresh


def _idle(axis: Inputs, source: Tensor, table: Tensor) -> Tensor:
    """What a layer read of those that are taken away, where they were absent."""
    assert axis.idle is not None
    there = axis.split(source)[0]
    gone = torch.ones(there.shape[-2], dtype=torch.bool, device=source.device)
    gone[table[table >= 0].to(source.device)] = False
    return (there[..., gone, :] * axis.idle.to(source)).sum((-3, -2, -1))


def groups_of(model: JointModel) -> list[list[str]]:
    """The names of each block's modalities, in the order in which another model must list them for their codes to lie as they do."""
    # In a block that is all of the space codes lie in the modalities' order, in one of several in the block's own.
    blocks = map(sorted, model.process.members) if model.process.blocks == 1 else model.process.members
    return [[model.modalities[i].name for i in block] for block in blocks]


def changes(old: JointModel, new: JointModel, grown: Grown) -> list[str]:
    """Why the new model's answers to questions of the old one are others, each in words; empty where they are the same."""
    found = []
    kinds = [type(model.backbone).__name__ for model in (old, new)]
    if kinds[0] != kinds[1]:
        found.append(f"the backbone is a {kinds[1]}, not a {kinds[0]}, whose weights do not go over")
    names = [m.name for m in old.modalities]
    here = {m.name: m for m in new.modalities}
    for m in old.modalities:
        if m.name not in here:
            found.append(f"{m.name} is left out")
        elif difference := another(m, here[m.name]):
            found.append(f"{m.name} has {difference}")
    blocks = {frozenset(group): number for number, group in enumerate(groups_of(new))}
    for number, (group, count) in enumerate(zip(groups_of(old), old.process.channels, strict=True)):
        there = blocks.get(frozenset(group))
        if there is None:
            found.append(f"{', '.join(group)} share no block of their own")
        elif (channels := new.process.channels[there]) != count:
            found.append(f"the block of {', '.join(group)} has {channels} channels, not {count}")
        elif old.space.grid == new.space.grid and not found and not _lie_alike(old, number, new, there):
            found.append(
                f"the codes of {', '.join(group)} lie elsewhere in their block, which lists them in another order"
            )
    if old.space.grid != new.space.grid:
        found.append(f"the space's grid is {new.space.grid}, not {old.space.grid}")
    if not found and new.process.steps != old.process.steps:
        found.append(f"the schedule has {new.process.steps} steps, not {old.process.steps}")
    if not found:
        columns = [[m.name for m in new.modalities].index(name) for name in names]
        there, mine = old.process.schedule, new.process.schedule.select(columns)
        if not (torch.equal(there.log_A, mine.log_A) and torch.equal(there.W, mine.W)):
            found.append(f"the schedule {mine.name!r} gives them other weights")
    if old.reading.how != new.reading.how:
        found.append(f"reading is {new.reading.how!r}, not {old.reading.how!r}")
    turned = [name for name in names if (name in old.trained_encoders) != (name in new.trained_encoders)]
    found += [f"the encoder of {name} is {'' if name in new.trained_encoders else 'not '}trained" for name in turned]
    targets = {task.name: target.name for task, target in zip(new.tasks, new.heads.targets, strict=True)}
    for task, target in zip(old.tasks, old.heads.targets, strict=True):
        if targets.get(task.name) != target.name:
            found.append(
                f"the task {task.name} is left out"
                if task.name not in targets
                else f"the task {task.name} has another target"
            )
    for m in old.variables:
        if old.heads.reads(m.name) and new.heads.reads(m.name) and old.heads.first(m.name) != new.heads.first(m.name):
            found.append(f"{m.name} is read by the task {new.heads.first(m.name)}, not {old.heads.first(m.name)}")
    if left := [name for name in grown.left if name.startswith("backbone.")]:
        found.append(f"the backbone has no place for {listed(left)}")
    return [*found, *grown.unfit]


def _lie_alike(old: JointModel, block: int, new: JointModel, there: int) -> bool:
    """Whether the codes of a block lie in it as they do in that of another model, which has the same modalities and channels."""
    return all(map(torch.equal, _places(old, block), _places(new, there)))


def _places(model: JointModel, block: int) -> list[Tensor]:
    """Of each modality of a block, by name, which element of its code lies where in the block, and how large."""
    placement, found = model.frame.placement, []
    before = sum(model.process.channels[:block]) * math.prod(model.space.grid)
    for i in sorted(model.process.members[block], key=lambda i: model.modalities[i].name):
        layer, at = (placement.owner == i).nonzero(as_tuple=True)
        scale = placement.scale[layer, at].float()  # of whatever dtype was the default
        found += [placement.source[layer, at] - sum(placement.sizes[:i]), at - before, scale]
    return found


def elsewhere(old: Modality, new: Modality) -> bool:
    """Whether a modality is of another size or has other classes, so that no old question is one of it."""
    return (old.code, old.spec) != (new.code, new.spec)


def another(old: Modality, new: Modality) -> str:
    """In what a modality differs from another of its name, in words; nothing where it does not."""
    if old is new:
        return ""
    if type(old).__name__ != type(new).__name__:
        return f"another kind, {type(new).__name__} in place of {type(old).__name__}"
    if old.code != new.code:
        return f"a code of {tuple(new.code)}, not {tuple(old.code)}"
    if old.spec != new.spec:
        both = (
            (field.name, getattr(old.spec, field.name), getattr(new.spec, field.name))
            for field in attrs.fields(type(old.spec))
        )
        name, there, mine = next(one for one in both if one[1] != one[2])
        return f"{name} {mine}, not {there}"
    there, mine = _options(old), _options(new)
    unlike = [name for name in {**there, **mine} if there.get(name) != mine.get(name)]
    return f"another {', '.join(unlike)}" if unlike else ""


def _options(m: Modality) -> dict[str, Any]:
    """What a modality was made with, also where that is a default; of a file its digest, wherever it lies."""
    parameters = inspect.signature(type(m)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty} if m.made else {}
    made = m.made.options if m.made else {}
    return {**defaults, **made, **m.kept, **{option: file.sha256 for option, file in m.files.items()}}
