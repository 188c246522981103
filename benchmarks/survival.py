"""What runs survive: a figure for each claim of ``docs/runs.md``.

    python -m benchmarks.survival kill [--trials 300]        kill -9 at random moments, also while saving
    python -m benchmarks.survival damage [--trials 1000]     bit flips, cut files, missing files, files of other checkpoints
    python -m benchmarks.survival malice                     files made to run code, to read or write elsewhere, or to exhaust memory
    python -m benchmarks.survival ranks                      two processes against one; mixed missing modalities
    python -m benchmarks.survival disk                       a full disk, a read-only one, a folder that is a file (needs root, for mounts)
    python -m benchmarks.survival cost                       what checkpoints cost, on the demo's model

Trials are forked from one process, so that nothing is imported again.
"""

import argparse
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

import mmcore
from mmcore import JointModel, MmcoreError, Registry, RequestError
from mmcore.data import Dataset, LoaderOptions, Table, TensorBatch
from mmcore.rng import Rng
from mmcore.store import checkpoint as store
from mmcore.store.folder import CHECKPOINTS
from mmcore.store.reading import DamagedError
from mmcore.training import TrainOptions, TrainState, training_step

KEPT = ("metrics.jsonl", "validation.jsonl", "model", "best", "samples")
HOW: dict[str, Any] = {
    "steps": 30,
    "batch_size": 8,
    "log_every": 1,
    "save_steps": 2,
    "save_seconds": 0.0,
    "validate_every": 7,
    "keep": 2,
    "ema_every": 4,
    "task_weights": "learned",
}


def small(registry: Registry) -> JointModel:
    """Two modalities, some thousand parameters."""
    parts = [registry.modality("label", classes=4), registry.modality("clip", name="words", width=6, unit_norm=False)]
    options = {"width": 8, "depth": 2, "features": 4}
    return mmcore.compose(parts, space=(2, 4, 4), backbone="mlp", backbone_options=options, registry=registry)


def some(model: JointModel, count: int, seed: int = 0) -> Table:
    """Rows of which a third lacks something."""
    values = {m.name: m.typical(count, seed + i) for i, m in enumerate(model.variables)}
    present = Rng.for_rows(seed, count).uniform(len(model.variables)) < 0.67
    present[:, 0] |= ~present.any(1)
    return Table(TensorBatch(values, present))


def train(registry: Registry, out: Path, **changes: Any) -> None:
    """A whole run of the small model; workers, where there are some, read rows one by one."""
    model = small(registry)
    held, rows = some(model, 8, seed=9), some(model, 40)
    if workers := changes.pop("workers", 0):
        changes["loading"] = LoaderOptions(memory=False, workers=workers)
        there = rows.rows.present.tolist()
        named = list(enumerate(rows.rows.values.items()))
        rows = Dataset([{n: x[k] for v, (n, x) in named if row[v]} for k, row in enumerate(there)], model.variables)
    options: dict[str, Any] = {"device": "cpu"} | HOW | changes
    mmcore.fit(model, rows, out=out, validation=held, quiet=True, **options)


def digest(out: Path) -> dict[str, str]:
    """Of all that must be the same: the logs, the models, and the newest checkpoint (weights, average, optimizer, loader)."""
    newest = store.folders(out / CHECKPOINTS)[0][1]
    paths = [p for name in KEPT for p in ([out / name] if (out / name).is_file() else sorted((out / name).rglob("*")))]
    paths += sorted(newest.iterdir())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.is_file()}


@contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child that does ``work`` and exits with 0, or with 1 where it raises."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            if not isinstance(error, MmcoreError | KeyboardInterrupt | SystemExit):
                import traceback

                traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    yield child


def wait(child: int) -> int:
    """A child's exit code; a signal's number, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- kill -9 ----


def kill(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """Each run is killed again and again until it ends; what is left must be the bytes of a run never killed."""
    chance, moments, kills, anew = random.Random(options.seed), Counter(), 0, 0
    wholes: dict[int, dict[str, str]] = {}
    durations: dict[int, float] = {}
    for workers in (0, 2):
        started = time.monotonic()
        with forked(partial(train, registry, folder / f"whole-{workers}", workers=workers)) as child:
            assert wait(child) == 0
        durations[workers] = time.monotonic() - started
        wholes[workers] = digest(folder / f"whole-{workers}")
    good = 0
    for trial in range(options.trials):
        out, workers = folder / "trial", 2 if trial % 10 == 9 else 0
        shutil.rmtree(out, ignore_errors=True)
        times = 0
        while True:
            resume = bool(store.folders(out / CHECKPOINTS))
            anew += not resume and times > 0
            with forked(partial(train, registry, out, workers=workers, resume=resume)) as child:
                # A run gets three kills, then peace, so that each trial ends.
                code = _killed(child, out, chance, durations[workers], moments) if times < 3 else wait(child)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                break
            times, kills = times + 1, kills + 1
        same = code == 0 and digest(out) == wholes[workers]
        good += same
        if not same:
            shutil.copytree(out, folder.parent / f"survival-failed-{trial}", dirs_exist_ok=True)
            print(f"trial {trial}: exit {code}, different: {code == 0}", flush=True)
        if trial % 20 == 19:
            print(f"{trial + 1} trials, {good} to the same bytes, {kills} kills", flush=True)
    while_saving = moments["saving"]
    print(
        f"kill -9: {good} of {options.trials} runs ended with the bytes of one never killed; {kills} kills, {while_saving} of them while "
        f"a checkpoint was being written, {anew} before there was one (the run began anew); every tenth run with 2 workers"
    )
    return good == options.trials


def _killed(child: int, out: Path, chance: random.Random, duration: float, moments: Counter[str]) -> int:
    """Kill after a random time; or, for half of the kills, in the midst of writing a checkpoint."""
    due = time.monotonic() + chance.random() * duration
    saving = chance.random() < 0.5
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        writing = any((out / CHECKPOINTS).glob(".aside-step-*"))
        if time.monotonic() >= due and (writing or not saving or time.monotonic() > due + duration):
            time.sleep(chance.random() * 0.002 if saving else 0)
            os.kill(child, signal.SIGKILL)
            writing = any((out / CHECKPOINTS).glob(".aside-*"))
            moments["saving" if writing else "other"] += 1
            return wait(child)
        time.sleep(0.0002 if saving else 0.002)


# ---- damage ----


def damage(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """Every file of the newest of two checkpoints, the manifest included; found means that the file is named and the older one used."""
    out = folder / "run"
    with forked(lambda: train(registry, out)) as child:
        assert wait(child) == 0
    (_, newest), (_, older) = store.folders(out / CHECKPOINTS)
    names = sorted(p.name for p in newest.iterdir())
    chance, found, tried = random.Random(options.seed), Counter(), Counter()
    kept = {name: (newest / name).read_bytes() for name in names}

    def check(kind: str, name: str, content: bytes | None) -> None:
        path = newest / name
        if content == kept[name]:
            return
        path.unlink() if content is None else path.write_bytes(content)
        told: list[str] = []
        used = store.newest(out / CHECKPOINTS, told.append)
        tried[kind] += 1
        found[kind] += used.folder == older and len(told) == 1 and str(path) in told[0]
        path.write_bytes(kept[name])

    for _ in range(options.trials):
        name = chance.choice(names)
        changed = bytearray(kept[name])
        bit = chance.randrange(8 * len(changed))
        changed[bit // 8] ^= 1 << bit % 8
        check("bit flips", name, bytes(changed))
        name = chance.choice(names)
        check("truncations", name, kept[name][: chance.randrange(len(kept[name]))])
    for name in names:
        check("deletions", name, None)
        check("swaps with the other checkpoint", name, (older / name).read_bytes())
        check("swaps with another file", name, kept[chance.choice([n for n in names if n != name])])
        check("emptied", name, b"")
        check("grown", name, kept[name] + b"\n")
    for kind in tried:
        print(
            f"damage: {kind}: {found[kind]} of {tried[kind]} detected with the file's name, the older checkpoint used"
        )
    return found == tried


# ---- malice ----


class Trap:
    """What a pickle of it runs when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.mark}",))


def malice(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """Each file takes the place of a good one in a model folder or checkpoint; refused means one line, and no trap sprung."""
    mark = folder / "executed"
    out = folder / "run"
    with forked(lambda: train(registry, out)) as child:
        assert wait(child) == 0
    pickled = pickle.dumps(Trap(mark))
    archive = io.BytesIO()
    torch.save({"x": Trap(mark)}, archive)
    legacy = io.BytesIO()
    torch.save({"x": Trap(mark)}, legacy, _use_new_zipfile_serialization=False)
    header = json.dumps({"__metadata__": {"x": "y" * 100}}).encode()
    secret = folder / "secret.json"
    secret.write_text('{"secret": 1}')
    outside = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [-8, 2**40]}}).encode()
    huge = json.dumps({"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]}}).encode()
    tensors = {
        "pickle": pickled,
        "torch.save archive": archive.getvalue(),
        "legacy torch.save": legacy.getvalue(),
        "header of 2^63 bytes": (2**63).to_bytes(8, "little") + header,
        "header of 2^40 bytes": (2**40).to_bytes(8, "little") + header,
        "header of 100 MB, all there": (10**8).to_bytes(8, "little") + b" " * 10**8,
        "offsets outside the file": len(outside).to_bytes(8, "little") + outside + b"\0" * 16,
        "shape beyond all memory": len(huge).to_bytes(8, "little") + huge + b"\0" * 16,
        "header nested 100,000 deep": (200_000).to_bytes(8, "little") + b"[" * 100_000 + b"]" * 100_000,
        "nothing": b"",
    }
    texts = {
        "pickle": pickled,
        "nested 1,000,000 deep": b"[" * 10**6,
        "a number of 1,000,000 digits": b'{"format": ' + b"9" * 10**6 + b"}",
        "65 MB": b" " * (65 * 2**20),
        "not UTF-8": b"\xff\xfe{}",
    }
    refused, tried = [], 0

    def attempt(what: str, call: Callable[[], object]) -> None:
        nonlocal tried
        tried += 1
        try:
            call()
        except MmcoreError as error:
            if "\n" not in str(error).strip():
                refused.append(what)
                print(f"  {what}: {str(error).replace(str(folder), '…')[:150]}")
                return
            print(f"  {what}: NOT ON ONE LINE: {error!r}")
        except BaseException as error:
            print(f"  {what}: NOT REFUSED BUT {error!r}"[:300])
        else:
            print(f"  {what}: NOT REFUSED")

    def model_with(name: str, data: bytes) -> Callable[[], object]:
        def call() -> object:
            copy = folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(out / "model", copy)
            (copy / name).write_bytes(data)
            return mmcore.load(copy, registry=registry)

        return call

    def checkpoint_with(
        name: str, data: bytes | Callable[[Path], object], listed: str | None = None
    ) -> Callable[[], object]:
        """Sealed anew, so that the digests hold: a stranger can compute them too."""

        def call() -> object:
            copy = folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(store.folders(out / CHECKPOINTS)[0][1], copy / "step-00000030")
            inside = copy / "step-00000030"
            data(inside) if callable(data) else (inside / name).write_bytes(data)
            names = {p.name: p for p in inside.iterdir() if p.name != store.MANIFEST}
            lines = [inside.name] + [
                f"{hashlib.sha256(b).hexdigest()} {len(b)} {listed if listed and n == name else n}"
                for n, p in names.items()
                for b in ([p.read_bytes()] if p.is_file() else [b""])
            ]
            body = ("\n".join(lines) + "\n").encode()
            (inside / store.MANIFEST).write_bytes(body + f"{hashlib.sha256(body).hexdigest()}\n".encode())
            return mmcore.fit(
                small(registry), some(small(registry), 40), out=_run_of(copy), quiet=True, device="cpu", resume=True,
                validation=some(small(registry), 8, seed=9), **HOW,
            )  # fmt: skip

        return call

    def _run_of(copy: Path) -> Path:
        shutil.rmtree(folder / "resumed", ignore_errors=True)
        (folder / "resumed").mkdir()
        copy.rename(folder / "resumed" / CHECKPOINTS)
        return folder / "resumed"

    for what, data in tensors.items():
        attempt(f"model.safetensors: {what}", model_with("model.safetensors", data))
        attempt(f"checkpoint, ema.safetensors: {what}", checkpoint_with("ema.safetensors", data))
    for what, data in texts.items():
        attempt(f"config.json: {what}", model_with("config.json", data))
        attempt(f"checkpoint, state.json: {what}", checkpoint_with("state.json", data))
    for name in (
        ".metadata",
        "optimizer.pt",
        "pytorch_model.bin",
        "data.pkl",
        "__init__.py",
        "sitecustomize.py",
        "conftest.py",
    ):
        code = f"import os; os.system('touch {mark}')".encode() if name.endswith(".py") else pickled
        attempt(f"checkpoint, one more file {name}", checkpoint_with(name, code))
    for listed in ("../../secret.json", str(secret), "a/../state.json", "..", "state.json\0"):
        attempt(f"checkpoint, a manifest with {listed!r}", checkpoint_with("state.json", b"{}", listed))

    def link(inside: Path) -> None:
        (inside / "state.json").unlink()
        (inside / "state.json").symlink_to(secret)

    def pipe(inside: Path) -> None:
        (inside / "state.json").unlink()
        os.mkfifo(inside / "state.json")

    attempt("checkpoint, a link that leads out", checkpoint_with("state.json", link))
    attempt("checkpoint, a pipe", checkpoint_with("state.json", pipe))
    config = json.loads((out / "model" / "config.json").read_text())

    def changed(*path: Any, to: Any) -> bytes:
        copy: Any = json.loads(json.dumps(config))
        part = copy
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = to
        return json.dumps(copy).encode()

    for what, data in {
        "a class path as an offer": changed("modalities", 0, "offer", to="os:system"),
        "a class path as a backbone": changed("backbone", "offer", to="subprocess.Popen"),
        "a module as a distribution": changed("modalities", 0, "distribution", to="os"),
        "a traversal as a distribution": changed("backbone", "distribution", to="../../evil"),
        "a distribution not installed": changed("distributions", to={"evil": "1.0"}),
        "options of another constructor": changed("modalities", 0, "options", to={"__class__": "os.system"}),
        "options that are a list": changed("modalities", 0, "options", to=["touch"]),
        "a space of 2^40": changed("space", to=[2, 2**20, 2**20]),
    }.items():
        attempt(f"config.json: {what}", model_with("config.json", data))
    print(f"malice: {int(mark.exists())} of {tried} executed, {len(refused)} refused with a line")
    return not mark.exists() and len(refused) == tried


# ---- ranks ----


def ranks(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """100 steps against one process; 1,000 batches whose ranks hold different modalities."""

    def double() -> tuple[JointModel, Table]:
        model = small(registry).double()
        batch = some(model, 40).rows
        values = {name: x.double() if x.is_floating_point() else x for name, x in batch.values.items()}
        return model, Table(TensorBatch(values, batch.present))

    def losses(how: str, where: Path | None = None) -> list[list[float]]:
        found: list[list[float]] = []
        model, data = double()
        mmcore.fit(
            model, data, steps=100, batch_size=8, parallel=how, task_weights="learned", quiet=True, device="cpu",
            watch=[lambda state, report: found.append(report.by_task().tolist())],
        )  # fmt: skip
        if where is not None and dist.get_rank() == 0:
            where.write_text(json.dumps(found))
        return found

    def mixed(how: str) -> None:
        from mmcore.training.ranks import Ranks

        model = small(registry).train()
        state = TrainState.start(model, TrainOptions(steps=1000, parallel=how), Ranks(dist.get_rank(), 2))
        table = some(small(registry), 40)
        for step in range(options.batches):
            batch = table.__getitems__(range(step, step + 4))
            batch.present[:] = Rng.for_rows(dist.get_rank(), 4).at(step).uniform(2) < 0.5
            training_step(state, batch)

    good = True
    alone = torch.tensor(losses("ddp"), dtype=torch.float64)
    for how in ("ddp", "fsdp"):
        path = folder / how
        codes = _two(lambda rank, how=how, path=path: losses(how, path), folder)
        found = (
            torch.tensor(json.loads(path.read_text()), dtype=torch.float64) if codes == [0, 0] else alone * torch.inf
        )
        gap = ((found - alone) / alone).abs().nan_to_num().max().item()
        good &= gap < 1e-6
        print(f"ranks: {how}: largest relative difference of the losses over 100 steps {gap:.1e} (float64)", flush=True)
        started = time.monotonic()
        codes = _two(lambda rank, how=how: mixed(how), folder)
        good &= codes == [0, 0]
        print(
            f"ranks: {how}: {options.batches} batches of mixed missing modalities, exit {codes}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    return good


def _two(work: Callable[[int], object], folder: Path) -> list[int]:
    path = folder / f"store-{time.monotonic_ns()}"
    children = []
    for rank in range(2):

        def start(rank: int = rank) -> None:
            dist.init_process_group(
                "gloo", init_method=f"file://{path}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
            )
            work(rank)

        with forked(start) as child:
            children.append(child)
    return [wait(child) for child in children]


# ---- disks ----


def disk(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """Real file systems: one too small, one that becomes read-only, and a path below a file."""
    good = True
    mount = folder / "small"
    mount.mkdir()
    one = sum(p.stat().st_size for p in _trained(registry, folder / "probe").rglob("*") if p.is_file())

    def outcome(what: str, out: Path, **changes: Any) -> None:
        nonlocal good
        said = io.StringIO()

        def work() -> None:
            try:
                train(registry, out, **changes)
            except MmcoreError as error:
                (folder / "said").write_text(f"{'2' if isinstance(error, RequestError) else '1'} {error}")
                raise

        (folder / "said").write_text("")
        before = _whole(out)
        with forked(work) as child, redirect_stderr(said):
            code = wait(child)
        after, told = _whole(out), (folder / "said").read_text().replace(str(folder), "…")
        kept = bool(set(before) <= set(after) or after) or not before
        good &= code != 0 and bool(told) and kept
        print(
            f"disk: {what}: exit {told[:1] or code}, checkpoints whole before {before}, after {after}: {told[2:170]}",
            flush=True,
        )

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * one}", "tmpfs", str(mount)], check=True)
    try:
        outcome("full", mount / "run", keep=9)
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        outcome("read-only", mount / "run", resume=True)
        outcome("read-only, a new folder", mount / "other")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    (folder / "file").write_text("")
    outcome("below a file", folder / "file" / "run")
    return good


def _trained(registry: Registry, out: Path) -> Path:
    with forked(lambda: train(registry, out)) as child:
        assert wait(child) == 0
    return store.folders(out / CHECKPOINTS)[0][1]


def _whole(out: Path) -> list[int]:
    found = []
    try:
        there = store.folders(out / CHECKPOINTS)
    except OSError:
        return []
    for step, path in there:
        try:
            store.read(path)
            found.append(step)
        except DamagedError:
            pass
    return found


# ---- cost ----


def cost(registry: Registry, folder: Path, options: argparse.Namespace) -> bool:
    """What a checkpoint of the demo's model costs the training, and what one each minute makes of that."""
    from mmcore.demo.run import COMPONENTS, TRAINING, digits_model

    table = Table.read(registry.source("digits", components=COMPONENTS), digits_model(registry).variables)

    def run(out: Path, save_steps: int) -> list[float]:
        marks: list[float] = []
        mmcore.fit(
            digits_model(registry), table, out=out, options=TRAINING, steps=120, save_steps=save_steps, save_seconds=0.0, quiet=True,
            device="cpu", watch=[lambda state, report: marks.append(time.perf_counter())],
        )  # fmt: skip
        return [b - a for a, b in pairwise(marks)]

    rounds = [(run(folder / f"a{i}", 0), run(folder / f"b{i}", 20)) for i in range(options.rounds)]
    plain = statistics.median(x for without, _ in rounds for x in without)
    # A saved step and those in which the thread still writes: all that is above the plain step's time, over 5 checkpoints a run.
    extra = statistics.median((sum(saved) - sum(without)) / 5 for without, saved in rounds)
    stall = statistics.median(saved[i] for _, saved in rounds for i in range(19, len(saved), 20)) - plain
    size = sum(p.stat().st_size for p in store.folders(folder / "b0" / CHECKPOINTS)[0][1].iterdir())
    print(
        f"cost: a checkpoint of {size / 1e6:.1f} MB adds {1e3 * extra:.0f} ms to the run, {1e3 * stall:.1f} ms of it between two steps "
        f"(a step takes {1e3 * plain:.1f} ms); one a minute: {100 * max(extra, stall) / 60:.3f} % of the time"
    )
    return max(extra, stall) / 60 < 0.05


SHOWS: Mapping[str, Callable[[Registry, Path, argparse.Namespace], bool]] = {
    "kill": kill,
    "damage": damage,
    "malice": malice,
    "ranks": ranks,
    "disk": disk,
    "cost": cost,
}


def main() -> None:
    """Show what was asked for; exit status 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=SHOWS)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.trials = options.trials or {"kill": 300}.get(options.what, 1000)
    torch.set_num_threads(1)
    registry = mmcore.discover()
    with tempfile.TemporaryDirectory() as folder:
        # What the trials import would be imported by each of them.
        train(registry, Path(folder) / "warm", steps=1)
        sys.exit(0 if SHOWS[options.what](registry, Path(folder), options) else 1)


if __name__ == "__main__":
    main()
