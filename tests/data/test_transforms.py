"""Transforms: what a configuration's mean, a transform of one's own, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcore import Registry
from mmcore.config.resolve import configured
from mmcore.data import Dataset

# Each pixel of row k says where it is from: 50 k + 6 row + column.
PIXELS = np.stack([np.arange(48, dtype=np.uint8).reshape(8, 6) + 50 * k for k in range(4)])


def opened(
    registry: Registry, folder: Path, transforms: list[dict[str, Any]], size: tuple[int, int], part: str = "train"
) -> Dataset:
    """Four rows of an image and its mask, as a configuration with these transforms reads them."""
    np.savez(folder / "rows.npz", image=PIXELS, mask=PIXELS, label=np.arange(4) % 3)
    tables = {
        "seed": 3,
        "data": {
            "source": "npz",
            "options": {"path": str(folder / "rows.npz")},
            "transforms": transforms,
            "split": {"test": 0.5} if part == "test" else {},
        },
        "modalities": {
            "image": {"channels": 1, "size": list(size)},
            "mask": {"size": list(size), "classes": 200},
            "label": {"classes": 3},
        },
        "model": {"backbone": "mlp", "backbone_options": {"width": 4, "depth": 1, "features": 2}},
    }
    return configured(tables, registry=registry).rows(part)


def pixels(dataset: Dataset, epochs: int = 1) -> tuple[Tensor, Tensor]:
    """Image and mask of all rows in some epochs, ``(epochs · n, H, W)``, in the pixels' own numbers."""
    values = dataset.__getitems__(range(epochs * len(dataset))).values
    return ((values["image"][:, 0] + 1) * 127.5).round().long(), values["mask"]


MOVES = [
    {"kind": "crop", "size": [3, 2], "random": True},
    {"kind": "flip"},
    {"kind": "flip", "axis": "vertical", "probability": 0.3},
]


def test_a_configurations_random_changes_are_those_they_were(registry: Registry, tmp_path: Path) -> None:
    dataset = opened(registry, tmp_path, MOVES, (3, 2))
    image, mask = pixels(dataset, 3)
    assert dataset.varies
    assert torch.equal(image, mask)
    # The first and the last pixel, written down when transforms were no plugins yet: four rows, three epochs.
    first = [27, 83, 118, 182, 18, 63, 115, 166, 3, 82, 135, 159]
    last = [14, 94, 107, 195, 7, 74, 126, 177, 16, 69, 146, 172]
    assert [image[:, 0, 0].tolist(), image[:, -1, -1].tolist()] == [first, last]
    for crop, one, other in zip(image, first, last, strict=True):
        # The offsets within the crop are those of 3 x 2 neighbours, each axis one way or the other.
        down, right = 6 if other > one else -6, (other - one - (12 if other > one else -12))
        assert right in (1, -1)
        assert crop.tolist() == [[one + down * i + right * j for j in range(2)] for i in range(3)]


def test_a_configurations_held_out_rows_are_cropped_in_the_middle_and_not_flipped(
    registry: Registry, tmp_path: Path
) -> None:
    dataset = opened(registry, tmp_path, MOVES, (3, 2), "test")
    image, mask = pixels(dataset, 2)
    assert not dataset.varies
    assert torch.equal(image, mask)
    assert image.tolist() == [PIXELS[k, 2:5, 2:4].tolist() for k in (0, 3)] * 2


BLENDED = [[55, 57, 59], [66, 68, 69], [78, 80, 81], [88, 90, 92]]
COVERED = [[3, 4, 6, 7], [12, 13, 15, 16], [21, 23, 24, 26], [31, 32, 34, 35]]


@pytest.mark.parametrize(
    ("options", "row", "image", "mask"),
    [
        ({"size": [4, 3]}, 1, BLENDED, PIXELS[1][1::2, 1::2]),
        ({"size": 4, "fit": "cover"}, 0, COVERED, PIXELS[0][[0, 2, 4, 5]][:, [0, 2, 3, 5]]),
        ({"size": [4, 3], "nearest": ["image"]}, 1, PIXELS[1][1::2, 1::2], BLENDED),
        ({"size": [4, 3], "nearest": []}, 1, BLENDED, BLENDED),
    ],
)
def test_a_configurations_resize_is_the_one_it_was(
    options: dict[str, Any], row: int, image: Any, mask: Any, registry: Registry, tmp_path: Path
) -> None:
    size = options["size"] if isinstance(options["size"], list) else [4, 4]
    found = pixels(opened(registry, tmp_path, [{"kind": "resize", **options}], tuple(size)))
    np.testing.assert_array_equal(found[0][row], image)
    np.testing.assert_array_equal(found[1][row], mask)


def test_a_configurations_threshold_is_the_one_it_was(registry: Registry, tmp_path: Path) -> None:
    image, mask = pixels(opened(registry, tmp_path, [{"kind": "threshold", "level": 70}], (8, 6)))
    assert torch.equal(image, torch.from_numpy(PIXELS).long())
    np.testing.assert_array_equal(mask, PIXELS >= 70)
    changed = [{"kind": "threshold", "level": 70, "variables": ["image"]}]
    image, mask = pixels(opened(registry, tmp_path, changed, (8, 6)))
    np.testing.assert_array_equal(image, PIXELS >= 70)
    assert torch.equal(mask, torch.from_numpy(PIXELS).long())
