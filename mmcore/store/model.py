"""Model folders: ``config.json`` (what to compose), ``model.safetensors`` (weights) and a model card.

No file is ever executed: names in a configuration resolve only among installed plugins, and weights are
plain tensors.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes

from mmcore._version import __version__
from mmcore.errors import MmcoreError, RequestError
from mmcore.hooks import DISTRIBUTION, Made
from mmcore.modality.base import Modality, Task
from mmcore.model.compose import compose
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry, discover
from mmcore.plugins.metadata import canonical, pip
from mmcore.process import Schedule
from mmcore.store.reading import DamagedError, read_json, read_tensors

FORMAT = 1
_TABLES = ("schedule.log_A", "schedule.W")


def describe(model: JointModel) -> dict[str, Any]:
    """What to compose to make the model again, in JSON's types.

    Raises:
        RequestError: a part that was not made by a registry's name, so that no file can say how to make it again.
    """
    config: dict[str, Any] = {
        "format": FORMAT,
        "modalities": [_describe(m) for m in model.modalities],
        "tasks": [_describe_task(task) for task in model.tasks],
        **model.config,
    }
    if "backbone" not in config:
        raise RequestError("save: the backbone was given as an object; offer it as a plugin and compose by its name")
    return config


def save(model: JointModel, folder: str | Path, *, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Write a model folder; each of its files is whole, the old or the new one, at any moment.

    Args:
        model: to describe, and whose weights are written.
        folder: made where it is missing.
        tensors: the weights, where the model's own are divided among ranks.

    Raises:
        RequestError: a part that was not made by a registry's name, so that no file can say how to make it again.
        MmcoreError: the folder cannot be written.
    """
    config, folder = describe(model), Path(folder)
    tensors = {name: x.contiguous().cpu() for name, x in (tensors or model.state_dict()).items()}
    if config["schedule"] is None:
        schedule = model.process.schedule
        tensors |= dict(zip(_TABLES, (schedule.log_A, schedule.W), strict=True))
        config["schedule"] = {"tables": schedule.name, "eta": schedule.eta}
    config["distributions"] = _distributions(config)
    if model.configuration is not None:
        config["configuration"] = model.configuration
    files = {
        "model.safetensors": to_bytes(tensors),
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
        "README.md": _card(model).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            aside = folder / f".aside-{name}"
            aside.write_bytes(data)
            aside.replace(folder / name)
    except OSError as error:
        raise MmcoreError(f"save: {folder} cannot be written: {error.strerror or error}") from error
    return folder


def load(folder: str | Path, *, registry: Registry | None = None, device: str = "cpu") -> JointModel:
    """Read a model folder.

    Args:
        folder: as :func:`save` wrote it.
        registry: where its plugins are looked up; by default a new :func:`mmcore.discover`.
        device: where to put the model.

    Raises:
        RequestError: a missing or damaged file, or a plugin that is not installed.
        PluginError: a plugin that is broken or incompatible; its failure is the cause.

    Warns:
        UserWarning: a distribution is installed in another version than the model was made with.
    """
    folder = Path(folder)
    config = _read_config(folder)
    registry = registry or discover()
    _check_distributions(folder, config, registry)
    tensors = _told(read_tensors, folder / "model.safetensors")
    try:
        model = _compose(config, tensors, registry)
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"load: {folder / 'config.json'} lacks or misstates {error}") from error
    except (RuntimeError, MemoryError, OverflowError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"load: {folder / 'config.json'} asks for a model that cannot be made: {what}") from error
    try:
        model.load_state_dict(tensors)
        model.configuration = config.get("configuration")
    except RuntimeError as error:
        raise RequestError(f"load: {folder / 'model.safetensors'} does not fit its configuration: {error}") from error
    return model.to(torch.device(device)).eval()


def _compose(config: dict[str, Any], tensors: dict[str, torch.Tensor], registry: Registry) -> JointModel:
    modalities = [_make(part, registry) for part in config["modalities"]]
    extra: dict[str, Modality] = {}
    tasks = []
    for part in config["tasks"]:
        target = part["target"]
        if not isinstance(target, str):
            target = extra.setdefault(target["name"], _make(target, registry))
        tasks.append(Task(part["name"], target, weight=part["weight"]))
    schedule = config["schedule"]
    if "tables" in schedule:
        log_A, W = (tensors.pop(name) for name in _TABLES)
        named = Schedule.from_cumulative(log_A, W, name=schedule["tables"], eta=schedule["eta"])
        by_name = {}
    else:
        named = _exact(schedule)
        by_name = {key: schedule.get(key) for key in ("gains", "powers")}
    return compose(
        modalities,
        tasks,
        layout=config["layout"],
        space=config["space"],
        overlap=config["overlap"],
        trained_encoders=config["trained_encoders"],
        schedule=named,
        backbone=_exact(config["backbone"]),
        backbone_options=config["backbone"]["options"],
        registry=registry,
        **by_name,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = _told(read_json, path)
    if config.get("format") != FORMAT:
        raise RequestError(f"load: {path} has format {config.get('format')!r}, expected {FORMAT}")
    return config


def _told(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    try:
        return read(path)
    except DamagedError as error:
        strangers = sorted(
            p.name for p in path.parent.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
        )
        there = f"; {', '.join(strangers)} there may be a pickle, which is never read" if strangers else ""
        raise RequestError(f"load: {error}{there}") from error


def _describe(m: Modality) -> dict[str, Any]:
    made: Made | None = m.made
    if made is None:
        raise RequestError(
            f"save: modality {m.name!r} was made by hand; make it by discover().modality(…), so that it can be made again"
        )
    return {
        "name": m.name,
        **made.where(),
        "options": made.options,
    }


def _make(part: dict[str, Any], registry: Registry) -> Modality:
    try:
        return registry.modality(_exact(part), name=part["name"], **part["options"])
    except RequestError as error:
        raise RequestError(f"{error}; the model was made with {part['distribution']} {part['version']}") from error


def _exact(part: dict[str, Any]) -> str:
    """The name by which a registry finds the very distribution's offer, whoever else offers one of that name."""
    return f"{part['distribution']}:{part['offer']}"


def _distributions(config: dict[str, Any]) -> dict[str, str]:
    """The distributions, with their versions, whose offers a configuration names."""
    targets = [task["target"] for task in config["tasks"] if not isinstance(task["target"], str)]
    parts = [*config["modalities"], *targets, config["backbone"], config["schedule"]]
    return {DISTRIBUTION: __version__} | {p["distribution"]: p["version"] for p in parts if "distribution" in p}


def _check_distributions(folder: Path, config: dict[str, Any], registry: Registry) -> None:
    """Refuse what is not installed, all of it at once, and warn of other versions."""
    made_with = config.get("distributions")
    if not isinstance(made_with, dict):
        raise RequestError(f"load: {folder / 'config.json'} does not say which distributions it was made with")
    here = {canonical(e.distribution): e.version for e in registry.entries} | {DISTRIBUTION: __version__}
    missing = {name: version for name, version in made_with.items() if canonical(name) not in here}
    if missing:
        what = ", ".join(f"{name} {version}" for name, version in missing.items())
        line = pip("install", *(f"{name}=={version}" for name, version in missing.items()))
        raise RequestError(f"load: {folder} was made with {what}, not installed here: {line}")
    for name, version in made_with.items():
        found = here[canonical(name)]
        if found != version:
            warnings.warn(f"load: {folder} was made with {name} {version}, here is {name} {found}", stacklevel=3)


def _describe_task(task: Task) -> dict[str, Any]:
    if task.decoder is not None or task.loss is not None:
        raise RequestError(f"save: task {task.name!r} has a decoder or loss given as an object, which no file can hold")
    target = task.target if isinstance(task.target, str) else _describe(task.target)
    return {"name": task.name, "target": target, "weight": task.weight}


def _card(model: JointModel) -> str:
    lines = ["---", "library_name: mmcore", "license: apache-2.0", "---", "", "# A joint diffusion model", ""]
    lines += ["| variable | shape | offered by |", "|---|---|---|"]
    for m in model.variables:
        by = f"{m.made.distribution} {m.made.version}" if m.made else "hand"
        lines.append(f"| {m.name} | {tuple(m.spec.shape)} | {by} |")
    count = sum(p.numel() for p in model.parameters())
    lines += ["", f"{count:,} parameters, space {model.space.shape}, schedule {model.process.schedule.name}.", ""]
    lines += ["```python", "import mmcore", "", 'mmcore.sample(mmcore.load("this folder"), 64)', "```", ""]
    return "\n".join(lines)
