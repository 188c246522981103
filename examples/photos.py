"""Pictures to try the commands on: ``photos/``, of which some lack a mask or a label, and ``new/``, pictures alone.

python examples/photos.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 48


def write(folder: Path, rows: int, rng: np.random.Generator, *, bare: bool = False) -> None:
    """``rows`` pictures of a bright circle or square before noise; unless they are bare, masks and ``labels.csv`` beside them."""
    lines = ["file,label"]
    y, x = np.mgrid[:SIZE, :SIZE]
    for row in range(rows):
        kind, name = ("circle", "square")[row % 2], f"{row:03}"
        radius, (cx, cy) = rng.integers(8, 20), rng.integers(16, 32, 2)
        across, down = abs(x - cx), abs(y - cy)
        inside = across**2 + down**2 < radius**2 if kind == "circle" else np.maximum(across, down) < radius
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3))
        pixels[inside] += rng.integers(60, 160, 3)
        picture(folder / "images", name, pixels)
        if not bare:
            if row % 5:
                picture(folder / "masks", name, 255 * inside)
            lines.append(f"{name},{kind if row % 7 else ''}")
    if not bare:
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def picture(folder: Path, name: str, pixels: np.ndarray) -> None:
    """One PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")


def main() -> None:
    """Write both folders into the working directory."""
    rng = np.random.default_rng(0)
    write(Path("photos"), 200, rng)
    write(Path("new"), 8, rng, bare=True)


if __name__ == "__main__":
    main()
