"""What surrounds a plugin and what it must leave alone; how to tell whether two raw values are one."""

import contextlib
import functools
import inspect
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import types
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcore.hooks import Made
from mmcore.testing.check import NotRun
from mmcore.testing.context import Context
from mmcore.testing.snippet import maker

LONGEST = 300
"""So many seconds are waited for another process."""
GENERATORS = ("torch's global generator", "numpy's global generator", "Python's global generator")


def reseed(seed: int) -> None:
    """Seed every global generator; a run of the kit puts all of them back at its end."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def _state() -> dict[str, Any]:
    return {
        GENERATORS[0]: torch.get_rng_state().numpy().tobytes(),
        GENERATORS[1]: pickle.dumps(np.random.get_state()),  # noqa: NPY002
        GENERATORS[2]: random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "whether gradients are recorded": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the working directory": os.getcwd(),
        "the environment's variables": dict(os.environ),
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "what SIGTERM does": signal.getsignal(signal.SIGTERM),
        "Python's hook for uncaught errors": sys.excepthook,
        "the largest depth of recursion": sys.getrecursionlimit(),
        "numpy's treatment of errors": np.geterr(),
        "where lines are printed": (sys.stdout, sys.stderr),
        "whether warnings are shown": any(
            f[0] == "ignore" and f[2] is Warning and not (f[1] or f[3]) for f in warnings.filters
        ),
    }


def _put_back(before: dict[str, Any]) -> None:
    """What may be set again without harm; generators are the engine's."""
    torch.set_default_dtype(before["torch's default dtype"])
    torch.set_grad_enabled(before["whether gradients are recorded"])
    if torch.get_num_threads() != before["torch's number of threads"]:
        torch.set_num_threads(before["torch's number of threads"])
    # Not as a matter of course: the call imports much.
    if torch.are_deterministic_algorithms_enabled() != before["torch's deterministic algorithms"]:
        torch.use_deterministic_algorithms(before["torch's deterministic algorithms"])
    if dict(os.environ) != before["the environment's variables"]:
        os.environ.clear()
        os.environ.update(before["the environment's variables"])
    if threading.current_thread() is threading.main_thread():
        for name, number in (("what Ctrl-C does", signal.SIGINT), ("what SIGTERM does", signal.SIGTERM)):
            if before[name] is not None and signal.getsignal(number) != before[name]:
                signal.signal(number, before[name])
    os.chdir(before["the working directory"])
    sys.excepthook = before["Python's hook for uncaught errors"]
    sys.setrecursionlimit(before["the largest depth of recursion"])
    np.seterr(**before["numpy's treatment of errors"])
    sys.stdout, sys.stderr = before["where lines are printed"]


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Put back what a plugin may have set for the whole process."""
    before = _state()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            _put_back(before)


@contextlib.contextmanager
def left_alone(c: Context, what: str, *, but: tuple[str, ...] = (), seeded: bool = True) -> Iterator[None]:
    """Fail where something of the process is another afterwards; it is put back all the same.

    Args:
        c: the trial.
        what: was done inside, in words.
        but: what may change.
        seeded: whether global generators are first seeded with what nobody else seeds them with.
    """
    with put_back():
        if seeded:
            reseed(71_993_311 + c.seed)
        before = _state()
        yield
        after = _state()
    for name, value in before.items():
        if name not in but and after[name] != value:
            drew = "numbers drawn from" if name in GENERATORS else "another setting of"
            c.fail(f"{drew} {name} {what}", "all that the process shares left alone")


def alike(a: Any, b: Any) -> bool:
    """Whether two raw values are the same, in type too; NaN is its own equal here."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    if hasattr(a, "tobytes"):
        # Arrays and pictures.
        kind = [(getattr(x, "shape", None), getattr(x, "dtype", None), getattr(x, "size", None), getattr(x, "mode", None)) for x in (a, b)]  # fmt: skip
        return kind[0] == kind[1] and a.tobytes() == b.tobytes()
    return bool(a == b) or (a != a and b != b)


def factory_of(thing: Any) -> Any:
    """What makes the plugin itself: of an installed one, its factory."""
    registry, made = getattr(thing, "registry", None), getattr(thing, "made", None)
    if registry is None or not isinstance(made, Made):
        return thing
    return registry.factory(registry.find(made.kind, f"{made.distribution}:{made.offer}"))[0]


def given_options(thing: Any) -> dict[str, Any]:
    """The options that an installed plugin always gets."""
    made = getattr(thing, "made", None)
    return dict(made.options) if isinstance(made, Made) else {}


def parameters_of(thing: Any) -> dict[str, inspect.Parameter]:
    """The options that a plugin's factory takes by name; none where it does not say."""
    try:
        return dict(inspect.signature(factory_of(thing)).parameters)
    except (TypeError, ValueError):
        return {}


def takes(thing: Any, option: str) -> bool:
    """Whether a factory has an argument of this name."""
    return option in parameters_of(thing)


def holds(*roots: Any) -> int:
    """How many things hang on these: members of containers, attributes, what closures and caches hold, and tensors' elements in thousands."""
    seen: set[int] = set()
    todo, count = deque[Any](roots), 0
    while todo:
        one = todo.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, types.ModuleType):
            todo.extend(v for v in vars(one).values() if not isinstance(v, types.ModuleType))
            continue
        if isinstance(one, Tensor):
            count += 1 + one.numel() // 1000
            continue
        if isinstance(one, np.ndarray):
            count += 1 + one.size // 1000
            continue
        if isinstance(one, dict):
            count += len(one)
            todo.extend(one.keys())
            todo.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset | deque):
            # What has an end does not grow for ever.
            count += len(one) if getattr(one, "maxlen", None) is None else 0
            todo.extend(one)
        elif hasattr(one, "cache_info") and callable(one.cache_info):
            info = one.cache_info()
            count += getattr(info, "currsize", 0) if getattr(info, "maxsize", None) is None else 0
            todo.append(getattr(one, "__wrapped__", None))
        elif isinstance(one, types.FunctionType):
            todo.extend(cell.cell_contents for cell in one.__closure__ or () if _filled(cell))
            todo.extend(one.__defaults__ or ())
            todo.extend((one.__kwdefaults__ or {}).values())
            todo.append(one.__dict__)
        elif isinstance(one, types.MethodType):
            todo.extend((one.__self__, one.__func__))
        elif isinstance(one, functools.partial):
            todo.extend((one.func, one.args, one.keywords))
        elif isinstance(one, type):
            if not one.__module__.startswith(("torch", "mmcore.", "builtins")):
                todo.extend(v for v in vars(one).values() if not isinstance(v, types.GetSetDescriptorType))
        elif isinstance(one, str | bytes | bytearray):
            count += len(one) // 1000
        elif isinstance(getattr(one, "__dict__", None), dict) and not type(one).__module__.startswith(("torch._", "torch.jit")):  # fmt: skip
            todo.append(vars(one))
            todo.append(type(one))
    return count


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def descriptors() -> int:
    """How many files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def pickled(c: Context, thing: Any, what: str) -> Any:
    """A copy by pickle, as a worker process gets it.

    Of one whose class is no module's, as when it is made in a test, only what it holds is tried, and ``thing`` itself is given back.

    Raises:
        Failure: it cannot be pickled.
    """
    cls = type(thing)
    local = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls
    try:
        if not local:
            return pickle.loads(pickle.dumps(thing))
        if getattr(cls, "__reduce__", None) is object.__reduce__ and not hasattr(cls, "__getnewargs_ex__"):
            pickle.dumps(thing.__getstate__())
    # What pickle raises depends on what it meets.
    except Exception as error:
        if not local or "cannot pickle" in str(error):
            c.fail(f"{what} that cannot be pickled ({type(error).__name__}: {error})", "a copy, as workers read copies")
    return thing


def elsewhere(c: Context, kind: str, code: str) -> str | None:
    """The last line that code about ``make`` prints in another process, with other hashes.

    None in the quick profile, and of what no other process could make.

    Raises:
        NotRun: it ends in an error there, or in no time.
    """
    lines = maker(c.thing, kind)
    if lines is None or c.profile.name == "quick":
        return None
    program = "\n".join([*lines[0], *lines[1], code])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "PYTHONHASHSEED": "77"}
    try:
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=LONGEST)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotRun(f"not decided: another process was not done after {LONGEST} s") from None
    if done.returncode:
        raise NotRun(f"not decided: another process could not make it ({done.stderr.strip()[-200:]})")
    return done.stdout.strip().splitlines()[-1]
