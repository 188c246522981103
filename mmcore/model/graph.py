"""Code as one graph, by ``torch.compile``."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

RECORDED = "reduce-overhead"
"""The mode of ``torch.compile`` that records, on a GPU, what a graph starts, and starts it as one (CUDA graphs)."""


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
    graph = torch.compile(own, fullgraph=True, dynamic=False, backend=backend, **how)
    if mode != RECORDED:
        return graph
    # What a recorded graph gives is overwritten when it is started again.
    return lambda *args: pytree.tree_map_only(Tensor, Tensor.clone, graph(*args))


def begin(mode: str) -> None:
    """Of a step: what its graphs gave in the last one may be overwritten."""
    if mode == RECORDED and torch.cuda.is_available():
        torch.compiler.cudagraph_mark_step_begin()
