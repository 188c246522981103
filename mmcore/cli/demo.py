"""``mmcore demo``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Device, registry_of


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(readable=False, help="Where results go.")] = Path("runs/demo"),
    compare: Annotated[
        bool, typer.Option(help="Also train an image-only model of the same backbone and steps.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of training and samples.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")] = 0,
) -> None:
    """Train a four-modality model on real handwritten digits, sample, and report."""
    registry = registry_of(context)
    from mmcore.demo.run import run

    run(registry, out, compare=compare, steps=steps, device=device, seed=seed, threads=threads)
