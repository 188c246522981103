"""Loss terms: nats per sample of a likelihood that is one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_decoder import SCALES, SEEDS
from mmcore.testing.context import Context, descend
from mmcore.testing.marginals import element_gap
from mmcore.testing.masses import Sums, on_the_sphere
from mmcore.testing.reached import Reached, restricted
from mmcore.testing.statistics import ALPHA, sigmas
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
    _no_average(c)


def _no_average(c: Context) -> None:
    """Fail where a part's loss is the mean of its elements' losses, each asked for alone, in place of their sum."""
    x, p = c.typical(3), c.params(3)
    size = x[0].numel()
    if not 2 <= size <= 64:
        return
    alone = torch.eye(size, dtype=torch.bool, device=c.device).reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)
    each = torch.stack([c.loss(p, x, only) for only in alone])
    half = torch.arange(size, device=c.device) % 2 == 0
    found = c.loss(p, x, half.reshape(x.shape[1:]).expand(x.shape))
    total, count = each[half].sum(0), int(half.sum())
    if count > 1 and torch.allclose(found, total / count, rtol=1e-3) and not torch.allclose(found, total, rtol=1e-2):
        c.fail(f"a loss of {count} elements that is the mean of theirs, {float(found[0]):.4g}", f"their sum, {float(total[0]):.4g}")  # fmt: skip


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

    The tolerance, in nats per element, is only for real values on a grid, whose likelihood may be a bound. Where not all numbers are
    parameters, such as logarithms of probabilities, others are those that the decoder reaches by other features.
    """
    p, n = c.settled_params(2), min(c.profile.draws, 4000)
    size = math.prod(c.modality.spec.shape)
    more = max(n, min(8 * n, 2**24 // size))
    slack = c.tolerance * size if _grid(c) is not None else 1e-4

    def worse(start: Tensor, k: int, to: Callable[[Tensor], Tensor], lr: float) -> tuple[float, float] | None:
        """What is gained beyond doubt by other parameters, and the most that may be; None if nothing is."""
        gain, doubt = _gain(c, start, n, k, to, lr)
        if gain - doubt <= slack:
            return None
        # Once more by more draws: of what is rare there may have been none, and other parameters gain by denying it.
        gain, doubt = _gain(c, start, more, k, to, lr)
        unseen = -math.log(ALPHA) / more if recur(c.draws(to(start), 1000)) else 0.0
        return (gain, slack + unseen) if gain - doubt > slack + unseen else None

    for k in range(2):
        found = worse(p[k : k + 1], k, lambda q: q, 0.03)
        if found is not None and restricted(c):
            reached = Reached(c)
            found = worse(reached.start(2)[k : k + 1], k, reached, 0.1)
        if found is not None:
            c.fault(
                f"parameters with a loss lower by {found[0]:.4g} nats, over {more} fresh draws from p",
                f"none lower than p's own by more than {found[1]:.2g}",
            )


def _gain(c: Context, start: Tensor, n: int, k: int, to: Callable[[Tensor], Tensor], lr: float) -> tuple[float, float]:
    """What parameters fitted to ``n`` draws gain over those that ``start`` stands for, on fresh ones, nats; and how far that may be off."""
    own = to(start).detach()
    seen, fresh = c.draws(own, n, f"seen {k}"), c.draws(own, n, f"fresh {k}")
    other = start.clone().requires_grad_()

    def loss(q: Tensor, x: Tensor) -> Tensor:
        p = to(q)
        return c.loss(p.expand(n, *p.shape[1:]), x)

    descend(other, lambda q: loss(q, seen).mean(), steps=40, lr=lr)
    with torch.no_grad():
        gain = (loss(start, fresh) - loss(other, fresh)).double()
    return float(gain.mean()), sigmas() * float(gain.std()) / math.sqrt(n)


def recur(x: Tensor) -> bool:
    """Whether values of some element come again, so that some have a probability of their own."""
    flat = x.reshape(len(x), -1)
    return any(len(flat[:, e].unique()) < 0.9 * len(flat) for e in range(flat.shape[1]))


def _grid(c: Context) -> Tensor | None:
    """The evenly spaced values that real typical samples keep to, such as a pixel's 256; None where there are none."""
    spec = c.modality.spec
    if not spec.dtype.is_floating_point or spec.low is None or spec.high is None:
        return None
    x = c.modality.typical(512, c.seed).double().flatten()
    gap = element_gap(x[spec.there(x)][:100_000], spec.dtype)
    if gap is None:
        return None
    return spec.low + gap * torch.arange(round((spec.high - spec.low) / gap) + 1, dtype=torch.float64)


LEVELS = 4096
"""Of more levels a density is as good as probabilities."""


@check(
    "loss.levels",
    fault="a density of values that are rounded, such as a Gaussian of pixels without dequantisation",
    core=False,
    dtypes=("float64",),
    tolerance=0.02,
)
def levels(c: Context) -> None:
    """Where data have levels, such as a pixel's 256, no parameters make one of them more than certain: no loss is below 0.

    A density would be rewarded without end for a narrow peak at a level. The tolerance is in nats per element.
    """
    grid = _grid(c)
    if grid is None or len(grid) > LEVELS:
        raise NotRun("data are no levels between two limits")
    x = c.typical(4)
    fitted = c.params_at(0.1, c.seed, 4).requires_grad_()
    descend(fitted, lambda p: c.loss(p, x).mean(), steps=300, lr=0.1)
    nats = float(c.loss(fitted.detach(), x).min()) / max(1, x[0].numel())
    if nats < -c.tolerance:
        c.fail(
            f"a loss of {nats:.3g} nats per element of a sample of {len(grid)} levels",
            "at least 0, as of every probability",
        )


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
    may lose up to a quarter, as their likelihood may be a bound. Void is no value.
    """
    spec = c.modality.spec
    if spec.unit_norm:
        on_the_sphere(c)
        return
    p = c.settled_params(4)
    x = c.cast(c.modality.typical(4, c.seed))
    flat = x.reshape(4, -1)
    size = flat.shape[1]
    if size > 1 and not is_sum(c, p, x):
        raise NotRun("the loss is no sum over elements")
    grid = _grid(c)
    for e in sorted({0, size // 2, size - 1}):
        for k in range(4):
            sums = Sums(c, p[k : k + 1], flat[k], e)
            sums.add(grid)
            if not any(low <= total <= high for total, low, high in sums.judged):
                total, low, high = sums.judged[0]
                values = sums.values
                # What lies beyond the limits, and is clipped, can only be lacking.
                more = all(total > high for total, _, high in sums.judged)
                (c.fail if more else c.fault)(
                    f"probabilities that sum to {total:.4g} over {len(values)} values of element {e}",
                    f"1 (- {1 - low:.2g}, + {high - 1:g})",
                    code="print((-modality.loss()(params, x)).exp().sum())" if size == 1 else "",
                    params=p[k : k + 1],
                    x=values.to(spec.dtype).reshape(-1, *spec.shape) if size == 1 else values,
                )


def is_sum(c: Context, p: Tensor, x: Tensor) -> bool:
    """Whether the losses of two halves of these samples add up to those of the whole."""
    half = c.rng(len(x), "half").uniform(*x.shape[1:]) < 0.5
    whole, parts = c.loss(p, x), c.loss(p, x, half) + c.loss(p, x, ~half)
    return bool(torch.isclose(whole, parts, rtol=1e-6, atol=1e-6).all())
