"""Trained encoders, which keep the variance of their latents by construction."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from mmcore.errors import RequestError
from mmcore.modality.base import Encoder

LARGEST = 256
"""The longest code that is turned as a whole."""


class Turned(Encoder):
    """A fixed encoder followed by a learned orthogonal matrix.

    A loss can lower itself by making codes large, so that no noise hides them, or small, so that nothing is left to
    predict; a turn can do neither. Whatever the weights, the code's length is the fixed code's, element by element of a
    batch, and its covariance has the same eigenvalues. What it can learn is which directions of the code lie at which places of the space.

    A code of up to 256 numbers is turned as a whole, a larger one across its channels, alike at all places.

    Args:
        inner: the fixed encoder.
        code: the shape of its code.

    Raises:
        RequestError: a code with nothing to turn.
    """

    def __init__(self, inner: nn.Module, code: Sequence[int]) -> None:
        super().__init__()
        self.inner, self.whole = inner, math.prod(code) <= LARGEST
        size = math.prod(code) if self.whole else code[0]
        if size < 2:
            raise RequestError(
                f"a code of shape {tuple(code)} cannot be turned, expected 2 numbers at least and at most {LARGEST}, or 2 channels"
            )
        # With a trivialisation the matrix can start anywhere: here where nothing is turned.
        self.turn = orthogonal(nn.Linear(size, size, bias=False), orthogonal_map="matrix_exp", use_trivialization=True)
        with torch.no_grad():
            self.turn.weight = torch.eye(size)

    def forward(self, x: Tensor) -> Tensor:
        """Encode by the fixed encoder, and turn."""
        return self.turned(self.inner(x))

    def turned(self, code: Tensor) -> Tensor:
        """Multiply a latent of the fixed encoder, or a mean of such, by the matrix."""
        return self._times(cast(Tensor, self.turn.weight), code)

    def back(self, code: Tensor) -> Tensor:
        """The latent of the fixed encoder that was turned to this one."""
        return self._times(cast(Tensor, self.turn.weight).T, code)

    def _times(self, weight: Tensor, code: Tensor) -> Tensor:
        weight = weight.to(code.dtype)
        rows = code.flatten(1) if self.whole else code.movedim(1, -1)
        turned = F.linear(rows, weight)
        return turned.reshape(code.shape) if self.whole else turned.movedim(-1, 1)
