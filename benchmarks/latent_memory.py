"""What networks of diffusers take to train on latents, counted with torch's meta device: no memory is filled, and no weights are needed.

``python -m benchmarks.latent_memory`` prints a Markdown table for the published sizes of ``diffusers-dit`` and ``diffusers-unet`` on the latents of pictures of 256 and 512 pixels a
side: their weights; what training holds of each weight in float32 (itself, its gradient, two moments, its average); and what one row keeps for the backward pass, in float32, attention by a
kernel that keeps no matrix of all pairs. With activation checkpointing the last is a few of its blocks'. The encoders and decoders, the data and the allocator's waste come on top.
"""

from collections.abc import Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Space
from mmcore.model.budget import Budget
from mmcore_diffusers import Dit, Network, Unet

NETWORKS: dict[str, tuple[type[Network], Mapping[str, Any]]] = {
    "DiT-B/2": (Dit, {"num_layers": 12, "num_attention_heads": 12, "attention_head_dim": 64, "patch_size": 2}),
    "DiT-XL/2": (Dit, {"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "patch_size": 2, "num_embeds_ada_norm": 1000}),
    "UNet of ldm-celebahq-256": (
        Unet,
        {
            "block_out_channels": [224, 448, 672, 896],
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 2,
            "attention_head_dim": 32,
            "norm_num_groups": 32,
        },
    ),
}  # fmt: skip
SIDES = {256: 32, 512: 64}
"""Of latents, by pictures: an autoencoder that halves them three times."""
HELD = 5


def counted(kind: type[Network], config: Mapping[str, Any], side: int) -> tuple[int, int]:
    """Bytes of the weights, and of what one row keeps for the backward pass."""
    with torch.device("meta"), Budget() as budget:
        net = kind(space=Space((4, side, side)), modalities=1, steps=1000, config=config)
    assert budget.bytes > 0
    ours, kept = {id(x) for x in net.parameters()}, {}

    def keep(x: Tensor) -> Tensor:
        # Each storage once, and no weights.
        if id(x) not in ours and id(x._base) not in ours:
            kept[x.untyped_storage()._cdata] = x.untyped_storage().nbytes()
        return x

    meta = torch.device("meta")
    z, t = torch.zeros(1, 4, side, side, device=meta), torch.zeros(1, 1, dtype=torch.int64, device=meta)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        mock.patch.object(F, "scaled_dot_product_attention", lambda q, k, v, **_: _Attention.apply(q, k, v)),
    ):
        out = net(z, t, t, torch.zeros(1, 8, side, side, device=meta))
    assert out.shape == (1, net.features, side, side)
    return sum(x.numel() * x.element_size() for x in net.parameters()), sum(kept.values())


class _Attention(torch.autograd.Function):
    """What a kernel keeps of attention: its inputs and its output."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.saved_tensors[:3]


def main() -> None:
    """Count, and print the table."""
    print("| network | weights, millions | pictures | to hold them in training, GiB | a row's activations, GiB |")
    print("|---|---|---|---|---|")
    for name, (kind, config) in NETWORKS.items():
        for picture, side in SIDES.items():
            weights, row = counted(kind, config, side)
            print(
                f"| {name} | {weights / 4e6:.0f} | {picture}² | {HELD * weights / 2**30:.1f} | {row / 2**30:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
