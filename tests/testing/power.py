"""Which size of a fault each check by samples finds, and how often: ``python -m tests.testing.power [seeds]``."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmcore.testing import run
from tests.testing.mutants import broken
from tests.testing.mutants_modality import normal_by, times, weighted
from tests.testing.series import Series

FAULTS: dict[tuple[str, str], Callable[[float], Any]] = {
    ("decoder.distribution", "temperature of five classes, by"): lambda s: broken("label", sample=lambda m, p, rng: m.inner.sample((1 + s) * p, rng)),
    ("decoder.distribution", "temperature of a map's two classes, by"): lambda s: broken("mask of two classes", sample=lambda m, p, rng: m.inner.sample((1 + s) * p, rng)),
    ("decoder.distribution", "deviation of a Gaussian's draws, by"): lambda s: broken("reference", sample=normal_by(lambda z: (1 + s) * z)),
    ("decoder.distribution", "draws cut at so many deviations"): lambda s: broken("reference", sample=normal_by(lambda z: z.clamp(-s, s))),
    ("loss.slopes", "weight of one element of three, times"): lambda s: broken("reference", loss=weighted([1.0, s, 1.0])),
    ("loss.draws", "weight of a loss that is no sum, times"): lambda s: broken(Series, loss=times(s)),
}  # fmt: skip
SIZES = {
    "temperature of five classes, by": (0.02, 0.05, 0.1),
    "temperature of a map's two classes, by": (0.02, 0.05, 0.1),
    "deviation of a Gaussian's draws, by": (0.01, 0.02, 0.05),
    "draws cut at so many deviations": (2.0, 3.0, 4.0),
    "weight of one element of three, times": (1.1, 1.3, 2.0),
    "weight of a loss that is no sum, times": (1.1, 1 / math.log(2), 10.0),
}


def main(seeds: int) -> None:
    """Print the table's rows."""
    torch.set_num_threads(1)
    for (check, fault), make in FAULTS.items():
        for size in SIZES[fault]:
            found = sum(bool(run(make(size)(Path()), seed=seed, only=[check]).failures) for seed in range(seeds))
            print(f"| `{check}` | {fault} {size:.3g} | {found} of {seeds} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
