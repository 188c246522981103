"""One class of K, or any of K labels; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_label.modality import LabelModality

__all__ = ["LabelModality"]


def __getattr__(name: str) -> Any:
    if name == "LabelModality":
        from mmcore_label.modality import LabelModality

        return LabelModality
    raise AttributeError(f"module 'mmcore_label' has no attribute {name!r}")
