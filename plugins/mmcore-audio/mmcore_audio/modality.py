"""Short sounds: waves, or mel spectrograms, with a dequantised Gaussian likelihood."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec, files
from mmcore.files import Encoded
from mmcore.hooks import Proposal
from mmcore.limits import FILE, SPACE, takes
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.options import above, one_of, require, whole, within
from mmcore_audio.files import scaled, wav, waves
from mmcore_audio.spectrum import FLOOR, Mel

LOUDEST = 6.03
"""Decibels that no band of waves in -1 … 1 can pass, all of a window in one bin: white in pictures."""
BINS = {"raw": 2 / 65536, "mel": 0.0}
"""The width of a bin of the likelihood: waves of 16 bits; decibels have a density."""
SUFFIXES = (".wav", ".flac", ".ogg")
LONG = 4096
"""Numbers of a wave from which on spectrograms are proposed."""


class AudioModality(Modality):
    """Sounds of one length and rate, as waves in -1 … 1, or as mel spectrograms in decibels.

    Files are WAV, FLAC and what else soundfile reads; a rate other than ``rate`` is refused. With one channel the channels of a file are averaged, with two
    that of a mono file is repeated. An answer is a WAV file of 16 bits. Of a spectrogram it is made by Griffin and Lim's method, which finds phases that fit.

    Waves are white in time but for what is learned: for tones and clicks of up to some thousand samples. For all else take ``form = "mel"``.

    Args:
        rate: samples a second, in Hz.
        seconds: of every sound.
        channels: 1, mono, or 2, stereo.
        form: ``"raw"``, or ``"mel"``.
        fit: cut what is longer than ``seconds``, and fill what is shorter up with silence; by default both are refused.
        bands: of a spectrogram.
        window: its samples, about 32 ms and a power of two by default.
        hop: samples from one window to the next, half a window by default.
        low: in Hz, where its lowest band begins.
        high: where its highest ends, half the rate by default.
        mean: of the waves, or of the decibels.
        std: their standard deviation; both are measured if left out.

    Raises:
        OptionError: an option that is none of these.
    """

    # The phases of several answers cancel.
    averaged = False

    def __init__(
        self,
        rate: int = 8000,
        seconds: float = 0.064,
        *,
        channels: int = 1,
        form: str = "raw",
        fit: bool = False,
        bands: int = 32,
        window: int | None = None,
        hop: int | None = None,
        low: float = 0.0,
        high: float | None = None,
        mean: float | None = None,
        std: float | None = None,
    ) -> None:
        require(
            "audio",
            rate=(rate, whole(100)),
            seconds=(seconds, above(0)),
            channels=(channels, one_of(1, 2)),
            form=(form, one_of("raw", "mel")),
            fit=(fit, one_of(True, False)),
            bands=(bands, whole(1)),
            window=(window, whole(8).or_none()),
            hop=(hop, whole(1).or_none()),
            low=(low, within(0)),
            high=(high, above(0).or_none()),
            mean=(mean, within(-1e3, 1e3).or_none()),
            std=(std, above(0).or_none()),
        )
        self.name = "audio"
        self.rate, self.length, self.channels, self.fit = rate, max(1, round(rate * seconds)), channels, fit
        SPACE.check("audio", "seconds", seconds, channels * self.length, takes(channels * self.length))
        self.mel: Mel | None = None
        if form == "mel":
            wide = 2 ** max(3, round(math.log2(0.032 * rate))) if window is None else window
            step, top = max(1, wide // 2) if hop is None else hop, rate / 2 if high is None else high
            if not low < top <= rate / 2:
                raise OptionError("audio", "high", top, f"above low = {low:g} and at most half the rate, {rate / 2:g}", beside=("low", "rate"))  # fmt: skip
            if step > wide // 2:
                raise OptionError("audio", "hop", step, f"at most half the window, {wide // 2}", beside=("window",))
            if wide > 2 * self.length:
                raise OptionError("audio", "window", wide, f"at most twice the {self.length} samples of a sound", beside=("seconds",))  # fmt: skip
            self.mel = Mel(rate, bands, wide, step, low, top)
            self.spec = Spec((channels, bands, self.mel.frames(self.length)))
        else:
            self.spec = Spec((channels, self.length), low=-1.0, high=1.0)
        self.form = form
        self.mean = mean if mean is not None else 0.0 if self.mel is None else -45.0
        self.std = std if std is not None else 0.2 if self.mel is None else 12.0
        self.code = self.spec.shape

    @property
    def planar(self) -> bool:
        """No transform of pictures changes it."""
        return False

    def encoder(self) -> Encoder:
        return AudioEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return AudioDecoder(width, space, self.spec, self.mean, self.std)

    def loss(self) -> LossTerm:
        return AudioLoss(BINS[self.form])

    # ---- reading ----

    def read(self, raw: Any) -> Tensor:
        """A path, the bytes of a file, a table of ``array`` and ``sampling_rate`` as Hugging Face's, or an array.

        An array ``(samples,)``, ``(channels, samples)`` or ``(samples, channels)`` are waves at ``rate``: floats in -1 … 1, or whole numbers of the full
        range of their type. Of spectrograms one of the spec's shape is taken as it is.

        Raises:
            RequestError: another rate or length, or what is no sound.
        """
        if isinstance(raw, dict) and {"array", "sampling_rate"} <= raw.keys():
            return self._sound(self._waves(raw["array"]), raw["sampling_rate"])
        if isinstance(raw, Encoded):
            raw = raw.data
        if isinstance(raw, str | Path):
            try:
                raw = files.read(raw, FILE)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise RequestError(f"found no sound at {raw} ({why}), expected a WAV or FLAC file") from error
        if isinstance(raw, bytes):
            if raw[:6] == b"\x93NUMPY":
                raise RequestError("found the bytes of an array, expected those of a sound, or the array")
            return self._sound(*waves(raw))
        x = self._array(raw)
        if self.mel is not None and x.shape == self.spec.shape:
            found = torch.from_numpy(x.astype(np.float32))
            self.spec.check(found[None], self.name)
            return found
        return self._sound(self._waves(x), self.rate)

    def _array(self, raw: Any) -> np.ndarray:
        if isinstance(raw, Tensor):
            raw = raw.detach().cpu().numpy()
        try:
            x = np.asarray(raw)
        except ValueError:
            x = np.empty(0, object)
        if x.dtype.kind not in "iuf" or not x.size:
            raise RequestError(
                f"found {type(raw).__name__}, expected a path, the bytes of a sound, or an array of waves"
            )
        return x.astype(x.dtype.newbyteorder("="))

    def _waves(self, raw: Any) -> np.ndarray:
        """Waves ``(channels, samples)`` in float32."""
        x = self._array(raw)
        if x.ndim == 2 and x.shape[1] in (1, 2) and x.shape[0] > 2:
            x = x.T
        if x.ndim not in (1, 2):
            raise RequestError(f"found an array of shape {x.shape}, expected waves (samples,) or (channels, samples)")
        return scaled(np.atleast_2d(x))

    def _sound(self, x: np.ndarray, rate: Any) -> Tensor:
        """A sample, of waves at some rate."""
        if rate != self.rate:
            raise RequestError(
                f"found a rate of {rate} Hz, expected {self.rate} Hz; make all sounds of one rate, and say it by rate"
            )
        found = x.shape[1]
        if found != self.length and not self.fit:
            raise RequestError(
                f"found {found} samples ({found / self.rate:.4g} s), expected {self.length} ({self.length / self.rate:.4g} s); "
                "seconds says another length, and fit = true cuts or fills up with silence"
            )
        if not np.isfinite(x).all() or float(np.abs(x).max(initial=0)) > 1:
            raise RequestError(f"found waves {x.min():.4g} … {x.max():.4g}, expected floats in -1 … 1")
        if len(x) != self.channels:
            if len(x) not in (1, 2):
                raise RequestError(f"found {len(x)} channels, expected {self.channels}")
            x = x.mean(0, keepdims=True) if self.channels == 1 else np.repeat(x, self.channels, 0)
        x = np.pad(x[:, : self.length], ((0, 0), (0, max(0, self.length - found))))
        waves = torch.from_numpy(np.ascontiguousarray(x))
        return waves if self.mel is None else self.mel.decibels(waves)

    def raw(self, x: Tensor) -> Any:
        """The bytes of a WAV file; a spectrogram as an array of decibels."""
        return self.heard(x) if self.mel is None else x.detach().cpu().numpy()

    # ---- for people ----

    def heard(self, x: Tensor) -> Encoded:
        """A WAV file."""
        x = x.detach().cpu().float()
        return Encoded(wav((x if self.mel is None else self.mel.waves(x, self.length)).numpy(), self.rate), ".wav")

    def show(self, x: Tensor) -> Image.Image:
        """The waves' outline over time, or the spectrogram with low bands below; channels under one another."""
        x = x.detach().cpu().float()
        if self.mel is not None:
            grey = ((x - FLOOR) / (LOUDEST - FLOOR)).clamp(0, 1).flip(1).reshape(-1, x.shape[2])
            return Image.fromarray((grey * 255).round().to(torch.uint8).numpy())
        columns = min(96, self.length)
        cut = [torch.tensor_split(one, columns) for one in x]
        rows = torch.linspace(1, -1, 33)[:, None]
        drawn = []
        for parts in cut:
            most, least = (torch.stack([part.aminmax()[k] for part in parts]) for k in (1, 0))
            drawn.append((rows <= most + 0.04) & (rows >= least - 0.04))
        return Image.fromarray((~torch.cat(drawn)).to(torch.uint8).mul(255).numpy())

    def metrics(self) -> Mapping[str, Metric]:
        mel = self.mel or Mel(
            self.rate, 32, window := min(256, 2 * self.length // 8 * 4 or 8), window // 2, 0, self.rate / 2
        )

        def decibel_error(prediction: Tensor, target: Tensor) -> Tensor:
            """Between spectrograms, whatever the phases."""
            pair = (prediction, target) if self.mel is not None else (mel.decibels(prediction), mel.decibels(target))
            return (pair[0] - pair[1]).abs().reshape(len(target), -1).mean(1)

        return {"decibel_error": decibel_error}

    # ---- data ----

    @classmethod
    def proposed(cls, name: str, values: Sequence[Any]) -> Proposal | None:
        """A column of sounds of one rate: as waves where these are short, else as spectrograms."""
        found = [
            one
            for one in values
            if isinstance(one, bytes) or (isinstance(one, Path) and one.suffix.lower() in SUFFIXES)
        ]
        if not found or len(found) < len(values):
            return None
        try:
            sounds = [waves(one if isinstance(one, bytes) else files.read(one, FILE)) for one in found]
        except RequestError:
            return None
        rates, lengths = {rate for _, rate in sounds}, {x.shape[1] for x, _ in sounds}
        if len(rates) > 1:
            return None
        rate, length, channels = rates.pop(), max(lengths), max(min(2, len(x)) for x, _ in sounds)
        options: dict[str, Any] = {"rate": rate, "seconds": length / rate, "channels": channels}
        options |= {"fit": True} if len(lengths) > 1 else {}
        options |= {"form": "mel"} if channels * length > LONG else {}
        numbers = math.prod(cls(**options).spec.shape)
        each = f"{length / rate:.3g} s" if len(lengths) == 1 else f"up to {length / rate:.3g} s"
        note = f"sounds of {each} at {rate} Hz, of {len(found)} looked at, {'mono' if channels == 1 else 'stereo'}"
        return Proposal(options, note, numbers, numbers, "seconds, fit or form")

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Mean and deviation of all numbers."""
        x = samples.double()
        return {"mean": float(f"{float(x.mean()):.5g}"), "std": max(float(f"{float(x.std(correction=0)):.5g}"), 1e-4)}

    def typical(self, n: int, seed: int) -> Tensor:
        """A tone of a known pitch and any phase in noise; as spectrograms, bands and times that are loud together."""
        rng, (channels, *shape) = Rng.for_rows(seed, n).of("typical"), self.spec.shape
        if self.mel is None:
            time = torch.arange(self.length) * (2 * math.pi / 16)
            tone = torch.einsum(
                "bck,ks->bcs", rng.of("tone").normal(channels, 2), torch.stack([time.sin(), time.cos()])
            )
            x = self.mean + self.std * (0.9**0.5 * tone + 0.1**0.5 * rng.of("noise").normal(channels, *shape))
            return (x.clamp(-1, 1) * 32767).round() / 32767
        coarse = rng.of("coarse").normal(channels, -(-shape[0] // 4), -(-shape[1] // 4))
        patches = F.interpolate(coarse, scale_factor=4, mode="nearest")[..., : shape[0], : shape[1]]
        return self.mean + self.std * (0.8**0.5 * patches + 0.2**0.5 * rng.of("fine").normal(channels, *shape))


class AudioEncoder(Encoder):
    """Numbers less their mean, over their deviation."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class AudioDecoder(Decoder):
    """``(B, 2, *shape)``: means and log deviations, one deviation for each sound."""

    def __init__(self, width: int, space: Space, spec: Spec, mean: float, std: float) -> None:
        super().__init__()
        self.spec, self.mean, self.std = spec, mean, std
        # A space with as many axes keeps places where they are; in others the head reads all of it.
        channels, *size = spec.shape
        spatial = len(space.grid) == len(size)
        self.head = SpatialHead(width, space, channels, tuple(size)) if spatial else PooledHead(width, space, math.prod(spec.shape))  # fmt: skip
        self.log_scale = PooledHead(width, space, 1, hidden=32)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        mean = self.mean + self.std * self.head(features).reshape(-1, *self.spec.shape)
        log_scale = bounded_log_scale(self.log_scale(features)) + math.log(self.std)
        return torch.stack([mean, log_scale.reshape(-1, *[1] * len(self.spec.shape)).expand_as(mean)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return self._inside(params[:, 0])

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, log_scale = params.unbind(1)
        return self._inside(mean + log_scale.exp() * rng.normal(*self.spec.shape, dtype=mean.dtype))

    def _inside(self, x: Tensor) -> Tensor:
        """Waves have limits, decibels have none."""
        return x if self.spec.low is None else x.clamp(self.spec.low, self.spec.high)


class AudioLoss:
    """The Gaussian likelihood, dequantised where ``bin_width`` is above 0: the distance of two levels."""

    def __init__(self, bin_width: float) -> None:
        self.bin_width = bin_width

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        mean, log_scale = params.unbind(1)
        return total(gaussian(mean, log_scale, target, bin_width=self.bin_width), where)
