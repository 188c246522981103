"""``mmcore specialise``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import registry_of, say


def specialise(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="The folder of a finished training.")],
    ask: Annotated[
        str,
        typer.Option(
            "--ask", help="What is given, ->, and what is wanted, with commas between names: 'image -> label'."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The new run's folder.")],
    share: Annotated[float, typer.Option(help="Of the run's steps, how many are made.")] = 0.25,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove the run that --out holds, and start anew.")
    ] = False,
) -> None:
    """Train a run's model further on one question alone, as a run of its own: better answers to this one, worse ones to others."""
    registry = registry_of(context)
    from mmcore.runs.specialise import specialise

    folder = specialise(run, ask, out=out, share=share, replace=replace, registry=registry)
    say(f"model:  {folder / 'model'}")
    say(f"report: {(folder / 'report.html').resolve()}")
