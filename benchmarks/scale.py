"""What a large model costs on many devices, worked out, and checked at sizes that run here: ``python -m benchmarks.scale [--check]``.

The network is mmcore's ``transformer``. :func:`cost` says the operations, the bytes held and the bytes sent of one training step. ``--check`` counts the same
of small models: operations by torch's flop counter and what is kept for the backward pass by its hooks, both on tensors without values; what is held and
sent by a training step under FSDP2 in a process group of 1,024 ranks of which only this one exists (torch's ``fake`` backend).
"""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import attrs
import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmcore.model.backbones.transformer import Transformer
from mmcore.space import Space

FLOAT, HALF = 4, 2
"""Bytes of a number."""
HELD = 5
"""Of each weight: itself, its gradient, two moments and its average."""


@attrs.frozen
class Size:
    """A transformer and the space that it diffuses.

    Attributes:
        width: of a token.
        depth: blocks.
        heads: of the attention.
        patch: places along each axis of a token.
        space: channels and grid.
        modalities: how many.
        features: channels of the output.
    """

    width: int
    depth: int
    heads: int
    patch: int
    space: tuple[int, ...]
    modalities: int
    features: int = 32

    @property
    def tokens(self) -> int:
        """Of a row."""
        return math.prod(side // self.patch for side in self.space[1:])

    @property
    def cell(self) -> int:
        """Places of a token."""
        return self.patch ** len(self.space[1:])

    def network(self) -> Transformer:
        """The network itself."""
        options = {name: getattr(self, name) for name in ("width", "depth", "heads", "patch", "features", "modalities")}
        return Transformer(space=Space(self.space), steps=1000, **options)


@attrs.frozen
class Cost:
    """Of one training step, on one of the devices.

    Attributes:
        weights: of the whole network.
        flops: of its rows, forward and backward, a product and a sum as two.
        held: bytes that stay from step to step.
        gathered: bytes of whole blocks' weights that are there at once, and of gradients that wait to be scattered.
        kept: bytes kept for the backward pass.
        sent: bytes that this device sends, and as many that it receives.
    """

    weights: int
    flops: int
    held: int
    gathered: int
    kept: int
    sent: int


def cost(
    size: Size, *, devices: int, rows: int, strategy: str = "fsdp", micro_batches: int = 1, kept: int = HALF
) -> Cost:
    """What a training step costs on each of several devices.

    Args:
        size: of the network.
        devices: how many share the step.
        rows: of each device, in all its micro-batches together.
        strategy: ``"fsdp"``, weights, moments and averages in parts; or ``"ddp"``, whole ones everywhere.
        micro_batches: in which a device's rows are computed, one after the other.
        kept: bytes of a number that is kept for the backward pass.
    """
    block, ends = _weights(size)
    weights = size.depth * block + ends
    whole_block, whole_ends = block, ends
    if strategy == "fsdp":
        whole_block, whole_ends = (devices * _most_rows(shapes, devices) for shapes in _shapes(size))
    whole = size.depth * whole_block + whole_ends
    # FSDP gathers each block's weights for the forward and again for the backward pass of every micro-batch, what is around the blocks once; only the last
    # one's gradient is scattered, and the others wait for it as they are. What all devices sum, as DDP's gradient, goes round twice.
    sent = 2 * weights
    waiting = 0
    if strategy == "fsdp":
        sent = (2 * micro_batches + 1) * size.depth * whole_block + (micro_batches + 1) * whole_ends
        waiting = weights if micro_batches > 1 else 0
    return Cost(
        weights=weights,
        flops=rows * (3 * _forward_flops(size) - _first_flops(size)),
        held=HELD * FLOAT * (whole // devices if strategy == "fsdp" else whole),
        gathered=FLOAT * (2 * whole_block + whole_ends + waiting) if strategy == "fsdp" else 0,
        kept=kept * math.ceil(rows / micro_batches) * _kept(size),
        sent=round(sent * (devices - 1) / devices * FLOAT),
    )


def _most_rows(shapes: list[torch.Size], devices: int) -> int:
    """Numbers that the first device has of weights of these shapes: each is divided along its first axis, and made longer until it can be."""
    return sum(math.ceil(shape[0] / devices) * math.prod(shape[1:]) for shape in shapes)


def _shapes(size: Size) -> tuple[list[torch.Size], list[torch.Size]]:
    """Of the weights of one block, and of all around the blocks."""
    with torch.device("meta"):
        net = size.network()
    ends = [p.shape for name, p in net.named_parameters() if not name.startswith("blocks.")]
    return [p.shape for p in net.blocks[0].parameters()], ends


def _first_flops(size: Size) -> int:
    """Of one row's forward pass, that of layers whose input has no gradient."""
    w, n, channels = size.width, size.tokens, size.space[0]
    read, local = 2 * n * 3 * channels * size.cell * w, 2 * n * size.cell * 3 * channels * size.features
    return read + local + 2 * (w * w + 3 * size.modalities * w)


def _weights(size: Size) -> tuple[int, int]:
    """Of one block, and of all that is before and after them."""
    w, n, channels, pools = size.width, size.tokens, size.space[0], 8
    block = 18 * w * w + 15 * w
    read = channels * size.cell * w + w
    observe = 2 * channels * size.cell * w + w
    glances, spread = 2 * (n * pools + pools * w * w + w), n * pools + pools * w * w + pools * w
    told = 2 * (w * w + w) + 3 * size.modalities * w + w
    write = 2 * w * w + 2 * w + (w + 1) * size.features * size.cell
    local = 3 * channels * size.features + size.features
    return block, read + observe + n * w + glances + spread + told + write + local


def _forward_flops(size: Size) -> int:
    """Of one row: every weight that tokens meet once for each token, the others once, and attention."""
    w, n, channels, pools = size.width, size.tokens, size.space[0], 8
    block = 2 * n * 12 * w * w + 2 * 6 * w * w + 4 * n * n * w
    read = 2 * n * 3 * channels * size.cell * w
    looks = 2 * (2 * n * pools * w + 2 * pools * w * w) + 2 * pools * w * w + 2 * n * pools * w
    told = 2 * (2 * w * w + 3 * size.modalities * w + 2 * w * w)
    write = 2 * n * w * size.features * size.cell
    local = 2 * n * size.cell * 3 * channels * size.features
    return size.depth * block + read + looks + told + write + local


def _kept(size: Size) -> int:
    """Numbers of one row that the backward pass reads: of a block those of its tokens, in multiples of their width, and its modulation."""
    w, n = size.width, size.tokens
    return size.depth * (KEPT_PER_TOKEN * n * w + 7 * w) + 3 * size.space[0] * n * size.cell + 6 * n * w


KEPT_PER_TOKEN = 20
"""The two norms' inputs and outputs, queries, keys and values, what attention gives, and what the wide layer does."""

# ---- what is counted ----


def counted_flops(size: Size, rows: int) -> int:
    """Of the network's forward and backward pass, by torch's counter, without values."""
    with torch.device("meta"):
        net = size.network()
    with FlopCounterMode(display=False) as counter:
        net(*_inputs(size, rows, "meta")).sum().backward()
    return counter.get_total_flops()


def counted_kept(size: Size, rows: int) -> int:
    """Bytes that the forward pass keeps in float32, each tensor once and no weights."""
    with torch.device("meta"):
        net = size.network()
    own, found = {x.data_ptr() if x.device.type != "meta" else id(x) for x in net.parameters()}, {}

    def keep(x: Tensor) -> Tensor:
        if id(x) not in own and id(x._base) not in own:
            found[x.untyped_storage()._cdata] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), _kernel_that_keeps_no_pairs():
        net(*_inputs(size, rows, "meta"))
    return sum(found.values())


def _inputs(size: Size, rows: int, device: str) -> tuple[Tensor, ...]:
    channels, *grid = size.space
    z, condition = torch.zeros(rows, *size.space, device=device), torch.zeros(rows, 2 * channels, *grid, device=device)
    t = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    return z, t, torch.zeros(rows, size.modalities, dtype=torch.int64, device=device), condition


class _Attention(torch.autograd.Function):
    """What a kernel keeps that makes no matrix of all pairs: its inputs, its output, and a number for each query."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q[..., 0].clone())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return ctx.saved_tensors[:3]


@contextmanager
def _kernel_that_keeps_no_pairs() -> Iterator[None]:
    real = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v, **_: _Attention.apply(q, k, v)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = real


class Sent(TorchDispatchMode):
    """Within, counts the bytes that collectives send of this rank's, by kind."""

    def __init__(self, devices: int) -> None:
        super().__init__()
        self.devices, self.bytes, self.calls = devices, dict[str, int](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace == "c10d":
            self.calls += 1
            tensors = [x for x in pytree.tree_leaves(args) if isinstance(x, Tensor)]
            # Round a ring: the whole of the gathered or scattered tensor but its own part; of a sum both.
            whole = max(x.numel() * x.element_size() for x in tensors)
            times = 2 if "allreduce" in name else 1
            sent = round(times * whole * (self.devices - 1) / self.devices)
            self.bytes[name] = self.bytes.get(name, 0) + sent
        return func(*args, **(kwargs or {}))


def _bucket(sent: Sent, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[reportPrivateImportUsage]
    """A bucket of DDP's, which would be summed over all."""
    x = bucket.buffer()
    sent.calls += 1
    sent.bytes["bucket"] = sent.bytes.get("bucket", 0) + round(
        2 * x.numel() * x.element_size() * (sent.devices - 1) / sent.devices
    )
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(x)
    return done


class _Around(torch.nn.Module):
    """What is parallelized: a model has its network by this name."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.backbone(*inputs)


@contextmanager
def many(devices: int) -> Iterator[None]:
    """A process group of so many ranks, of which only this one exists."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def counted_step(size: Size, rows: int, devices: int, strategy: str = "fsdp") -> tuple[int, dict[str, int], int]:
    """Of a training step of the network: bytes that this rank holds of weights, moments and averages; bytes sent, by collective; collectives."""
    from mmcore.training.ranks import Ranks, local_shard, parallelize

    with many(devices):
        torch.manual_seed(0)
        model = _Around(size.network())
        network = parallelize(model, Ranks(0, devices), strategy, torch.device("cpu"))
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        average = [p.detach().clone() for p in model.parameters()]
        sent = Sent(devices)
        if isinstance(network, DistributedDataParallel):
            # Its buckets are reduced out of sight of any mode.
            network.register_comm_hook(sent, _bucket)
        with nullcontext() if isinstance(network, DistributedDataParallel) else sent:
            network(*_inputs(size, rows, "cpu")).square().mean().backward()
        optimizer.step()
        held = [*model.parameters(), *(p.grad for p in model.parameters()), *average]
        held += [x for p in model.parameters() for name, x in optimizer.state[p].items() if name != "step"]
        return sum(local_shard(x).numel() * x.element_size() for x in held if x is not None), sent.bytes, sent.calls


# ---- the tables ----

LARGE = Size(width=1536, depth=24, heads=24, patch=2, space=(16, 32, 32), modalities=8)
SMALL = (
    Size(width=64, depth=2, heads=4, patch=2, space=(4, 8, 8), modalities=3),
    Size(width=128, depth=4, heads=4, patch=2, space=(8, 16, 16), modalities=8),
    Size(width=256, depth=6, heads=8, patch=4, space=(3, 32, 32), modalities=2),
)


def main() -> None:
    """Print the table of the large model, or the checks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--devices", type=int, default=1024)
    given = parser.parse_args()
    print(checks(given.devices) if given.check else table(given.devices))


def table(devices: int) -> str:
    """The large model's costs as Markdown."""
    lines = [
        "| strategy | rows a device | micro-batches | TFLOP a step | GB held | GB gathered | GB kept | GB sent a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for strategy, rows, micro in (("fsdp", 8, 1), ("fsdp", 64, 1), ("fsdp", 64, 8), ("ddp", 8, 1), ("ddp", 64, 8)):
        found = cost(LARGE, devices=devices, rows=rows, strategy=strategy, micro_batches=micro)
        sizes = " | ".join(f"{x / 1e9:.3g}" for x in (found.held, found.gathered, found.kept, found.sent))
        lines.append(f"| {strategy} | {rows} | {micro} | {found.flops / 1e12:.3g} | {sizes} |")
    return "\n".join([f"{cost(LARGE, devices=1, rows=1).weights:,} weights, {devices:,} devices", "", *lines])


def checks(devices: int) -> str:
    """What is worked out against what is counted, as Markdown."""
    lines = [
        "| width × depth, space | what | worked out | counted | ratio |",
        "|---|---|---|---|---|",
    ]
    for size in SMALL:
        name = f"{size.width} × {size.depth}, {' × '.join(map(str, size.space))}"
        for what, predicted, found in compared(size, devices):
            lines.append(f"| {name} | {what} | {predicted:,} | {found:,} | {predicted / found:.4f} |")
    return "\n".join(lines)


def compared(size: Size, devices: int, rows: int = 2) -> Iterator[tuple[str, int, int]]:
    """Each cost as it is worked out, and as it is counted."""
    one = cost(size, devices=1, rows=rows, kept=FLOAT)
    with torch.device("meta"):
        yield "weights", one.weights, sum(p.numel() for p in size.network().parameters())
    yield "FLOPs", one.flops, counted_flops(size, rows)
    yield "bytes kept", one.kept, counted_kept(size, rows)
    for strategy in ("fsdp", "ddp"):
        shared = cost(size, devices=devices, rows=rows, strategy=strategy)
        held, sent, _ = counted_step(size, rows, devices, strategy)
        yield f"bytes held, {strategy}", shared.held, held
        yield f"bytes sent, {strategy}", shared.sent, sum(sent.values())


if __name__ == "__main__":
    main()
