"""Several processes that train one model: who is here, and sums over all of them.

A batch is one batch however many ranks share it: each has its rows, counts are summed over all, and random numbers belong to a row's
place in the whole. So what differs between one rank and several is the order of a sum.
"""

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mmcore.errors import MmcoreError


@attrs.frozen
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number.
        count: how many there are; 1 where nothing is shared and no process group is needed.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    @contextmanager
    def here(cls, device: torch.device, timeout: float) -> Iterator["Ranks"]:
        """As ``torchrun`` started this process, or as an initialised process group says; else alone.

        Args:
            device: its kind picks the backend.
            timeout: seconds to wait for the others before they are taken for lost.
        """
        mine = False
        if dist.is_available() and not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
            mine = True
        try:
            if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
                yield cls(dist.get_rank(), dist.get_world_size())
            else:
                yield cls()
        finally:
            if mine:
                dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """``x`` summed over the ranks; each rank gets the sum."""
        if self.count == 1:
            return x
        x = x.clone()
        with lost():
            dist.all_reduce(x)
        return x

    def largest(self, x: Tensor) -> Tensor:
        """The largest ``x`` of all ranks, element by element."""
        if self.count == 1:
            return x
        x = x.clone()
        with lost():
            dist.all_reduce(x, dist.ReduceOp.MAX)
        return x

    def each(self, x: Any) -> list[Any]:
        """What every rank has, in their order; small, as it goes by pickling."""
        if self.count == 1:
            return [x]
        found: list[Any] = [None] * self.count
        with lost():
            dist.all_gather_object(found, x)
        return found


@contextmanager
def lost() -> Iterator[None]:
    """Says in one line that another rank is gone, in the place of a backend's own error."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, dist.DistError) or any(
            word in text for word in ("gloo", "NCCL", "Connection closed by peer")
        ):
            raise MmcoreError(
                f"training: another rank is lost ({text.splitlines()[0][:120]}); this one stops too; resume goes on from the last checkpoint"
            ) from error
        raise


def parallelize(model: nn.Module, ranks: Ranks, strategy: str, device: torch.device) -> nn.Module:
    """Parallelize a model over the ranks: DDP around it, or FSDP2 in place; returns what to call for a forward pass.

    Args:
        model: with equal weights on every rank.
        ranks: who shares it.
        strategy: ``"ddp"``, a copy on every rank; or ``"fsdp"``, every parameter, average and optimizer state in parts.
        device: this rank's.
    """
    if ranks.count == 1:
        return model
    if strategy == "ddp":
        ids = [device] if device.type == "cuda" else None
        with lost(), warnings.catch_warnings():
            # Buffers are tables, equal everywhere; torch is renaming the argument.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (ranks.count,))
    # A scalar cannot be sharded; its gradient is summed like those of the task weights.
    scalars = {p for p in model.parameters() if p.ndim == 0}
    for part in (*blocks(model.get_submodule("backbone")), model):
        fully_shard(part, mesh=mesh, ignored_params=scalars & set(part.parameters()))
    return model


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within, every rank has all weights of a model that is sharded: parts of it may be called by themselves, as sampling does. Every rank enters."""
    sharded = [part for part in model.modules() if hasattr(part, "set_reshard_after_forward")]
    inner: list[Any] = [part for part in sharded if part is not model]
    for part in inner:
        part.set_reshard_after_forward(False, recurse=False)
    try:
        with lost():
            for part in sharded:
                cast(Any, part).unshard()
        yield
    finally:
        for part in sharded:
            cast(Any, part).reshard()
        for part in inner:
            part.set_reshard_after_forward(True, recurse=False)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network: the members of its outermost module lists, in whatever lists they lie; none where it has no such list."""
    members: list[nn.Module] = []
    for child in network.children():
        members += _members(child) if isinstance(child, nn.ModuleList) else blocks(child)
    return members


def _members(part: nn.Module) -> list[nn.Module]:
    """What is called of a list of modules: a list or dictionary in it never is."""
    if isinstance(part, nn.ModuleList | nn.ModuleDict):
        return [member for child in part.children() for member in _members(child)]
    return [part]


@contextmanager
def gradient_synchronisation(network: nn.Module, last: bool) -> Iterator[None]:
    """A backward pass whose gradients are synchronised, summed over the ranks, only if it is the step's ``last``."""
    if isinstance(network, DistributedDataParallel):
        with lost(), nullcontext() if last else network.no_sync():
            yield
    elif (sync := getattr(network, "set_requires_gradient_sync", None)) is not None:
        sync(last)
        with lost():
            yield
    else:
        yield


def is_sharded(x: Tensor) -> bool:
    """Whether a tensor is sharded: it lies in parts on several ranks."""
    # Half of torch's own import time again, so not imported for the question.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local_shard(x: Tensor) -> Tensor:
    """This rank's shard of a tensor, or the tensor where it is not sharded."""
    return cast(Any, x).to_local() if is_sharded(x) else x


def full_tensor(x: Tensor) -> Tensor:
    """All of a tensor, gathered from its shards; where it is sharded every rank must ask."""
    return cast(Any, x).full_tensor() if is_sharded(x) else x


def full_cpu_copies(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """All of some tensors, copies on the CPU of the first rank; every rank must ask, in the same order, and the others have none: several share a machine's memory."""
    found = {}
    for name, x in tensors.items():
        whole = full_tensor(x.detach())
        if ranks.first:
            found[name] = whole.to("cpu", copy=True)
    return found


def shard_like(x: Tensor, other: Tensor) -> Tensor:
    """``x``, whole on every rank, placed and sharded as ``other`` is.

    Its order of memory is also that of ``other``: fused kernels go by that.
    """
    if not is_sharded(other):
        return torch.empty_like(other.detach(), dtype=x.dtype).copy_(x)
    from torch.distributed.tensor import distribute_tensor

    sharded = cast(Any, other)
    return distribute_tensor(x.to(other.device), sharded.device_mesh, sharded.placements, src_data_rank=None)
