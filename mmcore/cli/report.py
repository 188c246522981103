"""``mmcore report``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run's folder.")],
) -> None:
    """Write report.html of a run: curves, samples and configuration, in one page that needs no other file."""
    from mmcore.plugins.loading import tell
    from mmcore.runs.report import write

    say(f"report: {write(run, tell).resolve()}")
