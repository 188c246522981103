"""Mel spectrograms, and sounds of them: powers of short windows, in bands that are as wide as an ear's, in decibels."""

import math

import attrs
import torch
from torch import Tensor

FLOOR = -80.0
"""Decibels below which nothing is told apart."""


@attrs.frozen
class Mel:
    """What a spectrogram is made by.

    Attributes:
        rate: of the waves, in Hz.
        bands: of the spectrogram.
        window: samples of a window, Hann's.
        hop: samples from one window to the next.
        low: where the lowest band begins, in Hz.
        high: where the highest ends.
    """

    rate: int
    bands: int
    window: int
    hop: int
    low: float
    high: float

    def frames(self, samples: int) -> int:
        """Windows, of which the first and last are centred on the ends."""
        return 1 + samples // self.hop

    def filters(self) -> Tensor:
        """Triangles of area one over the bins of a window, evenly spaced by mel: ``(bands, window // 2 + 1)``, float64."""
        bins = torch.linspace(0, self.rate / 2, self.window // 2 + 1, dtype=torch.float64)
        edges = _hertz(torch.linspace(_mel(self.low), _mel(self.high), self.bands + 2, dtype=torch.float64))
        low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        up, down = (bins - low) / (middle - low), (high - bins) / (high - middle)
        shape = torch.minimum(up, down).clamp(min=0)
        # A band narrower than the bins' distance has the bin that is nearest.
        nearest = torch.nn.functional.one_hot((bins - middle).abs().argmin(1), len(bins)).double()
        shape = torch.where(shape.sum(1, keepdim=True) > 0, shape, nearest)
        return shape / shape.sum(1, keepdim=True)

    def decibels(self, waves: Tensor) -> Tensor:
        """Waves ``(..., samples)`` in -1 … 1 to their spectrogram ``(..., bands, frames)``: 0 is a full wave in one bin, the least ``FLOOR``."""
        power = self._transform(waves.double()).abs().square() / (self.window / 4) ** 2
        return (10 * (self.filters() @ power).clamp(min=10 ** (FLOOR / 10)).log10()).float()

    def waves(self, decibels: Tensor, samples: int, *, rounds: int = 60) -> Tensor:
        """Waves ``(..., samples)`` whose spectrogram is about this, by Griffin and Lim (1984).

        Phases are begun by a fixed draw, so that the same spectrogram always sounds alike.
        """
        size = self._bins(10 ** (decibels.double() / 10) * (decibels > FLOOR + 1e-3)).sqrt() * (self.window / 4)
        phase = torch.rand(size.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        turned = torch.polar(size, 2 * math.pi * phase)
        for _ in range(rounds):
            again = self._transform(self._back(turned, samples))
            turned = size * again / again.abs().clamp(min=1e-12)
        return self._back(turned, samples).float().clamp(-1, 1)

    def _bins(self, power: Tensor, *, rounds: int = 50) -> Tensor:
        """Powers of bins, none below 0, that make about these powers of bands ``(..., bands, frames)``, by Richardson (1972) and Lucy (1974)."""
        filters = self.filters()
        whole = filters.sum(0)[:, None].clamp(min=1e-12)
        found = filters.T @ power / whole
        for _ in range(rounds):
            found = found * (filters.T @ (power / (filters @ found).clamp(min=1e-30))) / whole
        return found

    def _transform(self, waves: Tensor) -> Tensor:
        flat = waves.reshape(-1, waves.shape[-1])
        found = torch.stft(flat, self.window, self.hop, window=self._hann(), center=True, pad_mode="constant", return_complex=True)  # fmt: skip
        return found.reshape(*waves.shape[:-1], *found.shape[-2:])

    def _back(self, turned: Tensor, samples: int) -> Tensor:
        flat = turned.reshape(-1, *turned.shape[-2:])
        waves = torch.istft(flat, self.window, self.hop, window=self._hann(), center=True, length=samples)
        return waves.reshape(*turned.shape[:-2], samples)

    def _hann(self) -> Tensor:
        return torch.hann_window(self.window, dtype=torch.float64)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)
