"""What holds of every call, whatever it is given."""

import contextlib
import io
import math
import os
import random
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.calls.odd import Anew, made
from mmcore import MmcoreError, RequestError
from mmcore.data import Table

LONGEST = 1000
"""Characters of a refusal."""
SECONDS = 10.0
"""Of the processor, for a call: nothing here has much to do."""


class TooLongError(BaseException):
    """A call took longer than :data:`SECONDS`."""


@attrs.frozen(eq=False)
class Call:
    """A function with its arguments.

    Attributes:
        name: of the function, for people.
        function: that is called.
        arguments: by name; those that a call uses up are made anew.
        odd: which arguments may be no such thing.
        told: from the answer to numbers by name, for which all work is done.
        writes: the argument that names the folder in which alone files may be written; empty for nowhere.
        changes: arguments that the call may change.
        batched: whether ``batch_size`` says how many rows go together, and nothing else.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    odd: tuple[str, ...]
    told: Callable[[Any], Mapping[str, Any]]
    writes: str = ""
    changes: Set[str] = frozenset()
    batched: bool = False

    def __str__(self) -> str:
        shown = {name: _short(value) for name, value in self.arguments.items()}
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in shown.items())})"


@attrs.frozen
class Ended:
    """How a call ended.

    Attributes:
        fault: what is wrong with that; empty where nothing is.
        refusal: the line by which it was refused; empty where it was answered.
    """

    fault: str = ""
    refusal: str = ""


def ended(call: Call, around: Path) -> Ended:
    """Call, and judge.

    Args:
        call: what to call.
        around: a folder, the current one, in which nothing may change outside of the call's own.
    """
    first = _once(call, call.arguments, around)
    if first.fault or first.refusal:
        return Ended(first.fault, first.refusal)
    # Whatever others have drawn before.
    torch.manual_seed(99)
    again = _once(call, call.arguments, around)
    if again.fault or again.refusal:
        return Ended(f"a second call: {again.fault or again.refusal}")
    if unlike := _unlike(first.told, again.told, exact=True):
        return Ended(f"another answer in a second call: {unlike}")
    if call.batched:
        for size in {1, 7, 500} - {call.arguments.get("batch_size", 500)}:
            other = _once(call, {**call.arguments, "batch_size": size}, around)
            unlike = other.fault or other.refusal or _unlike(first.told, other.told, exact=False)
            if unlike:
                return Ended(f"in batches of {size}: {unlike}")
    return Ended()


@attrs.frozen
class _Once:
    fault: str = ""
    refusal: str = ""
    told: Mapping[str, Any] = {}


def _once(call: Call, arguments: Mapping[str, Any], around: Path) -> _Once:
    given = {name: made(value) for name, value in arguments.items()}
    kept = {name: value for name, value in given.items() if name not in call.changes and not _used_up(arguments[name])}
    looks, shared, files = {name: look(value) for name, value in kept.items()}, generators(), listing(around)
    caught: list[warnings.WarningMessage] = []
    printed = io.StringIO()
    answer: Mapping[str, Any] = {}
    error: MmcoreError | None = None
    try:
        with within(SECONDS), warnings.catch_warnings(record=True) as caught, _printing(printed):
            warnings.simplefilter("always")
            answer = call.told(call.function(**given))
    except MmcoreError as found:
        error = found
    except TooLongError:
        return _Once(f"longer than {SECONDS:g} s")
    except Exception as found:
        return _Once(f"{type(found).__name__}: {' '.join(str(found).split())[:160]}")
    finally:
        changed, drawn = listing(around), generators() != shared
        _remove(around, changed.keys() - files.keys())
    if drawn:
        return _Once("a global generator was used")
    for name, value in kept.items():
        if look(value) != looks[name]:
            return _Once(f"{name} was changed")
    written = sorted(path for path in files.keys() | changed.keys() if files.get(path) != changed.get(path))
    if fault := _outside(given.get(call.writes), written, around) or _said(printed.getvalue(), caught):
        return _Once(fault)
    if error is not None:
        if fault := misworded(str(error)):
            return _Once(fault)
        if isinstance(error, RequestError) and written:
            return _Once(f"{written[0]} was written before it was refused: {str(error)[:100]}")
        return _Once(refusal=str(error))
    if found := _infinite(answer):
        return _Once(f"{found} is not finite")
    return _Once(told=answer)


def _outside(own: object, written: Iterable[str], around: Path) -> str:
    """What was written that is not in the folder that was named."""
    for path in (around / one for one in written):
        named = Path(os.path.normpath(Path(own).absolute())) if isinstance(own, str | Path) else None
        # A folder is made with those that it is to lie in.
        if named is None or not (path.is_relative_to(named) or named.is_relative_to(path)):
            return f"{path} was written"
    return ""


def _said(printed: str, caught: Iterable[warnings.WarningMessage]) -> str:
    """What is wrong with what was printed and warned of."""
    if not all(line.isprintable() for line in printed.split("\n")):
        return f"printed {printed[:100]!r}"
    for one in caught:
        if not issubclass(one.category, UserWarning) or len(str(one.message).splitlines()) != 1:
            return f"{one.category.__name__}: {str(one.message)[:160]}"
    return ""


def misworded(text: str) -> str:
    """What is wrong with an error's text; empty where nothing is."""
    if len(text.splitlines()) != 1 or len(text) > LONGEST:
        return f"a refusal of {len(text.splitlines())} lines and {len(text)} characters: {text[:100]!r}"
    return "" if text.isprintable() else f"a refusal that is no plain text: {text[:200]!r}"


@contextlib.contextmanager
def _printing(to: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stdout(to), contextlib.redirect_stderr(to):
        yield


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """End what is inside after so many seconds of the processor.

    Raises:
        TooLongError: it was ended.
    """

    def end(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def generators() -> tuple[bytes, object, bytes]:
    """The states of the generators that everybody shares."""
    shared = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(shared).encode()


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder of one's own, with the current one and that for temporary files inside."""
    kept, here = tempfile.tempdir, Path.cwd()
    state = torch.get_rng_state()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder).resolve()
        for name in ("tmp", "work"):
            (at / name).mkdir()
        tempfile.tempdir = str(at / "tmp")
        os.chdir(at / "work")
        try:
            yield at
        finally:
            os.chdir(here)
            tempfile.tempdir = kept
            torch.set_rng_state(state)


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What lies in a folder, with what changes when it is written."""
    found = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        found[str(path.relative_to(folder))] = (facts.st_mode, 0 if path.is_dir() else facts.st_mtime_ns, 0 if path.is_dir() else facts.st_size)  # fmt: skip
    return found


def _remove(around: Path, paths: Iterable[str]) -> None:
    """Remove what was made in a folder, the innermost first."""
    for path in sorted(paths, reverse=True):
        at = around / path
        if at.is_dir() and not at.is_symlink():
            at.rmdir()
        else:
            at.unlink()


# ---- values ----


def look(value: Any) -> Any:
    """What a value looks like, to be compared with itself later."""
    if isinstance(value, Tensor):
        held = b"" if value.device.type == "meta" else value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""  # fmt: skip
        return str(value.dtype), tuple(value.shape), str(value.device), value.requires_grad, held
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes() if value.dtype != object else repr(value)
    if isinstance(value, nn.Module):
        return {name: look(x) for name, x in value.state_dict().items()}, [m.training for m in value.modules()], [p.requires_grad for p in value.parameters()]  # fmt: skip
    if isinstance(value, Table):
        return look(value.rows.values), look(value.rows.present)
    if isinstance(value, Mapping):
        return [(key, look(one)) for key, one in value.items()]
    if type(value) in (list, tuple):
        return [look(one) for one in value]
    if isinstance(value, Image.Image):
        return value.mode, value.size, value.tobytes()
    if isinstance(value, int | float | str | bytes | set | frozenset):
        return type(value), value if value == value else "NaN"
    if attrs.has(type(value)):
        return type(value), [look(getattr(value, field.name)) for field in attrs.fields(type(value))]
    return id(value)


def _used_up(value: Any) -> bool:
    """Whether something in an argument can be gone through once alone."""
    if isinstance(value, Anew):
        return hasattr(value.make(), "__next__")
    if type(value) is dict:
        return any(map(_used_up, value.values()))
    return type(value) in (list, tuple) and any(map(_used_up, value))


def _infinite(told: Mapping[str, Any]) -> str:
    for name, value in told.items():
        numbers = value if isinstance(value, Tensor) else None
        if numbers is not None and not numbers.isfinite().all():
            return name
        if isinstance(value, float) and not math.isfinite(value):
            return name
    return ""


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any], *, exact: bool) -> str:
    if one.keys() != other.keys():
        return f"{sorted(one.keys() ^ other.keys())}"
    for name, value in one.items():
        told = other[name]
        if isinstance(value, Tensor):
            same = value.shape == told.shape and (torch.equal(value, told) if exact else torch.allclose(value.double(), told.double(), 1e-5, 1e-6))  # fmt: skip
        elif isinstance(value, float) and not exact:
            same = math.isclose(value, told, rel_tol=1e-5, abs_tol=1e-6)
        else:
            same = value == told
        if not same:
            return f"{name}: {_short(value)}, {_short(told)}"
    return ""


def _short(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f"<{type(value).__name__}>"
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= 120 else f"{text[:117]}…"
