"""Samplers: put to Gaussian codes, whose answer is known, and to a small model. The plugin is what makes one."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmcore.errors import MmcoreError
from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.process import Blocks, schedule
from mmcore.rng import Rng
from mmcore.sampling.ask import sample
from mmcore.sampling.denoiser import CODES, Asked, Here
from mmcore.sampling.samplers import SPACINGS, Ancestral, Ddim, Sampler, decreasing
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context, renamed
from mmcore.testing.gaussian import STEPS, Counted, Known, process, walk
from mmcore.testing.reference import Reference
from mmcore.testing.statistics import sigmas
from mmcore.testing.surroundings import holds, left_alone, reseed

FEW = 128
"""Rows whose moments are exact."""
REFUSALS = (TypeError, ValueError, MmcoreError)


def _sampler(c: Context, **options: Any) -> Sampler:
    """One of it, with these options of those that the engine gives, as far as it takes them."""
    try:
        return c.thing(**options)
    except REFUSALS:
        return c.thing()


def _asked(c: Context, **options: Any) -> tuple[Sampler, list[int]] | None:
    """One of it with these options and its path; None where it refuses them, as it may."""
    try:
        made = c.thing(**options)
        path = made.path(process(1))
    except REFUSALS:
        return None
    return made, _right(c, made, path)


def _right(c: Context, sampler: Sampler, path: Any, begin: int = STEPS) -> list[int]:
    """The path as whole numbers, if it is one."""
    told = decreasing(path.tolist() if isinstance(path, Tensor) else path)
    if told is None or told[0] != begin:
        text = repr(path)
        c.fail(f"the path {text[:200]}", f"decreasing whole numbers from {begin}, none below 1")
    return told


def _rng(c: Context, n: int) -> Rng:
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
                found = _right(c, sampler, sampler.path(of, begin), steps if begin is None else begin)
                if len(found) > 1 and found[-1] > max(1, found[0] // 10):
                    c.fail(f"a path from {found[0]} that ends at {found[-1]}", "one that ends near 1")
                if found != _right(c, sampler, sampler.path(of, begin), found[0]):
                    c.fail("another path when it is asked again", "the same")
    if (one := _asked(c, steps=1)) is not None and one[1] != [STEPS]:
        c.fail(f"{one[1]} as the path of one step", f"[{STEPS}]")


@check("sampler.options", kind="sampler", fault="steps, a spacing, codes or an eta that are taken and not followed", core=False)
def options(c: Context) -> None:
    """What the engine may give, `steps`, `spacing`, `codes` and `eta`, is followed or refused: a constructor that takes it does it."""
    for steps in (1, 2, 5, 40):
        asked = _asked(c, steps=steps)
        if asked is not None and not (len(asked[1]) == steps or steps * 0.7 <= len(asked[1]) <= steps > 5):
            c.fail(f"steps = {steps} and a path of {len(asked[1])}", f"{steps} timesteps, or a refusal")
    for own in ([STEPS, 300, 7], (STEPS, 500)):
        asked = _asked(c, steps=own)
        if asked is not None and asked[1] != list(own):
            c.fail(f"steps = {own} and the path {asked[1]}", "these timesteps, or a refusal")
    spaced = {spacing: _asked(c, steps=10, spacing=spacing) for spacing in SPACINGS}
    if all(spaced.values()) and len({tuple(asked[1]) for asked in spaced.values() if asked}) == 1:
        c.fail("one path for both spacings", "another path for 'snr' than for 'time', or a refusal")
    for codes in CODES:
        asked = _asked(c, codes=codes)
        if asked is not None and asked[0].codes != codes:
            c.fail(f"codes = {asked[0].codes!r} where {codes!r} was asked for", f"{codes!r}, or a refusal")
    for wrong in ({"steps": 0}, {"steps": -3}, {"steps": [5, 9]}, {"spacing": "moon"}, {"codes": "guess"}, {"eta": -0.5}, {"eta": 1.5}):  # fmt: skip
        if (asked := _asked(c, **wrong)) is not None:
            told = ", ".join(f"{name} = {value!r}" for name, value in wrong.items())
            c.fail(f"{told} taken, with the path {asked[1][:5]}", "a refusal")


@check("sampler.eta", kind="sampler", fault="an eta that is taken and not followed", core=False)
def eta(c: Context) -> None:
    """Where it takes `eta`, 0 makes the way deterministic and 1 draws: with 0 two streams of numbers give the same, with 1 they do not."""
    asked = {value: _asked(c, steps=6, eta=value) for value in (0.0, 1.0)}
    if not all(asked.values()):
        raise NotRun("it takes no eta")
    known = Known(process(1))
    z = known.begin(_rng(c, 4))
    for value, made in asked.items():
        assert made is not None
        ends = [walk(made[0], known, made[1], Rng.for_rows(c.seed + k, 4), z) for k in (1, 2)]
        apart = float((ends[0] - ends[1]).abs().max())
        if (apart > 1e-9) != (value == 1.0):
            drawn = "that depends on the random numbers" if apart > 1e-9 else "that no random number changes"
            c.fail(f"a way with eta = {value} {drawn}", "one without draws for 0, with draws for 1")


@check("sampler.step", kind="sampler", fault="latents of another shape or dtype, NaN at an end", dtypes=("float32", "float64", "bfloat16"))
def step(c: Context) -> None:
    """A step gives finite latents of the shape and dtype that it began from, in spaces of one to three axes and of several blocks."""
    for grid in ((2,), (2, 4), (2, 1, 3)):
        for blocks in (1, 2):
            known = Known(process(blocks), c.dtype, grid=grid)
            for sampler in (c.thing(), _sampler(c, steps=4)):
                each: list[Tensor] = []
                for n in (1, 3):
                    walk(sampler, known, _right(c, sampler, sampler.path(known.process)), _rng(c, n), each=each)
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
    sampler = _sampler(c, steps=6)
    each: list[Tensor] = []
    kept: list[Tensor] = []

    class Keeping(Known):
        def codes(self, here: Here, rng: Rng) -> Tensor:
            while len(kept) < len(each):
                kept.append(each[len(kept)].clone())
            return super().codes(here, rng)

    known = Keeping(process(1))
    # Large ones too, which a bound in place would change.
    walk(sampler, known, sampler.path(known.process), _rng(c, 3), 4 * known.begin(_rng(c, 3)), each)
    if known.changed or any(not torch.equal(a, b) for a, b in zip(each, kept, strict=False)):
        c.fail("noisy latents changed in place", "latents of its own")


@check("sampler.repeatable", kind="sampler", fault="draws from the global generator, what is kept on the sampler from run to run", tolerance=0.0)
def repeatable(c: Context) -> None:
    """The same stream of numbers gives the same latents, whatever ran before or runs beside it; global generators are left alone.

    What a sampler keeps from step to step is in `memory`, which is one run's.
    """
    known = Known(process(1))
    sampler = _sampler(c, steps=6)
    way = _right(c, sampler, sampler.path(known.process))
    with left_alone(c, "in a step"):
        first = walk(sampler, known, way, _rng(c, 4))
    reseed(c.seed + 1)
    walk(sampler, Known(process(2)), way, Rng.for_rows(c.seed + 9, 7))
    c.same(walk(sampler, known, way, _rng(c, 4)), first, "the latents of the same run again, after another")
    c.same(walk(_sampler(c, steps=6), known, way, _rng(c, 4)), first, "the latents by another sampler made alike")
    # Two runs step by step side by side, as of two threads.
    runs = [(Here(known.begin(rng), way[0]), rng, {}) for rng in (_rng(c, 4), Rng.for_rows(c.seed + 9, 4))]
    for to in way[1:]:
        runs = [(Here(sampler.step(known, here, to, rng.at(to), memory), to), rng, memory) for here, rng, memory in runs]
    c.same(runs[0][0].z, first, "the latents of a run beside another")
    before = holds(sampler)
    for k in range(4):
        walk(sampler, known, way, Rng.for_rows(k, 3))
    if holds(sampler) > before + 1:
        c.fail("a sampler that holds more after every run", "what it keeps in memory, which is one run's")


@check("sampler.rows", kind="sampler", fault="latents normalised by the batch, noise that is the batch's", tolerance=1e-9)
def rows(c: Context) -> None:
    """A row's latents follow from its own latents and numbers: the same alone, in another order, and beside others."""
    for blocks in (1, 2):
        known = Known(process(blocks))
        sampler = _sampler(c, steps=8)
        way = sampler.path(known.process)
        numbers = torch.tensor([5, 0, 17, 3, 8, 2])
        whole = walk(sampler, known, way, Rng(c.seed, numbers).of("sample"))
        for some in ([3], [4, 0, 5, 2, 1, 3], [1, 2]):
            part = walk(sampler, known, way, Rng(c.seed, numbers[some]).of("sample"))
            c.same(part, whole[some], f"the latents of rows {some} of 6", like=whole)


@check(
    "sampler.law",
    kind="sampler",
    fault="noise of another size, an early end, one block's coefficients for all",
    false_alarm="none where its noise is the denoiser's; below 1e-7 where it draws its own, for an error within the bias allowed",
)
def law(c: Context) -> None:
    """With 250 steps of 1000 the noisy latents of Gaussian codes have the process's mean and variance at every timestep visited, and the answer the data's.

    Of one block and of two with different noise. Means may be off by 0.03 deviations, variances by 15 % in one element and 6 % in all
    together. The denoiser's noise has exact moments; beside a sampler's own draws what chance explains is allowed.
    """
    for blocks in (1, 2):
        sampler = _sampler(c, steps=250)
        way = _right(c, sampler, sampler.path(process(blocks)))
        if len(way) < 100:
            raise NotRun(f"not decided: it visits {len(way)} timesteps whatever is asked for")
        known, each, answer, n = _walked(c, sampler, process(blocks), way)
        chosen = list(range(0, len(each), max(1, len(each) // 20)))
        laws = [(f"latents at t = {way[1 + k]}", each[k].flatten(1), *known.law(way[1 + k])) for k in chosen]
        laws.append(("answers", answer, known.mean, known.deviation.square()))
        for what, found, mean, variance in laws:
            doubt = sigmas(len(laws) * found.shape[1]) if n else 0.0
            off = (found.mean(0) - mean) / variance.sqrt()
            ratio = (found.var(0, correction=0) / variance).log()
            bounds = (
                ("a mean off by {:.3g} deviations", float(off.abs().max()), 0.03 + doubt / math.sqrt(n or 1)),
                ("a variance off by a factor exp(±{:.3g})", float(ratio.abs().max()), 0.15 + doubt * math.sqrt(2 / (n or 1))),
                ("variances off by a factor exp({:+.3g}) on average", float(ratio.mean()), 0.06 + doubt * math.sqrt(2 / (n or 1) / found.shape[1])),  # fmt: skip
            )
            for text, value, bound in bounds:
                if not abs(value) <= bound:
                    c.fail(f"{what} with {text.format(value)}, {known.process!r}", f"at most {bound:.3g}")


def _walked(c: Context, sampler: Sampler, of: Blocks, way: list[int]) -> tuple[Known, list[Tensor], Tensor, int]:
    """The denoiser, the latents at every timestep and the answer; and the number of rows where chance has a part, else 0."""
    for n in (FEW, 2 * c.profile.draws):
        known, each, rng = Known(of, exact=n == FEW), [], _rng(c, n)
        with torch.no_grad():
            end = walk(sampler, known, way, rng, each=each)
            answer = known.codes(Here(end, way[-1]), rng)
        if not Counted.drawn:
            return known, each, answer, 0
    return known, each, answer, n


@check(
    "sampler.converges",
    kind="sampler",
    fault="an error that more steps do not take away",
    false_alarm="none where its noise is the denoiser's, else below 1e-7",
)
def converges(c: Context) -> None:
    """More steps come nearer: of 20, 100 and 500 steps the error of the answer's mean and variance at least halves each time, until it is below 1 %."""
    errors = []
    for steps in (20, 100, 500):
        sampler = _sampler(c, steps=steps)
        way = _right(c, sampler, sampler.path(process(1)))
        if not steps * 0.7 <= len(way) <= steps:
            raise NotRun("not decided: it does not take a number of steps")
        known, _, answer, n = _walked(c, sampler, process(1), way)
        variance = (answer.var(0, correction=0) / known.deviation.square()).log().abs().max()
        mean = ((answer.mean(0) - known.mean) / known.deviation).abs().max()
        errors.append(float(torch.maximum(variance, mean)))
    chance = 0.01 + (sigmas(30) * math.sqrt(2 / n) if n else 0.0)
    for some, (less, more) in (("100", errors[:2]), ("500", errors[1:])):
        if not more <= max(0.5 * less, chance):
            c.fail(f"an error of {more:.3g} in {some} steps after {less:.3g} in a fifth of them", "half of it")


@check("sampler.order", kind="sampler", fault="an extrapolation of the wrong sign, a corrector that takes the step twice", core=False, false_alarm="none where its noise is the denoiser's, else below 1e-7")
def order(c: Context) -> None:
    """In 100 steps it is no worse than a step of first order on the same timesteps: than DDIM's where it draws nothing, than an ancestral one's where it does."""
    sampler = _sampler(c, steps=100)
    way = _right(c, sampler, sampler.path(process(1)))
    if not 70 <= len(way) <= 100:
        raise NotRun("not decided: it does not take a number of steps")
    errors, n = [], 0
    known = Known(process(1))
    ends = [walk(sampler, known, way[:5], Rng.for_rows(c.seed + k, 4).of("sample"), known.begin(_rng(c, 4))) for k in (1, 2)]
    first: Sampler = Ddim(steps=100, eta=0.0) if float((ends[0] - ends[1]).abs().max()) < 1e-9 else Ancestral(steps=100)
    for one in (sampler, first):
        known, _, answer, of = _walked(c, one, process(1), way)
        n = max(n, of)
        errors.append(float((answer.var(0, correction=0) / known.deviation.square()).log().abs().max()))
    if not errors[0] <= 1.2 * errors[1] + 0.01 + (sigmas(20) * math.sqrt(2 / n) if n else 0.0):
        c.fail(f"an error of {errors[0]:.3g} of the variance after 100 steps, where {type(first).__name__} has {errors[1]:.3g}", "no more")


@check("sampler.asks", kind="sampler", fault="a call of the network that is never made, or of a timestep where the latents are not")
def asks(c: Context) -> None:
    """It asks for codes at the timestep where it is, in every step; what is predicted decides where it goes.

    With the means of all codes moved by one the answer moves by one.
    """
    ends = []
    for shift in (0.0, 1.0):
        known = Known(process(1), shift=shift)
        sampler = _sampler(c, steps=60)
        way = _right(c, sampler, sampler.path(known.process))
        rng, memory = _rng(c, 4), {}
        here = Here(known.begin(rng), way[0])
        for to in way[1:]:
            known.asked.clear()
            known.told.clear()
            z = sampler.step(known, here, to, rng.at(to), memory)
            if any(told.step != to or told.seed != rng.seed or not torch.equal(told.rows, rng.rows) for told in known.told):
                c.fail(f"codes asked for with numbers of another step or row, from t = {here.t} to {to}", "those of the step, rng or rng.of(…)")
            if not known.asked:
                c.fail(f"no codes asked for from t = {here.t} to {to}", "one call of the network at least")
            # A sampler that first adds noise goes up a little.
            if not any(to <= t <= 2 * here.t - to for t in known.asked):
                c.fail(f"codes asked for at t = {known.asked} from {here.t} to {to}", f"at {here.t}")
            here = Here(z, to)
        ends.append(known.codes(here, rng))
    moved = ends[1] - ends[0]
    if not (0.9 < moved).all() or not (moved < 1.1).all():
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
    sampler = _sampler(c, steps=5)
    z = torch.empty(3, *known.shape, dtype=known.dtype, device=meta)
    rng = Rng.for_rows(c.seed, 3, device=meta)
    memory: dict[str, Any] = {}
    way = sampler.path(known.process)
    for t, to in zip(way, way[1:], strict=False):
        z = sampler.step(known, Here(z, t), to, rng.at(to), memory)
        if z.device != meta:
            c.fail(f"latents on {z.device}", "on the device of those that it was given")


# ---- with a model ----


class Watched(Sampler):
    """A sampler whose latents are looked at."""

    def __init__(self, inner: Sampler) -> None:
        self.__dict__["inner"] = inner
        self.__dict__["each"] = []

    def __getattribute__(self, name: str) -> Any:
        own = ("inner", "each", "step", "path", "__dict__", "__class__")
        return object.__getattribute__(self, name) if name in own else getattr(object.__getattribute__(self, "inner"), name)

    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        found = self.inner.step(denoiser, here, to, rng, memory)
        self.each.append((here.z.clone(), found.clone()))
        return found

    def path(self, *args: Any, **options: Any) -> list[int]:
        return self.inner.path(*args, **options)


@contextlib.contextmanager
def _models(c: Context) -> Iterator[list[tuple[str, list[Modality], JointModel]]]:
    members: list[Modality] = [renamed(Reference(3), "one"), renamed(Reference(4), "two")]
    tables = schedule.cosine(40, 2)
    yield [(layout, members, c.compose(members, layout, tables)) for layout in ("shared", "separate")]


@check("sampler.observed", kind="sampler", fault="noise added to what is observed, codes of one's own for known ones")
def observed(c: Context) -> None:
    """With a model of two modalities in one block or two, what is observed is untouched: its block's latents stay, and it comes back as given.

    Also under the article's conditioning, under guidance, for parts of a sample and for edits.
    """
    with _models(c) as models:
        for layout, members, model in models:
            given = {"one": members[0].typical(5, c.seed)}
            where = {"one": torch.tensor([[True, True, False]]).expand(5, 3)}
            start = {m.name: m.typical(5, c.seed + 1) for m in members}
            asked: list[tuple[str, dict[str, Any]]] = [
                ("observed", {"given": given}),
                ("observed, by the posterior", {"given": given, "conditioning": "posterior"}),
                ("observed, guided", {"given": given, "guidance": {"one": 2.0}}),
                ("observed in part", {"given": given, "where": where}),
                ("edited", {"start": start, "strength": 0.5}),
                ("jointly", {}),
            ]
            for what, question in asked:
                watched = Watched(_sampler(c, steps=5))
                answer = sample(model, 5, sampler=watched, seed=c.seed, **question)
                for m in members:
                    m.spec.check(answer[m.name], f"sampled {what}, layout {layout!r}, {m.name}")
                kept = where["one"] if "where" in question else torch.ones(5, 3, dtype=torch.bool)
                if "given" in question and not torch.equal(answer["one"][kept], given["one"][kept]):
                    c.fail(f"another value of what is {what}, layout {layout!r}", "what was given")
                if what == "observed" and layout == "separate":
                    still = slice(0, model.process.channels[0])
                    if any(not torch.equal(a[:, still], b[:, still]) for a, b in watched.each):
                        c.fail("latents that change in the block of what is observed", "a step by move, which leaves them")


@check("sampler.batches", kind="sampler", fault="a step that depends on the batch's size or on what was sampled before", tolerance=2e-4)
def batches(c: Context) -> None:
    """With a model sample `k` depends on the seed and `k`: the same in batches of one, three and all."""
    with _models(c) as models:
        for layout, members, model in models:
            given = {"one": members[0].typical(7, c.seed)}
            answers = [
                sample(model, 7, given=given, guidance={"one": 1.5}, sampler=_sampler(c, steps=5), seed=c.seed, batch_size=size)
                for size in (7, 1, 3)
            ]
            for size, answer in zip((1, 3), answers[1:], strict=True):
                c.same(answer["two"], answers[0]["two"], f"answers in batches of {size}, layout {layout!r}")
            again = sample(model, 7, given=given, guidance={"one": 1.5}, sampler=_sampler(c, steps=5), seed=c.seed)
            c.same(again["two"], answers[0]["two"], "answers of the same seed again")


@check("sampler.draws", kind="sampler", fault="the rng of the first step for all, latents that the seed does not change", core=False)
def draws(c: Context) -> None:
    """Where a step draws, its numbers are of its own step and row: those of two steps, rows and seeds have nothing in common."""
    known = Known(process(1))
    sampler = _sampler(c, steps=30)
    way = _right(c, sampler, sampler.path(known.process))
    n, middle = 2000, len(way) // 2
    z = known.begin(_rng(c, n))
    parts: dict[str, Tensor] = {}
    t, to = way[middle], way[min(middle + 1, len(way) - 1)]
    if t == to:
        raise NotRun("not decided: it takes one step only")

    def noise(rng: Rng, at: int) -> Tensor:
        """What the numbers add to a step: the difference from the same with others' mean."""
        return sampler.step(known, Here(z, t), to, rng.at(at), {}).flatten(1)

    streams = {"this": (_rng(c, n), to), "another step": (_rng(c, n), to - 1), "another seed": (Rng.for_rows(c.seed + 1, n).of("sample"), to), "other rows": (Rng.for_rows(c.seed, n, start=n).of("sample"), to), "a third": (Rng.for_rows(c.seed + 2, n), to)}  # fmt: skip
    with torch.no_grad():
        parts = {name: noise(*stream) for name, stream in streams.items()}
    if float((parts["this"] - parts["another seed"]).abs().max()) < 1e-9:
        raise NotRun("a step draws nothing")
    base = parts.pop("a third")
    mine = parts.pop("this") - base
    for name, other in parts.items():
        # Of independent draws the differences from a third have a correlation of one half.
        pairs = (mine * (other - base)).mean(0) / (mine.square().mean(0) * (other - base).square().mean(0)).sqrt()
        found = float(pairs.nan_to_num(1.0).mean())
        if not abs(found - 0.5) < 0.1:
            c.fail(f"a correlation of {2 * found - 1:.3g} between the draws of a step and those of {name}", "0")
    flat = mine[: n // 2] * mine[n // 2 :]
    between = float(flat.mean() / mine.square().mean())
    if abs(between) > 0.1:
        c.fail(f"a correlation of {between:.3g} between the draws of different rows", "0")
    scaled = mine - mine.mean(0)
    scaled = scaled / scaled.std(0).clamp(min=1e-12)
    beside = (scaled.T @ scaled / n - torch.eye(scaled.shape[1], dtype=scaled.dtype)).abs().max()
    # 6.7 standard errors of 2000 draws.
    if not beside < 0.15:
        c.fail(f"a correlation of {float(beside):.3g} between the draws of two elements", "0")
    fourth = float(scaled.pow(4).mean())
    if not abs(fourth - 3) < 0.3:
        c.fail(f"draws with a kurtosis of {fourth:.3g}", "3, as normal numbers have")


