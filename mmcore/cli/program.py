"""The program: every command, and the exit status of whatever happens."""

import platform
import sys
import threading
import warnings
from typing import Annotated

import typer

from mmcore._version import __version__
from mmcore.cli.check import check
from mmcore.cli.common import registry_of
from mmcore.cli.config import config
from mmcore.cli.data import data, embed
from mmcore.cli.demo import demo
from mmcore.cli.ending import ending, tell
from mmcore.cli.evaluate import evaluate
from mmcore.cli.init import init
from mmcore.cli.merge import merge
from mmcore.cli.new_plugin import new_plugin
from mmcore.cli.play import play
from mmcore.cli.plugins import list_plugins, why
from mmcore.cli.predict import predict
from mmcore.cli.report import report
from mmcore.cli.sample import sample
from mmcore.cli.specialise import specialise
from mmcore.cli.train import train

app = typer.Typer(
    help="Joint diffusion models over any number of modalities and tasks.",
    no_args_is_help=True,
    add_completion=False,
    # rich's own markup would have every --help wait for its Markdown parser.
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    init,
    config,
    data,
    embed,
    train,
    specialise,
    merge,
    sample,
    predict,
    play,
    report,
    evaluate,
    check,
):
    app.command()(command)
app.command("new-plugin")(new_plugin)
plugins = typer.Typer(help="What is installed, and what is wrong with it.", no_args_is_help=True, rich_markup_mode=None)
plugins.command("list")(list_plugins)
plugins.command("why")(why)
app.add_typer(plugins, name="plugins")

__all__ = ["app", "main", "registry_of"]


def main() -> None:
    """Run the command line; exit status 0 done, 1 the work failed, 2 the request was wrong."""
    warnings.showwarning = _warn
    threading.excepthook = _thread_ended
    with ending():
        # What is wrong with a command line is told by ending() too: an argument of it may be a stranger's.
        sys.exit(app(standalone_mode=False) or 0)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    tell(str(message))


def _thread_ended(found: threading.ExceptHookArgs) -> None:
    """A library's own thread, such as one that writes curves; the command itself goes on."""
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        name = found.thread.name if found.thread is not None else "one"
        tell(f"a thread ended ({name}): {type(found.exc_value).__name__}: {found.exc_value}")


def _print_versions(wanted: bool) -> None:
    if wanted:
        from mmcore.plugins.metadata import version_of

        torch = version_of("torch")
        print(f"mmcore {__version__} (torch {torch or 'not installed'}, Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    no_plugin: Annotated[list[str] | None, typer.Option(help="Block this plugin; may be repeated.")] = None,
    no_plugins: Annotated[bool, typer.Option("--no-plugins", help="Block all plugins but mmcore's own.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print mmcore's, torch's and Python's.", is_eager=True, callback=_print_versions
        ),
    ] = False,
) -> None:
    """Options of every command."""
    context.obj = {"only": () if no_plugins else None, "without": no_plugin or ()}
