"""``mmcore config``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Changes, registry_of, say


def config(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", readable=False, help="A configuration.")],
    set_: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a configuration in full, and print it with every default in its place."""
    registry = registry_of(context)
    import json

    from mmcore.config import files, load

    tables = load(file, set_ or [], registry=registry).tables()
    say(json.dumps(tables, indent=2) if as_json else files.text(tables).removesuffix("\n"))
