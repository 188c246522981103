"""What samples of a modality are: shape, dtype and range, and the value of what is not known."""

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError

VOID = -(2.0**100)
"""A void value of real numbers that have no limits: every format of real numbers holds it exactly."""


@attrs.frozen
class Spec:
    """Shape, dtype and range of one sample.

    Attributes:
        shape: of one sample, without the batch.
        dtype: of its elements.
        low: the smallest value; None for no limit.
        high: the largest value; None for no limit.
        unit_norm: whether the last axis has Euclidean norm 1.
        void: one more value, outside the range, of elements that are not known: pixels that nobody labelled, what a sensor did not see,
            empty cells; None where all are known. Real numbers without limits take :data:`VOID`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    low: float | None = None
    high: float | None = None
    unit_norm: bool = False
    void: float | None = None

    def check(self, x: Tensor, label: str) -> None:
        """Raise unless a batch ``x (B, *shape)`` fits.

        Raises:
            RequestError: naming the batch by its ``label``, what was found and what was expected.
        """
        if not isinstance(x, Tensor):
            raise RequestError(f"{label}: found {type(x).__name__}, expected a tensor (B, {_join(self.shape)})")
        if x.shape[1:] != self.shape or x.ndim != len(self.shape) + 1:
            raise RequestError(f"{label}: found shape {tuple(x.shape)}, expected (B, {_join(self.shape)})")
        if x.dtype != self.dtype:
            raise RequestError(f"{label}: found dtype {x.dtype}, expected {self.dtype}")
        if x.numel() == 0 or self._plainly_inside(x):
            return
        if x.is_floating_point() and not x.isfinite().all():
            raise RequestError(f"{label}: found NaN or infinity in row {_row(~x.isfinite())}, expected finite values")
        for bound, outside in ((self.low, lambda b: x < b - 1e-6), (self.high, lambda b: x > b + 1e-6)):
            if bound is None:
                continue
            wrong = outside(bound) if self.void is None else outside(bound) & (x != self.void)
            if wrong.any():
                void = "" if self.void is None else f" or void {self.void}"
                raise RequestError(
                    f"{label}: found {x[wrong][0].item():.6g} in row {_row(wrong)}, expected {self.low} … {self.high}{void}"
                )
        if self.unit_norm:
            wrong = (x.norm(dim=-1) - 1).abs() > 1e-3
            if self.void is not None:
                wrong = wrong & (x != self.void).any(-1)
            if wrong.any():
                raise RequestError(
                    f"{label}: found norm {x.norm(dim=-1)[wrong][0].item():.6g} in row {_row(wrong)}, expected 1 (± 0.001)"
                )

    def _plainly_inside(self, x: Tensor) -> bool:
        """Whether one pass over ``x`` shows that it fits, as of nearly every batch; NaN and infinity pass on to the extremes."""
        if self.unit_norm or self.void is not None:
            return False
        low, high = x.aminmax()
        inside = (self.low is None or bool(low >= self.low - 1e-6)) and (
            self.high is None or bool(high <= self.high + 1e-6)
        )
        return inside and (not x.is_floating_point() or bool(low.isfinite() & high.isfinite()))

    def placeholder(self, count: int) -> Tensor:
        """A batch of one valid value, ``(count, *shape)``, for rows that lack the modality."""
        fill = 0.0
        if self.unit_norm:
            fill = self.shape[-1] ** -0.5
        elif self.low is not None and self.low > 0:
            fill = self.low
        elif self.high is not None and self.high < 0:
            fill = self.high
        return torch.full((count, *self.shape), fill, dtype=self.dtype)

    def limits(self, element: int) -> tuple[float | None, float | None]:
        """The smallest and the largest value of an element, by its place in a flat sample; None for no limit."""
        return self.low, self.high

    def there(self, x: Tensor) -> Tensor:
        """Which elements of samples are known, and not void: bool of the shape of ``x (B, *shape)``.

        As ``where`` of :func:`mmcore.sample` it asks to fill what is void.
        """
        return torch.ones_like(x, dtype=torch.bool) if self.void is None else x != self.void

    def filled(self, x: Tensor) -> Tensor:
        """Samples with a valid value where they are void: what encoders and losses are given."""
        if self.void is None:
            return x
        return torch.where(self.there(x), x, self.placeholder(1).to(x.device, x.dtype))


def _join(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _row(wrong: Tensor) -> int:
    return int(wrong.flatten(1).any(1).nonzero()[0]) if wrong.ndim > 1 else int(wrong.nonzero()[0])
