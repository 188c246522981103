"""What each added modality does to every other's figures, at equal parameters and steps; and what it costs.

The extra modalities' share in it is told from that of mere extra numbers by two controls: the same model with them replaced by noise of
their own distribution, element by element, and with those of another row.
"""

import json
import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.paper.asking import answers, without
from benchmarks.paper.judge import fit_judge
from benchmarks.paper.runs import Experiment, Trained, values
from benchmarks.paper.written import Curve, Result, Row
from mmcore import metrics
from mmcore.data import Table, TensorBatch
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure, class_probabilities
from mmcore.rng import Rng

ORDER = ("image", "label", "mask", "embedding")
EXTRA = ("mask", "embedding")
COUNTS = (1, 2, 4, 8, 12, 16)
COLUMNS = {
    "frechet": ("Fréchet of joint samples' images", False),
    "judged": ("label → image, judged", True),
    "classified": ("image → label", True),
    "iou": ("image → mask, IoU", True),
    "cosine": ("image → embedding, cosine", True),
    "agree": ("joint samples agree", True),
}


def _spoiled(table: Table, make: Callable[[torch.Tensor, Rng], torch.Tensor]) -> Table:
    rows = dict(table.rows.values)
    for name in EXTRA:
        rows[name] = make(rows[name], Rng.for_rows(0, len(table)).of(name))
    return Table(TensorBatch(rows, table.rows.present))


def noise(table: Table) -> Table:
    """Mask and embedding element by element from rows drawn at random: each element's distribution, and nothing else."""

    def make(x: torch.Tensor, rng: Rng) -> torch.Tensor:
        flat = x.flatten(1)
        return flat.gather(0, rng.integers(0, len(x), flat.shape[1])).reshape(x.shape)

    return _spoiled(table, make)


def shuffled(table: Table) -> Table:
    """Mask and embedding each of a row drawn without replacement, whole."""
    return _spoiled(table, lambda x, rng: x[rng.uniform().argsort()])


def figures(experiment: Experiment, one: Trained, judge: Judge, real: torch.Tensor, extras: bool) -> dict[str, Figure]:
    """What the model's modalities allow; of the extra ones where they are real."""
    names = [m.name for m in one.model.modalities]
    rows = values(experiment.held_out(one), *names)
    n = len(rows["image"])
    joint = answers(one, 4 * n)
    # Batches of the test split's size would be fairer to that split; here every model has the same numbers.
    found = {"frechet": metrics.frechet(judge.features(joint["image"]), real)}
    if "label" in names:
        labels = torch.arange(1000) % 10
        found["judged"] = metrics.accuracy(judge(answers(one, len(labels), label=labels)["image"]), labels)
        found["agree"] = metrics.accuracy(judge(joint["image"]), joint["label"])
        p = class_probabilities(one.model, {"image": rows["image"]}, "label")
        found["classified"] = metrics.accuracy(p.argmax(1), rows["label"])
    if extras and "mask" in names:
        told = answers(one, n, image=rows["image"])
        iou = one.model.variable("mask").metrics()["iou"]
        found["iou"] = metrics.average(iou(told["mask"], rows["mask"]))
        if "embedding" in names:
            found["cosine"] = metrics.cosine(told["embedding"], rows["embedding"])
    return found


def measure(experiment: Experiment) -> Result:
    """Train at N = 1 … 4, and the controls; measure; and take the cost."""
    result = Result("modalities", COLUMNS)
    judge = real = None
    for seed in experiment.seeds:
        full = experiment.trained("N = 4", seed=seed)
        like = full.parameters
        if judge is None:
            rows = values(experiment.training_rows(full), "image", "label")
            judge = fit_judge(rows["image"], rows["label"], 10, steps=experiment.judging)
            real = judge.features(rows["image"])
            held = values(experiment.held_out(full), "image", "label")
            right = metrics.accuracy(judge(held["image"]), held["label"])
            result.notes.append(
                f"The judge, fitted on real training images only, has accuracy {right} on the held-out images."
            )
        assert real is not None
        fewer = [(f"N = {k}", experiment.trained(f"N = {k}", without(*ORDER[k:]), seed, like), True) for k in (1, 2, 3)]
        spoiled = [
            (f"N = 4, {what}", experiment.trained(f"N = 4, {what}", None, seed, like, spoil), False)
            for what, spoil in (("mask and embedding noise", noise), ("mask and embedding of another row", shuffled))
        ]
        for name, one, extras in (*fewer, ("N = 4", full, True), *spoiled):
            result.rows.append(Row.of(one, figures(experiment, one, judge, real, extras), name))
    result.notes.append(
        "The N modalities are the first of image, label, mask, embedding. One backbone reads the same space in every row, so that equal steps "
        "are equal compute but for the heads; the column *ms a step* has the rest."
    )
    costs = [cost(n) for n in COUNTS]
    result.facts["costs"] = costs
    lines = ["| N | parameters | ms a step | memory over the import's, MB |", "|---|---|---|---|"]
    lines += [f"| {c['n']} | {c['parameters']:,} | {c['ms']:.1f} | {c['mb']:.0f} |" for c in costs]
    result.notes.append(
        "The cost of a step by N: images of 8 × 8 in a space of 16 channels, the same backbone, 64 rows, a process each:\n\n"
        + "\n".join(lines)
    )
    for figure in ("frechet", "judged", "classified"):
        points = {figure: [(float(k), f"N = {k}", figure) for k in (1, 2, 3, 4)]}
        result.curves.append(Curve(COLUMNS[figure][0], "N", points))
    return result


def cost(n: int) -> dict[str, float]:
    """Time and memory of a training step with ``n`` modalities, measured in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.paper.cost", str(n), str(torch.get_num_threads())]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
