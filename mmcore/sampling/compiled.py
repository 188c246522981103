"""A sampler's step as one graph, the same for all timesteps: what they fix goes in as tensors.

A number in a graph is part of it, and another would be another graph. So a sampler is shown two timesteps that are always the same, and a
denoiser that knows by tensors what they stand for.
"""

from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

import attrs
from torch import Tensor

from mmcore.errors import OptionError
from mmcore.model.graph import RECORDED, begin, one_graph
from mmcore.process import Blocks
from mmcore.process.schedule import Schedule
from mmcore.rng import Rng
from mmcore.sampling.denoiser import Asked, Denoiser, Fixed, Here
from mmcore.sampling.guidance import Pinned
from mmcore.sampling.samplers import SAMPLERS, Ddim, Memory, Sampler

MODES = {True: "default", "graphs": RECORDED}
"""What ``compiled`` may be beside False, with the mode of ``torch.compile``."""
NOW, NEXT = 1, 0
"""The timesteps that a sampler is shown."""


@attrs.define(eq=False)
class Leap:
    """What the two timesteps of a step fix.

    Attributes:
        here: where it begins.
        there: where it goes.
        kept: of :meth:`mmcore.Process.stride`.
        added: the same.
        slope: how far a multistep extrapolates, ``(1, K)``; None at its first step, and for other samplers.
    """

    here: Fixed
    there: Fixed
    kept: Tensor
    added: Tensor
    slope: Tensor | None


@attrs.define(eq=False)
class _Process:
    """What samplers ask of a process."""

    schedule: Schedule
    slope: Tensor | None

    def extrapolation(self, s: int, t: int, before: int) -> Tensor | None:
        """How far a multistep extrapolates in this step."""
        return self.slope


class Between:
    """A denoiser on its way between two timesteps; what a sampler calls.

    Args:
        denoiser: of the question.
        leap: between which.
    """

    def __init__(self, denoiser: Denoiser, leap: Leap) -> None:
        self.denoiser, self.leap = denoiser, leap

    @property
    def process(self) -> Blocks:
        """Of the forward process what samplers ask for."""
        return cast(Blocks, _Process(self.denoiser.process.schedule, self.leap.slope))

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The predicted clean latents, at either timestep."""
        fixed = self.leap.here if here.t == NOW else self.leap.there
        return self.denoiser.coded(self.denoiser.predicted(here.z, fixed), rng)

    def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """The step; with the ``eta`` that its factors are of."""
        leap = self.leap
        h_s, h_t = self.denoiser.weighted(codes, leap.there, leap.here)
        z = self.denoiser.process.stepped(here.z, h_s, h_t, leap.kept, leap.added, noise if eta else None)
        return self.denoiser.moved(here.z, z)

    def noise(self, rng: Rng) -> Tensor:
        """As the denoiser's."""
        return self.denoiser.noise(rng)

    def by_code(self, coefficient: Tensor) -> Tensor:
        """As the denoiser's."""
        return self.denoiser.by_code(coefficient)


def check_compile(compiled: object, sampler: Sampler, guided: bool) -> None:
    """Refuse what has no graph.

    Raises:
        OptionError: naming it.
    """
    if compiled is False:
        return
    if not isinstance(compiled, bool | str) or compiled not in MODES:
        raise OptionError("sample", "compiled", compiled, choices=("True", "False", "graphs"))
    if type(sampler) not in SAMPLERS.values():
        raise OptionError("sample", "compiled", compiled, f"False with a sampler that is none of {', '.join(SAMPLERS)}")
    if guided:
        raise OptionError("sample", "compiled", compiled, "False beside guidance", beside=("guidance",))


def _step(
    sampler: Sampler, denoiser: Denoiser, z: Tensor, leap: Leap, memory: Memory, key: Tensor | None, purpose: str
) -> tuple[Tensor, Memory]:
    """One step: the noisy latents at its end, and what the sampler keeps."""
    asked: Asked = Between(denoiser, leap)
    fixed = denoiser.question.fixed
    if fixed is not None:
        asked = Pinned(asked, fixed, denoiser.known)
    rng = cast(Rng, None) if key is None else Rng.keyed(key, purpose)
    return sampler.step(asked, Here(z, NOW), NEXT, rng, memory), memory


_MADE: WeakKeyDictionary[Any, dict[Any, Callable[..., Any]]] = WeakKeyDictionary()
"""Graphs by model, and then by what is another graph for sure."""


class Stepper:
    """Takes a sampler's steps, one after the other, by a graph.

    Args:
        sampler: one of the built-in ones.
        denoiser: of the question.
        compiled: one of :data:`MODES`.
        rng: of the whole run.
        backend: of the compiler.
    """

    def __init__(
        self, sampler: Sampler, denoiser: Denoiser, compiled: bool | str, rng: Rng, backend: str = "inductor"
    ) -> None:
        self.sampler, self.denoiser, self.rng, self.mode = sampler, denoiser, rng, MODES[compiled]
        self.eta = sampler.of(denoiser.process) if isinstance(sampler, Ddim) else 0.0
        self.memory: Memory = {}
        self._before: int | None = None
        made = _MADE.setdefault(denoiser.model, {})
        key = (compiled, backend, type(sampler), len(denoiser.known))
        if key not in made:
            made[key] = one_graph(_step, self.mode, backend)
        self._graph = made[key]

    def __call__(self, here: Here, to: int) -> Tensor:
        """The noisy latents at ``to``, ``(B, *Z)``."""
        process, denoiser = self.denoiser.process, self.denoiser
        kept, added = process.stride(to, here.t, self.eta, here.z)
        slope = None
        if "before" in self.memory and self._before is not None:
            slope = process.extrapolation(to, here.t, self._before).to(here.z.device)
        leap = Leap(denoiser.fixed(here.t), denoiser.fixed(to), kept, added, slope)
        drawn = self.eta or self.sampler.codes != "mean"
        rng = self.rng.at(to)
        begin(self.mode)
        key = rng.key() if drawn else None
        z, self.memory = self._graph(self.sampler, denoiser, here.z, leap, self.memory, key, rng.purpose)
        self._before = here.t
        return z
