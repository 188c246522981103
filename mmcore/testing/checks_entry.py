"""The edges: the installed entry, the spec, and what a person gives and sees."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmcore.errors import MmcoreError, RequestError
from mmcore.modality.spec import Spec
from mmcore.plugins import Entry, discover
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, WIDTH, Context
from mmcore.testing.strategies import limits, samples

MOST_VALUES = 1024
"""Of whole numbers with limits, so many are looked at one by one; of more those that are met."""


def _entries(c: Context) -> list[Entry]:
    """The installed entries that this plugin comes from: by how it was made, or by its package."""
    package = type(c.thing).__module__.partition(".")[0]
    made = getattr(c.thing, "made", None)
    found = [
        e
        for e in discover().entries
        if e.kind == "modality"
        and (
            (made is not None and (e.distribution, e.name) == (made.distribution, made.offer))
            or (made is None and e.module.partition(".")[0] == package)
        )
    ]
    if not found:
        raise NotRun(f"no installed entry point of mmcore names the package {package}")
    return found


@check("entry.torch_free", fault="import torch, or the modality itself, in the entry module", core=False)
def torch_free(c: Context) -> None:
    """Importing the entry module imports no torch, so that listing plugins stays fast."""
    for entry in _entries(c):
        code = (
            f"import sys, json; sys.path[:] = json.loads({json.dumps(json.dumps(sys.path))}); "
            f"import {entry.module}; sys.exit(40 if 'torch' in sys.modules else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode == 40:
            c.fail(f"torch imported by {entry.module}", "the modality imported on first use only")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            c.fail(f"importing {entry.module} fails: {last}", "an import without error")


@check(
    "entry.agrees",
    fault="a hook that offers another name than the entry point, or a factory that is not there",
    core=False,
)
def agrees(c: Context) -> None:
    """What the hooks offer is what the metadata says, and its factory is there."""
    registry = discover()
    for entry in _entries(c):
        try:
            module, _, attribute = registry.offer(entry).factory.partition(":")
        except MmcoreError as error:
            c.fail(str(error), f"one Offer({entry.name!r}, …)")
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            c.fail(f"the factory {module}:{attribute}: {error!r}", "a class or a function")
        if not callable(factory):
            c.fail(f"the factory {module}:{attribute} is {factory!r}", "a class or a function")


@check("spec.protocol", fault="a spec that is a tuple, a code with a zero, a decoder without sample")
def protocol(c: Context) -> None:
    """A modality has a name, a spec, a code's shape, and parts with the methods that the engine calls."""
    m = c.modality
    if not isinstance(m.name, str) or not m.name or "." in m.name:
        c.fail(f"the name {m.name!r}", "one without dots")
    if not isinstance(m.spec, Spec):
        c.fail(f"the spec {m.spec!r}", "a mmcore.Spec")
    if not isinstance(m.code, tuple) or not m.code or not all(isinstance(n, int) and n > 0 for n in m.code):
        c.fail(f"the code's shape {m.code!r}", "a tuple of sizes, each at least 1")
    for name, part in (("encoder()", m.encoder()), ("decoder()", m.decoder(WIDTH, SPACES[0]))):
        if not isinstance(part, nn.Module):
            c.fail(f"{name} gives {type(part).__name__}", "an nn.Module")
    decoder = m.decoder(WIDTH, SPACES[0])
    for name in ("point", "sample"):
        if not callable(getattr(decoder, name, None)):
            c.fail(f"a decoder without {name}", "forward, point and sample")
    if not callable(m.loss()):
        c.fail(f"loss() gives {m.loss()!r}", "a loss term that can be called")
    if not isinstance(m.metrics(), Mapping):
        c.fail(f"metrics() gives {type(m.metrics()).__name__}", "a mapping from name to metric")
    if not m.spec.dtype.is_floating_point and not m.discrete and not _graded(c):
        c.fail(
            f"discrete = {m.discrete} with values in {m.spec.dtype} whose codes are in no order",
            "discrete = True: classes are drawn, never averaged",
        )


def _graded(c: Context) -> bool:
    """Whether whole numbers are more than classes: of three values or more, and each code between those of the values around it."""
    m = c.modality
    values = m.typical(256, c.seed)
    values = values[m.spec.there(values)].unique()
    low, high = (m.spec.low, m.spec.high) if m.spec.dtype != torch.bool else (0, 1)
    if low is not None and high is not None and high - low <= MOST_VALUES:
        values = torch.arange(int(low), int(high) + 1)
    if len(values) < 3:
        return False
    alike = values.to(m.spec.dtype).reshape(-1, *[1] * len(m.spec.shape)).expand(-1, *m.spec.shape).contiguous()
    with torch.no_grad():
        steps = m.encoder().eval()(alike).double().flatten(1).diff(dim=0)
    return bool(((steps >= 0).all(0) | (steps <= 0).all(0)).all() and (steps != 0).any())


@check("spec.typical", fault="typical samples outside the spec, or from the global generator", tolerance=0.0)
def typical(c: Context) -> None:
    """Typical samples fit the spec, are as many as asked for, and depend on the seed alone."""
    m = c.modality
    for n in (1, 7):
        torch.manual_seed(n)
        state = torch.get_rng_state()
        x = m.typical(n, c.seed)
        if not torch.equal(torch.get_rng_state(), state):
            c.fail("torch's global generator drawn from, or seeded", "left alone")
        try:
            m.spec.check(x, "typical")
        except RequestError as error:
            c.fail(str(error), "samples of the spec")
        if len(x) != n:
            c.fail(f"{len(x)} samples", f"{n}")
        torch.manual_seed(n + 1)
        c.same(m.typical(n, c.seed), x, "the same samples again")
    if torch.equal(m.typical(64, c.seed + 1), m.typical(64, c.seed)):
        c.fail("the same samples for another seed", "others")


FORMS: dict[str, Callable[[Any, Tensor], Any]] = {
    "the tensor": lambda m, x: x,
    "an array": lambda m, x: x.numpy(),
    "a list or a number": lambda m, x: x.tolist(),
    "what show gives": lambda m, x: m.show(x),
    "what raw gives": lambda m, x: m.raw(x),
}


def _form(c: Context, x: Tensor) -> tuple[str, str]:
    """The form of raw value that reads back to the samples, and what went wrong with the others."""
    wrong = []
    low, high = limits(c.modality.spec)
    near = 0.02 * (high - low) if c.modality.spec.low is not None and c.modality.spec.high is not None else 1e-3
    for name, form in FORMS.items():
        try:
            back = torch.stack([c.modality.read(form(c.modality, row.clone())) for row in x])
        except RequestError as error:
            wrong.append(f"{name}: {error}")
            continue
        if back.shape != x.shape or back.dtype != x.dtype:
            wrong.append(f"{name}: read as {tuple(back.shape[1:])} in {back.dtype}")
        elif (x.is_floating_point() and (back - x).abs().max() <= near) or torch.equal(back, x):
            return name, ""
        else:
            wrong.append(f"{name}: read as other values")
    return "", "; ".join(wrong)


@check("read.round_trip", fault="a read that scales twice, flips an axis or loses the dtype", core=False)
def round_trip(c: Context) -> None:
    """`read` takes samples back: as tensors, arrays, lists or numbers, or as `show` or `raw` gives them."""
    form, wrong = _form(c, c.modality.typical(8, c.seed))
    if not form:
        c.fail(wrong, "one form of raw value that reads back to the sample")


def _wrong(c: Context) -> dict[str, Any]:
    """Raw values that no modality of this spec can read, each by what is wrong with it."""
    m, spec = c.modality, c.modality.spec
    wrong: dict[str, Any] = {
        "an object()": object(),
        "a path that is not there": "/no/such/file/anywhere",
        "a dictionary": {"value": 1},
    }
    x = m.typical(2, c.seed)[:1]
    # One sample may be the same in several forms, as 0 is in radians and degrees.
    form, _ = _form(c, m.typical(8, c.seed))
    if form in ("the tensor", "an array"):
        make = FORMS[form]
        wrong["a value with one axis more"] = make(m, torch.stack([x[0]] * 3))
        if spec.shape:
            wrong["a value that is too long"] = make(m, torch.cat([x[0]] * 2))
        if x.is_floating_point():
            wrong["a value with NaN"] = make(m, torch.full_like(x[0], float("nan")))
        if x.dtype != torch.bool and spec.high is not None:
            # Of a large number of few digits the next whole one is the same.
            more = max(1, abs(spec.high) / 128) if x.is_floating_point() else 1
            beyond = spec.high + more if spec.void != spec.high + more else spec.high + 2 * more
            wrong["a value above the range"] = make(m, torch.full_like(x[0], beyond))
    if form == "what show gives" and isinstance(shown := m.show(x[0]), Image.Image):
        wrong["a picture of another size"] = shown.resize((shown.width + 1, shown.height + 2))
        wrong["an array of another size"] = np.zeros((shown.height + 1, shown.width + 2), dtype=np.uint8)
    return wrong


def _read(read: Callable[[Any], Any], raw: Any) -> Any:
    """What is read; None where that ends in an error of any kind."""
    try:
        return read(raw)
    except Exception:
        return None


@check(
    "read.many", fault="a read_many that reorders, rescales or reuses memory, or takes what read refuses", core=False
)
def many(c: Context) -> None:
    """`read_many` gives the tensors that `read` gives for each value, in their order, for any number of them, and raises where `read` refuses one."""
    m = c.modality
    if not hasattr(m, "read_many"):
        raise NotRun("the modality has no read_many; values are read one by one")
    x = m.typical(8, c.seed)
    form, _ = _form(c, x)
    if not form:
        raise NotRun("no form of raw value reads back to the sample")
    raws = [FORMS[form](m, row.clone()) for row in x]
    parts = [slice(0, 1), slice(1, 4), slice(4, 8)]
    # All are read before any is compared, so that memory given away twice shows.
    found = [m.read_many(raws[part]) for part in parts]
    for part, together in zip(parts, found, strict=True):
        alone = torch.stack([m.read(raw) for raw in raws[part]])
        c.same(together, alone, f"{len(alone)} values read together")
    for name, wrong in _wrong(c).items():
        if _read(m.read, wrong) is None and (taken := _read(m.read_many, [raws[0], wrong, raws[1]])) is not None:
            c.fail(
                f"{name} between others read as {type(taken).__name__} without a word", "an error, as read refuses it"
            )


@check("read.modes", fault="the colours of a palette by their numbers, what is transparent for a colour", core=False)
def modes(c: Context) -> None:
    """Of real values that are read from pictures: a picture with a palette, or opaque, is read as what it looks like, or refused."""
    m = c.modality
    if not m.spec.dtype.is_floating_point:
        raise NotRun("its values are classes, which may be the numbers of a palette")
    for x in m.typical(3, c.seed):
        shown = m.show(x)
        if not isinstance(shown, Image.Image) or shown.mode not in ("L", "RGB") or (want := _read(m.read, shown)) is None:  # fmt: skip
            raise NotRun("it reads no pictures of one or three channels, as it shows them")
        for what, picture in (("a palette", _with_palette(shown)), ("opaque", _opaque(shown))):
            try:
                got = m.read(picture)
            except RequestError:
                continue
            c.same(got[None], want[None], f"a picture that is {what}" if what == "opaque" else f"a picture with {what}")


def _with_palette(picture: Image.Image) -> Image.Image:
    """The same pixels by a palette, whose colours come from the last to the first; with more than 256 the picture itself."""
    pixels = np.asarray(picture.convert("RGB"))
    colours, which = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > 256:
        return picture
    found = Image.fromarray((len(colours) - 1 - which).reshape(pixels.shape[:2]).astype(np.uint8), "P")
    found.putpalette(colours[::-1].flatten().tolist())
    return found


def _opaque(picture: Image.Image) -> Image.Image:
    """The same with a channel of opacity, that is full."""
    return picture.convert("RGBA" if picture.mode == "RGB" else "LA")


@check(
    "read.refuses",
    fault="a KeyError from within for a wrong value, or a wrong value that is read without a word",
    core=False,
)
def refuses(c: Context) -> None:
    """`read` refuses wrong raw values by a RequestError of one line, never by another error or in silence.

    Of a value that is read nevertheless a sample of the spec may come that is plainly meant: the text itself where samples are texts, a part of
    what is too long, the mean of what has an axis more, void for NaN and for what is out of range.
    """
    m = c.modality
    x = m.typical(2, c.seed)[:1]
    for name, raw in _wrong(c).items():
        try:
            got = m.read(raw)
        except RequestError as error:
            if not str(error).strip() or "\n" in str(error).strip():
                c.fail(f"for {name} the message {str(error)!r}", "one line that says what was found and expected")
            continue
        except Exception as error:
            c.fail(f"for {name} {type(error).__name__}: {error}", "a RequestError")
        if not _meant(c, name, raw, got, x[0]):
            c.fail(f"{name} read as {type(got).__name__} without a word", "a RequestError")


def _meant(c: Context, name: str, raw: Any, got: Any, x: Tensor) -> bool:
    """Whether what was read of a wrong value is a sample that may be meant by it, ``x`` being a right one."""
    m, spec = c.modality, c.modality.spec
    try:
        spec.check(got[None], name)
    except (RequestError, TypeError):
        return False
    if isinstance(raw, str):
        texts = [text for text in (m.raw(got), m.show(got)) if isinstance(text, str) and text]
        # That a number's picture is a text too is no sign that it reads texts: the text must be there again.
        return any(raw.startswith(text) or text.startswith(raw) for text in texts)
    if name == "a value with one axis more":
        return torch.allclose(got.double(), x.double(), atol=1e-5)
    if name == "a value that is too long":
        # A window of it, along the axes that are longer.
        double = torch.cat([x] * 2).flatten() if x.ndim else x
        return got.numel() <= double.numel() and any(torch.equal(w, got.flatten()) for w in double.unfold(0, got.numel(), 1))  # fmt: skip
    if name in ("a value with NaN", "a value above the range") and spec.void is not None:
        return bool((got == spec.void).all())
    return False


@check("show.shows", fault="a show that edits its sample, or fails at the ends of the range", core=False)
def shows(c: Context) -> None:
    """`show` gives a picture or a text for every valid sample, and leaves the sample alone."""

    def body(x: Tensor) -> None:
        given = x[0].clone()
        shown = c.modality.show(given)
        if not isinstance(shown, str | Image.Image):
            c.fail(f"{type(shown).__name__}", "a PIL image or a text", code="print(modality.show(x[0]))", x=x)
        if not torch.equal(given, x[0]):
            c.fail("the sample changed by being shown", "the sample as it was", code="print(modality.show(x[0]))", x=x)

    c.forall(body, c.corners(), x=samples(c.modality.spec, rows=1))


@check("metrics.per_sample", fault="a metric averaged over the batch", core=False, tolerance=1e-5)
def per_sample(c: Context) -> None:
    """A metric is one finite number per sample, by that sample's prediction and target alone.

    NaN stands where what the target has is void.
    """
    metrics = c.modality.metrics()
    if not metrics:
        raise NotRun("the modality offers no metric")
    # No head predicts void.
    a, b = c.modality.spec.filled(c.typical(6)), c.typical(6, 1)
    for name, metric in metrics.items():
        whole = metric(a, b)
        holed = ~c.modality.spec.there(b).reshape(6, -1).all(1)
        if tuple(whole.shape) != (6,) or not (whole.isfinite() | (whole.isnan() & holed)).all():
            c.fail(f"metric {name!r} of shape {tuple(whole.shape)}", "six finite numbers, (6,)")
        for k in range(6):
            alone = metric(a[k : k + 1], b[k : k + 1])
            c.same(_numbers(alone), _numbers(whole[k : k + 1]), f"metric {name!r} of sample {k} alone")


@check(
    "metrics.void",
    fault="a score that counts pixels that nobody labelled, or void as wrong",
    core=False,
    tolerance=1e-6,
)
def void_metrics(c: Context) -> None:
    """What is predicted where the truth is void, another value or void itself, changes no metric."""
    m, spec = c.modality, c.modality.spec
    if spec.void is None or not m.metrics():
        raise NotRun("the spec has no void value" if spec.void is None else "the modality offers no metric")
    n = 8
    guess, other, truth = (spec.filled(c.typical(n, k)) for k in range(3))
    share = torch.linspace(0.2, 1, n).reshape(-1, *[1] * len(spec.shape))
    hole = c.rng(n, "hole").uniform(*spec.shape) <= share
    if spec.unit_norm:
        hole = hole[..., :1].expand_as(truth)
    truth = torch.where(hole, torch.full_like(truth, spec.void), truth)
    for name, metric in m.metrics().items():
        want = _numbers(metric(guess, truth))
        # Of a sample that is one void value the score is the metric's own affair, as no head predicts it.
        for what, moved in (("another prediction", other), *([("a prediction of void", truth)] if spec.shape else [])):
            found = _numbers(metric(torch.where(hole, moved, guess), truth))
            c.same(found, want, f"metric {name!r} after {what} where the truth is void")


def _numbers(scores: Tensor) -> Tensor:
    """With a number of its own for NaN, so that it equals itself."""
    return scores.nan_to_num(-12345.0)
