"""Whether five pictures and a label agree, by a judge fitted on real views; and how far pictures are from real ones."""

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.views.data import SIDE, VIEWS, views
from mmcore import metrics
from mmcore.data.sources.digits import Digits
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure, frechet_distance
from mmcore.rng import Rng

Rows = Mapping[str, Tensor]
Classify = Callable[[Tensor], Tensor]


def judge(rows: int = 4000, steps: int = 800, seed: int = 0) -> Judge:
    """A classifier of pictures ``(n, 3, SIDE, SIDE)`` in -1 … 1, of whatever view, fitted on real ones.

    Args:
        rows: of five pictures each, of the training part's scans.
        steps: of 80 pictures.
        seed: of weights and batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(3, 24, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * (SIDE // 4) ** 2, 64), nn.ReLU()),
        )
        head = nn.Linear(64, 10)
    made = views(Digits("train"), rows, seed=7)
    pictures, labels = torch.from_numpy(np.concatenate([made[view] for view in VIEWS])), torch.from_numpy(made["label"])

    def drawn(rng: Rng) -> tuple[Tensor, Tensor]:
        chosen = rng.of("rows").integers(0, len(pictures))
        return pictures[chosen].float() / 127.5 - 1, labels[chosen % rows]

    return Judge.trained(network, head, drawn, batch_size=80, steps=steps, seed=seed)


def shown(classify: Classify, rows: Rows) -> Tensor:
    """The class that each view of each row shows, ``(n, 5)``."""
    return torch.stack([classify(rows[view]) for view in VIEWS], 1)


def agree(classes: Tensor, labels: Tensor) -> Figure:
    """The share of rows whose views ``(n, 5)`` all show the class of the row's label ``(n,)``."""
    return metrics.average((classes == labels[:, None]).all(1).double())


def subsets(k: int, n: int) -> Tensor:
    """Which views each of ``n`` rows is given, ``(n, 5)`` bool: ``k`` of them, all choices in turn."""
    choices = list(combinations(range(len(VIEWS)), k))
    given = torch.zeros(n, len(VIEWS), dtype=torch.bool)
    for row in range(n):
        given[row, list(choices[row % len(choices)])] = True
    return given


def conditional(classes: Tensor, truth: Tensor, given: Tensor) -> Figure:
    """The share of the views that were not given which show the given ones' class; rows count alike.

    Args:
        classes: that the views show, ``(n, 5)``.
        truth: of the given views, ``(n,)``.
        given: which views were, ``(n, 5)`` bool; not all of a row.
    """
    right = (classes == truth[:, None]).double()
    return metrics.average((right * ~given).sum(1) / (~given).sum(1))


def distance(features: Callable[[Tensor], Tensor], made: Rows, real: Rows) -> float:
    """The Fréchet distance of pictures to real ones of the same view, the mean over views; it depends on how many there are."""
    found = [frechet_distance(features(made[view]), features(real[view])) for view in VIEWS]
    return sum(found) / len(found)


def figures(
    classify: Judge, joint: Mapping[str, Rows], answers: Mapping[int, tuple[Rows, Tensor]], held: Rows, real: Rows
) -> dict[str, Figure | float]:
    """All figures of a model, and the same of real rows; distances are plain numbers.

    Args:
        classify: the judge.
        joint: joint samples, by how they were drawn.
        answers: by the number of views given, all variables of the held-out rows, and which views were given ``(n, 5)``.
        held: held-out rows.
        real: rows to measure distances to.
    """
    found: dict[str, Figure | float] = {"real held-out rows: all agree": agree(shown(classify, held), held["label"])}
    for how, rows in joint.items():
        classes = shown(classify, rows)
        found[f"joint, {how}: all agree"] = agree(classes, rows["label"])
        per = (classes == rows["label"][:, None]).double().mean(1)
        found[f"joint, {how}: a view and the label agree"] = metrics.average(per)
    for k, (rows, given) in answers.items():
        truth = held["label"][: len(given)]
        found[f"{k} given: the other views"] = conditional(shown(classify, rows), truth, given)
        found[f"{k} given: the label"] = metrics.accuracy(rows["label"], truth)
    for how, rows in [("real held-out rows", held), *((f"joint, {how}", rows) for how, rows in joint.items())]:
        found[f"Fréchet distance, {how}"] = distance(classify.features, rows, real)
    return found


def markdown(columns: Mapping[str, Mapping[str, Figure | float]]) -> str:
    """A table of figures, a column for each model."""
    names = list(dict.fromkeys(name for found in columns.values() for name in found))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in names:
        cells = []
        for found in columns.values():
            one = found.get(name)
            if isinstance(one, Figure):
                cells.append(f"{one.value:.3f} ({one.low:.3f} … {one.high:.3f})")
            else:
                cells.append("" if one is None else f"{one:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
