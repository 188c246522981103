"""Two healthy modalities that mutants are made of: maps of distances with holes, and series whose length and numbers have one loss that does not factorise."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, RequestError, Rng, Spec
from mmcore.modality.likelihood import bounded_log_scale, gaussian
from tests.testing.wider import Plain


class Depth(Plain):
    """A map of distances in 0.1 … 10 m, log-normal and clipped, where 0 is a hole."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code = Spec((1, 4, 4), torch.float32, 0.1, 10.0, void=0), (1, 4, 4)
        self.params = (2, 1, 4, 4)

    def encode(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, (x.clamp(min=0.05).log() - 0.7) / 0.5, torch.zeros_like(x))

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        y = x.clamp(min=0.05).log()
        nats = gaussian(0.7 + 0.5 * params[:, 0], bounded_log_scale(params[:, 1]) - 0.7, y) + y
        return torch.where(x > 0, nats, torch.zeros_like(nats))

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        y = 0.7 + 0.5 * params[:, 0]
        if rng is not None:
            y = y + (bounded_log_scale(params[:, 1]) - 0.7).exp() * rng.normal(1, 4, 4, dtype=params.dtype)
        return y.exp().clamp(0.1, 10.0)

    def read(self, raw: Any) -> Tensor:
        """Metres; what a sensor could not see, or was beyond its range, is a hole."""
        try:
            x = torch.as_tensor(raw, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected a map") from error
        x = torch.where((x >= 0.1) & (x <= 10.0), x, torch.zeros_like(x))
        self.spec.check(x[None], self.name)
        return x

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        y = 0.7 + 0.5 * (0.9 * rng.of("common").normal(1, 1, 1) + 0.5 * rng.of("own").normal(1, 4, 4))
        return torch.where(rng.of("hole").uniform(1, 4, 4) < 0.1, 0.0, y.exp().clamp(0.1, 10.0))


class Series(Plain):
    """Series of one to eight steps: numbers, 0 after the end, above a row of ones up to the end.

    The length has probabilities of its own; what lies beyond it counts for nothing.
    """

    frequencies = torch.tensor([0.02, 0.05, 0.1, 0.2, 0.3, 0.223, 0.1, 0.007])

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2, 8), torch.float32), (2, 8), (3, 8)

    def encoder(self) -> Encoder:
        return SeriesEncoder(self.frequencies)

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            here = target[:, 1] > 0.5
            length = (here.sum(1) - 1).clamp(min=0)
            nats = gaussian(params[:, 0], bounded_log_scale(params[:, 1]), target[:, 0]) * here
            ends = F.cross_entropy(3 * params[:, 2], length, reduction="none")
            if where is not None:
                nats = torch.where(where[:, 0], nats, torch.zeros_like(nats))
                ends = torch.where(where[:, 1].all(1), ends, torch.zeros_like(ends))
                nats = torch.where(where[:, 1].all(1)[:, None], nats, torch.zeros_like(nats))
            return nats.sum(1) + ends

        return loss

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x, chances = params[:, 0], (3 * params[:, 2]).softmax(1)
        length = chances.argmax(1) if rng is None else rng.of("length").categorical(chances)
        if rng is not None:
            x = x + bounded_log_scale(params[:, 1]).exp() * rng.of("value").normal(8, dtype=params.dtype)
        here = torch.arange(8, device=params.device) <= length[:, None]
        return torch.stack([x * here, here.to(x.dtype)], dim=1)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        here = (3 * params[:, 2]).softmax(1).flip(1).cumsum(1).flip(1)
        return encode(torch.stack([params[:, 0] * here, here], dim=1))

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        length = rng.of("length").categorical(self.frequencies.expand(n, -1))
        here = torch.arange(8) <= length[:, None]
        x = 0.9 * rng.of("common").normal(1) + 0.44 * rng.of("own").normal(8)
        return torch.stack([x * here, here.float()], dim=1)


class SeriesEncoder(Encoder):
    """The numbers and the row of ones, the latter centred and scaled."""

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        here = frequencies.flip(0).cumsum(0).flip(0)
        self.register_buffer("mean", torch.stack([torch.zeros(8), here]))
        self.register_buffer("scale", torch.stack([here.rsqrt(), (here * (1 - here)).clamp(min=0.01).rsqrt()]))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale  # type: ignore[operator]
