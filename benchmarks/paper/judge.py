"""The judge: a small classifier, fitted on real training images only."""

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.rng import Rng


@attrs.frozen(eq=False)
class Judge:
    """Says which class an image shows, and gives its features.

    Attributes:
        network: image to features.
        head: features to classes.
    """

    network: nn.Module
    head: nn.Module

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, classes: int, *, steps: int = 500, seed: int = 0) -> "Judge":
        """Fit on ``images (n, C, H, W)`` in -1 … 1, half of them mirrored, and ``labels (n,)``."""
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
        weights = [*network.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            rng = Rng.for_rows(seed, 128).at(step).of("judge")
            rows = rng.of("rows").integers(0, len(images))
            mirrored = rng.of("mirrored").uniform(1)[:, :, None, None] < 0.5
            x = torch.where(mirrored, images[rows].flip(3), images[rows])
            loss = F.cross_entropy(head(network(x)), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        return cls(network.requires_grad_(False).eval(), head.requires_grad_(False).eval())

    def features(self, images: Tensor) -> Tensor:
        """``(n, 64)``."""
        with torch.inference_mode():
            return torch.cat([self.network(x) for x in images.split(500)])

    def __call__(self, images: Tensor) -> Tensor:
        """The class of each image, ``(n,)``."""
        with torch.inference_mode():
            return self.head(self.features(images)).argmax(1)
