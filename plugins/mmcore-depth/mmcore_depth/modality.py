"""Depth maps: distances by their logarithms, with holes where a sensor saw nothing."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.data.contract import native
from mmcore.data.decode import decode, picture
from mmcore.hooks import Proposal
from mmcore.limits import SPACE, takes
from mmcore.modality import NoisyCode
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.options import SIDES, above, one_of, require, sides

DEEPEST = 65535
"""The largest number of a picture of 16 bits."""
COLOURS = ((44, 24, 108), (112, 40, 130), (196, 62, 112), (247, 148, 77), (255, 246, 168))
"""From near to far; holes are black."""


class DepthModality(Modality):
    """Maps of distances above 0, under a log-normal distribution for each, in which some are not known.

    A hole is 0 in tensors and files. Of data, NaN and infinity are holes too. The network is told where they are, and they bear no loss;
    ``sample(..., given={"depth": x}, where={"depth": modality.spec.there(x)})`` fills them.

    Args:
        size: height and width, or one number for both.
        low: the smallest distance, above 0.
        high: the largest.
        scale: the distance of one step of whole numbers, such as 0.001 for pictures of 16 bits in millimetres; answers are written so. Without it whole
            numbers are refused, and answers are arrays of floats.
        outside: of distances beyond the limits, ``"refuse"`` or ``"hole"``.
        units: for the eye, such as ``"m"``.
        mean: of the distances' logarithms; measured if left out.
        std: their standard deviation, likewise.

    Raises:
        OptionError: an option that is none of these.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 16,
        *,
        low: float = 0.1,
        high: float = 10.0,
        scale: float | None = None,
        outside: str = "refuse",
        units: str = "",
        mean: float | None = None,
        std: float | None = None,
    ) -> None:
        require(
            "depth",
            size=(sides(size), SIDES),
            low=(low, above(0)),
            high=(high, above(0)),
            scale=(scale, above(0).or_none()),
            outside=(outside, one_of("refuse", "hole")),
            std=(std, above(0).or_none()),
        )
        if not low < high < math.inf:
            raise OptionError("depth", "high", high, f"a number above low = {low:g}", beside=("low",))
        if scale is not None and high > DEEPEST * scale * (1 + 1e-9):
            raise OptionError(
                "depth", "scale", scale, f"at least high / {DEEPEST}, as pictures have 16 bits", beside=("high",)
            )
        height, width = sides(size)
        SPACE.check("depth", "size", size, height * width, takes(height * width))
        first, last = math.log(low), math.log(high)
        if mean is not None and not first <= mean <= last:
            raise OptionError(
                "depth", "mean", mean, f"the logarithms' mean, {first:.4g} … {last:.4g}", beside=("low", "high")
            )
        self.name = "depth"
        self.low, self.high, self.scale, self.outside, self.units = float(low), float(high), scale, outside, units
        self.mean = (first + last) / 2 if mean is None else mean
        self.std = (last - first) / 6 if std is None else std
        self.spec = Spec((1, height, width), low=self.low, high=self.high, void=0)
        self.code = self.spec.shape

    def encoder(self) -> Encoder:
        return DepthEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return DepthDecoder(width, space, self.spec, self.mean, self.std)

    def loss(self) -> LossTerm:
        return depth_loss

    # ---- reading ----

    def read(self, raw: Any) -> Tensor:
        """A path of a picture or of an array, a picture of 16 bits or floats, or an array ``(H, W)``, also with an axis of one channel.

        Raises:
            RequestError: negative distances, some beyond the limits, another size, whole numbers without ``scale``, or what is no map.
        """
        x = self._numbers(raw)
        negative = x < 0
        if negative.any():
            raise RequestError(f"found the distance {x[negative][0]:.6g}, expected 0 for a hole, or numbers above it")
        x = np.where(np.isfinite(x), x, 0)
        # To seven digits a number may lie beyond its limit.
        beyond = (x != 0) & ((x < self.low * (1 - 1e-6)) | (x > self.high * (1 + 1e-6)))
        if beyond.any() and self.outside == "refuse":
            raise RequestError(
                f"found the distance {x[beyond][0]:.6g}, expected {self.low:g} … {self.high:g}, low and high; "
                'outside = "hole" takes others for holes'
            )
        found = torch.from_numpy(np.where(beyond, 0, x)).float()
        return torch.where(found > 0, found.clamp(self.low, self.high), 0.0)[None]

    def _numbers(self, raw: Any) -> np.ndarray:
        """Distances ``(H, W)`` in float64, holes still as the data have them."""
        if isinstance(raw, str):
            raw = Path(raw)
        if isinstance(raw, Path):
            raw = decode(raw) if raw.suffix.lower() == ".npy" else picture(raw)
        if isinstance(raw, Image.Image):
            if raw.mode not in ("I", "F") and not raw.mode.startswith("I;16"):
                raise RequestError(f"found a picture of mode {raw.mode}, expected one of 16 bits or of floats: 8 bits or colours are pictures of depth, and no distances")  # fmt: skip
            raw = np.asarray(raw)
        if isinstance(raw, Tensor):
            raw = raw.detach().cpu().numpy()
        try:
            x = np.asarray(raw)
        except ValueError:
            x = np.empty(0, object)
        if x.dtype.kind not in "iuf" or isinstance(raw, int | float | np.generic):
            raise RequestError(f"found {type(raw).__name__}, expected a path, a picture or an array of distances")
        size = self.spec.shape[1:]
        if x.shape not in (size, self.spec.shape, (*size, 1)):
            raise RequestError(f"found shape {x.shape}, expected {size[0]} × {size[1]}")
        x = native(x).reshape(size)
        if x.dtype.kind in "iu":
            if self.scale is None:
                raise RequestError(
                    f"found whole numbers {x.min()} … {x.max()}, expected floats; scale says the distance of one step, such as 0.001 for millimetres"
                )
            return x * self.scale
        return x.astype(np.float64)

    def raw(self, x: Tensor) -> Any:
        """A picture of 16 bits where there is a scale, else an array of floats; 0 where it has holes."""
        metres = x[0].detach().cpu().double().numpy()
        if self.scale is None:
            return metres.astype(np.float32)
        # A distance that is known stays one, and stays inside the limits.
        least, most = math.ceil(self.low / self.scale - 1e-9), math.floor(self.high / self.scale + 1e-9)
        steps = np.where(metres > 0, (metres / self.scale).round().clip(max(1, least), most), 0)
        return Image.fromarray(steps.astype(np.uint16))

    # ---- for people ----

    def show(self, x: Tensor) -> Image.Image:
        """Colours by the logarithm: near is dark, far is bright, and holes are black."""
        x = x[0].detach().cpu().double()
        first, last = math.log(self.low), math.log(self.high)
        place = (x.clamp(min=self.low).log() - first) / (last - first) * (len(COLOURS) - 1)
        below = place.floor().clamp(0, len(COLOURS) - 2).long()
        table, part = torch.tensor(COLOURS, dtype=torch.float64), (place - below).clamp(0, 1)[..., None]
        colour = torch.lerp(table[below], table[below + 1], part)
        return Image.fromarray(torch.where(x[..., None] > 0, colour, 0.0).round().to(torch.uint8).numpy())

    def metrics(self) -> Mapping[str, Metric]:
        def ratio(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            there = self.spec.there(target)
            # What is void of a prediction is worth its lowest distance.
            return prediction.clamp(min=self.low) / self.spec.filled(target), there

        def mean(values: Tensor, there: Tensor) -> Tensor:
            """Over what the truth has; NaN, a score of nothing, where it has nothing."""
            return total(values, there) / there.flatten(1).sum(1)

        def relative_error(prediction: Tensor, target: Tensor) -> Tensor:
            share, there = ratio(prediction, target)
            return mean((share - 1).abs(), there)

        def within_a_quarter(prediction: Tensor, target: Tensor) -> Tensor:
            share, there = ratio(prediction, target)
            return mean((torch.maximum(share, 1 / share) < 1.25).to(share.dtype), there)

        return {"relative_error": relative_error, "within_a_quarter": within_a_quarter}

    # ---- data ----

    @classmethod
    def proposed(cls, name: str, values: Sequence[Any]) -> Proposal | None:
        """A column of deep pictures or float maps whose name says depth."""
        if {"depth", "depths", "depthmap"}.isdisjoint(re.findall("[a-z]+", name.lower())) or not values:
            return None
        maps = [
            np.asarray(one)
            for one in values
            if isinstance(one, np.ndarray) or getattr(one, "mode", "")[:1] in ("I", "F")
        ]
        if len(maps) < len(values) or any(one.dtype.kind not in "iuf" or one.dtype == np.uint8 for one in maps):
            return None
        if any(one.ndim - (1 in one.shape[:1] or 1 in one.shape[-1:]) > 2 and one.ndim != 2 for one in maps):
            return None
        known = np.concatenate([one[np.isfinite(one) & (one != 0)].astype(np.float64) for one in maps])
        if not known.size or known.min() <= 0:
            return None
        whole = all(one.dtype.kind in "iu" for one in maps)
        step = 0.001 if whole else 1.0
        low, high = float(f"{known.min() * step / 2:.3g}"), float(f"{known.max() * step * 2:.3g}")
        options = {"low": low, "high": min(high, DEEPEST * step) if whole else high} | (
            {"scale": step} if whole else {}
        )
        holes = 1 - known.size / sum(one.size for one in maps)
        units = "whole numbers, taken for thousandths" if whole else "floats"
        numbers = int(np.prod(maps[0].shape))
        note = f"distances {known.min():.4g} … {known.max():.4g}, {units}, {holes:.1%} holes, of {len(maps)} looked at"
        return Proposal(options, note, numbers, numbers, "low, high, scale or outside", named=True)

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Mean and deviation of the logarithms, holes apart."""
        x = samples[self.spec.there(samples)].double().log()
        if len(x) < 2:
            return {}
        mean = min(max(float(x.mean()), math.log(self.low)), math.log(self.high))
        return {"mean": float(f"{mean:.6g}") if self.low < math.exp(float(f"{mean:.6g}")) < self.high else mean, "std": max(float(f"{float(x.std()):.5g}"), 1e-4)}  # fmt: skip

    def typical(self, n: int, seed: int) -> Tensor:
        """Patches of four by four, some of which are holes; no map is nothing but holes, which would be none."""
        rng = Rng.for_rows(seed, n).of("typical")
        _, height, width = self.spec.shape
        coarse = rng.of("coarse").normal(2, -(-height // 4), -(-width // 4))
        patches, holes = F.interpolate(coarse, scale_factor=4, mode="nearest")[..., :height, :width].split(1, dim=1)
        y = self.mean + self.std * (0.8**0.5 * patches + 0.2**0.5 * rng.of("fine").normal(1, height, width))
        lost = (holes < -1.3) & (holes >= -1.3).flatten(1).any(1)[:, None, None, None]
        return torch.where(lost, 0.0, y.exp().clamp(self.low, self.high))


class DepthEncoder(Encoder):
    """The logarithms less their mean, over their deviation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x.log() - self.mean) / self.std


class DepthDecoder(Decoder):
    """``(B, 2, 1, H, W)``: means and log deviations of the logarithms, where all but the map's own noisy code gives one deviation for each map."""

    preconditioned = True

    def __init__(self, width: int, space: Space, spec: Spec, mean: float, std: float) -> None:
        super().__init__()
        self.spec, self.mean, self.std = spec, mean, std
        # A space with two axes keeps places where they are; in others the head reads all of it.
        size = spec.shape[1:]
        self.head = (
            SpatialHead(width, space, 1, size) if len(space.grid) == 2 else PooledHead(width, space, math.prod(size))
        )
        self.log_scale = PooledHead(width, space, 1, hidden=32)

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        mean = self.head(features).reshape(-1, *self.spec.shape)
        log_scale = bounded_log_scale(self.log_scale(features))[:, :, None, None].expand_as(mean)
        if own is not None:
            mean, log_scale = own.around(mean, log_scale)
        return torch.stack([self.mean + self.std * mean, log_scale + math.log(self.std)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0].exp().clamp(self.spec.low, self.spec.high)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, log_scale = params.unbind(1)
        y = mean + log_scale.exp() * rng.normal(*self.spec.shape, dtype=mean.dtype)
        return y.exp().clamp(self.spec.low, self.spec.high)


def depth_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The log-normal's nats per map."""
    mean, log_scale = params.unbind(1)
    logs = target.clamp(min=1e-30).log()
    return total(gaussian(mean, log_scale, logs) + logs, where)
