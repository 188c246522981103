"""A fourth modality added to a trained model of three, on the digits: what the old questions lose, and what the new one lacks of joint training.

``python -m benchmarks.growing [--steps N] [--threads N]`` trains the demo's model of image, mask and label; adds the embedding by :func:`mmcore.extend` and trains on for
a quarter of the steps, at twice the rate and with a share of the questions about what is new, once with all weights and once with the new ones alone; and trains a model of all four from the start, for as many steps as the first. It asks
them the same questions about the test digits, the embedding absent where it is no part of them, and prints a Markdown table: figures with their 95 % intervals,
and row by row the difference to the model that is to be met. ``--law N`` instead checks the law of extension on so many random compositions.
"""

import argparse
import hashlib
import json
import os
from collections import Counter
from typing import Any

import attrs
import torch
from torch import Tensor

import mmcore
from benchmarks.trained import RUNS, SAMPLING, TRAINING, Data, trained
from mmcore.data import Table, TensorBatch
from mmcore.demo.run import COMPONENTS
from mmcore.metrics.figure import average
from mmcore.training import TrainOptions

OLD = ("image", "mask", "label")
BACKBONE = {"width": 128, "depth": 3, "features": 16, "gates": True}
"""A third of the demo's weights, so that four trainings take minutes."""
SHARE = 0.25
"""Of the first training's steps, how many follow the extension."""
ASKED = {"image->embedding": 0.2, "embedding->image": 0.1}
"""Questions about what is new that a share of the rows are asked while it is learned; chosen on the validation rows, as is the rate."""
PER_LABEL = 100
ROWS = 1000
"""Joint samples."""


def scores(model: mmcore.JointModel, data: Data, seed: int) -> dict[str, Tensor]:
    """By question each row's score."""
    held, every = data.held, torch.arange(10).repeat_interleave(PER_LABEL)
    names = [m.name for m in model.modalities]

    def asked(given: dict[str, Tensor], *wanted: str) -> dict[str, Tensor]:
        """What is neither given nor wanted is absent."""
        absent = [name for name in names if name not in given and name not in wanted]
        rows = len(next(iter(given.values()))) if given else ROWS
        return mmcore.sample(model, rows, given=given, absent=absent, seed=seed, **SAMPLING)

    def metric(name: str, which: str, x: Tensor) -> Tensor:
        return model.variable(name).metrics()[which](x, held[name])

    joint = asked({}, *OLD)
    found = {
        "image, mask and label together: coherence": data.judge(joint["image"]) == joint["label"],
        "image → label: accuracy": asked({"image": held["image"]}, "label")["label"] == held["label"],
        "image → mask: IoU": metric("mask", "iou", asked({"image": held["image"]}, "mask")["mask"]),
        "label → image: judged": data.judge(asked({"label": every}, "image")["image"]) == every,
    }
    if "embedding" in names:
        from_vector = {"embedding": held["embedding"]}
        vectors = asked({"image": held["image"]}, "embedding")["embedding"]
        found |= {
            "image → embedding: cosine": metric("embedding", "cosine", vectors),
            "embedding → label: accuracy": asked(from_vector, "label")["label"] == held["label"],
            "embedding → image: judged": data.judge(asked(from_vector, "image")["image"]) == held["label"],
        }
    return {name: x.double() for name, x in found.items()}


def larger(registry: mmcore.Registry, model: mmcore.JointModel, data: Data, options: TrainOptions) -> mmcore.JointModel:
    """The model with the embedding, trained on; or read back."""
    told = json.dumps([attrs.asdict(options), [len(data.train), mmcore.__version__, "weight 1"]], sort_keys=True)
    digest = hashlib.sha256(told.encode() + b"".join(x.numpy().tobytes() for x in model.state_dict().values()))
    folder = RUNS / f"grown-{digest.hexdigest()[:16]}"
    if not (folder / "config.json").exists():
        embedding = registry.modality("clip", name="embedding", width=COMPONENTS, unit_norm=False)
        # By default its task has the weight 1, where the demo gives it 0.2.
        grown = mmcore.extend(model, [embedding], registry=registry)
        mmcore.fit(grown, data.train, options=options, quiet=True)
        mmcore.save(grown, folder)
    return mmcore.load(folder, registry=registry)


def check_law(count: int) -> None:
    """The law on random compositions: old answers the same to 1e-6, and what is taken away leaves the old model."""
    import hypothesis

    from tests import test_growing

    registry, seen = mmcore.discover(), Counter[str]()

    @hypothesis.seed(7)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    @hypothesis.given(case=test_growing.compositions())
    def law(case: dict[str, Any]) -> None:
        test_growing.check_law(case, registry)
        size = len(case["old"]) + len(case["new"])
        seen.update(["compositions", case["backbone"], f"reading {case['reading']}", case["schedule"], f"N = {size}"])

    law()
    print(", ".join(f"{name}: {times}" for name, times in sorted(seen.items())))


def main() -> None:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--law", type=int, default=0)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    if told.law:
        check_law(told.law)
        return
    registry = mmcore.discover()
    data = Data.read(registry, "test")
    options = attrs.evolve(TRAINING, steps=told.steps, seed=told.seed)
    three = TensorBatch({name: data.train.rows.values[name] for name in OLD}, data.train.rows.present[:, : len(OLD)])
    first = trained(registry, Table(three), names=OLD, options=options, backbone_options=BACKBONE)
    roles = attrs.evolve(options.roles, joint=options.roles.joint - 0.1, questions=ASKED)
    further = attrs.evolve(options, steps=round(SHARE * told.steps), lr=2 * options.lr, roles=roles)
    models = {
        "before": first,
        f"extended, {further.steps} steps": larger(registry, first, data, further),
        f"extended, {further.steps} steps of the new parts": larger(
            registry, first, data, attrs.evolve(further, learns="new")
        ),
        f"all four from the start, {told.steps} steps": trained(
            registry, data.train, options=options, backbone_options=BACKBONE
        ),
    }
    rows = {name: scores(model, data, told.seed) for name, model in models.items()}
    size = {name: sum(p.numel() for p in model.parameters() if p.requires_grad) for name, model in models.items()}
    print("; ".join(f"{name}: {count:,} parameters" for name, count in size.items()), end="\n\n")
    questions = [*rows[list(rows)[-1]]]
    print(f"| question | {' | '.join(rows)} |\n|{'---|' * (1 + len(rows))}")
    for question in questions:
        cells = [str(average(found[question])) if question in found else "" for found in rows.values()]
        print(f"| {question} | {' | '.join(cells)} |")
    print("\n| difference, row by row | is | interval |\n|---|---|---|")
    names = list(rows)
    for name in names[1:3]:
        for question in questions:
            beside = "before" if question in rows["before"] else names[-1]
            figure = average(rows[name][question] - rows[beside][question])
            print(f"| {question}: {name} − {beside} | {figure.value:+.3f} | {figure.low:+.3f} … {figure.high:+.3f} |")


if __name__ == "__main__":
    main()
