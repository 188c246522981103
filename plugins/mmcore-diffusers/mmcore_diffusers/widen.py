"""Networks with more channels at their ends: what they were shown and what they predicted stays as it was, to the last digit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmcore import RequestError

Layer = nn.Conv2d | nn.Linear


def on_meta(net: nn.Module, sample: tuple[int, ...], options: Mapping[str, Any]) -> tuple[tuple[int, ...], list[Layer]]:
    """The shape of what a network returns for a sample of this shape, and its convolutions and linear layers in the order of their calls.

    Nothing is computed.

    Args:
        net: of diffusers.
        sample: ``(1, C, H, W)``.
        options: what else its forward takes, tensors on any device.

    Raises:
        Exception: any, if the network does not take it.
    """
    meta, called = torch.device("meta"), []
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [one.register_forward_hook(lambda module, *_: called.append(module)) for one in layers]
    state = {name: x.detach().to(meta) for name, x in (*net.named_parameters(), *net.named_buffers())}
    moved = {key: x.to(meta) if isinstance(x, Tensor) else x for key, x in options.items()}
    try:
        with torch.no_grad():
            out = functional_call(net, state, (torch.zeros(sample, device=meta),), moved)
    finally:
        for hook in hooks:
            hook.remove()
    out = out[0] if isinstance(out, tuple) else out.sample
    return tuple(out.shape), called


def widen(net: nn.Module, called: list[Layer], *, known: int, predicted: int, more: int, features: int) -> None:
    """Let a network read ``more`` channels, with weights of zero, and return so many ``features`` more.

    Its own first and last layers stay as they are, beside new ones.

    Args:
        net: whose first and last layers are replaced.
        called: its layers in the order of their calls.
        known: channels that it reads.
        predicted: channels that it returns.
        more: channels to read beside them.
        features: channels to return after them.

    Raises:
        RequestError: ends that are no layers of this kind.
    """
    name = type(net).__name__
    # Some networks look at the timestep first.
    first = next((one for one in called if isinstance(one, nn.Conv2d) and one.in_channels == known), called[0])
    last = called[-1]
    if not isinstance(first, nn.Conv2d) or first.groups != 1 or first.in_channels != known:
        raise RequestError(
            f"diffusers: a {name} cannot be widened: its first layer is {first}, expected a convolution of {known} channels"
        )
    out = last.out_channels if isinstance(last, nn.Conv2d) else last.out_features
    if out % predicted or (isinstance(last, nn.Conv2d) and (out != predicted or last.groups != 1)):
        raise RequestError(
            f"diffusers: a {name} cannot be widened: its last layer is {last}, expected one of {predicted} channels"
        )
    _replace(net, first, WiderIn(first, more))
    _replace(net, last, WiderOut(last, predicted, features))
    if "out_channels" in vars(net):
        net.out_channels = predicted + features  # type: ignore[assignment]


class WiderIn(nn.Module):
    """A convolution that reads more channels after its own, by weights that begin at zero.

    Args:
        base: the convolution.
        more: channels.
    """

    def __init__(self, base: nn.Conv2d, more: int) -> None:
        super().__init__()
        self.base, self.more = base, _conv(base, more, base.out_channels, bias=False)
        nn.init.zeros_(self.more.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``x (B, own + more, H, W)``."""
        own = self.base.in_channels
        return self.base(x[:, :own]) + self.more(x[:, own:])


class WiderOut(nn.Module):
    """A last layer that returns more channels after its own.

    A linear layer writes a patch, place by place, the channels of each together.

    Args:
        base: the layer.
        predicted: its channels.
        more: channels.
    """

    def __init__(self, base: Layer, predicted: int, more: int) -> None:
        super().__init__()
        self.base, self.predicted, self.count = base, predicted, more
        if isinstance(base, nn.Conv2d):
            self.more: Layer = _conv(base, base.in_channels, more, bias=base.bias is not None)
        else:
            self.more = nn.Linear(base.in_features, base.out_features // predicted * more, base.bias is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Of a convolution ``(B, predicted + more, H, W)``, else ``(…, cells * (predicted + more))``."""
        own, more = self.base(x), self.more(x)
        if isinstance(self.base, nn.Conv2d):
            return torch.cat([own, more], dim=1)
        both = own.unflatten(-1, (-1, self.predicted)), more.unflatten(-1, (-1, self.count))
        return torch.cat(both, dim=-1).flatten(-2)


def _conv(like: nn.Conv2d, inputs: int, outputs: int, *, bias: bool) -> nn.Conv2d:
    shape = (like.kernel_size, like.stride, like.padding, like.dilation)
    return nn.Conv2d(inputs, outputs, *shape, 1, bias, like.padding_mode)  # type: ignore[arg-type]


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in net.named_modules() if module is old)
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, new.train(old.training))
