"""Where things lie: each element of a sample has a say in its code, and what is local stays in its place."""

import math

import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.space import Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import WIDTH, Context

MOST = 256
"""So many elements are looked at."""


@check(
    "encoder.reads",
    fault="a channel that the code leaves out, the last step of a series, the border of a map",
    core=False,
)
@torch.no_grad()
def reads(c: Context) -> None:
    """Every element of a sample has a say in its code: what the code does not hold cannot be recovered."""
    spec, encode = c.modality.spec, c.encoder()
    if not spec.shape:
        raise NotRun("a sample of one element: encoder.distinct judges it")
    size = math.prod(spec.shape)
    x = c.typical(64).reshape(64, -1)
    elements = list(range(size)) if size <= MOST else sorted({0, size - 1, *(c.rng(1, "elements").uniform(size)[0].argsort()[:MOST].tolist())})  # fmt: skip
    silent: dict[int, float] = {}
    for e in elements:
        changed = x.clone()
        # A direction keeps its length where an element's sign is turned.
        changed[:, e] = -x[:, e] if spec.unit_norm else x[:, e].roll(1)
        if spec.void is not None:
            changed[:, e] = torch.where((x[:, e] == spec.void) | (changed[:, e] == spec.void), x[:, e], changed[:, e])
        rows = (changed[:, e] != x[:, e]).nonzero()[:, 0][:8]
        if spec.dtype.is_floating_point:
            spread = x[:, e].double().std()
            rows = ((changed[:, e] - x[:, e]).double().abs() > 0.5 * spread).nonzero()[:, 0][:8]
        if len(rows) < 2:
            continue
        shape = (-1, *spec.shape)
        apart = (encode(changed[rows].reshape(shape)) - encode(x[rows].reshape(shape))).abs()
        if float(apart.max()) < 1e-4:
            silent[e] = float(apart.max())
    if silent:
        e = next(iter(silent))
        c.fail(
            f"a code without a say of {len(silent)} of {len(elements)} elements, such as element {e}: a change of it moves the code by {silent[e]:.3g}",
            "by 0.0001 or more",
        )


def _axes(c: Context) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sample's axes of place and the code's, which lie on each other by the same factor."""
    spec, code = c.modality.spec, c.modality.code
    k = len(code) - 1
    if k < 1 or len(spec.shape) not in (k, k + 1):
        raise NotRun("code and sample have no places in common")
    own, other = spec.shape[-k:], code[1:]
    if any(a % b for a, b in zip(own, other, strict=True)) or len({a // b for a, b in zip(own, other, strict=True)}) > 1:  # fmt: skip
        raise NotRun("code and sample have no places in common")
    if math.prod(other) < 4:
        raise NotRun("the code has too few places to tell them apart")
    return own, other


def _some(places: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Corners and other places, no two of which are exchanged by a mirror."""
    k = len(places)
    if k == 1:
        n = places[0]
        return [(i,) for i in sorted({0, n // 3, n - 1})]
    ends = [tuple(0 for _ in places), tuple(n - 1 for n in places), (0, *(n - 1 for n in places[1:])), (*(n // 3 for n in places[:-1]), 0)]  # fmt: skip
    return list(dict.fromkeys(ends))


def _judge(c: Context, what: str, answers: list[tuple[tuple[int, ...], Tensor]]) -> None:
    """Fail where most answers are local and elsewhere than they belong."""
    local = elsewhere = 0
    found = ""
    for place, response in answers:
        total = float(response.sum())
        if total <= 0:
            continue
        peak = int(response.flatten().argmax())
        at, rest = [], peak
        for n in reversed(response.shape):
            at.append(rest % n)
            rest //= n
        at = tuple(reversed(at))
        if float(response.max()) / total < 0.5:
            continue
        local += 1
        if any(abs(a - b) > 1 for a, b in zip(at, place, strict=True)) or (max(response.shape) <= 4 and at != place):
            elsewhere += 1
            found = f"{what} at {list(place)} that changes the code at {list(at)}"
    if local < 2:
        raise NotRun("nothing is local: a change in one place changes the code everywhere")
    if 2 * elsewhere >= local:
        c.fail(found, "at the same place, as other modalities of the same space have it")


@check("encoder.place", fault="a code whose height and width are exchanged, or that is upside down", core=False)
@torch.no_grad()
def place(c: Context) -> None:
    """A code that has the sample's axes has its places: what changes in one place changes the code there, if it is local at all."""
    own, other = _axes(c)
    encode = c.encoder()
    x, y = c.typical(8), c.typical(8, 1)
    answers = []
    for at in _some(other):
        block = torch.zeros(own, dtype=torch.bool, device=c.device)
        factor = own[0] // other[0]
        block[tuple(slice(a * factor, (a + 1) * factor) for a in at)] = True
        gap = (encode(torch.where(block, y, x)) - encode(x)).abs().sum(0).sum(0)
        answers.append((at, gap))
    _judge(c, "a change of the sample", answers)


@check("decoder.place", fault="a head whose map is transposed or upside down against its features", core=False)
@torch.no_grad()
def decoder_place(c: Context) -> None:
    """A head that is local has its features' places: a change of the features in one place changes the expected code there."""
    _, grid = _axes(c)
    space = Space((c.modality.code[0], *grid))
    try:
        decoder, encode = c.decoder(space), c.encoder()
    except RequestError as error:
        raise NotRun(f"no decoder for the code's own grid: {error}") from None
    features = c.rng(4, "features").normal(WIDTH, *grid, dtype=c.dtype)
    t = torch.ones(4, dtype=torch.int64, device=c.device)
    with torch.no_grad():
        before = c.modality.expected_code(decoder(features, t), encode, decoder)
        answers = []
        for at in _some(grid):
            moved = features.clone()
            moved[(slice(None), slice(None), *at)] += 2.0
            gap = (c.modality.expected_code(decoder(moved, t), encode, decoder) - before).abs().sum(0).sum(0)
            answers.append((at, gap))
    _judge(c, "a change of the features", answers)
