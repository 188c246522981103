"""A page that needs no other file, and its parts."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
.wide { overflow-x: auto; }
details { margin: 12px 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 480px) {
  main { padding: 28px 14px 60px; } h1 { font-size: 27px; } .cards { grid-template-columns: 1fr 1fr; gap: 10px; }
  .card { padding: 12px; } .card b { font-size: 23px; } figure { padding: 8px; }
}
@media print { body { background: white; } main { max-width: none; padding: 0; } figure, table, .card { break-inside: avoid; } details > * { display: block; } }
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


def sheets(pictures: Mapping[str, bytes]) -> str:
    """PNGs by what they show: side by side where there is room, else below one another."""
    return (
        f"<div class=sheets>{''.join(f'<figure>{image(data, name)}</figure>' for name, data in pictures.items())}</div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    return f"<td class=n>{f'{value:.4f}' if isinstance(value, float) else f'{value:,}'}</td>"
