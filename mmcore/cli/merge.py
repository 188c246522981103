"""``mmcore merge``."""

from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import registry_of, say
from mmcore.errors import RequestError


def merge(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", readable=False, help="A run or model folder with adapters.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The folder of the merged model.")],
    adapters: Annotated[
        Path | None,
        typer.Option(readable=False, help="A folder of adapters of this model, to put in first."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over the model that --out holds.")] = False,
) -> None:
    """Add a model's adapters to its own weights: a model folder that needs no peft, with the same answers."""
    registry = registry_of(context)
    import attrs

    from mmcore.model.adapters import merge
    from mmcore.runs.run import CONFIG, Run
    from mmcore.store.adapters import load_adapters
    from mmcore.store.model import load, save

    if (out / CONFIG).exists():
        raise RequestError(
            f"merge: {out} holds a run, expected a folder for the merged model alone; name another by -o"
        )
    if (out / "config.json").exists() and not replace:
        raise RequestError(
            f"merge: {out} holds a model already; name another folder by -o, or write over it by --replace"
        )
    run = (model / CONFIG).exists() and not (model / "config.json").exists()
    opened = Run.open(model, registry).model("cpu") if run else load(model, registry=registry)
    if adapters is not None:
        load_adapters(opened, adapters)
    if opened.config is None or opened.config.adapters is None:
        raise RequestError(f"merge: {model} has no adapters, expected a model that was trained with some")
    merge(opened.backbone)
    opened.config = attrs.evolve(opened.config, adapters=None)
    say(f"model:  {save(opened, out)}")
