"""A model in evaluation mode for as long as somebody asks it something, and then as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import attrs
from torch import nn


@attrs.define
class _Asked:
    """How many ask a model, and which of its parts were in training mode before the first."""

    count: int
    training: list[nn.Module]


_ASKED: WeakKeyDictionary[nn.Module, _Asked] = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, a model in evaluation mode; then each of its parts is in the mode that it had.

    Several threads may be within at once: the first one changes the mode, and the last one puts it back.
    """
    with _LOCK:
        asked = _ASKED.get(model)
        if asked is None:
            asked = _ASKED[model] = _Asked(0, [part for part in model.modules() if part.training])
            model.eval()
        asked.count += 1
    try:
        yield
    finally:
        with _LOCK:
            asked.count -= 1
            if not asked.count:
                del _ASKED[model]
                for part in asked.training:
                    part.training = True
