"""The sections that are classes of the core: the top, ``[data]`` with what it names, ``[training]`` and ``[sampling]``."""

import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import attrs

from mmcore.config.build import build
from mmcore.config.check import Constructor
from mmcore.config.reading import Reading
from mmcore.config.schema import Config, ModelOptions, SamplingOptions
from mmcore.data.options import DataOptions
from mmcore.errors import MmcoreError, Problem, RequestError
from mmcore.files import expanded
from mmcore.model.devices import pick_device
from mmcore.options import by_kind
from mmcore.training import TrainOptions

SECTIONS: dict[str, type] = {
    "data": DataOptions,
    "model": ModelOptions,
    "training": TrainOptions,
    "sampling": SamplingOptions,
}


@attrs.frozen
class Top:
    """What a configuration says before its sections.

    Attributes:
        out: the run's folder.
        seed: of everything random, where a section has no seed of its own.
        device: ``"auto"``, or one of torch's names.
        threads: of the CPU.
    """

    out: str
    seed: int
    device: str
    threads: int


def read_top(reading: Reading) -> Top:
    """The keys before the sections; defaults where they are wrong."""
    signature = Constructor.of(Config)
    stem = Path(reading.where).stem if reading.where.endswith(".toml") else "model"
    values: dict[str, Any] = {"out": f"runs/{stem}", "seed": 0, "device": "auto", "threads": 0}
    own = {key: value for key, value in reading.given.items() if key not in (*SECTIONS, "modalities", "tasks")}
    for problem in Constructor(signature.options, signature.options, open=False).check(own, (), "a configuration"):
        homes = [name for name, kind in SECTIONS.items() if problem.key in Constructor.of(kind).options]
        if homes and problem.key not in values:
            text = f"there is no such key here; did you mean {f'{homes[0]}.{problem.key}'!r}?"
            problem = Problem(problem.key, text, problem.value)
        reading.problems.append(problem)
        own.pop(problem.key, None)
    values |= {key: value for key, value in own.items() if key in values}
    for key in ("seed", "threads"):
        if values[key] < 0:
            reading.say(key, "expected at least 0", values[key])
    if not values["out"] or "\0" in values["out"]:
        reading.say("out", "expected a folder for the run", values["out"])
    values["out"] = str(expanded(values["out"])) if values["out"] else ""
    try:
        pick_device(values["device"])
    except RequestError as error:
        reading.say("device", f"{error}; expected auto, cpu or a device that is there", values["device"])
    return Top(**values)


def read_section(reading: Reading, name: str, seed: int) -> Any:
    """A section as its class; None where it cannot be one."""
    table = reading.checked_table(name, reading.given.get(name, {}))
    if table is None:
        return None
    kind = SECTIONS[name]
    if "seed" in Constructor.of(kind).options:
        table = {"seed": seed} | table
    made, problems = build(kind, table, (name,))
    reading.problems += problems
    return made


def read_source(reading: Reading) -> dict[str, Any] | None:
    """The source's options, checked against its signature, whatever else is wrong with the data; it is opened later."""
    table = reading.table("data")
    embed = table.get("embed", [])
    for number, one in enumerate(embed if isinstance(embed, list) else []):
        _check_embedder(reading, one, ("data", f"embed[{number}]"))
    name, options = table.get("source"), table.get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping):
        return None
    factory = reading.factory("source", name, ("data", "source"))
    if factory is None:
        return None
    signature = Constructor.of(factory)
    problems = signature.check(options, ("data", "options"), f"source {name!r}")
    reading.problems += problems
    # The part is asked for anew each time, and what makes parts disjoint goes with it.
    free = {"part", *getattr(factory, "disjoint", {})}
    full = {key: value for key, value in signature.plain_defaults().items() if key not in free} | dict(options)
    return None if problems else {key: _absolute(value, signature.options.get(key)) for key, value in full.items()}


def read_named(reading: Reading, kind: str, section: str, option: str) -> list[dict[str, Any]]:
    """The parts that an option lists by ``kind``, with every default stated; each is made once, to ask it about its options."""
    listed = reading.table(section).get(option)
    parts = []
    tables: tuple[Any, ...] = by_kind(listed) if isinstance(listed, list | tuple) else ()
    for number, table in enumerate(tables):
        # The section itself tells of what has no kind.
        if isinstance(table, dict) and isinstance(table.get("kind"), str):
            place, own = (section, f"{option}[{number}]"), {key: one for key, one in table.items() if key != "kind"}
            factory = reading.factory(kind, table["kind"], (*place, "kind"))
            if factory is None:
                continue
            signature = Constructor.of(factory)
            problems = signature.check(own, place, f"{kind} {table['kind']!r}")
            reading.problems += problems
            if not problems:
                full = signature.plain_defaults() | own
                try:
                    reading.registry.make(kind, table["kind"], full)
                except MmcoreError as error:
                    reading.refused(error, place, own, signature.options, named=(*place, "kind"))
                parts.append({"kind": table["kind"], **full})
    return parts


def _check_embedder(reading: Reading, one: Any, place: Sequence[str]) -> None:
    name = one.get("embedder", "clip") if isinstance(one, Mapping) else None
    if isinstance(name, str) and isinstance(one.get("options", {}), Mapping):
        factory = reading.factory("embedder", name, (*place, "embedder"))
        if factory is not None:
            reading.problems += Constructor.of(factory).check(
                one.get("options", {}), (*place, "options"), f"embedder {name!r}"
            )


def _absolute(value: Any, annotation: Any) -> Any:
    """A path that is seen from the working directory as one that is seen from anywhere, so that a run finds its data again."""
    args = typing.get_args(annotation)
    if isinstance(value, Mapping) and len(args) == 2:
        return {key: _absolute(one, args[1]) for key, one in value.items()}
    paths = any(isinstance(one, type) and issubclass(one, PurePath) for one in (annotation, *args))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and not paths:
        return next((new for new in (_absolute(value, one) for one in args) if new != value), value)
    return os.path.abspath(expanded(value)) if paths and isinstance(value, str) else value
