"""What each modality is asked by: what a control gives is what the modality reads, for every value that there is."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Registry, Spec
from mmcore.modality.control import Choice, File, Group, Number, Numbers, Painting, Picture, Text, suggested
from mmcore.modality.mixed import Mixed


@pytest.mark.parametrize("names", [None, ["a", "bc", "7"]])
def test_each_class_is_read_from_its_option(registry: Registry, names: list[str] | None) -> None:
    m = registry.modality("label", classes=3, names=names)
    control = m.control()
    assert isinstance(control, Choice)
    assert not control.several
    assert [int(m.read(one)) for one in control.options] == [0, 1, 2]
    assert list(control.names) == (names or ["0", "1", "2"])


def test_each_set_of_labels_is_read_from_its_booleans(registry: Registry) -> None:
    m = registry.modality("label", classes=3, multi=True, names=["sun", "sea", "sky"])
    control = m.control()
    assert isinstance(control, Choice)
    assert control.several
    assert control.names == ("sun", "sea", "sky")
    for bits in np.ndindex(2, 2, 2):
        assert m.read(np.array(bits, dtype=bool)).tolist() == [bool(bit) for bit in bits]


def test_many_classes_are_typed_by_number(registry: Registry) -> None:
    assert registry.modality("label", classes=5000).control() == Number(0, 4999, (0, 4999), whole=True)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_map_is_painted_in_the_colours_in_which_it_is_shown(registry: Registry, classes: int) -> None:
    m = registry.modality("mask", size=(4, 6), classes=classes, void=-1)
    control = m.control()
    assert isinstance(control, Painting)
    assert control.size == (4, 6)
    assert len(set(control.colours)) == classes
    painted = m.typical(1, 0)[0]
    shown = m.show(painted)
    assert isinstance(shown, Image.Image)
    back = [[control.colours.index(shown.getpixel((x, y))) for x in range(6)] for y in range(4)]  # type: ignore[arg-type]
    assert back == painted.tolist()


def test_pictures_are_drawn_where_they_are_bytes(registry: Registry) -> None:
    assert registry.modality("image", channels=1, size=(4, 6)).control() == Picture((4, 6), colours=False)
    assert registry.modality("image", channels=3, size=4).control() == Picture((4, 4))
    deep = registry.modality("image", channels=1, size=4, limits=[0, 65535])
    assert deep.control() == Picture((4, 4), colours=False, drawn=False)


def test_numbers_slide_over_three_deviations_inside_their_limits(registry: Registry) -> None:
    age = registry.modality("scalar", mean=40, std=20, low=0, high=120, units="years")
    assert age.control() == Number(0, 120, (0, pytest.approx(100)), unit="years")  # type: ignore[arg-type]
    count = registry.modality("scalar", kind="count", mean=3.2, std=1.1)
    assert count.control() == Number(0, None, (0, 7), whole=True)
    price = registry.modality("scalar", log=True, mean=0.0, std=1.0).control()
    assert isinstance(price, Number)
    assert price.span == pytest.approx((np.exp(-3), np.exp(3)), rel=1e-5)
    pair = registry.modality("scalar", size=2, mean=[0, 10], std=[1, 2]).control()
    assert isinstance(pair, Numbers)
    assert [part.span for part in pair.parts] == [(-3, 3), (4, 16)]


def test_long_vectors_come_from_a_file_and_short_ones_are_typed(registry: Registry) -> None:
    assert registry.modality("clip", width=20, unit_norm=False).control() == File("an array of shape 20")
    short = registry.modality("clip", width=3, unit_norm=False).control()
    assert short == Numbers(tuple(Number(name=name) for name in "123"))


def test_columns_of_a_table_have_a_control_each(registry: Registry) -> None:
    inner = Mixed("inner", {"age": registry.modality("scalar"), "kind": registry.modality("label", classes=3)})
    control = inner.control()
    assert isinstance(control, Group)
    assert [type(one) for one in control.parts.values()] == [Number, Choice]
    assert isinstance(Mixed("outer", {"inner": inner}).control(), File)


class Odd:
    """What the default sees of a modality."""

    name = "odd"

    def __init__(self, spec: Spec, raw: object = None) -> None:
        self.spec, self._raw = spec, raw

    def raw(self, x: torch.Tensor) -> object:
        return x.numpy() if self._raw is None else self._raw

    def show(self, x: torch.Tensor) -> str:
        return "shown"


def test_what_has_no_control_of_its_own_has_one() -> None:
    assert suggested(Odd(Spec((5,), torch.int64, 0, 30), raw="words")) == Text()
    assert suggested(Odd(Spec(()))) == Number()
    assert suggested(Odd(Spec((), torch.bool))) == Choice((False, True), ("shown", "shown"))
    assert suggested(Odd(Spec((2, 8), low=0, high=1))) == File("an array of shape 2 × 8")
    assert suggested(Odd(Spec((1, 8, 8)))) == File("an array of shape 1 × 8 × 8")
    assert suggested(Odd(Spec((2,), low=0, high=1))) == Numbers(
        (Number(0, 1, (0, 1), name="1"), Number(0, 1, (0, 1), name="2"))
    )
