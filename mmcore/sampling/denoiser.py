"""The denoiser: a model with its conditioning, from noise to predictions, codes, the next timestep, and the answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import attrs
import torch
from torch import Tensor

from mmcore.errors import MmcoreError, RequestError
from mmcore.modality.mixed import final
from mmcore.model.heads import Predictions
from mmcore.model.joint import JointModel
from mmcore.model.reading import Gains
from mmcore.model.roles import Role
from mmcore.process import Blocks
from mmcore.rng import Rng
from mmcore.sampling.question import Question

CODES = ("mean", "draw", "draw-all")
"""How predictions enter a step: by their mean codes; or of discrete modalities, or of all, by the code of a draw."""
MOST_AHEAD = 1 << 22
"""How many elements of the space are worked out ahead, over several timesteps."""
MOST_STEPS = 256
"""How many timesteps are worked out ahead."""


@attrs.define(eq=False)
class Here:
    """Where a sampler is: noisy latents and their timestep.

    Attributes:
        z: the noisy latents, ``(B, *Z)``.
        t: its timestep, one for all rows.
    """

    z: Tensor
    t: int


class Asked(Protocol):
    """What a sampler calls: predict the clean latents, take a step, draw noise.

    A :class:`Denoiser`, or one that wraps it, as guidance does.
    """

    @property
    def process(self) -> Blocks:
        """The forward process."""
        ...

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The predicted clean latents of a step from here, ``Ê_i``, concatenated ``(B, D)``: one call of the network.

        Args:
            here: where the sampler is.
            rng: of the step; used where codes are drawn.
        """
        ...

    def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """Step to the timestep ``to`` with these predicted latents, by :meth:`mmcore.Process.step`: ``(B, *Z)``.

        With ``eta = 1`` it is a draw from :meth:`mmcore.Process.posterior`.

        Args:
            here: where the sampler is.
            codes: ``(B, D)``.
            to: a timestep below that of ``here``.
            noise: standard normal ``(B, *Z)``, as :meth:`noise` draws it; needed for ``eta > 0``.
            eta: DDIM's ``η``.
        """
        ...

    def by_code(self, coefficient: Tensor) -> Tensor:
        """A ``coefficient (1, K)`` of the blocks for each code element, ``(1, D)``, in the codes' dtype."""
        ...

    def noise(self, rng: Rng) -> Tensor:
        """Standard normal noise of a step, ``(B, *Z)``."""
        ...


def given_back(who: object, kind: str, what: str, found: object, like: Tensor) -> Tensor:
    """What a sampler or a guidance of one's own returned, where it is as the tensor it began from.

    Args:
        who: the object that was called.
        kind: what it is, in a word.
        what: what it should give, in a word or two.
        found: what it gave.
        like: of the shape and dtype that are expected.

    Raises:
        RequestError: another type, shape or dtype.
    """
    if isinstance(found, Tensor) and found.shape == like.shape and found.dtype == like.dtype:
        return found
    gave = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    raise RequestError(
        f"sample: the {kind} {type(who).__name__} gave {gave}, expected {what} {like.dtype} {tuple(like.shape)}"
    )


@attrs.define(eq=False)
class Fixed:
    """What a timestep fixes, whatever the noisy latents are."""

    t: Tensor
    timesteps: Tensor
    gains: Gains
    weight: Tensor
    ahead: tuple[Tensor, ...] | None


class Denoiser:
    """A model with its conditioning: predicts clean latents from noisy ones, and takes the sampler's steps.

    It is asked one question, for some rows. What follows from a timestep alone (how roles drive the space, its scale, the codes' weights) is worked out once for each
    timestep; what follows from the question alone, once. So a step is a call of the network and a few operations.

    Args:
        model: in evaluation mode.
        question: on the model's device.
        path: the decreasing timesteps to come, worked out together; others are worked out when they are met.
        codes: how modalities enter a step: ``"mean"``, ``"draw"`` or ``"draw-all"``.
    """

    def __init__(self, model: JointModel, question: Question, path: Sequence[int] = (), codes: str = "mean") -> None:
        self.model, self.question, self.path, self._codes = model, question, list(path), codes
        self.known = model.encode(question.known)
        self.observed = model.frame.place(self.known)
        # Rows that ask alike share one row of all that follows from the question.
        told, seen = question.told, question.seen
        self._alike = not seen and bool((told == told[:1]).all())
        self._roles = told[:1] if self._alike else told
        self._seen = seen or None
        self._ahead: dict[int, Fixed] = {}
        if len(self.path) > 1:
            model.process.prepare(self.path, self.known.device)
        end = model.drive(torch.full_like(self._roles[:, 0], model.process.steps), self._roles, self._seen)
        self._condition = model.condition(self.observed, end, model.there(question.known))
        self._known = end.known
        self._still = None if bool(end.moves.all()) else ~end.moves
        self._parts = question.parts(model)

    @property
    def process(self) -> Blocks:
        """The forward process."""
        return self.model.process

    # ---- on the way ----

    def begin(self, t: int, noise: Tensor, start: Mapping[str, Tensor] | None = None) -> Tensor:
        """The noisy latents where sampling begins, ``(B, *Z)``.

        Args:
            t: the first timestep.
            noise: standard normal ``(B, *Z)``.
            start: values to edit, by name, noised to ``t``; None for nothing but noise.
        """
        model = self.model
        drive = model.drive(torch.full_like(self._roles[:, 0], t), self._roles, self._seen)
        if start is None:
            return model.noisy(self.observed, model.driver.beginning(drive), noise)
        known, where = self.question.known, self.question.where
        edited = known | {
            name: torch.where(where[name], known[name], x) if name in where else x for name, x in start.items()
        }
        return model.noisy(model.frame.place(model.encode(edited)), drive, noise)

    def at(self, here: Here) -> Predictions:
        """What the network predicts here: each task's distribution parameters."""
        return self.predicted(here.z, self.fixed(here.t))

    def predicted(self, z: Tensor, path: "Fixed") -> Predictions:
        """What the network predicts of noisy latents ``(B, *Z)`` at a timestep, of which is known what it fixes."""
        read = self.model.reading.read(z, path.gains)
        found = self.model.predict(read, path.t, path.timesteps, self.question.told, self._condition, path.ahead)
        return self.model.heads.conditioned(found, self.question.known, self._parts) if self._parts else found

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The predicted clean latents ``Ê_i``, by their means or by draws: ``(B, D)``."""
        return self.coded(self.at(here), rng)

    def coded(self, predictions: Predictions, rng: Rng) -> Tensor:
        """The codes of what is predicted, ``(B, D)``."""
        draws = None if self._codes == "mean" else rng.of("codes")
        return self.model.heads.expected_codes(predictions, draws, draw_all=self._codes == "draw-all")

    def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """Step to the timestep ``to`` with these predicted latents; blocks that generate nothing stay as they are."""
        h_s, h_t = self.weighted(codes, self.fixed(to), self.fixed(here.t))
        if eta == 1 and noise is not None:
            z = self.process.posterior(here.z, None, to, here.t, h=(h_s, h_t)).draw(noise)
        else:
            z = self.process.step(here.z, h_s, h_t, to, here.t, noise, eta)
        return self.moved(here.z, z)

    def weighted(self, codes: Tensor, *paths: "Fixed") -> list[Tensor]:
        """The weighted sum of predicted latents at some timesteps, each ``(B, *Z)``."""
        placed, frame = self.model.frame.place(codes), self.model.frame
        # What is not generated has weight 0, and a predicted code is finite: no mask is needed but for elements that are known.
        known = self._known
        return [
            frame.join(placed * path.weight) if known is None else frame.weighted(placed, path.weight, known)
            for path in paths
        ]

    def moved(self, before: Tensor, z: Tensor) -> Tensor:
        """The noisy latents ``z``, but in blocks that generate nothing those from ``before`` the step."""
        if self._still is None:
            return z
        return torch.where(self.process.widen(self._still, z) != 0, before, z)

    def noise(self, rng: Rng) -> Tensor:
        """Standard normal noise of a step, ``(B, *Z)``."""
        return rng.of("noise").normal(*self.model.space.shape, dtype=self.observed.dtype)

    def by_code(self, coefficient: Tensor) -> Tensor:
        """A ``coefficient (1, K)`` of the blocks for each code element, ``(1, D)``, in the codes' dtype."""
        if self.process.blocks == 1:
            return coefficient.to(self.known.dtype)
        return self.model.frame.by_code(self.process.by_modality(coefficient)).to(self.known.dtype)

    # ---- beside it, and at the end ----

    def without(self, column: int, rng: Rng) -> "Denoiser":
        """The same denoiser with one variable's observation left out, as guidance needs it.

        Args:
            column: the variable's place among the variables.
            rng: of the whole run, for the noise that takes the observation's place in a block of its own.
        """
        return _Without(self, column, rng)

    def read(self, predictions: Predictions, rng: Rng, *, draw: bool = False) -> dict[str, Tensor]:
        """Decode the last prediction to values ``(B, *spec.shape)`` of every variable; placeholders where a row lacks one.

        Args:
            predictions: at the last timestep.
            rng: of the whole run.
            draw: draw real-valued variables too, in place of reading their points.

        Raises:
            MmcoreError: a prediction that is NaN, of which a class would be read as well.
        """
        question, heads = self.question, self.model.heads
        answer = {}
        for column, m in enumerate(self.model.variables):
            value = question.known[m.name]
            if heads.reads(m.name):
                decoder, params = heads.decoder(m.name), heads.params(predictions, m.name)
                read = final(decoder, params, rng.of("read").of(m.name), drawn=draw or m.discrete)
                asked = question.roles[:, column] == Role.GENERATE
                _check_numbers(m.name, params, asked)
                asked = asked.reshape(-1, *[1] * (value.ndim - 1)).expand_as(value)
                if m.name in question.where:
                    asked = asked & ~question.where[m.name]
                value = torch.where(asked, read, value)
            answer[m.name] = value
        return answer

    def fixed(self, t: int) -> "Fixed":
        """What a timestep fixes."""
        if t not in self._ahead:
            coming = self.path[self.path.index(t) :] if t in self.path else [t]
            # A row's own weights are as large as the space: then only those of one step are kept.
            count = min(MOST_STEPS, max(1, MOST_AHEAD // self.model.space.size)) if self._alike else 1
            last = list(self._ahead.items())[-1:]
            self._ahead = dict([*last, *self._work_out(coming[:count])])
        return self._ahead[t]

    def _work_out(self, steps: Sequence[int]) -> Iterator[tuple[int, Fixed]]:
        """What some timesteps fix, together."""
        model, count = self.model, len(self._roles)
        t = torch.tensor(steps, device=self._roles.device).repeat_interleave(count)
        roles = self._roles.repeat(len(steps), 1)
        drive = model.drive(t, roles, self._seen)
        made = model.ahead(drive.t, roles, self.observed.dtype)
        ahead = [made] * len(steps)
        if made:
            ahead = list(zip(*(x.unflatten(0, (-1, count)).unbind() for x in made), strict=True))
        gains = model.reading.gains(drive, self.observed.dtype)
        weight = model.frame.spread(drive.level.W.to(self.observed.dtype))
        told, timesteps, weight = (x.unflatten(0, (-1, count)) for x in (drive.t, drive.timesteps, weight))
        if self._alike:
            told, timesteps = (x.expand(-1, len(self.known), -1) for x in (told, timesteps))
        parts = [
            [None] * len(steps) if x is None else x.unflatten(0, (-1, count)).unbind()
            for x in (gains.shown, gains.weight, gains.sigma)
        ]
        each = map(Gains, *parts)
        return zip(steps, map(Fixed, told.unbind(), timesteps.unbind(), each, weight.unbind(), ahead), strict=True)


class _Without(Denoiser):
    """A denoiser that is not told one observation."""

    def __init__(self, full: Denoiser, column: int, rng: Rng) -> None:
        super().__init__(full.model, full.question.without(column), full.path, full._codes)
        model, process = full.model, full.process
        left_out = (self.question.told != full.question.told).any(1, keepdim=True)
        block = torch.arange(process.blocks, device=left_out.device) == process.block_of[column].to(left_out.device)
        drive = model.drive(
            torch.full_like(left_out[:, 0], process.steps, dtype=torch.int64), self.question.told, self._seen
        )
        # In a block of its own the observation must not stay in the space; the noise in its place is one for the whole run.
        self._empty = left_out & block & ~drive.moves
        self._fresh: Tensor | None = None
        if bool(self._empty.any()):
            noise = rng.of("without").of(str(column)).normal(*model.space.shape, dtype=self.observed.dtype)
            self._fresh = model.noisy(self.observed, drive, noise)

    def at(self, here: Here) -> Predictions:
        """What the network predicts here, not told the observation."""
        if self._fresh is not None:
            z = torch.where(self.process.widen(self._empty, here.z) != 0, self._fresh, here.z)
            here = Here(z, here.t)
        return super().at(here)


def _check_numbers(name: str, params: Tensor, asked: Tensor) -> None:
    """Refuse a prediction ``(B, …)`` that is NaN in a row that asks for it, ``(B,)``: the likeliest of NaN would be the first class."""
    wrong = params.isnan().reshape(len(params), -1).any(1) & asked
    if wrong.any():
        raise MmcoreError(
            f"sample: the model's prediction of {name!r} is NaN in {int(wrong.sum())} of {len(wrong)} rows, expected numbers: its weights are not "
            "finite, or too large for this precision; load an earlier model, or one of higher precision"
        )
