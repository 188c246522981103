"""The same modality made anew, others of its kind, and what they answer. Imports nothing of the kit, as a new process waits for it."""

import contextlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmcore.modality.base import Modality
from mmcore.modality.holes import encoded, nats
from mmcore.rng import Rng


def again(m: Modality, **more: Any) -> Modality:
    """The same modality made anew, with these options in place of its own."""
    args, options = m.arguments
    if not more:
        return type(m)(*args, **options)
    own = inspect.signature(type(m)).bind_partial(*args).arguments
    return type(m)(**{**own, **options, **more})


def answers_of(m: Modality, x: Tensor, params: Tensor, decoder: Any, seed: int) -> dict[str, Tensor]:
    """Whatever depends on what was drawn while the modality was made."""
    with torch.no_grad():
        encode = m.encoder()
        return {
            "codes": encoded(m, encode, x),
            "losses": nats(m, m.loss(), params, x),
            "expected codes": m.expected_code(params, encode, decoder),
            "points": decoder.point(params),
            "draws": decoder.sample(params, Rng.for_rows(seed, len(x))),
        }


def reads_of(m: Modality, raws: Tensor) -> dict[str, Tensor]:
    """What it reads of raw values, given as the bytes of JSON; nothing where it refuses them."""
    found: list[Tensor] = []
    with contextlib.suppress(Exception):
        found = [m.read(raw) for raw in json.loads(raws.numpy().tobytes())]
    return {"what is read of raw values": torch.stack(found)} if found else {}


def others(m: Modality) -> list[Modality]:
    """The same modality with other options, as far as it takes them: numbers changed, lists in another order."""
    args, options = m.arguments
    signature = inspect.signature(type(m).__init__)
    bound = signature.bind_partial(m, *args, **options)
    bound.apply_defaults()
    own: Mapping[str, Any] = {k: v for k, v in list(bound.arguments.items())[1:] if signature.parameters[k].kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)}  # fmt: skip
    found = []
    # Whatever options made up here lead to is not in question.
    with contextlib.suppress(Exception):
        x = m.typical(64, 7)
        x = 2 * x + 1 if m.spec == type(m.spec)(m.spec.shape) else x
        found.append(again(m, **m.measured(x)))
    for name, value in own.items():
        for other in _changed(value):
            with contextlib.suppress(Exception):
                found.append(again(m, **{name: other}))
    return found[:6]


def _changed(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [1.5 * value + 0.1]
    if isinstance(value, list | tuple) and len(value) > 1 and value != value[::-1]:
        return [value[::-1]]
    return []
