"""The photographs of ``benchmarks.photographs``: what is withheld, and that a score is right for answers that are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import iou, score, there_and_back, truth_of, write

ROWS = 24


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "photographs"
    write(folder, ROWS, seed=1)
    return folder


def predicted(folder: Path, out: Path, age: float) -> Path:
    """The truth as predictions, but for the ages, which are that much off, in intervals of 2 years."""
    (out / "mask").mkdir(parents=True)
    lines = [["key", "predicted", "class", "age", "age_low", "age_high"]]
    for row in rows_of(truth_of(folder) / "rows.csv"):
        found = float(row["age"]) + age
        lines.append([row["key"], "mask class age", row["class"], str(found), str(found - 1), str(found + 1)])
        name = f"{row['key']}.png"
        (out / "mask" / name).write_bytes((truth_of(folder) / "masks" / name).read_bytes())
    with (out / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return out


def test_what_is_withheld_is_in_the_truth_alone(folder: Path) -> None:
    true = rows_of(truth_of(folder) / "rows.csv")
    here = rows_of(folder / "rows.csv")
    assert len(true) == len(here) == len(list((folder / "images").iterdir())) == ROWS
    for row, known in zip(true, here, strict=True):
        for name in ("class", "age"):
            assert known[name] == ("" if row[f"without_{name}"] == "1" else row[name])
        assert (folder / "masks" / f"{row['key']}.png").exists() == (row["without_mask"] == "0")
        mask = np.asarray(Image.open(truth_of(folder) / "masks" / f"{row['key']}.png"))
        assert mask.shape == (96, 96)
        assert set(np.unique(mask).tolist()) == {0, 255}
    assert {row[f"without_{name}"] for row in true for name in ("mask", "class", "age")} == {"0", "1"}


@pytest.mark.parametrize(("age", "held"), [(0.0, 1.0), (1.5, 0.0)])
def test_known_answers_have_known_scores(folder: Path, tmp_path: Path, age: float, held: float) -> None:
    found = {one.name: one for one in score(folder, predicted(folder, tmp_path / "out", age), side=32)}
    assert set(found["IoU of the masks"].values) == {1.0}
    assert set(found["accuracy of the classes"].values) == {1.0}
    assert set(found["ages inside their 80 % interval"].values) == {held}
    assert found["error of the age, years"].values == pytest.approx([age] * found["error of the age, years"].rows)
    assert 0.9 < np.mean(found["most that masks of 32 × 32 allow"].values) < 1


def test_what_is_not_predicted_is_counted_as_such(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("key,predicted\n")
    for one in score(folder, tmp_path, side=32):
        if "allow" not in one.name:
            assert one.line() == f"| {one.name} | - | 0 of {one.rows} |"


def test_intersection_over_union() -> None:
    a, b = np.zeros((2, 6, 6), bool)
    a[:, :3], b[:, 2:5] = True, True
    assert iou(a, b) == pytest.approx(6 / 30)
    assert iou(a, a) == 1.0
    assert there_and_back(a, 6).tolist() == a.tolist()
