"""The drawing board of a page, on which a picture is shown, drawn on, and brushed as unknown: what it tells, and what it is told.

It is told a picture to show, with a mark. It tells the mark, and two layers of the shown size: what was drawn, and what is unknown. So a value
that nobody has drawn on is asked as it was given, in all its digits.
"""

import base64
import json
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from mmcore.data.decode import Encoded, decode
from mmcore.errors import RequestError
from mmcore.modality.base import Modality
from mmcore.modality.control import Painting, Picture
from mmcore.play.values import Value, opaque, png, tensor_of, value_of
from mmcore.runs.reader import Reader

SHOWN = 512
"""The longest side of what is shown."""
LAYER = 4 * 2**20
"""Characters of one layer at most."""
_PNG = "data:image/png;base64,"
_BYTES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def data_url(data: bytes, kind: str = "image/png") -> str:
    """Bytes as a link that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@attrs.frozen(eq=False)
class Told:
    """What a board tells.

    Attributes:
        mark: of the value that it shows; empty for none.
        drawn: what was drawn, ``(H, W, 4)``; None for nothing.
        unknown: ``(H, W)`` bool; None for nothing.
        file: a file's name and bytes, just chosen; None for none.
    """

    mark: str = ""
    drawn: np.ndarray | None = None
    unknown: np.ndarray | None = None
    file: tuple[str, bytes] | None = None

    @classmethod
    def read(cls, text: Any) -> "Told":
        """What a page has sent, whatever it is.

        Raises:
            RequestError: it is nothing that a board tells.
        """
        try:
            found = json.loads(text or "{}")
            drawn, unknown = _layer(found.get("drawn")), _layer(found.get("unknown"))
            file = found.get("file")
            if file is not None:
                file = (str(file["name"]), base64.b64decode(str(file["data"]).partition(",")[2], validate=True))
            mark = str(found.get("mark") or "")[:64]
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise RequestError(f"the page has sent what is no drawing ({type(error).__name__})") from error
        hidden = None if unknown is None else unknown[..., 3] > 127
        drawn = None if drawn is None or not drawn[..., 3].any() else drawn
        return cls(mark, drawn, None if hidden is None or not hidden.any() else hidden, file)


def _layer(url: Any) -> np.ndarray | None:
    if not url:
        return None
    if not isinstance(url, str) or not url.startswith(_PNG) or len(url) > LAYER:
        raise ValueError("no layer")
    picture = decode(Encoded(base64.b64decode(url[len(_PNG) :], validate=True), ".png"))
    if max(picture.size) > 2 * SHOWN:
        raise ValueError("a layer of another size")
    return np.asarray(picture.convert("RGBA"))


@attrs.frozen(eq=False)
class Board:
    """The board of one variable.

    Attributes:
        reader: of the model.
        name: of the variable.
        control: its own.
    """

    reader: Reader
    name: str
    control: Picture | Painting

    @property
    def modality(self) -> Modality:
        """The variable."""
        return self.reader.model.variable(self.name)

    def shows(self, mark: str = "", value: Value | None = None) -> str:
        """What the board is told: a value to show, or an empty sheet to draw on.

        Args:
            mark: of the value.
            value: None for an empty sheet.
        """
        if value is None:
            height, width = self.control.size
            return json.dumps({"mark": "", "width": width, "height": height, "base": ""})
        picture = self.shown(value)
        return json.dumps(
            {"mark": mark, "width": picture.width, "height": picture.height, "base": data_url(png(picture))}
        )

    def shown(self, value: Value) -> Image.Image:
        """A value as a picture to look at, no larger than a board.

        Raises:
            RequestError: it cannot be read, or shows itself in words.
        """
        picture = self._plain(value) if isinstance(self.control, Picture) else self._seen(value)
        if max(picture.size) > SHOWN:
            picture.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
        return picture

    def value(self, told: Told, held: Value | None) -> tuple[Value | None, np.ndarray | None]:
        """The value that the board shows, and which of its pixels are known: None for all.

        Args:
            told: by the board.
            held: the value of its mark; None for an empty sheet.

        Returns:
            None for a value where the sheet is empty.

        Raises:
            RequestError: it was drawn on what cannot be, or all of it is unknown.
        """
        value = held
        if told.drawn is not None:
            value = (
                self._painted(told.drawn, held) if isinstance(self.control, Painting) else self._drawn(told.drawn, held)
            )
        if told.unknown is None:
            return value, None
        if value is None:
            raise RequestError(
                f"{self.name}: nothing but the unknown is brushed; draw something too, or set it to wanted"
            )
        height, width = self._size(value)
        known = ~np.asarray(Image.fromarray(told.unknown).resize((width, height), Image.Resampling.NEAREST))
        if not known.any():
            raise RequestError(f"{self.name}: all of it is brushed as unknown; set it to wanted")
        return value, known

    def _size(self, value: Value) -> tuple[int, int]:
        """Height and width of the value's own file, or those that the model sees."""
        found = value.picture
        return self.control.size if found is None else (found.height, found.width)

    def _seen(self, value: Value) -> Image.Image:
        """A value as the modality shows it."""
        found = self.modality.show(tensor_of(self.reader, self.name, value))
        if isinstance(found, str):
            raise RequestError(f"{self.name} shows itself in words, expected a picture")
        return found.convert("RGB")

    def _plain(self, value: Value) -> Image.Image:
        """A value's own picture where it is one of bytes, or as the modality shows it."""
        found = value.picture
        return self._seen(value) if found is None or found.mode not in _BYTES else opaque(found).convert("RGB")

    def _drawn(self, layer: np.ndarray, held: Value | None) -> Value:
        assert isinstance(self.control, Picture)
        if not self.control.drawn:
            raise RequestError(
                f"{self.name} has values that are no bytes, and cannot be drawn; open a file, or take a row"
            )
        height, width = self.control.size
        picture = Image.new("RGB", (width, height)) if held is None else self._plain(held)
        top = Image.fromarray(layer, "RGBA").resize(picture.size, Image.Resampling.NEAREST)
        mixed = Image.alpha_composite(picture.convert("RGBA"), top)
        return value_of(self.modality, mixed.convert("RGB" if self.control.colours else "L"))

    def _painted(self, layer: np.ndarray, held: Value | None) -> Value:
        """A painted map: where nothing was painted it has the held one's classes, or the first."""
        assert isinstance(self.control, Painting)
        m, (height, width) = self.modality, self.control.size
        under = torch.zeros(height, width, dtype=m.spec.dtype) + int(m.spec.low or 0)
        if held is not None:
            under = tensor_of(self.reader, self.name, held)
        top = np.asarray(Image.fromarray(layer, "RGBA").resize((width, height), Image.Resampling.NEAREST))
        away = np.square(top[..., None, :3].astype(np.int64) - np.array(self.control.colours)).sum(-1)
        classes = torch.from_numpy(away.argmin(-1) + int(m.spec.low or 0)).to(m.spec.dtype)
        return value_of(m, m.raw(torch.where(torch.from_numpy(top[..., 3] > 127), classes, under.to(m.spec.dtype))))
