"""What a model takes, counted while it is made: beyond the limit it is refused before that memory is filled."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmcore.errors import RequestError
from mmcore.limits import TENSORS, WEIGHTS


class Budget(TorchDispatchMode):
    """Inside it, tensors are made up to a sum of bytes and up to a number; one that goes beyond is not made.

    Args:
        most: bytes; by default the limit of weights.
        count: tensors; by default their limit.
        why: where these are from, for the message, if not from the limits.
    """

    def __init__(self, most: int | None = None, count: int | None = None, why: str = "") -> None:
        super().__init__()
        self.most = WEIGHTS.most if most is None else min(most, WEIGHTS.most)
        self.count = TENSORS.most if count is None else min(count, TENSORS.most)
        self.why = why
        self.bytes = self.made = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], list | tuple) and all(isinstance(n, int) for n in args[0]):
            self._take(args[0], kwargs)
        elif func in _SQUARE:
            self._take([n for n in (args[0], args[-1]) if isinstance(n, int)], kwargs)
        return func(*args, **kwargs)

    def _take(self, shape: Sequence[int], kwargs: Any) -> None:
        size = math.prod(shape) * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
        self.bytes, self.made = self.bytes + size, self.made + 1
        if self.bytes > self.most:
            told = self.why or WEIGHTS.excess(self.bytes) or ""
            raise RequestError(
                f"the model would take {WEIGHTS.words(self.bytes)} at least (a tensor of {' x '.join(map(str, shape))} after {self.made - 1:,} others): {told}"
            )
        if self.made > self.count:
            told = self.why or TENSORS.excess(self.made)
            raise RequestError(
                f"the model would have more than {self.count:,} tensors ({WEIGHTS.words(self.bytes)} so far): {told}"
            )


_SQUARE = (torch.ops.aten.eye.default, torch.ops.aten.eye.m)
