"""A small autoencoder for each view, of its training pictures; needs ``mmcore-diffusers``."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.views.data import VIEWS


def write(
    data: Path,
    folder: Path,
    *,
    latents: int = 6,
    width: int = 16,
    steps: int = 1000,
    batch_size: int = 16,
    colour: float = 4.0,
) -> None:
    """Train an autoencoder of each view on the training pictures that are there, save them as ``folder/VIEW``, and say how near they come to others.

    Args:
        data: as ``write`` wrote it.
        folder: a new one.
        latents: channels of a latent. A patch of 4 × 4 has a mean, two slopes and two numbers of colour: of 4 channels, colour is left out.
        width: channels of the layers.
        steps: of training each.
        batch_size: pictures in a step.
        colour: how much more errors about grey count; without it colours are not learned in so few steps.
    """
    from mmcore_diffusers.small import train

    for view in VIEWS:
        with np.load(data) as arrays:
            pictures, split, there = (arrays[name] for name in (view, "split", f"has_{view}"))

        def of(part: int, pictures=pictures, split=split, there=there) -> torch.Tensor:
            return torch.from_numpy(pictures[(split == part) & there]).float() / 127.5 - 1

        net = train(
            of(0),
            latents=latents,
            width=width,
            steps=steps,
            batch_size=batch_size,
            colour=colour,
            centred=True,
            quiet=False,
        )
        net.save_pretrained(folder / view, safe_serialization=True)
        held = of(1)
        with torch.no_grad():
            wrong = net.decode(net.encode(held).latents).sample.clamp(-1, 1) - held
        left = wrong.square().mean() / held.var(correction=0)
        colour = (wrong - wrong.mean(1, keepdim=True)).square().mean() / (
            held - held.mean(1, keepdim=True)
        ).square().mean()
        print(f"{view}: leaves {left:.1%} of the pixels' variance, {colour:.1%} of the colours' about grey", flush=True)
