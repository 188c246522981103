"""A value that somebody gives: to ask with, and as a word or file from which any other door reads the same.

What a page takes is never a path. A file comes as its bytes, a text as a text; both are read as values of that kind alone.
"""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmcore import files
from mmcore.data.decode import IMAGES, VALUES, decode, picture_size
from mmcore.data.options import ColumnOptions
from mmcore.errors import RequestError
from mmcore.files import Encoded
from mmcore.limits import UPLOAD, UPLOAD_PIXELS
from mmcore.modality.base import ModalityProtocol
from mmcore.runs.given import raws
from mmcore.runs.reader import Reader

_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
"""Of PNG files."""
_NUMBERS = ("I", "F")
"""Of pictures that are arrays of numbers."""


@attrs.frozen(eq=False)
class Value:
    """A value of one variable.

    Attributes:
        raw: what the model's reader reads.
        word: how it is typed after ``name=``; None where it is a file.
        data: the file's bytes; empty for a word.
        suffix: of the file's name.
    """

    raw: Any
    word: str | None = None
    data: bytes = attrs.field(default=b"", repr=False)
    suffix: str = ""

    @property
    def picture(self) -> Image.Image | None:
        """The picture that the file holds; None where it is none."""
        if self.word is not None or self.suffix not in IMAGES:
            return None
        found = decode(self.raw)
        return found if isinstance(found, Image.Image) else None


def value_of(m: ModalityProtocol, raw: Any) -> Value:
    """A raw value as one that can be typed or kept in a file.

    Args:
        m: of which variable.
        raw: as a source or a control gives it.

    Raises:
        RequestError: a file that cannot be read.
    """
    if isinstance(raw, Path):
        try:
            raw = Encoded(files.read(raw, UPLOAD), raw.suffix.lower())
        except OSError as error:
            raise RequestError(f"{m.name}: the row's file cannot be read: {error.strerror or error}") from error
    if isinstance(raw, Encoded) and raw.suffix in VALUES:
        return _file(raw.data, raw.suffix)
    if isinstance(raw, np.generic) or (isinstance(raw, np.ndarray | Tensor) and raw.ndim == 0):
        raw = raw.item()
    if isinstance(raw, Tensor):
        raw = raw.detach().cpu().numpy()
    if isinstance(raw, Image.Image) and raw.mode in _NUMBERS:
        raw = np.asarray(raw)
    if isinstance(raw, Image.Image):
        return _file(png(raw), ".png")
    if isinstance(raw, np.ndarray):
        return _file(npy(raw), ".npy")
    if isinstance(raw, bool | int | float | str) and (word := _word(m, raw)) is not None:
        return Value(raw, word)
    try:
        return _file(json.dumps(raw, default=_plain).encode(), ".json")
    except (TypeError, ValueError) as error:
        raise RequestError(f"{m.name}: found {type(raw).__name__}, which no file holds ({error})") from error


def uploaded(name: str, data: bytes, suffixes: Sequence[str]) -> Value:
    """What a person has chosen or dropped.

    Args:
        name: of the file; its suffix says what it is.
        data: its bytes.
        suffixes: those that are expected.

    Raises:
        RequestError: it is too large, of another kind, or not what its suffix says.
    """
    suffix = Path(name[-200:]).suffix.lower()
    if suffix not in suffixes or suffix not in VALUES:
        some = ", ".join(suffixes[:4]) + (" …" if len(suffixes) > 4 else "")
        raise RequestError(f"found a file {suffix or 'without a suffix'}, expected {some}")
    if too_large := UPLOAD.excess(len(data)):
        raise RequestError(f"the file has {too_large}")
    if suffix in IMAGES and (too_many := UPLOAD_PIXELS.excess(math.prod(picture_size(data)))):
        raise RequestError(f"the picture has {too_many}")
    decode(Encoded(data, suffix))
    return _file(data, suffix)


def fitted(reader: Reader, name: str, value: Value) -> tuple[Value, str]:
    """A value that the model reads: as it is, or a picture made to fit; and what was done, empty for nothing.

    Args:
        reader: of the model.
        name: of the variable.
        value: as it was given.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        reader.asked({name: [value.raw]})
    except RequestError as error:
        picture, shape = value.picture, reader.model.variable(name).spec.shape
        # Numbers of more than a byte are not resized as colours are.
        if picture is None or len(shape) < 2 or picture.mode in _NUMBERS or picture.mode.startswith("I;16"):
            raise
        height, width = shape[-2:]
        moved = ImageOps.fit(opaque(picture), (width, height), Image.Resampling.LANCZOS)
        try:
            made = _file(png(moved), ".png")
            reader.asked({name: [made.raw]})
        except RequestError:
            raise error from None
        return made, f"cut and resized to {width} × {height} pixels, as the model sees it"
    return value, ""


def tensor_of(reader: Reader, name: str, value: Value) -> Tensor:
    """A value as the model sees it, ``spec.shape``.

    Raises:
        RequestError: it cannot be read.
    """
    return reader.asked({name: [value.raw]}).tensors[name][0]


def _file(data: bytes, suffix: str) -> Value:
    return Value(Encoded(data, suffix), None, data, suffix)


def _word(m: ModalityProtocol, raw: bool | int | float | str) -> str | None:
    """How a value is typed, where what is typed is read as the same; else None."""
    word = str(raw).lower() if isinstance(raw, bool) else repr(raw) if isinstance(raw, float) else str(raw)
    if m.spec.shape or not word.isprintable() or word != word.strip() or not word or len(word) > 200:
        return None
    try:
        (again,) = raws(m, word, m.name, ColumnOptions(m.name))
        return word if torch.equal(m.read(again), m.read(raw)) else None
    except Exception:  # a plugin's own code; a value that is refused is told where it is asked
        return None


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file; other modes than it has, such as CMYK, become RGB."""
    if picture.mode not in _MODES:
        picture = picture.convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """The bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def opaque(picture: Image.Image) -> Image.Image:
    """A picture over white, where something would show through."""
    if "transparency" not in picture.info and picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return picture
    own = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", own.size, (255, 255, 255, 255)), own).convert("RGB")


def _plain(one: Any) -> Any:
    if isinstance(one, np.ndarray | np.generic | Tensor):
        return one.tolist()
    raise TypeError(f"{type(one).__name__} among its values")
