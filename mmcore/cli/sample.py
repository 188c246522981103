"""``mmcore sample``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmcore.cli.common import Device, registry_of, writable
from mmcore.errors import RequestError

if TYPE_CHECKING:
    from mmcore.model.joint import JointModel


Given = Annotated[list[str] | None, typer.Option(help="name=value, such as label=3 or image=a.png; may be repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="name=mask.png (or .npy): of what is given, the pixels that are known; the rest is inpainted."),
]
Start = Annotated[list[str] | None, typer.Option(help="name=value to edit, of every modality that is generated.")]


def sample(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model folder.")],
    n: Annotated[
        int | None, typer.Option("-n", min=1, help="How many; by default as the run's configuration says.")
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
        Path | None, typer.Option(help="Where samples go; by default a new folder RUN/samples/asked-1, asked-2 …")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite samples that are in --out.")] = False,
) -> None:
    """Draw samples: pictures as PNG, all of them as safetensors, and in words as JSON."""
    registry = registry_of(context)
    if out is not None and (out / "samples.safetensors").exists() and not force:
        raise RequestError(f"--out {out} holds samples already; name another folder, or overwrite them by --force")
    from mmcore.config import SamplingOptions
    from mmcore.runs.run import CONFIG, Run, write_samples
    from mmcore.sampling import sample
    from mmcore.store.model import load
    from mmcore.training.loop import pick_device

    if (run / CONFIG).exists() or not (run / "config.json").exists():
        opened = Run.open(run, registry)
        model, defaults = opened.model(device), opened.setup.config.sampling
    else:
        model, defaults = load(run, registry=registry, device=str(pick_device(device))), SamplingOptions()
    how: dict[str, Any] = defaults.how()
    if sampler not in (None, defaults.sampler):
        # Another sampler than the run's begins with its own options; a plugin's may have no such one.
        how |= {"eta": None} | ({} if sampler in ("ancestral", "ddim") else {"codes": None})
    asked = {
        "steps": steps,
        "sampler": sampler,
        "spacing": spacing,
        "eta": eta,
        "codes": codes,
        "draw": draw,
        "conditioning": conditioning,
        "strength": strength,
        "seed": seed,
    }
    how |= {key: value for key, value in asked.items() if value is not None}
    count = n or defaults.n
    pairs = {"given": _pairs("--given", given or []), "where": _pairs("--where", where or [])}
    pairs["start"] = _pairs("--start", start or [])
    if strength is not None and not pairs["start"]:
        raise RequestError("--strength without --start, expected name=value to edit, such as --start image=a.png")
    scales = {name: _number(name, text) for name, text in _pairs("--guidance", guidance or []).items()}
    if guide is not None and not scales:
        raise RequestError("--guide without --guidance, expected name=scale, such as --guidance label=2")
    question = {"n": count, **pairs, "guide": guide, "absent": absent or [], "guidance": scales, **how}
    answer = sample(
        model,
        count,
        given={name: _value(model, "--given", name, text, count) for name, text in pairs["given"].items()},
        where={name: _mask(model, name, text, count) for name, text in pairs["where"].items()},
        start={name: _value(model, "--start", name, text, count) for name, text in pairs["start"].items()} or None,
        absent=absent or [],
        guidance=scales if guide is None else registry.guidance(guide, scales=scales),
        registry=registry,
        **how,
    )
    folder = writable(out, "--out") if out is not None else _new(writable(run / "samples", "--out"))
    for path in write_samples(folder, model, answer, question):
        print(path)


def _new(folder: Path) -> Path:
    """A folder of its own for this answer, also beside a call that makes one at the same time."""
    number = 1
    while True:
        asked = folder / f"asked-{number}"
        try:
            asked.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RequestError(
                f"{folder} cannot be written: {error.strerror or error}; name another by --out"
            ) from error
        else:
            return asked


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


def _value(model: "JointModel", option: str, name: str, text: str, n: int) -> Any:
    """A value, read as its modality reads raw ones; the same for every sample."""
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
    raise RequestError(f"{option} {name}={text}: {refused}") from refused


def _mask(model: "JointModel", name: str, text: str, n: int) -> Any:
    """Which elements of a given value are known, of a picture's bright pixels or an array's true elements; alike for every sample."""
    import numpy as np
    import torch

    from mmcore.data.decode import decode, picture

    shape = model.variable(name).spec.shape
    try:
        if Path(text).suffix.lower() == ".npy":
            known = decode(Path(text))
            if known.dtype != bool:
                raise RequestError(f"found {known.dtype}, expected booleans, true where it is known")
        else:
            known = np.asarray(picture(text).convert("L")) > 127
    except RequestError as error:
        raise RequestError(f"--where {name}={text}: {error}") from error
    # A map of a picture's pixels is the same for all its channels; other axes are repeated only where their length says so, by a 1.
    fits = known.ndim == len(shape) and all(k in (1, side) for k, side in zip(known.shape, shape, strict=True))
    if not fits and known.shape != shape[-2:]:
        expected = " or ".join(dict.fromkeys(str(tuple(one)) for one in (shape, shape[-2:])))
        raise RequestError(f"--where {name}={text}: found a mask of shape {known.shape}, expected {expected}")
    return torch.from_numpy(np.broadcast_to(known, shape).copy()).expand(n, *shape)
