"""What training draws for a step's rows, and what follows from that alone: timesteps, roles, and how they drive the space."""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from mmcore.data import TensorBatch
from mmcore.modality.holes import seen_of
from mmcore.model.backbones.base import maker
from mmcore.model.joint import Drive, JointModel
from mmcore.model.roles import RoleMix
from mmcore.rng import Rng
from mmcore.training.timesteps import Timesteps
from mmcore.training.weighting import Weighting

MOST_ROWS, MOST_STEPS = 4096, 32
"""How much is drawn at once: of more, the time is no longer that of starting operations."""


@attrs.frozen(eq=False)
class Draws:
    """What is drawn for some rows, for each by itself.

    Attributes:
        rng: the rows' random numbers, of the step.
        t: ``(B, K)``, the timesteps.
        roles: ``(B, V)``.
        kinds: ``(B,)``, each row's kind, as a place in :attr:`mmcore.RoleMix.shares`.
        seen: the elements of generated modalities that are observed, by name; None for none.
        drive: what follows from timesteps, roles and these.
        factors: ``(B, tasks)``, ``λ_k(t)``.
        level: ``(B, 1)``, the noise on observed codes, as a share of the most.
    """

    rng: Rng
    t: Tensor
    roles: Tensor
    kinds: Tensor
    seen: dict[str, Tensor] | None
    drive: Drive
    factors: Tensor
    level: Tensor


@attrs.define(eq=False)
class Drawing:
    """Draws for one step after the other.

    What complete rows draw depends on nothing but their places. So it is drawn for several steps at once, with the same numbers as for each
    alone: these are a hundred operations on a few numbers, and most of their time is that of starting them.

    Attributes:
        model: for which.
        weighting: draws the timesteps that do not know the question.
        roles: how roles are drawn.
        rng: of the rows, of any step.
        timesteps: draws them by question; None to leave them even.
    """

    model: JointModel
    weighting: Weighting
    roles: RoleMix
    rng: Rng
    timesteps: Timesteps | None = None
    _asked: Tensor = attrs.field(init=False)
    _first: int = attrs.field(default=-1, init=False)
    _ahead: list[Draws] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        model = self.model
        self._asked = self.roles.asked(model.variables, model.driver.generable, model.driver.encoded).to(model.device)

    def __call__(self, step: int, batch: TensorBatch) -> Draws:
        """The draws of a step for its batch."""
        if not self._first <= step < self._first + len(self._ahead):
            self._draw_ahead(step)
        draws = self._ahead[step - self._first]
        model = self.model
        seen = self.roles.draw_seen(draws.rng, [m for m in model.modalities if model.divisible(m)])
        if batch.complete and seen is None:
            return draws
        if seen is not None:
            # What is void is not observed.
            seen = {name: seen_of(model.variable(name), batch.values[name], where) for name, where in seen.items()}
        if batch.complete:
            return attrs.evolve(draws, seen=seen, drive=model.drive(draws.t, draws.roles, seen))
        even = self.weighting.draw(model, draws.rng.of("t"))
        t, roles, kinds = self.ask(draws.rng, even, batch.present)
        return attrs.evolve(
            draws,
            t=t,
            roles=roles,
            kinds=kinds,
            seen=seen,
            drive=model.drive(t, roles, seen),
            factors=self.weighting.factors(model, t),
        )

    def ask(self, rng: Rng, even: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Timesteps ``(B, K)``, roles ``(B, V)`` and kinds ``(B,)`` of rows that have what is ``present (B, V)``.

        Args:
            rng: of the rows.
            even: timesteps that do not know the question, ``(B, K)``.
            present: bool.
        """
        driver = self.model.driver
        roles, kinds = self.roles.draw(rng, present, driver.generable, driver.encoded, self._asked)
        return even if self.timesteps is None else self.timesteps(rng.of("t"), even, roles), roles, kinds

    def _draw_ahead(self, step: int) -> None:
        """Draw for complete rows, from this step on."""
        model, rows = self.model, len(self.rng.rows)
        steps = range(step, step + max(1, min(MOST_STEPS, MOST_ROWS // rows)))
        rng = self.rng.at(steps).of("train")
        even = self.weighting.draw(model, rng.of("t"))
        every = torch.ones(len(even), len(model.variables), dtype=torch.bool, device=even.device)
        t, roles, kinds = self.ask(rng, even, every)
        many = {
            "t": t,
            "roles": roles,
            "kinds": kinds,
            "drive": model.drive(t, roles),
            "factors": self.weighting.factors(model, t),
            # The name of a stream of random numbers, which would change with it.
            "level": rng.of("blur level").uniform(1),
        }
        self._first = step
        self._ahead = [
            Draws(rng=self.rng.at(at).of("train"), seen=None, **part)
            for part, at in zip(split(many, [rows] * len(steps)), steps, strict=True)
        ]


def draws_globally(model: JointModel) -> bool:
    """Whether a part may draw from torch's global generator: one with torch's dropout, or that no plugin made, of which nobody asks that it does not."""
    if any(isinstance(part, _DropoutNd) and part.p > 0 for part in model.modules()):
        return True
    makers = [maker(model.backbone), *(m.made for m in model.variables)]
    own_parts = any(task.decoder is not None or task.loss is not None for task in model.tasks)
    return own_parts or any(origin is None or origin.registered for origin in makers)


def split(x: Any, sizes: Sequence[int]) -> list[Any]:
    """The first rows, the next, and so on, as many as ``sizes`` says, of a tensor ``(B, ...)``, of several by name, an attrs class of them, or an rng."""
    if x is None:
        return [None] * len(sizes)
    if isinstance(x, Tensor):
        return list(x.split(sizes))
    if isinstance(x, Rng):
        return [attrs.evolve(x, rows=rows) for rows in x.rows.split(sizes)]
    if isinstance(x, dict):
        return [dict(zip(x, parts, strict=True)) for parts in zip(*(split(y, sizes) for y in x.values()), strict=True)]
    fields = (split(getattr(x, field.name), sizes) for field in attrs.fields(type(x)))
    return [type(x)(*parts) for parts in zip(*fields, strict=True)]
