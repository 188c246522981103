"""``python -m benchmarks.paper.prepare FOLDER FILE.npz [--size 14] [--components 20]``: four modalities of images with classes.

``FOLDER`` holds IDX files named as MNIST's are. The file has ``image`` (n, size, size) of 8 bits, ``mask`` of what is no background,
``label``, ``embedding`` (the whitened principal components of the training images), and ``split``: 0 train, 1 validation (each twentieth of the files' training rows), 2 test.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import mmcore

INK = 32
"""A pixel of at least this, of 255, is in the mask."""


def prepare(folder: Path, size: int, components: int) -> dict[str, np.ndarray]:
    """The arrays of the file."""
    from PIL import Image

    registry = mmcore.discover()
    rows, split = [], []
    for code, part in ((0, "train"), (2, "test")):
        source = registry.source("idx", path=folder, part=part)
        rows += [source[i] for i in range(len(source))]
        split += [1 if code == 0 and i % 20 == 0 else code for i in range(len(source))]
    small = (Image.fromarray(row["image"]).resize((size, size), Image.Resampling.BILINEAR) for row in rows)
    images = np.stack([np.asarray(image) for image in small])
    training = np.array(split) == 0  # neither validation nor test
    flat = images.reshape(len(images), -1) / 255.0
    mean = flat[training].mean(0)
    variances, axes = np.linalg.eigh(np.cov(flat[training].T))
    # The largest first; the sign of an axis is the library's whim: make its largest entry positive.
    variances, axes = variances[::-1][:components], axes[:, ::-1][:, :components]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(components)])
    return {
        "image": images,
        "mask": images >= INK,
        "label": np.array([int(row["label"]) for row in rows]),
        "embedding": ((flat - mean) @ axes / np.sqrt(variances)).astype(np.float32),
        "split": np.array(split),
    }


def main() -> None:
    """Read and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.prepare", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--size", type=int, default=14)
    parser.add_argument("--components", type=int, default=20)
    given = parser.parse_args()
    given.file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = prepare(given.folder, given.size, given.components)
    np.savez(given.file, **arrays)


if __name__ == "__main__":
    main()
