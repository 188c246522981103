"""The section ``[model]``: checked part by part, then by composing the very model that will be trained.

A backbone is built only where nothing in the whole configuration is known to be wrong. Where something is, the rest is composed around
an empty one, so that what only fails together, such as a space without room for the codes, is told of too.
"""

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor, nn

from mmcore.config.check import Constructor, dotted
from mmcore.config.growing import Base, begin, read_base, schedule_of
from mmcore.config.once import Checked, Once
from mmcore.config.reading import Reading
from mmcore.config.schema import ModelOptions
from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.limits import SPACE, takes
from mmcore.modality.base import Modality, Task
from mmcore.model.compose import STEPS, check_trained, compose
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.plugins.loading import brief
from mmcore.space import Layout, Space

ENGINE = {"backbone": ("space", "modalities", "steps", "blocks"), "schedule": ("modalities",)}
"""What mmcore itself gives to a factory of each kind."""
_HOME = {"gains": "schedule_options.gains", "powers": "schedule_options.powers"}
"""Where options of :func:`mmcore.compose` are in ``[model]``, other than under their own names."""


class _Empty(nn.Module):
    """Stands for the backbone while the rest is checked: a network whose one feature is zero everywhere."""

    features = 1

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return z.new_zeros(len(z), self.features, *z.shape[2:])


def composed(
    options: ModelOptions,
    modalities: Sequence[Modality],
    tasks: Sequence[Task],
    *,
    seed: int,
    registry: Registry,
    backbone: nn.Module | None = None,
) -> JointModel:
    """The model that a configuration says.

    Args:
        options: the section ``[model]``.
        modalities: the composed ones.
        tasks: in their order.
        seed: of the initial weights.
        registry: that makes the schedule and the backbone.
        backbone: in place of the one that the options name.
    """
    told: dict[str, Any] = _schedule(options, len(modalities), registry)
    base = None
    if options.grows_from is not None and backbone is None:
        variables = [*modalities, *(task.target for task in tasks if not isinstance(task.target, str))]
        files = [file.path for m in variables for file in m.files.values() if file.path is not None]
        base = read_base(options.grows_from, files, registry)
        full = registry.schedule(options.schedule, modalities=len(modalities), **options.schedule_options)
        if (mine := schedule_of(base, options, full)) is not full:
            told = {"schedule": mine}
    model = compose(
        modalities,
        tasks,
        layout=options.layout,
        space=options.space,
        channels=options.channels,
        overlap=options.overlap,
        backbone=options.backbone if backbone is None else backbone,
        backbone_options=options.backbone_options if backbone is None else None,
        trained_encoders=options.trained_encoders,
        reading=options.reading,
        # An empty network, which stands for one that is not made, has no layers.
        adapters=options.adapters if backbone is None else None,
        seed=seed,
        registry=registry,
        **told,
    )
    if base is not None:
        begin(model, base, str(options.grows_from))
    return model


def _schedule(options: ModelOptions, modalities: int, registry: Registry) -> dict[str, Any]:
    """The schedule as :func:`compose` takes it: by name where that says all, so that models hold names rather than tables."""
    own = dict(options.schedule_options)
    if own.get("steps", STEPS) == STEPS and own.keys() <= {"steps", "gains", "powers"}:
        return {"schedule": options.schedule, "gains": own.get("gains"), "powers": own.get("powers")}
    return {"schedule": registry.schedule(options.schedule, modalities=modalities, **own)}


def read_model(
    reading: Reading,
    options: ModelOptions,
    modalities: Mapping[str, Modality],
    once: Once,
    base: Base | None = None,
) -> ModelOptions:
    """Check the section as far as that can be without a model; the options with every default."""
    names = list(reading.table("modalities"))
    if base is not None and list(modalities) == names and not reading.broken("modalities"):
        with contextlib.suppress(OptionError):  # of a layout or a space that cannot be, which is told of below
            options = base.filled(reading, options, modalities)

    def attempt(check: Callable[[], Any], *inside: str) -> Any:
        try:
            return check()
        except (MmcoreError, TypeError, ValueError) as error:
            place = ("model", *inside)
            named = ("model", *(name.removesuffix("_options") for name in inside))
            reading.refused(error, place, reading.table(*place), named=named)
            return None

    groups = attempt(lambda: Layout.groups(options.layout, names))
    space = None if options.space is None else attempt(lambda: Space(tuple(options.space or ())))
    attempt(lambda: check_trained(options.trained_encoders, names))
    backbone = _read_options(reading, "backbone", options.backbone, options.backbone_options)
    schedule = _read_options(reading, "schedule", options.schedule, options.schedule_options)
    if schedule is not None and not reading.broken("model", "schedule_options"):
        attempt(lambda: once.schedule(options.schedule, modalities=len(names), **schedule), "schedule_options")
    options = attrs.evolve(options, backbone_options=backbone or {}, schedule_options=schedule or {})
    codes = [m.code for m in modalities.values()]
    if space is None and options.space is None and codes and (groups is None or len(codes) == len(names)):
        with contextlib.suppress(RequestError):
            space = Space.for_codes(codes, groups)
    _check_size(reading, options, codes)
    if backbone is not None and space is not None:
        steps = options.schedule_options.get("steps", STEPS)
        engine = {"space": space, "modalities": len(names), "steps": steps, "blocks": len(groups or [()])}
        attempt(lambda: _check_options(_factory(reading, options), {**engine, **backbone}), "backbone_options")
    return options


def check_model(
    reading: Reading,
    options: ModelOptions,
    modalities: Mapping[str, Modality],
    tasks: Mapping[str, Task],
    seed: int,
    once: Once,
) -> Checked | None:
    """Compose the model, where its parts are right: with its backbone where nothing at all is wrong, else around an empty one.

    Returns:
        the model; None where it cannot be composed.
    """
    if any(reading.broken(section) for section in ("modalities", "tasks", "model")):
        return None
    backbone = _Empty() if reading.problems else None
    parts = tuple(modalities.values()), tuple(tasks.values())
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = composed(options, *parts, seed=seed, registry=once, backbone=backbone)
    except Exception as error:  # a plugin's own code may raise anything
        _refused(reading, error, options)
        return None
    options = attrs.evolve(options, space=list(model.space.shape))
    return Checked((options, seed, *parts), model, once, [(str(one.message), one.category) for one in told])


def _read_options(reading: Reading, kind: str, plugin: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of a backbone or schedule, checked against its signature, with every default that a file can hold."""
    place = ("model", f"{kind}_options")
    factory = reading.factory(kind, plugin, ("model", kind))
    if factory is None:
        return None
    whole = Constructor.of(factory)
    engine = [name for name in ENGINE[kind] if name in whole.options or whole.open]
    signature = Constructor.of(factory, without=engine)
    if kind == "schedule" and "steps" in signature.options:
        given = {"steps": STEPS} | dict(given)
    problems = signature.check(given, place, f"{kind} {plugin!r}", set_by_mmcore=engine)
    reading.problems += problems
    wrong = {p.key for p in problems}
    return signature.plain_defaults() | {k: v for k, v in given.items() if dotted(*place, k) not in wrong}


def _check_options(factory: Any, options: Mapping[str, Any]) -> None:
    """Have a factory look at its options without making anything, where it can: by a function ``check`` that takes them all."""
    check = getattr(factory, "check", None)
    if not callable(check):
        return
    try:
        bound = inspect.signature(factory).bind(**options)
        bound.apply_defaults()
        asked = {name: value for name, value in bound.arguments.items() if name in Constructor.of(factory).options}
        inspect.signature(check).bind(**asked)
    except TypeError:  # told of by the signature's own check, or by the constructor
        return
    check(**asked)


def _factory(reading: Reading, options: ModelOptions) -> Any:
    return reading.factory("backbone", options.backbone, ("model", "backbone"))


def _check_size(reading: Reading, options: ModelOptions, codes: Sequence[tuple[int, ...]]) -> None:
    elements, needed = math.prod(options.space or [1]), sum(map(math.prod, codes))
    if too_many := SPACE.excess(max(elements, needed)):
        what = "model.space" if elements > needed else "modalities"
        most = f"{too_many}; expected fewer{takes(max(elements, needed))}"
        reading.say(what, f"a space of {most}")


def _refused(reading: Reading, error: Exception, options: ModelOptions) -> None:
    """What composing refused, at its place in the file."""
    given = reading.table("model")
    if isinstance(error, OptionError):
        for one in (error, *error.also):
            named = one.option.startswith(("modalities", "tasks"))
            moved = one.called(_HOME.get(one.option, one.option))
            reading.refused(moved, () if named else ("model",), reading.given if named else given)
    elif isinstance(error, MmcoreError) and error.option:
        known = Constructor.of(_factory(reading, options), without=ENGINE["backbone"]).options
        named = ("model", error.option.removesuffix("_options"))
        reading.refused(error, ("model", error.option), {}, known, named=named)
    else:
        text = str(error) if isinstance(error, MmcoreError) else brief(error)
        reading.say("model", f"cannot be composed: {text[:300]}; expected parts that fit together")
