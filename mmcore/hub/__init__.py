"""Models on the Hugging Face Hub: fetched as data, and published with a card."""

from typing import TYPE_CHECKING

from mmcore._lazy import lazily

if TYPE_CHECKING:
    from mmcore.hub.fetch import from_pretrained
    from mmcore.hub.push import push_to_hub

__all__ = ["from_pretrained", "push_to_hub"]

__getattr__ = lazily(__name__, {"from_pretrained": "fetch", "push_to_hub": "push"})
