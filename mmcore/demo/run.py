"""``mmcore demo``: train a four-modality model on real handwritten digits, sample, measure, report."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmcore import files as door
from mmcore.config.resolve import configured
from mmcore.data import Table
from mmcore.demo.judge import Judge
from mmcore.demo.measure import Answers, Rows, image_figures, measure
from mmcore.errors import RequestError
from mmcore.modality.base import Task
from mmcore.model.compose import compose
from mmcore.model.devices import pick_device
from mmcore.model.joint import JointModel
from mmcore.model.roles import RoleMix
from mmcore.plugins import Registry
from mmcore.runs.run import CONFIG, check_own, recorded
from mmcore.sampling.ask import sample
from mmcore.store.folder import check_free, is_run
from mmcore.training import TrainOptions, fit

COMPONENTS = 20
SPACE = (3, 8, 8)
BACKBONE = "mlp"
BACKBONE_OPTIONS = {"width": 224, "depth": 4, "features": 16, "gates": True}
# Chosen on the validation part of the training split; benchmarks/results/demo.md has the table.
WEIGHTS = {"image": 0.2, "mask": 0.2, "label": 1.0, "embedding": 0.2}
# The label comes out of the noise first, and the rest is then drawn to fit it.
GAINS = {"image": 1.0, "mask": 1.0, "label": 3.0, "embedding": 1.0}
TRAINING = TrainOptions(
    steps=3000, batch_size=128, lr=1.4e-3, condition_noise=0.35, roles=RoleMix(joint=0.6, single=0.35)
)
SAMPLING: dict[str, Any] = {"sampler": "2m", "steps": 20}
# Of what is given, in the questions that give something.
GUIDANCE = 2.0
JOINT, PER_LABEL = 11648, 100


def digits_model(registry: Registry, names: Sequence[str] = tuple(WEIGHTS), **composition: Any) -> JointModel:
    """The demo's model of these modalities on the digits; ``composition`` replaces arguments of :func:`mmcore.compose`."""
    make = {
        "image": lambda: registry.modality("image", channels=1, size=8, levels=17, mean=-0.39, std=0.75),
        "mask": lambda: registry.modality("mask", size=8),
        "label": lambda: registry.modality("label", classes=10),
        "embedding": lambda: registry.modality("clip", name="embedding", width=COMPONENTS, unit_norm=False),
    }
    modalities = [make[name]() for name in names]
    tasks = [Task(name, name, weight=WEIGHTS[name]) for name in names]
    gains = [GAINS[name] for name in names]
    options = {"space": SPACE, "backbone": BACKBONE, "backbone_options": BACKBONE_OPTIONS, "gains": gains} | composition
    return compose(modalities, tasks, registry=registry, **options)


def configuration(out: Path, *, steps: int = TRAINING.steps, seed: int = 0) -> dict[str, Any]:
    """The same model, data and training as tables of a configuration, by which the demo's folder is a run like any other."""
    modalities = {
        "image": {"channels": 1, "size": 8, "levels": 17, "mean": -0.39, "std": 0.75},
        "mask": {"size": 8},
        "label": {"classes": 10},
        "embedding": {"plugin": "clip", "width": COMPONENTS, "unit_norm": False},
    }
    roles = {"joint": TRAINING.roles.joint, "single": TRAINING.roles.single}
    return {
        "out": str(out),
        "seed": seed,
        "data": {"source": "digits", "options": {"components": COMPONENTS}},
        "modalities": modalities,
        "tasks": {name: {"weight": weight} for name, weight in WEIGHTS.items()},
        "model": {
            "space": [*SPACE],
            "backbone": BACKBONE,
            "backbone_options": BACKBONE_OPTIONS,
            "schedule_options": {"steps": 1000, "gains": [*GAINS.values()]},
        },
        "training": {
            "steps": steps,
            "batch_size": TRAINING.batch_size,
            "lr": TRAINING.lr,
            "condition_noise": TRAINING.condition_noise,
            "roles": roles,
        },
        "sampling": SAMPLING,
    }


def run(
    registry: Registry,
    out: Path,
    *,
    compare: bool = False,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    threads: int = 0,
) -> dict[str, Any]:
    """Do all of it into the folder ``out``; returns the figures.

    Raises:
        RequestError: a package or plugin that the demo needs is not installed, or ``out`` cannot be written.
    """
    started = time.monotonic()
    for package, extra in (("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")):
        try:
            __import__(package)
        except ImportError as error:
            raise RequestError(f"demo: {extra} is not installed; pip install 'mmcore-diffusion[demo]'") from error
    from mmcore.demo import pictures, report

    pick_device(device)
    _check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"demo: --out {out} cannot be made: {error}") from error
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    setup = configured(configuration(out, steps=steps or TRAINING.steps, seed=seed), where="demo", registry=registry)
    model = digits_model(registry)
    model.configuration = setup.recorded()
    train, test = (
        Table.read(registry.source("digits", part=part, components=COMPONENTS), model.variables)
        for part in ("train", "test")
    )
    _say(f"{len(train)} training and {len(test)} test digits; {_size(model):,} parameters")
    options = {"steps": steps or TRAINING.steps, "seed": seed, "device": device}
    fitting = time.monotonic()
    fit(model, train, out=out, options=TRAINING, replace=True, **options)
    door.write(out / CONFIG, recorded(setup))
    fitting = time.monotonic() - fitting
    _say("fitting the judge")
    judge = Judge.fit(train.rows.values["image"], train.rows.values["label"])
    _say("asking: joint samples, images for labels, everything for test images")
    asking = time.monotonic()
    answers = Answers.ask(
        model, test.rows.values, joint=JOINT, per_label=PER_LABEL, guidance=GUIDANCE, seed=seed, **SAMPLING
    )
    asking = time.monotonic() - asking
    figures: dict[str, Any] = measure(answers, model, judge, train.rows.values, test.rows.values)
    figures |= {
        "parameters": _size(model),
        "training_steps": options["steps"],
        "sampling_steps": SAMPLING["steps"],
        "training_seconds": round(fitting, 1),
        "sampling_seconds": round(asking, 1),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }
    pictures.write(out, answers, test.rows.values)
    comparison = _compare(registry, model, train, test, judge, figures, options, out) if compare else None
    figures["seconds"] = round(time.monotonic() - started, 1)
    door.write(out / "metrics.json", (json.dumps(figures, indent=2) + "\n").encode())
    page = report.write(out, figures, comparison)
    for name, value in figures.items():
        print(f"{name:>32}  {value:.4f}" if isinstance(value, float) else f"{name:>32}  {value}")
    print(f"report: {page.resolve()}")
    print(f"ask it: mmcore sample {out} --given label=3")
    print(f"        mmcore predict {out} test --again label -o {out / 'predicted'}")
    print(f"play with it: {_player()} {out}")
    return figures


def _player() -> str:
    """The command that opens a run in a browser: of who has only cloned the repository, by tox."""
    return ".venv/bin/tox run -e play --" if os.environ.get("TOX_ENV_NAME") else "mmcore play"


_PICTURES = ("joint.png", "by_label.png", "masks.png", "confusion.png", "image-only.png")
PAGES = ("metrics.json", "report.html", "comparison.json", *_PICTURES)
"""What is written beside the run."""


def _check_folder(out: Path) -> None:
    """Refuse a folder with files of other origin, where the demo would write its own."""
    check_free(out, replace=True)
    check_own(out)
    found = [] if is_run(out) else [out / name for name in PAGES if os.path.lexists(out / name)]
    if found:
        raise RequestError(f"demo: {found[0]} is there, and no demo has left it; name another folder by --out")


def _compare(
    registry: Registry,
    joint: JointModel,
    train: Table,
    test: Table,
    judge: Judge,
    figures: dict[str, Any],
    options: dict[str, Any],
    out: Path,
) -> dict[str, dict[str, float]]:
    """An image-only model of the same backbone and steps, beside the joint one."""
    from mmcore.demo import pictures

    alone = digits_model(registry, ("image",))
    data: Rows = {"image": train.rows.values["image"]}
    rows = Table(type(train.rows)(data, train.rows.present[:, :1]))
    fit(alone, rows, out=out / "image-only", options=TRAINING, replace=True, **options)
    images = sample(alone, JOINT, seed=options["seed"], **SAMPLING)["image"]
    pictures.grid(images[:100], out / "image-only.png", "image-only model")
    table = {"image only": image_figures(images, judge, train.rows.values, test.rows.values)}
    table["joint"] = {name: figures[name] for name in table["image only"]}
    for name, model in (("image only", alone), ("joint", joint)):
        table[name]["parameters"] = _size(model)
    door.write(out / "comparison.json", (json.dumps(table, indent=2) + "\n").encode())
    return table


def _size(model: JointModel) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
