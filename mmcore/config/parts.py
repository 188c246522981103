"""The sections of what the user names: ``[modalities.*]`` and ``[tasks.*]``. Each plugin's constructor is called once."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmcore.config import files
from mmcore.config.build import fill
from mmcore.config.check import Constructor, dotted, fits
from mmcore.config.reading import Reading
from mmcore.config.schema import Part, TaskPart
from mmcore.errors import MmcoreError, Problem, RequestError, nearest
from mmcore.hooks import Made
from mmcore.modality.base import Modality, Task
from mmcore.plugins.loading import brief


def read_modalities(reading: Reading) -> tuple[dict[str, Part], dict[str, Modality]]:
    """The composed modalities, as the configuration keeps them and as objects; those that are wrong are left out."""
    parts, made = {}, {}
    if reading.given.get("modalities", {}) == {}:
        reading.say("modalities", 'there is none; add at least one, such as [modalities.image] with plugin = "image"')
    for name, value in reading.named("modalities").items():
        table = reading.checked_table(dotted("modalities", name), value)
        found = None if table is None else _read_modality(reading, table, ("modalities", name), name)
        if found is not None:
            parts[name], made[name] = found
    return parts, made


def _read_modality(
    reading: Reading, table: Mapping[str, Any], place: Sequence[str], name: str
) -> tuple[Part, Modality] | None:
    found = read_part(reading, "modality", table, place, name)
    if found is not None:
        found[1].name = name
    return found


def read_part(
    reading: Reading, kind: str, table: Mapping[str, Any], place: Sequence[str], plugin: Any, key: str = "plugin"
) -> tuple[Part, Any] | None:
    """A plugin's offer with its options, and the thing made of them, once; None where it cannot be made.

    Args:
        reading: what is wrong is told to it.
        kind: of the plugin.
        table: the offer's name, and the options of its factory.
        place: where the table is.
        plugin: the offer's name, where the table has none.
        key: under which the table has the name.
    """
    plugin = table.get(key, plugin)
    if not isinstance(plugin, str):
        reading.say(dotted(*place, key), "expected a string, a plugin's name", plugin)
        return None
    factory = reading.factory(kind, plugin, (*place, key) if key in table else place)
    if factory is None:
        for other in table if key not in table else ():
            if near := nearest(other, [key]):
                reading.say(dotted(*place, other), f"there is no such key here{near}", table[other])
        return None
    signature = Constructor.of(factory)
    options = {name: value for name, value in table.items() if name != key}
    problems = signature.check(options, place, f"{kind} {plugin!r}")
    reading.problems += problems
    wrong = {p.key for p in problems}
    sound = {name: value for name, value in options.items() if dotted(*place, name) not in wrong}
    if not all(name in sound or name in signature.defaults for name in signature.options):
        return None
    try:
        how, made = reading.registry.make(kind, plugin, files.json_copy(sound))
    except MmcoreError as error:
        named = (*place, key) if key in table else place
        reading.refused(error, place, options, signature.options, named=named)
        return None
    if problems:
        return None
    try:
        by_data = _tried(made) if isinstance(made, Modality) else {}
    except Exception as error:  # a plugin's own code
        reading.say(dotted(*place), f"cannot be used: {brief(error)}; expected a {kind} that passes 'mmcore check'")
        return None
    defaults = {
        name: value
        for name, value in files.json_copy(signature.plain_defaults()).items()
        # What data say is left open, to be measured.
        if name not in by_data and fits(value, signature.options[name])
    }
    full = defaults | files.json_copy(sound)
    if hasattr(made, "made"):
        # Every default is stated, so that it is made again alike when a default changes.
        made.made = Made(how.kind, how.offer, how.distribution, how.version, files.json_copy(full))
    return Part(plugin, full), made


def _tried(modality: Modality) -> Mapping[str, Any]:
    """What a run asks of a modality at its end, asked now: samples are shown; and the options that its data will say."""
    samples = modality.typical(8, seed=0)
    shown = modality.show(samples[0])
    if not isinstance(shown, str) and not hasattr(shown, "convert"):
        raise TypeError(f"its show gives a {type(shown).__name__}, expected a PIL image or a text")
    try:
        return modality.measured(samples)
    except RequestError:  # of data, which these eight samples are not: a run whose data passed must open again
        return {}


def read_tasks(reading: Reading, modalities: Mapping[str, Modality]) -> tuple[dict[str, TaskPart], dict[str, Task]]:
    """Each modality's recovery, with what the file changes, adds and leaves out."""
    names = list(reading.table("modalities"))
    parts: dict[str, TaskPart] = {}
    tasks: dict[str, Task] = {}
    for name, value in ({name: {} for name in names} | reading.named("tasks")).items():
        if value is False and name in names:
            continue
        found = _read_task(reading, name, value, names)
        if found is None:
            continue
        parts[name], target = found
        # A modality that has a problem of its own has no task to check.
        if not isinstance(target, str) or target in modalities:
            tasks[name] = Task(name, target, weight=parts[name].weight)
    if names and not any(isinstance(part.target, str) for part in parts.values()) and not reading.problems:
        reading.say("tasks", "no task recovers a modality, so there is nothing to generate; leave one in")
    return parts, tasks


def _read_task(reading: Reading, name: str, value: Any, names: Sequence[str]) -> tuple[TaskPart, str | Modality] | None:
    """A task as the configuration keeps it, and its target: a modality's name, or one that is predicted and never encoded."""
    place = ("tasks", name)
    if not isinstance(value, Mapping):
        mend = "; false leaves out a modality's recovery" if name in names else ""
        reading.say(dotted(*place), f"expected a table, [{dotted(*place)}]{mend}", value)
        return None
    if isinstance(value.get("plugin"), str):
        # The likely mistake: a task is written as a modality is. Its other keys are then the plugin's.
        mend = (
            f"[{dotted('modalities', name)}] says which plugin the modality is of"
            if name in names
            else f"what it predicts is its target, [{dotted(*place, 'target')}] with this plugin and its options"
        )
        reading.say(dotted(*place, "plugin"), f"a task has none: {mend}", value["plugin"])
        return None
    table = {"target": name, **value} if name in names else dict(value)
    # A target's own table is checked by the plugin that it names.
    flat = table | ({"target": ""} if isinstance(table.get("target"), Mapping) else {})
    problems = Constructor.of(TaskPart).check(flat, place, f"task {name!r}")
    target = table.get("target")
    made: Any = target
    if isinstance(target, str) and target not in names:
        text = f"expected one of {', '.join(names)}, or a table with a plugin{nearest(target, names)}"
        problems.append(Problem(dotted(*place, "target"), text, target))
    if isinstance(target, Mapping):
        found = _read_modality(reading, target, (*place, "target"), name)
        if found is None:
            reading.problems += problems
            return None
        table["target"], made = found
        if name in names:
            text = f"its target would be called {name!r}, as the modality; rename the task"
            problems.append(Problem(dotted(*place), text))
    part = fill(TaskPart, table, place, problems)
    reading.problems += problems
    return None if part is None else (part, made)
