"""Roles: whether each modality is denoised, conditioned on or left out, and how training draws this."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from mmcore.errors import OptionError, refuse
from mmcore.options import Rule, Together, check, option, within
from mmcore.process.coefficients import constant
from mmcore.rng import Rng

if TYPE_CHECKING:
    from mmcore.modality.base import Modality


class Role(IntEnum):
    """Whether a modality is denoised, conditioned on, or left out."""

    GENERATE = 0
    """Denoised: its latent is in ``z_t``, the model must predict it, its loss counts."""
    OBSERVE = 1
    """Conditioned on: its clean latent and a mask are given to the network; no loss."""
    ABSENT = 2
    """Left out: neither in ``z_t``, nor in the condition, nor in the loss."""


_ARROW = "->"
_AT_MOST_ALL = Together(
    ("joint", "single", "questions"),
    lambda joint, single, questions: joint + single + sum(questions.values()) <= 1 + 1e-9,
    "shares of at most 1 together",
)
_QUESTIONS = Rule(
    f"shares in 0 … 1 by question, such as 'image {_ARROW} label'",
    lambda value: (
        isinstance(value, Mapping)
        and all(isinstance(text, str) and text.count(_ARROW) == 1 for text in value)
        and all(within(0, 1).holds(share) for share in value.values())
    ),
)


@attrs.frozen
class RoleMix:
    """How often training asks for joint, conditional, marginal and inpainting rows.

    A row's *kind* is one of: joint, single, the rest, then the ``questions`` in their order. Each has its declared share, by which its losses count.

    Attributes:
        joint: the share of samples whose present modalities are all generated.
        single: the share of samples that observe just one modality, drawn evenly, and generate the others. Of all questions these
            are asked most, and rows of independently drawn roles seldom are among them.
        alone: of the ``single`` samples, the share that generates one other modality alone, drawn evenly, the rest being absent.
        questions: the share of samples that ask just this question, by question: ``{"image, group -> label": 0.2}`` observes an image and a
            group, and generates a label; all else is absent. A sample that lacks something that the question observes, or all that it
            generates, is one of the other kinds, drawn by their shares, and left out where the questions have all of them.
        absent: of the modalities not generated in the other samples, the share that is absent rather than observed.
        partial: of the generated modalities that can be observed in part, the share that is.
    """

    joint: float = option(0.3, rule=within(0, 1))
    single: float = option(0.3, rule=within(0, 1))
    alone: float = option(0.5, rule=within(0, 1))
    questions: Mapping[str, float] = option(factory=dict, rule=_QUESTIONS)
    absent: float = option(0.15, rule=within(0, 1))
    partial: float = option(0.0, rule=within(0, 1))

    def __attrs_post_init__(self) -> None:
        check(self, "roles", _AT_MOST_ALL)

    @property
    def shares(self) -> tuple[float, ...]:
        """The declared share of each kind of row; together 1."""
        listed = tuple(float(share) for share in self.questions.values())
        return (self.joint, self.single, max(0.0, 1 - self.joint - self.single - sum(listed)), *listed)

    def asked(self, variables: Sequence["Modality"], generable: Tensor, encoded: Tensor) -> Tensor:
        """The ``questions`` as roles, ``(Q, V)``.

        Args:
            variables: the model's.
            generable: ``(V,)`` bool; what no task predicts is only observed.
            encoded: ``(V,)`` bool; what has no code is predicted alone.

        Raises:
            OptionError: a question that names what there is not, or asks for what cannot be observed or generated.
        """
        names = [m.name for m in variables]
        roles = torch.full((len(self.questions), len(names)), int(Role.ABSENT))
        refused = []
        for row, text in zip(roles, self.questions, strict=True):
            for side, role, may in zip(
                text.split(_ARROW), (Role.OBSERVE, Role.GENERATE), (encoded, generable), strict=True
            ):
                for name in filter(None, (part.strip() for part in side.split(","))):
                    able = [n for n, can in zip(names, may.tolist(), strict=True) if can]
                    if name not in able or row[names.index(name)] != Role.ABSENT:
                        verb = "observe" if role == Role.OBSERVE else "generate"
                        expected = f"names of what it can {verb}, each once: {', '.join(able)}; not {name!r}"
                        refused.append(OptionError("roles", "questions", text, expected))
                        break
                    row[names.index(name)] = role
            if not refused and not ((row == Role.GENERATE) & encoded.cpu()).any():
                expected = f"something to generate that has a code, after {_ARROW}"
                refused.append(OptionError("roles", "questions", text, expected))
        refuse(refused)
        return roles

    def draw(
        self, rng: Rng, present: Tensor, generable: Tensor, encoded: Tensor, asked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the roles of a batch, ``(B, V)`` int64; and each row's kind, ``(B,)`` int64 in the order of :attr:`shares`.

        Outside the joint and single shares, each modality is generated with a probability that is itself
        drawn for the sample, so that questions with few and with many observations are as frequent.
        A sample always generates something that it has, unless it is left out.

        Args:
            rng: for the batch's rows.
            present: ``(B, V)`` bool; what is missing is absent.
            generable: ``(V,)`` bool; what no task predicts is only observed.
            encoded: ``(V,)`` bool; what has no code is predicted wherever it is present.
            asked: ``(Q, V)``, the ``questions`` as :meth:`asked` gives them; None for none.
        """
        kinds, u = self._kinds(rng), rng.of("roles").uniform(3 + 2 * present.shape[1])
        listed, left_out = None, torch.zeros_like(kinds, dtype=torch.bool)
        if asked is not None and len(asked):
            listed = asked.to(kinds.device)[(kinds - 3).clamp(min=0)]
            # With less given it would be another question, which would count for this one.
            able = (present | (listed != Role.OBSERVE)).all(1)
            able = able & ((listed == Role.GENERATE) & encoded & present).any(1)
            unable = (kinds >= 3) & ~able
            if sum(self.shares[:3]) < 1e-9:
                left_out = unable
            else:
                kinds = torch.where(unable, self._others(rng), kinds)
        pick, drop = u[:, 3:].chunk(2, dim=1)
        joint, single, can = kinds[:, None] == 0, kinds[:, None] == 1, generable & present
        # The one that a sample observes, evenly among those that it has and that have a code.
        eligible = present & encoded
        observed = _one_of(eligible, u[:, 2:3])
        generate = torch.where(single, ~observed, joint | (pick < u[:, 1:2])) & can
        none = ~(generate & encoded).any(1, keepdim=True)
        generate = generate | ((none | ~encoded) & can)
        hidden = torch.where((drop < self.absent) & ~single, Role.ABSENT, Role.OBSERVE)
        if self.alone:
            v = rng.of("alone").uniform(2)
            others = generate & encoded
            alone = single & (v[:, :1] < self.alone) & ~none
            left = alone & others & ~_one_of(others, v[:, 1:])
            generate, hidden = generate & ~left, torch.where(left, Role.ABSENT, hidden)
        roles = torch.where(generate, Role.GENERATE, hidden)
        if listed is not None:
            roles = torch.where((kinds >= 3)[:, None], listed, roles)
        return torch.where(present & ~left_out[:, None], roles, Role.ABSENT), kinds

    def _kinds(self, rng: Rng) -> Tensor:
        """Which kind of row each is, if it has all that it is asked, ``(B,)``."""
        u = rng.of("roles").uniform(1)
        joint, single, _, *listed = self.shares
        # The rest last: what rounding leaves is its.
        ends = constant((joint, single, *listed), torch.float64, u.device).cumsum(0)
        order = constant((0, 1, *range(3, 3 + len(listed)), 2), torch.int64, u.device)
        return order[torch.searchsorted(ends.to(u.dtype), u[:, 0].contiguous(), right=True)]

    def _others(self, rng: Rng) -> Tensor:
        """A kind that is no question, by the shares of these, ``(B,)``."""
        u = rng.of("other roles").uniform(1)
        joint, single, rest = self.shares[:3]
        ends = constant((joint, joint + single), torch.float64, u.device) / (joint + single + rest)
        return torch.searchsorted(ends.to(u.dtype), u[:, 0].contiguous(), right=True)

    def draw_seen(self, rng: Rng, modalities: Sequence["Modality"]) -> dict[str, Tensor] | None:
        """Draw inpainting masks: which elements of generated modalities are observed, ``(B, *spec.shape)`` bool by name; None for none.

        In the ``partial`` share of the rows, squares (segments, cubes) of a drawn size are seen, each with
        a probability that is itself drawn, all channels alike.

        Args:
            rng: for the batch's rows.
            modalities: those that can be observed in part.
        """
        if not self.partial or not modalities:
            return None
        seen = {}
        for m in modalities:
            mask_rng = rng.of("seen").of(m.name)
            grid = _places(m)
            u = mask_rng.of("choice").uniform(3)
            sizes = [size for size in (1, 2, 4) if size <= max(grid, default=1)]
            chance, pick = u[:, 1], (u[:, 2] * len(sizes)).long()
            cells = mask_rng.of("cells").uniform(*grid)
            hit = torch.zeros(len(u), *grid, dtype=torch.bool, device=u.device)
            for choice, size in enumerate(sizes):
                coarse = cells
                for axis, n in enumerate(grid, start=1):
                    coarse = coarse.index_select(axis, torch.arange(n, device=u.device) // size * size)
                chosen = (coarse < _wide(chance, coarse)) & _wide(pick == choice, coarse)
                hit = hit | chosen
            hit = hit & _wide(u[:, 0] < self.partial, hit)
            hit = hit.reshape(len(u), *[1] * (len(m.spec.shape) - len(grid)), *grid).expand(-1, *m.spec.shape)
            if m.together:
                # As often as any element by itself.
                hit = hit.flatten(1)[:, list(m.together)].reshape(hit.shape)
            seen[m.name] = hit
        return seen


def _one_of(marks: Tensor, u: Tensor) -> Tensor:
    """Of each row's ``marks (B, V)`` one, evenly, by ``u (B, 1)``."""
    count = marks.cumsum(1)
    return marks & (count == (u * count[:, -1:]).long() + 1)


def _places(m: "Modality") -> tuple[int, ...]:
    """The axes of a sample's places: those of a spatial code behind its channels; beside a flat code all of one or two, of more all but the first."""
    shape, spatial = m.spec.shape, m.code[1:]
    if spatial and shape[len(shape) - len(spatial) :] == spatial:
        return spatial
    return shape[1:] if len(shape) > 2 else shape


def _wide(x: Tensor, like: Tensor) -> Tensor:
    return x.reshape(-1, *[1] * (like.ndim - 1))
