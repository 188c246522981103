"""Embedding vectors, such as CLIP's; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_clip.modality import ClipModality

__all__ = ["ClipModality"]


def __getattr__(name: str) -> Any:
    if name == "ClipModality":
        from mmcore_clip.modality import ClipModality

        return ClipModality
    raise AttributeError(f"module 'mmcore_clip' has no attribute {name!r}")
