"""Images of any number of channels and any size; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_image.modality import ImageModality

__all__ = ["ImageModality"]


def __getattr__(name: str) -> Any:
    if name == "ImageModality":
        from mmcore_image.modality import ImageModality

        return ImageModality
    raise AttributeError(f"module 'mmcore_image' has no attribute {name!r}")
