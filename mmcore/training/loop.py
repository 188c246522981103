"""The training loop, and a run's beginning and end around it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch

from mmcore.data import Batches, Dataset, LoaderOptions, Table, at_hand, open_loader
from mmcore.data.pairing import check_asked, check_together
from mmcore.data.table import rows_for
from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.files import expanded
from mmcore.model.devices import pick_device
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role
from mmcore.options import check_call
from mmcore.progress import Progress
from mmcore.store.checkpoint import Checkpoint, newest
from mmcore.store.folder import CHECKPOINTS, claimed
from mmcore.store.model import describe, save
from mmcore.training.draws import draws_globally
from mmcore.training.learning import fresh_columns, learning
from mmcore.training.logs import Logs, total
from mmcore.training.options import TrainOptions
from mmcore.training.precision import backbone_execution
from mmcore.training.ranks import Ranks, full_cpu_copies
from mmcore.training.resuming import compare, compared_rows, deciding, known_by, sound
from mmcore.training.saving import Saver, check_fit, restore, tell
from mmcore.training.scale import CodeScale
from mmcore.training.state import TrainState
from mmcore.training.step import StepReport, training_step
from mmcore.training.trackers import Tracker, Trackers, trackers_for
from mmcore.training.validation import Pictures, Sketches, Validation, check_best

Watcher = Callable[[TrainState, StepReport], None]


def fit(
    model: JointModel,
    rows: Iterable[Mapping[str, Any]] | Dataset | Table,
    *,
    out: str | Path | None = None,
    options: TrainOptions | None = None,
    device: str | torch.device = "auto",
    validation: Iterable[Mapping[str, Any]] | Dataset | Table | None = None,
    loading: LoaderOptions | None = None,
    pictures: Pictures | None = None,
    watch: Iterable[Watcher] = (),
    trackers: Iterable[Tracker | str | Mapping[str, Any]] | None = None,
    quiet: bool = False,
    resume: bool = False,
    accept_changes: bool = False,
    replace: bool = False,
    **changes: Any,
) -> TrainState:
    """Train a model; it ends with its EMA weights.

    Under ``torchrun`` every process calls this with the same arguments, and they train together.

    Args:
        model: trained in place.
        rows: mappings from variable name to raw value (None or missing: the row lacks it), or a
            :class:`mmcore.data.Table` or :class:`mmcore.data.Dataset` of them.
        out: a folder for the run: ``metrics.jsonl``, ``timing.jsonl``, checkpoints, the model and what trackers keep; none by
            default. One that holds a run already is refused, unless ``resume`` or ``replace`` says what to do.
        options: how to train.
        device: ``"auto"``, or one of torch's devices or its name.
        validation: rows kept aside, for ``validate_every``.
        loading: how rows are read: kept in memory, ahead by workers, into pinned memory; by default a data set's are kept if they are few.
        pictures: draws, for ``pictures_every``.
        watch: called after every step with the state and the step's report, which the device may still be at; what was not finite is told one step later.
        trackers: told of losses and pictures (:class:`mmcore.training.Tracker`): objects, or names of installed ones; by default as the
            options say, TensorBoard where it is installed and there is a folder.
        quiet: show no progress.
        resume: go on from the newest whole checkpoint in ``out``, to the same bytes as if never interrupted.
        accept_changes: resume although the configuration has changed.
        replace: remove the run in ``out`` and start anew.
        changes: single options, such as ``steps=500``.

    Returns:
        the state after the last step.

    Raises:
        RequestError: options, rows, trackers or a device that cannot be used; a folder that holds a run; nothing to resume, or a changed
            configuration.
        MmcoreError: an input, loss or gradient that is not finite, short memory, a lost rank, or a folder that cannot be written.
    """
    check_call(fit, locals(), apart=["trackers"])
    try:
        options = attrs.evolve(options or TrainOptions(), **changes)
    except TypeError as error:
        known = ", ".join(field.name for field in attrs.fields(TrainOptions))
        reading = {field.name for field in attrs.fields(LoaderOptions)} & changes.keys()
        mend = f"; {', '.join(sorted(reading))}: loading=LoaderOptions(…) says how rows are read" if reading else ""
        raise RequestError(f"fit: {', '.join(changes)}: expected options among {known}{mend}") from error
    if out is None and (resume or options.pictures_every):
        raise RequestError("fit: resume and pictures_every need a folder: give out")
    loading = loading or LoaderOptions()
    table = rows_for(rows, model.variables)
    check_together(table)
    held = None if validation is None else at_hand(rows_for(validation, model.variables), loading)
    torch_device = pick_device(device)
    folder = expanded(out) if out is not None else None
    listening = trackers_for(options.trackers if trackers is None else trackers, folder)
    with ExitStack() as stack:
        ranks = stack.enter_context(Ranks.here(torch_device, options.timeout))
        quiet = quiet or not ranks.first
        _check(model, options, ranks, table, held=held is not None, pictures=pictures is not None)
        if folder is not None:
            stack.enter_context(_alike(ranks, folder, resume=resume, replace=replace))
        # Whoever calls this may have turned gradients off for what is around it.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        model.to(torch_device).train()
        stack.enter_context(
            backbone_execution(
                model.backbone,
                precision=options.precision,
                compiled=options.compile is True,
                activation_checkpointing=options.activation_checkpointing,
                draws=draws_globally(model),
            )
        )
        stack.enter_context(learning(model, options.learns))
        state = TrainState.start(model, options, ranks)
        loader = open_loader(table, loading, options.batch_size, options.seed, rank=ranks.rank, ranks=ranks.count)
        configuration: dict[str, Any] = {"options": options.deciding()}
        after = None
        if folder is not None:
            checkpoint = None
            compared = loading.compared
            configuration |= {"run": deciding(model.configuration), "model": describe(model)}
            if resume:
                usable = partial(_usable, state, json.loads(json.dumps(configuration)))
                checkpoint = newest(folder / CHECKPOINTS, tell if ranks.first else lambda line: None, usable)
                compared = compared_rows(checkpoint, compared)
            configuration["data"] = known_by(loader.dataset, compared)
            # In JSON's types, to be compared with what comes back from a file.
            configuration = json.loads(json.dumps(configuration))
            if checkpoint is not None:
                compare(checkpoint, configuration, folder, ranks, accept_changes)
                restore(state, loader, checkpoint)
                after = state.step
        tracking = stack.enter_context(Trackers(listening if ranks.first else ()))
        logs = Logs.open(folder if ranks.first else None, after, tracking)
        tracking.begin(folder, {**configuration, "rows": len(table), "configuration": model.configuration}, after)
        watchers: list[Watcher] = [_Lines(logs)]
        if held is not None and options.validate_every:
            watchers.append(Validation(held, logs, lambda best: _save(best, folder and folder / "best", ranks)))
        if pictures is not None and options.pictures_every and folder is not None:
            watchers.append(Sketches(pictures, folder / "samples", tracking))
        watchers += watch
        saver = None
        if folder is not None:
            saver = Saver(folder / CHECKPOINTS, loader, logs, {"configuration": configuration}, last=after)
            stack.enter_context(saver.listening())
            if after is None:
                # So that there is something to resume from the first step on, and a full disk is known of now.
                saver.save(state, wait=True)
            watchers.append(saver)
        # A run that goes on was looked at when it began; sharded weights only all ranks together can use.
        looks = state.step == 0 and ranks.first and not state.sharded
        scale = CodeScale(model, options.steps) if looks else None
        _loop(state, loader, watchers, scale, quiet=quiet)
        if saver is not None:
            saver.save(state, wait=True)
        state.use_average()
        model.eval()
        _save(model, folder and folder / "model", ranks)
    return state


def _usable(state: TrainState, configuration: Mapping[str, Any], checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint that says all that it must, and holds what a run of the same configuration has."""
    checkpoint = sound(checkpoint)
    told = checkpoint.files["state.json"]["configuration"]
    # Where something has changed, the tensors are another matter, of which restoring tells.
    if all(told[name] == configuration[name] for name in ("options", "model")):
        check_fit(state, checkpoint)
    return checkpoint


def _loop(
    state: TrainState, loader: Batches, watchers: Iterable[Watcher], scale: CodeScale | None, *, quiet: bool
) -> None:
    """Batches to steps, until all are done."""
    options, batches, device = state.options, iter(loader), state.model.device
    with Progress("training", options.steps, quiet=quiet) as progress:
        while state.step < options.steps:
            batch = next(batches).to(device)
            report = training_step(state, batch, wait=False)
            if scale is not None and scale.looking:
                scale.see(batch)
            if _told(state):
                state.settle()
                progress.update(state.step, loss=total(report))
            for watcher in watchers:
                watcher(state, report)


def _told(state: TrainState) -> bool:
    """Whether the step just taken has a line, for which it is waited for."""
    return state.step % state.options.log_every == 0 or state.step in (1, state.options.steps)


@attrs.frozen(eq=False)
class _Lines:
    """Writes a line of ``metrics.jsonl`` where it is time for one."""

    logs: Logs

    def __call__(self, state: TrainState, report: StepReport) -> None:
        if _told(state):
            self.logs.step(state, report)


def _check(
    model: JointModel, options: TrainOptions, ranks: Ranks, rows: Dataset | Table, *, held: bool, pictures: bool
) -> None:
    """Refuse what cannot work, before anything is made."""
    if any(p.is_inference() for p in model.parameters()):
        raise RequestError(
            "fit: the model was made or copied within torch.inference_mode(), which no gradient can leave, expected one made outside of it"
        )
    check_best([task.name for task in model.tasks], options)
    asked = options.roles.asked(model.variables, model.driver.generable, model.driver.encoded)
    check_asked(rows, dict(zip(options.roles.questions, map(partial(_sides, model), asked), strict=True)))
    if fresh_columns(model, options.learns) and options.parallel == "fsdp" and ranks.count > 1:
        expected = (
            "ddp, or weights that learn as a whole: learns = 'all', and no adapters in a model that has just grown"
        )
        raise OptionError("training", "parallel", options.parallel, expected, beside=("learns",))
    for option, available, missing in (
        ("validate_every", held, "validation"),
        ("pictures_every", pictures, "pictures"),
    ):
        if getattr(options, option) and not available:
            raise RequestError(f"fit: {option} = {getattr(options, option)}, but {missing} is not given")
    if options.batch_size % ranks.count:
        raise RequestError(
            f"training: batch_size = {options.batch_size} over {ranks.count} ranks, expected a multiple of {ranks.count}"
        )


def _sides(model: JointModel, roles: torch.Tensor) -> tuple[list[str], list[str]]:
    """The names of what a question observes, and of what it generates that has a code."""
    told = [(m.name, role) for m, role in zip(model.modalities, roles.tolist(), strict=False)]
    return [n for n, role in told if role == Role.OBSERVE], [n for n, role in told if role == Role.GENERATE]


@contextmanager
def _alike(ranks: Ranks, folder: Path, *, resume: bool, replace: bool) -> Iterator[None]:
    """The first rank claims the folder for all; where it cannot, none goes on."""
    with ExitStack() as stack:
        failure = None
        if ranks.first:
            try:
                stack.enter_context(claimed(folder, resume=resume, replace=replace))
            except MmcoreError as error:
                failure = error
        if ranks.count > 1:
            device = torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            if ranks.sum(torch.tensor(int(failure is not None), device=device)) and failure is None:
                raise MmcoreError("training: rank 0 could not begin; its message says why")
        if failure is not None:
            raise failure
        yield


def _save(model: JointModel, folder: Path | None, ranks: Ranks) -> None:
    """Write the model folder; every rank calls, the first one writes."""
    if folder is None:
        return
    tensors = full_cpu_copies(model.state_dict(), ranks)
    if ranks.first:
        save(model, folder, tensors=tensors)
