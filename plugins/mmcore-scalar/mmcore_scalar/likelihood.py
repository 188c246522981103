"""Distributions of numbers: normal and Student's t, whole or truncated to limits, and a logistic one of counts.

All are written in codes, that is in ``y = (T(x) - mean) / std`` with ``T`` the identity or the logarithm, by a location and
a log scale that the head gives, ``params (B, 2, *shape)``. So they are alike whatever the units.
"""

import math
from abc import ABC, abstractmethod

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Rng
from mmcore.modality import NoisyCode
from mmcore.modality.likelihood import bounded_log_scale, total, unbounded_log_scale

TINY = torch.finfo(torch.float32).tiny
"""The smallest number that has a logarithm here."""
Numbers = float | tuple[float, ...]
"""One for all elements, or one for each."""


class Normal:
    """The standard normal distribution."""

    deviation = 1.0

    @staticmethod
    def log_density(z: Tensor) -> Tensor:
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)

    @staticmethod
    def cdf(z: Tensor) -> Tensor:
        return torch.special.ndtr(z)

    @staticmethod
    def quantile(p: Tensor) -> Tensor:
        return torch.special.ndtri(p)

    @staticmethod
    def moment(z: Tensor) -> Tensor:
        """``∫_z^∞ t f(t) dt``."""
        return Normal.log_density(z).exp()


class Student:
    """Student's t with 4 degrees of freedom: finite variance, infinite kurtosis.

    Of those with heavy tails it is the one whose distribution function, quantiles and truncated mean are all elementary (Shaw 2006).
    """

    deviation = 2.0**0.5

    @staticmethod
    def log_density(z: Tensor) -> Tensor:
        return math.log(3 / 8) - 2.5 * torch.log1p(z.square() / 4)

    @staticmethod
    def cdf(z: Tensor) -> Tensor:
        w = z / (z.square() + 4).sqrt()
        return (1 + w).square() * (2 - w) / 4

    @staticmethod
    def quantile(p: Tensor) -> Tensor:
        root = (4 * p * (1 - p)).sqrt()
        return torch.sign(p - 0.5) * 2 * ((root.arccos() / 3).cos() / root - 1).clamp(min=0).sqrt()

    @staticmethod
    def moment(z: Tensor) -> Tensor:
        """``∫_z^∞ t f(t) dt``."""
        return 0.5 * (1 + z.square() / 4) ** -1.5


TAILS = {"normal": Normal, "student": Student}
"""The distributions of real numbers by the name of their tail."""


@attrs.frozen
class Scale:
    """Numbers in their units, and their codes.

    Attributes:
        mean: of the numbers, or with ``log`` of their logarithms.
        std: of the same.
        low: the smallest number; None for no limit.
        high: the largest number; None for no limit.
        log: whether codes are of logarithms.
    """

    mean: Numbers
    std: Numbers
    low: float | None = None
    high: float | None = None
    log: bool = False

    @property
    def log_std(self) -> Numbers:
        """The logarithm of the deviation: what the codes' density is larger by."""
        return tuple(map(math.log, self.std)) if isinstance(self.std, tuple) else math.log(self.std)

    def codes(self, x: Tensor) -> Tensor:
        """``y`` of numbers ``x``."""
        wide = _wide(x)
        if self.log:
            wide = wide.clamp(min=TINY).log()
        return ((wide - _like(self.mean, wide)) / _like(self.std, wide)).to(x.dtype)

    def values(self, y: Tensor) -> Tensor:
        """Numbers ``x`` of ``y``, inside the limits."""
        wide = _wide(y)
        x = _like(self.mean, wide) + _like(self.std, wide) * wide
        if self.log:
            x = x.exp()
        highest = torch.finfo(y.dtype).max if self.high is None else self.high
        return x.clamp(TINY if self.log and self.low is None else self.low, highest).to(y.dtype)

    def inside(self, x: Tensor) -> Tensor:
        """Whether numbers keep the limits, to float32's rounding."""
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return (x >= low - 1e-6 * max(1, abs(low))) & (x <= high + 1e-6 * max(1, abs(high)))

    def limits(self, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The codes of the limits."""
        return tuple(None if limit is None else self.codes(like.new_tensor(limit)) for limit in (self.low, self.high))  # type: ignore[return-value]


def _like(values: Numbers, x: Tensor) -> float | Tensor:
    return x.new_tensor(values) if isinstance(values, tuple) else values


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: half precision would round a mean that is large beside the deviation."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@attrs.frozen
class Likelihood(ABC):
    """``p(x | params)`` of numbers that are independent given ``params (B, 2, *shape)``; called, it is the loss term.

    Attributes:
        scale: the numbers' units.
    """

    scale: Scale

    @property
    def _limited(self) -> bool:
        return self.scale.low is not None or self.scale.high is not None

    def __call__(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        return total(self.nats(params, target), where)

    def joined(self, raw: Tensor, own: NoisyCode) -> Tensor:
        """Parameters ``(B, 2, *shape)``, where all else says ``raw`` of the number, and its own noisy code what it says; as if both were normal."""
        place, log_scale = self.place(raw)
        spread = math.log(self.spread)
        flat = [x.reshape(len(raw), -1) for x in (place, log_scale + spread)]
        mean, log_scale = (x.reshape(place.shape) for x in own.around(*flat))
        return torch.stack([self.raw(mean), unbounded_log_scale(log_scale - spread)], dim=1)

    @property
    def spread(self) -> float:
        """The deviation at scale 1."""
        return 1.0

    def place(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log scale."""
        return params[:, 0], bounded_log_scale(params[:, 1])

    def raw(self, place: Tensor) -> Tensor:
        """The parameter whose location is ``place``, of codes."""
        return place

    @abstractmethod
    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        """``-log p`` of each element."""

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """The number whose code is the mean code; inside the limits."""

    def point(self, params: Tensor) -> Tensor:
        """The mean as such a number."""
        return self.mean(params)

    @abstractmethod
    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        """A draw, inside the limits."""


@attrs.frozen
class Real(Likelihood):
    """A location-scale family, truncated to the limits: ``f(z) / (σ (F(b) - F(a)))`` inside, with ``a, b`` the limits' ``z``.

    The location keeps between the limits, so what is left by the truncation is never a far tail.

    Attributes:
        tail: ``"normal"`` or ``"student"``.
    """

    tail: str = "normal"

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        family, place, log_scale = self._parts(params)
        nll = log_scale - family.log_density((self.scale.codes(x) - place) * (-log_scale).exp())
        nll = nll + _like(self.scale.log_std, x)
        if self.scale.log:
            nll = nll + x.clamp(min=TINY).log()
        if self._limited:
            below, above = self._ends(family, place, log_scale)
            nll = torch.where(self.scale.inside(x), nll + (above - below).log(), math.inf)
        return nll

    def mean(self, params: Tensor) -> Tensor:
        family, place, log_scale = self._parts(params)
        if self._limited:
            below, above = self._ends(family, place, log_scale)
            a, b = self._standard(place, log_scale)
            rest = [torch.zeros_like(place) if z is None else family.moment(z) for z in (a, b)]
            place = place + log_scale.exp() * (rest[0] - rest[1]) / (above - below)
        return self.scale.values(place)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        family, place, log_scale = self._parts(params)
        if family is Normal and not self._limited:
            return self.scale.values(place + log_scale.exp() * rng.normal(*place.shape[1:], dtype=place.dtype))
        u = rng.uniform(*place.shape[1:], dtype=torch.float64)
        below, above = self._ends(family, place.double(), log_scale.double())
        p = (below + (above - below) * u).clamp(1e-300, 1 - 2**-53)
        return self.scale.values((place + log_scale.exp() * family.quantile(p)).to(place.dtype))

    @property
    def spread(self) -> float:
        return TAILS[self.tail].deviation

    def place(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._parts(params)[1:]

    def raw(self, place: Tensor) -> Tensor:
        low, high = self.scale.limits(place)
        below = place if low is None else _from(place, low.clamp(max=-0.01))
        above = place if high is None else _from(place, high.clamp(min=0.01))
        return torch.where(place < 0, below, above)

    def _parts(self, params: Tensor) -> tuple[type[Normal] | type[Student], Tensor, Tensor]:
        """The family, the location between the limits' codes, and the log scale."""
        raw, raw_scale = params.unbind(1)
        low, high = self.scale.limits(params)
        # Near 0, the data's mean, the slope is 1 on both sides; far out the limits are approached. A mean may lie on a limit.
        below = raw if low is None else _towards(raw, low.clamp(max=-0.01))
        above = raw if high is None else _towards(raw, high.clamp(min=0.01))
        return TAILS[self.tail], torch.where(raw < 0, below, above), bounded_log_scale(raw_scale)

    def _standard(self, place: Tensor, log_scale: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """``a`` and ``b``."""
        ends = self.scale.limits(place)
        return tuple(None if end is None else (end - place) * (-log_scale).exp() for end in ends)  # type: ignore[return-value]

    def _ends(self, family: type[Normal] | type[Student], place: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """``F(a)`` and ``F(b)``."""
        a, b = self._standard(place, log_scale)
        return (
            torch.zeros_like(place) if a is None else family.cdf(a),
            torch.ones_like(place) if b is None else family.cdf(b),
        )


def _towards(x: Tensor, end: Tensor) -> Tensor:
    return end * torch.tanh(x / end)


def _from(place: Tensor, end: Tensor) -> Tensor:
    """The parameter of which ``_towards`` makes ``place``; of what is near the limit or beyond it, what makes 0.99 of the limit."""
    return end * torch.atanh((place / end).clamp(-0.99, 0.99))


@attrs.frozen
class Count(Likelihood):
    """Whole numbers: a logistic ``X`` of location ``μ`` and scale ``s``, rounded at random and clipped to the limits.

    ``K = ⌊X + U⌋`` with ``U`` uniform in 0 … 1 has the mean ``μ``, and

    ``P(K = k) = s log(1 + (2 sinh(1/2s))² σ(c) σ(-c))`` with ``c = (k - μ)/s``,

    the second difference of ``s log(1 + exp c)``. A limit has the probability of all that would lie beyond it as well. So the probabilities
    sum to one, the mean is closed, and where ``s`` is small a single whole number is certain, which no Poisson or negative binomial
    distribution of a large mean can say.
    """

    @property
    def spread(self) -> float:
        return math.pi / 3**0.5

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        place, log_scale = self.place(params)
        c = (self.scale.codes(x) - place) * (-log_scale).exp()
        log_s = log_scale + _like(self.scale.log_std, x)
        # log(exp(1/s) - 1) and log (2 sinh(1/2s))² are 1/s + gap and 1/s + 2 gap.
        gap = (-torch.expm1(-(-log_s).exp())).log()
        log_p = _log_softplus((-log_s).exp() + 2 * gap + F.logsigmoid(c) + F.logsigmoid(-c))
        for limit, inwards in ((self.scale.low, 1), (self.scale.high, -1)):
            if limit is not None:
                inside = inwards * (x - limit)
                at = _log_softplus((-log_s).exp() + gap + F.logsigmoid(inwards * c))
                log_p = torch.where(inside > 0.5, log_p, torch.where(inside < -0.5, -math.inf, at))
        return -log_s - log_p

    def mean(self, params: Tensor) -> Tensor:
        """Of a number clipped to the limits, ``low + ∫ (1 - F)`` from ``low`` to ``high``; the rounding leaves it as it is."""
        place, s = params[:, 0], bounded_log_scale(params[:, 1]).exp()
        low, high = self.scale.limits(params)
        if low is not None:
            place, above = low + s * F.softplus((place - low) / s), place
            place = place if high is None else place - s * F.softplus((above - high) / s)
        elif high is not None:
            place = high - s * F.softplus((high - place) / s)
        return self.scale.values(place)

    def point(self, params: Tensor) -> Tensor:
        return self.mean(params).round()

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        place, s = params[:, 0], bounded_log_scale(params[:, 1]).exp()
        shape = place.shape[1:]
        y = place + s * torch.logit(rng.of("place").uniform(*shape, dtype=torch.float64))
        x = attrs.evolve(self.scale, low=None, high=None).values(y.clamp(-1e30, 1e30))
        x = (x + rng.of("round").uniform(*shape, dtype=torch.float64)).floor()
        return x.clamp(self.scale.low, self.scale.high).to(place.dtype) if self._limited else x.to(place.dtype)


def _log_softplus(q: Tensor) -> Tensor:
    """``log log(1 + exp q)``, also where ``exp q`` is nothing beside 1."""
    return torch.where(q < -15, q - 0.5 * q.clamp(max=-15).exp(), F.softplus(q.clamp(min=-15)).log())
