"""How large: pictures, and a model that fits them."""

import math
from collections.abc import Sequence

import attrs

from mmcore.config.column import Column

SIDE = 32
"""Pixels that pictures are at most wide and high in a configuration to begin with; larger ones are made smaller."""
SMALL = 1024
"""Numbers of codes up to which a perceptron sees the whole space at once."""
FEW = 5000
"""Rows below which the network is smaller and rows are kept from being known by heart. Measured on 600 rows; the bound itself is a choice."""
WORK = 1e14
"""Operations of a training: about 40 minutes of one core at 4e10 a second, as was measured; two cores have less than an hour also where they are slower."""
PASSES = 600
"""Over few rows with pictures, at most: masks go on being learned up to here, while labels and numbers are known by heart long before."""
TABLE_PASSES = 150
"""Over few rows of a small space, at most. Of 442 patients' numbers answers were best after about so many, and known by heart after three times as many."""


def picture_size(used: Sequence[Column]) -> tuple[tuple[int, int] | None, bool]:
    """The size of all pictures in the model, and whether that is another than in the data."""
    pictures = [column for column in used if column.pictures]
    if not pictures:
        return None, False
    sizes = {column.size for column in pictures}
    if len(sizes) == 1 and (size := next(iter(sizes))) is not None and max(size) <= SIDE:
        return size, False
    known = [
        column.size for column in sorted(pictures, key=lambda one: one.plugin != "image") if column.size is not None
    ]
    height, width = known[0] if known else (SIDE, SIDE)
    scale = min(1.0, SIDE / max(height, width))
    return (_multiple(height * scale), _multiple(width * scale)), True


def _multiple(side: float) -> int:
    return max(8, round(side / 8) * 8)


def elements(column: Column, size: tuple[int, int] | None) -> int:
    """How many numbers one value has."""
    if column.numbers:
        return column.numbers[0]
    if column.pictures and size:
        return math.prod(size) * (column.options["channels"] if column.plugin == "image" else 1)
    return column.options.get("width", column.options.get("size", 1))


def codes(column: Column, size: tuple[int, int] | None) -> int:
    """How many elements one value's code has."""
    if column.numbers:
        return column.numbers[1]
    if column.plugin == "mask" and size:
        classes = _classes(column)
        return math.prod(size) * (1 if classes == 2 else classes)
    return column.options.get("classes", 2) if column.plugin == "label" else elements(column, size)


def _classes(column: Column) -> int:
    """Of a mask."""
    options = column.options
    return options.get("classes") or len(options.get("values") or options.get("colours") or (0, 1))


@attrs.frozen
class Size:
    """How large a model is, and how long it is trained.

    Attributes:
        backbone: its name.
        options: the backbone's.
        note: why these.
        batch: rows of a step.
        steps: of the training.
        rate: of learning, at its peak.
        few: whether the rows are so few that the network must be kept from knowing them by heart.
    """

    backbone: str
    options: dict[str, int]
    note: str
    batch: int
    steps: int
    rate: float
    few: bool

    @classmethod
    def of(cls, used: Sequence[Column], size: tuple[int, int] | None, rows: int) -> "Size":
        """A size that fits columns, pictures of a size, and so many rows.

        A training takes at most :data:`WORK`: six operations for each weight that a token, or for a perceptron a row, meets.
        """
        few = rows < FEW
        numbers = sum(codes(column, size) for column in used)
        if numbers <= SMALL:
            options = {"width": 256, "depth": 4}
            batch = 64
            passed = 100 * round(TABLE_PASSES * rows / batch / 100) if few else math.inf
            steps = int(min(3000, max(500, passed)))
            return cls("mlp", options, "of a small space it sees every place at once", batch, steps, 1e-3, few)
        grid = size or (8,)
        patch = _patch(grid)
        tokens = math.prod(side // patch for side in grid)
        options = (
            {"width": 96, "depth": 3, "heads": 4, "features": 16} if few else {"width": 128, "depth": 4, "heads": 4}
        )
        width, features, batch = options["width"], options.get("features", 32), 16
        cell = patch ** len(grid)
        channels = math.ceil(numbers / math.prod(grid))
        weights = 12 * width**2 * options["depth"] + (3 * channels + features) * cell * width
        steps = min(WORK / (6 * weights * tokens * batch), PASSES * rows / batch if few else math.inf)
        return cls(
            "transformer",
            {**options, "patch": patch},
            f"{tokens} tokens{'; the rows are few, and so are the weights' if few else ''}",
            batch,
            max(2000, 1000 * round(steps / 1000)),
            2e-3 if few else 1e-3,
            few,
        )


def _patch(grid: tuple[int, ...]) -> int:
    """Places of a token along an axis: the fewest that leave no more than 100 tokens."""
    fits = [p for p in (1, 2, 4, 8, 16) if all(side % p == 0 for side in grid)]
    return next((p for p in fits if math.prod(grid) // p ** len(grid) <= 100), max(fits))


def rounded(x: float) -> float:
    """To two digits."""
    return float(f"{x:.2g}")
