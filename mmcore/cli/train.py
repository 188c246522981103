"""``mmcore train``."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Changes, registry_of, say


def train(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", readable=False, help="What to train, on what, and how.")
    ],
    set_: Changes = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Begin with the weights of this model or run, and add what the configuration has beside it; as model.grows_from.",
        ),
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the configuration's folder.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove the run in the configuration's folder, and start anew.")
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="With --resume: although the configuration has changed.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Build all, run some steps and samples, and say how long the training would take."
        ),
    ] = False,
) -> None:
    """Train a model by a configuration; the run's folder gets its metrics, samples, model and report."""
    registry = registry_of(context)
    from mmcore.config import load

    changes = [*(set_ or []), *([f"model.grows_from={json.dumps(from_, ensure_ascii=False)}"] if from_ else [])]
    setup = load(file, changes, registry=registry)
    if dry_run:
        from mmcore.runs.dry import dry_run as run

        say(run(setup, before=time.process_time()).table())
        return
    from mmcore.runs.overfit import learned_by_heart
    from mmcore.runs.run import train

    folder = train(setup, resume=resume, replace=replace, accept_changes=accept_changes)
    for line in learned_by_heart(folder):
        say(f"note:   {line}")
    say(f"model:  {folder / 'model'}")
    say(f"report: {(folder / 'report.html').resolve()}")
