"""Latents made once: pictures of any size, cut to one size, through a pretrained autoencoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmcore import RequestError
from mmcore.data.decode import decode, picture
from mmcore.options import SIDES, require, sides
from mmcore_diffusers.autoencoder import Autoencoder
from mmcore_image import ImageModality


class LatentEmbedder:
    """Pictures to latents ``(n, C, h, w)``, as the modality ``latent`` of the same autoencoder and size reads them.

    A picture of another size is scaled, bicubically, and its middle cut out. Nothing is downloaded; the weights are loaded when they are first needed.

    Args:
        autoencoder: its local folder.
        size: height and width, or one number for both.
        background: the colour that shows through where a picture is transparent.
        device: ``"auto"`` or one of torch's names.

    Raises:
        RequestError: no folder of an autoencoder that is known.
    """

    def __init__(
        self,
        autoencoder: str | Path,
        size: int | Sequence[int] = 256,
        *,
        background: str | Sequence[int] | None = None,
        device: str = "auto",
    ) -> None:
        require("latent", size=(sides(size), SIDES))
        self.autoencoder = Autoencoder(autoencoder, sides(size), device)
        self.picture = ImageModality(self.autoencoder.channels, sides(size), background=background)

    @property
    def fingerprint(self) -> str:
        """The digest of weights and configuration, and the size."""
        return self.autoencoder.fingerprint

    def __call__(self, values: Sequence[Any]) -> Tensor:
        """Raises RequestError for a value that is no picture."""
        read = [self.picture.read(fitted(value, self.autoencoder)) for value in values]
        return self.autoencoder.encode(torch.stack(read))


def fitted(value: Any, coder: Autoencoder) -> Any:
    """A raw picture in the autoencoder's size; one that has it stays as it is.

    Raises:
        RequestError: what is no picture.
    """
    value = decode(value)
    if isinstance(value, str | Path):
        value = picture(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        if value.ndim == 3 and value.shape[0] in (1, 3, 4) and value.shape[2] not in (1, 3, 4):
            value = value.transpose(1, 2, 0)
        value = Image.fromarray(np.ascontiguousarray(value[..., 0] if value.shape[2:] == (1,) else value))
    if isinstance(value, Image.Image):
        height, width = coder.size
        return (
            value if value.size == (width, height) else ImageOps.fit(value, (width, height), Image.Resampling.BICUBIC)
        )
    if not isinstance(value, np.ndarray | Tensor | list):
        raise RequestError(f"latent: found {type(value).__name__}, expected a picture")
    return value
