"""A run small enough to be repeated often, and what is compared of two."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import mmcore
from mmcore import JointModel, Registry
from mmcore.data import Dataset, Table, TensorBatch
from mmcore.rng import Rng
from mmcore.store.checkpoint import folders
from mmcore.training import TrainState

OPTIONS: dict[str, Any] = {"steps": 8, "batch_size": 8, "log_every": 1, "lr": 1e-2, "ema_every": 3, "save_seconds": 0.0}


def small(registry: Registry, seed: int = 0, backbone: str = "mlp", **composition: Any) -> JointModel:
    """Two modalities, some thousand parameters."""
    parts = [
        registry.modality("label", classes=4),
        registry.modality("clip", name="words", width=6, unit_norm=False),
    ]
    options = {"width": 8, "depth": 2, "features": 4} | ({"heads": 2, "patch": 2} if backbone == "transformer" else {})
    composition = {"space": (2, 4, 4)} | composition
    return mmcore.compose(
        parts, backbone=backbone, backbone_options=options, registry=registry, seed=seed, **composition
    )


def rows(model: JointModel, count: int = 40, seed: int = 0) -> Table:
    """Rows of which a third lacks something."""
    values = {m.name: m.typical(count, seed + i) for i, m in enumerate(model.variables)}
    present = Rng.for_rows(seed, count).uniform(len(model.variables)) < 0.67
    present[:, 0] |= ~present.any(1)
    return Table(TensorBatch(values, present))


def read_again(table: Table, model: JointModel) -> Dataset:
    """The same rows, to be read one by one as from files, so that workers have something to do."""
    values, present = table.rows.values.items(), table.rows.present.tolist()
    given = [
        {name: x[k] for (name, x), there in zip(values, row, strict=True) if there} for k, row in enumerate(present)
    ]
    return Dataset(given, model.variables)


def fit(registry: Registry, out: Path | None, **changes: Any) -> TrainState:
    """A run of :func:`small`; the arguments are those of :func:`mmcore.fit`."""
    model = changes.pop("model", None) or small(registry)
    data = changes.pop("rows", None) or rows(model)
    return mmcore.fit(model, data, out=out, quiet=True, device="cpu", **(OPTIONS | changes))


def pictures(model: JointModel, step: int) -> Mapping[str, Image.Image]:
    """The words of a few samples as grey pixels."""
    drawn = mmcore.sample(model, 4, steps=3, seed=step)["words"]
    return {"words": Image.fromarray((drawn * 40 + 128).clamp(0, 255).to(torch.uint8).numpy())}


def digests(out: Path) -> dict[str, str]:
    """Of everything that must be the same in two equal runs: all but clock times, TensorBoard's events and older checkpoints."""
    found = {}
    (_, newest), *_ = folders(out / "checkpoints")
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        old = "checkpoints" in path.parts and newest not in path.parents
        if path.is_file() and not old and name not in (".lock", "timing.jsonl") and not name.startswith("tensorboard"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
