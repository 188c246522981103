"""Where the modalities' latents lie in the diffused tensor: packing them, taking them up again, and which elements are known."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmcore.modality.base import Modality
from mmcore.space import Placement, Space

Seen = Mapping[str, Tensor]


class Frame(nn.Module):
    """Packs the modalities' latents into the one tensor that is diffused.

    Codes are concatenated, ``(B, D)``. At their places they are ``(B, layers, dim Z)``, each element still one modality's own; there is
    one layer, unless codes overlap. As such they are what :class:`mmcore.process.bound.Placed` asks for.

    Args:
        space: the diffusion space.
        placement: of the codes.
        modalities: whose codes they are, in order.
    """

    def __init__(self, space: Space, placement: Placement, modalities: Sequence[Modality]) -> None:
        super().__init__()
        self.space, self.modalities, self.placement, self.sizes = space, tuple(modalities), placement, placement.sizes
        self.register_buffer("_source", placement.source.flatten(), persistent=False)
        stand_in = torch.where(placement.owner == len(modalities), 0, placement.source)
        self.register_buffer("_stand_in", stand_in.flatten(), persistent=False)
        self.register_buffer("_scale", placement.scale, persistent=False)
        self.register_buffer("_owner", placement.owner.flatten(), persistent=False)
        self.register_buffer(
            "_loud", torch.where(placement.scale != 0, 1 / placement.scale.abs(), 0.0), persistent=False
        )
        self.register_buffer(
            "_of_code", torch.arange(len(modalities)).repeat_interleave(torch.tensor(self.sizes)), persistent=False
        )
        self.layers = len(placement.owner)
        # Codes that fill the space in its own order, as a single image's do, need no placing.
        in_order = torch.equal(placement.source, torch.arange(space.size)[None])
        self._as_they_are = in_order and bool((placement.scale == 1).all())

    # ---- from codes to the space ----

    def place(self, codes: Tensor) -> Tensor:
        """Pack concatenated latents ``(B, D)`` into the space: ``(B, layers, dim Z)``."""
        if self._as_they_are:
            return codes.unflatten(1, (1, self.space.size))
        if not torch.is_grad_enabled():
            # Where there is no code, the first element of all stands in, and its factor is 0: the same values by fewer operations.
            placed = codes.index_select(1, cast(Tensor, self._stand_in)).view(-1, self.layers, self.space.size)
        else:
            placed = self._columns(codes, cast(Tensor, self._source))
        return placed * self._scale  # type: ignore[operator]

    def take(self, z: Tensor) -> Tensor:
        """What a latent tensor ``(B, *Z)`` holds of each code element: ``P_iᵀ z``, concatenated ``(B, D)``, of a repeated code the sum over its copies."""
        if self._as_they_are:
            return z.flatten(1)
        terms = z.flatten(1)[:, None] * self._scale  # type: ignore[operator]
        sums = z.new_zeros(len(z), sum(self.sizes) + 1).index_add(
            1, cast(Tensor, self._source), terms.flatten(1).to(z.dtype)
        )
        return sums[:, :-1]

    def show(self, codes: Tensor) -> Tensor:
        """Concatenated codes ``(B, D)`` as a network reads them: each element as large as it is wherever it lies, ``(B, *Z)``."""
        if self._as_they_are:
            return codes.reshape(-1, *self.space.shape)
        placed = self._columns(codes, cast(Tensor, self._source))
        return self.join(placed if self.layers == 1 else placed * cast(Tensor, self._scale).sign())

    def loud(self, placed: Tensor) -> Tensor:
        """Packed latents ``(B, layers, dim Z)``, repeated codes as large as they are, for a network to read."""
        return placed if self._as_they_are else placed * self._loud  # type: ignore[operator]

    def by_code(self, values: Tensor) -> Tensor:
        """A number for each modality, ``(B, N)``, for each of its code's elements: ``(B, D)``."""
        return values.index_select(1, cast(Tensor, self._of_code))

    def spread(self, values: Tensor) -> Tensor:
        """A number for each modality, ``(B, N)``, at its elements: ``(B, layers, dim Z)``; zero where there is no code."""
        return self._columns(values, cast(Tensor, self._owner))

    def marks(self, codes: Tensor) -> Tensor:
        """Bool ``(B, D)`` at the codes' places, ``(B, layers, dim Z)``; False where there is no code."""
        return self._columns(codes, cast(Tensor, self._source))

    def collect(self, values: Tensor) -> Tensor:
        """Sums of ``(B, layers, dim Z)`` over each modality's elements: ``(B, N)``."""
        flat = values.flatten(1)
        sums = flat.new_zeros(len(flat), len(self.sizes) + 1).index_add(1, cast(Tensor, self._owner), flat)
        return sums[:, : len(self.sizes)]

    def join(self, placed: Tensor) -> Tensor:
        """The latent tensor that packed latents add up to: ``(B, *Z)``."""
        joined = placed if self.layers == 1 else placed.sum(1)
        return joined.reshape(-1, *self.space.shape)

    def weighted(self, placed: Tensor, weight: Tensor, known: Tensor | None = None) -> Tensor:
        """The weighted sum ``Σ_i w_i E_i`` of packed latents: ``(B, *Z)``.

        Args:
            placed: ``(B, layers, dim Z)``.
            weight: ``(B, N)``, or what :meth:`spread` makes of it; where it is 0, nothing enters, whatever the code is.
            known: ``(B, D)`` bool, code elements that are left out; None for none.
        """
        if weight.ndim == 2:
            weight = self.spread(weight.to(placed.dtype))
        counts = weight != 0
        if known is not None:
            counts = counts & ~self.marks(known)
        return self.join(torch.where(counts, placed * weight, 0.0))

    # ---- concatenated codes ----

    def together(self, codes: Sequence[Tensor]) -> Tensor:
        """Concatenate latents ``(B, …)``: ``(B, D)``; in double precision where the model is, whatever digits the samples have."""
        joined = torch.cat([code.flatten(1) for code in codes], dim=1)
        return joined.to(torch.promote_types(joined.dtype, cast(Tensor, self._scale).dtype))

    def split(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Split concatenated latents ``(B, D)`` by modality, flat."""
        return codes.split(self.sizes, dim=1)

    def known(self, seen: Seen, generate: Tensor) -> Tensor:
        """Which latent elements of generated modalities are known (inpainting): ``(B, D)`` bool.

        Args:
            seen: ``(B, *spec.shape)`` bool by name, the elements that are observed.
            generate: ``(B, N)`` bool.
        """
        parts = []
        for i, (m, size) in enumerate(zip(self.modalities, self.sizes, strict=True)):
            if m.name in seen:
                parts.append(m.code_where(seen[m.name]).flatten(1) & generate[:, i, None])
            else:
                parts.append(generate.new_zeros(len(generate), size))
        return torch.cat(parts, dim=1)

    def _columns(self, values: Tensor, at: Tensor) -> Tensor:
        # One more column, for elements that hold no code. By brackets it takes five times as long.
        values = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
        return values.index_select(1, at).unflatten(1, (self.layers, self.space.size))
