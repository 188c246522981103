"""Serves the page of a model whose modalities no distribution offers: with a control of each kind, without one, with a broken one, and a slow one.

python -m tests.play.browser.strange FOLDER COUNTS
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

import mmcore
from mmcore import Decoder, Reader
from mmcore.modality.control import Control, Number, Numbers
from mmcore.modality.mixed import Mixed
from mmcore.play.serve import serve
from mmcore.testing.reference import Reference
from tests.play.browser.kinds import KINDS

COUNTS = Path(sys.argv[2])
"""A file that grows by a byte with each step of the sampler."""


class Dial(Reference):
    """Has a control of its own."""

    def __init__(self) -> None:
        super().__init__(2)

    def control(self) -> Control:
        return Numbers((Number(span=(-2, 2), unit="bar", name="pressure"), Number(span=(-1, 1), unit="K", name="heat")))


class Plain(Reference):
    """Says nothing of controls, and is slow."""

    def expected_code(self, params: Tensor, encode: Callable[[Tensor], Tensor], decoder: Decoder) -> Tensor:
        with COUNTS.open("ab") as file:
            file.write(b".")
        time.sleep(0.1)
        return super().expected_code(params, encode, decoder)


class Broken(Reference):
    """Its control is no control, and its name would be markup."""

    def __init__(self) -> None:
        super().__init__(20)

    def control(self) -> Any:
        return "<b>${alert(1)}{{x}}</b>"

    def show(self, x: Tensor) -> str:
        return "<img src=x onerror=alert(1)>${1+1}{{x}}"


class Table(Mixed):
    """Columns, any of which may be missing."""

    def __init__(self) -> None:
        reg = mmcore.discover()
        super().__init__(
            "table", {"age": reg.modality("scalar", mean=40, std=10), "kind": reg.modality("label", classes=3)}
        )


if __name__ == "__main__":
    registry = mmcore.discover()
    strangers = (Dial, Plain, Broken, Table, *KINDS)
    for made in strangers:
        registry.register("modality", made.__name__.lower(), made)
    parts = [registry.modality(made.__name__.lower()) for made in strangers]
    model = mmcore.compose(
        parts, backbone="mlp", backbone_options={"width": 8, "depth": 1, "features": 2}, registry=registry
    )
    mmcore.save(model, sys.argv[1])
    serve(
        Reader.open(sys.argv[1], registry=registry, device="cpu"),
        sys.argv[1],
        port=0,
        say=lambda line: print(line, flush=True),
    )
