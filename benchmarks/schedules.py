"""Schedules and samplers side by side on the digits' validation part.

``python -m benchmarks.schedules [--steps 3000]`` trains one model per schedule, samples each by DDIM (η = 0) and
ancestrally, and prints a Markdown table.
"""

import argparse
import os

import torch

import mmcore
from mmcore.data import Table
from mmcore.demo.judge import Judge
from mmcore.demo.measure import Answers, measure
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model

FIGURES = (
    "joint_coherence",
    "label_to_image_accuracy",
    "image_to_label_accuracy",
    "image_to_mask_iou",
    "image_to_embedding_cosine",
    "frechet_distance",
)


def main() -> None:
    """Train, sample and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=TRAINING.steps)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    registry = mmcore.discover()
    print("| schedule | sampler | " + " | ".join(FIGURES) + " |\n|---|---|" + "---|" * len(FIGURES))
    for schedule in ("cosine", "paper", "paper-steps"):
        model = digits_model(registry, schedule=schedule)
        train, held = (
            Table.read(registry.source("digits", components=COMPONENTS, **part), model.variables)
            for part in ({"part": "train", "hold_out": True}, {"part": "validation"})
        )
        mmcore.fit(model, train, options=TRAINING, steps=options.steps, quiet=True)
        judge = Judge.fit(train.rows.values["image"], train.rows.values["label"])
        for sampler, eta in (("DDIM, η = 0", 0.0), ("ancestral", 1.0)):
            answers = Answers.ask(model, held.rows.values, joint=1000, per_label=100, seed=0, steps=50, eta=eta)
            figures = measure(answers, model, judge, train.rows.values, held.rows.values)
            row = " | ".join(f"{figures[name]:.3f}" for name in FIGURES)
            print(f"| {schedule} | {sampler} | {row} |", flush=True)


if __name__ == "__main__":
    main()
