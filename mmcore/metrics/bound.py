r"""Evaluation: the negative ELBO of data, by its terms, with the error of its estimate.

.. math:: -\log p(X) \le L_0 + \sum_{t=2}^T L_{1,t} + L_2

``L0`` is exact, the sum over ``t`` a Monte Carlo estimate, stratified and by importance, ``L2`` one over the noise at ``z_1``. All
blocks' timesteps go down together. A row whose whole answer is one class is answered by one call at ``T``: its chain has that one step, so that its ``L1`` is
0, and its ``L2`` is at ``z_T``.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from mmcore.data import Dataset, Table
from mmcore.errors import RequestError, plainly
from mmcore.limits import BATCH
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating
from mmcore.model.roles import Role
from mmcore.options import Rule, check_call, counted, require
from mmcore.process import bound
from mmcore.rng import Rng

_EVEN = Rule("an even number of at least 2", lambda value: counted(2).holds(value) and value % 2 == 0)


@attrs.frozen
class Estimate:
    """A mean over rows in nats, with its Monte Carlo error.

    Attributes:
        nats: per row.
        error: the Monte Carlo standard error of ``nats`` for these very rows; 0 for what is exact.
    """

    nats: float
    error: float


@attrs.frozen
class Terms:
    """The negative ELBO of one variable, or of all of them, by its terms.

    Attributes:
        rows: how many rows generate it.
        dimensions: numbers per row, void ones apart.
        L0: the prior term.
        L1: the diffusion term, summed over timesteps.
        L2: the reconstruction term, from ``z_1``.
        total: their sum.
    """

    rows: int
    dimensions: float
    L0: Estimate
    L1: Estimate
    L2: Estimate
    total: Estimate

    @property
    def bits_per_dimension(self) -> Estimate:
        """The total in bits, per number."""
        scale = 1 / (math.log(2) * self.dimensions)
        return Estimate(self.total.nats * scale, self.total.error * scale)


@attrs.frozen(repr=False)
class Bound:
    """The negative ELBO of data, by its terms: a bound on ``-log p(what is generated | what is observed)``, a mean over rows.

    Attributes:
        rows: how many.
        observed: the variables that are observed where they are present.
        all: of everything that a row generates.
        variables: of each variable, over the rows that generate it. Where codes overlap, ``L0`` and ``L1`` are divided
            as :func:`mmcore.process.bound.shares` does.
        space: nats of ``L0`` that belong to the space as such: what the noise at ``T`` lacks of unit variance.
        of: by variable, what its nats are of where that is not the data themselves (:attr:`mmcore.Modality.likelihood_of`).
    """

    rows: int
    observed: tuple[str, ...]
    all: Terms
    variables: Mapping[str, Terms]
    space: float
    of: Mapping[str, str] = {}

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return attrs.asdict(self) | {
            "bits_per_dimension": {
                name: attrs.asdict(terms.bits_per_dimension)
                for name, terms in {"all": self.all, **self.variables}.items()
            }
        }

    def __repr__(self) -> str:
        bits = self.all.bits_per_dimension
        of = f"{', '.join(self.variables)}{' given ' if self.observed else ''}{', '.join(self.observed)}"
        rows = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        return plainly(f"<Bound: {bits.nats:.4f} ± {bits.error:.4f} bits per dimension, {rows} of {of}>", 400)

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """As text for a terminal; what ``print`` shows."""
        rows: list[tuple[str, ...]] = [("", "L0", "L1", "L2", "nats", "±", "bits/dim", "±")]
        for name, x in {**self.variables, "all": self.all}.items():
            bits = x.bits_per_dimension
            figures = (x.L0.nats, x.L1.nats, x.L2.nats, x.total.nats, x.total.error, bits.nats, bits.error)
            rows.append((name, *(f"{one:.4f}" for one in figures)))
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [
            name.ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, others, strict=True))
            for name, *cells in rows
        ]
        lines += [f"{name}: the likelihood of {what}, not of the data themselves" for name, what in self.of.items()]
        return "\n".join(lines)


def evaluate(
    model: JointModel,
    rows: Iterable[Mapping[str, Any]] | Dataset | Table,
    *,
    observed: Collection[str] = (),
    draws: int = 16,
    seed: int = 0,
    batch_size: int = 500,
) -> Bound:
    """Estimate the negative ELBO of data, by its terms.

    A row's missing variables are absent; what no task recovers is observed. Rows with nothing else are left out.

    Args:
        model: a joint model.
        rows: mappings from variable name to raw value, or a :class:`mmcore.data.Table` of them.
        observed: variables to condition on.
        draws: of ``t`` and noise per row, even: two in each of ``draws / 2`` equally likely parts of ``2 … T``.
        seed: of the draws.
        batch_size: rows at once.

    Raises:
        RequestError: an unknown name, a number of draws that is not even, or rows with nothing to generate.
    """
    check_call(evaluate, locals())
    require("evaluate", draws=(draws, _EVEN), batch_size=(batch_size, counted()))
    draws, batch_size = int(draws), int(batch_size)
    names = [m.name for m in model.variables]
    for name in observed:
        if name not in names:
            raise RequestError(f"evaluate: observed names {name!r}, expected one of {', '.join(names)}")
        if not bool(model.driver.encoded[names.index(name)]):
            raise RequestError(f"evaluate: {name!r} is observed, but it has no encoding: it can only be predicted")
    table = Table.of(rows, model.variables)
    present = table.rows.present
    conditioned = torch.tensor([name in observed for name in names]) | ~model.driver.generable.cpu()
    roles = torch.where(present, torch.where(conditioned, Role.OBSERVE, Role.GENERATE), int(Role.ABSENT))
    asks = ((roles == Role.GENERATE) & model.driver.encoded.cpu()).any(1).nonzero()[:, 0]
    if not len(asks):
        raise RequestError("evaluate: no row has a modality to generate, expected one at least")
    size = 8 * draws * len(names) * min(batch_size, len(asks))
    BATCH.check("evaluate", "draws", draws, size)
    parts: list[tuple[Tensor, ...]] = []
    timesteps = _Timesteps.of(model)
    with evaluating(model), torch.inference_mode():
        for chosen in asks.split(batch_size):
            values = {name: x[chosen].to(model.device) for name, x in table.rows.values.items()}
            rng = Rng(seed, chosen.to(model.device)).of("evaluate")
            parts.append(_Rows(model, values, roles[chosen].to(model.device), rng, timesteps).parts(draws))
    L0, space, L1, L2 = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    generates = roles[asks] == Role.GENERATE
    # Numbers of each row that are not void.
    sizes = torch.stack(
        [m.spec.there(table.rows.values[m.name][asks]).reshape(len(asks), -1).sum(1).double() for m in model.variables],
        1,
    )
    variables = {
        name: _terms(
            L0[generating, i], L1[generating, ..., i], L2[generating, ..., i], float(sizes[generating, i].mean())
        )
        for i, (name, generating) in enumerate(zip(names, generates.T, strict=True))
        if generating.any()
    }
    total = _terms(L0.sum(1) + space, L1.sum(-1), L2.sum(-1), float((generates * sizes).sum(1).mean()))
    seen = tuple(name for i, name in enumerate(names) if (roles[asks, i] == Role.OBSERVE).any())
    of = {m.name: m.likelihood_of for m in model.variables if m.name in variables and m.likelihood_of}
    return Bound(len(asks), seen, total, variables, float(space.mean()), of)


def _terms(L0: Tensor, L1: Tensor, L2: Tensor, dimensions: float) -> Terms:
    """Of ``L0 (R,)`` and pairs of draws ``L1 (R, parts, 2)`` and ``L2 (R, 2)``."""

    def estimate(mean: Tensor, variance: Tensor) -> Estimate:
        return Estimate(float(mean.mean()), float(variance.sum().sqrt()) / len(mean))

    # Half the square of two draws' difference estimates their variance, so the mean of two has the variance (a - b)²/4 in expectation; parts and rows are independent.
    count = max(L1.shape[1], 1)
    steps, step_variance = L1.mean(2).sum(1) / count, (L1[..., 0] - L1[..., 1]).square().sum(1) / (4 * count**2)
    end, end_variance = L2.mean(1), (L2[:, 0] - L2[:, 1]).square() / 4
    return Terms(
        len(L0),
        dimensions,
        estimate(L0, torch.zeros_like(L0)),
        estimate(steps, step_variance),
        estimate(end, end_variance),
        estimate(L0 + steps + end, step_variance + end_variance),
    )


@attrs.frozen(eq=False)
class _Timesteps:
    """How ``t`` is drawn from ``2 … T``: most often where ``L1_t`` is large, at small ``t``.

    ``L1_t`` is about ``½ (SNR_{t-1} - SNR_t)`` times the square of the prediction's error. A third of the draws go by that fall
    itself, as for an error that stays; a third by the fall of ``log(1 + SNR_t)``, as for the exact prediction of a normal
    code, whose error is ``1 / (1 + SNR_t)``; a third are even.

    Attributes:
        probability: ``(T - 1,)``.
    """

    probability: Tensor

    @classmethod
    def of(cls, model: JointModel) -> Self:
        process = model.process
        t = torch.arange(1, process.steps + 1)[:, None].expand(-1, process.blocks)
        snr = (2 * process.half_log_snr(t)).exp()
        falls = [(level[:-1] - level[1:]).clamp(min=0).mean(1) for level in (snr, snr.log1p())]
        even = torch.full_like(falls[0], 1 / max(len(falls[0]), 1))
        return cls(sum((fall / fall.sum() if fall.sum() > 0 else even for fall in falls), start=even) / 3)

    def at(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The steps at the quantiles ``u (R,)``, and the inverse of their probabilities."""
        p = self.probability.to(u.device)
        chosen = torch.searchsorted(p.cumsum(0), u).clamp(max=len(p) - 1)
        return chosen + 2, 1 / p[chosen]


@attrs.frozen(eq=False)
class _Rows:
    """Some rows and their roles."""

    model: JointModel
    values: dict[str, Tensor]
    roles: Tensor
    rng: Rng
    timesteps: "_Timesteps"

    def parts(self, draws: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``L0 (R, V)``, the space's own share of it ``(R,)``, ``L1 (R, draws / 2, 2, V)`` and ``L2 (R, 2, V)``."""
        model, T = self.model, self.model.process.steps
        L0, space = self._prior()
        strata = draws // 2 if T > 1 else 0
        L1 = L0.new_zeros(len(L0), strata, 2, len(model.variables))
        at_once = model.driver.one_class(self.roles)
        for part in range(strata):
            for twin in range(2):
                rng = self.rng.of("L1").at(2 * part + twin)
                t, weight = self.timesteps.at((part + rng.of("t").uniform(dtype=torch.float64)) / strata)
                L1[:, part, twin] = torch.where(at_once, 0.0, weight)[:, None] * self._at(t, rng)
        last = torch.where(at_once, T, 1)
        L2 = [self._at(last, self.rng.of("L2").at(k), at_once) for k in (0, 1)]
        return L0, space, L1, torch.stack(L2, dim=1)

    def _prior(self) -> tuple[Tensor, Tensor]:
        """``L0`` of each variable, ``(R, V)``, and what of it belongs to the space as such, ``(R,)``, float64."""
        model = self.model
        # What is observed neither enters the space nor counts; a block that generates nothing is at the prior.
        roles = torch.where(self.roles == Role.OBSERVE, int(Role.ABSENT), self.roles)
        level = model.drive(torch.full((len(roles),), model.process.steps, device=roles.device), roles).level
        placed = model.frame.place(model.encode(self.values)).double()
        total = bound.prior(model.process, None, h=model.frame.weighted(placed, level.W), level=level)
        weighted = placed * model.frame.spread(level.W)
        coded = bound.shares(torch.where(weighted != 0, weighted, 0.0), model.frame) / 2
        uncoded = coded.new_zeros(len(coded), len(model.variables) - coded.shape[1])
        return torch.cat([coded, uncoded], dim=1), total - coded.sum(1)

    def _at(self, t: Tensor, rng: Rng, last: Tensor | None = None) -> Tensor:
        """The bound's term at ``t (R,)`` for each variable, ``(R, V)``; the loss terms where ``t`` is the chain's ``last`` step, ``(R,)``."""
        model = self.model
        noise = rng.of("noise").normal(*model.space.shape)
        by_task = model(self.values, t, self.roles, noise, objective="bound")
        if last is not None and bool(last.any()):
            by_task = torch.where(last[:, None], model(self.values, t, self.roles, noise), by_task)
        by_task = by_task.double()
        # A variable's first task is the one that the bound counts.
        first = [next((k for k, x in enumerate(model.heads.targets) if x is m), None) for m in model.variables]
        zero = torch.zeros_like(by_task[:, 0])
        return torch.stack([zero if k is None else by_task[:, k] for k in first], dim=1)
