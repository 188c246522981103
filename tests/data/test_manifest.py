"""Tables as people and programs write them: each cell's value, or one line that names the line."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import OptionError, RequestError
from mmcore.data.decode import Encoded
from mmcore.data.sources.lines import listed
from mmcore.data.sources.manifest import Manifest


def read(folder: Path, text: str | bytes, name: str = "rows.csv", **options: Any) -> list[dict[str, Any]]:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [dict(row) for row in Manifest(path, **{"paths": (), **options})]


ROWS = [{"image": f"images/{i}.png", "label": i % 3} for i in range(4)]
PLAIN = "image,label\n" + "".join(f"images/{i}.png,{i % 3}\n" for i in range(4))


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN + "\n\n",
        "\n" + PLAIN.replace("\n", "\n\n"),
        PLAIN + "   \n",
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        "\ufeff" + PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ", "),
        PLAIN.replace(",", " , ").replace("\n", "  \n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace("images/", '"images/').replace(".png", '.png"').replace("image,label", '"image","label"'),
        PLAIN.replace(",", ', "').replace("\n", '"\n'),
        "," + PLAIN.replace("images", "0,images", 1).replace("\nimages", "\n7,images"),
        PLAIN.replace("\n", ",\n"),
        PLAIN.replace(",0", ",0.0").replace(",1", ",1.0").replace(",2", ",2.0"),
    ],
    ids=[
        "plain", "no end", "blank at the end", "blank between", "spaces alone", "crlf", "crcrlf", "mac", "bom",
        "bom and crlf", "spaces", "spaces around", "semicolons", "tabs", "bars", "quotes", "quotes and spaces",
        "an index", "a column of nothing", "whole floats",
    ],
)  # fmt: skip
def test_conventions_of_one_table_give_the_same_rows(text: str, tmp_path: Path) -> None:
    rows = read(tmp_path, text)
    assert rows == ROWS
    assert all(type(row["label"]) is int for row in rows)
    assert Manifest(tmp_path / "rows.csv").where(3) == f"rows.csv line {text_line(text, 'images/3')}"


def text_line(text: str, word: str) -> int:
    before = text[: text.index(word)]
    return 1 + len(before.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1


def test_what_is_not_plain_is_noted(tmp_path: Path) -> None:
    text = ";image;label;label;\n0;a.png;1,5;x;\n1;b.png;2,5;y;\n"
    (tmp_path / "rows.csv").write_text(text)
    source = Manifest(tmp_path / "rows.csv")
    assert source.names == ("image", "label", "label_4")
    told = "\n".join(source.notes)
    assert "semicolons" in told
    assert "the first column has no name" in told
    assert "column 4 is called label again: read as label_4" in told
    assert 'decimal = "," reads them as numbers' in told
    assert [row["label"] for row in Manifest(tmp_path / "rows.csv", decimal=",")] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["0", "1", "", "2"], [0, 1, None, 2]),
        (["0.0", "1.0", "", "2.0"], [0, 1, None, 2]),
        (["0.0", "1.0", "nan", "2.0"], [0, 1, None, 2]),
        (["1", "2", "A", "1"], ["1", "2", "A", "1"]),
        (["1", "2.5", "NA", "1e2"], [1, 2.5, None, 100.0]),
        (["cat", "NA", "dog", ""], ["cat", "NA", "dog", None]),
        (["007", "012", "100", "3"], ["007", "012", "100", "3"]),
        (["16E5_00390", "7", "8", "9"], ["16E5_00390", "7", "8", "9"]),
        (["True", "False", "True", ""], ["True", "False", "True", None]),
        (["-1", "+2", "0", "-0"], [-1, 2, 0, 0]),
        (["[1, 2]", "[3]", "", "[]"], [[1, 2], [3], None, []]),
        (["١", "٢", "1", "2"], ["١", "٢", "1", "2"]),
        (["1 000", "2", "3", "4"], ["1 000", "2", "3", "4"]),
    ],
)
def test_a_column_is_of_numbers_just_if_all_its_cells_are(cells: list[str], values: list[Any], tmp_path: Path) -> None:
    quoted = [f'"{cell}"' if "," in cell else cell for cell in cells]
    rows = read(tmp_path, "name,value\n" + "".join(f"r{i},{cell}\n" for i, cell in enumerate(quoted)))
    found = [row["value"] for row in rows]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


STRAY = "image,label,note\na.png,0,fine\nb.png,1,{}\nc.png,0,fine\nd.png,1,{}\ne.png,0,fine\n"


@pytest.mark.parametrize(
    ("one", "two", "line"),
    [
        ('"5 inch', "fine", r"lines 3 … 6"),
        ('"5 inch', '7"', r"lines 3 … 5"),
        ('"5 inch', '"7 inch', r"lines 3 … 5"),
        ('"a" b', "fine", r"line 3"),
    ],
)
def test_a_stray_quote_in_a_column_that_nobody_reads_is_told_with_its_line(
    one: str, two: str, line: str, tmp_path: Path
) -> None:
    text = STRAY.format(one, two)
    with pytest.raises(RequestError, match=f"found {line} of .*rows.csv with a quote that does not end its cell"):
        read(tmp_path, text)
    rows = read(tmp_path, text, quotes=False)
    assert [row["image"] for row in rows] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [row["note"] for row in rows] == ["fine", one, "fine", two, "fine"]


def test_quotes_in_the_midst_of_a_cell_and_texts_of_several_lines_are_what_they_are(tmp_path: Path) -> None:
    text = 'image,note\na.png,a 5" pipe\nb.png,"two\nlines, a comma and a ""quote"""\nc.png,\n'
    rows = read(tmp_path, text)
    assert [row["note"] for row in rows] == ['a 5" pipe', 'two\nlines, a comma and a "quote"', None]
    assert Manifest(tmp_path / "rows.csv").where(2) == "rows.csv line 5"


def test_a_text_whose_last_line_has_as_many_commas_as_a_row_is_a_text(tmp_path: Path) -> None:
    """Reports of doctors: the cell behind the text is the row's own, and no sign of another row."""
    lines = [f'{k}.png,"no finding\nunchanged, as before {k}",{k % 2}' for k in range(4)]
    rows = read(tmp_path, "\n".join(["image,report,label", *lines]))
    assert [row["report"] for row in rows] == [f"no finding\nunchanged, as before {k}" for k in range(4)]
    assert [row["label"] for row in rows] == [0, 1, 0, 1]
    with pytest.raises(RequestError, match="a quote that does not end its cell"):
        read(tmp_path, 'image,report,label\na.png,"5 inch,1\nb.png,6" or so,1\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "found no line in"),
        (b"\n\n", "found no line in"),
        (b"image,label\n", "found no row in"),
        (PLAIN.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (PLAIN.encode("utf-16-be"), "it is UTF-16; save it as UTF-8"),
        (gzip.compress(PLAIN.encode()), "no text in UTF-8: it is gzip: unpack it"),
        (b"PK\3\4\24\0\0\0\b\0", "it is ZIP: unpack it, or if a spreadsheet wrote it save it as CSV"),
        (b"PAR1\25\0\25", r"it is Parquet: rename it, so that it ends in \.parquet"),
        (b"SQLite format 3\0\20\0", "it is a database: save it as CSV"),
        (
            "名前的文字符号,年\n".encode("utf-16-le"),
            "has zeros, as UTF-16 and files of other programs have; save it as UTF-8",
        ),
        (b"\5\0\0\7name,age\n1,2\n", "its first line has zeros, as UTF-16 and files of other programs have"),
        ("image,label\na.png,münchen\n".encode("latin-1"), r"encoding = 'utf-8', .*line 2 has the byte 0xfc.*cp1252"),
        (b"image,a;b\nx.png,1;2\n", r"delimiter = None, expected what parts the cells of .*comma and semicolon"),
        (b",\n,\n", "found the first line"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(text: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message) as told:
        read(tmp_path, text)
    assert "\n" not in str(told.value)


def test_text_in_another_encoding_is_read_as_declared(tmp_path: Path) -> None:
    rows = read(tmp_path, "image,city\na.png,münchen\n".encode("cp1252"), encoding="cp1252")
    assert rows == [{"image": "a.png", "city": "münchen"}]


def test_a_cell_too_few_is_told_when_its_row_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("image,label\na.png,0\nb.png\nc.png,1\n")
    source = Manifest(tmp_path / "rows.csv", paths=())
    assert source[2] == {"image": "c.png", "label": 1}
    with pytest.raises(RequestError, match="found 1 cells, expected 2: image, label"):
        source[1]


def test_paths_with_backslashes_or_decomposed_letters_are_found(tmp_path: Path) -> None:
    (tmp_path / "bilder").mkdir()
    composed, decomposed = "h\u00f6he.png", "ho\u0308he.png"
    (tmp_path / "bilder" / decomposed).write_bytes(b"")
    (tmp_path / "rows.csv").write_text(f"image,label\nbilder\\{composed},0\nbilder/{composed},1\nbilder/no.png,2\n")
    paths = [row["image"] for row in Manifest(tmp_path / "rows.csv")]
    assert paths[:2] == [tmp_path / "bilder" / decomposed] * 2
    assert paths[2] == tmp_path / "bilder" / "no.png"


CELL = st.one_of(
    st.none(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Nd", "Z")), min_size=1, max_size=5),
)


@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=100)
def test_any_convention_gives_the_values_of_any_other(
    rows: list[tuple[Any, Any]], delimiter: str, end: str, bom: bool, blank: bool
) -> None:
    import tempfile

    def values(delimiter: str, end: str, bom: bool, blank: bool) -> list[Any]:
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
        writer.writerow(["key", "x", "y"])
        for i, (x, y) in enumerate(rows):
            writer.writerow([f"k{i}", x, y])
            if blank:
                out.write(end)
        with tempfile.TemporaryDirectory() as folder:
            return read(Path(folder), ("\ufeff" * bom + out.getvalue()).encode(), delimiter=delimiter)

    plain = values(",", "\n", False, False)
    assert values(delimiter, end, bom, blank) == plain
    for name, k in (("x", 0), ("y", 1)):
        cells = [row[k] for row in rows]
        if all(not isinstance(cell, str) for cell in cells):
            assert [row[name] for row in plain] == cells


def test_json_lines_have_booleans_lists_and_no_byte_order_mark(tmp_path: Path) -> None:
    lines = [{"a": True, "b": [1, 2], "c": 1.5}, {"a": False, "c": float("nan")}]
    text = "\ufeff" + "\r\n\r\n".join(map(json.dumps, lines)) + "\r\n"
    rows = read(tmp_path, text, "rows.jsonl")
    assert rows == [{"a": True, "b": [1, 2], "c": 1.5}, {"a": False, "c": None}]
    assert type(rows[0]["a"]) is bool


def test_a_column_that_comes_late_in_json_lines_is_known(tmp_path: Path) -> None:
    lines = [{"a": i, **({"b": i} if i >= 150 else {})} for i in range(400)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Manifest(tmp_path / "rows.jsonl").names == ("a", "b")


def test_parquet_gives_what_each_column_holds(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    png = file.getvalue()
    features = {"kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    columns = {
        "png": pa.array([png, None, png], pa.binary()),
        "image": pa.array([{"bytes": png, "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]),
        "emb": pa.array([[1.0, 2.0], [3.0, None], [5.0, 6.0]], pa.list_(pa.float32())),
        "half": pa.array([np.float16([1, 2])] * 3, pa.list_(pa.float16())),
        "map": pa.array([[[0, 1], [1, 0]], [[0, 1], [1]], None], pa.list_(pa.list_(pa.int64()))),
        "word": pa.array(["cat", "dog", None]).dictionary_encode(),
        "flag": pa.array([True, None, False]),
        "hot": pa.array([[True, False], [False, False], None]),
        "tags": pa.array([["a", "b"], [], None]),
        "age": pa.array([1.5, float("nan"), None]),
        "kind": pa.array([0, -1, 1]),
    }
    info = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(info), tmp_path / "rows.parquet")
    source = Manifest(tmp_path / "rows.parquet")
    one, two, three = source
    assert one["png"] == Encoded(png, ".png")
    assert two["png"] is None
    assert one["image"] == Encoded(png, ".png")
    assert two["image"] == tmp_path / "b.png"
    assert one["emb"].dtype == np.float32
    assert one["emb"].tolist() == [1, 2]
    with pytest.raises(RequestError, match=r"^found no value at place 1 of 2, expected a number in each"):
        two["emb"]
    with pytest.raises(RequestError, match="row 1, emb: found no value at place 1 of 2"):
        source.column("emb")
    assert one["half"].dtype == np.float16
    assert one["map"].tolist() == [[0, 1], [1, 0]]
    assert one["map"].dtype == np.int64
    with pytest.raises(RequestError, match=r"^found lists of 1, 2 values in one list"):
        two["map"]
    assert [row["word"] for row in source] == ["cat", "dog", None]
    assert [row["flag"] for row in source] == [True, None, False]
    assert one["hot"].dtype == bool
    assert one["hot"].tolist() == [True, False]
    assert [row["tags"] for row in source] == [["a", "b"], [], None]
    assert [row["age"] for row in source] == [1.5, None, None]
    assert [row["kind"] for row in source] == [0, None, 1]
    assert source.classes == {"kind": ["cat", "dog"]}
    assert three["map"] is None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["a.png,cat", "b.png,dog"], "a.png is a file"),
        (["images\\a.PNG;3", "images\\b.PNG;4"], "is a file"),
        (["5.1,3.5,setosa", "4.9,3.0,virginica"], "numbers with fractions"),
        (["5,0,0,7,0", "3,0,1,0,0"], "numbers, which count nothing"),
        (["p01,3", "p02,4"], "3 is a number, as those in its column are"),
        (["p01,cat", "p02,dog", "p03,cat"], "cat is a value in its column too"),
    ],
)
def test_a_first_line_that_is_a_row_is_not_lost(lines: list[str], why: str, tmp_path: Path) -> None:
    at = tmp_path / "t.csv"
    at.write_text("\n".join(lines) + "\n")
    with pytest.raises(RequestError, match=f"looks like a row .*{why}.*names above it.*header"):
        Manifest(at)
    names = [f"c{k}" for k in range(len(lines[0].replace(";", ",").split(",")))]
    named = Manifest(at, header=names)
    assert list(named.names) == names
    assert len(named) == len(lines)
    assert named.where(0) == "t.csv line 1"
    last = named.lines[0][names[-1]]
    assert str(last) == lines[0].replace(";", ",").split(",")[-1]
    # Names they are, if somebody says so.
    assert len(Manifest(at, header=True)) == len(lines) - 1
    with pytest.raises(OptionError, match=f"header = .*expected {len(names)} names"):
        Manifest(at, header=[*names, "more"])


@pytest.mark.parametrize(
    "lines",
    [
        ["name,1990,1991,1992", "x,3,4,5"],
        [",0,1,2", "0,3,4,5", "1,6,7,8"],
        [",0", "0,3.5", "1,6.5"],
        ["dogs,cats", "dogs,", ",cats", "dogs,cats"],
        ["label", "a", "b"],
        ["0", "a", "b"],
    ],
)
def test_odd_names_are_names(lines: list[str], tmp_path: Path) -> None:
    at = tmp_path / "t.csv"
    at.write_text("\n".join(lines) + "\n")
    assert len(Manifest(at)) == len(lines) - 1


def test_names_that_come_again_are_no_row(tmp_path: Path) -> None:
    at = tmp_path / "t.csv"
    at.write_text("name,label\na,cat\nname,label\nb,dog\n")
    with pytest.raises(
        RequestError, match=r"names of the columns again in line 3 of .*t.csv.*header = true reads it as a row"
    ):
        Manifest(at)
    assert [row["label"] for row in Manifest(at, header=True)] == ["cat", "label", "dog"]


CALLS = "__import__('pathlib').Path('ran').touch()"


@pytest.mark.parametrize(
    "inside",
    [CALLS, f"(lambda: {CALLS})()", f"f'{{{CALLS}}}'", *(f"{part * (90_000 // len(part))}1" for part in ("-", "[", "(", "{", "not ", "1+", "9**", "a.", "lambda:", "1 if 1 else ", "f'{1}' "))],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_cell_that_looks_like_a_list_is_run_by_nobody_and_ends_nothing(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's writing of a list is read as literals; whatever else stands there, as deep as may be, stays a text."""
    monkeypatch.chdir(tmp_path)
    assert listed(f"[{inside}]") == f"[{inside}]"
    assert list(tmp_path.iterdir()) == []


def test_lists_in_pythons_writing_are_lists() -> None:
    assert listed("['a', \"b's\", 2, -0.5]") == ["a", "b's", 2, -0.5]
    assert listed("[1, 2]") == [1, 2]
