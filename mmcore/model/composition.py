"""What a model was built from, beside the parts that tell of themselves."""

from typing import Any

import attrs

from mmcore.hooks import Made


@attrs.frozen
class Composition:
    """What :func:`mmcore.compose` was asked for; what a model folder keeps of it beside modalities, tasks and backbone.

    Attributes:
        layout: ``"shared"``, ``"separate"``, or groups of modality names.
        space: ``(C, *grid)``.
        overlap: whether codes may overlap.
        trained_encoders: names of the modalities whose encoders learn.
        reading: how noisy latents are read, ``"codes"`` or ``"space"``.
        schedule: how a registry made the schedule; None for one given as an object, which its tables describe.
        channels: each block's; None for those that the codes need, and the fullest what is left.
        adapters: how the network is adapted; None for not.
    """

    layout: str | list[list[str]]
    space: tuple[int, ...]
    overlap: bool
    trained_encoders: list[str]
    reading: str
    schedule: Made | None
    channels: list[int] | None = None
    adapters: dict[str, Any] | None = None
