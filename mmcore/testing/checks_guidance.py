"""Guidances: how predictions with and without observations are combined. The plugin is what makes one, given ``scales``."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from mmcore.errors import MmcoreError, RequestError
from mmcore.process import schedule
from mmcore.sampling.ask import sample
from mmcore.sampling.denoiser import Here
from mmcore.sampling.guidance import Guidance
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context, renamed
from mmcore.testing.reference import Reference
from mmcore.testing.surroundings import holds, left_alone, reseed

PLACES = 6
"""Code elements of those that are combined."""
TIMES = (1, 30, 250, 500, 750, 970, 1000)
"""Timesteps at which it is asked: it may act at some only."""
MANY = {"one": 3.0, "two": 2.0}


def _guidance(c: Context, scales: Mapping[str, float]) -> Guidance:
    return c.thing(scales=dict(scales))


def _names(c: Context, guidance: Guidance, scales: Collection[str]) -> list[str]:
    """The names that it asks for, checked."""
    found = guidance.names()
    if isinstance(found, str) or not isinstance(found, Collection):
        c.fail(f"the names {found!r}", "a list of modality names")
    names = list(found)
    if len(set(names)) != len(names) or not set(names) <= set(scales):
        c.fail(f"the names {names} with scales for {', '.join(scales)}", "some of these, each once")
    return names


def _guided(c: Context) -> Guidance:
    """One with scales above 1 that asks for a prediction without an observation; else there is nothing to combine."""
    guidance = _guidance(c, MANY)
    if not _names(c, guidance, MANY):
        if told := _names(c, _guidance(c, dict.fromkeys(MANY, 1.0)), MANY):
            c.fail(
                f"predictions asked for without {', '.join(told)} at scales of 1, and none at others",
                "those of other scales than 1",
            )
        raise NotRun("it asks for no prediction without an observation")
    return guidance


def _given(c: Context, names: Collection[str], n: int = 5, more: str = "") -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Predictions ``(n, PLACES)`` with all observations, without each, and noisy latents."""
    rng = c.rng(n, f"guidance{more}")
    codes = rng.of("codes").normal(PLACES, dtype=c.dtype)
    without = {name: codes + rng.of(name).normal(PLACES, dtype=c.dtype) for name in names}
    return codes, without, rng.of("z").normal(2, 4, dtype=c.dtype)


def _put(guidance: Guidance, codes: Tensor, without: Mapping[str, Tensor], z: Tensor, t: int) -> Tensor:
    return guidance.combine(codes.clone(), {name: x.clone() for name, x in without.items()}, Here(z.clone(), t))


@check(
    "guidance.combine",
    kind="guidance",
    fault="another shape or dtype, NaN where two predictions agree",
    dtypes=("float32", "float64", "bfloat16"),
)
def combine(c: Context) -> None:
    """The combination is finite and has the shape and dtype of the codes, at every timestep, also of one row and where predictions agree."""
    for scales in (MANY, {"one": 1.5}, {"two": 7.0}, {"one": 1.0, "two": 1.0}, {"one": 0.0, "two": 2.0}):
        guidance = _guidance(c, scales)
        names = _names(c, guidance, scales)
        for t in TIMES:
            for n in (1, 5):
                codes, without, z = _given(c, names, n)
                same = dict.fromkeys(without, codes)
                nothing = {name: torch.zeros_like(codes) for name in without}
                for a, b in ((codes, without), (codes, same), (torch.zeros_like(codes), nothing)):
                    found: Any = _put(guidance, a, b, z, t)
                    if not isinstance(found, Tensor) or found.shape != codes.shape or found.dtype != codes.dtype:
                        kind = (
                            f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
                        )
                        c.fail(f"a combination {kind}", f"{tuple(codes.shape)} {codes.dtype}")
                    if not found.isfinite().all():
                        c.fail(f"NaN or infinity at t = {t} with scales {scales}", "finite codes")


@check("guidance.neutral", kind="guidance", fault="a scale of 1 that guides, weights off by one", tolerance=1e-5)
def neutral(c: Context) -> None:
    """With every scale 1 it gives what is predicted with all that is observed; one scale of 1 adds nothing to the others."""
    _guided(c)
    for scales in ({"one": 1.0}, {"one": 1.0, "two": 1.0}):
        guidance = _guidance(c, scales)
        names = _names(c, guidance, scales)
        for t in TIMES:
            for asked in {tuple(names), tuple(scales)} if names else {()}:
                codes, without, z = _given(c, asked)
                c.same(_put(guidance, codes, without, z, t), codes, f"the codes with all scales 1 at t = {t}")
    one, both = _guidance(c, {"one": 3.0}), _guidance(c, {"one": 3.0, "two": 1.0})
    for t in TIMES:
        codes, without, z = _given(c, ("one", "two"))
        mine = {name: without[name] for name in one.names()}
        theirs = {name: without[name] for name in both.names()}
        c.same(
            _put(both, codes, theirs, z, t),
            _put(one, codes, mine, z, t),
            f"the codes with a scale of 1 beside another at t = {t}",
        )


@check(
    "guidance.agrees", kind="guidance", fault="predictions scaled as a whole, a constant that is added", tolerance=1e-5
)
def agrees(c: Context) -> None:
    """Where leaving out an observation changes nothing, there is nothing to follow: the codes stay as they are."""
    guidance = _guided(c)
    for t in TIMES:
        codes, without, z = _given(c, guidance.names())
        c.same(_put(guidance, codes, dict.fromkeys(without, codes), z, t), codes, f"the codes at t = {t}")


@check(
    "guidance.scales",
    kind="guidance",
    fault="a scale that is not read, scales exchanged, the wrong direction",
    tolerance=1e-4,
)
def scales(c: Context) -> None:
    """A scale above 1 leads away from what is predicted without its observation, a larger one further, and each scale is its own modality's.

    One below 1 leads the other way, where it asks for a prediction; one near 1 leads hardly anywhere. At one timestep at least: it may leave others alone.
    """
    _guided(c)
    for name in MANY:
        way: dict[float, list[float]] = {}
        for g in (1.5, 3.0, 6.0, 1.001, 0.0, 0.5):
            try:
                guidance = _guidance(c, {name: g})
            except RequestError:
                if g > 1:
                    raise
                continue
            way[g] = []
            if not guidance.names():
                if g < 1:  # It may be for larger ones only.
                    del way[g]
                    continue
                c.fail(f"no prediction asked for without {name!r} at a scale of {g:g}", "one")
            for t in TIMES:
                codes, without, z = _given(c, (name,), 64)
                off = (codes - without[name]).double()
                moved = (_put(guidance, codes, without, z, t) - codes).double()
                way[g].append(float((moved * off).sum() / off.square().sum()))
        if not max(way[1.5]) > 1e-3:
            c.fail(f"codes that move by {max(way[1.5]):.3g} of the difference at a scale of 1.5 for {name!r}", "away from what is predicted without it")  # fmt: skip
        if not max(way[6.0]) > max(way[3.0]) > max(way[1.5]):
            c.fail(f"codes that move by {max(way[1.5]):.3g}, {max(way[3.0]):.3g} and {max(way[6.0]):.3g} at scales of 1.5, 3 and 6 for {name!r}", "further by a larger scale")  # fmt: skip
        if not max(map(abs, way[1.001])) < 0.1:
            c.fail(f"codes that move by {max(way[1.001], key=abs):.3g} of the difference at a scale of 1.001 for {name!r}", "hardly anywhere, as a scale of 1 is none")  # fmt: skip
        for g in (0.0, 0.5):
            if g in way and not min(way[g]) < -1e-3:
                c.fail(f"codes that move by {min(way[g]):.3g} of the difference at a scale of {g:g} for {name!r}", "towards what is predicted without it, or a refusal")  # fmt: skip
    for t in TIMES:
        codes, without, z = _given(c, MANY)
        alone = dict(without, two=codes)
        other = [_put(_guidance(c, {"one": 3.0, "two": g}), codes, alone, z, t) for g in (2.0, 5.0)]
        c.same(other[1], other[0], f"the codes by another scale of a modality that says nothing, at t = {t}")


@check("guidance.order", kind="guidance", fault="predictions taken by their place and not their name", tolerance=1e-5)
def order(c: Context) -> None:
    """Predictions are told apart by their names: in another order they give the same, and so do the scales."""
    guidance, other = _guided(c), _guidance(c, dict(reversed(MANY.items())))
    for t in TIMES:
        codes, without, z = _given(c, guidance.names())
        want = _put(guidance, codes, without, z, t)
        c.same(
            _put(guidance, codes, dict(reversed(without.items())), z, t),
            want,
            f"the codes at t = {t}, named in another order",
        )
        c.same(_put(other, codes, without, z, t), want, f"the codes at t = {t} by scales in another order")


@check("guidance.rows", kind="guidance", fault="a norm over the batch, a threshold by all rows", tolerance=1e-5)
def rows(c: Context) -> None:
    """A row's codes follow from its own predictions: the same alone, in another order, and beside others."""
    guidance = _guided(c)
    for t in TIMES:
        codes, without, z = _given(c, guidance.names(), 6)
        codes[3] *= 20
        whole = _put(guidance, codes, without, z, t)
        for some in ([0], [3], [4, 0, 5, 2, 1, 3], [1, 2]):
            part = _put(guidance, codes[some], {name: x[some] for name, x in without.items()}, z[some], t)
            c.same(part, whole[some], f"the codes of rows {some} of 6 at t = {t}", like=whole)


@check(
    "guidance.pure",
    kind="guidance",
    fault="predictions changed in place, a moving average from call to call",
    tolerance=0.0,
)
def pure(c: Context) -> None:
    """The same predictions give the same codes, whatever was asked before and by another made alike; what it is given stays as it was.

    It is told nothing of where a run begins, so it can keep nothing from step to step. Global generators are left alone.
    """
    guidance = _guided(c)
    for t in (970, 500, 30):
        codes, without, z = _given(c, guidance.names())
        kept = [codes.clone(), *(x.clone() for x in without.values()), z.clone()]
        with left_alone(c, "in combine"):
            first = guidance.combine(codes, without, Here(z, t))
        if any(not torch.equal(a, b) for a, b in zip(kept, (codes, *without.values(), z), strict=True)):
            c.fail("predictions or latents changed in place", "codes of its own")
        first = first.clone()
        reseed(c.seed + 1)
        for more in (990, 400, 2):
            for n in (3, 5):
                _put(guidance, *_given(c, guidance.names(), n, str(more)), more)
        c.same(_put(guidance, codes, without, z, t), first, f"the codes of the same predictions again at t = {t}")
        c.same(_put(_guidance(c, MANY), codes, without, z, t), first, f"the codes by another made alike at t = {t}")
    before = holds(guidance)
    for k in range(4):
        _put(guidance, *_given(c, guidance.names(), 3, f"grows {k}"), 300 + k)
    if holds(guidance) > before + 1:
        c.fail("a guidance that holds more after every call", "one that keeps nothing")


@check("guidance.refuses", kind="guidance", fault="a scale that is no number taken in silence", level="provisional", core=False)  # fmt: skip
def refuses(c: Context) -> None:
    """A scale that is no finite number is refused as it is made, in a script too: the engine gives none by name."""
    _guided(c)
    for wrong in (float("nan"), float("inf"), "strong", None):
        try:
            _guidance(c, {"one": wrong})  # type: ignore[dict-item]
        except (TypeError, ValueError, MmcoreError):
            continue
        c.fail(f"a scale of {wrong!r} taken", "a refusal")


@check("guidance.device", kind="guidance", fault="a tensor made on the CPU, a loop over values", core=False)
def device(c: Context) -> None:
    """It computes where the codes are; asked with torch's meta device."""
    guidance = _guided(c)
    for t in TIMES:
        codes, without, z = _given(c, guidance.names())
        found = guidance.combine(codes.to("meta"), {k: x.to("meta") for k, x in without.items()}, Here(z.to("meta"), t))
        if found.device.type != "meta":
            c.fail(f"codes on {found.device}", "on the device of those that it was given")


@check("guidance.samples", kind="guidance", fault="an answer that the batch's size changes", tolerance=2e-4)
def samples(c: Context) -> None:
    """With a model in one block or two it samples what fits, gives back what is observed, and gives the same in batches of one and all."""
    members = [renamed(Reference(3), "one"), renamed(Reference(4), "two"), renamed(Reference(2), "three")]
    given = {m.name: m.typical(4, c.seed) for m in members[:2]}
    for layout in ("shared", "separate"):
        model = c.compose(members, layout, schedule.cosine(40, 3))
        guidance = _guidance(c, MANY)
        answers = [
            sample(model, 4, given=given, guidance=guidance, steps=5, seed=c.seed, batch_size=size) for size in (4, 1)
        ]
        members[2].spec.check(answers[0]["three"], f"sampled under guidance, layout {layout!r}")
        if any(not torch.equal(answers[0][name], x) for name, x in given.items()):
            c.fail("another value of what is observed", "what was given")
        c.same(answers[1]["three"], answers[0]["three"], f"answers in batches of one, layout {layout!r}")
