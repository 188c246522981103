"""Healthy modalities of kinds that the shipped plugins are not: the kit must find no fault with any.

Each is as small as it can be. What they have in common is in :class:`Plain`.
"""

import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import mmcore
from mmcore import Decoder, Encoder, LossTerm, Modality, RequestError, Rng, Space, Spec
from mmcore.modality.heads import PooledHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total
from mmcore.scaffold import new_plugin
from mmcore.testing.reference import Reference
from mmcore_clip import ClipModality
from mmcore_image import ImageModality
from mmcore_label import LabelModality


class By(Encoder):
    """An encoder by a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Head(Decoder):
    """Parameters ``(B, *shape)`` by a pooled head; ``modality`` says what they mean."""

    def __init__(self, modality: "Plain", width: int, space: Space) -> None:
        super().__init__()
        self.shape, self.answer = modality.params, modality.answer
        self.head = PooledHead(width, space, math.prod(self.shape), pools=4, hidden=32)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features).unflatten(1, self.shape)

    def point(self, params: Tensor) -> Tensor:
        return self.answer(params, None)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return self.answer(params, rng)


class Plain(Modality):
    """What these modalities have in common.

    Attributes:
        params: the shape of a row of parameters.
    """

    params: tuple[int, ...]

    def __init__(self) -> None:
        self.name = type(self).__name__.lower()

    def encode(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        """A draw, or without an rng the point."""
        raise NotImplementedError

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        """Of each element."""
        raise NotImplementedError

    def encoder(self) -> Encoder:
        return By(self.encode)

    def decoder(self, width: int, space: Space) -> Decoder:
        return Head(self, width, space)

    def loss(self) -> LossTerm:
        return lambda params, target, where=None: total(self.nats(params, target), where)

    def read(self, raw: Any) -> Tensor:
        try:
            x = torch.as_tensor(raw)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected numbers") from error
        x = x.to(self.spec.dtype)
        self.spec.check(x[None], self.name)
        return x

    def show(self, x: Tensor) -> str:
        return str(x.tolist())


class Counts(Plain):
    """Three counts without a limit, negative binomial: the mean's logarithm and the shape's, for each."""

    discrete = True
    support = 4096

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,), torch.int64, 0, None), (3,), (2, 3)

    def encoder(self) -> Encoder:
        return CountEncoder()

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, shape = params.double().unbind(1)
        return 2 + 3 * torch.tanh(mean / 2), 1 + (3 * torch.tanh(shape / 3)).exp()

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        log_mean, r = self._parts(params)
        k = x.double()
        log_p = log_mean - torch.logaddexp(log_mean, r.log())
        log_q = r.log() - torch.logaddexp(log_mean, r.log())
        nats = torch.lgamma(r) + torch.lgamma(k + 1) - torch.lgamma(k + r) - r * log_q - k * log_p
        return nats.to(params.dtype)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        log_mean, r = self._parts(params)
        if rng is None:
            return log_mean.exp().round().long()
        rate = torch.stack([rng.of(f"rate {e}").gamma(r[:, e]) for e in range(3)], dim=1) * log_mean.exp() / r
        u = rng.of("count").uniform(3, dtype=torch.float64)
        low, high = torch.zeros_like(rate), torch.full_like(rate, 2.0**14)
        for _ in range(15):
            middle = ((low + high) / 2).floor()
            enough = torch.special.gammaincc(middle + 1, rate) >= u
            low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
        return high.long()

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        k = torch.arange(self.support, device=params.device)[:, None].expand(-1, 3)
        codes = encode(k).double()
        rows = [(-self.nats(row[None].double(), k)).exp().mul(codes).sum(0) for row in params]
        return torch.stack(rows).to(params.dtype)

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        common = rng.of("common").normal(1) + 0.3 * rng.of("own").normal(3)
        return (2 + common).exp().round().clamp(max=5000).long()


class CountEncoder(Encoder):
    """The logarithm of one more, about its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(2.15))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.mean.dtype) + 1).log() - self.mean  # type: ignore[operator]


class UnknownLabel(LabelModality):
    """Four classes, in which a label may be missing: the spec says so."""

    def __init__(self) -> None:
        super().__init__(4, frequencies=[0.4, 0.3, 0.2, 0.1])
        self.spec = Spec((), torch.int64, 0, 3, void=-1)

    def read(self, raw: Any) -> Tensor:
        return torch.tensor(-1) if isinstance(raw, str) and raw == "?" else self._known(raw)

    def _known(self, raw: Any) -> Tensor:
        plain = raw.item() if isinstance(raw, Tensor | np.ndarray) and raw.ndim == 0 else raw
        return torch.tensor(-1) if isinstance(plain, int) and plain == -1 else super().read(raw)

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        # Its constructor takes nothing.
        return {}

    def raw(self, x: Tensor) -> Any:
        return int(x)

    def show(self, x: Tensor) -> str:
        return "?" if int(x) < 0 else super().show(x)

    def typical(self, n: int, seed: int) -> Tensor:
        missing = Rng.for_rows(seed, n).of("missing").uniform() < 0.1
        return torch.where(missing, -1, super().typical(n, seed))


class Audio(Plain):
    """Sixteen steps of 16-bit sound, of a logistic distribution made discrete."""

    step = 1 / 32768

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code = Spec((1, 16), torch.float32, -1.0, 1.0), (1, 16)
        self.params = (2, 1, 16)

    def encode(self, x: Tensor) -> Tensor:
        return x / 0.25

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return 0.25 * params[:, 0], bounded_log_scale(params[:, 1]) - 2.5

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self._parts(params.double())
        x, width = x.double(), self.step * (-log_scale).exp()
        z = (x - mean) * (-log_scale).exp()
        # log(sigmoid(z + w/2) - sigmoid(z - w/2)), the ends having all that lies beyond.
        low, high = z - width / 2, z + width / 2
        inner = -F.softplus(-high) - F.softplus(low) + torch.log(-torch.expm1(-width))
        nats = torch.where(x <= -1, F.softplus(-high), torch.where(x >= 1, F.softplus(low), -inner))
        return nats.to(params.dtype)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        mean, log_scale = self._parts(params.double())
        if rng is not None:
            u = rng.uniform(1, 16, dtype=torch.float64)
            mean = mean + log_scale.exp() * (u / (1 - u)).log()
        return ((mean / self.step).round() * self.step).clamp(-1, 1).to(params.dtype)

    def read(self, raw: Any) -> Tensor:
        """Numbers in -1 … 1, or whole ones of 16 bits; two channels are mixed, and the beginning of what is longer is taken."""
        try:
            x = torch.as_tensor(raw)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"found {type(raw).__name__}, expected sound") from error
        if x.dtype == torch.int16:
            x = x * self.step
        if x.ndim > 1:
            x = x.flatten(0, -2).mean(0)
        if x.ndim != 1 or len(x) < 16:
            raise RequestError(f"found shape {tuple(x.shape)}, expected 16 steps")
        x = x[None, :16].float()
        self.spec.check(x[None], self.name)
        return x

    def raw(self, x: Tensor) -> np.ndarray:
        return (x[0] / self.step).round().clamp(-32768, 32767).numpy().astype(np.int16)

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        x = 0.25 * (0.9 * rng.of("common").normal(1, 1) + 0.45 * rng.of("own").normal(1, 16))
        return ((x / self.step).round() * self.step).clamp(-1, 1 - self.step)


class Positive(Plain):
    """Three prices, log-normal."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((3,), torch.float32, 1e-6, None), (3,), (2, 3)

    def encode(self, x: Tensor) -> Tensor:
        return (x.log() - 3) / 1.2

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        y = x.log()
        return gaussian(3 + 1.2 * params[:, 0], bounded_log_scale(params[:, 1]), y) + y

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        y = 3 + 1.2 * params[:, 0]
        if rng is not None:
            y = y + bounded_log_scale(params[:, 1]).exp() * rng.normal(3, dtype=params.dtype)
        return y.clamp(-13, 60).exp()

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        return (3 + 1.2 * (0.9 * rng.of("common").normal(1) + 0.44 * rng.of("own").normal(3))).exp()


class Limited(Positive):
    """Prices that are never above a million, clipped, coded in their own units."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec((3,), torch.float32, 0.01, 1e6)

    def encode(self, x: Tensor) -> Tensor:
        return (x - 30) / 34

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        scale = bounded_log_scale(params[:, 1] - 1).exp()
        return encode((3 + 1.2 * params[:, 0] + 0.5 * scale.square()).exp())

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        return super().nats(torch.stack([params[:, 0], params[:, 1] - 1], dim=1), x)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        return super().answer(torch.stack([params[:, 0], params[:, 1] - 1], dim=1), rng).clamp(0.01, 1e6)

    def typical(self, n: int, seed: int) -> Tensor:
        return (3 + 0.9 * (super().typical(n, seed).log() - 3) / 1.2).exp()


class Columns(Plain):
    """Columns of a table in one row: two numbers of different size, one of three classes, and yes or no."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.code, self.params = Spec((4,), torch.float32), (4,), (8,)

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], x[:, 1] / 1000, (x[:, 2] - 0.8) / 0.75, (x[:, 3] - 0.7) / 0.46], dim=1)

    def nats(self, params: Tensor, x: Tensor) -> Tensor:
        number = gaussian(params[:, 0], bounded_log_scale(params[:, 1]), x[:, 0])
        sum_ = gaussian(params[:, 2], bounded_log_scale(params[:, 3]), x[:, 1] / 1000) + math.log(1000)
        kind = F.cross_entropy(params[:, 4:7], x[:, 2].round().long().clamp(0, 2), reduction="none")
        yes = F.binary_cross_entropy_with_logits(params[:, 7], x[:, 3].clamp(0, 1), reduction="none")
        return torch.stack([number, sum_, kind, yes], dim=1)

    def answer(self, params: Tensor, rng: Rng | None) -> Tensor:
        chances = params[:, 4:7].softmax(1)
        if rng is None:
            parts = [params[:, 0], params[:, 2], chances.argmax(1), params[:, 7] > 0]
        else:
            z = rng.of("number").normal(2, dtype=params.dtype)
            yes = rng.of("yes").uniform(dtype=torch.float64) < params[:, 7].double().sigmoid()
            parts = [
                params[:, 0] + bounded_log_scale(params[:, 1]).exp() * z[:, 0],
                params[:, 2] + bounded_log_scale(params[:, 3]).exp() * z[:, 1],
                rng.of("kind").categorical(chances),
                yes,
            ]
        x = torch.stack([part.to(params.dtype) for part in parts], dim=1)
        return torch.cat([x[:, :1], 1000 * x[:, 1:2], x[:, 2:]], dim=1)

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        chances = params[:, 4:7].softmax(1)
        kind = chances[:, 1] + 2 * chances[:, 2]
        return encode(torch.stack([params[:, 0], 1000 * params[:, 2], kind, params[:, 7].sigmoid()], dim=1))

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        x = 0.8 * rng.of("common").normal(1) + 0.6 * rng.of("own").normal(4)
        kind = (x[:, 2] > -0.3).float() + (x[:, 2] > 0.8)
        return torch.stack([x[:, 0], 1000 * x[:, 1], kind, (x[:, 3] > -0.5).float()], dim=1)


class Scaffold(Reference):
    """Vectors of numbers far from 0 and 1: what the scaffold writes, in their own units."""

    mean, std = 40.0, 200.0

    def __init__(self, size: int = 8) -> None:
        super().__init__(size)

    def encoder(self) -> Encoder:
        return By(lambda x: (x - self.mean) / self.std)

    def decoder(self, width: int, space: Space) -> Decoder:
        return ScaffoldDecoder(width, space, self.spec.shape[0], self.mean, self.std)

    def loss(self) -> LossTerm:
        return lambda params, x, where=None: total(gaussian(params[:, 0], params[:, 1], x), where)

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        return self.mean + self.std * 0.5**0.5 * (rng.of("common").normal(1) + rng.of("own").normal(*self.spec.shape))


class ScaffoldDecoder(Decoder):
    def __init__(self, width: int, space: Space, size: int, mean: float, std: float) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, mean, std
        self.head = PooledHead(width, space, 2 * size)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        out = self.head(features).unflatten(1, (2, self.size))
        return torch.stack([self.mean + self.std * out[:, 0], bounded_log_scale(out[:, 1]) + math.log(self.std)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return params[:, 0] + params[:, 1].exp() * rng.normal(self.size, dtype=params.dtype)


def scaffolded(kind: str) -> Callable[[], Modality]:
    """What ``mmcore new-plugin`` writes for a kind of data, as it stands."""

    def make() -> Modality:
        with tempfile.TemporaryDirectory() as folder:
            new_plugin(f"wider-{kind}", kind=kind, out=Path(folder), registry=mmcore.discover())
            name = f"mmcore_wider_{kind}"
            path = Path(folder) / f"mmcore-wider-{kind}" / name / "modality.py"
            spec = importlib.util.spec_from_file_location(f"{name}_modality", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return getattr(module, f"Wider{kind.capitalize()}Modality")()

    return make


WIDER: Mapping[str, Callable[[], Modality]] = {
    "counts": Counts,
    "label with void": UnknownLabel,
    "16-bit audio": Audio,
    "log-normal": Positive,
    "log-normal with limits": Limited,
    "mixed columns": Columns,
    "deviation of 200": Scaffold,
    **{f"new-plugin, {kind}": scaffolded(kind) for kind in ("text", "series", "depth", "table", "pretrained")},
    "embedding of scale 50": lambda: ClipModality(16, unit_norm=False, scale=50.0),
    "image of 65,536 levels": lambda: ImageModality(1, 4, levels=65536),
    "label, one of 20": lambda: LabelModality(2, frequencies=[0.95, 0.05]),
    "label, two of 100": lambda: LabelModality(3, frequencies=[0.98, 0.01, 0.01]),
    "label, nine of ten": lambda: LabelModality(10, frequencies=[0.9, *[0.1 / 9] * 9]),
}
"""By what they are."""
