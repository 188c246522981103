"""Depth maps; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_depth.modality import DepthModality

__all__ = ["DepthModality"]


def __getattr__(name: str) -> Any:
    if name == "DepthModality":
        from mmcore_depth.modality import DepthModality

        return DepthModality
    raise AttributeError(f"module 'mmcore_depth' has no attribute {name!r}")
