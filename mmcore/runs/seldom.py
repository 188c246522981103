"""How often a training asked what a person asks. A model answers every question, and nothing in the answer shows that no row has taught it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Self

import attrs
import torch

from mmcore.data import Dataset
from mmcore.data.pairing import presence
from mmcore.errors import MmcoreError
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role, RoleMix
from mmcore.rng import Rng
from mmcore.runs.run import Run

ROWS = 8192
"""Rows of which a training's questions are drawn anew, to count them."""
SELDOM = 0.002
"""A share of the training's rows below which a question is told of."""
FURTHER = 1.5
"""How many times as much must be given as training rows were, that this is told."""


@attrs.frozen(eq=False)
class Taught:
    """What a training asked, in shares of the rows that asked something.

    Attributes:
        many: of rows that were given so many modalities or more, by how many.
        together: of rows that were given the first and generated the second, by names.
    """

    many: tuple[float, ...]
    together: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, run: Run | None, model: JointModel) -> Self | None:
        """That of a run's training; None where it cannot be known: data that are not there or are a stream, a model that began as another."""
        if run is None or run.setup.config.model.grows_from is not None:
            return None
        try:
            rows = run.setup.rows()
        except MmcoreError:
            return None
        if not isinstance(rows, Dataset) or not len(rows):
            return None
        _, has = presence(rows.source, rows.names)
        by_name = dict(zip(rows.names, torch.from_numpy(has).T, strict=True))
        nowhere = torch.zeros(len(has), dtype=torch.bool)
        present = torch.stack([by_name.get(m.name, nowhere) for m in model.variables], dim=1)
        return cls.drawn(run.setup.config.training.roles, model, present)

    @classmethod
    def drawn(cls, mix: RoleMix, model: JointModel, present: torch.Tensor) -> Self | None:
        """That of rows that have what is ``present (R, V)``; None where none asks anything."""
        driver, names = model.driver, [m.name for m in model.variables]
        generable, encoded = driver.generable.cpu(), driver.encoded.cpu()
        asked = mix.asked(model.variables, generable, encoded)
        each = present[torch.arange(ROWS) * len(present) // ROWS]
        roles, _ = mix.draw(Rng.for_rows(0, ROWS).of("taught"), each, generable, encoded, asked)
        roles = roles[(roles == Role.GENERATE).any(1)]
        if not len(roles):
            return None
        given, generated = ((roles == role).double() for role in (Role.OBSERVE, Role.GENERATE))
        count = given.sum(1)
        shares = (given.T @ generated / len(roles)).tolist()
        return cls(
            tuple(float((count >= k).double().mean()) for k in range(len(names) + 1)),
            {(a, b): share for a, row in zip(names, shares, strict=True) for b, share in zip(names, row, strict=True)},
        )

    def told(self, given: Collection[str], asked: Collection[str]) -> Iterator[str]:
        """What is to be said of a question: a line where the training hardly asked it.

        Args:
            given: the names of what is given.
            asked: of what is generated.
        """
        for one in sorted(given):
            others = sorted(name for name in asked if self.together.get((one, name), 1.0) < SELDOM)
            if others:
                share = max(self.together[one, name] for name in others)
                yield (
                    f"{', '.join(others)} given {one}: {_share(share)} of the training's rows asked so; such an answer is a guess of the network, "
                    "which no row has taught"
                )
                return
        most = max(k for k, share in enumerate(self.many) if share >= SELDOM)
        # Of one more among many a network knows enough: rows that lack a single cell of a wide table are the rule.
        if len(given) >= FURTHER * max(most, 1) and self.many[len(given)] < SELDOM:
            yield (
                f"{len(given)} variables given: {_share(self.many[len(given)])} of the training's rows were given so many, and answers may be worse than of "
                f"{most} of them; --absent leaves others out"
            )


def untaught(run: Run | None, model: JointModel, given: Collection[str], absent: Collection[str]) -> list[str]:
    """What is to be said of one question of several given variables, for all samples; none of a single one, for which no data are opened.

    Args:
        run: whose model it is; None for a model by itself.
        model: that is asked.
        given: the names of what is given.
        absent: of what is left out.
    """
    taught = Taught.of(run, model) if len(given) > 1 else None
    rest = [m.name for m in model.modalities if m.name not in given and m.name not in absent]
    return [] if taught is None else list(taught.told(given, rest))


def _share(share: float) -> str:
    return "none" if share == 0 else f"{share:.2%}"
