"""Where the demo's joint samples get the shares of their classes wrong.

``python -m benchmarks.shares RUN [--threads 1]`` noises the training digits to steps ``t`` and asks the model of a demo's folder ``RUN`` twice: for the label by one
prediction, whose mean over the rows should be the data's shares at every ``t``; and for samples begun there, whose classes should come as often
as the data's. Both by total variation, beside what is told of the label: the divergence of the predictions from their mean, which should be 0 at ``T``, where
the noise tells nothing.
"""

import argparse
from pathlib import Path

import torch

import mmcore
from benchmarks.trained import SAMPLING
from mmcore.data import Table
from mmcore.demo.run import COMPONENTS
from mmcore.model.roles import Role
from mmcore.rng import Rng

STEPS = (1000, 980, 960, 940, 920, 900, 850, 800, 700)
COPIES = 8


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
