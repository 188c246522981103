"""The parts of a model in its folder: what is recorded of each, and the part again.

A part that a registry made is recorded by its name and options, and made again by them. One that was given as an object is recorded by the
name of its class and by what can be compared, and is given again: the name is for people, and nothing imports it.
"""

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import attrs
from torch import Tensor, nn

from mmcore.errors import RequestError
from mmcore.hooks import REGISTERED, Made
from mmcore.modality.base import Modality, Task
from mmcore.modality.pretrained import KEEP, WeightsFile, found, no_paths
from mmcore.modality.spec import Spec
from mmcore.model.backbones.base import maker
from mmcore.model.compose import compose
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.plugins.metadata import one_line
from mmcore.process import Schedule

BESIDE = "MMCORE_BESIDE"
"""The environment's variable that names folders with weights of pretrained networks."""
_DIGEST = re.compile("[0-9a-f]{64}")
TABLES = ("schedule.log_A", "schedule.W")
"""The names under which the tables of a schedule given as an object lie among the weights."""
_SHOWN = 3
"""How many tensors a message names."""

Record = dict[str, Any]


# ---- what is recorded ----


def class_name(thing: object) -> str:
    """What a thing is called where it is defined: a function's own name, else that of its class."""
    # FSDP2 puts a class of its own before the module's.
    own = next(cls for cls in type(thing).__mro__ if not cls.__module__.startswith("torch.distributed"))
    return getattr(thing, "__name__", own.__name__)


def of_modality(m: Modality) -> Record:
    """A modality: how it was made, or how it looks."""
    files = {option: file.record() for option, file in m.files.items()}
    if m.made is None:
        return {"name": m.name, **_look(m)}
    # A path says nothing elsewhere, and is never followed.
    options = {option: value for option, value in {**m.made.options, **m.kept}.items() if option not in files}
    return {"name": m.name, **_made(m.made), "options": options, **({"files": files} if files else {})}


def of_task(task: Task) -> Record:
    """A task; a decoder or loss of its own by name."""
    target = task.target if isinstance(task.target, str) else of_modality(task.target)
    own_parts = {part: class_name(thing) for part in ("decoder", "loss") if (thing := getattr(task, part)) is not None}
    return {"name": task.name, "target": target, "weight": task.weight, **own_parts}


def of_backbone(backbone: nn.Module) -> Record:
    """A backbone: how it was made, or its class and features; names, shapes and dtypes are in the weights."""
    made = maker(backbone)
    return _network(backbone) if made is None else _made(made)


def of_schedule(made: Made | None, schedule: Schedule) -> Record:
    """A schedule: how it was made, or of which tables it is."""
    if made is None:
        digest = hashlib.sha256()
        for table in (schedule.log_A, schedule.W):
            digest.update(table.cpu().contiguous().numpy().tobytes())
        return {"tables": schedule.name, "eta": schedule.eta, "sha256": digest.hexdigest()}
    return {**made.record(), **{key: value for key, value in made.options.items() if key != "modalities"}}


def _made(made: Made) -> Record:
    return {**made.record(), "options": made.options}


def _network(backbone: nn.Module) -> Record:
    return {"class": class_name(backbone), "features": getattr(backbone, "features", None)}


def _look(m: Modality) -> Record:
    spec = {field.name: getattr(m.spec, field.name) for field in attrs.fields(Spec)}
    spec |= {"shape": list(m.spec.shape), "dtype": str(m.spec.dtype).removeprefix("torch.")}
    look = {"class": class_name(m), "spec": spec, "code": list(getattr(m, "code", ()))}
    return look | ({"files": {option: file.record() for option, file in m.files.items()}} if m.files else {})


# ---- what is given again ----


@attrs.frozen(eq=False)
class Given:
    """The objects that a caller of :func:`mmcore.load` gives, in the place of those of which a folder has the look alone."""

    backbone: nn.Module | None
    modalities: Mapping[str, Modality]
    tasks: Mapping[str, Task]
    beside: Sequence[str | Path] = ()

    @classmethod
    def of(cls, backbone: Any, modalities: Any, tasks: Any, beside: Any = ()) -> Self:
        """Arguments, their types checked; a task's own target is among the modalities.

        Raises:
            RequestError: something of another type.
        """
        if backbone is not None and not isinstance(backbone, nn.Module):
            raise RequestError(f"load: backbone is a {type(backbone).__name__}, expected a torch.nn.Module")
        for argument, objects, kind in (("modalities", modalities, Modality), ("tasks", tasks, Task)):
            if not (objects is None or isinstance(objects, Mapping)):
                raise RequestError(f"load: {argument} is a {type(objects).__name__}, expected objects by their names")
            for name, thing in (objects or {}).items():
                if not isinstance(thing, kind):
                    raise RequestError(
                        f"load: {argument}[{name!r}] is a {type(thing).__name__}, expected a mmcore.{kind.__name__}"
                    )
        targets = (task.target for task in (tasks or {}).values() if isinstance(task.target, Modality))
        if isinstance(beside, str | Path):
            beside = [beside]
        if not isinstance(beside, Sequence) or not all(isinstance(place, str | Path) for place in beside):
            raise RequestError(f"load: beside is {type(beside).__name__}, expected paths of files or folders")
        own = {m.name: m for m in targets if m.made is None}
        return cls(backbone, own | dict(modalities or {}), tasks or {}, tuple(beside))

    def weights(self, config: Record, folder: Path) -> dict[str, WeightsFile]:
        """The files that the folder's modalities were made with, by their digests: those kept beside it are found among what is given.

        Raises:
            RequestError: one is not there.
        """
        records = [(part["name"], record) for part in _modalities(config) for record in part.get("files", {}).values()]
        beside = {record["sha256"]: record["bytes"] for _, record in records if record["keep"] == "beside"}
        paths = found(beside, self.beside) if beside else {}
        for name, record in records:
            digest = record["sha256"]
            if not (isinstance(digest, str) and _DIGEST.fullmatch(digest) and isinstance(record["bytes"], int)):
                raise RequestError(f"load: {folder} misstates the file of {name!r}, expected its sha256 and bytes")
            if record["keep"] not in KEEP:
                raise RequestError(
                    f"load: {folder} keeps the file of {name!r} {record['keep']!r}, expected inside or beside"
                )
            if digest in beside and digest not in paths:
                given = f"none of {', '.join(map(str, self.beside))} is it" if self.beside else "it is not given"
                raise RequestError(
                    f"load: {name!r} of {folder} was made with a file of {record['bytes']:,} bytes that is kept beside it, sha256 {digest}, and {given}; "
                    f"give it, load(folder, beside=[FILE]), or name its folder in {BESIDE}"
                )
        return {
            record["sha256"]: WeightsFile(
                record["sha256"], record["bytes"], record["keep"], paths.get(record["sha256"])
            )
            for _, record in records
        }

    def check(self, config: Record, folder: Path) -> None:
        """Compare with the folder's configuration.

        Raises:
            RequestError: an object is missing, or looks different, or is not asked for.
        """
        missing = []
        for slot in self._slots(config):
            if slot.look is None and slot.by_hand:
                missing.append(slot)
            elif slot.look is not None and not slot.by_hand:
                raise RequestError(f"load: {slot} is given, but in {folder} it was {slot.words()}; leave it out")
            elif slot.look is not None and (lines := _differences(slot.record, slot.look)):
                raise RequestError(f"load: {slot} is not what {folder} was made with: {'; '.join(lines)}")
        for argument, objects, parts in (
            ("modalities", self.modalities, _modalities(config)),
            ("tasks", self.tasks, config["tasks"]),
        ):
            names = [part["name"] for part in parts]
            for name in objects:
                if name not in names:
                    raise RequestError(
                        f"load: {argument}[{name!r}] is given, which {folder} has not; it has {', '.join(names)}"
                    )
        if missing:
            was = ", ".join(f"{slot} was {slot.words()}" for slot in missing)
            raise RequestError(
                f"load: {folder} was made with objects that no file holds; give them again, load(folder, {_call(missing)}): {was}"
            )

    def _slots(self, config: Record) -> Iterator["_Slot"]:
        network = config["backbone"]
        look = None if self.backbone is None else _network(self.backbone)
        yield _Slot("backbone", None, network, "class" in network, look)
        for part in _modalities(config):
            m = self.modalities.get(part["name"])
            yield _Slot(
                "modalities", part["name"], _but(part, "name"), "class" in part, None if m is None else _look(m)
            )
        for part in config["tasks"]:
            task = self.tasks.get(part["name"])
            record = {**_but(part, "weight"), "target": _target(part["target"])}
            own = "decoder" in part or "loss" in part
            look = task and _but(of_task(task), "weight")
            yield _Slot("tasks", part["name"], record, own, look and {**look, "target": _target(look["target"])})


@attrs.frozen(eq=False)
class _Slot:
    """One part of a model, in a folder and as it was given."""

    argument: str
    name: str | None
    record: Record
    by_hand: bool
    look: Record | None

    def __str__(self) -> str:
        return self.argument if self.name is None else f"{self.argument}[{self.name!r}]"

    def words(self) -> str:
        """What the folder says that it was."""
        record = self.record
        if self.argument == "tasks":
            own = [f"the {part} {record[part]}" for part in ("decoder", "loss") if part in record]
            return f"a Task on {record['target']!r} with {' and '.join(own) or 'neither decoder nor loss of its own'}"
        if not self.by_hand:
            return f"made by {record['distribution']}:{record['offer']}"
        if self.argument == "backbone":
            return f"a {record['class']} with features = {record['features']}"
        return f"a {record['class']} of {record['spec']['dtype']} {tuple(record['spec']['shape'])}"


def by_hand(config: Record) -> str:
    """The arguments by which :func:`mmcore.load` is given the objects that a configuration wants, as they are typed; empty for none."""
    return _call([slot for slot in Given(None, {}, {})._slots(config) if slot.by_hand])


def _call(slots: list[_Slot]) -> str:
    arguments: dict[str, list[str]] = {}
    for slot in slots:
        arguments.setdefault(slot.argument, []).extend([] if slot.name is None else [f"{slot.name!r}: …"])
    return ", ".join(f"{key}={{{', '.join(items)}}}" if items else f"{key}=…" for key, items in arguments.items())


def _modalities(config: Record) -> list[Record]:
    """A configuration's modalities, and then the targets that nothing encodes, each once."""
    targets = {
        part["target"]["name"]: part["target"] for part in config["tasks"] if not isinstance(part["target"], str)
    }
    return [*config["modalities"], *targets.values()]


def _target(target: str | Record) -> str:
    return target if isinstance(target, str) else target["name"]


def _but(record: Record, key: str) -> Record:
    return {name: value for name, value in record.items() if name != key}


def _differences(record: Record, look: Record) -> list[str]:
    lines = []
    for key in {**record, **look}:
        old, new = record.get(key), look.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new)
        elif old != new:
            lines.append(f"{key} {old!r} there, {new!r} given")
    return lines


def unlike(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The first few tensors that two states do not share, with both shapes and dtypes, in words; empty where there are none."""

    def words(x: Tensor | None) -> str:
        return "none" if x is None else f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"

    # A file is read in an order of no meaning.
    names = [*own, *sorted(saved.keys() - own.keys())]
    pairs = [(name, words(saved.get(name)), words(own.get(name))) for name in names]
    lines = [f"{one_line(name)[:200]}: {old} there, {new} here" for name, old, new in pairs if old != new]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


# ---- the model again ----


def composed(
    config: Record,
    tables: Mapping[str, Tensor],
    given: Given,
    registry: Registry,
    weights: Mapping[str, WeightsFile] = MappingProxyType({}),
) -> JointModel:
    """The model that a configuration tells of, with initial weights.

    Args:
        config: of the folder.
        tables: of a schedule that was given as an object, by :data:`TABLES`.
        given: checked against the configuration.
        registry: where plugins are looked up.
        weights: of pretrained networks, by their digests, as :meth:`Given.weights` finds them.

    Raises:
        RequestError: a part that the registry cannot make.
    """
    with no_paths():
        variables = {part["name"]: _modality(part, given, registry, weights) for part in _modalities(config)}
    tasks = []
    for part in config["tasks"]:
        own = given.tasks.get(part["name"]) or Task(part["name"], "")
        target = part["target"] if isinstance(part["target"], str) else variables[part["target"]["name"]]
        tasks.append(attrs.evolve(own, target=target, weight=part["weight"]))
    schedule, network = config["schedule"], config["backbone"]
    gains_and_powers = {}
    if "tables" in schedule:
        named = Schedule.from_cumulative(
            *(tables[name] for name in TABLES), name=schedule["tables"], eta=schedule["eta"]
        )
    else:
        named = _found("schedule", schedule, registry)
        gains_and_powers = {key: schedule.get(key) for key in ("gains", "powers")}
    with no_paths():
        return compose(
            [variables[part["name"]] for part in config["modalities"]],
            tasks,
            layout=config["layout"],
            space=config["space"],
            channels=config.get("channels"),
            overlap=config["overlap"],
            trained_encoders=config["trained_encoders"],
            reading=config["reading"],
            schedule=named,
            backbone=_found("backbone", network, registry) if given.backbone is None else given.backbone,
            backbone_options=network["options"] if given.backbone is None else None,
            adapters=config.get("adapters"),
            registry=registry,
            **gains_and_powers,
        )


def _modality(part: Record, given: Given, registry: Registry, weights: Mapping[str, WeightsFile]) -> Modality:
    if part["name"] in given.modalities:
        m = given.modalities[part["name"]]
        if m.name != part["name"]:
            # Another model may have it under the name that it has.
            m = copy.copy(m)
            m.name = part["name"]
        return m
    name = _found("modality", part, registry)
    own = {option: weights[record["sha256"]] for option, record in part.get("files", {}).items()}
    try:
        return registry.modality(name, name=part["name"], **part["options"], **own)
    except RequestError as error:
        raise RequestError(f"{error}; the model was made with {part['distribution']} {part['version']}") from error


def _found(kind: str, part: Record, registry: Registry) -> str:
    """The name by which a registry finds the very distribution's offer, whoever else offers one of that name."""
    name = f"{part['distribution']}:{part['offer']}"
    if part["distribution"] == REGISTERED:
        try:
            registry.find(kind, name)
        except RequestError as error:
            raise RequestError(
                f"load: the model was made with a {kind} {part['offer']!r} that was registered in process, which no file holds; "
                f"register it again and give the registry: registry.register({kind!r}, {part['offer']!r}, …), load(folder, registry=registry)"
            ) from error
    return name
