"""The command line; imports no torch until work begins."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.errors import MmcoreError, RequestError

app = typer.Typer(
    help="Joint diffusion models over any number of modalities and tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
plugins = typer.Typer(help="What is installed, and what is wrong with it.", no_args_is_help=True)
app.add_typer(plugins, name="plugins")


def main() -> None:
    """Run the command line; exit status 0 done, 1 the work failed, 2 the request was wrong."""
    try:
        app()
    except RequestError as error:
        print(f"mmcore: {error}", file=sys.stderr)
        sys.exit(2)
    except MmcoreError as error:
        print(f"mmcore: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("mmcore: interrupted", file=sys.stderr)
        sys.exit(130)


@app.callback()
def options(
    context: typer.Context,
    no_plugin: Annotated[list[str] | None, typer.Option(help="Block this plugin; may be repeated.")] = None,
    no_plugins: Annotated[bool, typer.Option("--no-plugins", help="Block all plugins but mmcore's own.")] = False,
) -> None:
    """Options of every command."""
    context.obj = {"only": () if no_plugins else None, "without": no_plugin or ()}


def _registry(context: typer.Context) -> Any:
    from mmcore.plugins import discover

    return discover(**context.obj)


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("runs/demo"),
    compare: Annotated[
        bool, typer.Option(help="Also train an image-only model of the same backbone and steps.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    seed: Annotated[int, typer.Option(help="Of training and samples.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as there are cores.")] = 0,
) -> None:
    """Train a four-modality model on real handwritten digits, sample, and report."""
    from mmcore.demo.run import run

    run(_registry(context), out, compare=compare, steps=steps, device=device, seed=seed, threads=threads)


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An offer's name, such as label or backbone.transformer.")],
    profile: Annotated[str, typer.Option(help="quick, ci or deep.")] = "quick",
    report: Annotated[Path | None, typer.Option(help="Write the results as JSON.")] = None,
    badge: Annotated[Path | None, typer.Option(help="Write the verdict as an SVG badge.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option=value of the plugin, as TOML.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    opt_outs: Annotated[Path | None, typer.Option(help="A TOML file of what is excused.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Put an installed plugin to the conformance checks; exit status 1 where it fails."""
    try:
        from mmcore.testing import OptOuts, run
        from mmcore.testing.installed import installed
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise RequestError("check: Hypothesis is missing: pip install mmcore[testing]") from error
    for path in (report, badge):
        if path is not None and not path.absolute().parent.is_dir():
            raise RequestError(f"check: {path} cannot be written: there is no folder {path.absolute().parent}")
    thing, kind = installed(_registry(context), name, _options(set_ or []))
    excused = OptOuts.read(opt_outs) if opt_outs is not None else None
    found = run(thing, kind=kind, profile=profile, seed=seed, opt_outs=excused, only=only or (), watch=_tell)
    if report is not None:
        found.save(report)
    if badge is not None:
        found.badge(badge)
    for failure in found.failures:
        print(f"\n{failure.explain()}")
    print(f"\n{found.summary()}")
    if found.verdict == "failed":
        raise typer.Exit(1)


def _tell(result: Any) -> None:
    level = "" if result.check.level == "required" else f" ({result.check.level})"
    why = f": {result.reason}" if result.reason else ""
    print(f"{result.status:14}{result.id}{level}{why}", flush=True)


def _options(pairs: list[str]) -> dict[str, Any]:
    """``option=value`` pairs; a value is TOML, or else a word."""
    import tomllib

    options = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise RequestError(f"--set {pair!r}, expected option=value")
        try:
            options[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[name] = text
    return options


@plugins.command("list")
def list_plugins(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What each installed distribution offers, from metadata alone: no plugin is imported."""
    rows = _registry(context).table()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    columns = ("kind", "name", "distribution", "version", "api", "status")
    table = [columns, *(tuple(row[c] for c in columns) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@plugins.command("why")
def why(context: typer.Context, name: Annotated[str, typer.Argument(help="A name that 'plugins list' shows.")]) -> None:
    """Where a plugin comes from and, if it is broken, why."""
    registry = _registry(context)
    found = [e for e in registry.entries if name in (e.name, f"{e.kind}.{e.name}", e.full_name, e.distribution)]
    if not found:
        known = ", ".join(sorted({f"{e.kind}.{e.name}" for e in registry.entries}))
        raise RequestError(f"plugins why: nothing is called {name!r}; there are {known}")
    for entry in found:
        print(f"{entry.kind}.{entry.name}: {entry.distribution} {entry.version}, entry module {entry.module}")
        if entry.blocked:
            print("  blocked: allow it in MMCORE_PLUGINS, or drop --no-plugin")
            continue
        try:
            offer = registry.offer(entry)
        except MmcoreError as error:
            print(f"  broken: {error}")
            continue
        print(f"  offers {offer.factory}: {offer.summary}")
