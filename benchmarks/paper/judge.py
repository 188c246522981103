"""The judge of images larger than the demo's digits."""

import torch
from torch import Tensor, nn

from mmcore.demo.judge import Judge
from mmcore.rng import Rng

BATCH = 128


def fit_judge(images: Tensor, labels: Tensor, classes: int, *, steps: int = 500, seed: int = 0) -> Judge:
    """Fitted on ``images (n, C, H, W)`` in -1 … 1, half of them mirrored, and ``labels (n,)``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(images.shape[1], 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, 64),
            nn.ReLU(),
        )
        head = nn.Linear(64, classes)

    def drawn(rng: Rng) -> tuple[Tensor, Tensor]:
        rows = rng.of("rows").integers(0, len(images))
        mirrored = rng.of("mirrored").uniform(1)[:, :, None, None] < 0.5
        return torch.where(mirrored, images[rows].flip(3), images[rows]), labels[rows]

    return Judge.trained(network, head, drawn, batch_size=BATCH, steps=steps, seed=seed)
