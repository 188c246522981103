"""A small autoencoder for each view, of its training pictures; needs ``mmcore-diffusers``."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.views.data import VIEWS


def write(data: Path, folder: Path, *, width: int = 16, steps: int = 250, batch_size: int = 32) -> None:
    """Train an autoencoder of each view on the training pictures that are there, save them as ``folder/VIEW``, and say how near they come to others.

    Args:
        data: as ``write`` wrote it.
        folder: a new one.
        width: channels of the layers.
        steps: of training each.
        batch_size: pictures in a step.
    """
    from mmcore_diffusers.small import train

    for view in VIEWS:
        with np.load(data) as arrays:
            pictures, split, there = (arrays[name] for name in (view, "split", f"has_{view}"))

        def of(part: int, pictures=pictures, split=split, there=there) -> torch.Tensor:
            return torch.from_numpy(pictures[(split == part) & there]).float() / 127.5 - 1

        net = train(of(0), width=width, steps=steps, batch_size=batch_size, quiet=False)
        net.save_pretrained(folder / view, safe_serialization=True)
        held = of(1)
        with torch.no_grad():
            error = (net.decode(net.encode(held).latents).sample.clamp(-1, 1) - held).square().mean()
        print(f"{view}: mean squared error {error:.4f}, {error / held.var(correction=0):.1%} of the variance")
