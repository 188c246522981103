"""What this distribution offers; imports no torch."""

from mmcore import Offer, hookimpl


@hookimpl
def mmcore_modalities() -> list[Offer]:
    return [Offer("clip", "mmcore_clip.modality:ClipModality", "Embedding vectors, such as CLIP's")]


@hookimpl
def mmcore_embedders() -> list[Offer]:
    return [
        Offer(
            "clip",
            "mmcore_clip.embedder:ClipEmbedder",
            "Images or texts to CLIP's embeddings, from a local folder of weights",
        )
    ]
