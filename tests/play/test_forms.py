"""Fields of a page: a sample shown in them is read back from them, and whatever else they hold is refused in one line."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from mmcore import Registry, RequestError
from mmcore.modality.base import Modality
from mmcore.modality.control import Choice, Control, File, Group, Number, Numbers, Picture, Text
from mmcore.modality.mixed import Mixed
from mmcore.play.controls import control_of
from mmcore.play.forms import fields, filled, taken


def made(registry: Registry, which: str) -> Modality:
    if which == "table":
        parts = {"age": registry.modality("scalar", low=0), "kind": registry.modality("label", classes=3)}
        return Mixed("table", parts)
    options: dict[str, dict[str, Any]] = {
        "class": {"classes": 3, "names": ["a", "b", "7"]},
        "several": {"classes": 4, "multi": True},
        "number": {"mean": 40, "std": 10},
        "count": {"kind": "count", "mean": 5, "std": 2},
        "numbers": {"size": 3, "mean": [0, 1, 2], "std": [1, 1, 1]},
    }
    plugin = "label" if which in ("class", "several") else "scalar"
    return registry.modality(plugin, **options[which])


@pytest.mark.parametrize("which", ["class", "several", "number", "count", "numbers", "table"])
def test_what_is_shown_is_read_back(which: str, registry: Registry) -> None:
    m = made(registry, which)
    control = m.control()
    for x in m.typical(20, 1):
        shown = filled(m, control, x)
        assert len(shown) == fields(control)
        assert torch.equal(m.read(taken(m.name, control, shown)), x)
    begin = filled(m, control, None)
    assert len(begin) == fields(control)
    raw = taken(m.name, control, begin)
    assert raw is None or m.read(raw) is not None


def test_of_a_table_what_is_not_ticked_is_missing(registry: Registry) -> None:
    m = made(registry, "table")
    control = m.control()
    assert taken("t", control, [True, 3.5, False, 1]) == {"age": 3.5, "kind": None}
    assert taken("t", control, [False, 3.5, False, 1]) is None
    assert filled(m, control, m.read({"age": None, "kind": 2}))[0] is False
    with pytest.raises(RequestError, match="t, age: found -1, expected a number in 0 … "):
        taken("t", control, [True, -1, True, 1])


CHOICE = Choice(("x", "y"), ("X", "Y"))
SEVERAL = Choice(("x", "y"), ("X", "Y"), several=True)
NUMBER = Number(0, 10, (0, 10))


@pytest.mark.parametrize(
    ("control", "found", "text"),
    [
        (CHOICE, [2], "found 2, expected one of 2 choices"),
        (CHOICE, [-1], "found -1"),
        (CHOICE, [True], "found True"),
        (CHOICE, ["/etc/passwd"], "found '/etc/passwd'"),
        (CHOICE, [[0, 1]], "found 2 choices, expected one"),
        (CHOICE, [{"path": "a"}], "found {'path'"),
        (SEVERAL, [[0, 5]], "found 5"),
        (NUMBER, [math.nan], "found nan, expected a finite number"),
        (NUMBER, ["nan"], "found nan, expected a finite number"),
        (NUMBER, ["Infinity"], "found inf"),
        (NUMBER, [11], "found 11, expected a number in 0 … 10"),
        (NUMBER, ["x" * 500], "expected a number"),
        (NUMBER, [[1]], "expected a finite number"),
        (Number(whole=True), [1.5], "found 1.5, expected a whole number"),
        (Numbers((NUMBER, NUMBER)), [1, None], "found 1 empty fields of 2"),
        (Text(), ["x" * 20_001], "a text of at most 20,000 characters"),
        (Text(), [3], "a text of at most"),
    ],
)
def test_what_is_none_is_told(control: Control, found: list[Any], text: str) -> None:
    with pytest.raises(RequestError, match=text) as error:
        taken("it", control, found)
    assert str(error.value).startswith("it")
    assert len(str(error.value)) < 200


def test_empty_fields_are_no_value() -> None:
    for control in (CHOICE, NUMBER, Text(), Numbers((NUMBER, NUMBER))):
        assert taken("it", control, [None] * fields(control)) is None
    assert taken("it", Text(), [""]) is None
    bits = taken("it", SEVERAL, [[1]])
    assert isinstance(bits, np.ndarray)
    assert bits.tolist() == [False, True]


class Broken:
    """A plugin whose control is no control."""

    def __init__(self, inner: Modality, control: Any) -> None:
        self.inner, self._control = inner, control

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def control(self) -> Any:
        if isinstance(self._control, Exception):
            raise self._control
        return self._control


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (ValueError("no\nway"), "ValueError: no way"),
        (SystemError(), "SystemError"),
        (None, "found NoneType, expected one of Picture"),
        (Choice((), ()), "found 0 options with 0 names"),
        (Picture((0, 3)), r"found the size \(0, 3\)"),
        (Group({"a": File("x")}), "found File in a group"),
    ],
)
def test_a_plugin_s_control_that_cannot_be_used_is_told_and_another_is_shown(
    control: Any, text: str, registry: Registry
) -> None:
    m: Any = Broken(made(registry, "number"), control)
    found, problem = control_of(m)
    assert isinstance(found, Number)
    assert problem.startswith("scalar: its plugin's control cannot be used (")
    assert re.search(text, problem)
    assert control_of(made(registry, "number")) == (made(registry, "number").control(), "")


def test_what_cannot_even_be_shown_takes_a_file(registry: Registry) -> None:
    class Mute(Broken):
        spec = registry.modality("clip", width=20).spec

        def raw(self, x: Any) -> Any:
            raise OSError("no")

    found, problem = control_of(Mute(made(registry, "number"), None))  # type: ignore[arg-type]
    assert found == File("an array of shape 20")
    assert problem
