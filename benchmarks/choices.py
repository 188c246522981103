"""What the demo's setting was chosen by: settings side by side on the digits' validation part.

``python -m benchmarks.choices [--seeds 2] [--threads 1]`` trains each setting (or reads it back), samples as the demo does, and prints a Markdown table
of the means over the seeds; then each seed's Fréchet distances of dealt batches by three judges. A training takes 200 s of a core.
"""

from typing import Any

import attrs
import torch

import mmcore
from benchmarks.trained import BATCH, FIGURES, TRAINING, Data, arguments, head, row, trained
from mmcore.demo import run
from mmcore.demo.judge import Judge
from mmcore.demo.measure import Answers, batches_distance, measure
from mmcore.demo.run import GUIDANCE, SAMPLING
from mmcore.training import TrainOptions

JUDGES, BATCHES = 3, 16
CHOICES: dict[str, TrainOptions] = {
    "joint 0.45": TRAINING,
    "joint 0.6": run.TRAINING,
}


def main() -> None:
    """Train, sample and print."""
    registry, base, given = arguments(__doc__)
    data = Data.read(registry)
    train = data.train.rows.values
    judges = [Judge.fit(train["image"], train["label"], seed=seed) for seed in range(JUDGES)]
    print(head("setting"))
    lines = []
    for name, setting in CHOICES.items():
        found = []
        for seed in range(given.seeds):
            options = attrs.evolve(setting, seed=seed, steps=base.steps)
            found.append(_measured(data, judges, trained(registry, data.train, options=options), seed))
        figures = {figure: sum(f[figure] for f, _ in found) / len(found) for figure in FIGURES}
        print(row(name, figures=figures), flush=True)
        varied = ", ".join(f"{f['class_total_variation']:.3f}" for f, _ in found)
        lines.append(f"{name}: classes' total variation {varied}; Fréchet by judge {[by for _, by in found]}")
    print("\n".join(["", *lines]))


def _measured(
    data: Data, judges: list[Judge], model: mmcore.JointModel, seed: int
) -> tuple[dict[str, float], list[float]]:
    """The demo's figures, the Fréchet distance being the judges' mean; and that by judge."""
    how: dict[str, Any] = {"joint": BATCHES * BATCH, "per_label": 100, "guidance": GUIDANCE, "seed": seed, **SAMPLING}
    answers = Answers.ask(model, data.held, **how)
    train, images = data.train.rows.values["image"], answers.joint["image"]
    with torch.no_grad():
        by = [
            batches_distance(judge.features(images), judge.features(train), BATCH, answers.joint["label"])
            for judge in judges
        ]
    figures = measure(answers, model, judges[0], data.train.rows.values, data.held)
    return figures | {"frechet_distance_dealt": sum(by) / len(by)}, [round(x, 2) for x in by]


if __name__ == "__main__":
    main()
