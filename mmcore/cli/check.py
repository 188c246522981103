"""``mmcore check``: the conformance kit on an installed plugin."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmcore.cli.common import options_of, registry_of, say
from mmcore.errors import RequestError


def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An offer's name, such as label or backbone.transformer.")],
    profile: Annotated[str, typer.Option(help="quick, ci or deep.")] = "quick",
    report: Annotated[Path | None, typer.Option(readable=False, help="Write the results as JSON.")] = None,
    badge: Annotated[Path | None, typer.Option(readable=False, help="Write the verdict as an SVG badge.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="option=value of the plugin, as TOML.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this check; may be repeated.")] = None,
    opt_outs: Annotated[Path | None, typer.Option(readable=False, help="A TOML file of what is excused.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Put an installed plugin to the conformance checks; exit status 1 where it fails."""
    try:
        from mmcore.testing import OptOuts, run
        from mmcore.testing.installed import installed
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise RequestError("check: Hypothesis is missing: pip install 'mmcore-diffusion[testing]'") from error
    for path in (report, badge):
        if path is not None and not path.absolute().parent.is_dir():
            raise RequestError(f"check: {path} cannot be written: there is no folder {path.absolute().parent}")
    thing, kind = installed(registry_of(context), name, options_of(set_ or []))
    excused = OptOuts.read(opt_outs) if opt_outs is not None else None
    found = run(thing, kind=kind, profile=profile, seed=seed, opt_outs=excused, only=only or (), watch=_tell)
    if report is not None:
        found.save(report)
    if badge is not None:
        found.badge(badge)
    for failure in found.failures:
        say(f"\n{failure.explain()}")
    say(f"\n{found.summary()}")
    if found.verdict == "failed":
        raise typer.Exit(1)


def _tell(result: Any) -> None:
    level = "" if result.check.level == "required" else f" ({result.check.level})"
    why = f": {result.reason}" if result.reason else ""
    say(f"{result.status:14}{result.id}{level}{why}")
