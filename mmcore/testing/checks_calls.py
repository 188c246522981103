"""Time and memory: what a plugin does again, after other calls, in tensors that were used before, beside a second of its kind."""

import contextlib
import gc
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.base import Modality
from mmcore.modality.holes import nats
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context, hollow
from mmcore.testing.made import again, others
from mmcore.testing.surroundings import holds

Calls = dict[str, Callable[..., Any]]


def _calls(c: Context, m: Modality) -> Calls:
    """All that a plugin is asked while it is used, of one encoder, decoder and loss term: each takes samples ``x`` and parameters ``p``."""
    encode, decoder, loss = hollow(m, m.encoder().to(c.device, c.dtype)), c.decoder(), partial(nats, m, m.loss())
    calls: Calls = {
        "the code": lambda x, p: encode(x),
        "the loss": lambda x, p: loss(p, x),
        "the loss of a part": lambda x, p: loss(p, x, torch.arange(x.numel()).reshape(x.shape) % 3 > 0),
        "the point": lambda x, p: decoder.point(p),
        "the draw": lambda x, p: decoder.sample(p, Rng.for_rows(c.seed, len(p), device=c.device)),
        "the expected code": lambda x, p: m.expected_code(p, encode, decoder),
        "what show gives": lambda x, p: m.show(x[0]),
        "the raw value": lambda x, p: m.raw(x[0]),
    }
    for name, metric in m.metrics().items():
        calls[f"metric {name!r}"] = lambda x, p, metric=metric: metric(x.roll(1, 0), x)
    if m.divisible:
        calls["code_where"] = lambda x, p: m.code_where(torch.arange(x.numel()).reshape(x.shape) % 3 > 0)
    return calls


def _frozen(value: Any) -> Any:
    """What is kept of an answer, whatever becomes of it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Image.Image):
        return value.mode, value.size, value.tobytes()
    return list(value) if isinstance(value, list) else value


def _same(c: Context, got: Any, want: Any, what: str) -> None:
    if isinstance(want, Tensor) and isinstance(got, Tensor):
        c.same(got, want, what)
        return
    got, want = _frozen(got), _frozen(want)
    equal = np.array_equal(got, want) if isinstance(want, np.ndarray) else got == want
    if not equal:
        c.fail(f"{what}: {str(got)[:80]}", f"{str(want)[:80]}")


@check(
    "state.history",
    fault="a cache by the tensor's identity or shape, a buffer that answers share, an average over calls",
    tolerance=1e-6,
)
def history(c: Context) -> None:
    """Answers follow from what is asked now: the same after other calls, in memory that was used before, and never changed later."""
    m = c.modality
    a, b, few = c.typical(6), c.typical(6, 1), c.typical(2, 2)
    p, q, r = c.params_at(1.0, c.seed, 6), c.params_at(1.0, c.seed + 1, 6), c.params_at(1.0, c.seed + 2, 2)
    fresh = {name: _frozen(call(b.clone(), q.clone())) for name, call in _calls(c, m).items()}
    calls = _calls(c, m)
    first = {name: call(a.clone(), p.clone()) for name, call in calls.items()}
    kept = {name: _frozen(answer) for name, answer in first.items()}
    for name, call in calls.items():
        call(few.clone(), r.clone())
        _same(c, call(b.clone(), q.clone()), fresh[name], f"{name} after other calls")
    for name, answer in first.items():
        _same(c, answer, kept[name], f"{name} of before, after other calls")
    # A loader fills the same tensors again and again.
    x, params = a.clone(), p.clone()
    for name, call in calls.items():
        x.copy_(a)
        params.copy_(p)
        _same(c, call(x, params), kept[name], f"{name} asked again")
        x.copy_(b)
        params.copy_(q)
        _same(c, call(x, params), fresh[name], f"{name} after its tensors were filled with other values")
    before = m.typical(6, c.seed)
    own = before.clone()
    before.zero_() if before.dtype != torch.bool else before.fill_(False)
    c.same(m.typical(6, c.seed), own, "typical samples after those given before were changed")


@check("state.grows", fault="a list or a table to which every call adds, with the memory of a whole training")
def grows(c: Context) -> None:
    """Calls leave nothing behind: what the plugin holds, and its modules, do not grow with every call."""
    m, calls = c.modality, _calls(c, c.modality)
    raws = [m.raw(row) for row in m.typical(2, c.seed)]
    roots: list[Any] = [m, *calls.values(), *_modules(m)]
    x, p = c.typical(3), c.params_at(1.0, c.seed, 3)
    done, rounds = 0, 12

    def once() -> None:
        nonlocal done
        done += 1
        for call in calls.values():
            call((x.clone() if not x.is_floating_point() else x.roll(done, 0)), p.roll(done, 0))
        with contextlib.suppress(RequestError):
            m.read(raws[done % 2])
        m.typical(2, done)

    def grown(after: int) -> int:
        """How much more is held after some rounds, once these many were done before."""
        for _ in range(after):
            once()
        before = holds(*roots)
        for _ in range(rounds):
            once()
        gc.collect()
        return holds(*roots) - before

    # What grows may still have an end, as a cache of the latest hundred has.
    if min(grown(3), grown(0)) >= rounds and (more := grown(300)) >= rounds:
        c.fail(f"{more} more things held after {rounds} more calls, {done - rounds} after the first", "no more")


def _modules(m: Modality) -> list[types.ModuleType]:
    """The plugin's own modules."""
    names = {cls.__module__ for cls in type(m).__mro__ if not cls.__module__.startswith(("mmcore.", "builtins", "abc", "torch"))}  # fmt: skip
    tops = {name.partition(".")[0] for name in names} - {"mmcore", "__main__", "tests"}
    found = {name for name in sys.modules if name in names or name.partition(".")[0] in tops}
    return [sys.modules[name] for name in found if sys.modules[name] is not None]


@check(
    "state.instances",
    fault="a table of the class or of its module, which the next modality that is made writes over",
    tolerance=1e-6,
)
def instances(c: Context) -> None:
    """Two of its kind share nothing: making and using others, with other options, changes no answer of the first."""
    m = c.modality
    x, p = c.typical(4), c.params_at(1.0, c.seed, 4)
    calls = _calls(c, m)
    before = {name: _frozen(call(x.clone(), p.clone())) for name, call in calls.items()}
    twins = others(m)
    if not twins:
        raise NotRun("its constructor takes no other options, so there is only one of its kind")
    for twin in twins:
        # Made again: all were made before any is used.
        twin = again(twin)
        own = attrs.evolve(c, thing=twin)
        # Whether options work that were made up here is not the question.
        with contextlib.suppress(Exception):
            for call in _calls(own, twin).values():
                call(c.cast(twin.typical(4, c.seed + 1)), own.params_at(1.0, 1, 4))
        for name, call in calls.items():
            _same(c, call(x.clone(), p.clone()), before[name], f"{name} after a second modality was made with {twin.arguments[1]!r}")  # fmt: skip
        for name, call in _calls(c, m).items():
            _same(c, call(x.clone(), p.clone()), before[name], f"{name} by parts made after a second modality")
    _twins_are_right(c, twins)


def _twins_are_right(c: Context, twins: list[Modality]) -> None:
    """A second modality whose codes are not as they should be has not got them from a table of the first."""
    x = c.modality.typical(4000, c.seed)
    if not 0.7 < float(c.encoder()(c.cast(x)).detach().double().var(0).mean()) < 1.4:
        return
    for twin in twins:
        if twin.discrete != c.modality.discrete or twin.spec.dtype != c.modality.spec.dtype:
            continue
        if twin.spec.dtype.is_floating_point:
            continue
        samples = c.cast(twin.typical(4000, c.seed))
        code = attrs.evolve(c, thing=twin).encoder()(samples).detach().double()
        found = float((code - code.mean(0)).square().mean())
        # Samples that do not follow the option have another variance too, but not by the first one's codes.
        if 0.6 < found < 1.6 or not torch.equal(code, c.encoder()(samples).detach().double()):
            continue
        c.fail(f"codes of a second modality, made with {twin.arguments[1]!r}, of variance {found:.3g}, which are the first one's", "its own, of variance about 1")  # fmt: skip
