"""Results as JSON, Markdown and plots, with what they were measured on."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from benchmarks.paper.runs import Trained
from mmcore.metrics import Figure

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parents[2] / "docs" / "images"


@attrs.frozen
class Row:
    """The figures of one model at one seed, asked in one way.

    Attributes:
        name: of the way.
        model: the name of what was trained.
        seed: of its training.
        parameters: that learn.
        seconds: of training.
        seconds_per_step: of the processor.
        figures: by name.
    """

    name: str
    model: str
    seed: int
    parameters: int
    seconds: float
    seconds_per_step: float
    figures: dict[str, Figure]

    @classmethod
    def of(cls, one: Trained, figures: Mapping[str, Figure], name: str | None = None) -> "Row":
        """Figures of a trained model."""
        took = (one.parameters, one.seconds, one.seconds_per_step)
        return cls(name or one.name, one.name, one.seed, *took, dict(figures))


@attrs.frozen
class Curve:
    """Figures against something, for the plot.

    Attributes:
        title: of the panel.
        x: what they are against.
        lines: by name, each point as ``(x, the row's name, the figure's name)``.
    """

    title: str
    x: str
    lines: dict[str, list[tuple[float, str, str]]]


@attrs.define
class Result:
    """All of one setting.

    Attributes:
        name: of the setting.
        columns: the figures that the table shows, by their names in the rows: a heading, and whether more is better.
        rows: every variation at every seed.
        notes: lines below the table.
        curves: of the plot.
        facts: how it was measured, as plain values.
    """

    name: str
    columns: dict[str, tuple[str, bool]]
    rows: list[Row] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    curves: list[Curve] = attrs.field(factory=list)
    facts: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def joined(cls, parts: "Sequence[Result]") -> "Result":
        """Of several seeds, each measured by itself."""
        first = parts[0]
        notes = list(dict.fromkeys(note for part in parts for note in part.notes))
        rows = [row for part in parts for row in part.rows]
        commits = dict.fromkeys(part.facts.get("commit", "unknown") for part in parts)
        together = {
            "seconds": sum(part.facts.get("seconds", 0) for part in parts),
            "commit": ", ".join(commits),
            "changed": any(part.facts.get("changed") for part in parts),
        }
        return cls(first.name, first.columns, rows, notes, first.curves, first.facts | together)

    def over_seeds(self, name: str, figure: str) -> Figure | None:
        """A variation's mean over seeds; its interval holds the bootstrap intervals of all of them."""
        found = [row.figures[figure] for row in self.rows if row.name == name and figure in row.figures]
        if not found:
            return None
        mean = sum(one.value for one in found) / len(found)
        return Figure(mean, found[0].n, min(one.low for one in found), max(one.high for one in found))

    @property
    def names(self) -> list[str]:
        """The variations, in order."""
        return list(dict.fromkeys(row.name for row in self.rows))

    def markdown(self) -> str:
        """The table, and how it was measured."""
        headings = [f"{title} {'↑' if more else '↓'}" for title, more in self.columns.values()]
        lines = [f"| | parameters | ms a step | {' | '.join(headings)} |", f"|---|---|---|{'---|' * len(headings)}"]
        for name in self.names:
            rows = [row for row in self.rows if row.name == name]
            cells = [cell(self.over_seeds(name, figure)) for figure in self.columns]
            speed = 1000 * sum(row.seconds_per_step for row in rows) / len(rows)
            lines.append(f"| {name} | {rows[0].parameters:,} | {speed:.0f} | {' | '.join(cells)} |")
        lines += ["", self.measured(), *(f"\n{note}" for note in self.notes)]
        if self.curves:
            lines += ["", f"![{self.name}](paper-{self.name}.png)"]
        return "\n".join(lines) + "\n"

    def measured(self) -> str:
        """How the table was measured, in a line."""
        seeds = sorted({row.seed for row in self.rows})
        training = sum({(row.model, row.seed): row.seconds for row in self.rows}.values())
        facts = self.facts
        dirty = ", with changes" if facts.get("changed") else ""
        return (
            f"`{facts.get('command')}`: {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}, {facts.get('steps'):,} steps of "
            f"{facts.get('batch_size')} rows each; {facts.get('machine')}; torch {facts.get('torch')}; commit {facts.get('commit')}{dirty}; "
            f"{training:,.0f} s of training, {facts.get('seconds'):,.0f} s in all. In brackets 95 % "
            "bootstrap intervals over the samples" + (", their hull over the seeds." if len(seeds) > 1 else ".")
        )

    def write(self, folder: Path = RESULTS) -> None:
        """``paper-NAME.json``, ``.md`` and, where there are curves, ``.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        at = folder / f"paper-{self.name}"
        rows = [
            attrs.asdict(row, recurse=False) | {"figures": {k: f.json() for k, f in row.figures.items()}}
            for row in self.rows
        ]
        plain = {"name": self.name, **self.facts, "rows": rows, "notes": self.notes}
        at.with_suffix(".json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
        at.with_suffix(".md").write_text(self.markdown())
        if self.curves:
            self.plot(at.with_suffix(".png"))

    def plot(self, path: Path) -> None:
        """The curves with their intervals, one panel each."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator

        figure, panels = pyplot.subplots(1, len(self.curves), figsize=(5.5 * len(self.curves), 4), squeeze=False)
        for axis, curve in zip(panels[0], self.curves, strict=True):
            for line, points in curve.lines.items():
                found = [(x, self.over_seeds(row, name)) for x, row, name in points]
                kept = [(x, one) for x, one in found if one is not None]
                x = [at for at, _ in kept]
                axis.plot(x, [one.value for _, one in kept], marker="o", markersize=3, label=line)
                axis.fill_between(x, [one.low for _, one in kept], [one.high for _, one in kept], alpha=0.2)
            axis.set(xlabel=curve.x, title=curve.title)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            if len(curve.lines) > 1:
                axis.legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(path, dpi=110, metadata={"Software": ""})
        pyplot.close(figure)


def sheet(rows: Sequence[tuple[str, Sequence[Any]]]) -> Any:
    """Rows of pictures, names and PIL images of one size, each with its name to the left, as one picture, three times as large or 48 pixels wide."""
    from PIL import Image, ImageDraw

    scale = max(3, 48 // rows[0][1][0].width)
    width, height = (scale * side for side in rows[0][1][0].size)
    margin, gap = 130, 4
    columns = max(len(images) for _, images in rows)
    page = Image.new("RGB", (margin + columns * (width + gap), len(rows) * (height + gap)), "white")
    pen = ImageDraw.Draw(page)
    for i, (name, images) in enumerate(rows):
        top = i * (height + gap)
        pen.text((2, top + height // 2 - 6), name, fill="black")
        for k, image in enumerate(images):
            page.paste(
                image.convert("RGB").resize((width, height), Image.Resampling.NEAREST),
                (margin + k * (width + gap), top),
            )
    return page


def cell(figure: Figure | None) -> str:
    """A figure in a table."""
    return "–" if figure is None else str(figure).partition(", n = ")[0] + ")"


def facts(setup: Any, started: float) -> dict[str, Any]:
    """What a result was measured on."""
    options = setup.config.training
    return {
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "steps": options.steps,
        "batch_size": options.batch_size,
        "seconds": time.perf_counter() - started,
    }


def machine() -> str:
    """The processor or the accelerator, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    count = torch.get_num_threads()
    return f"{model}, {count} {'thread' if count == 1 else 'threads'} of {os.cpu_count()} cores"


def commit() -> dict[str, Any]:
    """The commit of this file's repository, and whether code has been changed since."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    changes = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/mmcore", ":/plugins", ":/benchmarks", ":/recipes"
    )
    return {"commit": git("rev-parse", "--short", "HEAD") or "unknown", "changed": bool(changes)}
