"""Reports: a page that needs no other file; and the report of a run."""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmcore.errors import RequestError

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


def write(folder: Path) -> Path:
    """Write ``report.html`` of a run, from what its folder holds; whatever is missing is left out.

    Args:
        folder: of a run.

    Raises:
        RequestError: it is none.
    """
    from mmcore.config import files

    if not (folder / "config.toml").is_file():
        raise RequestError(
            f"report: {folder} holds no config.toml, expected the folder of a run (mmcore train makes one)"
        )
    configuration = (folder / "config.toml").read_text(encoding="utf-8")
    tables = files.read(folder / "config.toml")
    metrics = _lines(folder / "metrics.jsonl")
    timing = _lines(folder / "timing.jsonl")
    parts = sizes(folder / "model" / "model.safetensors")
    wanted = tables["training"]["steps"]
    done = metrics[-1]["step"] if metrics else 0
    names = ", ".join(tables["modalities"])
    state = f"All {wanted:,} steps are done." if done >= wanted else f"{done:,} of {wanted:,} steps are done so far."
    cards = [card("Steps", f"{done:,}", f"of {tables['training']['batch_size']} rows each")]
    if metrics:
        cards.append(card("Loss", f"{metrics[-1]['loss']:.3f}", "weighted, at the last step told"))
    if timing:
        cards.append(card("Time", _duration(timing[-1]["seconds"]), f"to step {timing[-1]['step']:,}"))
    if parts:
        cards.append(card("Parameters", f"{sum(parts.values()):,}", "of all parts together"))
    body = [f"<div class=cards>{''.join(cards)}</div>"]
    if metrics:
        body.append(_curves(folder / "metrics.jsonl", metrics[-1]))
    body.append(_samples(folder / "samples"))
    if parts:
        body.append(f"<h2>Its parts</h2>{table(parts.items(), ('part', 'parameters'))}")
    body.append(
        "<h2>The configuration</h2><p class=note>With every default stated; <code>mmcore train</code> takes it as it is.</p>"
        f"<pre>{html.escape(configuration)}</pre>"
    )
    lead = f"A joint diffusion model of {names}. {state}"
    path = folder / "report.html"
    path.write_text(page(f"mmcore: {folder.name}", f"Run {folder.name}", lead, "\n".join(body)), encoding="utf-8")
    return path


def sizes(weights: Path) -> dict[str, int]:
    """How many numbers each part of a saved model has: the backbone, each encoder and each head; empty where there is none."""
    if not weights.is_file():
        return {}
    from safetensors import safe_open

    parts: dict[str, int] = {}
    with safe_open(weights, "numpy") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no mapping
            head, _, rest = name.partition(".")
            kind = {"encoders": "encoder", "decoders": "head"}.get(head, head)
            part = f"{kind} {rest.partition('.')[0]}" if kind != head else head
            count = 1
            for side in file.get_slice(name).get_shape():
                count *= side
            parts[part] = parts.get(part, 0) + count
    return parts


def _curves(path: Path, last: dict[str, Any]) -> str:
    from mmcore.runs.pictures import curves

    rows = [(name, "" if task["loss"] is None else float(task["loss"])) for name, task in last["tasks"].items()]
    text = f"<h2>How it learned</h2>{table(rows, ('task', 'nats per sample, last'))}"
    try:
        picture = curves(path)
    except RequestError:
        return f"{text}<p class=note>Curves need matplotlib: pip install 'mmcore-diffusion[report]'.</p>"
    note = "Each task's loss over random timesteps and roles: grey as measured, red smoothed."
    return f"{text}<p class=note>{note}</p><figure>{image(picture, 'curves')}</figure>"


def _samples(folder: Path) -> str:
    """The last sheet large, those made on the way small."""
    sheets = sorted(folder.glob("step-*.png"))
    text = ""
    if (folder / "samples.png").is_file():
        told = _question(folder / "samples.json")
        text += f"<h2>What it imagines</h2><p class=note>{told}</p>"
        text += f"<figure class=pixels>{image((folder / 'samples.png').read_bytes(), 'samples')}</figure>"
    if sheets:
        steps = "".join(
            f"<figure class=pixels>{image(sheet.read_bytes(), sheet.stem)}<br>step {int(sheet.stem.split('-')[1]):,}</figure>"
            for sheet in sheets
        )
        text += f"<h2>On the way</h2><div class=sheets>{steps}</div>"
    return text


def _question(path: Path) -> str:
    if not path.is_file():
        return ""
    asked = json.loads(path.read_text(encoding="utf-8"))
    given = ", ".join(f"{name} = {value}" for name, value in asked.get("given", {}).items())
    return html.escape(f"Given {given}." if given else "Joint samples: nothing was given.")


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off while it was written is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
