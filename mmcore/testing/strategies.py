"""Hypothesis strategies for valid samples, derived from a :class:`mmcore.Spec`."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mmcore.modality import Spec
from mmcore.rng import Rng

FAR = 1e4
"""How far from zero a value without a limit goes."""


def limits(spec: Spec) -> tuple[float, float]:
    """The smallest and the largest value to try."""
    low = spec.low if spec.low is not None else min(-FAR, (spec.high or 0) - FAR)
    high = spec.high if spec.high is not None else max(FAR, low + FAR)
    return low, high


@st.composite
def samples(draw: st.DrawFn, spec: Spec, *, rows: int = 3) -> Tensor:
    """One to ``rows`` valid samples ``(B, *spec.shape)``, also at the ends of the range; shrinks to one placeholder."""
    n = draw(st.integers(1, rows))
    kind = draw(st.sampled_from(["placeholder", "random", "ends", "mixed"]))
    if kind == "placeholder":
        return spec.placeholder(n)
    rng = Rng.for_rows(draw(st.integers(0, 999)), n).of("testing")
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
    return x.to(spec.dtype).clamp(low, high).reshape(shape)
