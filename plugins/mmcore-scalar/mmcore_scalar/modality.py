"""One number or a vector of numbers: a column of a table."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from numbers import Real as RealNumber
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, OptionError, RequestError, Rng, Space, Spec
from mmcore.limits import SPACE, takes
from mmcore.modality import NoisyCode
from mmcore.modality.control import Control, Number, Numbers
from mmcore.modality.heads import PooledHead
from mmcore.options import Rule, one_of, require, whole
from mmcore_scalar.likelihood import TAILS, TINY, Count, Likelihood, Real, Scale, Student

WHOLE = 2**24
"""The largest number up to which float32 has every whole number."""
CLOSE = 1e-5
"""Deviation over mean below which float32, with its seven digits, would no longer tell the numbers apart."""


class ScalarModality(Modality):
    """One real number or count, such as an age, a price or a temperature, or a vector of them.

    Its code is the number less its mean, over its deviation. The likelihood has a learned location and scale for each number.
    Real numbers are normal or heavy-tailed, truncated to the limits. Counts are whole numbers of a discrete logistic distribution, clipped
    to the limits: a limit has the probability of all that would lie beyond it.

    The point is the mean (with ``log`` the geometric mean), of counts rounded.

    Args:
        size: how many numbers. One is a tensor ``()``, more are ``(size,)``.
        units: for the eye, such as ``"years"``; one, or one for each number.
        mean: of the data; one, or one for each number. With ``log`` that of the logarithms. By default it is measured from data.
        std: standard deviation, likewise.
        low: the smallest number there can be; of counts 0 by default, otherwise none.
        high: the largest number there can be; none by default.
        tail: of real numbers, ``"normal"``, or ``"student"`` (t with 4 degrees of freedom) where a few lie far out.
        kind: ``"real"``, or ``"count"`` for whole numbers that stay whole.
        log: real numbers above 0 are coded and predicted by their logarithms, for prices, incomes, concentrations.

    Raises:
        OptionError: an option that is none of these.
    """

    def __init__(
        self,
        size: int = 1,
        *,
        units: str | Sequence[str] = "",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        low: float | None = None,
        high: float | None = None,
        tail: str = "normal",
        kind: str = "real",
        log: bool = False,
    ) -> None:
        require("scalar", size=(size, whole(1)))
        SPACE.check("scalar", "size", size, size, takes(size))
        require(
            "scalar",
            units=(units, _each("a text", lambda value: isinstance(value, str), size)),
            mean=(mean, _each("a number", _finite, size).or_none()),
            std=(std, _each("a number above 0", lambda value: _finite(value) and value > 0, size).or_none()),
            low=(low, Rule("a number", _finite).or_none()),
            high=(high, Rule("a number", _finite).or_none()),
            tail=(tail, one_of(*TAILS)),
            kind=(kind, one_of("real", "count")),
            log=(log, one_of(True, False)),
        )
        count = kind == "count"
        low = 0 if count and low is None else low
        for wrong, option, value, expected, beside in (
            (count and log, "log", log, "false for counts", "kind"),
            (count and tail != "normal", "tail", tail, "normal for counts, whose likelihood has a tail of its own", "kind"),
            (log and low is not None and low <= 0, "low", low, "a number above 0 with log; leave it out where there is none", "log"),
            (count and low != _rounded(low), "low", low, "a whole number for counts", "kind"),
            (count and high != _rounded(high), "high", high, "a whole number for counts", "kind"),
            (low is not None and high is not None and low >= high, "high", high, f"a number above low = {low}", "low"),
        ):  # fmt: skip
            if wrong:
                raise OptionError("scalar", option, value, expected, beside=(beside,))
        self.name = "scalar"
        self.kind, self.units = kind, (units,) * size if isinstance(units, str) else tuple(units)
        shape = () if size == 1 else (size,)
        scale = _scale(size, mean, std, low, high, log=log)
        self.likelihood: Likelihood = Count(scale) if count else Real(scale, tail)
        self.spec = Spec(shape, torch.float32, TINY if log and low is None else scale.low, scale.high)
        self.code = (size,)

    @property
    def scale(self) -> Scale:
        """The numbers' units, and their codes."""
        return self.likelihood.scale

    def encoder(self) -> Encoder:
        return ScalarEncoder(self.scale)

    def decoder(self, width: int, space: Space) -> Decoder:
        return ScalarDecoder(width, space, self.spec.shape, self.likelihood)

    def loss(self) -> LossTerm:
        return self.likelihood

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The code of the mean, before it is rounded: the code is affine in what the mean is of."""
        return encode(self.likelihood.mean(params))

    # ---- reading ----

    def read(self, raw: Any) -> Tensor:
        """A number: of Python, numpy or torch, or a text such as ``"3.5"``. Of several numbers a list or an array ``(size,)``.

        Raises:
            RequestError: what is none, another size, NaN or infinity, a truth value, or a number outside the limits.
        """
        return self._checked(self._numbers(raw)[None])[0]

    def read_many(self, raws: Sequence[Any]) -> Tensor:
        kinds = {type(raw) for raw in raws}
        if not self.spec.shape and all(
            issubclass(kind, int | float | np.integer | np.floating) and kind is not bool for kind in kinds
        ):
            return self._checked(np.array(raws, dtype=np.float64))
        if kinds == {np.ndarray} and all(_plain(raw, self.spec.shape) for raw in raws):
            return self._checked(np.array(raws, dtype=np.float64))
        return self._checked(np.stack([self._numbers(raw) for raw in raws]))

    def _numbers(self, raw: Any) -> np.ndarray:
        """``(*spec.shape)`` in float64."""
        if isinstance(raw, Tensor):
            raw = raw.detach().cpu()
            raw = (raw.double() if raw.is_floating_point() else raw).numpy()
        size = len(self.units)
        if isinstance(raw, np.ndarray) and raw.ndim:
            if raw.size != size or max(raw.shape) != size:
                raise RequestError(f"found shape {raw.shape}, expected {_how_many(size)}")
            raw = raw.reshape(size).tolist()
        if isinstance(raw, list | tuple):
            if len(raw) != size:
                raise RequestError(f"found {len(raw)} values, expected {_how_many(size)}")
            return np.array([_number(one) for one in raw]).reshape(self.spec.shape)
        if size > 1:
            raise RequestError(f"found {_shown(raw)}, expected a list of {_how_many(size)}")
        return np.array(_number(raw))

    def _checked(self, x: np.ndarray) -> Tensor:
        """``(B, *spec.shape)`` in float32, of numbers that are finite, inside the limits, and whole if they are counts."""
        count, low, high = self.kind == "count", self.scale.low, self.scale.high
        most = WHOLE if count else float(torch.finfo(torch.float32).max)
        for wrong, expected in (
            (~np.isfinite(x), "a finite number; leave it out where it is missing"),
            (x <= 0 if self.scale.log else None, "a number above 0, of which log is taken"),
            (x < low if low is not None else None, f"at least low = {low or 0:g}"),
            (x > high if high is not None else None, f"at most high = {high or 0:g}"),
            (x != np.round(x) if count else None, 'a whole number; kind = "real" takes others'),
            (np.abs(x) > most, f"at most {most:,.0f}, as float32 has it" if count else f"at most {most:.3g}, as float32 has it"),
        ):  # fmt: skip
            if wrong is not None and wrong.any():
                raise RequestError(f"found {x[wrong].flat[0]:.15g}, expected {expected}")
        found = torch.from_numpy(x).float()
        # To seven digits a number may lie beyond its limit, or be nothing.
        return found.clamp(self.spec.low, self.spec.high) if (self.spec.low, self.spec.high) != (None, None) else found

    def raw(self, x: Tensor) -> Any:
        """A number, of counts a whole one, or a list of them: in as many digits as float32 has."""
        self._check_one(x)
        values = [float(str(value)) for value in x.detach().cpu().reshape(-1).numpy()]
        if self.kind == "count":
            values = [round(value) for value in values]
        return values if self.spec.shape else values[0]

    def _check_one(self, x: Tensor) -> None:
        """Refuse a batch, of which one value would be taken for all."""
        if x.shape != self.spec.shape:
            raise RequestError(
                f"{self.name}: found shape {tuple(x.shape)}, expected one value {self.spec.shape}, such as x[0]"
            )

    # ---- for people ----

    def show(self, x: Tensor) -> str:
        self._check_one(x)
        stds = self.scale.std if isinstance(self.scale.std, tuple) else (self.scale.std,)
        values = x.detach().reshape(-1).tolist()
        texts = [self._text(value, std) for value, std in zip(values, stds, strict=True)]
        if len(set(self.units)) == 1:
            text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            return f"{text} {self.units[0]}".rstrip()
        return ", ".join(f"{text} {unit}".rstrip() for text, unit in zip(texts, self.units, strict=True))

    def _text(self, value: float, std: float) -> str:
        """To about a hundredth of a deviation."""
        if self.kind == "count":
            return f"{value:.0f}"
        size = std * abs(value) if self.scale.log else std
        digits = 2 - math.floor(math.log10(size)) if size > 0 else 99
        return f"{value:.4g}" if digits > 6 or abs(value) >= 1e15 else f"{value:.{max(digits, 0)}f}"

    def control(self) -> Control:
        """Sliders over three deviations from the mean, inside the limits."""
        parts = tuple(
            Number(low, high, (first, last), whole=self.kind == "count", unit=unit, name=str(k + 1))
            for k, (low, high, first, last, unit) in enumerate(self._sliders())
        )
        return Numbers(parts) if self.spec.shape else attrs.evolve(parts[0], name="")

    def _sliders(self) -> Iterator[tuple[float | None, float | None, float, float, str]]:
        ends = self.scale.values(torch.tensor([[-3.0], [3.0]]).expand(2, len(self.units))).double()
        for (first, last), unit in zip(ends.T.tolist(), self.units, strict=True):
            low, high = self.scale.low, self.scale.high
            first, last = (first if low is None else max(first, low)), (last if high is None else min(last, high))
            if self.kind == "count":
                first, last = math.floor(first), math.ceil(last)
            yield low, high, first, last, unit

    def metrics(self) -> Mapping[str, Metric]:
        def absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
            return (prediction - target).abs().reshape(len(target), -1).mean(1)

        def deviations(prediction: Tensor, target: Tensor) -> Tensor:
            return absolute_error(self.scale.codes(prediction), self.scale.codes(target))

        return {"absolute_error": absolute_error, "absolute_error_in_deviations": deviations}

    # ---- data ----

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """Mean and deviation of each number, or of its logarithm.

        Raises:
            RequestError: numbers so large beside their differences that float32 does not tell them apart.
        """
        x = samples.double().reshape(len(samples), -1)
        x = x.clamp(min=TINY).log() if self.scale.log else x
        mean, std = x.mean(0), x.std(0, correction=0)
        close = (std > 0) & (std < CLOSE * mean.abs())
        if close.any() and not self.scale.log:
            raise RequestError(
                f"{self.name}: found numbers about {mean[close][0]:.9g} that differ by {std[close][0]:.2g}, expected a deviation of at "
                f"least {CLOSE:g} of the mean, as float32 has seven digits; subtract a constant from the column"
            )
        # What never changes has no deviation to be scaled by: its size takes its place.
        std = torch.where(std > 0, std, torch.where(mean == 0, 1.0, mean.abs()))
        means, stds = [float(f"{v:.9g}") for v in mean.tolist()], [float(f"{v:.6g}") for v in std.tolist()]
        low, high = _ends(self.scale.low, self.scale.high, log=self.scale.log)
        means = [min(max(value, low), high) for value in means]
        return {"mean": means, "std": stds} if len(means) > 1 else {"mean": means[0], "std": stds[0]}

    def typical(self, n: int, seed: int) -> Tensor:
        """Numbers of the stated mean and deviation, inside the limits."""
        rng, shape, scale = Rng.for_rows(seed, n).of("typical"), self.spec.shape, self.scale
        u, v, w = (rng.of(word).uniform(*shape, dtype=torch.float64) for word in ("side", "size", "round"))
        low, high = scale.limits(u)
        if low is None and high is None:
            y = Student.quantile(u) / 2**0.5 if self.likelihood == Real(scale, "student") else torch.special.ndtri(u)
        else:
            # Two sides of the mean, each uniform and as likely as the other is wide: their mean is 0, their variance r² L H / 3.
            # Where that is below 1 they crowd at the limits.
            left = u.new_tensor(math.inf) if low is None else -low.clamp(max=-0.01)
            right = u.new_tensor(math.inf) if high is None else high.clamp(min=0.01)
            left, right = torch.minimum(left, (3 / right).clamp(min=3)), torch.minimum(right, (3 / left).clamp(min=3))
            room = left * right
            size = (3 / room).sqrt().clamp(max=1) * v ** ((room - 1) / 2).clamp(0, 1)
            y = torch.where(u < right / (left + right), -left, right) * size
        if self.kind == "count":
            # Rounding at random adds a variance of 1/6.
            std = torch.as_tensor(scale.std, dtype=torch.float64)
            x = scale.values(y * (1 - 1 / (6 * std.square())).clamp(min=0.01).sqrt()) + w
            return x.floor().float().clamp(scale.low, scale.high) if self.spec.low is not None else x.floor().float()
        return scale.values(y.float())


def _scale(
    size: int,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    low: float | None,
    high: float | None,
    *,
    log: bool,
) -> Scale:
    """The units, with figures that suit the limits where none are given.

    Raises:
        OptionError: a mean outside the limits.
    """
    first, last = _ends(low, high, log=log)
    if std is None:
        std = (last - first) / 12**0.5 if math.isfinite(last - first) else 1.0
    stds = [float(std)] * size if not isinstance(std, Sequence) else [float(value) for value in std]
    if mean is None:
        between = math.isfinite(last - first)
        mean = (first + last) / 2 if between else min(max(0.0, first + 3 * max(stds)), last - 3 * max(stds))
    means = [float(mean)] * size if not isinstance(mean, Sequence) else [float(value) for value in mean]
    if not all(first <= value <= last for value in means):
        inside = f"numbers in {first:g} … {last:g}, the limits" + (" by their logarithms" if log else "")
        raise OptionError("scalar", "mean", mean, inside, beside=("low", "high"))
    figures = (means[0], stds[0]) if size == 1 else (tuple(means), tuple(stds))
    return Scale(*figures, None if low is None else float(low), None if high is None else float(high), log)


def _ends(low: float | None, high: float | None, *, log: bool) -> tuple[float, float]:
    """The limits, or their logarithms; infinite where there are none."""
    first, last = (end if end is None else math.log(end) if log else float(end) for end in (low, high))
    return -math.inf if first is None else first, math.inf if last is None else last


def _each(expected: str, holds: Callable[[Any], bool], size: int) -> Rule:
    """One value, or a list of ``size`` of them."""

    def all_hold(value: Any) -> bool:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return len(value) == size and all(map(holds, value))
        return holds(value)

    return Rule(expected if size == 1 else f"{expected}, or a list of {size}", all_hold)


def _finite(value: Any) -> bool:
    return isinstance(value, RealNumber) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value)


def _number(raw: Any) -> float:
    """One number.

    Raises:
        RequestError: it is none.
    """
    if isinstance(raw, np.ndarray | np.generic | Tensor) and raw.ndim == 0:
        raw = raw.item()
    if isinstance(raw, bool):
        raise RequestError(f"found {raw}, expected a number; yes or no is a label of two classes, or write 0 and 1")
    try:
        # Python reads 16_5 as a number; a table that says so means a name.
        if isinstance(raw, RealNumber | Decimal) or (isinstance(raw, str) and "_" not in raw):
            return float(raw)
    except OverflowError:
        raise RequestError("found a whole number beyond 1e308, expected one that float32 has") from None
    except ValueError:
        pass
    raise RequestError(f"found {_shown(raw)}, expected a number such as 3.5")


def _shown(raw: Any) -> str:
    if isinstance(raw, str):
        return repr(raw if len(raw) <= 60 else f"{raw[:57]}…")
    return type(raw).__name__


def _how_many(size: int) -> str:
    return "one number" if size == 1 else f"{size} numbers"


def _plain(raw: np.ndarray, shape: tuple[int, ...]) -> bool:
    return raw.shape == shape and raw.dtype.kind in "iuf"


class ScalarEncoder(Encoder):
    """The numbers, or their logarithms, less the mean, over the deviation."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.codes(x).reshape(len(x), -1)


class ScalarDecoder(Decoder):
    """``(B, 2, *shape)``: a location and a raw log scale for each number, of codes."""

    preconditioned = True

    def __init__(self, width: int, space: Space, shape: tuple[int, ...], likelihood: Likelihood) -> None:
        super().__init__()
        self.shape, self.likelihood = shape, likelihood
        self.head = PooledHead(width, space, 2 * math.prod(shape))

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        raw = self.head(features).unflatten(1, (2, *self.shape))
        return raw if own is None else self.likelihood.joined(raw, own)

    def point(self, params: Tensor) -> Tensor:
        return self.likelihood.point(params)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return self.likelihood.sample(params, rng)
