"""What each added modality does to every other's figures, at equal parameters and steps; and what it costs.

The extra modalities' share in it is told from that of mere extra numbers by two controls: the same model with them replaced by noise of
their own distribution, element by element, and with those of another row.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

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
REAL = 10_000
"""Training images that the Fréchet distance is to, at most."""
N = len(ORDER)
EQUAL_TIME = ", equal time"
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


def pictures(experiment: Experiment, n: int = 14) -> list[tuple[str, list[Any]]]:
    """Joint samples with their masks, and an image of each class, by the full model."""
    full = experiment.trained("N = 4", seed=experiment.seeds[0])
    joint = answers(full, n)
    asked = answers(full, n, label=torch.arange(n) % 10)["image"]
    image, mask = full.model.variable("image"), full.model.variable("mask")
    rows = [("joint", image, joint["image"]), ("their masks", mask, joint["mask"]), ("by label, 0 … 9", image, asked)]
    return [(name, [modality.show(x) for x in made]) for name, modality, made in rows]


def measure(experiment: Experiment) -> Result:
    """Train at N = 1 … 4, in as many steps and in as much time, and the controls; and measure."""
    result = Result(experiment.recipe, COLUMNS)
    judge = real = None
    for seed in experiment.seeds:
        full = experiment.joint(seed, "N = 4")
        if judge is None:
            rows = values(experiment.training_rows(full), "image", "label")
            judge = fit_judge(rows["image"], rows["label"], 10, steps=experiment.judging)
            real = judge.features(rows["image"][:REAL])
            held = values(experiment.held_out(full), "image", "label")
            right = metrics.accuracy(judge(held["image"]), held["label"])
            result.notes.append(
                f"The judge, fitted on real training images only, has accuracy {right} on the held-out images."
            )
        assert real is not None
        found = [(full.name, full, True)]
        if experiment.variation is None:
            found = [*compared(experiment, full, result), *found, *controls(experiment, full)]
        for name, one, extras in found:
            result.rows.append(Row.of(one, figures(experiment, one, judge, real, extras), name))
    result.notes.append(
        "The N modalities are the first of image, label, mask, embedding. One backbone reads the same space in every row; what N adds to a step "
        "are the encodings and the heads."
    )
    for figure in ("frechet", "judged", "classified"):
        lines = {
            way: [(float(k), f"N = {k}{'' if k == N else name}", figure) for k in range(1, N + 1)]
            for way, name in (("equal steps", ""), ("equal time", EQUAL_TIME))
        }
        result.curves.append(Curve(COLUMNS[figure][0], "N", lines))
    return result


def compared(experiment: Experiment, full: Trained, result: Result) -> list[tuple[str, Trained, bool]]:
    """The models of fewer modalities: of as many steps as the full one's, and of as many as its time buys."""
    seed, like, steps = full.seed, full.parameters, full.setup.config.training.steps
    fewer = {k: without(*ORDER[k:]) for k in range(1, N)}
    found = [(f"N = {k}", experiment.trained(f"N = {k}", c, seed, like), True) for k, c in fewer.items()]
    bought = {}
    for (name, one, _), changes in zip(list(found), fewer.values(), strict=True):
        bought[name] = max(1, round(steps * full.seconds_per_step / one.seconds_per_step))
        longer = {**changes, "training.steps": bought[name]}
        found.append((f"{name}{EQUAL_TIME}", experiment.trained(f"{name}{EQUAL_TIME}", longer, seed, like), True))
    words = ", ".join(f"{count:,} of {name}" for name, count in bought.items())
    result.notes.append(f"Seed {seed}: {steps:,} steps of N = {N} take the processor as long as {words}.")
    return found


def controls(experiment: Experiment, full: Trained) -> list[tuple[str, Trained, bool]]:
    """The full model with false extra modalities."""
    named = (("mask and embedding noise", noise), ("mask and embedding of another row", shuffled))
    return [
        (f"N = {N}, {what}", experiment.trained(f"N = {N}, {what}", None, full.seed, full.parameters, spoil), False)
        for what, spoil in named
    ]


def conclude(result: Result) -> None:
    """The cost of a step by N, on this machine; beside the recipe that needs no file."""
    if result.name != "modalities":
        return
    costs = [cost(n) for n in COUNTS]
    result.facts["costs"] = costs
    lines = ["| N | parameters | ms a step | memory over the import's, MB |", "|---|---|---|---|"]
    lines += [f"| {c['n']} | {c['parameters']:,} | {c['ms']:.1f} | {c['mb']:.0f} |" for c in costs]
    result.notes.append(
        "The cost of a step by N: images of 8 × 8 in a space of 16 channels, the same backbone, 64 rows, a process each:\n\n"
        + "\n".join(lines)
    )


def cost(n: int) -> dict[str, float]:
    """Time and memory of a training step with ``n`` modalities, measured in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.paper.cost", str(n), str(torch.get_num_threads())]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
