"""A figure with its interval: the bootstrap that every metric shares."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.options import counted, require
from mmcore.rng import Rng

LEVEL = 0.95
RESAMPLES = 1000
# Counts of rows that are held at once.
_ROOM = 16_000_000


@attrs.frozen
class Figure:
    """A metric's value with its 95 % bootstrap confidence interval, printed as ``0.973 (0.955 … 0.987, n = 364)``.

    Attributes:
        value: of all samples.
        n: how many samples.
        low: where its 95 % bootstrap interval begins.
        high: where it ends.
    """

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        # Three digits of the largest number, and two of the interval's width.
        largest = max(abs(self.value), abs(self.low), abs(self.high))
        decimals = 3 - max(0, math.floor(math.log10(largest)) + 1) if largest > 0 else 3
        if self.high > self.low:
            decimals = max(decimals, 1 - math.floor(math.log10(self.high - self.low)))
        d = min(max(decimals, 0), 9)
        return f"{self.value:.{d}f} ({self.low:.{d}f} … {self.high:.{d}f}, n = {self.n})"

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return attrs.asdict(self)


def bootstrap(
    statistic: Callable[..., Tensor],
    *sizes: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
    centred: bool = False,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Figure:
    """A statistic of samples with its confidence interval, by the percentile bootstrap (Efron 1979).

    Rows of each set are drawn with replacement, as many as there are; resample ``k`` depends on ``(seed, k)`` and the sizes
    alone. The interval has the middle 95 % of the resamples' values.

    Args:
        statistic: how often each row counts, float64 ``(B, size)`` for each set, to its value ``(B,)``; ones give the figure. Resamples in which it is NaN are left out.
        sizes: rows of each set; the first is the figure's ``n``.
        seed: of the resamples.
        resamples: how many, at least 2.
        centred: shift the resamples' values so that their mean is the figure. For statistics which resampling biases as
            sampling has already, such as distances that noise can only enlarge; the interval is then for the
            statistic's expectation at this very ``n``.
        bounds: of what the statistic can be.

    Raises:
        RequestError: fewer than two resamples, or none in which the statistic is a number.
    """
    require("metrics", resamples=(resamples, counted(2)))
    resamples = int(resamples)
    value = float(statistic(*(torch.ones(1, size, dtype=torch.float64) for size in sizes)))
    chunk = max(1, _ROOM // max(sizes))
    values = []
    for start in range(0, resamples, chunk):
        rng = Rng.for_rows(seed, min(chunk, resamples - start), start=start).of("bootstrap")
        values.append(statistic(*(_counts(rng.of(str(k)), size) for k, size in enumerate(sizes))))
    spread = torch.cat(values)
    if spread.isnan().all():
        raise RequestError(
            f"metrics: no resample of {sizes[0]} samples has a value, expected more samples or resamples"
        )
    if centred:
        spread = spread + (value - spread.nanmean())
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(spread, tails).clamp(*bounds).tolist()
    return Figure(value, sizes[0], low, high)


def _counts(rng: Rng, size: int) -> Tensor:
    """How often each row is drawn, ``(B, size)``."""
    drawn = rng.integers(0, size, size)
    return torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def average(values: Tensor, *, seed: int = 0, resamples: int = RESAMPLES) -> Figure:
    """The mean of a score per sample ``(n,)``, with its confidence interval.

    Raises:
        RequestError: no values, other than one per sample, or NaN.
    """
    if values.ndim != 1 or not len(values):
        raise RequestError(f"metrics: found values of shape {tuple(values.shape)}, expected one per sample, (n,)")
    x = values.detach().cpu().double()
    if not x.isfinite().all():
        raise RequestError(
            f"metrics: found {float(x[~x.isfinite()][0])} for sample {int((~x.isfinite()).nonzero()[0])}, expected finite values"
        )
    bounds = (float(x.min()), float(x.max()))
    return bootstrap(lambda c: c @ x / len(x), len(x), seed=seed, resamples=resamples, bounds=bounds)


def table(figures: dict[str, Figure]) -> str:
    """Metrics by name as text for a terminal, one a line."""
    width = max((len(name) for name in figures), default=0)
    return "\n".join(f"{name:{width}}  {figure}" for name, figure in figures.items())
