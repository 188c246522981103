"""One seed of a setting, or of a variation of it, as the command line asks for it: what a process of its own can do.

What a part has measured is kept beside its models, and read back by the next call.
"""

import argparse
import hashlib
import importlib
import json
import time
from types import ModuleType

import cattrs
import torch

import mmcore
from benchmarks.paper.runs import Changes, Experiment
from benchmarks.paper.written import Result, commit, facts

_TABLES: dict[str, dict[str, mmcore.data.Table]] = {}
"""Rows that a process has read, by setting and changes."""


def module(name: str) -> ModuleType:
    """Of a setting; the open question has two data sets."""
    return importlib.import_module(f"benchmarks.paper.{name.removesuffix('-fashion').replace('-', '_')}")


def experiment(given: argparse.Namespace, varied: tuple[str, Changes] | None = None, seed: int = 0) -> Experiment:
    """Of one variation or none, and one seed."""
    return Experiment(
        given.name,
        given.data,
        mmcore.discover(),
        (seed,),
        given.weights,
        given.steps,
        given.rows,
        given.set,
        given.runs,
        part=given.part,
        budget=given.budget,
        singles=getattr(module(given.name), "SINGLES", 1),
        variation=varied,
        tables=_TABLES.setdefault(str((given.name, given.data, given.set)), {}),
    )


def measured(given: argparse.Namespace, one: tuple[tuple[str, Changes] | None, int]) -> Result:
    """A variation or none, and a seed."""
    torch.set_num_threads(given.threads)
    # What is kept is of the code that measured it, whatever code reads it back.
    started, code = time.perf_counter(), commit()
    varied, seed = one
    asked = experiment(given, varied, seed)
    tables = asked.setup({} if varied is None else varied[1], seed).tables()
    tables.pop("out")
    key = json.dumps(
        [tables, varied and varied[0], given.rows, given.part, given.weights is None, given.budget], sort_keys=True
    )
    kept = given.runs / "parts" / f"{given.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if kept.exists():
        return cattrs.structure(json.loads(kept.read_text()), Result)
    result = module(given.name).measure(asked)
    result.facts |= facts(asked.setup({}, times=asked.joint_times), started) | code
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(cattrs.unstructure(result), indent=1) + "\n")
    return result
