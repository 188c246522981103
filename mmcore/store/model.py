"""Model folders: ``config.json`` (what to compose), ``model.safetensors`` (weights) and a model card.

No file is ever executed: names in a configuration resolve only among what a registry has, and weights are
plain tensors. What was given to :func:`mmcore.compose` as an object is given to :func:`load` again.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save as to_bytes
from torch import nn

from mmcore import files
from mmcore._version import __version__
from mmcore.errors import MmcoreError, RequestError, quoted
from mmcore.files import expanded
from mmcore.hooks import DISTRIBUTION, REGISTERED
from mmcore.modality.base import Modality, Task
from mmcore.model.budget import Budget
from mmcore.model.devices import pick_device
from mmcore.model.grown import Grown
from mmcore.model.joint import JointModel
from mmcore.options import check_call
from mmcore.plugins import Registry, discover
from mmcore.plugins.metadata import canonical, one_line, pip
from mmcore.store.card import card
from mmcore.store.parts import (
    BESIDE,
    TABLES,
    Given,
    composed,
    of_backbone,
    of_modality,
    of_schedule,
    of_task,
    unlike,
)
from mmcore.store.reading import DamagedError, read_json, read_tensors

_T = TypeVar("_T")

FORMAT = 4
"""1 had no parts given as objects; mmcore's own distribution, and weights of its backbones, had other names. Before 3 all models read the space as it is. Before 4
blocks had the channels that their codes need, and no model had grown from another."""
_FORMER = "mmcore"
_NETWORK = "backbone."
_PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+!-]*[A-Za-z0-9])?")
"""Names and versions of distributions."""
_SLACK = 256 * 2**20
"""Bytes of what is made beside the weights, such as tables of a schedule."""
_WEIGHTS = {"backbone.clock.": "backbone.timestep."}
"""How names of weights of mmcore's own backbones began in format 1, and how they begin now."""


def describe(model: JointModel) -> dict[str, Any]:
    """What to compose to make the model again, in JSON's types.

    Raises:
        RequestError: an option or a state that no file can hold.
    """
    composition = model.config
    if composition is None:
        raise RequestError("save: the model was not made by mmcore.compose, so that nothing says how to make it again")
    config = {
        "format": FORMAT,
        "modalities": [of_modality(m) for m in model.modalities],
        "tasks": [of_task(task) for task in model.tasks],
        "layout": composition.layout,
        "space": composition.space,
        "overlap": composition.overlap,
        "trained_encoders": composition.trained_encoders,
        "reading": composition.reading,
        "schedule": of_schedule(composition.schedule, model.process.schedule),
        "backbone": of_backbone(model.backbone),
    }
    if composition.channels is not None:
        config["channels"] = composition.channels
    if model.grown is not None:
        config["grown"] = model.grown.record()
    if composition.adapters is not None:
        config["adapters"] = composition.adapters
    for name, x in model.state_dict().items():
        if not isinstance(x, torch.Tensor):
            raise RequestError(f"save: {name} in the model's state is a {type(x).__name__}, expected tensors alone")
    return {key: _plain(key, value) for key, value in config.items()}


def _plain(key: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=_number))
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"save: {key} of the model have an option that no file can hold ({error}), expected numbers, texts, lists and tables"
        ) from error


def _number(value: Any) -> Any:
    """A number of numpy's, such as the weight of a task may be, as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def save(model: JointModel, folder: str | Path, *, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Save a trained model to a folder.

    Each of its files is whole, the old or the new one, at any moment.

    Parts that were given as objects are recorded by what can be compared; :func:`load` is given them again.

    Args:
        model: to describe, and whose weights are written.
        folder: made where it is missing.
        tensors: the weights, where the model's own are sharded over ranks.

    Raises:
        RequestError: an option or a state that no file can hold; or the folder has a file of that name which is no model's.
        MmcoreError: the folder cannot be written.
    """
    check_call(save, locals())
    config, folder = describe(model), expanded(folder)
    if tensors is not None:
        _check_weights(model, tensors)
    tensors = _apart(model.state_dict() if tensors is None else tensors)
    if "tables" in config["schedule"]:
        schedule = model.process.schedule
        tensors |= dict(zip(TABLES, (schedule.log_A, schedule.W), strict=True))
    config["distributions"] = _distributions(config)
    if model.configuration is not None:
        config["configuration"] = model.configuration
    # What says that the folder is a model's comes first, for whoever is cut off here and saves again.
    contents = {
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
        "model.safetensors": to_bytes(tensors),
        "README.md": card(model, config, "this folder").encode(),
    }
    _check_own(folder, contents)
    try:
        for name, data in contents.items():
            files.write(folder / name, data)
    except OSError as error:
        raise MmcoreError(f"save: {folder} cannot be written: {error.strerror or error}") from error
    return folder


def _check_weights(model: JointModel, tensors: Mapping[str, Any]) -> None:
    """Refuse what are not the weights of this model.

    Raises:
        RequestError: naming some.
    """
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor) or x.is_meta:
            found = "a tensor on the device meta, which holds no values" if isinstance(x, torch.Tensor) else quoted(x)
            raise RequestError(f"save: tensors[{quoted(name)}] is {found}, expected a tensor")
    if lines := unlike(tensors, model.state_dict()):
        raise RequestError(
            f"save: the tensors given are not the model's: {lines.replace(' there', ' given').replace(' here', ' in the model')}"
        )


def _check_own(folder: Path, names: Iterable[str]) -> None:
    """Refuse to overwrite files of other origin: where there are some, a model's configuration is one of them.

    Raises:
        RequestError: naming a file.
    """
    found = [folder / name for name in names if os.path.lexists(folder / name)]
    # Where nothing is replaced in one go, the new one may be all that is left of a save that was cut off.
    if found and not any(_is_model(folder / f"{aside}config.json") for aside in ("", files.ASIDE)):
        raise RequestError(f"save: {found[0]} is there, and is none of a model of mmcore; name another folder")


def _is_model(config: Path) -> bool:
    try:
        return "backbone" in read_json(config)
    except DamagedError:
        return False


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, each in memory of its own, where a network uses one weight under two names."""
    separate, taken = {}, set()
    for name, x in tensors.items():
        x = x.detach().contiguous().cpu()
        place = x.untyped_storage().data_ptr()
        separate[name] = x.clone() if place in taken else x
        taken.add(place)
    return separate


def model_in(folder: Path) -> Path | None:
    """The model folder that a folder means: itself, or the one in the folder of a run; None for neither."""
    return next((one for one in (folder, folder / "model") if (one / "config.json").exists()), None)


def load(
    folder: str | Path,
    *,
    backbone: nn.Module | None = None,
    modalities: Mapping[str, Modality] | None = None,
    tasks: Mapping[str, Task] | None = None,
    beside: Sequence[str | Path] | None = None,
    registry: Registry | None = None,
    device: str | torch.device = "cpu",
) -> JointModel:
    """Load a trained model from a folder.

    Plugins' parts are made by their names. What was given to :func:`mmcore.compose` as an object is given here again, and compared
    with what the folder recorded of it before any weight is put in. No file holds code, so none can make the object.

    .. code-block:: python

        mmcore.load("mine", backbone=MyNet(width=64))
        mmcore.load("mine", modalities={"sound": Sound(rate=8000)})
        mmcore.load("mine", tasks={"edges": mmcore.Task("edges", "mask", loss=my_loss)})

    Args:
        folder: as :func:`save` wrote it, or that of a run.
        backbone: the network, where the model's was given as an object, or wrapped since; of the same class and
            ``features``, with the same names, shapes and dtypes in its state dict. Its weights are overwritten.
        modalities: those made by hand, by their names in the model, targets that nothing encodes among them; of the same class, spec
            and code. Each is given that name.
        tasks: those with a decoder or loss of their own, by name; with the same target, and a decoder and loss of the same names. The
            weight is the folder's.
        beside: files of pretrained weights that are kept beside the model, or folders that hold them; they are known by their digests. By default the
            folders that the environment's variable ``MMCORE_BESIDE`` names.
        registry: where its plugins are looked up; by default a new :func:`mmcore.discover`.
        device: where to put the model: ``"auto"``, or one of torch's devices or its name.

    Raises:
        RequestError: a missing or damaged file, one of a later format, a plugin that is not installed, or an object that is
            missing, looks different, or is given for a part that a plugin makes.
        PluginError: a plugin that is broken or incompatible; its failure is the cause.

    Warns:
        UserWarning: a distribution is installed in another version than the model was made with.
    """
    check_call(load, locals(), apart=["backbone", "modalities", "tasks", "beside"])
    folder = expanded(folder)
    folder = model_in(folder) or folder
    if folder.name in ("config.json", "model.safetensors") and folder.is_file():
        raise RequestError(f"load: {folder} is a file of a model, expected its folder: {folder.parent}")
    return loaded(
        folder,
        backbone=backbone,
        modalities=modalities,
        tasks=tasks,
        beside=beside,
        registry=registry,
        device=device,
    )


def loaded(
    folder: Path,
    *,
    inside: Path | None = None,
    backbone: nn.Module | None = None,
    modalities: Mapping[str, Modality] | None = None,
    tasks: Mapping[str, Task] | None = None,
    beside: Sequence[str | Path] | None = None,
    registry: Registry | None = None,
    device: str | torch.device = "cpu",
) -> JointModel:
    """:func:`load`, also of a folder whose files are links into a folder around it.

    Args:
        folder: of the model.
        inside: the folder that links may not lead out of; by default the model's own.
        backbone: this and the rest as :func:`load` has them.
        modalities: those made by hand.
        tasks: those with parts of their own.
        beside: where pretrained weights are.
        registry: of plugins.
        device: of the model.
    """
    if beside is None:
        beside = [place for place in os.environ.get(BESIDE, "").split(os.pathsep) if place]
    torch_device, given = pick_device(device), Given.of(backbone, modalities, tasks, beside)
    path, weights = folder / "config.json", folder / "model.safetensors"
    former = _read_config(path, inside)
    with _stated(path):
        config = upgraded(former)
        given.check(config, folder)
        files = given.weights(config, folder)
    registry = registry or discover()
    _check_distributions(folder, config, registry)
    tensors = _told(read_tensors, weights, inside)
    if config is not former:
        tensors = upgraded_names(tensors, config["backbone"])
    if backbone is not None:
        saved = {name.removeprefix(_NETWORK): x for name, x in tensors.items() if name.startswith(_NETWORK)}
        if lines := unlike(saved, backbone.state_dict()):
            raise RequestError(f"load: the backbone given does not fit {weights}: {lines}")
    with _stated(path):
        tables = {name: tensors.pop(name) for name in TABLES if "tables" in config["schedule"]}
        weight = sum(x.nbytes for x in tensors.values()) + sum(file.size for file in files.values() if file.path)
        why = f"{weights} has {len(tensors)} tensors of {weight:,} bytes"
        # Twice what the weights say, as some tensors are made on the way, and some are no weights.
        with Budget(2 * weight + _SLACK, 4 * len(tensors) + 1000, why):
            model = composed(config, tables, given, registry, files)
    if {x.dtype for x in tensors.values() if x.is_floating_point()} == {torch.float64}:
        model.double()  # as it was saved: in float32 its answers would be others
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = unlike(tensors, model.state_dict()) or str(error).splitlines()[0]
        raise RequestError(f"load: {weights} does not fit its configuration: {lines}") from error
    model.configuration = config.get("configuration")
    if "grown" in config:
        with _stated(path):
            model.grown = Grown.of(config["grown"])
    return model.to(torch_device).eval()


@contextmanager
def _stated(path: Path) -> Iterator[None]:
    """Says in one line what a configuration lacks, misstates or asks for in vain."""
    try:
        yield
    except MmcoreError as error:
        if not isinstance(error, RequestError) or str(error).startswith("load: "):
            raise
        raise RequestError(f"load: {path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise RequestError(f"load: {path} lacks or misstates {error}") from error
    except (RuntimeError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"load: {path} asks for a model that cannot be made: {reason}") from error


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of a former format in today's; any other as it is."""
    if config.get("format") not in (1, 2, 3):
        return config
    if config["format"] == 3:
        return {**config, "format": FORMAT}
    config = {**config, "reading": "space"}
    if config["format"] == 2:
        return {**config, "format": FORMAT}

    def renamed(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "distribution": DISTRIBUTION} if part.get("distribution") == _FORMER else part

    targets = [task["target"] for task in config["tasks"]]
    targets = [target if isinstance(target, str) else renamed(target) for target in targets]
    parts = {
        "format": FORMAT,
        "modalities": [renamed(part) for part in config["modalities"]],
        "tasks": [{**task, "target": target} for task, target in zip(config["tasks"], targets, strict=True)],
        "schedule": config["schedule"] and renamed(config["schedule"]),
        "backbone": renamed(config["backbone"]),
    }
    made_with = config.get("distributions")
    if isinstance(made_with, dict):
        parts["distributions"] = {
            DISTRIBUTION if name == _FORMER else name: version for name, version in made_with.items()
        }
    return {**config, **parts}


def upgraded_names(named: Mapping[str, _T], backbone: Mapping[str, Any]) -> dict[str, _T]:
    """What lies under names of weights of a former format, under today's.

    Args:
        named: by weight, or by what begins with a weight's name.
        backbone: the model's, as its configuration tells of it; only mmcore's own have renamed weights.
    """
    own = backbone.get("distribution") in (_FORMER, DISTRIBUTION)

    def today(name: str) -> str:
        old = next((old for old in _WEIGHTS if own and name.startswith(old)), "")
        return _WEIGHTS.get(old, "") + name.removeprefix(old)

    return {today(name): x for name, x in named.items()}


def _read_config(path: Path, inside: Path | None) -> dict[str, Any]:
    config = _told(read_json, path, inside)
    number = config.get("format")
    if number not in range(1, FORMAT + 1) or isinstance(number, bool):
        later = isinstance(number, int) and number > FORMAT
        mend = f"; it is of a later mmcore: {pip('install', '--upgrade', DISTRIBUTION)}" if later else ""
        raise RequestError(f"load: {path} has format {number!r}, expected 1 … {FORMAT}{mend}")
    return config


def _told(read: Callable[[Path, Path | None], dict[str, Any]], path: Path, inside: Path | None) -> dict[str, Any]:
    try:
        return read(path, inside)
    except DamagedError as error:
        strangers = sorted(
            p.name for p in path.parent.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
        )
        hint = f"; {', '.join(strangers)} there may be a pickle, which is never read" if strangers else ""
        raise RequestError(f"load: {error}{hint}") from error


def _distributions(config: dict[str, Any]) -> dict[str, str]:
    """The distributions, with their versions, whose offers a configuration names."""
    targets = [task["target"] for task in config["tasks"] if not isinstance(task["target"], str)]
    parts = [*config["modalities"], *targets, config["backbone"], config["schedule"]]
    named = [part for part in parts if part.get("distribution", REGISTERED) != REGISTERED]
    return {DISTRIBUTION: __version__} | {p["distribution"]: p["version"] for p in named}


def _check_distributions(folder: Path, config: dict[str, Any], registry: Registry) -> None:
    """Refuse what is not installed, all of it at once, and warn of other versions."""
    made_with = config.get("distributions")
    if not isinstance(made_with, dict):
        raise RequestError(f"load: {folder / 'config.json'} does not say which distributions it was made with")
    for name, version in made_with.items():
        # The line to paste below would take anything else for pip's own options.
        if not (_PLAIN.fullmatch(name) and isinstance(version, str) and _PLAIN.fullmatch(version)):
            raise RequestError(
                f"load: {folder / 'config.json'} names the distribution {name!r} {version!r}, expected a name and a version"
            )
    installed = {canonical(e.distribution): e.version for e in registry.entries} | {DISTRIBUTION: __version__}
    missing = {name: version for name, version in made_with.items() if canonical(name) not in installed}
    if missing:
        lacking = ", ".join(f"{name} {version}" for name, version in missing.items())
        line = pip("install", *(f"{name}=={version}" for name, version in missing.items()))
        raise RequestError(f"load: {folder} was made with {lacking}, not installed here: {line}")
    for name, version in made_with.items():
        current = installed[canonical(name)]
        if current != version:
            warnings.warn(
                one_line(f"load: {folder} was made with {name} {version}, here is {name} {current}"), stacklevel=3
            )
