"""What the commands share; imports no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.errors import RequestError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda …")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="a.b=value, before the file's own; may be repeated.")]


def say(text: object) -> None:
    """Print a text, without what would move a terminal's cursor: names in it may be a stranger's."""
    from mmcore.plugins.metadata import lines

    print(lines(str(text)), flush=True)


def registry_of(context: typer.Context, *, strict: bool | None = None) -> Any:
    """A fresh registry, by the options of every command.

    Before torch is imported: discovery may have to keep it from reading what cannot be read.
    """
    from mmcore.plugins import discover
    from mmcore.plugins.loading import tell

    registry = discover(**context.obj, strict=strict)
    for name in context.obj["without"]:
        if not any(entry.matches(name) for entry in registry.entries):
            tell(f"--no-plugin {name}: nothing is called so; 'mmcore plugins list' shows what there is")
    return registry


def options_of(pairs: Iterable[str]) -> dict[str, Any]:
    """``option=value`` pairs; a value is TOML, or else a word."""
    from mmcore.config.files import value_of

    options = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"--set {pair!r}, expected option=value")
        options[name] = value_of(text)
    return options


def writable(folder: Path, what: str) -> Path:
    """Make a folder for results.

    Raises:
        RequestError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{what} {folder} cannot be made: {error.strerror or error}") from error
    return folder
