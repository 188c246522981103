"""A run of photographs, masks, kinds, ages and vectors, small enough to be made for each session of tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcore import Reader, Registry
from mmcore.config.resolve import configured
from mmcore.runs.run import train

ROWS = 20


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    """A folder with ``run`` in it."""
    folder = tmp_path_factory.mktemp("play")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "vectors"):
        (folder / "photos" / name).mkdir(parents=True)
    lines = ["file,kind,age"]
    for k in range(ROWS):
        pixels = rng.integers(0, 256, (24, 36, 3), dtype=np.uint8)
        at = folder / "photos"
        Image.fromarray(pixels).save(at / "images" / f"{k:02}.png")
        Image.fromarray(255 * (pixels[..., 0] > 127).astype(np.uint8)).save(at / "masks" / f"{k:02}.png")
        np.save(at / "vectors" / f"{k:02}.npy", rng.normal(size=20).astype(np.float32))
        lines.append(f"{k:02},{('cat', 'dog', '7')[k % 3]},{'' if k % 4 == 0 else 20.5 + k}")
    (folder / "photos" / "labels.csv").write_text("\n".join(lines) + "\n")
    tables = {
        "out": str(folder / "run"),
        "device": "cpu",
        "data": {
            "source": "folder",
            "options": {"path": str(folder / "photos")},
            "split": {"test": 0.3},
            "transforms": [{"kind": "resize", "size": [8, 12]}],
        },
        "modalities": {
            "image": {"size": [8, 12]},
            "mask": {"size": [8, 12], "values": [0, 255]},
            "kind": {"plugin": "label", "classes": 3, "names": ["cat", "dog", "7"]},
            "age": {"plugin": "scalar"},
            "vector": {"plugin": "clip", "width": 20, "unit_norm": False},
        },
        "model": {
            "backbone": "mlp",
            "backbone_options": {"width": 8, "depth": 1, "features": 2},
            "schedule_options": {"steps": 20},
        },
        "training": {"steps": 2, "batch_size": 4, "roles": {"joint": 0.4, "partial": 0.3}},
        "sampling": {"n": 2, "steps": 2, "seed": 5},
    }
    train(configured(tables, registry=registry), quiet=True)
    return folder


@pytest.fixture(scope="session")
def reader(home: Path, registry: Registry) -> Reader:
    """Of the run."""
    return Reader.open(home / "run", registry=registry, device="cpu")
