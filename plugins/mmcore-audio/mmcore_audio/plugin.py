"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("audio", "mmcore_audio.modality:AudioModality", "Short sounds, as waves or mel spectrograms")]
