"""``mmcore play``."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Device, registry_of, say


def play(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run's folder, or a model folder.")],
    host: Annotated[
        str, typer.Option(help="The address at which the page is; 0.0.0.0 for whoever reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="By default the first that is free from 7860.")] = None,
    device: Device = "auto",
) -> None:
    """Ask a model on a page in the browser: say what is given, what is wanted, and see the answers."""
    registry = registry_of(context)
    from mmcore.play.serve import prepare, serve

    prepare()
    from mmcore.runs.reader import Reader

    serve(Reader.open(run, registry=registry, device=device), run, host=host, port=port, say=say)
    # The process is at its end, and has nothing left that an interrupt could spare.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
