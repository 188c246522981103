"""Images and their embeddings: the joint model against each direction alone, and a block and clock for each."""

from benchmarks.paper.asking import SEPARATE, ask, only
from benchmarks.paper.runs import DIRECT, Experiment
from benchmarks.paper.written import Result, Row

COLUMNS = {
    "image->embedding embedding.cosine": ("image → embedding, cosine", True),
    "image->embedding embedding.top1": ("retrieval, first", True),
    "image->embedding embedding.top5": ("among five", True),
    "embedding->image image.lpips": ("embedding → image, LPIPS", False),
    "embedding->image image.mse": ("squared error", False),
    "embedding->image image.frechet": ("Fréchet", False),
}
TO_EMBEDDING, TO_IMAGE = "image->embedding", "embedding->image"


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-embedding", COLUMNS)
    embed, paint = only("embedding", "image"), only("image", "embedding")
    for seed in experiment.seeds:
        joint = experiment.trained("joint", seed=seed)
        ways = [
            (joint, [TO_EMBEDDING, TO_IMAGE]),
            (
                experiment.trained("separate blocks and clocks", SEPARATE, seed, joint.parameters),
                [TO_EMBEDDING, TO_IMAGE],
            ),
            (experiment.trained("embedding only", embed, seed, joint.parameters), [TO_EMBEDDING]),
            (
                experiment.trained("embedding only, without diffusion", {**embed, **DIRECT}, seed, joint.parameters),
                [TO_EMBEDDING],
            ),
            (experiment.trained("image from embedding only", paint, seed, joint.parameters), [TO_IMAGE]),
        ]
        result.rows += [Row.of(one, ask(experiment, one, questions)) for one, questions in ways]
    n = next(iter(result.rows[0].figures.values())).n
    result.notes.append(f"Retrieval is among {n} held-out embeddings, of concepts that training has not seen.")
    return result
