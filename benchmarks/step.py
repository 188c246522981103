"""The training step of the demo's four-modality model against its backbone and heads in a bare loop.

``python -m benchmarks.step [--threads 1] [--processes 5]`` prints the ratio and where the difference goes. One process's times differ from the next's
by a tenth and more, as its memory lies elsewhere; so the ratio is the median of several.

The bare loop has the same networks, loss terms and optimizer on inputs made beforehand: what it lacks is data loading,
randomness, encoding, placement, the process, gradient clipping, the average and the reports.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import mmcore
from mmcore.data import Loader, Table
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model
from mmcore.rng import Rng
from mmcore.roles import Role
from mmcore.training import TrainState, training_step
from mmcore.training.weighting import balance


def main() -> None:
    """Measure in turn, round by round, so that a drift of the machine's speed touches both alike; in several processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(_measured(options.rounds, options.steps)))
        return
    found = []
    for _ in range(options.processes):
        command = [sys.executable, "-m", "benchmarks.step", "--one", "--threads", str(options.threads)]
        command += ["--rounds", str(options.rounds), "--steps", str(options.steps)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(output.splitlines()[-1]))
        print(f"engine {found[-1][0]:.1f} ms/step, bare loop {found[-1][1]:.1f} ms/step, ratio {found[-1][2]:.3f}")
    engine, bare, ratio = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"median of {options.processes} processes: {engine:.1f} ms, {bare:.1f} ms, ratio {ratio:.3f}; in the engine:")
    for name, part in _parts(mmcore.discover()).items():
        _time(part, 5)
        print(f"  {name}: {1e3 * statistics.median(_time(part, 20) for _ in range(5)):.2f} ms")


def _measured(rounds: int, steps: int) -> tuple[float, float, float]:
    """Milliseconds of a step of the engine and of the bare loop, medians over the rounds, and the rounds' median ratio."""
    registry = mmcore.discover()
    engine, bare = _engine(registry), _bare(registry)
    for step in (engine, bare):
        _time(step, 5)
    pairs = [(_time(engine, steps), _time(bare, steps)) for _ in range(rounds)]
    times = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    return (*times, statistics.median(a / b for a, b in pairs))  # type: ignore[return-value]


def _time(step: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def _state(registry: mmcore.Registry) -> tuple[TrainState, Table]:
    model = digits_model(registry).train()
    table = Table.read(registry.source("digits", components=COMPONENTS), model.variables)
    return TrainState.start(model, TRAINING), table


def _engine(registry: mmcore.Registry) -> Callable[[], object]:
    state, table = _state(registry)
    batches = iter(Loader(table, TRAINING.batch_size, 0))
    return lambda: training_step(state, next(batches))


def _bare(registry: mmcore.Registry) -> Callable[[], object]:
    state, table = _state(registry)
    model, n = state.model, TRAINING.batch_size
    batch = table.__getitems__(range(n))
    z, t = torch.randn(n, *model.space.shape), torch.randint(1, 1001, (n, 1))
    roles, condition = torch.randint(0, 2, (n, 4)), torch.zeros(n, 2 * model.space.shape[0], *model.space.grid)
    counted = roles == Role.GENERATE
    targets = [batch.values[m.name] for m in model.variables]

    def step() -> None:
        features = model.backbone(z, t, roles, condition)
        total = features.new_zeros(())
        for i, decoder in enumerate(model.decoders.values()):
            total = total + (model.losses[i](decoder(features, t[:, 0]), targets[i]) * counted[:, i]).mean()
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()
        state.optimizer.step()

    return step


def _parts(registry: mmcore.Registry) -> dict[str, Callable[[], object]]:
    state, table = _state(registry)
    model, n = state.model, TRAINING.batch_size
    batches = iter(Loader(table, n, 0))
    batch = next(batches)
    rng = Rng.for_rows(0, n)
    t = rng.integers(1, 1001, 1)
    roles = TRAINING.roles.draw(rng, batch.present, model.generable, model.encoded)
    placed, noise = model.place(model.encode(batch.values)), rng.normal(*model.space.shape)
    placed_size = model.encode(batch.values).shape[1]
    live = [p.detach() for name, p in model.named_parameters() if name in state.ema]
    gradients = [torch.randn_like(p) for p in live]
    for p, g in zip((p for p in model.parameters() if p.requires_grad), gradients, strict=True):
        p.grad = g
    trainable = [p for p in model.parameters() if p.requires_grad]
    return {
        "loading": lambda: next(batches),
        "noise, of the space and of what is observed": lambda: rng.of("noise").normal(model.space.size + placed_size),
        "clocks and roles": lambda: TRAINING.roles.draw(rng, batch.present, model.generable, model.encoded),
        "encoding and placement": lambda: model.place(model.encode(batch.values)),
        "process": lambda: (model.noisy(placed, drive := model.drive(t, roles), noise), model.condition(placed, drive)),
        "balance": lambda: balance(model, t),
        "gradient clipping": lambda: torch.nn.utils.clip_grad_norm_(trainable, 1.0, foreach=True),
        "average, each tenth step": lambda: torch._foreach_lerp_(list(state.ema.values()), live, 0.0),  # type: ignore[reportPrivateImportUsage]
    }


if __name__ == "__main__":
    main()
