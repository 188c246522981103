"""Hypothesis strategies for valid samples, derived from a :class:`mmcore.Spec`.

Everything is drawn by booleans. Into integers and floats Hypothesis mixes constants that it finds in the code of the modules
that happen to be imported, so the same seed would give other examples in another process.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mmcore.modality.packed import PackedSpec
from mmcore.modality.spec import VOID, Spec
from mmcore.rng import Rng

FAR = 1e4
"""How far from zero a value without a limit goes."""


def whole(high: int) -> st.SearchStrategy[int]:
    """Whole numbers 0 … ``high``, by the seed alone; shrinks towards 0."""
    bits = high.bit_length()
    return st.tuples(*[st.booleans()] * bits).map(lambda b: sum(on << k for k, on in enumerate(b)) % (high + 1))


def choice(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of the values, by the seed alone; shrinks towards the first."""
    return whole(len(values) - 1).map(values.__getitem__)


def limits(spec: Spec) -> tuple[float, float]:
    """The smallest and the largest value to try."""
    low = spec.low if spec.low is not None else min(-FAR, (spec.high or 0) - FAR)
    high = spec.high if spec.high is not None else max(FAR, low + FAR)
    return low, high


def written(spec: Spec, x: Tensor) -> float:
    """How far samples may be off after they were written: a hundredth of the range, a thousandth of the largest without one, of classes not at all."""
    if not spec.dtype.is_floating_point:
        return 0.0
    if spec.low is not None and spec.high is not None:
        return 0.01 * (spec.high - spec.low)
    return 1e-3 * max(1e-6, float(x.double().abs().max()))


@st.composite
def samples(draw: st.DrawFn, spec: Spec, *, rows: int = 3) -> Tensor:
    """One to ``rows`` valid samples ``(B, *spec.shape)``, also at the ends of the range; shrinks to one placeholder."""
    if isinstance(spec, PackedSpec):
        parts = [draw(samples(part, rows=rows)) for _, part in spec.parts]
        n = min(map(len, parts))
        x, share = spec.join([part[:n] for part in parts]), draw(choice([0.0, 0.25]))
        missing = Rng.for_rows(draw(whole(999)), n).of("testing").of("void").uniform(*spec.shape) < share
        for (_, part), at in zip(spec.parts, spec.slices, strict=True):
            if part.unit_norm:  # a direction is known or not
                missing[:, at] = missing[:, at][:, :1]
        return torch.where(missing, VOID, x)
    n = 1 + draw(whole(rows - 1))
    kind = draw(choice(["placeholder", "random", "ends", "mixed"]))
    if kind == "placeholder":
        return spec.placeholder(n)
    rng = Rng.for_rows(draw(whole(999)), n).of("testing")
    shape = (n, *spec.shape)
    u = rng.of("value").uniform(*spec.shape, dtype=torch.float64)
    if spec.dtype == torch.bool:
        return (u < {"random": 0.5, "ends": 1.0, "mixed": 0.1}[kind]).reshape(shape)
    if spec.unit_norm:
        x = rng.of("direction").normal(*spec.shape, dtype=torch.float64)
        if kind == "ends":
            sign = torch.where(u[..., :1] < 0.5, -1.0, 1.0).double()
            x = sign * F.one_hot((u[..., 0] * spec.shape[-1]).long(), spec.shape[-1])
        return F.normalize(x, dim=-1).to(spec.dtype)
    low, high = limits(spec)
    if not spec.dtype.is_floating_point:
        x = low + (u * (high - low + 1)).floor()
        ends = torch.where(u < 0.5, low, high)
        x = {"random": x, "ends": ends, "mixed": torch.where(rng.of("mix").uniform(*spec.shape) < 0.5, x, ends)}[kind]
        if spec.void is not None:
            x = torch.where(rng.of("void").uniform(*spec.shape) < 0.25, float(spec.void), x)
        return x.to(spec.dtype).reshape(shape)
    ends = torch.where(u < 0.5, low, high)
    middle = min(max(0.0, low), high)
    inside = low + u * (high - low) if math.isfinite(high - low) else u
    near = (middle + rng.of("near").normal(*spec.shape, dtype=torch.float64)).clamp(low, high)
    x = {"random": inside, "ends": ends, "mixed": near}[kind]
    # Casting down may round a value across the limit.
    x = x.to(spec.dtype).clamp(low, high)
    if spec.void is not None:
        x = torch.where(rng.of("void").uniform(*spec.shape) < 0.25, torch.full_like(x, spec.void), x)
    return x.reshape(shape)


def corners(spec: Spec, most: int = 16) -> list[Tensor]:
    """Single samples ``(1, *spec.shape)`` that no seed may leave out: the ends of the range, each class, void.

    Of more than ``most`` classes evenly spaced ones. The simplest comes first.
    """
    first = spec.placeholder(1)
    if isinstance(spec, PackedSpec):
        parts = [corners(part, most) for _, part in spec.parts]
        joined = [spec.join([own[k % len(own)] for own in parts]) for k in range(max(map(len, parts)))]
        return [first, *joined, torch.full_like(first, VOID)]
    even = (torch.arange(first.numel()) % 2 == 0).reshape(first.shape)
    if spec.unit_norm:
        axes = F.one_hot(torch.arange(2) % spec.shape[-1], spec.shape[-1]) * torch.tensor([[1], [-1]])
        return [first, *(axis.to(spec.dtype).expand(first.shape).clone() for axis in axes)]
    low, high = (0, 1) if spec.dtype == torch.bool else limits(spec)
    values: list[float] = [low, high]
    if not spec.dtype.is_floating_point and spec.dtype != torch.bool:
        values = sorted({low + round(k * (high - low) / (most - 1)) for k in range(most)} | {low, high})
    values += [] if spec.void is None else [spec.void]
    x = [first, *(torch.full_like(first, value) for value in values)]
    if first.numel() > 1:
        x.append(torch.where(even, torch.full_like(first, low), torch.full_like(first, high)))
    return [one for k, one in enumerate(x) if not any(torch.equal(one, other) for other in x[:k])]
