"""Pretrained autoencoders and networks of diffusers; each part, and diffusers itself, is imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcore_diffusers.embedder import LatentEmbedder
    from mmcore_diffusers.latent import LatentModality
    from mmcore_diffusers.network import Dit, Network, Unet

_WHERE = {
    "LatentEmbedder": "embedder",
    "LatentModality": "latent",
    "Dit": "network",
    "Network": "network",
    "Unet": "network",
}
__all__ = ["Dit", "LatentEmbedder", "LatentModality", "Network", "Unet"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f"mmcore_diffusers.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'mmcore_diffusers' has no attribute {name!r}")
