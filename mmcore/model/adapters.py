"""LoRA: few new weights beside the network's own, which stay as they are.

After "LoRA: Low-Rank Adaptation of Large Language Models" (Hu et al. 2022), by `peft <https://huggingface.co/docs/peft>`_. Adapters begin as the identity, so that the network is at first
what it was.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
import torch
from torch import nn

from mmcore.errors import OptionError, RequestError
from mmcore.limits import TENSORS
from mmcore.model.backbones.base import maker, mark
from mmcore.options import above, check, option, whole

SETS = {
    "attention": r"(?:^|[._])(?:to_[qkv]|to_out\.0|to_qkv|add_[qkv]_proj|qkv|query|key|value|proj_attn|mix)$",
    "all": r".",
}
"""The linear layers that a name stands for, by what theirs end in."""
_ADAPTED = "_mmcore_adapters"
_OUTSIDE = re.compile(r"(?:^|\.)(?:timestep|glance|glance_known|spread|local)\.")
"""Parts of mmcore's own networks that are no layers of theirs."""


@attrs.frozen
class Adapters:
    """How a network is adapted.

    Attributes:
        rank: of the two matrices of each adapter.
        alpha: their product counts ``alpha / rank``; by default the rank, so that it counts 1.
        modules: ``"attention"``, ``"all"`` linear layers, or names that those adapted end in.
    """

    rank: int = option(16, rule=whole(1))
    alpha: float | None = option(None, rule=above(0).or_none())
    modules: str | Sequence[str] = "attention"

    def __attrs_post_init__(self) -> None:
        check(self, "adapters")
        if self.alpha == math.inf:
            raise OptionError("adapters", "alpha", self.alpha, "a number above 0, and finite")
        listed = isinstance(self.modules, list | tuple) and all(isinstance(one, str) for one in self.modules)
        if not (listed and self.modules) and self.modules not in SETS:
            raise OptionError("adapters", "modules", self.modules, "a list of names that layers end in", choices=SETS)

    @classmethod
    def of(cls, given: "Mapping[str, Any] | Adapters") -> Self:
        """From a table.

        Raises:
            OptionError: an option that there is not, or a value that cannot be.
        """
        if isinstance(given, cls):
            return given
        names = [field.name for field in attrs.fields(cls)]
        if not isinstance(given, Mapping):
            raise OptionError("compose", "adapters", given, "a table such as { rank = 16 }")
        for name in given:
            if name not in names:
                raise OptionError("compose", "adapters", name, choices=names)
        return cls(**given)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        told = attrs.asdict(self)
        return {**told, "modules": told["modules"] if isinstance(told["modules"], str) else list(told["modules"])}

    def layers(self, network: nn.Module) -> list[str]:
        """The names of the layers that are adapted.

        Raises:
            RequestError: none is.
        """
        fresh = {id(p) for p in _fresh(network)}
        linear = [
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear) and id(module.weight) not in fresh and not _OUTSIDE.search(f"{name}.")
        ]
        if isinstance(self.modules, str):
            found = [name for name in linear if re.search(SETS[self.modules], name)]
        else:
            found = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in self.modules)]
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise RequestError(
                f"adapters: modules = {self.modules!r} name no linear layer of the {type(network).__name__}, expected some of {', '.join(ends[:12])}"
            )
        TENSORS.check("adapters", "modules", self.modules, 2 * len(found))
        return found


def adapt(network: nn.Module, adapters: Adapters) -> None:
    """Put adapters into a network, in place; of its own weights those alone go on learning that are new (``fresh_parameters()``, where it has that).

    One that is adapted alike already stays as it is: a configuration's network is made once, and composed anew when its data are measured.

    Raises:
        RequestError: peft is not installed, no layer is named, or the network has other adapters.
    """
    if (there := vars(network).get(_ADAPTED)) is not None:
        if there != adapters.record():
            raise RequestError(f"adapters: the network has adapters already, {there}, expected those or none")
        return
    try:
        import peft
    except ImportError as error:
        raise RequestError("adapters: peft is not installed; pip install peft") from error
    made = maker(network)
    fresh, targets = _fresh(network), adapters.layers(network)
    config = peft.LoraConfig(r=adapters.rank, lora_alpha=adapters.alpha or adapters.rank, target_modules=targets)  # type: ignore[arg-type]
    peft.inject_adapter_in_model(config, network)
    for parameter in fresh:
        parameter.requires_grad_(True)
    network.__dict__[_ADAPTED] = adapters.record()
    if made is not None:
        mark(network, made)


def merge(network: nn.Module) -> None:
    """Add a network's adapters to its own weights, in place, and take them out."""
    from peft.tuners.lora import LoraLayer

    made = maker(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()  # type: ignore[operator]
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, layer.get_base_layer())
    network.requires_grad_(True)
    network.__dict__.pop(_ADAPTED, None)
    if made is not None:
        mark(network, made)


_WRAPPED = ("base_model.model.", "base_layer.")
"""What peft puts into the names of weights that it wraps."""


def plain(name: str) -> str:
    """The name that a weight has without adapters beside it."""
    for part in _WRAPPED:
        name = name.replace(part, "")
    return name


def is_adapter(name: str) -> bool:
    """Whether a weight of this name is an adapter's."""
    return ".lora_" in name


def base_digest(network: nn.Module) -> str:
    """Of the weights that adapters are beside: SHA-256 of their names and bytes, without the adapters and what is new beside them."""
    whole, named = hashlib.sha256(), dict(network.named_parameters())
    for name in own_names(network):
        x = named[name]
        whole.update(f"{plain(name)} {x.dtype} {tuple(x.shape)}\0".encode())
        whole.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def own_names(network: nn.Module) -> list[str]:
    """The weights that adapters are beside, in order of their names: neither the adapters nor what is new beside them."""
    fresh = {id(p) for p in _fresh(network)}
    return sorted(name for name, p in network.named_parameters() if not is_adapter(name) and id(p) not in fresh)


def _fresh(network: nn.Module) -> list[nn.Parameter]:
    told: Any = getattr(network, "fresh_parameters", None)
    return [] if told is None else list(told())
