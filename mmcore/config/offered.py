"""What installed modalities say of a column that the core does not read, or that their own name is on: the core names no plugin."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from mmcore.config.evidence import Column, Question
from mmcore.hooks import Proposal
from mmcore.plugins import Registry

CORE = ("image", "mask", "label", "scalar", "clip")
"""The modalities of which the evidence here is; each of the others speaks for itself."""
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
    left = isinstance(found, Column) and not found.plugin
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
