"""Reports: a page that needs no other file; and the report of a run."""

import base64
import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from mmcore import files as door
from mmcore.config import files
from mmcore.errors import RequestError
from mmcore.limits import CONFIGURATION, FILE, RECORD, Limit
from mmcore.plugins.metadata import one_line
from mmcore.runs import calibrated
from mmcore.store.reading import DamagedError, parse_json, read_bytes, shapes

STYLE = """
:root { color-scheme: light; --ink: #1f2a44; --muted: #667085; --line: #e4e7ec; --accent: #d1495b; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: #fbfaf8; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 48px 24px 80px; }
h1 { font-size: 34px; line-height: 1.15; margin: 0 0 8px; letter-spacing: -0.02em; }
h2 { font-size: 21px; margin: 44px 0 4px; }
p.lead { font-size: 18px; color: var(--muted); margin: 0 0 28px; max-width: 44em; }
p.note { color: var(--muted); margin: 0 0 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; }
.card { background: white; border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.card b { display: block; font-size: 30px; letter-spacing: -0.02em; }
.card span { font-weight: 600; } .card small { display: block; color: var(--muted); }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 12px; padding: 14px; text-align: center; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; background: white; font-size: 14px; }
td, th { border-bottom: 1px solid var(--line); padding: 6px 10px; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: white; border: 1px solid var(--line); border-radius: 12px; padding: 14px; overflow-x: auto; font-size: 13px; }
figure.pixels img { image-rendering: pixelated; }
.sheets { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 14px; }
"""


def page(title: str, heading: str, lead: str, body: str) -> str:
    """A whole page.

    Args:
        title: of the window.
        heading: plain text.
        lead: the paragraph below it, plain text.
        body: HTML.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>
<h1>{html.escape(heading)}</h1>
<p class=lead>{html.escape(lead)}</p>
{body}
</main></body></html>
"""


def card(name: str, value: str, note: str = "") -> str:
    """One figure, large."""
    return (
        f"<div class=card><span>{html.escape(name)}</span><b>{html.escape(value)}</b>"
        f"<small>{html.escape(note)}</small></div>"
    )


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Rows of a name and values; numbers stand to the right."""
    top = f"<tr>{''.join(f'<th>{html.escape(str(cell))}</th>' for cell in head)}</tr>" if head else ""
    lines = ("".join(map(_cell, row)) for row in rows)
    return f"<table>{top}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def image(data: bytes, alt: str) -> str:
    """A PNG, inside the page."""
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    return f"<td class=n>{f'{value:.4f}' if isinstance(value, float) else f'{value:,}'}</td>"


# ---- the report of a run ----

PAGE = "report.html"
_BEGINS = b'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>mmcore: '
_STEP = re.compile(r"step-(\d{8,18})-.+\.png")
_MOST = 1e30
"""A figure beyond it is none that a run has written."""


def write(folder: Path, tell: Callable[[str], object] = lambda line: None) -> Path:
    """Write ``report.html`` of a run, from what its folder holds. What is missing is left out; what is damaged, too, and is named.

    Nothing is read that lies outside of the folder, whatever links there are.

    Args:
        folder: of a run.
        tell: given a line on each file that is left out, or parts of it.

    Raises:
        RequestError: it is none, its configuration cannot be read, or the page cannot be written.
    """
    try:
        if not (folder / "config.toml").is_file():
            raise RequestError(
                f"report: {folder} holds no config.toml, expected the folder of a run (mmcore train makes one)"
            )
        check_own(folder)
        kept = _Kept(folder)
        text = _page(kept)
        for line in kept.faults:
            tell(f"report: left out: {line}")
        # A lone surrogate, which JSON can hold and no file, is not worth the page.
        door.write(folder / PAGE, text.encode("utf-8", "replace"))
    except OSError as error:
        where = error.filename or folder
        raise RequestError(f"report: {where}: {error.strerror or error}") from error
    return folder / PAGE


def check_own(folder: Path) -> None:
    """Refuse to overwrite a page that is no report.

    Raises:
        RequestError: there is one.
    """
    page = folder / PAGE
    if page.is_file() and page.stat().st_size:
        with door.opened(page) as file:
            if file.read(len(_BEGINS)) != _BEGINS:
                raise RequestError(f"report: {page} is no report of a run, and is not overwritten; move it away")


@attrs.frozen(eq=False)
class _Kept:
    """A run's folder, read without trust.

    Attributes:
        folder: of the run.
        faults: what cannot be read, and why.
    """

    folder: Path
    faults: list[str] = attrs.field(factory=list)

    def read(self, name: str, limit: Limit = RECORD) -> bytes | None:
        """A file of the folder; None where there is none, or where it cannot be read."""
        path = self.folder / name
        try:
            if not path.is_symlink() and not path.exists():
                return None
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise DamagedError(f"{path}: leads out of the folder, expected a file in it")
            return read_bytes(path, limit)
        except (DamagedError, OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            self.faults.append(str(error))
            return None

    def lines(self, name: str, check: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The lines of a log that say what they should; one that is being written is not missed."""
        data = self.read(name, FILE) or b""
        kept, whole = [], data.split(b"\n")[:-1]
        for line in whole:
            try:
                found = parse_json(line, Path(name))
            except DamagedError:
                continue
            if _count(found.get("step")) and check(found):
                kept.append(found)
        if len(kept) < len(whole):
            self.faults.append(f"{self.folder / name}: {len(whole) - len(kept)} of {len(whole)} lines cannot be read")
        return kept

    def picture(self, name: str) -> bytes | None:
        """A PNG that is whole."""
        data = self.read(name)
        if data is not None and not (data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")):
            self.faults.append(f"{self.folder / name}: found no whole PNG")
            return None
        return data


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST < value < _MOST


def _told(line: dict[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` has what is shown of it."""
    tasks = line.get("tasks")
    return (
        _number(line.get("loss"))
        and isinstance(tasks, dict)
        and all(
            isinstance(task, dict)
            and _count(task.get("rows"))
            and (_number(task.get("loss")) or (task.get("loss") is None and not task["rows"]))
            for task in tasks.values()
        )
    )


def _page(kept: _Kept) -> str:
    folder, path = kept.folder, kept.folder / "config.toml"
    configuration = kept.read("config.toml", CONFIGURATION)
    if configuration is None:
        raise RequestError(f"report: {kept.faults[0]}")
    tables = files.read(path)
    training: Any = tables.get("training")
    training = training if isinstance(training, dict) else {}
    metrics = kept.lines("metrics.jsonl", _told)
    timing = kept.lines("timing.jsonl", lambda line: _number(line.get("seconds")))
    parts = _sizes(kept)
    wanted, size, modalities = training.get("steps"), training.get("batch_size"), tables.get("modalities")
    known = (("training.steps", _count(wanted)), ("training.batch_size", _count(size)))
    known = (*known, ("modalities", isinstance(modalities, dict)))
    if lacking := [key for key, right in known if not right]:
        kept.faults.append(f"{path}: lacks or misstates {', '.join(lacking)}")
    done = metrics[-1]["step"] if metrics else 0
    if not _count(wanted):
        state = f"{done:,} steps are done so far."
    else:
        state = (
            f"All {wanted:,} steps are done." if done >= wanted else f"{done:,} of {wanted:,} steps are done so far."
        )
    cards = [card("Steps", f"{done:,}", f"of {size:,} rows each" if _count(size) else "")]
    if metrics:
        cards.append(card("Loss", f"{metrics[-1]['loss']:.3f}", "weighted, at the last step told"))
    if timing:
        cards.append(card("Time", _duration(timing[-1]["seconds"]), f"to step {timing[-1]['step']:,}"))
    if parts:
        cards.append(card("Parameters", f"{sum(parts.values()):,}", "of all parts together"))
    body = [f"<div class=cards>{''.join(cards)}</div>"]
    if metrics:
        body.append(_curves(metrics))
    body.append(_samples(kept))
    body.append(_calibration(kept))
    if parts:
        body.append(f"<h2>Its parts</h2>{table(parts.items(), ('part', 'parameters'))}")
    body.append(
        "<h2>The configuration</h2><p class=note>With every default stated; <code>mmcore train</code> takes it as it is.</p>"
        f"<pre>{html.escape(configuration.decode())}</pre>"
    )
    if kept.faults:
        lines = "".join(f"<li>{html.escape(one_line(line))}</li>" for line in kept.faults)
        body.append(f"<h2>Left out</h2><p class=note>What is damaged in the folder.</p><ul>{lines}</ul>")
    names = ", ".join(modalities) if isinstance(modalities, dict) else ""
    lead = f"A joint diffusion model{f' of {names}' if names else ''}. {state}"
    return page(f"mmcore: {folder.name}", f"Run {folder.name}", lead, "\n".join(body))


def _sizes(kept: _Kept) -> dict[str, int]:
    weights = kept.folder / "model" / "model.safetensors"
    try:
        if weights.is_file() and not weights.resolve().is_relative_to(kept.folder.resolve()):
            raise DamagedError(f"{weights}: leads out of the folder, expected a file in it")
        return sizes(weights)
    except DamagedError as error:
        kept.faults.append(str(error))
        return {}


def sizes(weights: Path) -> dict[str, int]:
    """How many numbers each part of a saved model has: the backbone, each encoder and each head; empty where there is none.

    Raises:
        DamagedError: it is no safetensors file, or not a whole one.
    """
    if not weights.is_file():
        return {}
    parts: dict[str, int] = {}
    for name, shape in shapes(weights).items():
        head, _, rest = name.partition(".")
        kind = {"encoders": "encoder", "decoders": "head"}.get(head, head)
        part = f"{kind} {rest.partition('.')[0]}" if kind != head else head
        parts[part] = parts.get(part, 0) + math.prod(shape)
    return parts


def _curves(lines: Sequence[dict[str, Any]]) -> str:
    from mmcore.runs.pictures import curves

    tasks = lines[-1]["tasks"].items()
    rows = [(name, "" if task["loss"] is None else float(task["loss"])) for name, task in tasks]
    text = f"<h2>How it learned</h2>{table(rows, ('task', 'nats per sample, last'))}"
    try:
        picture = curves(lines)
    except RequestError:
        return f"{text}<p class=note>Curves need matplotlib: pip install 'mmcore-diffusion[report]'.</p>"
    note = "Each task's loss over random timesteps and roles: grey as measured, red smoothed."
    return f"{text}<p class=note>{note}</p><figure>{image(picture, 'curves')}</figure>"


def _samples(kept: _Kept) -> str:
    """The last sheet large, those made on the way small."""
    text, folder = "", kept.folder / "samples"
    sheet = kept.picture("samples/samples.png")
    if sheet is not None:
        text += f"<h2>What it imagines</h2><p class=note>{_question(kept)}</p>"
        text += f"<figure class=pixels>{image(sheet, 'samples')}</figure>"
    steps = []
    for path in sorted(folder.glob("step-*.png")):
        match = _STEP.fullmatch(path.name)
        data = kept.picture(f"samples/{path.name}") if match else None
        if match and data is not None:
            steps.append(f"<figure class=pixels>{image(data, path.stem)}<br>step {int(match[1]):,}</figure>")
    if steps:
        text += f"<h2>On the way</h2><div class=sheets>{''.join(steps)}</div>"
    return text


def _calibration(kept: _Kept) -> str:
    data = kept.read(calibrated.NAME)
    if data is None:
        return ""
    try:
        return calibrated.section(parse_json(data, kept.folder / calibrated.NAME), kept.folder)
    except DamagedError as error:
        kept.faults.append(str(error))
        return ""


def _question(kept: _Kept) -> str:
    name = "samples/samples.json"
    data = kept.read(name)
    if data is None:
        return ""
    try:
        given = parse_json(data, kept.folder / name).get("given", {})
        if not isinstance(given, dict):
            raise DamagedError(f"{kept.folder / name}: given is a {type(given).__name__}, expected a mapping")
    except DamagedError as error:
        kept.faults.append(str(error))
        return ""
    told = ", ".join(f"{name} = {value}" for name, value in given.items())
    return html.escape(f"Given {told}." if told else "Joint samples: nothing was given.")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
