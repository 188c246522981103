"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("depth", "mmcore_depth.modality:DepthModality", "Depth maps: positive numbers with holes")]
