"""A pretrained autoencoder of diffusers: pictures to latents and back, frozen, with weights of a local folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcore import RequestError
from mmcore.modality.pretrained import WeightsFile
from mmcore_diffusers.folder import Folder

CLASSES = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
_PIXELS = 2**16
"""Of the pictures that are coded at once."""
_MOST = 16


class Autoencoder:
    """A frozen autoencoder.

    Pictures are coded a fixed number at once, the last ones filled up: a picture's latent is then the same to the last bit, alone or among others.

    Args:
        given: its folder, or its file of weights as :func:`mmcore.load` finds it.
        size: height and width of pictures.
        device: ``"auto"`` or one of torch's names.

    Attributes:
        folder: what it is from.
        channels: of a picture.
        size: height and width of pictures.
        shape: of a latent, ``(C, h, w)``.

    Raises:
        RequestError: no folder of an autoencoder that is known, or a size that does not fit it.
    """

    def __init__(self, given: str | Path | WeightsFile, size: tuple[int, int], device: str = "auto") -> None:
        self.folder = Folder.read(given, "latent", CLASSES)
        self.size, self.device = size, device
        channels = self.folder.config.get("in_channels", 3)
        if not isinstance(channels, int) or channels < 1:
            raise RequestError(f"latent: {self.folder.path} has in_channels = {channels!r}, expected a whole number")
        self.channels = channels
        self.shape = _latent_shape(self.folder, (self.channels, *size))
        self.batch = max(1, min(_MOST, _PIXELS // (size[0] * size[1])))

    @property
    def fingerprint(self) -> str:
        """A text that differs whenever latents would."""
        return f"latent {self.folder.digest} {self.size[0]}x{self.size[1]}"

    @property
    def scaling(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of each of a latent's channels, as the autoencoder's own configuration has them for networks trained on it."""
        config, n = self.folder.settings, self.shape[0]
        mean, std, factor = config.get("latents_mean"), config.get("latents_std"), config.get("scaling_factor") or 1.0
        if mean is None or std is None:
            mean, std = [config.get("shift_factor") or 0.0] * n, [1.0] * n
        # As diffusers' pipelines do, who multiply by the factor in either case.
        return [float(x) for x in mean], [float(x) / factor for x in std]

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures ``(B, channels, H, W)`` in -1 … 1 to latents ``(B, *shape)``, of a distribution its mode."""
        return self._in_batches(lambda net, x: _latent(net.encode(x)), pictures, self.shape)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``(B, *shape)`` to pictures ``(B, channels, H, W)``, cut to -1 … 1."""
        back = self._in_batches(lambda net, z: net.decode(z).sample, latents, (self.channels, *self.size))
        return back.clamp(-1, 1)

    @torch.no_grad()
    def _in_batches(self, call: Callable[[Any, Tensor], Tensor], x: Tensor, shape: tuple[int, ...]) -> Tensor:
        place = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        net, parts = _network(self.folder, place), []
        # Whatever is computed around it, such as a model in inference or in half precision.
        with torch.autocast(torch.device(place).type, enabled=False):
            for part in x.detach().split(self.batch):
                full = torch.zeros(self.batch, *x.shape[1:])
                full[: len(part)] = part.float().cpu()
                parts.append(call(net, full.to(place)).float().cpu()[: len(part)])
        return torch.cat(parts).to(x.device) if parts else torch.zeros(0, *shape, device=x.device)


def _latent(coded: Any) -> Tensor:
    if hasattr(coded, "latent_dist"):
        return coded.latent_dist.mode()
    return coded.latents if hasattr(coded, "latents") else coded.latent


_networks: dict[tuple[str, str], nn.Module] = {}
_shapes: dict[tuple[str, tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]] = {}
_KEPT = 2
"""How many networks, by digest and device, are held: modalities that are made again share one."""


def _network(folder: Folder, place: str) -> Any:
    """The network with its weights, loaded when it is first asked for."""
    key = folder.digest, place
    if key not in _networks:
        while len(_networks) >= _KEPT:
            _networks.pop(next(iter(_networks)))
        _networks[key] = folder.load("latent").to(place)
    return _networks[key]


def _latent_shape(folder: Folder, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a picture's latent; nothing is computed.

    Raises:
        RequestError: pictures of this size do not go through, or come back in another.
    """
    key = folder.digest, shape
    where = f"the {folder.model} of {folder.path}"
    if key not in _shapes:
        try:
            with torch.device("meta"), torch.no_grad():
                net: Any = folder.make("latent").eval()
                latent = _latent(net.encode(torch.zeros(1, *shape)))
                _shapes[key] = tuple(latent.shape[1:]), tuple(net.decode(latent).sample.shape[1:])
        except RequestError:
            raise
        except Exception as error:  # the library raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(
                f"latent: size = {shape[1]} × {shape[2]} does not go through {where}: {reason}"
            ) from error
    latent, back = _shapes[key]
    if back != shape:
        raise RequestError(
            f"latent: size = {shape[1]} × {shape[2]} comes back as {back[1]} × {back[2]} from {where}, expected a size that it "
            "can halve as often as it does"
        )
    return latent
