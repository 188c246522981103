r"""SqueezeNet 1.1 with local weights: features of images, and the perceptual distance LPIPS over them.

With the activations :math:`\hat y^l` of seven layers, each place's vector over its norm, and learned weights :math:`w_l \ge 0` of the channels,

.. math:: d(x, x_0) = \sum_l \frac{1}{H_l W_l} \sum_{h, w} \| \sqrt{w_l} \odot (\hat y^l_{hw} - \hat y^l_{0hw}) \|^2

"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (Zhang et al. 2018), version 0.1 with linear heads;
the network is that of Iandola et al. 2016 in its 1.1 release.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.errors import RequestError
from mmcore.files import expanded
from mmcore.metrics.figure import RESAMPLES, Figure, average

# The layers whose activations LPIPS compares, by their place in the sequence, and their channels.
TAPS = {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512}
WIDTH = 512
_SMALLEST, _ENLARGED = 32, 64
# Of the pixels the network was trained on, in -1 … 1.
_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class _Fire(nn.Module):
    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu()


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """SqueezeNet: features of images ``(n, 512)``, and the LPIPS distance of pairs; made by :meth:`load`.

    Images are floats in -1 … 1, ``(n, 3, H, W)``, or grey, ``(n, 1, H, W)``. Those of fewer than 32 pixels a side
    are enlarged to 64 (bilinear): the network halves an image four times.

    Attributes:
        features: the layers.
        linear: LPIPS's weights of each tap's channels; empty where the file has none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(),
            _pool(),
            _Fire(64, 16, 64),
            _Fire(128, 16, 64),
            _pool(),
            _Fire(128, 32, 128),
            _Fire(256, 32, 128),
            _pool(),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _Fire(512, 64, 256),
        )
        self.linear = nn.ParameterList()

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Self:
        """From a safetensors file: ``features.*`` as torchvision names them, and for LPIPS ``lin0.weight … lin6.weight``, one number a channel.

        Raises:
            RequestError: a file that cannot be read, or lacks something.
        """
        from mmcore.store.reading import read_tensors

        path = expanded(path)
        expected = "expected a safetensors file of SqueezeNet 1.1 with torchvision's names"
        if not Path(path).is_file():
            raise RequestError(f"weights {path}: there is no such file, {expected}")
        try:
            # Named by the user, who may have linked it.
            tensors = read_tensors(Path(path).resolve())
        except Exception as error:
            raise RequestError(f"weights {path}: cannot be read ({error}), {expected}") from error
        with torch.device("meta"):
            # No memory and no random numbers for weights that are about to be replaced.
            network = cls()
        wanted = network.state_dict()
        weights = {name: _weight(path, tensors, name, x.shape) for name, x in wanted.items()}
        network.load_state_dict(weights, assign=True)
        if any(name.startswith("lin") for name in tensors):
            network.linear.extend(
                _weight(path, tensors, f"lin{i}.weight", torch.Size([width])) for i, width in enumerate(TAPS.values())
            )
        return network.requires_grad_(False).eval().to(device)

    def forward(self, images: Tensor) -> Tensor:
        """The last layer's mean over the image, ``(n, 512)``."""
        return self.taps(images)[-1].mean((2, 3))

    def taps(self, images: Tensor) -> list[Tensor]:
        """The activations that LPIPS compares, ``(n, C, H', W')`` each."""
        x = _prepared(images)
        kept = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in TAPS:
                kept.append(x)
        return kept

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS of each pair of images, ``(n,)``: 0 for equal ones.

        Raises:
            RequestError: images that do not fit each other or the network, or weights without LPIPS's heads.
        """
        if not len(self.linear):
            raise RequestError(
                "lpips: the weights have no lin0.weight … lin6.weight, expected LPIPS's linear heads too"
            )
        if a.shape != b.shape:
            raise RequestError(f"lpips: images {tuple(a.shape)} and {tuple(b.shape)}, expected the same shape")
        total = torch.zeros(len(a), device=a.device)
        for x, y, weight in zip(self.taps(a), self.taps(b), self.linear, strict=True):
            squares = (_unit(x) - _unit(y)).square()
            total = total + (squares * weight[:, None, None]).sum(1).mean((1, 2))
        return total


def _weight(path: str | Path, tensors: dict[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    if name not in tensors:
        raise RequestError(f"weights {path}: there is no {name}, expected it with shape {tuple(shape)}")
    x = tensors[name]
    # LPIPS's own files keep a head as a 1 × 1 convolution.
    if x.shape not in (shape, (1, *shape, 1, 1)):
        raise RequestError(f"weights {path}: {name} has shape {tuple(x.shape)}, expected {tuple(shape)}")
    if not x.isfinite().all():
        raise RequestError(f"weights {path}: {name} has NaN or infinity, expected finite numbers")
    return x.float().reshape(shape)


def _prepared(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise RequestError(
            f"squeezenet: found images {images.dtype} {tuple(images.shape)}, expected floats (n, 3, H, W) or (n, 1, H, W)"
        )
    if images.numel() and not bool((images.abs() <= 1 + 1e-3).all()):
        raise RequestError(
            f"squeezenet: found pixels {float(images.min()):.4g} … {float(images.max()):.4g}, expected -1 … 1"
        )
    x = images.float().expand(-1, 3, -1, -1)
    if (side := min(x.shape[2:])) < _SMALLEST:
        size = [round(_ENLARGED * length / side) for length in x.shape[2:]]
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in (_MEAN, _STD))
    return (x - mean) / std


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-10)


def extract(extractor: Callable[[Tensor], Tensor], samples: Tensor, *, batch_size: int = 64) -> Tensor:
    """Features ``(n, d)`` of samples ``(n, ...)``, a batch at a time; those of higher rank are flattened.

    Raises:
        RequestError: an extractor that does not give one row for each sample.
    """
    with torch.inference_mode():
        parts = [extractor(batch) for batch in samples.split(batch_size)]
    for part, batch in zip(parts, samples.split(batch_size), strict=True):
        if not isinstance(part, Tensor) or part.ndim < 2 or len(part) != len(batch):
            returned = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise RequestError(
                f"features: the extractor gave {returned} for {len(batch)} samples, expected ({len(batch)}, d)"
            )
    return torch.cat([part.cpu().float().flatten(1) for part in parts])


def lpips(
    generated: Tensor,
    real: Tensor,
    network: SqueezeNet,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    batch_size: int = 64,
) -> Figure:
    """The mean LPIPS distance over pairs of images, by :meth:`SqueezeNet.distance`."""
    if generated.shape != real.shape:
        raise RequestError(f"lpips: images {tuple(generated.shape)} and {tuple(real.shape)}, expected the same shape")
    pairs: Sequence[tuple[Tensor, Tensor]] = list(zip(generated.split(batch_size), real.split(batch_size), strict=True))
    with torch.inference_mode():
        distances = torch.cat([network.distance(a, b).cpu() for a, b in pairs])
    return average(distances, seed=seed, resamples=resamples)
