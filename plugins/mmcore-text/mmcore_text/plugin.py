"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("text", "mmcore_text.modality:TextModality", "Short texts of characters, words or tokens")]
