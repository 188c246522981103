r"""The exact predictor of Gaussian data in the place of a network, and exact moments in the place of draws.

For data ``x ~ N(0, C)`` the best network is known: what it reads (the scaled space, the timesteps, the roles, the
condition) is linear in ``x`` and noise, so ``E[x | what it reads]`` is a matrix. :class:`Oracle` is that
matrix as a backbone, made from what MATH says that a network is told, not from the model's own code. All the rest is the product:
composition, layout, placement, questions and samplers run as :func:`mmcore.sample` runs them.

With it a sampler is affine in its noise and its observations. :class:`Moments` stands in for the random numbers: of the rows
that ask one question the noise has mean 0 and covariance ``I`` *exactly*, and is exactly uncorrelated with all that came before. An affine
map then carries the rows' mean and covariance as it would carry the distribution's, so that
the answers' moments over a handful of rows are the sampler's output moments, to rounding.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

import mmcore
from mmcore import Decoder, Encoder, JointModel, LossTerm, Modality, Rng, Role, Schedule, Space, Spec
from mmcore.modality.likelihood import gaussian, total
from mmcore.model.drive import DROWNED, Drive
from mmcore.model.heads import Predictions
from mmcore.model.reading import Read
from mmcore.sampling import ask as sampling_module
from mmcore.sampling.denoiser import Denoiser, Here
from mmcore.space import Layout, place

GENERATE, OBSERVE, ABSENT = (int(role) for role in Role)


# ---- truth ----


def conditional(covariance: np.ndarray, roles: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The true answer to a question: its regression on the observations and its covariance.

    Args:
        covariance: ``(D, D)``.
        roles: ``(D,)``, a :class:`mmcore.Role` per element.

    Returns:
        both ``(D, D)``, zero outside what is generated (and observed).
    """
    asked, seen = ([i for i, role in enumerate(roles) if role == which] for which in (GENERATE, OBSERVE))
    regression, left = np.zeros_like(covariance), np.zeros_like(covariance)
    cross = covariance[np.ix_(asked, seen)]
    gain = np.linalg.solve(covariance[np.ix_(seen, seen)], cross.T).T
    regression[np.ix_(asked, seen)] = gain
    left[np.ix_(asked, asked)] = covariance[np.ix_(asked, asked)] - gain @ cross.T
    return regression, left


def questions(n: int, roles: Sequence[int] = (GENERATE, OBSERVE, ABSENT)) -> list[tuple[int, ...]]:
    """Every question about ``n`` variables: each generated, observed or absent, at least one generated."""
    return [chosen for chosen in itertools.product(roles, repeat=n) if GENERATE in chosen]


def mixed(n: int, seed: int) -> np.ndarray:
    """A random correlation matrix ``(n, n)``, negative entries included."""
    root = np.random.default_rng(seed).normal(size=(n, n + 1))
    covariance = root @ root.T
    scale = np.sqrt(np.diag(covariance))
    return covariance / scale[:, None] / scale


HARD = np.array([[1.0, 0.99, -0.5], [0.99, 1.0, -0.55], [-0.5, -0.55, 1.0]])
"""Three variables, two of them nearly equal and one that goes against both."""


def equal(n: int, rho: float) -> np.ndarray:
    """Unit variances, and ``rho`` between any two: ``(n, n)``."""
    return np.full((n, n), rho) + (1 - rho) * np.eye(n)


# ---- the model ----


class Vector(Modality):
    """``size`` real numbers as they are, at ``start`` among all elements; its parameters are means, then deviations."""

    def __init__(self, name: str, start: int, size: int) -> None:
        self.name, self.start, self.size = name, start, size
        self.spec = Spec((size,), torch.float64)
        self.code = (size,)

    def encoder(self) -> Encoder:
        return _Same()

    def decoder(self, width: int, space: Space) -> Decoder:
        return _Read(self.start, self.size, width // 2)

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            mean, deviation = params.chunk(2, dim=1)
            return total(gaussian(mean, deviation.log(), target), where)

        return loss

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        return encode(params[:, : self.size])

    def read(self, raw: Any) -> Tensor:
        return torch.as_tensor(raw, dtype=torch.float64)

    def show(self, x: Tensor) -> str:
        return str(x.tolist())

    def typical(self, n: int, seed: int) -> Tensor:
        return Rng.for_rows(seed, n).normal(self.size, dtype=torch.float64)


class _Same(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return x


class _Read(Decoder):
    def __init__(self, start: int, size: int, count: int) -> None:
        super().__init__()
        self.mean, self.deviation = slice(start, start + size), slice(count + start, count + start + size)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        features = features.flatten(2)[..., 0]
        return torch.cat([features[:, self.mean], features[:, self.deviation]], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params.chunk(2, dim=1)[0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, deviation = params.chunk(2, dim=1)
        return mean + deviation * rng.normal(mean.shape[1], dtype=mean.dtype)


@attrs.frozen(eq=False)
class Heard:
    """What a network is told, as one linear reading of the codes: ``y = A x + noise``.

    Attributes:
        y: ``(B, dim Z + D)``: the unscaled space, then the codes that are known; zero where there is neither.
        A: ``(G, dim Z + D, D)``, for each group of rows that are told alike.
        noise: ``(G, dim Z + D)``, its variance; 0 where codes are known, 1 where there is neither.
    """

    y: Tensor
    A: Tensor
    noise: Tensor


class Network(nn.Module):
    """A backbone that undoes what the model does to its input, as the network's contract has it.

    Args:
        sizes: of the modalities' codes.
        features: how many numbers it tells the heads.
    """

    def __init__(self, sizes: Sequence[int], features: int) -> None:
        super().__init__()
        self.features = features
        self.owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        self.unused = nn.Parameter(torch.zeros(()))
        self.own = torch.zeros(0)
        """The space that the network is shown, as it is itself."""
        self.last = torch.zeros(0)
        """The space that the sampler last asked about, ``(B, dim Z)``: what the network is shown of it lacks idle noise, and at ``T`` a weak trace of
        the codes."""

    def fit(self, model: JointModel, overlap: bool = False) -> None:
        """Look up the model's tables: weights, noise and places."""
        process = model.process
        layout = Layout(process.members, process.channels)
        codes = [m.code for m in model.modalities]
        placement = place(codes, model.space, layout=layout, overlap=overlap)
        self.P = torch.cat([placement.matrix(i) for i in range(len(codes))], dim=1)
        self.W = process.schedule.W
        self.log_A = torch.stack([s.log_A for s in process.schedules], dim=1)
        self.block = torch.tensor([next(b for b, m in enumerate(process.members) if i in m) for i in range(len(codes))])
        places = model.space.size // model.space.shape[0]
        self.block_of_place = torch.arange(process.blocks).repeat_interleave(torch.tensor(process.channels) * places)
        self.steps = process.steps
        self.grid = model.space.grid

        # What the network is shown lacks a weak trace of the codes at ``T``; the truth is about the space itself.
        read = model.read

        def own(z: Tensor, drive: Drive) -> Read:
            self.own = z
            return read(z, drive)

        model.read = own  # type: ignore[method-assign]

    def everywhere(self, numbers: Tensor) -> Tensor:
        """Numbers ``(B, F)`` as features, the same at every place: ``(B, F, *grid)``."""
        return numbers.reshape(*numbers.shape, *[1] * len(self.grid)).expand(*numbers.shape, *self.grid)

    def hear(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor, groups: int) -> Heard:
        """What ``groups`` groups of rows are told; arguments as a backbone's, and checked against each other."""
        told, flags = (part.flatten(1).double() for part in condition.chunk(2, dim=1))
        shown = z.flatten(1).double()
        generate, observe = roles == GENERATE, roles == OBSERVE
        blocks = torch.nn.functional.one_hot(self.block, t.shape[1])
        moves = (generate[:, :, None] & (blocks == 1)).any(1)
        # Timesteps of what does not move: 0 where it is observed, T where there is nothing.
        still = (observe[:, :, None] & (blocks == 1)).any(1)
        assert (t[~moves & still] == 0).all()
        assert (t[~moves & ~still] == self.steps).all()
        flagged = (flags @ self.P.abs()) > 0
        beside = observe & moves[:, self.block]
        assert torch.equal(flagged & observe[:, self.owner], beside[:, self.owner])
        known = flagged | (observe & ~beside)[:, self.owner]
        unknown = generate[:, self.owner] & ~known

        timestep = t.gather(1, self.block.expand(len(t), -1))
        W = self.W.gather(0, timestep)[:, self.owner]
        variance = -torch.expm1(self.log_A.gather(0, t))
        z = self.own.flatten(1).double()
        self.last = z
        # What is told is as large as the code at each of its copies.
        values = torch.where(flagged, told @ self.P.sign() / self.P.abs().sign().sum(0), z @ self.P)

        # The network is shown each code that moves, or stands in a block by itself, at unit variance wherever it lies; at ``T`` none that is drowned.
        drowned = (timestep == self.steps)[:, self.owner] & (self.W[-1].square() < DROWNED)[self.owner]
        power = torch.where(unknown, W.square() + variance[:, self.block[self.owner]], torch.ones_like(W))
        holds = (unknown & ~drowned) | (known & ~flagged)
        told_of = torch.where(holds, (z @ self.P) * power.rsqrt(), 0.0)
        torch.testing.assert_close(told_of @ self.P.sign().T, shown, rtol=1e-6, atol=1e-6)

        one = slice(None, None, len(z) // groups)
        moving = moves[:, self.block_of_place]
        A = torch.cat([self.P * (unknown * W)[one, None], torch.diag_embed(known[one].double())], dim=1)
        noise = torch.cat(
            [
                torch.where(moving, variance[:, self.block_of_place], torch.ones_like(z))[one],
                torch.where(known, torch.zeros_like(values), torch.ones_like(values))[one],
            ],
            dim=1,
        )
        return Heard(torch.cat([z * moving, values * known], dim=1), A, noise)


class Oracle(Network):
    """``E[x | z, condition]`` and its deviations as a backbone, ``(B, 2 D)``, for data of a known covariance.

    Attributes:
        covariance: ``(G, D, D)``, of the data that each of ``G`` groups of rows is about.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes, 2 * sum(sizes))
        self.covariance = torch.eye(sum(sizes), dtype=torch.float64)[None]

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        heard = self.hear(z, t, roles, condition, len(self.covariance))
        every = len(z) // len(self.covariance)
        across = self.covariance @ heard.A.mT
        gain = torch.linalg.solve(heard.A @ across + torch.diag_embed(heard.noise), across.mT).mT
        mean = (heard.y.unflatten(0, (-1, every)) @ gain.mT).flatten(0, 1)
        left = (self.covariance - gain @ across.mT).diagonal(dim1=1, dim2=2)
        return self.everywhere(torch.cat([mean, left.clamp(min=0).sqrt().repeat_interleave(every, 0)], dim=1))


class EachRow(Oracle):
    """The same for rows that differ in their timesteps and questions, all about the data of one covariance."""

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        self.covariance = self.covariance[:1].expand(len(z), -1, -1)
        return super().forward(z, t, roles, condition)


def gaussian_model(
    schedule: Schedule,
    sizes: Sequence[int],
    layout: str | Sequence[Sequence[str]] = "shared",
    *,
    space: Sequence[int] | None = None,
    overlap: bool = False,
    each_row: bool = False,
) -> JointModel:
    """A model of vectors ``a, b, …`` of these sizes, with the oracle in the place of the network.

    With ``each_row`` every row has a timestep of its own, at some cost; else all rows that ask one question must have the same.
    """
    starts = [0, *itertools.accumulate(sizes)]
    modalities = [Vector(chr(97 + i), starts[i], size) for i, size in enumerate(sizes)]
    backbone = (EachRow if each_row else Oracle)(sizes)
    model = mmcore.compose(
        modalities, layout=layout, schedule=schedule, space=space, overlap=overlap, backbone=backbone
    ).double()
    backbone.fit(model, overlap)
    return model


# ---- moments instead of draws ----


@attrs.frozen(eq=False)
class Moments:
    """Numbers for ``G`` groups of ``R`` rows, in the place of :class:`mmcore.Rng`.

    Attributes:
        oracle: which sees where the rows are.
        design: ``(G, R, D)``, what was drawn before the space: the observations.
        rows: as of ``Rng``.
        purpose: as of ``Rng``.
    """

    oracle: Oracle
    design: Tensor
    rows: Tensor
    purpose: str = ""

    def __call__(self, seed: int, rows: Tensor) -> "Moments":
        assert rows.tolist() == list(range(len(self.rows))), "one batch for all"
        return self

    def of(self, purpose: str) -> "Moments":
        return attrs.evolve(self, purpose=f"{self.purpose}/{purpose}")

    def at(self, step: int) -> "Moments":
        return self

    def normal(self, *shape: int, dtype: torch.dtype) -> Tensor:
        count = math.prod(shape)
        before = [self.design]
        if "/prior" in self.purpose:
            return uncorrelated(before, count).flatten(0, 1).reshape(len(self.rows), *shape)
        # A step's draws of codes and its noise, or what is read, are of one set; each taker has columns of its own.
        before.append(self.oracle.last.unflatten(0, self.design.shape[:2]))
        owner = self.oracle.owner
        drawn = uncorrelated(before, len(owner) + before[1].shape[2])
        if "/noise" in self.purpose:
            mine = drawn[..., len(owner) :]
        else:
            assert "/codes/" in self.purpose or "/read/" in self.purpose, self.purpose
            mine = drawn[..., : len(owner)][..., owner == ord(self.purpose[-1]) - 97]
        return mine.flatten(0, 1).reshape(len(self.rows), *shape)


def uncorrelated(before: Sequence[Tensor], count: int) -> Tensor:
    """``count`` columns ``(G, R, count)`` of mean 0 and covariance ``I`` over the ``R`` rows, uncorrelated with ``before``."""
    groups, rows = before[0].shape[:2]
    # Any columns will do that depend on one another in no simple way.
    fresh = torch.linspace(0.5, 9, rows * count, dtype=torch.float64).reshape(count, rows).T.square().sin()
    columns = [torch.ones(groups, rows, 1, dtype=torch.float64), *before, fresh.expand(groups, -1, -1)]
    Q = torch.linalg.qr(torch.cat(columns, dim=2))[0]
    assert Q.shape[2] == sum(c.shape[2] for c in columns), "more rows than columns"
    return Q[..., -count:] * rows**0.5


def answer(
    model: JointModel,
    data: Sequence[np.ndarray],
    asked: Sequence[Sequence[int]],
    *,
    exact_start: bool = False,
    **how: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """What a sampler answers: for each question its regression on the observations and its covariance.

    Args:
        model: of :func:`gaussian_model`.
        data: the ``(D, D)`` covariance that each question is about.
        asked: ``(D,)`` roles per question.
        exact_start: start from the exact ``q(z_T)`` instead of ``N(0, I)``.
        how: options of :func:`mmcore.sample`.

    Returns:
        both ``(G, D, D)``, zero outside what is generated.
    """
    oracle = model.backbone
    assert isinstance(oracle, Oracle)
    D, groups = len(oracle.owner), len(asked)
    rows = 1 + 2 * (model.space.size + D)
    roles = torch.tensor(asked)
    # Rows of the questions' own columns: observations, and for an exact start the spread of the rest.
    design = uncorrelated([torch.zeros(groups, rows, 0, dtype=torch.float64)], D)
    covariance = torch.as_tensor(np.stack(data))
    x = design.clone()
    if exact_start:
        truth = [conditional(c, r) for c, r in zip(data, asked, strict=True)]
        regression, left = (torch.as_tensor(np.stack(part)) for part in zip(*truth, strict=True))
        values, vectors = torch.linalg.eigh(left)
        # The symmetric root, which leaves the observations' columns alone.
        root = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.mT
        free = design @ root.mT + design @ regression.mT
        x = torch.where((roles == OBSERVE)[:, None], design, free)
    x = x.flatten(0, 1)
    wide = roles.repeat_interleave(rows, dim=0)
    given, where, absent, start = {}, {}, {}, {}
    for i, m in enumerate(model.modalities):
        mine = oracle.owner == i
        if (wide[:, mine] == OBSERVE).any():
            given[m.name], where[m.name] = x[:, mine], wide[:, mine] == OBSERVE
        if (gone := wide[:, mine] == ABSENT).any():
            assert torch.equal(gone.any(1), gone.all(1))
            absent[m.name] = gone.all(1)
        start[m.name] = x[:, mine]
    oracle.covariance = covariance
    options = {"steps": model.process.steps, "batch_size": groups * rows} | how
    if exact_start:
        options |= {"start": start, "strength": 1.0}
    with shown(oracle), _moments(Moments(oracle, design, torch.arange(groups * rows))):
        found = mmcore.sample(model, groups * rows, given=given, where=where, absent=absent, **options)
    columns = [
        found[m.name] if m.name in found else torch.zeros(groups * rows, int((oracle.owner == i).sum()))
        for i, m in enumerate(model.modalities)
    ]
    out = torch.cat(columns, dim=1).unflatten(0, (groups, rows))
    generate = roles == GENERATE
    for name in given:
        # What is observed comes back as it was.
        i = [m.name for m in model.modalities].index(name)
        seen = wide[:, oracle.owner == i] == OBSERVE
        assert torch.equal(found[name][seen], given[name][seen])
    out = out * generate[:, None]
    regression = out.mT @ design * (roles == OBSERVE)[:, None] / rows
    residue = out - out.mean(1, keepdim=True) - design @ regression.mT
    assert (out.mean(1).abs() < 1e-9).all()
    return regression.numpy(), (residue.mT @ residue / rows).numpy()


@contextlib.contextmanager
def _moments(moments: Moments) -> Iterator[None]:
    own = sampling_module.Rng
    sampling_module.Rng = moments  # type: ignore[assignment]
    try:
        yield
    finally:
        sampling_module.Rng = own


@contextlib.contextmanager
def shown(network: Network) -> Iterator[None]:
    """Within, the network is told the space that each call of a sampler is about, beside what it is shown of it."""
    at = Denoiser.at

    def told(self: Denoiser, here: Here) -> Predictions:
        network.own = here.z
        return at(self, here)

    Denoiser.at = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        Denoiser.at = at  # type: ignore[method-assign]


def errors(
    model: JointModel, data: Sequence[np.ndarray], asked: Sequence[Sequence[int]], **how: Any
) -> tuple[float, float]:
    """The largest errors of any entry of the regressions and of the covariances, over data and questions."""
    pairs = [(c, r) for c in data for r in asked]
    found = answer(model, [c for c, _ in pairs], [r for _, r in pairs], **how)
    truth = zip(*(conditional(c, r) for c, r in pairs), strict=True)
    regression, covariance = (np.abs(f - np.stack(t)).max() for f, t in zip(found, truth, strict=True))
    return float(regression), float(covariance)


SAMPLERS: dict[str, dict[str, Any]] = {
    "ancestral": {"sampler": "ancestral"},
    "ddim, eta 0": {"sampler": "ddim", "eta": 0.0},
    "ddim, eta 0.5": {"sampler": "ddim", "eta": 0.5},
    "2m": {"sampler": "2m"},
    "heun": {"sampler": "heun"},
}
"""Every sampler, as options of :func:`mmcore.sample`."""
LAYOUTS: dict[str, str | list[list[str]]] = {
    "shared": "shared",
    "separate": "separate",
    "two blocks": [["a", "c"], ["b"]],
}
"""Every kind of layout; the last is of three modalities."""
