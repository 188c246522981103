"""Files as people have them, read by what ``mmcore init`` writes: the right values, or a question."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Registry
from mmcore.config import configured
from mmcore.config.guess import configuration

ROWS = 24


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def folder(at: Path, **columns: Callable[[int], Image.Image | np.ndarray]) -> Path:
    """Parallel folders: of each column, a file for each row."""
    for name, value in columns.items():
        name, _, suffix = name.partition("__")
        (at / name).mkdir(parents=True)
        for i in range(ROWS):
            made = value(i)
            file = at / name / f"{i:02}.{suffix or 'png'}"
            if suffix == "npy":
                np.save(file, np.asarray(made))
            else:
                (made if isinstance(made, Image.Image) else Image.fromarray(made)).save(file)
    return at


PHOTOS = numbers().integers(0, 256, (ROWS, 16, 16, 3), np.uint8)
BLOBS = np.kron(numbers(1).random((ROWS, 4, 4)) > 0.5, np.ones((4, 4))).astype(int)
REGIONS = np.kron(numbers(2).integers(0, 3, (ROWS, 4, 4)), np.ones((4, 4), int))


def read(at: Path, registry: Registry, name: str) -> torch.Tensor:
    """All of a variable's values, by the configuration that init writes."""
    tables = tomllib.loads(configuration(at, registry).text)
    rows = configured(tables, registry=registry).rows("all")
    batch = rows.take(range(len(rows)))
    assert len(rows) == ROWS
    assert batch.present.all()
    return batch.values[name]


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 128), (7, 11), (1, 2)])
def test_masks_of_two_values_have_two_classes(values: tuple[int, int], tmp_path: Path, registry: Registry) -> None:
    at = folder(tmp_path, images=lambda i: PHOTOS[i], masks=lambda i: np.asarray(values, np.uint8)[BLOBS[i]])
    assert read(at, registry, "mask").tolist() == BLOBS.tolist()
