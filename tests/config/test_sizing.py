"""How large ``mmcore init`` makes a model, and how long it has it trained."""

import pytest

from mmcore.config.column import Column
from mmcore.config.sizing import FEW, PASSES, TABLE_PASSES, WORK, Size, codes, elements, picture_size

IMAGE = Column("image", "image", {"channels": 3}, pictures=True, size=(96, 96))
MASK = Column("mask", "mask", {"values": [0, 255]}, pictures=True, size=(96, 96))
LABEL = Column("class", "label", {"classes": 4})


def work(size: Size, side: int, channels: int) -> float:
    """Operations of a whole training: six for each weight of a token."""
    o = size.options
    weights = 12 * o["width"] ** 2 * o["depth"] + (3 * channels + o.get("features", 32)) * o["patch"] ** 2 * o["width"]
    return 6.0 * weights * (side // o["patch"]) ** 2 * size.batch * size.steps


def test_pictures_are_at_most_32_pixels_and_keep_their_shape() -> None:
    assert picture_size([IMAGE, MASK]) == ((32, 32), True)
    assert picture_size([Column("image", "image", {"channels": 1}, pictures=True, size=(28, 28))]) == ((28, 28), False)
    assert picture_size([Column("image", "image", {"channels": 1}, pictures=True, size=(480, 640))]) == ((24, 32), True)
    assert picture_size([LABEL]) == (None, False)


def test_a_small_space_has_a_perceptron_and_a_larger_one_a_transformer() -> None:
    assert Size.of([LABEL], None, 1000).backbone == "mlp"
    assert Size.of([IMAGE, MASK, LABEL], (32, 32), 1000).backbone == "transformer"


@pytest.mark.parametrize("side", [24, 32])
@pytest.mark.parametrize("rows", [100, 600, FEW - 1, FEW, 60_000, 10_000_000])
def test_no_training_takes_more_than_its_time(side: int, rows: int) -> None:
    size = Size.of([IMAGE, MASK, LABEL], (side, side), rows)
    assert size.few == (rows < FEW)
    assert (side // size.options["patch"]) ** 2 <= 100
    assert size.steps >= 2000
    assert size.steps == 2000 or work(size, side, 5) <= 1.05 * WORK
    if size.few and size.steps > 2000:
        assert size.steps * size.batch <= 1.05 * PASSES * rows + 500 * size.batch


@pytest.mark.parametrize("rows", [20, 442, 1000, FEW - 1, FEW, 10**6])
def test_of_a_table_of_few_rows_each_is_seen_less_often(rows: int) -> None:
    """442 patients' numbers: 3,000 steps knew them by heart, at 1,000 the answers were best."""
    size = Size.of([LABEL], None, rows)
    assert 500 <= size.steps <= 3000
    assert size.steps in (500, 3000) or abs(size.steps * size.batch / rows - TABLE_PASSES) < 0.1 * TABLE_PASSES
    assert Size.of([LABEL], None, 442).steps == 1000
    assert Size.of([LABEL], None, FEW).steps == 3000


def test_maps_of_many_classes_leave_time_for_fewer_steps() -> None:
    many = Column("mask", "mask", {"classes": 150}, pictures=True, size=(96, 96))
    few, more = (Size.of([IMAGE, one], (32, 32), 60_000) for one in (MASK, many))
    assert more.steps < few.steps
    assert (elements(many, (32, 32)), codes(many, (32, 32)), codes(MASK, (32, 32))) == (1024, 150 * 1024, 1024)
