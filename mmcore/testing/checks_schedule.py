"""Noise schedules: their tables. The plugin is what makes one, given ``steps`` and ``modalities``."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from mmcore.process import Blocks, Process, Schedule
from mmcore.rng import Rng
from mmcore.sampling.denoiser import Here
from mmcore.sampling.samplers import Ddim
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.gaussian import Known, walk
from mmcore.testing.surroundings import left_alone, reseed, takes

STEPS = 10


def _schedules(c: Context) -> Iterable[tuple[int, int, Schedule]]:
    for steps in (STEPS, 1000):
        for n in (1, 2, 8):
            yield steps, n, c.thing(steps=steps, modalities=n)


@check("schedule.tables", kind="schedule", fault="another number of steps, float32 tables, an A that rises")
def tables(c: Context) -> None:
    """It has the steps and modalities asked for, also few and odd ones, in finite float64 tables on the CPU; log A starts at 0 and decreases, no weight is negative."""
    more = ((steps, n, c.thing(steps=steps, modalities=n)) for steps in (1, 2, 3, 7, 250) for n in (1, 3))
    for steps, n, s in (*_schedules(c), *more):
        if not isinstance(s, Schedule):
            c.fail(f"a {type(s).__name__}", "a mmcore.Schedule")
        if s.log_A.shape != (steps + 1,) or s.W.shape != (steps + 1, n):
            c.fail(f"tables of {tuple(s.log_A.shape)} and {tuple(s.W.shape)}", f"({steps + 1},) and ({steps + 1}, {n})")
        if s.log_A.dtype != torch.float64 or s.W.dtype != torch.float64:
            c.fail(f"tables in {s.log_A.dtype} and {s.W.dtype}", "float64: float32 loses a step's factor")
        if s.log_A.device.type != "cpu" or s.W.device.type != "cpu" or s.log_A.requires_grad or s.W.requires_grad:
            c.fail("tables on another device, or with gradients", "plain tables on the CPU")
        if not (s.log_A.isfinite().all() and s.W.isfinite().all()):
            c.fail("tables with NaN or infinity", "finite numbers")
        if s.log_A[0] != 0 or not (s.log_A.diff() < 0).all():
            c.fail(f"log A from {s.log_A[0]:.4g}, not decreasing everywhere", "0 at first, then less at every step")
        if (s.W < 0).any():
            c.fail(f"a weight of {float(s.W.min()):.3g}", "none below 0")
        if isinstance(s.eta, bool) or not isinstance(s.eta, int | float) or not 0 <= s.eta <= 1:
            c.fail(f"eta = {s.eta!r}", "a number in 0 … 1")
        if not isinstance(s.name, str) or not s.name:
            c.fail(f"name = {s.name!r}", "a text")


@check("schedule.exact", kind="schedule", fault="tables computed in single precision and cast afterwards")
def exact(c: Context) -> None:
    """The tables are computed in double precision: not all of their entries are numbers of single precision."""
    s = c.thing(steps=1000, modalities=2)
    for name, table in (("log A", s.log_A), ("W", s.W)):
        inner = table[1:]
        rounded = (inner.float().double() == inner).double().mean()
        # A table of round numbers, such as a constant, is no sign of it.
        if float(rounded) > 0.9 and len(inner.unique()) > 500 and not _round(inner):
            c.fail(f"{name} that is in single precision throughout", "numbers of double precision")


def _round(x: torch.Tensor) -> bool:
    """Whether all are multiples of one power of two, as a table such as ``-t / 8`` is."""
    return bool((x * 1024 == (x * 1024).round()).all())


@check("schedule.deterministic", kind="schedule", fault="random weights, tables that all who ask share", tolerance=0.0)
def schedule_deterministic(c: Context) -> None:
    """The same options give the same tables, whatever global generators hold; they are the caller's, and global generators are left alone."""
    for steps, n, s in _schedules(c):
        log_A, W = s.log_A.clone(), s.W.clone()
        reseed(c.seed + n)
        with left_alone(c, "as it was made"):
            again = c.thing(steps=steps, modalities=n)
        c.same(again.log_A, log_A, "log A, made again")
        c.same(again.W, W, "W, made again")
        s.log_A.mul_(2)
        s.W.zero_()
        third = c.thing(steps=steps, modalities=n)
        c.same(third.log_A, log_A, "log A, made again after another's tables were changed")
        c.same(third.W, W, "W, made again after another's tables were changed")


@check(
    "schedule.prior",
    kind="schedule",
    fault="too little noise at the end, so that samples start from what is never reached",
)
def prior(c: Context) -> None:
    """At 250 steps and more the process reaches the prior: L0 is at most 0.001 nats per element for one to eight modalities."""
    more = ((steps, n, c.thing(steps=steps, modalities=n)) for steps in (250, 4000) for n in (1, 3))
    for steps, n, s in (*_schedules(c), *more):
        variance = s.variance[-1]
        # Codes of unit variance that share the space evenly.
        L0 = float(0.5 * (variance - 1 - variance.log() + s.W[-1].square().mean()))
        if steps >= 250 and not L0 <= 1e-3:
            c.fail(f"L0 = {L0:.3g} nats per element for {n} modalities and {steps} steps", "at most 0.001")


@check("schedule.signal", kind="schedule", fault="weights that leave a modality below the noise at every step")
def signal(c: Context) -> None:
    """At some step every modality stands out of the noise, with a signal-to-noise ratio of at least 0.1."""
    for _, n, s in _schedules(c):
        snr = (s.W[1:].square() / s.variance[1:, None]).max(0).values
        if not (snr >= 0.1).all():
            c.fail(f"a largest signal-to-noise ratio of {float(snr.min()):.3g} for {n} modalities", "0.1 or more")


@check(
    "schedule.falls",
    kind="schedule",
    fault="a signal that comes back, a cliff between two timesteps, tables from T to 0",
)
def falls(c: Context) -> None:
    """Of 1000 steps each modality's signal-to-noise ratio is largest within the first tenth and only falls from there, by no more than a factor of 5 in a step while it is above 0.01."""
    for steps, n, s in _schedules(c):
        if steps < 1000:
            continue
        snr = s.W[1:].square() / s.variance[1:, None]
        for i in range(n):
            peak = int(snr[:, i].argmax())
            after = snr[peak:, i]
            rises = after[1:] > after[:-1] * (1 + 1e-9)
            if peak >= steps // 10 or rises.any():
                at = peak + 1 if peak >= steps // 10 else peak + 2 + int(rises.nonzero()[0])
                c.fail(f"a signal-to-noise ratio of {float(snr[at - 1, i]):.3g} at t = {at} after {float(snr[max(0, at - 2), i]):.3g}", "one that falls from near t = 1 on")  # fmt: skip
            cliff = (after[:-1] > 5 * after[1:]) & (after[:-1] > 0.01)
            if cliff.any():
                at = peak + 1 + int(cliff.nonzero()[0])
                c.fail(
                    f"from {float(snr[at - 1, i]):.3g} at t = {at} to {float(snr[at, i]):.3g} in one step",
                    "at most a factor of 5 where there is a signal",
                )


@check("schedule.steps", kind="schedule", fault="steps so small or large that the variances lose their digits")
def steps(c: Context) -> None:
    """Every jump's posterior variance is finite and between 0 and the transition's."""
    for length, _, s in _schedules(c):
        process = Process(s)
        t = torch.arange(1, length + 1)
        for before in (t - 1, t // 2, torch.zeros_like(t)):
            jump = process.jump(before, t)
            ok = (jump.beta >= 0) & (jump.beta <= jump.v * (1 + 1e-9)) & (jump.v > 0) & jump.k.isfinite()
            if not ok.all():
                k = int((~ok).nonzero()[0])
                c.fail(
                    f"from {int(before[k])} to {int(t[k])} beta = {jump.beta[k]:.4g}, v = {jump.v[k]:.4g}",
                    "0 ≤ beta ≤ v, v > 0",
                )


@check(
    "schedule.alike",
    kind="schedule",
    fault="a weight by the modality's place in the list",
    level="provisional",
    core=False,
    tolerance=1e-9,
)
def alike(c: Context) -> None:
    """Without options all modalities have the same weights."""
    for _, n, s in _schedules(c):
        c.same(s.W, s.W[:, :1].expand(-1, n), "W of the modalities")


def _with(c: Context, **options: Any) -> Schedule:
    return c.thing(steps=1000, modalities=3, **options)


@check(
    "schedule.gains", kind="schedule", fault="gains of another modality, a gain that changes the noise", tolerance=1e-9
)
def gains(c: Context) -> None:
    """Where it takes `gains`, a modality's gain is a factor of its own weights and of nothing else; ones are the default, as lists and tensors."""
    if not takes(c.thing, "gains"):
        raise NotRun("it takes no gains")
    plain = _with(c)
    for given in ([1.0, 1.0, 1.0], torch.ones(3), (1, 1, 1)):
        c.same(_with(c, gains=given).W, plain.W, "W with gains of 1")
    for g in ([2.0, 0.5, 1.0], [1.0, 3.0, 1.0], [0.25, 1.0, 4.0]):
        made = _with(c, gains=g)
        c.same(made.log_A, plain.log_A, f"log A with gains {g}")
        c.same(made.W, plain.W * torch.tensor(g, dtype=torch.float64), f"W with gains {g}")


@check("schedule.powers", kind="schedule", fault="powers of another modality, or turned about", tolerance=1e-9)
def powers(c: Context) -> None:
    """Where it takes `powers`, a power above 1 lets its own modality dissolve sooner, one below later, and changes nothing else."""
    if not takes(c.thing, "powers"):
        raise NotRun("it takes no powers")
    plain = _with(c)
    c.same(_with(c, powers=[1.0, 1.0, 1.0]).W, plain.W, "W with powers of 1")
    for p in ([2.0, 1.0, 0.5], [1.0, 0.7, 3.0]):
        made = _with(c, powers=p)
        c.same(made.log_A, plain.log_A, f"log A with powers {p}")
        for i, power in enumerate(p):
            if power == 1:
                c.same(made.W[:, i], plain.W[:, i], f"W of a modality of power 1 beside others, powers {p}")
            else:
                ratio = made.W[200:, i] / plain.W[200:, i].clamp(min=1e-300)
                sooner = (ratio < 1).all() if power > 1 else (ratio > 1).all()
                if not sooner or not (made.W[1:, i].diff() <= 1e-12).all():
                    c.fail(f"weights {float(ratio.min()):.3g} … {float(ratio.max()):.3g} times those of power 1 with a power of {power}", "smaller ones above 1, larger ones below")  # fmt: skip


@check(
    "schedule.refuses", kind="schedule", fault="a number of steps or gains that cannot be, taken in silence", core=False
)
def refuses(c: Context) -> None:
    """What cannot be is refused: no step, a fraction of one, gains or powers of another number or not above 0; in whatever words."""
    wrong: list[dict[str, Any]] = [{"steps": 0}, {"steps": -5}, {"steps": 2.5}]
    for option in ("gains", "powers"):
        if takes(c.thing, option):
            wrong += [
                {option: value}
                for value in ([1.0], [1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, math.nan, 1.0], [1.0, 0.0, 1.0])
            ]
    for options in wrong:
        try:
            made = c.thing(**{"steps": 10, "modalities": 3, **options})
        # Torch's own error is a refusal too: the engine never asks for such numbers.
        except Exception:
            continue
        told = ", ".join(f"{name} = {value}" for name, value in options.items())
        c.fail(f"{told} taken, with tables {tuple(made.W.shape)}", "a refusal")


@check(
    "schedule.samples",
    kind="schedule",
    fault="an eta by which samples lose their variance, noise that says less than it is",
)
def samples(c: Context) -> None:
    """Sampled with its own `eta` in 250 steps of 1000, Gaussian codes have their mean to 0.02 deviations and their variance to 15 %.

    With the exact predictor and noise of exact moments, of one modality and of two.
    """
    for modalities, channels in ((1, 3), (2, 5)):
        process = Blocks([c.thing(steps=1000, modalities=modalities)], [list(range(modalities))], [channels])
        known = Known(process, exact=True)
        sampler = Ddim(steps=250)
        path = sampler.path(process)
        rng = Rng.for_rows(c.seed, 128).of("sample")
        with torch.no_grad():
            answer = known.codes(Here(walk(sampler, known, path, rng), path[-1]), rng)
        gain = process.level(path[-1])
        snr = (gain.W[0, known.owner] * known.deviation).square() / gain.sigma[0, 0].square()
        # The answer is a mean: it lacks what the last timestep's noise leaves open.
        want = known.deviation.square() * snr / (1 + snr)
        off = float(((answer.mean(0) - known.mean) / known.deviation).abs().max())
        ratio = float((answer.var(0, correction=0) / want).log().abs().max())
        if not off <= 0.02 or not ratio <= 0.15:
            c.fail(
                f"answers off by {off:.3g} deviations and a factor exp(±{ratio:.3g}) in variance, for {modalities} modalities",
                "the data's own",
            )
