"""Discovery: what installed distributions offer, read from metadata, imported on first use.

A distribution offers things by entry points in the group ``mmcore.v1``, named ``kind.name``,
whose value is a torch-free module with hook implementations. :func:`discover` reads only
metadata, so a broken plugin costs nothing until it is asked for, and then it alone fails.
"""

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from mmcore import hookspecs
from mmcore.errors import PluginError, RequestError
from mmcore.hookspecs import PROJECT, Offer

if TYPE_CHECKING:
    from mmcore.modality import Modality, Task
    from mmcore.process import Schedule

GROUP = "mmcore.v1"
HOOKS = {
    "modality": "mmcore_modalities",
    "task": "mmcore_tasks",
    "backbone": "mmcore_backbones",
    "schedule": "mmcore_schedules",
    "source": "mmcore_sources",
}
"""The hook that a kind of offer comes from."""


@attrs.frozen
class Entry:
    """One entry point of the group, as metadata tells it.

    Attributes:
        kind: ``modality``, ``task``, ``backbone``, ``schedule`` or ``source``.
        name: what it is asked for by.
        distribution: the distribution it comes with.
        version: that distribution's version.
        module: the module with the hook implementations.
        blocked: whether the caller or ``MMCORE_PLUGINS`` has shut it out.
    """

    kind: str
    name: str
    distribution: str
    version: str
    module: str
    blocked: bool = False

    @property
    def full_name(self) -> str:
        """``distribution:name``, which picks one of several offers of a name."""
        return f"{self.distribution}:{self.name}"


@attrs.frozen
class Made:
    """How a registry made a thing: what a saved model needs to make it again."""

    kind: str
    offer: str
    distribution: str
    version: str
    options: dict[str, Any]


def discover(*, only: Collection[str] | None = None, without: Collection[str] = ()) -> "Registry":
    """A fresh registry of what is installed; no plugin is imported.

    Args:
        only: allow these plugins only, by name, ``kind.name`` or distribution; by default those in the
            environment variable ``MMCORE_PLUGINS`` (comma-separated; empty: none), else all.
            What mmcore itself offers is always allowed.
        without: block these.
    """
    if only is None and "MMCORE_PLUGINS" in os.environ:
        only = [name.strip() for name in os.environ["MMCORE_PLUGINS"].split(",") if name.strip()]
    entries: dict[Entry, None] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        kind, _, name = point.name.partition(".")
        distribution = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else "unknown"
        names = {name, point.name, distribution, f"{distribution}:{name}"}
        shut = distribution != PROJECT and (
            (only is not None and names.isdisjoint(only)) or not names.isdisjoint(without)
        )
        entries[Entry(kind, name, distribution, version, point.value, shut)] = None
    return Registry(sorted(entries, key=lambda e: (e.kind, e.name, e.distribution)))


class Registry:
    """What plugins offer, by kind and name; made by :func:`discover`.

    Args:
        entries: what the metadata of installed distributions says.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)

    def modality(self, plugin: str, /, *, name: str | None = None, **options: Any) -> "Modality":
        """Make a modality.

        Args:
            plugin: the offer's name, or ``distribution:name``.
            name: what to call it in a composition; the offer's name by default.
            options: the plugin's own.

        Raises:
            RequestError: no such plugin, or options that it does not take.
            PluginError: the plugin is broken; its failure is the cause.
        """
        made, modality = self.make("modality", plugin, options)
        modality.name = name or made.offer
        return modality

    def task(self, plugin: str, /, **options: Any) -> "Task":
        """Make a task; arguments and errors as :meth:`modality`."""
        return self.make("task", plugin, options)[1]

    def schedule(self, plugin: str, /, *, steps: int = 1000, modalities: int, **options: Any) -> "Schedule":
        """Make a schedule of ``steps`` steps; errors as :meth:`modality`."""
        return self.make("schedule", plugin, {"steps": steps, "modalities": modalities, **options})[1]

    def source(self, plugin: str, /, **options: Any) -> Any:
        """Make a source of rows; errors as :meth:`modality`."""
        return self.make("source", plugin, options)[1]

    def table(self) -> list[dict[str, str]]:
        """One row per entry: kind, name, distribution, version, API and status; from metadata alone."""
        rows = []
        for entry in self.entries:
            rivals = [e for e in self.entries if (e.kind, e.name) == (entry.kind, entry.name) and not e.blocked]
            status = "blocked" if entry.blocked else "conflict" if len(rivals) > 1 else "not loaded"
            rows.append(
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "distribution": entry.distribution,
                    "version": entry.version,
                    "api": GROUP.rpartition(".")[2],
                    "status": status,
                }
            )
        return rows

    def make(self, kind: str, plugin: str, options: dict[str, Any]) -> tuple[Made, Any]:
        """The thing that ``plugin`` offers, made with ``options``, and how it was made."""
        entry = self.find(kind, plugin)
        factory = self._factory(entry)
        try:
            thing = factory(**options)
        except (TypeError, ValueError) as error:
            raise RequestError(f"{kind} {plugin!r} with options {options}: {error}") from error
        made = Made(kind, entry.name, entry.distribution, entry.version, options)
        if hasattr(thing, "made"):
            thing.made = made
        return made, thing

    def find(self, kind: str, plugin: str) -> Entry:
        """The entry that ``plugin`` names.

        Raises:
            RequestError: none, a blocked one, or several distributions' offers of one name.
        """
        found = [e for e in self.entries if e.kind == kind and plugin in (e.name, e.full_name)]
        allowed = [e for e in found if not e.blocked]
        if len(allowed) == 1:
            return allowed[0]
        if allowed:
            choices = " or ".join(e.full_name for e in allowed)
            raise RequestError(f"{kind} {plugin!r} is offered by {len(allowed)} distributions; name one: {choices}")
        if found:
            raise RequestError(
                f"{kind} {plugin!r} ({found[0].distribution}) is blocked; "
                "allow it in MMCORE_PLUGINS or drop the option that blocks it"
            )
        known = sorted({e.name for e in self.entries if e.kind == kind and not e.blocked})
        near = difflib.get_close_matches(plugin, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RequestError(
            f"no {kind} {plugin!r} is installed; there are {', '.join(known) or 'none'}{hint} "
            f"(pip install mmcore-{plugin.rpartition(':')[2]} if such a plugin exists)"
        )

    def offer(self, entry: Entry) -> Offer:
        """What the plugin's own hook offers under the entry's name; imports the plugin's entry module."""
        module = self._load(entry)
        if entry.kind not in HOOKS:
            raise PluginError(f"{entry.full_name}: kind {entry.kind!r} is none of {', '.join(HOOKS)}")
        caller = getattr(self._manager.hook, HOOKS[entry.kind])
        implementations = [i for i in caller.get_hookimpls() if i.plugin is module]
        try:
            offers = [offer for i in implementations for offer in i.function()]
        except Exception as error:
            raise PluginError(f"{entry.distribution}: its hook {HOOKS[entry.kind]} failed: {error!r}") from error
        named = [offer for offer in offers if isinstance(offer, Offer) and offer.name == entry.name]
        if len(named) != 1:
            raise PluginError(
                f"{entry.distribution}: entry point {entry.kind}.{entry.name} names {entry.module}, whose "
                f"{HOOKS[entry.kind]} offers {[getattr(o, 'name', o) for o in offers]}; expected one Offer({entry.name!r}, …)"
            )
        return named[0]

    def _load(self, entry: Entry) -> ModuleType:
        """The plugin's entry module, imported and registered with pluggy."""
        known = self._manager.get_plugin(f"{entry.distribution}:{entry.module}")
        if known is not None:
            return known
        try:
            module = importlib.import_module(entry.module)
            if not self._manager.is_registered(module):
                self._manager.register(module, f"{entry.distribution}:{entry.module}")
                self._manager.check_pending()
        # SystemExit too: a plugin's import must not end the program.
        except (Exception, SystemExit) as error:
            module = sys.modules.get(entry.module)
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            raise PluginError(f"plugin {entry.full_name} is broken: importing {entry.module} gave {error!r}") from error
        return module

    def _factory(self, entry: Entry) -> Any:
        path = self.offer(entry).factory
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise PluginError(f"plugin {entry.full_name} is broken: its factory {path!r} gave {error!r}") from error
