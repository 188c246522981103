r"""What a modality's own noisy code says of it by itself: where a decoder of few numbers begins, so that the network need only say what all else does.

In the space a generated modality has :math:`z_i = W_t^{(i)} E_i + \sigma_t \epsilon`. Near :math:`t = 0` that is nearly all there is to know: a network that had to
pass it on through its layers would do so with an error that is large beside :math:`\sigma_t`, and a sampler adds up such errors from step to step. So the
decoder is given it: the network says what all else makes of the value, and Bayes' rule joins the two. Where all else says that a code is standard normal, this is
the preconditioning of "Elucidating the Design Space of Diffusion-Based Generative Models" (Karras et al. 2022), section 5.
"""

import attrs
import torch
from torch import Tensor


@attrs.define(eq=False)
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

    def around(self, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        r"""Bayes' rule for real values: mean and log deviation of a code that is normal by all else, given its own noisy code.

        .. math:: \frac{\mu \sigma^2 + s^2 W z}{\sigma^2 + s^2 W^2}, \qquad \log \frac{s \sigma}{\sqrt{\sigma^2 + s^2 W^2}}

        Args:
            mean: ``μ (B, *code)``, what all else says.
            log_scale: ``log s (B, *code)``, or with 1 where elements share one.
        """
        W, variance, s2 = self._wide(self.weight), self._wide(self.sigma.square()), (2 * log_scale).exp()
        power = variance + s2 * W.square()
        return (mean * variance + s2 * W * self.z) / power, log_scale + 0.5 * (variance / power).log()

    def _wide(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *[1] * (self.z.ndim - 1))
