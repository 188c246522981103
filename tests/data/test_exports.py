"""Tables as other programs write them: the right values, or one line that asks or refuses."""

import decimal
import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcore import Registry
from mmcore.config import configured
from mmcore.config.guess import configuration
from tests.data.test_people import ROWS, asked, check_parts, column, photos, read, table


def chosen(line: str, words: str) -> list[str]:
    """What a question says to type for a choice: the option that comes before these words."""
    return [shlex.split(line[: line.index(f" ({words}")])[-1]]


# ---- lines and names ----


def test_excels_own_first_line_says_what_parts_the_cells(tmp_path: Path, registry: Registry) -> None:
    lines = ["size,mm;kind", *(f"{i / 2};{'ab'[i % 2]}" for i in range(ROWS))]
    whole = read(table(tmp_path, ["sep=;", *lines]), registry)[0]
    assert whole["kind"] == [i % 2 for i in range(ROWS)]
    assert whole[next(iter(whole))] == [i / 2 for i in range(ROWS)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_or_without_a_mark(encoding: str, tmp_path: Path, registry: Registry) -> None:
    line = asked(table(tmp_path, ["size\tkind", *(f"{i}.5\ta" for i in range(ROWS))], encoding=encoding), registry)
    assert "UTF-16" in line
    assert "save it as UTF-8" in line


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("size,size,kind", "mean,std,"),  # columns of two levels
        (",size,kind", "id,,"),  # an index that has a name
        ("size,weight,kind", "mm,kg,none"),  # units
    ],
)
def test_a_second_line_of_names_is_no_row(first: str, second: str, tmp_path: Path, registry: Registry) -> None:
    path = table(tmp_path, [first, second, *(f"{i},{i / 4},{'ab'[i % 2]}" for i in range(ROWS))])
    line = asked(path, registry)
    assert "found words in line 2" in line
    assert "header = true reads it as a row" in line


@pytest.mark.parametrize(("word", "told"), [("Total", True), ("Summe:", True), ("row7", False)])
def test_a_last_row_of_sums_is_told(word: str, told: bool, tmp_path: Path, registry: Registry) -> None:
    lines = ["name,amount", *(f"row{i},{i}.5" for i in range(ROWS)), f"{word},288.5"]
    _, said, _ = read(table(tmp_path, lines), registry)
    assert (f"note: the last row has {word!r} in name: if it sums up the others, take it out" in said) == told


def test_a_first_row_of_words_is_a_row(tmp_path: Path, registry: Registry) -> None:
    lines = ["size,kind", *(f"{'M' if i % 12 == 0 else 38 + i % 3},{'ab'[i % 2]}" for i in range(ROWS))]
    values, _, options = read(table(tmp_path, lines), registry, ["size=label"])
    assert options["size"]["names"] == ["38", "39", "40", "M"]
    assert values["size"][:3] == [3, 1, 2]


def test_columns_of_one_name_in_parquet_are_two(tmp_path: Path, registry: Registry) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    ones, twos = [i % 2 for i in range(ROWS)], [i % 3 for i in range(ROWS)]
    pq.write_table(
        pa.Table.from_arrays([pa.array(ones), pa.array(twos)], names=["label", "label"]), tmp_path / "a.parquet"
    )
    values, said, _ = read(tmp_path / "a.parquet", registry)
    assert values == {"label": ones, "label_2": twos}
    assert "column 2 is called label again: read as label_2" in said


def test_decimals_of_parquet_are_numbers_and_empty_texts_are_none(tmp_path: Path, registry: Registry) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    words = ["cat", "dog", ""]
    rows = {"price": [decimal.Decimal(f"{i}.50") for i in range(ROWS)], "word": [words[i % 3] for i in range(ROWS)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    values, said, _ = read(tmp_path / "a.parquet", registry)
    assert values["price"] == [i + 0.5 for i in range(ROWS)]
    assert values["word"] == [i % 3 for i in range(ROWS) if i % 3 < 2]
    assert "missing: ''" in said


def test_a_column_keeps_its_name_whatever_others_are_called(tmp_path: Path, registry: Registry) -> None:
    """Were ``a_b`` the variable of ``a b``, rows to predict would be read there."""
    path = table(tmp_path, ["a b,a_b,a(b,a_b_", *(f"{i}.5,{i}.25,{i}.75,{i}.125" for i in range(ROWS))])
    values, said, _ = read(path, registry)
    assert [values[name][1] for name in ("a_b", "a_b_", "a_b__", "a_b___")] == [1.25, 1.125, 1.5, 1.75]
    assert "called a_b__, as a variable cannot be called 'a b'" in said


# ---- numbers ----


def test_dots_beside_semicolons_may_part_thousands(tmp_path: Path, registry: Registry) -> None:
    """In one of a thousand they would be read, and without a word."""
    path = column(tmp_path, "price", lambda i: f"{1 + i}.{100 + i}" if i % 3 else 500 + i, ";")
    line = asked(path, registry)
    assert "in which dots may part thousands, or fractions" in line
    dotted = [1000 * (1 + i) + 100 + i if i % 3 else 500 + i for i in range(ROWS)]
    assert read(path, registry, chosen(line, "11.110 is 11110"))[0]["price"] == dotted
    parts = [np.float32(float(f"{1 + i}.{100 + i}") if i % 3 else 500 + i) for i in range(ROWS)]
    assert np.array_equal(np.float32(read(path, registry, chosen(line, "11.110 is 11.11"))[0]["price"]), parts)


def test_fractions_beside_semicolons_are_fractions(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "preis", lambda i: f"{1 + i}.{25 * (i % 4):02}", ";")
    assert read(path, registry)[0]["preis"] == [1 + i + i % 4 / 4 for i in range(ROWS)]


def test_a_printers_minus_is_a_minus(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "temp", lambda i: ("\u2212" if i % 2 else "") + f"{i}.5")
    assert read(path, registry)[0]["temp"] == [(-1) ** (i % 2) * (i + 0.5) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("cell", "some"),
    [
        (lambda i: f"({100 + i % 7})" if i % 2 else 100 + i % 7, "(100)"),
        (lambda i: f"{1 + i % 7}.5\u00b10.{i % 3}", "1.5\u00b10.0"),
        (lambda i: f"{150 + i} cm" if i % 2 else f"1.{50 + i} m", "1.50 m"),
    ],
)
def test_numbers_in_still_another_writing_are_asked(
    cell: Callable[[int], Any], some: str, tmp_path: Path, registry: Registry
) -> None:
    assert f"x has numbers in another writing, such as {some!r}" in asked(column(tmp_path, "x", cell), registry)


@pytest.mark.parametrize("start", ["data:image/png;base64,iVBORw0KGgo", "iVBORw0KGgo", "/9j/"])
def test_pictures_in_texts_are_told_with_the_mend(start: str, tmp_path: Path, registry: Registry) -> None:
    """By their semicolons they were asked about as several classes."""
    rows = [json.dumps({"image": f"{start}AAAA{i:04}+/==", "kind": "ab"[i % 2]}) for i in range(ROWS)]
    values, said, _ = read(table(tmp_path, rows, "rows.jsonl"), registry)
    assert list(values) == ["kind"]
    assert "image: pictures written as text (base64); write them as files, and their paths here" in said


def test_feet_and_inches_are_asked(tmp_path: Path, registry: Registry) -> None:
    line = asked(column(tmp_path, "height", lambda i: f'"{5 + i % 2}\'{i % 12}"""'), registry)
    assert "height has numbers in another writing, such as '5\\'0\"'" in line


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("52.{0}, 13.{1}", "rows of numbers written as text, such as '52.10, 13.20'; of vectors"),
        ("52.{0},13.{1}", "rows of numbers written as text, such as '52.10,13.20'; of vectors"),
        ("[ 0.{0} -1.2 ... 3.1 0.{1}]", "numpy left out the numbers between, which are not in the file; save arrays"),
        ('{{""x"": {0}, ""y"": {1}}}', 'objects written as text, such as \'{"x": 10, "y": 20}\'; write each'),
        ("{{a{0},b}}", "lists between braces written as text, such as '{a10,b}'; write them as"),
    ],
)
def test_what_is_written_into_a_cell_is_no_class_and_no_prose(
    cell: str, words: str, tmp_path: Path, registry: Registry
) -> None:
    """Places on the earth, numpy's print of a long vector, an annotator's shapes, a database's arrays."""
    path = column(tmp_path, "notes", lambda i: '"' + cell.format(10 + i % 8, 20 + i % 8) + '"')
    values, said, _ = read(path, registry)
    assert list(values) == ["kind"]
    assert f"notes: {words}" in said or (words.startswith("numpy") and words in said)


@pytest.mark.parametrize("cells", [["1.5", "2.25"], ["1.234,5", "2.345,25"]])
def test_one_number_is_no_row_of_numbers(cells: list[str]) -> None:
    from mmcore.config.written import is_row

    assert not any(map(is_row, cells))
    assert all(map(is_row, ["1.5,2.5", "[1 2]", "1 2", "(1, 2)", "1.5,2.5,3.5"]))


@pytest.mark.parametrize("tick", ["x", "1", "TRUE"])
def test_a_tick_or_nothing_is_told_with_the_mend(tick: str, tmp_path: Path, registry: Registry) -> None:
    values, said, _ = read(column(tmp_path, "defect", lambda i: tick if i % 3 == 0 else ""), registry)
    assert list(values) == ["kind"]
    assert "in 8 of 24 rows, and nothing in the others: if these say no, write a word for it there" in said


@pytest.mark.parametrize("cell", ["{}h 1{}m", "PT{}M1{}S", "{} min 1{} s"])
def test_durations_are_no_texts(cell: str, tmp_path: Path, registry: Registry) -> None:
    values, said, _ = read(column(tmp_path, "took", lambda i: cell.format(1 + i % 5, i % 10)), registry)
    assert list(values) == ["kind"]
    assert "took: days or times such as" in said


def test_many_numbered_columns_that_are_read_are_told_together(tmp_path: Path, registry: Registry) -> None:
    """A vector written into columns is as many variables, which is hardly what is meant."""
    names = [f"emb_{k}" for k in range(40)]
    lines = [
        ",".join([*names, "kind"]),
        *(",".join([*(f"{i}.{k}5" for k in range(40)), "ab"[i % 2]]) for i in range(ROWS)),
    ]
    values, said, _ = read(table(tmp_path, lines), registry)
    assert len(values) == 41
    assert "emb_0 … emb_39, 40 columns: scalar, a variable each" in said
    assert "emb_7" not in said
    assert "kind: label" in said


def test_numbers_with_a_letter_each_are_names(tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "stage", lambda i: ["1a", "1b", "2a", "2b"][i % 4])
    assert read(path, registry)[2]["stage"]["names"] == ["1a", "1b", "2a", "2b"]


def test_numbers_in_texts_of_json_are_asked(tmp_path: Path, registry: Registry) -> None:
    """As words they would be as many classes."""
    rows = [json.dumps({"age": str(20 + i), "digit": str(i % 3)}) for i in range(ROWS)]
    path = table(tmp_path, rows, "rows.jsonl")
    line = asked(path, registry)
    assert "age has numbers written as texts, such as '20'" in line
    values, _, options = read(path, registry, chosen(line, "20 is 20"))
    assert values["age"] == [20 + i for i in range(ROWS)]
    assert options["digit"]["names"] == ["0", "1", "2"]


@pytest.mark.parametrize(("name", "nine"), [("temp", -999), ("age", 999), ("age", -9), ("bmi", -99)])
def test_nines_may_stand_for_a_missing_number(name: str, nine: int, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, name, lambda i: nine if i % 8 == 3 else 20 + i / 2)
    line = asked(path, registry)
    assert f"3 of them are {nine}, which may be missing or a number" in line
    plain = [20 + i / 2 for i in range(ROWS) if i % 8 != 3]
    assert read(path, registry, chosen(line, "missing"))[0][name] == plain
    assert len(read(path, registry, chosen(line, "a number"))[0][name]) == ROWS


@pytest.mark.parametrize("nine", [-100, 255, 99])
def test_nines_beside_classes_may_stand_for_none(nine: int, tmp_path: Path, registry: Registry) -> None:
    labels = [nine if i % 8 == 7 else i % 3 for i in range(ROWS)]
    path = tmp_path / "a.npz"
    np.savez(path, label=np.asarray(labels), x=np.arange(ROWS) / 4)
    line = asked(path, registry)
    assert f"of which {nine} may be missing or a class" in line
    assert read(path, registry, chosen(line, "missing"))[0]["label"] == [one for one in labels if one != nine]
    names = read(path, registry, chosen(line, "a class"))[2]["label"]["names"]
    assert sorted(map(int, names)) == sorted({0, 1, 2, nine})


def test_nines_beside_what_is_asked_are_asked_too(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "a.npz"
    numbers = np.asarray([-999 if i % 8 == 7 else 3 * (i % 40) for i in range(120)])
    np.savez(path, level=numbers, x=np.arange(120) / 4)
    missing = chosen(asked(path, registry), "-999 is missing")
    values, _, _ = read(path, registry, [*missing, "level=scalar"])
    assert values["level"] == [one for one in numbers.tolist() if one != -999]


@pytest.mark.parametrize("top", [100, 99])
def test_a_largest_number_is_a_number(top: int, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "score", lambda i: top if i % 5 == 0 else top - i)
    assert len(read(path, registry)[0]["score"]) == ROWS


# ---- words ----


@pytest.mark.parametrize("words", ["True False 1 0", "Y N y n", "yes no Yes no", "t f T F"])
def test_two_ways_to_say_yes_are_asked(words: str, tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "smoker", lambda i: words.split()[i % 4])
    assert "write them alike" in asked(path, registry)


def test_yes_and_no_are_two_classes(tmp_path: Path, registry: Registry) -> None:
    for k, (yes, no) in enumerate((("yes", "no"), ("True", "False"), ("Y", "N"))):
        values, _, options = read(column(tmp_path / str(k), "smoker", lambda i: yes if i % 3 else no), registry)  # noqa: B023
        assert options["smoker"]["names"] == sorted((yes, no))
        assert values["smoker"] == [sorted((yes, no)).index(yes if i % 3 else no) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("cells", "mark", "lists"),
    [
        (["Action|Comedy", "Drama", "Comedy|Drama", "Action"], "|", [[1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0]]),
        (['"cat, dog"', "dog", "cat"], ",", [[1, 1], [0, 1], [1, 0]]),
        (["16 0", "7 1 0", "5", "1"], " ", [[1, 0, 0, 0, 1], [1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]),
        (["a;b", "b", "a;c"], ";", [[1, 1, 0], [0, 1, 0], [1, 0, 1]]),
    ],
)
def test_several_classes_in_a_cell_are_asked_and_then_parted(
    cells: list[str], mark: str, lists: list[list[int]], tmp_path: Path, registry: Registry
) -> None:
    path = column(tmp_path, "Finding Labels", lambda i: cells[i % len(cells)])
    line = asked(path, registry)
    assert f"Finding Labels.separator={mark}" in line
    values, _, _ = read(path, registry, chosen(line, f"{len(lists[0])} classes, of which"))
    assert np.array_equal(values["Finding_Labels"], [lists[i % len(lists)] for i in range(ROWS)])
    whole, _, _ = read(path, registry, ["Finding Labels=label"])
    assert len(set(whole["Finding_Labels"])) == len(cells)


@pytest.mark.parametrize("cells", [["New York, USA", "Bonn, Germany"], ["black cat", "black dog"], ["w/o", "n/m"]])
def test_marks_in_names_are_letters(cells: list[str], tmp_path: Path, registry: Registry) -> None:
    path = column(tmp_path, "species", lambda i: f'"{cells[i % 2]}"')
    assert read(path, registry)[2]["species"]["names"] == sorted(cells)


@pytest.mark.parametrize("cell", ["{} May 2024", "May {}, 2024", "{} days 00:05:00", "{}. Januar 2024"])
def test_days_in_words_are_no_texts(cell: str, tmp_path: Path, registry: Registry) -> None:
    values, said, _ = read(column(tmp_path, "when", lambda i: f'"{cell.format(1 + i % 28)}"'), registry)
    assert list(values) == ["kind"]
    assert "when: days or times such as" in said


def test_a_patients_gender_is_no_key(tmp_path: Path, registry: Registry) -> None:
    lines = [
        "Patient ID,Patient Gender,subject,row_name",
        *(f"{i // 2},{'MF'[i // 2 % 2]},s{i // 3},r{i % 2}" for i in range(ROWS)),
    ]
    guess = configuration(table(tmp_path, lines), registry)
    assert list(tomllib.loads(guess.text)["modalities"]) == ["Patient_Gender"]
    assert "subject: texts, 8 different ones, a key by its name" in "\n".join(guess.said)


def test_rows_of_one_patient_are_held_out_together(tmp_path: Path, registry: Registry) -> None:
    guess = configuration(
        table(tmp_path, ["patient_id,kind", *(f"p{i // 4},{'ab'[i % 2]}" for i in range(60))]), registry
    )
    setup = configured(tomllib.loads(guess.text), registry=registry)
    rows = [setup.rows(part).source for part in ("train", "validation", "test")]
    parts = [{some[i]["patient_id"] for i in range(len(some))} for some in rows]
    assert all(parts)
    assert sum(map(len, parts)) == 15


@pytest.mark.parametrize("rows", range(9, 40, 2))
def test_every_part_of_few_rows_has_one(rows: int, tmp_path: Path, registry: Registry) -> None:
    path = table(tmp_path, ["size,kind", *(f"{i / 4},{'ab'[i % 2]}" for i in range(rows))])
    setup = configured(tomllib.loads(configuration(path, registry).text), registry=registry)
    assert all(len(setup.rows(part)) for part in ("train", "validation", "test"))


def test_numbers_of_parts_are_asked(tmp_path: Path, registry: Registry) -> None:
    """As CelebA has them."""
    path = column(tmp_path, "partition", lambda i: [0, 0, 1, 2][i % 4])
    line = asked(path, registry)
    guess = configuration(path, registry, assume=chosen(line, "0 train, 1 validation, 2 test"))
    check_parts(guess.text, registry)
    assert "expected 0 for training rows" in asked(path, registry, ["kind=split"])


def test_one_hot_vectors_of_floats_are_a_label(tmp_path: Path, registry: Registry) -> None:
    """As Keras makes them; as vectors they would be drawn as numbers."""
    labels = np.arange(ROWS) % 3
    np.savez(tmp_path / "a.npz", label=np.eye(3, dtype=np.float32)[labels])
    assert read(tmp_path / "a.npz", registry)[0]["label"] == labels.tolist()


# ---- files that a table names ----


def test_keys_are_files_whatever_pandas_made_of_them(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path, "images/{}.png", 12)
    table(tmp_path, ["id,label", *(f"{i}.0,{'ab'[i % 2]}" for i in range(12))])
    values, _, _ = read(tmp_path, registry)
    assert values["label"] == [i % 2 for i in range(12)]
    assert len(values["image"]) == 12


def test_a_line_that_is_there_twice_counts_once(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path, rows=12)
    lines = ["file,label", *(f"{i:02}.png,{'ab'[i % 2]}" for i in range(12))]
    table(tmp_path, [*lines, "03.png,b"])
    values, said, _ = read(tmp_path, registry)
    assert values["label"] == [i % 2 for i in range(12)]
    assert "1 lines that are there twice count once, such as that of '03'" in said
    table(tmp_path, [*lines, "03.png,a"])
    assert "mmcore init rows.csv" in asked(tmp_path, registry)


def test_a_list_of_classes_beside_the_data_is_left_out(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    table(tmp_path, ["name,r,g,b", "sky,0,0,255", "road,90,90,90"], "class_dict.csv")
    values, said, _ = read(tmp_path, registry)
    assert list(values) == ["image"]
    assert "class_dict.csv: none of its 2 lines names a file" in said


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("images/{:02}.JPG", "whose name is much like it is here as images/"),
        ("images%2F{:02}.png", "whose name is much like it is here as images/"),
        ("data/images/{:02}.png", "--assume options.root="),
        ("file:///x/{:02}.png", "leave out file://"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_the_file(
    cell: str, words: str, tmp_path: Path, registry: Registry
) -> None:
    photos(tmp_path / "data")
    path = table(tmp_path / "data", ["image,label", *(f"{cell.format(i)},{i % 2}" for i in range(ROWS))])
    line = asked(path, registry)
    assert words in line
    if "options.root" in words:
        assert len(read(path, registry, chosen(line.replace(" begins", " (begins"), "begins"))[0]["image"]) == ROWS


def test_paths_without_a_suffix_are_told(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    path = table(tmp_path, ["image,label", *(f"images/{i:02},{i % 2}" for i in range(ROWS))])
    assert "images/00 is here as images/00.png: write the suffix into the table" in read(path, registry)[1]
    values, _, _ = read(tmp_path, registry)
    assert len(values["image"]) == len(values["label"]) == ROWS


def test_cells_that_spaces_part_are_told(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    table(tmp_path, [str(ROWS), "Male Smiling", *(f"{i:02}.png  1 -1" for i in range(ROWS))], "list_attr.csv")
    assert "if spaces part the cells of '00.png  1 -1', write commas" in asked(tmp_path, registry)


def test_a_name_in_several_folders_is_read_from_none_of_them(tmp_path: Path, registry: Registry) -> None:
    """As one number counts the slices of every patient: begun at one folder, all rows would show that patient's."""
    for k in range(3):
        photos(tmp_path, f"images/p{k}/{{:02}}.png", 8)
    lines = ["patient,image,label", *(f"p{i // 8},{i % 8:02}.png,{'ab'[i % 2]}" for i in range(ROWS))]
    line = asked(table(tmp_path, lines), registry)
    assert "of that name is here as images/p0/" in line
    assert "several rows name one: write the paths relative to the table" in line
    assert "options.root" not in line


def test_a_folder_is_offered_for_each_place_of_a_name(tmp_path: Path, registry: Registry) -> None:
    for name in ("masks", "photos"):
        photos(tmp_path, f"{name}/{{:02}}.png", 8)
    path = table(tmp_path, ["image,label", *(f"{i:02}.png,{'ab'[i % 2]}" for i in range(8))])
    line = asked(path, registry)
    for name in ("masks", "photos"):
        assert f"--assume options.root={tmp_path / name}" in line
