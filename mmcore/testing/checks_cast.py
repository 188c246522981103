"""Parts that are cast after they were used: what they keep of calls in one precision must not outlive it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_backbone import inputs, random_backbone
from mmcore.testing.context import Context

HALF = torch.bfloat16


def _cast(x: Tensor) -> Tensor:
    return x.to(HALF) if x.is_floating_point() else x


def _compare(c: Context, what: str, make: Callable[[], nn.Module], given: tuple[Tensor, ...]) -> None:
    """Fail unless one that was used in single precision and is then cast gives what one gives that is cast at once."""
    used, half = make(), tuple(map(_cast, given))
    first = used(*given).detach()
    try:
        want = make().to(HALF)(*half).detach()
    # Whether it computes in half precision at all is asked elsewhere.
    except Exception as error:
        raise NotRun(f"{what} is not given in half precision: {type(error).__name__}: {error}"[:200]) from None
    got = used.to(HALF)(*half).detach()
    if got.dtype != want.dtype:
        c.fail(f"{what} in {got.dtype} once the part was used in {first.dtype} and then cast", f"{want.dtype}, as of one that is cast at once")  # fmt: skip
    c.same(got.nan_to_num(), want.nan_to_num(), f"{what} of a part that was cast after it was used")


@check("state.cast", fault="a table kept in the precision of the first call", core=False, tolerance=1e-6)
def state_cast(c: Context) -> None:
    """Encoder and decoder that were used before they are cast to half precision give there what those give that are cast at once."""
    features, t = c.features(3)
    parts: list[tuple[str, Any, tuple[Tensor, ...]]] = [
        ("the code", c.encoder, (c.typical(3),)),
        ("the parameters", c.decoder, (features, t)),
    ]
    for what, make, given in parts:
        _compare(c, what, make, given)


@check("backbone.cast", kind="backbone", fault="a table kept in the precision of the first call", core=False, tolerance=1e-6)  # fmt: skip
def backbone_cast(c: Context) -> None:
    """One that was used before it is cast to half precision gives there what one gives that is cast at once."""
    z, t, roles, condition = inputs(c, 4)
    _compare(c, "features", lambda: random_backbone(c), (z, t, roles, condition))
