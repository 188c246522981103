"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [
        Offer("scalar", "mmcore_scalar.modality:ScalarModality", "One number or a vector of numbers, a table's column")
    ]
