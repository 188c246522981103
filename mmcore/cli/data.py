"""``mmcore data`` and ``mmcore embed``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Changes, registry_of, say, writable
from mmcore.errors import RequestError


def data(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", readable=False, help="A configuration.")],
    set_: Changes = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows to read at most.")] = 2048,
    out: Annotated[Path, typer.Option("-o", "--out", readable=False, help="The picture to write.")] = Path("data.png"),
) -> None:
    """What a model will see of its data beside what is on disk: counts, ranges, shares of classes and warnings, and a picture of rows."""
    registry = registry_of(context)
    from mmcore.config import load
    from mmcore.data.sheet import picture
    from mmcore.data.show import summarize
    from mmcore.runs.run import rows_with

    setup = load(file, set_ or [], registry=registry)
    rows_of_training = setup.rows()
    setup = setup.measured(rows_of_training)
    parts = {"train": rows_with(rows_of_training, setup)}
    for part in ("validation", "test"):
        try:
            parts[part] = setup.rows(part)
        except RequestError:  # data need not have held-out parts
            continue
    summary = summarize(parts, rows)
    say(summary.text())
    writable(out.absolute().parent, "--out")
    say(f"picture: {picture(parts['train'], out, summary=summary)}")


def embed(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", readable=False, help="A configuration with [[data.embed]].")
    ],
    set_: Changes = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this variable; may be repeated.")] = None,
) -> None:
    """Turn images or texts into vectors once, by a pretrained network in a local folder; they are kept on disk."""
    registry = registry_of(context)
    from mmcore.config import load
    from mmcore.data.opening import embed

    for report in embed(registry, load(file, set_ or [], registry=registry).config.data, only=only or ()):
        say(
            f"{report.variable}: {report.made:,} made, {report.found:,} kept from before, {report.missing:,} of {report.rows:,} "
            f"rows without a value, {len(report.bad):,} bad: {report.folder}"
        )
