"""The registry: what plugins offer, made by name."""

import copy
import math
import os
from collections.abc import Collection
from numbers import Real
from typing import TYPE_CHECKING, Any

from mmcore.errors import MmcoreError, OptionError, RequestError
from mmcore.hooks import DISTRIBUTION, Made
from mmcore.limits import TIMESTEPS
from mmcore.plugins import loading
from mmcore.plugins.catalog import Catalog, failure
from mmcore.plugins.metadata import Entry, canonical, forgive, installed
from mmcore.plugins.products import misfit, unfinished

if TYPE_CHECKING:
    import torch

    from mmcore.modality.base import Modality
    from mmcore.process import Schedule


_SAVED = ("modality", "schedule", "backbone")
"""Kinds whose options a model folder holds."""


def _plain(value: Any) -> Any:
    """An option as a file holds it: numpy's numbers and arrays as Python's own, in a list or tuple too; anything else as it is."""
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {key: _plain(one) for key, one in value.items()}
    if type(value).__module__ != "numpy" or not hasattr(value, "tolist"):
        return value
    found = value.tolist()
    return float(found) if type(found).__module__ == "numpy" else found


def discover(
    *, only: Collection[str] | None = None, without: Collection[str] = (), strict: bool | None = None
) -> "Registry":
    """Find the installed plugins: a fresh registry of them; none is imported.

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
        return canonical(entry.distribution) != DISTRIBUTION and (barred or not listed)

    registry = Registry([entry._replace(blocked=True) if shut(entry) else entry for entry in installed()])
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


class Registry(Catalog):
    """What plugins offer, made by kind and name: :func:`discover` finds what is installed, :meth:`register` adds to it in this process.

    Args:
        entries: what the metadata of installed distributions says.
    """

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
        """Make a noise schedule of ``steps`` steps; errors as :meth:`modality`."""
        return self.make("schedule", plugin, {"steps": steps, "modalities": modalities, **options})[1]

    def backbone(self, plugin: str, /, **options: Any) -> "torch.nn.Module":
        """Make a network, with what :func:`mmcore.hooks.mmcore_backbones` says the engine gives; errors as :meth:`modality`.

        :func:`mmcore.compose` makes it by its name, and such a model is saved with no more ado.
        """
        return self.make("backbone", plugin, options)[1]

    def source(self, plugin: str, /, **options: Any) -> Any:
        """Make a source of rows; errors as :meth:`modality`."""
        return self.make("source", plugin, options)[1]

    def embedder(self, plugin: str, /, **options: Any) -> Any:
        """Make an embedder (:class:`mmcore.data.embed.Embedder`); errors as :meth:`modality`."""
        return self.make("embedder", plugin, options)[1]

    def sampler(self, plugin: str, /, **options: Any) -> Any:
        """Make a sampler (:class:`mmcore.sampling.Sampler`); errors as :meth:`modality`."""
        return self.make("sampler", plugin, options)[1]

    def guidance(self, plugin: str, /, **options: Any) -> Any:
        """Make a guidance (:class:`mmcore.sampling.Guidance`).

        Raises:
            OptionError: one of the ``scales`` is no finite number; else as :meth:`modality`.
        """
        for name, scale in dict(options.get("scales") or {}).items():
            if not isinstance(scale, Real) or isinstance(scale, bool) or not math.isfinite(scale):
                raise OptionError("sample", f"guidance.{name}", scale, "a finite number")
        return self.make("guidance", plugin, options)[1]

    def transform(self, plugin: str, /, **options: Any) -> Any:
        """Make a transform of raw values (:class:`mmcore.data.Transform`); errors as :meth:`modality`."""
        return self.make("transform", plugin, options)[1]

    def tracker(self, plugin: str, /, **options: Any) -> Any:
        """Make a tracker of a run (:class:`mmcore.training.Tracker`); errors as :meth:`modality`."""
        return self.make("tracker", plugin, options)[1]

    def make(self, kind: str, plugin: str, options: dict[str, Any]) -> tuple[Made, Any]:
        """The thing that ``plugin`` offers, made with ``options``, and how it was made.

        Raises:
            RequestError: no such plugin, or options that it does not take.
            PluginError: the plugin is broken; its failure is the cause.
        """
        entry = self.find(kind, plugin)
        # What is registered in this process has what its maker is given.
        if kind in _SAVED and not entry.registered:
            options = {name: _plain(value) for name, value in options.items()}
        if kind == "schedule" and isinstance(steps := options.get("steps"), int):
            TIMESTEPS.check(plugin, "steps", steps, steps)
        factory, version = self.factory(entry)
        if missing := unfinished(factory):
            problem = f"its factory, the class {factory.__name__}, lacks {missing}"
            raise failure(entry, loading.broken(entry, problem))
        what = f"plugin {entry.full_name}: making {kind} {plugin!r}"
        try:
            with loading.blamed(what, spared=(MmcoreError, TypeError, ValueError)):
                thing = factory(**options)
        except OptionError:
            raise
        except (TypeError, ValueError) as error:
            # What imports nothing of mmcore can tell of an option by attributes of the same names.
            if all(hasattr(error, name) for name in ("option", "value", "expected")):
                raise OptionError(plugin, error.option, error.value, error.expected) from error  # type: ignore[union-attr]
            if isinstance(error, RequestError):
                raise  # a whole line, which names the thing
            raise RequestError(f"{kind} {plugin!r} with options {options}: {error}") from error
        with loading.blamed(what):
            problem = misfit(kind, thing)
        if problem:
            raise failure(entry, loading.broken(entry, f"its factory made {problem}"))
        made = Made(kind, entry.name, entry.distribution, version, options)
        if hasattr(thing, "made"):
            if thing.made is not None:
                # A factory that keeps what it made gives it again, and somebody has it under the name that it has.
                thing = copy.copy(thing)
            thing.made = made
        return made, thing
