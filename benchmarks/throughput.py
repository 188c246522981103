"""A training step and a sampler's step against the bare compiled network: ``python -m benchmarks.throughput [--tiny] [--out results.jsonl]``.

For the demo's model, a transformer of 26 million weights and one of 130 million on 32 × 32 × 4 latents, in bf16. The *bare* step has the same network, compiled, on inputs made beforehand,
and the same optimizer; the bare sampler's step is one call of it. Every line is printed, and written, as soon as it is known: milliseconds, the share of the bare one's speed, of the device's
measured matrix rate, and memory. ``--tiny`` runs all of it in small on a CPU, to see that it runs: its figures mean nothing.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

import mmcore
from benchmarks.scale import Size, cost
from mmcore.data import Table, TensorBatch
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model
from mmcore.model.backbones.transformer import Transformer
from mmcore.model.roles import Role
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.precision import backbone_execution

MODELS: dict[str, dict[str, Any]] = {
    "demo": {"rows": 2048},
    "26M": {"channels": 3, "rows": 256, "options": {"width": 384, "depth": 8, "heads": 6, "patch": 4}},
    "130M": {"channels": 4, "rows": 128, "options": {"width": 768, "depth": 12, "heads": 12, "patch": 2}},
}
TINY: dict[str, dict[str, Any]] = {
    "demo": {"rows": 8, "options": {"width": 16, "depth": 1, "features": 4}},
    "tiny": {"channels": 4, "size": 8, "rows": 4, "options": {"width": 16, "depth": 1, "heads": 2, "patch": 2}},
}
WAYS: tuple[bool | str, ...] = (False, True, "step", "graphs")


@attrs.frozen
class Bench:
    """Where and how long it is measured.

    Attributes:
        device: on which.
        backend: of the bare network's compiler; on a CPU, which takes half a minute, the network as it was traced.
        rounds: whose median is told.
        steps: of a round, after which the device is waited for.
        path: timesteps of a sampler.
        ways: of compiling.
    """

    device: torch.device
    backend: str
    rounds: int
    steps: int
    path: int
    ways: tuple[bool | str, ...]

    def seconds(self, step: Callable[[], object]) -> float:
        """Of one step, the median of the rounds, after as many steps to warm up."""
        times = []
        for k in range(self.rounds + 1):
            self.wait()
            begin = time.perf_counter()
            for _ in range(self.steps):
                step()
            self.wait()
            if k:
                times.append((time.perf_counter() - begin) / self.steps)
        return statistics.median(times)

    def wait(self) -> None:
        """For the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> float:
        """The most that was allocated since the last call, in GB; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0.0
        most = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return most

    def rate(self) -> float:
        """The device's matrix rate in bf16, in FLOP a second."""
        n = 8192 if self.device.type == "cuda" else 256
        a, b = (torch.randn(n, n, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * n**3 / self.seconds(lambda: a @ b)


def main() -> None:
    """Measure all, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        print("no GPU here: not run (--tiny runs it in small)")
        return
    run(given.models, tiny=given.tiny, out=given.out)


def run(names: list[str] | None = None, *, tiny: bool = False, out: Path | None = None) -> list[dict[str, Any]]:
    """Measure these models, by default all; returns what was found."""
    bench = (
        Bench(torch.device("cpu"), "eager", 1, 1, 3, (False,))
        if tiny
        else Bench(torch.device("cuda"), "inductor", 5, 20, 21, WAYS)
    )
    models = TINY if tiny else MODELS
    rate, found = bench.rate(), []
    print(f"matrix rate in bf16: {rate / 1e12:.3g} TFLOP/s", flush=True)
    for name in names or models:
        for line in measured(bench, name, models[name], rate):
            found.append(line)
            print(json.dumps(line), flush=True)
            if out is not None:
                with out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    return found


def measured(bench: Bench, name: str, of: Mapping[str, Any], rate: float) -> Iterator[dict[str, Any]]:
    """One line for each way of compiling, of the step and of the sampler's."""
    registry, rows = mmcore.discover(), of["rows"]
    model, batch = _model(registry, name, of, rows)
    model, batch = model.to(bench.device), batch.to(bench.device)
    flops = _flops(model, rows)
    bare = {kind: bench.seconds(step) for kind, step in _bare(bench, model, rows).items()}
    count = sum(p.numel() for p in model.parameters())
    for way in bench.ways:
        bench.memory()
        options = attrs.evolve(TRAINING, precision="bf16", compile=way, batch_size=rows, steps=10**6)
        times = {"training": _training(bench, registry, name, of, batch, options)}
        memory = bench.memory()
        if way != "step":
            times["sampling"] = _sampling(bench, model, rows, way)
        for kind, seconds in times.items():
            yield {
                "model": name, "weights": count, "rows": rows, "what": kind, "compile": way, "ms": 1e3 * seconds, "bare_ms": 1e3 * bare[kind],
                "of_bare": bare[kind] / seconds, "of_rate": flops[kind] / seconds / rate if flops else None, "GB": memory,
            }  # fmt: skip


def _model(
    registry: mmcore.Registry, name: str, of: Mapping[str, Any], rows: int
) -> tuple[mmcore.JointModel, TensorBatch]:
    options = of.get("options")
    if name == "demo":
        model = digits_model(registry, **({} if options is None else {"backbone_options": options}))
        return model, Table.read(registry.source("digits", components=COMPONENTS), model.variables).__getitems__(
            [k % 1000 for k in range(rows)]
        )
    parts = [
        registry.modality("image", channels=of["channels"], size=of.get("size", 32)),
        registry.modality("label", classes=10),
    ]
    model = mmcore.compose(parts, backbone="transformer", backbone_options=options, registry=registry)
    values = {m.name: m.typical(rows, k) for k, m in enumerate(parts)}
    return model, TensorBatch(values, torch.ones(rows, len(parts), dtype=torch.bool))


def _flops(model: mmcore.JointModel, rows: int) -> dict[str, int] | None:
    """Of a transformer's training step and of a sampler's, the network's alone."""
    net = model.backbone
    if not isinstance(net, Transformer):
        return None
    # Operations do not depend on the number of heads.
    width = net.modulate.in_features
    size = Size(width, len(net.blocks), 1, net.patch, model.space.shape, len(model.modalities), net.features)
    step = cost(size, devices=1, rows=rows).flops
    return {"training": step, "sampling": step // 3}


def _training(
    bench: Bench, registry: mmcore.Registry, name: str, of: Mapping[str, Any], batch: TensorBatch, options: TrainOptions
) -> float:
    model = _model(registry, name, of, len(batch))[0].to(bench.device).train()
    with backbone_execution(
        model.backbone, precision="bf16", compiled=options.compile is True, activation_checkpointing=False
    ):
        state = TrainState.start(model, options)
        seconds = bench.seconds(lambda: training_step(state, batch, wait=False))
        state.settle()
    return seconds


def _sampling(bench: Bench, model: mmcore.JointModel, rows: int, way: bool | str) -> float:
    """Of one timestep, of many in a call; the call's own beginning and end are in it."""
    with backbone_execution(model.backbone, precision="bf16", compiled=False, activation_checkpointing=False):
        call = lambda: mmcore.sample(model, rows, sampler="2m", steps=bench.path, batch_size=rows, compiled=way)  # noqa: E731
        return attrs.evolve(bench, steps=1).seconds(call) / bench.path


def _bare(bench: Bench, model: mmcore.JointModel, rows: int) -> dict[str, Callable[[], object]]:
    """The network alone, compiled, with the same optimizer; and one call of it."""
    channels, *grid = model.space.shape
    parameters = [p for p in model.backbone.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    network = torch.compile(model.backbone.forward, backend=bench.backend)
    inputs = (
        torch.randn(rows, *model.space.shape, device=bench.device),
        torch.randint(1, 1001, (rows, model.process.blocks), device=bench.device),
        torch.full((rows, len(model.modalities)), int(Role.GENERATE), device=bench.device),
        torch.zeros(rows, 2 * channels, *grid, device=bench.device),
    )

    def features() -> Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16):
            return network(*inputs)

    def training() -> None:
        optimizer.zero_grad(set_to_none=True)
        features().float().square().mean().backward()
        optimizer.step()

    def sampling() -> None:
        with torch.no_grad():
            features()

    return {"training": training, "sampling": sampling}


if __name__ == "__main__":
    main()
