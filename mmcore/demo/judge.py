"""The judge: a small classifier, fitted on real training images only."""

from collections.abc import Callable

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
    def fit(cls, images: Tensor, labels: Tensor, *, steps: int = 900, seed: int = 0) -> "Judge":
        """Fit on digits ``images (n, 1, 8, 8)``, randomly shifted by up to one pixel, and ``labels (n,)``."""
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
        padded = F.pad(images, (1, 1, 1, 1), value=-1.0)

        def drawn(rng: Rng) -> tuple[Tensor, Tensor]:
            rows = rng.of("rows").integers(0, len(images))
            # Half of the shifts are zero; the window moves over the padded image.
            shift = rng.of("shift").integers(0, 4, 2) % 3
            shift = torch.where(rng.of("still").uniform(1) < 0.5, torch.ones_like(shift), shift)
            at = shift[:, :, None] + torch.arange(8)
            return padded[rows[:, None, None], 0, at[:, 0, :, None], at[:, 1, None, :]][:, None], labels[rows]

        return cls.trained(network, head, drawn, batch_size=64, steps=steps, seed=seed)

    @classmethod
    def trained(
        cls,
        network: nn.Module,
        head: nn.Module,
        drawn: Callable[[Rng], tuple[Tensor, Tensor]],
        *,
        batch_size: int,
        steps: int,
        seed: int,
    ) -> "Judge":
        """These networks, trained to classify.

        Args:
            network: images to features.
            head: features to logits.
            drawn: a step's images and labels, by the random numbers of its rows.
            batch_size: the number of those rows.
            steps: of AdamW, whose rate falls as a cosine.
            seed: of the random numbers.
        """
        optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=2e-3, weight_decay=0.05)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            x, y = drawn(Rng.for_rows(seed, batch_size).at(step).of("judge"))
            loss = F.cross_entropy(head(network(x)), y, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        return cls(network.requires_grad_(False).eval(), head.requires_grad_(False).eval())

    def features(self, images: Tensor) -> Tensor:
        """``(n, 64)``."""
        return torch.cat([self.network(x) for x in images.split(500)])

    def __call__(self, images: Tensor) -> Tensor:
        """The class of each image, ``(n,)``."""
        return self.head(self.features(images)).argmax(1)
