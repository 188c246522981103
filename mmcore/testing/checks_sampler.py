"""Samplers: put to Gaussian codes, whose answer is known, and to a small model. The plugin is what makes one."""

import itertools
from typing import Any

import torch
from torch import Tensor

from mmcore.errors import MmcoreError
from mmcore.rng import Rng
from mmcore.sampling.denoiser import CODES, Here
from mmcore.sampling.samplers import SPACINGS, Sampler, decreasing
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.gaussian import STEPS, Known, process, walk
from mmcore.testing.surroundings import holds, left_alone, reseed

REFUSALS = (TypeError, ValueError, MmcoreError)


def sampler_of(c: Context, **options: Any) -> Sampler:
    """One of it, with these options of those that the engine gives, as far as it takes them."""
    try:
        return c.thing(**options)
    except REFUSALS:
        return c.thing()


def asked_sampler(c: Context, **options: Any) -> tuple[Sampler, list[int]] | None:
    """One of it with these options and its path; None where it refuses them, as it may."""
    try:
        made = c.thing(**options)
        path = made.path(process(1))
    except REFUSALS:
        return None
    return made, checked_path(c, made, path)


def checked_path(c: Context, sampler: Sampler, path: Any, begin: int = STEPS) -> list[int]:
    """The path as whole numbers, if it is one."""
    told = decreasing(path.tolist() if isinstance(path, Tensor) else path)
    if told is None or told[0] != begin:
        text = repr(path)
        c.fail(f"the path {text[:200]}", f"decreasing whole numbers from {begin}, none below 1")
    return told


def sample_rng(c: Context, n: int) -> Rng:
    return Rng.for_rows(c.seed, n).of("sample")


@check("sampler.path", kind="sampler", fault="timesteps that rise, repeat, begin short of T or end at 0")
def path(c: Context) -> None:
    """It visits decreasing whole timesteps: the first where sampling begins, none below 1, the last near the clean end; one step is one.

    Asked for processes of 1, 2, 10 and 1000 timesteps, and for edits that begin in between.
    """
    for steps in (1, 2, 10, 1000):
        for blocks in (1, 2):
            of = process(blocks, steps)
            for begin in (None, *({1, (steps + 1) // 2, steps})):
                sampler = c.thing()
                found = checked_path(c, sampler, sampler.path(of, begin), steps if begin is None else begin)
                if len(found) > 1 and found[-1] > max(1, found[0] // 10):
                    c.fail(f"a path from {found[0]} that ends at {found[-1]}", "one that ends near 1")
                if found != checked_path(c, sampler, sampler.path(of, begin), found[0]):
                    c.fail("another path when it is asked again", "the same")
    if (one := asked_sampler(c, steps=1)) is not None and one[1] != [STEPS]:
        c.fail(f"{one[1]} as the path of one step", f"[{STEPS}]")


@check(
    "sampler.options",
    kind="sampler",
    fault="steps, a spacing, codes or an eta that are taken and not followed",
    core=False,
)
def options(c: Context) -> None:
    """What the engine may give, `steps`, `spacing`, `codes` and `eta`, is followed or refused: a constructor that takes it does it."""
    for steps in (1, 2, 5, 40):
        asked = asked_sampler(c, steps=steps)
        if asked is not None and not (len(asked[1]) == steps or steps * 0.7 <= len(asked[1]) <= steps > 5):
            c.fail(f"steps = {steps} and a path of {len(asked[1])}", f"{steps} timesteps, or a refusal")
    for own in ([STEPS, 300, 7], (STEPS, 500)):
        asked = asked_sampler(c, steps=own)
        if asked is not None and asked[1] != list(own):
            c.fail(f"steps = {own} and the path {asked[1]}", "these timesteps, or a refusal")
    spaced = {spacing: asked_sampler(c, steps=10, spacing=spacing) for spacing in SPACINGS}
    if all(spaced.values()) and len({tuple(asked[1]) for asked in spaced.values() if asked}) == 1:
        c.fail("one path for both spacings", "another path for 'snr' than for 'time', or a refusal")
    for codes in CODES:
        asked = asked_sampler(c, codes=codes)
        if asked is not None and asked[0].codes != codes:
            c.fail(f"codes = {asked[0].codes!r} where {codes!r} was asked for", f"{codes!r}, or a refusal")
    for wrong in ({"steps": 0}, {"steps": -3}, {"steps": [5, 9]}, {"spacing": "moon"}, {"codes": "guess"}, {"eta": -0.5}, {"eta": 1.5}):  # fmt: skip
        if (asked := asked_sampler(c, **wrong)) is not None:
            told = ", ".join(f"{name} = {value!r}" for name, value in wrong.items())
            c.fail(f"{told} taken, with the path {asked[1][:5]}", "a refusal")


@check("sampler.eta", kind="sampler", fault="an eta that is taken and not followed", core=False)
def eta(c: Context) -> None:
    """Where it takes `eta`, 0 makes the way deterministic and 1 draws: with 0 two streams of numbers give the same, with 1 they do not."""
    asked = {value: asked_sampler(c, steps=6, eta=value) for value in (0.0, 1.0)}
    if not all(asked.values()):
        raise NotRun("it takes no eta")
    known = Known(process(1))
    z = known.begin(sample_rng(c, 4))
    for value, made in asked.items():
        assert made is not None
        ends = [walk(made[0], known, made[1], Rng.for_rows(c.seed + k, 4), z) for k in (1, 2)]
        apart = float((ends[0] - ends[1]).abs().max())
        if (apart > 1e-9) != (value == 1.0):
            drawn = "that depends on the random numbers" if apart > 1e-9 else "that no random number changes"
            c.fail(f"a way with eta = {value} {drawn}", "one without draws for 0, with draws for 1")


@check(
    "sampler.step",
    kind="sampler",
    fault="latents of another shape or dtype, NaN at an end",
    dtypes=("float32", "float64", "bfloat16"),
)
def step(c: Context) -> None:
    """A step gives finite latents of the shape and dtype that it began from, in spaces of one to three axes and of several blocks."""
    for grid in ((2,), (2, 4), (2, 1, 3)):
        for blocks in (1, 2):
            known = Known(process(blocks), c.dtype, grid=grid)
            for sampler in (c.thing(), sampler_of(c, steps=4)):
                each: list[Tensor] = []
                for n in (1, 3):
                    walk(
                        sampler,
                        known,
                        checked_path(c, sampler, sampler.path(known.process)),
                        sample_rng(c, n),
                        each=each,
                    )
                    for z in each:
                        if not isinstance(z, Tensor) or z.shape != (n, *known.shape) or z.dtype != c.dtype:
                            found = f"{tuple(z.shape)} {z.dtype}" if isinstance(z, Tensor) else type(z).__name__
                            c.fail(f"latents {found} after a step", f"{(n, *known.shape)} {c.dtype}")
                        if not z.isfinite().all():
                            c.fail("latents with NaN or infinity after a step", "finite ones")
                    each.clear()
            for t in known.asked:
                if not isinstance(t, int) or not 1 <= t <= STEPS:
                    c.fail(f"codes asked for at t = {t!r}", f"a whole number in 1 … {STEPS}")


@check("sampler.pure", kind="sampler", fault="noisy latents moved in place, a predictor that is changed")
def pure(c: Context) -> None:
    """The latents that it is given are as they were after the step, and so are those that it gave before."""
    sampler = sampler_of(c, steps=6)
    each: list[Tensor] = []
    kept: list[Tensor] = []

    class Keeping(Known):
        def codes(self, here: Here, rng: Rng) -> Tensor:
            while len(kept) < len(each):
                kept.append(each[len(kept)].clone())
            return super().codes(here, rng)

    known = Keeping(process(1))
    # Large ones too, which a bound in place would change.
    walk(sampler, known, sampler.path(known.process), sample_rng(c, 3), 4 * known.begin(sample_rng(c, 3)), each)
    if known.changed or any(not torch.equal(a, b) for a, b in zip(each, kept, strict=False)):
        c.fail("noisy latents changed in place", "latents of its own")


@check(
    "sampler.repeatable",
    kind="sampler",
    fault="draws from the global generator, what is kept on the sampler from run to run",
    tolerance=0.0,
)
def repeatable(c: Context) -> None:
    """The same stream of numbers gives the same latents, whatever ran before or runs beside it; global generators are left alone.

    What a sampler keeps from step to step is in `memory`, which is one run's.
    """
    known = Known(process(1))
    sampler = sampler_of(c, steps=6)
    way = checked_path(c, sampler, sampler.path(known.process))
    with left_alone(c, "in a step"):
        first = walk(sampler, known, way, sample_rng(c, 4))
    reseed(c.seed + 1)
    walk(sampler, Known(process(2)), way, Rng.for_rows(c.seed + 9, 7))
    c.same(walk(sampler, known, way, sample_rng(c, 4)), first, "the latents of the same run again, after another")
    c.same(
        walk(sampler_of(c, steps=6), known, way, sample_rng(c, 4)), first, "the latents by another sampler made alike"
    )
    # Two runs step by step side by side, as of two threads.
    runs = [(Here(known.begin(rng), way[0]), rng, {}) for rng in (sample_rng(c, 4), Rng.for_rows(c.seed + 9, 4))]
    for to in way[1:]:
        runs = [
            (Here(sampler.step(known, here, to, rng.at(to), memory), to), rng, memory) for here, rng, memory in runs
        ]
    c.same(runs[0][0].z, first, "the latents of a run beside another")
    before = holds(sampler)
    for k in range(4):
        walk(sampler, known, way, Rng.for_rows(k, 3))
    if holds(sampler) > before + 1:
        c.fail("a sampler that holds more after every run", "what it keeps in memory, which is one run's")


@check(
    "sampler.rows", kind="sampler", fault="latents normalised by the batch, noise that is the batch's", tolerance=1e-9
)
def rows(c: Context) -> None:
    """A row's latents follow from its own latents and numbers: the same alone, in another order, and beside others."""
    for blocks in (1, 2):
        known = Known(process(blocks))
        sampler = sampler_of(c, steps=8)
        way = sampler.path(known.process)
        numbers = torch.tensor([5, 0, 17, 3, 8, 2])
        whole = walk(sampler, known, way, Rng(c.seed, numbers).of("sample"))
        for some in ([3], [4, 0, 5, 2, 1, 3], [1, 2]):
            part = walk(sampler, known, way, Rng(c.seed, numbers[some]).of("sample"))
            c.same(part, whole[some], f"the latents of rows {some} of 6", like=whole)


@check(
    "sampler.asks",
    kind="sampler",
    fault="a call of the network that is never made, or of a timestep where the latents are not",
)
def asks(c: Context) -> None:
    """It asks for codes at the timestep where it is, in every step; what is predicted decides where it goes.

    With the means of all codes moved by one the answer moves by one.
    """
    ends = []
    for shift in (0.0, 1.0):
        known = Known(process(1), shift=shift)
        sampler = sampler_of(c, steps=60)
        way = checked_path(c, sampler, sampler.path(known.process))
        rng, memory = sample_rng(c, 4), {}
        here = Here(known.begin(rng), way[0])
        for to in way[1:]:
            known.asked.clear()
            known.told.clear()
            z = sampler.step(known, here, to, rng.at(to), memory)
            if any(
                told.step != to or told.seed != rng.seed or not torch.equal(told.rows, rng.rows) for told in known.told
            ):
                c.fail(
                    f"codes asked for with numbers of another step or row, from t = {here.t} to {to}",
                    "those of the step, rng or rng.of(…)",
                )
            if not known.asked:
                c.fail(f"no codes asked for from t = {here.t} to {to}", "one call of the network at least")
            # A sampler that first adds noise goes up a little.
            if not any(to <= t <= 2 * here.t - to for t in known.asked):
                c.fail(f"codes asked for at t = {known.asked} from {here.t} to {to}", f"at {here.t}")
            here = Here(z, to)
        ends.append(known.codes(here, rng))
    moved = ends[1] - ends[0]
    if not (moved > 0.9).all() or not (moved < 1.1).all():
        c.fail(f"answers that move by {float(moved.min()):.3g} … {float(moved.max()):.3g}", "1, as the codes do")


@check("sampler.device", kind="sampler", fault="a tensor made on the CPU inside a step", core=False)
def device(c: Context) -> None:
    """It computes where the latents are; asked with torch's meta device."""
    meta = torch.device("meta")

    class Elsewhere(Known):
        def codes(self, here: Here, rng: Rng) -> Tensor:
            return torch.empty(len(here.z), len(self.index), dtype=self.dtype, device=meta)

        def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
            return here.z + 0

        def noise(self, rng: Rng) -> Tensor:
            return torch.empty(len(rng.rows), *self.shape, dtype=self.dtype, device=meta)

        def by_code(self, coefficient: Tensor) -> Tensor:
            return torch.empty(1, len(self.index), dtype=self.dtype, device=meta)

    known = Elsewhere(process(1))
    sampler = sampler_of(c, steps=5)
    z = torch.empty(3, *known.shape, dtype=known.dtype, device=meta)
    rng = Rng.for_rows(c.seed, 3, device=meta)
    memory: dict[str, Any] = {}
    way = sampler.path(known.process)
    for t, to in itertools.pairwise(way):
        z = sampler.step(known, Here(z, t), to, rng.at(to), memory)
        if z.device != meta:
            c.fail(f"latents on {z.device}", "on the device of those that it was given")
