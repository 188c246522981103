"""One number or a vector of numbers; the modality is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_scalar.modality import ScalarModality

__all__ = ["ScalarModality"]


def __getattr__(name: str) -> Any:
    if name == "ScalarModality":
        from mmcore_scalar.modality import ScalarModality

        return ScalarModality
    raise AttributeError(f"module 'mmcore_scalar' has no attribute {name!r}")
