"""What is void in a sample, on its way into the engine: no encoder and no loss has to know of it."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from mmcore.modality.base import LossTerm, Modality, ModalityProtocol
from mmcore.modality.orthogonal import Turned
from mmcore.process.coefficients import constant


def encoded(m: ModalityProtocol, encoder: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Encode samples ``x (B, *spec.shape)``; what void elements leave unknown of a code is 0: ``(B, *code)``.

    Args:
        m: the modality.
        encoder: its encoder, which may be turned.
        x: samples, some elements of which may be void.
    """
    # A turn is linear, so what is 0 adds nothing to it.
    turn = encoder.turned if isinstance(encoder, Turned) else None
    encode = cast("Callable[[Tensor], Tensor]", encoder.inner) if isinstance(encoder, Turned) else encoder
    known = code_there(m, x)
    if known is None:
        code = encode(x)
    else:
        code = encode(m.spec.filled(x) if m.divisible else torch.where(_wide(some_there(m, x), x), x, m.spec.filled(x)))
        code = torch.where(known, code, torch.zeros_like(code))
    return code if turn is None else turn(code)


def code_there(m: ModalityProtocol, x: Tensor, *, whole: bool = False) -> Tensor | None:
    """Which elements of the code of ``x (B, *spec.shape)`` are known, ``(B, *code)`` bool; None where the spec has no void.

    Args:
        m: the modality.
        x: samples.
        whole: whether the code is mixed as a whole, as by a turn; then any element that is known makes it so.
    """
    if m.spec.void is None:
        return None
    if m.divisible and not whole:
        return m.code_where(m.spec.there(x))
    return some_there(m, x).reshape(-1, *[1] * len(m.code)).expand(-1, *m.code)


def some_there(m: ModalityProtocol, x: Tensor) -> Tensor:
    """Which samples are not void as a whole: ``(B,)`` bool."""
    return m.spec.there(x).reshape(len(x), -1).any(1)


def nats(m: ModalityProtocol, loss: LossTerm, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """A loss term of ``target (B, *spec.shape)``, in which void elements do not count: ``(B,)``.

    Args:
        m: the target's modality.
        loss: the term.
        params: the decoder's.
        target: samples.
        where: ``(B, *spec.shape)`` bool, the elements that count; None for all.
    """
    if m.spec.void is None:
        return loss(params, target, where)
    there = m.spec.there(target)
    return loss(params, m.spec.filled(target), there if where is None else there & where)


def seen_of(m: Modality, x: Tensor, where: Tensor) -> Tensor:
    """Of the elements ``where (B, *spec.shape)`` those that can be observed: they are known, with all that is only observed together."""
    return whole_of(m, where if m.spec.void is None else where & m.spec.there(x))


def whole_of(m: Modality, where: Tensor) -> Tensor:
    """Of a mask ``(B, *spec.shape)`` the elements of which it has all that is only observed together."""
    if not m.together:
        return where
    first = constant(tuple(m.together), torch.int64, where.device)
    lacks = (~where.flatten(1)).int()
    lacking = torch.zeros_like(lacks).index_add(1, first, lacks)
    return (lacking.index_select(1, first) == 0).reshape(where.shape)


def _wide(rows: Tensor, x: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (x.ndim - 1))
