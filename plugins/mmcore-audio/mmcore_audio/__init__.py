"""Short sounds; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_audio.modality import AudioModality

__all__ = ["AudioModality"]


def __getattr__(name: str) -> Any:
    if name == "AudioModality":
        from mmcore_audio.modality import AudioModality

        return AudioModality
    raise AttributeError(f"module 'mmcore_audio' has no attribute {name!r}")
