"""The judge: a small classifier of digits, fitted on real training images only."""

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcore.rng import Rng


@attrs.frozen(eq=False)
class Judge:
    """Says which digit an image shows, and gives its features.

    Attributes:
        network: image to features.
        head: features to classes.
    """

    network: nn.Module
    head: nn.Module

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, *, steps: int = 900, seed: int = 0) -> "Judge":
        """Fit on ``images (n, 1, 8, 8)``, randomly shifted by up to one pixel, and ``labels (n,)``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(64 * 16, 64),
                nn.ReLU(),
            )
            head = nn.Linear(64, 10)
        parameters = [*network.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.05)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
        for step in range(steps):
            rng = Rng.for_rows(seed, 64).at(step).of("judge")
            rows = rng.of("rows").integers(0, len(images))
            # Half of the shifts are zero; the window moves over the padded image.
            shift = rng.of("shift").integers(0, 4, 2) % 3
            shift = torch.where(rng.of("still").uniform(1) < 0.5, torch.ones_like(shift), shift)
            at = shift[:, :, None] + torch.arange(8)
            x = padded[rows[:, None, None], 0, at[:, 0, :, None], at[:, 1, None, :]][:, None]
            loss = F.cross_entropy(head(network(x)), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        return cls(network.requires_grad_(False).eval(), head.requires_grad_(False).eval())

    def features(self, images: Tensor) -> Tensor:
        """``(n, 64)``."""
        return self.network(images)

    def __call__(self, images: Tensor) -> Tensor:
        """The class of each image, ``(n,)``."""
        return self.head(self.network(images)).argmax(1)
