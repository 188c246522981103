"""What ``docs/gpu.md`` says of a GPU, measured on one: ``python -m benchmarks.gpu [PART …]``, by default all parts.

    tests     the whole suite with the GPU there, and in it tests/test_gpu.py, which runs nowhere else
    launches  operations of a training step and of a sampler's, and how often the host waits for the device; also where there is no GPU
    against   step and sampler against the bare compiled network, by model and compilation (benchmarks/throughput.py); each line is also written to gpu.jsonl
    speed     rows a second of training: the demo's perceptron and a transformer, by precision and compilation
    demo      ``mmcore demo`` on the GPU
    killed    a run in bf16, compiled, killed with -9 and resumed again and again, against one that never was

Prints Markdown; without a GPU the launches alone.
"""

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Before CUDA starts: matrix products that sum in the same order every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import attrs
import torch

import mmcore
from benchmarks import survival, throughput
from benchmarks.launches import Launches
from mmcore.data import Table, TensorBatch
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model
from mmcore.store import checkpoint as store
from mmcore.store.folder import CHECKPOINTS
from mmcore.training import TrainState, training_step

KILLED = {"device": "cuda", "precision": "bf16", "compile": True, "steps": 300}


def launches() -> None:
    """Of the demo's model and of a transformer; operations that only look at a tensor otherwise are not counted."""
    registry = mmcore.discover()
    print("| model | what | operations | waits |\n|---|---|---|---|")
    for name, model in _models(registry).items():
        values = {m.name: m.typical(2, k) for k, m in enumerate(model.variables)}
        batch = TensorBatch(values, torch.ones(2, len(model.variables), dtype=torch.bool))
        state = TrainState.start(model.train(), attrs.evolve(TRAINING, batch_size=2))
        # The second has what was drawn ahead, and the optimizer's state.
        training_step(state, batch, wait=False)
        with Launches() as step:
            training_step(state, batch, wait=False)
        print(f"| {name} | training step | {step.total:,} | {step.waits.total()} |", flush=True)
        found = [_sampling(model, steps) for steps in (3, 5)]
        operations, waits = ((found[1][k] - found[0][k]) / 2 for k in (0, 1))
        print(f"| {name} | step of the sampler 2m | {operations:,.0f} | {waits:g} |", flush=True)


def _sampling(model: mmcore.JointModel, steps: int) -> tuple[int, int]:
    with Launches() as found:
        mmcore.sample(model.eval(), 2, sampler="2m", steps=steps)
    return found.total, found.waits.total()


def _models(registry: mmcore.Registry) -> dict[str, mmcore.JointModel]:
    image, label = registry.modality("image", channels=3, size=32), registry.modality("label", classes=10)
    options = {"width": 384, "depth": 8, "heads": 6, "patch": 4}
    return {
        "demo": digits_model(registry),
        "transformer": mmcore.compose(
            [image, label], backbone="transformer", backbone_options=options, registry=registry
        ),
    }


def against() -> None:
    """Appends to ``gpu.jsonl`` here."""
    throughput.run(out=Path("gpu.jsonl"))


def speed() -> None:
    """Milliseconds a step, the median of the middle of a run; the first steps, where it is compiled, apart."""
    registry = mmcore.discover()
    digits = digits_model(registry)
    rows = Table.read(registry.source("digits", components=COMPONENTS), digits.variables)
    image = registry.modality("image", channels=3, size=32)
    label = registry.modality("label", classes=10)
    seen = {"image": image.typical(2048, 0), "label": label.typical(2048, 1)}
    pictures = Table(TensorBatch(seen, torch.ones(2048, 2, dtype=torch.bool)))
    options = {"width": 384, "depth": 8, "heads": 6, "patch": 4}
    print(
        "| model | parameters | rows a step | precision | compiled | ms a step | rows a second |\n|---|---|---|---|---|---|---|"
    )
    for name, size in (("demo", 128), ("demo", 2048), ("transformer", 256)):
        for precision, compiled in (("float32", False), ("bf16", False), ("bf16", True)):
            if name == "demo":
                model, table = digits_model(registry), rows
            else:
                model = mmcore.compose(
                    [image, label], backbone="transformer", backbone_options=options, registry=registry
                )
                table = pictures
            ticks: list[float] = []

            def tick(state: object, report: object, ticks: list[float] = ticks) -> None:
                torch.cuda.synchronize()
                ticks.append(time.perf_counter())

            mmcore.fit(
                model, table, options=TRAINING, steps=60, batch_size=size, precision=precision, compile=compiled,
                device="cuda", quiet=True, watch=[tick],
            )  # fmt: skip
            step = statistics.median(b - a for a, b in itertools.pairwise(ticks[20:]))
            count = sum(p.numel() for p in model.parameters())
            print(
                f"| {name} | {count:,} | {size:,} | {precision} | {'yes' if compiled else 'no'} | {1e3 * step:.2f} | {size / step:,.0f} |",
                flush=True,
            )


def tests() -> None:
    """The ends of what pytest prints."""
    for what in (["tests/test_gpu.py"], ["-n", "auto", "tests", "plugins", "examples"]):
        # pytest-benchmark, where it is installed, warns beside xdist, and the suite takes warnings for errors.
        line = [sys.executable, "-m", "pytest", "-p", "no:benchmark", "-q", "-rfE", *what]
        found = subprocess.run(line, capture_output=True, text=True, check=False)
        print(
            f"pytest {' '.join(what)}:",
            "\n".join((found.stdout or found.stderr).strip().splitlines()[-40:]),
            flush=True,
        )


def demo() -> None:
    """Its figures."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "mmcore", "demo", "--device", "cuda", "--out", folder]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            print("mmcore demo:", done.stderr.strip(), flush=True)
            return
        figures = json.loads((Path(folder) / "metrics.json").read_text())
    print("mmcore demo:", json.dumps({k: v for k, v in figures.items() if isinstance(v, int | float)}), flush=True)


def killed(trials: int = 3, kills: int = 3) -> None:
    """Each run is killed at random moments after its first checkpoint, then left to end.

    Raises:
        CalledProcessError: a run ends otherwise than by the kill.
    """
    chance, good, done = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        _ended(_train(whole))
        for trial in range(trials):
            out = Path(folder) / f"trial-{trial}"
            for left in range(kills, -1, -1):
                before = _step(out)
                child = _train(out)
                if left:
                    while child.poll() is None and _step(out) <= before:
                        time.sleep(0.01)
                    time.sleep(0.3 * chance.random())
                    if child.poll() is None:
                        child.send_signal(signal.SIGKILL)
                        done += 1
                _ended(child)
            good += survival.digest(out) == survival.digest(whole)
    print(
        f"kill -9 in bf16, compiled, deterministic: {good} of {trials} runs to the same bytes, {done} kills", flush=True
    )


def _train(out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", "--train", str(out)])


def _ended(child: "subprocess.Popen[bytes]") -> None:
    if child.wait() not in (0, -signal.SIGKILL):
        raise subprocess.CalledProcessError(child.returncode, child.args)


def _step(out: Path) -> int:
    found = store.folders(out / CHECKPOINTS) if out.exists() else []
    return found[0][0] if found else -1


PARTS = {"launches": launches, "against": against, "speed": speed, "tests": tests, "demo": demo, "killed": killed}


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}, expected one of {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        print("no GPU here: counted, not timed\n")
        launches()
        return
    if given.train is not None:
        torch.use_deterministic_algorithms(True)
        survival.train(mmcore.discover(), given.train, resume=_step(given.train) >= 0, **KILLED)
        return
    print(f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    for part in given.parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
