"""A small trained network on Gaussian data: what it answers, to every question, against the truth.

Measured on other correlations and seeds too by ``python -m benchmarks.gaussian``.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, Rng, RoleMix
from mmcore.data import Table, TensorBatch
from mmcore.process import schedule
from mmcore.testing.reference import Reference

from .oracle import ABSENT, GENERATE, OBSERVE, conditional, questions

COVARIANCE = np.array([[1.0, 0.8, -0.5], [0.8, 1.0, -0.3], [-0.5, -0.3, 1.0]])
TRAINING = {"steps": 3000, "batch_size": 256, "lr": 3e-3}
NAMES = "abc"


def drawn(n: int, seed: int) -> dict[str, Tensor]:
    """``n`` rows of the data."""
    root = torch.as_tensor(np.linalg.cholesky(COVARIANCE), dtype=torch.float32)
    x = Rng.for_rows(seed, n).of("data").normal(3) @ root.T
    return {name: x[:, i : i + 1] for i, name in enumerate(NAMES)}


def fitted(layout: str, seed: int = 0, **changes: int | float) -> JointModel:
    """Trained on 50,000 rows."""
    modalities = []
    for name in NAMES:
        m = Reference(1)
        m.name = name
        modalities.append(m)
    model = mmcore.compose(
        modalities,
        layout=layout,
        schedule=schedule.cosine(100, 3),
        backbone="mlp",
        backbone_options={"width": 64, "depth": 2},
        seed=seed,
    )
    rows = Table(TensorBatch(drawn(50_000, seed), torch.ones(50_000, 3, dtype=torch.bool)))
    mix = RoleMix(joint=0.3, single=0.2, absent=0.3)
    mmcore.fit(model, rows, roles=mix, seed=seed, quiet=True, device="cpu", **(TRAINING | changes))
    return model


def lacks(model: JointModel, asked: tuple[int, ...], n: int = 20_000) -> float:
    """The largest error of any entry of mean, regression and covariance of ``n`` samples with observations like the data's."""
    given = drawn(n, 9)
    answer = mmcore.sample(
        model,
        n,
        given={name: given[name] for name, role in zip(NAMES, asked, strict=True) if role == OBSERVE},
        absent=[name for name, role in zip(NAMES, asked, strict=True) if role == ABSENT],
        steps=50,
        sampler="ancestral",
        codes="draw-all",
        draw=True,
        batch_size=n,
        seed=1,
    )
    made, seen = ([i for i, role in enumerate(asked) if role == which] for which in (GENERATE, OBSERVE))
    x = torch.cat([answer[NAMES[i]] for i in made], dim=1).double()
    o = torch.cat([torch.ones(n, 1), *(given[NAMES[i]] for i in seen)], dim=1).double()
    fit = torch.linalg.lstsq(o, x).solution
    residue = x - o @ fit
    regression, left = conditional(COVARIANCE, asked)
    errors = [
        fit[0].abs().max(),
        (residue.T @ residue / n - torch.as_tensor(left[np.ix_(made, made)])).abs().max(),
    ]
    if seen:
        errors.append((fit[1:].T - torch.as_tensor(regression[np.ix_(made, seen)])).abs().max())
    return float(max(errors))


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_every_answer_is_within_a_twentieth(layout: str) -> None:
    """Joint, marginals and conditionals of unit variances: every mean, regression and covariance within 0.05."""
    model = fitted(layout)
    assert max(lacks(model, asked) for asked in questions(3)) <= 0.05
