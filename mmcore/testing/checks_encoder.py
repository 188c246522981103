"""Encoders: from a sample to its code."""

import torch
from torch import Tensor

from mmcore.modality.holes import code_there
from mmcore.modality.packed import PackedSpec
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.statistics import sigmas
from mmcore.testing.strategies import samples

ENCODE = "print(modality.encoder()(x))"


@check(
    "encoder.shape_dtype",
    fault="a code of another shape than the modality says, or always in float32",
    dtypes=("float32", "float64"),
)
def shape_dtype(c: Context) -> None:
    """A code is `(B, *code)`, in the encoder's dtype, on its device, and finite for every valid sample."""
    encode = c.encoder()

    def body(x: Tensor) -> None:
        code = encode(c.cast(x))
        want = (len(x), *c.modality.code)
        if not isinstance(code, Tensor) or tuple(code.shape) != want:
            c.fail(f"a code of shape {tuple(getattr(code, 'shape', ()))}", f"(B, *code) = {want}", code=ENCODE, x=x)
        if code.dtype != c.dtype or code.device.type != c.device.type:
            c.fail(f"a code in {code.dtype} on {code.device}", f"{c.dtype} on {c.device}", code=ENCODE, x=x)
        if not code.isfinite().all():
            c.fail("a code with NaN or infinity", "finite numbers", code=ENCODE, x=x)

    c.forall(body, c.corners(), x=samples(c.modality.spec))


@check(
    "encoder.deterministic",
    fault="noise or dropout in the encoder, weights drawn anew by every encoder, a cached first batch",
    tolerance=0.0,
)
def deterministic(c: Context) -> None:
    """A sample has the same code from every encoder that is made, in training as in evaluation, whatever came before."""
    x = c.typical(6)
    torch.manual_seed(c.seed + 1)
    first = c.encoder()
    want = first(x.clone())
    c.same(first(x.clone()), want, "the second code of the same samples")
    other = c.typical(6, 1)
    alone = c.encoder()(other.clone())
    c.same(first(other.clone()), alone, "the code after other samples were encoded")
    torch.manual_seed(c.seed + 2)
    c.same(c.encoder().train()(x.clone()), want, "the code of a second encoder, in training mode")
    c.same(c.encoder().eval()(x.clone()), want, "the code of a third encoder, in evaluation mode")


@check(
    "encoder.pure", fault="x.sub_(mean) and other edits in place, a code that is a view of the sample", tolerance=0.0
)
def pure(c: Context) -> None:
    """Encoding leaves its input, the global random generator and the sample's memory alone."""
    encode = c.encoder()
    state = torch.get_rng_state()

    def body(x: Tensor) -> None:
        given = c.cast(x).clone()
        before = given.clone()
        code = encode(given)
        if not torch.equal(given, before):
            c.fail("the sample changed by being encoded", "the sample as it was", code="encode = modality.encoder(); y = x.clone(); encode(y); print((x - y).abs().max())", x=x)  # fmt: skip
        with torch.no_grad():
            code.detach().add_(1)
        if not torch.equal(given, before):
            c.fail("a code that shares its memory with the sample", "memory of its own", code=ENCODE, x=x)

    c.forall(body, c.corners(), x=samples(c.modality.spec))
    if not torch.equal(torch.get_rng_state(), state):
        c.fail("numbers drawn from torch's global generator", "none")


@check(
    "encoder.rows",
    fault="normalising by the batch's mean and deviation",
    tolerance=1e-5,
)
def rows(c: Context) -> None:
    """A sample's code does not depend on the batch: permuted, split or alone, the rows are the same."""
    encode = c.encoder()
    x = c.typical(6)
    want = encode(x.clone())
    order = torch.tensor([4, 0, 5, 2, 1, 3], device=c.device)
    c.same(encode(x[order]), want[order], "codes of the permuted batch")
    for k in range(6):
        c.same(encode(x[k : k + 1].clone()), want[k : k + 1], f"the code of sample {k} alone", like=want)

    def body(x: Tensor) -> None:
        whole = encode(c.cast(x).clone())
        for k in range(len(x)):
            code = f"encode = modality.encoder(); print(encode(x)[{k}], encode(x[{k}:{k} + 1])[0])"
            alone = encode(c.cast(x[k : k + 1]).clone())
            c.same(alone, whole[k : k + 1], f"the code of row {k} alone", like=whole, code=code, x=x)

    c.forall(body, c.corners(), x=samples(c.modality.spec))


def codes(c: Context, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of samples, ``(B, d)``, and which of their elements are known, as ones beside zeros."""
    code, known = c.encoder()(x).double().flatten(1), code_there(c.modality, x)
    return code, torch.ones_like(code) if known is None else known.flatten(1).double()


def square_deviations(code: Tensor, known: Tensor) -> Tensor:
    """Of each known element from its mean over the samples, ``(B, d)``, 0 where it is not known."""
    mean = (code * known).sum(0) / known.sum(0).clamp(min=1)
    return (code - mean).square() * known


def average_variance(square: Tensor, known: Tensor) -> tuple[float, float]:
    """The variance of known elements over all of them together, and how far it may be off."""
    each = square.mean(1) / known.mean()
    return float(each.mean()), sigmas() * float(each.std()) / len(each) ** 0.5


@check(
    "encoder.unit_variance",
    fault="raw pixels, or one-hot codes that are not scaled by their frequency",
    tolerance=0.25,
    false_alarm="1e-8 each: 5.7 standard errors of the variance beyond the tolerance",
)
def unit_variance(c: Context) -> None:
    """Over typical samples the code's elements have a variance of about 1: 0.75 to 1.25 on average, none above 4.

    An element that hardly ever varies, such as a border that is always black, may have less.
    """
    code, known = codes(c, c.typical(c.profile.draws))
    square = square_deviations(code, known)
    average, error = average_variance(square, known)
    if not 1 - c.tolerance - error <= average <= 1 + c.tolerance + error:
        c.fail(f"an average variance of {average:.3g} (± {error:.2g})", f"1 ± {c.tolerance}")
    share = known.mean(0).clamp(min=1e-9)
    each, doubt = square.mean(0) / share, sigmas(code.shape[1]) * square.std(0) / share / len(code) ** 0.5
    if (each - doubt > 4).any():
        k = int((each - doubt).argmax())
        c.fail(f"a variance of {each[k]:.3g} in element {k} of the code", "at most 4")


@check(
    "encoder.centred",
    fault="one-hot codes that are scaled but not centred",
    level="provisional",
    core=False,
    tolerance=0.5,
    false_alarm="1e-8: 5.7 standard errors beyond the tolerance",
)
def centred(c: Context) -> None:
    """Over typical samples the code's elements have means near 0, at most 0.5 in root mean square."""
    code, known = codes(c, c.typical(c.profile.draws))
    mean = (code * known).sum(0) / known.sum(0).clamp(min=1)
    found = float(mean.square().mean().sqrt())
    error = sigmas() * float(code.std(0).max()) / len(code) ** 0.5
    if found - error > c.tolerance:
        c.fail(f"a root mean square mean of {found:.3g}", f"at most {c.tolerance}")


@check("encoder.distinct", fault="a codebook with repeated rows, a vector's norm dropped", tolerance=1e-3)
def distinct(c: Context) -> None:
    """Different samples have different codes, or what is encoded could not be recovered."""
    encode, spec = c.encoder(), c.modality.spec
    x = c.modality.typical(min(512, c.profile.draws), c.seed)
    pairs = [(x[::2], x[1::2])]
    real = spec.dtype.is_floating_point and not spec.unit_norm and not isinstance(spec, PackedSpec)
    if real and spec.low is None and spec.high is None:
        pairs.append((x[:32], torch.where(spec.there(x[:32]), 2 * x[:32], x[:32])))
    if not spec.dtype.is_floating_point:
        pairs.append((x, _neighbours(x, spec.high)))
    for a, b in pairs:
        apart = (a != b).reshape(len(a), -1).any(1)
        if spec.dtype.is_floating_point:
            # Of few real numbers two may happen to be nearly equal.
            spread = x.double().std(0) if len(x) > 1 else x.double().abs()
            apart = ((a - b).double().abs() > 0.01 * spread).reshape(len(a), -1).any(1)
        if not apart.any():
            continue
        a, b = a[apart], b[apart]
        distance = (encode(c.cast(a)) - encode(c.cast(b))).abs().flatten(1).amax(1)
        if (distance < c.tolerance).any():
            k = int(distance.argmin())
            code = "encode = modality.encoder(); print(encode(a) - encode(b))"
            c.fail("two different samples with one code", "two codes", code=code, a=a[k : k + 1], b=b[k : k + 1])


def _neighbours(x: Tensor, high: float | None) -> Tensor:
    """Each row with one element changed, to every other value in turn."""
    flat = x.clone().reshape(len(x), -1)
    rows, element = torch.arange(len(x)), torch.arange(len(x)) % flat.shape[1]
    if x.dtype == torch.bool:
        flat[rows, element] = ~flat[rows, element]
    else:
        # Every value of the data, so that each pair of classes is met.
        values = x.unique()
        shift = 1 + torch.arange(len(x)) // flat.shape[1] % max(1, len(values) - 1)
        place = torch.searchsorted(values, flat[rows, element].contiguous())
        flat[rows, element] = values[(place + shift) % len(values)]
    return flat.reshape(x.shape)


@check("encoder.void", fault="a code that mixes what is void into what is known", tolerance=1e-5)
def void(c: Context) -> None:
    """Holes change nothing in what is known of a code, beside which it is 0; a sample of nothing but void has the code 0.

    Where the modality is not divisible the encoder sees holes, and its code is finite.
    """
    spec, m = c.modality.spec, c.modality
    if spec.void is None:
        raise NotRun("the spec has no void value")
    encode, n = c.encoder(), 8
    empty = torch.full((2, *spec.shape), spec.void, dtype=spec.dtype, device=c.device)
    c.same(encode(empty), torch.zeros(2, *m.code), "the code of a void sample", code=ENCODE, x=empty)
    x = spec.filled(c.typical(n))
    hole = c.rng(n, "hole").uniform(*spec.shape) < torch.linspace(0.1, 0.9, n).reshape(-1, *[1] * len(spec.shape))
    if spec.unit_norm:
        hole = hole[..., :1].expand_as(x)
    holed = torch.where(hole, torch.full_like(x, spec.void), x)
    code = encode(holed)
    if not code.isfinite().all():
        c.fail("a code of a sample with holes that has NaN or infinity", "finite numbers", code=ENCODE, x=holed)
    if m.divisible:
        known = code_there(m, holed)
        assert known is not None
        want = torch.where(known, encode(x), torch.zeros_like(code))
        c.same(code, want, "the code of a sample with holes", code=ENCODE, x=holed)


@check("encoder.frozen", fault="an encoder with weights that drift because it keeps running statistics", tolerance=0.0)
def frozen(c: Context) -> None:
    """Encoding changes nothing in the encoder: no running statistics, no counters, no cache."""
    encoder = c.encoder().train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    buffers = {k: v.clone() for k, v in encoder.named_buffers()}
    for k in range(3):
        encoder(c.typical(8, k))
    now = {**encoder.state_dict(), **dict(encoder.named_buffers())}
    for name, then in {**before, **buffers}.items():
        if not torch.equal(now[name], then):
            c.fail(f"{name} changed by encoding", "an encoder that stays as it was made")
