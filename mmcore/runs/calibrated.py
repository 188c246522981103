"""Calibration in a run's folder: ``calibration.json``, and its part of the report."""

import html
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmcore.metrics.draws import Calibrated
from mmcore.metrics.figure import Figure
from mmcore.metrics.telling import KINDS, Diagram, Point, wanted
from mmcore.runs.diagrams import READING, STYLE, svg
from mmcore.runs.kept import Record, read_count, read_number
from mmcore.store.reading import DamagedError

RECORD = Record("calibration.json", "the calibration of a run of mmcore", "mmcore evaluate --calibration")


def save(folder: Path, found: Calibrated, rows: str) -> Path:
    """Write what was found into a run's folder, in place of what was found before.

    Args:
        folder: of the run.
        found: to be kept.
        rows: which they are of, in words.

    Raises:
        RequestError: the file cannot be written, or is of other origin.
    """
    return RECORD.save(folder, {"rows": rows, **found.json()})


def table(found: Calibrated) -> str:
    """The figures for a terminal, one a line, each with what is wanted of it where that is known."""
    width = max((len(name) for name in found.figures), default=0)
    lines = []
    for name, figure in found.figures.items():
        want = wanted(name)
        lines.append(f"{name:{width}}  {figure}{'' if want is None else f'   wanted {want:g}'}")
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def relied(folder: Path, names: Collection[str]) -> list[str]:
    """What is known of the intervals of some variables' answers: how often they held the truth of rows held out, a line each.

    Args:
        folder: of the run.
        names: the variables, real-valued.
    """
    if not names:
        return []
    unknown = f"how often intervals of {', '.join(sorted(names))} hold the truth is not measured: mmcore evaluate {shlex.quote(str(folder))} --calibration"
    try:
        kept = RECORD.figures(folder)
    except DamagedError as error:
        return [str(error)]
    if kept is None:
        return [unknown]
    figures, rows = kept
    told = []
    for key, figure in figures.items():
        group, _, name = key.rpartition(".")
        question, _, variable = group.rpartition(" ")
        if name == "coverage_80" and variable in names:
            told.append(f"{variable}: of {rows}, {question}, intervals of 80 % hold {figure}")
    return told or [unknown]


def section(data: Mapping[str, Any], folder: Path) -> str:
    """The part of a run's report, from what :func:`save` wrote, read without trust.

    Raises:
        DamagedError: it is not what was written, or of other weights than are there.
    """
    path, figures = folder / RECORD.name, RECORD.read_figures(data, folder)
    try:
        rows, draws = str(data["rows"]), read_count(data["draws"])
        diagrams = [_diagram(diagram) for diagram in data["diagrams"]]
        notes = [str(note) for note in data["notes"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: holds no calibration as mmcore evaluate writes it ({error})") from error
    RECORD.check_weights(data, folder)
    text = [
        f"<style>{STYLE}</style><h2>Calibration</h2><p class=note>{draws} draws of each answer beside the truth of {html.escape(rows)}. "
        "Where a figure's interval excludes what is wanted, it is red.</p>"
    ]
    groups = dict.fromkeys(name.rpartition(".")[0] for name in figures)
    # Names may have spaces.
    known = {f"{d.question} {d.variable}": (d.question, d.variable) for d in diagrams}
    for group in groups:
        question, variable = known.get(group) or group.rpartition(" ")[::2]
        own = {name: figure for name, figure in figures.items() if name.rpartition(".")[0] == group}
        pictures = [d for d in diagrams if (d.question, d.variable) == (question, variable)]
        count = max(figure.n for figure in own.values())
        text.append(f"<h3>{html.escape(question)}: {html.escape(variable)}, {count:,} rows</h3>")
        # What is told element by element is there for whoever asks.
        for entries in (False, True):
            of_these = {name: figure for name, figure in own.items() if name.endswith("]") == entries}
            shown = "".join(f"<figure>{svg(d)}</figure>" for d in pictures if d.name.endswith("]") == entries)
            if of_these or shown:
                part = f"<div class='sheets calibration'>{shown}</div>{_rows(of_these, count)}"
                text.append(f"<details><summary>each element by itself</summary>{part}</details>" if entries else part)
    shown = dict.fromkeys(d.kind for d in diagrams)
    text.append("".join(f"<p class=note>{READING[kind]}</p>" for kind in shown))
    if notes:
        text.append(f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in notes)}</ul>")
    return "\n".join(text)


def _rows(figures: Mapping[str, Figure], count: int) -> str:
    lines = []
    for name, figure in figures.items():
        want = wanted(name)
        # The gap of confidences is above 0 by noise alone.
        off = want and not figure.low <= want <= figure.high
        style = ' style="color: var(--accent); font-weight: 600"' if off else ""
        value = html.escape(str(figure).replace(f", n = {count})", ")"))
        told = html.escape(name.rpartition(".")[2].replace("_", " "))
        lines.append(
            f"<tr><td>{told}</td><td{style}>{value}</td><td class=n>{'' if want is None else f'{want:g}'}</td></tr>"
        )
    return f"<table><tr><th>figure</th><th>value, 95 % interval</th><th>wanted</th></tr>{''.join(lines)}</table>"


def _diagram(data: Any) -> Diagram:
    if data["kind"] not in KINDS or not data["points"]:
        raise ValueError("a diagram of no kind, or without points")
    points = tuple(
        Point(**{side: read_number(point[side]) for side in ("x", "y", "low", "high", "n")}) for point in data["points"]
    )
    return Diagram(data["kind"], str(data["question"]), str(data["variable"]), str(data["name"]), points)
