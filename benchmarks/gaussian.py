"""A small trained network on Gaussian data: the largest error of its answers by the size of its training.

``python -m benchmarks.gaussian [--steps 2000 3000 6000] [--layouts shared separate]`` prints, for the joint and each conditional of two vectors of unit
variances, the largest error of any entry of mean, regression and covariance of 20,000 samples. Three standard errors of these are about 0.03.
"""

import argparse

import torch

from tests.oracle import GENERATE, OBSERVE, questions
from tests.test_trained import NAMES, TRAINING, fitted, lacks


def main() -> None:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[2000, 3000, 6000])
    parser.add_argument("--layouts", nargs="+", default=["shared", "separate"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = questions(len(NAMES), (GENERATE, OBSERVE))
    names = [
        " and ".join(n for n, role in zip(NAMES, roles, strict=True) if role == GENERATE)
        + "".join(f" given {n}" for n, role in zip(NAMES, roles, strict=True) if role == OBSERVE)
        for roles in asked
    ]
    print(f"| layout | steps of {TRAINING['batch_size']} rows | {' | '.join(names)} |\n|{'---|' * (2 + len(names))}")
    for layout in given.layouts:
        for steps in given.steps:
            model = fitted(layout, steps=steps)
            cells = [f"{lacks(model, roles):.3f}" for roles in asked]
            print(f"| {layout} | {steps:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
