"""Healthy modalities that a check blamed once, each with the checks that did; they are among those that must pass everything."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, Metric, Modality, RequestError, Rng, Space, Spec
from mmcore.modality.likelihood import bounded_log_scale, categorical, gaussian
from mmcore.modality.spec import VOID
from mmcore.testing.reference import Reference
from mmcore_clip import ClipModality
from mmcore_label.modality import LabelEncoder
from mmcore_scalar import ScalarModality
from tests.testing.kinds import Angle, Points, Rating
from tests.testing.wider import WIDER, CountEncoder, Counts, Head, Plain


class ScaledEncoder(CountEncoder):
    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.std


class Scaled(Counts):
    """Counts whose deviation is an option; typical samples are of the deviation that it has by default."""

    def __init__(self, std: float = 1.0) -> None:
        super().__init__()
        self.std = std

    def encoder(self) -> Encoder:
        return ScaledEncoder(self.std)


@functools.lru_cache(maxsize=128)
def _drawn(n: int, seed: int) -> Tensor:
    return Rng.for_rows(seed, n).of("typical").normal(3)


class Kept(Reference):
    """Typical samples in a cache that has an end."""

    def typical(self, n: int, seed: int) -> Tensor:
        return _drawn(n, seed).clone()


class Evicting(Reference):
    """Typical samples in a dictionary from which the oldest go."""

    def __init__(self) -> None:
        super().__init__(3)
        self.cache: dict[Any, Tensor] = {}

    def typical(self, n: int, seed: int) -> Tensor:
        if (n, seed) not in self.cache:
            self.cache[n, seed] = super().typical(n, seed)
            while len(self.cache) > 100:
                del self.cache[next(iter(self.cache))]
        return self.cache[n, seed].clone()


class StrictEncoder(Encoder):
    """An encoder that takes directions only."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "meta" and not torch.allclose(x.float().norm(dim=-1), torch.ones(len(x)), atol=1e-2):
            raise ValueError("a vector whose length is not 1")
        return self.inner(x)


class Strict(ClipModality):
    """Directions whose encoder insists on their length."""

    def encoder(self) -> Encoder:
        return StrictEncoder(super().encoder())

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        # A mean direction is shorter than 1.
        return super().expected_code(params, super().encoder(), decoder)


class Distances(Plain):
    """Six distances in metres by their logarithm, some of which a sensor did not see; those are 0, outside the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((6,), torch.float32, 0.5, 80.0, void=0.0), (6,), (2, 6)

    def encode(self, x: Tensor) -> Tensor:
        return (x.clamp(min=0.5).log() - 2.5) / 0.6

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return 2.5 + 0.3 * torch.tanh(params[:, 0]), -1.2 + 0.8 * torch.tanh(params[:, 1])

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        log = x.clamp(min=0.5).log()
        return gaussian(*self._parts(params), log) + log

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        mean, log_scale = self._parts(params)
        log = mean if rng is None else mean + log_scale.exp() * rng.normal(6, dtype=params.dtype)
        return log.exp().clamp(0.5, 80.0)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        return (self._parts(params)[0] - 2.5) / 0.6

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        x = (2.5 + 0.6 * rng.normal(6)).exp().clamp(0.5, 80.0)
        return torch.where(rng.of("unseen").uniform(6) < 0.3, torch.zeros(()), x)


class HeldHead(Head):
    """Parameters that keep to what the modality's ``hold`` gives."""

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.hold(super().forward(features, t))


class Held(Plain):
    """A modality whose parameters are no free numbers: other ones would be of no distribution."""

    def hold(self, raw: Tensor) -> Tensor:
        raise NotImplementedError

    def decoder(self, width: int, space: Space) -> Decoder:
        made = HeldHead(self, width, space)
        made.hold = self.hold  # type: ignore[assignment]
        return made


class Logarithms(Held):
    """One of five classes, by the logarithms of their probabilities, which torch's ``nll_loss`` is given."""

    discrete = True

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((), torch.int64, 0, 4), (5,), (5,)

    def hold(self, raw: Tensor) -> Tensor:
        return raw.log_softmax(1)

    def encoder(self) -> Encoder:
        return LabelEncoder(torch.full((5,), 0.2), multi=False)

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return F.nll_loss(params, x, reduction="none")

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        return params.argmax(1) if rng is None else rng.categorical(params.exp())

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        return params.exp() @ encode(torch.arange(5, device=params.device)).to(params.dtype)

    def typical(self, n: int, seed: int) -> Tensor:
        return Rng.for_rows(seed, n).of("typical").categorical(torch.full((n, 5), 0.2))


class Graded(Rating):
    """Stars in their order: numbers, and no classes."""

    discrete = False


class Told(Points):
    """Points with their axes first, told one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.params = Spec((3, 4)), (2, 3, 4)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x = 3 * params[:, 0]
        return x if rng is None else x + bounded_log_scale(params[:, 1]).exp() * rng.normal(3, 4, dtype=params.dtype)

    def show(self, x: Tensor) -> str:
        return ", ".join(f"({a:.3f}, {b:.3f}, {c:.3f})" for a, b, c in x.T.tolist())

    def metrics(self) -> Mapping[str, Metric]:
        return {"distance": lambda prediction, target: (prediction - target).norm(dim=1).mean(1)}

    def typical(self, n: int, seed: int) -> Tensor:
        return super().typical(n, seed).transpose(1, 2).contiguous()


class Degrees(Angle):
    """A direction that is read and told in degrees, and lies in radians; of some seeds' first samples both are nearly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((), torch.float32, -math.pi, math.pi), (2,), (2,)

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x.cos(), x.sin()], dim=1) * 2**0.5

    def read(self, raw: Any) -> Tensor:
        try:
            degrees = float(raw)
        except (TypeError, ValueError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected degrees") from error
        if not math.isfinite(degrees):
            raise RequestError("found no finite number, expected degrees")
        return torch.tensor(math.remainder(math.radians(degrees), 2 * math.pi))

    def raw(self, x: Tensor) -> float:
        return math.degrees(float(x))

    def typical(self, n: int, seed: int) -> Tensor:
        x = (Rng.for_rows(seed, n).of("typical").uniform() - 0.5) * 6
        x[0] = 0.01
        return x


class Levels(Plain):
    """Two numbers of 256 levels, each a categorical distribution of its own: a few hundred rows are learned by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2,), torch.int64, 0, 255), (2,), (256, 2)

    def encoder(self) -> Encoder:
        return LevelsEncoder()

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return categorical(params, x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        return params.argmax(1) if rng is None else rng.categorical(params.softmax(1).transpose(1, 2))

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        levels = torch.arange(256, device=params.device)
        return (params.softmax(1).transpose(1, 2) * encode(levels[:, None].expand(256, 2)).to(params.dtype).T).sum(2)

    def typical(self, n: int, seed: int) -> Tensor:
        return (128 + 50 * Rng.for_rows(seed, n).of("typical").normal(2)).round().clamp(0, 255).long()


class LevelsEncoder(Encoder):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(128.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.mean.dtype) - self.mean) / 50


class Volume(Plain):
    """Volumes of odd sizes, real numbers without limits and with holes: a square of the void that nobody predicts is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2, 1, 3, 5), void=VOID), (2, 1, 3, 5), (2, 2, 1, 3, 5)

    def encode(self, x: Tensor) -> Tensor:
        return (x - 5) / 2

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return gaussian(5 + 2 * params[:, 0], bounded_log_scale(params[:, 1]) + math.log(2), x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        drawn = 0.0 if rng is None else rng.normal(*self.spec.shape, dtype=params.dtype)
        return 5 + 2 * (params[:, 0] + bounded_log_scale(params[:, 1]).exp() * drawn)

    def metrics(self) -> Mapping[str, Metric]:
        def mse(prediction: Tensor, target: Tensor) -> Tensor:
            known = self.spec.there(target)
            square = torch.where(known, (prediction - target).square(), 0.0)
            return square.flatten(1).sum(1) / known.flatten(1).sum(1).where(known.flatten(1).any(1), torch.nan)

        return {"mse": mse}

    def typical(self, n: int, seed: int) -> Tensor:
        rng, shape = Rng.for_rows(seed, n).of("typical"), self.spec.shape
        x = 5 + 2 * (0.8 * rng.of("common").normal(1, 1, 1, 1) + 0.6 * rng.of("own").normal(*shape))
        return torch.where(rng.of("hole").uniform(*shape) < 0.1, VOID, x)


ODD: Mapping[str, tuple[Callable[[], Modality], tuple[str, ...]]] = {
    "classes by the logarithms of their probabilities": (Logarithms, ("loss.proper", "loss.slopes")),
    "counts by their deviation": (Scaled, ("state.instances",)),
    "typical samples in a cache": (lambda: Kept(3), ("state.grows",)),
    "typical samples in a cache of its own": (Evicting, ("state.grows",)),
    "label with void": (WIDER["label with void"], ("state.history", "state.instances")),
    "depth of the scaffold": (WIDER["new-plugin, depth"], ("state.history", "state.instances")),
    "distances with holes": (Distances, ("control.agrees", "control.back")),
    "directions that must be of length 1": (lambda: Strict(16), ("encoder.reads",)),
    "stars in their order": (Graded, ("spec.protocol",)),
    "points told one after the other": (Told, ("show.agrees",)),
    "prices of any height": (lambda: ScalarModality(mean=3e5, std=1e5, low=0.0, high=1e12), ("read.refuses",)),
    "directions in degrees": (Degrees, ("read.refuses",)),
    "levels by categorical distributions": (Levels, ("learn.improves",)),
    "volumes with holes": (Volume, ("metrics.per_sample",)),
}
"""By what they are."""
