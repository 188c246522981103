"""Embedding vectors of any width, on the unit sphere or not."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore import Decoder, Encoder, LossTerm, Metric, Modality, RequestError, Rng, Space, Spec, files
from mmcore.data.decode import READERS
from mmcore.limits import FILE, SPACE, takes
from mmcore.modality import NoisyCode
from mmcore.modality.heads import PooledHead
from mmcore.modality.likelihood import bounded_log_scale, gaussian, total, unbounded_log_scale
from mmcore.options import above, require, whole

MAX_LOG_KAPPA = 14.0


class ClipModality(Modality):
    """Embedding vectors ``(width,)``.

    With ``unit_norm`` the likelihood is the power spherical distribution (De Cao and Aziz 2020), a density on
    the sphere ``∝ (1 + μ·x)^κ`` with a closed-form normaliser; without, a Gaussian with one deviation per vector.

    Args:
        width: of an embedding, at least 2.
        unit_norm: vectors are read to, and stay at, norm 1.
        scale: standard deviation of an element in the data; by default 1, or ``1/sqrt(width)`` with ``unit_norm``.
    """

    def __init__(self, width: int = 512, *, unit_norm: bool = True, scale: float | None = None) -> None:
        require("clip", width=(width, whole(2)), scale=(scale, above(0).or_none()))
        SPACE.check("clip", "width", width, width, takes(width))
        self.name = "clip"
        self.width, self.unit_norm = width, unit_norm
        self.scale = scale or (width**-0.5 if unit_norm else 1.0)
        self.spec = Spec((width,), torch.float32, unit_norm=unit_norm)
        self.code = (width,)

    def encoder(self) -> Encoder:
        return ClipEncoder(self.scale)

    def decoder(self, width: int, space: Space) -> Decoder:
        return (SphereDecoder if self.unit_norm else VectorDecoder)(width, space, self.width, self.scale)

    def loss(self) -> LossTerm:
        return sphere_loss if self.unit_norm else vector_loss

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        """The code of the mean, the encoder being linear; inside the sphere with ``unit_norm``."""
        if not self.unit_norm:
            return encode(params[:, :-1])
        direction, kappa = _sphere(params)
        beta = (self.width - 1) / 2
        return encode(direction * (kappa / (kappa + 2 * beta))[:, None].to(direction.dtype))

    def read(self, raw: Any) -> Tensor:
        """A vector ``(width,)`` or ``(1, width)``, or the path of a ``.npy`` or ``.safetensors`` file that holds just one."""
        if isinstance(raw, str | Path):
            raw = _load(Path(raw))
        if isinstance(raw, list | tuple):
            try:
                raw = np.asarray(raw, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise RequestError(
                    f"found a list that is no vector ({error}), expected {self.width} numbers"
                ) from error
        if not isinstance(raw, np.ndarray | Tensor):
            raise RequestError(f"found {type(raw).__name__}, expected a vector or a path")
        x = torch.as_tensor(np.array(raw, raw.dtype.newbyteorder("="))) if isinstance(raw, np.ndarray) else raw
        if x.shape == (1, self.width):
            x = x[0]
        if x.shape != (self.width,):
            raise RequestError(f"found shape {tuple(x.shape)}, expected ({self.width},)")
        if not x.is_floating_point():
            raise RequestError(f"found dtype {x.dtype}, expected floats")
        x = x.float()
        if not x.isfinite().all():
            raise RequestError("found NaN or infinity, expected finite numbers")
        if self.unit_norm:
            if x.norm() < 1e-6:
                raise RequestError(f"found a vector of norm {x.norm():.3g}, expected one with a direction")
            x = x / x.norm()
        return x

    def show(self, x: Tensor) -> str:
        head = ", ".join(f"{v:.2f}" for v in x[:4].tolist())
        return f"[{head}{', …' if self.width > 4 else ''}] (norm {x.norm():.2f})"

    def metrics(self) -> Mapping[str, Metric]:
        return {"cosine": lambda prediction, target: F.cosine_similarity(prediction, target, dim=1)}

    def measured(self, samples: Tensor) -> Mapping[str, Any]:
        """The deviation of an element from 0, about which the code is scaled."""
        return {} if self.unit_norm else {"scale": max(float(f"{samples.double().square().mean().sqrt():.4g}"), 1e-6)}

    def typical(self, n: int, seed: int) -> Tensor:
        """Isotropic vectors."""
        x = Rng.for_rows(seed, n).of("typical").normal(self.width)
        return x / x.norm(dim=1, keepdim=True) if self.unit_norm else x * self.scale


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".npy":
            return READERS[".npy"][1](files.read(path, FILE))
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            tensors = load(files.read(path, FILE))
            if len(tensors) != 1:
                raise RequestError(f"found {path} with {len(tensors)} tensors, expected one")
            return next(iter(tensors.values()))
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"found {path} unreadable ({error}), expected a .npy or .safetensors file") from error
    raise RequestError(f"found {path}, expected a .npy or .safetensors file")


class ClipEncoder(Encoder):
    """The vector over its elements' deviation."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x / self.scale


class VectorDecoder(Decoder):
    """``(B, width + 1)``: the mean, and a raw log deviation last."""

    preconditioned = True

    def __init__(self, features: int, space: Space, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.head = PooledHead(features, space, width + 1)

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        out, log_unit = self.head(features), math.log(self.scale)
        mean, raw = out[:, :-1], out[:, -1:] + log_unit
        if own is not None:
            mean, log_scale = own.around(mean, bounded_log_scale(raw) - log_unit)
            raw = unbounded_log_scale(log_scale + log_unit)
        return torch.cat([mean * self.scale, raw], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params[:, :-1]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, raw = params[:, :-1], params[:, -1:]
        return mean + bounded_log_scale(raw).exp() * rng.normal(mean.shape[1], dtype=mean.dtype)


def vector_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The Gaussian's nats per sample."""
    return total(gaussian(params[:, :-1], bounded_log_scale(params[:, -1:]), target), where)


class SphereDecoder(Decoder):
    """``(B, width + 1)``: a direction, and ``log κ`` last."""

    preconditioned = True

    def __init__(self, features: int, space: Space, width: int, scale: float) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.head = PooledHead(features, space, width + 1)
        # A fixed direction to begin with: the head starts at zero, which has none.
        self.register_buffer("start", torch.full((width,), width**-0.5), persistent=False)

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        out = self.head(features)
        direction = F.normalize(out[:, :-1] + self.start, dim=1)  # type: ignore[operator]
        params = torch.cat([direction, out[:, -1:] + 1.0], dim=1)
        return params if own is None else self._joined(params, own)

    def _joined(self, params: Tensor, own: NoisyCode) -> Tensor:
        r"""Bayes' rule on the sphere: where all else says ``params``, and the vector's own noisy code what it says.

        All codes being of one length, ``z = W x / scale + σ ε`` has the likelihood ``exp(g z·x)`` with ``g = W / (scale σ²)``, to which the distribution of von Mises
        and Fisher is conjugate: ``κ' μ' = κ μ + g z``. A power spherical one counts as that of the same mean length ``ρ``, by Amos' approximation of the ratio
        of Bessel functions (1974), ``ρ = κ / (b + sqrt((b + 1)² + κ²))`` with ``b = (d - 1)/2``, right for small and for large ``κ``.
        """
        dtype = torch.result_type(params, own.z)
        direction, power = _sphere(params)
        b, d = (self.width - 1) / 2, self.width
        rho, rest = power / (power + 2 * b), 2 * b / (power + 2 * b)
        gap = rest * (1 + rho)
        fisher = rho * (b + (b**2 + d * gap).sqrt()) / gap
        gain = own.weight.to(power.dtype) / (self.scale * own.sigma.to(power.dtype).square())
        joined = fisher[:, None] * direction + gain[:, None] * own.z
        fisher = joined.norm(dim=1)
        power = 2 * b * fisher / (b + (b + 1) ** 2 / (((b + 1) ** 2 + fisher.square()).sqrt() + fisher))
        log_kappa = MAX_LOG_KAPPA * torch.atanh((power.log() / MAX_LOG_KAPPA).clamp(-0.999, 0.999))
        return torch.cat([joined / fisher[:, None], log_kappa[:, None]], dim=1).to(dtype)

    def point(self, params: Tensor) -> Tensor:
        return _sphere(params)[0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        """``x = Householder(t, sqrt(1 - t²) v)``, ``(1 + t)/2 ~ Beta(β + κ, β)``, ``β = (d - 1)/2``, by two gammas."""
        direction, kappa = _sphere(params)
        d = self.width
        beta = (d - 1) / 2
        tangent = rng.of("tangent").normal(d - 1, dtype=torch.float64)
        # Gamma((d - 1)/2) is half a chi-square, that is a sum of d - 1 squared normals.
        second = 0.5 * rng.of("second").normal(d - 1, dtype=torch.float64).square().sum(1)
        # Marsaglia and Tsang need a shape of at least 1: draw at shape + 1 and shrink (their note 6).
        alpha = beta + kappa.double()
        first = rng.of("first").gamma(alpha + 1) * rng.of("shrink").uniform(dtype=torch.float64).pow(1 / alpha)
        t = (2 * first / (first + second) - 1)[:, None]
        unit = tangent / tangent.norm(dim=1, keepdim=True)
        x = torch.cat([t, (1 - t.square()).clamp(min=0).sqrt() * unit], dim=1)
        axis = F.normalize(_first_axis(direction.double()) - direction.double(), dim=1, eps=1e-12)
        x = x - 2 * (x * axis).sum(1, keepdim=True) * axis
        return F.normalize(x, dim=1).to(params.dtype)


def _first_axis(like: Tensor) -> Tensor:
    e = torch.zeros_like(like)
    e[:, 0] = 1
    return e


def _sphere(params: Tensor) -> tuple[Tensor, Tensor]:
    """The unit direction ``(B, d)`` and the concentration ``κ (B,)``, in float32 at least: half precision ends before ``κ`` does."""
    raw = params[:, -1].to(torch.promote_types(params.dtype, torch.float32))
    log_kappa = MAX_LOG_KAPPA * torch.tanh(raw / MAX_LOG_KAPPA)
    return F.normalize(params[:, :-1], dim=1), log_kappa.exp()


def sphere_loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """The power spherical distribution's nats per sample, with respect to the sphere's area.

    Its elements depend on one another, so a vector counts as a whole: where any element is hidden it gives 0.
    """
    direction, kappa = _sphere(params)
    d = target.shape[1]
    beta = (d - 1) / 2
    # The terms are large beside their sum, of up to a million κ: in single precision it would be off by nats.
    kappa = kappa.double()
    alpha = beta + kappa
    # log(2^κ Z): the rest of 2^(α + β) goes with the logarithm below.
    log_normaliser = (
        2 * beta * math.log(2) + beta * math.log(math.pi) + torch.lgamma(alpha) - torch.lgamma(alpha + beta)
    )
    # (1 + μ·x)/2 as 1 - |μ - x|²/4 keeps its digits near the mode; the floor keeps the antipode finite.
    away = (0.25 * (direction - target).square().sum(1)).clamp(max=1 - 5e-7).double()
    nll = (log_normaliser - kappa * torch.log1p(-away)).to(params.dtype)
    return nll if where is None else torch.where(where.all(1), nll, torch.zeros_like(nll))
