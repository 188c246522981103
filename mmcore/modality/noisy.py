r"""What a modality's own noisy code says of it by itself: where a decoder begins, so that the network need only add what the rest says.

In the space a generated modality has :math:`z_i = W_t^{(i)} E_i + \sigma_t \epsilon`. Near :math:`t = 0` that is nearly all there is to know: a network that had to
pass it on through its layers would do so with an error that is large beside :math:`\sigma_t`, and a sampler adds up such errors from step to step. So the
decoder is given it, as in "Elucidating the Design Space of Diffusion-Based Generative Models" (Karras et al. 2022), section 5; for classes it is Bayes' rule.
"""

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class NoisyCode:
    """A modality's own noisy code, and how it came about: ``z = W E + σ ε``.

    Where a row does not generate the modality, and at ``T`` where nothing of the code is left, it says nothing: ``z = 0``, ``W = 0`` and ``σ = 1``.

    Attributes:
        z: ``(B, *code)``.
        weight: ``W``, ``(B,)``.
        sigma: ``σ``, ``(B,)``, above 0.
    """

    z: Tensor
    weight: Tensor
    sigma: Tensor

    @classmethod
    def nothing(cls, like: Tensor) -> "NoisyCode":
        """One that says nothing, of codes like these ``(B, *code)``."""
        one = like.new_ones(len(like))
        return cls(torch.zeros_like(like), torch.zeros_like(one), one)

    def normal(self) -> tuple[Tensor, Tensor]:
        r"""The code's mean ``(B, *code)`` and deviation ``(B, 1, …)``, were each of its elements standard normal.

        .. math:: \frac{W z}{W^2 + \sigma^2}, \qquad \frac{\sigma}{\sqrt{W^2 + \sigma^2}}

        Of a head that says how the truth differs from it (:meth:`around`) only numbers of about unit variance are asked.
        """
        power = self.weight.square() + self.sigma.square()
        mean = self._wide(self.weight / power) * self.z
        return mean, self._wide(self.sigma * power.rsqrt())

    def around(self, out: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation of a code, from how a head says that they differ from :meth:`normal`, in its deviations.

        Args:
            out: ``(B, *code)``.
            log_scale: ``(B, *code)``, or with 1 where elements share one.
        """
        mean, deviation = self.normal()
        return mean + deviation * out, log_scale + deviation.log()

    def log_likelihood(self, codes: Tensor) -> Tensor:
        r"""``log p(z | k)`` of classes by their codes, to a constant of each row.

        .. math:: \frac{W \langle z, e_k \rangle - W^2 |e_k|^2 / 2}{\sigma^2}

        Added to the logits of what else is known it is Bayes' rule.

        Args:
            codes: ``(K, C)``; of a code ``(B, C)``, or of one ``(B, C, *grid)`` at each place.

        Returns:
            ``(B, K)`` or ``(B, K, *grid)``.
        """
        codes = codes.to(self.z.dtype)
        along = torch.einsum("bc...,kc->bk...", self.z, codes)
        length = codes.square().sum(1).reshape(-1, *[1] * (self.z.ndim - 2)) / 2
        pull = self.weight / self.sigma.square()
        return self._wide(pull) * (along - self._wide(self.weight) * length)

    def _wide(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *[1] * (self.z.ndim - 1))
