"""Photographs with masks, classes and ages, half of them withheld: what ``mmcore init`` makes of a folder, and how well the gaps are filled.

The photographs are drawn, 96 × 96: a textured ground, and on it one or two things of a kind, a leaf, a pebble, a berry or a shell, of any colour that is
told from the ground's. A thing's age is ``15 + 40 size + 25 darkness`` in years, both in 0 … 1 and seen in its picture, and noise of 4 years. Of the rows,
half lack the mask, and a fifth each, by themselves, the class and the age.

1. ``python -m benchmarks.photographs write FOLDER`` writes ``images``, ``masks`` and ``rows.csv``, and beside the folder ``FOLDER-truth`` with all of it.
2. ``mmcore init FOLDER``, ``mmcore train config.toml`` and ``mmcore predict`` fill the gaps; nothing is edited by hand.
3. ``python -m benchmarks.photographs score FOLDER PREDICTIONS`` prints a Markdown table: the mean IoU of the things in the masks that were withheld, at
   96 × 96, the accuracy of the classes, and how many of the withheld ages the 80 % intervals hold.

``score`` also says what IoU the true masks have when they are made smaller to ``--side`` pixels and larger again: no model of that size does better.
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

SIDE, ROWS = 96, 600
KINDS = ("leaf", "pebble", "berry", "shell")
YEARS, BY_SIZE, BY_DARKNESS, NOISE = 15.0, 40.0, 25.0, 4.0
RADII = (13.0, 25.0)
WITHHELD = {"mask": 0.5, "class": 0.2, "age": 0.2}


@attrs.frozen
class Photograph:
    """A photograph and all that is true of it.

    Attributes:
        image: ``(96, 96, 3)`` uint8.
        mask: ``(96, 96)`` bool, where the things are.
        kind: of its things.
        age: in years.
    """

    image: np.ndarray
    mask: np.ndarray
    kind: str
    age: float


def smooth(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Noise ``(96, 96)`` of mean 0 and deviation 1, whose bumps are about ``scale`` pixels wide."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    x = np.fft.irfft2(
        np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * np.exp(-((frequency * scale) ** 2) * 4), (SIDE, SIDE)
    )
    return (x - x.mean()) / x.std()


def tint(rng: np.random.Generator, light: float) -> np.ndarray:
    """A colour ``(3,)`` of any hue whose channels have the mean ``light``."""
    hue = rng.normal(size=3)
    hue -= hue.mean()
    return light + 0.22 * hue / np.linalg.norm(hue)


def ground_for(rng: np.random.Generator, paint: np.ndarray) -> np.ndarray:
    """A colour ``(3,)`` in 0.15 … 0.85, at least 0.35 from the things'."""
    while True:
        found = rng.uniform(0.15, 0.85, 3)
        if np.linalg.norm(found - paint) >= 0.35:
            return found


def texture(kind: str, u: np.ndarray, v: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A kind's pattern in about -1 … 1, along and across a thing and by the distance from its middle, all in units of its size."""
    if kind == "leaf":
        return np.sin(2 * math.pi * (0.9 * v + 0.4 * np.abs(u)) + rng.uniform(0, 6))
    if kind == "pebble":
        return np.clip(smooth(rng, 8), -1.5, 1.5) / 1.5
    if kind == "berry":
        return 1 - 2.2 * np.clip(np.hypot(u + 0.35, v + 0.35), 0, 1)
    return np.sin(2 * math.pi * 1.4 * radius + rng.uniform(0, 6))


def photograph(rng: np.random.Generator) -> Photograph:
    """One photograph, drawn at random."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    size, darkness = rng.uniform(size=2)
    paint = tint(rng, 0.8 - 0.55 * darkness)
    ground = ground_for(rng, paint)
    grain = smooth(rng, rng.uniform(3, 12))[..., None] * 0.06 + smooth(rng, 30)[..., None] * rng.normal(0, 0.05, 3)
    picture = ground + grain
    mask, contrast = np.zeros((SIDE, SIDE), bool), rng.uniform(0.12, 0.25)
    for _ in range(int(rng.integers(1, 3))):
        mean = RADII[0] + (RADII[1] - RADII[0]) * size
        stretch = math.sqrt({"leaf": rng.uniform(2.0, 2.6), "shell": rng.uniform(1.2, 1.5)}.get(kind, 1.1))
        cx, cy = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2)
        turn = rng.uniform(0, math.pi)
        u = ((x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)) / (mean * stretch)
        v = ((y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)) / (mean / stretch)
        angle, radius = np.arctan2(v, u), np.hypot(u, v)
        edge = 1 + sum(rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4))
        inside = np.clip((edge - radius) * mean / stretch + 0.5, 0, 1)
        pattern = texture(kind, u, v, radius, rng) * contrast
        thing = paint + pattern[..., None] + rng.normal(0, 0.02, 3)
        picture = picture + inside[..., None] * (thing - picture)
        mask |= inside >= 0.5
    light = 1 + 0.15 * (rng.normal() * (x / SIDE - 0.5) + rng.normal() * (y / SIDE - 0.5))
    picture = picture * light[..., None] + rng.normal(0, 0.02, picture.shape)
    age = YEARS + BY_SIZE * size + BY_DARKNESS * darkness + rng.normal(0, NOISE)
    return Photograph((np.clip(picture, 0, 1) * 255).round().astype(np.uint8), mask, kind, round(age, 1))


def photographs(rows: int, seed: int) -> Iterator[Photograph]:
    """Each by a seed of its own."""
    return (photograph(np.random.Generator(np.random.Philox([seed, i]))) for i in range(rows))


def truth_of(folder: Path) -> Path:
    """Where the truth of a folder's rows lies."""
    return folder.with_name(f"{folder.name}-truth")


def write(folder: Path, rows: int, seed: int) -> None:
    """Write photographs with what is known of them, and beside the folder all of the truth."""
    truth = truth_of(folder)
    for at in (folder / "images", folder / "masks", truth / "masks"):
        at.mkdir(parents=True, exist_ok=True)
    lacks = np.random.Generator(np.random.Philox([seed])).uniform(size=(rows, len(WITHHELD))) < tuple(WITHHELD.values())
    known, true = [], []
    for i, one in enumerate(photographs(rows, seed)):
        key, mask = f"{i:04}", Image.fromarray(one.mask.astype(np.uint8) * 255)
        without = dict(zip(WITHHELD, lacks[i], strict=True))
        Image.fromarray(one.image).save(folder / "images" / f"{key}.jpg", quality=92)
        mask.save(truth / "masks" / f"{key}.png")
        if not without["mask"]:
            mask.save(folder / "masks" / f"{key}.png")
        known.append([key, "" if without["class"] else one.kind, "" if without["age"] else one.age])
        true.append([key, one.kind, one.age, *map(int, lacks[i])])
    _table(folder / "rows.csv", ["key", "class", "age"], known)
    _table(truth / "rows.csv", ["key", "class", "age", *(f"without_{name}" for name in WITHHELD)], true)


def _table(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of the things in two masks of bool."""
    return float((found & true).sum() / max((found | true).sum(), 1))


def there_and_back(true: np.ndarray, side: int) -> np.ndarray:
    """A mask at ``side`` pixels by the nearest, and back at its own size by bilinear interpolation of 0 and 1."""
    small = Image.fromarray(true.astype(np.uint8) * 255).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(small.resize(true.shape[::-1], Image.Resampling.BILINEAR)) >= 128


def opened(path: Path) -> np.ndarray:
    """A mask's file, as bool."""
    return np.asarray(Image.open(path).convert("L")) > 0


@attrs.frozen
class Score:
    """One figure of the predictions.

    Attributes:
        name: what it is.
        values: of each row.
        rows: that lack the value, with a prediction or without.
    """

    name: str
    values: tuple[float, ...]
    rows: int

    def line(self) -> str:
        """Of a Markdown table."""
        if not self.values:
            return f"| {self.name} | - | 0 of {self.rows} |"
        mean = float(np.mean(self.values))
        error = float(np.std(self.values)) / math.sqrt(len(self.values))
        return f"| {self.name} | {mean:.3f} ± {error:.3f} | {len(self.values)} of {self.rows} |"


def score(folder: Path, predictions: Path, side: int) -> list[Score]:
    """How well a folder's gaps are filled.

    Args:
        folder: that was written.
        predictions: what ``mmcore predict`` wrote: ``predictions.csv``, and ``mask/KEY.png``.
        side: of the masks in the model.
    """
    truth = truth_of(folder)
    true, filled = _rows(truth / "rows.csv"), _rows(predictions / "predictions.csv")

    def of(name: str, variable: str, figure: Callable[[str], float | None]) -> Score:
        lacking = [key for key, row in true.items() if row[f"without_{variable}"] == "1"]
        found = (figure(key) for key in lacking)
        return Score(name, tuple(one for one in found if one is not None), len(lacking))

    def masked(key: str) -> float | None:
        at = predictions / "mask" / f"{key}.png"
        return iou(opened(at), opened(truth / "masks" / at.name)) if at.exists() else None

    def most(key: str) -> float:
        whole = opened(truth / "masks" / f"{key}.png")
        return iou(there_and_back(whole, side), whole)

    def cell(key: str, column: str) -> str:
        return filled.get(key, {}).get(column, "")

    def right(key: str) -> float | None:
        return float(said == true[key]["class"]) if (said := cell(key, "class")) else None

    def held(key: str) -> float | None:
        low, high, age = cell(key, "age_low"), cell(key, "age_high"), float(true[key]["age"])
        return float(float(low) <= age <= float(high)) if low and high else None

    def wide(key: str) -> float | None:
        low, high = cell(key, "age_low"), cell(key, "age_high")
        return float(high) - float(low) if low and high else None

    def off(key: str) -> float | None:
        return abs(float(said) - float(true[key]["age"])) if (said := cell(key, "age")) else None

    return [
        of("IoU of the masks", "mask", masked),
        of(f"most that masks of {side} × {side} allow", "mask", most),
        of("accuracy of the classes", "class", right),
        of("ages inside their 80 % interval", "age", held),
        of("width of the interval, years", "age", wide),
        of("error of the age, years", "age", off),
    ]


def main() -> None:
    """Write, or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="photographs, and beside them their truth")
    writing.add_argument("folder", type=Path, metavar="FOLDER")
    writing.add_argument("--rows", type=int, default=ROWS)
    writing.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score", help="predictions beside the truth")
    scoring.add_argument("folder", type=Path, metavar="FOLDER")
    scoring.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    scoring.add_argument("--side", type=int, default=32)
    given = parser.parse_args()
    if given.command == "write":
        write(given.folder, given.rows, given.seed)
        return
    print("| figure | mean | rows |\n|---|---|---|")
    print("\n".join(one.line() for one in score(given.folder, given.predictions, given.side)))


if __name__ == "__main__":
    main()
