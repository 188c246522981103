"""Broken decoders that begin from their own noisy code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from mmcore import Decoder, Space
from mmcore.modality import NoisyCode
from mmcore.testing.reference import Reference, ReferenceDecoder
from tests.testing.mutants import Mutant


def begun(change: Callable[[NoisyCode], NoisyCode]) -> Callable[[Path], Any]:
    """A reference whose decoder takes another noisy code than it is given."""

    class Begun(ReferenceDecoder):
        def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
            return super().forward(features, t, None if own is None else change(own))

    class Wrong(Reference):
        def decoder(self, width: int, space: Space) -> Decoder:
            return Begun(width, space, self.spec.shape[0])

    return lambda _: Wrong()


MUTANTS = [
    Mutant("own.nothing", "a weight where nothing is known", begun(lambda own: attrs.evolve(own, weight=own.weight + 0.3))),
    Mutant("own.nothing", "a code of one where nothing is known", begun(lambda own: attrs.evolve(own, z=own.z + 1, weight=own.weight.clamp(min=0.1)))),
    Mutant("own.rows", "a noisy code averaged over the batch", begun(lambda own: attrs.evolve(own, z=own.z - own.z.mean(0)))),
    Mutant("own.rows", "the first row's noise for all", begun(lambda own: attrs.evolve(own, z=own.z[:1].expand_as(own.z)))),
    Mutant("own.clean", "a noisy code with its sign turned", begun(lambda own: attrs.evolve(own, z=-own.z))),
    Mutant("own.clean", "a noisy code over its weight twice", begun(lambda own: attrs.evolve(own, weight=0.7 * own.weight))),
    Mutant("own.clean", "a noisy code that is left out", begun(lambda own: NoisyCode.nothing(own.z))),
    Mutant("own.clean", "a noise that never vanishes", begun(lambda own: attrs.evolve(own, sigma=own.sigma.clamp(min=0.7)))),
]  # fmt: skip
