"""``model.grows_from``: a configuration whose model begins with the weights of another, and says no more than what is new.

What the configuration leaves out is as in that model: its modalities' options (with what was measured on its data), layout, space, schedule, backbone. Each new modality has a block of
its own. Where the configuration says otherwise, so that old answers would change, it is refused.
"""

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import torch

from mmcore.config.reading import Reading
from mmcore.config.schema import ModelOptions
from mmcore.errors import MmcoreError, OptionError
from mmcore.files import expanded
from mmcore.hooks import DISTRIBUTION, Made
from mmcore.modality.base import Modality
from mmcore.model.backbones.base import maker
from mmcore.model.compose import STEPS
from mmcore.model.extending import extended
from mmcore.model.growing import carry, changes, elsewhere, groups_of
from mmcore.model.joint import JointModel
from mmcore.plugins import Registry
from mmcore.plugins.metadata import canonical
from mmcore.process import Schedule
from mmcore.space import LAYOUTS, Layout
from mmcore.store.model import load

KEY = "grows_from"


@attrs.frozen(eq=False)
class Base:
    """The model that another grows from.

    Attributes:
        folder: of the model.
        model: as it was read.
        stated: which options of ``[model]`` the new configuration states itself.
    """

    folder: Path
    model: JointModel
    stated: frozenset[str]

    @classmethod
    def read(cls, reading: Reading) -> Self | None:
        """The model that a configuration names; None where it names none, or one that cannot be read."""
        table = reading.table("model")
        path = table.get(KEY)
        if not isinstance(path, str):
            return None
        try:
            return cls(model_folder(path), read_base(path, _named_files(reading), reading.registry), frozenset(table))
        except MmcoreError as error:
            moved = "; where it lies elsewhere now, --from says it" if not model_folder(path).is_dir() else ""
            reading.say(f"model.{KEY}", str(error).removeprefix("load: ") + moved, path)
            return None

    @property
    def names(self) -> list[str]:
        """Its modalities."""
        return [m.name for m in self.model.modalities]

    def merged(self, reading: Reading) -> dict[str, Any]:
        """The configuration's tables, with what the model says where they say nothing."""
        tables, listed, table = dict(reading.given), reading.table("modalities"), reading.table("model")
        if missing := [name for name in self.names if name not in listed]:
            text = f"is in {self.folder} and left out here, which would change old answers; keep it, or take it away from the model: mmcore.without(model, {missing})"
            reading.say(f"modalities.{missing[0]}", text)
            return tables
        if list(listed)[: len(self.names)] != self.names:
            text = f"expected {', '.join(self.names)} first, as in {self.folder}, and what is new after them; write their tables in this order"
            reading.say("modalities", text)
            return tables
        for m in self.model.modalities:
            own, made = listed[m.name], m.made
            if made is None or not isinstance(own, Mapping):
                continue
            same = str(own.get("plugin", m.name)).rpartition(":")[2] == made.offer
            # Of a file the model has the digest or the text, and the configuration its path: they are compared when both are read.
            paths = {key: one for key, one in own.items() if key in m.files or key in m.kept}
            if same and all(made.options.get(k) == one for k, one in own.items() if k not in ("plugin", *paths)):
                measured = {key: one for key, one in made.options.items() if key not in m.files}
                listed[m.name] = {"plugin": _name(made), **measured, **paths}
        said = said_of(self.model, len(listed))
        for option, kind in (("backbone_options", "backbone"), ("schedule_options", "schedule")):
            own = table.get(option, {})
            same = kind not in table or str(table[kind]).rpartition(":")[2] == str(said.get(kind)).rpartition(":")[2]
            if same and isinstance(own, Mapping):
                table[option] = {**said[option], **own}
        return {**tables, "modalities": listed, "model": said | table | {KEY: os.path.abspath(self.folder)}}

    def filled(self, reading: Reading, options: ModelOptions, modalities: Mapping[str, Modality]) -> ModelOptions:
        """Layout, space and channels of the larger model: those of this one, and after them a block for each new modality."""
        names, model = list(modalities), self.model
        added = [name for name in names if name not in self.names]
        groups = groups_of(model) + [[name] for name in added]
        members = Layout.groups(groups, names)
        named = next((name for name in LAYOUTS if Layout.groups(name, names) == members), None)
        right: dict[str, Any] = {"layout": named or groups}
        # Of another size, the space is another, too.
        if not any(elsewhere(m, modalities[m.name]) for m in model.modalities):
            codes, places = [modalities[name].code for name in names], math.prod(model.space.grid)
            channels = [*model.process.channels, *(-(-math.prod(modalities[name].code) // places) for name in added)]
            space = attrs.evolve(model.space, shape=(sum(channels), *model.space.grid))
            alone = Layout.fit(members, codes, space, overlap=options.overlap).channels
            right |= {"space": list(space.shape), "channels": None if alone == tuple(channels) else channels}
        for option, value in right.items():
            found = getattr(options, option)
            if option in self.stated and _plain(found, names) != _plain(value, names) and value is not None:
                text = json.dumps(value)
                mend = f"leave it out, or --set 'model.{option}={text}'"
                reading.say(f"model.{option}", f"expected {text}, or old answers would change; {mend}", found)
        return attrs.evolve(options, **{key: value for key, value in right.items() if key not in self.stated})


def said_of(model: JointModel, modalities: int) -> dict[str, Any]:
    """``[model]`` as the model would say it, of so many modalities; of a schedule by name, as the run that made it called it."""
    network, config = maker(model.backbone), model.config
    assert network is not None
    assert config is not None
    run: Any = model.configuration or {}
    run = run.get("model") if isinstance(run, Mapping) else None
    recorded: Mapping[str, Any] = run if isinstance(run, Mapping) else {}
    found: Any = recorded.get("schedule_options") if config.schedule is None else config.schedule.options
    options = {"steps": model.process.steps, **(found if isinstance(found, Mapping) else {})}
    listed = {key: options[key] for key in ("steps", "gains", "powers") if options.get(key) is not None}
    for key in ("gains", "powers"):
        if key in listed:
            listed[key] = [*listed[key], *[1.0] * (modalities - len(model.modalities))]
    name = recorded.get("schedule") if config.schedule is None else _name(config.schedule)
    return {
        "overlap": config.overlap,
        "trained_encoders": config.trained_encoders,
        "reading": config.reading,
        **({} if config.adapters is None else {"adapters": config.adapters}),
        "backbone": _name(network),
        "backbone_options": network.options,
        "schedule": name if isinstance(name, str) else model.process.schedule.name,
        "schedule_options": listed,
    }


def schedule_of(base: JointModel, options: ModelOptions, full: Schedule) -> Schedule:
    """The schedule of the larger model: what its name gives; or, where the number of modalities enters that and it is the one of the model that this one grows from, that one's tables.

    Args:
        base: the model that this one grows from.
        options: the section ``[model]``.
        full: what the options' name gives for all modalities.
    """
    old, said = base.process.schedule, said_of(base, full.modalities)
    own: dict[str, Any] = {"steps": STEPS, **options.schedule_options}
    theirs: dict[str, Any] = {"steps": STEPS, **said["schedule_options"]}
    known, more = old.modalities, full.modalities - old.modalities
    gains = [*(own.get("gains") or [1.0] * full.modalities)]
    for key in ("gains", "powers"):
        for told in (own, theirs):
            told[key] = [*(told.get(key) or [1.0] * known)][:known]
    same = options.schedule.rpartition(":")[2] == str(said["schedule"]).rpartition(":")[2]
    if more < 0 or not same or any(own.get(key) != theirs[key] for key in theirs):
        return full
    if torch.equal(full.log_A, old.log_A) and torch.equal(full.W[:, :known], old.W):
        return full
    loudness = math.sqrt(sum(g * g for g in gains[:known]) / known)
    return extended(old, range(known), [g / loudness for g in gains[known:]])


def read_base(path: str | Path, beside: Sequence[str | Path], registry: Registry) -> JointModel:
    """The model that a configuration's one grows from.

    Args:
        path: its folder, or its run's.
        beside: files and folders in which pretrained weights may lie that it keeps beside it; where there are none, the environment's.
        registry: of plugins.

    Raises:
        RequestError: a folder that holds no model, or one that cannot be used here.
    """
    return load(model_folder(path), beside=beside or None, registry=registry)


def _named_files(reading: Reading) -> list[Path]:
    """What there is of all that the modalities' options may mean as paths."""
    tables = [table for table in reading.table("modalities").values() if isinstance(table, Mapping)]
    texts = [text for table in tables for text in table.values() if isinstance(text, str) and text]
    return [path for text in texts if "\0" not in text and os.path.exists(path := expanded(text))]


def begin(model: JointModel, base: JointModel, path: str) -> None:
    """Give a composed model the weights of the one that it grows from.

    Raises:
        OptionError: old answers would change, though all of the old modalities are what they were; or other adapters than the model has.
    """
    folder = model_folder(path)
    theirs, own = (None if one.config is None else one.config.adapters for one in (base, model))
    grown = carry(base, model)
    if theirs is not None and (own != theirs or grown.part or grown.unfit or grown.left):
        expected = f"{theirs}, as in {folder}, and nothing new beside them"
        merged = f"mmcore merge {shlex.quote(str(folder))} -o merged"
        mend = f"add those to the weights first, {merged}, and train --from merged, with other adapters or none"
        raise OptionError("compose", "adapters", own, expected, mend=mend)
    here = {m.name: m for m in model.modalities}
    told = changes(base, model, grown)
    if not any(name.startswith("backbone.") for name in (*grown.over, *grown.part)):
        expected = f"a model of which some weight fits: {'; '.join(grown.unfit[:3]) or 'its backbone has others'}"
        raise OptionError(
            "compose", KEY, str(folder), expected, mend="leave backbone and backbone_options to the model"
        )
    if told and not any(m.name in here and elsewhere(m, here[m.name]) for m in base.modalities):
        expected = f"a model of which old answers stay the same: {'; '.join(told[:3])}"
        mend = "leave that out, as the model itself says it, or train without --from"
        raise OptionError("compose", KEY, str(folder), expected, mend=mend)
    model.grown = grown


def model_folder(path: str | Path) -> Path:
    """The model's folder in a run's, or the folder itself."""
    folder = expanded(path)
    return folder / "model" if (folder / "model" / "config.json").is_file() else folder


def _name(made: Made) -> str:
    return made.offer if canonical(made.distribution) == DISTRIBUTION else f"{made.distribution}:{made.offer}"


def _plain(value: Any, names: Sequence[str]) -> Any:
    """A layout as its members; of other options a list."""
    if isinstance(value, str) or (value and not isinstance(value[0], int)):
        return Layout.groups(value, names)
    return None if value is None else list(value)
