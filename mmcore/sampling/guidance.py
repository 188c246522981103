"""Guidance and pinning: what wraps a denoiser, so that every sampler works with it unchanged."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from numbers import Real

import attrs
import torch
from torch import Tensor

from mmcore.errors import OptionError
from mmcore.process import Blocks
from mmcore.rng import Rng
from mmcore.sampling.denoiser import Asked, Denoiser, Here, given_back


class Guidance(ABC):
    """How guidance combines predictions with and without what is observed."""

    @abstractmethod
    def names(self) -> Collection[str]:
        """The observed modalities that are dropped in turn for an unguided prediction, one call of the network each."""

    @abstractmethod
    def combine(self, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
        """The guided prediction of the clean latents.

        Args:
            codes: ``(B, D)``, as predicted with all that is observed.
            without: the same without one observation, by its modality's name.
            here: the noisy latents and their timestep.

        Returns:
            ``(B, D)``.
        """


@attrs.frozen
class ClassifierFree(Guidance):
    """Classifier-free guidance (Ho and Salimans 2022): ``Ê + Σ_i (g_i - 1) (Ê - Ê without i)``.

    Train with ``RoleMix(absent=…)`` above 0, so that the model has answered without observations.

    Attributes:
        scales: ``g`` by observed modality; 1 is none.
    """

    scales: Mapping[str, float]

    def __attrs_post_init__(self) -> None:
        for name, scale in self.scales.items():
            if not isinstance(scale, Real) or not math.isfinite(scale):
                raise OptionError("sample", f"guidance.{name}", scale, "a finite number")

    def names(self) -> Collection[str]:
        """The modalities with another scale than 1."""
        return [name for name, scale in self.scales.items() if scale != 1]

    def combine(self, codes: Tensor, without: Mapping[str, Tensor], here: Here) -> Tensor:
        """The sum of the guided differences."""
        guided = codes
        for name, bare in without.items():
            guided = guided + (float(self.scales[name]) - 1) * (codes - bare)
        return guided


class Wrapped:
    """A denoiser whose codes are changed; all else is that denoiser's.

    Args:
        denoiser: what is wrapped.
    """

    def __init__(self, denoiser: Asked) -> None:
        self.denoiser = denoiser

    @property
    def process(self) -> Blocks:
        """The forward process."""
        return self.denoiser.process

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The predicted clean latents, as the wrapped denoiser's."""
        return self.denoiser.codes(here, rng)

    def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """A step, as the wrapped denoiser's."""
        return self.denoiser.move(here, codes, to, noise, eta)

    def noise(self, rng: Rng) -> Tensor:
        """Noise, as the wrapped denoiser's."""
        return self.denoiser.noise(rng)

    def by_code(self, coefficient: Tensor) -> Tensor:
        """A coefficient by code element, as the wrapped denoiser's."""
        return self.denoiser.by_code(coefficient)


class Guided(Wrapped):
    """A denoiser under guidance: it predicts with and without observations, and combines.

    Args:
        denoiser: of the whole question.
        guidance: how predictions are combined.
        rng: of the whole run.
    """

    def __init__(self, denoiser: Denoiser, guidance: Guidance, rng: Rng) -> None:
        super().__init__(denoiser)
        names = [m.name for m in denoiser.model.modalities]
        self.guidance = guidance
        self.without = {name: denoiser.without(names.index(name), rng) for name in guidance.names()}

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The combination of what is predicted with and without observations."""
        full = self.denoiser.codes(here, rng)
        without = {name: bare.codes(here, rng) for name, bare in self.without.items()}
        return given_back(self.guidance, "guidance", "codes", self.guidance.combine(full, without, here), full)


class Pinned(Wrapped):
    """The article's conditioning: known latents replace predicted ones in the posterior (a replacement method).

    Args:
        denoiser: told that all is generated.
        fixed: ``(B, D)`` bool, the known code elements.
        known: ``(B, D)``, the codes.
    """

    def __init__(self, denoiser: Asked, fixed: Tensor, known: Tensor) -> None:
        super().__init__(denoiser)
        self.fixed, self.known = fixed, known

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """What is known where it is known, else what is predicted."""
        return torch.where(self.fixed, self.known, self.denoiser.codes(here, rng))
