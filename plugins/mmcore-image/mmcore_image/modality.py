"""Images: encoder, decoder and the dequantised Gaussian likelihood."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, RequestError, Rng, Space, Spec
from mmcore.data.batch import read_alike
from mmcore.data.decode import picture
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.options import SIDES, above, require, sides, whole

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageModality(Modality):
    """Images as floats in -1 … 1, channels first.

    Args:
        channels: of an image.
        size: height and width, or one number for both.
        levels: how many values a pixel can take; sets the bins of the likelihood.
        mean: of the data's pixels, in -1 … 1.
        std: standard deviation of the data's pixels.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int | Sequence[int] = 32,
        *,
        levels: int = 256,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        require(
            "image",
            channels=(channels, whole(1)),
            size=(sides(size), SIDES),
            levels=(levels, whole(2)),
            std=(std, above(0)),
        )
        height, width = sides(size)
        self.name = "image"
        self.levels, self.mean, self.std = levels, mean, std
        self.spec = Spec((channels, height, width), torch.float32, -1.0, 1.0)
        self.code = self.spec.shape

    def encoder(self) -> Encoder:
        return ImageEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return ImageDecoder(width, space, self.spec.shape, self.mean, self.std)

    def loss(self) -> LossTerm:
        return ImageLoss(2 / (self.levels - 1))

    def read(self, raw: Any) -> Tensor:
        """A path, a PIL image, or an array: uint8 in 0 … 255, or floats in 0 … 1; ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``."""
        return read_alike([self._array(raw)], self._scaled)[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        return read_alike([self._array(raw) for raw in raws], self._scaled)

    def _array(self, raw: Any) -> np.ndarray | Tensor:
        if isinstance(raw, str | Path):
            raw = picture(raw)
        if isinstance(raw, Image.Image):
            mode = _MODES.get(self.spec.shape[0], raw.mode)
            raw = np.asarray(raw if raw.mode == mode else raw.convert(mode))
        if not isinstance(raw, np.ndarray | Tensor):
            raise RequestError(f"found {type(raw).__name__}, expected a path, a PIL image or an array")
        return raw

    def _scaled(self, x: Tensor) -> Tensor:
        """Pixels ``(B, H, W)``, ``(B, H, W, C)`` or ``(B, C, H, W)`` as the spec has them."""
        channels, height, width = self.spec.shape
        found = tuple(x.shape[1:])
        if len(found) == 2:
            x = x[:, None]
        elif found == (height, width, channels) != (channels, height, width):
            x = x.permute(0, 3, 1, 2)
        if x.shape[1:] != self.spec.shape:
            raise RequestError(f"found shape {found}, expected an image of {channels} × {height} × {width}")
        x = x.contiguous()
        if x.dtype == torch.uint8:
            return x.float().div_(255).mul_(2).sub_(1)  # in range as it is
        if not x.is_floating_point():
            raise RequestError(f"found dtype {x.dtype}, expected uint8 in 0 … 255 or floats in 0 … 1")
        if not x.isfinite().all() or x.min() < 0 or x.max() > 1:
            raise RequestError(f"found values {x.min():.4g} … {x.max():.4g}, expected floats in 0 … 1")
        return (2 * x - 1).to(self.spec.dtype)

    def show(self, x: Tensor) -> Image.Image:
        pixels = ((x.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        if pixels.shape[0] in _MODES:
            return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return Image.fromarray(pixels[0])

    def metrics(self) -> Mapping[str, Metric]:
        return {"mse": lambda prediction, target: (prediction - target).square().flatten(1).mean(1)}

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Mean and deviation of all pixels."""
        x = samples.double()
        return {"mean": round(float(x.mean()), 4), "std": max(round(float(x.std(correction=0)), 4), 1e-3)}

    def typical(self, n: int, seed: int) -> Tensor:
        """Random patches with the stated mean and deviation, clipped and quantised as pixels are."""
        channels, height, width = self.spec.shape
        rng = Rng.for_rows(seed, n).of("typical")
        coarse = rng.of("coarse").normal(channels, -(-height // 4) + 1, -(-width // 4) + 1)
        smooth = F.interpolate(coarse, (height, width), mode="nearest")
        # A little wider than the data, for what the clipping takes away.
        x = self.mean + self.std * (1.1 * smooth + 0.3 * rng.of("fine").normal(channels, height, width))
        step = 2 / (self.levels - 1)
        return (((x.clamp(-1, 1) + 1) / step).round() * step - 1).clamp(-1, 1)


class ImageEncoder(Encoder):
    """Pixels less their mean, over their deviation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class ImageDecoder(Decoder):
    """A Gaussian per pixel; one deviation per image."""

    def __init__(self, width: int, space: Space, shape: tuple[int, ...], mean: float, std: float) -> None:
        super().__init__()
        self.shape, self.mean, self.std = shape, mean, std
        grid = len(space.grid)
        self.map = SpatialHead(width, space, shape[0], shape[1:]) if grid == 2 else None
        self.flat = None if grid == 2 else PooledHead(width, space, torch.Size(shape).numel())
        self.log_scale = PooledHead(width, space, 1, hidden=32)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        """``(B, 2, C, H, W)``: means and log deviations."""
        out = self.map(features) if self.map is not None else self.flat(features).unflatten(1, self.shape)  # type: ignore
        mean = self.mean + self.std * out
        log_scale = bounded_log_scale(self.log_scale(features))[:, :, None, None]
        return torch.stack([mean, log_scale.expand_as(mean)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0].clamp(-1, 1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, log_scale = params.unbind(1)
        return (mean + log_scale.exp() * rng.normal(*self.shape, dtype=mean.dtype)).clamp(-1, 1)


class ImageLoss:
    """The dequantised Gaussian likelihood; ``bin_width`` is the distance of two levels."""

    def __init__(self, bin_width: float) -> None:
        self.bin_width = bin_width

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        mean, log_scale = params.unbind(1)
        return total(gaussian(mean, log_scale, target, bin_width=self.bin_width), where)
