"""Images and their embeddings: the joint model against each direction alone, and a block and timestep for each."""

from typing import Any

import torch

from benchmarks.paper.asking import SEPARATE, answers, ask, in_one_step, only, specialised
from benchmarks.paper.runs import DIRECT, Experiment, values
from benchmarks.paper.written import Result, Row

SINGLES = 2
"""Each direction."""
COLUMNS = {
    "image->embedding embedding.cosine": ("image → embedding, cosine", True),
    "image->embedding embedding.top1": ("retrieval, first", True),
    "image->embedding embedding.top5": ("among five", True),
    "embedding->image image.lpips": ("embedding → image, LPIPS", False),
    "embedding->image image.mse": ("squared error", False),
    "embedding->image image.frechet": ("Fréchet", False),
}
TO_EMBEDDING, TO_IMAGE = "image->embedding", "embedding->image"


def pictures(experiment: Experiment, n: int = 14) -> list[tuple[str, list[Any]]]:
    """Held-out images, images of their embeddings, and the nearest held-out ones by the embedding answered for the true image."""
    joint = experiment.trained("joint", seed=experiment.seeds[0])
    held = values(experiment.held_out(joint), "image", "embedding")
    at = torch.arange(n) * len(held["image"]) // n
    made = answers(joint, n, embedding=held["embedding"][at])["image"]
    guess = answers(joint, n, image=held["image"][at])["embedding"]
    nearest = (guess @ held["embedding"].T).argmax(1)
    image = joint.model.variable("image")
    rows = {"true": held["image"][at], "of its embedding": made, "retrieved by it": held["image"][nearest]}
    rows["of nothing"] = answers(joint, n)["image"]
    return [(name, [image.show(x) for x in some]) for name, some in rows.items()]


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-embedding", COLUMNS)
    embed, paint = only("embedding", "image"), only("image", "embedding")
    for seed in experiment.seeds:
        joint = experiment.joint(seed)
        both = [TO_EMBEDDING, TO_IMAGE]
        rows = [Row.of(joint, ask(experiment, joint, both)), in_one_step(experiment, joint, both)]
        result.rows += rows
        if experiment.variation is not None:
            continue
        result.rows += specialised(experiment, joint, both)
        if experiment.budget == "steps":
            separate = experiment.trained("separate blocks and timesteps", SEPARATE, seed, joint.parameters)
            result.rows.append(Row.of(separate, ask(experiment, separate, both)))
        ways = [
            (experiment.trained("embedding only", embed, seed, joint.parameters), [TO_EMBEDDING]),
            (
                experiment.trained("embedding only, without diffusion", {**embed, **DIRECT}, seed, joint.parameters),
                [TO_EMBEDDING],
            ),
            (experiment.trained("image from embedding only", paint, seed, joint.parameters), [TO_IMAGE]),
        ]
        for one, questions in ways:
            result.rows.append(Row.of(one, ask(experiment, one, questions)))
            if one.name in ("embedding only", "image from embedding only"):
                result.rows.append(in_one_step(experiment, one, questions))
    n = next(iter(result.rows[0].figures.values())).n
    result.notes.append(f"Retrieval is among {n} held-out embeddings, of concepts that training has not seen.")
    return result
