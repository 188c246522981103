"""How timesteps are sampled in training, and how losses are weighted over timesteps and tasks.

All three weightings estimate an average over ``t`` of ``Σ_k λ_k(t) l_k``, with factors ``λ_k(t)`` of the tasks' losses.
:data:`WEIGHTINGS` has them by name.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from mmcore.model.joint import JointModel
from mmcore.process.coefficients import constant
from mmcore.rng import Rng

GAMMA = 5.0
"""Where ``snr`` clips the signal-to-noise ratio."""
REACH = 3.0
"""How far a learned log variance of a task goes from 0."""


class Weighting(Protocol):
    """How timesteps are sampled and losses weighted over them.

    Attributes:
        objective: what the model is asked for, as in :meth:`mmcore.model.joint.JointModel.forward`.
        free: whether timesteps may be drawn by question instead.
    """

    objective: str
    free: bool

    def draw(self, model: JointModel, rng: Rng) -> Tensor:
        """Sample timesteps ``(B, K)`` for a batch."""
        ...

    def factors(self, model: JointModel, t: Tensor) -> Tensor:
        """The loss weights ``λ_k(t)`` at timesteps ``(B, K)``: ``(B, tasks)``."""
        ...


class Simple:
    """``simple``: uniform timesteps, with losses balanced over them."""

    objective = "recovery"
    free = True

    def draw(self, model: JointModel, rng: Rng) -> Tensor:
        """Timesteps ``(B, K)``, uniform in ``1 … T``, each block's by itself."""
        return rng.integers(1, model.process.steps + 1, model.process.blocks)

    def factors(self, model: JointModel, t: Tensor) -> Tensor:
        """The loss weights of :func:`balance`."""
        return balance(model, t)


class ClippedSnr(Simple):
    """``snr``: min-SNR loss weighting.

    After "Efficient Diffusion Training via Min-SNR Weighting Strategy" (Hang et al. 2023), for predictions of the clean latent.
    It is ``simple`` times the target's own signal-to-noise ratio, clipped: ``min((W_t^(i) / σ_t)², 5)``, divided by its mean over ``t``.
    Classes, which are answered at ``T`` where there is no signal, and targets without a code keep the factor 1.
    """

    def factors(self, model: JointModel, t: Tensor) -> Tensor:
        """The loss weights of :func:`balance` times the clipped ratio."""
        process = model.process
        every = torch.arange(1, process.steps + 1, device=t.device)[:, None].expand(-1, process.blocks)
        mean = self._clipped(model, every).mean(0)
        return balance(model, t) * (self._clipped(model, t) / mean).to(torch.get_default_dtype())

    @staticmethod
    def _clipped(model: JointModel, t: Tensor) -> Tensor:
        level = model.process.level(t)
        ratio = level.W / model.process.by_modality(level.sigma)
        return model.driver.by_task(torch.where(model.driver.discrete, 1.0, ratio.square().clamp(max=GAMMA)), 1.0)


class Elbo:
    """``elbo``: train on the ELBO itself, without its constant prior term ``L0``.

    Half of the timesteps are 1, where the loss is ``L2``; the others are drawn evenly in ``2 … T``, where it is ``L1_t``.
    The factors are the inverse probabilities, so the mean over draws is ``L2 + Σ_t L1_t``. All blocks' timesteps go down
    together, as in sampling: the bound is that of one chain.
    """

    objective = "bound"
    free = False

    def draw(self, model: JointModel, rng: Rng) -> Tensor:
        """Timesteps ``(B, K)``: 1 with probability ½, else uniform in ``2 … T``; the same for all blocks."""
        steps, blocks = model.process.steps, model.process.blocks
        t = torch.ones(len(rng.rows), 1, dtype=torch.int64, device=rng.rows.device)
        if steps > 1:
            first = rng.of("first").uniform(1) < 0.5
            t = torch.where(first, t, rng.integers(2, steps + 1, 1))
        return t.expand(-1, blocks)

    def factors(self, model: JointModel, t: Tensor) -> Tensor:
        """The loss weights: the inverse of each timestep's probability."""
        steps = model.process.steps
        if steps == 1:
            return torch.ones(len(t), len(model.tasks), device=t.device)
        return torch.where(t[:, :1] == 1, 2.0, 2.0 * (steps - 1)).expand(-1, len(model.tasks))


WEIGHTINGS: dict[str, Weighting] = {"simple": Simple(), "snr": ClippedSnr(), "elbo": Elbo()}
"""The weightings, by the names that the option ``weighting`` takes."""


def balance(model: JointModel, t: Tensor) -> Tensor:
    """The loss weight at each timestep, ``λ_k(t)`` at ``t (B, K)``: ``(B, tasks)``.

    A real-valued target's likelihood has a learned deviation, whose square falls with the noise
    about as ``σ_t² / (σ_t² + W_t²)``, the posterior variance of a standard normal code. This factor undoes it:
    the mean is trained by about its squared error at every ``t``, where else the nearly clean
    steps would drown the others. Discrete targets, those without a code, and those whose head begins from its own noisy code have 1: such a head's gradient
    falls with the noise by itself.
    """
    level = model.process.level(t)
    noise = model.process.by_modality(level.sigma.square())
    share = noise / (noise + level.W.square())
    factors = model.driver.by_task(torch.where(model.driver.discrete, 1.0, share), 1.0).to(torch.get_default_dtype())
    if not model.reading.beginning:
        return factors
    return torch.where(constant(model.reading.begins, torch.bool, t.device), 1.0, factors)


class FixedWeights(nn.Module):
    """Fixed task weights: the tasks' own."""

    def __init__(self, model: JointModel) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor([task.weight for task in model.tasks]))

    def forward(self, losses: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights of the tasks' mean losses ``(tasks,)``, and what is added to each; None for nothing."""
        return self.weights, None


class LearnedWeights(FixedWeights):
    """Learned task weights, by homoscedastic uncertainty, times the tasks' own.

    After "Multi-Task Learning Using Uncertainty to Weigh Losses" (Kendall, Gal and Cipolla 2018): with a log variance ``s_k`` per task
    the loss is ``Σ_k w_k (exp(-s_k) l_k / d_k + s_k)``, ``d_k`` the number of the target's elements, so that ``exp(s_k)`` settles at the loss per
    element. Log-densities may be negative, and would then drive ``s_k`` to minus infinity; so it is kept within ±3, smoothly.
    """

    def __init__(self, model: JointModel) -> None:
        super().__init__(model)
        self.raw = nn.Parameter(torch.zeros(len(model.tasks)))
        self.sizes: Tensor
        sizes = [torch.Size(target.spec.shape).numel() for target in model.heads.targets]
        self.register_buffer("sizes", torch.tensor(sizes, dtype=torch.get_default_dtype()))

    def forward(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the tasks' mean losses, and the weighted log variances that are added."""
        s = REACH * torch.tanh(self.raw / REACH)
        return self.weights * (-s).exp() / self.sizes, self.weights * s
