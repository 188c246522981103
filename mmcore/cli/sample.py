"""``mmcore sample``."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mmcore.cli.common import Device, registry_of, say, writable
from mmcore.errors import MmcoreError, RequestError

Given = Annotated[
    list[str] | None,
    typer.Option(
        help="name=value, such as label=3 or image=a.png, read as the training data were; or a folder, pattern or table of values, a sample for each. May be repeated."
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(help="name=mask.png (or .npy) of the given file's size: white is kept, black is painted anew."),
]
Start = Annotated[list[str] | None, typer.Option(help="name=value to edit, of every modality that is generated.")]


def sample(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run's folder, or a model folder.")],
    n: Annotated[
        int | None,
        typer.Option(
            "-n", min=1, help="How many; by default as the run's configuration says, or one for each value given."
        ),
    ] = None,
    given: Given = None,
    where: Where = None,
    absent: Annotated[list[str] | None, typer.Option(help="Leave this modality out; may be repeated.")] = None,
    conditioning: Annotated[str | None, typer.Option(help="roles, posterior or rejection.")] = None,
    guidance: Annotated[list[str] | None, typer.Option(help="name=scale of a given modality; may be repeated.")] = None,
    guide: Annotated[str | None, typer.Option(help="A plugin's guidance, for the scales of --guidance.")] = None,
    start: Start = None,
    strength: Annotated[float | None, typer.Option(help="Of an edit: above 0, and 1 for noise alone.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler.")] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, ddim, ancestral, 2m, heun, or a plugin's.")] = None,
    spacing: Annotated[str | None, typer.Option(help="Of the timesteps: time or snr.")] = None,
    eta: Annotated[float | None, typer.Option(help="DDIM's, 0 … 1.")] = None,
    codes: Annotated[str | None, typer.Option(help="How modalities enter a step: mean, draw or draw-all.")] = None,
    draw: Annotated[
        bool | None, typer.Option("--draw/--no-draw", help="Draw real-valued answers, in place of their means.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the samples.")] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            readable=False,
            help="Where samples go; by default a new folder RUN/samples/asked-1, asked-2 …",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite samples that are in --out.")] = False,
) -> None:
    """Draw samples: pictures as PNG, all of them as safetensors, and in words as JSON."""
    registry = registry_of(context)
    from mmcore.cli.ending import tell
    from mmcore.plugins.metadata import one_line
    from mmcore.runs.asking import ask
    from mmcore.runs.reader import Reader
    from mmcore.runs.samples import check_answers, own_folder, write_samples
    from mmcore.runs.seldom import untaught

    if out is not None:
        check_answers(out, force=force)
    reader = Reader.open(run, registry=registry, device=device)
    asked = ask(
        reader,
        n,
        given=_pairs("--given", given or []),
        where=_pairs("--where", where or []),
        start=_pairs("--start", start or []),
        absent=absent or [],
        guidance={name: _number(name, text) for name, text in _pairs("--guidance", guidance or []).items()},
        guide=guide,
        strength=strength,
        signs="--",
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        eta=eta,
        codes=codes,
        draw=draw,
        conditioning=conditioning,
        seed=seed,
    )
    try:
        with own_folder(run / "samples") if out is None else nullcontext(writable(out, "--out")) as folder:
            written = write_samples(folder, reader.model, asked.values, asked.question)
    except OSError as error:
        place = out or run / "samples"
        raise MmcoreError(
            f"{place} cannot be written: {error.strerror or error}; name another folder by --out"
        ) from error
    for path in written:
        say(path)
    for line in asked.beyond.told():
        tell(f"note: {one_line(line)}")
    whole = [name for name in asked.question["given"] if name not in asked.question["where"]]
    for line in untaught(reader.run, reader.model, whole, absent or []):
        tell(f"note: {one_line(line)}")
    if asked.question["where"] and not reader.saw_parts:
        tell("note: this run never saw parts of a value (training.roles.partial = 0); what is filled in may not fit")


def _pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"{option} {pair!r}, expected name=value, such as {option} label=3")
        if name.strip() in found:
            raise RequestError(
                f"{option} {name.strip()} twice, expected it once: what is asked is the same for all samples"
            )
        found[name.strip()] = text.strip()
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"--guidance {name}={text}, expected a number such as 2.0") from None
