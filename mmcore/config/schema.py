"""What a configuration says, as frozen classes; they know nothing of files.

The sections ``[data]`` and ``[training]`` are :class:`mmcore.data.DataOptions` and
:class:`mmcore.training.TrainOptions` themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mmcore.data.options import DataOptions
from mmcore.model.compose import STEPS
from mmcore.model.reading import READINGS
from mmcore.options import FLAG, TABLE, TEXT, Rule, check, one_of, option, whole, within
from mmcore.sampling.denoiser import CODES
from mmcore.sampling.question import CONDITIONING
from mmcore.sampling.samplers import SPACINGS
from mmcore.training import TrainOptions


@attrs.frozen
class Part:
    """A plugin's name and options in a configuration.

    Attributes:
        plugin: the offer's name, or ``distribution:name``.
        options: of its constructor.
    """

    plugin: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


_TARGET = Rule("a modality", lambda value: isinstance(value, Part) or TEXT.holds(value))


@attrs.frozen
class TaskPart:
    """A prediction head in a configuration: a target and the weight of its loss.

    Attributes:
        target: a composed modality's name; or a modality that is predicted and never encoded.
        weight: the factor of its loss.
    """

    target: str | Part = option(rule=_TARGET)
    weight: float = option(1.0, rule=within(0))

    def __attrs_post_init__(self) -> None:
        check(self, "task")


@attrs.frozen
class ModelOptions:
    """The section ``[model]``: arguments of :func:`mmcore.compose`.

    Attributes:
        layout: ``"shared"``, ``"separate"``, or lists of modality names, one block each.
        space: ``(C, *grid)``; by default the smallest with room for all codes.
        channels: each block's channels; by default what its codes need, and the fullest what is left.
        overlap: let codes overlap where there is no room.
        schedule: a schedule's name.
        schedule_options: its own, such as ``steps`` (``T``, 1000 by default), ``gains`` and ``powers``, one per modality.
        backbone: a backbone's name.
        backbone_options: its own.
        trained_encoders: names of modalities whose encoders learn.
        reading: how noisy latents are read, ``"codes"``, or to compare ``"space"``, as in :func:`mmcore.compose`.
        grows_from: a trained model's folder, or its run's, whose weights this one begins with; it answers what that one answers, and what is left out here is as
            there. ``mmcore train --from`` says it.
        adapters: LoRA in the network, ``{ rank = 16, modules = "attention" }``; none by default.
    """

    layout: str | Sequence[Sequence[str]] = "shared"
    space: Sequence[int] | None = None
    channels: Sequence[int] | None = None
    overlap: bool = False
    schedule: str = "cosine"
    schedule_options: Mapping[str, Any] = attrs.field(factory=lambda: {"steps": STEPS})
    backbone: str = "transformer"
    backbone_options: Mapping[str, Any] = attrs.field(factory=dict)
    trained_encoders: Sequence[str] = ()
    reading: str = option("codes", rule=one_of(*READINGS))
    grows_from: str | None = None
    adapters: Mapping[str, Any] | None = option(None, rule=TABLE.or_none())


@attrs.frozen
class SamplingOptions:
    """The section ``[sampling]``: how a run's samples are drawn, unless the command line says otherwise.

    Attributes:
        n: how many.
        steps: of the sampler; by default as many as :func:`mmcore.sample` takes.
        sampler: ``"auto"``, ``"ddim"``, ``"ancestral"``, ``"2m"``, ``"heun"`` or a plugin's.
        spacing: ``"time"`` or ``"snr"``.
        eta: DDIM's; by default the schedule's own.
        codes: ``"mean"``, ``"draw"`` or ``"draw-all"``.
        draw: draw continuous modalities too.
        conditioning: ``"roles"``, ``"posterior"`` or ``"rejection"``.
        seed: of the samples; by default the run's.
    """

    n: int = option(64, rule=whole(1))
    steps: int | None = option(None, rule=whole(1).or_none())
    sampler: str = option("auto", rule=TEXT)
    spacing: str = option("time", rule=one_of(*SPACINGS))
    eta: float | None = option(None, rule=within(0, 1).or_none())
    codes: str = option("mean", rule=one_of(*CODES))
    draw: bool = option(False, rule=FLAG)
    conditioning: str = option("roles", rule=one_of(*CONDITIONING))
    seed: int = option(0, rule=whole())

    def __attrs_post_init__(self) -> None:
        check(self, "sampling")

    def how(self) -> dict[str, Any]:
        """Arguments of :func:`mmcore.sample`; what every sampler does anyway is left out, as a plugin's may have no such option."""
        how = attrs.asdict(self, filter=attrs.filters.exclude("n"))
        plain = {"spacing": "time", "codes": "mean"}
        return {name: value for name, value in how.items() if plain.get(name, how) != value}


@attrs.frozen
class Config:
    """A whole configuration, resolved: all that decides a run.

    Attributes:
        out: the run's folder.
        seed: of everything random, where a section has no seed of its own.
        device: ``"auto"``, or one of torch's names.
        threads: of the CPU; 0 for as many as torch finds.
        data: where rows come from.
        modalities: by name.
        tasks: by name; by default each modality's recovery.
        model: what is composed.
        training: how to train.
        sampling: how to sample.
    """

    out: str
    data: DataOptions
    modalities: Mapping[str, Part]
    tasks: Mapping[str, TaskPart]
    model: ModelOptions = attrs.field(factory=ModelOptions)
    training: TrainOptions = attrs.field(factory=TrainOptions)
    sampling: SamplingOptions = attrs.field(factory=SamplingOptions)
    seed: int = 0
    device: str = "auto"
    threads: int = 0
