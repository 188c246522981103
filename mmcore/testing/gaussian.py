"""A denoiser that knows the answer: Gaussian codes, whose posterior mean is a formula, in the place of a model.

Code element ``e`` of modality ``i`` is ``x_e ~ N(m_e, s_e²)``, and lies in the space where no other does. So with
:math:`z = W_t^{(i)} x + σ_t ε` the best prediction is ``E[x | z] = m + s² W (z - W m) / (W² s² + σ²)``, and a sampler's
noisy latents at ``t`` should follow ``N(W m, W² s² + σ²)``. Some elements of the space belong to no code, as in a model's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmcore.process import Blocks, schedule
from mmcore.rng import Rng
from mmcore.sampling.denoiser import Here
from mmcore.sampling.samplers import Sampler

STEPS = 1000
"""``T`` of both processes."""


def process(blocks: int, steps: int = STEPS) -> Blocks:
    """A process of one block or two, whose noise does not fall alike in both."""
    if blocks == 1:
        return Blocks([schedule.cosine(steps, 2, [1.0, 0.7])], [[0, 1]], [5])
    return Blocks([schedule.cosine(steps, 1), schedule.linear(steps, 1, [0.8])], [[0], [1]], [2, 3])


class Known:
    """A denoiser (:class:`mmcore.sampling.Asked`) of Gaussian codes, which keeps what it was asked.

    Args:
        process: of :func:`process`.
        dtype: of latents and codes.
        device: of both.
        shift: added to every mean.
        grid: of the space.
        exact: whether its noise has its mean, variance and correlations *exactly* over the rows. What is linear in the noise then
            has the moments of its distribution to rounding, whatever the number of rows.

    Attributes:
        asked: the timesteps of which codes were asked.
        told: the random numbers that came with each.
        changed: whether latents that a caller was given, or gave, were changed in place.
    """

    def __init__(
        self,
        process: Blocks,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        shift: float = 0.0,
        grid: tuple[int, ...] = (2,),
        exact: bool = False,
    ) -> None:
        self._process, self.dtype, self.device, self.exact = process, dtype, torch.device(device), exact
        self._met: list[Tensor] = []
        self.shape = (sum(process.channels), *grid)
        size = torch.empty(self.shape, device="meta").numel()
        # Each block's channels: its modalities share the first ones; of the last channel the first place is nobody's.
        channel = torch.arange(size) // (size // self.shape[0])
        block = torch.arange(len(process.channels)).repeat_interleave(torch.tensor(process.channels))[channel]
        first = torch.cat([torch.arange(c) for c in process.channels])[channel]
        owner = torch.tensor([process.members[b][min(f, len(process.members[b]) - 1)] for b, f in zip(block.tolist(), first.tolist(), strict=True)])  # fmt: skip
        taken = torch.ones(size, dtype=torch.bool)
        taken[:: size // 2] = False
        # Codes in another order than the space has them.
        self.index = taken.nonzero()[:, 0].flip(0).to(self.device)
        self.owner, self.block = owner[self.index.cpu()], block[self.index.cpu()]
        place = torch.arange(len(self.index), dtype=torch.float64)
        self.mean = (1.2 * torch.sin(1 + place) + shift).to(self.device)
        self.deviation = (0.25 + 0.9 * (0.5 + 0.5 * torch.cos(2 * place))).to(self.device)
        self.asked: list[int] = []
        self.told: list[Rng] = []
        self.changed = False

    @property
    def process(self) -> Blocks:
        """The forward process."""
        return self._process

    def _level(self, t: int) -> tuple[Tensor, Tensor]:
        """``W_t`` and ``σ_t`` of each code element."""
        level = self._process.level(t)
        return level.W[0, self.owner].to(self.device), level.sigma[0, self.block].to(self.device)

    def law(self, t: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the noisy latents at ``t``, of each element of the space: each ``(dim Z,)``."""
        size = torch.empty(self.shape, device="meta").numel()
        W, _ = self._level(t)
        like = torch.zeros(1, *self.shape, dtype=torch.float64)
        variance = self._process.widen(self._process.level(t).sigma.square(), like).expand(1, *self.shape).reshape(size)
        mean, variance = torch.zeros(size, dtype=torch.float64), variance.clone()
        mean[self.index] = W * self.mean
        variance[self.index] += (W * self.deviation).square()
        return mean, variance

    def codes(self, here: Here, rng: Rng) -> Tensor:
        """The posterior mean of every code element, ``(B, D)``."""
        self.asked.append(here.t)
        self.told.append(rng)
        # Noise must have nothing to do with where the sampler is and was.
        self._met = [*[x for x in self._met[-3:] if x is not here.z], here.z] if self.exact else []
        W, sigma = self._level(here.t)
        z = here.z.flatten(1)[:, self.index]
        gain = self.deviation.square() * W / ((W * self.deviation).square() + sigma.square())
        return (self.mean + gain * (z - W * self.mean)).to(self.dtype)

    def _placed(self, codes: Tensor, t: int) -> Tensor:
        W, _ = self._level(t)
        flat = codes.new_zeros(len(codes), torch.empty(self.shape, device="meta").numel())
        return flat.index_copy(1, self.index, (codes * W.to(codes.dtype)).to(codes.dtype)).unflatten(1, self.shape)

    def move(self, here: Here, codes: Tensor, to: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """A step by :meth:`mmcore.Process.step`."""
        return self._process.step(here.z, self._placed(codes, to), self._placed(codes, here.t), to, here.t, noise, eta)

    def by_code(self, coefficient: Tensor) -> Tensor:
        """A coefficient of the blocks for each code element."""
        return coefficient[:, self.block.to(coefficient.device)].to(self.dtype)

    def noise(self, rng: Rng) -> Tensor:
        """Standard normal noise of a step."""
        plain = Rng(rng.seed, rng.rows, rng.step, rng.purpose).of("noise").normal(*self.shape, dtype=self.dtype)
        if not self.exact:
            return plain
        found = _apart(plain, self._met)
        self._met.append(found)
        return found

    def begin(self, rng: Rng) -> Tensor:
        """The noisy latents at ``T``: standard normal."""
        z = rng.of("prior").normal(*self.shape, dtype=self.dtype)
        return _apart(z, []) if self.exact else z


def _apart(noise: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Noise whose mean over the rows is 0, whose variance 1 and whose correlation with others 0, exactly, in every element."""
    noise, basis = noise - noise.mean(0), []
    for other in others:
        x = other - other.mean(0)
        for y in basis:
            x = x - (x * y).mean(0) * y
        size = x.square().mean(0).sqrt()
        # What the others say already is nothing of its own.
        keep = size > 1e-6 * (other.std(0, correction=0) + 1e-300)
        basis.append(torch.where(keep, x / size.clamp(min=1e-300), 0.0))
    for y in basis:
        noise = noise - (noise * y).mean(0) * y
    return noise / noise.std(0, correction=0)


class Counted(Rng):
    """Random numbers that tell whether any were drawn."""

    drawn = False

    def bits(self, count: int) -> Tensor:
        """Random bits, noted."""
        Counted.drawn = True
        return super().bits(count)

    def of(self, purpose: str) -> Rng:
        """Those for another purpose are noted too."""
        other = super().of(purpose)
        noted = Counted(other.seed, other.rows, other.step, other.purpose)
        noted._mixed = other._mixed
        return noted


def walk(
    sampler: Sampler, known: Known, path: Sequence[int], rng: Rng, z: Tensor | None = None, each: list[Tensor] | None = None
) -> Tensor:  # fmt: skip
    """The noisy latents at the path's end, as :func:`mmcore.sample` gets there; those at every timestep go into ``each``."""
    here = Here(known.begin(rng) if z is None else z, path[0])
    Counted.drawn = False
    memory: dict[str, object] = {}
    for to in path[1:]:
        before = here.z.clone()
        found = sampler.step(known, here, to, Counted(rng.seed, rng.rows, to, rng.purpose), memory)
        known.changed |= not torch.equal(before, here.z) if before.device.type != "meta" else False
        here = Here(found, to)
        if each is not None:
            each.append(found)
    return here.z
