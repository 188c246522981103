r"""The N-modality diffusion process: marginal, transition and posterior in one form.

With the mean :math:`m_t = \sqrt{A_t} z_0 + h_t`, :math:`h_t = \sum_i W_t^{(i)} E_i(x_i)`,
:math:`\sigma_t^2 = 1 - A_t`, and for :math:`0 \le s < t \le T`
:math:`a = \sqrt{A_t / A_s}`, :math:`v = 1 - A_t / A_s`:

.. math::

    q(z_t | z_0, X)      &= N(m_t, \sigma_t^2) \\
    q(z_t | z_s, X)      &= N(m_t + a (z_s - m_s), v) \\
    q(z_s | z_t, z_0, X) &= N(m_s + (a \sigma_s^2 / \sigma_t^2) (z_t - m_t),
                             \beta_{t,s} = \sigma_s^2 v / \sigma_t^2)

The coefficients are computed in float64 for each pair :math:`(s, t)` and cast last.
"""

import attrs
import torch
from torch import Tensor

from mmcore.process.gaussian import Gaussian
from mmcore.process.schedule import Schedule

Step = Tensor | int


def widen(coefficient: Tensor, like: Tensor) -> Tensor:
    """Give ``coefficient (B,)``, or ``(B, C)`` by channel, the rank and dtype of ``like (B, *Z)``.

    The one place that widens a clock.
    """
    return coefficient.to(like.dtype).reshape(*coefficient.shape, *[1] * (like.ndim - coefficient.ndim))


@attrs.frozen(eq=False)
class Level:
    """The marginal's coefficients at steps ``t (B,)``, float64.

    Attributes:
        root_A: ``sqrt(A_t) (B,)``.
        W: ``W_t (B, N)``.
        sigma: ``σ_t (B,)``.
    """

    root_A: Tensor
    W: Tensor
    sigma: Tensor


@attrs.frozen(eq=False)
class Jump:
    """The coefficients of a jump between ``s`` and ``t``, each ``(B,)`` float64.

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


@attrs.frozen(eq=False)
class _Tables:
    """What is looked up at a step; :class:`Level` of every step, as all of them are computed at once."""

    log_A: Tensor
    marginal: Level


class Process:
    """The forward process of a :class:`Schedule`, in closed form.

    Public methods take steps as integers or integer tensors ``(B,)`` and check them;
    :meth:`level` and :meth:`jump` do not, and serve inner loops.

    Args:
        schedule: the process's tables.
    """

    clock = "(B,)"
    """The shape of a clock, in words."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._tables: dict[torch.device, _Tables] = {}

    def __repr__(self) -> str:
        return f"Process({self.schedule.name}, steps={self.steps}, modalities={self.modalities})"

    @property
    def steps(self) -> int:
        """``T``."""
        return self.schedule.steps

    @property
    def modalities(self) -> int:
        """``N``."""
        return self.schedule.modalities

    # ---- coefficients, unchecked ----

    def widen(self, coefficient: Tensor, like: Tensor) -> Tensor:
        """Give a clock's ``coefficient (B,)`` the rank and dtype of ``like (B, *Z)``."""
        return widen(coefficient, like)

    def _log_A(self) -> Tensor:
        """``log A`` of every clock's every step."""
        return self.schedule.log_A

    def _on(self, device: torch.device) -> "_Tables":
        """The tables on a device."""
        if device not in self._tables:
            log_A = self._log_A().to(device)
            marginal = Level((0.5 * log_A).exp(), self.schedule.W.to(device), (-torch.expm1(log_A)).sqrt())
            self._tables[device] = _Tables(log_A, marginal)
        return self._tables[device]

    def _look(self, table: Tensor, t: Tensor) -> Tensor:
        """A clock's ``table`` at ``t``, in its shape."""
        return table[t]

    def _weights(self, W: Tensor, t: Tensor) -> Tensor:
        """``W_t (B, N)``."""
        return W[t]

    def level(self, t: Tensor) -> Level:
        """The marginal's coefficients at ``t (B,)``, values unchecked."""
        of = self._on(t.device).marginal
        return Level(self._look(of.root_A, t), self._weights(of.W, t), self._look(of.sigma, t))

    def jump(self, s: Tensor, t: Tensor) -> Jump:
        """The coefficients between ``s (B,)`` and ``t (B,)``, values unchecked."""
        log_A = self._on(t.device).log_A
        at_s, at_t = self._look(log_A, s), self._look(log_A, t)
        between = at_t - at_s
        a, v = (0.5 * between).exp(), -torch.expm1(between)
        variance_s, variance_t = -torch.expm1(at_s), -torch.expm1(at_t)
        return Jump(a, v, a * variance_s / variance_t, variance_s * v / variance_t)

    def by_modality(self, coefficient: Tensor) -> Tensor:
        """A clock's ``coefficient (B,)`` for each modality: broadcastable to ``(B, N)``."""
        return coefficient[:, None]

    def half_log_snr(self, t: Tensor) -> Tensor:
        """``λ_t = ½ log(Σ_i (W_t^(i))² / σ_t²)`` (``½ log(A_t/σ_t²)`` where ``N = 0``), in the shape of ``t``, float64."""
        tables = self._on(t.device)
        log_A, W = self._look(tables.log_A, t), self._weights(tables.marginal.W, t)
        signal = W.square().sum(1).log() if self.modalities else log_A
        return 0.5 * (signal - (-torch.expm1(log_A)).log())

    # ---- the three distributions ----

    def marginal(
        self, encodings: Tensor | None, t: Step, z0: Tensor | None = None, *, h: Tensor | None = None
    ) -> Gaussian:
        """``q(z_t | z_0, X)``.

        Args:
            encodings: ``(B, N, *Z)``, or None with ``h`` or ``z0`` given.
            t: ``(B,)`` in ``0 … T``.
            z0: base state ``(B, *Z)``, zero by default; never together with ``W_0 ≠ 0``.
            h: ``h_t (B, *Z)``, already weighted, in place of ``encodings``.

        Returns:
            mean ``(B, *Z)``; variance ``σ_t²``, broadcastable to it.

        Raises:
            ValueError: a step out of range, or shapes that do not agree.
        """
        like = self._like(encodings, h, z0)
        _check_dtypes(encodings=encodings, z0=z0, h=h)
        t = self._steps("t", t, like)
        mean = self._mean(encodings, h, z0, t, like)
        return Gaussian(mean, self.widen(self.level(t).sigma.square(), like))

    def transition(
        self,
        z_s: Tensor,
        encodings: Tensor | None,
        s: Step,
        t: Step,
        z0: Tensor | None = None,
        *,
        h: tuple[Tensor, Tensor] | None = None,
    ) -> Gaussian:
        """``q(z_t | z_s, X)`` for ``s < t``; arguments as :meth:`posterior`, with ``z_s (B, *Z)``."""
        m_s, m_t, jump = self._pair(z_s, encodings, s, t, z0, h)
        return Gaussian(m_t + self.widen(jump.a, z_s) * (z_s - m_s), self.widen(jump.v, z_s))

    def posterior(
        self,
        z_t: Tensor,
        encodings: Tensor | None,
        s: Step,
        t: Step,
        z0: Tensor | None = None,
        *,
        h: tuple[Tensor, Tensor] | None = None,
    ) -> Gaussian:
        """``q(z_s | z_t, z_0, X)`` for ``s < t``.

        Args:
            z_t: ``(B, *Z)``.
            encodings: ``(B, N, *Z)``, or None with ``h`` or ``z0`` given.
            s: ``(B,)`` in ``0 … T - 1``.
            t: ``(B,)``, above ``s``.
            z0: base state ``(B, *Z)``, zero by default; never together with ``W_0 ≠ 0``.
            h: the pair ``(h_s, h_t)``, each ``(B, *Z)``, in place of ``encodings``.

        Returns:
            mean ``(B, *Z)``; variance ``β_{t,s}``, broadcastable to it.

        Raises:
            ValueError: ``s ≥ t``, a step out of range, or shapes that do not agree.
        """
        m_s, m_t, jump = self._pair(z_t, encodings, s, t, z0, h)
        return Gaussian(m_s + self.widen(jump.k, z_t) * (z_t - m_t), self.widen(jump.beta, z_t))

    def mean(self, encodings: Tensor | None, t: Step, z0: Tensor | None = None, *, h: Tensor | None = None) -> Tensor:
        """``m_t = sqrt(A_t) z_0 + Σ_i W_t^(i) E_i(x_i)``: ``(B, *Z)``; arguments as :meth:`marginal`."""
        return self.marginal(encodings, t, z0, h=h).mean

    # ---- the public edge: everything below checks or assembles ----

    def _pair(
        self,
        z: Tensor,
        encodings: Tensor | None,
        s: Step,
        t: Step,
        z0: Tensor | None,
        h: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Jump]:
        h_s, h_t = (None, None) if h is None else h
        if encodings is None and h is None and z0 is None and self.modalities == 0:
            z0 = torch.zeros_like(z)
        like = self._like(encodings, h_t, z0)
        if z.shape != like.shape:
            raise ValueError(f"process: z has shape {tuple(z.shape)}, expected (B, *Z) = {tuple(like.shape)}")
        if h_s is not None and h_s.shape != like.shape:
            raise ValueError(f"process: h_s has shape {tuple(h_s.shape)}, expected that of h_t, {tuple(like.shape)}")
        _check_dtypes(z=z, encodings=encodings, z0=z0, h_s=h_s, h_t=h_t)
        s, t = self._steps("s", s, like), self._steps("t", t, like)
        if not (s < t).all():
            row = int((s >= t).nonzero()[0, 0])
            raise ValueError(f"process: s = {s[row].tolist()} and t = {t[row].tolist()} in row {row}, expected s < t")
        m_s, m_t = (self._mean(encodings, part, z0, u, like) for part, u in ((h_s, s), (h_t, t)))
        return m_s, m_t, self.jump(s, t)

    def _mean(self, encodings: Tensor | None, h: Tensor | None, z0: Tensor | None, t: Tensor, like: Tensor) -> Tensor:
        level = self.level(t)
        if h is None:
            h = torch.zeros_like(like)
            if encodings is not None and self.modalities:
                # One contraction over the modalities: no weighted copy of Z per modality is made.
                h = torch.einsum("bn,bn...->b...", level.W.to(encodings.dtype), encodings)
        return h if z0 is None else h + self.widen(level.root_A, like) * z0

    def _like(self, encodings: Tensor | None, h: Tensor | None, z0: Tensor | None) -> Tensor:
        """A tensor of the shape ``(B, *Z)`` that the arguments agree on."""
        if (encodings is None) == (h is None) and not (encodings is None and self.modalities == 0 and z0 is not None):
            given = "both" if h is not None else "neither"
            raise ValueError(f"process: {given} of encodings and h given, expected exactly one")
        if encodings is not None:
            if encodings.ndim < 2 or encodings.shape[1] != self.modalities:
                raise ValueError(
                    f"process: encodings have shape {tuple(encodings.shape)}, expected (B, N, *Z) with N = {self.modalities}"
                )
            # Not encodings[:, 0]: N may be 0.
            like = encodings.new_empty(()).expand(encodings.shape[0], *encodings.shape[2:])
        else:
            like = h if h is not None else z0
        assert like is not None
        if z0 is not None:
            if z0.shape != like.shape:
                raise ValueError(f"process: z0 has shape {tuple(z0.shape)}, expected (B, *Z) = {tuple(like.shape)}")
            if self.schedule.W0.any():
                raise ValueError(
                    f"process: z0 given, but the schedule {self.schedule.name!r} starts at the encodings (W_0 ≠ 0), "
                    "expected one of the two"
                )
        return like

    def clock_shape(self, rows: int) -> tuple[int, ...]:
        """The shape of a clock for so many rows."""
        return (rows,)

    def clock_at(self, t: int, rows: int = 1) -> Tensor:
        """A clock at step ``t`` everywhere."""
        return torch.full(self.clock_shape(rows), t)

    def _steps(self, name: str, t: Step, like: Tensor) -> Tensor:
        if isinstance(t, int) and not isinstance(t, bool):
            t = torch.full(self.clock_shape(len(like)), t, device=like.device)
        if not isinstance(t, Tensor):
            raise ValueError(
                f"process: {name} is {t!r} ({type(t).__name__}), expected an integer or an integer tensor (B,)"
            )
        if t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool:
            raise ValueError(f"process: {name} has dtype {t.dtype}, expected an integer dtype")
        if t.shape != (expected := self.clock_shape(len(like))):
            raise ValueError(f"process: {name} has shape {tuple(t.shape)}, expected {self.clock} = {expected}")
        outside = (t < 0) | (t > self.steps)
        if outside.any():
            row = int(outside.nonzero()[0, 0])
            raise ValueError(f"process: {name} = {t[row].tolist()} in row {row}, expected 0 … T = {self.steps}")
        return t.long()


def _check_dtypes(**tensors: Tensor | None) -> None:
    """One floating dtype for all: a coefficient cast to integers, or silently promoted, would be wrong."""
    given = {name: x for name, x in tensors.items() if x is not None}
    for name, x in given.items():
        if not x.is_floating_point():
            raise ValueError(f"process: {name} has dtype {x.dtype}, expected a floating-point dtype")
    first = next(iter(given))
    for name, x in given.items():
        if x.dtype != given[first].dtype:
            raise ValueError(f"process: {name} has dtype {x.dtype}, expected {given[first].dtype} as that of {first}")
