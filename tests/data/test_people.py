"""Files as people make them, with programs of all kinds: the right values, or one line that asks or refuses; never a wrong value without a word."""

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.config import configured
from mmcore.config.guess import configuration

ROWS = 24


def numbers(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


PHOTOS = numbers().integers(0, 256, (ROWS, 16, 16, 3), np.uint8)
BINARY = np.kron(numbers(1).random((ROWS, 4, 4)) > 0.6, np.ones((4, 4), int)).astype(np.uint8)
REGIONS = np.kron(numbers(2).integers(0, 3, (ROWS, 4, 4)), np.ones((4, 4), int)).astype(np.uint8)


def save(at: Path, made: np.ndarray | Image.Image, **how: Any) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.suffix == ".npy":
        np.save(at, np.asarray(made))
    else:
        (made if isinstance(made, Image.Image) else Image.fromarray(made)).save(at, **how)


def photos(home: Path, name: str = "images/{:02}.png", rows: int = ROWS) -> Path:
    for i in range(rows):
        save(home / name.format(i), PHOTOS[i])
    return home


def table(home: Path, lines: Sequence[str], name: str = "rows.csv", encoding: str = "utf-8") -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / name).write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return home / name


def column(home: Path, name: str, cells: Callable[[int], Any], comma: str = ",") -> Path:
    """A table of one column beside the rows' kind."""
    return table(home, [f"{name}{comma}kind", *(f"{cells(i)}{comma}{'ab'[i % 2]}" for i in range(ROWS))])


def asked(path: Path, registry: Registry, assume: Sequence[str] = ()) -> str:
    """The one line of a question or refusal."""
    with pytest.raises(RequestError) as told:
        configuration(path, registry, assume=assume)
    assert "\n" not in str(told.value)
    return str(told.value)


def read(path: Path, registry: Registry, assume: Sequence[str] = ()) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """All values by what ``init`` writes, what it said, and the modalities' options; of a variable that rows lack, the values of the others."""
    guess = configuration(path, registry, assume=assume)
    tables = tomllib.loads(guess.text)
    rows = configured(tables, registry=registry).rows("all")
    batch = rows.take(range(len(rows)))
    values = {name: value[batch.present[:, place]].tolist() for place, (name, value) in enumerate(batch.values.items())}
    return values, "\n".join(guess.said), tables["modalities"]


# ---- numbers in another writing ----


def test_numbers_with_a_decimal_comma_are_asked_and_then_read(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "dose", lambda i: f"{i % 3},5", ";")
    line = asked(path, registry)
    assert "dose" in line
    assert "--assume options.decimal=, (0,5 is 0.5)" in line
    values, _, _ = read(path, registry, ["options.decimal=,"])
    assert values["dose"] == [i % 3 + 0.5 for i in range(ROWS)]


def test_dots_among_decimal_commas_part_thousands(tmp_path: Path, registry: Registry) -> None:
    """As a spreadsheet writes them in half of Europe; one in a thousand, and without a word, they would be."""
    lines = ["price;weight", *(f"{1 + i}.{100 + i};{i},5" for i in range(ROWS))]
    path = table(tmp_path, lines)
    assert "options.decimal=," in asked(path, registry)
    values, said, _ = read(path, registry, ["options.decimal=,"])
    assert values["price"] == [1000 * (1 + i) + 100 + i for i in range(ROWS)]
    assert values["weight"] == [i + 0.5 for i in range(ROWS)]
    assert "1.100" in said


@pytest.mark.parametrize(
    ("name", "cell", "some"),
    [
        ("price", lambda i: f'"{1234 + 997 * (i % 12):,}"', "1,234"),
        ("humidity", lambda i: f"{40 + i % 12}%", "40%"),
        ("price", lambda i: f"${10 + i % 6}.50", "$10.50"),
        ("Patient Age", lambda i: f"{30 + i % 9:03}Y", "030Y"),
        ("thickness", lambda i: f"{5 + i % 4} mm", "5 mm"),
    ],
)
def test_numbers_with_a_sign_or_a_unit_are_no_classes_without_a_word(
    name: str, cell: Callable[[int], str], some: str, tmp_path: Path, registry: Registry
) -> None:
    path = column(tmp_path, name, cell)
    line = asked(path, registry)
    assert f"{name} has numbers in another writing, such as {some!r}" in line
    assert f"{name}=label" in line
    values, _, _ = read(path, registry, [f"{name}=none"])
    assert list(values) == ["kind"]


@pytest.mark.parametrize("word", ["unknown", ".", "#DIV/0!", "N.A.", "missing", "#VALUE!"])
def test_what_says_that_there_is_none_among_numbers_is_missing(word: str, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "age", lambda i: word if i % 6 == 5 else 30 + i % 8)
    values, said, _ = read(path, registry)
    assert values["age"] == [30 + i % 8 for i in range(ROWS) if i % 6 != 5]
    assert f"4 cells such as {word} among numbers" in said


def test_a_word_among_amounts_is_asked(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "age", lambda i: "adult" if i % 6 == 5 else 30 + i % 8)
    line = asked(path, registry)
    assert "age has numbers in 20 of 24 rows, and 'adult' (4 rows)" in line
    values, _, _ = read(path, registry, ["age.missing=adult"])
    assert values["age"] == [30 + i % 8 for i in range(ROWS) if i % 6 != 5]
    values, _, options = read(path, registry, ["age=label"])
    assert options["age"]["names"] == [str(30 + k) for k in range(8)] + ["adult"]


def test_days_are_no_classes(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "taken", lambda i: f"2024-0{1 + i % 9}-11")
    values, said, _ = read(path, registry)
    assert list(values) == ["kind"]
    assert "taken: days or times such as '2024-01-11', 9 different ones; --assume taken=label" in said
    assert len(set(read(path, registry, ["taken=label"])[0]["taken"])) == 9


@pytest.mark.parametrize(
    "text", ["0 0.5 0.{0} 0.1 0.1\n1 0.2 0.{0} 0.1 0.2", "[0.{0} -1.5e-3 2. 7]", "12 {0} 255 0 17"]
)
def test_rows_of_numbers_are_neither_classes_nor_prose(text: str, tmp_path: Path, registry: Registry) -> None:
    """YOLO's boxes, numpy's own print of a vector, and FER2013's pixels."""
    photos(tmp_path)
    (tmp_path / "labels").mkdir()
    for i in range(ROWS):
        (tmp_path / "labels" / f"{i:02}.txt").write_text(text.format(1 + i % 3))
    values, said, _ = read(tmp_path, registry)
    assert list(values) == ["image"]
    assert "label: rows of numbers written as text" in said


# ---- words ----


@pytest.mark.parametrize("two", ["Cat", "cat ", "CAT", "ca\u0301t"])
def test_names_that_differ_in_writing_alone_are_asked(two: str, tmp_path: Path, registry: Registry) -> None:
    one = "c\u00e1t" if "\u0301" in two else "cat"
    rows = [json.dumps({"species": [one, two, "dog"][i % 3], "n": i % 2}) for i in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    line = asked(tmp_path / "rows.jsonl", registry)
    assert "differ in case, spaces or the form of letters alone" in line
    assert len(set(read(tmp_path / "rows.jsonl", registry, ["species=label"])[0]["species"])) == 3


def test_minus_one_and_one_are_two_classes(tmp_path: Path, registry: Registry) -> None:
    """As CelebA has its forty attributes."""
    path = column(tmp_path, "Smiling", lambda i: -1 if i % 3 else 1)
    values, said, options = read(path, registry)
    assert values["Smiling"] == [int(i % 3 == 0) for i in range(ROWS)]
    assert options["Smiling"]["names"] == ["-1", "1"]
    assert "were -1 missing, one class would be left" in said


@pytest.mark.parametrize("name", ["Unnamed: 0", "level_0", "Unnamed: 0.1"])
def test_an_index_that_pandas_wrote_is_no_class(name: str, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, name, lambda i: i % 12)
    values, said, _ = read(path, registry)
    assert list(values) == ["kind"]
    assert f"{name}: the index of a pandas table by its name" in said


def test_a_fold_is_no_class(tmp_path: Path, registry: Registry) -> None:
    values, said, _ = read(column(tmp_path, "fold", lambda i: i % 5), registry)
    assert list(values) == ["kind"]
    assert "--assume fold=label" in said


@pytest.mark.parametrize("name", ["fold change", "level_1"])
def test_what_is_only_called_alike_is_a_number(name: str, tmp_path: Path, registry: Registry) -> None:
    values, _, _ = read(column(tmp_path, name, lambda i: i / 4 - 2), registry)
    assert next(iter(values.values())) == [i / 4 - 2 for i in range(ROWS)]


def test_letters_large_and_small_are_letters(tmp_path: Path, registry: Registry) -> None:
    values, _, options = read(column(tmp_path, "letter", lambda i: "aAbB"[i % 4]), registry)
    assert options["letter"]["names"] == ["A", "B", "a", "b"]
    assert values["letter"] == [[2, 0, 3, 1][i % 4] for i in range(ROWS)]


def test_a_name_that_begins_with_a_hash_is_a_name(tmp_path: Path, registry: Registry) -> None:
    """As VGG's annotator writes its first line."""
    photos(tmp_path)
    path = table(tmp_path, ["#filename,kind", *(f"images/{i:02}.png,{'ab'[i % 2]}" for i in range(ROWS))])
    values, _, _ = read(path, registry)
    assert values["kind"] == [i % 2 for i in range(ROWS)]
    assert len(values["filename"]) == ROWS


def check_parts(text: str, registry: Registry) -> None:
    """A column says the parts of 24 rows, and is no modality."""
    tables = tomllib.loads(text)
    assert list(tables["modalities"]) == ["kind"]
    setup = configured(tables, registry=registry)
    assert [len(setup.rows(part)) for part in ("train", "validation", "test")] == [12, 6, 6]


@pytest.mark.parametrize("name", ["set", "Subset", "phase"])
def test_a_column_of_parts_is_the_split_whatever_it_is_called(name: str, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, name, lambda i: ["train", "train", "val", "test"][i % 4])
    check_parts(configuration(path, registry).text, registry)


@pytest.mark.parametrize("shift", range(4))
def test_lists_of_indices_are_several_labels(shift: int, tmp_path: Path, registry: Registry) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    # Which one is looked at first is by chance: all of one, none, or several.
    lists = [[2, 0, 1][: (i + shift) % 4] for i in range(ROWS)]
    pq.write_table(pa.table({"ids": lists, "k": [i % 2 for i in range(ROWS)]}), tmp_path / "a.parquet")
    rows = "\n".join(json.dumps({"ids": one, "k": i % 2}) for i, one in enumerate(lists))
    (tmp_path / "a.jsonl").write_text(rows)
    for name in ("a.parquet", "a.jsonl"):
        values, said, _ = read(tmp_path / name, registry)
        assert values["ids"] == [[k in one for k in range(3)] for one in lists]
        assert "cannot be read" not in said


# ---- class maps ----


def masked(home: Path, mask: Callable[[int], np.ndarray | Image.Image], name: str = "masks/{:02}.png") -> Path:
    for i in range(ROWS):
        save(home / name.format(i), mask(i))
    return photos(home)


def things(i: int, dtype: Any = np.uint16) -> np.ndarray:
    """One to nine things, numbered in each map anew."""
    out = np.zeros((16, 16), dtype)
    for k in range(1 + i % 9):
        out[k] = k + 1
    return out


def test_numbers_of_things_are_no_classes(tmp_path: Path, registry: Registry) -> None:
    path = masked(tmp_path, things)
    line = asked(path, registry)
    assert "mask has the numbers 1 … n in each map, with n from 1 to 9: they may tell things apart" in line
    assert "--assume mask.classes=10" in line
    values, _, _ = read(path, registry, ["mask.threshold=1"])
    assert np.array_equal(values["mask"], [things(i) > 0 for i in range(ROWS)])
    values, _, _ = read(path, registry, ["mask.classes=10"])
    assert np.array_equal(values["mask"], [things(i) for i in range(ROWS)])


def test_a_map_of_all_values_is_asked_and_each_answer_is_one(tmp_path: Path, registry: Registry) -> None:
    """As of heat, of 0 … 255: that 255 may be void, each answer but one asked again, with 256 values to type."""

    def mask(i: int) -> np.ndarray:
        steps = numbers(i).integers(0, 256, (4, 4), np.uint8)
        return np.asarray(Image.fromarray(steps).resize((16, 16), Image.Resampling.BICUBIC))

    path = masked(tmp_path, mask)
    line = asked(path, registry)
    assert len(line) < 500
    heat = np.stack([mask(i) for i in range(ROWS)])
    right = {"mask.classes=256": heat, "mask.threshold=128": heat >= 128, "mask.void=255": heat}
    for choice, values in right.items():
        assert choice in line
        assert np.array_equal(read(path, registry, [choice])[0]["mask"], values)
    assert "--assume mask=image (pictures)" in line
    assert np.allclose(read(path, registry, ["mask=image"])[0]["mask"], heat[:, None] / 127.5 - 1, atol=1e-6)


def test_maps_called_instances_are_asked(tmp_path: Path, registry: Registry) -> None:
    path = masked(tmp_path, lambda i: things(i % 2, np.uint8), "instance_masks/{:02}.png")
    assert "instance_mask.threshold=1" in asked(path, registry)


def test_many_numbers_of_things_are_things_or_not(tmp_path: Path, registry: Registry) -> None:
    ids = numbers(5).permutation(np.arange(1, 1 + ROWS * 16)).reshape(ROWS, 16)
    path = masked(tmp_path, lambda i: (BINARY[i] * ids[i][:, None]).astype(np.uint16))
    assert "--assume mask.threshold=1 (two classes, 1 from that value on" in asked(path, registry)
    values, _, _ = read(path, registry, ["mask.threshold=1"])
    assert np.array_equal(values["mask"], BINARY)


def test_colours_of_things_are_no_classes(tmp_path: Path, registry: Registry) -> None:
    rng = numbers(6)

    def mask(i: int) -> np.ndarray:
        out = np.zeros((16, 16, 3), np.uint8)
        for k in range(1 + i % 5):
            out[3 * k : 3 * k + 2] = rng.integers(0, 256, 3)
        return out

    assert "of 71 colours 70 are in one map alone" in asked(masked(tmp_path, mask), registry)


def resized(i: int, values: Sequence[int]) -> np.ndarray:
    """A class map as a program that mixes neighbours makes it smaller."""
    whole = Image.fromarray(np.asarray(values, np.uint8)[np.kron(REGIONS[i], np.ones((4, 4), int))])
    return np.asarray(whole.rotate(20).resize((40, 40), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("values", [(0, 100, 200), (0, 10, 20), (0, 20, 255)])
def test_values_that_only_edges_have_are_no_classes(values: Sequence[int], tmp_path: Path, registry: Registry) -> None:
    path = masked(tmp_path, lambda i: resized(i, values))
    line = asked(path, registry)
    assert "are hardly anywhere but on edges" in line
    assert f"between {', '.join(map(str, values))}" in line


@pytest.mark.parametrize("colours", [(0x000000, 0xFF0000), (0x102030, 0x00FF80, 0xFFFFFF)])
def test_colours_that_only_edges_have_are_no_classes(
    colours: Sequence[int], tmp_path: Path, registry: Registry
) -> None:
    """As drawing programs smooth what they paint: each shade would be a class."""

    def mask(i: int) -> np.ndarray:
        channels = [[c >> shift & 255 for c in colours] for shift in (16, 8, 0)]
        kinds = (np.kron(REGIONS[i], np.ones((8, 8), int)) % len(colours)).astype(int)
        whole = Image.fromarray(np.dstack([np.asarray(c, np.uint8)[kinds] for c in channels]))
        return np.asarray(whole.rotate(7, Image.Resampling.BILINEAR, fillcolor=tuple(c[0] for c in channels)))

    for i in range(2):
        save(tmp_path / f"masks/{i:02}.png", mask(i))
    line = asked(tmp_path, registry)
    assert "colours are hardly anywhere but on edges" in line
    assert f"between {', '.join(f'#{c:06x}' for c in sorted(colours))} they are no classes" in line


def test_blurred_edges_of_two_values_are_cut_halfway(tmp_path: Path, registry: Registry) -> None:
    for i in range(ROWS):
        save(tmp_path / f"masks/{i}.png", resized(i, (0, 0, 200))[:32, :32])
    values, said, _ = read(tmp_path, registry)
    assert "mask: mask, two classes, 1 from 100 on" in said
    assert np.array_equal(values["mask"], [resized(i, (0, 0, 200))[:32, :32] >= 100 for i in range(ROWS)])


def test_the_noise_of_jpeg_in_a_png_is_two_classes(tmp_path: Path, registry: Registry) -> None:
    def mask(i: int) -> Image.Image:
        import io

        file = io.BytesIO()
        Image.fromarray(BINARY[i] * 255).save(file, "jpeg", quality=50)
        return Image.open(file).convert("RGB")

    values, said, _ = read(masked(tmp_path, mask), registry)
    assert np.array_equal(values["mask"], BINARY)
    assert "noise about 0 and 255, as JPEG leaves it" in said


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "?", "f4"])
def test_one_hot_maps_are_left_out_with_the_mend(last: bool, dtype: str, tmp_path: Path, registry: Registry) -> None:
    """As colours or bits their classes would be out of order, or the training would stop at its first row."""

    def mask(i: int) -> np.ndarray:
        hot = np.eye(3, dtype=dtype)[REGIONS[i]]
        return hot if last else np.moveaxis(hot, 2, 0)

    values, said, _ = read(masked(tmp_path, mask, "masks/{:02}.npy"), registry)
    assert list(values) == ["image"]
    assert f"one-hot maps of 3 classes; save the classes' numbers, x.argmax({2 if last else 0})" in said
    assert "sizes differ" not in said


@pytest.mark.parametrize(
    ("mask", "values", "options"),
    [
        (lambda i: np.dstack([REGIONS[i] * 4, REGIONS[i] * 0, REGIONS[i] * 0]), REGIONS, "colours"),  # CARLA's red
        (lambda i: (1 - BINARY[i]) * 255, 1 - BINARY, "values"),
        (lambda i: BINARY[i] * 255 if i % 2 else np.dstack([BINARY[i] * 255] * 3), BINARY, "values"),
        (lambda i: BINARY[i] * 255 if i % 4 == 0 else BINARY[i] * 0, BINARY * (np.arange(ROWS) % 4 == 0)[:, None, None], "values"),
        (lambda i: np.dstack([BINARY[i] * 255] * 3 + [BINARY[i] * 0 + 255]), BINARY, "values"),
    ],
)  # fmt: skip
def test_other_class_maps_are_what_they_are(
    mask: Callable[[int], np.ndarray], values: np.ndarray, options: str, tmp_path: Path, registry: Registry
) -> None:
    found, _, modalities = read(masked(tmp_path, mask), registry)
    assert np.array_equal(found["mask"], values)
    assert options in modalities["mask"]


def test_classes_that_come_one_after_the_other_are_classes(tmp_path: Path, registry: Registry) -> None:
    """Three nested ones, as background, cell and nucleus."""
    found, _, _ = read(masked(tmp_path, lambda i: np.minimum(things(i, np.uint8), 2)), registry)
    assert np.array_equal(found["mask"], [np.minimum(things(i), 2) for i in range(ROWS)])


# ---- sizes ----


@pytest.mark.parametrize("times", [2, 3])
def test_masks_of_another_size_are_resized_by_themselves(times: int, tmp_path: Path, registry: Registry) -> None:
    path = masked(tmp_path, lambda i: np.kron(BINARY[i] * 255, np.ones((times, times), np.uint8)))
    values, said, _ = read(path, registry)
    assert np.array_equal(values["mask"], BINARY)
    assert np.allclose(values["image"], np.moveaxis(PHOTOS, 3, 1) / 127.5 - 1, atol=1e-6)
    assert "sizes differ inside 24 rows, but not the ratio of the sides: each variable is resized by itself" in said


def test_masks_that_lie_on_their_side_are_asked(tmp_path: Path, registry: Registry) -> None:
    for i in range(ROWS):
        save(tmp_path / f"images/{i}.png", PHOTOS[i][:, :12])
        save(tmp_path / f"masks/{i}.png", np.ascontiguousarray(BINARY[i][:, :12].T) * 255)
    line = asked(tmp_path, registry)
    assert "other ratios in all of 24 rows" in line
    assert "image of 16 × 12, mask of 12 × 16" in line
    assert list(read(tmp_path, registry, ["mask=none"])[0]) == ["image"]


# ---- folders, and what lies in them ----


def test_what_lies_beside_and_nothing_reads_is_told(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for name in ("rows.json", "labels.xlsx", "annotations.xml", "masks.zip", "list.txt"):
        (tmp_path / name).write_bytes(b"x")
    _, said, _ = read(tmp_path, registry)
    assert (
        "left out: annotations.xml, labels.xlsx (save it as CSV), list.txt (if it is a table, save it as CSV with a line of names), masks.zip (unpack it), "
        "rows.json (write an object in each line" in said
    )


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("data.zip", "unpack it"), ("data.tar.gz", "unpack it"), ("rows.xlsx", "save it as CSV"), ("rows.json", "rows.jsonl"),
        ("images.npy", "numpy.savez"), ("data.mat", "numpy.savez"), ("a.heic", "JPEG or PNG"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_not_read_is_told_with_the_mend(
    name: str, mend: str, inside: bool, tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert mend in asked(tmp_path if inside else tmp_path / name, registry)


@pytest.mark.parametrize("parts", [(), ("train", "val")])
def test_classes_inside_of_images_are_asked(parts: Sequence[str], tmp_path: Path, registry: Registry) -> None:
    """``images/cat`` and ``images/train/cat``: without a word there would be no label."""
    for part in parts or ("",):
        for k, kind in enumerate(("cat", "dog", "owl")):
            for i in range(4):
                save(tmp_path / "images" / part / kind / f"{kind}{i}.png", PHOTOS[4 * k + i])
    line = asked(tmp_path, registry)
    assert "cat, dog, owl" in line
    assert "--assume layout=classes or --assume layout=modalities" in line
    values, _, _ = read(tmp_path, registry, ["layout=classes"])
    assert sorted(values["label"]) == sorted([0, 1, 2] * 4 * max(1, len(parts)))
    assert list(read(tmp_path, registry, ["layout=modalities"])[0]) == ["image"]


@pytest.mark.parametrize("names", ["{0}{1}.png", "{0}/{0}{1}.png"])
def test_folders_of_classes_beside_a_table_are_asked(names: str, tmp_path: Path, registry: Registry) -> None:
    """Numbered alike, a cat and a dog were one row of two pictures."""
    for kind in ("cat", "dog"):
        for i in range(8):
            save(tmp_path / kind / f"{kind}{i}.png", PHOTOS[i])
    cells = [f"{names.format(kind, i)},{i}.5" for kind in ("cat", "dog") for i in range(8)]
    for lines in (["file,age", *cells], ["id,age", *(f"{i},{i}.5" for i in range(8))]):
        table(tmp_path, lines)
        line = asked(tmp_path, registry)
        assert "the folders cat and dog lie beside rows.csv, and no file of one is called as another's" in line
        assert "mmcore init rows.csv reads the table by itself" in line
        values, said, _ = read(tmp_path, registry, ["layout=classes"])
        assert values["label"] == [0] * 8 + [1] * 8
        assert "left out: rows.csv" in said


def test_a_folder_for_each_image_is_no_class(tmp_path: Path, registry: Registry) -> None:
    """As the Data Science Bowl of 2018 has its cells."""
    for i in range(6):
        save(tmp_path / f"id{i}" / "images" / f"id{i}.png", PHOTOS[i])
        for k in range(2):
            save(tmp_path / f"id{i}" / "masks" / f"m{i}{k}.png", BINARY[i] * 255)
    line = asked(tmp_path, registry)
    assert "each of the 6 folders (id0, id1, id2, id3, id4 …) holds images and masks" in line
    assert "expected images/ and masks/ with a file for each row" in line


def test_folders_whose_files_are_called_as_they_are_may_be_classes(tmp_path: Path, registry: Registry) -> None:
    for kind in ("animal", "plant"):
        for i in range(4):
            save(tmp_path / kind / "x" / f"{kind}x{i}.png", PHOTOS[i])
    assert "layout=classes" in asked(tmp_path, registry)


def test_masks_beside_images_in_parts_are_masks(tmp_path: Path, registry: Registry) -> None:
    """As Roboflow exports a semantic segmentation."""
    for part in ("train", "valid"):
        for i in range(ROWS // 2):
            save(tmp_path / part / f"{part}{i:02}.jpg", PHOTOS[i], quality=95)
            save(tmp_path / part / f"{part}{i:02}_mask.png", REGIONS[i])
        table(tmp_path / part, ["Pixel Value, Class", "0, background", "1, cat", "2, dog"], "_classes.csv")
    values, _, _ = read(tmp_path, registry)
    assert np.array_equal(values["mask"], np.concatenate([REGIONS[: ROWS // 2]] * 2))
    assert len(values["image"]) == ROWS


def test_annotations_of_boxes_are_left_out_with_a_word(tmp_path: Path, registry: Registry) -> None:
    """Roboflow's COCO, and LabelImg's XML beside the images."""
    for part in ("train", "valid", "test"):
        photos(tmp_path / "coco", f"{part}/{part}{{:02}}.jpg", 4)
        (tmp_path / "coco" / part / "_annotations.coco.json").write_text("{}")
    values, said, _ = read(tmp_path / "coco", registry)
    assert (list(values), len(values["image"])) == (["image"], 12)
    assert "_annotations.coco.json" in said
    photos(tmp_path / "img")
    for i in range(ROWS):
        (tmp_path / "img" / "images" / f"{i:02}.xml").write_text("<annotation/>")
    values, said, _ = read(tmp_path / "img", registry)
    assert (list(values), len(values["image"])) == (["image"], ROWS)
    assert "24 files that are no pictures or arrays are left out, such as 00.xml" in said


def test_one_of_several_masks_of_an_image_is_not_taken_without_a_word(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for i in range(ROWS):
        for k in range(1 + i % 3):
            save(tmp_path / "masks" / f"{i:02}_{k}.png", BINARY[i] * 255)
    assert "found 0 of 48 names of mask" in asked(tmp_path, registry) or "found 0 of 24 names" in asked(
        tmp_path, registry
    )


def test_one_number_after_every_name_is_no_row_of_its_own(tmp_path: Path, registry: Registry) -> None:
    """As nnU-Net calls its images, of one channel."""
    for i in range(ROWS):
        save(tmp_path / "imagesTr" / f"case_{i:03}_0000.png", PHOTOS[i])
        save(tmp_path / "labelsTr" / f"case_{i:03}.png", REGIONS[i])
    values, said, _ = read(tmp_path, registry)
    mask = next(name for name in values if "label" in name)
    assert np.array_equal(values[mask], REGIONS)
    assert "'_0000'" in said


def test_links_that_lead_nowhere_are_told(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for i in range(5):
        os.symlink("/nowhere/x.png", tmp_path / "images" / f"z{i}.png")
    values, said, _ = read(tmp_path, registry)
    assert len(values["image"]) == ROWS
    assert "5 links lead nowhere and are left out, such as z0.png" in said


def test_names_of_a_table_that_meet_no_file_are_told(tmp_path: Path, registry: Registry) -> None:
    """A spreadsheet took 00 … 09 for 0 … 9, so that ten labels have no image, and ten images no label."""
    photos(tmp_path)
    table(tmp_path, ["id,label", *(f"{i},{'ab'[i % 2]}" for i in range(ROWS))])
    line = asked(tmp_path, registry)
    assert "10 of 24 names of rows.csv are numbers of files without their zeros, such as '0' of '00'" in line
    table(tmp_path, ["id,label", *(f"{i:02},{'ab'[i % 2]}" for i in range(4, ROWS)), "gone,a"])
    _, said, _ = read(tmp_path, registry)
    assert "rows.csv: 1 of 21 names meet no file, such as 'gone'; 4 of 24 files no name, such as '00'" in said


# ---- tables ----


@pytest.mark.parametrize("first", ["# made by me, 2024", "#made with a program"])
def test_a_comment_above_the_names_is_no_name(first: str, tmp_path: Path, registry: Registry) -> None:
    path = table(tmp_path, [first, "n,label", *(f"{i},{'ab'[i % 2]}" for i in range(ROWS))])
    assert "begins with #" in asked(path, registry)


def test_a_title_above_the_names_is_no_name(tmp_path: Path, registry: Registry) -> None:
    path = table(tmp_path, ["My export", "", "n,label", *(f"{i},{'ab'[i % 2]}" for i in range(ROWS))])
    line = asked(path, registry)
    assert "found 1 cell in the first line" in line
    assert "2 in all others" in line


@pytest.mark.parametrize("form", ["folder", "table", "imagefolder"])
def test_tables_of_every_source_are_read_as_declared(form: str, tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    names = {"folder": "{:02}", "table": "images/{:02}.png", "imagefolder": "images/{:02}.png"}[form]
    head = {"folder": "id", "table": "image", "imagefolder": "file_name"}[form]
    lines = [f"{head};Größe;stadt", *(f"{names.format(i)};{i},5;{['Köln', 'Bonn'][i % 2]}" for i in range(ROWS))]
    path = table(tmp_path, lines, "metadata.csv" if form == "imagefolder" else "rows.csv", "cp1252")
    path = path if form == "table" else tmp_path
    assert "--assume options.encoding=cp1252" in asked(path, registry)
    assert "--assume options.decimal=," in asked(path, registry, ["options.encoding=cp1252"])
    values, _, modalities = read(path, registry, ["options.encoding=cp1252", "options.decimal=,"])
    size = next(name for name in values if name not in ("image", "stadt"))
    assert values[size] == [i + 0.5 for i in range(ROWS)]
    assert modalities["stadt"]["names"] == ["Bonn", "Köln"]


def test_addresses_of_the_web_are_not_fetched(tmp_path: Path, registry: Registry) -> None:
    path = table(tmp_path, ["image,label", *(f"https://example.org/{i}.jpg,{i % 2}" for i in range(ROWS))])
    assert "nothing is fetched from the web" in asked(path, registry)


def test_paths_of_another_machine_are_told_with_the_one_that_is_here(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for start in ("C:\\Users\\me\\images\\", "/data/upload/1/"):
        path = table(tmp_path, ["image,label", *(f"{start}{i:02}.png,{i % 2}" for i in range(ROWS))])
        assert "is here as images/" in asked(path, registry)
    path = table(tmp_path, ["image,label", *(f"{i:02}.png,{i % 2}" for i in range(ROWS))])
    assert f"--assume options.root={tmp_path / 'images'} begins there" in asked(path, registry)
    values, _, _ = read(path, registry, [f"options.root={tmp_path / 'images'}"])
    assert np.allclose(values["image"], np.moveaxis(PHOTOS, 3, 1) / 127.5 - 1, atol=1e-6)


def test_rows_that_share_a_file_are_held_out_together(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    lines = ["image,label", *(f"images/{i // 2:02}.png,{'ab'[i // 2 % 2]}" for i in range(2 * ROWS))]
    guess = configuration(table(tmp_path, lines), registry)
    assert "48 of 48 rows name a file of image that another row names too" in "\n".join(guess.said)
    setup = configured(tomllib.loads(guess.text), registry=registry)
    parts = [
        {setup.rows(part).source[i]["image"] for i in range(len(setup.rows(part)))}
        for part in ("train", "validation", "test")
    ]
    assert all(parts)
    assert sum(map(len, parts)) == ROWS


def test_what_cannot_be_read_is_counted_once(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for name in "xyz":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"")
    said = "\n".join(configuration(tmp_path, registry).said)
    assert said.count("x, image:") == 1
    assert "more" not in said


def test_lists_in_pythons_writing_are_lists(tmp_path: Path, registry: Registry) -> None:
    """As pandas writes a column of lists."""
    cells = ["['a', 'b']", '["b"]', "[]", "['c', \"d's\"]"]
    path = column(tmp_path, "tags", lambda i: cells[i % 4], ";")
    values, _, options = read(path, registry)
    assert options["tags"]["names"] == ["a", "b", "c", "d's"]
    right = [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert np.array_equal(values["tags"], [right[i % 4] for i in range(ROWS)])


def test_many_numbered_columns_are_told_in_one_line(tmp_path: Path, registry: Registry) -> None:
    """MNIST as a table."""
    rng = numbers(3)
    head = ",".join(["label", *(f"pixel{k}" for k in range(64))])
    lines = [head, *(",".join(map(str, [i % 3, *rng.integers(0, 256, 64)])) for i in range(ROWS))]
    values, said, _ = read(table(tmp_path, lines), registry)
    assert list(values) == ["label"]
    assert "pixel0 … pixel63, 64 columns: " in said
    assert "pixel7" not in said


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "it is HEIC"),
        (b"<!DOCTYPE html><html>404</html>", "a page of the web"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "it is empty"),
    ],
)
def test_a_picture_that_is_none_is_told_by_what_it_is(
    data: bytes, words: str, tmp_path: Path, registry: Registry
) -> None:
    photos(tmp_path)
    (tmp_path / "images" / "x.jpg").write_bytes(data)
    assert words in "\n".join(configuration(tmp_path, registry).said)


def test_what_is_typed_is_quoted_where_a_shell_needs_it(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "Patient's age (years)", lambda i: f"{30 + i % 8}y")
    line = asked(path, registry)
    choice = line.partition("--assume ")[2].partition(" (8 classes)")[0]
    import shlex

    assert len(shlex.split(choice)) == 1
    assert len(read(path, registry, shlex.split(choice))[0]) == 2


def test_values_that_are_said_and_leave_some_out_are_refused(tmp_path: Path, registry: Registry) -> None:
    path = masked(tmp_path, lambda i: BINARY[i] * 255)
    line = asked(path, registry, ["mask.values=0,1"])
    assert f"mask also has 255 ({BINARY.mean():.1%})" in line
    values, _, _ = read(path, registry, ["mask.values=0,1", "mask.ignore=255"])
    assert np.array_equal(np.asarray(values["mask"]) < 0, BINARY)


@pytest.mark.parametrize("place", ["images/{0}/{0}{1:02}.png", "{0}/images/{0}{1:02}.png"])
def test_a_table_beside_parts_that_names_none_of_their_files_is_refused(
    place: str, tmp_path: Path, registry: Registry
) -> None:
    for part in ("train", "val"):
        for i in range(ROWS // 2):
            save(tmp_path / place.format(part, i), PHOTOS[i])
    table(tmp_path, ["id,label", *(f"img{i:02},{'ab'[i % 2]}" for i in range(ROWS))])
    assert "found 0 of 24 names of rows.csv among the files" in asked(tmp_path, registry)
    words = {"train": "x", "val": "y"}
    lines = [f"{part}{i:02},{words[part]}" for part in words for i in range(ROWS // 2)]
    table(tmp_path, ["id,label", *lines, "gone,x"])
    values, said, _ = read(tmp_path, registry)
    assert len(values["label"]) == ROWS
    assert "rows.csv: 1 of 25 lines name no file of any part, and are left out" in said


# ---- parts that are said twice ----


def parted(home: Path, parts: Sequence[str], words: Callable[[str, int], str]) -> Path:
    """Pictures in the folders of parts, beside a table that says a part of each too."""
    lines = ["file,label,split"]
    for part in parts:
        for i in range(8):
            save(home / part / "images" / f"{part}{i}.png", PHOTOS[i])
            lines.append(f"{part}{i}.png,{'ab'[i % 2]},{words(part, i)}")
    table(home, lines, "labels.csv")
    return home


def sizes(path: Path, registry: Registry, assume: Sequence[str] = ()) -> list[list[str]]:
    """The files of each part by what ``init`` writes."""
    setup = configured(tomllib.loads(configuration(path, registry, assume=assume).text), registry=registry)
    rows = [setup.rows(part).source for part in ("train", "validation", "test")]
    return [[some[i]["image"].stem for i in range(len(some))] for some in rows]


def named(part: str, some: Iterable[int] = range(8)) -> list[str]:
    return [f"{part}{i}" for i in some]


def test_folders_of_parts_and_a_column_that_says_the_same_lose_no_row(tmp_path: Path, registry: Registry) -> None:
    """Held out twice, the parts had no row."""
    path = parted(tmp_path, ("train", "val", "test"), lambda part, i: part)
    assert sizes(path, registry) == [named("train"), named("val"), named("test")]


def test_a_column_may_hold_out_of_training_rows_what_no_folder_does(tmp_path: Path, registry: Registry) -> None:
    path = parted(tmp_path, ("train", "test"), lambda part, i: "val" if part == "train" and i % 4 == 0 else part)
    assert sizes(path, registry) == [named("train", (1, 2, 3, 5, 6, 7)), named("train", (0, 4)), named("test")]


def test_a_column_that_says_other_parts_than_the_folders_is_asked(tmp_path: Path, registry: Registry) -> None:
    order = {"train": "train", "val": "test", "test": "val"}
    path = parted(tmp_path, tuple(order), lambda part, i: order[part] if i < 2 else part)
    line = asked(path, registry)
    assert "split says another part than the data's own folders or files in 4 of 24 rows" in line
    assert "--assume options.part=all (split counts); --assume split=none (the folders or files count)" in line
    assert sizes(path, registry, ["split=none"]) == [named("train"), named("val"), named("test")]
    train, validation, test = sizes(path, registry, ["options.part=all"])
    assert sorted(train) == named("train")
    assert sorted(validation) == [*named("test", (0, 1)), *named("val", range(2, 8))]
    assert sorted(test) == [*named("test", range(2, 8)), *named("val", (0, 1))]


def held_out(path: Path, registry: Registry, assume: Sequence[str]) -> list[list[int]]:
    """The numbers of the rows of each part that there is, of a table whose column ``n`` counts them."""
    setup = configured(tomllib.loads(configuration(path, registry, assume=assume).text), registry=registry)
    rows = [setup.rows(part).source for part in ("train", "test")]
    return [[int(some[i]["n"]) for i in range(len(some))] for some in rows]


@pytest.mark.parametrize(("other", "shown"), [("unused", "'unused' in 6 rows"), ("", "nothing in 6 rows")])
def test_a_column_of_parts_and_other_words_is_asked(other: str, shown: str, tmp_path: Path, registry: Registry) -> None:
    """As classes of a label, the rows of its test part would be trained on."""
    words = ["train", "test", other, "train"]
    path = table(tmp_path, ["n,split", *(f"{i}.0,{words[i % 4]}" for i in range(ROWS))])
    line = asked(path, registry, ["n=scalar"])
    assert f"split has names of parts, and {shown}, which names none" in line
    train, test = held_out(path, registry, ["n=scalar", "split=split"])
    assert test == list(range(1, ROWS, 4))
    assert len(train) == ROWS - len(test)
    assert set(read(path, registry, ["n=scalar", "split=none"])[0]) == {"n"}


@pytest.mark.parametrize(
    ("name", "yes", "no"), [("is_train", 1, 0), ("is_training_image", "True", "False"), ("is_test", "yes", "no")]
)
def test_a_column_that_says_whether_a_row_is_of_a_part_is_asked(
    name: str, yes: Any, no: Any, tmp_path: Path, registry: Registry
) -> None:
    path = table(tmp_path, [f"n,{name}", *(f"{i}.0,{yes if i % 4 else no}" for i in range(ROWS))])
    line = asked(path, registry, ["n=scalar"])
    assert f"{name} has two values, and is called as what says which rows are of a part" in line
    rare, often = list(range(0, ROWS, 4)), [i for i in range(ROWS) if i % 4]
    right = [rare, often] if name == "is_test" else [often, rare]
    assert held_out(path, registry, ["n=scalar", f"{name}=split"]) == right
    assert len(read(path, registry, ["n=scalar", f"{name}=label"])[0]) == 2


def test_a_form_of_answers_has_no_truths(tmp_path: Path, registry: Registry) -> None:
    """As Kaggle hands one out beside the test images: all of its labels are the same, and none is right."""
    for part, rows in (("train", range(16)), ("test", range(16, ROWS))):
        for i in rows:
            save(tmp_path / part / f"{i}.png", PHOTOS[i])
    table(tmp_path, ["id,label", *(f"{i},{'ab'[i % 2]}" for i in range(16))], "train.csv")
    table(tmp_path, ["id,label", *(f"{i},a" for i in range(16, ROWS))], "sample_submission.csv")
    values, said, _ = read(tmp_path, registry)
    assert values["label"] == [i % 2 for i in range(16)]
    assert len(values["image"]) == ROWS
    assert "sample_submission.csv is called as a form of answers, which are no truths: left out" in said


def test_tables_of_parts_over_one_folder_are_refused_with_the_way_to_read_both(
    tmp_path: Path, registry: Registry
) -> None:
    photos(tmp_path)
    rows = {"train": range(16), "test": range(16, ROWS)}
    for part, some in rows.items():
        table(tmp_path, ["file,label", *(f"{i:02}.png,{'ab'[i % 2]}" for i in some)], f"{part}.csv")
    line = asked(tmp_path, registry)
    assert "written as one, with a column split of train and test, both are read, and tell the parts" in line
    lines = [f"{i:02}.png,{'ab'[i % 2]},{part}" for part, some in rows.items() for i in some]
    for part in rows:
        (tmp_path / f"{part}.csv").unlink()
    table(tmp_path, ["file,label,split", *lines])
    setup = configured(tomllib.loads(configuration(tmp_path, registry).text), registry=registry)
    for part, some in rows.items():
        source = setup.rows(part).source
        assert [source[i]["image"].stem for i in range(len(source))] == [f"{i:02}" for i in some]
