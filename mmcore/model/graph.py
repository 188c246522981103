"""Code as one graph, by ``torch.compile``."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch


def one_graph(part: Callable[..., Any], mode: str, backend: str = "inductor") -> Callable[..., Any]:
    """A function compiled as one graph, for arguments of the shapes that it is called with; where it cannot be one graph, it raises.

    Args:
        part: a plain function, of a module.
        mode: of ``torch.compile``.
        backend: the compiler.
    """
    code = cast(FunctionType, part)
    # Code of its own: torch keeps what it has compiled with the code, and another model's graphs would be counted as this one's.
    own = FunctionType(code.__code__.replace(), code.__globals__, code.__name__, code.__defaults__)
    how: dict[str, Any] = {"mode": mode} if backend == "inductor" else {}
    return torch.compile(own, fullgraph=True, dynamic=False, backend=backend, **how)
