"""What modules say of the axes of their weights (`weight_axes`), by which a trained model grows."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.modality.axes import OVER, Growing, Inputs, Places, Rows, Still
from mmcore.model.compose import compose
from mmcore.model.extending import extend
from mmcore.model.growing import carry
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role
from mmcore.process import Schedule
from mmcore.space import Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_backbone import STEPS, made_backbone
from mmcore.testing.context import SPACES, Context, renamed
from mmcore.testing.reference import Reference

SIZES = ((Space((2, 4, 4)), 2, 2), (Space((3, 4, 4)), 2, 2), (Space((2, 4, 4)), 3, 2), (Space((2, 4, 4)), 2, 3), (Space((3, 7)), 1, 1), (Space((2, 2, 3, 4)), 3, 1))  # fmt: skip
"""Spaces, modalities and blocks: a first, and each with one channel, modality or block more; then other axes."""


def _told(module: nn.Module) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """What each part of a module says, by the part's place."""
    for place, part in module.named_modules():
        if isinstance(part, Growing):
            yield place, part, part.weight_axes()


def _check_axis(c: Context, what: str, axis: Any, part: nn.Module, name: str, space: Space, counts: Mapping[str, int]) -> None:  # fmt: skip
    """One weight's axis against its shape; ``counts`` is empty where a part does not know how many there are."""
    weights = dict(part.named_parameters())
    if name not in weights:
        c.fail(f"an axis of {what}, which is no weight", f"one of {', '.join(weights)}")
    shape = tuple(weights[name].shape)
    if isinstance(axis, Inputs):
        if axis.over not in OVER:
            c.fail(f"{what} over {axis.over!r}", f"one of {', '.join(OVER)}")
        if not -len(shape) <= axis.axis < len(shape):
            c.fail(f"{what} of shape {shape} on its axis {axis.axis}", "an axis that it has")
        length, n = shape[axis.axis], axis.count(shape[axis.axis])
        want, others = counts.get(axis.over, n), tuple(x for k, x in enumerate(shape) if k != axis.axis % len(shape))
        if n < 0 or n != want:
            c.fail(f"{what} of shape {shape} as {axis.parts} parts of {want} {axis.over} of {axis.inner}, without {axis.skip} and with {axis.tail} more", f"an axis {axis.axis} of {axis.parts * want * axis.inner - axis.skip * axis.inner + axis.tail}, not {length}")  # fmt: skip
        if axis.idle is not None and (axis.idle.shape != (axis.inner,) or not axis.idle.isfinite().all()):
            c.fail(f"{what} with an idle reading of shape {tuple(axis.idle.shape)}", f"({axis.inner},), finite")
        if axis.idle is not None and (axis.bias not in weights or weights[axis.bias].shape != others):
            c.fail(f"{what} with {axis.bias!r} as the bias to which an idle reading adds", f"a weight of shape {others}")  # fmt: skip
    elif isinstance(axis, Places):
        if shape[0] != math.prod(axis.grid) or len(axis.grid) != len(space.grid):
            c.fail(f"{what} of shape {shape} over the places {axis.grid} in {space}", "a first axis of as many places, on as many axes")  # fmt: skip
    elif isinstance(axis, Rows):
        if shape[0] != axis.inner * len(axis.names):
            c.fail(f"{what} of shape {shape} as {len(axis.names)} times {axis.inner} rows", f"a first axis of {axis.inner * len(axis.names)}")  # fmt: skip
        if len(set(axis.names)) < len(axis.names) or not all(isinstance(one, str) for one in axis.names):
            c.fail(f"{what} with rows of {', '.join(map(str, axis.names))}", "a text for each, by which it is known again")  # fmt: skip
    elif not isinstance(axis, Still):
        c.fail(f"{what} over {axis!r}", "one of the classes of mmcore.modality.axes")


@check("backbone.axes", kind="backbone", fault="a weight that grows and is left out, a wrong number of parts", core=False)  # fmt: skip
def backbone_axes(c: Context) -> None:
    """What `weight_axes` says of a weight agrees with its shape in spaces of every kind, and a part that says something leaves out no weight that grows with channels, modalities or blocks."""
    shapes: list[dict[str, tuple[int, ...]]] = []
    for space, modalities, blocks in SIZES:
        backbone = made_backbone(c, space, modalities, blocks)
        counts = {"channels": space.shape[0], "modalities": modalities, "blocks": blocks}
        said = list(_told(backbone))
        if not said:
            raise NotRun("it says nothing of its weights: a model around it is not extended")
        for place, part, axes in said:
            for name, axis in axes.items():
                _check_axis(c, f"{place}.{name}".lstrip("."), axis, part, name, space, counts)
        shapes.append({name: tuple(p.shape) for name, p in backbone.named_parameters()})
        known = {f"{place}.{name}".lstrip(".") for place, _, axes in said for name in axes}
        within = tuple(f"{place}." if place else "" for place, _, _ in said)
        for name, shape in shapes[-1].items():
            first = shapes[0].get(name, shape)
            if len(space.grid) == 2 and shape != first and name not in known and name.startswith(within):
                c.fail(f"nothing of {name}, which is {first} in {SIZES[0][0]} of {SIZES[0][1]} modalities in {SIZES[0][2]} blocks, and {shape} in {space} of {modalities} in {blocks}", "what its axis runs over")  # fmt: skip


@check(
    "backbone.extends",
    kind="backbone",
    fault="columns in another order than it says, an absent modality that reads as something else",
    core=False,
    tolerance=1e-3,
)
def extends(c: Context) -> None:
    """A model around it that is extended by a modality answers its old questions as it did, in one block and in several; where it takes a depth, also by a deeper one.

    Trained since and made smaller again, it answers as where that modality was absent.
    """
    for layout in ("shared", "separate"):
        old = _model(c, layout)
        deeper = _deeper(c, old.backbone)
        for options in ({}, *([{"depth": deeper}] if deeper else [])):
            space = attrs.evolve(old.space, shape=(old.space.shape[0] + 1, *old.space.grid))
            kinds = len(old.process.members) + 1
            backbone = c.thing(space=space, modalities=3, steps=STEPS, blocks=kinds, **options)
            try:
                larger = extend(old, [renamed(Reference(2), "new")], backbone=backbone, seed=c.seed)
            except RequestError as error:
                if isinstance(backbone, Growing):
                    c.fail(f"an extension that is refused: {error}", "one by what weight_axes() says")
                raise NotRun(f"it does not say how it grows, so that an extension is refused: {error}") from error
            how = f"after an extension by one modality{f' and {deeper} blocks' if options else ''}, layout {layout!r}"
            _check_answers(c, larger, old, how)
            if not options:
                _shake(c, larger)
                smaller = _model(c, layout)
                carry(larger, smaller)
                _check_answers(c, smaller, larger, f"after a modality was taken away again, layout {layout!r}")


def _check_answers(c: Context, model: JointModel, other: JointModel, how: str) -> None:
    """Both answer alike, the second modality generated, observed or absent and a third absent."""
    for role in (Role.GENERATE, Role.OBSERVE, Role.ABSENT):
        want, got = _answers(c, other, role), _answers(c, model, role)
        for name, x in want.items():
            c.same(got[name], x, f"the answer of {name} {how}, the other {role.name.lower()}d", like=x)


def _model(c: Context, layout: str) -> JointModel:
    """A model of two modalities around the backbone, as if it had been trained."""
    members, shape = [renamed(Reference(2), "first"), renamed(Reference(3), "second")], (2, 2, 2)
    blocks = 1 if layout == "shared" else 2
    W = torch.linspace(0, -4, STEPS + 1).exp()[:, None].repeat(1, 2)
    table = Schedule.from_cumulative(torch.linspace(0, -8, STEPS + 1), W)
    backbone = c.thing(space=Space(shape), modalities=2, steps=STEPS, blocks=blocks)
    model = compose(members, layout=layout, space=shape, schedule=table, backbone=backbone).eval()
    _shake(c, model)
    return model


def _shake(c: Context, model: JointModel) -> None:
    """Put random weights on all that is trained."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            if p.requires_grad and p.ndim:
                p += 0.2 * c.rng(1, f"weight {k}").normal(*p.shape)[0]


def _deeper(c: Context, backbone: nn.Module) -> int:
    """One block more than a backbone has; 0 where that is not known, or is no option."""
    blocks = getattr(backbone, "blocks", None)
    depth = len(blocks) + 1 if isinstance(blocks, nn.ModuleList) else 0
    try:
        made = c.thing(space=SPACES[1], modalities=1, steps=STEPS, blocks=1, depth=depth) if depth else None
    except (TypeError, RequestError):
        return 0
    return depth if made is not None and len(made.blocks) == depth else 0


def _answers(c: Context, model: JointModel, role: Role) -> Mapping[str, Tensor]:
    """What the network says of the first modality, the second in this role, a third absent."""
    n, blocks = 4, model.process.blocks
    roles = torch.tensor([[int(Role.GENERATE), int(role), int(Role.ABSENT)]] * n)[:, : len(model.modalities)]
    batch = {m.name: m.typical(n, c.seed) for m in model.variables}
    t = c.rng(n, "t").integers(1, STEPS + 1, 3)[:, :blocks]
    noise = c.rng(n, "noise").normal(3, *model.space.grid)[:, : model.space.shape[0]]
    placed = model.frame.place(model.encode(batch))
    drive = model.drive(t, roles)
    condition = model.condition(placed, drive, model.there(batch))
    with torch.inference_mode():
        read = model.read(model.noisy(placed, drive, noise), drive)
        found = model.predict(read, drive.t, drive.timesteps, roles, condition)
    return {name: x.clone() for name, x in found.items() if name != "new"}


@check("decoder.axes", fault="rows by pixels that are said to be by class, names in another order", core=False)
def decoder_axes(c: Context) -> None:
    """What a decoder or an encoder says of its weights by `weight_axes` agrees with their shapes, and the rows of a class are those by which it becomes likelier."""
    said = False
    for space in SPACES:
        for part in (c.decoder(space), c.modality.encoder()):
            for place, module, axes in _told(part):
                for name, axis in axes.items():
                    said = True
                    _check_axis(c, f"{place}.{name}".lstrip("."), axis, module, name, space, {})
                    if isinstance(axis, Rows) and dict(module.named_parameters())[name].ndim == 1:
                        _rows(c, part, space, f"{place}.{name}".lstrip("."), axis)
    if not said:
        raise NotRun("it says nothing of its weights")


def _rows(c: Context, decoder: nn.Module, space: Space, name: str, axis: Rows) -> None:
    """With more in the bias of a class's rows, samples of that class gain more than those of any other."""
    classes = _classes(c, len(axis.names))
    if classes is None:
        return
    given = c.features(1, space)

    def losses(decoder: nn.Module) -> Tensor:
        with torch.no_grad():
            params = decoder(*given)
            return c.loss(params.expand(len(classes), *params.shape[1:]), classes)

    texts = [shown if isinstance(shown := c.modality.show(x), str) else str(k) for k, x in enumerate(classes)]
    if set(texts) == set(axis.names) and texts != list(axis.names):
        c.fail(f"the rows of {name} as {', '.join(axis.names)}", f"{', '.join(texts)}, as the classes are shown")
    before = losses(decoder)
    for k, told in enumerate(axis.names):
        raised = copy.deepcopy(decoder)
        with torch.no_grad():
            dict(raised.named_parameters())[name][k * axis.inner : (k + 1) * axis.inner] += 1.0
        gained = before - losses(raised)
        if int(gained.argmax()) != k or not gained[k] > 0:
            c.fail(f"more in the rows {told!r} of {name}, by which class {int(gained.argmax())} gains most", f"class {k}")  # fmt: skip


def _classes(c: Context, count: int) -> Tensor | None:
    """A sample of each class, all of it; None where there are not so many classes, or samples are none of classes."""
    spec = c.modality.spec
    if spec.dtype == torch.bool and spec.shape == (count,):
        return torch.eye(count, dtype=torch.bool)
    if spec.dtype.is_floating_point or spec.low is None or spec.high is None or spec.high - spec.low + 1 != count:
        return None
    values = torch.arange(int(spec.low), int(spec.high) + 1)
    return values.reshape(-1, *[1] * len(spec.shape)).expand(-1, *spec.shape).to(spec.dtype)
