"""How large: pictures, and a model that fits them."""

import math
from collections.abc import Iterator, Sequence

from mmcore.config.evidence import Column

SIDE = 32
"""Pixels that pictures are at most wide and high in a configuration to begin with; larger ones are made smaller."""
SMALL = 1024
"""Numbers of codes up to which a perceptron sees the whole space at once."""


def picture_size(used: Sequence[Column]) -> tuple[tuple[int, int] | None, bool]:
    """The size of all pictures in the model, and whether that is another than in the data."""
    pictures = [column for column in used if column.pictures]
    if not pictures:
        return None, False
    sizes = {column.size for column in pictures}
    if len(sizes) == 1 and (size := next(iter(sizes))) is not None and max(size) <= SIDE:
        return size, False
    known = [size for size in sizes if size is not None]
    height, width = known[0] if known else (SIDE, SIDE)
    scale = min(1.0, SIDE / max(height, width))
    return (_multiple(height * scale), _multiple(width * scale)), True


def _multiple(side: float) -> int:
    return max(8, round(side / 8) * 8)


def elements(column: Column, size: tuple[int, int] | None) -> int:
    """How many numbers one value has."""
    if column.pictures and size:
        return math.prod(size) * (column.options["channels"] if column.plugin == "image" else 1)
    return column.options.get("width", column.options.get("size", 1))


def codes(column: Column, size: tuple[int, int] | None) -> int:
    """How many elements one value's code has."""
    if column.plugin == "mask" and size:
        classes = _classes(column)
        return math.prod(size) * (1 if classes == 2 else classes)
    return column.options.get("classes", 2) if column.plugin == "label" else elements(column, size)


def _classes(column: Column) -> int:
    """Of a mask."""
    options = column.options
    return options.get("classes") or len(options.get("values") or options.get("colours") or (0, 1))


def backbone(used: Sequence[Column], size: tuple[int, int] | None, *, small: bool) -> Iterator[str]:
    """The lines that name the network."""
    if small:
        yield 'backbone = "mlp"  # of a small space it sees every place at once'
        yield "backbone_options = { width = 256, depth = 4 }"
        return
    yield 'backbone = "transformer"'
    grid = size or (8,)
    patch = next(
        (p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid) and math.prod(grid) // p ** len(grid) <= 100), 0
    )
    patch = patch or max(p for p in (1, 2, 4, 8, 16) if all(s % p == 0 for s in grid))
    tokens = math.prod(side // patch for side in grid)
    yield f"backbone_options = {{ width = 128, depth = 4, heads = 4, patch = {patch} }}  # {tokens} tokens"


def rounded(x: float) -> float:
    """To two digits."""
    return float(f"{x:.2g}")
