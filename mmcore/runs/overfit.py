"""What a run has learned by heart: tasks whose validation loss was lower before."""

import json
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.limits import FILE

RISE = 0.25
"""Of the lowest loss and a quarter of a nat: a rise that chance does not make."""


APART = 2
"""Tasks of which each has a line of its own; more have one together."""


def learned_by_heart(folder: Path) -> list[str]:
    """A line for each task, or one for many, whose loss on validation rows has risen far above its lowest, with what to do; none without validation.

    Args:
        folder: of the run.
    """
    losses: dict[str, list[tuple[int, float]]] = {}
    best = None
    for line in _lines(folder / "validation.jsonl"):
        for task, loss in line["losses"].items():
            if loss is not None and task != "total":
                losses.setdefault(task, []).append((line["step"], float(loss)))
        best = line["step"] if line["losses"].get(line["best"]) == line["so_far"] else best
    risen = []
    for task, found in losses.items():
        (at, lowest), (end, last) = min(found, key=lambda one: one[1]), found[-1]
        if last - lowest > RISE * (abs(lowest) + 1):
            risen.append((task, at, end, f"{lowest:.3g} nats, {last:.3g} at the end"))
    kept = f"; {folder / 'best'} is of step {best:,}" if best is not None else ""
    advice = f"{kept}; take fewer steps or more rows"
    if len(risen) <= APART:
        return [
            f"{task} was best on validation rows at step {at:,} of {end:,} ({nats}): the training rows are learned by heart, and its answers are too sure{advice}"
            for task, at, end, nats in risen
        ]
    first, last = min(at for _, at, _, _ in risen), max(at for _, at, _, _ in risen)
    steps = f"step {first:,}" if first == last else f"steps {first:,} … {last:,}"
    names = ", ".join(task for task, *_ in risen)
    task, _, end, nats = risen[0]
    return [
        f"{names} were best on validation rows at {steps} of {end:,} ({task}: {nats}): the training rows are learned by heart, and answers are too sure{advice}"
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log, as far as there are any."""
    found = []
    try:
        data = files.read(path, FILE)
    except OSError:
        data = b""
    for text in data.splitlines():
        try:
            line = json.loads(text)
            step, losses = int(line["step"]), dict(line["losses"])
            sound = {str(task): x for task, x in losses.items() if x is None or isinstance(x, int | float)}
            found.append({"step": step, "losses": sound, "best": line.get("best"), "so_far": line.get("so_far")})
        except (ValueError, TypeError, KeyError):
            continue  # torn, or not ours
    return found
