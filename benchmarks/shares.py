"""Where the demo's joint samples get the shares of their classes wrong.

``python -m benchmarks.shares RUN [--threads 1]`` noises the training digits to steps ``t`` and asks the model of a demo's folder ``RUN`` twice: for the label by one
prediction, whose mean over the rows should be the data's shares at every ``t``; and for samples begun there, whose classes should come as often
as the data's. Both by total variation, beside what is told of the label: the divergence of the predictions from their mean, which should be 0 at ``T``, where
the noise tells nothing.

Then it asks for joint samples in three ways: all at once; the label alone, and the rest given it; and the rest given a label that is drawn from the data. Of each it prints the total variation of the
labels, how often label and image agree, and the Fréchet distance of batches over that of training images drawn anew; and both distances by other seeds.
"""

import argparse
from pathlib import Path

import torch

import mmcore
from benchmarks.trained import SAMPLING, Data
from mmcore.data import Table
from mmcore.demo.judge import Judge
from mmcore.demo.measure import batches_distance, draws_distance, image_figures
from mmcore.demo.run import COMPONENTS
from mmcore.model.roles import Role
from mmcore.rng import Rng

STEPS = (1000, 980, 960, 940, 920, 900, 850, 800, 700)
COPIES = 8
BATCHES, SEEDS = 32, 6


def main() -> None:
    """Predict, sample and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    registry = mmcore.discover()
    model = mmcore.load(given.run / "model", registry=registry).eval()
    table = Table.read(registry.source("digits", part="train", components=COMPONENTS), model.variables)
    rows = {name: torch.cat([x] * COPIES) for name, x in table.rows.values.items()}
    data = _shares(rows["label"])
    print("| t | the predictions' shares | divergence, nats | the samples' shares |\n|---|---|---|---|")
    for t in STEPS:
        p = _predicted(model, rows, t)
        mean = p.mean(0)
        told = (p * (p.clamp(min=1e-30) / mean).log()).sum(1).mean()
        made = mmcore.sample(
            model, len(rows["label"]), start=rows, strength=t / model.process.steps, seed=0, **SAMPLING
        )
        cells = (_variation(mean, data), told.item(), _variation(_shares(made["label"]), data))
        print(f"| {t} | " + " | ".join(f"{x:.4f}" for x in cells) + " |", flush=True)
    _in_three_ways(model, Data.read(registry, "test"))


def _in_three_ways(model: mmcore.JointModel, data: Data) -> None:
    train, n = data.train.rows.values, len(data.held["label"]) * BATCHES
    judge, others = Judge.fit(train["image"], train["label"]), [m.name for m in model.modalities if m.name != "label"]
    drawn = train["label"][Rng.for_rows(0, n).of("labels").integers(0, len(train["label"]), 1)[:, 0]]
    alone = mmcore.sample(model, n, absent=others, seed=1, **SAMPLING)["label"]
    print("\n| | labels | agree | frechet_ratio |\n|---|---|---|---|")
    for name, given in {
        "all at once": {},
        "the label first": {"label": alone},
        "of a label of the data": {"label": drawn},
    }.items():
        made = mmcore.sample(model, n, given=given, seed=0, **SAMPLING)
        figures = image_figures(made["image"], judge, train, data.held)
        agree = (judge(made["image"]) == made["label"]).double().mean().item()
        shares = _variation(_shares(made["label"]), _shares(train["label"]))
        print(f"| {name} | {shares:.4f} | {agree:.4f} | {figures['frechet_ratio']:.4f} |", flush=True)
    real, size = judge.features(train["image"]), len(data.held["label"])
    made = [mmcore.sample(model, n, seed=seed, **SAMPLING)["image"] for seed in range(SEEDS)]
    distances = [batches_distance(judge.features(images), real, size) for images in made]
    draws = [draws_distance(real, size, seed=seed) for seed in range(SEEDS)]
    for name, found in (("all at once", distances), ("training images drawn anew", draws)):
        print(f"\n{name}, {SEEDS} seeds: {', '.join(f'{x:.3f}' for x in found)}; mean {sum(found) / SEEDS:.3f}")


@torch.no_grad()
def _predicted(model: mmcore.JointModel, rows: dict[str, torch.Tensor], t: int) -> torch.Tensor:
    """The label's probabilities given the rows noised to step ``t``, ``(B, 10)``."""
    n = len(rows["label"])
    roles = torch.full((n, len(model.variables)), Role.GENERATE)
    timestep = torch.full((n, model.process.blocks), t)
    placed = model.frame.place(model.encode(rows))
    z = model.noisy(placed, model.drive(timestep, roles), Rng.for_rows(0, n).of("shares").normal(*model.space.shape))
    drive = model.drive(timestep, roles)
    return (
        model.predict(model.read(z, drive), drive.t, drive.timesteps, roles, model.condition(placed, drive))["label"]
        .softmax(-1)
        .reshape(n, -1)
        .double()
    )


def _shares(labels: torch.Tensor) -> torch.Tensor:
    return torch.bincount(labels, minlength=10).double() / len(labels)


def _variation(a: torch.Tensor, b: torch.Tensor) -> float:
    return 0.5 * (a - b).abs().sum().item()


if __name__ == "__main__":
    main()
