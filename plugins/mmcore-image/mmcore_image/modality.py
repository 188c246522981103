"""Images: encoder, decoder and the dequantised Gaussian likelihood."""

import math
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
from mmcore.data.contract import COLOUR, native, rgb
from mmcore.data.decode import picture
from mmcore.limits import SPACE, takes
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.options import SIDES, Rule, one_of, require, sides, whole, within

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_RANGE = Rule(
    "two numbers [low, high], the lower first",
    lambda value: (
        len(value) == 2 and all(map(within(-math.inf).holds, value)) and -math.inf < value[0] < value[1] < math.inf
    ),
)


class ImageModality(Modality):
    """Images as floats in -1 … 1, channels first.

    Files are read as Pillow reads them. With one channel colours become grey, with three grey is repeated. Bytes have the range 0 … 255 and floats
    0 … 1; that of others, such as 16 bits, is said by ``limits``. Where a picture has an alpha that is not opaque, ``background`` says what shows
    through, or ``channels = 4`` keeps it.

    Args:
        channels: of an image.
        size: height and width, or one number for both.
        levels: how many values a pixel can take; sets the bins of the likelihood.
        limits: the values in the data that become -1 and 1, such as ``[0, 65535]``; by default 0 … 255 for bytes and 0 … 1 for floats.
        clip: take values beyond the range for its ends; by default they are refused.
        background: the colour that shows through where a picture is transparent, ``"#rrggbb"`` or ``[red, green, blue]``.
        mean: of the data's pixels, in -1 … 1.
        std: standard deviation of the data's pixels.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int | Sequence[int] = 32,
        *,
        levels: int = 256,
        limits: Sequence[float] | None = None,
        clip: bool = False,
        background: str | Sequence[int] | None = None,
        mean: float = 0.0,
        std: float = 0.5,
    ) -> None:
        require(
            "image",
            channels=(channels, whole(1)),
            size=(sides(size), SIDES),
            levels=(levels, whole(2)),
            mean=(mean, within(-1e6, 1e6)),
            std=(std, within(1e-30, 1e6)),
            limits=(None if limits is None else tuple(limits), _RANGE.or_none()),
            clip=(clip, one_of(True, False)),
            background=(rgb(background), COLOUR.or_none()),
        )
        height, width = sides(size)
        SPACE.check("image", "size", size, channels * height * width, takes(channels * height * width))
        self.name = "image"
        self.levels, self.mean, self.std = levels, mean, std
        self.limits = None if limits is None else (float(limits[0]), float(limits[1]))
        self.clip, self.background = clip, rgb(background)
        self.spec = Spec((channels, height, width), torch.float32, -1.0, 1.0)
        self.code = self.spec.shape

    def encoder(self) -> Encoder:
        return ImageEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return ImageDecoder(width, space, self.spec.shape, self.mean, self.std)

    def loss(self) -> LossTerm:
        return ImageLoss(2 / (self.levels - 1))

    def read(self, raw: Any) -> Tensor:
        """A path, a PIL image, or an array ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``: bytes, floats in 0 … 1, or numbers in ``limits``."""
        return read_alike([self._array(raw)], self._scaled)[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        return read_alike([self._array(raw) for raw in raws], self._scaled)

    def _array(self, raw: Any) -> np.ndarray | Tensor:
        if isinstance(raw, str | Path):
            raw = picture(raw)
        if isinstance(raw, Image.Image):
            return self._pixels(raw)
        if isinstance(raw, list):
            raw = _listed(raw)
        if isinstance(raw, np.ndarray):
            alpha = raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 4 and self.spec.shape[0] in (1, 3)
            if alpha and raw.shape != self.spec.shape:
                return self._pixels(Image.fromarray(np.ascontiguousarray(raw)))
            if raw.dtype.kind not in "biuf":
                raise RequestError(f"found an array of {raw.dtype}, expected numbers")
            if raw.dtype.kind in "biu" and raw.dtype != np.uint8 and self.limits is None:
                extremes = f" in {raw.min()} … {raw.max()}" if raw.size else ""
                raise RequestError(
                    f"found dtype {raw.dtype}{extremes}, expected uint8 in 0 … 255 or floats in 0 … 1; limits = [low, high] says what "
                    "other numbers mean"
                )
            if raw.dtype == np.uint8:
                self._check_bytes("an array of bytes")
            return native(raw)
        if not isinstance(raw, Tensor):
            raise RequestError(f"found {type(raw).__name__}, expected a path, a PIL image or an array")
        return raw

    def _check_bytes(self, found: str) -> None:
        """Refuse bytes where limits expect more: all of them would be black."""
        if self.limits is not None and self.limits[1] > 255:
            low, high = self.limits
            raise RequestError(f"found {found}, expected values in {low:g} … {high:g} as limits says")

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """A picture's numbers, with as many channels as are asked for where its mode can have them."""
        channels, mode = self.spec.shape[0], image.mode
        if mode in ("I", "F") or mode.startswith("I;16"):
            deep = native(np.asarray(image))
            if self.limits is None:
                raise RequestError(
                    f"found a picture of mode {mode} with values {deep.min():.6g} … {deep.max():.6g}, expected 8 bits; "
                    "limits = [low, high] says which values become -1 and 1"
                )
            return np.repeat(deep[..., None], 3, 2) if channels == 3 else deep
        self._check_bytes("a picture of 8 bits")
        if channels in (1, 3) and ("transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La")):
            image = self._over(image.convert("RGBA"))
        wanted = _MODES.get(channels, image.mode)
        return np.asarray(image if image.mode == wanted else image.convert(wanted))

    def _over(self, image: Image.Image) -> Image.Image:
        """A picture with an alpha, over the background.

        Raises:
            RequestError: something shows through, and no background is said.
        """
        alpha = np.asarray(image.getchannel("A"))
        if (alpha == 255).all():
            return image.convert("RGB")
        if self.background is None:
            raise RequestError(
                f"found an alpha, {float((alpha < 255).mean()):.1%} of the pixels are not opaque, expected opaque ones; "
                'background = "#ffffff" says what shows through, or channels = 4 keeps the alpha'
            )
        return Image.alpha_composite(Image.new("RGBA", image.size, (*self.background, 255)), image).convert("RGB")

    def _scaled(self, x: Tensor) -> Tensor:
        """Pixels ``(B, H, W)``, ``(B, H, W, C)`` or ``(B, C, H, W)`` as the spec has them."""
        channels, height, width = self.spec.shape
        found = tuple(x.shape[1:])
        if len(found) == 2:
            x = x[:, None]
        elif found == (height, width, channels) != (channels, height, width):
            x = x.permute(0, 3, 1, 2)
        if x.shape[1:] != self.spec.shape:
            sized = (height, width) in (found[:2], found[-2:])
            mend = "" if sized else '; [[data.transforms]] with kind = "resize" brings pictures to this size'
            raise RequestError(f"found shape {found}, expected an image of {channels} × {height} × {width}{mend}")
        x = x.contiguous()
        if self.limits is not None and not (x.dtype == torch.uint8 and self.limits == (0, 255)):
            return self._ranged(x, *self.limits)
        if x.dtype == torch.uint8:
            return x.float().div_(255).mul_(2).sub_(1)  # in range as it is
        if not x.is_floating_point():
            raise RequestError(f"found dtype {x.dtype}, expected uint8 in 0 … 255 or floats in 0 … 1")
        if not x.isfinite().all() or x.min() < 0 or x.max() > 1:
            raise RequestError(
                f"found values {x.min():.4g} … {x.max():.4g}, expected floats in 0 … 1; limits = [low, high] says what others mean"
            )
        return (2 * x - 1).to(self.spec.dtype)

    def _ranged(self, x: Tensor, low: float, high: float) -> Tensor:
        x = x.double()
        least, most = x.aminmax()
        if not (least.isfinite() and most.isfinite()) or (not self.clip and (least < low or most > high)):
            raise RequestError(
                f"found values {least:.6g} … {most:.6g}, expected {low:g} … {high:g} as limits says; clip = true takes its ends "
                "for what is beyond"
            )
        return x.clamp_(low, high).sub_(low).div_(high - low).mul_(2).sub_(1).to(self.spec.dtype)

    def raw(self, x: Tensor) -> Image.Image | np.ndarray:
        """A picture of bytes, or of 16 bits; numbers in other ``limits``, and what has more channels than pictures have, as an array."""
        channels, (low, high) = len(x), self.limits or (0.0, 255.0)
        numbers = (x.detach().cpu().double().clamp(-1, 1).numpy() + 1) / 2 * (high - low) + low
        if low == 0 and high == 255 and channels in _MODES:
            return self.show(x)
        # In smaller limits numbers have fractions, as far as anybody knows.
        if low >= 0 and 255 <= high <= 65535 and low == round(low) and high == round(high):
            numbers = numbers.round().astype(np.uint8 if high <= 255 else np.uint16)
            if channels == 1:
                return Image.fromarray(numbers[0])
        return numbers if numbers.dtype.kind == "u" else numbers.astype(np.float32)

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


def _listed(raw: list[Any]) -> np.ndarray:
    try:
        return np.asarray(raw)
    except ValueError:
        raise RequestError("found lists of different lengths, expected an image") from None
