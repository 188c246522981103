"""Ink profiles: how dark each row and each column of a scanned character is."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, RequestError, Rng, Space, Spec
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total

SIZE = 8
"""Pixels along a side of a scan."""
STEP = 1 / 128
"""The distance of two values."""
MEAN = (
    (0.285, 0.349, 0.283, 0.313, 0.321, 0.273, 0.311, 0.305),
    (0.000, 0.095, 0.486, 0.606, 0.611, 0.483, 0.153, 0.007),
)
STD = 0.123


def profiles(scans: Tensor) -> Tensor:
    """Scans ``(..., 8, 8)`` to their mean ink by row and by column: ``(..., 2, 8)``."""
    return torch.stack([scans.mean(-1), scans.mean(-2)], dim=-2)


@cache
def digits() -> Tensor:
    """All of scikit-learn's scans, ``(1797, 8, 8)`` in 0 … 1."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return torch.from_numpy(data.images).float() / 16


class ProfileModality(Modality):
    """The mean ink of each row, then of each column, ``(2, 8)`` in 0 … 1: the profiles of an 8 × 8 scan.

    Each is a mean of eight pixels in steps of 1/16, so it comes in steps of 1/128. Its likelihood is the Gaussian with a learned
    mean and deviation for each number, dequantised over such a step. Codes are centred place by place, as columns at
    the border hardly ever have ink, and scaled by one deviation, so that these do not become all noise.

    Args:
        mean: over the data, at each place; that of scikit-learn's digits by default.
        std: the deviation from these means, over all places.
    """

    def __init__(self, *, mean: Sequence[Sequence[float]] = MEAN, std: float = STD) -> None:
        if [len(row) for row in mean] != [SIZE, SIZE] or not std > 0:
            raise RequestError(f"profile: mean = {mean}, std = {std}, expected two rows of {SIZE} numbers and std > 0")
        self.name = "profile"
        self.mean, self.std = torch.tensor(mean), std
        self.spec = Spec((2, SIZE), low=0.0, high=1.0)
        self.code = self.spec.shape

    def encoder(self) -> Encoder:
        return ProfileEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return ProfileDecoder(width, space, self.spec.shape, self.mean, self.std)

    def loss(self) -> LossTerm:
        return profile_loss

    def read(self, raw: Any) -> Tensor:
        """A scan ``(8, 8)`` of ink in 0 … 1, or its profiles ``(2, 8)``; as a tensor, an array or nested lists."""
        try:
            x = torch.as_tensor(raw, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected a scan of {SIZE} × {SIZE} numbers") from error
        if x.shape not in ((SIZE, SIZE), self.spec.shape):
            raise RequestError(f"found shape {tuple(x.shape)}, expected a scan {(SIZE, SIZE)} or {self.spec.shape}")
        if not x.isfinite().all() or x.min() < 0 or x.max() > 1:
            raise RequestError(f"found values {x.min():.4g} … {x.max():.4g}, expected ink in 0 … 1")
        return x if x.shape == self.spec.shape else profiles(x)

    def show(self, x: Tensor) -> str:
        marks = "▁▂▃▄▅▆▇█"
        rows, columns = ("".join(marks[k] for k in (7 * row).round().long()) for row in x)
        return f"rows {rows} columns {columns}"

    def metrics(self) -> Mapping[str, Metric]:
        return {"mae": lambda prediction, target: (prediction - target).abs().flatten(1).mean(1)}

    def typical(self, n: int, seed: int) -> Tensor:
        """Profiles of real scans, drawn by the seed."""
        scans = digits()
        return profiles(scans[Rng.for_rows(seed, n).of("typical").integers(0, len(scans))])


class ProfileEncoder(Encoder):
    """Profiles less their mean, over their deviation."""

    mean: Tensor

    def __init__(self, mean: Tensor, std: float) -> None:
        super().__init__()
        # A buffer moves along to devices and dtypes; it is an option, so no state dict needs it.
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class ProfileDecoder(Decoder):
    """``(B, 2, 2, 8)``: means and log deviations."""

    mean: Tensor

    def __init__(self, width: int, space: Space, shape: tuple[int, ...], mean: Tensor, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.shape, self.std = shape, std
        # A space with one axis keeps places where they are; in others the head reads all of it.
        channels, length = shape
        if len(space.grid) == 1:
            self.head = SpatialHead(width, space, 2 * channels, (length,))
        else:
            self.head = PooledHead(width, space, 2 * channels * length)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        out = self.head(features).reshape(len(features), 2, *self.shape)
        mean = self.mean + self.std * out[:, 0]
        log_scale = bounded_log_scale(out[:, 1]) + math.log(self.std)
        return torch.stack([mean, log_scale], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0].clamp(0, 1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, log_scale = params.unbind(1)
        return (mean + log_scale.exp() * rng.normal(*self.shape, dtype=mean.dtype)).clamp(0, 1)


def profile_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The dequantised Gaussian's nats per sample."""
    mean, log_scale = params.unbind(1)
    return total(gaussian(mean, log_scale, target, bin_width=STEP), where)
