"""What the demo's Fréchet floor would be on other splits of the digits.

``python -m benchmarks.splits [--splits 12] [--trained 0] [--threads 1]`` divides the digits class by class, as the demo's source does, and by chance alone, as many test digits either way, fits a judge on
each training part, and prints a Markdown table: the distance of the test images to the training images (the floor), that of as many training images drawn anew, and the total
variation between the classes' shares of the two parts. With ``--trained`` the demo's model is trained on that many of the parts divided by chance (200 s of a core each; or read back), and a second
table has each one's floor beside the distance of its model's samples in batches as they come.
"""

import argparse
import statistics

import torch
from torch import Tensor

import mmcore
from benchmarks.trained import BATCH, SAMPLING, trained
from mmcore.data import Table
from mmcore.demo import run
from mmcore.demo.judge import Judge
from mmcore.demo.measure import batches_distance, draws_distance
from mmcore.demo.run import COMPONENTS, digits_model
from mmcore.metrics import frechet_distance
from mmcore.rng import Rng

BATCHES = 16


def main() -> None:
    """Divide, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=12)
    parser.add_argument("--trained", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    registry = mmcore.discover()
    source = registry.source("digits", part="all", components=COMPONENTS)
    table = Table.read(source, digits_model(registry).variables)
    images, labels = table.rows.values["image"], table.rows.values["label"]
    print("| division | floor | training images drawn anew | classes' total variation |\n|---|---|---|---|")
    for name, divide in (("class by class", _by_class), ("by chance", _by_chance)):
        found = [_measured(images, labels, divide(labels, seed)) for seed in range(given.splits)]
        cells = (f"{statistics.mean(x):.3f} ({min(x):.3f} to {max(x):.3f})" for x in zip(*found, strict=True))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if given.trained:
        print("\n| split | floor | model, independent | ratio |\n|---|---|---|---|")
    for seed in range(given.trained):
        train = _without(labels, _by_chance(labels, seed))
        part = Table(table.__getitems__(train.nonzero()[:, 0].tolist()))
        model = trained(registry, part, note=f"divided by chance, {seed}", options=run.TRAINING)
        made = mmcore.sample(model, BATCHES * BATCH, seed=0, **SAMPLING)["image"]
        judge = Judge.fit(images[train], labels[train])
        real = judge.features(images[train])
        floor = frechet_distance(judge.features(images[~train]), real)
        distance = batches_distance(judge.features(made), real, BATCH)
        print(f"| {seed} | {floor:.3f} | {distance:.3f} | {distance / floor:.2f} |", flush=True)


def _order(labels: Tensor, seed: int) -> Tensor:
    return Rng.for_rows(seed, len(labels)).of("split").bits(1)[:, 0].argsort()


def _by_chance(labels: Tensor, seed: int) -> Tensor:
    """The places of the test digits, ``(BATCH,)``: the first of a shuffle."""
    return _order(labels, seed)[:BATCH]


def _by_class(labels: Tensor, seed: int) -> Tensor:
    """The places of the test digits: every fifth of each class, in the order of a shuffle."""
    order = _order(labels, seed)
    return torch.cat([order[labels[order] == c][::5] for c in range(10)])


def _without(labels: Tensor, test: Tensor) -> Tensor:
    """Which digits are no test digits, ``(n,)`` bool."""
    train = torch.ones(len(labels), dtype=torch.bool)
    train[test] = False
    return train


def _measured(images: Tensor, labels: Tensor, test: Tensor) -> tuple[float, float, float]:
    """Floor, the distance of training draws, and the classes' total variation."""
    train = _without(labels, test)
    judge = Judge.fit(images[train], labels[train])
    real = judge.features(images[train])
    shares = [torch.bincount(labels[part], minlength=10) / part.sum() for part in (train, ~train)]
    variation = 0.5 * (shares[0] - shares[1]).abs().sum().item()
    return frechet_distance(judge.features(images[~train]), real), draws_distance(real, len(test)), variation


if __name__ == "__main__":
    main()
