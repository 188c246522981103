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
    first, last = called[0], called[-1]
    # Some networks look at the timestep first.
    first = next((one for one in called if isinstance(one, nn.Conv2d) and one.in_channels == known), first)
    if not isinstance(first, nn.Conv2d) or first.groups != 1 or first.in_channels != known:
        raise RequestError(
            f"diffusers: a {name} cannot be widened: its first layer is {first}, expected a convolution of {known} channels"
        )
    out = last.out_channels if isinstance(last, nn.Conv2d) else last.out_features
    if out % predicted or (isinstance(last, nn.Conv2d) and (out != predicted or last.groups != 1)):
        raise RequestError(
            f"diffusers: a {name} cannot be widened: its last layer is {last}, expected one of {predicted} channels"
        )
    wider = _conv(first, known + more, first.out_channels)
    with torch.no_grad():
        wider.weight[:, :known] = first.weight
        wider.weight[:, known:] = 0
        if first.bias is not None and wider.bias is not None:
            wider.bias.copy_(first.bias)
    _replace(net, first, wider)
    cells = out // predicted
    longer = _conv(last, last.in_channels, out + features) if isinstance(last, nn.Conv2d) else nn.Linear(last.in_features, out + cells * features, last.bias is not None)  # fmt: skip
    with torch.no_grad():
        # A linear layer writes a patch, place by place, the channels of each together.
        for new, old in ((longer.weight, last.weight), (longer.bias, last.bias)):
            if new is not None and old is not None:
                new.view(cells, predicted + features, *new.shape[1:])[:, :predicted] = old.view(cells, predicted, *old.shape[1:])  # fmt: skip
    _replace(net, last, longer)
    if "out_channels" in vars(net):
        net.out_channels = predicted + features  # type: ignore[assignment]


def _conv(like: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        like.kernel_size,  # type: ignore[arg-type]
        like.stride,  # type: ignore[arg-type]
        like.padding,  # type: ignore[arg-type]
        like.dilation,  # type: ignore[arg-type]
        1,
        like.bias is not None,
        like.padding_mode,
    )


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in net.named_modules() if module is old)
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, new.train(old.training))
