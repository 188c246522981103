"""A sampler step of the demo's four-modality model: its operations, its time against the bare network, and the first sample of a process.

``python -m benchmarks.sampler_step [--processes 5] [--rounds 9]`` prints, on one thread, by 2M (deterministic, one prediction a step):

* the torch operations that a step issues, and how many of them are the network's. Counted are those that compute: views,
  casts and what is only built on the meta device are not. A step is the difference of 11 and 10 steps, of paths that were
  sampled along before, as what a timestep fixes may be kept; and of paths that were not.
* the processor time of a process's first ``sample``, with the library imported and the model composed before it.
* the time of a step against the network's forward alone, the backbone and the heads on the inputs that ``sample`` gave them. That works out its modulations
  anew each time; ``sample`` does so once for all steps, so that a step may take less than the bare network. A step is
  a twentieth of the difference of 21 steps and 1, so what is worked out once for all steps counts too.

One process's times differ from the next's by a tenth and more, so the ratios are medians over processes of medians over
rounds, each of which measures everything in turn. The weights are random.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmcore
from benchmarks.processes import in_processes, parser_of
from mmcore import sample
from mmcore.demo.run import digits_model

SAMPLER = "2m"
STEPS = 20
AIMS = {1: 1.25, 64: 1.10, 500: 1.05}
"""By the batch's size, the time of a step over that of the network."""


def main() -> None:
    """Measure and print."""
    options = parser_of(__doc__, rounds=9).parse_args()
    torch.set_num_threads(1)
    model = random_model()
    if options.one:
        print(json.dumps(one_process(model, options.rounds)))
        return
    print(operations_line(model), flush=True)
    processes = in_processes("benchmarks.sampler_step", options)
    first, second = ([process[name] for process in processes] for name in ("first", "second"))
    print(
        f"processor time of the first sample of 1 in {STEPS} steps: {statistics.median(first):.2f} s "
        f"({min(first):.2f} to {max(first):.2f} in {len(first)} processes), aim ≤ 0.2; of the second {statistics.median(second):.3f} s"
    )
    for batch, aim in AIMS.items():
        step, network, ratio = zip(*(process["batches"][str(batch)] for process in processes), strict=True)
        print(
            f"batch of {batch}: step {statistics.median(step):.2f} ms, network {statistics.median(network):.2f} ms, "
            f"ratio {statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}), aim ≤ {aim:.2f}"
        )


def random_model() -> mmcore.JointModel:
    """The demo's model, untrained; where layers begin at zero, as heads do, random weights take their place."""
    model = digits_model(mmcore.discover()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return model


def ask(model: mmcore.JointModel, rows: int, steps: int) -> dict[str, Tensor]:
    """What is measured."""
    return sample(model, rows, steps=steps, sampler=SAMPLER)


# ---- the network alone ----


def network_modules(model: mmcore.JointModel) -> list[nn.Module]:
    """The backbone and the heads, in the order in which a prediction calls them."""
    holder: Any = model if hasattr(model, "decoders") else model.heads
    return [model.backbone, *holder.decoders.values()]


def network(model: mmcore.JointModel, rows: int) -> Callable[[], None]:
    """One forward of the network on the inputs of a prediction of :func:`ask`, bare: it works out itself what timesteps and roles fix."""
    calls: list[tuple[nn.Module, Any, Any]] = []
    modules = network_modules(model)
    hooks = [
        module.register_forward_pre_hook(lambda *call: calls.append(call), with_kwargs=True)  # type: ignore[reportArgumentType]
        for module in modules
    ]
    ask(model, rows, 2)
    for hook in hooks:
        hook.remove()
    if [module for module, _, _ in calls] != modules * 2:
        raise SystemExit("sample no longer calls the backbone and each head once a prediction: mend this script")
    last = calls[len(modules) :]

    def forward() -> None:
        with torch.inference_mode():
            for module, arguments, named in last:
                module(*arguments, **{name: x for name, x in named.items() if name != "ahead"})

    return forward


# ---- operations ----


class Counted(TorchDispatchMode):
    """Counts the operations inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.computing = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.all += 1
        results, given = _tensors(result), {_storage(x) for x in _tensors((args, kwargs))}
        views = bool(results) and not func._schema.is_mutable and all(_storage(x) in given for x in results)
        cast = func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy)
        built = any(x.device.type == "meta" for x in results)
        self.computing += not (views or cast or built)
        return result


def operations_line(model: mmcore.JointModel) -> str:
    """The operations of a step and of the network, in words."""
    ask(model, 1, 3)
    first, again = ([counted(lambda steps=steps: ask(model, 1, steps)) for steps in (10, 11)] for _ in range(2))
    alone = counted(network(model, 1))
    return (
        f"operations of a step: {again[1].computing - again[0].computing} (the network's: {alone.computing}), aim ≤ 140; "
        f"the first time {first[1].computing - first[0].computing}; "
        f"with views and casts {again[1].all - again[0].all} ({alone.all})"
    )


def counted(call: Callable[[], object]) -> Counted:
    """The operations of a call."""
    with Counted() as counts:
        call()
    return counts


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


# ---- times ----


def one_process(model: mmcore.JointModel, rounds: int) -> dict[str, Any]:
    """Seconds of the first sample and the second; by batch, milliseconds of a step and of the network, and their ratio."""
    first, second = (processor_time(lambda: ask(model, 1, STEPS)) for _ in range(2))
    calls = {}
    for batch in AIMS:
        forward = network(model, batch)
        calls[batch] = (
            lambda batch=batch: ask(model, batch, STEPS + 1),
            lambda batch=batch: ask(model, batch, 1),
            lambda forward=forward: repeated(forward, STEPS),
        )
    for several in calls.values():
        for call in several:
            call()
    times = {batch: [] for batch in AIMS}
    for _ in range(rounds):
        for batch, several in calls.items():
            many, once, alone = (thread_time(call) for call in several)
            times[batch].append(((many - once) / STEPS, alone / STEPS))
    return {"first": first, "second": second, "batches": {batch: _medians(pairs) for batch, pairs in times.items()}}


def _medians(pairs: Iterable[tuple[float, float]]) -> list[float]:
    pairs = list(pairs)
    step, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [1e3 * step, 1e3 * alone, statistics.median(x / y for x, y in pairs)]


def repeated(call: Callable[[], object], count: int) -> None:
    """Call it so often."""
    for _ in range(count):
        call()


def processor_time(call: Callable[[], object]) -> float:
    """Seconds of this process's processors."""
    started = time.process_time()
    call()
    return time.process_time() - started


def thread_time(call: Callable[[], object]) -> float:
    """Seconds of this thread's processor: on one thread all there is, and less disturbed by other work than the clock."""
    started = time.thread_time()
    call()
    return time.thread_time() - started


if __name__ == "__main__":
    main()
