"""Decoders that begin from their own noisy code: what they make of it."""

import torch
from torch import Tensor

from mmcore.modality.noisy import NoisyCode
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context

FAINT = 1e-5
"""The noise at which nothing but the code's own elements is worth knowing."""


def _asked(c: Context, n: int, sigma: float) -> tuple[Tensor, NoisyCode]:
    """Codes of typical samples, and what is left of them in so much noise."""
    decoder = c.decoder()
    if not getattr(decoder, "preconditioned", False):
        raise NotRun("not asked: the decoder does not begin from its own noisy code (preconditioned = False)")
    with torch.no_grad():
        code = c.encoder()(c.typical(n)).to(c.dtype)
    weight = (1 - sigma**2) ** 0.5
    z = weight * code + sigma * c.rng(n, "noise").normal(*c.modality.code, dtype=c.dtype)
    one = code.new_ones(n)
    return code, NoisyCode(z, weight * one, sigma * one)


@check("own.nothing", fault="a deviation of the data's in the place of 1 where nothing is known", tolerance=1e-5)
def nothing(c: Context) -> None:
    """A noisy code that says nothing changes no parameter."""
    code, _ = _asked(c, 6, 0.5)
    decoder, (features, t) = c.decoder(), c.features(6)
    plain = decoder(features, t)
    c.same(decoder(features, t, NoisyCode.nothing(code)), plain, "parameters beside a code that says nothing")


@check("own.rows", fault="a noisy code that is averaged over the batch", tolerance=1e-4)
def rows(c: Context) -> None:
    """A sample's parameters depend on its own noisy code, and on no other row's."""
    _, own = _asked(c, 6, 0.5)
    decoder, (features, t) = c.decoder().train(), c.features(6)
    whole = decoder(features, t, own)
    order = torch.tensor([4, 0, 5, 2, 1, 3], device=c.device)
    permuted = NoisyCode(own.z[order], own.weight[order], own.sigma[order])
    c.same(decoder(features[order], t[order], permuted), whole[order], "parameters of the permuted batch", like=whole)
    for k in range(0, 6, 2):
        some = slice(k, k + 2)
        part = NoisyCode(own.z[some], own.weight[some], own.sigma[some])
        c.same(
            decoder(features[some], t[some], part), whole[some], f"parameters of rows {k} and {k + 1} alone", like=whole
        )


@check(
    "own.clean",
    fault="a noisy code that is taken for the value, or with its sign turned; one that is scaled by the data's deviation twice",
    tolerance=0.15,
)
def clean(c: Context) -> None:
    """As the noise vanishes the expected code comes to the code itself, whatever the features are."""
    code, own = _asked(c, 24, FAINT)
    decoder, (features, t) = c.decoder(), c.features(24)
    with torch.no_grad():
        expected = c.modality.expected_code(decoder(features, torch.ones_like(t), own), c.encoder(), decoder)
    c.same(expected, code, f"expected codes where the noise is {FAINT} of the deviation", like=code)
