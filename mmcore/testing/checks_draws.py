"""Draws against the likelihood: each element's whole distribution, and that elements are drawn by themselves.

Where the loss is a sum over elements its probabilities of one element are added up, and each draw is replaced by its place among
them, which is uniform if draws and likelihood agree. Places of all elements and rows are judged together and each by itself.
"""

import math

import attrs
import torch
from torch import Tensor

from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_loss import is_sum
from mmcore.testing.context import Context
from mmcore.testing.marginals import Marginal, chosen, marginal
from mmcore.testing.statistics import heavy, legendre, rare, sigmas

WORDS = ("lie elsewhere", "are too wide or too narrow", "lean to one side", "have other tails")
"""What the first four polynomials tell."""
TAILS = (1e-1, 1e-2, 1e-3, 1e-4)


@attrs.frozen(eq=False)
class Places:
    """Where the draws of one element, at one row of parameters, lie in 0 … 1.

    Attributes:
        row: which row.
        element: which element.
        value: from the smallest value to the largest.
        likely: from the likeliest to the least likely.
        kept: which draws these are.
        surprise: how much less likely each is than on average, nats.
        variance: that this should have.
        exact: whether probabilities are of single values, so that nothing is rounded.
    """

    row: int
    element: int
    value: Tensor
    likely: Tensor
    kept: Tensor
    surprise: Tensor
    variance: float
    exact: bool


def _rows(c: Context, n: int) -> Tensor:
    """Parameters for plain features, for small and for large ones, and such as keep off limits."""
    parts = [c.params_at(1.0, c.seed + 1, n), c.params_at(0.3, c.seed + 2, n), c.params_at(3.0, c.seed + 3, max(1, n // 2))]  # fmt: skip
    spec = c.modality.spec
    if spec.dtype.is_floating_point and not (spec.low is None and spec.high is None):
        parts.append(c.settled_params(min(n, 4)))
    return torch.cat(parts)


def places(c: Context) -> list[Places]:
    """Of some elements at some rows of parameters."""
    spec = c.modality.spec
    if spec.unit_norm:
        raise NotRun("a direction's elements have no distribution of their own")
    elements = chosen(c, 12)
    p = _rows(c, max(2, 16 // len(elements)))
    x = c.cast(c.modality.typical(64, c.seed))
    if x[0].numel() > 1 and not is_sum(c, p, x[torch.arange(len(p)) % len(x)]):
        raise NotRun("the loss is no sum over elements")
    size = max(1, math.prod(spec.shape))
    n = max(500, min(c.profile.draws, 2**22 // size))
    met = x.reshape(len(x), -1)
    found = []
    for k in range(len(p)):
        drawn = c.draws(p[k : k + 1], n, f"row {k}").reshape(n, -1)
        for e in elements:
            values, own = drawn[:, e], met[:, e]
            if spec.void is not None:
                own = own[own != spec.void]
            lies = marginal(c, p[k : k + 1], met[k % len(met)], e, values, own)
            if lies is None or not 0 < lies.total < math.inf:
                continue
            values = values.double()
            if not lies.atoms and bool(heavy(values[:, None])):
                continue  # the cells in which its probabilities are added up are too wide for most of its values
            kept = (values > lies.inside[0]) & (values < lies.inside[1])
            _clipped(c, lies, int(n - kept.sum()), n, e)
            if int(kept.sum()) < n // 10:
                continue
            v = Rng.for_rows(c.seed, n, device=c.device).of(f"within {k} {e}").uniform(dtype=torch.float64)
            by_value, by_likely = lies.places(values[kept], v[kept])
            found.append(Places(k, e, by_value, by_likely, kept, *lies.surprise(values[kept]), lies.atoms))
    if not found:
        raise NotRun("not decided: values that neither fill a range nor are few")
    return found


def _clipped(c: Context, lies: Marginal, count: int, n: int, element: int) -> None:
    """Fail where many draws lie on a limit, though the likelihood has all of its mass inside: they are cut, and nothing pays for it."""
    beyond = max(0.0, 1 - lies.total)
    if not lies.atoms and 0.9 < lies.total < 1.02 and count and rare(count, n, min(0.9, 0.005 + 2 * beyond)) and count > n * (0.005 + 2 * beyond):  # fmt: skip
        c.fail(
            f"{count} of {n} draws of element {element} on a limit of the spec",
            f"{beyond * n:.0f}, as the likelihood has no more beyond it",
        )


@check(
    "decoder.distribution",
    fault="draws at another temperature, cut at three deviations, of a distribution with other tails than the loss",
    dtypes=("float64",),
    tolerance=0.02,
    false_alarm="1e-8: 5.7 standard errors beyond the tolerance over all comparisons together, Chernoff's bound in the tails",
)
def distribution(c: Context) -> None:
    """Draws follow the likelihood's probabilities, element by element, from the middle to the tails.

    Asked of losses that are sums over elements, and of no element whose draws have a heavy tail. Draws on a limit of the spec are clipped ones and do not count.
    """
    found = places(c)
    comparisons = 8 * (len(found) + 1) + 3 * len(TAILS) + 1
    _surprised(c, found, comparisons)
    exact = all(one.exact for one in found)
    for name in ("value", "likely"):
        each = [getattr(one, name) for one in found]
        together = torch.cat(each)
        for what, u in [("all elements", together), *((f"element {one.element}", getattr(one, name)) for one in found)]:
            score = legendre(u).mean(0)
            bound = sigmas(comparisons) / math.sqrt(len(u)) + (0.0 if exact else c.tolerance)
            if (score.abs() > bound).any():
                k = int((score.abs() - bound).argmax())
                c.fail(
                    f"draws that {WORDS[k]}: of {what} the places in the likelihood have a {['first', 'second', 'third', 'fourth'][k]} score of {float(score[k]):.3g}, over {len(u)} draws",
                    f"0 (± {bound:.2g}), as the loss says they are distributed",
                )
        for tail in TAILS:
            sides = {"the least likely": together > 1 - tail} if name == "likely" else {"the smallest": together < tail, "the largest": together > 1 - tail}  # fmt: skip
            for side, there in sides.items():
                count = int(there.sum())
                # The cells of the tails are wide, so a fifth either way is no finding.
                near = min(max(count / len(together), tail / 1.2), 1.2 * tail)
                if count / len(together) != near and rare(count, len(together), near, comparisons):
                    c.fail(
                        f"{count} of {len(together)} draws among {side} {tail:.2%} of the values by the likelihood",
                        f"{tail * len(together):.0f} of them",
                    )


def _surprised(c: Context, found: list[Places], comparisons: int) -> None:
    """Fail where draws are more or less likely, on average, than draws should be: what a temperature changes first."""
    total = sum(float(one.surprise.sum()) for one in found)
    n = sum(len(one.surprise) for one in found)
    spread = math.sqrt(sum(one.variance * len(one.surprise) for one in found))
    rounding = 0.0 if all(one.exact for one in found) else c.tolerance * n * math.sqrt(sum(one.variance for one in found) / len(found))  # fmt: skip
    if spread > 0 and abs(total) > sigmas(comparisons) * spread + rounding:
        c.fail(
            f"draws that are {'more' if total < 0 else 'less'} likely than they should be by {abs(total) / n:.3g} nats per element, over {n} draws",
            f"0 (± {(sigmas(comparisons) * spread + rounding) / n:.2g})",
        )


@check(
    "decoder.independent",
    fault="one random number for all elements, the same noise in two channels",
    dtypes=("float64",),
    tolerance=0.02,
    false_alarm="1e-8 over all pairs together: 5.7 standard errors beyond the tolerance",
)
def independent(c: Context) -> None:
    """Where the loss is a sum over elements, these are drawn independently: neither places nor sizes of two are related."""
    found = places(c)
    elements = sorted({one.element for one in found})
    if len(elements) < 2:
        raise NotRun("a sample of one element")
    sums: dict[tuple[int, int], list[Tensor]] = {}
    rows: dict[int, list[Places]] = {}
    for one in found:
        rows.setdefault(one.row, []).append(one)
    for row in rows.values():
        scores = []
        for one in row:
            u = torch.full(one.kept.shape, float("nan"), dtype=torch.float64, device=c.device)
            u[one.kept] = 0.0
            z = torch.stack([u, u])
            z[0, one.kept] = legendre(one.value)[:, 0]
            z[1, one.kept] = legendre(one.likely)[:, 0]
            scores.append(z)
        for i, a in enumerate(row):
            for j, b in enumerate(row[:i]):
                product = (scores[i] * scores[j]).T
                sums.setdefault((b.element, a.element), []).append(product[product.isfinite().all(1)])
    comparisons = 2 * len(sums)
    for (a, b), parts in sums.items():
        product = torch.cat(parts)
        if len(product) < 200:
            continue
        mean = product.mean(0)
        bound = sigmas(comparisons) * product.std(0) / math.sqrt(len(product)) + c.tolerance
        if (mean.abs() > bound).any():
            k = int((mean.abs() - bound).argmax())
            c.fail(
                f"{('places', 'sizes')[k]} of elements {a} and {b} with a correlation of {float(mean[k]):.3g}, over {len(product)} draws",
                f"0 (± {float(bound[k]):.2g}), as the loss is the sum of theirs",
            )


@check(
    "decoder.addressed",
    fault="noise by the seed alone, so that every step or row has the same; an rng made anew from its seed",
)
def addressed(c: Context) -> None:
    """Every part of the rng's address counts: another step, other rows and another purpose give other draws, the same give the same."""
    decoder, p = c.decoder(), c.params_at(1.0, c.seed, 1)
    n = 64
    p = p.expand(n, *p.shape[1:])

    def draw(rng: Rng) -> Tensor:
        return decoder.sample(p.clone(), rng)

    base = Rng.for_rows(c.seed, n, device=c.device)
    first = draw(base.at(3).of("draw"))
    c.same(draw(base.at(3).of("draw")), first, "the draw at the same step again", like=first)
    others = {
        "another step": base.at(4).of("draw"),
        "a step far on": base.at(10_003).of("draw"),
        "other rows": Rng.for_rows(c.seed, n, start=n, device=c.device).at(3).of("draw"),
        "another purpose": base.at(3).of("other"),
        "another seed": Rng.for_rows(c.seed + 1, n, device=c.device).at(3).of("draw"),
    }
    # Equal parameters: what differs from row to row differs by chance alone.
    if bool((first == first[:1]).all()):
        c.fail(f"the same draw in all of {n} rows", "a draw of its own for each row of the rng")
    for name, rng in others.items():
        if torch.equal(draw(rng), first):
            c.fail(f"the same draws with {name}", "others")
