r"""A class and a point of a Gaussian mixture, with the exact predictor: what samplers draw, against Bayes.

The data are ``k ~ p``, ``x | k ~ N(μ_k, S_k)``; ``k`` enters the space by the code of the label plugin, ``x`` by that of the vector
plugin. Given ``k`` all that the network reads is Gaussian, so ``p(k | z, condition)`` and ``E[x | z, condition]`` are known. Codes of classes are not
Gaussian: here the samplers must get right what the moments of :mod:`tests.oracle` cannot see.

Draws are real here. Each comparison allows 4.5 standard errors (by chance one in 150,000 fails) beside the stated
error of the steps, and the seeds are fixed.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import Decoder, JointModel, Registry, Rng, Space
from mmcore.data import Table, TensorBatch
from mmcore.process import schedule
from mmcore_clip import ClipModality

from .oracle import Network, shown

SHARE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
CENTRE = torch.tensor([[-1.0, 0.0], [0.8, 0.6], [0.9, -1.2]], dtype=torch.float64)
SPREAD = torch.tensor(
    [[[0.5, 0.2], [0.2, 0.4]], [[0.3, -0.2], [-0.2, 0.5]], [[0.6, 0.0], [0.0, 0.2]]], dtype=torch.float64
)
ERRORS = 4.5
HOW: dict[str, dict[str, Any]] = {
    "ancestral": {"sampler": "ancestral", "steps": 250},
    "ancestral, codes drawn": {"sampler": "ancestral", "steps": 250, "codes": "draw"},
    "ddim": {"sampler": "ddim", "eta": 0.0, "steps": 250},
    "2m": {"sampler": "2m", "steps": 100, "spacing": "snr"},
    "heun": {"sampler": "heun", "steps": 60, "spacing": "snr"},
}
BIAS = 0.03
"""The steps' own error, of frequencies and moments, that is allowed beside the standard errors."""


class Mixture(Network):
    """``log p(k | …)``, then ``E[x | …]`` and a log deviation: ``(B, 3 + 2 + 1)``."""

    def __init__(self) -> None:
        super().__init__([3, 2], 6)
        self.code = torch.zeros(0)

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        heard = self.hear(z, t, roles, condition, 1)
        centre = torch.cat([self.code, CENTRE], dim=1)
        spread = torch.zeros(3, 5, 5, dtype=torch.float64)
        spread[:, 3:, 3:] = SPREAD
        # A known code is float32: what is left of its own rounding must not decide.
        noise = torch.diag_embed(heard.noise.clamp(min=1e-9))
        across = spread @ heard.A.mT
        total = heard.A @ across + noise
        residue = heard.y[:, None] - centre @ heard.A[0].T
        solved = torch.linalg.solve(total, residue.permute(1, 2, 0))
        log_p = SHARE.log() - 0.5 * (residue.permute(1, 2, 0) * solved).sum(1).T - 0.5 * torch.logdet(total)
        p = log_p.softmax(1)
        of_each = centre[:, 3:, None] + (across @ solved)[:, 3:]
        mean = (p.T[:, None] * of_each).sum(0).T
        return self.everywhere(torch.cat([p.clamp(min=1e-30).log(), mean, torch.zeros(len(z), 1)], dim=1).to(z.dtype))


class Part(nn.Module):
    """Some of the features, in the place of a head."""

    def __init__(self, part: slice) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2)[:, self.part, 0]


class Point(ClipModality):
    """Whose head tells what the network says, and joins nothing with it: the network knows all there is."""

    def __init__(self) -> None:
        super().__init__(2, unit_norm=False)
        self.name = "point"

    def decoder(self, width: int, space: Space) -> Decoder:
        head = super().decoder(width, space)
        head.preconditioned = False  # type: ignore[misc]
        return head


@pytest.fixture(scope="module", params=["shared", "separate"])
def model(request: pytest.FixtureRequest, registry: Registry) -> JointModel:
    network = Mixture()
    label = registry.modality("label", classes=3, frequencies=SHARE.tolist())
    point = Point()
    model = mmcore.compose(
        [label, point], layout=request.param, schedule=schedule.cosine(1000, 2), backbone=network, registry=registry
    )
    network.fit(model)
    network.code = model.encoders["label"](torch.arange(3)).double()
    for name, part in (("label", slice(0, 3)), ("point", slice(3, 6))):
        model.decoders[name].head = Part(part)  # type: ignore[assignment]
    return model


@pytest.fixture(autouse=True)
def told(model: JointModel) -> Iterator[None]:
    """The network is told the sampler's own space."""
    assert isinstance(model.backbone, Network)
    with shown(model.backbone):
        yield


def points(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """``n`` samples of the mixture itself."""
    rng = Rng.for_rows(seed, n)
    k = rng.of("class").categorical(SHARE.expand(n, -1))
    x = CENTRE[k] + (torch.linalg.cholesky(SPREAD)[k] @ rng.of("point").normal(2, 1, dtype=torch.float64))[..., 0]
    return k, x.float()


def bayes(x: Tensor) -> Tensor:
    """``p(k | x)``, ``(B, 3)``."""
    normal = torch.distributions.MultivariateNormal(CENTRE, SPREAD)
    return (normal.log_prob(x.double()[:, None]) + SHARE.log()).softmax(1)


def assert_component(x: Tensor, k: int) -> None:
    """Mean and covariance of draws ``(n, 2)`` are those of component ``k``."""
    n, x = len(x), x.double()
    deviation = SPREAD[k].diagonal().sqrt()
    mean_error = (x.mean(0) - CENTRE[k]).abs() / deviation
    assert (mean_error < ERRORS / n**0.5 + BIAS).all(), mean_error
    # Var of a sample covariance's entry: (S_ii S_jj + S_ij²) / n.
    scale = torch.outer(deviation, deviation)
    limit = ERRORS * ((scale.square() + SPREAD[k].square()) / n).sqrt() / scale + BIAS
    covariance_error = (x.T.cov() - SPREAD[k]).abs() / scale
    assert (covariance_error < limit).all(), covariance_error


@pytest.mark.parametrize("how", HOW)
def test_class_given_point_is_bayes(model: JointModel, how: str) -> None:
    """Calibrated: wherever Bayes says a probability, classes are drawn with that frequency."""
    n = 4000
    _, x = points(n, 1)
    drawn = mmcore.sample(model, n, given={"point": x}, batch_size=n, seed=2, **HOW[how])["label"]
    truth, hit = bayes(x), torch.nn.functional.one_hot(drawn, 3).double()
    assert (truth.amax(1) < 0.9).sum() > n / 5  # many points are in doubt
    for k in range(3):
        for low, high in ((0.0, 0.05), (0.05, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.95), (0.95, 1.0)):
            p = truth[:, k]
            inside = (p >= low) & (p <= high)
            error = (hit[inside, k] - p[inside]).mean().abs()
            limit = ERRORS * (p * (1 - p))[inside].sum().sqrt() / inside.sum() + BIAS
            assert error < limit, (k, low, float(error), float(limit))


def test_point_given_class_by_rejection_is_the_component(model: JointModel) -> None:
    """Given each class equally often, though it is generated as often as ``SHARE`` says."""
    k = torch.arange(3).repeat(1500)
    x = mmcore.sample(model, len(k), given={"label": k}, conditioning="rejection", batch_size=2000, seed=3, **HOW["2m"])
    assert torch.equal(x["label"], k)
    for one in range(3):
        assert_component(x["point"][k == one], one)


@pytest.mark.parametrize("how", HOW)
def test_point_given_class_is_the_component(model: JointModel, how: str) -> None:
    k = torch.arange(3).repeat(1500)
    x = mmcore.sample(model, len(k), given={"label": k}, batch_size=len(k), seed=3, **HOW[how])["point"]
    for one in range(3):
        assert_component(x[k == one], one)


@pytest.mark.parametrize("how", HOW)
def test_joint_draws_are_the_mixture(model: JointModel, how: str) -> None:
    """Classes have their shares, the points of each are its component, and class and point agree as they do in the data."""
    n = 5000
    found = mmcore.sample(model, n, batch_size=n, seed=4, **HOW[how])
    k, x = found["label"], found["point"]
    share = torch.bincount(k, minlength=3) / n
    assert ((share - SHARE).abs() < ERRORS * (SHARE * (1 - SHARE) / n).sqrt() + BIAS).all()
    for one in range(3):
        assert_component(x[k == one], one)
    # How sure Bayes is of the class that came with a point: in the data E[p(k | x)] = E[Σ_k p(k | x)²].
    p = bayes(x)
    sure = p.gather(1, k[:, None]).mean()
    data_k, data_x = points(50_000, 5)
    want = bayes(data_x).gather(1, data_k[:, None])
    assert abs(sure - want.mean()) < ERRORS * float(want.std()) / n**0.5 + BIAS


def test_marginals_are_those_of_the_mixture(model: JointModel) -> None:
    """With the other one absent: the shares, and the mixture's mean and covariance."""
    n = 5000
    k = mmcore.sample(model, n, absent=["point"], batch_size=n, **HOW["2m"])["label"]
    assert ((torch.bincount(k, minlength=3) / n - SHARE).abs() < ERRORS * (0.25 / n) ** 0.5 + BIAS).all()
    x = mmcore.sample(model, n, absent=["label"], batch_size=n, **HOW["2m"])["point"].double()
    mean = SHARE @ CENTRE
    covariance = torch.einsum("k,kij->ij", SHARE, SPREAD + (CENTRE - mean)[:, :, None] * (CENTRE - mean)[:, None])
    assert ((x.mean(0) - mean).abs() < ERRORS * (covariance.diagonal() / n).sqrt() + BIAS).all()
    np.testing.assert_allclose(x.T.cov(), covariance, atol=ERRORS * (2 / n) ** 0.5 + BIAS)


def test_one_class_is_answered_by_one_call(model: JointModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ``steps`` says; rows that ask for more take all steps, and each answer is the one that it has alone."""
    calls: list[tuple[int, list[int]]] = []
    network = model.backbone
    forward = Mixture.forward

    def counted(self: Mixture, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        calls.append((len(z), t.amax(1).unique().tolist()))
        return forward(self, z, t, roles, condition)

    monkeypatch.setattr(type(network), "forward", counted)
    k, x = points(6, 3)
    alone = mmcore.sample(model, 6, given={"point": x}, steps=30, seed=4)["label"]
    assert calls == [(6, [model.process.steps])]
    calls.clear()
    known = torch.tensor([True, False, True, False, False, True])
    mixed = mmcore.sample(model, 6, given={"point": x}, where={"point": known}, steps=5, seed=4)
    assert [count for count, _ in calls] == [3, 3, 3, 3, 3, 3]
    assert torch.equal(mixed["label"][known], alone[known])
    assert torch.equal(mixed["point"][known], x[known])
    for how in ({"start": {"label": k}}, {"guidance": {"point": 2.0}}):
        option = next(iter(how))
        with pytest.raises(mmcore.RequestError, match=rf"sample: {option} is given, expected none where one class is the whole answer, as in row 0"):  # fmt: skip
            mmcore.sample(model, 6, given={"point": x}, **how)  # type: ignore[arg-type]


def test_the_bound_of_one_class_is_its_cross_entropy(model: JointModel) -> None:
    """Given the point ``-log p(k | x)`` by Bayes, to the prior term: nothing is lost on a way of one step."""
    k, x = points(400, 5)
    rows = Table(TensorBatch({"label": k, "point": x}, torch.ones(400, 2, dtype=torch.bool)))
    found = mmcore.evaluate(model, rows, observed=["point"], draws=2)
    terms = found.variables["label"]
    assert terms.L1.nats == 0
    truth = -bayes(x).gather(1, k[:, None]).log().mean()
    assert terms.L2.nats == pytest.approx(float(truth), abs=0.01)
    assert 0 <= terms.L0.nats < 0.01
