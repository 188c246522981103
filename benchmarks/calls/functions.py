"""The public functions that are called at random: arguments of each that are right, and what is told of its answer."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

import mmcore
from benchmarks.calls.laws import Call, look
from benchmarks.calls.odd import Anew, annotations, junk, spoilt, typed
from mmcore import JointModel, Task, metrics
from mmcore.data import LoaderOptions, Table
from mmcore.process import schedule
from mmcore.runs.reader import HOW
from mmcore.training import TrainOptions

ROWS = 12


@attrs.frozen(eq=False, repr=False)
class Subject:
    """A function, and what may be given to it.

    Attributes:
        function: that is called.
        right: values of arguments that are right by themselves; others are drawn by their annotations.
        needed: arguments that every call has.
        told: from the answer to numbers by name.
        further: annotations of what goes by any name.
        writes: the argument that names the folder it writes in.
        changes: arguments that the call may change.
        long: arguments that say how long it takes, and nothing else.
    """

    function: Callable[..., Any]
    right: Mapping[str, list[Any]]
    needed: tuple[str, ...]
    told: Callable[[Any], Mapping[str, Any]]
    further: Mapping[str, Any] = {}
    writes: str = ""
    changes: frozenset[str] = frozenset()
    long: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return self.function.__name__

    @property
    def annotations(self) -> dict[str, Any]:
        """Of all arguments."""
        return {**annotations(self.function), **self.further}

    def argument(self, name: str) -> SearchStrategy[Any]:
        """Values of an argument that are right by themselves."""
        return st.sampled_from(self.right[name]) if name in self.right else typed(self.annotations[name])


@st.composite
def calls(draw: DrawFn, subject: Subject) -> Call:
    """A call in which none, one or two arguments are odd."""
    known = subject.annotations
    others = [name for name in known if name not in subject.needed and name in subject.right]
    also = draw(st.lists(st.sampled_from(others), max_size=3, unique=True)) if others else []
    names = [*subject.needed, *also]
    given = {name: draw(subject.argument(name)) for name in names}
    odd = draw(st.lists(st.sampled_from(list(known)), max_size=2, unique=True))
    for name in odd:
        value = draw(subject.argument(name))
        value = draw(st.one_of(typed(known[name]), junk, spoilt(value), spoilt(value)))
        # How long one waits is one's own to say.
        waits = name in subject.long and isinstance(value, int | float | str) and value not in subject.right[name]
        given[name] = subject.right[name][0] if waits else value
    batched = "batch_size" in annotations(subject.function)
    return Call(subject.function.__name__, subject.function, given, tuple(odd), subject.told, subject.writes, subject.changes, batched)  # fmt: skip


class Subjects:
    """All of them, around small models of four modalities.

    Args:
        around: a folder to keep a model in.
    """

    def __init__(self, around: Path) -> None:
        self.registry = mmcore.discover()
        self.parts = self._parts()
        self.model = self._model(self.parts, layout="separate").double()
        self.model.eval()
        self.rows = [self._row(k) for k in range(ROWS)]
        self.table = Table.read(self.rows, self.model.variables)
        self.folder = mmcore.save(self.model, around / "model")
        self.by_hand = mmcore.save(self._model(self.parts[1:], backbone=Net(self.parts[1:])), around / "by-hand")

    def _parts(self) -> list[mmcore.Modality]:
        make = self.registry.modality
        return [
            make("clip", name="a", width=3, unit_norm=False),
            make("label", classes=4),
            make("image", channels=1, size=4),
            make("mask", size=4, classes=3),
        ]

    def _model(self, parts: list[mmcore.Modality], **options: Any) -> JointModel:
        how = {"backbone": "mlp", "backbone_options": {"width": 16, "depth": 1}} | options
        if not isinstance(how["backbone"], str):
            del how["backbone_options"]
        steps = self.registry.schedule("cosine", steps=20, modalities=len(parts))
        model = mmcore.compose(parts, schedule=steps, registry=self.registry, **how)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        return model

    def _row(self, k: int) -> dict[str, Any]:
        row = {m.name: m.raw(m.typical(1, k)[0]) for m in self.model.variables}
        for name in [name for place, name in enumerate(row) if k % 5 == place]:
            del row[name]
        return row

    NAMES = ("compose", "extend", "without", "fit", "specialise", "load", "save", "evaluate", "report", "calibration", "predict")  # fmt: skip

    def named(self, name: str) -> Subject:
        """One of them.

        Raises:
            ValueError: there is none.
        """
        if name not in self.NAMES:
            raise ValueError(f"calls: {name!r}, expected one of {', '.join(self.NAMES)}")
        return getattr(self, name)()

    def _fresh(self) -> Anew:
        return Anew("a small model", lambda: copy.deepcopy(self.model))

    # ---- models made ----

    def compose(self) -> Subject:
        a, label, image, mask = self.parts
        names = [m.name for m in self.parts]
        right = {
            "modalities": [[a, label, image, mask], [label, image], [a], (label, a)],
            "tasks": [None, [Task("label", "label")], [Task("label", "label"), Task("other", "label", weight=0.5)], [Task("label", "label"), Task("mask", mask)]],
            "gains": [None, [1.0, 2.0], [1.0] * 4, [0.5]],
            "powers": [None, [1.0, 2.0], [1.0] * 4],
            "layout": ["shared", "separate", [["label"], ["image"]], [names[:2], names[2:]]],
            "space": [None, (8, 4, 4), (40, 8)],
            "channels": [None, [1, 2], [1, 1, 1, 2]],
            "overlap": [True, False],
            "schedule": ["cosine", "linear", schedule.cosine(20, 2), schedule.cosine(20, 4)],
            "backbone": ["mlp", "transformer", Net([label, image])],
            "backbone_options": [{"width": 16, "depth": 1}, {"width": 16, "depth": 2}, {"width": 16, "depth": 1, "features": 4}],
            "trained_encoders": [(), ["label"], {"image"}],
            "reading": ["codes", "space"],
            "adapters": [None, {"rank": 2, "modules": "all"}],
            "seed": [0, 1, 2**40, -1],
            "registry": [self.registry],
        }  # fmt: skip
        needed = ("modalities", "backbone", "backbone_options", "registry")
        return Subject(mmcore.compose, right, needed, answers)

    def extend(self) -> Subject:
        make = self.registry.modality
        new = make("label", name="new", classes=3)
        right = {
            "model": [self.model],
            "modalities": [[new], [new, make("scalar", name="age")], (), self.parts[:1]],
            "tasks": [None, [Task("again", "label")], [Task("new", "new")]],
            "gains": [None, [1.0], [0.5, 2.0]],
            "depth": [None, 1, 2],
            "backbone": [None],
            "adapters": [None, {"rank": 2, "modules": "all"}],
            "seed": [0, 1],
            "registry": [self.registry],
        }
        return Subject(mmcore.extend, right, ("model", "modalities", "registry"), answers)

    def without(self) -> Subject:
        names = [["a"], ["label", "image"], {"mask"}, [], ["a", "label", "image", "mask"]]
        right = {"model": [self.model], "names": names, "registry": [self.registry]}
        return Subject(mmcore.without, right, ("model", "names", "registry"), answers)

    # ---- training ----

    def _training(self) -> dict[str, list[Any]]:
        few = [0, 1, 2]
        return {
            "model": [self._fresh()],
            "rows": [self.rows, self.table, self.rows[:5], tuple(self.rows)],
            "out": [None, "out", Path("deep/er")],
            "options": [None, TrainOptions(steps=2, batch_size=4), TrainOptions(steps=1, weighting="elbo")],
            "device": ["cpu"],
            "validation": [None, self.rows[:4], self.table],
            "loading": [None, LoaderOptions(), LoaderOptions(memory=False)],
            "pictures": [None],
            "watch": [(), [_nothing]],
            "trackers": [(), []],
            "quiet": [True, False],
            "resume": [False],
            "accept_changes": [False, True],
            "replace": [False, True],
            "steps": [1, 2, 3],
            "batch_size": [2, 3, 8],
            "lr": [1e-3, 0.0, 1],
            "warmup": [0.0, 0.5, 1],
            "betas": [(0.9, 0.99), [0, 0.5]],
            "ema": [0.0, 0.9, 1.0],
            "weighting": ["simple", "snr", "elbo"],
            "roles": [mmcore.RoleMix(), mmcore.RoleMix(partial=0.5), mmcore.RoleMix(questions={"image -> label": 0.2})],
            "task_weights": ["fixed", "learned"],
            "accumulate": [1, 2],
            "precision": ["float32", "bf16"],
            "compile": [False],
            "validate_every": few,
            "log_every": [1, 2],
            "save_steps": few,
            "save_seconds": [0, 60.0],
            "keep": [1, 2],
            "seed": [0, 1, 2**70, -5],
        }

    def fit(self) -> Subject:
        needed = ("model", "rows", "steps", "batch_size", "device", "trackers", "quiet")
        return Subject(
            mmcore.fit,
            self._training(),
            needed,
            trained,
            _fields(TrainOptions),
            "out",
            frozenset({"model"}),
            frozenset({"steps", "compile"}),
        )

    def specialise(self) -> Subject:
        fit = self.fit()
        right = {
            **fit.right,
            "ask": ["image -> label", "a,label->image", "->label"],
            "share": [0.25, 1, 2.0],
            "options": [TrainOptions(steps=2, batch_size=4)],
        }
        del right["steps"]
        further = {
            name: kind
            for name, kind in fit.annotations.items()
            if name not in ("model", "rows", "options", "steps", "ask", "share")
        }
        needed = ("model", "rows", "ask", "options", "device", "trackers", "quiet")
        return Subject(mmcore.specialise, right, needed, trained, further, "out", fit.changes, fit.long)  # fmt: skip

    # ---- files ----

    def load(self) -> Subject:
        _, label, image, mask = self.parts
        right = {
            "folder": [self.folder, str(self.folder), self.by_hand],
            "backbone": [None, Anew("a network", lambda: Net([label, image, mask]))],
            "modalities": [None, {}],
            "tasks": [None, {}],
            "beside": [None, [], [self.folder]],
            "registry": [self.registry],
            "device": ["cpu"],
        }
        return Subject(mmcore.load, right, ("folder", "registry"), answers, changes=frozenset({"backbone"}))

    def save(self) -> Subject:
        right = {
            "model": [self.model],
            "folder": ["out", Path("deep/er"), Path()],
            "tensors": [None, dict(self.model.state_dict())],
        }
        return Subject(mmcore.save, right, ("model", "folder"), written, writes="folder")

    # ---- measures ----

    def evaluate(self) -> Subject:
        right = {
            "model": [self.model],
            "rows": [self.rows, self.table, self.rows[:1], tuple(self.rows)],
            "observed": [(), ["label"], {"a", "image"}],
            "draws": [2, 4],
            "seed": [0, 1, 2**40, -3],
            "batch_size": [1, 5, 500],
        }
        return Subject(mmcore.evaluate, right, ("model", "rows", "draws"), lambda found: flat(found.json()))

    def _measured(self) -> dict[str, list[Any]]:
        return {
            "model": [self.model],
            "table": [self.table],
            "questions": [["image->label"], ["label -> mask", "a,label->image"], ["image->label", "image -> label"], "image->a"],
            "seed": [0, 1, 2**40],
            "resamples": [None, 2, 50],
            "steps": [1, 2, [20, 10, 1]],
            "sampler": ["auto", "ddim", "ancestral", "heun"],
            "draw": [True, False],
            "conditioning": ["roles", "posterior"],
        }  # fmt: skip

    def report(self) -> Subject:
        right = self._measured() | {"weights": [None], "features": [None, {"image": _features}, {"a": _features}]}
        needed = ("model", "table", "questions", "steps", "resamples")
        further = {name: kind for name, kind in _how().items() if name != "seed"} | {"batch_size": int}
        return Subject(metrics.report, right, needed, _figures, further)

    def calibration(self) -> Subject:
        right = self._measured() | {"draws": [2, 3, 9], "rows": [2, 5, 200], "batch_size": [1, 7, 500], "quiet": [True, False]}  # fmt: skip
        needed = ("model", "table", "questions", "steps", "resamples", "draws")
        further = {name: kind for name, kind in _how().items() if name != "seed"}
        return Subject(metrics.calibration, right, needed, lambda found: flat(found.json()), further)

    def predict(self) -> Subject:
        right = {
            "run": [self.folder, str(self.folder), mmcore.Reader.open(self.folder, registry=self.registry, device="cpu")],
            "data": [self.rows, self.rows[:1], self.rows[3:6]],
            "draws": [1, 9, 16],
            "interval": [0.8, 0.5],
            "again": [(), ["label"], {"a"}, "image"],
            "absent": [(), ["mask"], "a"],
            "columns": [None, {}, {"label": "label"}],
            "on_bad_row": ["stop", "skip"],
            "calibrate": [True, False],
            "device": ["cpu"],
            "registry": [self.registry],
            "steps": [1, 2],
            "sampler": ["auto", "ddim", "heun"],
            "seed": [0, 1, 2**40],
        }  # fmt: skip
        return Subject(mmcore.predict, right, ("run", "data", "steps", "registry", "device"), _filled, _how())


class Net(torch.nn.Module):
    """A network of a user's own.

    Args:
        parts: the modalities of its model.
    """

    def __init__(self, parts: list[mmcore.Modality]) -> None:
        super().__init__()
        self.features = 4
        generator = torch.Generator().manual_seed(len(parts))
        self.weight = torch.nn.Parameter(torch.randn(4, generator=generator))

    def forward(self, z: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return z[:, :1] * self.weight.reshape(1, 4, *[1] * (z.ndim - 2)).to(z)


def _nothing(*_: object) -> None:
    """Watches nothing."""


def _features(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :2].double()


def _how() -> dict[str, Any]:
    """Annotations of the arguments of ``sample`` that say how; not of what a compiler takes its time and its own files for."""
    return {name: kind for name, kind in annotations(mmcore.sample).items() if name in HOW and name != "compiled"}


def _fields(kind: type) -> dict[str, Any]:
    return {field.name: field.type for field in attrs.fields(attrs.resolve_types(kind))}


# ---- answers as numbers ----


def answers(model: JointModel) -> dict[str, Any]:
    """A model's weights, and what it answers."""
    asked = mmcore.sample(model, 2, steps=1)
    return {**model.state_dict(), **{f"answer {name}": x for name, x in asked.items()}, "training": model.training}


def trained(state: Any) -> dict[str, Any]:
    """What a training has come to."""
    return {**state.model.state_dict(), "step": state.step}


def written(folder: Path) -> dict[str, Any]:
    """What lies in a model folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Plain values by their place."""
    inner: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()  # fmt: skip
    found = [item for key, one in inner for item in flat(one, f"{name}.{key}").items()]
    return dict(found) if isinstance(value, Mapping | list | tuple) else {name: value}


def _figures(figures: Mapping[str, metrics.Figure]) -> dict[str, Any]:
    return flat({name: figure.json() for name, figure in figures.items()})


def _filled(rows: Any) -> dict[str, Any]:
    return {f"{row.number} {row.key}": look([row.given, row.answers, [*row.left], row.bad]) for row in rows}
