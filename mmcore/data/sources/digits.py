"""scikit-learn's handwritten digits as a source: 1,797 real 8x8 scans."""

from typing import Any

import numpy as np

from mmcore.data.source import Source
from mmcore.errors import OptionError

PARTS = ("train", "validation", "test", "all")


class Digits(Source):
    """The digits with an ink mask, a label and an embedding per row.

    The split is fixed: within each class, every fifth scan of a fixed shuffle is a test scan, and every
    tenth of the rest is validation. The embedding is the whitened principal components of the
    training split's images (validation included), so its fit has not seen the test scans.

    Args:
        part: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; training without its validation part
            is ``"train"`` with ``hold_out=True``.
        hold_out: leave the validation rows out of ``"train"``.
        components: the embedding's width.
        ink: a pixel with at least this many of 16 levels is ink.
    """

    disjoint = {"hold_out": True}
    names = ("image", "mask", "label", "embedding")
    levels = 17

    def __init__(self, part: str = "train", *, hold_out: bool = False, components: int = 20, ink: int = 8) -> None:
        if part not in PARTS:
            raise OptionError("digits", "part", part, choices=PARTS)
        from sklearn.datasets import load_digits

        data: Any = load_digits()
        images, labels = data.images, data.target
        split = np.empty(len(labels), dtype=object)
        shuffled = np.random.Generator(np.random.Philox(7)).permutation(len(labels))
        for c in range(10):
            mine = shuffled[labels[shuffled] == c]
            split[mine] = "train"
            split[mine[::5]] = "test"
            split[mine[1::10]] = "validation"
        training = split != "test"
        flat = images.reshape(len(images), -1)
        mean = flat[training].mean(0)
        _, s, vt = np.linalg.svd(flat[training] - mean, full_matrices=False)
        # The sign of a singular vector is the library's whim: make each one's largest entry positive.
        vt = vt[:components] * np.sign(vt[np.arange(components), np.abs(vt[:components]).argmax(1)])[:, None]
        embeddings = (flat - mean) @ vt.T / s[:components] * np.sqrt(training.sum())
        if part == "all":
            chosen = np.arange(len(labels))
        elif part == "train":
            chosen = np.flatnonzero(split == "train" if hold_out else training)
        else:
            chosen = np.flatnonzero(split == part)
        self.rows = chosen
        self.images = (images[chosen] / 16).astype(np.float32)
        self.masks = images[chosen] >= ink
        self.labels = labels[chosen].astype(np.int64)
        self.embeddings = embeddings[chosen].astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "image": self.images[index],
            "mask": self.masks[index],
            "label": int(self.labels[index]),
            "embedding": self.embeddings[index],
        }

    def where(self, index: int) -> str:
        return f"digits scan {self.rows[index]}"

    def key(self, index: int) -> str:
        return str(self.rows[index])
