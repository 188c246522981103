"""Whether a step was finite: found where the numbers are, heeded there, and read by the host later.

To read a number waits for all that the device has yet to do. So the device itself takes no step that is not finite, and none after it, until the host has
read this; meanwhile the host goes on to the next step.
"""

import math
from collections.abc import Mapping
from typing import NoReturn

import attrs
import torch
from torch import Tensor

from mmcore.errors import MmcoreError
from mmcore.model.joint import JointModel
from mmcore.training.ranks import Ranks


@attrs.frozen(eq=False)
class Finding:
    """What says whether a step was finite, on its way to the host.

    Attributes:
        step: which one.
        values: this rank's batch.
        losses: ``(B, tasks)`` of this rank's rows.
        found: on the host, :func:`found` of the step.
        arrived: after it ``found`` can be read; None where it always could.
    """

    step: int
    values: Mapping[str, Tensor]
    losses: Tensor
    found: Tensor
    arrived: torch.Event | None

    @classmethod
    def sent(cls, step: int, values: Mapping[str, Tensor], losses: Tensor, found: Tensor) -> "Finding":
        """Begin to copy what was found; nothing waits for it."""
        if found.device.type == "cpu":
            return cls(step, values, losses, found, None)
        copy = found.to("cpu", non_blocking=True)
        arrived = torch.Event(found.device)
        arrived.record()
        return cls(step, values, losses, copy, arrived)

    def read(self) -> list[float]:
        """What was found, waiting for it."""
        if self.arrived is not None:
            self.arrived.synchronize()
        # Numpy's, as torch would count this as asking a device.
        return self.found.detach().numpy().tolist()

    def good(self) -> bool:
        """Whether the step was finite, waiting for it."""
        *numbers, wrong = self.read()
        return not wrong and all(map(math.isfinite, numbers))

    def overflown(self) -> bool:
        """Whether of all only the gradient is not finite, which a lower scale may mend."""
        *sums, _, wrong = self.read()
        return not wrong and all(map(math.isfinite, sums))


def found(summed: Tensor, wrong: Tensor) -> Tensor:
    """All that is read of a step, ``(tasks + 2,)``.

    Args:
        summed: ``(tasks + 1,)`` over the ranks, the tasks' losses and the gradient's norm.
        wrong: ``()``, on how many ranks an input is not finite.
    """
    return torch.cat([summed, wrong[None].to(summed.dtype)])


def fine(found: Tensor) -> Tensor:
    """Whether a step may be taken, ``()`` bool."""
    return found.isfinite().all() & (found[-1] == 0)


def inputs_wrong(values: Mapping[str, Tensor]) -> Tensor:
    """Whether something in a batch is not finite, ``()`` bool.

    Also where a row lacks a value: what its loss does not count, its gradient would still multiply by zero.
    """
    real = [x for x in values.values() if x.is_floating_point() and x.numel()]
    if not real:
        return torch.zeros((), dtype=torch.bool, device=next(iter(values.values())).device)
    # In one pass over each; where a number is NaN, so are these.
    ends = [end for x in real for end in x.aminmax()]
    return ~torch.stack([end.double() for end in ends]).isfinite().all()


def explain(model: JointModel, ranks: Ranks, finding: Finding) -> NoReturn:
    """Say what of a step was not finite.

    Raises:
        MmcoreError: naming the input or the task, and rows of the batch.
    """
    *sums, norm, wrong = finding.read()
    if wrong:
        rows = {name: ~x.flatten(1).isfinite().all(1) for name, x in finding.values.items() if x.is_floating_point()}
        faults = [
            f"{name!r} is not finite in row {at} of the batch"
            for name, bad in rows.items()
            if (at := _place(ranks, bad))
        ]
        _stop(ranks, finding.step, faults or ["an input is not finite on another rank"], "look into the data")
    faults = []
    for k, task in enumerate(model.tasks):
        bad = ~finding.losses[:, k].isfinite()
        if at := _place(ranks, bad):
            faults.append(f"task {task.name!r} has loss {finding.losses[bad, k][0].item()} in row {at} of the batch")
    if not faults and not all(map(math.isfinite, sums)):
        faults.append("a loss is not finite on another rank")
    _stop(ranks, finding.step, faults or [f"the gradient's norm is {norm}, every loss being finite"], "try a lower lr")


def _place(ranks: Ranks, wrong: Tensor) -> str:
    """The first few places in the whole step where ``wrong (B,)`` holds."""
    at = [int(i) + ranks.rank * len(wrong) for i in wrong.nonzero()[:, 0]]
    return ", ".join(map(str, at[:8])) + (", …" if len(at) > 8 else "")


def _stop(ranks: Ranks, step: int, faults: list[str], mend: str) -> NoReturn:
    who = f" on rank {ranks.rank}" if ranks.count > 1 else ""
    raise MmcoreError(f"training: at step {step}{who}, {'; '.join(faults)}; the step was not taken ({mend})")
