"""What a network and its heads are given of noisy latents."""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor, nn

from mmcore.modality.base import Modality
from mmcore.modality.noisy import NoisyCode
from mmcore.modality.orthogonal import Turned
from mmcore.model.drive import Drive
from mmcore.model.frame import Frame
from mmcore.process import Blocks

READINGS = ("codes", "space")
"""Each code by itself, or the space as it is."""


@attrs.define(eq=False)
class Gains:
    """By what noisy latents are read.

    Attributes:
        shown: of each code element, ``(B, D)``, what brings it to unit variance, 0 where its noise is idle; where the space is read as it is, of
            that, ``(B, C, 1, …)``.
        weight: ``(B, N)``, ``W`` of what heads are told, 0 elsewhere; None where they are told nothing.
        sigma: ``(B, N)``, ``σ`` of the same, 1 elsewhere.
    """

    shown: Tensor
    weight: Tensor | None = None
    sigma: Tensor | None = None


@attrs.define(eq=False)
class Read:
    """What is read of noisy latents.

    Attributes:
        shown: to the network, ``(B, *Z)``.
        codes: to the heads, ``(B, D)``; None for nothing.
        weight: ``(B, N)``, their ``W``.
        sigma: ``(B, N)``, their ``σ``.
    """

    shown: Tensor
    codes: Tensor | None = None
    weight: Tensor | None = None
    sigma: Tensor | None = None


class Reading:
    """How a model reads noisy latents.

    With ``"codes"`` the network is shown each code by itself, at unit variance wherever it lies, and zero where none is generated. Noise there is idle: all that it could do
    is to hide the condition. So is, of a repeated code, all noise but that along the code. Heads that ask for it begin from their own noisy code, unless
    codes overlap.

    The modules are the model's: they are seen from here, not kept.

    Args:
        how: one of :data:`READINGS`.
        process: the forward process.
        frame: where codes lie.
        modalities: in order.
        encoders: by modality.
        decoders: each task's, in order.
        targets: each task's target, in order.

    Attributes:
        how: as given.
        begins: of each task, whether its head begins from its target's own noisy code.
        beginning: the names of these targets.
    """

    def __init__(
        self,
        how: str,
        process: Blocks,
        frame: Frame,
        modalities: Sequence[Modality],
        encoders: nn.ModuleDict,
        decoders: Sequence[nn.Module],
        targets: Sequence[Modality],
    ) -> None:
        self.how, self.process, self.frame = how, process, frame
        self.modalities, self.encoders = tuple(modalities), encoders
        # Where codes overlap, what lies at a code's place is others' too, and no noise of known deviation.
        told = how == "codes" and frame.layers == 1
        self.begins = tuple(told and getattr(decoder, "preconditioned", False) is True for decoder in decoders)
        self.beginning = frozenset(m.name for m, begins in zip(targets, self.begins, strict=True) if begins)

    def gains(self, drive: Drive, dtype: torch.dtype) -> Gains:
        """By what noisy latents are read, which roles and timesteps alone decide."""
        process, frame = self.process, self.frame
        if self.how == "space":
            return Gains(process.widen(drive.scale, drive.scale.new_empty(1, *frame.space.shape)).to(dtype))
        level = drive.level
        sigma = process.by_modality(level.sigma)
        power = torch.where(drive.shown, (level.W.square() + sigma.square()).rsqrt(), 0.0)
        shown = frame.by_code(power.to(dtype))
        if drive.known is not None:
            shown = torch.where(drive.known, 0.0, shown)
        if not self.beginning:
            return Gains(shown)
        # Of a block that is observed, and has no noise, no head is asked.
        told = drive.shown & (sigma > 0)
        weight, sigma = torch.where(told, level.W, 0.0), torch.where(told, sigma, 1.0)
        return Gains(shown, weight.to(dtype), sigma.to(dtype))

    def read(self, z: Tensor, gains: Gains) -> Read:
        """What is read of noisy latents ``(B, *Z)``."""
        if self.how == "space":
            return Read(z * gains.shown)
        codes = self.frame.take(z)
        return Read(self.frame.show(codes * gains.shown), codes, gains.weight, gains.sigma)

    def own(self, read: Read) -> dict[str, NoisyCode]:
        """The own noisy codes of those modalities whose heads begin from them, by name."""
        if read.codes is None or read.weight is None or read.sigma is None:
            return {}
        rows, found = len(read.codes), {}
        for i, (m, part) in enumerate(zip(self.modalities, self.frame.split(read.codes), strict=True)):
            if m.name in self.beginning:
                weight, sigma = (x[:, i].expand(rows) for x in (read.weight, read.sigma))
                z, encoder = part.reshape(-1, *m.code), self.encoders[m.name]
                if isinstance(encoder, Turned):
                    z = encoder.back(z)
                found[m.name] = NoisyCode(z * (weight > 0).reshape(-1, *[1] * (z.ndim - 1)), weight, sigma)
        return found
