"""The hooks a plugin may implement, and what goes through them; importing this module imports no torch."""

from collections.abc import Iterable
from typing import Any

import attrs
import pluggy

PROJECT = "mmcore"
"""What pluggy and the entry points' groups call it, and what is imported."""
DISTRIBUTION = "mmcore-diffusion"
"""What is installed, and what a plugin's requirement names: the registry's ``mmcore`` is another project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@attrs.frozen
class Offer:
    """One thing that a plugin offers.

    Attributes:
        name: the name it is asked for by, as in its entry point after the kind.
        factory: ``"package.module:callable"``, imported when it is first used.
        summary: one sentence for ``mmcore plugins list``.
    """

    name: str
    factory: str
    summary: str = ""


@attrs.frozen
class Made:
    """How a registry made a thing: what a saved model needs to make it again."""

    kind: str
    offer: str
    distribution: str
    version: str
    options: dict[str, Any]

    def where(self) -> dict[str, str]:
        """The offer, its distribution and version, as a saved model records them."""
        return {"offer": self.offer, "distribution": self.distribution, "version": self.version}


@hookspec
def mmcore_modalities() -> Iterable[Offer]:
    """Modalities; the factory returns a :class:`mmcore.Modality`."""
    return ()


@hookspec
def mmcore_backbones() -> Iterable[Offer]:
    """Backbones; the factory takes ``space``, ``modalities``, ``steps`` and its own options."""
    return ()


@hookspec
def mmcore_schedules() -> Iterable[Offer]:
    """Schedules; the factory takes ``steps``, ``modalities`` and its own options."""
    return ()


@hookspec
def mmcore_sources() -> Iterable[Offer]:
    """Sources; the factory returns rows, mappings from name to raw value."""
    return ()


@hookspec
def mmcore_embedders() -> Iterable[Offer]:
    """Embedders; the factory returns what turns raw values into vectors (:class:`mmcore.data.embed.Embedder`)."""
    return ()


@hookspec
def mmcore_samplers() -> Iterable[Offer]:
    """Samplers; the factory returns a :class:`mmcore.sampling.Sampler`."""
    return ()


@hookspec
def mmcore_guidances() -> Iterable[Offer]:
    """Guidances; the factory returns a :class:`mmcore.sampling.Guidance`."""
    return ()


@hookspec
def mmcore_transforms() -> Iterable[Offer]:
    """Transforms; the factory returns a :class:`mmcore.data.Transform`."""
    return ()


@hookspec
def mmcore_trackers() -> Iterable[Offer]:
    """Trackers; the factory returns a :class:`mmcore.training.Tracker`."""
    return ()
