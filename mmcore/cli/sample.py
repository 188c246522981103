"""``mmcore sample``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmcore.cli.common import Device, registry_of, writable
from mmcore.errors import RequestError

if TYPE_CHECKING:
    from mmcore.model.joint import JointModel


def sample(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model folder.")],
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="How many; by default as the run's configuration says.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(help="name=value, such as label=3 or image=a.png; may be repeated."),
    ] = None,
    absent: Annotated[list[str] | None, typer.Option(help="Leave this modality out; may be repeated.")] = None,
    guidance: Annotated[list[str] | None, typer.Option(help="name=scale of a given modality; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the sampler.")] = None,
    sampler: Annotated[str | None, typer.Option(help="auto, ddim, ancestral, 2m or heun.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the samples.")] = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Where samples go; by default RUN/samples.")] = None,
) -> None:
    """Draw samples: pictures as PNG, all of them as safetensors, and in words as JSON."""
    registry = registry_of(context)
    from mmcore.config import SamplingOptions
    from mmcore.runs.run import CONFIG, Run, write_samples
    from mmcore.sampling.ask import sample
    from mmcore.store.model import load
    from mmcore.training.loop import pick_device

    if (run / CONFIG).exists() or not (run / "config.json").exists():
        opened = Run.open(run, registry)
        model, defaults = opened.model(device), opened.setup.config.sampling
    else:
        model, defaults = load(run, registry=registry, device=str(pick_device(device))), SamplingOptions()
    changes = {"steps": steps, "sampler": sampler, "seed": seed}
    how: dict[str, Any] = defaults.how() | {key: value for key, value in changes.items() if value is not None}
    if sampler not in (None, defaults.sampler):
        how |= {"eta": None} | ({} if sampler in ("ancestral", "ddim") else {"codes": "mean"})
    count = n or defaults.n
    asked = _pairs("--given", given or [])
    scales = {name: _number(name, text) for name, text in _pairs("--guidance", guidance or []).items()}
    values = {name: _read(model, name, text, count) for name, text in asked.items()}
    question = {"n": count, "given": asked, "absent": absent or [], "guidance": scales, **how}
    answer = sample(model, count, given=values, absent=absent or [], guidance=scales, **how)
    for path in write_samples(writable(out or run / "samples", "--out"), model, answer, question):
        print(path)


def _pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"{option} {pair!r}, expected name=value, such as {option} label=3")
        found[name.strip()] = text.strip()
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"--guidance {name}={text}, expected a number such as 2.0") from None


def _read(model: "JointModel", name: str, text: str, n: int) -> Any:
    """A given value, read as its modality reads raw ones; the same for every sample."""
    from mmcore.config.files import value_of

    m = model.variable(name)
    refused = None
    # A word may look like a number: a class called "3".
    for raw in (
        dict.fromkeys([text, str(value_of(text))]) if isinstance(value_of(text), str) else [value_of(text), text]
    ):
        try:
            x = m.read(raw)
            return x[None].expand(n, *x.shape)
        except RequestError as error:
            refused = refused or error
    raise RequestError(f"--given {name}={text}: {refused}") from refused
