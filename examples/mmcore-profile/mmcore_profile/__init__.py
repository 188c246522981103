"""Ink profiles of scanned characters; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_profile.modality import ProfileModality

__all__ = ["ProfileModality"]


def __getattr__(name: str) -> Any:
    if name == "ProfileModality":
        from mmcore_profile.modality import ProfileModality

        return ProfileModality
    raise AttributeError(f"module 'mmcore_profile' has no attribute {name!r}")
