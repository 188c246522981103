"""The two methods by which a joint model is fetched from the Hub and published there; what they do is the room ``mmcore.hub``."""

from pathlib import Path
from typing import Any, Self, cast


class Published:
    """A model that is fetched and published by name. Both methods are called by way of :mod:`mmcore` itself, as that room is above this one."""

    @classmethod
    def from_pretrained(cls, name: str | Path, **how: Any) -> Self:
        """A trained model, from the Hub or from a folder: :func:`mmcore.hub.from_pretrained`, which says what ``how`` takes."""
        import mmcore

        return cast(Self, mmcore.hub.from_pretrained(name, **how))

    def push_to_hub(self: Any, name: str, **how: Any) -> str:
        """Publish the model with its card; returns the commit: :func:`mmcore.hub.push_to_hub`, which says what ``how`` takes."""
        import mmcore

        return mmcore.hub.push_to_hub(self, name, **how)
