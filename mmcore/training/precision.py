"""How the backbone computes: mixed precision, compilation, and activation checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Self

import attrs
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmcore.model.graph import RECORDED, begin, one_graph
from mmcore.model.joint import JointModel
from mmcore.training.ranks import blocks

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Call = Callable[..., Any]
WHOLE = {"step": "default", "graphs": RECORDED}
"""What whole steps are compiled as, with the mode of ``torch.compile``."""


def plain(part: Call) -> Call:
    """A part of a step as it is."""
    return part


class Compiled:
    """Parts of a step by ``torch.compile``, each as one graph, which is the same for every step.

    Args:
        how: one of :data:`WHOLE`.
        backend: of the compiler.
    """

    def __init__(self, how: str, backend: str = "inductor") -> None:
        self.how, self.backend, self._made = how, backend, dict[Call, Call]()

    def __call__(self, part: Call) -> Call:
        """The part, compiled when it is first called."""
        if part not in self._made:
            self._made[part] = one_graph(part, WHOLE[self.how], self.backend)
        return self._made[part]

    def begin(self) -> None:
        """Of a step."""
        begin(WHOLE[self.how])


def dtype_of(model: JointModel) -> torch.dtype:
    """The dtype of the diffused tensor: that of the heads, whatever the network's weights are."""
    learned = (p.dtype for p in model.decoders.parameters() if p.is_floating_point())
    return next(learned, torch.get_default_dtype())


@contextmanager
def backbone_execution(
    backbone: nn.Module, *, precision: str, compiled: bool, activation_checkpointing: bool, draws: bool = False
) -> Iterator[None]:
    """Within, the backbone runs in mixed precision, compiled or with activation checkpointing; afterwards as before.

    Precision is lowered around the backbone and nowhere else: the process, the heads and the losses keep theirs.

    Args:
        backbone: the network.
        precision: of :data:`PRECISIONS`.
        compiled: by ``torch.compile``.
        activation_checkpointing: of its blocks: activations are computed again in the backward pass.
        draws: it may draw from torch's global generator, as dropout does; activations computed again draw the same.
    """
    with ExitStack() as stack:
        if activation_checkpointing:
            for block in blocks(backbone) or [backbone]:
                stack.enter_context(_forward_wrapped(block, lambda call: _checkpointed(call, draws)))
        if compiled:
            stack.enter_context(_forward_wrapped(backbone, torch.compile))
        if (dtype := PRECISIONS[precision]) is not None:
            stack.enter_context(_forward_wrapped(backbone, lambda call: _autocast(call, dtype)))
        yield


@contextmanager
def _forward_wrapped(module: nn.Module, wrap: Callable[[Call], Call]) -> Iterator[None]:
    """``module.forward`` wrapped; the module stays where it is, so that no parameter changes its name."""
    before = module.__dict__.get("forward")
    module.forward = wrap(module.forward)
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _checkpointed(call: Call, draws: bool) -> Call:
    @wraps(call)
    def forward(*args: Any, **options: Any) -> Any:
        return checkpoint(call, *args, use_reentrant=False, preserve_rng_state=draws, **options)

    return forward


def _autocast(call: Call, dtype: torch.dtype) -> Call:
    @wraps(call)
    def forward(z: Tensor, *rest: Any) -> Tensor:
        with torch.autocast(z.device.type, dtype):
            features = call(z, *rest)
        return features.to(z.dtype)

    return forward


@attrs.define
class Scaler:
    """The factor of an ``fp16`` loss, so that small gradients are not lost.

    A gradient that overflows halves it and the step is computed again, so no step is left out; it doubles after many
    steps without one. In other precisions it is 1 and stays.

    Attributes:
        scale: a power of two.
        good: steps since it last changed.
        on: whether it moves.
    """

    scale: float
    good: int
    on: bool

    GROWS_AFTER = 2000

    @classmethod
    def start(cls, precision: str) -> Self:
        """For a run's first step."""
        on = precision == "fp16"
        return cls(2.0**16 if on else 1.0, 0, on)

    def shrink(self) -> bool:
        """After an overflow; whether it is worth trying again."""
        if not self.on or self.scale <= 1:
            return False
        self.scale, self.good = self.scale / 2, 0
        return True

    def advance(self) -> None:
        """After a step that was taken."""
        if self.on:
            self.good += 1
            if self.good >= self.GROWS_AFTER and self.scale < 2.0**24:
                self.scale, self.good = self.scale * 2, 0
