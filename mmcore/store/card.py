"""A model's card: what it is of, what it needs, and how it is asked; the README of its folder, and of its repository on a hub."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmcore.model.joint import JointModel
from mmcore.plugins.metadata import one_line, pip
from mmcore.store.parts import by_hand

TASK = "any-to-any"
"""What model hubs call it."""


def card(
    model: JointModel,
    config: Mapping[str, Any],
    where: str,
    *,
    title: str = "A joint diffusion model",
    licence: str | None = None,
    opens: str = "load",
    parts: Iterable[str] = (),
) -> str:
    """The card.

    Args:
        model: in hand.
        config: its ``config.json``.
        where: its folder or its name on a hub, as the lines of Python have it.
        title: the heading.
        licence: as hubs write it; None for one that nobody has chosen, which is not guessed.
        opens: how it is opened, of :mod:`mmcore`.
        parts: further sections.
    """
    names = [m.name for m in model.variables]
    head = ["library_name: mmcore", f"pipeline_tag: {TASK}", "tags: [joint-diffusion]"]
    head += [f"license: {licence}"] if licence else []
    count = sum(p.numel() for p in model.parameters())
    by = [f"{m.made.distribution} {m.made.version}" if m.made else "hand" for m in model.variables]
    shapes = [str(tuple(m.spec.shape)) for m in model.variables]
    sections = [
        "\n".join(["---", *head, "---"]),
        f"# {plain(title)}",
        table(("variable", "shape", "offered by"), zip(names, shapes, by, strict=True)),
        f"{count:,} parameters, space {model.space.shape}, schedule {model.process.schedule.name}.",
    ]
    if asked := specialised(model):
        sections.append(f"Trained last on one question alone: {asked}. Answers to others are not what they were.")
    if model.grown is not None:
        sections.append(model.grown.line())
    again = by_hand(dict(config))
    if again:
        sections.append(f"Objects that no file holds are given again: `load(folder, {again})`.")
    more = f", {again}" if again else ""
    sections.append(f'```python\nimport mmcore\n\nmmcore.sample(mmcore.{opens}("{where}"{more}), 64)\n```')
    return "\n\n".join([*sections, *parts]) + "\n"


def installs(config: Mapping[str, Any]) -> str:
    """The line that installs the very distributions that a model was made with."""
    return pip("install", *(f"{name}=={version}" for name, version in config["distributions"].items()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(plain, row))} |" for row in rows)])


def plain(text: str) -> str:
    """A text on one line that is no markup: neither HTML nor a link, nor another column."""
    shown = one_line(text)
    for sign in "\\`*[]<>|":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def specialised(model: JointModel) -> str:
    """The one question that the model was last trained on, as its configuration says; nothing where there were others."""
    found: Any = model.configuration
    for key in ("training", "roles", "questions"):
        found = found.get(key) if isinstance(found, Mapping) else None
    alone = isinstance(found, Mapping) and len(found) == 1 and list(found.values()) == [1.0]
    return one_line(str(next(iter(found)))) if alone else ""
