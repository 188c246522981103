"""The digits models that several measurements share: trained once each, kept as model folders.

A folder is named by what it was trained with, so a second call reads it back; delete the folder to train anew.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

import mmcore
from mmcore.data import Table, TensorBatch
from mmcore.demo import run
from mmcore.demo.judge import Judge
from mmcore.demo.measure import Answers, batches_distance, measure
from mmcore.demo.run import COMPONENTS, digits_model
from mmcore.model.roles import RoleMix
from mmcore.rng import Rng
from mmcore.training import TrainOptions

TRAINING = attrs.evolve(run.TRAINING, roles=RoleMix(joint=0.45, single=0.35))
"""The demo's, but for the roles: it was these that the measurements were made with, and a better demo does not change them."""
BATCH = 364
"""The test split's size: the Fréchet distance depends on how many samples there are."""
FIGURES = {
    "joint_coherence": "coherence",
    "label_to_image_accuracy": "label → image",
    "image_to_label_accuracy": "image → label",
    "image_to_mask_iou": "mask IoU",
    "image_to_embedding_cosine": "cosine",
    "frechet_distance_dealt": "Fréchet, dealt",
}
SAMPLING: dict[str, Any] = {"sampler": "2m", "steps": 20}
RUNS = Path("runs/benchmarks")
VARIABLES = ("image", "mask", "label", "embedding")


@attrs.frozen(eq=False)
class Data:
    """The digits: rows to fit on, rows held out, and the judge fitted on the former.

    Attributes:
        train: the training split, without its validation part where ``held`` is that part.
        held: the validation part or the test split, by variable.
        judge: fitted on the images of ``train``.
    """

    train: Table
    held: dict[str, torch.Tensor]
    judge: Judge

    def measure(self, model: mmcore.JointModel, **how: Any) -> dict[str, float]:
        """The demo's figures of a model on what is held out, without guidance; ``how`` goes to :func:`mmcore.sample`."""
        answers = Answers.ask(model, self.held, joint=8 * BATCH, per_label=100, seed=0, **(SAMPLING | how))
        figures = measure(answers, model, self.judge, self.train.rows.values, self.held)
        return figures | {"frechet_distance_dealt": self.frechet(answers.joint["image"], answers.joint["label"])}

    def frechet(self, images: torch.Tensor, labels: torch.Tensor | None = None, batch: int = BATCH) -> float:
        """The mean distance of batches of generated images, dealt by their labels where given, to the training images, in the judge's features."""
        real = self.judge.features(self.train.rows.values["image"])
        return batches_distance(self.judge.features(images), real, batch, labels)

    @classmethod
    def read(cls, registry: mmcore.Registry, part: str = "validation") -> "Data":
        """The split that measures on ``part``."""
        variables = digits_model(registry).variables
        options = ({"part": "train", "hold_out": part == "validation"}, {"part": part})
        train, held = (
            Table.read(registry.source("digits", components=COMPONENTS, **option), variables) for option in options
        )
        return cls(train, held.rows.values, Judge.fit(train.rows.values["image"], train.rows.values["label"]))


def without_values(table: Table, share: float, seed: int = 0) -> Table:
    """The same rows with a ``share`` of all values removed at random; a row may keep none."""
    present = table.rows.present & (
        Rng.for_rows(seed, len(table)).of("missing").uniform(table.rows.present.shape[1]) >= share
    )
    return Table(TensorBatch(table.rows.values, present))


def complete_rows(table: Table) -> Table:
    """The rows that lack nothing."""
    rows = table.rows.present.all(1).nonzero()[:, 0]
    return Table(TensorBatch({name: x[rows] for name, x in table.rows.values.items()}, table.rows.present[rows]))


def trained(
    registry: mmcore.Registry,
    table: Table,
    *,
    names: Sequence[str] = VARIABLES,
    note: str = "",
    options: TrainOptions = TRAINING,
    **composition: Any,
) -> mmcore.JointModel:
    """The demo's model of these modalities, fitted on ``table`` with the demo's training, or read back.

    Args:
        registry: of plugins.
        table: the rows.
        names: of the modalities.
        note: what the table is, for the folder's name.
        options: :class:`mmcore.training.TrainOptions`.
        composition: ``schedule`` and ``layout`` of the demo's model.
    """
    key = json.dumps([list(names), note, len(table), attrs.asdict(options), composition], sort_keys=True)
    folder = RUNS / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (folder / "config.json").exists():
        model = digits_model(registry, tuple(names), **composition)
        mmcore.fit(model, table, options=options, quiet=True)
        mmcore.save(model, folder)
        (folder / "trained.json").write_text(key + "\n")
    return mmcore.load(folder, registry=registry)


def arguments(text: str | None) -> tuple[mmcore.Registry, TrainOptions, argparse.Namespace]:
    """What every measurement here is told: steps of training, threads, seeds."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--steps", type=int, default=TRAINING.steps)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return mmcore.discover(), attrs.evolve(TRAINING, steps=options.steps), options


def head(*columns: str) -> str:
    """A Markdown table's first lines: these columns, then the figures."""
    names = [*columns, *FIGURES.values()]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def row(*cells: str, figures: dict[str, float]) -> str:
    """A Markdown table's row: these cells, then the figures."""
    return f"| {' | '.join([*cells, *(f'{figures[name]:.3f}' for name in FIGURES)])} |"
