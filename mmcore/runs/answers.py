"""What many draws of one variable say together: a value as the data write it, and how far the draws agree."""

from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.data.transforms import Trace, filled
from mmcore.errors import plainly
from mmcore.metrics.conformal import Sureness, Widening, central
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.mixed import Mixed


@attrs.frozen(eq=False, repr=False)
class Answer:
    """One variable of one row, by its draws.

    Attributes:
        value: as the data write it (:meth:`mmcore.Modality.raw`): of numbers the draws' mean (or the draw nearest to it), of classes the most frequent, of maps of classes
            that of each pixel, of vectors of norm 1 the mean's direction. Pictures and maps have the size of the row's files.
        agreement: the share of draws that have this class, of each pixel ``(H, W)`` of a map; None for numbers, and of one draw.
        deviation: the standard deviation of the draws, ``(H, W)`` of pictures (over all channels, in -1 … 1) and otherwise as the value is; None
            for classes, and of one draw.
        low: the lower end of the interval, as the value is; None where there is no deviation, or it is of a picture.
        high: the upper end.
        cut: whether transforms cut the row's files, so that the value is repeated beyond their edge.
        draws: ``(draws, *spec.shape)``, as the model sees them.
        probability: that the class is right, as rows held out say it; None where none do.

    Of several modalities in one each part is told so, in a list.
    """

    value: Any
    agreement: Any
    deviation: Any
    low: Any
    high: Any
    cut: bool
    draws: Tensor
    probability: float | None = None

    def told(self) -> str:
        """The value in a few words, and how sure it is."""
        value = self.value
        if isinstance(value, Image.Image):
            return f"a picture of {value.width} × {value.height}"
        if isinstance(value, np.ndarray):
            return f"an array {value.shape}"
        value = plainly(str(value), 80)
        if isinstance(self.low, int | float) and isinstance(self.high, int | float):
            return f"{value} ({self.low:.4g} … {self.high:.4g})"
        if self.probability is not None:
            return f"{value} (probability {self.probability:.2f})"
        if isinstance(self.agreement, float):
            return f"{value} (agreement {self.agreement:.2f})"
        return value

    def __repr__(self) -> str:
        return plainly(f"<Answer: {self.told()}, of {len(self.draws)} draw{'s' * (len(self.draws) != 1)}>", 400)


def answer(
    m: ModalityProtocol, draws: Tensor, trace: Trace, interval: float, held: Widening | Sureness | None = None
) -> Answer:
    """Put the draws of one row together.

    Args:
        m: the variable.
        draws: ``(draws, *spec.shape)``.
        trace: how the row's files became what the model sees.
        interval: the probability between ``low`` and ``high``.
        held: what rows held out say of such answers; None for the draws' own intervals and shares.
    """
    if isinstance(m, Mixed):
        return _parts(m, draws, interval)
    if m.spec.dtype.is_floating_point:
        if m.planar:
            return _picture(m, draws, trace)
        return _numbers(m, draws, interval, held if isinstance(held, Widening) else None)
    if m.planar and len(m.spec.shape) == 2:
        return _map(m, draws, trace)
    found = _classes(m, draws)
    if not isinstance(held, Sureness):
        return found
    return attrs.evolve(found, probability=held.probability(round(found.agreement * len(draws)), len(draws)))


def enough(interval: float) -> int:
    """The fewest draws whose order tells both ends of an interval."""
    return max(2, int(np.ceil(2 / (1 - interval) - 1 - 1e-9)))


def _numbers(m: ModalityProtocol, draws: Tensor, interval: float, held: Widening | None) -> Answer:
    value = m.raw(centre(m, draws))
    if len(draws) == 1:
        return Answer(value, None, None, None, None, False, draws)
    spec = m.spec
    ends = central(draws, interval) if held is None else held.ends(draws, interval, spec.low, spec.high)
    low, high = (m.raw(end.to(spec.dtype)) for end in ends)
    deviation = draws.double().std(0).numpy()
    return Answer(value, None, deviation.tolist() if not deviation.ndim else deviation, low, high, False, draws)


def _classes(m: ModalityProtocol, draws: Tensor) -> Answer:
    """Of one class the most frequent; of several labels each by itself; of a sequence the draw that the others agree with most."""
    value = centre(m, draws)
    agreement = (draws == value).double().mean(0).flatten()
    told: Any = agreement.tolist() if m.spec.shape else float(agreement[0])
    return Answer(m.raw(value), told if len(draws) > 1 else None, None, None, None, False, draws)


def centre(m: ModalityProtocol, draws: Tensor) -> Tensor:
    """What stands for draws ``(draws, *spec.shape)``: of numbers the mean (or the draw nearest to it), of classes one that is most frequent. ``(*spec.shape)``."""
    if isinstance(m, Mixed):
        values = zip(m.parts.values(), m.packed.split(draws), strict=True)
        return m.packed.join([centre(part, x)[None] for part, x in values], draws.dtype)[0]
    if m.spec.dtype.is_floating_point:
        x = draws.double()
        # Where a mean is no value, such as of waves, whose phases cancel, it is the draw that lies nearest to the others.
        mean = x.mean(0) if m.averaged else x[(x - x.mean(0)).reshape(len(x), -1).square().sum(1).argmin()]
        if m.spec.unit_norm:
            mean = mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return mean.to(m.spec.dtype)
    if m.spec.dtype == torch.bool:
        # Of an even number of draws half may have it.
        return draws.double().mean(0) >= 0.5
    if len(m.spec.shape) == 2:
        return draws.mode(0).values
    flat = draws.reshape(len(draws), -1)
    return draws[int((flat[:, None] == flat[None]).double().mean((1, 2)).argmax())]


def _parts(m: Mixed, draws: Tensor, interval: float) -> Answer:
    """Each part by itself: a mean of classes is no class. No transform changes a part."""
    values = zip(m.parts.values(), m.packed.split(draws), strict=True)
    each = [answer(part, x, Trace(), interval) for part, x in values]

    def told(what: str) -> list[Any] | None:
        found = [getattr(one, what) for one in each]
        return None if all(one is None for one in found) else found

    agreement, deviation, low, high = (told(what) for what in ("agreement", "deviation", "low", "high"))
    return Answer(m.raw(centre(m, draws)), agreement, deviation, low, high, False, draws)


def _map(m: ModalityProtocol, draws: Tensor, trace: Trace) -> Answer:
    """The class of each of the file's pixels, by the draws' shares, which are smooth where classes are not."""
    best = chosen = known = np.zeros(0)
    # One class at a time, as there may be many, and files large.
    for number, one in enumerate(draws.unique().tolist()):
        share = trace.undo_pixels(m.name, (draws == one).float().mean(0).numpy())
        if not number:
            known = np.isfinite(share)
            best, chosen = np.full(share.shape, -np.inf, share.dtype), np.zeros(share.shape, dtype=np.int64)
        share = share if known.all() else filled(share)
        chosen = np.where(share > best, one, chosen)
        best = np.maximum(share, best)
    value = trace.undo_values(m.name, m.raw(torch.from_numpy(chosen)))
    agreed = np.where(known, best, 0) if len(draws) > 1 else None
    return Answer(value, agreed, None, None, None, not known.all(), draws)


def _picture(m: ModalityProtocol, draws: Tensor, trace: Trace) -> Answer:
    seen = m.pictured(draws)
    x = (draws if seen is None else seen).float()
    sides = x.shape[-2:]
    planes = x.mean(0).reshape(-1, *sides).numpy()
    back = np.stack([trace.undo_pixels(m.name, plane) for plane in planes])
    cut = not np.isfinite(back).all()
    if cut:
        back = np.stack([filled(plane) for plane in back])
    if seen is None:
        mean = torch.from_numpy(back).reshape(*m.spec.shape[:-2], *back.shape[-2:]).to(m.spec.dtype)
        value = trace.undo_values(m.name, m.raw(mean))
    else:
        value = trace.undo_values(m.name, _shown(back))
    if len(draws) == 1:
        return Answer(value, None, None, None, None, cut, draws)
    spread = x.var(0).reshape(-1, *sides).mean(0).sqrt().numpy()
    return Answer(value, None, np.nan_to_num(trace.undo_pixels(m.name, spread)), None, None, cut, draws)


def _shown(pixels: np.ndarray) -> Any:
    """Pixels ``(channels, H, W)`` in -1 … 1 as a picture; as an array where no picture has so many channels."""
    if len(pixels) not in (1, 3, 4):
        return pixels
    stored = ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    return Image.fromarray(stored[0] if len(stored) == 1 else np.ascontiguousarray(stored.transpose(1, 2, 0)))
