"""The command line; imports no torch until work begins."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.errors import MmcoreError, PluginError, RequestError

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
    except MmcoreError as error:
        # On one line, whatever a plugin has put into its message.
        print(f"mmcore: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RequestError | PluginError) else 1)
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


def _registry(context: typer.Context, *, strict: bool | None = None) -> Any:
    from mmcore.plugins import discover
    from mmcore.plugins.loading import tell

    registry = discover(**context.obj, strict=strict)
    for name in context.obj["without"]:
        if not any(entry.matches(name) for entry in registry.entries):
            tell(f"--no-plugin {name}: nothing is called so; 'mmcore plugins list' shows what there is")
    return registry


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
    # Before torch is imported: discovery may have to keep it from reading what cannot be read.
    registry = _registry(context)
    from mmcore.demo.run import run

    run(registry, out, compare=compare, steps=steps, device=device, seed=seed, threads=threads)


@app.command()
def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run's folder, or the model folder in it.")],
    source: Annotated[str, typer.Option(help="Where rows come from: a source by its name.")] = "digits",
    set_: Annotated[list[str] | None, typer.Option("--set", help="option=value of the source, as TOML.")] = None,
    observed: Annotated[list[str] | None, typer.Option(help="Condition on this variable; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=2, help="Draws of t and noise per row, an even number.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The variational bound of a source's rows by its parts: nats, bits per dimension, and the error of the estimate."""
    registry = _registry(context)
    import json

    from mmcore.checkpoint import load
    from mmcore.evaluation import evaluate
    from mmcore.training.loop import pick_device

    folder = run / "model" if (run / "model" / "config.json").exists() else run
    model = load(folder, registry=registry, device=str(pick_device(device)))
    rows = registry.source(source, **_options(set_ or []))
    found = evaluate(model, rows, observed=observed or (), draws=draws, seed=seed)
    if as_json:
        print(json.dumps(found.json(), indent=2))
        return
    given = f", given {', '.join(found.observed)}" if found.observed else ""
    print(f"bound on -log p over {found.rows} rows of {source}{given}; ± is the standard error of its estimate\n")
    print(found.table())
    print(f"\nL0 has {found.space:.4g} nats more that belong to the space as a whole")


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


@app.command("new-plugin")
def new_plugin(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The modality's name, such as audio or heart-rate.")],
    kind: Annotated[str, typer.Option(help="Of data: vector, sequence, grid or categorical.")] = "vector",
    out: Annotated[Path, typer.Option(help="The folder in which the distribution's folder is made.")] = Path("."),
) -> None:
    """Write a modality's distribution that installs and passes the conformance checks; the rest is marked TODO."""
    from mmcore import scaffold

    folder = scaffold.new_plugin(name, kind=kind, out=out, registry=_registry(context))
    print(f"{folder}: now 'pip install -e {folder}[testing]', 'mmcore check {name}', then grep -r TODO {folder}")


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
    load: Annotated[
        bool, typer.Option("--load", help="Import each plugin, in a process of its own, and say how that went.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="With --load: seconds before an import is cut off.")] = 10.0,
) -> None:
    """What each installed distribution offers, from metadata alone: no plugin is imported."""
    from mmcore.plugins.show import show_list

    show_list(_registry(context, strict=False), as_json=as_json, load=load, limit=timeout)


@plugins.command("why")
def why(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that 'plugins list' shows.")],
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds before an import is cut off.")] = 60.0,
) -> None:
    """Where a plugin comes from, whether it works, and if not, why and what to do."""
    from mmcore.plugins.show import show_why

    show_why(_registry(context, strict=False), name, limit=timeout)
