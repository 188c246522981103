"""The public edge of the process: shapes, dtypes and timesteps, checked before any arithmetic."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mmcore.process.coefficients import Coefficients, Timestep


def like(process: "Coefficients", encodings: Tensor | None, h: Tensor | None, z0: Tensor | None) -> Tensor:
    """A tensor of the shape ``(B, *Z)`` that the arguments agree on.

    Raises:
        ValueError: they do not.
    """
    if (encodings is None) == (h is None) and not (encodings is None and process.modalities == 0 and z0 is not None):
        count = "both" if h is not None else "neither"
        raise ValueError(f"process: {count} of encodings and h given, expected exactly one")
    if encodings is not None:
        if encodings.ndim < 2 or encodings.shape[1] != process.modalities:
            raise ValueError(
                f"process: encodings have shape {tuple(encodings.shape)}, expected (B, N, *Z) with N = {process.modalities}"
            )
        if process.modalities:
            shape = encodings.select(1, 0)
        else:
            shape = encodings.new_empty(()).expand(encodings.shape[0], *encodings.shape[2:])
    else:
        shape = h if h is not None else z0
    assert shape is not None
    if z0 is not None:
        if z0.shape != shape.shape:
            raise ValueError(f"process: z0 has shape {tuple(z0.shape)}, expected (B, *Z) = {tuple(shape.shape)}")
        if process.schedule.W0.any():
            raise ValueError(
                f"process: z0 given, but the schedule {process.schedule.name!r} starts at the encodings (W_0 ≠ 0), "
                "expected one of the two"
            )
    return shape


def alike(**tensors: Tensor | None) -> None:
    """One floating dtype for all: a coefficient cast to integers, or silently promoted, would be wrong.

    Raises:
        ValueError: naming the tensor.
    """
    present = {name: x for name, x in tensors.items() if x is not None}
    for name, x in present.items():
        if not x.is_floating_point():
            raise ValueError(f"process: {name} has dtype {x.dtype}, expected a floating-point dtype")
    first = next(iter(present))
    for name, x in present.items():
        if x.dtype != present[first].dtype:
            raise ValueError(f"process: {name} has dtype {x.dtype}, expected {present[first].dtype} as that of {first}")


def same_shape(like: Tensor, **tensors: Tensor) -> None:
    """Tensors ``(B, *Z)`` of one shape.

    Raises:
        ValueError: naming the first that differs.
    """
    for name, x in tensors.items():
        if x.shape != like.shape:
            raise ValueError(f"process: {name} has shape {tuple(x.shape)}, expected (B, *Z) = {tuple(like.shape)}")


def both(h: object) -> tuple[Tensor, Tensor]:
    """The pair ``(h_s, h_t)``: one of them alone would leave the other's mean at zero.

    Raises:
        ValueError: anything else.
    """
    if isinstance(h, tuple | list) and len(h) == 2 and all(isinstance(part, Tensor) for part in h):
        return h[0], h[1]
    kinds = [type(part).__name__ for part in h] if isinstance(h, tuple | list) else []
    found = f"({', '.join(kinds)})" if kinds else type(h).__name__
    raise ValueError(f"process: h = {found}, expected the pair (h_s, h_t)")


def timestep(process: "Coefficients", name: str, t: "Timestep", rows: int) -> "Timestep":
    """An integer in ``0 … T`` as it is, or a tensor of them as int64.

    Raises:
        ValueError: another type, dtype or shape, or a value outside.
    """
    if isinstance(t, int) and not isinstance(t, bool):
        if not 0 <= t <= process.steps:
            raise ValueError(f"process: {name} = {t} in row 0, expected 0 … T = {process.steps}")
        return t
    if not isinstance(t, Tensor):
        raise ValueError(
            f"process: {name} is {t!r} ({type(t).__name__}), expected an integer or an integer tensor {process.timesteps}"
        )
    if t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool:
        raise ValueError(f"process: {name} has dtype {t.dtype}, expected an integer dtype")
    if t.shape != (expected := process.timestep_shape(rows)):
        raise ValueError(f"process: {name} has shape {tuple(t.shape)}, expected {process.timesteps} = {expected}")
    if t.numel():
        low, high = t.aminmax()
        if low.item() < 0 or high.item() > process.steps:
            row = int(((t < 0) | (t > process.steps)).nonzero()[0, 0])
            raise ValueError(f"process: {name} = {t[row].tolist()} in row {row}, expected 0 … T = {process.steps}")
    return t.long()


def pair(process: "Coefficients", s: "Timestep", t: "Timestep", rows: int) -> tuple["Timestep", "Timestep"]:
    """Timesteps ``s < t`` in every row.

    Raises:
        ValueError: they are not, or as :func:`timestep`.
    """
    s, t = timestep(process, "s", s, rows), timestep(process, "t", t, rows)
    before = s < t
    if isinstance(before, bool):
        if not before:
            at_s, at_t = (torch.full(process.timestep_shape(1)[1:], int(u)).tolist() for u in (s, t))
            raise ValueError(f"process: s = {at_s} and t = {at_t} in row 0, expected s < t")
    elif not before.all():
        row = int((~before).nonzero()[0, 0])
        blocks = process.timestep_shape(rows)[1:]
        at_s, at_t = (torch.full(blocks, u).tolist() if isinstance(u, int) else u[row].tolist() for u in (s, t))
        raise ValueError(f"process: s = {at_s} and t = {at_t} in row {row}, expected s < t")
    return s, t
