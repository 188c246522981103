"""``python -m benchmarks.paper NAME --data PATH [--weights PATH] [--seeds 1] [--steps N] [--rows N] [--set a.b=value] [--pictures]``."""

import argparse
import importlib
import os
import time
from pathlib import Path

import torch

import mmcore
from benchmarks.paper.runs import RUNS, Experiment
from benchmarks.paper.written import RESULTS, commit, facts, sheet

SETTINGS = ("masked-image", "image-label", "image-embedding", "image-mask", "four-at-once", "modalities")


def main() -> None:
    """Train what is not there yet, measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--data", type=Path, help="what the recipe's data.options.path is; modalities need none")
    parser.add_argument("--weights", type=Path, help="SqueezeNet's, for LPIPS and the distances of sets")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--steps", type=int, help="of training; by default the recipe's")
    parser.add_argument("--rows", type=int, default=1000, help="held-out rows to measure on, at most")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a change of the recipe")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where trained models are kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pictures", action="store_true", help="draw them, by the kept models, in place of measuring")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.data is None and given.name != "modalities":
        parser.error(f"{given.name} needs --data")
    started, code = time.perf_counter(), commit()
    experiment = Experiment(
        given.name,
        given.data,
        mmcore.discover(),
        range(given.seeds),
        given.weights,
        given.steps,
        given.rows,
        given.set,
        given.runs,
    )
    module = importlib.import_module(f"benchmarks.paper.{given.name.replace('-', '_')}")
    if given.pictures:
        if not hasattr(module, "pictures"):
            parser.error(f"{given.name} has no pictures")
        given.out.mkdir(parents=True, exist_ok=True)
        sheet(module.pictures(experiment)).save(given.out / f"paper-{given.name}-pictures.png")
        return
    result = module.measure(experiment)
    words = ["python -m benchmarks.paper", given.name, *([] if given.data is None else ["--data PATH"])]
    words += [*([] if given.weights is None else ["--weights PATH"]), f"--seeds {given.seeds}", f"--rows {given.rows}"]
    words += [] if given.steps is None else [f"--steps {given.steps}"]
    words += [f"--set '{one}'" for one in given.set]
    result.facts |= code | facts(" ".join(words), experiment.setup({}), started)
    result.write(given.out)
    print(result.markdown())


if __name__ == "__main__":
    main()
