"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("profile", "mmcore_profile.modality:ProfileModality", "How dark each row and column of a scan is")]


@hookimpl
def mmcore_sources() -> list[Offer]:
    return [Offer("profiles", "mmcore_profile.source:Profiles", "Ink profiles and labels of scikit-learn's digits")]
