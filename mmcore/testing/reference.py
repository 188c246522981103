"""A small healthy modality of the kit's own: the neighbour in compositions, and the example of one."""

from typing import Any

import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.modality.base import Decoder, Encoder, LossTerm, Modality
from mmcore.modality.heads import PooledHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total, unbounded_log_scale
from mmcore.modality.noisy import NoisyCode
from mmcore.modality.spec import Spec
from mmcore.rng import Rng
from mmcore.space import Space


class Reference(Modality):
    """Vectors of ``size`` real numbers, standard normal over the data.

    Args:
        size: of a vector, at least 1.
    """

    def __init__(self, size: int = 3) -> None:
        if size < 1:
            raise RequestError(f"reference: size = {size}, expected at least 1")
        self.name = "reference"
        self.spec = Spec((size,))
        self.code = (size,)

    def encoder(self) -> Encoder:
        return ReferenceEncoder()

    def decoder(self, width: int, space: Space) -> Decoder:
        return ReferenceDecoder(width, space, self.spec.shape[0])

    def loss(self) -> LossTerm:
        return reference_loss

    def read(self, raw: Any) -> Tensor:
        """A vector as a tensor, an array or a list."""
        try:
            x = torch.as_tensor(raw, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected {self.spec.shape[0]} numbers") from error
        self.spec.check(x[None], "reference")
        return x

    def show(self, x: Tensor) -> str:
        return ", ".join(f"{v:.2f}" for v in x.tolist())

    def typical(self, n: int, seed: int) -> Tensor:
        return Rng.for_rows(seed, n).of("typical").normal(*self.spec.shape)


class ReferenceEncoder(Encoder):
    """The vector itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class ReferenceDecoder(Decoder):
    """``(B, 2, size)``: means and raw log deviations."""

    preconditioned = True

    def __init__(self, width: int, space: Space, size: int) -> None:
        super().__init__()
        self.size = size
        self.head = PooledHead(width, space, 2 * size, pools=4, hidden=32)

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        raw = self.head(features).unflatten(1, (2, self.size))
        if own is None:
            return raw
        mean, log_scale = own.around(raw[:, 0], bounded_log_scale(raw[:, 1]))
        return torch.stack([mean, unbounded_log_scale(log_scale)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return params[:, 0] + bounded_log_scale(params[:, 1]).exp() * rng.normal(self.size, dtype=params.dtype)


def reference_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The Gaussian's nats per sample."""
    return total(gaussian(params[:, 0], bounded_log_scale(params[:, 1]), target), where)
