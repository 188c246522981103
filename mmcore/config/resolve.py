"""From tables to a configuration: everything is checked against what it becomes, and the model is composed, before any data are read."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mmcore.config import files
from mmcore.config.build import converter, placed
from mmcore.config.check import Constructor
from mmcore.config.composing import check_model, composed, read_model
from mmcore.config.ends import check_ends, check_memory, check_question
from mmcore.config.growing import Base
from mmcore.config.once import Checked, Once
from mmcore.config.parts import read_modalities, read_tasks
from mmcore.config.reading import Reading
from mmcore.config.schema import Config, Part
from mmcore.config.sections import read_named, read_section, read_source, read_top
from mmcore.data import DataOptions, Dataset, measured, open_data
from mmcore.errors import ConfigError, MmcoreError, OptionError
from mmcore.hooks import DISTRIBUTION
from mmcore.modality.base import Modality, Task
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry, discover
from mmcore.plugins.metadata import canonical


@attrs.frozen(eq=False)
class Setup:
    """A checked configuration with its plugins resolved, ready to build.

    Attributes:
        config: resolved.
        registry: where its names were found.
        modalities: the composed ones.
        tasks: in their order.
        where: the file's name, for messages.
    """

    config: Config
    registry: Registry
    modalities: tuple[Modality, ...]
    tasks: tuple[Task, ...]
    where: str = "configuration"
    _checked: list[Checked] = attrs.field(factory=list, repr=False)

    def model(self) -> JointModel:
        """A new model, which remembers the configuration when it is saved.

        The first one is what the configuration was checked by, where nothing has changed since, or has its backbone.
        """
        of = (self.config.model, self.config.seed, self.modalities, self.tasks)
        checked = self._checked.pop() if self._checked else None
        if checked is not None and checked.of == of:
            model = checked.model
            for text, category in checked.warnings:
                warnings.warn(text, category, stacklevel=2)
        else:
            registry = Once(self.registry) if checked is None else checked.registry
            options, seed, modalities, tasks = of
            model = composed(options, modalities, tasks, seed=seed, registry=registry)
        model.configuration = self.recorded()
        return model

    def rows(self, part: str = "train") -> Dataset:
        """The rows of a part of the data, as tensors.

        Args:
            part: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.

        Raises:
            ConfigError: an option of the data that does not fit what is there, with its place.
            RequestError: data that cannot be opened, or have no such part.
        """
        try:
            return open_data(self.registry, self.config.data, self.variables, part, seed=self.config.seed)
        except OptionError as error:
            tables = self.tables()["data"]
            raise ConfigError(self.where, placed(error, ("data",), tables)) from error

    def measured(self, rows: Dataset) -> "Setup":
        """The same setup with the data's statistics, such as mean and deviation, in its modalities' options where these lack them.

        Args:
            rows: of the training part.
        """
        found: dict[str, Any] = {
            m.name: m for m in measured(self.registry, self.variables, rows, self.config.data.measure)
        }
        parts = {name: _remade(part, found[name]) for name, part in self.config.modalities.items()}
        tasks = {
            name: attrs.evolve(one, target=_remade(one.target, found[name])) if isinstance(one.target, Part) else one
            for name, one in self.config.tasks.items()
        }
        return attrs.evolve(
            self,
            config=attrs.evolve(self.config, modalities=parts, tasks=tasks),
            modalities=tuple(found[m.name] for m in self.modalities),
            tasks=tuple(
                one
                if isinstance(one.target, str) or found[one.name] is one.target
                else attrs.evolve(one, target=found[one.name])
                for one in self.tasks
            ),
        )

    @property
    def variables(self) -> list[Any]:
        """The modalities, and targets that nothing encodes, as in :class:`JointModel`."""
        return [*self.modalities, *(task.target for task in self.tasks if not isinstance(task.target, str))]

    def tables(self) -> dict[str, Any]:
        """The configuration as a file holds it, with every default in its place."""
        return tables(self.config)

    def recorded(self) -> dict[str, Any]:
        """The same as a run keeps it: what a plugin offers is named with its distribution, so that another of the same name, installed later, is not it."""
        told = self.tables()

        def name(table: Any, key: str, kind: str) -> None:
            if not isinstance(table, dict) or not isinstance(table.get(key), str) or ":" in table[key]:
                return
            try:
                entry = self.registry.find(kind, table[key])
            except MmcoreError:  # "auto", a part given as an object
                return
            if not entry.registered and canonical(entry.distribution) != DISTRIBUTION:
                table[key] = entry.full_name

        data = told["data"]
        name(data, "source", "source")
        for key, option, kind in (("transforms", "kind", "transform"), ("embed", "embedder", "embedder")):
            for table in data[key]:
                name(table, option, kind)
        for table in (*told["modalities"].values(), *(one["target"] for one in told["tasks"].values() if one)):
            name(table, "plugin", "modality")
        for key in ("backbone", "schedule"):
            name(told["model"], key, key)
        for table in told["training"].get("trackers") or ():
            name(table, "kind", "tracker")
        name(told["sampling"], "sampler", "sampler")
        return told


def load(path: str | Path, changes: Sequence[str] = (), *, registry: Registry | None = None) -> Setup:
    """Read and check a configuration.

    Args:
        path: a TOML file.
        changes: ``a.b=value`` pairs that go before the file's own.
        registry: where names are looked up; by default a new :func:`mmcore.discover`.

    Raises:
        ConfigError: with everything that is wrong.
    """
    found = files.change(files.read(path), changes)
    return configured(found, where=str(path), registry=registry)


def configured(
    given: Mapping[str, Any],
    *,
    where: str = "configuration",
    registry: Registry | None = None,
    to_train: bool = True,
) -> Setup:
    """Check tables, and fill in every default.

    Args:
        given: as a TOML file has them.
        where: what to call them in messages.
        registry: where names are looked up; by default a new :func:`mmcore.discover`.
        to_train: whether a model is to be trained by it: then the model is composed, and all that the run will ask is asked now. Of a
            run that is there already, neither has to be.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reading = Reading(given, where, registry or discover())
    once = Once(reading.registry)
    # Of a run that is there already, its own configuration says all.
    base = Base.read(reading) if to_train else None
    if base is not None:
        reading.given = base.merged(reading)
    top = read_top(reading)
    data = read_section(reading, "data", top.seed)
    source = read_source(reading)
    transforms = read_named(reading, "transform", "data", "transforms")
    training = read_section(reading, "training", top.seed)
    trackers = read_named(reading, "tracker", "training", "trackers")
    sampling = read_section(reading, "sampling", top.seed)
    parts, modalities = read_modalities(reading)
    task_parts, tasks = read_tasks(reading, modalities)
    options = read_section(reading, "model", top.seed)
    if options is not None:
        options = read_model(reading, options, modalities, once, base)
    checked = None
    if to_train:
        check_ends(reading, top.out, data, training, sampling, tasks)
        if options is not None:
            checked = check_model(reading, options, modalities, tasks, top.seed, once)
        if checked is not None:
            check_memory(reading, training, sampling, checked.model)
        if sampling is not None:
            check_question(reading, sampling, None if checked is None else checked.model)
    if reading.problems:
        raise ConfigError(where, reading.problems)
    assert source is not None
    assert options is not None
    assert sampling is not None
    config = Config(
        top.out,
        attrs.evolve(data, options=source, transforms=transforms),
        parts,
        task_parts,
        options if checked is None else checked.of[0],
        training if training.trackers is None else attrs.evolve(training, trackers=trackers),
        sampling,
        seed=top.seed,
        device=top.device,
        threads=top.threads,
    )
    kept = [] if checked is None else [checked]
    return Setup(config, reading.registry, tuple(modalities.values()), tuple(tasks.values()), where, kept)


def tables(config: Config) -> dict[str, Any]:
    """A configuration as a file holds it; what is None is a default, and may be left out."""

    def part(one: str | Part) -> Any:
        return one if isinstance(one, str) else {"plugin": one.plugin, **one.options}

    plain = converter.unstructure(config)
    # A class's own options before those that it inherits.
    plain["data"] = {name: plain["data"][name] for name in Constructor.of(DataOptions).options}
    plain["modalities"] = {name: part(one) for name, one in config.modalities.items()}
    left_out = {name: False for name in config.modalities if name not in config.tasks}
    plain["tasks"] = left_out | {
        name: {"target": part(one.target), "weight": one.weight} for name, one in config.tasks.items()
    }
    order = ("out", "seed", "device", "threads", "data", "modalities", "tasks", "model", "training", "sampling")
    return files.plain({key: plain[key] for key in order}, "configuration")


def _remade(part: Part, m: Modality) -> Part:
    return part if m.made is None else attrs.evolve(part, options=files.json_copy(m.made.options))
