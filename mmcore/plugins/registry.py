"""The registry: what plugins offer, found by name; a plugin's code runs when it is asked for."""

import collections
import difflib
import importlib
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from mmcore.errors import MmcoreError, OptionError, PluginError, RequestError
from mmcore.hooks import PROJECT, Made, Offer
from mmcore.plugins import loading
from mmcore.plugins.metadata import HOOKS, Entry, Fault, canonical, forgive, installed

if TYPE_CHECKING:
    from mmcore.modality.base import Modality
    from mmcore.process import Schedule

PRODUCTS = {
    "modality": "mmcore.modality.base:Modality",
    "backbone": "torch.nn:Module",
    "schedule": "mmcore.process:Schedule",
}
"""What a factory of each kind must return."""


def discover(
    *, only: Collection[str] | None = None, without: Collection[str] = (), strict: bool | None = None
) -> "Registry":
    """A fresh registry of what is installed now; no plugin is imported.

    A plugin that its metadata alone shows to be unusable is named on stderr, and left out. Where its entry
    points cannot be read at all, they count as none for the rest of this process: torch's import would fail on them.

    Args:
        only: allow these plugins only, by name, ``kind.name``, distribution or ``distribution:name``; by
            default those in the environment variable ``MMCORE_PLUGINS`` (comma-separated; empty: none), else all.
            What mmcore itself offers is always allowed.
        without: block these.
        strict: import every allowed plugin now, and raise if one is broken or incompatible; by default
            whether ``MMCORE_STRICT_PLUGINS`` is set to anything but ``0``.

    Raises:
        PluginError: a plugin is broken or incompatible, and ``strict`` holds.
    """
    if only is None and "MMCORE_PLUGINS" in os.environ:
        only = [name.strip() for name in os.environ["MMCORE_PLUGINS"].split(",") if name.strip()]
    if strict is None:
        strict = os.environ.get("MMCORE_STRICT_PLUGINS", "0") not in ("", "0")

    def shut(entry: Entry) -> bool:
        listed = only is None or any(entry.matches(name) for name in only)
        barred = any(entry.matches(name) for name in without)
        return canonical(entry.distribution) != PROJECT and (barred or not listed)

    registry = Registry([attrs.evolve(entry, blocked=shut(entry)) for entry in installed()])
    if any(entry.fault and entry.fault.spreads for entry in registry.entries):
        forgive()
    if strict:
        for entry in registry.entries:
            if not entry.blocked:
                registry.offer(entry)
    for entry in registry.entries:
        if not entry.blocked:
            registry.tell(entry)
    return registry


class Registry:
    """What plugins offer, by kind and name; made by :func:`discover`.

    Args:
        entries: what the metadata of installed distributions says.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._modules: dict[tuple[str, str], dict[str, list[Offer]] | PluginError] = {}
        self._asked: dict[Entry, Offer | Fault] = {}

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

    def schedule(self, plugin: str, /, *, steps: int = 1000, modalities: int, **options: Any) -> "Schedule":
        """Make a schedule of ``steps`` steps; errors as :meth:`modality`."""
        return self.make("schedule", plugin, {"steps": steps, "modalities": modalities, **options})[1]

    def source(self, plugin: str, /, **options: Any) -> Any:
        """Make a source of rows; errors as :meth:`modality`."""
        return self.make("source", plugin, options)[1]

    def table(self) -> list[dict[str, str | None]]:
        """One row per entry: kind, name, distribution, version, API, status and error; imports nothing.

        The status is ``not loaded``, ``ok``, ``broken``, ``incompatible``, ``conflict`` or ``blocked``.
        """
        rivals = collections.Counter((e.kind, e.name) for e in self.entries if not e.blocked and not e.fault)
        rows = []
        for entry in self.entries:
            fault = None if entry.blocked else self.fault(entry)
            if entry.blocked:
                status = "blocked"
            elif fault:
                status = fault.status
            elif rivals[entry.kind, entry.name] > 1:
                status = "conflict"
            else:
                status = "ok" if entry in self._asked else "not loaded"
            rows.append(
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "distribution": entry.distribution,
                    "version": entry.version,
                    "api": entry.api,
                    "status": status,
                    "error": fault and f"{fault.problem}; {fault.mend}",
                }
            )
        return rows

    def load(self) -> None:
        """Import every plugin that is not blocked; one that fails is named on stderr, and left out."""
        for entry in self.entries:
            if not entry.blocked and not entry.fault:
                try:
                    self.offer(entry)
                except PluginError:
                    self.tell(entry)

    def fault(self, entry: Entry) -> Fault | None:
        """What is known to be wrong with an entry, by its metadata or since it was asked for."""
        asked = self._asked.get(entry)
        return asked if isinstance(asked, Fault) else entry.fault

    def tell(self, entry: Entry, fault: Fault | None = None) -> None:
        """Say on stderr what is wrong with an entry, once in this process; nothing if nothing is known."""
        fault = fault or self.fault(entry)
        if fault:
            what = f"plugin {entry.distribution} {entry.version} is {fault.status} and left out"
            loading.tell(f"{what}: {fault.problem}; {fault.mend}")

    def make(self, kind: str, plugin: str, options: dict[str, Any]) -> tuple[Made, Any]:
        """The thing that ``plugin`` offers, made with ``options``, and how it was made.

        Raises:
            RequestError: no such plugin, or options that it does not take.
            PluginError: the plugin is broken; its failure is the cause.
        """
        entry = self.find(kind, plugin)
        factory, version = self.factory(entry)
        try:
            with loading.blamed(
                f"plugin {entry.full_name}: making {kind} {plugin!r}", spared=(MmcoreError, TypeError, ValueError)
            ):
                thing = factory(**options)
        except OptionError:
            raise
        except (TypeError, ValueError) as error:
            # What imports nothing of mmcore can tell of an option by attributes of the same names.
            if all(hasattr(error, name) for name in ("option", "value", "expected")):
                raise OptionError(plugin, error.option, error.value, error.expected) from error  # type: ignore[union-attr]
            raise RequestError(f"{kind} {plugin!r} with options {options}: {error}") from error
        self._check_product(entry, thing)
        made = Made(kind, entry.name, entry.distribution, version, options)
        if hasattr(thing, "made"):
            thing.made = made
        return made, thing

    def find(self, kind: str, plugin: str) -> Entry:
        """The entry that ``plugin`` names.

        Raises:
            RequestError: none, a blocked one, or several distributions' offers of one name.
            PluginError: its metadata alone shows that it cannot be used.
        """
        usable = self._usable(kind, plugin)
        if len(usable) == 1:
            return usable[0]
        if usable:
            choices = " or ".join(e.full_name for e in usable)
            raise RequestError(f"{kind} {plugin!r} is offered by {len(usable)} distributions; name one: {choices}")
        # A faulty entry may not even have its kind right.
        found = [
            e for e in self.entries if e.answers_to(plugin) and (e.kind == kind or (e.fault and e.kind not in HOOKS))
        ]
        for entry in found:
            if entry.fault and not entry.blocked:
                raise self._error(entry, entry.fault)
        if found:
            raise RequestError(
                f"{kind} {plugin!r} ({found[0].distribution}) is blocked; "
                "allow it in MMCORE_PLUGINS or drop the option that blocks it"
            )
        known = sorted({e.name for e in self.entries if e.kind == kind and not e.blocked and not e.fault})
        near = difflib.get_close_matches(plugin, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RequestError(
            f"no {kind} {plugin!r} is installed; there are {', '.join(known) or 'none'}{hint} "
            f"(pip install mmcore-{plugin.rpartition(':')[2]} if such a plugin exists)"
        )

    def offer(self, entry: Entry) -> Offer:
        """What the plugin's own hook offers under the entry's name; imports the plugin's entry module.

        Raises:
            PluginError: the plugin is broken or incompatible; its own failure, if any, is the cause.
        """
        if entry.fault:
            raise self._error(entry, entry.fault)
        if entry not in self._asked:
            try:
                self._asked[entry] = self._offered(entry)
            except PluginError as error:
                self._asked[entry] = loading.broken(entry, str(error), error.__cause__)
        asked = self._asked[entry]
        if isinstance(asked, Fault):
            raise self._error(entry, asked)
        return asked

    def factory(self, entry: Entry) -> tuple[Any, str]:
        """The factory of an entry's offer, imported, and the version of the distribution whose code it is.

        Raises:
            PluginError: the plugin is broken or incompatible; its own failure, if any, is the cause.
        """
        offer = self.offer(entry)
        try:
            factory, version = loading.factory(entry, offer)
        except PluginError as error:
            fault = self._asked[entry] = loading.broken(entry, str(error), error.__cause__)
            raise self._error(entry, fault) from fault.cause
        if version != entry.version:
            loading.tell(
                f"{entry.distribution} {version} was imported before {entry.version} was installed and is still in use; "
                "restart Python to use the new one"
            )
        return factory, version

    def _usable(self, kind: str, plugin: str) -> list[Entry]:
        # By metadata alone, so that what a name means does not depend on what has been imported.
        return [e for e in self.entries if e.kind == kind and e.answers_to(plugin) and not e.blocked and not e.fault]

    def _offered(self, entry: Entry) -> Offer:
        key = (entry.distribution, entry.module)
        if key not in self._modules:
            try:
                self._modules[key] = loading.offers(entry)
            except PluginError as error:
                self._modules[key] = error
        offers = self._modules[key]
        if isinstance(offers, PluginError):
            raise PluginError(str(offers)) from offers.__cause__
        named = [offer for offer in offers[entry.kind] if offer.name == entry.name]
        if len(named) != 1:
            raise PluginError(
                f"its entry point {entry.kind}.{entry.name} names {entry.module}, whose {HOOKS[entry.kind]} offers "
                f"{[o.name for o in offers[entry.kind]]}; expected {entry.name!r} once"
            )
        return named[0]

    def _check_product(self, entry: Entry, thing: object) -> None:
        if entry.kind in PRODUCTS:
            module, _, name = PRODUCTS[entry.kind].partition(":")
            if not isinstance(thing, getattr(importlib.import_module(module), name)):
                error = PluginError(f"its factory made a {type(thing).__name__}, expected a {module}.{name}")
                raise self._error(entry, loading.broken(entry, str(error), error.__cause__))

    def _error(self, entry: Entry, fault: Fault) -> PluginError:
        error = PluginError(f"plugin {entry.full_name} is {fault.status}: {fault.problem}; {fault.mend}")
        error.__cause__ = fault.cause
        return error
