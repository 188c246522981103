"""Image, outline, group and two embeddings at once, with a task that has no encoder, against a model of each question alone."""

from typing import Any

import torch

from benchmarks.paper.asking import answers, ask, in_one_step, only, specialised, without
from benchmarks.paper.runs import Experiment, values
from benchmarks.paper.written import Result, Row
from mmcore.data import Table

SINGLES = 5
"""Each question but that of the tone, which nothing encodes."""
COLUMNS = {
    "image->mask mask.iou": ("image → outline, IoU", True),
    "image->group group.classifier_accuracy": ("image → group", True),
    "image->embedding embedding.cosine": ("image → embedding, cosine", True),
    "image->embedding embedding.top5": ("among five", True),
    "image->text text.cosine": ("image → text, cosine", True),
    "image->text text.top5": ("among five", True),
    "image->tone tone.accuracy": ("image → tone", True),
    "embedding->image image.lpips": ("embedding → image, LPIPS", False),
}
QUESTIONS = ("image->mask", "image->group", "image->embedding", "image->text", "image->tone", "embedding->image")
MODALITIES = ("image", "mask", "group", "embedding", "text")


def lacking(rows: Table) -> str:
    """How many rows lack what."""
    shares = zip(rows.names, rows.rows.present.double().mean(0).tolist(), strict=True)
    told = ", ".join(f"{1 - share:.0%} lack {name!r}" for name, share in shares if share < 1)
    return f"Of {len(rows):,} training rows {told or 'none lacks anything'}."


def pictures(experiment: Experiment, n: int = 14) -> list[tuple[str, list[Any]]]:
    """Held-out images with their outlines, true and answered; images of their outlines and embeddings; and joint samples."""
    joint = experiment.trained("joint", seed=experiment.seeds[0])
    held = values(experiment.held_out(joint), "image", "mask", "embedding")
    at = torch.arange(n) * len(held["image"]) // n
    truth = {name: x[at] for name, x in held.items()}
    by_both = answers(joint, n, mask=truth["mask"], embedding=truth["embedding"])
    nothing = answers(joint, n)
    rows = {
        "true image": ("image", truth["image"]),
        "true outline": ("mask", truth["mask"]),
        "outline of image": ("mask", answers(joint, n, image=truth["image"])["mask"]),
        "image of both": ("image", by_both["image"]),
        "image of nothing": ("image", nothing["image"]),
        "and its outline": ("mask", nothing["mask"]),
    }
    return [(name, [joint.model.variable(kind).show(x) for x in some]) for name, (kind, some) in rows.items()]


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("four-at-once", COLUMNS)
    for seed in experiment.seeds:
        joint = experiment.joint(seed)
        result.rows += [Row.of(joint, ask(experiment, joint, QUESTIONS)), in_one_step(experiment, joint, QUESTIONS)]
        if experiment.variation is not None:
            continue
        if not result.notes:
            result.notes.append(lacking(experiment.training_rows(joint)))
        result.rows += specialised(experiment, joint, QUESTIONS)
        for question in QUESTIONS:
            given, _, target = question.partition("->")
            if target == "tone":
                continue  # nothing encodes it, so no model can have it alone
            others = without(*(name for name in (*MODALITIES, "tone") if name not in (given, target)))
            one = experiment.trained(
                question.replace("->", " → ") + " only", {**others, **only(target, given)}, seed, joint.parameters
            )
            result.rows += [Row.of(one, ask(experiment, one, [question])), in_one_step(experiment, one, [question])]
    return result
