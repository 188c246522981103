"""What the engine asks of a backbone, and whether a module has it."""

import inspect
from typing import Protocol

import attrs
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mmcore.hooks import Made

_ORIGIN = "_mmcore_origin"


class Backbone(Protocol):
    """The denoising network: it reads noisy latents and writes the features that all decoders read.

    Any ``torch.nn.Module`` with these two members will do; there is nothing to inherit from. Its rows are apart: a
    row's features must not depend on the others of its batch, so it has no batch normalisation.

    It may have three members more. ``ahead(t, roles, dtype)`` works out what timesteps ``(R, K)`` and roles ``(R, N)`` fix whatever the noisy latents, as a tuple of tensors
    ``(R, …)``. ``forward`` then takes that as the keyword ``ahead``, of as many rows as the batch or of one for all; a sampler's path is worked out once so. ``composed(model)`` is called once with the :class:`~mmcore.JointModel` around it, before any weight is loaded: one that was
    trained elsewhere learns of the process, and sets a head's initial weights. ``remade_with`` has the options that a model folder keeps in the place of those that it was made with: of one
    that was read from a file, those that need none.

    Attributes:
        features: how many channels the output has.
    """

    @property
    def features(self) -> int: ...

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        """The features that decoders read, from noisy latents, timesteps, roles and conditioning.

        Args:
            z: ``(B, *Z)``, the noisy latents, scaled to about unit variance; ``Z = (C, *grid)`` with one to three axes in the grid.
            t: ``(B, K)`` int64, the timestep of each of the space's ``K`` blocks, ``0`` (clean) to ``T`` (noise); ``K`` is 1 in a shared layout.
            roles: ``(B, N)`` int64, a :class:`mmcore.Role` for each modality: absent, observed or generated.
            condition: ``(B, 2 C, *grid)``: the clean codes that are observed, zero elsewhere; then, in as many channels, 1 where
                there are such codes and 0 elsewhere.

        Returns:
            ``(B, features, *grid)``.
        """
        ...


def lacks(module: nn.Module) -> list[str]:
    """What a module lacks to be a :class:`Backbone`, each in words; nothing of it is run."""
    missing = []
    features = getattr(module, "features", None)
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        plain = isinstance(features, bool | int | float | str)
        known = f"features = {features!r}" if plain else f"a {type(features).__name__} as features"
        known = "no attribute features" if features is None else known
        missing.append(f"it has {known}, expected the number of its output's channels")
    if getattr(module.forward, "__func__", None) is nn.Module.forward:
        missing.append("it has no forward, expected forward(z, t, roles, condition)")
    else:
        try:
            signature = inspect.signature(module.forward)
        except (TypeError, ValueError):  # of compiled code, which does not say
            signature = None
        try:
            if signature is not None:
                signature.bind(None, None, None, None)
        except TypeError:
            missing.append(f"its forward takes {signature}, expected (z, t, roles, condition)")
    if any(is_lazy(p) for p in module.parameters()):
        missing.append("some of its parameters have no shape yet, expected a lazy module to have been called once")
    return missing


class LooksAhead(Protocol):
    """A backbone that works out by itself what timesteps and roles fix."""

    def ahead(self, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Tensors ``(R, …)`` of timesteps ``(R, K)`` and roles ``(R, N)``, for ``forward``'s ``ahead``."""
        ...


def looks_ahead(module: nn.Module) -> bool:
    """Whether a backbone works out what timesteps and roles fix by itself, and its ``forward`` takes it."""
    if not callable(getattr(module, "ahead", None)):
        return False
    try:
        return "ahead" in inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # of compiled code, which does not say
        return False


@attrs.frozen
class _Origin:
    made: Made
    shapes: dict[str, tuple[int, ...]]


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in module.state_dict().items() if isinstance(x, Tensor)}


def mark(module: nn.Module, made: Made) -> None:
    """Remember, on the module itself, how a registry made it."""
    module.__dict__[_ORIGIN] = _Origin(made, _shapes(module))


def maker(module: nn.Module) -> Made | None:
    """How a registry made a backbone; None for one that was given as an object, wrapped, or has other weights than it was made with."""
    # A wrapper passes on attributes of what it wraps, but has a dictionary of its own; adapters that are put in place change the weights.
    origin = module.__dict__.get(_ORIGIN)
    return origin.made if isinstance(origin, _Origin) and origin.shapes == _shapes(module) else None
