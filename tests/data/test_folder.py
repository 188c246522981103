"""Parallel folders as people have them: which files meet, in which part they are, and what is told where none meet."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data import DataOptions, open_data, open_source
from mmcore.data.sources.folder import Folder


def picture(at: Path, value: int, size: tuple[int, int] = (2, 2)) -> None:
    """A grey PNG of one value."""
    at.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(at, format="png")


def tree(home: Path, files: Mapping[str, int | str | bytes]) -> Path:
    """Files by path: pictures of a number, texts or bytes."""
    for name, content in files.items():
        at = home / name
        if isinstance(content, int):
            picture(at, content)
        else:
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content if isinstance(content, bytes) else content.encode())
    return home


def values(source: Any) -> dict[str, dict[str, Any]]:
    """Each row by key: pictures as their one number."""

    def plain(value: Any) -> Any:
        return int(np.asarray(Image.open(value))[0, 0]) if isinstance(value, Path) else value

    return {
        source.key(i): {name: plain(value) for name, value in source[i].items() if value is not None}
        for i in range(len(source))
    }


FOUR = range(4)
WHOLE = {str(i): {"image": i, "mask": 100 + i} for i in FOUR}


@pytest.mark.parametrize(
    ("image", "mask", "options"),
    [
        ("images/{}.png", "masks/{}.png", {}),
        ("images/{}.jpg", "masks/{}.PNG", {}),
        ("images/{}.png", "masks/{}_mask.png", {"suffixes": {"mask": "_mask"}}),
        ("images/img_{}.png", "masks/gt_{}.png", {"prefixes": {"image": "img_", "mask": "gt_"}}),
        (
            "leftImg8bit/{}_leftImg8bit.png",
            "gtFine/{}_gtFine_labelIds.png",
            {
                "folders": {"image": "leftImg8bit", "mask": "gtFine"},
                "suffixes": {"image": "_leftImg8bit", "mask": "_gtFine_labelIds"},
            },
        ),
        ("all/{}.tif", "all/{}_mask.tif", {"folders": {"image": "all", "mask": "all"}, "suffixes": {"mask": "_mask"}}),
        ("{}.tif", "{}_mask.tif", {"folders": {"image": ".", "mask": "."}, "suffixes": {"mask": "_mask"}}),
        ("images/{}.rgb.png", "masks/{}.rgb.png", {"suffixes": {"image": ".rgb", "mask": ".rgb"}}),
    ],
)
def test_names_meet_by_stem_and_by_what_is_declared_around_it(
    image: str, mask: str, options: dict[str, Any], tmp_path: Path
) -> None:
    tree(tmp_path, {image.format(i): i for i in FOUR} | {mask.format(i): 100 + i for i in FOUR})
    assert values(Folder(tmp_path, **options)) == WHOLE


@pytest.mark.parametrize(
    ("image", "mask", "found", "mend"),
    [
        ("images/{}.jpg", "masks/{}_mask.png", r"image has '0', mask has '0_mask'", r'options.suffixes = { mask = "_mask" }'),
        ("images/{}.jpg", "masks/{}_gt.png", r"image has '0', mask has '0_gt'", r'options.suffixes = { mask = "_gt" }'),
        ("images/im_{}.jpg", "masks/{}.png", r"image has 'im_0', mask has '0'", r'options.prefixes = { image = "im_" }'),
        (
            "images/x_{}.jpg",
            "masks/y_{}.png",
            r"image has 'x_0', mask has 'y_0'",
            r'options.prefixes = { image = "x_", mask = "y_" }',
        ),
        (
            "leftImg8bits/a_00{}_leftImg8bit.png",
            "gtFines/a_00{}_gtFine.png",
            r"gtFine has 'a_000_gtFine', leftImg8bit has 'a_000_leftImg8bit'",
            r'options.suffixes = { gtFine = "_gtFine", leftImg8bit = "_leftImg8bit" }',
        ),
    ],
)  # fmt: skip
def test_names_that_never_meet_are_an_error_with_two_of_them_and_the_mend(
    image: str, mask: str, found: str, mend: str, tmp_path: Path
) -> None:
    import re
    import tomllib

    tree(tmp_path, {image.format(i): i for i in FOUR} | {mask.format(i): 100 + i for i in FOUR})
    with pytest.raises(RequestError, match=found) as told:
        Folder(tmp_path)
    line = str(told.value)
    assert "found 0 of 4 names of" in line
    assert mend in line
    # The line that is told does mend it.
    lines = re.search(r"(options\..*?) lets? them meet", line)
    assert lines is not None
    options: dict[str, Any] = tomllib.loads(lines[1].replace(" with ", "\n"))["options"]
    rows = values(Folder(tmp_path, **options)).values()
    assert [sorted(row.values()) for row in rows] == [[i, 100 + i] for i in FOUR]
    # Or they are taken as they are.
    assert len(Folder(tmp_path, unpaired=True)) == 8


@pytest.mark.parametrize("masks", [range(2), range(0, 4, 3), range(1)])
def test_rows_may_lack_what_the_others_have(masks: range, tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{i}.png": i for i in FOUR} | {f"masks/{i}.png": 9 for i in masks})
    assert {key for key, row in values(Folder(tmp_path)).items() if "mask" in row} == {str(i) for i in masks}


def test_fewer_than_half_of_what_a_folder_promises_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{i}.png": i for i in range(10)} | {f"masks/{i + 6}.png": 1 for i in range(10)})
    with pytest.raises(RequestError, match="found 4 of 10 names of mask among the 10 of image"):
        Folder(tmp_path)
    (tmp_path / "masks" / "15.png").unlink()
    (tmp_path / "masks" / "14.png").unlink()
    assert len(Folder(tmp_path)) == 14


def test_a_table_that_names_none_of_the_files_is_an_error(tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{i:04d}.png": i for i in FOUR} | {"labels.csv": "id,label\n0,a\n1,b\n2,a\n3,b\n"})
    with pytest.raises(
        RequestError, match=r"4 of 4 names of labels.csv are numbers .* without their zeros, such as '0' of '0000'"
    ):
        Folder(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "file,label\n{}",
        ",label\n{}",
        "number,file,label\n{n}",
        ",number,file,label\n{index}",
    ],
)
@pytest.mark.parametrize("name", ["{}", "{}.png", "images/{}.png", "images\\{}.png", "/data/images/{}.jpg", "{}.JPEG"])
def test_a_tables_lines_meet_files_however_they_name_them(table: str, name: str, tmp_path: Path) -> None:
    stems = ["0007", "0010", "b\u00e9", "x.y"]
    lines = [f"{name.format(stem)},{'ab'[k % 2]}" for k, stem in enumerate(stems)]
    text = table.format(
        "\n".join(lines),
        n="\n".join(f"5,{line}" for line in lines),
        index="\n".join(f"{k},5,{line}" for k, line in enumerate(lines)),
    )
    files = {f"images/{unicodedata.normalize('NFD', stem)}.png": k for k, stem in enumerate(stems)}
    tree(tmp_path, {**files, "labels.csv": text})
    rows = values(Folder(tmp_path))
    assert {stem: (row["image"], row["label"]) for stem, row in rows.items()} == {
        stem: (k, "ab"[k % 2]) for k, stem in enumerate(stems)
    }
    assert list(Folder(tmp_path).column("label")) == [row["label"] for row in rows.values()]


STRAY = {
    "images/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "images/desktop.ini": "[x]",
    "images/._0.png": b"\0\5",
    "images/.DS_Store": b"",
    "images/.ipynb_checkpoints/0-checkpoint.png": 7,
    "masks/Thumbs.db": b"",
    "__MACOSX/._images": b"",
    "__MACOSX/images/._0.png": b"",
    ".git/config": "",
    "empty/.keep": "",
    "README.md": "hello",
    "images/LICENSE": "free",
    "images/notes.md": "hello",
    "images/0.json": "{}",
}


def test_what_systems_and_people_leave_is_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{i}.png": i for i in FOUR} | {f"masks/{i}.png": 100 + i for i in FOUR} | STRAY)
    source = Folder(tmp_path)
    assert values(source) == WHOLE
    assert source.names == ("image", "mask")
    assert any("3 files that are no pictures or arrays are left out, such as 0.json" in note for note in source.notes)


def test_a_pipe_among_the_files_is_passed_over(tmp_path: Path) -> None:
    import os

    tree(tmp_path, {f"images/{i}.png": i for i in FOUR} | {f"masks/{i}.png": 100 + i for i in FOUR})
    os.mkfifo(tmp_path / "images" / "9.png")
    assert values(Folder(tmp_path)) == WHOLE


def test_a_name_that_is_no_text_is_told_as_it_can_be_printed(tmp_path: Path) -> None:
    import os

    tree(tmp_path, {"images/a.png": 1, "masks/a.png": 2})
    for folder in (b"images", b"masks"):
        os.rename(os.path.join(os.fsencode(tmp_path), folder, b"a.png"), os.path.join(os.fsencode(tmp_path), folder, b"\xff.png"))  # fmt: skip
    source = Folder(tmp_path)
    assert len(source) == 1
    assert source.where(0).encode().endswith(b"\\udcff")


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"images/a.png": 1, "images/a.jpg": 1, "masks/a.png": 1})
    with pytest.raises(RequestError, match=r"found images/a.jpg and images/a.png, expected one file of a stem"):
        Folder(tmp_path)
    assert values(Folder(tmp_path, ignore=["*.jpg"])) == {"a": {"image": 1, "mask": 1}}


def test_a_stem_in_both_of_unicodes_forms_is_one_stem(tmp_path: Path) -> None:
    tree(tmp_path, {"images/e\u0301.png": 1, "images/\u00e9.png": 2, "masks/\u00e9.png": 3})
    with pytest.raises(RequestError, match="expected one file of a stem"):
        Folder(tmp_path)


WORD = st.text(st.characters(codec="utf-8", exclude_characters="/\\.", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=5)  # fmt: skip


@given(st.lists(WORD, min_size=1, max_size=6, unique_by=lambda word: unicodedata.normalize("NFC", word)), st.data())
@settings(max_examples=60)
def test_rows_are_the_same_whatever_form_the_names_have(stems: list[str], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for k, stem in enumerate(stems):
            for name, value in (("images", k), ("masks", 100 + k)):
                form = data.draw(st.sampled_from(["NFC", "NFD"]))
                picture(home / name / f"{unicodedata.normalize(form, stem)}.png", value)
        rows = values(Folder(home))
    assert rows == {unicodedata.normalize("NFC", stem): {"image": k, "mask": 100 + k} for k, stem in enumerate(stems)}


PARTS = {"train": (0, 1, 2), "validation": (3, 4), "test": (5,)}
WORDS = {
    "plain": {"train": "train", "validation": "validation", "test": "test"},
    "short": {"train": "train", "validation": "val", "test": "test"},
    "long": {"train": "training", "validation": "valid", "test": "testing"},
    "large": {"train": "Train", "validation": "Dev", "test": "TEST"},
    "years": {"train": "train2017", "validation": "val2017", "test": "test2017"},
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("form", ["{part}/{kind}s/{i}.png", "{kind}s/{part}/{i}.png", "{part}_{kind}s/{i}.png", "{kind}s-{part}/{i}.png"])  # fmt: skip
def test_folders_of_parts_are_the_parts(words: str, form: str, tmp_path: Path, registry: Registry) -> None:
    number = {part: list(range(len(some))) for part, some in PARTS.items()}
    for part, some in PARTS.items():
        for i, value in zip(number[part], some, strict=True):
            for kind, more in (("image", 0), ("mask", 100)):
                picture(tmp_path / form.format(part=WORDS[words][part], kind=kind, i=i), value + more)
    for part, some in PARTS.items():
        rows = values(open_source(registry, DataOptions("folder", {"path": str(tmp_path)}), part))
        assert [(row["image"], row["mask"]) for row in rows.values()] == [(value, value + 100) for value in some]
        assert list(rows) == [f"{part}/{i}" for i in number[part]]
    everything = values(open_source(registry, DataOptions("folder", {"path": str(tmp_path)}), "all"))
    assert [row["image"] for row in everything.values()] == list(range(6))
    assert Folder.parts(tmp_path) == ("train", "validation", "test")


def test_parts_may_be_named_folder_by_folder(tmp_path: Path) -> None:
    tree(tmp_path, {f"a/{i}.png": i for i in FOUR} | {f"b/{i}.png": i + 4 for i in FOUR})
    folders = {"image": {"train": "a", "test": "b"}}
    assert [row["image"] for row in values(Folder(tmp_path, folders=folders)).values()] == [0, 1, 2, 3]
    assert [row["image"] for row in values(Folder(tmp_path, part="test", folders=folders)).values()] == [4, 5, 6, 7]


def test_a_part_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path / "a", {f"{part}/images/{i}.png": i for i in FOUR for part in ("train", "val")})
    with pytest.raises(RequestError, match=r"part = 'test', expected one of the parts in .*: train, validation"):
        open_source(registry, DataOptions("folder", {"path": str(tmp_path / "a")}), "test")
    tree(tmp_path / "b", {f"images/{i}.png": i for i in FOUR})
    with pytest.raises(RequestError, match=r"'validation', expected train or all.*split.validation holds rows out"):
        open_source(registry, DataOptions("folder", {"path": str(tmp_path / "b")}), "validation")


def test_a_table_beside_parts_gives_each_its_lines(tmp_path: Path) -> None:
    files = {f"{part}/images/{part[0]}{i}.png": i for i in range(3) for part in ("train", "val")}
    table = "file,label\n" + "".join(f"{word}{i},{word}\n" for i in range(3) for word in "tv")
    tree(tmp_path, {**files, "labels.csv": table})
    assert {row["label"] for row in values(Folder(tmp_path)).values()} == {"t"}
    assert {row["label"] for row in values(Folder(tmp_path, part="validation")).values()} == {"v"}


def test_a_line_that_could_be_of_two_parts_is_refused(tmp_path: Path) -> None:
    files = {f"{part}/images/{i}.png": i for i in range(3) for part in ("train", "val")}
    tree(tmp_path, {**files, "labels.csv": "file,label\n0,x\n1,y\n2,x\n"})
    with pytest.raises(RequestError, match=r"labels.csv line 2: found '0' in train, validation alike"):
        Folder(tmp_path)
    text = "file,label\n" + "".join(f"{p}/images/{i}.png,{p}\n" for i in range(3) for p in ("train", "val"))
    (tmp_path / "labels.csv").write_text(text)
    assert {row["label"] for row in values(Folder(tmp_path)).values()} == {"train"}
    assert {row["label"] for row in values(Folder(tmp_path, part="validation")).values()} == {"val"}


def test_files_in_folders_of_folders_have_their_path_as_stem(tmp_path: Path) -> None:
    files = {f"images/{city}/{i}.png": i for city in "ab" for i in range(2)}
    masks = {f"masks/{city}/{i}.png": 100 + i for city in "ab" for i in range(2)}
    tree(tmp_path, {**files, **masks})
    assert values(Folder(tmp_path)) == {f"{city}/{i}": {"image": i, "mask": 100 + i} for city in "ab" for i in range(2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folders": {"image": "photos"}}, r"folders.image = .*expected a folder, found nothing"),
        ({"folders": {"image": {"tain": "images"}}}, r"folders.image.tain .*parts among train, validation, test"),
        (
            {"suffixes": {"maks": "_mask"}},
            r"suffixes.maks = '_mask', expected a variable that has a folder: image, mask",
        ),
        ({"tables": ["labels.csv"]}, r"tables = .*labels.csv.*expected a file, found nothing"),
        ({"part": "tain"}, r"part = 'tain', expected one of train, validation, test, all; did you mean 'train'"),
        ({"ignore": ["*"]}, r"found images, masks in .*expected folders of files"),
    ],
)
def test_wrong_options_are_told_in_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{i}.png": i for i in FOUR} | {f"masks/{i}.png": 100 + i for i in FOUR})
    with pytest.raises(RequestError, match=message) as told:
        Folder(tmp_path, **options)
    assert "\n" not in str(told.value)


def test_what_is_read_of_parts_is_what_is_on_the_disk(tmp_path: Path, registry: Registry) -> None:
    tree(
        tmp_path,
        {f"images/training/{i}.png": 10 * i for i in FOUR} | {f"annotations/training/{i}.png": i % 3 for i in FOUR},
    )
    variables = [registry.modality("image", channels=1, size=2), registry.modality("mask", name="annotation", size=2, classes=3)]  # fmt: skip
    batch = open_data(registry, DataOptions("folder", {"path": str(tmp_path)}), variables).take(range(4))
    assert batch.values["annotation"][:, 0, 0].tolist() == [0, 1, 2, 0]
    assert np.allclose((batch.values["image"][:, 0, 0, 0] + 1) / 2 * 255, [0, 10, 20, 30])


def test_tables_in_the_folders_of_parts_are_of_their_parts(tmp_path: Path) -> None:
    files = {f"{part}/images/{i}.png": i for i in range(3) for part in ("train", "val")}
    tables = {
        f"{part}/labels.csv": "file,label\n" + "".join(f"{i},{part}\n" for i in range(3)) for part in ("train", "val")
    }
    tree(tmp_path, {**files, **tables})
    for part, word in (("train", "train"), ("validation", "val")):
        source = Folder(tmp_path, part=part)
        assert source.names == ("image", "label")
        assert [row["label"] for row in source] == [word] * 3 == list(source.column("label"))
    assert [row["label"] for row in Folder(tmp_path, part="all")] == ["train"] * 3 + ["val"] * 3
    assert list(Folder(tmp_path, part="all").column("label")) == ["train"] * 3 + ["val"] * 3


def test_the_column_that_names_the_files_is_told_where_it_is_not_the_first(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {f"images/a{i}.png": i for i in FOUR} | {"t.csv": "n,file\n" + "".join(f"{i},a{i}.png\n" for i in FOUR)},
    )
    source = Folder(tmp_path)
    assert source.names == ("image", "n")
    assert source.notes == ["t.csv: its column file names the files"]
