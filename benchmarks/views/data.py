"""Five pictures of one digit, each another scan before another texture, and its class: rows and textures by formula."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmcore.data.sources.digits import Digits
from mmcore.rng import Rng

SIDE = 28
VIEWS = ("stripes", "checks", "rings", "clouds", "rays")
NAMES = (*VIEWS, "label")
ROWS = {"train": 8000, "validation": 300, "test": 600}
INK = 24
"""The side of a scan in the middle of a picture."""


def textures(view: str, rng: Rng) -> Tensor:
    """Backgrounds of one view, one for each row of ``rng``: ``(n, 3, SIDE, SIDE)`` in 0.05 … 0.4, or in 0.6 … 0.95 for ``checks`` and ``clouds``.

    Two colours are mixed by a pattern ``s`` in 0 … 1 of places ``(x, y)`` in -1 … 1, whose numbers ``u`` are drawn evenly:

    - ``stripes``: a wave along a drawn direction;
    - ``checks``: the sign of two waves' product, softened;
    - ``rings``: a wave of the distance from a drawn centre;
    - ``clouds``: three slow waves, added;
    - ``rays``: a wave of the angle around a drawn centre.
    """
    u = rng.of("pattern").uniform(9).double()[..., None, None]
    place = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    turn = 2 * torch.pi * u

    def along(k: int) -> Tensor:
        return x * turn[:, k].cos() + y * turn[:, k].sin()

    if view == "stripes":
        wave = ((6 + 6 * u[:, 1]) * along(0) + turn[:, 2]).sin()
    elif view == "checks":
        rate = 5 + 4 * u[:, 1]
        wave = (4 * (rate * x + turn[:, 0]).sin() * (rate * y + turn[:, 2]).sin()).tanh()
    elif view == "rings":
        away = ((x - u[:, 0] * 2 + 1).square() + (y - u[:, 1] * 2 + 1).square()).sqrt()
        wave = ((6 + 6 * u[:, 2]) * away + turn[:, 3]).sin()
    elif view == "clouds":
        waves = [((1 + 3 * u[:, 3 * k]) * along(3 * k + 1) + turn[:, 3 * k + 2]).sin() for k in range(3)]
        wave = torch.stack(waves).mean(0)
    elif view == "rays":
        angle = torch.atan2(y - u[:, 0] * 2 + 1, x - u[:, 1] * 2 + 1)
        wave = ((2 + (4 * u[:, 2]).floor()) * angle + turn[:, 3]).sin()
    else:
        raise ValueError(f"found the view {view!r}, expected one of {', '.join(VIEWS)}")
    colours = 0.05 + 0.35 * rng.of("colours").uniform(2, 3, 1, 1).double()
    s = (1 + wave[:, None]) / 2
    made = colours[:, 0] * (1 - s) + colours[:, 1] * s
    return 1 - made if view in ("checks", "clouds") else made


def before(scans: Tensor, backgrounds: Tensor) -> Tensor:
    """Scans ``(n, 8, 8)`` of ink in 0 … 1, enlarged, before backgrounds ``(n, 3, SIDE, SIDE)``: where there is ink the picture is its negative."""
    ink = F.interpolate(scans[:, None], (INK, INK), mode="bilinear", align_corners=False)
    ink = F.pad(ink, [(SIDE - INK) // 2] * 4).to(backgrounds)
    return backgrounds * (1 - ink) + (1 - backgrounds) * ink


def views(digits: Digits, count: int, seed: int) -> dict[str, np.ndarray]:
    """Rows of five pictures ``(count, 3, SIDE, SIDE)`` of bytes and a ``label (count,)``; each view shows a scan of that class, drawn for it alone."""
    rng = Rng.for_rows(seed, count).of("views")
    labels = rng.of("class").integers(0, 10).numpy()
    found: dict[str, np.ndarray] = {}
    for view in VIEWS:
        own, u = rng.of(view), rng.of(view).of("scan").uniform().numpy()
        chosen = np.empty(count, np.int64)
        for c in range(10):
            scans = np.flatnonzero(digits.labels == c)
            chosen[labels == c] = scans[(u[labels == c] * len(scans)).astype(int)]
        pictures = before(torch.from_numpy(digits.images[chosen]), textures(view, own))
        found[view] = (255 * pictures).round().byte().numpy()
    return found | {"label": labels}


def kept(count: int, missing: int, seed: int) -> np.ndarray:
    """Which values of ``count`` rows are there, ``(count, 6)`` bool: as many are missing as said, drawn evenly, but one of each row stays."""
    u = Rng.for_rows(seed, count).of("missing").uniform(len(NAMES))
    u.scatter_(1, u.argmax(1, keepdim=True), 2.0)
    lost = u.flatten().argsort()[: round(u.numel() * missing / 100)]
    there = torch.ones(u.numel(), dtype=torch.bool)
    there[lost] = False
    return there.reshape(u.shape).numpy()


def write(path: Path, missing: int = 0) -> None:
    """Write the views, ``label``, flags such as ``has_rings`` and ``split`` (0 train, 1 validation, 2 test) to one ``.npz``.

    Args:
        path: of the file.
        missing: percent of the training values that are left out at random, at most 83; a row keeps one at least. The other parts are whole.
    """
    parts = []
    for number, (part, count) in enumerate(ROWS.items()):
        digits = Digits(part, **({"hold_out": True} if part == "train" else {}))
        rows = views(digits, count, number)
        there = kept(count, missing if number == 0 else 0, number)
        for k, name in enumerate(NAMES):
            rows[f"has_{name}"] = there[:, k]
            rows[name][~there[:, k]] = 0
        parts.append(rows | {"split": np.full(count, number)})
    np.savez(path, allow_pickle=False, **{name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]})
