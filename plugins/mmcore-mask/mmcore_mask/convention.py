"""How a data set writes its class maps: which value, or which colour, is which class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore import OptionError, RequestError
from mmcore.data.contract import COLOUR, hex_of, native, rgb
from mmcore.options import whole

_SPAN = 1 << 16
"""Values up to which a table of all of them is looked up."""


class Convention:
    """Raw maps to class indices.

    Args:
        classes: how many.
        void: the index of void pixels; None where there are none.
        values: the value of each class in order, or all of its values.
        colours: in place of values, the colour of each class in order, or all of its colours.
        ignore: values, or colours, of void pixels.
        channel: of pictures with an alpha, ``"alpha"`` or ``"colour"``.

    Raises:
        OptionError: a value or colour that is none, or that has two meanings.
    """

    def __init__(
        self,
        classes: int,
        void: int | None,
        values: Sequence[Any] | None,
        colours: Sequence[Any] | None,
        ignore: Sequence[Any],
        channel: str | None,
    ) -> None:
        self.classes, self.void, self.channel = classes, void, channel
        self.coloured = colours is not None
        self.plain = values is None and colours is None and not ignore
        option, groups = ("colours", colours) if colours is not None else ("values", values)
        if groups is None:
            free = (value for value in range(classes + len(ignore)) if value not in ignore)
            groups = [value for _, value in zip(range(classes), free, strict=False)]
        if not isinstance(groups, Sequence) or isinstance(groups, str) or len(groups) != classes:
            raise OptionError("mask", option, groups, f"one for each of {classes} classes", beside=("classes",))
        self.table: dict[int, int] = {}
        for index, group in enumerate(groups):
            for one in self._each(group):
                self._add(option, groups, one, index)
        for one in ignore:
            assert void is not None
            self._add("ignore", list(ignore), one, void)
        if void is not None and not self.coloured and void not in self.table:
            self.table[void] = void
        self.firsts = [self._key(next(iter(self._each(group)))) for group in groups]
        keys = sorted(self.table)
        self._keys = torch.tensor(keys)
        self._classes = torch.tensor([self.table[key] for key in keys])
        self._low = keys[0]
        self._whole = None
        if keys[-1] - keys[0] < _SPAN:
            self._whole = torch.full((keys[-1] - keys[0] + 1,), -1)
            self._known = torch.zeros(len(self._whole), dtype=torch.bool)
            self._whole[self._keys - self._low], self._known[self._keys - self._low] = self._classes, True

    def _each(self, group: Any) -> list[Any]:
        """A class's values, or colours: one, or a list of them."""
        if not isinstance(group, Sequence) or isinstance(group, str):
            return [group]
        if self.coloured and COLOUR.holds(rgb(group)):
            return [group]
        return list(group) or [None]

    def _key(self, value: Any) -> Any:
        if not self.coloured:
            return value
        colour = rgb(value)
        return _packed(colour) if COLOUR.holds(colour) else None

    def _add(self, option: str, given: Any, value: Any, index: int) -> None:
        key, rule = self._key(value), COLOUR if self.coloured else whole()
        if key is None or not (self.coloured or rule.holds(key)):
            raise OptionError("mask", option, given, f"{rule.expected}, not {value!r}")
        if key in self.table:
            expected = f"one meaning for each, but {value!r} is there twice"
            raise OptionError("mask", option, given, expected, beside=("values", "colours", "ignore"))
        self.table[key] = index

    def colour(self, index: int) -> tuple[int, int, int] | None:
        """A class's colour, where colours tell the classes apart."""
        return _unpacked(self.firsts[index]) if self.coloured else None

    def picture(self, x: Tensor) -> Image.Image | np.ndarray:
        """Class indices ``(H, W)`` as the data write them: grey values, colours or an alpha; an array where a picture cannot hold the values."""
        keys = torch.tensor([*self.firsts, 0 if self.void is None else self._void_key()])
        values = keys[torch.where((x >= 0) & (x < self.classes), x, self.classes)].numpy()
        if self.coloured:
            return Image.fromarray(np.stack(_unpacked(values), -1).astype(np.uint8))
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            return values
        if self.channel == "alpha":
            opaque = 255 if self.plain and self.classes == 2 else 1
            grey = Image.new("L", values.shape[::-1], 0)
            return Image.merge("LA", (grey, Image.fromarray((values * opaque).astype(np.uint8))))
        return Image.fromarray(values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16))

    def _void_key(self) -> int:
        """The first value, or colour, in the data that is void."""
        return next((key for key, index in self.table.items() if index == self.void), self.void or 0)

    def array(self, raw: Any, size: tuple[int, ...]) -> np.ndarray | Tensor:
        """A picture or array as ``(H, W)`` values, or with colours as ``(H, W)`` packed ones.

        Raises:
            RequestError: it is none, or has channels that do not say which value is meant.
        """
        if isinstance(raw, Image.Image):
            raw = self._pixels(raw)
        elif isinstance(raw, list | tuple):
            raw = _listed(raw)
        if isinstance(raw, Tensor):
            raw = raw.detach().cpu().numpy()
        if not isinstance(raw, np.ndarray):
            raise RequestError(f"found {type(raw).__name__}, expected a path, a PIL image or an array")
        if raw.dtype.kind not in "biuf":
            raise RequestError(f"found an array of {raw.dtype}, expected class indices")
        x = native(raw)
        if x.ndim == 3:
            x = self._flat(x, size)
        elif self.coloured and x.ndim == 2:
            grey = _bytes(x)
            x = _packed((grey, grey, grey))
        return x

    def _pixels(self, image: Image.Image) -> np.ndarray:
        mode = image.mode
        if self.coloured and mode in ("P", "PA"):
            image = image.convert("RGBA" if mode == "PA" else "RGB")
        elif mode == "PA":
            image = image.convert("LA") if self.channel == "alpha" else image.convert("P")
        if image.mode not in ("1", "L", "P", "I", "F", "RGB", "RGBA", "LA") and not image.mode.startswith("I;16"):
            raise RequestError(
                f"found a PIL image of mode {mode}, expected indices (L, P, I), bits (1), colours (RGB) or an alpha"
            )
        return np.asarray(image)

    def _flat(self, x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Maps with channels ``(H, W, C)`` or ``(C, H, W)`` as ``(H, W)``."""
        # Pixels alone are colours with the channels first: of other numbers, three maps one upon the other would look the same.
        if x.shape[:2] != size and x.shape[1:] == size and (x.dtype == np.uint8 or len(x) == 1):
            x = np.moveaxis(x, 0, 2)
        if x.shape[:2] != size:
            return x
        channels = x.shape[2]
        if channels not in (1, 2, 3, 4):
            return x
        if channels in (2, 4):
            x = self._without_alpha(x)
            if x.ndim == 2:
                return x
        if self.coloured:
            planes = _bytes(np.moveaxis(x, 2, 0) if x.shape[2] == 3 else np.broadcast_to(x[..., 0], (3, *x.shape[:2])))
            return _packed(tuple(planes))
        first = x[..., 0]
        if x.shape[2] == 3 and not ((x[..., 1] == first) & (x[..., 2] == first)).all():
            row, column = np.argwhere((x[..., 1] != first) | (x[..., 2] != first))[0]
            here = x[row, column]
            shown = f" {hex_of(here.tolist())}" if x.dtype == np.uint8 else ""
            raise RequestError(
                f"found a colour{shown} at row {row}, column {column}, expected one grey value for each pixel; "
                "colours = [...], in the order of the classes, says which colour is which"
            )
        return first

    def _without_alpha(self, x: np.ndarray) -> np.ndarray:
        """The alpha alone as a map, or the channels before it."""
        alpha = x[..., -1]
        opaque = 255 if x.dtype == np.uint8 else 1
        if self.channel == "alpha":
            if self.plain and self.classes == 2:
                return alpha >= (128 if x.dtype == np.uint8 else 0.5)
            return alpha
        if self.channel is None and not (alpha == opaque).all():
            raise RequestError(
                "found an alpha that is not opaque, expected to know which holds the classes; "
                'channel = "alpha" or channel = "colour" says it'
            )
        return x[..., :-1]

    def indices(self, x: Tensor) -> Tensor:
        """Values ``(B, H, W)`` as class indices.

        Raises:
            RequestError: a value that is none of those known.
        """
        if x.dtype == torch.bool:
            if self.classes != 2 or self.coloured:
                raise RequestError(f"found a boolean map, expected indices of {self.classes} classes")
            return x.long()
        if x.is_floating_point() and not (x == x.round()).all():
            raise RequestError(f"found dtype {x.dtype} with fractions, expected class indices")
        x = x.long()
        if self.plain:
            wrong = (x < 0) | (x >= self.classes)
            if self.void is not None:
                wrong &= x != self.void
            if wrong.any():
                raise self._unknown(x, wrong)
            return x
        if self._whole is not None:
            at = (x - self._low).clamp(0, len(self._whole) - 1)
            known = self._known[at] & (x - self._low == at)
            found = self._whole[at]
        else:
            at = torch.searchsorted(self._keys, x).clamp(max=len(self._keys) - 1)
            known, found = self._keys[at] == x, self._classes[at]
        if not known.all():
            raise self._unknown(x, ~known)
        return found

    def _unknown(self, x: Tensor, wrong: Tensor) -> RequestError:
        found = int(x[wrong][0])
        if not self.plain:
            some = [self._named(key) for key in list(self.table)[:8]]
            more = f" … ({len(self.table)} in all)" if len(self.table) > len(some) else ""
            what = "colour" if self.coloured else "value"
            return RequestError(
                f"found {what} {self._named(found)} in {int((x == found).sum())} pixels, expected one of {', '.join(some)}{more}; "
                f"{'colours' if self.coloured else 'values'} says what each is, ignore which are void"
            )
        void = "" if self.void is None else f" or void {self.void}"
        text = f"found class {found}, expected 0 … {self.classes - 1}{void}"
        values = torch.unique(x)
        if len(values) == 2 and self.classes == 2:
            text += f"; if {values[0]} and {values[1]} are the two classes, values = [{values[0]}, {values[1]}] says so"
        return RequestError(text)

    def _named(self, key: int) -> str:
        return hex_of(_unpacked(key)) if self.coloured else str(key)


def _packed(colour: Any) -> Any:
    red, green, blue = colour
    return (red << 16) | (green << 8) | blue


def _unpacked(key: Any) -> tuple[Any, Any, Any]:
    return key >> 16 & 255, key >> 8 & 255, key & 255


def _bytes(x: np.ndarray) -> np.ndarray:
    """Colours of 0 … 255, as numbers that may be packed.

    Raises:
        RequestError: others.
    """
    if x.dtype == bool:
        return x.astype(np.int32) * 255
    if x.dtype.kind == "f" or (x.size and (x.min() < 0 or x.max() > 255)):
        raise RequestError(f"found {x.dtype} values {x.min():.6g} … {x.max():.6g}, expected colours of 0 … 255")
    return x.astype(np.int32)


def _listed(raw: Any) -> np.ndarray:
    try:
        return np.asarray(raw)
    except ValueError:
        raise RequestError("found lists of different lengths, expected a map (H, W)") from None
