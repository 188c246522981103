"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("label", "mmcore_label.modality:LabelModality", "One class of K, or any of K labels")]
