"""How much a GPU is asked for, counted without one: operations, and what makes the host wait for them.

Every operation of torch that computes something is one *launch*: on a small model a GPU's time is mostly that of starting them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "is_nonzero", "item", "nonzero", "nonzero_static", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}  # fmt: skip
"""Operations whose result, or its shape, the host must know before it goes on."""
FREE = {"detach", "alias", "lift_fresh", "scalar_tensor", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view", "_reshape_alias"}  # fmt: skip
"""Operations that start nothing on a device."""


class Launches(TorchDispatchMode):
    """Within, counts what is started and what is waited for.

    Attributes:
        names: how often each operation was started.
        waits: how often the host had to wait, by what made it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if (
            name in READS
            or _by_mask(name, args)
            or (name == "repeat_interleave" and (kwargs or {}).get("output_size") is None)
        ):
            self.waits[name] += 1
        if name not in FREE and not func.is_view:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All that was started."""
        return self.names.total()


def _by_mask(name: str, args: tuple[Any, ...]) -> bool:
    """Whether elements are chosen by booleans, of which the host must know how many hold."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    return any(isinstance(at, torch.Tensor) and at.dtype in (torch.bool, torch.uint8) for at in args[1])


@contextmanager
def made_on_the_host(found: list[str]) -> Any:
    """Within, tensors made of Python's numbers for a device are written down: their way there is waited for."""
    real: Mapping[str, Callable[..., Any]] = {name: getattr(torch, name) for name in ("tensor", "as_tensor")}

    def wrapped(name: str) -> Callable[..., Any]:
        def make(*args: Any, **options: Any) -> Any:
            if options.get("device") is not None and torch.device(options["device"]).type != "cpu":
                found.append(name)
            return real[name](*args, **options)

        return make

    for name in real:
        setattr(torch, name, wrapped(name))
    try:
        yield found
    finally:
        for name, call in real.items():
            setattr(torch, name, call)
