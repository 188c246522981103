"""``mmcore init``."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from mmcore import files
from mmcore.cli.common import registry_of, say
from mmcore.errors import RequestError


def init(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", readable=False, help="An .npz file, IDX files, a table, .tar shards, or a folder."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", readable=False, help="The configuration to write.")] = Path(
        "config.toml"
    ),
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="What the data do not say: COLUMN=MODALITY (none leaves it out), COLUMN.OPTION=VALUE, options.OPTION=VALUE of the source, "
            "or layout=classes or layout=modalities; may be repeated.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a configuration that is there.")] = False,
) -> None:
    """Write a commented configuration for data, by looking at them.

    It prints what each column was taken for, on what evidence, and what to change. Where the evidence does not decide, it asks: nothing is
    written, and the exit status is 2.
    """
    registry = registry_of(context)
    if out.exists() and not force:
        raise RequestError(f"init: {out} is there already; name another by -o, or overwrite it by --force")
    from mmcore.config import configured
    from mmcore.config.guess import configuration

    guess = configuration(data, registry, assume=assume or ())
    # Nothing is written that a training would refuse before its first row.
    configured(tomllib.loads(guess.text), where="init", registry=registry).rows()
    try:
        files.write(out, guess.text.encode(), follow=True)
    except OSError as error:
        raise RequestError(f"init: {out} cannot be written: {error.strerror or error}") from error
    say("\n".join(guess.said))
    say(f"{out} is written; look at it, then:")
    say(f"  mmcore train {out} --dry-run")
    say(f"  mmcore train {out}")
