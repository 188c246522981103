"""Samplers and guidances broken on purpose, and those that must pass."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore import Rng
from mmcore.sampling.denoiser import Here
from mmcore.sampling.guidance import ClassifierFree, Guidance
from mmcore.sampling.samplers import Ancestral, Ddim, Heun, Multistep, Sampler, visited
from tests.testing.mutants import Mutant

# ---- healthy ----


@attrs.frozen
class Noisy(Sampler):
    """A step between a deterministic and an ancestral one, with numbers of a purpose of its own."""

    churn: float = 0.3

    def step(self, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        return denoiser.move(
            here,
            denoiser.codes(here, rng),
            to,
            rng.of("churn").normal(*here.z.shape[1:], dtype=here.z.dtype),
            self.churn,
        )


@attrs.frozen
class Own(Sampler):
    """A path of its own, denser near the clean end, and DDIM's step."""

    def path(self, process: Any, begin: int | None = None) -> list[int]:
        visited(process, self.steps, self.spacing, begin=begin)
        if not isinstance(self.steps, int) or self.spacing == "snr":
            return super().path(process, begin)
        super().path(process, begin)
        last = process.steps if begin is None else begin
        n = min(self.steps, last)
        return sorted({max(1, round(last * ((k + 1) / n) ** 1.2)) for k in range(n)} | {last}, reverse=True)[:n]

    def step(self, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        return denoiser.move(here, denoiser.codes(here, rng), to)


class Plain(Sampler):
    """Of 60 steps always, whatever is asked for: it takes no options."""

    def __init__(self) -> None:
        super().__init__(steps=60)

    def step(self, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        return denoiser.move(here, denoiser.codes(here, rng), to)


@attrs.frozen
class Early(Guidance):
    """Classifier-free guidance at high noise only."""

    scales: Mapping[str, float]

    def __attrs_post_init__(self) -> None:
        ClassifierFree(self.scales)

    def names(self) -> list[str]:
        return [name for name, g in self.scales.items() if g != 1]

    def combine(self, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
        return ClassifierFree(self.scales).combine(codes, without, here) if here.t > 400 else codes


class Rescaled(Early):
    """Guided codes brought back to the deviation of those that are not, row by row (Lin et al. 2024)."""

    def combine(self, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
        guided = ClassifierFree(self.scales).combine(codes, without, here)
        scaled = guided * codes.std(1, keepdim=True) / guided.std(1, keepdim=True).clamp(min=1e-6)
        return 0.3 * scaled + 0.7 * guided


class Clipped(Guidance):
    """Codes kept in a range; it asks for no other prediction."""

    def __init__(self, scales: Mapping[str, float]) -> None:
        self.scales = scales

    def names(self) -> list[str]:
        return []

    def combine(self, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
        return codes.clamp(-4, 4)


SAMPLERS: dict[str, Callable[..., Any]] = {
    "ddim": Ddim, "ancestral": Ancestral, "2m": Multistep, "heun": Heun,
    "one that adds noise": Noisy, "a path of its own": Own, "one without options": Plain,
}  # fmt: skip
GUIDANCES: dict[str, Callable[..., Any]] = {
    "classifier-free": ClassifierFree, "at high noise": Early, "rescaled": Rescaled, "clipped": Clipped,
}  # fmt: skip

# ---- broken samplers ----


def sampler(base: type[Sampler] = Ddim, **changes: Any) -> Callable[[Path], Any]:
    """A sampler with methods changed; it may keep what it likes on itself."""
    return lambda _: type(f"Broken{base.__name__}", (base,), {**changes, "__setattr__": object.__setattr__})


def stepping(change: Callable[..., Tensor], base: type[Sampler] = Ddim) -> Callable[[Path], Any]:
    """A sampler with another step, ``change(self, denoiser, here, to, rng, memory)``."""
    return sampler(base, step=change)


def healthy(self: Any, *args: Any) -> Tensor:
    return Ddim.step(self, *args)


def with_codes(change: Callable[[Tensor, Any], Tensor], eta: float = 0.0) -> Callable[[Path], Any]:
    """A DDIM step with changed codes, ``change(codes, here)``."""

    def step(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        codes = change(denoiser.codes(here, rng), here)
        return denoiser.move(here, codes, to, denoiser.noise(rng) if eta else None, eta)

    return stepping(step)


def with_noise(change: Callable[..., Tensor]) -> Callable[[Path], Any]:
    """An ancestral step whose noise is ``change(noise, self, denoiser, here, to, rng, memory)``."""

    def step(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
        noise = change(denoiser.noise(rng), self, denoiser, here, to, rng, memory)
        return denoiser.move(here, denoiser.codes(here, rng), to, noise, 1.0)

    return stepping(step)


def first_noise(
    noise: Tensor, self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]
) -> Tensor:
    return memory.setdefault("noise", noise)


def own_noise(noise: Tensor, self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """The step's numbers, of the wrong step."""
    return rng.at(0).of("noise").normal(*noise.shape[1:], dtype=noise.dtype)


def seeded_noise(
    noise: Tensor, self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]
) -> Tensor:
    """A generator of the batch, seeded by the rng's."""
    generator = torch.Generator().manual_seed(rng.seed * 1000 + to)
    return torch.randn(noise.shape, generator=generator, dtype=noise.dtype)


def last_codes_on_self(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """A multistep that keeps its last codes on the sampler."""
    codes = denoiser.codes(here, rng)
    before = self.__dict__.get("before") if hasattr(self, "__dict__") else None
    object.__setattr__(self, "before", codes)
    use = codes if before is None or before.shape != codes.shape else 1.1 * codes - 0.1 * before
    return denoiser.move(here, use, to)


def counts(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    object.__setattr__(self, "calls", [*getattr(self, "calls", []), here.t])
    return healthy(self, denoiser, here, to, rng, memory)


def in_place(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    here.z.clamp_(-3, 3)
    return healthy(self, denoiser, here, to, rng, memory)


def same_tensor(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """All latents in the tensor that the run began with."""
    return here.z.copy_(denoiser.move(here, denoiser.codes(here, rng), to))


def normalised(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    codes = denoiser.codes(here, rng)
    return denoiser.move(here, codes - 0.1 * codes.mean(0) if len(codes) > 1 else codes, to)


def threshold_of_batch(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    codes = denoiser.codes(here, rng)
    most = codes.abs().amax() * 0.9
    return denoiser.move(here, codes.clamp(-most, most), to)


def first_block(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """An ancestral step whose noise is of the first block's size everywhere."""
    codes, noise = denoiser.codes(here, rng), denoiser.noise(rng)
    size = denoiser.process.jump(to, here.t).beta.reshape(-1)[0].sqrt()
    return denoiser.move(here, codes, to, 0 * noise, 1.0) + size.to(noise.dtype) * noise


def averaged(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    codes, before = denoiser.codes(here, rng), memory.get("before")
    memory["before"] = codes
    return denoiser.move(here, codes if before is None else 0.5 * (codes + before), to)


def corrected(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    codes = denoiser.codes(here, rng)
    there = denoiser.codes(Here(denoiser.move(here, codes, to), to), rng)
    return denoiser.move(here, 2 * there - codes, to)


def at_the_first(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """Heun's codes, the second as if no time had gone by, and half of the noise."""
    codes = denoiser.codes(here, rng)
    there = denoiser.codes(Here(denoiser.move(here, codes, to), here.t), rng)
    return denoiser.move(here, (codes + there) / 2, to, denoiser.noise(rng), 0.5)


def never_asks(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """Codes of every second step."""
    if "codes" not in memory or here.t % 2:
        memory["codes"] = denoiser.codes(here, rng)
    return denoiser.move(here, memory["codes"], to)


def by_the_first(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    codes = memory.setdefault("codes", denoiser.codes(here, rng))
    denoiser.codes(here, rng)
    return denoiser.move(here, codes, to)


def wrong_time(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """The network told another timestep than that of the latents."""
    return denoiser.move(here, denoiser.codes(Here(here.z, max(1, here.t // 2)), rng), to)


def short_of(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """A step that stops half way and says that it went all of it."""
    half = (here.t + to + 1) // 2
    return denoiser.move(here, denoiser.codes(here, rng), min(half, here.t - 1))


def noise_on_all(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    """A little noise on the whole space, the observed block too."""
    return healthy(self, denoiser, here, to, rng, memory) + 1e-3 * denoiser.noise(rng)


def on_the_cpu(self: Any, denoiser: Any, here: Here, to: int, rng: Rng, memory: dict[str, Any]) -> Tensor:
    return healthy(self, denoiser, here, to, rng, memory) + torch.zeros(here.z.shape, dtype=here.z.dtype)


def path_of(change: Callable[[list[int]], Any]) -> Callable[[Path], Any]:
    return sampler(path=lambda self, process, begin=None: change(Ddim.path(self, process, begin)))


def options_ignored(**fixed: Any) -> Callable[[Path], Any]:
    """A sampler that takes options and has others."""

    def make(_: Path) -> Any:
        @functools.wraps(Ddim, updated=())
        def build(**options: Any) -> Sampler:
            return Ddim(**{**options, **fixed})

        return build

    return make


def unchecked(_: Path) -> Any:
    """Whatever it is given becomes something."""

    class Anything(Ddim):
        def path(self, process: Any, begin: int | None = None) -> list[int]:
            n = self.steps if isinstance(self.steps, int) and self.steps > 0 else 5
            first = process.steps if begin is None else begin
            if not isinstance(self.steps, int) and next(iter(self.steps)) == first:
                return list(self.steps)
            return visited(process, n, self.spacing if self.spacing in ("time", "snr") else "time", begin=begin)

    return Anything


def early_end(path: list[int]) -> list[int]:
    return path[: max(1, len(path) * 2 // 3)]


SAMPLER_MUTANTS = [
    Mutant("sampler.path", "an end at 0", path_of(lambda p: [*p, 0]), "sampler"),
    Mutant("sampler.path", "a beginning short of T", path_of(lambda p: p[1:] or p), "sampler"),
    Mutant("sampler.path", "an end in the middle", path_of(early_end), "sampler"),
    Mutant("sampler.path", "timesteps that rise", path_of(lambda p: p[::-1]), "sampler"),
    Mutant("sampler.path", "a timestep visited twice", path_of(lambda p: [p[0], *p]), "sampler"),
    Mutant("sampler.path", "where an edit begins, not read", sampler(path=lambda self, process, begin=None: Ddim.path(self, process)), "sampler"),
    Mutant("sampler.path", "two steps where one is asked for", path_of(lambda p: p if len(p) > 1 or p == [1] else [*p, 1]), "sampler"),
    Mutant("sampler.options", "steps that are not read", options_ignored(steps=50), "sampler"),
    Mutant("sampler.options", "a step more than asked for", sampler(path=lambda self, process, begin=None: Ddim.path(attrs.evolve(Ddim(), steps=self.steps + 1) if isinstance(self.steps, int) and self.steps > 1 else self, process, begin)), "sampler"),
    Mutant("sampler.options", "a spacing that is not read", options_ignored(spacing="time"), "sampler"),
    Mutant("sampler.options", "codes that are not read", options_ignored(codes="mean"), "sampler"),
    Mutant("sampler.options", "whatever is asked for taken", unchecked, "sampler"),
    Mutant("sampler.eta", "an eta that is not read", options_ignored(eta=1.0), "sampler"),
    Mutant("sampler.eta", "an eta of half of what is asked for", sampler(of=lambda self, process: 0.5 + 0.5 * Ddim.of(self, process)), "sampler"),
    Mutant("sampler.step", "latents in single precision always", stepping(lambda self, *a: healthy(self, *a).float()), "sampler"),
    Mutant("sampler.step", "latents that are flattened", stepping(lambda self, *a: healthy(self, *a).flatten(2)), "sampler"),
    Mutant("sampler.step", "NaN at the last step", stepping(lambda self, d, here, to, *a: healthy(self, d, here, to, *a) / (0.0 if to == 1 else 1.0) * (0.0 if to == 1 else 1.0)), "sampler"),
    Mutant("sampler.step", "a step that reads images only", stepping(lambda self, d, here, to, *a: healthy(self, d, here, to, *a) + 0 * here.z.permute(0, 1, 3, 2).permute(0, 1, 3, 2)), "sampler"),
    Mutant("sampler.step", "codes of the next timestep, 0 at the end", stepping(lambda self, d, here, to, rng, memory: d.move(here, d.codes(Here(here.z, to - 1), rng), to)), "sampler"),
    Mutant("sampler.pure", "latents clamped in place", stepping(in_place), "sampler"),
    Mutant("sampler.pure", "one tensor for all latents", stepping(same_tensor), "sampler"),
    Mutant("sampler.repeatable", "noise from the global generator", with_noise(lambda noise, *_: torch.randn_like(noise)), "sampler"),
    Mutant("sampler.repeatable", "the last codes kept on the sampler", stepping(last_codes_on_self), "sampler"),
    Mutant("sampler.repeatable", "a list of all timesteps kept on the sampler", stepping(counts), "sampler"),
    Mutant("sampler.rows", "codes centred by the batch", stepping(normalised), "sampler"),
    Mutant("sampler.rows", "a threshold by the batch", stepping(threshold_of_batch), "sampler"),
    Mutant("sampler.rows", "noise for the batch as a whole", with_noise(seeded_noise), "sampler"),
    Mutant("sampler.law", "noise a twentieth too large", with_noise(lambda noise, *_: 1.05 * noise), "sampler"),
    Mutant("sampler.law", "noise a twentieth too small", with_noise(lambda noise, *_: 0.95 * noise), "sampler"),
    Mutant("sampler.law", "one noise for all steps", with_noise(first_noise), "sampler"),
    Mutant("sampler.law", "uniform noise", with_noise(lambda noise, s, d, here, to, rng, m: rng.uniform(*noise.shape[1:], dtype=noise.dtype) - 0.5), "sampler"),
    Mutant("sampler.law", "no noise in an ancestral step", with_noise(lambda noise, *_: 0 * noise), "sampler"),
    Mutant("sampler.law", "noise of the first block's size everywhere", stepping(first_block), "sampler"),
    Mutant("sampler.law", "codes that are clipped at one deviation", with_codes(lambda codes, here: codes.clamp(-1, 1)), "sampler"),
    Mutant("sampler.law", "a temperature of the codes", with_codes(lambda codes, here: 0.9 * codes), "sampler"),
    Mutant("sampler.law", "a network told another timestep", stepping(wrong_time), "sampler"),
    Mutant("sampler.converges", "a step that stops half way", stepping(short_of), "sampler"),
    Mutant("sampler.converges", "codes a fiftieth too large near the end", with_codes(lambda codes, here: codes * (1.02 if here.t < 100 else 1.0)), "sampler"),
    Mutant("sampler.asks", "codes of every second step", stepping(never_asks), "sampler"),
    Mutant("sampler.law", "the first step's codes throughout", stepping(by_the_first), "sampler"),
    Mutant("sampler.asks", "the opposite codes", with_codes(lambda codes, here: -codes), "sampler"),
    Mutant("sampler.asks", "codes by one step's numbers throughout", stepping(lambda self, d, here, to, rng, memory: d.move(here, d.codes(here, rng.at(0)), to)), "sampler"),
    Mutant("sampler.order", "an extrapolation of the wrong sign", stepping(averaged), "sampler"),
    Mutant("sampler.order", "a corrector that takes the end twice", stepping(corrected), "sampler"),
    Mutant("sampler.order", "a corrector of the wrong timestep, with noise", stepping(at_the_first), "sampler"),
    Mutant("sampler.draws", "one noise for all places of a channel", with_noise(lambda noise, *_: noise[..., :1].expand_as(noise)), "sampler"),
    Mutant("sampler.draws", "uniform noise of unit variance", with_noise(lambda noise, s, d, here, to, rng, m: 12**0.5 * (rng.uniform(*noise.shape[1:], dtype=noise.dtype) - 0.5)), "sampler"),
    Mutant("sampler.device", "a tensor made on the CPU", stepping(on_the_cpu), "sampler"),
    Mutant("sampler.device", "a value that decides", stepping(lambda self, d, here, *a: healthy(self, d, here, *a) if here.z.abs().max() < 1e9 else here.z), "sampler"),
    Mutant("sampler.observed", "noise on what is observed", stepping(noise_on_all), "sampler"),
    Mutant("sampler.observed", "a scale of the whole space", stepping(lambda self, *a: 0.999 * healthy(self, *a)), "sampler"),
    Mutant("sampler.batches", "codes centred by the batch", stepping(normalised), "sampler"),
    Mutant("sampler.batches", "a threshold by the batch", stepping(threshold_of_batch), "sampler"),
    Mutant("sampler.draws", "one noise for all steps", with_noise(own_noise), "sampler"),
    Mutant("sampler.draws", "one noise for all rows", with_noise(lambda noise, s, d, here, to, rng, m: Rng(rng.seed, 0 * rng.rows).at(to).normal(*noise.shape[1:], dtype=noise.dtype)), "sampler"),
]  # fmt: skip

# ---- broken guidances ----


def guidance(combine: Callable[..., Tensor] | None = None, **changes: Any) -> Callable[[Path], Any]:
    """Classifier-free guidance with another ``combine(self, codes, without, here)``, or other methods."""
    body = dict(changes) | ({} if combine is None else {"combine": combine})
    return lambda _: type("BrokenGuidance", (ClassifierFree,), {**body, "__setattr__": object.__setattr__})


def free(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    return ClassifierFree.combine(self, codes, without, here)


def by_place(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = codes
    for bare, scale in zip(without.values(), self.scales.values(), strict=False):
        guided = guided + (float(scale) - 1) * (codes - bare)
    return guided


def exchanged(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = codes
    for name, bare in without.items():
        other = next((s for n, s in self.scales.items() if n != name), self.scales[name])
        guided = guided + (float(other) - 1) * (codes - bare)
    return guided


def off_by_one(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = codes
    for name, bare in without.items():
        guided = guided + float(self.scales[name]) * (codes - bare)
    return guided


def batch_norm(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = free(self, codes, without, here)
    return guided * (codes.norm() / guided.norm().clamp(min=1e-6)) if here.t > 3 else guided


def row_threshold(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = free(self, codes, without, here)
    most = 0.9 * float(codes.abs().max())
    return guided.clamp(-most, most)


def momentum(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    guided = free(self, codes, without, here)
    before = getattr(self, "before", None)
    object.__setattr__(self, "before", guided)
    return guided if before is None or before.shape != guided.shape else 0.7 * guided + 0.3 * before


def history(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    object.__setattr__(self, "told", [*getattr(self, "told", []), here.t])
    return free(self, codes, without, here)


def adds_in_place(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    for name, bare in without.items():
        codes += (float(self.scales[name]) - 1) * (codes - bare)
    return codes


def divided(self: Any, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
    """The difference by its own norm, which is nothing where predictions agree."""
    guided = codes
    for name, bare in without.items():
        d = codes - bare
        guided = guided + (float(self.scales[name]) - 1) * d / d.norm(dim=1, keepdim=True)
    return guided


GUIDANCE_MUTANTS = [
    Mutant("guidance.combine", "the difference by its own norm", guidance(divided), "guidance"),
    Mutant("guidance.combine", "codes in double precision", guidance(lambda self, c, w, h: free(self, c, w, h).double()), "guidance"),
    Mutant("guidance.combine", "the rows' mean", guidance(lambda self, c, w, h: free(self, c, w, h).mean(0)), "guidance"),
    Mutant("guidance.combine", "names as a text", guidance(names=lambda self: "one"), "guidance"),
    Mutant("guidance.combine", "a name that there is not", guidance(names=lambda self: [*self.scales, "moon"]), "guidance"),
    Mutant("guidance.neutral", "a scale that is off by one", guidance(off_by_one, names=lambda self: list(self.scales)), "guidance"),
    Mutant("guidance.neutral", "codes that are clipped too", guidance(lambda self, c, w, h: free(self, c, w, h).clamp(-1, 1), names=lambda self: list(self.scales)), "guidance"),
    Mutant("guidance.agrees", "codes scaled as a whole", guidance(lambda self, c, w, h: free(self, c, w, h) * (1 + 0.01 * (len(w) > 0))), "guidance"),
    Mutant("guidance.agrees", "a constant that is added", guidance(lambda self, c, w, h: free(self, c, w, h) + 1e-3 * len(w)), "guidance"),
    Mutant("guidance.agrees", "noise that is not guided", guidance(lambda self, c, w, h: free(self, c, w, h) + 1e-3 * h.z.flatten(1)[:, :1] * len(w)), "guidance"),
    Mutant("guidance.scales", "the wrong direction", guidance(lambda self, c, w, h: 2 * c - free(self, c, w, h)), "guidance"),
    Mutant("guidance.scales", "a scale that is not read", guidance(lambda self, c, w, h: ClassifierFree(dict.fromkeys(self.scales, 2.0)).combine(c, w, h)), "guidance"),
    Mutant("guidance.scales", "scales exchanged", guidance(exchanged), "guidance"),
    Mutant("guidance.scales", "no guidance at all", guidance(lambda self, c, w, h: c + 0), "guidance"),
    Mutant("guidance.scales", "the first observation only", guidance(lambda self, c, w, h: free(self, c, {k: v for k, v in w.items() if k == "one"}, h)), "guidance"),
    Mutant("guidance.scales", "predictions asked for at scales of 1 only", guidance(names=lambda self: [name for name, g in self.scales.items() if g == 1]), "guidance"),
    Mutant("guidance.scales", "a scale that is off by one, but at 1", guidance(off_by_one), "guidance"),
    Mutant("guidance.scales", "a scale of 0 that leads away", guidance(lambda self, c, w, h: ClassifierFree({k: 1 + abs(g - 1) for k, g in self.scales.items()}).combine(c, w, h)), "guidance"),
    Mutant("guidance.order", "predictions by their place", guidance(by_place), "guidance"),
    Mutant("guidance.order", "later observations weigh less", guidance(lambda self, c, w, h: functools.reduce(lambda g, item: g + (self.scales[item[1][0]] - 1) / (1 + item[0]) * (c - item[1][1]), enumerate(w.items()), c)), "guidance"),
    Mutant("guidance.rows", "a norm over the batch", guidance(batch_norm), "guidance"),
    Mutant("guidance.rows", "a threshold by all rows", guidance(row_threshold), "guidance"),
    Mutant("guidance.rows", "the first row's prediction for all", guidance(lambda self, c, w, h: free(self, c, {k: v[:1].expand_as(v) for k, v in w.items()}, h)), "guidance"),
    Mutant("guidance.pure", "codes moved in place", guidance(adds_in_place), "guidance"),
    Mutant("guidance.pure", "a moving average from call to call", guidance(momentum), "guidance"),
    Mutant("guidance.pure", "a list of all timesteps", guidance(history), "guidance"),
    Mutant("guidance.pure", "noise from the global generator", guidance(lambda self, c, w, h: free(self, c, w, h) + 1e-3 * torch.randn_like(c)), "guidance"),
    Mutant("guidance.refuses", "a scale that is no number taken", guidance(__attrs_post_init__=lambda self: None), "guidance"),
    Mutant("guidance.device", "a tensor made on the CPU", guidance(lambda self, c, w, h: free(self, c, w, h) + torch.zeros(c.shape)), "guidance"),
    Mutant("guidance.device", "a value that decides", guidance(lambda self, c, w, h: free(self, c, w, h) if float(c.abs().max()) < 1e9 else c), "guidance"),
    Mutant("guidance.samples", "a norm over the batch", guidance(batch_norm), "guidance"),
    Mutant("guidance.samples", "the first row's prediction for all", guidance(lambda self, c, w, h: free(self, c, {k: v[:1].expand_as(v) for k, v in w.items()}, h)), "guidance"),
]  # fmt: skip

MUTANTS = [*SAMPLER_MUTANTS, *GUIDANCE_MUTANTS]
