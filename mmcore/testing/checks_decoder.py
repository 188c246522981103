"""Decoders: from features to a distribution, its point, its draws and its expected code."""

import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, WIDTH, Context
from mmcore.testing.reached import wide
from mmcore.testing.statistics import heavy, mean_bound, of_draws
from mmcore.testing.strategies import choice, whole

SCALES = choice([0.1, 1.0, 10.0, 100.0])
SEEDS = whole(999)
DRAW_EXPECTED = "from mmcore import Space\ndecoder = modality.decoder(6, Space((4, 4, 4)))\nprint(modality.expected_code(params, modality.encoder(), decoder))"
DRAW = "from mmcore import Rng, Space\ndecoder = modality.decoder(6, Space((4, 4, 4)))\nprint(decoder.{}(params{}))"


@check(
    "decoder.params",
    fault="a head that fits one grid only, or parameters without a row per sample",
    dtypes=("float32", "float64"),
)
def params(c: Context) -> None:
    """In spaces of one to three axes the parameters have a row per sample, the features' dtype, and finite values."""
    for space in SPACES:
        out = c.decoder(space)(*c.features(3, space))
        if not isinstance(out, Tensor) or out.ndim < 1 or len(out) != 3:
            c.fail(f"parameters of shape {tuple(getattr(out, 'shape', ()))} in {space}", "(B, ...) with B = 3")
        if out.dtype != c.dtype or out.device.type != c.device.type:
            c.fail(f"parameters in {out.dtype} on {out.device}", f"{c.dtype} on {c.device}")
        if not out.isfinite().all():
            c.fail(f"parameters with NaN or infinity in {space}", "finite numbers")


@check("decoder.rows", fault="batch norm in the head", tolerance=1e-5)
def rows(c: Context) -> None:
    """A sample's parameters do not depend on the batch that it is in."""
    # As it is trained: a batch norm averages over the batch in training mode only.
    decoder = c.decoder().train()
    features, t = c.features(6)
    whole = decoder(features, t)
    order = torch.tensor([4, 0, 5, 2, 1, 3], device=c.device)
    c.same(decoder(features[order], t[order]), whole[order], "parameters of the permuted batch")
    for k in range(0, 6, 2):
        alone = decoder(features[k : k + 2], t[k : k + 2])
        c.same(alone, whole[k : k + 2], f"parameters of rows {k} and {k + 1} alone", like=whole)


def _inside(c: Context, what: str, x: Tensor, params: Tensor) -> None:
    code = DRAW.format(what, "" if what == "point" else ", Rng.for_rows(0, len(params))")
    try:
        c.modality.spec.check(x, what)
    except RequestError as error:
        c.fail(str(error), f"a {what} inside the spec", code=code, params=params)


@check("decoder.point", fault="a mean that leaves the range, class indices as floats, a vector off the unit sphere")
def point(c: Context) -> None:
    """The point is inside the spec, whatever parameters the head gives."""

    def body(scale: float, seed: int) -> None:
        params = c.params_at(scale, seed)
        _inside(c, "point", c.decoder().point(params), params)

    c.forall(body, scale=SCALES, seed=SEEDS)


@check(
    "decoder.sample", fault="draws of a Gaussian that are not clipped into the range, an embedding that drops its norm"
)
def sample(c: Context) -> None:
    """A draw is inside the spec, whatever parameters the head gives."""

    def body(scale: float, seed: int) -> None:
        params = c.params_at(scale, seed)
        _inside(c, "sample", c.decoder().sample(params, Rng.for_rows(seed, 1, device=c.device)), params)

    c.forall(body, scale=SCALES, seed=SEEDS)


@check(
    "decoder.repeatable", fault="torch.randn_like or Tensor.multinomial in sample: the global generator", tolerance=0.0
)
def repeatable(c: Context) -> None:
    """Draws depend on the rng that is given alone: the same again, others for another seed, the global generator left alone."""
    decoder, p = c.decoder(), c.params_at(1.0, c.seed, 64)
    torch.manual_seed(c.seed + 1)
    state = torch.get_rng_state()
    first = decoder.sample(p.clone(), c.rng(64))
    if not torch.equal(torch.get_rng_state(), state):
        c.fail("numbers drawn from torch's global generator", "from the rng alone", code="state = torch.get_rng_state()\n" + DRAW.format("sample", ", Rng.for_rows(0, len(params))") + "\nprint(torch.equal(torch.get_rng_state(), state))", params=p[:1])  # fmt: skip
    torch.manual_seed(c.seed + 2)
    c.same(decoder.sample(p.clone(), c.rng(64)), first, "the same draw again")
    if torch.equal(decoder.sample(p.clone(), c.rng(64, "another")), first):
        c.fail("the same draws from another rng", "others")


@check(
    "decoder.sample_rows",
    fault="numbers drawn for the batch as a whole, so that its size decides a row's",
    tolerance=1e-5,
)
def sample_rows(c: Context) -> None:
    """A row's draw depends on its own parameters and its own row of the rng, not on the batch's size."""
    decoder, p = c.decoder(), c.params_at(1.0, c.seed, 24)
    whole = decoder.sample(p.clone(), c.rng(24))
    for start, stop in ((2, 5), (5, 24), (23, 24)):
        rng = Rng.for_rows(c.seed, stop - start, start=start, device=c.device).of(f"{c.check.id}/")
        part = decoder.sample(p[start:stop].clone(), rng)
        c.same(part, whole[start:stop], f"the draws of rows {start} … {stop - 1} alone", like=whole)


@check(
    "decoder.answers",
    fault="a point that uses the head's weights, which sharded training does not have there; draws in training and the mode in evaluation",
    tolerance=1e-6,
)
def answers(c: Context) -> None:
    """`point` and `sample` read the parameters, not the module: any decoder of the modality gives the same, in training as in evaluation."""
    p = c.params_at(1.0, c.seed, 8)
    one, other = c.decoder(), c.decoder(SPACES[0], more=1)
    for what, mode in (("training", one.train()), ("evaluation", c.decoder().eval())):
        c.same(mode.point(p.clone()), other.point(p.clone()), f"the point in {what}")
        c.same(mode.sample(p.clone(), c.rng(8, "modes")), other.sample(p.clone(), c.rng(8, "modes")), f"the draw in {what}")  # fmt: skip
    c.same(other.point(p.clone()), one.point(p.clone()), "the point by another decoder")
    c.same(other.sample(p.clone(), c.rng(8)), one.sample(p.clone(), c.rng(8)), "the draw by another decoder")
    whole = one.point(p.clone())
    c.same(one.point(p[3:5].clone()), whole[3:5], "the point of rows 3 and 4 alone", like=whole)


@check("decoder.pure", fault="parameters clamped in place in point or sample", tolerance=0.0)
def pure(c: Context) -> None:
    """`forward`, `point`, `sample` and `expected_code` leave what they are given as it was."""
    decoder, encode = c.decoder(), c.encoder()
    features, t = c.features(4)
    kept = features.clone()
    decoder(features, t)
    c.same(features, kept, "features after forward")

    def body(scale: float, seed: int) -> None:
        given = c.params_at(scale, seed, 4)
        before = given.clone()
        calls = {
            "point": lambda: decoder.point(given),
            "sample": lambda: decoder.sample(given, c.rng(4)),
            "expected_code": lambda: c.modality.expected_code(given, encode, decoder),
        }
        for name, call in calls.items():
            call()
            c.same(given, before, f"parameters after {name}")

    c.forall(body, scale=SCALES, seed=SEEDS)


@check(
    "expected_code.draws",
    fault="the code of the likeliest class, or of the mode of a skew distribution, for the mean code",
    tolerance=1e-4,
    false_alarm="1e-8 per row of parameters: the empirical Bernstein bound over all elements",
)
def expected_code_draws(c: Context) -> None:
    """The expected code is the mean of the codes of draws.

    For real values with limits this is asked where draws keep off the limits, and of no element whose draws have so
    heavy a tail that their mean says little.
    """
    settled = c.settled_params(8)
    # Settled ones are narrow, so that a median is hardly another than the mean.
    encode, p = c.encoder(), torch.cat([settled, wide(c, 8)])
    n = len(p)
    usual = encode(c.typical(1024)).double().flatten(1)
    ends = torch.stack([usual.amin(0), usual.amax(0)])
    with torch.no_grad():
        expected = c.modality.expected_code(p, encode, c.decoder())
        want = (n, *c.modality.code)
        if tuple(expected.shape) != want:
            c.fail(f"an expected code of shape {tuple(expected.shape)}", f"(B, *code) = {want}")
        decided = 0
        for k in range(n):
            codes = encode(c.draws(p[k : k + 1], c.profile.draws, f"row {k}")).double().flatten(1)
            # What is too rare to be drawn here is met in the data.
            reach = torch.maximum(ends[1], codes.amax(0)) - torch.minimum(ends[0], codes.amin(0))
            if c.modality.discrete:
                reach = reach.clamp(min=float(ends[1].max() - ends[0].min()))
            gap = (codes.mean(0) - expected[k].double().flatten()).abs()
            bound = mean_bound(codes, reach) + c.tolerance + of_draws(c.modality.code_draws, codes)
            judged = torch.ones_like(gap, dtype=torch.bool) if c.modality.discrete else ~heavy(codes)
            decided += int(judged.sum())
            gap = torch.where(judged, gap, torch.zeros_like(gap))
            if (gap > bound).any():
                e = int((gap - bound).argmax())
                code = DRAW_EXPECTED
                (c.fault if k < len(settled) else c.fail)(
                    f"an expected code of {float(expected[k].flatten()[e]):.4g} in element {e}",
                    f"{codes[:, e].mean():.4g} (± {bound[e]:.2g}), the mean over {len(codes)} draws",
                    code=code,
                    params=p[k : k + 1],
                )
        if not decided:
            raise NotRun("not decided: a few draws far out make up the mean of all codes")


@check("expected_code.rows", fault="an expected code averaged over the batch", tolerance=1e-5)
def expected_code_rows(c: Context) -> None:
    """A sample's expected code does not depend on the batch, nor on chance."""
    encode, p = c.encoder(), c.params_at(1.0, c.seed, 6)
    torch.manual_seed(c.seed + 1)
    decoder = c.decoder()
    whole = c.modality.expected_code(p, encode, decoder)
    torch.manual_seed(c.seed + 2)
    order = torch.tensor([4, 0, 5, 2, 1, 3], device=c.device)
    c.same(c.modality.expected_code(p[order], encode, decoder), whole[order], "expected codes of the permuted batch")
    c.same(
        c.modality.expected_code(p[2:3], encode, decoder), whole[2:3], "the expected code of row 2 alone", like=whole
    )


@check("decoder.follows_features", fault="a head that ignores its features", core=True)
def follows_features(c: Context) -> None:
    """Other features give other parameters, and the gradient reaches the features and every weight of the head."""
    decoder = c.decoder()
    features, t = c.features(4)
    features.requires_grad_()
    out = decoder(features, t)
    if not out.requires_grad:
        c.fail("parameters without a gradient", "a gradient to the features")
    out.double().square().sum().backward()
    missing = [name for name, p in decoder.named_parameters() if p.grad is None]
    if features.grad is None or not features.grad.abs().sum() > 0:
        c.fail("no gradient at the features", "one that is not zero")
    if missing:
        c.fail(
            f"weights without a gradient: {', '.join(missing)}",
            "every weight in use (an unused one hangs training on many devices)",
        )
    if not any(True for _ in decoder.parameters()):
        raise NotRun(f"the head has no weights, so there is nothing that could learn from {WIDTH} channels")
