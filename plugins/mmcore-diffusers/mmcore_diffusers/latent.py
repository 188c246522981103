"""Images as the latents of a pretrained autoencoder: read through its encoder, shown through its decoder, learned as real numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.limits import SPACE, takes
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.modality.pretrained import WeightsFile
from mmcore.options import SIDES, one_of, require, sides
from mmcore_diffusers.autoencoder import Autoencoder
from mmcore_image import ImageModality

COMPARED = 64
"""Pictures of which the autoencoder's own error is measured."""


class LatentModality(Modality):
    """Images as latents ``(C, h, w)`` of a frozen autoencoder of diffusers, ``AutoencoderKL``, ``AutoencoderTiny`` or ``AutoencoderDC``.

    A picture is encoded when it is read, and decoded when it is shown, filled in or measured. The model learns latents alone: its likelihood is of them,
    and no answer can be nearer to a picture than the autoencoder itself comes, which is told beside the figures. A model folder has the digest of the weights, not the weights.

    Args:
        autoencoder: its local folder, as diffusers saves it: ``config.json`` and weights as safetensors.
        size: height and width of the pictures, or one number for both.
        statistics: of the codes: ``"measured"`` on the data, or the autoencoder's ``"own"``, which networks that were trained on its latents expect.
        mean: of each channel of a latent, or one number for all.
        std: the standard deviation of each channel, or one number for all.
        background: the colour that shows through where a picture is transparent.
        digest: of the autoencoder that the data and the model are of; it is measured, and another autoencoder is refused.
        reconstruction: the autoencoder's own mean squared error, in -1 … 1, and of how many pictures; it is measured.
        device: on which pictures are coded, ``"auto"`` or one of torch's names.
    """

    likelihood_of: ClassVar[str] = "an autoencoder's latent"

    def __init__(
        self,
        autoencoder: str | Path | WeightsFile,
        size: int | Sequence[int] = 256,
        *,
        statistics: str = "measured",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        background: str | Sequence[int] | None = None,
        digest: str | None = None,
        reconstruction: Sequence[float] | None = None,
        device: str = "auto",
    ) -> None:
        require("latent", size=(sides(size), SIDES), statistics=(statistics, one_of("measured", "own")))
        height, width = sides(size)
        self.name = "latent"
        self.autoencoder = coder = Autoencoder(autoencoder, (height, width), device)
        if digest is not None and digest != coder.folder.digest:
            raise OptionError(
                "latent",
                "autoencoder",
                str(coder.folder.path),
                f"the autoencoder of digest {digest[:12]}…, whose latents these are, not that of {coder.folder.digest[:12]}…",
                mend="give the folder of the first, or train a model anew",
            )
        self.files = {"autoencoder": coder.folder.weights}
        SPACE.check("latent", "size", size, int(np.prod(coder.shape)), takes(int(np.prod(coder.shape))))
        self.picture = ImageModality(coder.channels, (height, width), background=background)
        self.statistics, own = statistics, coder.scaling
        self.mean = _each("mean", own[0] if mean is None else mean, coder.shape[0])
        self.std = _each("std", own[1] if std is None else std, coder.shape[0])
        if min(self.std) <= 0:
            raise OptionError("latent", "std", std, "numbers above 0")
        self.reconstruction = _error(reconstruction)
        # Of pictures that were read: the sum of their errors, and how many.
        self._compared: tuple[float, int] = (0.0, 0)
        self.spec = Spec(coder.shape)
        self.code = coder.shape

    def encoder(self) -> Encoder:
        return LatentEncoder(self.mean, self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return LatentDecoder(width, space, self.code, self.mean, self.std)

    def loss(self) -> LossTerm:
        return latent_loss

    # ---- pictures and latents ----

    def read(self, raw: Any) -> Tensor:
        """A picture as :class:`mmcore_image.ImageModality` reads it; or a latent, as an array of its shape or as ``mmcore embed`` made it."""
        return self.read_many([raw])[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        found = [self._latent(raw) for raw in raws]
        at = [k for k, x in enumerate(found) if x is None]
        if at:
            pictures = self.picture.read_many([raws[k] for k in at])
            latents = self.autoencoder.encode(pictures)
            self._compare(pictures, latents)
            for k, x in zip(at, latents, strict=True):
                found[k] = x
        return torch.stack([x for x in found if x is not None])

    def _latent(self, raw: Any) -> Tensor | None:
        """A raw value that is a latent already; None for a picture."""
        fingerprint = getattr(raw, "fingerprint", "")
        if fingerprint:
            self._check_own(fingerprint)
        x = _numbers(raw)
        if x is None or tuple(x.shape) != self.spec.shape:
            if fingerprint:
                raise RequestError(f"found a latent of shape {tuple(np.shape(raw))}, expected {self.spec.shape}")
            return None
        if not x.isfinite().all():
            raise RequestError("found NaN or infinity, expected finite numbers")
        of = getattr(raw, "of", None)
        if fingerprint and of is not None and self._compares():
            from mmcore_diffusers.embedder import fitted

            self._compare(self.picture.read(fitted(of, self.autoencoder))[None], x[None])
        return x

    def _check_own(self, fingerprint: str) -> None:
        """Refuse latents of another autoencoder, or of pictures of another size."""
        own = self.autoencoder.fingerprint
        if fingerprint != own:
            told = [text.replace("latent ", "", 1) for text in (fingerprint, own)]
            digests = [" of ".join([f"{text[:12]}…", text.rpartition(" ")[2]]) for text in told]
            raise RequestError(
                f"found a latent of another autoencoder ({digests[0]}), expected one of {self.autoencoder.folder.path} ({digests[1]}); "
                "make them anew with mmcore embed"
            )

    def _compares(self) -> bool:
        return self.reconstruction is None and self._compared[1] < COMPARED

    def _compare(self, pictures: Tensor, latents: Tensor) -> None:
        """Take the first pictures that are read for the autoencoder's own error."""
        if not self._compares():
            return
        error, count = self._compared
        some = slice(COMPARED - count)
        back = self.autoencoder.decode(latents[some])
        error += float((back - pictures[some]).double().square().flatten(1).mean(1).sum())
        self._compared = error, count + len(back)

    def pictured(self, x: Tensor) -> Tensor:
        """The pictures that latents ``(B, C, h, w)`` are decoded to."""
        return self.autoencoder.decode(x)

    def show(self, x: Tensor) -> Image.Image:
        return self.picture.show(self.pictured(x[None])[0])

    def raw(self, x: Tensor) -> Image.Image | np.ndarray:
        """The decoded picture, which is read back as nearly as the autoencoder comes."""
        return self.picture.raw(self.pictured(x[None])[0])

    # ---- figures ----

    def metrics(self) -> Mapping[str, Metric]:
        """``mse`` of the decoded pictures, in -1 … 1, and of the latents' codes, which have unit variance."""

        def of_pictures(prediction: Tensor, target: Tensor) -> Tensor:
            return (self.pictured(prediction) - self.pictured(target)).square().flatten(1).mean(1)

        def of_codes(prediction: Tensor, target: Tensor) -> Tensor:
            std = torch.tensor(self.std, device=target.device)[:, None, None]
            return ((prediction - target) / std).square().flatten(1).mean(1)

        return {"mse": of_pictures, "latent_mse": of_codes}

    def floors(self) -> Mapping[str, tuple[float, int]]:
        """``autoencoder_mse``, the autoencoder's own error of real pictures."""
        return {} if self.reconstruction is None else {"autoencoder_mse": self.reconstruction}

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Mean and deviation of each channel, the autoencoder's digest, and its own error on the first pictures that were read."""
        found: dict[str, Any] = {"digest": self.autoencoder.folder.digest}
        error, count = self._compared
        if self.reconstruction is not None:
            found["reconstruction"] = list(self.reconstruction)
        elif count:
            found["reconstruction"] = [float(f"{error / count:.4g}"), count]
        if self.statistics == "measured":
            x = samples.double().transpose(0, 1).flatten(1)
            found["mean"] = [round(float(value), 5) for value in x.mean(1)]
            found["std"] = [max(float(f"{float(value):.5g}"), 1e-6) for value in x.std(1, correction=0)]
        return found

    def typical(self, n: int, seed: int) -> Tensor:
        """Smooth fields and noise, of the stated mean and deviation."""
        channels, height, width = self.spec.shape
        rng = Rng.for_rows(seed, n).of("typical")
        coarse = rng.of("coarse").normal(channels, -(-height // 4), -(-width // 4))
        smooth = F.interpolate(coarse, (height, width), mode="nearest")
        x = 0.8 * smooth + 0.6 * rng.of("fine").normal(channels, height, width)
        return torch.tensor(self.mean)[:, None, None] + torch.tensor(self.std)[:, None, None] * x


def _numbers(raw: Any) -> Tensor | None:
    """Real numbers as a tensor; None of anything else."""
    if isinstance(raw, list):
        try:
            raw = np.asarray(raw)
        except ValueError:
            return None
    if isinstance(raw, np.ndarray):
        if raw.dtype.kind != "f":
            return None
        raw = torch.from_numpy(np.array(raw, raw.dtype.newbyteorder("=")))
    return raw.detach().clone().float() if isinstance(raw, Tensor) and raw.is_floating_point() else None


def _each(name: str, values: float | Sequence[float], channels: int) -> list[float]:
    """A number for each channel."""
    listed = [values] * channels if isinstance(values, int | float) else list(values)
    numbers = all(isinstance(x, int | float) and np.isfinite(x) for x in listed)
    if len(listed) != channels or not numbers:
        raise OptionError("latent", name, values, f"a number, or {channels} of them, one for each channel of a latent")
    return [float(x) for x in listed]


def _error(told: Sequence[float] | None) -> tuple[float, int] | None:
    if told is None:
        return None
    fits = len(told) == 2 and all(isinstance(x, int | float) and 0 <= x < np.inf for x in told)
    if not fits:
        raise OptionError("latent", "reconstruction", told, "an error, and of how many pictures")
    return float(told[0]), int(told[1])


class LatentEncoder(Encoder):
    """A latent less its channels' means, over their deviations."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(list(values))[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class LatentDecoder(Decoder):
    """A Gaussian per element of the latent; one deviation per image, of codes."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, width: int, space: Space, shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.shape, self.grid = shape, space.grid
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(list(values))[:, None, None], persistent=False)
        flat = len(space.grid) != 2
        self.map = None if flat else SpatialHead(width, space, shape[0], shape[1:])
        self.flat = PooledHead(width, space, torch.Size(shape).numel()) if flat else None
        self.log_scale = PooledHead(width, space, 1, hidden=32)

    def begin_from(self, channels: Sequence[int]) -> None:
        """Begin by reading each channel of the code from one channel of the features, as it is: of a network that predicts codes itself.

        Raises:
            RequestError: the code does not lie on the features' grid.
        """
        if self.map is None or self.shape[1:] != self.grid or len(channels) != self.shape[0]:
            raise RequestError(
                f"latent: a code of {self.shape} is not what a network on a grid {self.grid} predicts {len(channels)} channels of"
            )
        with torch.no_grad():
            for x in (self.map.mix.weight, self.map.mix.bias, self.map.out.weight, self.map.out.bias):
                nn.init.zeros_(x)
            for k, channel in enumerate(channels):
                self.map.out.weight[k, channel] = 1

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        """``(B, 2, C, h, w)``: means and log deviations."""
        code = self.map(features) if self.map is not None else self.flat(features).unflatten(1, self.shape)  # type: ignore
        log_scale = bounded_log_scale(self.log_scale(features))[:, :, None, None] + self.std.log()
        return torch.stack([self.mean + self.std * code, log_scale.expand_as(code)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, log_scale = params.unbind(1)
        return mean + log_scale.exp() * rng.normal(*self.shape, dtype=mean.dtype)


def latent_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The Gaussian's nats per sample, of the latent."""
    mean, log_scale = params.unbind(1)
    return total(gaussian(mean, log_scale, target), where)
