"""Samplers: how to go from noise to samples. Each is a class with one method, and one's own is too.

class Mine(mmcore.sampling.Sampler):
    def step(self, denoiser, here, to, rng, memory):
        return denoiser.move(here, denoiser.codes(here, rng), to)

mmcore.sample(model, 64, sampler=Mine(steps=30))
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Sized
from numbers import Integral, Real
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.errors import OptionError, RequestError
from mmcore.limits import TIMESTEPS
from mmcore.plugins import Registry, discover
from mmcore.process import Process
from mmcore.rng import Rng
from mmcore.sampling.denoiser import CODES, Asked, Here

SPACINGS = ("time", "snr")

Memory = dict[str, Any]
"""What a sampler keeps from step to step of one run; empty at the first."""


@attrs.frozen
class Sampler(ABC):
    """How samples are drawn from noise: which timesteps are visited, and the step between two of them.

    Attributes:
        steps: how many timesteps are visited, from ``T`` to 1; or the decreasing timesteps themselves.
        spacing: ``"time"``, even in ``t``; or ``"snr"``, even in the half log signal-to-noise ratio, of several blocks the first one's.
        codes: how modalities enter a step: by their ``"mean"`` codes; or discrete ones, ``"draw"``, or all, ``"draw-all"``, by the code of
            a draw from what is predicted. With few steps mean codes lose variance.
    """

    steps: int | Sequence[int] = 50
    spacing: str = "time"
    codes: str = "mean"

    @abstractmethod
    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: Memory) -> Tensor:
        """Take one sampling step: from noisy latents at a timestep to those at the next.

        Args:
            denoiser: the model asked a question: :meth:`~mmcore.sampling.Asked.codes` calls the network,
                :meth:`~mmcore.sampling.Asked.move` goes.
            here: the noisy latents ``here.z (B, *Z)`` at timestep ``here.t``.
            to: the next timestep, below ``here.t``.
            rng: random numbers of this step, each row's its own.
            memory: what this sampler keeps from step to step.

        Returns:
            the noisy latents at ``to``, ``(B, *Z)``.
        """

    def path(self, process: Process, begin: int | None = None) -> list[int]:
        """The decreasing timesteps to visit, the last of them at least 1.

        Args:
            process: the forward process.
            begin: the first timestep, ``T`` by default.

        Raises:
            OptionError: options that this process cannot be sampled with.
        """
        _check_codes(self.codes)
        return visited(process, self.steps, self.spacing, begin=begin)


@attrs.frozen
class Ddim(Sampler):
    """DDIM, first order: deterministic for ``eta = 0``, ancestral for ``eta = 1`` ("Denoising Diffusion Implicit Models", Song et al. 2021).

    Attributes:
        eta: ``η`` in 0 … 1; by default the noise schedule's own.
    """

    eta: float | None = None

    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: Memory) -> Tensor:
        """One DDIM step, by :meth:`mmcore.Process.step`."""
        codes = denoiser.codes(here, rng)
        eta = self.of(denoiser.process)
        return denoiser.move(here, codes, to, denoiser.noise(rng) if eta else None, eta)

    def of(self, process: Process) -> float:
        """DDIM's ``η`` for this process: the option's, or else the noise schedule's own."""
        return process.schedule.eta if self.eta is None else self.eta

    def path(self, process: Process, begin: int | None = None) -> list[int]:
        """The timesteps to visit, as :meth:`Sampler.path`; refuses an ``eta`` that is none, and drawn codes without noise."""
        eta = self.of(process)
        if not isinstance(eta, Real) or not 0 <= eta <= 1:
            raise OptionError("sample", "eta", eta, "0 … 1")
        if self.codes in CODES[1:] and eta == 0:
            raise _drawn(self.codes, beside=["eta", "sampler"])
        return super().path(process, begin)


@attrs.frozen
class Ancestral(Ddim):
    """DDPM's ancestral sampling: each step draws from the posterior (Ho et al. 2020)."""

    eta: float = attrs.field(default=1.0, init=False)


@attrs.frozen
class Deterministic(Sampler):
    """A deterministic sampler of second order; it needs a signal-to-noise ratio that falls with ``t``."""

    codes: str = attrs.field(default="mean", init=False)

    def path(self, process: Process, begin: int | None = None) -> list[int]:
        """The timesteps to visit, as :meth:`Sampler.path`; refuses a path along which the signal-to-noise ratio does not rise."""
        path = super().path(process, begin)
        checked_snr(process, path, "sampler", NAMES.get(type(self), type(self).__name__))
        return path


@attrs.frozen
class Multistep(Deterministic):
    """DPM-Solver++(2M), second order from the codes of two steps, one call of the network each (Lu et al. 2022)."""

    steps: int | Sequence[int] = 20

    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: Memory) -> Tensor:
        """A DDIM step with predicted latents extrapolated along the process's own ``λ``."""
        codes, before = denoiser.codes(here, rng), memory.get("before")
        memory["before"] = (codes, here.t)
        if before is not None:
            c = denoiser.by_code(denoiser.process.extrapolation(to, here.t, before[1]))
            codes = (codes - before[0]).mul_(c).add_(codes)
        return denoiser.move(here, codes, to)


@attrs.frozen
class Heun(Deterministic):
    """Heun's method, second order from the codes at both ends of a step, two calls of the network each (Karras et al. 2022)."""

    steps: int | Sequence[int] = 10

    def step(self, denoiser: Asked, here: Here, to: int, rng: Rng, memory: Memory) -> Tensor:
        """A DDIM step, and the same again with the mean of the predicted latents at both ends."""
        codes = denoiser.codes(here, rng)
        there = denoiser.codes(Here(denoiser.move(here, codes, to), to), rng)
        return denoiser.move(here, (codes + there) / 2, to)


SAMPLERS: dict[str, type[Sampler]] = {"ddim": Ddim, "ancestral": Ancestral, "2m": Multistep, "heun": Heun}
"""The built-in samplers by name; others come as objects or by plugin."""
NAMES = {kind: name for name, kind in SAMPLERS.items()}


def visited(
    process: Process, steps: int | Sequence[int], spacing: str = "time", *, begin: int | None = None
) -> list[int]:
    """The decreasing timesteps that a sampler visits, the last of them at least 1.

    Args:
        process: the process.
        steps: how many, from ``T`` to 1, or all of them where ``T`` is smaller; or the very timesteps.
        spacing: ``"time"``, even in ``t``; or ``"snr"``, even in the half log signal-to-noise ratio, of several blocks
            the first one's.
        begin: the first timestep, ``T`` by default.

    Raises:
        OptionError: fewer than one step, an unknown spacing, timesteps that do not decrease, do not begin where they must or leave
            ``1 … T``, or a ratio that does not grow towards ``t = 1``.
    """
    begin = process.steps if begin is None else begin
    if not isinstance(spacing, str) or spacing not in SPACINGS:
        raise OptionError("sample", "spacing", spacing, choices=SPACINGS)
    told = steps.tolist() if isinstance(steps, torch.Tensor) and steps.ndim else steps
    if isinstance(told, Sequence) and not isinstance(told, str):
        path = decreasing(told)
        if path is None:
            raise OptionError("sample", "steps", told, f"decreasing whole numbers inside 1 … {begin}")
        if path[0] != begin:
            raise OptionError("sample", "steps", path, f"{begin} first, where what they start from is")
        return path
    if not isinstance(steps, int | Integral) or isinstance(steps, bool) or int(steps) < 1:
        raise OptionError("sample", "steps", steps, "a whole number of at least 1, or the steps themselves")
    if steps == 1 or begin == 1:
        return [begin]
    count = min(int(steps), begin)
    if spacing == "time":
        return torch.linspace(begin, 1, count, dtype=torch.float64).round().long().tolist()
    levels = checked_snr(process, list(range(begin, 0, -1)), "spacing", "snr")[:, 0].contiguous()
    wanted = torch.linspace(float(levels[0]), float(levels[-1]), count, dtype=torch.float64)
    chosen = torch.searchsorted(levels, wanted).clamp(max=len(levels) - 1)
    return sorted({begin - int(i) for i in chosen} | {begin, 1}, reverse=True)


def decreasing(steps: Iterable[object]) -> list[int] | None:
    """Timesteps as plain integers; None where they are no decreasing whole numbers of at least 1, or none at all."""
    # A range may be longer than anybody can wait for.
    if isinstance(steps, Sized) and len(steps) > TIMESTEPS.most:
        return None
    path: list[int] = []
    for t in steps:
        if not isinstance(t, Integral) or isinstance(t, bool) or not 1 <= int(t) < (path[-1] if path else math.inf):
            return None
        path.append(int(t))
    return path or None


def _visits(sampler: Sampler, process: Process, begin: int | None) -> list[int]:
    """A sampler's own path, which may be anything where it is not :func:`visited`'s.

    Raises:
        RequestError: it does not begin where sampling does, or is no path.
    """
    told: Any = sampler.path(process, begin)
    first = process.steps if begin is None else begin
    path = decreasing(told.tolist() if isinstance(told, torch.Tensor) else told) if isinstance(told, Iterable) else None
    if path is None or path[0] != first:
        raise RequestError(
            f"sample: the sampler {type(sampler).__name__} has the path {told!r}, expected decreasing whole numbers "
            f"from {first}, none below 1"
        )
    return path


def checked_snr(process: Process, path: list[int], option: str, value: str) -> Tensor:
    """``λ`` at each timestep of a decreasing path, ``(steps, K)``, which must rise along it.

    Raises:
        OptionError: naming the option that needs it, and where it does not.
    """
    levels, still = half_log_snr(process, path)
    if still is not None:
        raise OptionError(
            "sample",
            option,
            value,
            "a noise schedule whose signal-to-noise ratio is above zero and falls with t: that of "
            f"{process.schedule.name!r} does not between t = {path[still + 1]} and t = {path[still]}",
            mend="use 'ddim' with spacing 'time', or another schedule",
        )
    return levels


def half_log_snr(process: Process, path: list[int]) -> tuple[Tensor, int | None]:
    """``λ`` at each timestep of a decreasing path, ``(steps, K)``, and the first place where it does not rise, if any."""
    blocks = process.timestep_shape(1)[1:]
    t = torch.tensor(path).reshape(-1, *[1] * len(blocks)).expand(-1, *blocks)
    levels = process.half_log_snr(t).reshape(len(path), -1)
    rises = levels.isfinite().all(1)[:-1] & (levels.diff(dim=0) > 0).all(1)
    return levels, None if rises.all() else int((~rises).nonzero()[0])


def plan(
    process: Process,
    sampler: str | Sampler = "auto",
    *,
    steps: int | Sequence[int] | None = None,
    spacing: str | None = None,
    eta: float | None = None,
    codes: str | None = None,
    begin: int | None = None,
    registry: Registry | None = None,
) -> tuple[Sampler, list[int]]:
    """The sampler that a name and options stand for, and the timesteps that it visits.

    All that can be wrong with them is told here.

    Args:
        process: the forward process.
        sampler: ``"auto"``, a name, or a sampler with its options.
        steps: as :attr:`Sampler.steps`, for a sampler by name; its own by default.
        spacing: as :attr:`Sampler.spacing`, for a sampler by name.
        eta: DDIM's, for a sampler by name.
        codes: as :attr:`Sampler.codes`, for a sampler by name.
        begin: the first timestep, ``T`` by default.
        registry: where a plugin's sampler is looked up; by default a new :func:`mmcore.discover`.

    Raises:
        OptionError: an unknown name, or options that do not fit.
        PluginError: a plugin's sampler that is broken.
    """
    options: dict[str, Any] = {"steps": steps, "spacing": spacing, "eta": eta, "codes": codes}
    options = {name: value for name, value in options.items() if value is not None}
    if spacing is not None and not isinstance(spacing, str):
        raise OptionError("sample", "spacing", spacing, choices=SPACINGS)
    if isinstance(sampler, Sampler):
        for name, value in options.items():
            kind = type(sampler).__name__
            raise OptionError("sample", name, value, f"none beside a sampler given as an object, but {kind}({name}=…)")
        return sampler, _visits(sampler, process, begin)
    if not isinstance(sampler, str):
        raise OptionError("sample", "sampler", sampler, "a name or a mmcore.sampling.Sampler object")
    if sampler == "auto":
        _check_codes(codes)
        path = visited(process, Multistep().steps if steps is None else steps, spacing or "time", begin=begin)
        plain = eta is None and codes in (None, "mean")
        sampler = "2m" if plain and half_log_snr(process, path)[1] is None else "ddim"
    if sampler in SAMPLERS:
        _check_codes(codes)
        if sampler != "ddim" and eta is not None:
            raise OptionError(
                "sample", "eta", eta, f"none with the sampler {sampler!r} (it is DDIM's)", beside=["sampler"]
            )
        if sampler in ("2m", "heun") and options.pop("codes", "mean") != "mean":
            raise _drawn(codes, beside=["sampler"])
        chosen = SAMPLERS[sampler](**options)
    else:
        registry = registry or discover()
        check_name(sampler, registry)
        chosen = registry.make("sampler", sampler, options)[1]
    return chosen, _visits(chosen, process, begin)


def check_name(name: str, registry: Registry) -> None:
    """Refuse a sampler's name that neither mmcore nor a plugin knows.

    Raises:
        OptionError: naming those there are.
    """
    own = {entry.name for entry in registry.entries if entry.kind == "sampler"} | SAMPLERS.keys()
    if name.rpartition(":")[2] not in own | {"auto"}:
        raise OptionError("sample", "sampler", name, choices=("auto", *SAMPLERS, *sorted(own - SAMPLERS.keys())))


def _check_codes(codes: str | None) -> None:
    if codes is not None and (not isinstance(codes, str) or codes not in CODES):
        raise OptionError("sample", "codes", codes, choices=CODES)


def _drawn(codes: str | None, beside: Sequence[str]) -> OptionError:
    return OptionError(
        "sample", "codes", codes, "'mean' with a deterministic sampler: it would no longer be one", beside=beside
    )
