"""Plugin code is run here, and nothing that it does but Ctrl-C gets past."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mmcore import hooks
from mmcore.errors import PluginError
from mmcore.hooks import MARK, PROJECT, Offer
from mmcore.plugins.metadata import HOOKS, Entry, Fault, canonical, one_line, pip, unmet

if TYPE_CHECKING:
    import pluggy


@contextlib.contextmanager
def blamed(what: str, spared: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever the plugin raises, ``SystemExit`` too, into a :class:`PluginError`; ``KeyboardInterrupt`` is the user's."""
    try:
        yield
    except (KeyboardInterrupt, *spared):
        raise
    except BaseException as error:
        raise PluginError(f"{what} gave {brief(error)}") from error


def offers(entry: Entry) -> dict[str, list[Offer]]:
    """What the hooks of the entry's module offer, by kind.

    Every module has a plugin manager of its own, so nothing is left of one that fails halfway.

    Raises:
        PluginError: the import, a hook, or what a hook returned is wrong.
    """
    with blamed(f"importing {entry.module}"):
        module = importlib.import_module(entry.module)
        if version_in_use(module, entry) != entry.version:
            del sys.modules[entry.module]
            module = importlib.import_module(entry.module)
            version_in_use(module, entry)
    with blamed(f"the hooks of {entry.module}"):
        manager = _hooked(module, entry.module)
    found = {}
    for kind, hook in HOOKS.items():
        with blamed(f"the hook {hook} of {entry.module}"):
            found[kind] = [offer for some in getattr(manager.hook, hook)() for offer in some]
        for offer in found[kind]:
            _check_offer(offer, f"the hook {hook} of {entry.module}")
    return found


def _hooked(module: ModuleType, name: str) -> "pluggy.PluginManager":
    """A manager of the hooks that has this module for its only plugin."""
    import pluggy

    specification = pluggy.HookspecMarker(PROJECT)
    for hook in HOOKS.values():
        specification(getattr(hooks, hook))
    implementation = pluggy.HookimplMarker(PROJECT)
    for thing in vars(module).values():
        if isinstance(thing, FunctionType) and MARK in vars(thing):
            implementation(thing)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hooks)
    manager.register(module, name)
    manager.check_pending()
    return manager


def factory(entry: Entry, offer: Offer) -> tuple[Any, str]:
    """The factory that an offer names, and the version of the distribution whose code it is.

    Raises:
        PluginError: its import fails, or there is no such thing in the module.
    """
    module, _, attribute = offer.factory.partition(":")
    with blamed(f"importing its factory {offer.factory}"):
        code = importlib.import_module(module)
        thing = code
        for part in attribute.split("."):
            thing = getattr(thing, part)
        if not callable(thing):
            raise TypeError(f"{type(thing).__name__} is not callable")
        return thing, version_in_use(code, entry)


def version_in_use(module: ModuleType, entry: Entry) -> str:
    """The version whose code ``module`` is: what was imported before an upgrade stays as it was.

    It is noted on the module itself, at its first use.
    """
    return vars(module).setdefault("__mmcore_versions__", {}).setdefault(canonical(entry.distribution), entry.version)


def broken(entry: Entry, problem: str, cause: BaseException | None = None) -> Fault:
    """The fault of a plugin whose code fails, with what to do about it."""
    if entry.registered:
        return Fault("broken", problem, f"mend what register({entry.kind!r}, {entry.name!r}, …) was given", cause)
    lacking = unmet(entry.distribution)
    if lacking:
        mend = pip("install", *lacking)
    elif isinstance(cause, ModuleNotFoundError) and cause.name:
        missing = cause.name.partition(".")[0]
        if missing in (entry.module.partition(".")[0], PROJECT):
            mend = pip("install", "--force-reinstall", "--no-deps", entry.distribution)
        else:
            mend = pip("install", missing)
    else:
        import shlex

        blocks = f"mmcore --no-plugin {shlex.quote(entry.full_name)}"
        mend = f"{pip('install', '--upgrade', entry.distribution)}, or tell its author and block it: {blocks}"
    return Fault("broken", problem, mend, cause)


def brief(error: BaseException) -> str:
    """The error's type and message on one line of bounded length."""
    try:
        text = one_line(str(error))
    except Exception:
        text = ""
    name = type(error).__name__
    return f"{name}: {text if len(text) <= 300 else text[:300] + ' …'}" if text else name


def tell(line: str) -> None:
    """Say it on stderr, once in this process."""
    if line not in _told and sys.stderr is not None:
        _told.add(line)
        print(f"mmcore: {one_line(line)}", file=sys.stderr)


_told: set[str] = set()


def _check_offer(offer: object, plugin: str) -> None:
    if not isinstance(offer, Offer):
        raise PluginError(
            f"{plugin} offers a {type(offer).__name__}, expected mmcore.Offer(name, 'package.module:callable')"
        )
    parts = offer.factory.split(":") if isinstance(offer.factory, str) else []
    if not isinstance(offer.name, str) or len(parts) != 2 or not all(parts):
        raise PluginError(
            f"{plugin} offers name {_quoted(offer.name)} with factory {_quoted(offer.factory)}, "
            "expected two strings, the second like 'package.module:callable'"
        )
    if not isinstance(offer.summary, str):
        raise PluginError(f"{plugin} offers {offer.name!r} with summary {_quoted(offer.summary)}, expected a string")


def _quoted(value: object) -> str:
    """A string in quotes, or the type of anything else: a plugin's ``repr`` may fail."""
    return repr(value) if isinstance(value, str) else type(value).__name__
