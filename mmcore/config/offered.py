"""What installed modalities say of a column that the core does not read, or that their own name is on: the core names no plugin."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from mmcore.config.column import Column, Question
from mmcore.hooks import Proposal
from mmcore.plugins import Registry
from mmcore.plugins.catalog import FIRST_PARTY
from mmcore.plugins.metadata import pip

CORE = ("image", "mask", "label", "scalar", "clip")
"""The modalities of which the evidence here is; each of the others speaks for itself."""
SOUNDS = (".wav", ".flac", ".ogg")
"""Files that the project's own plugin of sounds reads; other sounds are to be made these."""
_OTHER_SOUNDS = (".mp3", ".m4a", ".aac", ".opus", ".wma", ".aif", ".aiff")
Propose = Callable[[str, Sequence[Any]], Mapping[str, Proposal]]


def proposals(registry: Registry) -> Propose:
    """What the installed modalities propose for a column, by plugin; one that fails has nothing to say."""
    factories = {}

    def propose(name: str, values: Sequence[Any]) -> Mapping[str, Proposal]:
        found = {}
        for entry in registry.entries:
            if entry.kind != "modality" or entry.name in CORE:
                continue
            try:
                if entry.name not in factories:
                    factories[entry.name] = registry.factory(registry.find("modality", entry.name))[0]
                proposal = factories[entry.name].proposed(name, values)
            except Exception:  # a plugin's own code, whose failure mmcore plugins why tells
                continue
            if isinstance(proposal, Proposal):
                found[entry.name] = proposal
        return found

    return propose


def offered(
    found: Column | Question,
    proposed: Mapping[str, Proposal],
    said: Mapping[str, Any],
    *,
    size: tuple[int, int] | None = None,
    pictures: bool = False,
) -> Column | Question:
    """A column as a modality proposes to read it, where the user or its name says so, or nothing else reads it.

    Args:
        found: what the core takes it for.
        proposed: what modalities propose, by plugin.
        said: what the user says of it.
        size: height and width, of a column of pictures that have one.
        pictures: whether it is one.
    """
    chosen, options = said.get("", ""), {key: value for key, value in said.items() if key and key != "missing"}
    left = isinstance(found, Column) and not found.plugin and not found.closed
    if chosen:
        able = {chosen: proposed[chosen]} if chosen in proposed else {}
    else:
        able = {plugin: one for plugin, one in proposed.items() if one.named or left}
    if len(able) > 1:
        choices = {f"{found.name}={plugin}": one.note for plugin, one in able.items()}
        return Question(found.name, f"{found.name} can be read by {' and '.join(able)}", choices)
    if able:
        ((plugin, one),) = able.items()
        why = "; as you say" if chosen else f"; by the name {found.name}" if one.named else ""
        merged = {**one.options, **options}
        note, numbers = f"{one.note}{why}", (one.numbers, one.codes)
        return Column(found.name, plugin, merged, note, one.change, size, pictures, numbers=numbers)
    if isinstance(found, Column) and found.plugin and not chosen:
        others = tuple(f"--assume {found.name}={plugin}: {one.note}" for plugin, one in proposed.items())
        return attrs.evolve(found, told=(*found.told, *others))
    return found


def advised(found: Column | Question, values: Sequence[Any], installed: Collection[str]) -> Column | Question:
    """The same column with the plugin named that reads such values, where none that is installed does.

    Args:
        found: what it was taken for.
        values: some of it.
        installed: the modalities that there are.
    """
    if isinstance(found, Question) or not values:
        return found
    if found.plugin:
        deep = all(np.asarray(one).ndim >= 2 and np.asarray(one).dtype != np.uint8 for one in values)
        named = not {"depth", "depths", "depthmap"}.isdisjoint(_words(found.name))
        if found.plugin != "image" or not (named and deep) or "depth" in installed:
            return found
        return attrs.evolve(
            found, told=(*found.told, f"as distances, with holes, they are read by {_package('depth')}")
        )
    suffixes = {one.suffix.lower() for one in values if isinstance(one, Path)}
    sounds = bool(suffixes) and suffixes <= {*SOUNDS, *_OTHER_SOUNDS}
    if sounds and len([one for one in values if isinstance(one, Path)]) == len(values):
        files = f"files of {', '.join(sorted(suffixes))}"
        if others := sorted(suffixes.difference(SOUNDS)):
            note = f"{files}; of sounds {', '.join(SOUNDS)} are read, so make {', '.join(others)} one of these"
            return attrs.evolve(found, note=note if "audio" in installed else f"{note}: {_package('audio')}")
        if "audio" not in installed:
            return attrs.evolve(found, note=f"{files}, which are read by {_package('audio')}")
        return attrs.evolve(
            found,
            note=f"{files} that have several rates, or cannot be read; --assume {found.name}=audio with its options, such as rate, reads them",
        )
    if all(isinstance(one, str) for one in values) and "text" not in installed and not found.closed:
        return attrs.evolve(found, note=f"{found.note}; as texts they are read by {_package('text')}")
    return found


def _package(modality: str) -> str:
    package = FIRST_PARTY[f"modality.{modality}"]
    return f"{package} ({pip('install', package)})"


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())
