r"""Noise schedules: the two tables that fix a forward process.

One step of the process (notation page, "Forward process"),

.. math:: q(z_t | z_{t-1}, X) = N(\sqrt{a_t} (z_{t-1} + \sum_i w_t^{(i)} E_i(x_i)), (1 - a_t) I),

has the cumulative forms :math:`A_t = \prod_{s \le t} a_s` and
:math:`W_t^{(i)} = \sqrt{a_t} (W_{t-1}^{(i)} + w_t^{(i)})`. A :class:`Schedule` holds
``log A`` and ``W`` in float64: ``A_t`` itself underflows.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Self

import attrs
import torch
from torch import Tensor

Numbers = Tensor | Sequence[float]


class ScheduleError(ValueError):
    """An argument of a named noise schedule that cannot be used.

    Attributes:
        option: the argument's name.
        value: what was found.
        expected: in words.
    """

    def __init__(self, option: str, value: object, expected: str, found: str = "") -> None:
        self.option, self.value, self.expected = option, value, expected
        super().__init__(f"schedule: {option} {found or f'= {value}'}, expected {expected}")


@attrs.frozen(eq=False, repr=False)
class Schedule:
    """A noise schedule: cumulative signal ``A_t`` and each modality's weight ``W_t``.

    Tables of ``T`` timesteps and ``N`` modalities. Make one by :meth:`from_cumulative`, :meth:`from_steps` or by name
    (:func:`cosine`, :func:`linear`, :func:`paper`, :func:`paper_steps`).

    Attributes:
        log_A: ``(T+1,)`` float64, ``log A_t``; 0 at ``t = 0``, strictly decreasing.
        W: ``(T+1, N)`` float64, the weight of each encoding in the marginal's mean.
        name: the named schedule it came from, or ``"custom"``.
        eta: the DDIM ``η`` it is best sampled with (0 deterministic, 1 ancestral).
    """

    log_A: Tensor
    W: Tensor
    name: str = "custom"
    eta: float = 1.0

    def __repr__(self) -> str:
        name = self.name if self.name.isprintable() and len(self.name) <= 60 else repr(self.name[:60])
        return f"<Schedule: {name}, {len(self.log_A) - 1:,} steps, {self.W.shape[1]} modalities, eta {self.eta:g}>"

    @classmethod
    def from_cumulative(cls, log_A: Numbers, W: Tensor, *, name: str = "custom", eta: float = 1.0) -> Self:
        """A noise schedule from its cumulative tables ``log A (T+1,)`` and ``W (T+1, N)``.

        Raises:
            ValueError: wrong lengths, NaN or inf, ``log A_0 ≠ 0``, or ``log A`` not decreasing.
        """
        log_A = torch.as_tensor(log_A, dtype=torch.float64, device="cpu")
        W = torch.as_tensor(W, dtype=torch.float64, device="cpu")
        if log_A.ndim != 1 or len(log_A) < 2:
            raise ValueError(f"schedule: log_A has shape {tuple(log_A.shape)}, expected (T+1,) with T ≥ 1")
        if W.ndim != 2 or len(W) != len(log_A):
            raise ValueError(f"schedule: W has shape {tuple(W.shape)}, expected (T+1, N) = ({len(log_A)}, N)")
        for table, values in (("log_A", log_A), ("W", W)):
            if not values.isfinite().all():
                raise ValueError(f"schedule: {table} holds NaN or infinity, expected finite numbers")
        if log_A[0] != 0:
            raise ValueError(f"schedule: log_A[0] is {log_A[0]:.6g}, expected 0 (A_0 = 1)")
        if not (log_A.diff() < 0).all():
            t = int((log_A.diff() >= 0).nonzero()[0]) + 1
            raise ValueError(
                f"schedule: log_A does not decrease at t = {t} ({log_A[t - 1]:.6g} to {log_A[t]:.6g}), "
                "expected 0 < a_t < 1 at every step"
            )
        return cls(log_A, W, name, eta)

    @classmethod
    def from_steps(
        cls, a: Numbers, w: Tensor, W0: Numbers | None = None, *, name: str = "custom", eta: float = 1.0
    ) -> Self:
        """A noise schedule from each step's ``a (T,)`` and ``w (T, N)``, and ``W_0 (N,)``, zero by default.

        Raises:
            ValueError: wrong lengths, or an ``a_t`` outside ``0 < a_t < 1``.
        """
        a = torch.as_tensor(a, dtype=torch.float64, device="cpu")
        w = torch.as_tensor(w, dtype=torch.float64, device="cpu")
        if a.ndim != 1 or len(a) < 1:
            raise ValueError(f"schedule: a has shape {tuple(a.shape)}, expected (T,) with T ≥ 1")
        if w.ndim != 2 or len(w) != len(a):
            raise ValueError(f"schedule: w has shape {tuple(w.shape)}, expected (T, N) = ({len(a)}, N)")
        bad = ~((a > 0) & (a < 1))
        if bad.any():
            t = int(bad.nonzero()[0])
            raise ValueError(f"schedule: a[{t}] is {a[t]:.6g}, expected 0 < a_t < 1")
        start = torch.zeros(w.shape[1], dtype=torch.float64) if W0 is None else torch.as_tensor(W0, dtype=torch.float64)
        if start.shape != w.shape[1:]:
            raise ValueError(f"schedule: W0 has shape {tuple(start.shape)}, expected (N,) = ({w.shape[1]},)")
        rows = [start]
        # The recursion itself, not a ratio of cumulative products: those underflow.
        for root, step in zip(a.sqrt(), w, strict=True):
            rows.append(root * (rows[-1] + step))
        log_A = torch.cat([torch.zeros(1, dtype=torch.float64), a.log().cumsum(0)])
        return cls.from_cumulative(log_A, torch.stack(rows), name=name, eta=eta)

    @property
    def steps(self) -> int:
        """The number of timesteps, ``T``."""
        return len(self.log_A) - 1

    @property
    def modalities(self) -> int:
        """The number of modalities, ``N``."""
        return self.W.shape[1]

    @property
    def a(self) -> Tensor:
        """Each step's signal, ``a_t = A_t / A_{t-1}`` (DDPM's ``α_t``) for ``t = 1 … T``: ``(T,)``."""
        return self.log_A.diff().exp()

    @property
    def w(self) -> Tensor:
        """Each step's weights of the modalities, ``w_t = W_t / sqrt(a_t) - W_{t-1}`` for ``t = 1 … T``: ``(T, N)``."""
        return self.W[1:] * (-0.5 * self.log_A.diff()).exp()[:, None] - self.W[:-1]

    @property
    def W0(self) -> Tensor:
        """The weights ``W_0 (N,)`` at ``t = 0``; nonzero, the process starts at the modalities' weighted sum."""
        return self.W[0]

    @property
    def variance(self) -> Tensor:
        """The noise variance ``σ_t² = 1 - A_t`` for ``t = 0 … T``: ``(T+1,)``."""
        return -torch.expm1(self.log_A)

    @property
    def terminal_snr(self) -> Tensor:
        """Each modality's signal-to-noise ratio at ``T``, ``(W_T^(i))² / σ_T²``: ``(N,)``; 0 is pure noise."""
        return self.W[-1].square() / self.variance[-1]

    def select(self, columns: Sequence[int]) -> "Schedule":
        """The same schedule with these modalities' weights alone, in this order."""
        return attrs.evolve(self, W=self.W[:, list(columns)])


def _per_modality(option: str, values: Numbers | None, modalities: int) -> Tensor:
    table = (
        torch.ones(modalities, dtype=torch.float64) if values is None else torch.as_tensor(values, dtype=torch.float64)
    )
    if table.shape != (modalities,):
        shape = f"has shape {tuple(table.shape)}"
        raise ScheduleError(option, table.tolist(), f"one number per modality, ({modalities},)", shape)
    if not (table.isfinite() & (table > 0)).all():
        raise ScheduleError(option, table.tolist(), "finite numbers above 0", f"is {table.tolist()}")
    return table


def _check_size(steps: int, modalities: int) -> None:
    for option, value, least in (("steps", steps, 1), ("modalities", modalities, 0)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ScheduleError(option, value, f"a whole number of at least {least}")


def _cosine_a(steps: int) -> Tensor:
    """DDPM's retained variances ``α_t (T,)`` under the cosine schedule (Nichol and Dhariwal 2021)."""
    t = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((t / steps + 0.008) / 1.008 * (math.pi / 2)).square()
    return 1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)


def _linear_a(steps: int) -> Tensor:
    """DDPM's retained variances ``α_t (T,)`` under the linear schedule (Ho et al. 2020)."""
    beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
    return 1 - beta.clamp(max=0.999)


def _aggregate(name: str, a: Tensor, modalities: int, gains: Numbers | None, powers: Numbers | None) -> Schedule:
    """``W_t^(i) = g_i A_t^{p_i/2}``: DDPM on the aggregate, where the powers are 1."""
    g = _per_modality("gains", gains, modalities)
    p = _per_modality("powers", powers, modalities)
    log_A = torch.cat([torch.zeros(1, dtype=torch.float64), a.log().cumsum(0)])
    return Schedule.from_cumulative(log_A, g * (0.5 * p * log_A[:, None]).exp(), name=name)


def cosine(steps: int, modalities: int, gains: Numbers | None = None, powers: Numbers | None = None) -> Schedule:
    """The cosine schedule (Nichol and Dhariwal 2021), ``W_t^(i) = g_i A_t^{p_i/2}``.

    Args:
        steps: ``T``.
        modalities: ``N``.
        gains: ``g_i (N,)``, 1 by default.
        powers: ``p_i (N,)``, 1 by default; above 1 a modality dissolves sooner than the others.

    Raises:
        ScheduleError: fewer than one step, or gains or powers that are not one positive number for each modality.
    """
    _check_size(steps, modalities)
    return _aggregate("cosine", _cosine_a(steps), modalities, gains, powers)


def linear(steps: int, modalities: int, gains: Numbers | None = None, powers: Numbers | None = None) -> Schedule:
    """The linear schedule (Ho et al. 2020), ``1 - a_t`` from 1e-4 to 0.02 times ``1000/T``; arguments as :func:`cosine`."""
    _check_size(steps, modalities)
    return _aggregate("linear", _linear_a(steps), modalities, gains, powers)


def paper(steps: int, modalities: int, gains: Numbers | None = None) -> Schedule:
    """The article's schedule by signal-to-noise ratio: ``a_t = α_t / (N + 1)``, ``W_t^(i) = g_i sqrt(SNR_t) σ_t``.

    ``α_t`` and ``SNR_t`` are the cosine schedule's.

    Ancestral steps with mean predictions have an error under it that no number of steps
    removes, so it is sampled with ``η = 0``.
    """
    _check_size(steps, modalities)
    g = _per_modality("gains", gains, modalities)
    alpha = _cosine_a(steps)
    log_A = torch.cat([torch.zeros(1, dtype=torch.float64), (alpha / (modalities + 1)).log().cumsum(0)])
    log_alpha_bar = alpha.log().cumsum(0)
    snr = log_alpha_bar.exp() / -torch.expm1(log_alpha_bar)
    W = torch.zeros(steps + 1, modalities, dtype=torch.float64)
    W[1:] = g * (snr * -torch.expm1(log_A[1:])).sqrt()[:, None]
    return Schedule.from_cumulative(log_A, W, name="paper", eta=0.0)


def paper_steps(steps: int, modalities: int, gains: Numbers | None = None) -> Schedule:
    """The article's schedule by step weights: ``a_t = α_t / (N + 1)``, ``w_t^(i) = g_i sqrt(ᾱ_t)``."""
    _check_size(steps, modalities)
    g = _per_modality("gains", gains, modalities)
    alpha = _cosine_a(steps)
    w = g * (0.5 * alpha.log().cumsum(0)).exp()[:, None]
    return Schedule.from_steps(alpha / (modalities + 1), w, name="paper-steps", eta=0.0)


NAMED: dict[str, Callable[..., Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "paper": paper,
    "paper-steps": paper_steps,
}
"""The built-in noise schedules by name; others come as plugins."""
