"""What the settings share: single tasks as changes of a recipe, and questions asked alike of all models."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

import mmcore
from benchmarks.paper.runs import Changes, Experiment, Trained
from benchmarks.paper.written import Row
from mmcore import metrics
from mmcore.metrics import Figure
from mmcore.metrics.questions import Extractor

ALWAYS: dict[str, Any] = {"training.roles.joint": 0.0, "training.roles.single": 1.0, "training.roles.absent": 0.0}
"""Roles for a model that is asked one question only: what is given is always given."""
SEPARATE: Changes = {"model.layout": "separate"}
"""A block and a timestep for every modality."""


def only(target: str, *given: str) -> Changes:
    """The single task of predicting ``target`` from what is given, always all of it."""
    return {f"tasks.{name}": False for name in given} | {f"tasks.{target}.weight": 1.0} | ALWAYS


def without(*names: str) -> Changes:
    """Some modalities left out, and what belongs to them."""
    return {f"{section}.{name}": None for name in names for section in ("modalities", "tasks", "data.columns")} | {
        "model.schedule_options": None
    }


def ask(
    experiment: Experiment,
    one: Trained,
    questions: Sequence[str],
    features: Mapping[str, Extractor] | None = None,
    **changes: Any,
) -> dict[str, Figure]:
    """All figures that fit the questions, on the held-out rows, sampled as the recipe says, with these changes."""
    how = one.setup.config.sampling.how() | changes
    held = experiment.held_out(one)
    return metrics.report(one.model, held, questions, weights=experiment.weights, features=features, **how)


def in_one_step(experiment: Experiment, one: Trained, questions: Sequence[str]) -> Row:
    """The model's first prediction as its answer: about the mean of all answers, where a sample is one of them."""
    return Row.of(one, ask(experiment, one, questions, steps=1), f"{one.name}, in one step")


def answers(one: Trained, n: int, **given: Tensor) -> dict[str, Tensor]:
    """Samples as the recipe says, given some variables."""
    return mmcore.sample(one.model, n, given=given, **one.setup.config.sampling.how())


def specialised(experiment: Experiment, joint: Trained, questions: Sequence[str]) -> list[Row]:
    """Where the budget is so: for each question, the joint model trained further on it alone."""
    if experiment.budget != "specialise":
        return []
    each = [(experiment.specialised(joint, one.replace("->", " → "), one), one) for one in questions]
    return [Row.of(one, ask(experiment, one, [question])) for one, question in each]
