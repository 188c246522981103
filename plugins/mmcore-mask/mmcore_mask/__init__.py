"""Per-pixel classes, binary or more; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_mask.modality import MaskModality

__all__ = ["MaskModality"]


def __getattr__(name: str) -> Any:
    if name == "MaskModality":
        from mmcore_mask.modality import MaskModality

        return MaskModality
    raise AttributeError(f"module 'mmcore_mask' has no attribute {name!r}")
