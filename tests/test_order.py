"""I16: each sampler's order of convergence, by regression against the exact flow (no draws: see :mod:`tests.oracle`).

On Gaussian data the flow that a deterministic sampler approximates keeps the marginals, whatever the weights: started from the exact ``q(z_T)`` it
ends at the exact ``q(z_1)``, from which the answer is read by one matrix. So the truth needs no finer steps.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mmcore import Schedule

from .oracle import GENERATE, HARD, LAYOUTS, OBSERVE, SAMPLERS, answer, conditional, equal, gaussian_model

STEPS = (40, 80, 160, 320)
ORDERS = {"ddim, eta 0": 1, "2m": 2, "heun": 2}


def table(n: int, gains: Sequence[float], powers: Sequence[float]) -> Schedule:
    """``n`` steps with ``½ log(A/σ²)`` evenly spaced from 5 to -5, and ``W_t^(i) = g_i A_t^(p_i/2)``."""
    level = torch.linspace(5, -5, n, dtype=torch.float64)
    log_A = torch.cat([torch.zeros(1, dtype=torch.float64), torch.nn.functional.logsigmoid(2 * level)])
    g, p = (torch.tensor(values, dtype=torch.float64) for values in (gains, powers))
    return Schedule.from_cumulative(log_A, g * (0.5 * p * log_A[:, None]).exp())


def at_the_end(schedule: Schedule, data: np.ndarray, roles: Sequence[int]) -> np.ndarray:
    """The covariance of ``E[x | z_1]`` under the exact ``q(z_1)``, for scalars with an element each."""
    _, left = conditional(data, roles)
    W = np.diag(schedule.W[1].numpy() * (np.array(roles) == GENERATE))
    spread = W @ left @ W + float(schedule.variance[1]) * np.eye(len(data))
    gain = left @ W @ np.linalg.inv(spread)
    return gain @ spread @ gain.T


CASES = {
    "shared, gains 1": ("shared", equal(2, 0.5), [1.0, 1.0], [1.0, 1.0]),
    "shared, gains and powers differ": ("shared", equal(2, 0.5), [2.0, 0.5], [1.0, 1.5]),
    "two blocks, gains differ": (LAYOUTS["two blocks"], HARD, [1.0, 0.7, 1.5], [1.0] * 3),
}


@pytest.mark.filterwarnings("ignore:.*does not reach the prior")
@pytest.mark.parametrize("sampler", ORDERS)
@pytest.mark.parametrize("case", CASES)
def test_i16_order(case: str, sampler: str) -> None:
    """1 for DDIM, 2 (± 0.15) for 2M and Heun, of the joint and with an observation."""
    layout, data, gains, powers = CASES[case]
    asked = [(GENERATE,) * len(data), (OBSERVE, *[GENERATE] * (len(data) - 1))]
    found = []
    for n in STEPS:
        schedule = table(n, gains, powers)
        model = gaussian_model(schedule, [1] * len(data), layout, space=(len(data), 1))
        _, covariances = answer(model, [data] * len(asked), asked, exact_start=True, **SAMPLERS[sampler])
        truth = np.stack([at_the_end(schedule, data, roles) for roles in asked])
        found.append(np.abs(covariances - truth).max((1, 2)))
    for errors in np.array(found).T:
        order = -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]
        assert order == pytest.approx(ORDERS[sampler], abs=0.15)
    assert np.max(found[-1]) < (0.02 if ORDERS[sampler] == 1 else 0.0004)
