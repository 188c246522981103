"""What is installed, by name, as the kit takes it."""

from collections.abc import Mapping
from typing import Any

import attrs

from mmcore.errors import PluginError, RequestError
from mmcore.hooks import Made
from mmcore.plugins import Registry
from mmcore.testing.check import KINDS


@attrs.frozen(eq=False)
class Maker:
    """What makes an installed plugin that is no modality.

    Attributes:
        registry: where it is found.
        made: its kind, offer, distribution, version and the options that it always gets.
    """

    registry: Registry
    made: Made

    def __call__(self, **given: Any) -> Any:
        """One of it, with these options too."""
        return self.registry.make(
            self.made.kind, f"{self.made.distribution}:{self.made.offer}", {**self.made.options, **given}
        )[1]


def installed(registry: Registry, name: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The plugin that ``name`` asks for, and its kind.

    Args:
        registry: where to look.
        name: an offer's name, ``distribution:name``, or either after its kind and a dot, such as ``backbone.transformer``.
        options: the plugin's own.

    Raises:
        RequestError: there is none, several kinds have it, or the kit has no checks for its kind.
        PluginError: the plugin is broken.
    """
    kind, dot, rest = name.partition(".")
    kinds = sorted({e.kind for e in registry.entries if name in (e.name, e.full_name)})
    if dot and any(e.kind == kind and rest in (e.name, e.full_name) for e in registry.entries):
        kinds, name = [kind], rest
    if len(kinds) > 1:
        raise RequestError(
            f"check: {name!r} is a {' and a '.join(kinds)}; ask for {' or '.join(f'{k}.{name}' for k in kinds)}"
        )
    if kinds and kinds[0] not in KINDS:
        raise RequestError(f"check: {name!r} is a {kinds[0]}; there are checks for {', '.join(KINDS)}")
    if not kinds or kinds == ["modality"]:
        return registry.modality(name, **options), "modality"
    entry = registry.find(kinds[0], name)
    maker = Maker(registry, Made(entry.kind, entry.name, entry.distribution, entry.version, dict(options)))
    if kinds[0] in ("sampler", "transform"):
        # The engine gives these nothing: what is missing or refused now would be so in every check.
        try:
            maker()
        except PluginError:
            pass  # the checks tell of it
        except RequestError as error:
            raise RequestError(f"check: {error}; its options are given by --set option=value") from error
    return maker, kinds[0]
