"""What a run will ask after its first step, asked when its configuration is read: the question that it samples by, its validation, its folder.

Whatever is refused here would otherwise be refused after the training. :func:`mmcore.runs.run.train` does nothing at its end
that is not asked here, or before its first step.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from mmcore.config.check import Constructor
from mmcore.config.reading import Reading
from mmcore.config.schema import SamplingOptions
from mmcore.data.opening import check_part
from mmcore.data.options import DataOptions
from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.limits import BATCH
from mmcore.modality.base import Task
from mmcore.model.compose import STEPS
from mmcore.model.joint import JointModel
from mmcore.process import Process
from mmcore.process.schedule import cosine
from mmcore.sampling import plan
from mmcore.sampling.question import Question
from mmcore.sampling.samplers import SAMPLERS, check_name
from mmcore.store.folder import check_writable
from mmcore.training import TrainOptions
from mmcore.training.validation import check_best


def check_ends(
    reading: Reading,
    out: str,
    data: DataOptions | None,
    training: TrainOptions | None,
    sampling: SamplingOptions | None,
    tasks: Mapping[str, Task],
) -> None:
    """Ask what can be asked without a model; a section that is wrong by itself is left out.

    Args:
        reading: what is wrong is told to it.
        out: the run's folder.
        data: where rows come from.
        training: how to train.
        sampling: how samples are drawn, at the end and on the way.
        tasks: of the model.
    """
    sampler = reading.table("sampling").get("sampler", "auto")
    if isinstance(sampler, str):
        # Told also where something else is wrong with the section.
        try:
            check_name(sampler, reading.registry)
        except OptionError as error:
            reading.refused(error, ("sampling",), reading.table("sampling"))
    if sampling is not None and sampling.conditioning == "rejection":
        # Neither the pictures on the way nor the samples at the end are asked with anything given.
        text = "expected roles or posterior, as a run's own samples are joint: nothing is given that others could be rejected by"
        reading.say("sampling.conditioning", text, sampling.conditioning)
    if training is not None and not reading.broken("tasks") and not reading.broken("modalities"):
        try:
            check_best(list(tasks), training)
        except OptionError as error:
            place = () if error.option.startswith("tasks") else ("training",)
            reading.refused(error, place, reading.table(*place))
    if training is not None and training.validate_every and data is not None:
        try:
            check_part(reading.registry, data, "validation")
        except RequestError as error:
            text = f"expected 0, or rows to validate on: {error}"
            reading.say("training.validate_every", text, training.validate_every)
    if not reading.broken("out"):
        try:
            check_writable(Path(out))
        except OptionError as error:
            reading.refused(error, (), {"out": out})


def check_question(reading: Reading, options: SamplingOptions, model: JointModel | None) -> None:
    """Put together the question and the sampler by which a run draws its pictures and samples: joint ones, of which nothing is given.

    Args:
        reading: what is wrong is told to it.
        options: how samples are drawn.
        model: None where it cannot be composed; then by what a process alone can tell.
    """
    if reading.broken("sampling.sampler"):
        return
    process = model.process if model is not None else Process(cosine(STEPS, 1))
    try:
        names = ("steps", "spacing", "eta", "codes")
        how = {name: value for name, value in options.how().items() if name in names and value is not None}
        if options.sampler not in ("auto", *SAMPLERS):
            factory = reading.factory("sampler", options.sampler, ("sampling", "sampler"))
            unfit = (
                []
                if factory is None
                else Constructor.of(factory).check(how, ("sampling",), f"sampler {options.sampler!r}")
            )
            reading.problems += unfit
            if unfit or factory is None:
                return
        plan(process, options.sampler, **how, registry=reading.registry)
        if model is not None and not reading.broken("sampling"):
            Question.ask(model, 1, given={}, where={}, absent=(), conditioning=options.conditioning)
    except MmcoreError as error:
        reading.refused(error, ("sampling",), reading.table("sampling"), named=("sampling", "sampler"))


def check_memory(
    reading: Reading, training: TrainOptions | None, sampling: SamplingOptions | None, model: JointModel
) -> None:
    """Refuse more rows at once than memory is meant for.

    Args:
        reading: what is wrong is told to it.
        training: how many rows a step has.
        sampling: how many samples are kept.
        model: whose rows.
    """
    if training is not None:
        # The noisy latents, their noise, and the condition, of twice the channels.
        taken = -(-training.batch_size // training.accumulate) * model.space.size * 4 * 4
        if too_much := BATCH.excess(taken):
            text = f"the latents of so many rows take {too_much}; expected a smaller number, or a larger training.accumulate"
            reading.say("training.batch_size", text, training.batch_size)
    if sampling is not None:
        taken = sampling.n * 4 * sum(math.prod(m.spec.shape) for m in model.variables)
        if too_much := BATCH.excess(taken):
            reading.say("sampling.n", f"so many samples take {too_much}; expected a smaller number", sampling.n)
