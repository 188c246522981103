r"""The coefficients of a process at its timesteps, in float64: looked up or computed, and cast last.

With :math:`a = \sqrt{A_t / A_s}` and :math:`v = 1 - A_t / A_s` all that marginal, transition and posterior need of a schedule
are :class:`Level` at one timestep and :class:`Jump` between two. They are computed from ``log A`` for each pair ``(s, t)``: ``A`` itself
underflows, and its quotients in single precision lose three digits.
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from mmcore.process.schedule import Schedule

Timestep = Tensor | int
"""One integer for all rows, or integers ``(B,)``, of several blocks ``(B, K)``."""
MOST_KEPT = 1 << 14


def widen(coefficient: Tensor, like: Tensor) -> Tensor:
    """Reshape per-row coefficients to broadcast over a latent tensor: ``(B,)``, or ``(B, C)`` by channel, to the rank of ``like (B, *Z)``.

    The result has the dtype of ``like``. This is the one place that widens a timestep's coefficient.
    """
    return coefficient.to(like.dtype).reshape(*coefficient.shape, *[1] * (like.ndim - coefficient.ndim))


@functools.lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype | None, device: torch.device) -> Tensor:
    """A few numbers on a device, ``(len(values),)``, not to be written to: put there once, as the device must be waited for until they are."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


@attrs.define(eq=False)
class Level:
    """Signal and noise scales of ``q(z_t | X)`` at timestep t.

    Float64, one row per timestep: ``B`` is 1 for one integer ``t``.

    Attributes:
        root_A: ``sqrt(A_t) (B,)``.
        W: ``W_t (B, N)``.
        sigma: ``σ_t (B,)``.
    """

    root_A: Tensor
    W: Tensor
    sigma: Tensor


@attrs.define(eq=False)
class Jump:
    """Coefficients of a denoising step from timestep t to s.

    Each is ``(B,)`` float64.

    Attributes:
        a: ``sqrt(A_t / A_s)``.
        v: the transition's variance, ``1 - A_t / A_s``.
        k: the posterior's gain, ``a σ_s² / σ_t²``.
        beta: the posterior's variance, ``β_{t,s} = σ_s² v / σ_t²``.
    """

    a: Tensor
    v: Tensor
    k: Tensor
    beta: Tensor


def rows_of(of: Any) -> list[Any]:
    """An attrs class of tensors ``(B, ...)``, row by row."""
    columns = (getattr(of, field.name).split(1) for field in attrs.fields(type(of)))
    return [type(of)(*row) for row in zip(*columns, strict=True)]


def stacked(rows: list[Any]) -> Any:
    """Rows of :func:`rows_of`, put together again."""
    fields = [field.name for field in attrs.fields(type(rows[0]))]
    return type(rows[0])(*(torch.cat([getattr(row, name) for row in rows]) for name in fields))


@attrs.define(eq=False)
class _Tables:
    """What is looked up at a timestep, of every timestep at once.

    Attributes:
        log_A: ``(T+1,)``, or ``(T+1, K)``.
        marginal: the marginal's coefficients.
        columns: ``(T+1, 2 + N)``, the same side by side, where one timestep is all blocks'.
    """

    log_A: Tensor
    marginal: Level
    columns: Tensor


class _Kept(OrderedDict[Any, Any]):
    """What one integer or a pair of them fixes, computed once; a path visits few of them, again and again."""

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is kept under a key, or what is made now."""
        found = self.get(key)
        if found is None:
            # A normal tensor, for whoever asks next, though the first may ask while nothing is recorded.
            with torch.inference_mode(False), torch.no_grad():
                found = make()
            self.keep(key, found)
        return found

    def keep(self, key: Any, value: Any) -> None:
        """Keep it, and let go of the oldest where there are many."""
        self[key] = value
        if len(self) > MOST_KEPT:
            self.popitem(last=False)


class Coefficients:
    """The coefficients of a noise schedule at its timesteps.

    Values of timesteps are not checked here.

    Args:
        schedule: the tables.
        log_A: ``(T+1, K)``, of several blocks; the schedule's own by default.
    """

    timesteps = "(B,)"
    """The shape of a batch's timesteps, in words."""

    def __init__(self, schedule: Schedule, log_A: Tensor | None = None) -> None:
        self.schedule, self._log_A = schedule, schedule.log_A if log_A is None else log_A
        self._tables: dict[torch.device, _Tables] = {}
        self._kept = _Kept()
        self.pairs: list[tuple[int, int]] = []
        """The jumps of the path that was prepared last, each from its end back to its start."""

    @property
    def steps(self) -> int:
        """The number of timesteps, ``T``."""
        return self.schedule.steps

    @property
    def modalities(self) -> int:
        """The number of modalities, ``N``."""
        return self.schedule.modalities

    def timestep_shape(self, rows: int) -> tuple[int, ...]:
        """The shape of the timesteps of so many rows."""
        return (rows,)

    def widen(self, coefficient: Tensor, like: Tensor) -> Tensor:
        """Reshape per-row coefficients ``(B,)`` to broadcast over a latent tensor ``like (B, *Z)``, in its dtype."""
        return widen(coefficient, like)

    def by_modality(self, coefficient: Tensor) -> Tensor:
        """A timestep's ``coefficient (B,)`` for each modality: broadcastable to ``(B, N)``."""
        return coefficient[:, None]

    def level(self, t: Timestep, device: torch.device | None = None) -> Level:
        """Signal and noise scales at timesteps ``t (B,)``, or at one integer on a ``device``."""
        if isinstance(t, int):
            return self._kept.once(("level", t, device), lambda: self.level(self._everywhere(t, device)))
        return self._level(self._on(t.device), t)

    def jump(self, s: Timestep, t: Timestep, device: torch.device | None = None) -> Jump:
        """Coefficients of a denoising step from ``t (B,)`` to ``s (B,)``, or between two integers on a ``device``."""
        if isinstance(s, int) and isinstance(t, int):
            return self._kept.once(
                ("jump", s, t, device),
                lambda: self.jump(self._everywhere(s, device), self._everywhere(t, device)),
            )
        first, second = (self._everywhere(u, device) if isinstance(u, int) else u for u in (s, t))
        log_A = self._on(first.device).log_A
        at_s, at_t = self._look(log_A, first), self._look(log_A, second)
        between = at_t - at_s
        a, v = (0.5 * between).exp(), -torch.expm1(between)
        variance_s, variance_t = -torch.expm1(at_s), -torch.expm1(at_t)
        return Jump(a, v, a * variance_s / variance_t, variance_s * v / variance_t)

    def half_log_snr(self, t: Timestep) -> Tensor:
        """Half the log signal-to-noise ratio, ``λ_t = ½ log(Σ_i (W_t^(i))² / σ_t²)``, in the shape of ``t``, float64.

        Where ``N = 0`` it is ``½ log(A_t/σ_t²)``.
        """
        if isinstance(t, int):
            return self._kept.once(("half_log_snr", t), lambda: self.half_log_snr(self._everywhere(t, None)))
        tables = self._on(t.device)
        log_A, W = self._look(tables.log_A, t), self._weights(tables.marginal.W, t)
        signal = W.square().sum(1).log() if self.modalities else log_A
        return 0.5 * (signal - (-torch.expm1(log_A)).log())

    def extrapolation(self, s: int, t: int, before: int) -> Tensor:
        """How far a second-order multistep sampler extrapolates its last prediction: ``c = (λ_s - λ_t) / (2 (λ_t - λ_before))``.

        After "DPM-Solver++" (Lu et al. 2022), in the process's own ``λ`` of :meth:`half_log_snr`: with the codes
        ``Ê + c (Ê - Ê_before)`` a deterministic step is of order two.

        Args:
            s: where the step goes.
            t: where it starts.
            before: where the step before it started.

        Returns:
            ``(1,)``, or ``(1, K)`` with one for each block, float64.
        """
        ratio = self.half_log_snr
        return self._kept.once(
            ("extrapolation", s, t, before), lambda: (ratio(s) - ratio(t)) / (2 * (ratio(t) - ratio(before)))
        )

    def prepare(self, path: Sequence[int], device: torch.device | None = None) -> None:
        """Compute the coefficients of a sampler's timesteps all at once; else each is computed when it is first met.

        Args:
            path: the timesteps that will be asked for as integers, and the jumps between neighbours.
            device: where.
        """
        pairs = list(zip(path[1:], path, strict=False))
        if all(("jump", *pair, device) in self._kept for pair in pairs):
            self.pairs = pairs
            return
        t = torch.tensor(list(path), device=device)
        t = t.reshape(-1, *[1] * (len(self.timestep_shape(1)) - 1)).expand(self.timestep_shape(len(path)))
        with torch.inference_mode(False), torch.no_grad():
            levels, jumps = rows_of(self.level(t)), rows_of(self.jump(t[1:], t[:-1]))
            ratios = self.half_log_snr(t.cpu()).split(1)
        for step, level, ratio in zip(path, levels, ratios, strict=True):
            self._kept.keep(("level", step, device), level)
            self._kept.keep(("half_log_snr", step), ratio)
        self.pairs = pairs
        for pair, jump in zip(pairs, jumps, strict=True):
            self._kept.keep(("jump", *pair, device), jump)

    # ---- how a timestep is looked up ----

    def _look(self, table: Tensor, t: Tensor) -> Tensor:
        """A ``table`` at ``t``, in its shape."""
        return table[t]

    def _weights(self, W: Tensor, t: Tensor) -> Tensor:
        """``W_t (B, N)``."""
        return W[t]

    def _level(self, tables: _Tables, t: Tensor) -> Level:
        # In one look-up: by brackets, or by one for each, it takes several times as long.
        columns = tables.columns.index_select(0, t)
        return Level(columns.select(1, 0), columns.narrow(1, 2, self.modalities), columns.select(1, 1))

    def _on(self, device: torch.device) -> _Tables:
        """The tables on a device."""
        if device not in self._tables:
            # Normal tensors, also where the first to ask is in inference mode.
            with torch.inference_mode(False):
                log_A = self._log_A.to(device)
                marginal = Level((0.5 * log_A).exp(), self.schedule.W.to(device), (-torch.expm1(log_A)).sqrt())
                side = [x[:, :1] if x.ndim > 1 else x[:, None] for x in (marginal.root_A, marginal.sigma)]
                self._tables[device] = _Tables(log_A, marginal, torch.cat([*side, marginal.W], dim=1))
        return self._tables[device]

    def _everywhere(self, t: int, device: torch.device | None) -> Tensor:
        return torch.full(self.timestep_shape(1), t, device=device)
