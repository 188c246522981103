"""Short texts; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_text.modality import TextModality

__all__ = ["TextModality"]


def __getattr__(name: str) -> Any:
    if name == "TextModality":
        from mmcore_text.modality import TextModality

        return TextModality
    raise AttributeError(f"module 'mmcore_text' has no attribute {name!r}")
