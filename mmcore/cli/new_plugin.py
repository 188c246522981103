"""``mmcore new-plugin``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import registry_of, say


def new_plugin(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The modality's name, such as audio or heart-rate.")],
    kind: Annotated[
        str,
        typer.Option(help="Of data: vector, sequence, grid, categorical, text, series, depth, table or pretrained."),
    ] = "vector",
    out: Annotated[
        Path, typer.Option(readable=False, help="The folder in which the distribution's folder is made.")
    ] = Path("."),
) -> None:
    """Write a modality's distribution that installs and passes the conformance checks; the rest is marked TODO."""
    from mmcore import scaffold

    folder = scaffold.new_plugin(name, kind=kind, out=out, registry=registry_of(context))
    say(f"{folder}: now 'pip install -e {folder}[testing]', 'mmcore check {name}', then grep -r TODO {folder}")
