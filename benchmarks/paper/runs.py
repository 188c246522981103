"""Models of a recipe and of its variations, trained once each and kept as model folders.

A folder is named by the resolved configuration it was trained with, so a second call reads it back; delete the folder to train anew.
"""

import hashlib
import itertools
import json
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

import mmcore
from mmcore.config import Setup, configured, files
from mmcore.data import Dataset, Table
from mmcore.data.opening import fits
from mmcore.errors import RequestError
from mmcore.runs.run import rows_with
from mmcore.training.loop import pick_device
from mmcore.training.specialise import SHARE, for_question

RECIPES = Path(__file__).parents[2] / "recipes"
RUNS = Path("runs/benchmarks/paper")
WITHIN = 0.02
"""By how much the parameters of models that are compared may differ."""
Changes = Mapping[str, Any]
BUDGETS = ("steps", "compute", "specialise")
"""``steps``: every model has the recipe's steps. ``compute``: every model has the steps of all single tasks together, the joint one
for all of them and each single one to itself. ``specialise``: the joint model has the recipe's, and a share more on each question
alone; the single ones have as many to themselves."""
DIRECT: Changes = {"model.schedule_options": {"steps": 1}}
"""One step of noise and nothing below it: a model that only ever predicts from what it is given, without diffusion."""


@attrs.frozen(eq=False)
class Trained:
    """A model and what it took.

    Attributes:
        name: of the variation.
        seed: of its training.
        model: in evaluation mode.
        setup: its configuration.
        folder: where it is kept.
        parameters: that learn.
        seconds: of training.
        seconds_per_step: the median, of the processor's time.
    """

    name: str
    seed: int
    model: mmcore.JointModel
    setup: Setup
    folder: Path
    parameters: int
    seconds: float
    seconds_per_step: float


@attrs.frozen(eq=False)
class Experiment:
    """What all variations of one setting share.

    Attributes:
        recipe: the name of a file in ``recipes/``.
        data: where the rows are; None where the recipe's source has its own.
        registry: of plugins.
        seeds: of training.
        weights: SqueezeNet's, for the figures of images.
        steps: of training, in place of the recipe's.
        rows: held-out rows to measure on, at most.
        changes: of the recipe, for all variations.
        runs: where models are kept.
        judging: steps in which a judge is fitted.
        part: of the rows that is measured on.
        budget: of :data:`BUDGETS`, how many steps each model is given.
        singles: how many single-task models the joint one replaces.
        variation: a name and changes: this variation of the joint model is measured, and nothing beside it.
        tables: rows that were read, for all that read them alike.
    """

    recipe: str
    data: Path | None
    registry: mmcore.Registry
    seeds: Sequence[int] = (0,)
    weights: Path | None = None
    steps: int | None = None
    rows: int = 1000
    changes: Sequence[str] = ()
    runs: Path = RUNS
    judging: int = 500
    part: str = "test"
    budget: str = "steps"
    singles: int = 1
    variation: tuple[str, Changes] | None = None
    tables: dict[str, Table] = attrs.field(factory=dict, repr=False)

    def setup(self, changes: Changes, seed: int = 0, times: float = 1.0) -> Setup:
        """The recipe, changed: ``{"a.b": value}``, where None takes the key away; with so many times the steps."""
        path = RECIPES / f"{self.recipe}.toml"
        place = [] if self.data is None else [f'data.options.path="{self.data}"']
        found = files.change(files.read(path), [*place, *self.changes])
        # One split for all seeds.
        found["data"].setdefault("split", {}).setdefault("seed", 0)
        shared: dict[str, Any] = {"seed": seed}
        if self.steps is not None or times != 1:
            shared["training.steps"] = round(times * (self.steps or found["training"]["steps"]))
        return configured(changed(found, {**shared, **changes}), where=str(path), registry=self.registry)

    def trained(
        self,
        name: str,
        changes: Changes | None = None,
        seed: int = 0,
        like: int | None = None,
        spoil: Callable[[Table], Table] | None = None,
        times: float | None = None,
    ) -> Trained:
        """A variation, trained or read back.

        Args:
            name: of it.
            changes: of the recipe.
            seed: of its training.
            like: the parameters it must have, within 2 %; the backbone's width is chosen for it.
            spoil: changes the rows it is trained on.
            times: the recipe's steps that it is given; by default as many as the budget gives a single task.
        """
        if times is None:
            times = 1 + SHARE if self.budget == "specialise" else self.joint_times
        setup = self.setup(changes or {}, seed, times)
        rows = setup.rows()
        setup = setup.measured(rows)
        if like is not None:
            setup = matched(setup, like)
        return self._kept_model(name, seed, setup, rows, like, None, spoil)

    def specialised(self, joint: Trained, name: str, ask: str | None = None) -> Trained:
        """The joint model, trained further on one question alone in a share of the steps, or read back.

        Args:
            joint: it.
            name: of the question, for the table.
            ask: the question; None is for what is hidden of a value that is seen in part.
        """
        config = joint.setup.config
        if ask is None:
            roles = attrs.evolve(config.training.roles, partial=1.0)
            training = attrs.evolve(config.training, steps=round(SHARE * config.training.steps), roles=roles)
        else:
            training = for_question(ask, SHARE, config.training)
        setup = attrs.evolve(joint.setup, config=attrs.evolve(config, training=training))
        called = f"{joint.name}, then {name} alone"
        return self._kept_model(called, joint.seed, setup, setup.rows(), None, joint, None)

    def _kept_model(
        self,
        name: str,
        seed: int,
        setup: Setup,
        rows: Dataset,
        like: int | None,
        begin: Trained | None,
        spoil: Callable[[Table], Table] | None,
    ) -> Trained:
        """The model of this setup, trained from nothing or on from another, or read back from its folder."""
        tables = setup.tables()
        tables.pop("out")
        tables["spoiled"] = None if spoil is None else spoil.__name__
        if begin is not None:
            tables["begin"] = begin.folder.name
        folder = self.runs / hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:16]
        if not (folder / "trained.json").exists():
            # A model of its own: the one that it begins with is asked further.
            model = setup.model() if begin is None else mmcore.load(begin.folder, registry=self.registry)
            read = self.kept(rows_with(rows, model))
            ticks = [time.process_time()]
            started = time.perf_counter()
            mmcore.fit(
                model,
                read if spoil is None else spoil(read),
                options=setup.config.training,
                device=setup.config.device,
                watch=[lambda state, report: ticks.append(time.process_time())],
                quiet=True,
            )
            seconds = time.perf_counter() - started
            gaps = sorted(b - a for a, b in itertools.pairwise(ticks))
            mmcore.save(model, folder)
            took = {"name": name, "seconds": seconds, "seconds_per_step": gaps[len(gaps) // 2]}
            (folder / "trained.json").write_text(json.dumps(took, indent=2) + "\n")
        took = json.loads((folder / "trained.json").read_text())
        model = mmcore.load(folder, registry=self.registry, device=str(pick_device(setup.config.device)))
        count = parameters(model)
        if like is not None and abs(count - like) > WITHIN * like:
            raise RequestError(f"paper: {name} has {count:,} parameters, expected {like:,} within {WITHIN:.0%}")
        print(f"{self.recipe}: {name}, seed {seed}: {count:,} parameters, {took['seconds']:.0f} s", flush=True)
        return Trained(name, seed, model, setup, folder, count, took["seconds"], took["seconds_per_step"])

    def joint(self, seed: int, name: str = "joint") -> Trained:
        """The recipe's own model, or the variation that is measured in its place."""
        if self.variation is None:
            return self.trained(name, seed=seed, times=self.joint_times)
        varied, changes = self.variation
        return self.trained(f"{name}, {varied}", changes, seed, times=self.joint_times)

    @property
    def joint_times(self) -> int:
        """How often the joint model is given the recipe's steps."""
        return self.singles if self.budget == "compute" else 1

    def held_out(self, one: Trained) -> Table:
        """The rows that are measured on, as the model reads them."""
        return self.kept(rows_with(one.setup.rows(self.part), one.model)).spread(self.rows)

    def training_rows(self, one: Trained) -> Table:
        """All rows that it was trained on."""
        return self.kept(rows_with(one.setup.rows(), one.model), always=True)

    def kept(self, rows: Dataset, *, always: bool = False) -> Any:
        """The rows in memory, read once for all variations that read them alike; as they are where each epoch changes them."""
        if not always and not fits(rows):
            return rows
        variables = [(m.name, None if m.made is None else m.made.record(), str(m.spec)) for m in rows.variables]
        key = json.dumps([len(rows), rows.source.where(0), variables, always], default=str, sort_keys=True)
        if key not in self.tables:
            self.tables[key] = Table.read(rows)
        return self.tables[key]


def variation(text: str) -> tuple[str, Changes]:
    """A variation in words: ``"name: a.b=value; c.d=value"``, the values in TOML."""
    name, colon, rest = text.partition(":")
    if not colon or not rest.strip():
        raise RequestError(f"paper: variation {text!r}, expected 'name: a.b=value; c.d=value'")
    found: dict[str, Any] = {}
    for one in rest.split(";"):
        key, _, value = (part.strip() for part in one.partition("="))
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise RequestError(f"paper: variation {name!r}: {key} = {value!r} is no TOML: {error}") from error
    return name.strip(), found


def changed(tables: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Tables with dotted keys put in; None takes a key away."""
    found = files.json_copy(tables)
    for key, value in changes.items():
        *path, last = key.split(".")
        table = found
        for part in path:
            table = table.setdefault(part, {})
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
    return found


def parameters(model: mmcore.JointModel) -> int:
    """How many numbers learn."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def matched(setup: Setup, like: int) -> Setup:
    """The same with the width of the backbone at which it has ``like`` parameters, as near as can be."""
    heads = setup.config.model.backbone_options.get("heads", 4)
    step = heads * 2 if setup.config.model.backbone == "transformer" else 2

    def at(width: int) -> Setup:
        model = setup.config.model
        options = {**model.backbone_options, "width": width}
        return attrs.evolve(
            setup, config=attrs.evolve(setup.config, model=attrs.evolve(model, backbone_options=options))
        )

    def count(k: int) -> int:
        return parameters(at(k * step).model())

    low, high = 1, 2
    while count(high) < like:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < like else (low, middle)
    return at(min((low, high), key=lambda k: abs(count(k) - like)) * step)


def values(table: Table, *names: str) -> dict[str, Tensor]:
    """The rows that have all these variables, by name."""
    has = table.rows.present[:, [table.names.index(name) for name in names]].all(1)
    return {name: table.rows.values[name][has] for name in names}
