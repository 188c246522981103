"""A healthy modality of the size of a short sound: what the kit's time is measured with."""

import math

import torch
from torch import Tensor

from mmcore import Decoder, Rng, Space, Spec
from mmcore.modality.heads import PooledHead
from tests.testing.wider import Audio


class Sound(Audio):
    """Two thousand steps of 16-bit sound, as :class:`~tests.testing.wider.Audio` has sixteen."""

    def __init__(self, steps: int = 2000) -> None:
        super().__init__()
        self.steps = steps
        self.spec, self.code = Spec((1, steps), torch.float32, -1.0, 1.0), (1, steps)
        self.params = (2, 1, steps)

    def decoder(self, width: int, space: Space) -> Decoder:
        return SoundHead(self, width, space)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        mean, log_scale = self._parts(params.double())
        if rng is not None:
            u = rng.uniform(1, self.steps, dtype=torch.float64)
            mean = mean + log_scale.exp() * (u / (1 - u)).log()
        return ((mean / self.step).round() * self.step).clamp(-1, 1).to(params.dtype)

    def read(self, raw: object) -> Tensor:
        from mmcore import RequestError

        try:
            x = torch.as_tensor(raw)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected sound") from error
        if x.dtype == torch.int16:
            x = x * self.step
        if x.numel() != self.steps or not x.is_floating_point():
            raise RequestError(f"found shape {tuple(x.shape)} in {x.dtype}, expected {self.steps} steps")
        x = x.reshape(1, self.steps).float()
        self.spec.check(x[None], self.name)
        return x

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        t = torch.arange(self.steps) / self.steps
        tone = (2 * math.pi * (5 * t + rng.of("phase").uniform(1, 1))).sin() * 0.45**0.5
        x = 0.25 * (0.9 * tone * 2**0.5 + 0.55 * rng.of("own").normal(1, self.steps))
        return ((x / self.step).round() * self.step).clamp(-1, 1 - self.step)


class SoundHead(Decoder):
    """Parameters from pooled features."""

    def __init__(self, modality: Sound, width: int, space: Space) -> None:
        super().__init__()
        self.shape, self.answer = modality.params, modality.answer
        self.head = PooledHead(width, space, math.prod(self.shape), pools=4, hidden=32)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features).unflatten(1, self.shape)

    def point(self, params: Tensor) -> Tensor:
        return self.answer(params, None)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return self.answer(params, rng)
