"""What the probabilities of one element's values sum to, or of directions integrate to."""

import math

import torch
from torch import Tensor

from mmcore.rng import Rng
from mmcore.testing.check import NotRun
from mmcore.testing.context import Context
from mmcore.testing.marginals import FEW, element_gap, nats_of
from mmcore.testing.statistics import ALPHA, sigmas

EXACT = 1e-3
"""So much may probabilities of single values sum to more than 1, by rounding."""


class Sums:
    """The probabilities of one element's values, the others being hidden, and what they may sum to.

    Attributes:
        values: that were summed over.
        judged: sums, each with the least and the most that it may be; one of them must hold.
    """

    def __init__(self, c: Context, p: Tensor, others: Tensor, element: int) -> None:
        self.c, self.p, self.others, self.element = c, p, others, element
        self.values = torch.empty(0)
        self.judged: list[tuple[float, float, float]] = []

    def probabilities(self, values: Tensor) -> Tensor:
        """Of these values of the element, or their densities."""
        return (-nats_of(self.c, self.p, self.others, self.element, values)).exp()

    def add(self, grid: Tensor | None) -> None:
        """Judge by the kind of values: all whole ones, those of a grid, a few, or any."""
        c, spec, tolerance = self.c, self.c.modality.spec, self.c.tolerance
        if spec.dtype == torch.bool:
            self._judge(torch.tensor([False, True], device=c.device), tolerance)
            return
        drawn, met = self._seen(c.draws(self.p, 2000)), self._seen(c.typical(2000))
        if not spec.dtype.is_floating_point:
            self._whole(torch.cat([drawn, met]))
            return
        seen = torch.cat([drawn, met]).double()
        low, high = self._limits()
        mean, reach = float(drawn.double().mean()), 12 * float(drawn.double().std()) + 1e-6
        if grid is not None:
            near = (grid >= mean - reach) & (grid <= mean + reach)
            gap = float(grid[1] - grid[0])
            # The likelihood of a bin may be a bound of its probability; or it is the density there.
            self._judge(grid[near].to(c.device), 0.25, gap)
            return
        values, count = drawn.unique(return_counts=True)
        if len(seen.unique()) <= FEW and float(count.double().mean()) > 4:
            # Of what was not seen the probability is hardly more than of what was seen once.
            unseen = (float((count == 1).sum()) - math.log(ALPHA)) / len(drawn)
            self._judge(seen.unique(), tolerance + unseen)
            return
        gap = element_gap(drawn, spec.dtype) if 8 < len(values) < 0.9 * len(drawn) else None
        if gap is not None:
            first, last = max(low, mean - reach), min(high, mean + reach)
            start = float(drawn.double().min())
            steps = torch.arange(math.ceil((first - start) / gap - 1e-6), math.floor((last - start) / gap + 1e-6) + 1)
            self._judge(start + gap * steps.double().to(c.device), tolerance, gap)
            return
        # A density, and values that have a probability beside it.
        atoms = values[count > max(2, len(drawn) // 100)].double()
        inside = drawn.double()[~torch.isin(drawn.double(), atoms)].sort().values
        edges = torch.cat([inside, self._beyond(inside), torch.linspace(max(low, mean - reach), min(high, mean + reach), 4001).double().to(c.device)])  # fmt: skip
        edges = edges[(edges >= low) & (edges <= high)].unique()
        self.values = (edges[1:] + edges[:-1]) / 2
        total = float((self.probabilities(self.values) * edges.diff()).sum())
        if len(atoms):
            total += float(self.probabilities(atoms).sum())
        self.judged.append((total, 1 - tolerance, 1 + tolerance))

    def _seen(self, x: Tensor) -> Tensor:
        """The element's values; what is void is no outcome."""
        values = x.reshape(len(x), -1)[:, self.element]
        return values[self.c.modality.spec.there(values)]

    def _limits(self) -> tuple[float, float]:
        low, high = self.c.modality.spec.limits(self.element)
        return (-math.inf if low is None else low), (math.inf if high is None else high)

    def _beyond(self, inside: Tensor) -> Tensor:
        """Edges of cells that widen from the ends of what was drawn."""
        out = (inside[-1] - inside[0]) * torch.logspace(-4, 1, 200, dtype=torch.float64, device=inside.device)
        return torch.cat([inside[0] - out, inside[-1] + out])

    def _judge(self, values: Tensor, lost: float, gap: float | None = None) -> None:
        """By the sum over these values, or by their densities times their distance."""
        self.values, total = values, float(self.probabilities(values).sum())
        # Single values have probabilities, of which no more is to be had than 1; numbers on a grid may have densities.
        self.judged.append((total, 1 - lost, 1 + (EXACT if gap is None else self.c.tolerance)))
        if gap is not None:
            self.judged.append((total * gap, 1 - self.c.tolerance, 1 + self.c.tolerance))

    def _whole(self, seen: Tensor) -> None:
        """Of all whole values between the limits; where there is no limit, as far as they add to the sum."""
        low, high = self._limits()
        first, last = int(seen.min()), int(seen.max())
        if high - low < 4096:
            self._judge(torch.arange(int(low), int(high) + 1, device=seen.device), self.c.tolerance)
            return
        total, before = 0.0, -1.0
        while abs(total - before) > 1e-4 and last - first < 2**17:
            reach = last - first + 16
            first, last = int(max(low, first - reach)), int(min(high, last + reach))
            before, total = total, float(self.probabilities(torch.arange(first, last + 1, device=seen.device)).sum())
        if total < 1 - self.c.tolerance and abs(total - before) > 1e-4:
            raise NotRun(f"not decided: values up to {last} do not yet add up")
        self._judge(torch.arange(first, last + 1, device=seen.device), self.c.tolerance)


def on_the_sphere(c: Context) -> None:
    """By importance: the mean of ``p / q`` over directions drawn from ``q``, which looks to where the decoder's draws lie."""
    spec = c.modality.spec
    if len(spec.shape) != 1:
        raise NotRun("an integral over several spheres at once is not computed")
    n = c.profile.draws
    p = c.params_at(0.3, c.seed, 3)
    for k in range(3):
        mean = c.draws(p[k : k + 1], 500).reshape(500, -1).double().mean(0)
        x, log_q = directions(c.rng(n, f"directions {k}"), mean)
        mass = (-c.loss(p[k : k + 1].expand(n, *p.shape[1:]), x).double() - log_q).exp()
        total, error = float(mass.mean()), sigmas() * float(mass.std()) / math.sqrt(n)
        if abs(total - 1) > error + c.tolerance:
            c.fail(
                f"a density that integrates to {total:.4g} (± {error:.2g}) over the sphere", "1", params=p[k : k + 1]
            )
        if error > 0.5:
            raise NotRun("the density is too narrow for an estimate by the directions of its draws")


def directions(rng: Rng, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Directions ``(n, d)`` drawn about a mean direction, and their log density on the sphere.

    Half are uniform, half have the concentration of draws with this mean (power spherical, De Cao and Aziz 2020: the cosine ``u`` to the
    mean's direction has a density as ``(1 + u)^κ (1 - u²)^((d-3)/2)``, and the mean is ``κ / (d - 1 + κ)`` long). Cosines are drawn from
    that density made constant on cells, which is then their density exactly.
    """
    d, cells = len(mean), 20_000
    length = float(mean.norm().clamp(1e-9, 1 - 1e-6))
    kappa = (d - 1) * length / (1 - length)
    edges = -torch.cos(torch.linspace(0, math.pi, cells + 1, dtype=torch.float64, device=mean.device))
    u = (edges[1:] + edges[:-1]) / 2
    base = (d - 3) / 2 * (1 - u.square()).log() + edges.diff().log()
    chance = (base.softmax(0) + (base + kappa * (1 + u).log()).softmax(0)) / 2
    cell = torch.searchsorted(chance.cumsum(0)[:-1], rng.of("cell").uniform(dtype=torch.float64), right=True)
    u = edges[cell] + rng.of("within").uniform(dtype=torch.float64) * edges.diff()[cell]
    towards = mean / mean.norm().clamp(min=1e-12)
    aside = rng.of("aside").normal(d, dtype=torch.float64)
    aside = aside - (aside @ towards)[:, None] * towards
    aside = aside / aside.norm(dim=1, keepdim=True)
    x = u[:, None] * towards + (1 - u.square()).sqrt()[:, None] * aside
    log_area = math.log(2) + (d - 1) / 2 * math.log(math.pi) - math.lgamma((d - 1) / 2)
    log_q = (chance / edges.diff()).log()[cell] - log_area - (d - 3) / 2 * (1 - u.square()).log()
    return x / x.norm(dim=1, keepdim=True), log_q
