"""``mmcore predict``."""

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.cli.common import Device, registry_of, say
from mmcore.errors import RequestError

KINDS = 4
"""Kinds of question of which one is told that the training hardly asked them."""


def predict(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run's folder, or a model folder.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Data in any form that mmcore init reads, a picture, or a pattern such as 'new/*.jpg'; or test for the run's own test rows.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", readable=False, help="The folder to write in.")],
    draws: Annotated[int, typer.Option(min=1, help="Of each row; 1 for neither interval nor agreement.")] = 16,
    interval: Annotated[float, typer.Option(help="The probability between the ends that are told of numbers.")] = 0.8,
    calibrate: Annotated[
        bool,
        typer.Option(
            help="Set intervals and probabilities by the run's held-out rows, which are asked the same first, once; or tell the draws' own."
        ),
    ] = True,
    again: Annotated[
        list[str] | None, typer.Option(help="Predict this variable also in rows that have it; may be repeated.")
    ] = None,
    absent: Annotated[list[str] | None, typer.Option(help="Leave this modality out; may be repeated.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="variable=column, where these data name a column otherwise than the run's; may be repeated."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler; by default as the run samples.")] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, ddim, ancestral, 2m, heun, or a plugin's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    skip: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Pass over rows that cannot be read, and tell.")
    ] = False,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the predictions that are in --out.")] = False,
) -> None:
    """Fill in what rows lack: pictures and masks as PNG of the files' size, labels and numbers as columns of a table, vectors as NPY.

    Stopped, the same command goes on where it was.
    """
    registry = registry_of(context)
    from mmcore.plugins.metadata import one_line
    from mmcore.runs.calibrated import relied
    from mmcore.runs.filled import RECORD, TABLE
    from mmcore.runs.filling import predict as ask
    from mmcore.runs.overfit import learned_by_heart
    from mmcore.store.folder import is_run

    how: dict[str, Any] = {"steps": steps, "sampler": sampler, "seed": seed}
    found = ask(
        run,
        data,
        draws=draws,
        interval=interval,
        calibrate=calibrate,
        again=again or (),
        absent=absent or (),
        columns=_columns(column or []),
        on_bad_row="skip" if skip else "stop",
        device=device,
        registry=registry,
        **{name: value for name, value in how.items() if value is not None},
    )
    for line in found.said:
        say(one_line(line))
    written = found.write(out, force=force)
    filled = ", ".join(f"{name} in {count:,}" for name, count in written.filled.items())
    say(
        f"{written.rows:,} row{'s' * (written.rows != 1)}: {f'filled in {filled}' if filled else 'none lacks anything; --again VARIABLE predicts what is there'}"
    )
    for name, count in written.left.items():
        say(
            f"{name}: not predicted in {count:,} that lack nothing else: only a task predicts it, beside what is generated"
        )
    if written.cut:
        say(
            f"the run's transforms cut pictures of {written.cut:,} rows: beyond the cut the nearest answer is repeated, and the agreement is 0"
        )
    for problem in written.bad[:5]:
        say(f"passed over: {one_line(problem)}")
    if len(written.bad) > 5:
        say(f"passed over {len(written.bad) - 5:,} more, see {written.folder / RECORD}")
    untaught = found.untaught()
    more = (
        [f"and {len(untaught) - KINDS} more kinds of question that the training hardly asked"]
        if len(untaught) > KINDS
        else []
    )
    for line in itertools.chain(found.beyond.told(), untaught[:KINDS], more):
        say(f"note: {one_line(line)}")
    model = found.reader.model
    told = found.held.told(written.filled) if found.held is not None else {}
    sure = [name for name in written.filled if draws > 1 and not model.variable(name).discrete and name not in told]
    for line in itertools.chain(learned_by_heart(run), *told.values(), relied(run, sure) if is_run(run) else ()):
        say(f"note: {one_line(line)}")
    say(f"table: {written.folder / TABLE}")
    for folder in written.folders:
        if (written.folder / folder).is_dir():
            say(f"files: {written.folder / folder}")


def _columns(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name or not column:
            raise RequestError(f"--column {pair!r}, expected variable=column, such as --column image=photo")
        found[name] = column
    return found
