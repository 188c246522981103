"""Draws against the likelihood of whole samples, of losses that are no sum over elements; and the loss's slopes, element by element."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore.rng import Rng
from mmcore.testing.check import Failure, NotRun, check
from mmcore.testing.checks_loss import is_sum, recur
from mmcore.testing.context import Context, surest_and_least
from mmcore.testing.marginals import element_gap
from mmcore.testing.reached import Reached, restricted
from mmcore.testing.statistics import Moments, mean_bound, rare, sigmas

BINS = 50
SOME = 16
"""Rows of parameters of which the surest is taken."""


def _joint(c: Context) -> bool:
    """Whether elements count together only."""
    x = c.typical(4)
    return c.modality.spec.unit_norm or not (x[0].numel() == 1 or is_sum(c, c.params(4), x))


def _moving(c: Context, x: Tensor) -> Tensor:
    """Of flat draws ``(n, d)`` the elements that may have any real value: neither on a limit nor one that comes again."""
    spec = c.modality.spec
    moving = torch.ones_like(x, dtype=torch.bool)
    for limit in (spec.low, spec.high):
        if limit is not None:
            moving &= (x - limit).abs() > 1e-6 * max(1.0, abs(limit))
    for e in range(x.shape[1]):
        _, place, count = x[:, e].unique(return_inverse=True, return_counts=True)
        moving[:, e] &= count[place] <= max(2, len(x) // 500)
    return moving


def _surface(x: Tensor, moving: Tensor) -> bool:
    """Whether draws ``(n, d)`` keep to a surface, as shares that sum to 1 do: then a step leaves it, and the loss says nothing there."""
    x = x[:, moving.double().mean(0) > 0.9][:1000]
    if x.shape[1] < 2:
        return False
    z = (x - x.mean(0)) / x.std(0).clamp(min=1e-300)
    features = torch.cat([z, x.square()], dim=1) if x.shape[1] <= 128 else z
    features = (features - features.mean(0)) / features.std(0).clamp(min=1e-300)
    if len(features) < 4 * features.shape[1]:
        return False
    return float(torch.linalg.eigvalsh(features.T @ features / len(features))[0]) < 1e-6


STEPS = 12
"""Of Metropolis and Hastings."""


def _stirred(c: Context, p: Tensor, x: Tensor, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Draws after some steps of Metropolis and Hastings at the loss, and the change of their loss: ``(n, d)`` and ``(n,)``."""
    spec, flat = c.modality.spec, x.reshape(n, -1)
    moving = torch.ones_like(flat, dtype=torch.bool) if spec.unit_norm else _moving(c, flat)
    if not bool(moving.any()):
        raise NotRun("not decided: no element has a density")
    if not spec.unit_norm and _surface(flat, moving):
        raise NotRun("not decided: draws keep to a surface")
    free = torch.where(moving, flat, torch.nan)
    scale = (free - free.nanmedian(0).values).abs().nanmedian(0).values.nan_to_num(0.0).clamp(min=1e-12)
    rows = p.expand(n, *p.shape[1:])
    with torch.no_grad():
        loss = first = c.loss(rows, x).double()
        for step in range(STEPS):
            rng = c.rng(n, f"stir {k} {step}")
            size = 10 ** (-2.5 * rng.of("size").uniform(1, dtype=torch.float64))
            noise = rng.of("noise").normal(flat.shape[1], dtype=torch.float64)
            allowed = torch.ones(n, dtype=torch.bool, device=x.device)
            if spec.unit_norm:
                turned = flat.reshape(n, -1, spec.shape[-1]) + size[..., None] * noise.reshape(n, -1, spec.shape[-1])
                moved = F.normalize(turned, dim=-1).reshape(n, -1)
            else:
                # One element of every second sample, else all, so that many of them move far enough.
                single = rng.of("one").uniform(1) < 0.5
                one = F.one_hot((rng.of("which").uniform(dtype=torch.float64) * flat.shape[1]).long(), flat.shape[1]).bool()  # fmt: skip
                moved = torch.where(moving & (one | ~single), flat + 3 * size * scale * noise, flat)
                for limit, outside in ((spec.low, moved < (spec.low or 0)), (spec.high, moved > (spec.high or 0))):
                    if limit is not None:
                        allowed &= ~(outside & moving).any(1)
                moved = torch.where(allowed[:, None], moved, flat)
            after = c.loss(rows, moved.reshape(x.shape).to(x.dtype)).double()
            accepted = allowed & (rng.of("accept").uniform(dtype=torch.float64).log() < loss - after)
            flat, loss = torch.where(accepted[:, None], moved, flat), torch.where(accepted, after, loss)
    return flat, loss - first


@check(
    "loss.draws",
    fault="a weight of ten, bits for nats, draws at another width, of a loss whose elements count together",
    dtypes=("float64",),
    tolerance=0.02,
    false_alarm="1e-8: 5.7 standard errors beyond the tolerance; Chernoff's bound of classes",
)
def draws(c: Context) -> None:
    """Draws are distributed as the loss says, also where the loss is no sum over elements.

    Steps of Metropolis and Hastings at the loss must leave the draws' losses, places and squares alone. Of classes,
    samples met among some draws must make up the share of others that the loss gives them.
    """
    if not _joint(c):
        raise NotRun("the loss is a sum over elements: decoder.distribution judges it")
    some = c.params_at(1.0, c.seed, SOME)
    # The surest row tells a wrong width best: of one that is nearly uniform there is little to see.
    n, p = min(c.profile.draws, 4000), torch.cat([some[:4], *surest_and_least(c, some)])
    if not c.modality.spec.dtype.is_floating_point:
        for k in range(len(p)):
            _shares(c, p[k : k + 1], n, k)
        return
    losses, places, squares, far = [], [], [], []
    for k in range(len(p)):
        x = c.draws(p[k : k + 1], n, f"row {k}")
        x = x.double()
        y, change = _stirred(c, p[k : k + 1], x, n, k)
        flat = x.reshape(n, -1)
        spread = flat.std(0).clamp(min=1e-9)
        a, b = (flat - flat.mean(0)) / spread, (y - flat.mean(0)) / spread
        far.append((change != 0).double().mean())
        losses.append(change.clamp(-20, 20))
        places.append(b - a)
        squares.append((b.square() - a.square()).clamp(-20, 20).mean(1))
    if float(torch.stack(far).mean()) < 0.02:
        raise NotRun("not decided: no step is small enough to be taken")
    for what, parts in (("the loss", losses), ("the squared deviation", squares)):
        for k, part in enumerate([torch.cat(parts), *parts]):
            bound = sigmas(2 * (len(p) + 1)) * float(part.std()) / math.sqrt(len(part)) + c.tolerance / 10
            if abs(float(part.mean())) > bound:
                c.fail(
                    f"draws that are not distributed as the loss says: a step that keeps its distribution changes {what} by {float(part.mean()):.3g}{f' at row {k - 1}' if k else ''}",
                    f"0 (± {bound:.2g}) on average",
                )
    moved = torch.cat(places)
    bound = mean_bound(moved) + c.tolerance / 10
    if (moved.mean(0).abs() > bound).any():
        e = int((moved.mean(0).abs() - bound).argmax())
        c.fail(
            f"draws that lie elsewhere than the loss says: a step that keeps its distribution moves element {e} by {float(moved.mean(0)[e]):.3g} deviations",
            f"0 (± {float(bound[e]):.2g}) on average",
        )


def _shares(c: Context, p: Tensor, n: int, k: int) -> None:
    """The probability of all different samples among some draws, by the loss, against how many of others are among them."""
    seen = c.draws(p, n, f"seen {k}").reshape(n, -1)
    kinds, count = seen.unique(dim=0, return_counts=True)
    for part in (kinds, kinds[count >= count.median()], kinds[count == count.max()]):
        with torch.no_grad():
            chance = (
                -c.loss(p.expand(len(part), *p.shape[1:]), part.reshape(-1, *c.modality.spec.shape)).double()
            ).exp()
        total = float(chance.sum())
        if total > 1 + 1e-3:
            c.fail(f"probabilities that sum to {total:.4g} over {len(part)} of the samples that are drawn", "at most 1")
        other = c.draws(p, n, f"other {k}").reshape(n, -1)
        both, place = torch.cat([part, other]).unique(dim=0, return_inverse=True)
        known = torch.zeros(len(both), dtype=torch.bool, device=other.device)
        known[place[: len(part)]] = True
        hits = int(known[place[len(part) :]].sum())
        if rare(hits, n, min(max(total, 1e-12), 1 - 1e-12), 12):
            c.fail(
                f"{hits} of {n} draws among {len(part)} different samples", f"{total * n:.1f}, by their probabilities"
            )


@check(
    "loss.mass",
    fault="a density without its normaliser, of a loss whose elements count together",
    dtypes=("float64",),
    tolerance=0.02,
    false_alarm="1e-8: 5.7 standard errors beyond the tolerance",
)
def mass(c: Context) -> None:
    """Where the loss is no sum over elements, its density still integrates to one, by a bridge to a density that is known.

    For densities p and q the mean of p/(p + q) over q is the mean of q/(p + q) over p; q is the product of the draws' histograms.
    """
    spec = c.modality.spec
    if not spec.dtype.is_floating_point or spec.unit_norm or not _joint(c):
        raise NotRun("the loss is a sum over elements, of classes or of a direction: others judge it")
    n, p = min(c.profile.draws, 4000), c.params_at(1.0, c.seed, 3)
    met = 0.0
    for k in range(len(p)):
        own = p[k : k + 1]
        first, second = (c.draws(own, n, f"{what} {k}").reshape(n, -1).double() for what in ("first", "second"))
        free = _moving(c, first)
        if any(int(free[:, e].sum()) > 100 and element_gap(first[free[:, e], e], spec.dtype) is not None for e in range(first.shape[1])):  # fmt: skip
            raise NotRun("not decided: values on a grid, whose likelihood may be a bound")
        if _surface(first, free):
            raise NotRun("not decided: draws keep to a surface")
        known = _Histogram(first, free)
        drawn = known.draw(c.rng(n, f"known {k}"))

        def share(x: Tensor, own: Tensor = own, known: _Histogram = known) -> Tensor:
            """log p - log q."""
            with torch.no_grad():
                log_p = -c.loss(own.expand(n, *own.shape[1:]), x.reshape(n, *spec.shape)).double()
            return log_p - known.log_density(x)

        ahead, back = share(drawn).sigmoid(), (-share(second)).sigmoid()
        gap = float(ahead.mean() - back.mean())
        error = sigmas(3) * math.sqrt(float(ahead.var() + back.var()) / n)
        met = max(met, float(ahead.mean() + back.mean()))
        if abs(gap) > error + c.tolerance:
            c.fail(
                f"a density whose bridge to a known one stands at {float(ahead.mean()):.3g} on one side and {float(back.mean()):.3g} on the other",
                f"the same on both (± {error + c.tolerance:.2g}), as of one that integrates to 1",
                params=own,
            )
    if met < 0.1:
        raise NotRun("not decided: the known density has too little in common with it")


class _Histogram:
    """A density made of draws: which elements lie on single values is as in the draws, the others are histograms."""

    def __init__(self, x: Tensor, moving: Tensor) -> None:
        fixed = torch.where(moving, torch.nan, x).nan_to_num(nan=1.2345e30)
        self.patterns, self.place, count = fixed.unique(dim=0, return_inverse=True, return_counts=True)
        self.log_pattern = (count.double() / len(x)).log()
        self.x, self.moving = x, moving
        self.edges = []
        for e in range(x.shape[1]):
            free = x[:, e][moving[:, e]]
            if len(free) < 10:
                self.edges.append(None)
                continue
            q = free.quantile(torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=x.device))
            reach = (q[-1] - q[0]) * 0.05 + 1e-9
            q[0], q[-1] = q[0] - reach, q[-1] + reach
            self.edges.append(q)

    def draw(self, rng: Rng) -> Tensor:
        """As many draws as the rng has rows; their patterns are those of the draws that it was made of."""
        n, d = len(rng.rows), self.x.shape[1]
        row = (rng.of("row").uniform(dtype=torch.float64) * len(self.x)).long()
        out, moving = self.x[row].clone(), self.moving[row]
        bins = (rng.of("bin").uniform(d, dtype=torch.float64) * BINS).long()
        within = rng.of("within").uniform(d, dtype=torch.float64)
        for e, edges in enumerate(self.edges):
            if edges is not None:
                value = edges[bins[:, e]] + within[:, e] * edges.diff()[bins[:, e]]
                out[:, e] = torch.where(moving[:, e], value, out[:, e])
        assert out.shape == (n, d)
        return out

    def log_density(self, x: Tensor) -> Tensor:
        """``(n,)``, of samples whose elements on single values are known by these."""
        singles = [self.x[:, e][~self.moving[:, e]].unique() for e in range(x.shape[1])]
        moving = torch.stack([~torch.isin(x[:, e], values) for e, values in enumerate(singles)], dim=1)
        fixed = torch.where(moving, torch.nan, x).nan_to_num(nan=1.2345e30)
        _, place = torch.cat([self.patterns, fixed]).unique(dim=0, return_inverse=True)
        table = torch.full((int(place.max()) + 1,), -math.inf, dtype=torch.float64, device=x.device)
        table[place[: len(self.patterns)]] = self.log_pattern
        log_q = table[place[len(self.patterns) :]]
        for e, edges in enumerate(self.edges):
            if edges is None:
                continue
            cell = (torch.searchsorted(edges, x[:, e].contiguous(), right=True) - 1).clamp(0, BINS - 1)
            inside = (x[:, e] >= edges[0]) & (x[:, e] <= edges[-1])
            density = torch.where(inside, -(BINS * edges.diff()[cell]).log(), -math.inf)
            log_q = log_q + torch.where(moving[:, e], density, torch.zeros_like(density))
        return log_q


@check(
    "loss.slopes",
    fault="a factor on the loss of one element or one class, two elements' parameters exchanged",
    dtypes=("float64",),
    tolerance=0.05,
    false_alarm="1e-8 over all parameters together: the empirical Bernstein bound beyond the tolerance",
)
def slopes(c: Context) -> None:
    """Over draws the loss's slope is 0 on average, and the mean square of each slope is the mean curvature there, for every parameter.

    Both hold of every likelihood at its own parameters (Bartlett 1953); a loss with a factor has the square of it on one side. Not decided where
    single draws make up the squares of nearly all slopes. Where not all numbers are parameters, such as logarithms of probabilities, slopes
    are those by the features that the decoder reads.
    """
    try:
        _slopes(c, c.settled_params(2), lambda p: p)
    except Failure:
        if not restricted(c):
            raise
        reached = Reached(c)
        _slopes(c, reached.start(2), reached)


def _slopes(c: Context, p: Tensor, to: Callable[[Tensor], Tensor]) -> None:
    """Ask of two rows of numbers that stand for parameters."""
    size = max(1, p[0].numel())
    # Of fewer than some thousands a single draw makes up most squared slopes.
    n = max(200, min(8000, max(4000, 2**21 // size), 2**25 // size))
    decided = asked = 0
    for k in range(len(p)):
        own = p[k : k + 1]
        found = _Slopes(c, own, k, to)
        part = max(200, 2**21 // size)
        for start in range(0, n, part):
            found.add(min(part, n - start), start)
        slope, gap = found.moments["slope"], found.moments["gap"]
        scale = (found.moments["square"].mean + found.moments["curve"].mean.abs()).clamp(min=1e-6)
        # The slope of a class lies in what is rare, of which there may be none among the draws; data have it.
        common = scale >= 100 / n * found.most
        for what, value, unit in (("slope", slope, scale.sqrt()), ("squared slope less curvature", gap, scale)):
            mean, bound = value.mean / unit, value.bound() / unit + c.tolerance
            judged = common & ~value.heavy()
            if (judged & (mean.abs() > bound)).any():
                e = int((mean.abs() - bound).where(judged, -torch.inf).argmax())
                c.fault(
                    f"a mean {what} of {float(mean[e]):.3g} of its size at parameter {e}, over {n} draws",
                    f"0 (± {float(bound[e]):.2g})",
                    params=to(own).detach(),
                )
        there = scale > 1e-6
        asked, decided = asked + int(there.sum()), decided + int((there & common & ~gap.heavy()).sum())
    if decided < 0.05 * asked:
        raise NotRun(
            f"not decided: the squared slopes of {asked - decided} of {asked} parameters are made up by a few draws or by rare values"
        )


class _Slopes:
    """The loss's slopes at a row of parameters, their squares and the curvature, over draws that come in parts.

    Attributes:
        moments: of ``slope``, ``square``, ``curve`` and ``gap``, the square less the curvature, each of all parameters.
        step: by which parameters are moved for the curvature.
        most: the largest squared slope of all, of values that come again; else 0.
    """

    def __init__(self, c: Context, own: Tensor, k: int, to: Callable[[Tensor], Tensor]) -> None:
        self.c, self.own, self.k, self.to = c, own, k, to
        self.moments: dict[str, Moments] = {}
        self.step = torch.zeros(())
        self.recur, self.most = False, 0.0

    def _at(self, rows: Tensor, x: Tensor) -> Tensor:
        rows = rows.detach().requires_grad_()
        (found,) = torch.autograd.grad(self.c.loss(self.to(rows), x).sum(), rows, allow_unused=True)
        return torch.zeros_like(rows) if found is None else found

    def add(self, n: int, start: int) -> None:
        """Of ``n`` draws more, the ones from ``start`` on."""
        c, own = self.c, self.own
        x = c.draws(self.to(own).detach(), n, f"row {self.k} {start}")
        way = (c.rng(n, f"way {self.k} {start}").uniform(*own.shape[1:]) < 0.5).to(own.dtype) * 2 - 1
        rows = own.expand(n, *own.shape[1:])
        at = self._at(rows, x)
        if not self.moments:
            # Wide enough to meet the kinks that a loss may have, such as Laplace's; in units of how well a parameter is known.
            self.step = (0.05 * at.square().mean(0).clamp(min=1e-12).rsqrt()).clamp(max=0.1)
            self.recur = recur(x)
        curve = way * (self._at(rows + self.step * way, x) - self._at(rows - self.step * way, x)) / (2 * self.step)
        if self.recur:
            usual = self._at(rows, c.typical(n, start))
            self.most = max(self.most, float(usual.square().max()), float(at.square().max()))
        at, curve = at.reshape(n, -1), curve.reshape(n, -1)
        parts = {"slope": at, "square": at.square(), "curve": curve, "gap": at.square() - curve}
        for name, value in parts.items():
            if name in self.moments:
                self.moments[name].add(value)
            else:
                self.moments[name] = Moments(value)
