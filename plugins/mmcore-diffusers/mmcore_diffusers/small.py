"""A small autoencoder of one's own pictures, trained in minutes on a CPU, and saved as diffusers saves its own.

    python -m mmcore_diffusers.small idx --set path=fashion-mnist --size 28 --out autoencoder

It is for pictures that no published autoencoder knows, and to try latents without one. The class is diffusers' ``AutoencoderTiny``; a picture's side is
halved twice. Its loss is the squared error of the pixels, of latents that a little noise was added to: latents that are near each other
then show similar pictures, which is what a diffusion model needs.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmcore
from mmcore import MmcoreError, RequestError
from mmcore.progress import Progress
from mmcore.rng import Rng
from mmcore_image import ImageModality

NOISE = 0.1
"""Of the latents' deviation."""


def config(channels: int, latents: int, width: int) -> dict[str, Any]:
    """Of an ``AutoencoderTiny`` with few layers at the full size, where they are dear."""
    return {
        "in_channels": channels,
        "out_channels": channels,
        "encoder_block_out_channels": [width] * 3,
        "decoder_block_out_channels": [width] * 3,
        "num_encoder_blocks": [0, 1, 1],
        "num_decoder_blocks": [1, 1, 0],
        "latent_channels": latents,
    }


def train(
    pictures: Tensor,
    *,
    latents: int = 4,
    width: int = 32,
    steps: int = 600,
    batch_size: int = 64,
    colour: float = 0.0,
    centred: bool = False,
    seed: int = 0,
    quiet: bool = True,
) -> Any:
    """An autoencoder of pictures ``(n, channels, H, W)`` in -1 … 1.

    Args:
        pictures: to learn from.
        latents: channels of a latent.
        width: channels of the layers.
        steps: of training.
        batch_size: pictures in a step.
        colour: how much the squared error about grey, a pixel's mean over its channels, counts beyond the others. Where colours vary much less than
            brightness, they are learned late without it.
        centred: begin with the pictures' mean in the first bias and the last. Pictures that are bright all over are then learned as soon as dark ones.
        seed: of weights, rows and noise.
        quiet: show no progress.

    Raises:
        RequestError: a height or width that cannot be halved twice.
    """
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    if any(side % 4 for side in pictures.shape[2:]):
        raise RequestError(f"small: found pictures of {tuple(pictures.shape[2:])}, expected sides that 4 divides")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: Any = AutoencoderTiny(**config(pictures.shape[1], latents, width))
    if centred:
        first, last = net.encoder.layers[0], net.decoder.layers[-1]
        # Both work in 0 … 1.
        mean = (pictures.mean((0, 2, 3)) + 1) / 2
        with torch.no_grad():
            first.bias -= first.weight.sum((2, 3)) @ mean
            last.bias += mean
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(steps, 2))
    with Progress("autoencoder", steps, quiet=quiet) as bar:
        for step in range(steps):
            rng = Rng.for_rows(seed, batch_size).at(step)
            x = pictures[rng.of("rows").integers(0, len(pictures))]
            z = net.encoder(x)
            z = z + NOISE * z.detach().std() * rng.of("noise").normal(*z.shape[1:])
            wrong = net.decoder(z) - x
            loss = wrong.square().mean() + colour * (wrong - wrong.mean(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(step + 1)
    return net.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on a source's pictures, and save; prints the error of the autoencoder on pictures that it has not seen."""
    parser = argparse.ArgumentParser(
        prog="python -m mmcore_diffusers.small", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("source", help="the name of a source, such as idx, folder or npz")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the source")
    parser.add_argument("--column", default="image", help="of the rows, where the pictures are")
    parser.add_argument("--size", type=int, nargs="+", default=[28], help="height and width, or one number for both")
    parser.add_argument("--channels", type=int, default=1, help="of a picture")
    parser.add_argument("--latents", type=int, default=4, help="channels of a latent")
    parser.add_argument("--width", type=int, default=32, help="channels of the layers")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=int, default=20000, help="pictures to learn from, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the folder of the autoencoder")
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    if given.out.exists() and any(given.out.iterdir()):
        raise RequestError(f"small: {given.out} is there and is not empty, expected a new folder")
    source = mmcore.discover().source(given.source, **dict(one.split("=", 1) for one in given.set))
    reader = ImageModality(given.channels, given.size if len(given.size) > 1 else given.size[0])
    count = min(given.rows + 500, len(source))
    rows = [source[index * len(source) // count] for index in range(count)]
    read = reader.read_many([row[given.column] for row in rows if row.get(given.column) is not None])
    held, pictures = read[::40], read[torch.arange(len(read)) % 40 != 0]
    net = train(pictures, latents=given.latents, width=given.width, steps=given.steps, seed=given.seed, quiet=False)
    net.save_pretrained(given.out, safe_serialization=True)
    with torch.no_grad():
        error = float((net.decode(net.encode(held).latents).sample.clamp(-1, 1) - held).square().mean())
    spread = float(held.var(correction=0))
    print(
        f"{given.out}: {len(pictures):,} pictures, {given.steps:,} steps, {time.perf_counter() - started:.0f} s; mean squared error {error:.4f} in -1 … 1 "
        f"on {len(held):,} others, {error / spread:.1%} of their variance"
    )


if __name__ == "__main__":
    try:
        main()
    except MmcoreError as error:
        sys.exit(f"Error: {error}")
