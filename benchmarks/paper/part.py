"""One seed of a setting, or of a variation of it, as the command line asks for it: what a process of its own can do."""

import argparse
import importlib
from types import ModuleType

import torch

import mmcore
from benchmarks.paper.runs import Changes, Experiment
from benchmarks.paper.written import Result


def module(name: str) -> ModuleType:
    """Of a setting."""
    return importlib.import_module(f"benchmarks.paper.{name.replace('-', '_')}")


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
        variation=varied,
    )


def measured(given: argparse.Namespace, one: tuple[tuple[str, Changes] | None, int]) -> Result:
    """A variation or none, and a seed."""
    torch.set_num_threads(given.threads)
    return module(given.name).measure(experiment(given, *one))
