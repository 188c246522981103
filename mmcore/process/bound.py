r"""The variational bound :math:`-\log p(X) \le L_0 + \sum_{t=2}^T L_{1,t} + L_2 (+ L_3)`.

Each function returns its term per row, in nats; ``L2`` is the sum of the tasks' own loss
terms at ``z_1`` and needs no function of its own beyond :func:`recovery`.
"""

import torch
from torch import Tensor

from mmcore.process.gaussian import Gaussian, total
from mmcore.process.process import Process


def prior(process: Process, encodings: Tensor | None, z0: Tensor | None = None, *, h: Tensor | None = None) -> Tensor:
    """``L0 = KL(q(z_T | X) ‖ N(0, I))``: ``(B,)`` nats; arguments as :meth:`Process.marginal`."""
    q = process.marginal(encodings, process.steps, z0, h=h)
    return q.kl(Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.variance)))


def posterior(process: Process, encodings: Tensor, predicted: Tensor, t: Tensor | int) -> Tensor:
    r"""``L1_t``, the KL from the true posterior to the one with predicted encodings: ``(B,)`` nats.

    .. math:: \| \sum_i (W_{t-1}^{(i)} - k_t W_t^{(i)}) (E_i(x_i) - \hat E_i) \|^2 / (2 \beta_t),
        \quad k_t = \sqrt{a_t} \sigma_{t-1}^2 / \sigma_t^2

    Args:
        process: the process.
        encodings: ``E_i(x_i)``, ``(B, N, *Z)``.
        predicted: the predictions ``E[E_i(x_i)]``, ``(B, N, *Z)``.
        t: ``(B,)`` in ``2 … T``.

    Raises:
        ValueError: predictions of another shape, or ``t`` below 2.
    """
    if predicted.shape != encodings.shape:
        raise ValueError(
            f"bound: predicted has shape {tuple(predicted.shape)}, expected that of the encodings, {tuple(encodings.shape)}"
        )
    if (torch.as_tensor(t) < 2).any():
        raise ValueError(
            f"bound: t = {int(torch.as_tensor(t).min())}, expected 2 … {process.steps}: at 1 the term is L2"
        )
    # Both posteriors are affine in their encodings with the same variance, so their KL is
    # that of the posterior driven by the difference, seen from z_t = 0, against zero.
    difference = encodings - predicted
    s = t - 1
    zero = difference.new_zeros(len(difference), *difference.shape[2:])
    q = process.posterior(zero, difference, s, t)
    return total(q.mean.square() / (2 * q.variance))


def coefficients(process: Process, t: Tensor) -> Tensor:
    """``c_i = (W_{t-1}^(i) - k_t W_t^(i)) / sqrt(2 β_t)`` at clocks ``t ≥ 2``, values unchecked: ``(B, N)``.

    With them ``L1_t = ‖Σ_i c_i (E_i(x_i) - Ê_i)‖²``, the form for inner loops.
    """
    jump = process.jump(t - 1, t)
    difference = process.level(t - 1).W - process.by_modality(jump.k) * process.level(t).W
    return difference / process.by_modality((2 * jump.beta).sqrt())


def recovery(losses: Tensor) -> Tensor:
    """``L2 = Σ_i E -log p_θ(x_i | z_1)`` from the tasks' loss terms at ``z_1``, ``(B, tasks)``: ``(B,)`` nats."""
    return losses.sum(1)


def base(nll: Tensor, entropy: Tensor) -> Tensor:
    """``L3 = E -log p_θ(z_0 | z_1) - H(q(z_0 | X))`` for a random base state: ``(B,)`` nats.

    A known or constant base state contributes nothing: leave the term out.

    Args:
        nll: ``-log p_θ(z_0 | z_1) (B,)`` at drawn ``z_0``.
        entropy: ``H(q(z_0 | X)) (B,)``.
    """
    return nll - entropy
