"""Files as people make them, with programs of all kinds: the right values, or one line that asks or refuses; never a wrong value without a word."""

import json
import os
import tomllib
from collections.abc import Callable, Sequence
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
    assert f"--assume {name}=label" in line
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


@pytest.mark.parametrize("name", ["set", "Subset", "phase"])
def test_a_column_of_parts_is_the_split_whatever_it_is_called(name: str, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, name, lambda i: ["train", "train", "val", "test"][i % 4])
    guess = configuration(path, registry)
    setup = configured(tomllib.loads(guess.text), registry=registry)
    assert list(tomllib.loads(guess.text)["modalities"]) == ["kind"]
    assert {part: len(setup.rows(part)) for part in ("train", "validation", "test")} == {
        "train": 12,
        "validation": 6,
        "test": 6,
    }


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
