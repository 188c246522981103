"""Parameters that a decoder can give, where not all numbers are any.

Logarithms of probabilities sum to one, so that other numbers beside them are no distribution, and a loss that is told such numbers is
not at fault. Where a check moves parameters freely and finds something, it asks again by what the decoder reads.
"""

import torch
from torch import Tensor

from mmcore.testing.context import Context, descend

LARGEST = 512
"""Of how many parameters at most it is asked whether they are free."""


def restricted(c: Context) -> bool:
    """Whether the decoder's parameters keep to a surface: no change of its features and weights moves them in some direction."""
    decoder = c.decoder().double()
    features = c.features(1)[0].double().requires_grad_()
    out = decoder(features, torch.ones(1, dtype=torch.int64, device=c.device)).flatten()
    if len(out) > LARGEST:
        return False
    moved = [features, *(p for p in decoder.parameters() if p.requires_grad)]
    rows = []
    for value in out:
        slopes = torch.autograd.grad(value, moved, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros(x.numel()).to(x) if g is None else g.flatten() for g, x in zip(slopes, moved, strict=True)]))  # fmt: skip
    jacobian = torch.stack(rows).detach()
    # Each parameter in its own unit, so that a small one is no lack.
    size = jacobian.norm(dim=1, keepdim=True)
    sizes = torch.linalg.svdvals(jacobian / size.clamp(min=1e-300))
    return bool(sizes[-1] < 1e-9 * sizes[0])


def wide(c: Context, n: int) -> Tensor:
    """Rows of parameters of plain features, of ``n`` those of which no draw lies on a limit of the spec; none where it has no limits."""
    spec, params = c.modality.spec, c.params_at(1.0, c.seed + 1, n)
    limits = [limit for limit in (spec.low, spec.high) if limit is not None]
    if not spec.dtype.is_floating_point or not limits:
        return params[:0]
    keep = []
    for k in range(n):
        x = c.draws(params[k : k + 1], 2000, f"wide {k}")
        if not any(bool(((x - limit).abs() <= 1e-6 * max(1.0, abs(limit))).any()) for limit in limits):
            keep.append(k)
    return params[keep]


class Reached:
    """Rows of parameters by the features that the decoder reads.

    Args:
        c: the trial.
    """

    def __init__(self, c: Context) -> None:
        self.c, self.decoder = c, c.decoder().requires_grad_(False)

    def start(self, n: int, scale: float = 1.0) -> Tensor:
        """Features ``(n, WIDTH, *grid)``."""
        return scale * self.c.features(n)[0]

    def __call__(self, features: Tensor) -> Tensor:
        """Parameters of features, ``(n, ...)``."""
        return self.decoder(features, torch.ones(len(features), dtype=torch.int64, device=features.device))

    def constant(self, x: Tensor) -> Tensor:
        """The best parameters that it reaches for all of these samples, ``(1, ...)``."""
        features = self.start(1, 0.1).requires_grad_()

        def loss(f: Tensor) -> Tensor:
            p = self(f)
            return self.c.loss(p.expand(len(x), *p.shape[1:]), x).mean()

        descend(features, loss, steps=400, lr=0.1)
        return self(features.detach()).detach()
