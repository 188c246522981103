"""Which size of a fault each check by samples finds, and how often.

From the root of the repository::

    python -m tests.testing.power --seeds 10 --write    measure all, write power.json and the page's table
    python -m tests.testing.power --only loss.draws     one check's, printed
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
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


HERE = Path(__file__).parent
DATA = HERE / "power.json"
PAGE = HERE.parent.parent / "docs" / "conformance.md"
HEAD = ["| check | fault | found |", "|---|---|---|"]


def table(found: Mapping[str, str]) -> str:
    """The page's table: of each check and fault how many seeds found it."""
    return "\n".join([*HEAD, *(f"| {fault} | {count} |" for fault, count in found.items())])


def main() -> None:
    """Do what is asked."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", help="checks whose ids begin so")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    before = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    found = {}
    for (check, fault), make in FAULTS.items():
        for size in SIZES[fault]:
            name = f"`{check}` | {fault} {size:.3g}"
            if asked.only and not check.startswith(asked.only):
                found |= {name: before[name]} if name in before else {}
                continue
            count = sum(bool(run(make(size)(Path()), seed=seed, only=[check]).failures) for seed in range(asked.seeds))
            found[name] = f"{count} of {asked.seeds}"
            print(f"| {name} | {found[name]} |", flush=True)
    if asked.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.replace(table(before), table(found)), encoding="utf-8")
        DATA.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
