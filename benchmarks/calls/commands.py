"""The command line called at random: options and values from the signatures of its commands."""

import contextlib
import inspect
import io
import shutil
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import typer
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from benchmarks import hostile
from benchmarks.calls.laws import listing, place
from benchmarks.calls.odd import STEERING
from mmcore.cli.program import app

SECONDS = 60.0
"""Of a command: that many only where others use the machine too."""
TEXTS = ("", " ", "x", "label", "labe", "a=b", "=", "a=", "=b", "label=", "label=x=y", "--", "-", "-1", "a,b", "é", "\udcff", "\u202e", STEERING, "x" * 100_000, "../up", "/proc/self/mem", "%s{0}", "\ufeff1")  # fmt: skip
WHOLE = (
    "0",
    "-1",
    "1",
    "2",
    "3",
    "10000000000000000000000000000000",
    "1.5",
    "nan",
    "",
    "٣",
    "1_0",
    " 2",
    "0x2",
    "true",
)
REAL = ("0", "0.5", "1", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "", "0,5", "half")
PATHS = ("nowhere", "", ".", "..", "rows.csv", "config.toml", "run", "empty", "run/config.toml", "run/model/model.safetensors", "link", "x" * 300, STEERING, "/proc/self/nowhere", "/dev/null", "~", "\udcff")  # fmt: skip
SETS = ("training.steps=0", "training.steps=1", "training.lr=nan", "training={}", "model.space=[1]", "seed=x", "a.b.c=1", "training.steps=" + "9" * 30, "data.limit=3", "modalities.x={}", "out=", f"out={STEERING}", "data.source=nope", "training.steps", "[x]=1", "a=[" + "[" * 50)  # fmt: skip
RIGHT: dict[str, tuple[str, ...]] = {
    "run": ("run", "run/model"),
    "model": ("run", "run/model"),
    "file": ("config.toml",),
    "data": ("rows.csv",),
    "out": ("new", "deep/er"),
    "n": ("1", "3"),
    "given": ("label=u", "x=0.5", "label=rows.csv"),
    "where": ("x=rows.csv",),
    "start": ("label=u",),
    "absent": ("label", "x"),
    "conditioning": ("roles", "posterior", "rejection"),
    "guidance": ("label=2", "x=1.5"),
    "guide": ("nope",),
    "strength": ("0.5", "1"),
    "steps": ("1", "2"),
    "sampler": ("auto", "ddim", "heun", "ancestral", "2m"),
    "spacing": ("time", "snr"),
    "eta": ("0", "1"),
    "codes": ("mean", "draw", "draw-all"),
    "seed": ("0", "7", "-1"),
    "device": ("cpu",),
    "set_": ("training.steps=1",),
    "from_": ("run",),
    "rows": ("5",),
    "only": ("label",),
    "assume": ("label=none", "layout=classes", "x=scalar"),
    "source": ("table",),
    "observed": ("label",),
    "draws": ("2", "4"),
    "limit": ("5",),
    "ask": ("x->label", "label->x", "joint"),
    "answers": ("2", "9"),
    "interval": ("0.5",),
    "again": ("label",),
    "column": ("label=label",),
    "share": ("0.5",),
    "adapters": ("nowhere",),
    "weights": ("nowhere",),
    "name": ("sound", "label"),
    "kind": ("vector", "series"),
    "profile": ("quick",),
    "timeout": ("1",),
}
"""Values that are right for some commands."""
NEVER: dict[str, dict[str, str]] = {
    "demo": {"device": "nowhere"},
    "play": {"run": "nowhere"},
    "check": {"name": "nowhere"},
    "why": {"name": "nowhere"},
    "list": {"load": ""},
}
"""What keeps a command from what takes minutes, or does not end, of each that would."""


@attrs.frozen
class Option:
    """One that a command has.

    Attributes:
        name: of the function's argument.
        flags: by which it is given; none for an argument.
        kind: of its values.
        needed: whether there is no default.
        many: whether it may be repeated.
    """

    name: str
    flags: tuple[str, ...]
    kind: type
    needed: bool
    many: bool

    @classmethod
    def of(cls, p: inspect.Parameter) -> "Option":
        """Of a function's argument."""
        annotation, info = typing.get_args(p.annotation)
        kinds = [one for one in typing.get_args(annotation) or (annotation,) if one is not type(None)]
        kind, many = kinds[0], typing.get_origin(kinds[0]) is list
        if many:
            (kind,) = typing.get_args(kind)
        flags: tuple[str, ...] = ()
        if isinstance(info, typer.models.OptionInfo):
            named = f"--{p.name.replace('_', '-')}"
            # In Annotated[…] the first of the flags is where a default would be.
            told = tuple(one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str))
            flags = told or (named,)
        return cls(p.name, tuple(one for flag in flags for one in flag.split("/")), kind, p.default is p.empty, many)

    def odd(self) -> tuple[str, ...]:
        """Values of its kind, of which most cannot be."""
        own = {int: WHOLE, float: REAL, Path: PATHS}.get(self.kind, TEXTS)
        return (*own, *SETS) if self.name == "set_" else own

    def words(self, value: str) -> list[str]:
        """As they are typed."""
        if not self.flags:
            return [value]
        return [self.flags[0]] if self.kind is bool else [self.flags[-1], value]


def commands() -> dict[tuple[str, ...], list[Option]]:
    """All commands, each with what it takes."""
    groups = [((), app), *(((group.name,), group.typer_instance) for group in app.registered_groups)]
    found = {}
    for above, group in groups:
        for command in group.registered_commands:
            assert command.callback is not None
            name = command.name or command.callback.__name__
            parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
            found[*above, name] = [Option.of(p) for p in parameters if p.name != "context"]
    return found


@st.composite
def lines(draw: DrawFn) -> hostile.Case:
    """A command line of which none, one or two values are odd."""
    known = commands()
    command = draw(st.sampled_from(list(known)))
    options, kept = known[command], NEVER.get(command[-1], {})
    chosen = [one for one in options if one.needed]
    more = [one for one in options if not one.needed]
    chosen += draw(st.lists(st.sampled_from(more), max_size=3, unique=True)) if more else []
    odd = draw(st.lists(st.sampled_from(options), max_size=2, unique=True)) if options else []
    words, arguments = [], []
    for option in dict.fromkeys((*chosen, *odd)):
        if option.name in kept:
            continue
        values = option.odd() if option in odd else RIGHT.get(option.name, option.odd())
        for value in draw(st.lists(st.sampled_from(values), min_size=1, max_size=2 if option.many else 1)):
            (words if option.flags else arguments).extend(option.words(value))
    by_name = {option.name: option for option in options}
    for name, value in kept.items():
        if value:
            (words if by_name[name].flags else arguments).extend(by_name[name].words(value))
    surplus = draw(
        st.sampled_from([[], [], [], [], [], [], ["--nope"], ["surplus"], ["--help"], [draw(st.sampled_from(TEXTS))]])
    )
    return hostile.Case(" ".join(command), "", (*command, *words, *arguments, *surplus))


@contextlib.contextmanager
def workshop() -> Iterator[Path]:
    """A folder with a table, its configuration and a run, to be copied for each case."""
    with place() as around:
        base = around / "work"
        generator = np.random.default_rng(0)
        cells = [f"{k},{generator.normal():.3f},{'uvw'[k % 3]}" for k in range(40)]
        (base / "rows.csv").write_text("\n".join(["number,x,label", *cells]) + "\n")
        (base / "empty").mkdir()
        (base / "link").symlink_to("nowhere")
        quick = ["model.backbone=mlp", "model.backbone_options={width = 16, depth = 1}", "training.steps=1", "training.batch_size=4", "sampling.steps=1", "sampling.n=2", "device=cpu", "out=run", "training.trackers=[]"]  # fmt: skip
        for words in (["init", "rows.csv", "--assume", "number=none"], ["train", "config.toml", *(word for one in quick for word in ("--set", one))]):  # fmt: skip
            _run(words)
        shutil.copy(base / "run" / "config.toml", base / "config.toml")
        text = (base / "config.toml").read_text()
        (base / "config.toml").write_text(text.replace('"run"', '"new"', 1))
        (around / "outside").mkdir()
        (around / "outside" / "victim").write_text("export IMPORTANT=1\n")
        yield around


def _run(words: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        app(words, standalone_mode=False)


@attrs.frozen
class Ended:
    """How a command ended: its status, and what is wrong with that, if anything is."""

    status: int | None
    fault: str


def ended(case: hostile.Case, around: Path) -> Ended:
    """Give a case to the command line in a copy of the workshop, and judge."""
    at = around / "case"
    shutil.copytree(around / "work", at, symlinks=True)
    try:
        before = listing(at)
        outcome = hostile.outcome(case, at, around / "outside", SECONDS)
        after = _but_streams(listing(at))
        fault = outcome.broken
        if not fault and outcome.status == 2 and (changed := sorted(_changed(before, after))):
            fault = f"{changed[0]} was written before it was refused: {outcome.errors[:200]}"
        return Ended(outcome.status, fault)
    finally:
        shutil.rmtree(at)


def _but_streams(files: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts for name, facts in files.items() if name not in (".out", ".err")}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
