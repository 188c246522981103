"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("mask", "mmcore_mask.modality:MaskModality", "Per-pixel classes, binary or more")]
