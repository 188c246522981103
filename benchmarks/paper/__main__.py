"""``python -m benchmarks.paper NAME --data PATH``: train what is not there yet, measure, and write the results."""

import argparse
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.paper.part import experiment, measured, module
from benchmarks.paper.runs import BUDGETS, RUNS, variation
from benchmarks.paper.written import PICTURES, RESULTS, Result, sheet

SETTINGS = (
    "masked-image",
    "image-label",
    "image-embedding",
    "image-mask",
    "four-at-once",
    "modalities",
    "modalities-fashion",
)


def main() -> None:
    """Train what is not there yet, measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--data", type=Path, help="what the recipe's data.options.path is; modalities need none")
    parser.add_argument("--weights", type=Path, help="SqueezeNet's, for LPIPS and the distances of sets")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--jobs", type=int, default=1, help="seeds and variations at once, each in a process")
    parser.add_argument("--steps", type=int, help="of training; by default the recipe's")
    parser.add_argument(
        "--budget",
        choices=BUDGETS,
        default="steps",
        help="steps: the recipe's for every model; compute: every model has those of all single tasks together; specialise: the joint "
        "model has a quarter more on each question alone, and the single tasks as many",
    )
    parser.add_argument("--rows", type=int, default=1000, help="held-out rows to measure on, at most")
    parser.add_argument(
        "--part", choices=("test", "validation"), default="test", help="whose rows; choose on validation"
    )
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a change of the recipe")
    parser.add_argument(
        "--try",
        action="append",
        default=[],
        dest="tries",
        metavar="'name: a.b=value; …'",
        help="a variation of the joint model to measure beside it; the results are then NAME-variations, unless --as names them",
    )
    parser.add_argument(
        "--alone", action="store_true", help="measure the joint model and its variations, no single task"
    )
    parser.add_argument(
        "--as", dest="called", metavar="NAME", help="what the results are called, if not as the setting"
    )
    parser.add_argument("--out", type=Path, help="by default beside this program; pictures go to the documentation")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where trained models are kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pictures", action="store_true", help="draw them, by the kept models, in place of measuring")
    given = parser.parse_args()
    if given.data is None and given.name != "modalities":
        parser.error(f"{given.name} needs --data")
    setting = module(given.name)
    if given.budget != "steps" and not hasattr(setting, "SINGLES"):
        parser.error(f"--budget {given.budget}: {given.name} has no single tasks, expected no --budget")
    given.out = given.out or (PICTURES if given.pictures else RESULTS)
    if given.pictures:
        if not hasattr(setting, "pictures"):
            parser.error(f"{given.name} has no pictures")
        given.out.mkdir(parents=True, exist_ok=True)
        sheet(setting.pictures(experiment(given))).save(given.out / f"paper-{given.called or given.name}-pictures.png")
        return
    work = list(
        itertools.product([("recipe", {}) if given.alone else None, *map(variation, given.tries)], range(given.seeds))
    )
    if given.jobs == 1:
        parts = [measured(given, one) for one in work]
    else:
        # Not forked: a child could not use the parent's GPU.
        with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(partial(measured, given), work))
    result = Result.joined(parts)
    if given.alone:
        result.curves.clear()
    elif hasattr(setting, "conclude"):
        setting.conclude(result)
    words = ["python -m benchmarks.paper", given.name, *([] if given.data is None else ["--data PATH"])]
    words += [*([] if given.weights is None else ["--weights PATH"]), f"--seeds {given.seeds}", f"--rows {given.rows}"]
    words += [] if given.steps is None else [f"--steps {given.steps}"]
    words += [f"--budget {given.budget}"] if given.budget != "steps" else []
    words += [f"--part {given.part}"] if given.part != "test" else []
    words += ["--alone"] if given.alone else []
    words += [f"--set '{one}'" for one in given.set] + [f"--try '{one}'" for one in given.tries]
    result.facts["command"] = " ".join(words)
    if given.called:
        result.name = given.called
    elif given.tries or given.alone:
        result.name += "-variations"
    elif given.budget != "steps":
        result.name += f"-{given.budget}"
    result.write(given.out)
    print(result.markdown())


if __name__ == "__main__":
    main()
