"""The demo's report: one page that needs no other file."""

import base64
import html
from pathlib import Path
from typing import Any

CARDS = [
    ("joint_coherence", "Joint coherence", "the generated image shows the generated label", "{:.1%}"),
    ("label_to_image_accuracy", "Label → image", "the image shows the label that was asked for", "{:.1%}"),
    ("image_to_label_accuracy", "Image → label", "test digits classified rightly", "{:.1%}"),
    ("image_to_mask_iou", "Image → mask", "intersection over union with the true ink", "{:.3f}"),
    ("image_to_embedding_cosine", "Image → embedding", "cosine with the true embedding", "{:.3f}"),
    ("frechet_distance", "Fréchet distance", "generated to training images; real test images: {floor:.2f}", "{:.2f}"),
]
PICTURES = [
    (
        "joint.png",
        "What it imagines",
        "Each column is one sample of everything at once: an image, the label that came with it, "
        "and the mask of its ink. Nothing was given.",
    ),
    (
        "by_label.png",
        "What it draws on request",
        "Only the label was given; the image, mask and embedding were generated.",
    ),
    (
        "masks.png",
        "What it sees",
        "Only a test image was given. The mask comes from the same model, by the same sampler.",
    ),
    ("confusion.png", "How well it reads", "The label generated for each test image."),
    ("curves.png", "How it learned", "Each task's loss over random clocks and roles: grey as measured, red smoothed."),
]
STYLE = """
:root { color-scheme: light; --ink: #1f2a44; --muted: #667085; --line: #e4e7ec; --accent: #d1495b; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: #fbfaf8; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 48px 24px 80px; }
h1 { font-size: 34px; line-height: 1.15; margin: 0 0 8px; letter-spacing: -0.02em; }
h2 { font-size: 21px; margin: 44px 0 4px; }
p.lead { font-size: 18px; color: var(--muted); margin: 0 0 28px; max-width: 44em; }
p.note { color: var(--muted); margin: 0 0 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 14px; }
.card { background: white; border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.card b { display: block; font-size: 30px; letter-spacing: -0.02em; }
.card span { font-weight: 600; } .card small { display: block; color: var(--muted); }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 12px; padding: 14px; text-align: center; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; background: white; font-size: 14px; }
td, th { border-bottom: 1px solid var(--line); padding: 6px 10px; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
"""


def write(out: Path, figures: dict[str, Any], comparison: dict[str, dict[str, float]] | None) -> Path:
    """Write ``report.html`` from the figures and the pictures in ``out``."""
    cards = "".join(
        f"<div class=card><span>{name}</span><b>{form.format(figures[key])}</b>"
        f"<small>{html.escape(what.format(floor=figures['frechet_floor']))}</small></div>"
        for key, name, what, form in CARDS
    )
    pictures = "".join(
        f"<h2>{title}</h2><p class=note>{text}</p><figure>{_image(out / name, title)}</figure>"
        for name, title, text in PICTURES
    )
    rows = "".join(f"<tr><td>{name}</td><td class=n>{_number(value)}</td></tr>" for name, value in figures.items())
    minutes = figures["training_seconds"] / 60
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mmcore demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>
<h1>One model, four modalities, any question</h1>
<p class=lead>A diffusion model of {figures["parameters"]:,} parameters learned 8×8 handwritten digits, the mask of their ink,
their label and an embedding together, in {minutes:.1f} minutes. The figures are on test digits it has never seen, or on
its samples, judged by a classifier fitted on the training digits (itself right on {figures["judge_test_accuracy"]:.1%} of
the test digits).</p>
<div class=cards>{cards}</div>
{pictures}
{_comparison(comparison, out)}
<h2>All figures</h2>
<p class=note>The embedding is the whitened principal components of the image, fitted on the training split. Fréchet
distances are in the judge's features, in batches of as many images as there are test digits.</p>
<table>{rows}</table>
</main></body></html>
"""
    path = out / "report.html"
    path.write_text(page)
    return path


def _comparison(comparison: dict[str, dict[str, float]] | None, out: Path) -> str:
    if comparison is None:
        return ""
    names = list(comparison)
    head = "".join(f"<th>{name}</th>" for name in names)
    keys = comparison[names[0]]
    rows = "".join(
        f"<tr><td>{key}</td>" + "".join(f"<td class=n>{_number(comparison[n][key])}</td>" for n in names) + "</tr>"
        for key in keys
    )
    return (
        "<h2>What joint training does to the image</h2><p class=note>An image-only model of the same backbone and steps.</p>"
        f"<table><tr><th></th>{head}</tr>{rows}</table><figure>{_image(out / 'image-only.png', 'image-only samples')}</figure>"
    )


def _number(value: Any) -> str:
    return (
        f"{value:.4f}"
        if isinstance(value, float)
        else html.escape(f"{value:,}" if isinstance(value, int) else str(value))
    )


def _image(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
