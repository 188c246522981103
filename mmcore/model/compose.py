"""Building a joint model from modalities, a noise schedule and a backbone."""

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, cast

import torch
from torch import nn

from mmcore.errors import OptionError, PluginError, RequestError, about, nearest
from mmcore.hooks import Made
from mmcore.limits import SPACE, takes
from mmcore.modality.base import Modality, Task
from mmcore.modality.spec import Spec
from mmcore.model.backbones.base import lacks, mark
from mmcore.model.budget import Budget
from mmcore.model.composition import Composition
from mmcore.model.joint import JointModel
from mmcore.model.reading import READINGS
from mmcore.options import SEED, check_call, require
from mmcore.plugins import Registry, discover
from mmcore.process import Blocks, Schedule
from mmcore.space import Layout, Space, place

STEPS = 1000
"""``T`` of a schedule asked for by name."""


def compose(
    modalities: Iterable[Modality],
    tasks: Iterable[Task] | None = None,
    *,
    gains: Sequence[float] | None = None,
    powers: Sequence[float] | None = None,
    layout: str | Sequence[Sequence[str]] = "shared",
    space: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    overlap: bool = False,
    schedule: str | Schedule = "cosine",
    backbone: str | nn.Module = "transformer",
    backbone_options: Mapping[str, Any] | None = None,
    trained_encoders: Collection[str] = (),
    reading: str = "codes",
    adapters: Mapping[str, Any] | None = None,
    seed: int = 0,
    registry: Registry | None = None,
) -> JointModel:
    """Build a joint diffusion model from modalities, a noise schedule and a backbone.

    Args:
        modalities: at least one; names differ.
        tasks: by default each modality's recovery. A modality that no task recovers is only observed.
        gains: ``g_i`` of a named schedule, one per modality.
        powers: ``p_i`` of a named schedule, one per modality.
        layout: ``"shared"`` (one block and timestep for all, the article's process), ``"separate"`` (one block each, with a timestep
            each), or groups of modality names, one block each.
        space: ``(C, *grid)``; by default the smallest with room for all codes.
        channels: each block's channels of the space, in the layout's order; by default what its codes need, and the fullest ones what is left.
        overlap: let codes overlap where there is no room, with a warning.
        schedule: a name (``T = 1000``) or a :class:`Schedule` of as many modalities.
        backbone: a name; or a ``torch.nn.Module`` that does what :class:`mmcore.Backbone` says, with the weights that it has.
        backbone_options: for a backbone by name.
        trained_encoders: names of modalities whose encoders learn, by a turn that keeps their codes' variance
            (:class:`mmcore.modality.orthogonal.Turned`); the others are fixed.
        reading: how noisy latents are read. ``"codes"``: each code by itself and at unit variance wherever it lies, zero where there is none that is
            generated; and heads begin from what a modality's own noisy code says (:class:`mmcore.modality.NoisyCode`). ``"space"``: as they are, at
            unit variance as a whole; models of older folders are so, and it is there to compare.
        adapters: LoRA in the network, such as ``{"rank": 16, "modules": "attention"}`` (its options: ``mmcore.model.adapters.Adapters``): its own weights then stay as they
            are. None for none.
        seed: of the initial weights.
        registry: where names are looked up; by default a new :func:`mmcore.discover`.

    Raises:
        OptionError: an empty composition, equal names, a space with no room, an unknown name,
            gains, powers or tables of the wrong length; of the backbone's own options ``backbone_options.NAME``.
        RequestError: an object that lacks a member of its protocol, a plugin's name that is not installed, or options that a plugin
            refuses in words of its own.
        PluginError: a plugin that is broken, or a backbone's that makes one that lacks a member.
    """
    check_call(compose, locals(), apart=["schedule", "backbone"])
    require("compose", seed=(seed, SEED))
    if reading not in READINGS:
        raise OptionError("compose", "reading", reading, choices=READINGS)
    if not isinstance(schedule, str | Schedule):
        raise OptionError("compose", "schedule", schedule, "a name or a mmcore.Schedule")
    if not isinstance(backbone, str) and backbone_options:
        raise OptionError(
            "compose",
            "backbone_options",
            backbone_options,
            "none with a backbone that is given as an object, or its name",
        )
    modalities = tuple(modalities)
    if not modalities:
        raise OptionError("compose", "modalities", [], "at least one modality")
    for m in modalities:
        _check_modality(m, encoded=True)
    if not isinstance(backbone, str):
        _check_backbone(backbone)
    tasks = [Task(m.name, m.name) for m in modalities] if tasks is None else list(tasks)
    _check_names(modalities, tasks)
    names = [m.name for m in modalities]
    check_trained(trained_encoders, names)
    codes = [m.code for m in modalities]
    members = Layout.groups(layout, names)
    check_space(space, codes)
    latent_space = Space.for_codes(codes, members) if space is None else Space(tuple(space))
    if channels is not None:
        channels = list(channels)
    blocks = Layout.fit(members, codes, latent_space, overlap=overlap, channels=channels)
    placement = place(codes, latent_space, layout=blocks, overlap=overlap)
    if isinstance(schedule, str) or isinstance(backbone, str):
        registry = registry or discover()
    scheduled: Made | None = None
    if isinstance(schedule, str):
        assert registry is not None
        options = {k: list(v) for k, v in (("gains", gains), ("powers", powers)) if v is not None}
        for option, values in options.items():
            if len(values) != len(modalities):
                raise OptionError("compose", option, values, f"{len(modalities)} numbers, one per modality")
        # One schedule for the composition, of which each block has its modalities: N is the composition's, whatever the layout.
        full: Schedule
        scheduled, full = registry.make("schedule", schedule, {"steps": STEPS, "modalities": len(modalities)} | options)
        schedules = [full.select(block) for block in members]
    elif gains is not None or powers is not None:
        option, values = ("powers", powers) if gains is None else ("gains", gains)
        raise OptionError(
            "compose",
            option,
            values,
            "none with a schedule that is given as an object",
            mend="put them into the Schedule",
        )
    elif schedule.modalities != len(modalities):
        raise OptionError(
            "compose", "schedule", schedule.name, f"one of {len(modalities)} modalities, not {schedule.modalities}"
        )
    else:
        schedules = [schedule.select(block) for block in members]
    process = Blocks(schedules, members, blocks.channels)
    for block_schedule, block, count in zip(schedules, members, blocks.channels, strict=True):
        _warn_of_prior(block_schedule, [modalities[i] for i in block], Space((count, *latent_space.grid)))
    # Initial weights by the seed alone; the global generator is left as it was.
    with torch.random.fork_rng(devices=[]), Budget():
        torch.manual_seed(seed)
        if isinstance(backbone, str):
            assert registry is not None
            chosen_options = dict(backbone_options or {})
            parts = {
                "space": latent_space,
                "modalities": len(modalities),
                "steps": process.steps,
                "blocks": process.blocks,
                **chosen_options,
            }
            with about("backbone_options"):
                made, backbone = registry.make("backbone", backbone, parts)
            assert isinstance(backbone, nn.Module)
            if missing := lacks(backbone):
                raise PluginError(
                    f"backbone {made.offer!r} of {made.distribution} {made.version}: {'; '.join(missing)}"
                )
            # One that was made of a file says how it is made again without it.
            again = getattr(backbone, "remade_with", None) or chosen_options
            mark(backbone, made._replace(options=dict(again)))
        features = cast(int, backbone.features)
        model = JointModel(
            modalities,
            tasks,
            space=latent_space,
            placement=placement,
            process=process,
            backbone=backbone,
            features=features,
            trained_encoders=trained_encoders,
            reading=reading,
        )
    if callable(begin := getattr(backbone, "composed", None)):
        begin(model)
    told = None if adapters is None else _adapted(model, adapters, seed)
    groups = layout if isinstance(layout, str) else [list(group) for group in layout]
    model.config = Composition(
        groups, latent_space.shape, overlap, list(trained_encoders), reading, scheduled, channels, told
    )
    return model


def _adapted(model: JointModel, adapters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Adapt the model's network; the options as plain values."""
    # What brings peft is for those who ask for it.
    from mmcore.model.adapters import Adapters, adapt

    chosen = Adapters.of(adapters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapt(model.backbone, chosen)
    return chosen.record()


def check_space(space: Sequence[int] | None, codes: Sequence[tuple[int, ...]]) -> None:
    """Refuse a space, or codes, of too many elements, before anything is made of that size.

    Raises:
        OptionError: beyond the limit.
    """
    for option, sizes in (("space", [] if space is None else [space]), ("modalities", codes)):
        whole = sum(math.prod(n for n in size if isinstance(n, int)) for size in sizes)
        SPACE.check("compose", option, list(sizes[0]) if option == "space" and sizes else [*sizes], whole, takes(whole))


def _check_backbone(backbone: object) -> None:
    """Refuse an object that cannot be a backbone, naming what it lacks."""
    if isinstance(backbone, type):
        raise RequestError(
            f"compose: backbone is the class {backbone.__name__}, expected an object, {backbone.__name__}(…)"
        )
    if not isinstance(backbone, nn.Module):
        raise RequestError(
            f"compose: backbone is a {type(backbone).__name__}, expected a name or a torch.nn.Module (mmcore.Backbone)"
        )
    if missing := lacks(backbone):
        raise RequestError(
            f"compose: the backbone, a {type(backbone).__name__}, is no mmcore.Backbone: {'; '.join(missing)}"
        )


def _check_modality(m: object, *, encoded: bool) -> None:
    """Refuse an object that cannot be a modality, naming what it lacks; one that nothing encodes needs no code."""
    kind = type(m).__name__
    if isinstance(m, type):
        raise RequestError(
            f"compose: found the class {m.__name__} among the modalities, expected an object, {m.__name__}(…)"
        )
    if not isinstance(m, Modality):
        members = ("name", "spec", "code", *sorted(Modality.__abstractmethods__))
        missing = [member for member in members if not hasattr(m, member)]
        if len(missing) > len(members) // 2:  # no attempt at one
            raise OptionError("compose", "modalities", m, "mmcore.Modality objects")
        without = f" and has no {', '.join(missing)}" if missing else ""
        raise RequestError(f"compose: modality {kind} is no subclass of mmcore.Modality{without}")
    spec, code = getattr(m, "spec", None), getattr(m, "code", None)
    if not isinstance(spec, Spec):
        fault = "has no spec" if spec is None else f"has a {type(spec).__name__} as spec"
        raise RequestError(
            f"compose: modality {m.name!r}, a {kind}, {fault}, expected a mmcore.Spec set in its constructor"
        )
    sizes = code if isinstance(code, Sequence) and not isinstance(code, str) else ()
    if encoded and not (sizes and all(isinstance(n, int) and n >= 1 for n in sizes)):
        fault = "has no code" if code is None else f"has code = {code!r}"
        raise RequestError(
            f"compose: modality {m.name!r}, a {kind}, {fault}, expected its code's shape, such as (8,), set in its constructor"
        )


def check_trained(trained_encoders: Iterable[str], names: Sequence[str]) -> None:
    """Refuse names of trained encoders that are not among those of the modalities.

    Raises:
        OptionError: naming the nearest.
    """
    for name in trained_encoders:
        if name not in names:
            expected = f"names among {', '.join(names)}, not {name!r}{nearest(str(name), names)}"
            raise OptionError("compose", "trained_encoders", list(trained_encoders), expected)


def _check_name(option: str, name: object) -> None:
    """Refuse a name that no module of torch's can be stored under."""
    # They are parts of file names, and are printed.
    if not isinstance(name, str) or not name or not name.isprintable() or not {".", "/", "\\"}.isdisjoint(name):
        raise OptionError("compose", option, name, "names without dots, slashes and what is not seen")
    if hasattr(nn.ModuleDict, name):
        raise OptionError("compose", option, name, "other names than those of torch's own containers")


def _check_names(modalities: Sequence[Modality], tasks: Sequence[Task]) -> None:
    names = [m.name for m in modalities]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(
                "compose", "modalities", names, f"a name for each of its own, not {name!r} {names.count(name)} times"
            )
        _check_name("modalities", name)
    if not tasks:
        raise OptionError("compose", "tasks", [], "at least one task (None for each modality's recovery)")
    for task in tasks:
        if not isinstance(task, Task):
            raise OptionError("compose", "tasks", task, "mmcore.Task objects")
        if not isinstance(task.target, str):
            _check_modality(task.target, encoded=False)
        for part in ("decoder", "loss"):
            thing = getattr(task, part)
            if thing is not None and not callable(thing):
                raise RequestError(
                    f"compose: task {task.name!r} has {part} = {thing!r}, expected something to call, or None"
                )
    titles = [task.name for task in tasks]
    extra: dict[str, Modality] = {}
    for task in tasks:
        _check_name("tasks", task.name)
        option = f"tasks.{task.name}"
        if not isinstance(task.weight, Real) or not 0 <= float(task.weight) < math.inf:
            raise OptionError("compose", f"{option}.weight", task.weight, "a number of at least 0")
        if titles.count(task.name) > 1:
            raise OptionError(
                "compose",
                "tasks",
                titles,
                f"a name for each of its own, not {task.name!r} {titles.count(task.name)} times",
            )
        if isinstance(task.target, str):
            if task.target not in names:
                expected = f"one of {', '.join(names)}, or a Modality object"
                raise OptionError("compose", f"{option}.target", task.target, expected, tuple(names))
        elif task.target.name in names or extra.setdefault(task.target.name, task.target) is not task.target:
            raise OptionError(
                "compose",
                f"{option}.target",
                task.target,
                f"another name for it than {task.target.name!r}, which is taken",
                mend="for a composed modality give its name as the target",
            )
    if not any(isinstance(task.target, str) for task in tasks):
        raise OptionError(
            "compose", "tasks", titles, "one that recovers a composed modality, or there is nothing to generate"
        )


def _warn_of_prior(schedule: Schedule, modalities: Sequence[Modality], space: Space) -> None:
    """Warn where ``L0`` is not small: samples start from ``N(0, I)``, which the process then does not reach."""
    variance, weight = schedule.variance[-1], schedule.W[-1].square()
    sizes = torch.tensor([float(torch.Size(m.code).numel()) for m in modalities], dtype=torch.float64)
    own = variance - 1 - variance.log()
    per_element = 0.5 * (own + (sizes * weight).sum() / space.size)
    if per_element > 1e-3:
        warnings.warn(
            f"schedule {schedule.name!r}: L0 is {per_element * space.size:.3g} nats ({per_element:.2g} per element, "
            f"terminal SNR {schedule.terminal_snr.max():.2g}): the process does not reach the prior N(0, I)",
            stacklevel=3,
        )
