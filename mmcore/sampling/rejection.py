"""Conditioning by rejection sampling: of a model's joint samples, those that are as given."""

from collections import deque
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.model.joint import JointModel

PATIENCE = 10_000
"""How many samples in a row may be of no use before the question is given up."""


class SeldomError(RequestError):
    """Joint samples hardly ever have the values given."""


def check_discrete(model: JointModel, given: Mapping[str, Tensor], where: Mapping[str, Tensor]) -> None:
    """Refuse what joint samples cannot be compared with.

    Raises:
        RequestError: nothing is given, or something that is real-valued, given in part, or never generated.
    """
    if not given:
        raise RequestError("sample: conditioning 'rejection' with nothing given, expected 'roles'")
    for name in given:
        m = model.variable(name)
        if not m.discrete:
            raise RequestError(
                f"sample: conditioning 'rejection' given {name!r}, whose values are real numbers: no sample would equal them; "
                "expected classes, or 'roles'"
            )
        if not m.spec.there(given[name]).all():
            raise RequestError(
                f"sample: conditioning 'rejection' given {name!r} with void, which no sample equals; expected known values, or 'roles'"
            )
        if name in where:
            raise RequestError(
                f"sample: conditioning 'rejection' with {name!r} given in part, expected all of it, or 'roles'"
            )
        if not model.heads.reads(name):
            raise RequestError(
                f"sample: conditioning 'rejection' given {name!r}, which no task recovers; expected 'roles'"
            )


def by_rejection(propose: Callable[[int], dict[str, Tensor]], given: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    """Rejection sampling: joint samples in their order, each for the first free row that has its values given.

    What no row wants is left out.

    Args:
        propose: some joint samples, from a place on; the answer does not depend on how many.
        given: values ``(n, *spec.shape)`` of classes, by name.
        n: the number of rows.

    Returns:
        ``(n, *spec.shape)`` by name.

    Raises:
        SeldomError: :data:`PATIENCE` samples in a row were none that a row still wanted.
    """
    free: dict[tuple[int, ...], deque[int]] = {}
    for row, key in enumerate(_keys(given, given)):
        free.setdefault(key, deque()).append(row)
    kept: dict[str, list[Tensor]] = {}
    rows: list[int] = []
    at = unused = 0
    while len(rows) < n:
        proposed = propose(at)
        chosen = []
        keys = _keys(proposed, given)
        for place, key in enumerate(keys):
            if len(rows) == n:
                break
            unused += 1
            if free.get(key):
                rows.append(free[key].popleft())
                chosen.append(place)
                unused = 0
        for name, x in proposed.items():
            kept.setdefault(name, []).append(x[chosen])
        at += len(keys)
        if unused >= PATIENCE:
            key = next(key for key, left in free.items() if left)
            raise SeldomError(
                f"sample: of {at} joint samples the last {unused} had none of the values given and still wanted, such as those of row "
                f"{free[key][0]}; expected values that the model generates, or conditioning 'roles'"
            )
    order = torch.tensor(rows).argsort()
    return {name: torch.cat(parts)[order] for name, parts in kept.items()}


def _keys(values: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    """Each row's values of these variables."""
    flat = torch.cat([values[name].reshape(len(values[name]), -1).long() for name in names], dim=1)
    return [tuple(row) for row in flat.tolist()]
