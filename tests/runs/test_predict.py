"""Rows are filled in by what the model says, at the files' size; a question's values are read as the training data were."""

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import mmcore
from mmcore import Reader, Registry, RequestError
from mmcore.config.resolve import configured
from mmcore.data.opening import embed
from mmcore.data.transforms import Trace
from mmcore.modality.base import Modality
from mmcore.modality.mixed import Mixed
from mmcore.runs import filled, held
from mmcore.runs.answers import answer, enough
from mmcore.runs.asking import ask
from mmcore.runs.filled import file_name
from mmcore.runs.filling import Predictions
from mmcore.runs.run import Run, train
from mmcore_clip import ClipModality
from mmcore_label import LabelModality
from mmcore_mask import MaskModality
from mmcore_scalar import ScalarModality

SIZE, ROWS = (24, 36), 20


def write_photos(folder: Path) -> None:
    """Pictures, masks of 0 and 255 of every second, and a table with empty cells."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["file,kind,age"]
    for k in range(ROWS):
        pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{k:02}.png")
        if k % 2:
            Image.fromarray(255 * (pixels[..., 0] > 127).astype(np.uint8)).save(folder / "masks" / f"{k:02}.png")
        lines.append(f"{k:02},{'' if k % 5 == 0 else ('cat', 'dog')[k % 2]},{'' if k % 3 == 0 else 20 + k}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def tables(folder: Path, **data: Any) -> dict[str, Any]:
    return {
        "out": str(folder / "run"),
        "device": "cpu",
        "data": {
            "source": "folder",
            "options": {"path": str(folder / "photos")},
            "split": {"test": 0.3},
            "transforms": [{"kind": "resize", "size": [8, 12]}],
            **data,
        },
        "modalities": {
            "image": {"size": [8, 12]},
            "mask": {"size": [8, 12], "values": [0, 255]},
            "kind": {"plugin": "label", "classes": 2, "names": ["cat", "dog"]},
            "age": {"plugin": "scalar"},
        },
        "model": {
            "backbone": "mlp",
            "backbone_options": {"width": 8, "depth": 1, "features": 2},
            "schedule_options": {"steps": 20},
        },
        "training": {"steps": 2, "batch_size": 4},
        "sampling": {"n": 2, "steps": 2, "seed": 5},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    write_photos(folder / "photos")
    train(configured(tables(folder), registry=registry), quiet=True)
    return folder


@pytest.fixture(scope="module")
def reader(home: Path, registry: Registry) -> Reader:
    return Reader.open(home / "run", registry=registry, device="cpu")


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# ---- reading what is asked ----


def test_a_training_file_is_read_as_in_training(home: Path, reader: Reader) -> None:
    assert reader.run is not None
    rows = reader.run.setup.rows("all").take(range(ROWS))
    want = rows.values["image"]
    found = reader.read({"image": home / "photos" / "images" / "03.png"})["image"]
    assert torch.equal(found, want[3:4])
    for many in (home / "photos" / "images", str(home / "photos" / "images" / "*.png")):
        assert torch.equal(reader.read({"image": many})["image"], want)
    table = reader.read({"kind": ["cat", "dog"]}, 5)["kind"]
    assert table.tolist() == [0, 1, 0, 1, 0]


def test_values_of_several_variables_belong_together(home: Path, reader: Reader) -> None:
    photos = home / "photos"
    found = reader.read({"image": str(photos / "images" / "*[13579].png"), "mask": photos / "masks", "kind": "dog"})
    assert {name: len(x) for name, x in found.items()} == {"image": 10, "mask": 10, "kind": 10}
    for k, index in enumerate(range(1, ROWS, 2)):
        red = Image.open(photos / "images" / f"{index:02}.png").resize((12, 8), Image.Resampling.BILINEAR)
        torch.testing.assert_close(found["image"][k], torch.tensor(np.array(red)).permute(2, 0, 1) / 127.5 - 1)
    with pytest.raises(RequestError, match=r"given mask: found the file 01.png for 00.png of image"):
        reader.read({"image": str(photos / "images" / "*[02468].png"), "mask": str(photos / "masks" / "*.png")})


def test_a_word_is_a_class_though_a_folder_is_called_so(
    home: Path, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog").mkdir()
    assert reader.read({"kind": "dog"})["kind"].tolist() == [1]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"image": "nope.png"}, "given image=nope.png: found no file there"),
        ({"imag": "nope.png"}, "given imag: expected one of image, mask, kind, age; did you mean 'image'"),
        ({"kind": "zebra"}, "given kind=zebra: found 'zebra', expected one of cat, dog"),
        ({"image": "no/*.png"}, r"given image=no/\*.png: found no file there, expected one"),
        ({"kind": ["cat", "dog"], "age": [1, 2, 3]}, "given kind: found 2 values beside 3 of age"),
        ({"age": [1.0, None]}, "given age: found nothing in value 2 of 2"),
    ],
)
def test_what_cannot_be_asked_is_told(asked: Any, text: str, reader: Reader) -> None:
    with pytest.raises(RequestError, match=text):
        reader.read(asked)


@pytest.mark.parametrize("option", ["given", "start"])
def test_of_a_value_that_cannot_be_asked_about_nothing_is_said_of_rows(
    option: str, reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for asked in ({"kind": 2}, {"image": tmp_path / "torn.png"}):
        with pytest.raises(RequestError, match=f"{option} .*: found .*, expected ") as told:
            reader.read(asked, option=option)
        assert "rows" not in str(told.value)


def test_a_hole_of_the_photo_s_size_goes_the_photo_s_way(home: Path, reader: Reader, tmp_path: Path) -> None:
    known = np.full(SIZE, 255, dtype=np.uint8)
    known[6:14, 9:20] = 0
    Image.fromarray(known).save(tmp_path / "hole.png")
    asked = reader.asked({"image": home / "photos" / "images" / "00.png"})
    found = reader.known("image", tmp_path / "hole.png", asked, 2)
    # By a third: pixel (i, j) is made of the rows 3i - 1 … 3i + 3, as bilinear resizing reaches so far.
    want = np.ones((8, 12), dtype=bool)
    for i in range(8):
        for j in range(12):
            near = known[max(0, 3 * i - 1) : 3 * i + 4, max(0, 3 * j - 1) : 3 * j + 4]
            want[i, j] = (near == 255).all()
    assert found.shape == (2, 3, 8, 12)
    assert (found.numpy() == want).all()
    own = np.zeros((8, 12), dtype=np.uint8)
    own[2] = 255
    Image.fromarray(own).save(tmp_path / "own.png")
    assert (reader.known("image", tmp_path / "own.png", asked, 1)[0, 0].numpy() == (own > 0)).all()
    Image.fromarray(own[:5]).save(tmp_path / "odd.png")
    with pytest.raises(RequestError, match=r"found a mask of shape \(5, 12\), expected .*\(8, 12\) or \(24, 36\)"):
        reader.known("image", tmp_path / "odd.png", asked, 1)


def test_values_that_mean_missing_are_missing(home: Path, registry: Registry, tmp_path: Path) -> None:
    reader = Reader.open(home / "run", registry=registry, device="cpu")
    (tmp_path / "t.csv").write_text("years,kind\n3,dog\n-1,cat\n,cat\n")
    source = reader.rows(tmp_path / "t.csv", {"age": mmcore.data.ColumnOptions("years", missing=(-1,))}).source
    assert [source[k].get("age") for k in range(3)] == [3, None, None]


# ---- what many draws say ----


def of(registry: Registry, plugin: str, **options: Any) -> Modality:
    return registry.modality(plugin, name="x", **options)


def test_an_interval_covers_as_often_as_it_says(registry: Registry) -> None:
    """Of 16 draws and a truth of the same distribution, in 4,000 rows; the error of the share is below 0.026 with probability 1 - 4e-5."""
    rng = np.random.default_rng(1)
    m = of(registry, "scalar")
    x = rng.lognormal(size=(4000, 17))
    hits = 0
    for row in x:
        found = answer(m, torch.tensor(row[:16], dtype=torch.float32), Trace(), 0.8)
        assert found.value == pytest.approx(row[:16].mean(), rel=1e-5)
        assert found.deviation == pytest.approx(row[:16].std(ddof=1), rel=1e-4)
        hits += found.low < row[16] < found.high
    assert hits / 4000 == pytest.approx(0.8, abs=0.026)


@pytest.mark.parametrize(("interval", "draws"), [(0.8, 9), (0.5, 3), (0.9, 19), (0.95, 39), (0.1, 2)])
def test_so_many_draws_are_needed(interval: float, draws: int) -> None:
    assert enough(interval) == draws
    # The lower end is then the smallest draw or above it, at probability (1 - interval) / 2 of the k-th of n: k / (n + 1).
    assert (draws + 1) * (1 - interval) / 2 >= 1 - 1e-9


def test_classes_and_labels_by_their_draws(registry: Registry) -> None:
    draws = torch.tensor([2, 0, 2, 2, 1, 0, 2, 1])
    found = answer(of(registry, "label", classes=3, names=["a", "b", "c"]), draws, Trace(), 0.5)
    assert (found.value, found.agreement) == ("c", 0.5)
    several = torch.tensor([[True, False, True], [True, False, False], [True, True, False], [True, False, True]])
    found = answer(of(registry, "label", classes=3, multi=True, names=["a", "b", "c"]), several, Trace(), 0.5)
    assert found.value == ["a", "c"]
    assert found.agreement == [1.0, 0.75, 0.5]
    vectors = torch.nn.functional.normalize(torch.tensor([[3.0, 4.0], [4.0, 3.0]]), dim=1)
    found = answer(of(registry, "clip", width=2), vectors, Trace(), 0.3)
    assert found.value == pytest.approx([2**-0.5, 2**-0.5], rel=1e-6)


def test_of_several_modalities_in_one_each_is_answered_as_alone() -> None:
    """A mean of classes is no class: between 0 and 3 lies one that nobody drew. A direction stays one."""
    parts: dict[str, Modality] = {
        "age": ScalarModality(mean=40, std=15),
        "group": LabelModality(4),
        "traits": LabelModality(3, multi=True),
        "direction": ClipModality(3),
        "map": MaskModality((2, 2), 3),
    }
    m = Mixed("row", parts)
    draws = torch.cat([m.typical(11, 5), m.typical(1, 5).expand(9, -1)])
    draws[:, 1] = torch.tensor([0.0, 3.0]).repeat_interleave(10)
    draws[0, 1] = 3
    found = answer(m, draws, Trace(), 0.8)
    alone = [answer(part, x, Trace(), 0.8) for part, x in zip(parts.values(), m.packed.split(draws), strict=True)]
    assert found.value[1] == alone[1].value == 3
    value, own = m.read(found.value), [part.read(one.value) for part, one in zip(parts.values(), alone, strict=True)]
    torch.testing.assert_close(value, m.packed.join([x[None] for x in own])[0])
    m.spec.check(value[None], "value")
    assert found.agreement[:2] == [None, 0.55]
    assert found.low[0] == pytest.approx(float(np.quantile(draws[:, 0], 0.1, method="weibull")))
    assert found.low[1] is None
    # In a table it is a list that reads back.
    told = json.loads(filled._rounded(found.value))
    torch.testing.assert_close(m.read(told), value)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 5), st.sampled_from([1, 3, 8]))
def test_a_map_s_class_is_its_pixel_s_most_frequent(seed: int, classes: int, draws: int) -> None:
    registry = mmcore.discover()
    rng = np.random.default_rng(seed)
    x = rng.integers(0, classes, (draws, 5, 4))
    found = answer(of(registry, "mask", size=[5, 4], classes=classes), torch.tensor(x), Trace(), 0.5)
    value = np.asarray(found.value)
    for i in range(5):
        for j in range(4):
            counts = np.bincount(x[:, i, j], minlength=classes)
            assert counts[value[i, j]] == counts.max()
            assert draws == 1 or found.agreement[i, j] == pytest.approx(counts.max() / draws)


# ---- rows ----


def test_a_row_s_answer_is_the_sample_of_its_numbers(home: Path, reader: Reader) -> None:
    found = list(mmcore.predict(reader, home / "photos", draws=9))
    assert [row.key for row in found] == [f"{k:02}" for k in range(ROWS)]
    row = found[5]  # has a mask and an age, and no kind
    assert set(row.answers) == {"kind"}
    values = reader.read({"image": row.given["image"], "mask": row.given["mask"], "age": row.given["age"]}, 9)
    drawn = mmcore.sample(reader.model, 9, given=values, steps=2, seed=5, draw=True, numbers=range(45, 54))
    assert torch.equal(row.answers["kind"].draws, drawn["kind"])
    for k, one in enumerate(found):
        lacking = {"mask"} if k % 2 == 0 else set()
        lacking |= {"kind"} if k % 5 == 0 else set()
        lacking |= {"age"} if k % 3 == 0 else set()
        assert set(one.answers) == lacking
        if "mask" in one.answers:
            mask = one.answers["mask"]
            assert mask.value.size == SIZE[::-1]
            assert set(np.unique(mask.value)) <= {0, 255}
            assert mask.agreement.shape == SIZE
            assert not mask.cut


def test_the_table_and_its_files_say_the_same(home: Path, reader: Reader, tmp_path: Path) -> None:
    asked = mmcore.predict(reader, home / "photos", draws=9)
    written = asked.write(tmp_path / "out", quiet=True)
    assert written.filled == {"mask": 10, "kind": 4, "age": 7}
    found = lines(tmp_path / "out")
    for cells, row in zip(found, asked, strict=True):
        assert cells["key"] == row.key
        assert cells["predicted"].split() == list(row.answers)
        if (mask := row.answers.get("mask")) is not None:
            assert cells["mask"] == f"mask/{row.key}.png"
            assert np.array_equal(Image.open(tmp_path / "out" / cells["mask"]), mask.value)
            sure = np.asarray(Image.open(tmp_path / "out" / "mask.agreement" / f"{row.key}.png"))
            assert np.array_equal(sure, (mask.agreement * 255).round().astype(np.uint8))
        else:
            assert cells["mask"] == str(home / "photos" / "masks" / f"{row.key}.png")
        if (age := row.answers.get("age")) is not None:
            assert float(cells["age"]) == pytest.approx(age.value, rel=1e-6)
            assert float(cells["age_low"]) == pytest.approx(age.low, rel=1e-6)
            assert float(cells["age_high"]) == pytest.approx(age.high, rel=1e-6)
        else:
            assert (float(cells["age"]), cells["age_low"]) == (20 + int(row.key), "")
        if (kind := row.answers.get("kind")) is not None:
            sure = kind.agreement if kind.probability is None else kind.probability
            assert (cells["kind"], float(cells["kind_probability"])) == (kind.value, pytest.approx(sure))
    # What was filled in is data again, which mmcore reads.
    source = reader.registry.source("table", path=str(tmp_path / "out" / "predictions.csv"))
    assert sum(row["mask"].is_file() for row in source) == ROWS


def test_batches_do_not_matter(home: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[Any]:
        return [
            (row.key, {name: one.draws for name, one in row.answers.items()})
            for row in mmcore.predict(reader, home / "photos", draws=9)
        ]

    whole = found()
    monkeypatch.setattr(held, "TOGETHER", 27)
    for (key, one), (other, two) in zip(whole, found(), strict=True):
        assert key == other
        assert one.keys() == two.keys()
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-4)


def test_stopped_anywhere_it_ends_in_the_same_files(
    home: Path, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "TOGETHER", 36)  # four rows at once
    monkeypatch.setattr(filled, "EVERY", 3)

    def asked() -> Predictions:
        return mmcore.predict(reader, home / "photos", draws=9)

    asked().write(tmp_path / "whole", quiet=True)
    want = tree(tmp_path / "whole")
    kept = filled._line

    for at in range(1, ROWS + 2, 3):
        count = 0

        def stopping(cells: Any, at: int = at) -> bytes:
            nonlocal count
            count += 1
            if count > at:
                raise InterruptedError
            return kept(cells)

        folder = tmp_path / f"stopped-{at}"
        monkeypatch.setattr(filled, "_line", stopping)
        with pytest.raises(InterruptedError):
            asked().write(folder, quiet=True)
        # As if power had failed while a line was written.
        with (folder / "predictions.csv").open("ab") as file:
            file.write(b"07,mask ki")
        monkeypatch.setattr(filled, "_line", kept)
        asked().write(folder, quiet=True)
        assert tree(folder) == want
    asked().write(tmp_path / "whole", quiet=True)
    assert tree(tmp_path / "whole") == want


def test_a_killed_process_goes_on(home: Path, reader: Reader, tmp_path: Path) -> None:
    program = (
        "import os, sys, torch, mmcore\n"
        "from mmcore.runs import filled, filling\n"
        "torch.set_num_threads(1)\n"
        "kept = filled.files.write\n"
        "def killing(path, data, left=[int(sys.argv[3])]):\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    kept(path, data)\n"
        "filled.files.write, filled.EVERY = killing, 4\n"
        "mmcore.predict(sys.argv[1] + '/run', sys.argv[1] + '/photos', draws=9, device='cpu').write(sys.argv[2], quiet=True)\n"
    )
    out = tmp_path / "out"
    run = [sys.executable, "-c", program, str(home), str(out)]
    assert subprocess.run([*run, "14"], check=False, capture_output=True).returncode == -9
    assert (out / "predictions.json").exists()
    done = subprocess.run([*run, "0"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    assert subprocess.run([*run[:-1], str(whole), "0"], check=False).returncode == 0
    assert {name: data for name, data in tree(out).items() if ".aside-" not in name} == tree(whole)


def test_other_questions_are_not_mixed(home: Path, reader: Reader, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mmcore.predict(reader, home / "photos", draws=9).write(out, quiet=True)
    before = tree(out)
    with pytest.raises(RequestError, match=r"holds predictions of another question \(draws was 9, now 10\).*--force"):
        mmcore.predict(reader, home / "photos", draws=10).write(out, quiet=True)
    with pytest.raises(RequestError, match=r"holds predictions of .*photos, not of .*labels.csv"):
        mmcore.predict(reader, home / "photos" / "labels.csv", draws=9).write(out, quiet=True)
    assert tree(out) == before
    mmcore.predict(reader, home / "photos", draws=10).write(out, force=True, quiet=True)
    assert json.loads((out / "predictions.json").read_text())["question"]["draws"] == 10
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "predictions.csv").write_text("my own work")
    with pytest.raises(RequestError, match=r"predictions.csv is there and is none of mmcore's predictions"):
        mmcore.predict(reader, home / "photos", draws=9).write(mine, force=True, quiet=True)
    assert (mine / "predictions.csv").read_text() == "my own work"


def test_one_process_writes(home: Path, reader: Reader, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom mmcore.store.folder import alone\n"
        "with alone(Path(sys.argv[1]), 'predict', 'no'):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(RequestError, match="predict: another process predicts in"):
            mmcore.predict(reader, home / "photos", draws=9).write(tmp_path, quiet=True)
        other.communicate("")
    assert not (tmp_path / "predictions.csv").exists()


def test_pictures_of_any_size_beside_the_truth(home: Path, reader: Reader, tmp_path: Path) -> None:
    for k, size in enumerate([(30, 17), (200, 100), (8, 12)]):
        Image.new("RGB", size, (9 * k, 99, 5)).save(tmp_path / f"{k}.jpg")
    asked = mmcore.predict(reader, tmp_path, draws=9)
    assert asked.said == [f"{tmp_path}: read by the source folder; 3 images lie in it"]
    assert [row.answers["mask"].value.size for row in asked] == [(30, 17), (200, 100), (8, 12)]
    one = mmcore.predict(reader, str(tmp_path / "*.jpg"), draws=9)
    assert one.said[-1] == "the pictures are taken as image"
    for row, other in zip(asked, one, strict=True):
        assert torch.equal(row.answers["mask"].draws, other.answers["mask"].draws)
    held = list(mmcore.predict(reader, "test", draws=1, again=["kind", "age"], absent=["mask"]))
    assert 0 < len(held) < ROWS
    for row in held:
        assert set(row.answers) == {"kind", "age"}
        assert row.answers["age"].low is None
        assert row.answers["kind"].agreement is None


class Person(Mixed):
    def __init__(self) -> None:
        parts = {"age": ScalarModality(mean=40, std=15), "group": LabelModality(4), "direction": ClipModality(3)}
        super().__init__("person", parts)


def test_parts_that_a_sample_lacks_are_filled_in_and_those_it_has_stay(tmp_path: Path) -> None:
    own = mmcore.discover()
    own.register("modality", "person", Person)
    person = own.modality("person")
    parts = [person, own.modality("label", classes=2)]
    model = mmcore.compose(parts, backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=own)
    reader = Reader.open(mmcore.save(model, tmp_path / "model"), registry=own, device="cpu")
    rows: list[dict[str, Any]] = [
        {"person": {"age": 30, "group": 2, "direction": [1, 0, 0]}, "label": 1},
        {"person": {"age": 31, "direction": [0, 1, 0]}, "label": 1},
        {"person": {"group": 3}},
        {"label": 0},
    ]
    for draws in (1, 9):
        found = list(mmcore.predict(reader, rows, draws=draws, steps=2))
        assert [set(row.answers) for row in found] == [set(), {"person"}, {"person", "label"}, {"person"}]
        for row, at in ((1, [0, 2, 3, 4]), (2, [1])):
            answers = found[row].answers["person"]
            given = person.read(rows[row]["person"])
            assert (answers.draws[:, at] == given[at]).all()
            value = person.read(answers.value)
            assert torch.equal(value[at], given[at])
            person.spec.check(value[None], "value")
            assert person.spec.there(value).all()
    written = mmcore.predict(reader, rows, draws=9, steps=2).write(tmp_path / "filled", quiet=True)
    assert written.filled == {"person": 3, "label": 1}
    table = lines(tmp_path / "filled")
    assert json.loads(table[0]["person"]) == [30, 2, [1, 0, 0]]
    assert json.loads(table[1]["person"])[0] == 31
    assert [line["predicted"] for line in table] == ["", "person", "person label", "person"]


def test_rows_at_hand_and_bad_ones(home: Path, reader: Reader) -> None:
    rows: list[dict[str, Any]] = [{"kind": "cat"}, {"kind": "zebra"}, {"age": 3.0, "other": 1}]
    with pytest.raises(RequestError, match=r"row 1, kind: found 'zebra'.* \(--skip-bad-rows\) passes over such rows"):
        list(mmcore.predict(reader, rows, draws=9))
    found = list(mmcore.predict(reader, rows, draws=9, on_bad_row="skip"))
    assert [bool(row.bad) for row in found] == [False, True, False]
    assert [set(row.answers) for row in found] == [{"image", "mask", "age"}, set(), {"image", "mask", "kind"}]
    # No file says how large a picture shall be: it has the model's size.
    assert found[0].answers["image"].value.size == (12, 8)
    assert found[0].answers["image"].deviation.shape == (8, 12)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"draws": 0}, "draws = 0, expected a whole number of at least 1"),
        ({"draws": 4}, "4 draws cannot tell an interval of 0.8, expected 9 at least, or 1 for none"),
        ({"interval": 1.0}, "interval = 1.0, expected a number above 0 and at most 0.999"),
        ({"again": ["masc"]}, "again 'masc', expected one of image, mask, kind, age; did you mean 'mask'"),
        ({"columns": {"image": "photo"}}, "columns.image = 'photo', expected one of"),
        ({"columns": {"img": "image"}}, "column img=image: expected one of .*; did you mean 'image'"),
        ({"data": "nix"}, "nix: there is nothing here, expected data, or one of train, validation, test, all"),
        (
            {"data": [{"a": 1, "b": 2}]},
            "found the columns a, b, expected some of image, mask, kind, age; --column image=",
        ),
    ],
)
def test_what_cannot_be_predicted_is_told(changed: dict[str, Any], text: str, home: Path, reader: Reader) -> None:
    asked = {"data": home / "photos"} | changed
    with pytest.raises(RequestError, match=text):
        mmcore.predict(reader, asked.pop("data"), **asked)


def test_a_model_folder_alone_reads_alike(home: Path, registry: Registry) -> None:
    alone = Reader.open(home / "run" / "model", registry=registry, device="cpu")
    whole = Reader.open(home / "run", registry=registry, device="cpu")
    path = {"image": home / "photos" / "images" / "03.png"}
    assert torch.equal(alone.read(path)["image"], whole.read(path)["image"])
    with pytest.raises(RequestError, match="test: found a model folder without its run, which keeps no data"):
        mmcore.predict(alone, "test")


def test_what_was_trained_in_python_is_asked_by_its_folder(home: Path, registry: Registry, tmp_path: Path) -> None:
    """The folder that ``fit`` was given has no configuration: its model is asked as by the folder inside, and as the model itself."""
    shutil.copytree(home / "run" / "model", tmp_path / "run" / "model")
    whole = Reader.open(tmp_path / "run", registry=registry, device="cpu")
    alone = Reader.open(tmp_path / "run" / "model", registry=registry, device="cpu")
    assert whole.folder == alone.folder == tmp_path / "run" / "model"
    asked = {"given": {"image": home / "photos" / "images" / "03.png"}, "steps": 2}
    there = alone.ask(2, **asked)
    assert all(torch.equal(x, there[name]) for name, x in whole.ask(2, **asked).items())
    with pytest.raises(
        RequestError, match=r"trained in Python, by mmcore\.fit, and holds no config\.toml.*evaluate --source"
    ):
        Run.open(tmp_path / "run", registry)


def test_a_model_at_hand_fills_in_as_its_folder_does(home: Path, registry: Registry, tmp_path: Path) -> None:
    """The same answers and files, by the columns and transforms that the model knows; and another model's begun folder is refused."""
    model = mmcore.load(home / "run" / "model", registry=registry, device="cpu")
    asked: dict[str, Any] = {"draws": 3, "interval": 0.5, "steps": 2, "registry": registry}
    rows = home / "photos"
    here = mmcore.predict(model, rows, **asked)
    there = mmcore.predict(home / "run" / "model", rows, device="cpu", **asked)
    assert len(here) == len(there) > 0
    for mine, theirs in zip(here, there, strict=True):
        assert mine.answers.keys() == theirs.answers.keys()
        for name, mask in mine.answers.items():
            assert torch.equal(mask.draws, theirs.answers[name].draws)
    # One model by two doors: what the folder's began goes on by the model at hand.
    there.write(tmp_path / "out", quiet=True)
    assert here.write(tmp_path / "out", quiet=True).filled == there.write(tmp_path / "out", quiet=True).filled
    with torch.no_grad():
        next(iter(model.parameters())).add_(1)
    with pytest.raises(RequestError, match="another model"):
        mmcore.predict(model, rows, **asked).write(tmp_path / "out", quiet=True)


def test_rows_at_hand_with_a_column_called_nearly_so_are_warned_of(reader: Reader) -> None:
    """The command prints it; of rows in Python nothing else would say that the answer was there."""
    rows = [{"Kind": "cat", "age": 3.0}]
    with pytest.warns(
        UserWarning, match=r"rows have 'Kind', which nothing reads; if it is kind, say columns=\{'kind': 'Kind'\}"
    ):
        mmcore.predict(reader, rows, draws=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = mmcore.predict(reader, rows, draws=1, columns={"kind": "Kind"})
        assert "kind" in next(iter(read)).given
        mmcore.predict(reader, [{"age": 3.0, "weather": "fine", "kind_source": "book"}], draws=1)


def test_a_training_in_python_that_has_no_model_yet(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"format": 1, "what": "a run of mmcore"}')
    with pytest.raises(RequestError, match=r"holds no config\.toml.*goes on in Python, by fit\(\.\.\., resume=True\)"):
        Reader.open(tmp_path / "run", registry=registry)


def test_a_cut_picture_says_so(tmp_path: Path, registry: Registry) -> None:
    """By a crop of the middle half the model sees no margin: there the nearest prediction is repeated, and agreement is 0."""
    write_photos(tmp_path / "photos")
    how = tables(tmp_path, transforms=[{"kind": "crop", "size": [8, 12]}])
    train(configured(how, registry=registry), quiet=True)
    row = next(iter(mmcore.predict(tmp_path / "run", tmp_path / "photos", draws=9, registry=registry, device="cpu")))
    found = row.answers["mask"]
    assert found.cut
    assert found.value.size == SIZE[::-1]
    inside = np.zeros(SIZE, dtype=bool)
    inside[8:16, 12:24] = True
    assert ((found.agreement > 0) == inside).all()
    value = np.asarray(found.value)
    assert (value[:8, 12:24] == value[8, 12:24]).all()


# ---- names ----


@settings(max_examples=300)
@given(st.lists(st.text(st.characters(codec=None), max_size=200), min_size=2, max_size=6, unique=True))
def test_keys_become_names_of_files_of_their_own(keys: list[str]) -> None:
    names = [file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert name not in ("", ".", "..")
        assert len(os.fsencode(name)) <= 200
        assert not set(name) & set('/\\<>:"|?*\x00\n\r\x1b')
        assert not name.startswith((".", "-"))


def test_a_hostile_key_stays_in_the_folder(reader: Reader, tmp_path: Path) -> None:
    class Hostile(mmcore.data.Source):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return {"kind": "cat"}

        def key(self, index: int) -> str:
            return ["../../escaped", "=cmd|'/c'\n\x1b[31m"][index]

    out = tmp_path / "a" / "b" / "out"
    mmcore.predict(reader, Hostile(), draws=9).write(out, quiet=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"out"}
    assert [cells["key"] for cells in lines(out)] == ["../../escaped", "=cmd|'/c'\n\x1b[31m"]


def test_numbers_choose_among_the_samples(reader: Reader) -> None:
    def asked(n: int, **how: Any) -> dict[str, Tensor]:
        return mmcore.sample(reader.model, n, steps=2, seed=3, **how)

    whole, some = asked(8), asked(3, numbers=[6, 1, 7])
    for name, x in some.items():
        torch.testing.assert_close(x, whole[name][[6, 1, 7]], rtol=1e-4, atol=1e-4)
    for numbers in ([1, 2], [1, -2, 3], [1.0, 2.0, 3.0], "abc"):
        with pytest.raises(RequestError, match=r"numbers .*expected 3 whole numbers of at least 0"):
            asked(3, numbers=numbers)


# ---- what users do, and would lose ----


def one_photo(folder: Path, name: str, colour: int = 9, size: tuple[int, int] = (12, 8)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 9, 9)).save(folder / name)
    return folder / name


def test_classes_that_the_data_number_otherwise_are_read_by_their_names(reader: Reader) -> None:
    class Numbered(mmcore.data.Source):
        names = ("kind", "age")
        classes: Any = {"kind": ["dog", "cat"]}

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return {"kind": index, "age": 3.0}

    rows = reader.dataset(reader.rows(Numbered()).source).take(range(2))
    assert rows.values["kind"].tolist() == [1, 0]


def test_data_that_change_are_noticed(reader: Reader, tmp_path: Path) -> None:
    one_photo(tmp_path / "new", "a.png")
    (tmp_path / "t.csv").write_text("kind,age\ncat,1\n")

    def go(data: str, out: str, **how: Any) -> None:
        mmcore.predict(reader, tmp_path / data, draws=9, **how).write(tmp_path / out, quiet=True)

    for data, out, change in (
        ("new", "o1", lambda: one_photo(tmp_path / "new", "a.png", colour=200, size=(30, 20))),
        ("t.csv", "o2", lambda: (tmp_path / "t.csv").write_text("kind,age\ncat,900\n")),
    ):
        go(data, out, again=["mask"])
        go(data, out, again=["mask"])
        before = tree(tmp_path / out)
        change()
        with pytest.raises(RequestError, match="the data are not what they were when the first 1 rows were predicted"):
            go(data, out, again=["mask"])
        assert tree(tmp_path / out) == before


def test_another_column_is_another_question(reader: Reader, tmp_path: Path) -> None:
    rows = [{"one": 1.0, "two": 2.0, "kind": "cat"}]
    out = tmp_path / "out"
    mmcore.predict(reader, rows, draws=9, columns={"age": "one"}).write(out, quiet=True)
    assert lines(out)[0]["age"] == "1.0"
    with pytest.raises(RequestError, match=r"columns.age.column was 'one', now 'two'"):
        mmcore.predict(reader, rows, draws=9, columns={"age": "two"}).write(out, quiet=True)


def test_paths_of_the_run_s_own_table_are_not_those_of_another(tmp_path: Path, registry: Registry) -> None:
    for part in ("train", "new"):
        for k in range(6):
            one_photo(tmp_path / part, f"{k}.png", colour=100 if part == "new" else 10 * k)
    (tmp_path / "train.csv").write_text(
        "image,kind\n" + "".join(f"{k}.png,{('cat', 'dog')[k % 2]}\n" for k in range(6))
    )
    (tmp_path / "new" / "list.csv").write_text("image\n0.png\n1.png\n")
    how = tables(
        tmp_path, source="table", options={"path": str(tmp_path / "train.csv"), "root": str(tmp_path / "train")}
    )
    for name in ("mask", "age"):
        del how["modalities"][name]
    how["data"]["split"] = {}
    train(configured(how, registry=registry), quiet=True)
    asked = mmcore.predict(tmp_path / "run", tmp_path / "new" / "list.csv", draws=9, registry=registry, device="cpu")
    assert [row.given["image"] for row in asked] == [tmp_path / "new" / f"{k}.png" for k in range(2)]
    same = mmcore.predict(tmp_path / "run", tmp_path / "train.csv", draws=9, registry=registry, device="cpu")
    assert [row.given["image"] for row in same] == [tmp_path / "train" / f"{k}.png" for k in range(6)]


def test_files_of_one_stem_do_not_take_each_other_s_place(reader: Reader, tmp_path: Path) -> None:
    for name in ("a", "b"):
        one_photo(tmp_path / "new" / name, "x.png", size=(20, 10) if name == "a" else (12, 8))
    one_photo(tmp_path / "new" / "b" / "deep", "x.png", size=(6, 6))
    written = mmcore.predict(reader, str(tmp_path / "new" / "**" / "*.png"), draws=9).write(
        tmp_path / "out", quiet=True
    )
    assert written.rows == 3
    sizes = {cells["key"]: size_of(tmp_path / "out" / cells["mask"]) for cells in lines(tmp_path / "out")}
    assert sizes == {"a/x.png": (20, 10), "b/x.png": (12, 8), "b/deep/x.png": (6, 6)}

    class Twice(mmcore.data.Source):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return {"kind": "cat"}

        def key(self, index: int) -> str:
            return ("One", "one")[index]

    with pytest.raises(RequestError, match="row 1 and row 0 have the same key 'one'"):
        mmcore.predict(reader, Twice(), draws=9).write(tmp_path / "twice", quiet=True)


def test_a_file_called_as_an_agreement_is_kept(reader: Reader, tmp_path: Path) -> None:
    for name, size in (("a", (20, 10)), ("a.agreement", (12, 8))):
        one_photo(tmp_path / "new", f"{name}.png", size=size)
    mmcore.predict(reader, tmp_path / "new", draws=9).write(tmp_path / "out", quiet=True)
    found = {path.relative_to(tmp_path / "out"): size_of(path) for path in (tmp_path / "out").rglob("mask*/*.png")}
    assert found == {
        Path("mask/a.png"): (20, 10),
        Path("mask/a.agreement.png"): (12, 8),
        Path("mask.agreement/a.png"): (20, 10),
        Path("mask.agreement/a.agreement.png"): (12, 8),
    }


def test_columns_that_say_what_is_there_keep_saying_it(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "t.csv").write_text(
        "kind,age,has_age\n" + "".join(f"{('cat', 'dog')[k % 2]},{k},{k % 2}\n" for k in range(8))
    )
    how = tables(tmp_path, source="table", options={"path": str(tmp_path / "t.csv")}, transforms=[], split={})
    how["data"]["columns"] = {"age": {"column": "age", "present": "has_age"}}
    for name in ("mask", "image"):
        del how["modalities"][name]
    train(configured(how, registry=registry), quiet=True)
    reader = Reader.open(tmp_path / "run", registry=registry, device="cpu")
    (tmp_path / "n.csv").write_text("kind,alter,has_age\ncat,0,0\ndog,7,1\n")
    found = list(mmcore.predict(reader, tmp_path / "n.csv", draws=9, columns={"age": "alter"}))
    assert [set(row.answers) for row in found] == [{"age"}, set()]
    (tmp_path / "m.csv").write_text("kind,age,note\ncat,0,x\ndog,7,y\n")
    asked = mmcore.predict(reader, tmp_path / "m.csv", draws=9)
    assert asked.said[1:] == [
        "age: no column has_age says which rows have it, as in the run's data; all that are there count",
        "not used, as no variable is called so: note",
    ]


def test_pictures_under_another_name_are_not_invented(reader: Reader, tmp_path: Path) -> None:
    one_photo(tmp_path, "a.png")
    one_photo(tmp_path, "b.png")
    (tmp_path / "t.csv").write_text("photo,kind,site\na.png,cat,x\n")
    asked = mmcore.predict(reader, tmp_path / "t.csv", draws=9)
    assert asked.said[1:] == [
        "the column photo is taken as image, as no column is called so",
        "not used, as no variable is called so: site",
    ]
    assert set(next(iter(asked)).answers) == {"mask", "age"}
    (tmp_path / "u.csv").write_text("photo,other,kind\na.png,b.png,cat\n")
    with pytest.raises(
        RequestError,
        match="found the pictures of photo, other, expected some of image, mask, kind, age; --column image=",
    ):
        mmcore.predict(reader, tmp_path / "u.csv", draws=9)


def test_what_a_row_has_is_written_as_it_was(reader: Reader, tmp_path: Path) -> None:
    rows = [{"kind": "cat", "age": 123457789.0}, {"kind": "dog", "age": 1 / 3}, {"kind": "dog", "age": "41"}]
    mmcore.predict(reader, rows, draws=9, absent=["image", "mask"], again=["kind"]).write(tmp_path / "out", quiet=True)
    found = lines(tmp_path / "out")
    assert [cells["age"] for cells in found] == ["123457789.0", repr(1 / 3), "41"]
    # What is predicted again stands beside what is there.
    assert [cells["kind_given"] for cells in found] == ["cat", "dog", "dog"]
    assert all(cells["kind"] in ("cat", "dog") and cells["predicted"] == "kind" for cells in found)


def test_what_only_a_task_predicts_is_told_where_it_is_not(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "t.csv").write_text(
        "kind,age,size\n" + "".join(f"{('cat', 'dog')[k % 2]},{k},{k if k % 2 else ''}\n" for k in range(8))
    )
    how = tables(tmp_path, source="table", options={"path": str(tmp_path / "t.csv")}, transforms=[], split={})
    for name in ("mask", "image"):
        del how["modalities"][name]
    how["tasks"] = {"size": {"target": {"plugin": "scalar"}}}
    train(configured(how, registry=registry), quiet=True)
    (tmp_path / "n.csv").write_text("kind,age,size\ncat,0,\n,7,\ndog,,3\n")
    asked = mmcore.predict(tmp_path / "run", tmp_path / "n.csv", draws=9, registry=registry, device="cpu")
    assert [(set(row.answers), row.left) for row in asked] == [
        (set(), ("size",)),
        ({"kind", "size"}, ()),
        ({"age"}, ()),
    ]
    written = asked.write(tmp_path / "out", quiet=True)
    assert (written.filled, written.left) == ({"kind": 1, "size": 1, "age": 1}, {"size": 1})


@pytest.mark.parametrize("value", [[], "", Path()])
def test_nothing_is_no_value(value: Any, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for asked in ({"image": value}, {"kind": "dog", "image": value}):
        with pytest.raises(RequestError, match="given image"):
            reader.read(asked)


def test_own_work_in_the_folder_is_not_lost(home: Path, reader: Reader, tmp_path: Path) -> None:
    asked = mmcore.predict(reader, home / "photos", draws=9)
    own = tmp_path / "own"
    one_photo(own / "mask", "00.png")
    before = tree(own)
    with pytest.raises(RequestError, match="own/mask is there and is none of mmcore's predictions"):
        asked.write(own, quiet=True)
    with pytest.raises(RequestError, match="lies in the data"):
        asked.write(home / "photos", quiet=True)
    with pytest.raises(RequestError, match="lies in the data"):
        asked.write(home / "photos" / "filled", quiet=True)
    with pytest.raises(RequestError, match="holds a run or a model"):
        asked.write(home / "run", quiet=True)
    assert tree(own) == before
    assert not (home / "photos" / "filled").exists()

    # Notes in a finished table are the user's.
    out = tmp_path / "out"
    asked.write(out, quiet=True)
    written = (out / "predictions.csv").read_bytes()
    for changed in (written + b"note\n", written.replace(b"\n", b"\r\n"), written.replace(b"cat", b"CAT")):
        (out / "predictions.csv").write_bytes(changed)
        with pytest.raises(RequestError, match=r"predictions.csv is not as it was written"):
            asked.write(out, quiet=True)
        assert (out / "predictions.csv").read_bytes() == changed


def test_force_removes_what_was_predicted_and_nothing_else(home: Path, reader: Reader, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mmcore.predict(reader, home / "photos", draws=9).write(out, quiet=True)
    (out / "notes.txt").write_text("mine")
    (out / "mask" / "mine.png").write_text("mine")
    mmcore.predict(reader, [{"kind": "cat"}], draws=9, absent=["image"]).write(out, force=True, quiet=True)
    assert set(tree(out)) == {
        "notes.txt", "mask/mine.png", "predictions.csv", "predictions.json", "mask/0.png", "mask.agreement/0.png"
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [".lock", "predictions.csv", "predictions.json", ".aside-predictions.json", "mask", "mask.agreement"],
)
def test_a_link_is_not_followed(name: str, home: Path, reader: Reader, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    if name.startswith("mask"):
        victim.mkdir()
    else:
        victim.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (out / name).symlink_to(victim)
    for force in (False, True):
        with contextlib.suppress(RequestError):
            mmcore.predict(reader, home / "photos", draws=9).write(out, force=force, quiet=True)
    assert {path: path.read_bytes() for path in before} == before
    assert not name.startswith("mask") or not list(victim.iterdir())


@pytest.mark.parametrize(
    "record", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "question": {}, "folders": ["../.."], "done": {}}',
               '{"format": 1, "question": {}, "folders": [], "done": {"rows": "x"}}', "\x00"],
)  # fmt: skip
def test_a_damaged_record_is_told(record: str, home: Path, reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_text(record)
    for force in (False, True):
        with pytest.raises(RequestError, match=r"predictions.json is damaged"):
            mmcore.predict(reader, home / "photos", draws=9).write(tmp_path, force=force, quiet=True)
    assert (tmp_path / "predictions.json").read_text() == record


def test_a_table_that_is_gone_is_written_anew(home: Path, reader: Reader, tmp_path: Path) -> None:
    asked = mmcore.predict(reader, home / "photos", draws=9)
    asked.write(tmp_path, quiet=True)
    want = tree(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    asked.write(tmp_path, quiet=True)
    assert tree(tmp_path) == want


def test_a_bad_first_file_is_passed_over_too(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    one_photo(tmp_path, "b.png")
    asked = mmcore.predict(reader, str(tmp_path / "*.png"), draws=9, on_bad_row="skip")
    assert [bool(row.bad) for row in asked] == [True, False]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"foo": 1}, "foo = 1: expected one of conditioning, guidance, sampler"),
        ({"given": {}}, "given = {}: expected one of"),
        ({"again": "masc"}, "again 'masc', expected one of"),
        ({"columns": {"image": 1}}, "column image=1: expected one of"),
        ({"absent": ["image", "mask", "kind", "age"]}, "everything is left out"),
        ({"interval": 0.9999999}, "at most 0.999"),
    ],
)
def test_what_cannot_be_said_is_told(how: dict[str, Any], text: str, home: Path, reader: Reader) -> None:
    with pytest.raises(RequestError, match=text):
        mmcore.predict(reader, home / "photos", **how)


def test_another_sampler_begins_with_its_own_options(home: Path, reader: Reader) -> None:
    from mmcore.sampling import Multistep

    ddim = Reader(**{field.name: getattr(reader, field.name) for field in Reader.__attrs_attrs__} | {
        "how": {"sampler": "ddim", "eta": 0.5, "steps": 3, "seed": 0}
    })  # fmt: skip
    assert ddim.asking(sampler="2m") == {"sampler": "2m", "eta": None, "steps": 3, "seed": 0, "codes": None}
    for sampler in ("2m", Multistep(steps=2)):
        assert next(iter(mmcore.predict(ddim, home / "photos", draws=1, sampler=sampler))).answers


def test_a_variable_may_be_called_as_a_column_of_ours(tmp_path: Path, registry: Registry) -> None:
    names = ["key", "predicted", "x", "x_low"]
    (tmp_path / "t.csv").write_text(f"{','.join(names)}\n" + "".join(f"{k}.5,{k},{k}.25,{k}\n" for k in range(8)))
    how = tables(tmp_path, source="table", options={"path": str(tmp_path / "t.csv")}, transforms=[], split={})
    how["modalities"] = {name: {"plugin": "scalar"} for name in names}
    train(configured(how, registry=registry), quiet=True)
    (tmp_path / "n.csv").write_text(f"{','.join(names)}\n1.5,,3.25,\n")
    asked = mmcore.predict(tmp_path / "run", tmp_path / "n.csv", draws=9, registry=registry, device="cpu")
    asked.write(tmp_path / "out", quiet=True)
    found = lines(tmp_path / "out")[0]
    assert (found["key"], found["x"], found["key_"], found["predicted_"]) == ("1.5", "3.25", "0", "predicted x_low")
    assert set(found) == {*names, "key_", "predicted_"} | {
        f"{name}_{end}" for name in names for end in ("low", "high")
    } - {"x_low"} | {"x_low_"}
    # So that it is read again: nothing is lacking now, and the values are the same.
    again = list(
        mmcore.predict(tmp_path / "run", tmp_path / "out" / "predictions.csv", draws=9, registry=registry, device="cpu")
    )
    assert not again[0].answers
    assert again[0].given["x_low"] == pytest.approx(float(found["x_low"]))


def test_control_characters_are_not_printed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcore.cli import program

    one_photo(tmp_path / "d\x1b[31m", "a.png")
    (tmp_path / "d\x1b[31m" / "b\x1b[32m.png").write_bytes(b"none")
    line = [
        "mmcore",
        "predict",
        str(home / "run"),
        str(tmp_path / "d\x1b[31m"),
        "-o",
        str(tmp_path / "out"),
        "--skip-bad-rows",
    ]
    monkeypatch.setattr(sys, "argv", [*line, "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert "passed over" in told.out
    assert "\x1b" not in told.out + told.err


def test_vectors_are_made_of_new_data_as_of_the_run_s(tmp_path: Path) -> None:
    class Length:
        """Of a text its length, and one."""

        fingerprint = "length"
        asked = 0

        def __call__(self, values: Any) -> Tensor:
            Length.asked += len(values)
            return torch.tensor([[float(len(value)), 1.0] for value in values])

    registry = mmcore.discover()
    registry.register("embedder", "length", Length)
    words = [f"{'ab' * (k % 4 + 1)}-{k}" for k in range(12)]
    (tmp_path / "t.csv").write_text(
        "word,kind\n" + "".join(f"{word},{('cat', 'dog')[k % 2]}\n" for k, word in enumerate(words))
    )
    how = tables(tmp_path, source="table", options={"path": str(tmp_path / "t.csv")}, transforms=[], split={})
    how["data"]["embed"] = [
        {"variable": "vector", "column": "word", "embedder": "length", "cache": str(tmp_path / "kept")}
    ]
    how["modalities"] = {
        "vector": {"plugin": "clip", "width": 2, "unit_norm": False},
        "kind": how["modalities"]["kind"],
    }
    setup = configured(how, registry=registry)
    embed(registry, setup.config.data, quiet=True)
    train(setup, quiet=True)
    made = Length.asked
    reader = Reader.open(tmp_path / "run", registry=registry, device="cpu")
    # The run's own table has all its vectors; of another they are made now.
    asked = mmcore.predict(reader, tmp_path / "t.csv", draws=9, again=["kind"])
    assert [row.given["vector"].tolist() for row in asked] == [[len(word), 1] for word in words]
    assert Length.asked == made
    (tmp_path / "n.csv").write_text("word,kind\nlonger,\n,cat\n")
    new = mmcore.predict(reader, tmp_path / "n.csv", draws=9)
    assert Length.asked == made + 1
    assert new.said[-1] == "vector: vectors of word by length, as in the run's data"
    first, second = new
    assert (first.given["vector"].tolist(), set(first.answers)) == ([6, 1], {"kind"})
    assert set(second.answers) == {"vector"}


def test_a_file_that_is_gone_is_told(home: Path, reader: Reader, tmp_path: Path) -> None:
    asked = mmcore.predict(reader, home / "photos", draws=9)
    asked.write(tmp_path, quiet=True)
    (tmp_path / "mask" / "00.png").unlink()
    with pytest.raises(RequestError, match=r"mask/00.png is gone; put it back, or predict all anew by --force"):
        asked.write(tmp_path, quiet=True)


def test_photographs_that_lie_otherwise_are_not_passed_over(reader: Reader, tmp_path: Path) -> None:
    """The run read images/ and masks/; these lie on top, beside a table that names some, and are neither lost nor invented."""
    for k in range(4):
        one_photo(tmp_path / "mixed", f"p{k}.png", colour=50 * k)
    (tmp_path / "mixed" / "labels.csv").write_text("file,kind\np1,cat\np2,dog\n")
    found = list(mmcore.predict(reader, tmp_path / "mixed", draws=9))
    assert [row.key for row in found] == ["p0", "p1", "p2", "p3"]
    assert all("image" in row.given and "image" not in row.answers for row in found)
    assert [row.given.get("kind") for row in found] == [None, "cat", "dog", None]


def test_numbered_rows_are_called_by_their_pictures(reader: Reader, tmp_path: Path) -> None:
    for name in ("x", "y"):
        one_photo(tmp_path, f"{name}.png")
    (tmp_path / "t.csv").write_text("image,kind\nx.png,cat\ny.png,\n")
    assert [row.key for row in mmcore.predict(reader, tmp_path / "t.csv", draws=9)] == ["x", "y"]
    (tmp_path / "u.csv").write_text("image,kind\nx.png,cat\nx.png,\n")
    assert [row.key for row in mmcore.predict(reader, tmp_path / "u.csv", draws=9)] == ["0", "1"]


def test_parts_that_training_never_saw_are_told(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcore.cli import program

    Image.new("L", SIZE[::-1], 255).save(tmp_path / "keep.png")
    photo = home / "photos" / "images" / "00.png"
    line = ["mmcore", "sample", str(home / "run"), "-n", "1", "--given", f"image={photo}", "-o", str(tmp_path / "o")]
    monkeypatch.setattr(sys, "argv", [*line, "--where", f"image={tmp_path / 'keep.png'}"])
    with pytest.raises(SystemExit):
        program.main()
    assert "note: this run never saw parts of a value" in capfd.readouterr().err
    monkeypatch.setattr(
        sys, "argv", ["mmcore", "sample", str(home / "run"), "--where", f"image={tmp_path / 'keep.png'}"]
    )
    with pytest.raises(SystemExit):
        program.main()
    assert "--where image without --given image" in capfd.readouterr().err


# ---- what new data may have otherwise than the run's ----


def test_numbers_of_another_unit_are_told(reader: Reader, tmp_path: Path) -> None:
    """Ages in months where the run has years: nothing is refused, and nothing else would show it."""
    (tmp_path / "t.csv").write_text("kind,age\n,372\n,28\ncat,372\n")
    asked = mmcore.predict(reader, tmp_path / "t.csv", draws=1, absent=["image", "mask"])
    assert list(asked.beyond.told()) == []
    assert [row.answers["kind"].value in ("cat", "dog") for row in asked if "kind" in row.answers] == [True] * 2
    # The last row lacks nothing, and is not asked.
    (line,) = asked.beyond.told()
    assert line.startswith(
        "age: 1 of 2 given lie more than 8 deviations from the mean of the training rows, such as 372"
    )
    assert list(ask(reader, 2, given={"age": 28}).beyond.told()) == []
    assert len(list(ask(reader, 2, given={"age": 372}).beyond.told())) == 1


def test_pictures_of_another_range_are_told(reader: Reader) -> None:
    """As floats in 0 … 1 divided once more by 255: nothing is refused, and all would be black."""
    pixels = np.random.default_rng(1).random((24, 36, 3))
    for scale, told in ((1.0, 0), (1 / 255, 1)):
        asked = mmcore.predict(reader, [{"image": pixels * scale}, {"kind": "cat"}], draws=1, absent=["mask", "age"])
        list(asked)
        lines = list(asked.beyond.told())
        assert len(lines) == told
        assert all(line.startswith("image: 1 of 1 given use less than 1% of the range of values") for line in lines)


def test_numbers_of_another_unit_among_parts_are_told(registry: Registry) -> None:
    from mmcore.runs.beyond import Beyond

    parts: dict[str, Modality] = {
        "age": ScalarModality(mean=30.0, std=10.0),
        "kind": LabelModality(classes=2, frequencies=[0.999, 0.001]),
    }
    columns = Mixed("person", parts)
    space = mmcore.Space((8,)) if columns.code == (8,) else None
    model = mmcore.compose([columns], backbone="mlp", space=space, registry=registry)
    beyond = Beyond(model)
    x = columns.packed.join([torch.tensor([109.0, 111.0, 30.0]), torch.tensor([0, 0, 1])])
    x[2, columns.packed.slices[0]] = columns.spec.void
    beyond.see({"person": x}, {"person": torch.tensor([True, True, True])})
    # 7.9 and 8.1 deviations; a missing one is none, and a rare class is no number.
    assert dict(beyond.given) == {"age": 2}
    assert dict(beyond.far) == {"age": 1}


def test_numbers_for_classes_that_have_names_are_told(reader: Reader, tmp_path: Path) -> None:
    """They may count from 1 there, or the other way round."""
    (tmp_path / "t.csv").write_text("kind,age\n0,30\n1,31\n")
    asked = mmcore.predict(reader, tmp_path / "t.csv", draws=1, absent=["image", "mask"])
    assert asked.said[1:] == [
        "note: kind: numbers are taken for the classes in their order, 0 is cat, 1 is dog; write the names if they count otherwise"
    ]
    (tmp_path / "t.csv").write_text("kind,age\ncat,30\ndog,31\n")
    assert len(mmcore.predict(reader, tmp_path / "t.csv", draws=1, absent=["image", "mask"]).said) == 1


@pytest.mark.parametrize("called", ["Age", "AGE", "ages", "age (years)", "age_years"])
def test_columns_that_are_called_nearly_so_are_told_with_the_option(
    called: str, reader: Reader, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"kind,{called},site\ncat,30,x\n")
    said = "\n".join(mmcore.predict(reader, tmp_path / "t.csv", draws=1).said)
    assert f"{called}, site; --column " in said
    import shlex

    choice = shlex.split(said.rpartition("; ")[2])[1]
    name, _, column = choice.partition("=")
    asked = mmcore.predict(reader, tmp_path / "t.csv", draws=1, columns={name: column})
    assert next(iter(asked)).given == {"kind": "cat", "age": 30}
    (tmp_path / "t.csv").write_text(f"{called},site\n30,x\n")
    with pytest.raises(RequestError, match=r"--column '?age=" + called.partition(" ")[0]):
        mmcore.predict(reader, tmp_path / "t.csv", draws=1)


def test_what_the_runs_own_source_leaves_out_of_new_data_is_told(reader: Reader, tmp_path: Path) -> None:
    """As labels whose names meet no picture, which would be predicted as if nobody had written them."""
    for name in ("a", "b"):
        one_photo(tmp_path / "new" / "images", f"{name}.png")
    (tmp_path / "new" / "labels.csv").write_text("file,kind,age\na.png,cat,30\nbb.png,dog,31\n")
    said = mmcore.predict(reader, tmp_path / "new", draws=1).said
    assert "note: labels.csv: 1 of 2 names meet no file, such as 'bb'; 1 of 2 files no name, such as 'b'" in said
