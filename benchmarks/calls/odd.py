"""Arguments by Hypothesis: what an annotation says, and what is odd beside it."""

import inspect
import types
import typing
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor


@attrs.frozen(eq=False)
class Anew:
    """A value that is used up or changed by a call, made anew for each.

    Attributes:
        what: it is, in words.
        make: makes it, the same each time.
    """

    what: str
    make: Callable[[], Any]

    def __repr__(self) -> str:
        return f"<{self.what}>"


def made(value: Any) -> Any:
    """The value of an argument, with all in it that is made anew."""
    if isinstance(value, Anew):
        return value.make()
    if type(value) in (list, tuple):
        return type(value)(map(made, value))
    return {key: made(one) for key, one in value.items()} if type(value) is dict else value


class Nothing:
    """What no argument is."""


LONG, STEERING = "x" * 100_000, "a\x1b[2J\r\n\x9b31m\u202eb"
WORDS = ("", "x", "label", "Label", "labe", " label", "a.b", "../up", "/etc/passwd", "a\0b", "\ud800", "ü", "1", "auto", "__class__", "None", STEERING, LONG)  # fmt: skip
NUMBERS = (0, 1, 2, 3, -1, True, 2.0, 2.5, 0.5, -0.0, 2**63, -(2**63) - 1, 10**30, 10**400, 10**5000, 1e308, 5e-324, float("nan"), float("inf"), -float("inf"))  # fmt: skip
FOREIGN = (
    np.int64(2), np.uint8(2), np.float64(0.5), np.float32("nan"), np.bool_(True), np.str_("label"), Decimal("0.5"), Fraction(1, 2), 1j, b"x", bytearray(b"x"),
    torch.tensor(2), torch.tensor(0.5), torch.zeros(2, 2), torch.zeros(0), torch.empty(2, device="meta"), torch.ones(2, dtype=torch.complex64),
    np.array([1, 2]), np.array(["a"]), np.array([None, 1], dtype=object), np.array(1.5), np.zeros((0, 3)),
)  # fmt: skip
OTHERS = (
    None, [], {}, (), set(), {"label"}, frozenset({1}), ["label"], ["label", "label"], [[1]], [None], [[]], (1, 2), {"label": 1}, {1: 2}, {None: None}, {"x": {"y": []}}, [0] * 1000,
    range(3), range(10**12), slice(1), Ellipsis, NotImplemented, Path("nowhere"), Path(), Path("a\0b"), deque([1]), OrderedDict(label=1), Nothing(), Nothing, int, lambda: 1, len,
    np.random.default_rng, types.SimpleNamespace(name="label"), torch.float32, torch.device("meta"), Exception("x"),
    Anew("an iterator of 1", lambda: iter([1])), Anew("a generator of names", lambda: (x for x in ("label", "a"))),
)  # fmt: skip
JUNK: tuple[Any, ...] = (*WORDS, *NUMBERS, *FOREIGN, *OTHERS)
junk: SearchStrategy[Any] = st.sampled_from(JUNK)


def typed(annotation: Any) -> SearchStrategy[Any]:
    """Values that an annotation admits; junk where it admits what nobody can make of it alone."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(typed, args))
    kind = origin or annotation
    if kind in (None, type(None)):
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from([0, 1, 2, 3, 7, -1, 10**30])
    if kind is float:
        return st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, -1.0, 1e308, float("nan"), float("inf")])
    if kind is str:
        return st.sampled_from(WORDS)
    if not isinstance(kind, type):
        return junk
    if issubclass(kind, Path):
        return st.sampled_from([Path("nowhere"), Path(), Path("a\0b"), Path("x" * 300), Path("/proc/self/nowhere")])
    if issubclass(kind, Mapping):
        return st.dictionaries(st.sampled_from(WORDS), typed(args[1]) if args else junk, max_size=2)
    if issubclass(kind, Tensor):
        return st.sampled_from([one for one in FOREIGN if isinstance(one, Tensor)])
    if issubclass(kind, Sequence | Set | Iterable) and args:
        return st.lists(typed(args[0]), max_size=3)
    return junk


@st.composite
def spoilt(draw: DrawFn, value: Any) -> Any:
    """Something near a value that is right, or anything."""
    near = _near(draw, value)
    return draw(junk) if near is None or draw(st.integers(0, 3)) == 0 else draw(st.sampled_from(near))


def _near(draw: DrawFn, value: Any) -> list[Any] | None:
    """What looks like a value and is not it; None for what is like nothing else."""
    if isinstance(value, bool):
        return [int(value), str(value), np.bool_(value), torch.tensor(value), [value], None]
    if isinstance(value, int):
        return [
            0,
            -value,
            float(value),
            str(value),
            np.int64(value) if abs(value) < 2**63 else Fraction(value),
            str(value).encode(),
            [value],
            bool(value),
            10**30,
            2**63,
            value + 0.5,
        ]
    if isinstance(value, float):
        return [
            -value,
            str(value),
            np.float64(value),
            str(value).encode(),
            [value],
            Decimal(value),
            float("nan"),
            float("inf"),
            0.0,
            10**400,
            1j,
        ]
    if isinstance(value, str):
        return [
            value.upper(),
            f" {value} ",
            f"{value}\0",
            f"{value}{STEERING}",
            value.encode("utf-8", "surrogatepass"),
            [value],
            {value},
            {value: 1},
            value[:-1],
            f"{value}s",
            LONG,
            np.str_(value),
        ]
    if isinstance(value, Path):
        return [
            str(value),
            str(value).encode("utf-8", "surrogatepass"),
            value / "nowhere",
            value / STEERING,
            Path(f"{value}\0"),
            Path("x" * 300),
            [value],
            Path("/proc/self/nowhere"),
        ]
    if isinstance(value, Tensor):
        return _near_tensor(value)
    if type(value) in (list, tuple):
        return _near_list(draw, list(value), type(value))
    if type(value) is dict:
        return _near_dict(draw, value)
    return [type(value), [value], {"label": value}, str] if isinstance(value, torch.nn.Module) else None


def _near_tensor(x: Tensor) -> list[Any]:
    changed = [
        x[:-1],
        x[..., None],
        x.to(torch.int16),
        x.to(torch.complex64),
        x.to("meta"),
        x.tolist(),
        x.cpu().numpy(),
        torch.zeros(0),
    ]
    if x.numel():
        odd = x.clone()
        odd.view(-1)[0] = float("nan") if x.is_floating_point() else True if x.dtype == torch.bool else -99
        changed += [odd, torch.cat([x, x[:1]]) if x.ndim else x]
    return changed


def _near_list(draw: DrawFn, value: list[Any], kind: type) -> list[Any]:
    near = [
        [],
        value + value,
        value[:-1],
        set,
        str(value),
        dict.fromkeys(map(str, value)),
        Anew(f"a generator of {value}", lambda: (x for x in made(value))),
        [value],
        kind,
    ]
    if value:
        at = draw(st.integers(0, len(value) - 1))
        other = [*value[:at], draw(spoilt(value[at])), *value[at + 1 :]]
        near += [value[0], *[kind(other)] * 6, [*value, draw(junk)]]
    return near


def _near_dict(draw: DrawFn, value: dict[Any, Any]) -> list[Any]:
    near = [
        {},
        list(value),
        list(value.items()),
        {**value, draw(st.sampled_from([*WORDS, 3, None])): draw(junk)},
        OrderedDict(value),
    ]
    if value:
        key = draw(st.sampled_from(sorted(value, key=str)))
        near += [
            *[{**value, key: draw(spoilt(value[key]))}] * 6,
            {name: one for name, one in value.items() if name != key},
        ]
    return near


def annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Of a function's arguments by name, what is given by any name apart."""
    signature = inspect.signature(function, eval_str=True)
    return {name: p.annotation for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
