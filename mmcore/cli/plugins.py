"""``mmcore plugins list`` and ``mmcore plugins why``."""

from typing import Annotated

import typer

from mmcore.cli.common import registry_of


def list_plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    load: Annotated[
        bool, typer.Option("--load", help="Import each plugin, in a process of its own, and say how that went.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="With --load: seconds before an import is cut off.")] = 10.0,
) -> None:
    """What each installed distribution offers, from metadata alone: no plugin is imported."""
    from mmcore.plugins.show import show_list

    show_list(registry_of(context, strict=False), as_json=as_json, load=load, limit=timeout)


def why(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that 'plugins list' shows.")],
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds before an import is cut off.")] = 60.0,
) -> None:
    """Where a plugin comes from, whether it works, and if not, why and what to do."""
    from mmcore.plugins.show import show_why

    show_why(registry_of(context, strict=False), name, limit=timeout)
