"""The training step of the demo's four-modality model against its backbone and heads in a bare loop.

``python -m benchmarks.step [--threads 1] [--processes 5]`` prints the ratio and where the difference goes. One process's times differ from the next's
by a tenth and more, as its memory lies elsewhere; so the ratio is the median of several.

The bare loop has the same networks, loss terms and optimizer on inputs made beforehand: what it lacks is data loading,
randomness, encoding, placement, the process, gradient clipping, the average and the reports. A second bare loop clips and averages too, in
torch's own words: what any loop would pay for these.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import mmcore
from benchmarks.processes import in_processes, parser_of
from mmcore.data import Loader, Table
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model
from mmcore.model.roles import Role
from mmcore.rng import Rng
from mmcore.training import TrainState, training_step
from mmcore.training.draws import Drawing
from mmcore.training.weighting import WEIGHTINGS


def main() -> None:
    """Measure in turn, round by round, so that a drift of the machine's speed touches both alike; in several processes."""
    parser = parser_of(__doc__, rounds=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(_measured(options.rounds, options.steps)))
        return
    found = in_processes("benchmarks.step", options, "--threads", str(options.threads), "--steps", str(options.steps))
    for one in found:
        print(_line(one))
    print(f"median of {options.processes} processes: {_line([statistics.median(x) for x in zip(*found, strict=True)])}")
    print("in the engine:")
    for name, part in _parts(mmcore.discover()).items():
        _time(part, 5)
        print(f"  {name}: {1e3 * statistics.median(_time(part, 32) for _ in range(5)):.2f} ms")


def _line(found: Sequence[float]) -> str:
    engine, bare, equipped, ratio, ratio_equipped = found
    return (
        f"engine {engine:.1f} ms/step, bare loop {bare:.1f} ms/step, ratio {ratio:.3f}; "
        f"with clipping and average {equipped:.1f} ms/step, ratio {ratio_equipped:.3f}"
    )


def _measured(rounds: int, steps: int) -> list[float]:
    """Milliseconds of a step of the engine and of the two bare loops, medians over the rounds, and the rounds' median ratios."""
    state, table = _state(mmcore.discover())
    loops = (_engine(state, table), _bare(state, table), _bare(state, table, equipped=True))
    for step in loops:
        _time(step, 5)
    times = [[_time(step, steps) for step in loops] for _ in range(rounds)]
    found = [1e3 * statistics.median(column) for column in zip(*times, strict=True)]
    return found + [statistics.median(row[0] / row[k] for row in times) for k in (1, 2)]


def _time(step: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - started) / count


def _state(registry: mmcore.Registry) -> tuple[TrainState, Table]:
    model = digits_model(registry).train()
    table = Table.read(registry.source("digits", components=COMPONENTS), model.variables)
    return TrainState.start(model, TRAINING), table


def _engine(state: TrainState, table: Table) -> Callable[[], object]:
    batches = iter(Loader(table, TRAINING.batch_size, 0))
    return lambda: training_step(state, next(batches))


def _bare(state: TrainState, table: Table, *, equipped: bool = False) -> Callable[[], object]:
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    steps = 0
    model, n = state.model, TRAINING.batch_size
    batch = table.__getitems__(range(n))
    z, t = torch.randn(n, *model.space.shape), torch.randint(1, 1001, (n, 1))
    roles, condition = torch.randint(0, 2, (n, 4)), torch.zeros(n, 2 * model.space.shape[0], *model.space.grid)
    counted = roles == Role.GENERATE
    targets = [batch.values[m.name] for m in model.variables]

    def step() -> None:
        nonlocal steps
        features = model.backbone(z, t, roles, condition)
        total = features.new_zeros(())
        for i, decoder in enumerate(model.decoders.values()):
            total = total + (model.heads.losses[i](decoder(features, t[:, 0]), targets[i]) * counted[:, i]).mean()
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()
        if equipped:
            torch.nn.utils.clip_grad_norm_(parameters, TRAINING.clip, foreach=True)
        state.optimizer.step()
        steps += 1
        if equipped and steps % TRAINING.ema_every == 0:
            live = [p.detach() for p in parameters]
            torch._foreach_lerp_(average, live, 0.01)  # type: ignore[reportPrivateImportUsage]

    return step


def _parts(registry: mmcore.Registry) -> dict[str, Callable[[], object]]:
    state, table = _state(registry)
    model, n = state.model, TRAINING.batch_size
    batches = iter(Loader(table, n, 0))
    batch = next(batches)
    rng, steps = Rng.for_rows(0, n), itertools.count()
    drawing = Drawing(model, WEIGHTINGS[TRAINING.weighting], TRAINING.roles, rng)
    drive = drawing(0, batch).drive
    placed, noise = model.frame.place(model.encode(batch.values)), rng.normal(*model.space.shape)
    placed_size = model.encode(batch.values).shape[1]
    live = [p.detach() for name, p in model.named_parameters() if name in state.ema]
    gradients = [torch.randn_like(p) for p in live]
    for p, g in zip((p for p in model.parameters() if p.requires_grad), gradients, strict=True):
        p.grad = g
    trainable = [p for p in model.parameters() if p.requires_grad]
    return {
        "loading": lambda: next(batches),
        "noise, of the space and of what is observed": lambda: rng.of("noise").normal(model.space.size + placed_size),
        "timesteps, roles and what follows, drawn ahead": lambda: drawing(next(steps), batch),
        "encoding and placement": lambda: model.frame.place(model.encode(batch.values)),
        "process": lambda: (model.noisy(placed, drive, noise), model.condition(placed, drive)),
        "gradient clipping": lambda: torch.nn.utils.clip_grad_norm_(trainable, 1.0, foreach=True),
        "average, each tenth step": lambda: torch._foreach_lerp_(list(state.ema.values()), live, 0.0),  # type: ignore[reportPrivateImportUsage]
    }


if __name__ == "__main__":
    main()
