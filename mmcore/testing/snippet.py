"""Python that makes a plugin and an input again, for messages."""

import ast
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmcore.hooks import Made
from mmcore.modality.base import Modality

LONGEST = 512
"""The most numbers of a tensor that are written out."""


def literal(value: Any) -> str | None:
    """``value`` as Python; None for what is too long or no plain value."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        kind = f"dtype={value.dtype}"
        if value.numel() and (value == value.flatten()[0]).all():
            return f"torch.full({tuple(value.shape)}, {value.flatten()[0].item()!r}, {kind})"
        if value.numel() > LONGEST:
            return None
        numbers = value.tolist()
        return f"torch.tensor({numbers!r}, {kind})".replace("inf", "float('inf')").replace("nan", "float('nan')")
    return repr(value) if _plain(value) else None


def _plain(value: Any) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False


def maker(thing: Any, kind: str) -> tuple[list[str], list[str]] | None:
    """The import lines and the lines that make ``thing``; None where it cannot be made by name."""
    variable = "modality" if kind == "modality" else "make"
    made: Made | None = getattr(thing, "made", None)
    if isinstance(made, Made) and not made.registered and all(map(_plain, made.options.values())):
        options = "".join(f", {k}={v!r}" for k, v in made.options.items())
        if kind == "modality":
            return ["import mmcore"], [f"modality = mmcore.discover().modality({made.offer!r}{options})"]
        given = f"{made.kind!r}, {made.offer!r}, {{**{made.options!r}, **given}}"
        return ["import mmcore"], [f"make = lambda **given: mmcore.discover().make({given})[1]"]
    cls = type(thing) if isinstance(thing, Modality) else thing
    module, name = getattr(cls, "__module__", None), getattr(cls, "__qualname__", "<locals>")
    # What is made inside a function, or was put together by hand, cannot be imported.
    if not module or module == "__main__" or getattr(sys.modules.get(module), name, None) is not cls:
        return None
    imports = [f"from {module} import {name}"]
    if not isinstance(thing, Modality):
        return imports, [f"{variable} = {name}"]
    args, options = thing.arguments
    if not all(map(_plain, (*args, *options.values()))):
        return None
    given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in options.items())])
    return imports, [f"{variable} = {name}({given})"]


def snippet(thing: Any, kind: str, id: str, profile: str, seed: int, inputs: Mapping[str, Any], code: str) -> str:  # noqa: A002
    """A program that shows a failure by itself: the lines of the check with its input, or the check alone."""
    written = {name: literal(value) for name, value in inputs.items()}
    own = maker(thing, kind)
    imports, lines = own or ([], [f"{'modality' if kind == 'modality' else 'make'} = ...  # as in your test"])
    if code and all(text is not None for text in written.values()):
        if "torch." in "".join(map(str, written.values())) + code:
            imports = ["import torch", *imports]
        return "\n".join([*imports, *lines, *(f"{k} = {v}" for k, v in written.items()), *code.split("\n")])
    variable = "modality" if kind == "modality" else "make"
    run = f"run({variable}, kind={kind!r}, only=[{id!r}], profile={profile!r}, seed={seed})"
    return "\n".join([*imports, "from mmcore.testing import run", *lines, f"print({run}.failures[0].explain())"])


def command(thing: Any, kind: str, name: str, id: str, profile: str, seed: int, extra: str = "") -> str:  # noqa: A002
    """``mmcore check …`` for one check; empty where the plugin was not made by its registered name."""
    made: Made | None = getattr(thing, "made", None)
    if not isinstance(made, Made) or made.registered:
        return ""
    options = "".join(f" --set {shlex.quote(f'{k}={_toml(v)}')}" for k, v in made.options.items())
    offer = f"{made.kind}.{made.offer}" if made.kind != "modality" else made.offer
    return f"mmcore check {offer}{options} --profile {profile} --seed {seed} --only {shlex.quote(id)}{extra}"


def _toml(value: Any) -> str:
    """A value as ``--set`` takes it: JSON of plain values is TOML but for true tables."""
    return json.dumps(value) if isinstance(value, bool | str | list | tuple) else str(value)
