"""The shape of the latent tensor that is diffused, its blocks, and where each modality's latent lies in it.

A layout divides the space's channels into blocks, each shared by some modalities. Within a block codes add up, so they must be recoverable from their sum. :func:`place`
gives each code elements of the space of its own: the isometries ``P_i`` are selections with
``P_iᵀ P_j = 0`` for ``i ≠ j``. Spatial codes keep their structure; flat codes fill what is left, repeated
(and scaled down, so that ``P_iᵀ P_i = I``) to reach every part of the space. The noise is
isotropic, so no rotation of such codes carries more.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Self

import attrs
import torch
from torch import Tensor

from mmcore.errors import OptionError, nearest


@attrs.frozen
class Space:
    """The shape of the latent tensor that is diffused, ``Z``: channels first, then one to three axes.

    Attributes:
        shape: ``(C, *grid)``.
    """

    shape: tuple[int, ...] = attrs.field(converter=tuple)

    def __attrs_post_init__(self) -> None:
        if not 2 <= len(self.shape) <= 4 or any(not isinstance(n, int) or n < 1 for n in self.shape):
            raise OptionError("", "space", self.shape, "(C, L), (C, H, W) or (C, D, H, W), each ≥ 1")

    @classmethod
    def for_codes(cls, codes: Sequence[tuple[int, ...]], members: Sequence[Sequence[int]] | None = None) -> Self:
        """The smallest latent tensor with the grid of the largest spatial latent and room for all.

        Args:
            codes: their shapes.
            members: each block's codes; by default one block for all.
        """
        sizes = [math.prod(code) for code in codes]
        grids = [code[1:] for code in codes if 2 <= len(code) <= 4]
        grid = max(grids, key=math.prod) if grids else (min(8, sum(sizes)),)
        blocks = [range(len(codes))] if members is None else members
        return cls((sum(-(-sum(sizes[i] for i in block) // math.prod(grid)) for block in blocks), *grid))

    @property
    def grid(self) -> tuple[int, ...]:
        """The axes after the channels, ``Z[1:]``."""
        return self.shape[1:]

    @property
    def size(self) -> int:
        """The number of elements, ``dim Z``."""
        return math.prod(self.shape)


@attrs.frozen(eq=False)
class Placement:
    """The isometries ``P_i``, stored as where each element of the space takes its value from.

    Codes are concatenated into one vector ``(B, D)`` with a zero appended. In layer ``l``,
    element ``e`` of the space holds ``scale[l, e] * vector[source[l, e]]``. There is one layer, unless
    codes overlap.

    Attributes:
        source: ``(layers, dim Z)`` int64 places in the concatenated codes; ``D`` is the zero.
        scale: ``(layers, dim Z)``.
        owner: ``(layers, dim Z)`` int64, the modality each element belongs to; ``N`` where none.
        sizes: the number of elements of each code.
    """

    source: Tensor
    scale: Tensor
    owner: Tensor
    sizes: tuple[int, ...]

    def matrix(self, modality: int) -> Tensor:
        """``P_i`` as a matrix ``(dim Z, d_i)`` in float64, to look at and to test."""
        start = sum(self.sizes[:modality])
        P = torch.zeros(self.source.shape[1], self.sizes[modality], dtype=torch.float64)
        for layer in range(len(self.source)):
            elements = (self.owner[layer] == modality).nonzero()[:, 0]
            P[elements, self.source[layer, elements] - start] += self.scale[layer, elements].double()
        return P


LAYOUTS = ("shared", "separate")
"""The layouts by name; any other grouping is given as lists of modality names."""


@attrs.frozen
class Layout:
    """The blocks of a space: ranges of its channels, each shared by some modalities.

    Attributes:
        members: each block's modalities, as places in the composition.
        channels: each block's number of channels, in the order of the space.
    """

    members: tuple[tuple[int, ...], ...]
    channels: tuple[int, ...]

    @staticmethod
    def groups(layout: str | Sequence[Sequence[str]], names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Each block's modalities, as places in ``names``.

        Args:
            layout: ``"shared"`` (one block for all), ``"separate"`` (one block each), or groups of names.
            names: of the modalities.

        Raises:
            OptionError: an unknown layout, or a modality that is named twice, not at all, or unknown.
        """
        if isinstance(layout, str):
            if layout not in LAYOUTS:
                raise OptionError(
                    "", "layout", layout, f"one of {', '.join(LAYOUTS)}, or groups of modality names", LAYOUTS
                )
            return (tuple(range(len(names))),) if layout == "shared" else tuple((i,) for i in range(len(names)))
        listed = [[group] if isinstance(group, str) else list(group) for group in layout]
        flat = [name for group in listed for name in group]
        wrong = ""
        for name in flat:
            if name not in names:
                wrong = f"names among {', '.join(names)}, not {name!r}{nearest(str(name), names)}"
            elif flat.count(name) > 1:
                wrong = f"every modality once, not {name!r} {flat.count(name)} times"
            if wrong:
                raise OptionError("", "layout", listed, wrong)
        if missing := [name for name in names if name not in flat]:
            raise OptionError("", "layout", listed, f"every modality once, it leaves out {', '.join(missing)}")
        if not all(listed):
            raise OptionError("", "layout", listed, "at least one modality in each group")
        return tuple(tuple(list(names).index(name) for name in group) for group in listed)

    @classmethod
    def fit(
        cls,
        members: tuple[tuple[int, ...], ...],
        codes: Sequence[tuple[int, ...]],
        space: Space,
        *,
        overlap: bool = False,
        channels: Sequence[int] | None = None,
    ) -> "Layout":
        """Divide the channels: each block gets what its codes need, the fullest ones what is left; or as ``channels`` says.

        Raises:
            OptionError: the space has fewer channels than the blocks need, or ``channels`` do not add up to it.
        """
        places = math.prod(space.grid)
        sizes = [[math.prod(codes[i]) for i in block] for block in members]
        need = [-(-(max(block) if overlap else sum(block)) // places) for block in sizes]
        if channels is not None:
            given = tuple(channels)
            whole = len(given) == len(members) and all(isinstance(n, int) and n >= 1 for n in given)
            if not whole or sum(given) != space.shape[0]:
                expected = (
                    f"{len(members)} whole numbers, one for each block, that add up to the space's {space.shape[0]}"
                )
                raise OptionError("", "channels", list(given), expected, beside=("space", "layout"))
            if any(n < least for n, least in zip(given, need, strict=True)):
                raise OptionError("", "channels", list(given), f"at least {need}, as the blocks' codes need")
            return cls(members, given)
        if len(members) > 1 and sum(need) > space.shape[0]:
            listed = " + ".join(map(str, need))
            raise OptionError(
                "",
                "space",
                space.shape,
                f"at least {listed} = {sum(need)} channels for its blocks",
                mend=_roomier(sum(need), overlap),
            )
        channels = list(need)
        # One block takes all there is, or has none to spare: then place() says what is missing.
        for _ in range(space.shape[0] - sum(need)):
            fullest = max(range(len(members)), key=lambda b: sum(sizes[b]) / channels[b])
            channels[fullest] += 1
        return cls(members, tuple(channels if len(members) > 1 else [space.shape[0]]))

    @property
    def blocks(self) -> int:
        """``K``."""
        return len(self.members)


def place(
    codes: Sequence[tuple[int, ...]], space: Space, *, layout: Layout | None = None, overlap: bool = False
) -> Placement:
    """Place codes of these shapes in the space, each inside its block.

    Args:
        codes: each modality's code, ``(C, *grid)`` or ``(K,)``.
        space: where to.
        layout: the blocks; by default one for all.
        overlap: share elements where there is no room, with a warning.

    Raises:
        OptionError: the codes of a block together, or one alone, have more elements than the block.
    """
    if layout is None or layout.blocks == 1:
        return _place(codes, space, overlap=overlap)
    parts = [
        _place([codes[i] for i in block], Space((channels, *space.grid)), overlap=overlap)
        for block, channels in zip(layout.members, layout.channels, strict=True)
    ]
    sizes = tuple(math.prod(code) for code in codes)
    layers = max(len(part.source) for part in parts)
    tables: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for block, part in zip(layout.members, parts, strict=True):
        # From places in the block's own codes to places in all codes; the last is the zero, or no owner.
        elements = torch.cat([sum(sizes[:i]) + torch.arange(sizes[i]) for i in block] + [torch.tensor([sum(sizes)])])
        owners = torch.tensor([*block, len(codes)])
        empty = layers - len(part.source)
        for table, values, nothing in zip(
            tables,
            (elements[part.source], part.scale, owners[part.owner]),
            (sum(sizes), 0.0, len(codes)),
            strict=True,
        ):
            table.append(torch.cat([values, values.new_full((empty, values.shape[1]), nothing)]))
    source, scale, owner = (torch.cat(table, dim=1) for table in tables)
    return Placement(source, scale, owner, sizes)


def _place(codes: Sequence[tuple[int, ...]], space: Space, *, overlap: bool) -> Placement:
    """Place the codes of one block.

    Raises:
        OptionError: the codes together, or one alone, have more elements than the space.
    """
    sizes = tuple(math.prod(code) for code in codes)
    if sum(sizes) > space.size:
        needed = " + ".join(map(str, sizes)) + f" = {sum(sizes)}"
        if not overlap or max(sizes) > space.size:
            channels = -(-sum(sizes) // math.prod(space.grid))
            expected = f"at least {needed} elements for the codes, it has {space.size}"
            raise OptionError("", "space", space.shape, expected, mend=_roomier(channels, overlap))
        warnings.warn(
            f"space {space.shape} has {space.size} elements, the codes need {needed}: they overlap, and what the model answers is approximate",
            stacklevel=3,
        )
    layers: list[list[int]] = []
    current: list[int] = []
    # Codes go into a layer in order while they fit; without overlap all fit into the first.
    for i, size in enumerate(sizes):
        if current and sum(sizes[j] for j in current) + size > space.size:
            layers.append(current)
            current = []
        current.append(i)
    layers.append(current)
    filled = [_layer(codes, sizes, members, space, sign) for sign, members in enumerate(layers)]
    source, scale, owner = (torch.stack(tables) for tables in zip(*filled, strict=True))
    return Placement(source, scale, owner, sizes)


def _roomier(channels: int, overlap: bool) -> str:
    return f"give it {channels} channels" + ("" if overlap else " or, for an approximate model, overlap=True")


def _layer(
    codes: Sequence[tuple[int, ...]], sizes: tuple[int, ...], members: list[int], space: Space, number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's source, scale and owner, each ``(dim Z,)``."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    source = torch.full(space.shape, sum(sizes))
    scale = torch.zeros(space.shape)
    owner = torch.full(space.shape, len(sizes))
    flat = []
    channel = 0
    # The largest first, so that small ones do not take the channels that a large one needs.
    for i in sorted(members, key=lambda i: -sizes[i]):
        fitted = _spatial(codes[i], space, channel)
        needed = 0 if fitted is None else fitted[0]
        if fitted is None or channel + needed > space.shape[0]:
            flat.append(i)
            continue
        _, index = fitted
        source[index] = starts[i] + torch.arange(sizes[i])
        scale[index] = 1.0
        owner[index] = i
        channel += needed
    flat.sort()
    if flat:
        # Grid-major order: consecutive elements of a flat code go through the channels of one place first.
        free = (owner == len(sizes)).movedim(0, -1).nonzero()
        vector = torch.cat([starts[i] + torch.arange(sizes[i]) for i in flat])
        owners = torch.cat([torch.full((sizes[i],), i) for i in flat])
        copies = len(free) // len(vector)
        places = free[: copies * len(vector)]
        index = (places[:, -1], *places[:, :-1].unbind(1))
        source[index] = vector.repeat(copies)
        scale[index] = copies**-0.5
        owner[index] = owners.repeat(copies)
    if number:
        # Overlapping codes must not lie along the same directions: each layer has the signs of a Walsh function of its own.
        shared = torch.arange(space.size) & number
        parity = torch.stack([(shared >> bit) & 1 for bit in range(number.bit_length())]).sum(0)
        scale = scale * (1.0 - 2.0 * (parity % 2)).reshape(space.shape)
    return source.flatten(), scale.flatten(), owner.flatten()


def _spatial(code: tuple[int, ...], space: Space, channel: int) -> tuple[int, tuple[Tensor, ...]] | None:
    """How many channels a spatial code needs and the elements it takes, in the code's order.

    Along an axis of the space with ``S`` places, a code with ``n`` places takes every ``S/n``-th where
    ``n`` divides ``S``; otherwise ``ceil(n/S)`` channels share its places, with the code in the middle.
    """
    if len(code) != len(space.shape):
        return None
    ratios, coordinates = [], []
    for n, S in zip(code[1:], space.grid, strict=True):
        ratio = -(-n // S)
        offset = 0 if S % n == 0 else (ratio * S - n) // 2
        stride = S // n if S % n == 0 else 1
        position = offset + stride * torch.arange(n)
        ratios.append(ratio)
        coordinates.append((position // ratio, position % ratio))
    group = math.prod(ratios)
    mesh = torch.meshgrid(torch.arange(code[0]), *[torch.arange(n) for n in code[1:]], indexing="ij")
    part = torch.zeros_like(mesh[0])
    for ratio, (_, remainder), axis in zip(ratios, coordinates, mesh[1:], strict=True):
        part = part * ratio + remainder[axis]
    grid = [place[axis] for (place, _), axis in zip(coordinates, mesh[1:], strict=True)]
    index = (channel + mesh[0] * group + part, *grid)
    return code[0] * group, tuple(itertools.chain(i.flatten() for i in index))
