"""Options refuse what breaks their rules: all at once, each by its name, as data."""

import json
import pickle
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

import mmcore
from mmcore import MmcoreError, OptionError, PluginError, RequestError, RoleMix
from mmcore.config import SamplingOptions
from mmcore.data import DataOptions, LoaderOptions, SplitOptions
from mmcore.data.options import ColumnOptions, EmbedOptions, FilterOptions
from mmcore.data.transforms import Flip, Resize
from mmcore.errors import MISSING, ConfigError, Problem, about, refuse
from mmcore.model.backbones.mlp import Mlp
from mmcore.model.backbones.transformer import Transformer
from mmcore.options import (
    SIDES,
    TEXT,
    Together,
    above,
    check,
    check_call,
    one_of,
    option,
    plain,
    require,
    sides,
    whole,
    within,
)
from mmcore.space import Space
from mmcore.training import TrainOptions

LOW_BEFORE_HIGH = Together(("low", "high"), lambda low, high: low < high, "low below high", mend="exchange them")


@attrs.frozen
class Walk:
    low: int = option(1, rule=whole(0))
    high: int = option(9, rule=whole(0))
    pace: str = option("slow", rule=one_of("slow", "fast"))
    free: Any = None

    def __attrs_post_init__(self) -> None:
        check(self, "walk", LOW_BEFORE_HIGH)


def refusals(make: Any) -> dict[str, OptionError]:
    with pytest.raises(OptionError) as refused:
        make()
    every = (refused.value, *refused.value.also)
    assert not any(one.also for one in every[1:])
    return {one.option: one for one in every}


def test_rules_take_what_they_say_and_nothing_else() -> None:
    nan, inf = float("nan"), float("inf")
    table: list[tuple[Any, list[Any], list[Any]]] = [
        (whole(), [0, -3, 2**70], [True, 1.0, "1", None]),
        (whole(1), [1], [0, -1]),
        (within(0, 1), [0, 1, 0.5], [-0.1, 1.1, nan, True, "0"]),
        (within(0), [0, inf], [-1, nan]),
        (within(-inf), [-inf, 3], [nan, None]),
        (above(0), [1e-9, inf], [0, -1, nan]),
        (one_of("auto", True, False), ["auto", True], [1, 0, "true", None, []]),
        (one_of("a").or_none(), ["a", None], ["b"]),
        (TEXT, ["a"], ["", 3]),
        (SIDES, [(2, 3)], [(2,), (0, 3), (2, 3, 4), [2, 3], 4]),
    ]
    for rule, right, wrong in table:
        assert [value for value in right if not rule.holds(value)] == []
        assert [value for value in wrong if rule.holds(value)] == []
    assert (sides(4), sides([2, 3]), sides("ab"), sides(True)) == ((4, 4), (2, 3), "ab", True)


def test_all_refusals_are_told_at_once_as_data() -> None:
    assert Walk(2, 3).high == 3
    found = refusals(lambda: Walk(low=-1, high=2.5, pace="fats"))  # type: ignore[arg-type]
    assert list(found) == ["low", "high", "pace"]
    one = found["pace"]
    assert (one.subject, one.value, one.choices) == ("walk", "fats", ("slow", "fast"))
    assert str(one) == "walk: pace = 'fats', expected one of slow, fast; did you mean 'fast'?"
    assert one.text == "expected one of slow, fast; did you mean 'fast'?"


def test_options_that_do_not_go_together_name_each_other_once_each_is_right_alone() -> None:
    (one,) = refusals(lambda: Walk(low=5, high=5)).values()
    assert (one.option, one.beside, one.mend) == ("low", ("high",), "exchange them")
    assert str(one) == "walk: low = 5, expected low below high (here low = 5, high = 5); exchange them"
    assert list(refusals(lambda: Walk(low=-1, high=-5))) == ["low", "high"]


def test_a_missing_option_says_so_and_a_long_value_is_cut() -> None:
    assert str(OptionError("", "out", expected="a folder")) == "out is missing, expected a folder"
    assert OptionError("", "out", expected="a folder").value is MISSING
    assert len(str(OptionError("a", "b", "x" * 5000, "less"))) < 250


def test_a_refusal_survives_pickling_and_is_a_request_error() -> None:
    error = OptionError("walk", "pace", "fats", choices=("slow", "fast"))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, RequestError)
    assert isinstance(again, ValueError)
    assert (str(again), again.option) == (str(error), "pace")
    assert pickle.loads(pickle.dumps(OptionError("", "a", expected="b"))).value is MISSING


def test_refusals_move_into_the_option_that_holds_them() -> None:
    def inner() -> None:
        with about("walk_options"):
            Walk(low=-1, pace="fats")

    assert list(refusals(inner)) == ["walk_options.low", "walk_options.pace"]
    for kind in (RequestError, mmcore.PluginError):
        with pytest.raises(kind, match="no more") as refused, about("walk_options"):
            raise kind("no more")
        assert refused.value.option == "walk_options"
    refuse([])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: RoleMix(joint=0.7, single=0.6), ["joint"]),
        (lambda: RoleMix(joint=2.0, absent=-1.0), ["joint", "absent"]),
        (
            lambda: TrainOptions(steps=0, lr=-1.0, betas=(0.9,), precision="float"),
            ["steps", "lr", "betas", "precision"],
        ),  # type: ignore[arg-type]
        (lambda: LoaderOptions(workers=-1, prefetch=0, memory="yes"), ["memory", "workers", "prefetch"]),
        (lambda: DataOptions("", limit=0, workers=1.5), ["workers", "source", "limit"]),  # type: ignore[arg-type]
        (lambda: SplitOptions(validation=0.5, test=0.6), ["test"]),
        (lambda: Resize([8]), ["size"]),
        (lambda: Flip(probability=2, axis="diagonal"), ["probability", "axis"]),
        (lambda: require("it", a=(1, whole(2)), b=(3, whole(2)), c=(0, above(0))), ["a", "c"]),
        (lambda: Space((0, 4)), ["space"]),
    ],
)
def test_the_cores_own_options_say_which_they_are(make: Any, options: list[str]) -> None:
    assert list(refusals(make)) == options


@pytest.mark.parametrize(
    ("kind", "options", "wrong"),
    [
        (Transformer, {"width": 7}, ["width"]),
        (Transformer, {"width": 0, "depth": -1, "features": 1 << 40}, ["width", "depth", "features"]),
        (Transformer, {"heads": 5, "patch": 3}, ["width", "patch"]),
        (Mlp, {"width": 31}, ["width"]),
        (Mlp, {"rank": 0, "features": 0.5}, ["features", "rank"]),
    ],
)
def test_a_backbone_refuses_its_options_before_it_builds_a_layer(
    kind: type, options: dict[str, Any], wrong: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    for name in ("Linear", "LayerNorm", "Parameter"):
        before = getattr(mmcore.model.backbones.mlp.nn, name)  # type: ignore[attr-defined]
        monkeypatch.setattr(
            f"torch.nn.{name}", lambda *a, _before=before, **o: built.append(_before) or _before(*a, **o)
        )
    parts = {"space": Space((2, 8, 8)), "modalities": 2, "steps": 10}
    assert list(refusals(lambda: kind(**parts, **options))) == wrong
    assert built == []
    kind(**parts, width=8, depth=1, features=2)
    assert built


OF_OTHER_KINDS: list[Any] = [
    None,
    True,
    False,
    1,
    -1,
    0.5,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    [1],
    {},
    {1: 2},
    (),
    object(),
    b"x",
    {"x"},
]
MADE: list[Any] = [
    lambda **given: TrainOptions(**given),
    lambda **given: RoleMix(**given),
    lambda **given: SamplingOptions(**given),
    lambda **given: LoaderOptions(**given),
    lambda **given: DataOptions(**{"source": "npz", **given}),
    lambda **given: SplitOptions(**given),
    lambda **given: ColumnOptions(**{"column": "a", **given}),
    lambda **given: FilterOptions(**{"column": "a", "least": 0, **given}),
    lambda **given: EmbedOptions(**{"variable": "v", "column": "a", **given}),
]
KINDS: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "tuple": tuple,
    "dict": dict,
    "Mapping": dict,
}


@pytest.mark.parametrize("make", MADE)
def test_every_option_takes_its_own_kind_alone_and_is_refused_in_one_line(make: Any) -> None:
    """A value is refused, or it is of a kind that the annotation has; a bool is no number, and nothing is NaN."""
    for field in attrs.fields(type(make())):
        told = str(field.type).replace("<class '", "").replace("'>", "")
        for value in OF_OTHER_KINDS:
            refused: OptionError | None = None
            try:
                made = getattr(make(**{field.name: value}), field.name)
            except OptionError as error:
                refused = error
            if refused is not None:
                assert "\n" not in str(refused)
                every = (refused, *refused.also)
                assert field.name in {name for one in every for name in (one.option, *one.beside)}
                continue
            kinds = [kind for name, kind in KINDS.items() if re.search(rf"\b{name}\b", told)]
            known = [type(make()).__name__, field.name, value]
            if isinstance(made, bool):
                assert "bool" in told, known
            elif made is None:
                assert "None" in told, known
            elif not attrs.has(type(made)):
                assert any(isinstance(made, kind) for kind in kinds), known
            assert made == made, known


@pytest.mark.parametrize(
    ("given", "option"),
    [({"seed": "x"}, "seed"), ({"seed": True}, "seed"), ({"seed": 1.0}, "seed"), ({"compile": 1}, "compile"), ({"best": 3}, "best"), ({"activation_checkpointing": "no"}, "activation_checkpointing")],
)  # fmt: skip
def test_options_of_training_that_were_taken_before(given: Any, option: str) -> None:
    assert list(refusals(lambda: TrainOptions(**given))) == [option]


def test_numbers_of_other_libraries_become_ones_that_a_file_holds() -> None:
    one = TrainOptions(steps=np.int64(3), lr=np.float32(0.25), betas=(np.float64(0.5), 0.75), seed=np.uint8(7))
    assert one == TrainOptions(steps=3, lr=0.25, betas=(0.5, 0.75), seed=7)
    assert json.loads(json.dumps(one.deciding()))["lr"] == 0.25
    assert type(RoleMix(joint=np.float32(0.5)).joint) is float
    assert plain([np.int8(1), "a", True, None]) == [1, "a", True, None]


class Thing:
    pass


class ByIndex:
    """Has no ``__iter__``, as torch's data sets have none."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"a": 1}


def called(
    thing: Thing,
    count: int,
    share: float = 0.5,
    name: str | None = None,
    names: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    either: str | Sequence[Sequence[str]] = "a",
    where: str | Path = "",
    by_name: Mapping[str, float] | None = None,
    flag: bool = False,
    rows: Iterable[Mapping[str, Any]] | Thing = (),
    free: Any = None,
    watch: Callable[[int], None] | None = None,
    further: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    check_call(called, locals(), apart=["further"])
    return "worked"


def test_a_function_takes_what_its_signature_says() -> None:
    every = {
        "count": [0, -5, 10**30, np.int64(2)],
        "share": [1, 0.5, np.float32(1), float("inf")],
        "name": [None, "", np.str_("a")],
        "names": [[], ("a",), np.array(["a"]), deque(["a"])],
        "sizes": [None, (1, 2), range(3), torch.Size([1]), torch.tensor([1, 2]), np.array([1])],
        "either": ["a", [], [["a"], ("b", "c")]],
        "where": ["", "x", Path()],
        "by_name": [None, {}, {"a": 1, "b": 0.5}, OrderedDict(a=1)],
        "flag": [True, False],
        "rows": [[], [{}], iter([{}]), Thing(), deque(), ByIndex()],
        "free": [None, 1, Thing, 10**5000],
        "watch": [None, print, Thing],
        "further": [3, {}],
        "other": [3],
    }
    for name, values in every.items():
        for value in values:
            assert called(**{"thing": Thing(), "count": 1} | {name: value}) == "worked"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("thing", [None, Thing, "thing", 3], "a Thing"),
        ("count", [None, True, 1.0, "1", [1], torch.tensor(1), 1j, Decimal(1), np.bool_(True)], "a whole number"),
        ("share", [None, True, "1", float("nan"), [0.5], 1j, 10**400], "a number"),
        ("name", [b"x", 1, ["a"], Path()], "a text"),
        ("names", ["a", b"a", {"a"}, {"a": 1}, [1], [None], 3, None, iter(["a"]), np.array("a")], "a list of texts"),
        ("sizes", [3, "12", [1.0], [True], [[1]], torch.tensor(1), torch.zeros(2)], "a list of whole numbers"),
        ("either", [None, 3, [1], ["ab"], {"a": ["b"]}], "a text or a list of lists of texts"),
        ("where", [None, b"x", 3, ["x"], "a\0b", Path("a\0b"), "\ud800", Path("x" * 300)], "a path"),
        ("by_name", [[("a", 1)], {1: 1}, {"a": "1"}, {"a": None}, "a"], "a mapping from texts to numbers"),
        ("flag", [None, 0, "true", np.bool_(True), []], "True or False"),
        ("rows", [None, 3, "rows", {"a": 1}, ByIndex], "a list of mappings or a Thing"),
        ("watch", [3, "print"], "a function"),
    ],
)
def test_a_function_refuses_another_kind_in_one_line(name: str, values: list[Any], expected: str) -> None:
    for value in values:
        with pytest.raises(OptionError) as refused:
            called(**{"thing": Thing(), "count": 1} | {name: value})
        assert refused.value.option == name, value
        assert str(refused.value).endswith(f", expected {expected}"), str(refused.value)
        assert str(refused.value).startswith(f"called: {name} = ")
        assert str(refused.value).isprintable()


def test_a_function_refuses_all_that_is_wrong_at_once() -> None:
    found = refusals(lambda: called("x", 1.5, names="ab"))  # type: ignore[arg-type]
    assert [*found] == ["thing", "count", "names"]


@pytest.mark.parametrize(
    "value", [10**5000, [10**5000], "x" * 10**6, torch.zeros(50, 50), Exception("a\x1b\nb"), "\ud800\x9b"], ids=range(6)
)
def test_any_value_is_shown_on_one_plain_line(value: Any) -> None:
    text = str(OptionError("walk", "pace", value, "another"))
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("kind", [MmcoreError, RequestError, PluginError])
def test_a_message_is_legible_whatever_name_is_in_it(kind: type[MmcoreError]) -> None:
    name = "x" * 100_000
    assert str(kind(f"no backbone {name!r}, expected mlp")) == f"no backbone '{'x' * 199}…x', expected mlp"
    assert str(kind("a\x1b[2Jb\r \ud800 ü\u202e")) == "a\\x1b[2Jb\\r \\ud800 ü\\u202e"
    plain = f"the path {'/a' * 200} is there,  and so is ü"
    assert str(kind(plain)) == plain
    # A folder may be called so; an error has one line, and the name can be told from two words.
    assert str(kind("found no file in img\n/a.png")) == "found no file in img\\n/a.png"


def test_a_configuration_has_a_line_for_each_problem_whatever_names_are_in_it() -> None:
    error = ConfigError("a\nb.toml", [Problem("data", "found img\n, expected images"), Problem("x", "expected 1", 2)])
    expected = ["a\\nb.toml: data: found img\\n, expected images", "a\\nb.toml: x = 2: expected 1"]
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one).splitlines() == expected
