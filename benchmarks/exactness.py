"""What each sampler lacks of the truth on Gaussian data, exactly, for every layout, schedule and kind of codes.

``python -m benchmarks.exactness`` prints Markdown tables: the largest error of any entry of any answer's regression or covariance,
over all 19 questions about three modalities of unit variance (correlations 0.99, -0.5 and -0.55), with the exact predictor in the place of a network.
Nothing is drawn. It needs the repository, whose ``tests/oracle.py`` has the predictor.
"""

import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from mmcore import RequestError
from mmcore.process import schedule
from tests.oracle import HARD, LAYOUTS, SAMPLERS, errors, gaussian_model, questions

CODES = {"ancestral, codes drawn": {"sampler": "ancestral", "codes": "draw-all"}}


def cell(name: str, T: int, layout: str, **how: object) -> str:
    """One number, or a dash where the sampler refuses the schedule."""
    model = gaussian_model(schedule.NAMED[name](T, 3), [1] * 3, LAYOUTS[layout], space=(3, 1))
    try:
        return f"{max(errors(model, [HARD], questions(3), **how)):.4f}"
    except RequestError:
        return "–"


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*does not reach the prior")
    samplers = SAMPLERS | CODES
    columns = [("cosine", 250), ("cosine", 1000), ("linear", 1000), ("paper", 1000), ("paper-steps", 1000)]
    print("| layout | sampler | " + " | ".join(f"{name}, T = {T}" for name, T in columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for layout in LAYOUTS:
        for sampler, how in samplers.items():
            # Only the joint block is told apart by the schedules that couple modalities.
            numbers = [cell(name, T, layout, **how) for name, T in columns]
            print(f"| {layout} | {sampler} | {' | '.join(numbers)} |", flush=True)
    steps = (10, 20, 50, 100, 250)
    print("\n| sampler, under cosine, T = 1000 | " + " | ".join(f"{n} steps" for n in steps) + " |")
    print("|---|" + "---|" * len(steps))
    for sampler, how in samplers.items():
        for spacing in ("time", "snr"):
            numbers = [cell("cosine", 1000, "shared", steps=n, spacing=spacing, **how) for n in steps]
            print(f"| {sampler}, even in {spacing} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
