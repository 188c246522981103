"""Further training of a joint model on one question alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from mmcore.data import Dataset, Table
from mmcore.errors import OptionError
from mmcore.model.joint import JointModel
from mmcore.model.roles import RoleMix
from mmcore.options import check_call, within
from mmcore.training.loop import fit
from mmcore.training.options import TrainOptions
from mmcore.training.state import TrainState

SHARE = 0.25
"""Of the joint training's steps, how many are made on the one question."""


def specialise(
    model: JointModel,
    rows: Iterable[Mapping[str, Any]] | Dataset | Table,
    ask: str,
    *,
    share: float = SHARE,
    options: TrainOptions | None = None,
    **more: Any,
) -> TrainState:
    """Train a joint model further on one question alone, such as ``"image -> label"``.

    Answers to this question become better, and those to others in time worse: keep the joint model beside it.

    .. code-block:: python

        mmcore.fit(model, rows, steps=2000, out="runs/joint")
        mmcore.specialise(model, rows, "image -> label", options=TrainOptions(steps=2000), out="runs/labels")

    Args:
        model: trained in place, from the weights that it has.
        rows: as :func:`mmcore.fit` takes them.
        ask: what is observed, an arrow ``->``, and what is generated, by names with commas between; all else is absent.
        share: of the steps of ``options``, how many are made.
        options: those of the joint training; only their steps and roles change.
        more: as of :func:`mmcore.fit`.

    Returns:
        the state after the last step.

    Raises:
        RequestError: a question that the model cannot be asked, a share that is none, or as :func:`mmcore.fit`.
    """
    check_call(specialise, locals(), apart=["share"])
    return fit(model, rows, options=for_question(ask, share, options or TrainOptions()), **more)


def for_question(ask: str, share: float, options: TrainOptions) -> TrainOptions:
    """Training options for one question alone, in a share of the steps.

    Raises:
        OptionError: a question or a share that is none.
    """
    rule = within(0, 10)
    if not rule.holds(share) or share == 0:
        raise OptionError("specialise", "share", share, "a number above 0 and at most 10")
    roles = RoleMix(joint=0.0, single=0.0, questions={ask: 1.0}, partial=options.roles.partial)
    return attrs.evolve(options, steps=max(1, round(share * options.steps)), roles=roles)
