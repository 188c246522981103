"""A model that was composed to be checked, and is handed out to be trained: nothing is built a second time."""

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mmcore.config.schema import ModelOptions
from mmcore.hooks import Made
from mmcore.modality.base import Modality, Task
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry


@attrs.frozen(eq=False)
class _Network:
    """A backbone with all that its making depended on, and the random state that it left."""

    plugin: str
    options: Mapping[str, Any]
    before: Tensor
    after: Tensor
    dtype: torch.dtype
    made: Made
    module: nn.Module


class Once(Registry):
    """A registry that makes a schedule and a backbone once, where they are asked for again in the same way.

    A backbone is handed out again to one composition only, and only where making it anew would give the same bits: for equal
    options and from an equal random state, which then goes on as it went on from there.
    """

    def __init__(self, registry: Registry) -> None:
        # The same entries, and what has been imported and found broken of them.
        vars(self).update(vars(registry))
        self.network: _Network | None = None
        self.schedules: dict[str, tuple[dict[str, Any], tuple[Made, Any]]] = {}

    def make(self, kind: str, plugin: str, options: dict[str, Any]) -> tuple[Made, Any]:
        if kind == "schedule":
            asked, found = self.schedules.get(plugin, (None, None))
            if found is None or asked != options:
                found = super().make(kind, plugin, options)
                self.schedules[plugin] = (options, found)
            return found
        return super().make(kind, plugin, options) if kind != "backbone" else self._backbone(plugin, options)

    def _backbone(self, plugin: str, options: dict[str, Any]) -> tuple[Made, Any]:
        kept, self.network = self.network, None
        before, dtype = torch.get_rng_state(), torch.get_default_dtype()
        if (
            kept is not None
            and (kept.plugin, kept.options, kept.dtype) == (plugin, options, dtype)
            and torch.equal(kept.before, before)
        ):
            torch.set_rng_state(kept.after)
            return kept.made, kept.module
        made, module = super().make("backbone", plugin, options)
        self.network = _Network(plugin, options, before, torch.get_rng_state(), dtype, made, module)
        return made, module


@attrs.define(eq=False)
class Checked:
    """A model that was composed to check a configuration, for whoever asks first.

    Attributes:
        of: what it was composed of: the section ``[model]``, the seed, the modalities and the tasks.
        model: the model.
        registry: that has made its parts.
        warnings: that it gave.
    """

    of: tuple[ModelOptions, int, tuple[Modality, ...], tuple[Task, ...]]
    model: JointModel
    registry: Once
    warnings: list[tuple[str, type[Warning]]]
