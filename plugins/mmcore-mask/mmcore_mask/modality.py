"""Masks: a class for each pixel, or a void that counts for nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.data.batch import read_alike
from mmcore.data.decode import picture
from mmcore.limits import SPACE, takes
from mmcore.modality.axes import Axis, Rows
from mmcore.modality.heads import PooledHead, SpatialHead
from mmcore.modality.likelihood import categorical, total
from mmcore.options import SIDES, one_of, require, sides, whole
from mmcore_mask.convention import Convention


class MaskModality(Modality):
    """Class index maps ``(H, W)`` in 0 … classes - 1; with ``void``, one more value that says nothing.

    The code of a pixel is its one-hot vector, centred and scaled by the classes' frequencies (one channel is
    enough for two classes); that of a void pixel is zero.

    How the data write their classes is said by ``values``, ``colours`` and ``ignore``: ``values = [0, 255]`` for a mask whose
    object is 255, ``values = [7, 11, 26]`` for classes with gaps, ``ignore = [0]`` where class 0 is no class,
    ``colours = ["#000000", "#800000"]`` for maps in colours. A value that none of them names is refused.

    Args:
        size: height and width, or one number for both.
        classes: ``K``, at least 2; by default as many as ``values`` or ``colours`` name, else 2.
        void: the value of pixels to ignore, outside 0 … K - 1; None where there are none, and -1 with ``ignore``.
        values: each class's value in the data, in order, or a list of its values; by default 0, 1, 2 … without those in ``ignore``.
        colours: in place of values, each class's colour in the data (``"#rrggbb"`` or ``[red, green, blue]``), in order, or a list of its colours.
        ignore: values, or colours, in the data that are void: pixels that count for nothing.
        channel: of pictures with an alpha, which holds the classes, ``"alpha"`` or ``"colour"``; by default an alpha must be opaque, and is left out.
        frequencies: of the classes in the data, for unit variance; equal by default.
    """

    discrete = True

    def __init__(
        self,
        size: int | Sequence[int] = 32,
        classes: int | None = None,
        *,
        void: int | None = None,
        values: Sequence[int | Sequence[int]] | None = None,
        colours: Sequence[str | Sequence[int] | Sequence[str | Sequence[int]]] | None = None,
        ignore: Sequence[int | str | Sequence[int]] = (),
        channel: str | None = None,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        named = values if values is not None else colours
        if classes is None:
            classes = 2 if named is None else len(named)
        require(
            "mask",
            size=(sides(size), SIDES),
            classes=(classes, whole(2)),
            channel=(channel, one_of("alpha", "colour").or_none()),
        )
        if values is not None and colours is not None:
            raise OptionError("mask", "values", list(values), "either values or colours, not both", beside=("colours",))
        void = -1 if void is None and ignore else void
        height, width = sides(size)
        SPACE.check("mask", "size", size, classes * height * width, takes(classes * height * width))
        if void is not None and 0 <= void < classes:
            expected = f"a value that is none of the classes 0 … {classes - 1}"
            mend = f"ignore = [{void}] says that {void} in the data is void, whatever the classes are"
            raise OptionError("mask", "void", void, expected, mend=mend, beside=("classes",))
        p = torch.full((classes,), 1 / classes) if frequencies is None else torch.tensor(list(frequencies))
        if p.shape != (classes,) or not (p > 0).all():
            raise OptionError("mask", "frequencies", frequencies, f"{classes} numbers above 0", beside=("classes",))
        self.name = "mask"
        self.classes, self.void, self.frequencies = classes, void, p / p.sum()
        self.convention = Convention(classes, void, values, colours, ignore, channel)
        self.spec = Spec((height, width), torch.int64, 0, classes - 1, void=void)
        self.code = (1 if classes == 2 else classes, height, width)

    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        """All of a known pixel's channels are known."""
        return where[:, None].expand(-1, *self.code)

    def encoder(self) -> Encoder:
        return MaskEncoder(self.frequencies, self.void)

    def decoder(self, width: int, space: Space) -> Decoder:
        return MaskDecoder(width, space, self.classes, self.spec.shape)

    def loss(self) -> LossTerm:
        return MaskLoss(self.classes, self.void)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The codes of the classes, weighted by their probabilities."""
        if type(encode) is MaskEncoder:
            codes = cast(MaskEncoder, encode).table
        else:
            # An encoder of a subclass's own. A map of one pixel each: a pixel's code is its own.
            codes = encode(torch.arange(self.classes, device=params.device)[:, None, None])[:, :, 0, 0]
        return torch.einsum("bkhw,kc->bchw", params.softmax(1), codes.to(params.dtype))

    def read(self, raw: Any) -> Tensor:
        """A map of values or colours as the options say: a path, a PIL image, or an array ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``; booleans are the classes 0 and 1."""
        return read_alike([self._array(raw)], self._indices)[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        return read_alike([self._array(raw) for raw in raws], self._indices)

    def _array(self, raw: Any) -> Any:
        return self.convention.array(picture(raw) if isinstance(raw, str | Path) else raw, self.spec.shape)

    def _indices(self, x: Tensor) -> Tensor:
        """Values ``(B, H, W)`` as the spec has them."""
        height, width = self.spec.shape
        if x.shape[1:] != self.spec.shape:
            raise RequestError(f"found shape {tuple(x.shape[1:])}, expected {height} × {width}")
        return self.convention.indices(x)

    def raw(self, x: Tensor) -> Any:
        """A map of the data's own values or colours, as a picture; as an array where a picture cannot hold them, such as a void of -1."""
        return self.convention.picture(x.detach().cpu())

    def show(self, x: Tensor) -> Image.Image:
        """The data's own colours; without any, grey levels for two classes and distinct colours for more. Void is mid-grey."""
        x = x.detach().cpu()
        hues = torch.arange(self.classes) / self.classes
        if self.convention.coloured:
            colours = torch.tensor([self.convention.colour(k) for k in range(self.classes)])
        elif self.classes == 2:
            colours = torch.tensor([[0, 0, 0], [255, 255, 255]])
        else:
            channels = [((hues + shift) % 1 * 6 - 3).abs().sub(1).clamp(0, 1) for shift in (0, 2 / 3, 1 / 3)]
            colours = (torch.stack(channels, 1) * 255).long()
        valid = (x >= 0) & (x < self.classes)
        pixels = torch.where(valid[..., None], colours[x.clamp(0, self.classes - 1)], 128)
        return Image.fromarray(pixels.to(torch.uint8).numpy())

    def metrics(self) -> Mapping[str, Metric]:
        return {"iou": self._iou, "pixel_accuracy": self._accuracy}

    def _valid(self, target: Tensor) -> Tensor:
        return torch.ones_like(target, dtype=torch.bool) if self.void is None else target != self.void

    def _iou(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Intersection over union of class 1 (binary), or its mean over the classes in either map."""
        valid = self._valid(target)
        classes = [1] if self.classes == 2 else range(self.classes)
        scores, counted = [], []
        for k in classes:
            a, b = (prediction == k) & valid, (target == k) & valid
            union = (a | b).flatten(1).sum(1)
            scores.append(torch.where(union > 0, (a & b).flatten(1).sum(1) / union.clamp(min=1), 0.0))
            counted.append(union > 0)
        count = torch.stack(counted).sum(0)
        return torch.where(count > 0, torch.stack(scores).sum(0) / count.clamp(min=1), 1.0)

    def _accuracy(self, prediction: Tensor, target: Tensor) -> Tensor:
        valid = self._valid(target)
        return ((prediction == target) & valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """The classes' frequencies over all pixels that are not void; at least a thousandth, for codes of bounded size."""
        valid = samples[(samples >= 0) & (samples < self.classes)]
        share = torch.bincount(valid, minlength=self.classes).double() / max(len(valid), 1)
        return {"frequencies": share.clamp(min=1e-3).tolist()}

    def typical(self, n: int, seed: int) -> Tensor:
        """Smooth random regions whose classes have the stated frequencies."""
        height, width = self.spec.shape
        coarse = Rng.for_rows(seed, n).of("typical").normal(1, -(-height // 4) + 1, -(-width // 4) + 1)
        field = F.interpolate(coarse, (height, width), mode="nearest")[:, 0]
        # The normal's distribution function makes the field uniform, whatever the class frequencies.
        edges = self.frequencies.cumsum(0)[:-1]
        return torch.bucketize(torch.special.ndtr(field), edges)


class MaskEncoder(Encoder):
    """The centred, scaled one-hot code of each pixel; zero where void."""

    table: Tensor

    def __init__(self, frequencies: Tensor, void: int | None) -> None:
        super().__init__()
        self.void = void
        scaled = (torch.eye(len(frequencies)) - frequencies) / (frequencies * (1 - frequencies)).sqrt()
        self.register_buffer("table", scaled[:, 1:] if len(frequencies) == 2 else scaled, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        code = F.embedding(x.clamp(0, len(self.table) - 1), self.table)
        if self.void is not None:
            code = torch.where((x == self.void)[..., None], torch.zeros_like(code), code)
        return code.movedim(-1, 1)


class MaskDecoder(Decoder):
    """Logits ``(B, K, H, W)``."""

    def __init__(self, width: int, space: Space, classes: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = (classes, *size)
        grid = len(space.grid)
        self.map = SpatialHead(width, space, classes, size) if grid == 2 else None
        self.flat = None if grid == 2 else PooledHead(width, space, torch.Size(self.shape).numel())

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.map(features) if self.map is not None else self.flat(features).unflatten(1, self.shape)  # type: ignore

    def weight_axes(self) -> dict[str, Axis]:
        """Of each class a row for every pixel of a cell, or of the map."""
        part = "flat.out" if self.map is None else "map.out"
        pixels = self.shape[1:] if self.map is None else self.map.cell
        rows = Rows(tuple(map(str, range(self.shape[0]))), torch.Size(pixels).numel())
        return {f"{part}.weight": rows, f"{part}.bias": rows}

    def point(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return rng.categorical(params.softmax(1).movedim(1, -1))


class MaskLoss:
    """The categorical likelihood of the pixels that are not void."""

    def __init__(self, classes: int, void: int | None) -> None:
        self.classes, self.void = classes, void

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        if self.void is not None:
            known = target != self.void
            where = known if where is None else where & known
        return total(categorical(params, target.clamp(0, self.classes - 1)), where)
