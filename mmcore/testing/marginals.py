"""One element's distribution by the likelihood: its values' losses, as cells with probabilities, and where draws lie in it."""

import math

import attrs
import torch
from torch import Tensor

from mmcore.rng import Rng
from mmcore.testing.context import Context

FEW = 32
"""Up to so many different values of an element are taken to be all there are."""
RANGE = 4096
"""Up to so many whole numbers are all asked for."""


def element_gap(x: Tensor, dtype: torch.dtype) -> float | None:
    """The distance of evenly spaced values that all of ``x`` keep to, as well as ``dtype`` tells; None where there is none."""
    values = x.double().unique()
    gaps = values.diff()
    # What the numbers' rounding makes of a distance.
    rounding = torch.finfo(dtype).eps * float(values.abs().max()) if len(values) else 0.0
    gaps = gaps[gaps > 2 * rounding]
    if len(gaps) < 2:
        return None
    gap = float(gaps.min())
    for _ in range(3):  # each time over longer stretches, so that the rounding matters less
        steps = (gaps / gap).round().clamp(min=1)
        gap = float(gaps[steps <= 50].sum() / steps[steps <= 50].sum())
    near = gaps < 50 * gap
    # Two of some numbers may happen to be much closer than all others, and what rounding may hide is no grid.
    if gap <= 100 * rounding or int(near.sum()) < min(len(gaps), 8):
        return None
    # Numbers that keep to nothing are off by a quarter on average.
    off = (gaps - gap * (gaps / gap).round()).abs()[near]
    return gap if float(off.max()) < 0.02 * gap + 4 * rounding else None


@attrs.frozen(eq=False)
class Marginal:
    """Cells in the order of their values.

    Attributes:
        edges: of the cells, ``(n + 1,)``, where values are real; the values themselves, ``(n,)``, where each is a cell.
        mass: of each cell by the likelihood, ``(n,)``, not normalised.
        likely: of each cell a number that orders cells by how likely a value is, ``(n,)``.
        atoms: whether each cell is one value.
        inside: the smallest and the largest value that count: draws on a limit of the spec are clipped ones, and say nothing.
        gap: of real values on a fine grid its step, over which draws are spread.
        tight: how far a draw may lie from the value that it is.
    """

    edges: Tensor
    mass: Tensor
    likely: Tensor
    atoms: bool
    inside: tuple[float, float]
    gap: float = 0.0
    tight: float = 0.0

    def surprise(self, x: Tensor) -> tuple[Tensor, float]:
        """How much less likely each draw is than draws are on average, in nats, and the variance that this should have."""
        p, nats = self.mass / self.mass.sum(), -self.likely
        nats = torch.where(p > 0, nats, torch.zeros_like(nats)).clamp(-1e4, 1e4)
        mean = (p * nats).sum()
        return nats[self.cells(x)] - mean, float((p * (nats - mean).square()).sum())

    @property
    def total(self) -> float:
        """What the probabilities sum to."""
        return float(self.mass.sum())

    def cells(self, x: Tensor) -> Tensor:
        """The cell of each draw."""
        if self.atoms:
            return torch.searchsorted(self.edges, x - self.tight - 1e-9 * x.abs().clamp(min=1)).clamp(
                max=len(self.mass) - 1
            )
        return (torch.searchsorted(self.edges, x, right=True) - 1).clamp(0, len(self.mass) - 1)

    def places(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Each draw's place in 0 … 1, uniform if draws follow the likelihood: by the order of values, and from likely to unlikely.

        Args:
            x: draws.
            v: a uniform number for each, which spreads it over its cell.
        """
        x = x + self.gap * (v - 0.5)
        p, cell = self.mass / self.mass.sum(), self.cells(x)
        within = v
        if not self.atoms:
            low, high = self.edges[cell], self.edges[cell + 1]
            # Of a cell about a single value every draw lies in the same place.
            single = high - low < 1e-7 * x.abs().clamp(min=1e-30)
            within = torch.where(
                single | ((high - low <= 2.5e-8) & (x == 0)), v, ((x - low) / (high - low)).clamp(0, 1)
            )
        by_value = (p.cumsum(0) - p)[cell] + p[cell] * within
        order = self.likely.argsort(descending=True, stable=True)
        before = torch.empty_like(p)
        before[order] = p[order].cumsum(0) - p[order]
        return by_value.clamp(0, 1), (before[cell] + p[cell] * v).clamp(0, 1)


def nats_of(c: Context, p: Tensor, others: Tensor, element: int, values: Tensor) -> Tensor:
    """The loss of one element at these values ``(n,)``, all others being hidden: ``(n,)``, in float64."""
    spec, size = c.modality.spec, others.numel()
    found = []
    for part in values.split(max(1, 2**21 // size)):
        x = others.reshape(1, -1).expand(len(part), -1).clone()
        x[:, element] = part.to(x.dtype)
        only = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        only[:, element] = True
        row, shape = p.expand(len(part), *p.shape[1:]), (-1, *spec.shape)
        with torch.no_grad():
            found.append(c.loss(row, x.reshape(shape), only.reshape(shape)).double())
    return torch.cat(found)


def marginal(c: Context, p: Tensor, others: Tensor, element: int, drawn: Tensor, met: Tensor) -> Marginal | None:
    """The distribution of one element of a loss that is a sum over elements; None where its values cannot be laid out.

    Args:
        c: the trial.
        p: one row of parameters.
        others: one sample.
        element: its place in the flat sample.
        drawn: this element's draws.
        met: its values in typical samples.
    """
    spec = c.modality.spec
    everywhere = (-math.inf, math.inf)
    if not spec.dtype.is_floating_point:
        low = 0 if spec.dtype == torch.bool else -math.inf if spec.low is None else int(spec.low)
        high = 1 if spec.dtype == torch.bool else math.inf if spec.high is None else int(spec.high)
        if high - low >= RANGE:
            seen = torch.cat([drawn, met])
            reach = int(seen.max() - seen.min()) + 16
            low, high = max(low, int(seen.min()) - reach), min(high, int(seen.max()) + 4 * reach)
            if high - low > 2**17:
                return None
        values = torch.arange(int(low), int(high) + 1, dtype=torch.float64, device=c.device)
        nats = nats_of(c, p, others, element, values)
        return Marginal(values, (-nats).exp(), -nats, True, everywhere)
    drawn, met = drawn.double(), met.double()
    ends = (-math.inf if spec.low is None else spec.low, math.inf if spec.high is None else spec.high)
    inside = tuple(end + sign * 1e-6 * abs(end) if math.isfinite(end) else end for end, sign in zip(ends, (1, -1), strict=True))  # fmt: skip
    free = drawn[(drawn > inside[0]) & (drawn < inside[1])]
    values = torch.cat([drawn, met]).unique()
    between = values[(values > inside[0]) & (values < inside[1])]
    if len(values) <= FEW and (len(free) > 4 * len(free.unique()) if len(free) else not len(between)):
        nats = nats_of(c, p, others, element, values)
        return Marginal(values, (-nats).exp(), -nats, True, everywhere)
    if len(free) < 200:
        return None
    gap, atoms = 0.0, _atoms(free)
    if len(free.unique()) < 0.98 * len(free) - int(torch.isin(free, atoms).sum()):
        # Values that come again lie on a grid.
        found = element_gap(free, spec.dtype)
        if found is None:
            return None
        first, last = (min(max(float(v), ends[0]), ends[1]) for v in (drawn.min() - 2 * drawn.std(), drawn.max() + 2 * drawn.std()))  # fmt: skip
        start = float(free.min())
        if last - first < RANGE * found:
            steps = torch.arange(math.ceil((first - start) / found - 1e-6), math.floor((last - start) / found + 1e-6) + 1, device=c.device)  # fmt: skip
            values = start + found * steps.double()
            nats = nats_of(c, p, others, element, values)
            # As far as a float tells: draws lie about these values.
            return Marginal(values, (-nats).exp(), -nats, True, everywhere, tight=found / 4)
        gap, atoms = found, atoms[:0]
        ends = (ends[0] + gap / 2, ends[1] - gap / 2)
        inside = (inside[0] + gap / 2, inside[1] - gap / 2)
    # What lies on a limit is clipped, unless the loss has a probability of its own for it.
    own = torch.tensor([end for end in ends if math.isfinite(end) and _steps(c, p, others, element, end, ends)], dtype=torch.float64, device=c.device)  # fmt: skip
    edges = _edges(free[~torch.isin(free, atoms)].sort().values, ends)
    plain = _cells(c, p, others, element, edges)
    if len(own):
        whole = _with_atoms(c, p, others, element, plain, torch.cat([atoms, own]), ends)
        if abs(whole.total - 1) < 0.05:
            return whole
    if len(atoms):
        plain = _with_atoms(c, p, others, element, plain, atoms, ends)
    return attrs.evolve(plain, inside=inside, gap=gap)


def _atoms(free: Tensor) -> Tensor:
    """Values that come again and again among others that do not."""
    values, count = free.unique(return_counts=True)
    often = values[count > max(3, len(free) // 500)]
    return often if len(often) <= 8 else often[:0]


def _steps(c: Context, p: Tensor, others: Tensor, element: int, end: float, ends: tuple[float, float]) -> bool:
    """Whether the loss at a limit is another than beside it."""
    beside = end + (1 if end == ends[0] else -1) * 1e-6 * max(1.0, abs(end))
    nats = nats_of(c, p, others, element, torch.tensor([end, beside], dtype=torch.float64, device=c.device))
    return not abs(float(nats[0] - nats[1])) < 0.5


def _cells(c: Context, p: Tensor, others: Tensor, element: int, edges: Tensor) -> Marginal:
    nats = nats_of(c, p, others, element, (edges[1:] + edges[:-1]) / 2)
    return Marginal(edges, (-nats).exp() * edges.diff(), -nats, False, (-math.inf, math.inf))


def _with_atoms(c: Context, p: Tensor, others: Tensor, element: int, plain: Marginal, atoms: Tensor, ends: tuple[float, float]) -> Marginal:  # fmt: skip
    """The same cells, and a narrow one about each of these values, with the probability that the loss has for it alone."""
    low, high = atoms - 1e-8 * atoms.abs().clamp(min=1), atoms + 1e-8 * atoms.abs().clamp(min=1)
    edges = torch.cat([plain.edges, low, high]).unique()
    found = _cells(c, p, others, element, edges)
    at, beside = nats_of(c, p, others, element, atoms), nats_of(c, p, others, element, torch.where(atoms <= ends[0], high, low))  # fmt: skip
    cell = (torch.searchsorted(edges, atoms, right=True) - 1).clamp(0, len(found.mass) - 1)
    # A density says nothing of a single value, whose probability is then 0.
    found.mass[cell] = torch.where((at - beside).abs() < 0.5, found.mass[cell], (-at).exp())
    return found


def _edges(free: Tensor, ends: tuple[float, float]) -> Tensor:
    """Of cells as narrow as draws lie close, and wider far out, inside the limits."""
    low, high = max(ends[0], float(free.mean() - 12 * free.std())), min(ends[1], float(free.mean() + 12 * free.std()))
    even = torch.linspace(low, high, 1001, dtype=torch.float64, device=free.device)
    far = (free[-1] - free[0]) * torch.logspace(-3, 0.5, 60, dtype=torch.float64, device=free.device)
    edges = torch.cat([free[:: max(1, len(free) // 1000)], even, free[0] - far, free[-1] + far])
    edges = edges[(edges >= ends[0]) & (edges <= ends[1])].unique()
    # Where draws span many sizes a cell must not span two.
    a, b = edges[:-1], edges[1:]
    wide = (a * b > 0) & (torch.maximum((a / b).abs(), (b / a).abs()) > 1.1)
    more = [edges]
    for x, y in zip(a[wide].tolist(), b[wide].tolist(), strict=True):
        steps = min(200, math.ceil(abs(math.log(y / x)) / math.log(1.1)))
        more.append(edges.new_tensor([x * (y / x) ** (k / steps) for k in range(1, steps)]))
    edges = torch.cat(more).unique()
    apart = edges.diff() > 1e-12 * edges[1:].abs()
    return edges[torch.cat([apart.new_ones(1), apart])]


def chosen(c: Context, most: int) -> list[int]:
    """Places of elements to look at: the first, the last, one in the middle and its neighbour along each axis, and others by the seed."""
    shape = c.modality.spec.shape
    size = max(1, math.prod(shape))
    if size <= most:
        return list(range(size))
    steps = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    middle = sum((n // 2) * step for n, step in zip(shape, steps, strict=True))
    beside = [middle + (-step if n > 1 and n // 2 else 0) for n, step in zip(shape, steps, strict=True)]
    u = Rng.for_rows(c.seed, 1).of("elements").uniform(size)[0]
    first = list(dict.fromkeys([0, size - 1, middle, *beside]))
    return sorted({*first, *u.argsort()[: max(1, most - len(first))].tolist()})
