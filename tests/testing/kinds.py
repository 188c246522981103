"""More healthy modalities, of kinds of data that neither the shipped plugins nor :mod:`tests.testing.wider` are."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, RequestError, Rng, Spec
from mmcore.modality.control import Control, Number, Numbers
from mmcore.modality.likelihood import bounded_log_scale, gaussian
from mmcore_clip import ClipModality
from mmcore_image import ImageModality
from mmcore_mask import MaskModality
from mmcore_scalar import ScalarModality
from tests.testing.wider import Plain


class Angle(Plain):
    """Three directions of wind in -π … π, wrapped normal; the code is cosine and sine."""

    turns = torch.arange(-6, 7)

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,), torch.float32, -math.pi, math.pi), (6,), (2, 3)

    def encode(self, x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], dim=1) * 2**0.5

    @staticmethod
    def scale(params: Tensor) -> Tensor:
        return 0.1 + 1.4 * torch.sigmoid(params[:, 1])

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        around = 2 * math.pi * self.turns.to(params.device)
        x = x[..., None] + around.to(params.dtype)
        return -(-gaussian(params[:, 0, :, None], self.scale(params).log()[..., None], x)).logsumexp(-1)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x = params[:, 0]
        if rng is not None:
            x = x + self.scale(params) * rng.normal(3, dtype=params.dtype)
        return (torch.remainder(x + math.pi, 2 * math.pi) - math.pi).clamp(-math.pi, math.pi)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        shrunk = (-0.5 * self.scale(params).square()).exp()
        return encode(params[:, 0]) * torch.cat([shrunk, shrunk], dim=1)

    def read(self, raw: Any) -> Tensor:
        x = super().read(raw)
        return x

    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        return torch.cat([where, where], dim=1)

    def metrics(self) -> Mapping[str, Metric]:
        return {"angle": lambda prediction, target: (1 - (prediction - target).cos()).mean(1)}

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        x = math.pi * (2 * rng.of("common").uniform(1) - 1) + 0.5 * rng.of("own").normal(3)
        return (torch.remainder(x + math.pi, 2 * math.pi) - math.pi).clamp(-3.1415925, 3.1415925)


class Correlated(Plain):
    """Three numbers with a full covariance: no sum over elements, so known as a whole only."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,)), (3,), (4, 3)

    divisible = False  # type: ignore[assignment]

    def encode(self, x: Tensor) -> Tensor:
        return (x - 5) / 2

    def _factor(self, params: Tensor) -> Tensor:
        low = torch.tanh(params[:, 1:]).tril(-1)
        return 2 * (low + torch.diag_embed(bounded_log_scale(params[:, 1:].diagonal(dim1=1, dim2=2)).exp()))

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            factor = self._factor(params)
            z = torch.linalg.solve_triangular(factor, (target - 5 - 2 * params[:, 0])[..., None], upper=False)[..., 0]
            nats = 0.5 * z.square().sum(1) + factor.diagonal(dim1=1, dim2=2).log().sum(1) + 1.5 * math.log(2 * math.pi)
            return nats if where is None else torch.where(where.all(1), nats, torch.zeros_like(nats))

        return loss

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x = 5 + 2 * params[:, 0]
        if rng is not None:
            x = x + (self._factor(params) @ rng.normal(3, 1, dtype=params.dtype))[..., 0]
        return x

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        return 5 + 2 * (0.9 * rng.of("common").normal(1) + 0.44 * rng.of("own").normal(3))


class Pair(Plain):
    """Two classes of three that depend on each other: nine probabilities, no sum over elements."""

    discrete = True
    divisible = False  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2,), torch.int64, 0, 2), (6,), (9,)

    def encode(self, x: Tensor) -> Tensor:
        hot = F.one_hot(x, 3).flatten(1).to(torch.get_default_dtype())
        return (hot - 1 / 3) / (2 / 9) ** 0.5

    def encoder(self) -> Encoder:
        return PairEncoder()

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            nats = F.cross_entropy(params, 3 * target[:, 0] + target[:, 1], reduction="none")
            return nats if where is None else torch.where(where.all(1), nats, torch.zeros_like(nats))

        return loss

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        both = params.argmax(1) if rng is None else rng.categorical(params.softmax(1))
        return torch.stack([both // 3, both % 3], dim=1)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        both = torch.arange(9, device=params.device)
        return params.softmax(1) @ encode(torch.stack([both // 3, both % 3], dim=1)).to(params.dtype)

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        first = rng.of("first").integers(0, 3)
        second = torch.where(rng.of("same").uniform() < 0.7, first, rng.of("second").integers(0, 3))
        return torch.stack([first, second], dim=1)


class PairEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(1 / 3))

    def forward(self, x: Tensor) -> Tensor:
        hot = F.one_hot(x, 3).flatten(1).to(self.mean.dtype)  # type: ignore[arg-type]
        return (hot - self.mean) / (2 / 9) ** 0.5


class Rain(Plain):
    """Two rainfalls: none at all, or a log-normal amount."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2,), torch.float32, 0.0, None), (2,), (3, 2)

    def encode(self, x: Tensor) -> Tensor:
        return (x.clamp(min=0).add(1).log() - 0.8) / 0.75

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        wet = x > 1e-9
        y = x.clamp(min=1e-9).log()
        amount = gaussian(1 + 0.5 * params[:, 0], bounded_log_scale(params[:, 1]) - 1.2, y) + y
        return torch.where(wet, F.softplus(-params[:, 2]) + amount, F.softplus(params[:, 2]))

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        y = 1 + 0.5 * params[:, 0]
        if rng is None:
            return torch.where(params[:, 2] > 0, y.exp(), torch.zeros_like(y))
        wet = rng.of("wet").uniform(2, dtype=torch.float64) < params[:, 2].double().sigmoid()
        y = y + (bounded_log_scale(params[:, 1]) - 1.2).exp() * rng.of("amount").normal(2, dtype=params.dtype)
        return torch.where(wet, y.clamp(-20, 80).exp(), torch.zeros_like(y))

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        mean, scale = 1 + 0.5 * params[:, 0], (bounded_log_scale(params[:, 1]) - 1.2).exp()
        wet = torch.stack([float(w) * encode((mean + scale * float(z)).clamp(-20, 80).exp()) for z, w in zip(nodes, weights / weights.sum(), strict=True)]).sum(0)  # fmt: skip
        chance = params[:, 2].sigmoid()
        return chance * wet + (1 - chance) * encode(torch.zeros_like(mean))

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        common = rng.of("common").normal(1)
        amount = (1 + 0.5 * (0.8 * common + 0.6 * rng.of("own").normal(2))).exp()
        return torch.where(common + 0.4 * rng.of("wet").normal(2) > -0.5, amount, torch.zeros_like(amount))


class Rating(Plain):
    """One to five stars, by thresholds on one number; shown as stars."""

    discrete = True

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((), torch.int64, 1, 5), (1,), (2,)

    def encoder(self) -> Encoder:
        return RatingEncoder()

    def _chances(self, params: Tensor) -> Tensor:
        edges = torch.arange(1, 5, device=params.device, dtype=torch.float64) + 0.5
        at = ((edges - 3.4 - 1.3 * params[:, :1].double()) * bounded_log_scale(params[:, 1:].double()).exp() * 1.5).sigmoid()  # fmt: skip
        ends = torch.ones_like(at[:, :1])
        return torch.cat([at, ends], 1) - torch.cat([0 * ends, at], 1)

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            chances = 0.999 * self._chances(params) + 0.0002
            nats = -chances.gather(1, target[:, None] - 1)[:, 0].log().to(params.dtype)
            return nats if where is None else torch.where(where, nats, torch.zeros_like(nats))

        return loss

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        chances = 0.999 * self._chances(params) + 0.0002
        return 1 + (chances.argmax(1) if rng is None else rng.categorical(chances))

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        chances = 0.999 * self._chances(params) + 0.0002
        return chances.to(params.dtype) @ encode(torch.arange(1, 6, device=params.device)).to(params.dtype)

    def read(self, raw: Any) -> Tensor:
        """A number, or stars."""
        if isinstance(raw, str):
            if not raw or set(raw) != {"★"}:
                raise RequestError(f"found {raw!r}, expected stars")
            raw = len(raw)
        return super().read(raw)

    def raw(self, x: Tensor) -> Any:
        return int(x)

    def show(self, x: Tensor) -> str:
        return "★" * int(x)

    def typical(self, n: int, seed: int) -> Tensor:
        return 1 + Rng.for_rows(seed, n).of("typical").categorical(torch.tensor([0.1, 0.1, 0.25, 0.35, 0.2]).expand(n, -1))  # fmt: skip


class RatingEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(3.45))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.to(self.mean.dtype) - self.mean) / 1.2)[:, None]  # type: ignore[arg-type]


class Rounded(Plain):
    """Four temperatures, written to a tenth of a degree, without limits."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((4,)), (4,), (2, 4)

    def encode(self, x: Tensor) -> Tensor:
        return (x - 11) / 8

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return gaussian(11 + 8 * params[:, 0], bounded_log_scale(params[:, 1]) + math.log(8), x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x = 11 + 8 * params[:, 0]
        if rng is not None:
            x = x + (bounded_log_scale(params[:, 1]) + math.log(8)).exp() * rng.normal(4, dtype=params.dtype)
        return x

    def show(self, x: Tensor) -> str:
        return "  ".join(f"{value:.1f} °C" for value in x.tolist())

    def metrics(self) -> Mapping[str, Metric]:
        return {"rmse": lambda prediction, target: (prediction - target).square().mean(1).sqrt()}

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        return ((11 + 8 * (0.8 * rng.of("common").normal(1) + 0.6 * rng.of("own").normal(4))) * 10).round() / 10


class Points(Plain):
    """Four points in space, channels last; their code is flat."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((4, 3)), (12,), (2, 4, 3)

    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        return where.flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1) / 3

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return gaussian(3 * params[:, 0], bounded_log_scale(params[:, 1]), x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        x = 3 * params[:, 0]
        return x if rng is None else x + bounded_log_scale(params[:, 1]).exp() * rng.normal(4, 3, dtype=params.dtype)

    def metrics(self) -> Mapping[str, Metric]:
        return {"distance": lambda prediction, target: (prediction - target).norm(dim=2).mean(1)}

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        return 3 * (0.8 * rng.of("common").normal(1, 3) + 0.6 * rng.of("own").normal(4, 3))


class Mixture(Plain):
    """Two numbers of two modes each: a mixture of two Gaussians, whose point is the likelier mode's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2,)), (2,), (4, 2)

    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def _parts(params: Tensor) -> tuple[Tensor, Tensor]:
        means = torch.stack([params[:, 0] - 2, params[:, 1] + 2], dim=-1)
        return means, torch.stack([-params[:, 2], params[:, 2]], dim=-1).log_softmax(-1)

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        means, chances = self._parts(params)
        scale = bounded_log_scale(params[:, 3]) - 1
        return -(chances - gaussian(means, scale[..., None], x[..., None])).logsumexp(-1)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        means, chances = self._parts(params)
        if rng is None:
            return (means * chances.exp()).sum(-1)
        second = rng.of("mode").uniform(2, dtype=torch.float64) < chances[..., 1].double().exp()
        mean = torch.where(second, means[..., 1], means[..., 0])
        return mean + (bounded_log_scale(params[:, 3]) - 1).exp() * rng.of("noise").normal(2, dtype=params.dtype)

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        side = torch.where(rng.of("side").uniform(1) < 0.5, -2.0, 2.0)
        return side + 0.4 * rng.of("own").normal(2)


class Unseen(Plain):
    """Two yes-or-no answers, spelled as truths, always shown as words."""

    discrete = True

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((2,), torch.bool), (2,), (2,)

    def encoder(self) -> Encoder:
        return UnseenEncoder()

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(params, x.to(params.dtype), reduction="none")

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        return params > 0 if rng is None else rng.uniform(2, dtype=torch.float64) < params.double().sigmoid()

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        return (2 * params.sigmoid() - 1).to(params.dtype)

    def read(self, raw: Any) -> Tensor:
        x = torch.as_tensor(raw) if isinstance(raw, list | tuple | np.ndarray | Tensor) else None
        if x is None or x.dtype != torch.bool or x.shape != (2,):
            raise RequestError(f"found {type(raw).__name__}, expected two truths")
        return x

    def raw(self, x: Tensor) -> Any:
        return x.tolist()

    def show(self, x: Tensor) -> str:
        return ", ".join("yes" if one else "no" for one in x.tolist())

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        first = rng.of("first").uniform(1) < 0.5
        return torch.cat([first, first ^ (rng.of("other").uniform(1) < 0.2)], dim=1)


class UnseenEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("two", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.two * x.to(self.two.dtype) - 1  # type: ignore[arg-type]


class Rare(Plain):
    """Three numbers of rare events, Poisson, as real numbers from 0 on.

    Args:
        factorial: the logarithm of ``x!``.
    """

    most = 60

    def __init__(self, factorial: Callable[[Tensor], Tensor] = lambda x: torch.lgamma(x + 1)) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,), torch.float32, 0.0, None), (3,), (1, 3)
        self.factorial = factorial

    def encode(self, x: Tensor) -> Tensor:
        return (x - 3) / 3**0.5

    @staticmethod
    def rate(params: Tensor) -> Tensor:
        return 3 * torch.tanh(params[:, 0]).exp()

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        rate = self.rate(params)
        return rate - x * rate.log() + self.factorial(x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        rate = self.rate(params)
        if rng is None:
            return rate.round()
        k = torch.arange(self.most, dtype=torch.float64, device=params.device)
        wide = rate.double()[..., None]
        below = (k * wide.log() - wide - torch.lgamma(k + 1)).exp().cumsum(-1)
        u = rng.uniform(3, dtype=torch.float64)
        return (u[..., None] > below).sum(-1).to(params.dtype)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        return encode(self.rate(params))

    def control(self) -> Control:
        return Numbers(tuple(Number(low=0, span=(0, 10), whole=True, name=str(k)) for k in range(3)))

    def typical(self, n: int, seed: int) -> Tensor:
        return self.answer(torch.zeros(n, 1, 3), Rng.for_rows(seed, n).of("typical"))


class Incomes(Plain):
    """Three incomes, log-normal, whose code is no logarithm: the point is the median, the expected code that of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,), torch.float32, 1e-6, None), (3,), (2, 3)

    def encode(self, x: Tensor) -> Tensor:
        return (x - 1.13) / 0.6

    @staticmethod
    def parts(params: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * torch.tanh(params[:, 0] / 2), 0.5 * torch.tanh(params[:, 1]) - 0.7

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return gaussian(*self.parts(params), x.log()) + x.log()

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        mean, log_scale = self.parts(params)
        log = mean if rng is None else mean + log_scale.exp() * rng.normal(3, dtype=params.dtype)
        return log.clamp(-13, 13).exp()

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        mean, log_scale = self.parts(params)
        return encode((mean + 0.5 * (2 * log_scale).exp()).exp())

    def typical(self, n: int, seed: int) -> Tensor:
        return (0.5 * Rng.for_rows(seed, n).of("typical").normal(3)).exp()


KINDS: Mapping[str, Callable[[], Modality]] = {
    "incomes": Incomes,
    "rare events": Rare,
    "angles": Angle,
    "correlated numbers": Correlated,
    "pair of classes": Pair,
    "rain": Rain,
    "stars": Rating,
    "rounded temperatures": Rounded,
    "points in space": Points,
    "two modes": Mixture,
    "truths": Unseen,
    "one number": lambda: ScalarModality(mean=40.0, std=12.0),
    "heavy tails": lambda: ScalarModality(3, mean=5.0, std=2.0, tail="student"),
    "percentage": lambda: ScalarModality(low=0.0, high=100.0, mean=60.0, std=20.0),
    "prices by their logarithm": lambda: ScalarModality(2, log=True, mean=3.0, std=0.8),
    "visits": lambda: ScalarModality(kind="count", mean=6.0, std=4.0),
    "quaternion": lambda: ClipModality(4),
    "x-ray of 16 bits": lambda: ImageModality(1, 8, levels=65536, limits=[0, 65535]),
    "colours with alpha": lambda: ImageModality(4, 8),
    "wide picture": lambda: ImageModality(3, (4, 12)),
    "map with holes and colours": lambda: MaskModality(
        (6, 4), colours=["#000000", "#ff0000", "#00ff00"], ignore=["#ffffff"]
    ),
}
"""By what they are."""
