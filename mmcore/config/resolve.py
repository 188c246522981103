"""From tables to a configuration: everything is checked against what it becomes before anything heavy is built.

A section is checked in three rounds, and each tells of all it finds: keys and types against the signature of what the section
becomes; values by making it; and what only fits or not together, by composing the model around an empty backbone, and by
making the backbone.
"""

import math
import os
import re
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import attrs
import cattrs
import cattrs.gen
import torch
from torch import Tensor, nn

from mmcore.config import files
from mmcore.config.check import Constructor, dotted, judge, nearest, shorthand, trimmed
from mmcore.config.schema import Config, ModelOptions, Part, SamplingOptions, TaskPart
from mmcore.data import Dataset, measured, open_data
from mmcore.data.options import DataOptions
from mmcore.errors import ConfigError, MmcoreError, PluginError, Problem, RequestError
from mmcore.modality.base import Modality, Task
from mmcore.model.compose import STEPS, compose
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry, discover
from mmcore.plugins.metadata import one_line
from mmcore.process import Process
from mmcore.process.schedule import cosine
from mmcore.sampling import Sampler, plan
from mmcore.space import Layout, Space
from mmcore.training import TrainOptions
from mmcore.training.loop import pick_device

SECTIONS: dict[str, type] = {
    "data": DataOptions,
    "model": ModelOptions,
    "training": TrainOptions,
    "sampling": SamplingOptions,
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""Names that are keys of a file, parts of file names and names of a module's children all at once."""
LARGEST_SPACE = 1 << 24
ENGINE = {"backbone": ("space", "modalities", "steps", "blocks"), "schedule": ("modalities",)}
"""What mmcore itself gives to a factory of each kind."""


@attrs.frozen(eq=False)
class Setup:
    """A configuration that is known to be right, and what it names.

    Attributes:
        config: resolved.
        registry: where its names were found.
        modalities: the composed ones.
        tasks: in their order.
    """

    config: Config
    registry: Registry
    modalities: tuple[Modality, ...]
    tasks: tuple[Task, ...]

    def model(self) -> JointModel:
        """A new model, which remembers the configuration when it is saved."""
        options = self.config.model
        model = compose(
            self.modalities,
            self.tasks,
            layout=options.layout,
            space=options.space,
            overlap=options.overlap,
            backbone=options.backbone,
            backbone_options=options.backbone_options,
            trained_encoders=options.trained_encoders,
            seed=self.config.seed,
            registry=self.registry,
            **_schedule(options, len(self.modalities), self.registry),
        )
        model.configuration = self.tables()
        return model

    def rows(self, part: str = "train") -> Dataset:
        """The rows of a part of the data, as tensors.

        Args:
            part: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.

        Raises:
            RequestError: data that cannot be opened or do not fit, or have no such part.
        """
        return open_data(self.registry, self.config.data, self._variables, part, seed=self.config.seed)

    def measured(self, rows: Dataset) -> "Setup":
        """The same with the statistics of its data in its modalities' options, where these do not say them.

        Args:
            rows: of the training part.
        """
        found: dict[str, Any] = {
            m.name: m for m in measured(self.registry, self._variables, rows, self.config.data.measure)
        }
        parts = {name: _remade(part, found[name]) for name, part in self.config.modalities.items()}
        tasks = {
            name: attrs.evolve(one, target=_remade(one.target, found[name])) if isinstance(one.target, Part) else one
            for name, one in self.config.tasks.items()
        }
        return Setup(
            attrs.evolve(self.config, modalities=parts, tasks=tasks),
            self.registry,
            tuple(found[m.name] for m in self.modalities),
            tuple(
                one if isinstance(one.target, str) else attrs.evolve(one, target=found[one.name]) for one in self.tasks
            ),
        )

    @property
    def _variables(self) -> list[Any]:
        """The modalities, and targets that nothing encodes, as in :class:`JointModel`."""
        return [*self.modalities, *(task.target for task in self.tasks if not isinstance(task.target, str))]

    def tables(self) -> dict[str, Any]:
        """The configuration as a file holds it, with every default in its place."""
        return tables(self.config)


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


def configured(given: Mapping[str, Any], *, where: str = "configuration", registry: Registry | None = None) -> Setup:
    """Check tables, and fill in every default.

    Args:
        given: as a TOML file has them.
        where: what to call them in messages.
        registry: where names are looked up; by default a new :func:`mmcore.discover`.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reader = _Reader(given, where, registry or discover())
    setup = reader.read()
    if setup is None:
        raise ConfigError(where, reader.problems)
    return setup


def tables(config: Config) -> dict[str, Any]:
    """A configuration as a file holds it; what is None is a default, and may be left out."""

    def part(one: str | Part) -> Any:
        return one if isinstance(one, str) else {"plugin": one.plugin, **one.options}

    plain = _converter.unstructure(config)
    plain["modalities"] = {name: part(one) for name, one in config.modalities.items()}
    left_out = {name: False for name in config.modalities if name not in config.tasks}
    plain["tasks"] = left_out | {
        name: {"target": part(one.target), "weight": one.weight} for name, one in config.tasks.items()
    }
    order = ("out", "seed", "device", "threads", "data", "modalities", "tasks", "model", "training", "sampling")
    return files.plain({key: plain[key] for key in order}, "configuration")


def _remade(part: Part, m: Modality) -> Part:
    return part if m.made is None else attrs.evolve(part, options=files.json_copy(m.made.options))


def _new_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False, forbid_extra_keys=True)

    # Types have been checked: what a union holds stays as it is.
    def is_union(kind: Any) -> bool:
        return typing.get_origin(kind) in (typing.Union, types.UnionType)

    converter.register_structure_hook_func(is_union, lambda value, _: value)

    def with_shorthand(kind: type) -> Callable[[Any, Any], Any]:
        made = cattrs.gen.make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)
        short = shorthand(kind)
        return lambda value, _: made(value if isinstance(value, Mapping) or not short else {short[0]: value}, _)

    converter.register_structure_hook_factory(attrs.has, with_shorthand)
    return converter


_converter = _new_converter()


def _structure(kind: type) -> Callable[..., Any]:
    return lambda **options: _converter.structure(options, kind)


def _schedule(options: ModelOptions, modalities: int, registry: Registry) -> dict[str, Any]:
    """The schedule as :func:`compose` takes it: by name where that says all, so that models hold names rather than tables."""
    own = dict(options.schedule_options)
    if own.get("steps", STEPS) == STEPS and own.keys() <= {"steps", "gains", "powers"}:
        return {"schedule": options.schedule, "gains": own.get("gains"), "powers": own.get("powers")}
    return {"schedule": registry.schedule(options.schedule, modalities=modalities, **own)}


def _absolute(value: Any, annotation: Any) -> Any:
    """A path that is seen from the working directory as one that is seen from anywhere, so that a run finds its data again."""
    args = typing.get_args(annotation)
    if isinstance(value, Mapping) and len(args) == 2:
        return {key: _absolute(one, args[1]) for key, one in value.items()}
    paths = any(isinstance(one, type) and issubclass(one, PurePath) for one in (annotation, *args))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and not paths:
        return next((new for new in (_absolute(value, one) for one in args) if new != value), value)
    return os.path.abspath(Path(value).expanduser()) if paths and isinstance(value, str) else value


class _Empty(nn.Module):
    """Stands for the backbone while the rest is checked."""

    features = 1

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        raise NotImplementedError


class _Reader:
    """Reads one configuration, and keeps what is wrong with it."""

    def __init__(self, given: Mapping[str, Any], where: str, registry: Registry) -> None:
        self.given, self.where, self.registry = given, where, registry
        self.problems: list[Problem] = []

    def read(self) -> Setup | None:
        """All of it, or None where there are problems."""
        out, seed, device, threads = self._top()
        data = self._section("data", seed)
        options = self._source()
        transforms = self._listed_parts("transform", "data", "transforms")
        if data is not None and options is not None:
            data = attrs.evolve(data, options=options, transforms=transforms)
        training = self._section("training", seed)
        trackers = self._listed_parts("tracker", "training", "trackers")
        if training is not None and training.trackers is not None:
            training = attrs.evolve(training, trackers=trackers)
        sampling = self._section("sampling", seed)
        parts, modalities = self._modalities()
        task_parts, tasks = self._tasks(modalities)
        options = self._section("model", seed)
        if options is not None:
            options = self._model(options, modalities, tasks)
        if self.problems or data is None or training is None or sampling is None or options is None:
            return None
        config = Config(
            out, data, parts, task_parts, options, training, sampling, seed=seed, device=device, threads=threads
        )
        return Setup(config, self.registry, tuple(modalities.values()), tuple(tasks.values()))

    def _say(self, key: str, text: str, *value: Any) -> None:
        self.problems.append(Problem(key, text, *value))

    # ---- sections ----

    def _top(self) -> tuple[str, int, str, int]:
        signature = Constructor.of(Config)
        stem = Path(self.where).stem if self.where.endswith(".toml") else "model"
        values: dict[str, Any] = {"out": f"runs/{stem}", "seed": 0, "device": "auto", "threads": 0}
        own = {key: value for key, value in self.given.items() if key not in (*SECTIONS, "modalities", "tasks")}
        for problem in Constructor(signature.options, signature.options, open=False).check(own, (), "a configuration"):
            homes = [
                f"{name}.{problem.key}"
                for name, kind in SECTIONS.items()
                if problem.key in Constructor.of(kind).options
            ]
            if homes and problem.key not in values:
                problem = problem._replace(text=f"there is no such key here; did you mean {homes[0]!r}?")
            self.problems.append(problem)
            own.pop(problem.key, None)
        values |= {key: value for key, value in own.items() if key in values}
        for key in ("seed", "threads"):
            if values[key] < 0:
                self._say(key, "expected at least 0", values[key])
        if not values["out"] or "\0" in values["out"]:
            self._say("out", "expected a folder for the run", values["out"])
        try:
            pick_device(values["device"])
        except RequestError as error:
            self._say("device", f"{error}; expected auto, cpu or a device that is there", values["device"])
        return values["out"], values["seed"], values["device"], values["threads"]

    def _table(self, key: str, value: Any) -> dict[str, Any] | None:
        if isinstance(value, Mapping):
            return dict(value)
        self._say(key, f"expected a table, [{key}]", value)
        return None

    def _section(self, name: str, seed: int) -> Any:
        """A section as its class; None where it cannot be one."""
        table = self._table(name, self.given.get(name, {}))
        if table is None:
            return None
        return self._made(SECTIONS[name], table, (name,), seed)

    def _made(self, kind: type, table: dict[str, Any], place: tuple[str, ...], seed: int) -> Any:
        signature = Constructor.of(kind)
        problems = signature.check(table, place, f"[{dotted(*place)}]")
        if "seed" in signature.options:
            table = {"seed": seed} | table
        wrong = [p.key for p in problems]

        def sound(key: str) -> bool:
            return not any(re.match(rf"{re.escape(dotted(*place, key))}($|[.\[])", one) for one in wrong)

        for key, annotation in signature.options.items():
            inside = isinstance(annotation, type) and attrs.has(annotation) and isinstance(table.get(key), Mapping)
            if inside:
                own = {name: one for name, one in table[key].items() if dotted(*place, key, name) not in wrong}
                _, refused = judge(_structure(annotation), own, (*place, key))
                problems += refused
                wrong += [p.key for p in refused]
        kept = {key: one for key, one in table.items() if sound(key)}
        made, refused = None, []
        if kept.keys() >= signature.options.keys() - signature.defaults.keys():
            made, refused = judge(_structure(kind), kept, place)
        self.problems += [*problems, *refused]
        return None if problems or refused else made

    def _find(self, kind: str, plugin: str, place: tuple[str, ...]) -> Callable[..., Any] | None:
        """The factory of a plugin's offer, imported."""
        try:
            return self.registry.factory(self.registry.find(kind, plugin))[0]
        except MmcoreError as error:
            self._say(dotted(*place), one_line(str(error)), *([plugin] if place[-1] in ("plugin", kind) else []))
            return None

    def _part(
        self, kind: str, table: Mapping[str, Any], place: tuple[str, ...], plugin: str, extra: Sequence[str] = ()
    ) -> tuple[Part, Any] | None:
        """A plugin's offer with its options, and the thing made of them; None where it cannot be made."""
        plugin = table.get("plugin", plugin)
        if not isinstance(plugin, str):
            self._say(dotted(*place, "plugin"), "expected a string, a plugin's name", plugin)
            return None
        factory = self._find(kind, plugin, (*place, "plugin") if "plugin" in table else place)
        if factory is None:
            return None
        signature = Constructor.of(factory)
        options = {key: value for key, value in table.items() if key not in ("plugin", *extra)}
        problems = signature.check(options, place, f"{kind} {plugin!r}")
        wrong = {p.key for p in problems}
        sound = {key: value for key, value in options.items() if dotted(*place, key) not in wrong}
        made, refused = None, []
        if all(key in sound or key in signature.defaults for key in signature.options):
            made, refused = judge(lambda **o: self.registry.make(kind, plugin, o)[1], sound, (*place,))
            refused = [p._replace(text=p.text.removeprefix(f"{plugin}: ")) for p in refused]
        self.problems += [*problems, *refused]
        if problems or refused:
            return None
        # What data say is left open, to be measured.
        open_ = made.measured(made.typical(8, seed=0)) if isinstance(made, Modality) else {}
        full = {key: value for key, value in signature.plain_defaults().items() if key not in open_} | sound
        try:
            # With every default stated, so that it is made again alike when a default changes.
            made = self.registry.make(kind, plugin, files.json_copy(full))[1]
        except MmcoreError:
            full = sound
        return Part(plugin, files.json_copy(full)), made

    def _named(self, section: str) -> dict[str, Any]:
        table = self._table(section, self.given.get(section, {})) or {}
        for name in table:
            if not NAME.fullmatch(name):
                self._say(
                    dotted(section, name), "is no name: expected a letter, then letters, digits, _ or -, at most 64"
                )
            elif hasattr(nn.ModuleDict, name):
                self._say(dotted(section, name), f"{name!r} is taken by torch itself; use another name")
        bad = {p.key for p in self.problems}
        return {name: value for name, value in table.items() if dotted(section, name) not in bad}

    def _modalities(self) -> tuple[dict[str, Part], dict[str, Modality]]:
        parts, made = {}, {}
        if not self.given.get("modalities") and isinstance(self.given.get("modalities", {}), Mapping):
            self._say("modalities", 'there is none; add at least one, such as [modalities.image] with plugin = "image"')
        for name, value in self._named("modalities").items():
            table = self._table(dotted("modalities", name), value)
            found = None if table is None else self._part("modality", table, ("modalities", name), name)
            if found is not None:
                parts[name], made[name] = found
                made[name].name = name
        return parts, made

    def _tasks(self, modalities: Mapping[str, Modality]) -> tuple[dict[str, TaskPart], dict[str, Task]]:
        """Each modality's recovery, with what the file changes, adds and leaves out."""
        names = list(self._listed())
        given = self._named("tasks")
        merged: dict[str, Any] = {name: {} for name in names} | given
        parts: dict[str, TaskPart] = {}
        tasks: dict[str, Task] = {}
        for name, value in merged.items():
            place = ("tasks", name)
            if value is False and name in names:
                continue
            if not isinstance(value, Mapping):
                mend = "; false leaves out a modality's recovery" if name in names else ""
                self._say(dotted(*place), f"expected a table, [{dotted(*place)}]{mend}", value)
                continue
            table = {"target": name, **value} if name in names else dict(value)
            if isinstance(table.get("plugin"), str):
                # The likely mistake: a task is written as a modality is. Its other keys are then the plugin's.
                if name in names:
                    mend = f"a task has none: [{dotted('modalities', name)}] says which plugin the modality is of"
                else:
                    mend = f"a task has none: what it predicts is its target, [{dotted(*place, 'target')}] with this plugin and its options"
                self._say(dotted(*place, "plugin"), mend, table["plugin"])
                continue
            # A target's own table is checked below, by the plugin that it names.
            flat = table | ({"target": ""} if isinstance(table.get("target"), Mapping) else {})
            problems = Constructor.of(TaskPart).check(flat, place, f"task {name!r}")
            sound = {k: v for k, v in table.items() if dotted(*place, k) not in {p.key for p in problems}}
            target = sound.get("target")
            if isinstance(target, str) and target not in names:
                text = f"expected one of {', '.join(names)}, or a table with a plugin{nearest(target, names)}"
                problems.append(Problem(dotted(*place, "target"), text, target))
            extra = None
            if isinstance(target, Mapping):
                extra = self._part("modality", target, (*place, "target"), name)
                if extra is None:
                    problems.append(Problem("", ""))
                elif name in names:
                    problems.append(
                        Problem(
                            dotted(*place), f"its target would be called {name!r}, as the modality; rename the task"
                        )
                    )
                else:
                    extra[1].name = name
                    sound["target"] = extra[0]
            if not problems:
                made, problems = judge(_structure(TaskPart), sound, place)
                if made is not None:
                    parts[name] = made
                    # A modality that has a problem of its own has no task to check.
                    if extra is not None or target in modalities:
                        tasks[name] = Task(name, extra[1] if extra else str(target), weight=made.weight)
            self.problems += [p for p in problems if p.text]
        if names and not any(isinstance(part.target, str) for part in parts.values()) and not self.problems:
            self._say("tasks", "no task recovers a modality, so there is nothing to generate; leave one in")
        return parts, tasks

    def _source(self) -> dict[str, Any] | None:
        """The source's options, checked, whatever else is wrong with the data; the source itself is opened later."""
        table = self.given.get("data", {})
        if not isinstance(table, Mapping):
            return None
        name, options, embed = table.get("source"), table.get("options", {}), table.get("embed", [])
        for place, one in enumerate(embed if isinstance(embed, list) else []):
            self._embedder(one, ("data", f"embed[{place}]"))
        if not isinstance(name, str) or not isinstance(options, Mapping):
            return None
        factory = self._find("source", name, ("data", "source"))
        if factory is None:
            return None
        signature = Constructor.of(factory)
        problems = signature.check(options, ("data", "options"), f"source {name!r}")
        self.problems += problems
        # The part is asked for anew each time, and what makes parts disjoint goes with it.
        free = {"part", *getattr(factory, "disjoint", {})}
        full = {k: v for k, v in signature.plain_defaults().items() if k not in free} | dict(options)
        absolute = {key: _absolute(value, signature.options.get(key)) for key, value in full.items()}
        return None if problems else absolute

    def _embedder(self, one: Any, place: tuple[str, ...]) -> None:
        name = one.get("embedder", "clip") if isinstance(one, Mapping) else None
        if isinstance(name, str) and isinstance(one.get("options", {}), Mapping):
            factory = self._find("embedder", name, (*place, "embedder"))
            if factory is not None:
                signature = Constructor.of(factory)
                self.problems += signature.check(one.get("options", {}), (*place, "options"), f"embedder {name!r}")

    def _listed_parts(self, kind: str, section: str, key: str) -> list[dict[str, Any]]:
        """What a list names by ``kind``, each made once to check its options, with every default stated."""
        table = self.given.get(section, {})
        listed = table.get(key) if isinstance(table, Mapping) else None
        whole = []
        for number, one in enumerate(listed if isinstance(listed, list | tuple) else []):
            own = {"kind": one} if isinstance(one, str) else one
            # The section itself tells of what has no kind.
            if isinstance(own, Mapping) and isinstance(own.get("kind"), str):
                found = self._part(kind, own, (section, f"{key}[{number}]"), own["kind"], ("kind",))
                if found is not None:
                    whole.append({"kind": found[0].plugin, **found[0].options})
        return whole

    # ---- the model ----

    def _model(
        self,
        options: ModelOptions,
        modalities: Mapping[str, Modality],
        tasks: Mapping[str, Task],
    ) -> ModelOptions | None:
        names = list(self._listed())
        before = len(self.problems)
        self._try("model.layout", options.layout, lambda: Layout.groups(options.layout, names))
        if options.space is not None:
            self._try("model.space", options.space, lambda: Space(tuple(options.space or ())))
        for name in options.trained_encoders:
            if name not in names:
                text = f"names {name!r}, expected names among {', '.join(names)}{nearest(name, names)}"
                self._say("model.trained_encoders", text, list(options.trained_encoders))
        backbone = self._options("backbone", options.backbone, options.backbone_options)
        schedule = self._options("schedule", options.schedule, options.schedule_options)
        if schedule is not None:
            place = ("model", "schedule_options")
            _, refused = judge(
                lambda **o: self.registry.schedule(options.schedule, modalities=len(names), **o), schedule, place
            )
            self.problems += [p._replace(text=p.text.removeprefix("schedule: ")) for p in refused]
        elements = math.prod(options.space or [1])
        codes = sum(math.prod(m.code) for m in modalities.values())
        if max(elements, codes) > LARGEST_SPACE:
            what = "model.space" if elements > codes else "modalities"
            most = f"expected at most {LARGEST_SPACE:,}; make it smaller"
            self._say(what, f"a space of {max(elements, codes):,} elements, {most}")
        sound = len(self.problems) == before
        groups = Layout.groups(options.layout, names) if sound else ()
        whole = sound and not self._broken("modalities") and not self._broken("tasks")
        model = None
        if whole:
            options = attrs.evolve(options, backbone_options=backbone or {}, schedule_options=schedule or {})
            model = self._composed(options, modalities, tasks)
        self._sampler(model.process if model is not None else Process(cosine(STEPS, 1)))
        space = self._space(options, modalities, groups) if model is None else model.space
        if space is not None and backbone is not None:
            steps = options.schedule_options.get("steps", STEPS)
            self._backbone(options.backbone, backbone, space, len(names), steps if whole else STEPS, len(groups) or 1)
        return None if model is None else attrs.evolve(options, space=list(model.space.shape))

    @staticmethod
    def _space(
        options: ModelOptions, modalities: Mapping[str, Modality], groups: Sequence[Sequence[int]]
    ) -> Space | None:
        """The space that the backbone would have, where that is known without a model."""
        try:
            if options.space is not None:
                return Space(tuple(options.space))
            codes = [m.code for m in modalities.values()]
            return Space.for_codes(codes, groups or None) if codes else None
        except (RequestError, IndexError):
            return None

    def _listed(self) -> Mapping[str, Any]:
        listed = self.given.get("modalities", {})
        return listed if isinstance(listed, Mapping) else {}

    def _try(self, key: str, value: Any, check: Callable[[], Any]) -> None:
        try:
            check()
        except RequestError as error:
            self._say(key, trimmed(str(error), key.split(".")[-1:], value), value)

    def _broken(self, section: str) -> bool:
        return any(p.key == section or p.key.startswith(f"{section}.") for p in self.problems)

    def _options(self, kind: str, plugin: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        place = ("model", f"{kind}_options")
        factory = self._find(kind, plugin, ("model", kind))
        if factory is None:
            return None
        whole = Constructor.of(factory)
        missing = [name for name in ENGINE[kind] if name not in whole.options and not whole.open]
        engine = [name for name in ENGINE[kind] if name not in missing]
        signature = Constructor.of(factory, without=engine)
        if kind == "schedule" and "steps" in signature.options:
            given = {"steps": STEPS} | dict(given)
        problems = signature.check(given, place, f"{kind} {plugin!r}", set_by_mmcore=engine)
        self.problems += problems
        wrong = {p.key for p in problems}
        return signature.plain_defaults() | {k: v for k, v in given.items() if dotted(*place, k) not in wrong}

    def _composed(
        self, options: ModelOptions, modalities: Mapping[str, Modality], tasks: Mapping[str, Task]
    ) -> JointModel | None:
        """The model around an empty backbone: whatever :func:`compose` refuses is refused here."""
        given = self.given.get("model", {})
        free = ("layout", "space", "overlap", "trained_encoders")

        def made(**some: Any) -> JointModel:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return compose(
                        list(modalities.values()),
                        list(tasks.values()),
                        backbone=_Empty(),
                        registry=self.registry,
                        **some,
                        **_schedule(options, len(modalities), self.registry),
                    )
                except (RuntimeError, MemoryError) as error:
                    raise RequestError(f"cannot be composed: {one_line(str(error))[:200]}") from error

        model, problems = judge(made, {key: given[key] for key in free if key in given}, ("model",))
        self.problems += [p._replace(text=p.text.removeprefix("compose: ")) for p in problems]
        return model

    def _sampler(self, process: Process) -> None:
        names = ("steps", "sampler", "spacing", "eta", "codes")
        table = self.given.get("sampling", {})
        table = table if isinstance(table, Mapping) else {}
        given = {key: table[key] for key in names if key in table and not self._broken(f"sampling.{key}")}
        defaults = attrs.asdict(SamplingOptions())

        def planned(**some: Any) -> Sampler:
            return plan(process, **({key: defaults[key] for key in names} | some))[0]

        _, problems = judge(planned, given, ("sampling",))
        self.problems += [p._replace(text=p.text.removeprefix("sample: ")) for p in problems]

    def _backbone(
        self, name: str, options: Mapping[str, Any], space: Space, modalities: int, steps: int, blocks: int
    ) -> None:
        """Check that the backbone can be made, by making it."""
        parts = {"space": space, "modalities": modalities, "steps": steps, "blocks": blocks}

        def made(**some: Any) -> nn.Module:
            try:
                return self.registry.make("backbone", name, {**parts, **some})[1]
            except PluginError as error:
                # Memory, most often: a width of a million.
                raise RequestError(one_line(str(error.__cause__ or error))[:300]) from error

        with torch.random.fork_rng(devices=[]):
            _, problems = judge(made, options, ("model", "backbone_options"))
        self.problems += [p._replace(text=p.text.removeprefix(f"{name}: ")) for p in problems]
