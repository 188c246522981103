"""The demo's report: one page that needs no other file."""

import json
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.limits import FILE
from mmcore.runs.page import card, image, page, sheets, table
from mmcore.runs.pictures import curves

CARDS = [
    ("joint_coherence", "Joint coherence", "the generated image shows the generated label", "{:.1%}"),
    ("label_to_image_accuracy", "Label → image", "the image shows the label that was asked for", "{:.1%}"),
    ("image_to_label_accuracy", "Image → label", "test digits classified rightly", "{:.1%}"),
    ("image_to_mask_iou", "Image → mask", "intersection over union with the true ink", "{:.3f}"),
    ("image_to_embedding_cosine", "Image → embedding", "cosine with the true embedding", "{:.3f}"),
    (
        "frechet_ratio",
        "Images, beside the data",
        "their Fréchet distance over that of as many training images drawn anew; 1 is as good as the data",
        "{:.2f}",
    ),
]
PICTURES = [
    (
        "joint.png",
        "What it imagines",
        "Each is one sample of everything at once: an image, the label that came with it above, "
        "and the mask of its ink below. Nothing was given.",
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
]


def write(out: Path, figures: dict[str, Any], comparison: dict[str, dict[str, float]] | None) -> Path:
    """Write ``report.html`` from the figures and the pictures in ``out``."""
    cards = "".join(card(name, form.format(figures[key]), what) for key, name, what, form in CARDS)
    pictures = "".join(
        f"<h2>{title}</h2><p class=note>{text}</p><figure>{image(files.read(out / name, FILE), title)}</figure>"
        for name, title, text in PICTURES
    )
    minutes = figures["training_seconds"] / 60
    lead = f"""A diffusion model of {figures["parameters"]:,} parameters learned 8×8 handwritten digits, the mask of their ink,
their label and an embedding together, in {minutes:.1f} minutes. The figures are on test digits it has never seen, or on
its samples, judged by a classifier fitted on the training digits (itself right on {figures["judge_test_accuracy"]:.1%} of
the test digits)."""
    note = """The embedding is the whitened principal components of the image, fitted on the training split. Fréchet
distances are in the judge's features, in batches of as many images as there are test digits. Samples, and training
images drawn anew, have the classes' shares by chance; the test split was divided class by class, and is nearer
for that."""
    body = f"""<div class=cards>{cards}</div>
{pictures}
<h2>How it learned</h2><p class=note>Each task's loss over random timesteps and roles: grey as measured, red smoothed.</p>
{sheets(curves([json.loads(line) for line in files.read(out / "metrics.jsonl", FILE).splitlines()]))}
{_comparison(comparison, out)}
<h2>All figures</h2>
<p class=note>{note}</p>
{table(figures.items())}"""
    path = out / "report.html"
    files.write(path, page("mmcore demo", "One model, four modalities, any question", lead, body).encode())
    return path


def _comparison(comparison: dict[str, dict[str, float]] | None, out: Path) -> str:
    if comparison is None:
        return ""
    names = list(comparison)
    rows = ((key, *(comparison[name][key] for name in names)) for key in comparison[names[0]])
    return (
        "<h2>What joint training does to the image</h2><p class=note>An image-only model of the same backbone and steps.</p>"
        f"{table(rows, ('', *names))}"
        f"<figure>{image(files.read(out / 'image-only.png', FILE), 'image-only samples')}</figure>"
    )
