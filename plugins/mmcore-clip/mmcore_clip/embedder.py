"""CLIP's embeddings of images or texts, from a local folder of weights."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore import OptionError, RequestError, files
from mmcore.data.decode import picture
from mmcore.files import expanded
from mmcore.limits import RECORD
from mmcore.store.reading import parse_json

_FILES = ("*.json", "*.safetensors", "*.bin", "*.txt")


class ClipEmbedder:
    """Raw images or texts to CLIP's projected embeddings ``(n, width)``.

    Nothing is downloaded, and the weights are loaded when they are first needed.

    Args:
        folder: of a CLIP model as ``transformers`` saves it: ``config.json``, weights as safetensors, ``preprocessor_config.json`` for images,
            a tokenizer for texts.
        kind: ``"image"`` or ``"text"``; by default by the values.
        unit_norm: scale the embeddings to norm 1.
        device: ``"auto"`` or one of torch's names.

    Raises:
        RequestError: no such folder, or no model in it.
    """

    def __init__(self, folder: str | Path, *, kind: str = "auto", unit_norm: bool = True, device: str = "auto") -> None:
        if kind not in ("auto", "image", "text"):
            raise OptionError("clip", "kind", kind, choices=("auto", "image", "text"))
        self.folder, self.kind, self.unit_norm, self.device = expanded(folder), kind, unit_norm, device
        if not (self.folder / "config.json").is_file():
            raise OptionError(
                "clip",
                "folder",
                str(folder),
                f"a local folder of CLIP's weights as transformers saves them, found no config.json in {self.folder}",
            )

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the folder's files and the options that change a vector."""
        whole = hashlib.blake2b(f"{self.unit_norm}".encode(), digest_size=16)
        for path in sorted(path for pattern in _FILES for path in self.folder.glob(pattern)):
            with files.opened(path) as file:
                whole.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
        return f"clip {whole.hexdigest()}"

    @functools.cached_property
    def _model(self) -> Any:
        try:
            from transformers import CLIPModel
        except ImportError as error:
            raise RequestError("clip: transformers is not installed; pip install 'mmcore-clip[model]'") from error
        try:
            model = CLIPModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # the library raises many kinds
            raise RequestError(
                f"clip: found {self.folder} unreadable ({str(error).splitlines()[0]}), expected a CLIP model"
            ) from error
        name = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(name).eval()  # type: ignore[arg-type]

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:  # the library raises many kinds
            raise RequestError(
                f"clip: found no tokenizer in {self.folder} ({str(error).splitlines()[0]}), expected one for texts"
            ) from error

    @functools.cached_property
    def _pixels(self) -> dict[str, Any]:
        path = self.folder / "preprocessor_config.json"
        if not path.is_file():
            raise RequestError(f"clip: found no {path.name} in {self.folder}, expected one for images")
        try:
            return parse_json(files.read(path, RECORD), path)
        except OSError as error:
            raise RequestError(f"clip: {path} cannot be read: {error.strerror or error}") from error

    @torch.no_grad()
    def __call__(self, values: Sequence[Any]) -> Tensor:
        """Raises RequestError for a value that is neither image nor text."""
        texts = self.kind == "text" or (self.kind == "auto" and all(isinstance(value, str) for value in values))
        device = self._model.device
        if texts:
            longest = self._model.config.text_config.max_position_embeddings
            ids = self._tokenizer(
                [str(value) for value in values], padding=True, truncation=True, max_length=longest, return_tensors="pt"
            )
            out = self._model.text_model(**ids.to(device)).pooler_output
            vectors = self._model.text_projection(out)
        else:
            pixels = torch.stack([self._image(value) for value in values])
            out = self._model.vision_model(pixel_values=pixels.to(device)).pooler_output
            vectors = self._model.visual_projection(out)
        vectors = vectors.float()
        return vectors / vectors.norm(dim=1, keepdim=True) if self.unit_norm else vectors

    def _image(self, value: Any) -> Tensor:
        """CLIP's preparation: the short side to size, bicubically, the middle cut out, less the mean, over the deviation."""
        options = self._pixels
        image = _pil(value).convert("RGB")
        short = _number(options.get("size", 224), "shortest_edge")
        scale = short / min(image.size)
        # Truncated as transformers does; the short side is exact.
        width, height = (short if side == min(image.size) else int(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        side = _number(options.get("crop_size", short), "height")
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(options[name])[:, None, None] for name in ("image_mean", "image_std"))
        return (x - mean) / std


def _number(value: Any, name: str) -> int:
    return int(value[name] if isinstance(value, dict) else value)


def _pil(value: Any) -> Image.Image:
    if isinstance(value, str | Path):
        return picture(value)
    if isinstance(value, Image.Image):
        return value
    x = np.asarray(value)
    if x.ndim == 3 and x.shape[0] in (1, 3) and x.shape[2] not in (1, 3):
        x = x.transpose(1, 2, 0)
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    if x.dtype != np.uint8 and np.issubdtype(x.dtype, np.floating) and x.ndim in (2, 3):
        x = (x * 255).round().clip(0, 255).astype(np.uint8)
    if x.dtype != np.uint8 or x.ndim not in (2, 3):
        raise RequestError(
            f"clip: found {type(value).__name__} of shape {x.shape} and dtype {x.dtype}, expected an image or a text"
        )
    return Image.fromarray(x)
