"""The demo's Fréchet distance by judges of other seeds: how much of it is the judge's.

``python -m benchmarks.judges RUN [--seeds 5] [--threads 1]`` asks the model of a demo's folder ``RUN`` for joint samples, and prints for each judge the floor (the test
images' distance to the training images), the mean over batches of samples with the test labels, of training images drawn anew and of the model's independent samples, as they come and
dealt class by class, and the distance of all the independent ones at once.
"""

import argparse
from pathlib import Path

import torch

import mmcore
from benchmarks.trained import BATCH, Data
from mmcore.demo.judge import Judge
from mmcore.demo.measure import batches_distance, draws_distance
from mmcore.demo.run import SAMPLING
from mmcore.metrics import frechet_distance

BATCHES = 32


def main() -> None:
    """Sample and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    registry = mmcore.discover()
    data = Data.read(registry, "test")
    images, labels = (data.train.rows.values[name] for name in ("image", "label"))
    model, wanted = mmcore.load(given.run / "model", registry=registry), data.held["label"].repeat(BATCHES)
    made = mmcore.sample(model, len(wanted), seed=0, **SAMPLING)
    matched = mmcore.sample(model, len(wanted), given={"label": wanted}, conditioning="rejection", seed=3, **SAMPLING)
    heads = (
        "judge",
        "floor",
        "model, matched",
        "training images drawn anew",
        "model, independent",
        "training images, dealt",
        "model, dealt",
        "all at once",
    )
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for seed in range(given.seeds):
        judge = Judge.fit(images, labels, seed=seed)
        real, held, found = (judge.features(x) for x in (images, data.held["image"], made["image"]))
        cells = (
            frechet_distance(held, real),
            batches_distance(judge.features(matched["image"]), real, BATCH),
            draws_distance(real, BATCH),
            batches_distance(found, real, BATCH),
            draws_distance(real, BATCH, labels),
            batches_distance(found, real, BATCH, made["label"]),
            frechet_distance(found, real),
        )
        print(f"| {seed} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
