"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("image", "mmcore_image.modality:ImageModality", "Images of any number of channels and any size")]
