"""Samplers by what they sample: Gaussian codes, whose law is known, and answers of a small model."""

import math
from typing import Any

import torch
from torch import Tensor

from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.process import Blocks, schedule
from mmcore.rng import Rng
from mmcore.sampling.ask import sample
from mmcore.sampling.denoiser import Asked, Here
from mmcore.sampling.samplers import Ddim, Sampler
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_sampler import checked_path, sample_rng, sampler_of
from mmcore.testing.context import Context, renamed
from mmcore.testing.gaussian import Counted, Known, process, walk
from mmcore.testing.reference import Reference
from mmcore.testing.statistics import sigmas

FEW = 128
"""Rows whose moments are exact."""


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
        sampler = sampler_of(c, steps=250)
        way = checked_path(c, sampler, sampler.path(process(blocks)))
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
                (
                    "a variance off by a factor exp(±{:.3g})",
                    float(ratio.abs().max()),
                    0.15 + doubt * math.sqrt(2 / (n or 1)),
                ),
                (
                    "variances off by a factor exp({:+.3g}) on average",
                    float(ratio.mean()),
                    0.06 + doubt * math.sqrt(2 / (n or 1) / found.shape[1]),
                ),
            )
            for text, value, bound in bounds:
                if not abs(value) <= bound:
                    c.fail(f"{what} with {text.format(value)}, {known.process!r}", f"at most {bound:.3g}")


def _walked(c: Context, sampler: Sampler, of: Blocks, way: list[int]) -> tuple[Known, list[Tensor], Tensor, int]:
    """The denoiser, the latents at every timestep and the answer; and the number of rows where chance has a part, else 0."""
    for n in (FEW, 2 * c.profile.draws):
        known, each, rng = Known(of, exact=n == FEW), [], sample_rng(c, n)
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
        sampler = sampler_of(c, steps=steps)
        way = checked_path(c, sampler, sampler.path(process(1)))
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


@check(
    "sampler.order",
    kind="sampler",
    fault="an extrapolation of the wrong sign, a corrector that takes the step twice",
    core=False,
    false_alarm="none where its noise is the denoiser's, else below 1e-7",
)
def order(c: Context) -> None:
    """In 100 steps it is no worse than steps of first order on the same timesteps that draw as much: than DDIM's with an `eta` as large as its noise is."""
    sampler = sampler_of(c, steps=100)
    way = checked_path(c, sampler, sampler.path(process(1)))
    if not 70 <= len(way) <= 100:
        raise NotRun("not decided: it does not take a number of steps")
    errors, n = [], 0
    drawn = _drawn(c, sampler, way)
    for one in (sampler, Ddim(steps=100, eta=drawn)):
        known, _, answer, of = _walked(c, one, process(1), way)
        n = max(n, of)
        errors.append(float((answer.var(0, correction=0) / known.deviation.square()).log().abs().max()))
    most = 1.2 * errors[1] + 0.01 + (sigmas(20) * math.sqrt(2 / n) if n else 0.0)
    if not errors[0] <= most:
        c.fail(
            f"an error of {errors[0]:.3g} of the variance after 100 steps, where DDIM with eta = {drawn:.2g} has {errors[1]:.3g}",
            f"at most {most:.3g}",
        )


def _drawn(c: Context, sampler: Sampler, way: list[int]) -> float:
    """The largest share of an ancestral step's deviation that steps of a sampler draw: ``η`` of a DDIM step with as much noise."""
    known, shares = Known(process(1)), []
    for k in range(len(way) // 5, len(way) - 1, len(way) // 5):
        z, ends = known.begin(sample_rng(c, FEW)), []
        for seed in (1, 2):
            memory: dict[str, Any] = {}
            before = sampler.step(known, Here(z, way[k - 1]), way[k], sample_rng(c, FEW).at(way[k]), memory)
            ends.append(sampler.step(known, Here(before, way[k]), way[k + 1], Rng.for_rows(c.seed + seed, FEW).of("sample").at(way[k + 1]), memory))  # fmt: skip
        # Of two independent draws the difference has twice the variance.
        noise = (ends[0] - ends[1]).square().mean() / 2
        shares.append(float(noise / known.process.jump(way[k + 1], way[k]).beta.mean()) ** 0.5)
    return 0.0 if max(shares) < 1e-6 else min(1.0, max(shares))


class Watched(Sampler):
    """A sampler whose latents are looked at."""

    def __init__(self, inner: Sampler) -> None:
        # As of a frozen class, which samplers are.
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "each", [])

    def __getattribute__(self, name: str) -> Any:
        own = ("inner", "each", "step", "path", "__dict__", "__class__")
        return (
            object.__getattribute__(self, name)
            if name in own
            else getattr(object.__getattribute__(self, "inner"), name)
        )

    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        found = self.inner.step(denoiser, here, to, rng, memory)
        self.each.append((here.z.clone(), found.clone()))
        return found

    def path(self, *args: Any, **options: Any) -> list[int]:
        return self.inner.path(*args, **options)


def _models(c: Context) -> list[tuple[str, list[Modality], JointModel]]:
    """In each layout two modalities and a small model of them."""
    members: list[Modality] = [renamed(Reference(3), "one"), renamed(Reference(4), "two")]
    tables = schedule.cosine(40, 2)
    return [(layout, members, c.compose(members, layout, tables)) for layout in ("shared", "separate")]


@check("sampler.observed", kind="sampler", fault="noise added to what is observed, codes of one's own for known ones")
def observed(c: Context) -> None:
    """With a model of two modalities in one block or two, what is observed is untouched: its block's latents stay, and it comes back as given.

    Also under the article's conditioning, under guidance, for parts of a sample and for edits.
    """
    for layout, members, model in _models(c):
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
            watched = Watched(sampler_of(c, steps=5))
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


@check(
    "sampler.batches",
    kind="sampler",
    fault="a step that depends on the batch's size or on what was sampled before",
    tolerance=2e-4,
)
def batches(c: Context) -> None:
    """With a model sample `k` depends on the seed and `k`: the same in batches of one, three and all."""
    for layout, members, model in _models(c):
        given = {"one": members[0].typical(7, c.seed)}
        answers = [
            sample(
                model,
                7,
                given=given,
                guidance={"one": 1.5},
                sampler=sampler_of(c, steps=5),
                seed=c.seed,
                batch_size=size,
            )
            for size in (7, 1, 3)
        ]
        for size, answer in zip((1, 3), answers[1:], strict=True):
            c.same(answer["two"], answers[0]["two"], f"answers in batches of {size}, layout {layout!r}")
        again = sample(model, 7, given=given, guidance={"one": 1.5}, sampler=sampler_of(c, steps=5), seed=c.seed)
        c.same(again["two"], answers[0]["two"], "answers of the same seed again")


@check(
    "sampler.draws",
    kind="sampler",
    fault="the rng of the first step for all, latents that the seed does not change, uniform noise",
    core=False,
    false_alarm="below 1e-8: 6.7 standard errors of the largest correlation, more of all others",
)
def draws(c: Context) -> None:
    """Where a step draws, its numbers are normal, by their fourth moment, and its own: those of two steps, rows, elements and seeds are not correlated."""
    known = Known(process(1))
    sampler = sampler_of(c, steps=30)
    way = checked_path(c, sampler, sampler.path(known.process))
    n, middle = 2000, len(way) // 2
    z = known.begin(sample_rng(c, n))
    parts: dict[str, Tensor] = {}
    t, to = way[middle], way[min(middle + 1, len(way) - 1)]
    if t == to:
        raise NotRun("not decided: it takes one step only")

    def stepped(rng: Rng, at: int) -> Tensor:
        """The noisy latents after a step with these numbers, all else being equal."""
        return sampler.step(known, Here(z, t), to, rng.at(at), {}).flatten(1)

    streams = {
        "this": (sample_rng(c, n), to),
        "another step": (sample_rng(c, n), to - 1),
        "another seed": (Rng.for_rows(c.seed + 1, n).of("sample"), to),
        "other rows": (Rng.for_rows(c.seed, n, start=n).of("sample"), to),
        "a third": (Rng.for_rows(c.seed + 2, n), to),
    }
    with torch.no_grad():
        parts = {name: stepped(*stream) for name, stream in streams.items()}
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
