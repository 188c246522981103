"""``mmcore evaluate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.cli.common import Device, options_of, registry_of
from mmcore.errors import RequestError


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model folder.")],
    source: Annotated[
        str | None, typer.Option(help="Where rows come from, a source by its name; by default the run's held-out rows.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option=value of --source, as TOML.")] = None,
    observed: Annotated[list[str] | None, typer.Option(help="Condition on this variable; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Draws of t and noise per row, an even number.")] = 16,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The variational bound of rows by its parts: nats, bits per dimension, and the error of the estimate."""
    registry = registry_of(context)
    import json

    from mmcore.checkpoint import load
    from mmcore.config.run import Run, rows_with
    from mmcore.data import Table
    from mmcore.evaluation import evaluate
    from mmcore.training.loop import pick_device

    if set_ and source is None:
        raise RequestError("--set belongs to --source, which is not given; expected both or neither")
    if source is None:
        opened = Run.open(run, registry)
        model = opened.model(device)
        held, part = opened.held_out()
        rows: Any = Table.read(rows_with(held, model))
        what = f"the run's {part} data"
    else:
        folder = run / "model" if (run / "model" / "config.json").exists() else run
        model = load(folder, registry=registry, device=str(pick_device(device)))
        rows, what = registry.source(source, **options_of(set_ or [])), source
    found = evaluate(model, rows, observed=observed or (), draws=draws, seed=seed)
    if as_json:
        print(json.dumps(found.json(), indent=2))
        return
    given = f", given {', '.join(found.observed)}" if found.observed else ""
    print(f"bound on -log p over {found.rows} rows of {what}{given}; ± is the standard error of its estimate\n")
    print(found.table())
    print(f"\nL0 has {found.space:.4g} nats more that belong to the space as a whole")
