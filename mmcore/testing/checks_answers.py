"""What a plugin answers, against what else it says: raw values, points, parts that are known, and itself made anew."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.files import Encoded
from mmcore.modality.base import Modality
from mmcore.modality.holes import nats
from mmcore.modality.packed import PackedSpec
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_encoder import average_variance, codes, square_deviations
from mmcore.testing.checks_loss import is_sum
from mmcore.testing.context import SPACES, WIDTH, Context
from mmcore.testing.made import again, answers_of
from mmcore.testing.marginals import element_gap
from mmcore.testing.statistics import heavy, mean_bound
from mmcore.testing.strategies import written

FORMS = (Image.Image, np.ndarray, np.generic, Encoded, str, int, float, list, tuple)
"""What is written to files: pictures, arrays, files' own bytes, and columns of a table."""


@check("read.back", fault="a raw in other units than read takes, a raw that read does not know, a day that is lost on every way", core=False)  # fmt: skip
def back(c: Context) -> None:
    """`raw` gives a sample as data hold it, which `read` reads back: what a model fills in is written so. On a second way nothing more is lost.

    Where samples are no pictures but are shown as such, by a network that loses something, `raw` gives what `pictured` says, and `read` takes it.
    """
    m, x = c.modality, c.modality.typical(8, c.seed)
    pictures = m.pictured(x)
    near = written(m.spec, x)
    span = m.spec.high - m.spec.low if m.spec.low is not None and m.spec.high is not None else math.inf
    for k, row in enumerate(x):
        kept = row.clone()
        raw = m.raw(row)
        if not torch.equal(row, kept):
            c.fail("the sample changed by raw", "the sample as it was", code="print(modality.raw(x))", x=kept)
        if not isinstance(raw, FORMS):
            c.fail(
                f"a raw value of {type(raw).__name__}",
                "a picture, an array, a file's bytes (Encoded), a number, a text or a list of these",
            )
        try:
            found = m.read(raw)
        except RequestError as error:
            c.fail(f"a raw value that read refuses: {error}", "one that it reads back", code="print(modality.read(modality.raw(x)))", x=row)  # fmt: skip
        if found.shape != row.shape or found.dtype != row.dtype:
            c.fail(f"read back as {tuple(found.shape)} in {found.dtype}", f"{tuple(row.shape)} in {row.dtype}")
        if pictures is not None:
            _pictured(c, raw, pictures[k])
            continue
        # A picture keeps as many levels as its pixels have.
        most = min(near, 1.01 * _step(raw) * span)
        off = (found.double() - row.double()).abs()
        if off.numel() and float(off.max()) > most:
            c.fail(
                f"a sample that is read back with {float(off.max()):.4g} of difference",
                f"the sample (± {most:.2g})",
                code="print(modality.read(modality.raw(x)) - x)",
                x=row,
            )
        # What is rounded once stays so; what is shifted is shifted again.
        known = m.spec.there(found[None])[0]
        drift = (m.read(m.raw(found.clone())).double() - found.double()).abs()
        if drift.numel() and float(drift.max()) > 1e-5 * max(1e-3, float((found.double() * known).abs().max())):
            c.fail(
                f"a sample that was read back and is another by {float(drift.max()):.4g} when it is written and read once more",
                "the same",
                code="once = modality.read(modality.raw(x))\nprint(modality.read(modality.raw(once)) - once)",
                x=row,
            )


def _pictured(c: Context, raw: Any, pixels: Tensor) -> None:
    """Fail unless a raw picture has these ``pixels (channels, H, W)`` in -1 … 1."""
    shown = np.asarray(raw, dtype=np.float64)
    shown = shown[..., None] if shown.ndim == 2 else shown
    want = (pixels.double().clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5
    off = np.abs(shown - want).max() if shown.shape == want.shape else np.inf
    if isinstance(raw, Image.Image) and off > 1:
        c.fail(
            f"a raw picture of shape {shown.shape}, {off:.4g} levels away from what pictured gives",
            f"its pixels, {want.shape}",
            code="print(modality.raw(x), modality.pictured(x[None]))",
        )


def _step(raw: Any) -> float:
    """The distance of two levels of a picture or of whole numbers of few bits, over their range."""
    deep = isinstance(raw, Image.Image) and raw.mode.startswith("I;16")
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "ui":
        return 1 / (2 ** min(16, 8 * raw.dtype.itemsize) - 1)
    return 1 / 65535 if deep else 1.0


@check(
    "decoder.central",
    fault="a point that is half the mean, transposed, or the opposite direction: it is what `sample` answers with",
    tolerance=0.05,
    false_alarm="1e-8 per row of parameters, as a mean; a median or mode counts as well",
)
def central(c: Context) -> None:
    """The point is the mean, the median or the mode of the draws, element by element.

    The tolerance, in nats, is of the mode. Of a loss that is no sum over elements the point must be as likely as the least
    likely draw, of a direction as half of the draws.
    """
    n = 2000
    rows = 16 if math.prod(c.modality.spec.shape) <= 4 else 4
    p = c.settled_params(rows)
    decoder = c.decoder()
    with torch.no_grad():
        points = decoder.point(p)
        x = c.draws(p[:1], rows)
        sums = not c.modality.spec.unit_norm and (x[0].numel() == 1 or is_sum(c, p, x))
        for k in range(rows):
            draws, point = c.draws(p[k : k + 1], n, f"row {k}"), points[k : k + 1]
            own = p[k : k + 1]
            if sums:
                _elements(c, own, draws, point)
                continue
            least, found = c.loss(own.expand(n, *own.shape[1:]), draws), float(c.loss(own, point))
            most = float(least.median() if c.modality.spec.unit_norm else least.max())
            if not found <= most + c.tolerance:
                c.fault(f"a point with a loss of {found:.4g} nats", f"at most {most:.4g}, by {n} draws", params=own)


def _elements(c: Context, own: Tensor, draws: Tensor, point: Tensor) -> None:
    """Fail unless each element of the point is central."""
    spec = c.modality.spec
    flat, at = draws.reshape(len(draws), -1).double(), point.reshape(-1).double()
    mean, middle = flat.mean(0), flat.quantile(torch.tensor([0.45, 0.55], dtype=torch.float64, device=flat.device), 0)
    size = flat.abs().amax(0).clamp(min=1e-6)
    bound = mean_bound(flat) + 1e-4 * size
    step = torch.ones_like(at) if not spec.dtype.is_floating_point else torch.zeros_like(at)
    is_mean = ((at - mean).abs() <= bound + step / 2) & ~heavy(flat)
    is_median = (middle[0] - step / 2 <= at) & (at <= middle[1] + step / 2)
    for e in (~is_mean & ~is_median).nonzero()[:64, 0].tolist():
        # Rounded to the values that the draws keep to.
        gap = (spec.dtype.is_floating_point and element_gap(flat[:, e], spec.dtype)) or 0.0
        if bool((at[e] - mean[e]).abs() <= bound[e] + 0.51 * gap) or middle[0, e] - 0.51 * gap <= at[e] <= middle[1, e] + 0.51 * gap:  # fmt: skip
            continue
        values = torch.cat([point.reshape(1, -1)[:, e], flat[:, e].unique().to(point.dtype)])
        x = point.reshape(1, -1).expand(len(values), -1).clone()
        x[:, e] = values
        only = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        only[:, e] = True
        row, shape = own.expand(len(values), *own.shape[1:]), (-1, *spec.shape)
        nats = c.loss(row, x.reshape(shape), only.reshape(shape))
        if not nats[0] <= nats.min() + c.tolerance:
            c.fault(
                f"a point of {float(at[e]):.4g} in element {e}",
                f"the mean {float(mean[e]):.4g} (± {float(bound[e]):.2g}) of {len(flat)} draws, their median, or the likeliest value {values[nats.argmin()].item():.4g}",
                params=own,
            )


@check("roles.partial", fault="a code_where that is inverted, shifted, or says more than is known", tolerance=1e-6)
def partial(c: Context) -> None:
    """What `code_where` calls known of a code is the same whatever the hidden elements are; all known is all, none is none."""
    m = c.modality
    if not m.divisible:
        whole = torch.ones(2, *m.spec.shape, dtype=torch.bool, device=c.device)
        try:
            m.code_where(whole)
        except RequestError:
            raise NotRun("the modality is known as a whole or not at all") from None
        c.fail("a code_where of a modality that is not divisible", "a RequestError, or divisible = True")
    encode, n = c.encoder(), 8
    x, other = c.typical(n), c.typical(n, 1)
    for name, fill in (("all", True), ("nothing", False)):
        known = m.code_where(torch.full(x.shape, fill, dtype=torch.bool, device=c.device))
        if tuple(known.shape) != (n, *m.code) or known.dtype != torch.bool:
            c.fail(f"a code_where of shape {tuple(known.shape)} in {known.dtype}", f"{(n, *m.code)} in torch.bool")
        if not bool((known == fill).all()):
            c.fail(
                f"{float(known.double().mean()):.1%} of the code known where {name} of the sample is", f"{name} of it"
            )
    share = torch.linspace(0.2, 0.9, n, device=c.device).reshape(n, *[1] * (x.ndim - 1))
    where = c.rng(n, "where").uniform(*x.shape[1:]) < share
    kept = where.clone()
    known = m.code_where(where)
    if not torch.equal(where, kept):
        c.fail("the mask changed by code_where", "the mask as it was")
    one, two = encode(x), encode(torch.where(where, x, other))
    nothing = torch.zeros_like(one)
    c.same(two.where(known, nothing), one.where(known, nothing), "what is known of the code after hidden elements changed", like=one)  # fmt: skip


@check(
    "encoder.measured",
    fault="a measured variance for a deviation, void measured as if it were a value, an option that the constructor does not have",
    core=False,
    tolerance=0.25,
    false_alarm="1e-8: 5.7 standard errors of the variance beyond the tolerance",
)
def measured(c: Context) -> None:
    """Made again with what `measured` says of other data than typical ones, the codes of those have a variance of about 1.

    Where samples have void, also with what it says of data with much more of it.
    """
    m, spec = c.modality, c.modality.spec
    x = m.typical(c.profile.draws, c.seed)
    if spec.dtype.is_floating_point and not spec.unit_norm and not isinstance(spec, PackedSpec):
        void = ~spec.there(x)
        # Of each element by itself, whose data may lie anywhere; nearer to its mean where limits must be kept.
        middle = torch.where(void, torch.zeros_like(x), x).double().sum(0) / (~void).sum(0).clamp(min=1)
        middle = middle.to(x.dtype)
        other = middle + (3.0 if spec.low is None and spec.high is None else 0.6) * (x - middle)
        x = _as_read(m, torch.where(void, x, other))
    found = m.measured(x)
    try:
        json.dumps(found)
    except (TypeError, ValueError):
        c.fail(f"measured options that are no plain values: {found!r}", "numbers, texts and lists, which are kept with a model")  # fmt: skip
    if not found:
        raise NotRun(
            "measured gives nothing: codes of data with another mean and deviation than the options say have no unit variance"
            if spec.dtype.is_floating_point and not spec.unit_norm
            else "measured gives nothing"
        )
    _of_variance_one(c, x, found, "")
    if spec.void is not None and m.divisible and not m.together and not isinstance(spec, PackedSpec):
        x = m.typical(c.profile.draws, c.seed)
        more = c.rng(len(x), "more void").uniform(*spec.shape).cpu() < 0.5
        holed = torch.where(more, torch.full_like(x, spec.void), x)  # type: ignore[arg-type]
        _of_variance_one(c, x, m.measured(holed), " of data of which half was made void")


def _of_variance_one(c: Context, x: Tensor, found: Mapping[str, Any], of: str) -> None:
    """Fail where codes of samples ``x`` by what was measured have another variance than about 1."""
    twin = again(c.modality, **found)
    code, known = codes(c.beside(thing=twin), c.cast(x))
    average, error = average_variance(square_deviations(code, known), known)
    if abs(average - 1) > c.tolerance + error:
        c.fail(
            f"an average variance of {average:.3g} (± {error:.2g}) of codes by the measured {found!r}{of}"[:400],
            f"1 ± {c.tolerance}",
        )


def _as_read(m: Modality, x: Tensor) -> Tensor:
    """Samples as they are read back, where not every number makes one: a row of ones up to a series' end is none of threes."""

    def back(rows: Tensor) -> Tensor:
        return torch.stack([m.read(m.raw(row)) for row in rows])

    if m.pictured(x[:1]) is not None:
        return x
    try:
        few = x[:8]
        return x if torch.allclose(back(few), few, rtol=1e-3, atol=1e-3) else back(x)
    except (RequestError, RuntimeError):
        return x


@check(
    "state.made",
    fault="a codebook drawn from the global generator as the modality is made",
    core=False,
    tolerance=1e-5,
)
def made(c: Context) -> None:
    """Made again, with other global random numbers, it gives the same codes, losses, points and draws."""
    x, params = c.typical(6), c.params(6)
    torch.manual_seed(c.seed + 11)
    want = answers_of(c.modality, x, params, c.modality.decoder(WIDTH, SPACES[1]), c.seed)
    torch.manual_seed(c.seed + 12)
    twin = again(c.modality)
    for what, got in answers_of(twin, x, params, twin.decoder(WIDTH, SPACES[1]), c.seed).items():
        c.same(got, want[what], f"{what} of the modality made again")


MISPLACED = ("same device", "expected device", "on cpu", "device cpu", "different device")


@check(
    "state.computes", fault="a constant on the CPU inside loss, point, sample, expected_code or code_where", core=False
)
def computes(c: Context) -> None:
    """Loss, point, draw, expected code and code_where are computed where what they are given lies.

    Asked with torch's meta device. What cannot be computed there, because it looks at values, is not judged.
    """
    meta = torch.device("meta")
    x, p = c.typical(3).to(meta), c.params(3).to(meta)
    encode, decoder = c.encoder().to(meta), c.decoder().to(meta)
    m = c.modality
    calls: dict[str, Callable[[], Tensor]] = {
        "loss": lambda: nats(m, m.loss(), p, x),
        "loss with where": lambda: nats(m, m.loss(), p, x, torch.ones(x.shape, dtype=torch.bool, device=meta)),
        "point": lambda: decoder.point(p),
        "sample": lambda: decoder.sample(p, Rng.for_rows(c.seed, 3, device=meta)),
        "expected_code": lambda: m.expected_code(p, encode, decoder),
    }
    if m.divisible:
        calls["code_where"] = lambda: m.code_where(torch.ones(x.shape, dtype=torch.bool, device=meta))
    judged = 0
    for name, call in calls.items():
        try:
            out = call()
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            text = " ".join(str(error).split())
            if any(part in text for part in MISPLACED):
                c.fail(f"{name} that mixes devices: {text[:200]}", "constants made where what it is given lies")
            # Anything else is the meta device's own: it has no values to decide by. Such a call is not judged here.
            continue
        judged += 1
        if isinstance(out, Tensor) and out.device != meta:
            c.fail(f"an answer of {name} on {out.device}", "the device of what it was given")
    if not judged:
        raise NotRun("nothing of it can be computed without values")
