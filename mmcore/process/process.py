r"""The diffusion process over several modalities: marginal, transition, posterior and the sampler's step in closed form.

With the mean :math:`m_t = \sqrt{A_t} z_0 + h_t`, :math:`h_t = \sum_i W_t^{(i)} E_i(x_i)`,
:math:`\sigma_t^2 = 1 - A_t`, and for :math:`0 \le s < t \le T`
:math:`a = \sqrt{A_t / A_s}`, :math:`v = 1 - A_t / A_s`:

.. math::

    q(z_t | z_0, X)      &= N(m_t, \sigma_t^2) \\
    q(z_t | z_s, X)      &= N(m_t + a (z_s - m_s), v) \\
    q(z_s | z_t, z_0, X) &= N(m_s + (a \sigma_s^2 / \sigma_t^2) (z_t - m_t),
                             \beta_{t,s} = \sigma_s^2 v / \sigma_t^2)

Training draws :math:`z_t` from :meth:`Process.marginal`; samplers go from :math:`t` to :math:`s` by :meth:`Process.step` or
:meth:`Process.posterior`. There is no other implementation of either.
"""

from collections.abc import Sequence
from numbers import Real

import attrs
import torch
from torch import Tensor

from mmcore.process import check
from mmcore.process.coefficients import Coefficients, Jump, Level, Timestep, stacked
from mmcore.process.gaussian import Gaussian


class Process(Coefficients):
    """The forward diffusion process of a noise schedule, in closed form.

    Timesteps are integers or integer tensors ``(B,)``, and are checked. Where they are known to be right, and checking values would wait
    for a device, :meth:`marginal` takes the coefficients of :meth:`level` in their place.

    Args:
        schedule: the noise schedule.
    """

    def __repr__(self) -> str:
        return f"Process({self.schedule.name}, steps={self.steps}, modalities={self.modalities})"

    def marginal(
        self, encodings: Tensor | None, t: Timestep | Level, z0: Tensor | None = None, *, h: Tensor | None = None
    ) -> Gaussian:
        """The distribution of noisy latents at timestep t, ``q(z_t | z_0, X)``.

        Args:
            encodings: ``(B, N, *Z)``, or None with ``h`` or ``z0`` given.
            t: ``(B,)`` in ``0 … T``; or the coefficients there, unchecked.
            z0: base state ``(B, *Z)``, zero by default; never together with ``W_0 ≠ 0``.
            h: ``h_t (B, *Z)``, already weighted, in place of ``encodings``.

        Returns:
            mean ``(B, *Z)``; variance ``σ_t²``, broadcastable to it.

        Raises:
            ValueError: a timestep out of range, or shapes that do not agree.
        """
        like = check.like(self, encodings, h, z0)
        check.alike(encodings=encodings, z0=z0, h=h)
        wide = self._wide(t if isinstance(t, Level) else check.timestep(self, "t", t, len(like)), like)
        return Gaussian(self._mean(encodings, h, z0, wide, like), deviation=wide.sigma)

    def transition(
        self,
        z_s: Tensor,
        encodings: Tensor | None,
        s: Timestep,
        t: Timestep,
        z0: Tensor | None = None,
        *,
        h: tuple[Tensor, Tensor] | None = None,
    ) -> Gaussian:
        """The forward transition from timestep s to t, ``q(z_t | z_s, X)`` for ``s < t``.

        Arguments are as :meth:`posterior`'s, with ``z_s (B, *Z)``.
        """
        m_s, m_t, jump = self._pair(z_s, encodings, s, t, z0, h)
        return Gaussian(m_t + self.widen(jump.a, z_s) * (z_s - m_s), self.widen(jump.v, z_s))

    def posterior(
        self,
        z_t: Tensor,
        encodings: Tensor | None,
        s: Timestep,
        t: Timestep,
        z0: Tensor | None = None,
        *,
        h: tuple[Tensor, Tensor] | None = None,
    ) -> Gaussian:
        """The forward process's posterior, ``q(z_s | z_t, z_0, X)`` for ``s < t``.

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
            ValueError: timesteps out of range or not ``s < t``, or shapes that do not agree.
        """
        m_s, m_t, jump = self._pair(z_t, encodings, s, t, z0, h)
        deviation = self.widen(jump.beta.sqrt(), z_t)
        return Gaussian(m_s + self.widen(jump.k, z_t) * (z_t - m_t), self.widen(jump.beta, z_t), deviation=deviation)

    def step(
        self,
        z_t: Tensor,
        h_s: Tensor,
        h_t: Tensor,
        s: Timestep,
        t: Timestep,
        noise: Tensor | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        r"""One denoising step of DDIM's family, from timestep t to s: ``(B, *Z)``.

        .. math:: z_s = \hat h_s + \sqrt{\sigma_s^2 - \tau^2}\, \hat\epsilon + \tau \xi, \quad
            \hat\epsilon = (z_t - \hat h_t) / \sigma_t, \quad \tau^2 = \eta^2 \beta_{t,s}

        After "Denoising Diffusion Implicit Models" (Song, Meng and Ermon 2021). With ``η = 0`` the step is deterministic; with ``η = 1`` it
        is a draw from the posterior.

        Args:
            z_t: ``(B, *Z)``.
            h_s: the weighted encodings at ``s``, predicted: ``(B, *Z)``.
            h_t: those at ``t``.
            s: ``(B,)``, below ``t``; integers are the faster way, as what they fix is computed once.
            t: ``(B,)``.
            noise: standard normal ``ξ (B, *Z)``; needed for ``η > 0``.
            eta: ``η`` in 0 … 1.

        Raises:
            ValueError: as :meth:`posterior`; ``η`` outside 0 … 1, or above 0 without noise.
        """
        tensors = {"h_s": h_s, "h_t": h_t} | ({} if noise is None else {"noise": noise})
        check.same_shape(z_t, **tensors)
        check.alike(z=z_t, **tensors)
        s, t = check.pair(self, s, t, len(z_t))
        if not isinstance(eta, Real) or not 0 <= eta <= 1 or (eta and noise is None):
            noiseless = "" if noise is not None else " without noise"
            raise ValueError(f"process: eta = {eta}{noiseless}, expected 0 … 1, and noise where it is above 0")
        kept, added = self.stride(s, t, float(eta), z_t)
        return self.stepped(z_t, h_s, h_t, kept, added, noise if eta else None)

    @staticmethod
    def stepped(
        z_t: Tensor, h_s: Tensor, h_t: Tensor, kept: Tensor, added: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """The arithmetic of :meth:`step`, from factors of :meth:`stride`; nothing is checked."""
        z_s = torch.sub(z_t, h_t).mul_(kept).add_(h_s)
        return z_s if noise is None else z_s + added * noise

    def stride(self, s: Timestep, t: Timestep, eta: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of ``z_t - ĥ_t`` and of the noise, as wide as ``like``."""

        if not (isinstance(s, int) and isinstance(t, int)):
            return self._strides(self.jump(s, t, like.device), *self._sigmas(s, t, like), eta, like)
        how = (eta, like.device, like.dtype, like.ndim)
        factors = self._kept.get(("stride", s, t, *how))
        if factors is None:
            # All steps of a path that is known to come are worked out together.
            coming = self.pairs if (s, t) in self.pairs else [(s, t)]
            with torch.inference_mode(False), torch.no_grad():
                jumps = stacked([self.jump(*pair, like.device) for pair in coming])
                sigma_s, sigma_t = map(torch.cat, zip(*(self._sigmas(*pair, like) for pair in coming), strict=True))
                kept, added = self._strides(jumps, sigma_s, sigma_t, eta, like)
            for (end, begin), each in zip(coming, zip(kept.split(1), added.split(1), strict=True), strict=True):
                self._kept.keep(("stride", end, begin, *how), each)
            factors = self._kept["stride", s, t, *how]
        return factors

    def _sigmas(self, s: Timestep, t: Timestep, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.level(s, like.device).sigma, self.level(t, like.device).sigma

    def _strides(self, jump: Jump, sigma_s: Tensor, sigma_t: Tensor, eta: float, like: Tensor) -> tuple[Tensor, Tensor]:
        # σ_s² - τ² = (1 - η²) σ_s² + η² k² σ_t², which does not cancel where β is nearly σ_s².
        kept = ((1 - eta**2) * (sigma_s / sigma_t).square() + eta**2 * jump.k.square()).sqrt()
        return self.widen(kept, like), self.widen(eta * jump.beta.sqrt(), like)

    def _pair(
        self,
        z: Tensor,
        encodings: Tensor | None,
        s: Timestep,
        t: Timestep,
        z0: Tensor | None,
        h: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Jump]:
        h_s, h_t = (None, None) if h is None else check.both(h)
        if encodings is None and h is None and z0 is None and self.modalities == 0:
            z0 = torch.zeros_like(z)
        like = check.like(self, encodings, h_t, z0)
        check.same_shape(like, z=z)
        if h_s is not None and h_s.shape != like.shape:
            raise ValueError(f"process: h_s has shape {tuple(h_s.shape)}, expected that of h_t, {tuple(like.shape)}")
        check.alike(z=z, encodings=encodings, z0=z0, h_s=h_s, h_t=h_t)
        s, t = check.pair(self, s, t, len(like))
        m_s, m_t = (self._mean(encodings, part, z0, self._wide(u, like), like) for part, u in ((h_s, s), (h_t, t)))
        return m_s, m_t, self.jump(s, t, like.device)

    def _wide(self, t: Timestep | Level, like: Tensor) -> "_Wide":
        """The coefficients at a timestep as wide as ``like``."""
        if isinstance(t, int):
            key = ("wide", t, like.device, like.dtype, like.ndim)
            return self._kept.once(key, lambda: self._wide(self.level(t, like.device), like))
        ones = [1] * (like.ndim - 1)
        if isinstance(t, Level):
            W = t.W.to(like.dtype).reshape(*t.W.shape, *ones)
            return _Wide(self.widen(t.root_A, like), self.widen(t.sigma, like), W.unbind(1))
        # Rounded and reshaped once for all timesteps: one look-up is then all that a batch takes.
        columns = self._on(t.device).columns
        key = ("columns", t.device, like.dtype, like.ndim)
        table = self._kept.once(key, lambda: columns.to(like.dtype).reshape(*columns.shape, *ones))
        root_A, sigma, *W = table.index_select(0, t).unbind(1)
        return _Wide(root_A, sigma, W)

    def _mean(
        self, encodings: Tensor | None, h: Tensor | None, z0: Tensor | None, wide: "_Wide", like: Tensor
    ) -> Tensor:
        if h is None and encodings is not None and self.modalities:
            # One pass over each encoding, and no weighted copy of the space per modality.
            first, *rest = zip(wide.W, encodings.unbind(1), strict=True)
            h = first[0] * first[1]
            for W, encoding in rest:
                h = torch.addcmul(h, W, encoding)
        if h is None:
            h = torch.zeros_like(like)
        return h if z0 is None else h + wide.root_A * z0


@attrs.define(eq=False)
class _Wide:
    """A level's coefficients in the rank and dtype of the space: each ``(B, 1, …)``, or by channel ``(B, C, 1, …)``; of ``W`` one for each modality."""

    root_A: Tensor
    sigma: Tensor
    W: Sequence[Tensor]
