"""A training state as files and back, and when it is saved."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from mmcore._version import __version__
from mmcore.errors import MmcoreError, RequestError
from mmcore.store.checkpoint import Checkpoint, Files, write
from mmcore.store.model import upgraded as upgraded_model
from mmcore.store.model import upgraded_names
from mmcore.store.parts import unlike
from mmcore.store.reading import DamagedError
from mmcore.training.ranks import full_cpu_copies, local_shard, shard_like
from mmcore.training.state import TrainState
from mmcore.training.step import StepReport

FORMAT = 4
"""1 had other names for the option ``activation_checkpointing`` and for weights of mmcore's own backbones; 2 told nothing of the data but how many rows; up to 3
all timesteps were even, all rows counted alike, none asked for one modality alone, and models read the space as it is."""
_BEFORE_4: dict[str, Any] = {"timesteps": "even", "balance": "rows", "learns": "all"}
_ROLES_BEFORE_4: dict[str, Any] = {"alone": 0.0, "questions": {}}
_OPTIONS = {"recompute": "activation_checkpointing"}


class Stateful(Protocol):
    """What remembers how far it has come, in JSON's types."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def snapshot(state: TrainState, loader: Stateful, facts: Mapping[str, Any]) -> Files:
    """Copies of all that a run is made of between two steps, on the CPU; every rank must ask, and the first has the tensors.

    Everything has a name, the optimizer's state by that of its parameter: positions change with a model, names do not.

    Args:
        state: to copy.
        loader: of the training rows.
        facts: more for ``state.json``.
    """
    optimizer = {f"{name}/{key}": x for name, p in state.named().items() for key, x in state.optimizer.state[p].items()}
    tensors = {**_held(state), OPTIMIZER: optimizer}
    scaler = {"scale": state.scaler.scale, "good": state.scaler.good}
    best = state.best if state.best < float("inf") else None
    versions = {"mmcore": __version__, "torch": str(torch.__version__)}
    told = {"format": FORMAT, "step": state.step, "best": best, "scaler": scaler, "loader": _loader(state, loader)}
    if state.step and (idle := [name for name, p in state.named().items() if not state.optimizer.state[p]]):
        # No gradient has reached these yet: a network of one's own may leave some unused.
        told["idle"] = idle
    # By name, as the ranks must gather the same tensor at the same time, and a file's own order is not even that of its last reading.
    files = {file: full_cpu_copies(dict(sorted(part.items())), state.ranks) for file, part in tensors.items()}
    return files | {
        "state.json": {
            **told,
            "ranks": state.ranks.count,
            "threads": torch.get_num_threads(),
            "versions": versions,
            **facts,
        }
    }


def _loader(state: TrainState, loader: Stateful) -> dict[str, Any]:
    """The loader's state; of a stream, in which each rank has its own place, the places of all."""
    told = loader.state_dict()
    if "places" in told:
        told["places"] = {rank: place for one in state.ranks.each(told["places"]) for rank, place in one.items()}
    return told


def upgraded(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of a former format in today's; any other as it is.

    Raises:
        RequestError: it lacks something that every checkpoint of its format has.
    """
    told = _part(checkpoint, "state.json")
    if told.get("format") == 3:
        return _with_defaults(checkpoint, told)
    if told.get("format") == 2:
        return _with_data(checkpoint, told)
    if told.get("format") != 1:
        return checkpoint
    try:
        configuration = told["configuration"]
        options = {_OPTIONS.get(name, name): value for name, value in configuration["options"].items()}
        model = upgraded_model(configuration["model"])
        names = upgraded_names(dict.fromkeys(told.get("idle", [])), model["backbone"])
        told = {
            **told,
            "format": 2,
            "configuration": {**configuration, "options": options, "model": model},
            **({"idle": [*names]} if names else {}),
        }
        tensors = {
            file: upgraded_names(part, model["backbone"])
            for file, part in checkpoint.files.items()
            if file.endswith(".safetensors")
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{checkpoint.folder / 'state.json'}: lacks or misstates {error}") from error
    return _with_data(attrs.evolve(checkpoint, files={**checkpoint.files, **tensors}), told)


def _with_data(checkpoint: Checkpoint, told: Mapping[str, Any]) -> Checkpoint:
    """One of format 2 in the next."""
    try:
        configuration = dict(told["configuration"])
        configuration["data"] = {"rows": configuration.pop("rows")}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{checkpoint.folder / 'state.json'}: lacks or misstates {error}") from error
    return _with_defaults(checkpoint, {**told, "format": 3, "configuration": configuration})


def _with_defaults(checkpoint: Checkpoint, told: Mapping[str, Any]) -> Checkpoint:
    """One of format 3 in today's: what was not said then had one value."""
    try:
        configuration = dict(told["configuration"])
        configuration["options"] = _trained_before(configuration["options"])
        configuration["model"] = upgraded_model(configuration["model"])
        run = configuration.get("run")
        if isinstance(run, dict):
            parts = {"training": _trained_before, "model": lambda table: {"reading": "space"} | table}
            configuration["run"] = run | {name: change(run[name]) for name, change in parts.items() if name in run}
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{checkpoint.folder / 'state.json'}: lacks or misstates {error}") from error
    told = {**told, "format": FORMAT, "configuration": configuration}
    return attrs.evolve(checkpoint, files={**checkpoint.files, "state.json": told})


def _trained_before(options: Mapping[str, Any]) -> dict[str, Any]:
    return _BEFORE_4 | dict(options) | {"roles": _ROLES_BEFORE_4 | dict(options["roles"])}


def restore(state: TrainState, loader: Stateful, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into a fresh state and loader.

    Raises:
        RequestError: it does not fit them.
    """
    told = _part(checkpoint, "state.json")
    if told.get("format") != FORMAT:
        raise RequestError(f"{checkpoint.folder}: has format {told.get('format')!r}, expected {FORMAT}")
    try:
        state.step, best, scaler = int(told["step"]), told["best"], told["scaler"]
        state.best = float("inf") if best is None else float(best)
        if state.scaler.on:
            state.scaler.scale, state.scaler.good = float(scaler["scale"]), int(scaler["good"])
        loader.load_state_dict(told["loader"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{checkpoint.folder / 'state.json'}: lacks or misstates {error}") from error
    check_fit(state, checkpoint)
    # What the model's tasks say of their weights is theirs, also where that was changed since.
    said = {name for name, _ in state.task_weights.named_buffers()}
    with torch.no_grad():
        for file, into in _held(state).items():
            saved = _part(checkpoint, file)
            for name, x in into.items():
                if file != TASK_WEIGHTS or name not in said:
                    local_shard(x).copy_(local_shard(shard_like(saved[name], x)))
    named = state.named()
    for name, parts in _moments(checkpoint).items():
        p = named[name]
        for key, x in parts.items():
            state.optimizer.state[p][key] = shard_like(x, p) if x.shape == p.shape else x.to(p.device)


def check_fit(state: TrainState, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose tensors are not those of a state.

    Raises:
        DamagedError: naming the file, and the tensors.
    """
    for file, into in _held(state).items():
        saved = _part(checkpoint, file)
        _check_names(checkpoint.folder / file, set(saved), set(into))
        if lines := unlike(saved, into):
            raise DamagedError(f"{checkpoint.folder / file}: does not fit the model: {lines}")
    path, named, saved = checkpoint.folder / OPTIMIZER, state.named(), _moments(checkpoint)
    idle = _part(checkpoint, "state.json").get("idle", [])
    # Before the first step there is none.
    _check_names(path, set(saved), {name for name in named if name not in idle} if checkpoint.step else set())
    for name, parts in saved.items():
        _check_names(path, {f"{name}/{key}" for key in parts}, {f"{name}/{key}" for key in MOMENTS})
        for key, x in parts.items():
            shape = torch.Size([]) if key == "step" else named[name].shape
            if x.shape != shape:
                raise DamagedError(f"{path}: {name}/{key} has shape {tuple(x.shape)}, expected {tuple(shape)}")


OPTIMIZER, MOMENTS = "optimizer.safetensors", ("step", "exp_avg", "exp_avg_sq")
"""Of AdamW, for each parameter."""
TASK_WEIGHTS = "task_weights.safetensors"


def _held(state: TrainState) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of a state by file, but for the optimizer's."""
    return {
        "model.safetensors": state.model.state_dict(),
        "ema.safetensors": state.ema,
        TASK_WEIGHTS: state.task_weights.state_dict(),
    }


def _moments(checkpoint: Checkpoint) -> dict[str, dict[str, Tensor]]:
    saved: dict[str, dict[str, Tensor]] = {}
    for joined, x in _part(checkpoint, OPTIMIZER).items():
        name, _, key = joined.rpartition("/")
        saved.setdefault(name, {})[key] = x
    return saved


def _part(checkpoint: Checkpoint, file: str) -> dict[str, Any]:
    if file not in checkpoint.files:
        raise DamagedError(f"{checkpoint.folder}: has no {file}")
    return checkpoint.files[file]


def _check_names(path: Path, present: set[str], expected: set[str]) -> None:
    for names, verb in ((expected - present, "lacks"), (present - expected, "has, and the model has not,")):
        if names:
            listed = sorted(names)
            raise DamagedError(f"{path}: {verb} {', '.join(listed[:5])}{' …' if len(listed) > 5 else ''}")


@attrs.define(eq=False)
class Saver:
    """Saves the state after a step, by steps, by time, and when the process is asked to stop; the last of the watchers.

    A copy of the tensors is taken between two steps; a thread writes it.

    Attributes:
        root: the folder of checkpoints.
        loader: of the training rows.
        logs: files that must be on the disk before a checkpoint that tells of them.
        facts: more for ``state.json``.
        last: the step of the newest checkpoint; one that is there is not written again.
    """

    root: Path
    loader: Stateful
    logs: "Flushed"
    facts: Mapping[str, Any]
    last: int | None = None
    _asked: list[int] = attrs.field(factory=list, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _failure: MmcoreError | None = attrs.field(default=None, init=False)
    _saved: float = attrs.field(factory=time.monotonic, init=False)

    def __call__(self, state: TrainState, report: StepReport | None = None) -> None:
        """After a step: save where it is time, and end where a signal asks for it.

        Raises:
            MmcoreError: a checkpoint could not be written.
            KeyboardInterrupt: after SIGINT, all saved.
            SystemExit: after SIGTERM, all saved; status 143.
        """
        options, ranks = state.options, state.ranks
        by_steps = options.save_steps > 0 and state.step % options.save_steps == 0
        waited = options.save_seconds > 0 and time.monotonic() - self._saved >= options.save_seconds
        busy = self._thread is not None and self._thread.is_alive()
        # The first rank's clock and disk decide for all, as a copy of sharded tensors takes all of them.
        due = ranks.first and (by_steps or (waited and not busy))
        wishes = [bool(self._asked), due, self._failure is not None]
        if ranks.count > 1:
            wishes_here = torch.tensor(wishes, dtype=torch.int64, device=state.model.device)
            wishes = [bool(n) for n in ranks.sum(wishes_here).tolist()]
        stop, due, failed = wishes
        if failed:
            raise self._failure or MmcoreError("training: rank 0 could not write a checkpoint; its message says why")
        if stop or due:
            self.save(state, wait=stop)
        if stop:
            if ranks.first:
                tell(
                    f"training: stopped after step {state.step}, which is saved; resume=True, or mmcore train FILE --resume, goes on from there"
                )
            if self._asked and self._asked[0] == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + signal.SIGTERM)

    def save(self, state: TrainState, *, wait: bool) -> None:
        """Copy the state now and write it, in the background unless ``wait``; every rank must ask.

        Raises:
            MmcoreError: this checkpoint, where waited for, or the one before could not be written.
        """
        self.finish()
        state.settle()
        if state.step == self.last:
            return
        self.last = state.step
        files = snapshot(state, self.loader, {**self.facts, "logs": self.logs.marks()})
        self._saved = time.monotonic()
        if not state.ranks.first:
            return
        self._thread = threading.Thread(
            target=self._write, args=(state.step, files, state.options.keep), name="mmcore-checkpoint"
        )
        self._thread.start()
        if wait:
            self.finish()

    def _write(self, step: int, files: Files, keep: int) -> None:
        try:
            self.logs.flush()
            write(self.root, step, files, keep)
        except MmcoreError as error:
            self._failure = error
        except Exception as error:
            why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            self._failure = MmcoreError(f"checkpoint of step {step}: cannot be written: {why}")

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            MmcoreError: it could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def listening(self) -> Iterator["Saver"]:
        """SIGTERM and SIGINT end the training after the step they come in; a second one ends it at once."""
        before: dict[int, Any] = {}
        process = os.getpid()

        def ask(number: int, frame: FrameType | None) -> None:
            if os.getpid() != process:  # a worker, which ends with this process
                return
            self._asked.append(number)
            tell("training: stopping after this step; the same signal again stops at once")
            for known, handler in before.items():
                signal.signal(known, handler)

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, ask)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._thread is not None:
                # Another error may be on its way; a checkpoint that is being written is finished, and does not hide it.
                self._thread.join()


class Flushed(Protocol):
    """Log files that go with a checkpoint."""

    def marks(self) -> dict[str, Any]: ...
    def flush(self) -> None: ...


def tell(text: str) -> None:
    """A line to the user."""
    print(text, file=sys.stderr, flush=True)
