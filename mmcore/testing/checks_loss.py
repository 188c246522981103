"""Loss terms: nats per sample of a likelihood that is one."""

import math

import torch
from torch import Tensor

from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_decoder import SCALES, SEEDS
from mmcore.testing.context import Context, descend
from mmcore.testing.statistics import sigmas
from mmcore.testing.strategies import samples

LOSS = "print(modality.loss()(params, x))"


@check("loss.per_sample", fault="a mean over the batch, or a loss per element")
def per_sample(c: Context) -> None:
    """A loss is one real number per sample, `(B,)`."""
    for n in (1, 5):
        x, p = c.typical(n), c.params(n)
        loss = c.loss(p, x)
        if not isinstance(loss, Tensor) or tuple(loss.shape) != (n,) or not loss.is_floating_point():
            found = f"shape {tuple(loss.shape)} in {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
            c.fail(f"a loss of {found}", f"({n},) real numbers", code=LOSS, params=p[:1], x=x[:1])


@check(
    "loss.rows", fault="a loss that averages over the batch, or weighs classes by the batch's counts", tolerance=1e-5
)
def rows(c: Context) -> None:
    """A sample's loss does not depend on the other samples: permuted or split, the values are the same."""
    x, p = c.typical(6), c.params(6)
    whole = c.loss(p, x)
    order = torch.tensor([4, 0, 5, 2, 1, 3], device=c.device)
    c.same(c.loss(p[order], x[order]), whole[order], "losses of the permuted batch")
    for k in range(6):
        c.same(c.loss(p[k : k + 1], x[k : k + 1]), whole[k : k + 1], f"the loss of sample {k} alone", code=LOSS, params=p[k : k + 1], x=x[k : k + 1])  # fmt: skip


@check("loss.finite", fault="the logarithm of a probability that rounds to zero, a value that the loss cannot read")
def finite(c: Context) -> None:
    """The loss and its gradient are finite for every valid sample, for small features and for very large ones."""

    def body(x: Tensor, scale: float, seed: int) -> None:
        p = c.params_at(scale, seed, len(x)).requires_grad_()
        loss = c.loss(p, c.cast(x))
        if not loss.isfinite().all():
            c.fail(f"a loss of {loss.tolist()}", "finite nats", code=LOSS, params=p, x=x)
        (gradient,) = torch.autograd.grad(loss.sum(), p, allow_unused=True)
        if gradient is not None and not gradient.isfinite().all():
            c.fail("a gradient with NaN or infinity", "a finite one", code=LOSS, params=p, x=x)

    for scale in (1.0, 100.0):
        body(c.modality.typical(32, c.seed), scale, c.seed)
    c.forall(body, c.corners(scale=1.0, seed=0), x=samples(c.modality.spec), scale=SCALES, seed=SEEDS)


@check("loss.pure", fault="targets clamped in place", tolerance=0.0)
def pure(c: Context) -> None:
    """The loss leaves parameters, target and `where` as they were."""

    def body(x: Tensor, seed: int) -> None:
        given, p = c.cast(x).clone(), c.params_at(1.0, seed, len(x))
        where = torch.ones(given.shape, dtype=torch.bool, device=c.device)
        before = [v.clone() for v in (given, p, where)]
        c.loss(p, given)
        c.loss(p, given, where)
        for name, now, then in zip(("the target", "the parameters", "where"), (given, p, where), before, strict=True):
            if not torch.equal(now, then):
                c.fail(f"{name} changed by the loss", "left as before", code=LOSS, params=p, x=x)

    c.forall(body, c.corners(seed=0), x=samples(c.modality.spec), seed=SEEDS)


@check("loss.where", fault="a loss that takes `where` and ignores it, or averages over it", tolerance=1e-4)
def where(c: Context) -> None:
    """`where` selects the elements that count: none give 0, all give the whole, and what is hidden has no say."""

    def body(x: Tensor, other: Tensor, seed: int) -> None:
        n = min(len(x), len(other))
        x, other = c.cast(x[:n]), c.cast(other[:n])
        p = c.params_at(1.0, seed, n)
        code = "where = torch.zeros(x.shape, dtype=torch.bool)\nprint(modality.loss()(params, x, {}))"
        nothing = torch.zeros(x.shape, dtype=torch.bool, device=c.device)
        whole = c.loss(p, x)
        c.same(c.loss(p, x, nothing), torch.zeros_like(whole), "the loss of nothing", code=code.format("where"), params=p, x=x)  # fmt: skip
        c.same(c.loss(p, x, ~nothing), whole, "the loss of everything", code=code.format("~where"), params=p, x=x)
        seen = c.rng(n, f"seen {seed}").uniform(*x.shape[1:]) < 0.5
        mixed = torch.where(seen, x, other)
        c.same(c.loss(p, mixed, seen), c.loss(p, x, seen), "the loss after hidden values changed", params=p, x=x, other=other, where=seen, code="loss = modality.loss()\nprint(loss(params, torch.where(where, x, other), where) - loss(params, x, where))")  # fmt: skip

    c.forall(body, x=samples(c.modality.spec), other=samples(c.modality.spec), seed=SEEDS)


@check("loss.void", fault="a mask loss that counts void", tolerance=1e-6)
def void(c: Context) -> None:
    """Where the spec has a void value, void elements count for nothing, whatever is predicted for them."""
    spec = c.modality.spec
    if (nothing := spec.void) is None:
        raise NotRun("the spec has no void value")

    def body(x: Tensor, seed: int) -> None:
        x = c.cast(x)
        p, known = c.params_at(1.0, seed, len(x)), x != nothing
        c.same(c.loss(p, x), c.loss(p, x, known), "the loss with void elements", code=LOSS, params=p, x=x)
        empty = torch.full_like(x, nothing)
        c.same(c.loss(p, empty), torch.zeros(len(x)), "the loss of a void sample", code=LOSS, params=p, x=empty)

    c.forall(body, x=samples(spec), seed=SEEDS)


@check(
    "loss.gradient", fault="a detached term, a loss computed outside of autograd", dtypes=("float64",), tolerance=1e-5
)
def gradient(c: Context) -> None:
    """The gradient is that of finite differences, in float64."""
    x, p = c.typical(3), c.params(3).requires_grad_()
    loss = c.loss(p, x)
    if not loss.requires_grad:
        c.fail("a loss without a gradient", "a gradient to the parameters", code=LOSS, params=p, x=x)
    (slope,) = torch.autograd.grad(loss.sum(), p)
    step = 1e-6
    with torch.no_grad():
        for k in range(8):
            way = c.rng(3, f"way {k}").normal(*p.shape[1:], dtype=torch.float64)
            way = way / way.norm()
            rise = (c.loss(p + step * way, x) - c.loss(p - step * way, x)).sum() / (2 * step)
            c.same((slope * way).sum(), rise, "the slope by autograd", code=LOSS, params=p, x=x)


@check(
    "loss.proper",
    fault="label smoothing, a focal or tempered loss, a deviation that is not paid for",
    tolerance=0.02,
    false_alarm="1e-8 per row of parameters: 5.7 standard errors of the gain over fresh draws",
)
def proper(c: Context) -> None:
    """In expectation over draws from p no other parameters have a lower loss than p's own: a proper scoring rule.

    The tolerance, in nats per element, is only for real values on a grid, whose likelihood may be a bound.
    """
    p, n = c.settled_params(2), min(c.profile.draws, 4000)
    slack = c.tolerance * math.prod(c.modality.spec.shape) if _levels(c) is not None else 1e-4
    for k in range(2):
        own = p[k : k + 1]
        seen, fresh = c.draws(own, n, f"seen {k}"), c.draws(own, n, f"fresh {k}")
        other = own.clone().requires_grad_()
        descend(other, lambda q, x=seen: c.loss(q.expand(n, *q.shape[1:]), x).mean(), steps=40, lr=0.03)
        with torch.no_grad():
            gain = (c.loss(own.expand(n, *own.shape[1:]), fresh) - c.loss(other.expand(n, *own.shape[1:]), fresh)).double()  # fmt: skip
        if gain.mean() - sigmas() * gain.std() / math.sqrt(n) > slack:
            c.fail(
                f"parameters with a loss lower by {gain.mean():.4g} nats, over {n} fresh draws from p",
                f"none lower than p's own by more than {slack:g}",
            )


def _levels(c: Context) -> Tensor | None:
    """The evenly spaced values that real typical samples keep to, such as a pixel's 256; None where there are none."""
    spec = c.modality.spec
    if not spec.dtype.is_floating_point or spec.low is None or spec.high is None:
        return None
    values = c.modality.typical(256, c.seed).double().unique()
    gaps = values.diff()
    gap = gaps[gaps > 1e-5].min() if (gaps > 1e-5).any() else None
    if gap is None or gap < 1e-4 * (spec.high - spec.low) or ((gaps / gap) - (gaps / gap).round()).abs().max() > 0.02:
        return None
    return spec.low + gap * torch.arange(round((spec.high - spec.low) / float(gap)) + 1, dtype=torch.float64)


@check(
    "loss.normalised",
    fault="a likelihood without its normaliser, or in bits",
    dtypes=("float64",),
    tolerance=0.02,
    false_alarm="1e-8: 5.7 standard errors, where the sum is an estimate (directions on a sphere); none otherwise",
)
def normalised(c: Context) -> None:
    """The probabilities of all values of an element sum, or integrate, to one.

    Asked where it can be computed: of losses that are sums over elements, and of directions. Real values on a grid
    may lose up to a quarter, as their likelihood may be a bound.
    """
    spec = c.modality.spec
    if spec.unit_norm:
        _on_the_sphere(c)
        return
    p = c.settled_params(4)
    x = c.cast(c.modality.typical(4, c.seed))
    flat = x.reshape(4, -1)
    size = flat.shape[1]
    if size > 1 and not _is_sum(c, p, x):
        raise NotRun("the loss is no sum over elements")
    levels = _levels(c)
    for e in sorted({0, size // 2, size - 1}):
        for k in range(4):
            values, width = _values(c, p[k : k + 1], e, levels)
            many = flat[k].expand(len(values), -1).clone()
            many[:, e] = values.to(many.dtype)
            only = torch.zeros(many.shape, dtype=torch.bool, device=c.device)
            only[:, e] = True
            row = p[k : k + 1].expand(len(values), *p.shape[1:])
            nats = c.loss(row, many.reshape(-1, *spec.shape), only.reshape(-1, *spec.shape))
            total = float((-nats.double()).exp().sum() * width)
            lost = 0.25 if levels is not None else c.tolerance
            if not 1 - lost <= total <= 1 + c.tolerance:
                c.fail(
                    f"probabilities that sum to {total:.4g} over {len(values)} values of element {e}",
                    f"1 (- {lost:g}, + {c.tolerance:g})",
                    code="print((-modality.loss()(params, x)).exp().sum())" if size == 1 else "",
                    params=p[k : k + 1],
                    x=values.to(spec.dtype).reshape(-1, *spec.shape) if size == 1 else values,
                )


def _is_sum(c: Context, p: Tensor, x: Tensor) -> bool:
    half = c.rng(len(x), "half").uniform(*x.shape[1:]) < 0.5
    whole, parts = c.loss(p, x), c.loss(p, x, half) + c.loss(p, x, ~half)
    return bool(torch.isclose(whole, parts, rtol=1e-6, atol=1e-6).all())


def _values(c: Context, p: Tensor, element: int, levels: Tensor | None) -> tuple[Tensor, float]:
    """The values that an element can take, and how much of an integral each stands for."""
    spec = c.modality.spec
    if spec.dtype == torch.bool:
        return torch.tensor([False, True], device=c.device), 1.0
    if not spec.dtype.is_floating_point:
        # What is never seen nor drawn, such as a void, is no outcome.
        drawn = c.draws(c.params_at(0.1, c.seed), 2000)
        return torch.cat([drawn.flatten(), c.typical(2000).flatten()]).unique(), 1.0
    drawn = c.draws(p, 500).reshape(500, -1)[:, element].double()
    if levels is not None:
        return levels.to(c.device), 1.0
    reach = 12 * float(drawn.std()) + 1e-6
    low, high = float(drawn.mean()) - reach, float(drawn.mean()) + reach
    n = 4001
    width = (high - low) / n
    return low + width * (torch.arange(n, dtype=torch.float64, device=c.device) + 0.5), width


def _on_the_sphere(c: Context) -> None:
    """By importance: the mean of ``p / q`` over directions drawn from ``q``, which looks to where the decoder's draws lie."""
    spec = c.modality.spec
    if len(spec.shape) != 1:
        raise NotRun("an integral over several spheres at once is not computed")
    n = c.profile.draws
    p = c.params_at(0.3, c.seed, 3)
    for k in range(3):
        mean = c.draws(p[k : k + 1], 500).reshape(500, -1).double().mean(0)
        x, log_q = _directions(c.rng(n, f"directions {k}"), mean)
        mass = (-c.loss(p[k : k + 1].expand(n, *p.shape[1:]), x).double() - log_q).exp()
        total, error = float(mass.mean()), sigmas() * float(mass.std()) / math.sqrt(n)
        if abs(total - 1) > error + c.tolerance:
            c.fail(
                f"a density that integrates to {total:.4g} (± {error:.2g}) over the sphere", "1", params=p[k : k + 1]
            )
        if error > 0.5:
            raise NotRun("the density is too narrow for an estimate by the directions of its draws")


def _directions(rng: Rng, mean: Tensor) -> tuple[Tensor, Tensor]:
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
