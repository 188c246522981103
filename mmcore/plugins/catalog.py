"""The catalog: what is installed or was registered, found by name; a plugin's code runs when it is asked for."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

from mmcore.errors import PluginError, RequestError, plainly
from mmcore.hooks import DISTRIBUTION, REGISTERED, Offer
from mmcore.plugins import builtin, loading
from mmcore.plugins.metadata import API, HOOKS, NAME, RESERVED, Entry, Fault, canonical, pip
from mmcore.plugins.products import is_product, unfinished

FIRST_PARTY = {
    "backbone.diffusers-dit": "mmcore-diffusers",
    "backbone.diffusers-unet": "mmcore-diffusers",
    "embedder.clip": "mmcore-clip",
    "embedder.latent": "mmcore-diffusers",
    "modality.audio": "mmcore-audio",
    "modality.clip": "mmcore-clip",
    "modality.depth": "mmcore-depth",
    "modality.image": "mmcore-image",
    "modality.label": "mmcore-label",
    "modality.latent": "mmcore-diffusers",
    "modality.mask": "mmcore-mask",
    "modality.scalar": "mmcore-scalar",
    "modality.text": "mmcore-text",
}
"""The project's own plugins, by their entry points: the only names that an error may advise to install unseen."""


class Catalog:
    """What there is, by kind and name, and its code when it is asked for.

    Args:
        entries: what the metadata of installed distributions says.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._modules: dict[tuple[str, str], dict[str, list[Offer]] | PluginError] = {}
        self._asked: dict[Entry, Offer | Fault] = {}
        self._factories: dict[Entry, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        names: dict[str, list[str]] = {}
        for entry in self.entries:
            if not entry.blocked and not entry.fault:
                names.setdefault(entry.kind, []).append(entry.name)
        told = [f"{kind} {', '.join(sorted(set(found)))}" for kind, found in sorted(names.items())]
        return plainly(f"<{type(self).__name__}: {'; '.join(told) or 'nothing'}>", 2000)

    def register(self, kind: str, name: str, factory: Callable[..., Any], *, summary: str = "") -> None:
        """Offer something in this process, as an installed plugin would.

        Whatever is given this registry then finds it by its name: :func:`mmcore.compose`, a configuration, ``registry.make``. What is
        made of it says so (:attr:`mmcore.hooks.Made.registered`), since a saved model can be made again only where it is registered again.

        Args:
            kind: such as ``"backbone"``; :mod:`mmcore.hooks` has all, what their factories are given and must return.
            name: what it is asked for by.
            factory: a class or a function that makes one; it is called with keywords.
            summary: one sentence for whoever lists what there is.

        Raises:
            RequestError: an unknown kind, a name that is taken or no name, or a factory that cannot make anything.
        """
        if kind not in HOOKS:
            raise RequestError(f"register: kind {kind!r}, expected one of {', '.join(HOOKS)}{_nearest(kind, HOOKS)}")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise RequestError(f"register: {kind} {name!r}, expected a name of letters, digits, '.', '_' and '-'")
        what = f"register: {kind} {name!r}"
        if name in RESERVED.get(kind, ()):
            raise RequestError(f"{what} stands for mmcore's own choice; choose another name")
        for entry in self._usable(kind, name):
            if entry.registered:
                raise RequestError(f"{what} is registered already; choose another name")
            own = canonical(entry.distribution) == DISTRIBUTION
            mend = "" if own else f", or discover(without=[{entry.full_name!r}])"
            raise RequestError(f"{what} is offered by {entry.distribution} {entry.version}; choose another name{mend}")
        if not callable(factory) or is_product(kind, factory):
            found = f"the factory is an object, a {type(factory).__name__}"
            raise RequestError(f"{what}: {found}, expected what makes one: a class or a function")
        if missing := unfinished(factory):
            raise RequestError(f"{what}: the class {factory.__name__} lacks {missing}, without which it cannot be made")
        module = getattr(factory, "__module__", None) or type(factory).__module__
        title = getattr(factory, "__qualname__", type(factory).__qualname__)
        entry = Entry(kind, name, REGISTERED, "", module, API)
        self.entries = (*self.entries, entry)
        self._asked[entry] = Offer(name, f"{module}:{title}", summary)
        self._factories[entry] = factory

    def find(self, kind: str, name: str) -> Entry:
        """The entry that a name stands for; of several the core's own, whose names nobody else can take away.

        Raises:
            RequestError: none, a blocked one, or several distributions' offers of one name.
            PluginError: its metadata alone shows that it cannot be used.
        """
        usable = self._usable(kind, name)
        own = [entry for entry in usable if canonical(entry.distribution) == DISTRIBUTION]
        if len(usable) == 1 or len(own) == 1:
            return (own or usable)[0]
        if usable:
            choices = " or ".join(e.full_name for e in usable)
            raise RequestError(f"{kind} {name!r} is offered by {len(usable)} distributions; name one: {choices}")
        # A faulty entry may not even have its kind right.
        found = [
            e for e in self.entries if e.answers_to(name) and (e.kind == kind or (e.fault and e.kind not in HOOKS))
        ]
        for entry in found:
            if entry.fault and not entry.blocked:
                raise failure(entry, entry.fault)
        if found:
            raise RequestError(
                f"{kind} {name!r} ({found[0].distribution}) is blocked; "
                "allow it in MMCORE_PLUGINS or drop the option that blocks it"
            )
        known = sorted({e.name for e in self.entries if e.kind == kind and not e.blocked and not e.fault})
        expected = f"expected one of {', '.join(known)}" if known else "there is none yet"
        raise RequestError(
            f"no {kind} {name!r} is installed; {expected}{_nearest(name, known)} ({_origin(kind, name)})"
        )

    def offer(self, entry: Entry) -> Offer:
        """What the plugin's own hook offers under the entry's name; imports the plugin's entry module.

        Raises:
            PluginError: the plugin is broken or incompatible; its own failure, if any, is the cause.
        """
        if entry.fault:
            raise failure(entry, entry.fault)
        if entry not in self._asked:
            try:
                self._asked[entry] = self._offered(entry)
            except PluginError as error:
                self._asked[entry] = loading.broken(entry, str(error), error.__cause__)
        asked = self._asked[entry]
        if isinstance(asked, Fault):
            raise failure(entry, asked)
        return asked

    def factory(self, entry: Entry) -> tuple[Callable[..., Any], str]:
        """The factory of an entry's offer, imported, and the version of the distribution whose code it is.

        Raises:
            PluginError: the plugin is broken or incompatible; its own failure, if any, is the cause.
        """
        if entry in self._factories:
            return self._factories[entry], entry.version
        offer = self.offer(entry)
        try:
            factory, version = loading.factory(entry, offer)
        except PluginError as error:
            fault = self._asked[entry] = loading.broken(entry, str(error), error.__cause__)
            raise failure(entry, fault) from fault.cause
        if version != entry.version:
            loading.tell(
                f"{entry.distribution} {version} was imported before {entry.version} was installed and is still in use; "
                "restart Python to use the new one"
            )
        return factory, version

    def table(self) -> list[dict[str, str | None]]:
        """One row per entry: kind, name, distribution, version, API, status, summary and error; imports no plugin.

        The status is ``not loaded``, ``ok``, ``broken``, ``incompatible``, ``conflict`` or ``blocked``. The summary is the offer's own
        sentence, so it is None for a plugin that nobody has asked for.
        """
        rivals = collections.Counter((e.kind, e.name) for e in self.entries if not e.blocked and not e.fault)
        own = {(kind, o.name): o.summary for kind, hook in HOOKS.items() for o in getattr(builtin, hook, tuple)()}
        rows = []
        for entry in self.entries:
            fault = None if entry.blocked else self.fault(entry)
            asked = self._asked.get(entry)
            if entry.blocked:
                status = "blocked"
            elif fault:
                status = fault.status
            elif rivals[entry.kind, entry.name] > 1:
                status = "conflict"
            else:
                status = "ok" if asked else "not loaded"
            summary = asked.summary if isinstance(asked, Offer) else None
            if entry.module == builtin.__name__:
                summary = own.get((entry.kind, entry.name))
            rows.append(
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "distribution": entry.distribution,
                    "version": entry.version,
                    "api": entry.api,
                    "status": status,
                    "summary": summary,
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

    def _usable(self, kind: str, name: str) -> list[Entry]:
        # By metadata alone, so that what a name means does not depend on what has been imported.
        return [e for e in self.entries if e.kind == kind and e.answers_to(name) and not e.blocked and not e.fault]

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


def failure(entry: Entry, fault: Fault) -> PluginError:
    """The error of whoever asks for an entry that cannot be used."""
    error = PluginError(f"plugin {entry.full_name} is {fault.status}: {fault.problem}; {fault.mend}")
    error.__cause__ = fault.cause
    return error


def _origin(kind: str, name: str) -> str:
    """Where what is not installed may come from; a package is advised only where its name is the project's own."""
    own = name.rpartition(":")[2].removeprefix(f"{kind}.")
    if not NAME.fullmatch(own):
        return "a name has letters, digits, '.', '_' and '-'; code of one's own is registered under one"
    point = f"{kind}.{own}"
    if point in FIRST_PARTY:
        return pip("install", FIRST_PARTY[point])
    return f"install a plugin with the entry point {point}, or register it"


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
