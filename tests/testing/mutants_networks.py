"""Backbones and noise schedules broken on purpose, and those that must pass."""

import functools
import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore import Schedule
from mmcore.model.backbones.mlp import Mlp
from mmcore.model.backbones.transformer import Transformer
from mmcore.process import schedule
from tests.testing.mutants import Mutant


def laplace(steps: int, modalities: int) -> Schedule:
    """The log signal-to-noise ratio goes by a Laplace distribution's quantiles and a little faster; wrong numbers are refused by torch."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    away = u * (1 - 2e-6) + 1e-6 - 0.5
    ratio = 1.05 * away.sign() * torch.log1p(-2 * away.abs()) + 2 * (0.5 - u)
    A = ratio.sigmoid() / ratio[0].sigmoid()
    return Schedule.from_cumulative(A.log(), A.sqrt()[:, None].repeat(1, modalities))


SCHEDULES: dict[str, Callable[..., Any]] = {**schedule.NAMED, "laplace": laplace}


def small(**options: Any) -> dict[str, Any]:
    """Options of a transformer that takes little time."""
    return {"width": 32, "depth": 1, "heads": 2, "features": 8, **options}


class Small(Transformer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**small(**options))


class Dropped(Small):
    """Dropout, declared by torch's module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop = nn.Dropout(0.2)

    def forward(self, *x: Tensor) -> Tensor:
        return self.drop(super().forward(*x))


class AlwaysDropped(Dropped):
    """Dropout that goes on in evaluation."""

    def forward(self, *x: Tensor) -> Tensor:
        self.drop.train()
        return super().forward(*x)


class DroppedAndNoisy(Dropped):
    """Noise of its own in training, beside declared dropout."""

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return y + 0.01 * torch.randn_like(y) if self.training else y


class DroppedAndDoubled(Dropped):
    """Twice the features in training, beside declared dropout."""

    def forward(self, *x: Tensor) -> Tensor:
        return super().forward(*x) * (2 if self.training else 1)


class Frozen(Small):
    """A layer that is not trained."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fixed = nn.Conv1d(self.features, self.features, 1).requires_grad_(False)

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return y + self.fixed(y.flatten(2)).reshape(y.shape)


class HalfInside(Small):
    """Its last layer in half precision, whatever the rest is in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last = nn.Parameter(torch.eye(self.features))

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return torch.einsum("bc...,cd->bd...", y.bfloat16(), self.last.bfloat16()).to(y.dtype)


class Attending(nn.Module):
    """Attention over places by torch's own layer, with its separate biases; everything else is linear or GELU."""

    def __init__(
        self, *, space: Any, modalities: int, steps: int, blocks: int, width: int = 24, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.features, self.T = 5, steps
        self.read = nn.Linear(3 * space.shape[0], width)
        self.times = nn.Sequential(nn.Linear(2 * blocks, width), nn.GELU(), nn.Linear(width, width))
        self.roles = nn.Embedding(3 * modalities, width)
        self.places = nn.Parameter(torch.randn(space.size // space.shape[0], width) / 4)
        self.attend = nn.MultiheadAttention(width, 2, dropout=drop, batch_first=True)
        self.norm, self.write = (
            nn.LayerNorm(width),
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 5)),
        )

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        x = self.read(torch.cat([z, condition], dim=1).flatten(2).transpose(1, 2)) + self.places
        u = t.to(z.dtype) / self.T
        which = roles + 3 * torch.arange(roles.shape[1], device=roles.device)
        c = self.times(torch.cat([u, (4 * u).sin()], dim=1)) + self.roles(which).sum(1)
        y = self.norm(x + c[:, None])
        x = x + self.attend(y, y, y, need_weights=False)[0]
        return self.write(x * (1 + c[:, None])).transpose(1, 2).reshape(len(z), 5, *z.shape[2:])


class Gru(nn.Module):
    """A GRU that goes over patches of four places, there and back; it learns slowly."""

    def __init__(self, *, space: Any, modalities: int, steps: int, blocks: int, width: int = 16) -> None:
        super().__init__()
        self.features, self.T, self.patch = 8, steps, 4
        self.read = nn.Linear(3 * space.shape[0] * self.patch, width)
        self.times = nn.Sequential(nn.Linear(blocks, width), nn.SiLU(), nn.Linear(width, width))
        self.roles = nn.Embedding(3 * modalities, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.write = nn.Linear(2 * width, self.features * self.patch)

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        x = torch.cat([z, condition], dim=1).flatten(2)
        x = F.pad(x, (0, -x.shape[2] % self.patch)).unflatten(2, (-1, self.patch)).movedim(2, 1).flatten(2)
        which = roles + 3 * torch.arange(roles.shape[1], device=roles.device)
        c = self.times(t.to(z.dtype) / self.T) + self.roles(which).sum(1)
        y = self.write(self.gru(self.read(x) + c[:, None])[0])
        y = y.unflatten(2, (self.features, self.patch)).movedim(2, 1).flatten(2)[:, :, : z[0, 0].numel()]
        return y.reshape(len(z), self.features, *z.shape[2:])


BACKBONES: dict[str, Callable[..., Any]] = {
    "small": Small, "transformer": Transformer, "mlp": Mlp, "dropout": Dropped, "frozen parts": Frozen, "half precision inside": HalfInside,
    "GRU": Gru, "attention": Attending, "attention with dropout": functools.partial(Attending, drop=0.1),
}  # fmt: skip

# ---- backbones ----


def backbone(**changes: Any) -> Callable[[Path], Any]:
    """The transformer with methods changed."""
    return lambda _: type("BrokenTransformer", (Small,), changes)


def given(change: Callable[..., tuple[Any, ...]]) -> Callable[[Path], Any]:
    """The transformer whose inputs are changed, by ``change(self, z, t, roles, condition)``."""
    return backbone(forward=lambda self, z, t, roles, condition: Small.forward(self, *change(self, z, t, roles, condition)))  # fmt: skip


def out(change: Callable[[Any, Tensor], Tensor]) -> Callable[[Path], Any]:
    """The transformer whose features are changed."""
    return backbone(forward=lambda self, *x: change(self, Small.forward(self, *x)))


def ahead(change: Callable[..., tuple[Tensor, ...]]) -> Callable[[Path], Any]:
    """The transformer that works out something else ahead, by ``change(self, t, roles, dtype)``, than in a call."""

    def forward(self: Any, *x: Tensor, ahead: Any = None) -> Tensor:
        return Small.forward(self, *x, ahead=Small.ahead(self, x[1], x[2], x[0].dtype) if ahead is None else ahead)

    return backbone(ahead=change, forward=forward)


def kept_ahead(self: Any, t: Tensor, roles: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What was worked out first, for good."""
    return self.__dict__.setdefault("kept", {}).setdefault(dtype, tuple(x[:1].expand_as(x) for x in Small.ahead(self, t, roles, dtype)))  # fmt: skip


def born(change: Callable[[Any], None], forward: Callable[..., Tensor] | None = None) -> Callable[[Path], Any]:
    """The transformer with something done as it is made."""

    def __init__(self: Any, **options: Any) -> None:  # noqa: N807
        Small.__init__(self, **options)
        change(self)

    return backbone(__init__=__init__, **({} if forward is None else {"forward": forward}))


def first_positions(self: Any, y: Tensor) -> Tensor:
    """Positions made for each grid when it is first met, and kept."""
    tables = self.__dict__.setdefault("tables", {})
    if y.shape[2:] not in tables:
        tables[y.shape[2:]] = torch.linspace(-1, 1, y[0, 0].numel(), dtype=y.dtype, device=y.device).reshape(y.shape[2:])  # fmt: skip
    return y + tables[y.shape[2:]]


class Misnamed(Small):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.claimed, self.features = self.features, self.features + 1

    def _unpatch(self, x: Tensor) -> Tensor:
        self.features -= 1
        try:
            return super()._unpatch(x)
        finally:
            self.features += 1


class TwoModalities(Small):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "modalities": 2})

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return super().forward(z, t, roles[:, :2].reshape(len(z), 2), condition)


class OneTimestep(Small):
    """Two timesteps are the least by which the other checks tell timesteps apart, so those it takes."""

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        return super().forward(z, t.reshape(len(z), 2) if t.shape[1] == 2 else t.reshape(len(z), 1), roles, condition)


class Norm(Small):
    """Batch normalisation of the features."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norms = nn.BatchNorm1d(self.features)

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return self.norms(y.flatten(2)).reshape(y.shape)


class NormAndDropped(Norm):
    """Batch normalisation, and a little dropout."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop = nn.Dropout(0.01)

    def forward(self, *x: Tensor) -> Tensor:
        return self.drop(super().forward(*x))


class Running(Small):
    """A running mean that is kept and not used."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("running", torch.zeros(self.features))

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        with torch.no_grad():
            self.running.lerp_(y.flatten(2).mean((0, 2)), 0.1)
        return y


class EvenOnly(Small):
    """Halves the grid and doubles it again."""

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return y if min(y.shape[2:]) < 2 else y[..., : y.shape[-1] // 2 * 2]


class Table(Small):
    """A table of T timesteps, which lacks the last."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.table = nn.Embedding(options["steps"], self.features)

    def forward(self, z: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        y = super().forward(z, t, *rest)
        return y + self.table(t[:, 0]).reshape(*y.shape[:2], *[1] * (y.ndim - 2))


SHARED: dict[Any, nn.Linear] = {}


def shares(self: Any) -> None:
    """One layer for all backbones."""
    self.timestep.roles = SHARED.setdefault(self.timestep.roles.weight.shape, self.timestep.roles)


def reseeds(self: Any) -> None:
    torch.manual_seed(0)
    nn.init.normal_(self.write.weight, std=0.1)


def by_numpy(self: Any) -> None:
    with torch.no_grad():
        self.write.weight.copy_(torch.from_numpy(0.1 * np.random.standard_normal(tuple(self.write.weight.shape))))  # noqa: NPY002


def by_python(self: Any) -> None:
    with torch.no_grad():
        self.write.weight.mul_(1 + random.random())


def doubles(self: Any) -> None:
    torch.set_default_dtype(torch.float64)


def remembers(self: Any, *x: Tensor) -> Tensor:
    self.__dict__.setdefault("history", []).append(x[1])
    return Small.forward(self, *x)


def cached(self: Any, *x: Tensor) -> Tensor:
    """What the first call of a shape gave for the timestep, kept."""
    kept = self.__dict__.setdefault("kept", {})
    t = kept.setdefault(tuple(x[1].shape), x[1])
    return Small.forward(self, x[0], t, *x[2:])


def by_place(self: Any, *x: Tensor) -> Tensor:
    """Timesteps as they were when their memory was met first."""
    kept = self.__dict__.setdefault("kept", {})
    t = kept.setdefault((x[1].data_ptr(), tuple(x[1].shape)), x[1].clone())
    return Small.forward(self, x[0], t, *x[2:])


def warms_up(self: Any, *x: Tensor) -> Tensor:
    self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
    return Small.forward(self, *x) * (1 - 0.5 ** self.__dict__["calls"])


def coarse(self: Any, z: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
    T = self.timestep.steps
    return Small.forward(self, z, t * 10 // T * T // 10 if T > 10 else t, *rest)


def half_detached(self: Any, *x: Tensor) -> Tensor:
    """Half of what every feature changes by has no gradient."""
    y = Small.forward(self, *x)
    return 0.5 * y + 0.5 * y.detach()


class Late(Small):
    """Positions that are drawn when they are first needed, for all instances."""

    places: dict[Any, Tensor] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        Late.places = {}

    def forward(self, *x: Tensor) -> Tensor:
        y = super().forward(*x)
        return y + Late.places.setdefault(y.shape[1:], 0.1 * torch.randn(y.shape[1:])).to(y)


IMPORTED = """
import torch
from mmcore.model.backbones.transformer import Transformer

TURN = torch.randn(8)

class Turned(Transformer):
    def __init__(self, **options):
        super().__init__(**{"width": 32, "depth": 1, "heads": 2, "features": 8, **options})

    def forward(self, *x):
        y = super().forward(*x)
        return y * TURN.to(y).reshape(1, -1, *[1] * (y.ndim - 2))
"""


def imported_anew(folder: Path) -> Any:
    """A backbone of a module that draws as it is imported."""
    (folder / "drawn_network_entry.py").write_text(IMPORTED)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return importlib.import_module("drawn_network_entry").Turned


BUFFER: dict[Any, Tensor] = {}


def one_buffer(self: Any, *x: Tensor) -> Tensor:
    """Features in one buffer for all calls where no gradient is recorded."""
    y = Small.forward(self, *x)
    if torch.is_grad_enabled():
        return y
    return BUFFER.setdefault(y.shape, torch.empty_like(y)).copy_(y)


def not_recorded(self: Any, *x: Tensor) -> Tensor:
    """Another arithmetic where no gradient is recorded."""
    y = Small.forward(self, *x)
    return y if torch.is_grad_enabled() else y.bfloat16().to(y.dtype)


def only_interior(self: Any, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
    """The last place of the last axis is never read."""
    keep = torch.ones(z.shape[-1])
    keep[-1] = 0 if z.shape[-1] > 1 else 1
    return Small.forward(self, z * keep.to(z), t, roles, condition)


def only_first_channel(self: Any, z: Tensor, t: Tensor, roles: Tensor, c: Tensor) -> Tensor:
    C = z.shape[1]
    channel = (torch.arange(2 * C, device=c.device) % C == 0).to(c.dtype).reshape(1, -1, *[1] * (c.ndim - 2))
    return Small.forward(self, z, t, roles, c * channel)


def copies_the_last(self: Any, y: Tensor) -> Tensor:
    """Padded to an even length, and cut again at the wrong place."""
    n = y.shape[-1]
    return torch.cat([y[..., :-1], y[..., -2:-1]], dim=-1) if n % 2 and n > 1 else y


def doubled_places(self: Any, y: Tensor) -> Tensor:
    return y[..., ::2].repeat_interleave(2, dim=-1)[..., : y.shape[-1]]


BACKBONE_MUTANTS = [
    Mutant("backbone.features", "another width than it says", lambda _: Misnamed, "backbone"),
    Mutant("backbone.features", "an odd column that is lost", lambda _: EvenOnly, "backbone"),
    Mutant("backbone.features", "channels last", out(lambda self, y: y.movedim(1, -1)), "backbone"),
    Mutant("backbone.features", "an odd column that copies its neighbour", out(copies_the_last), "backbone"),
    Mutant("backbone.features", "features of every second place, each twice", out(doubled_places), "backbone"),
    Mutant("backbone.features", "features of all places together", out(lambda self, y: y.flatten(2).mean(2).reshape(*y.shape[:2], *[1] * (y.ndim - 2)).expand_as(y)), "backbone"),
    Mutant("backbone.features", "features as a text", born(lambda self: setattr(self, "features", "8")), "backbone"),
    Mutant("backbone.features", "a squeezed batch of one", out(lambda self, y: y.squeeze(0)), "backbone"),
    Mutant("backbone.ends", "a table that lacks the last timestep", lambda _: Table, "backbone"),
    Mutant("backbone.ends", "the logarithm of t", given(lambda self, z, t, roles, c: (z * (1 + 0.1 * t.to(z).log()[:, :1].reshape(-1, *[1] * (z.ndim - 1))), t, roles, c)), "backbone"),
    Mutant("backbone.ends", "a space divided by its own size", given(lambda self, z, *rest: (z / z.flatten(1).std(1).reshape(-1, *[1] * (z.ndim - 1)), *rest)), "backbone"),
    Mutant("backbone.dtype", "features in single precision always", out(lambda self, y: y.float()), "backbone"),
    Mutant("backbone.dtype", "a constant in single precision", given(lambda self, z, *rest: (z * torch.ones(z.shape[1:], dtype=torch.float32, device=z.device), *rest)), "backbone"),
    Mutant("backbone.dtype", "squares that overflow in half precision", out(lambda self, y: y / (1e-4 + (300 * y).square().mean((1, *range(2, y.ndim)), keepdim=True).sqrt() / 300)), "backbone"),
    Mutant("backbone.cast", "positions in the first call's precision", out(first_positions), "backbone"),
    Mutant("backbone.rows", "an input normalised by the batch", given(lambda self, z, *rest: (z - z.mean(0), *rest)), "backbone"),
    Mutant("backbone.rows", "batch norm", lambda _: Norm, "backbone"),
    Mutant("backbone.rows", "batch norm beside a little dropout", lambda _: NormAndDropped, "backbone"),
    Mutant("backbone.rows", "a scale by the largest row", out(lambda self, y: y / y.detach().abs().amax().clamp(min=1)), "backbone"),
    Mutant("backbone.rows", "the first row's roles for all", given(lambda self, z, t, roles, c: (z, t, roles[:1].expand_as(roles), c)), "backbone"),
    Mutant("backbone.rows", "the first row's timestep for all", given(lambda self, z, t, roles, c: (z, t[:1].expand_as(t), roles, c)), "backbone"),
    Mutant("backbone.deterministic", "dropout by a function, undeclared", given(lambda self, z, *rest: (F.dropout(z, 0.1, self.training), *rest)), "backbone"),
    Mutant("backbone.deterministic", "noise of its own beside declared dropout", lambda _: DroppedAndNoisy, "backbone"),
    Mutant("backbone.deterministic", "declared dropout that draws in evaluation", lambda _: AlwaysDropped, "backbone"),
    Mutant("backbone.deterministic", "noise in evaluation too", given(lambda self, z, *rest: (z + 0.01 * torch.randn_like(z), *rest)), "backbone"),
    Mutant("backbone.deterministic", "noise by numpy's generator", given(lambda self, z, *rest: (z + 0.01 * float(np.random.standard_normal()), *rest)), "backbone"),  # noqa: NPY002
    Mutant("backbone.deterministic", "features that grow with the calls", backbone(forward=warms_up), "backbone"),
    Mutant("backbone.deterministic", "a running mean that is kept", lambda _: Running, "backbone"),
    Mutant("backbone.deterministic", "the first timesteps of a shape kept", backbone(forward=cached), "backbone"),
    Mutant("backbone.deterministic", "timesteps kept by their place in memory", backbone(forward=by_place), "backbone"),
    Mutant("backbone.deterministic", "the time of day", given(lambda self, z, *rest: (z * (1 + 1e-3 * (time.perf_counter() % 1)), *rest)), "backbone"),
    Mutant("backbone.modes", "twice the features in training", out(lambda self, y: y * (2 if self.training else 1)), "backbone"),
    Mutant("backbone.modes", "twice the features in training, beside dropout", lambda _: DroppedAndDoubled, "backbone"),
    Mutant("backbone.modes", "less precision where nothing is recorded", backbone(forward=not_recorded), "backbone"),
    Mutant("backbone.pure", "z scaled in place", given(lambda self, z, *rest: ((z.mul_(0.5) if not z.requires_grad else z), *rest)), "backbone"),
    Mutant("backbone.pure", "timesteps clamped in place", given(lambda self, z, t, *rest: (z, t.clamp_(min=1), *rest)), "backbone"),
    Mutant("backbone.pure", "one buffer for all features", backbone(forward=one_buffer), "backbone"),
    Mutant("backbone.ahead", "the timestep before, ahead", ahead(lambda self, t, roles, dtype: Small.ahead(self, (t - 1).clamp(min=0), roles, dtype)), "backbone"),
    Mutant("backbone.ahead", "other roles ahead", ahead(lambda self, t, roles, dtype: Small.ahead(self, t, 0 * roles, dtype)), "backbone"),
    Mutant("backbone.ahead", "the mean of all rows ahead", ahead(lambda self, t, roles, dtype: tuple(x.mean(0, keepdim=True).expand_as(x) for x in Small.ahead(self, t, roles, dtype))), "backbone"),
    Mutant("backbone.ahead", "what was worked out first, kept", ahead(kept_ahead), "backbone"),
    Mutant("backbone.ahead", "in half precision always, ahead", ahead(lambda self, t, roles, dtype: tuple(x.half().to(dtype) for x in Small.ahead(self, t, roles, dtype))), "backbone"),
    Mutant("backbone.reads", "a network that ignores its roles", given(lambda self, z, t, roles, c: (z, t, 0 * roles, c)), "backbone"),
    Mutant("backbone.reads", "a network that ignores its timestep", given(lambda self, z, t, roles, c: (z, 0 * t + 1, roles, c)), "backbone"),
    Mutant("backbone.reads", "a network that reads the first timestep only", given(lambda self, z, t, roles, c: (z, t[:, :1].expand_as(t), roles, c)), "backbone"),
    Mutant("backbone.reads", "a network that ignores the flags", given(lambda self, z, t, roles, c: (z, t, roles, torch.cat([c[:, : z.shape[1]], 0 * z], dim=1))), "backbone"),
    Mutant("backbone.reads", "a network that ignores what is observed", given(lambda self, z, t, roles, c: (z, t, roles, 0 * c)), "backbone"),
    Mutant("backbone.reads", "roles that are summed", given(lambda self, z, t, roles, c: (z, t, (roles.sum(1, keepdim=True) % 3).expand_as(roles), c)), "backbone"),
    Mutant("backbone.reads", "absent taken for observed", given(lambda self, z, t, roles, c: (z, t, roles.clamp(min=1), c)), "backbone"),
    Mutant("backbone.reads", "timesteps in pairs", given(lambda self, z, t, roles, c: (z, t // 2 * 2, roles, c)), "backbone"),
    Mutant("backbone.reads", "timesteps in tenths of all", born(lambda self: None, coarse), "backbone"),
    Mutant("backbone.reads", "the mean of the timesteps", given(lambda self, z, t, roles, c: (z, t.float().mean(1, keepdim=True).expand(t.shape), roles, c)), "backbone"),
    Mutant("backbone.reads", "the clean timestep taken for the last", given(lambda self, z, t, roles, c: (z, torch.where(t == 0, self.timestep.steps, t), roles, c)), "backbone"),
    Mutant("backbone.reads", "a last column that is never read", backbone(forward=only_interior), "backbone"),
    Mutant("backbone.reads", "the first channel's codes and flags only", backbone(forward=only_first_channel), "backbone"),
    Mutant("backbone.gradient", "a layer that nothing uses", born(lambda self: setattr(self, "spare", nn.Linear(3, 3))), "backbone"),
    Mutant("backbone.gradient", "a layer times zero", born(lambda self: setattr(self, "spare", nn.Linear(3, 3)), lambda self, *x: Small.forward(self, *x) + 0 * self.spare(torch.ones(3)).sum()), "backbone"),
    Mutant("backbone.gradient", "half of a batch detached", out(lambda self, y: torch.cat([y[: len(y) // 2].detach(), y[len(y) // 2 :]])), "backbone"),
    Mutant("backbone.gradient", "a detached way to the timestep", backbone(forward=half_detached), "backbone"),
    Mutant("backbone.gradient", "a detached condition", given(lambda self, z, t, roles, c: (z, t, roles, c.detach())), "backbone"),
    Mutant("backbone.gradient", "the root of what may be zero", out(lambda self, y: y + 0.01 * (y - y).abs().sqrt()), "backbone"),
    Mutant("backbone.state", "weights that no state dict has", born(lambda self: self.__dict__.__setitem__("plain", torch.rand(self.features)), lambda self, *x: (y := Small.forward(self, *x)) * self.plain.reshape(1, -1, *[1] * (y.ndim - 2))), "backbone"),
    Mutant("backbone.state", "a seed of its own", born(reseeds), "backbone"),
    Mutant("backbone.state", "weights from numpy's generator", born(by_numpy), "backbone"),
    Mutant("backbone.state", "weights from Python's generator", born(by_python), "backbone"),
    Mutant("backbone.state", "a layer that all share", born(shares), "backbone"),
    Mutant("backbone.features", "positions drawn at the first call of all", lambda _: Late, "backbone"),
    Mutant("backbone.state", "the number of threads changed", born(lambda self: torch.set_num_threads(torch.get_num_threads() + 1)), "backbone"),
    Mutant("backbone.elsewhere", "weights drawn as a module is imported", imported_anew, "backbone", "ci"),
    Mutant("backbone.state", "the default dtype changed", born(doubles), "backbone"),
    Mutant("backbone.state", "a random buffer that is not saved", born(lambda self: self.register_buffer("phase", torch.rand(1), persistent=False), lambda self, *x: Small.forward(self, *x) * (1 + self.phase)), "backbone"),
    Mutant("backbone.grows", "a list of all timesteps", backbone(forward=remembers), "backbone"),
    Mutant("backbone.device", "a tensor made on the CPU", given(lambda self, z, *rest: (z + torch.zeros(z.shape), *rest)), "backbone"),
    Mutant("backbone.device", "a value that decides", given(lambda self, z, *rest: (z if z.abs().max() < 1e6 else z.clamp(-1e6, 1e6), *rest)), "backbone"),
    Mutant("backbone.composes", "one timestep always", lambda _: OneTimestep, "backbone"),
    Mutant("backbone.composes", "two modalities always", lambda _: TwoModalities, "backbone"),
    Mutant("backbone.learns", "features that are weights alone", born(lambda self: setattr(self, "own", nn.Parameter(torch.randn(self.features))), lambda self, z, *_: self.own.reshape(1, -1, *[1] * (z.ndim - 2)).expand(len(z), -1, *z.shape[2:])), "backbone"),
    Mutant("backbone.learns", "features that hardly follow", out(lambda self, y: 1e-5 * y + 1e-5), "backbone"),
    Mutant("backbone.learns", "a gradient of the wrong sign", out(lambda self, y: 2 * y.detach() - y), "backbone"),
    Mutant("backbone.learns", "a timestep that is never told", given(lambda self, z, t, *rest: (z, 0 * t + 1, *rest)), "backbone"),
    Mutant("backbone.learns", "known codes that are never told", given(lambda self, z, t, roles, c: (z, t, roles, 0 * c)), "backbone"),
    Mutant("backbone.learns", "features that saturate", out(lambda self, y: torch.tanh(1e4 * y + 1e3)), "backbone"),
]  # fmt: skip


# ---- schedules ----


def cosine_but(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], **more: Any) -> Callable[[Path], Any]:
    """The cosine schedule with its tables changed, unchecked."""

    def make(_: Path) -> Any:
        def broken_schedule(steps: int, modalities: int) -> Schedule:
            s = schedule.cosine(steps, modalities)
            return Schedule(*change(s.log_A.clone(), s.W.clone()), **more)

        return broken_schedule

    return make


def asked(make: Callable[..., Any]) -> Callable[[Path], Any]:
    """What makes a schedule, given to the kit as it is."""
    return lambda _: make


def plateau(log_A: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    log_A[3] = log_A[2]
    return log_A, W


TABLES: dict[Any, Schedule] = {}


def shared_tables(steps: int, modalities: int) -> Schedule:
    return TABLES.setdefault((steps, modalities), schedule.cosine(steps, modalities))


def other_gains(steps: int, modalities: int, gains: Any = None) -> Schedule:
    return schedule.cosine(steps, modalities, None if gains is None else list(reversed(list(gains))))


def squared_gains(steps: int, modalities: int, gains: Any = None) -> Schedule:
    return schedule.cosine(steps, modalities, None if gains is None else [float(g) ** 2 for g in gains])


def ignored_gains(steps: int, modalities: int, gains: Any = None) -> Schedule:
    schedule.cosine(steps, modalities, gains)
    return schedule.cosine(steps, modalities)


def turned_powers(steps: int, modalities: int, powers: Any = None) -> Schedule:
    return schedule.cosine(steps, modalities, None, None if powers is None else [1 / float(p) for p in powers])


def first_power(steps: int, modalities: int, powers: Any = None) -> Schedule:
    return schedule.cosine(steps, modalities, None, None if powers is None else [float(powers[0])] * modalities)


def takes_all(steps: int, modalities: int, gains: Any = None) -> Schedule:
    g = (
        [1.0] * modalities
        if gains is None
        else [abs(float(x)) if x == x and x != 0 else 1.0 for x in gains][:modalities]
    )
    return schedule.cosine(max(1, int(steps)), max(0, modalities), g + [1.0] * (modalities - len(g)))


def rough(log_A: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """A signal that comes back in the middle."""
    if len(W) > 600:
        W[500:600] *= 3
    return log_A, W


def cliff(log_A: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """All signal gone from one timestep to the next."""
    W[len(W) // 3 :] *= 1e-4
    return log_A, W


def reversed_tables(log_A: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    return log_A, W.flip(0)


def paper_ancestral(steps: int, modalities: int) -> Schedule:
    """The article's schedule, with an eta by which its samples lose their variance."""
    s = schedule.paper(steps, modalities)
    return Schedule(s.log_A, s.W, s.name, 1.0)


SCHEDULE_MUTANTS = [
    Mutant("schedule.tables", "tables in float32", cosine_but(lambda log_A, W: (log_A.float(), W.float())), "schedule"),
    Mutant("schedule.tables", "a step too few", cosine_but(lambda log_A, W: (log_A[:-1], W[:-1])), "schedule"),
    Mutant("schedule.tables", "an eta of 2", cosine_but(lambda log_A, W: (log_A, W), eta=2.0), "schedule"),
    Mutant("schedule.tables", "weights below zero", cosine_but(lambda log_A, W: (log_A, -W)), "schedule"),
    Mutant("schedule.tables", "tables that are trained", cosine_but(lambda log_A, W: (log_A, W.requires_grad_())), "schedule"),
    Mutant("schedule.tables", "A in the place of its logarithm", cosine_but(lambda log_A, W: (log_A.exp(), W)), "schedule"),
    Mutant("schedule.exact", "tables computed in single precision", cosine_but(lambda log_A, W: (log_A.float().double(), W.float().double())), "schedule"),
    Mutant("schedule.deterministic", "random weights", cosine_but(lambda log_A, W: (log_A, W * (1 + 0.1 * torch.rand(W.shape)))), "schedule"),
    Mutant("schedule.deterministic", "random weights by numpy", cosine_but(lambda log_A, W: (log_A, W * (1 + 0.1 * np.random.random()))), "schedule"),  # noqa: NPY002
    Mutant("schedule.deterministic", "tables that all who ask share", asked(shared_tables), "schedule"),
    Mutant("schedule.prior", "too little noise at the end", cosine_but(lambda log_A, W: (log_A / 10, W)), "schedule"),
    Mutant("schedule.prior", "weights that stay", cosine_but(lambda log_A, W: (log_A, W.clamp(min=0.2))), "schedule"),
    Mutant("schedule.signal", "a modality below the noise", cosine_but(lambda log_A, W: (log_A, 1e-3 * W)), "schedule"),
    Mutant("schedule.signal", "the last modality below the noise", cosine_but(lambda log_A, W: (log_A, W * torch.where(torch.arange(W.shape[1]) == 7, 1e-3, 1.0))), "schedule"),
    Mutant("schedule.falls", "a signal that comes back", cosine_but(rough), "schedule"),
    Mutant("schedule.falls", "a cliff", cosine_but(cliff), "schedule"),
    Mutant("schedule.falls", "weights from T to 0", cosine_but(reversed_tables), "schedule"),
    Mutant("schedule.steps", "a step that adds no noise", cosine_but(plateau), "schedule"),
    Mutant("schedule.alike", "weights by the modality's place", cosine_but(lambda log_A, W: (log_A, W / torch.arange(1, W.shape[1] + 1))), "schedule"),
    Mutant("schedule.gains", "gains of the other modalities", asked(other_gains), "schedule"),
    Mutant("schedule.gains", "gains that are squared", asked(squared_gains), "schedule"),
    Mutant("schedule.gains", "gains that are not read", asked(ignored_gains), "schedule"),
    Mutant("schedule.powers", "powers turned about", asked(turned_powers), "schedule"),
    Mutant("schedule.powers", "the first power for all", asked(first_power), "schedule"),
    Mutant("schedule.refuses", "whatever it is given taken", asked(takes_all), "schedule"),
    Mutant("schedule.samples", "an eta by which samples lose their variance", asked(paper_ancestral), "schedule"),
]  # fmt: skip

MUTANTS = [*BACKBONE_MUTANTS, *SCHEDULE_MUTANTS]
