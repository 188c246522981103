"""Answers to look at: each draw, what the draws say together, and where they agree or differ."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmcore.data.transforms import Trace
from mmcore.files import Encoded
from mmcore.modality.base import Modality
from mmcore.runs.answers import answer, enough

INTERVAL = 0.8
MOST_BARS = 12
MOST_SOUNDS = 4
_RAMP = np.array([(255, 255, 255), (253, 224, 164), (242, 142, 92), (193, 62, 93), (84, 24, 82)], float)
"""From nothing to much."""


@attrs.frozen(eq=False)
class Map:
    """Where draws agree or differ.

    Attributes:
        picture: in colours, white for none.
        title: what it is.
        low: what white stands for, in words.
        high: what the darkest stands for.
    """

    picture: Image.Image
    title: str
    low: str
    high: str


@attrs.frozen(eq=False)
class Shown:
    """One variable's answers.

    Attributes:
        name: of the variable.
        draws: a picture or text of each.
        together: what they say together; None of one draw.
        title: what that is.
        bars: classes with their shares of the draws, most frequent first.
        more: classes that are left out of the bars.
        spread: the draws of one number, with its name: a line of dots.
        map: where they agree or differ; None of one draw, or of what has no pixels.
        truth: of the row that was begun with; None where there is none.
        given: whether some of it was given.
        scores: the modality's own, of the answer beside the truth, by name.
        sounds: of the first draws, to play, where the modality says how it is heard.
    """

    name: str
    draws: Sequence[Image.Image | str]
    together: Image.Image | str | None = None
    title: str = ""
    bars: Sequence[tuple[str, float]] = ()
    more: int = 0
    spread: Sequence[tuple[str, Sequence[float], float | None]] = ()
    map: Map | None = None
    truth: Image.Image | str | None = None
    given: bool = False
    scores: Sequence[tuple[str, float]] = ()
    sounds: Sequence[bytes] = ()


def shown(m: Modality, draws: Tensor, truth: Tensor | None = None, *, given: bool = False) -> Shown:
    """Put the draws of one variable together, to look at.

    Args:
        m: the variable.
        draws: ``(draws, *spec.shape)``.
        truth: ``(*spec.shape)``; None where nobody knows it.
        given: whether some of it was given.
    """
    each = [m.show(x) for x in draws]
    known = None if truth is None else m.show(truth)
    plain = Shown(m.name, each, truth=known, given=given, sounds=_sounds(m, draws))
    if len(draws) == 1:
        return attrs.evolve(plain, scores=_scores(m, draws[0], truth))
    interval = INTERVAL if len(draws) >= enough(INTERVAL) else 0.5
    found = answer(m, draws, Trace(), interval)
    shape, real = m.spec.shape, m.spec.dtype.is_floating_point
    value = _value(m, found.value)
    together = None if value is None else m.show(value)
    plain = attrs.evolve(plain, scores=_scores(m, value, truth))
    if len(shape) >= 2 and real:
        return attrs.evolve(plain, together=together, title="mean of the draws", map=_deviation(m, found.deviation))
    if len(shape) == 2:
        return attrs.evolve(
            plain, together=together, title="most frequent class of each pixel", map=_agreement(m, found.agreement)
        )
    if not real and not shape:
        return attrs.evolve(plain, **_shares([str(one) for one in each]))
    if not real and m.spec.dtype == torch.bool:
        share = draws.double().mean(0).tolist()
        names = getattr(m.control(), "names", ()) or tuple(map(str, range(len(share))))
        bars = sorted(zip(names, share, strict=True), key=lambda one: -one[1])
        return attrs.evolve(
            plain,
            together=together,
            title="in half of the draws or more",
            bars=bars[:MOST_BARS],
            more=max(0, len(bars) - MOST_BARS),
        )
    if real and not shape:
        told = f"{_told(m, found.low)} … {_told(m, found.high)} in {round(100 * interval)} % of the draws"
        at = None if truth is None else float(truth)
        return attrs.evolve(
            plain, together=together, title=f"mean; {told}", spread=[(m.name, draws.double().tolist(), at)]
        )
    return attrs.evolve(
        plain, together=together, title="mean of the draws" if real else "the draw that the others agree with most"
    )


def _sounds(m: Modality, draws: Tensor) -> list[bytes]:
    """WAV files of a few draws, of a modality that has ``heard``."""
    heard = getattr(m, "heard", None)
    if not callable(heard):
        return []
    found = [heard(x) for x in draws[:MOST_SOUNDS]]
    return [one.data for one in found if isinstance(one, Encoded) and one.suffix == ".wav"]


def _value(m: Modality, raw: Any) -> Tensor | None:
    """What the draws say together, as a sample."""
    try:
        return m.read(raw)
    except Exception:  # a plugin that writes what it does not read; each draw is there all the same
        return None


def _scores(m: Modality, value: Tensor | None, truth: Tensor | None) -> list[tuple[str, float]]:
    if value is None or truth is None:
        return []
    found = {name: float(metric(value[None], truth[None])[0]) for name, metric in m.metrics().items()}
    return [(name.replace("_", " "), score) for name, score in found.items() if math.isfinite(score)][:4]


def _told(m: Modality, value: Any) -> str:
    try:
        return str(m.show(m.read(value)))
    except Exception:  # the same
        return str(value)


def _shares(words: list[str]) -> dict[str, Any]:
    counted = Counter(words).most_common()
    bars = [(word, count / len(words)) for word, count in counted]
    return {
        "bars": bars[:MOST_BARS],
        "more": max(0, len(bars) - MOST_BARS),
        "together": bars[0][0],
        "title": "most frequent",
    }


def _deviation(m: Modality, deviation: Any) -> Map | None:
    plane = np.asarray(deviation, float)
    if plane.ndim != 2:
        return None
    low, high = m.spec.low, m.spec.high
    unit = 1.0 if low is None or high is None else (high - low)
    top = float(plane.max())
    told = f"{100 * top / unit:.2g}% of the range" if unit != 1.0 or (low, high) == (0, 1) else f"{top:.3g}"
    return Map(_coloured(plane / max(top, 1e-12)), "deviation over the draws", "0", told)


def _agreement(m: Modality, agreement: Any) -> Map | None:
    plane = 1 - np.asarray(agreement, float)
    if plane.ndim != 2:
        return None
    top = float(plane.max())
    return Map(_coloured(plane / max(top, 1e-12)), "draws that disagree", "none", f"{top:.0%}")


def _coloured(plane: np.ndarray) -> Image.Image:
    """Numbers in 0 … 1 as colours."""
    place = np.clip(np.nan_to_num(plane), 0, 1) * (len(_RAMP) - 1)
    under = np.minimum(place.astype(int), len(_RAMP) - 2)
    share = (place - under)[..., None]
    return Image.fromarray((_RAMP[under] * (1 - share) + _RAMP[under + 1] * share).round().astype(np.uint8))


def all_shown(
    variables: Sequence[Modality],
    values: Mapping[str, Tensor],
    wanted: Sequence[str],
    truth: Mapping[str, Tensor],
    parts: Sequence[str],
) -> list[Shown]:
    """The answers to what was wanted: pictures first.

    Args:
        variables: of the model.
        values: ``(draws, *spec.shape)`` by name.
        wanted: the names that are answered.
        truth: by name, where it is known.
        parts: those of which some was given.
    """
    found = [
        shown(m, values[m.name], truth.get(m.name), given=m.name in parts)
        for m in variables
        if m.name in wanted and m.name in values
    ]
    return sorted(found, key=lambda one: isinstance(one.draws[0], str))
