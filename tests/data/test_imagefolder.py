"""Folders of classes and images with metadata: each image, its class and what is told of it."""

from pathlib import Path
from typing import Any

import pytest

from mmcore import Registry, RequestError
from mmcore.data import DataOptions, FilterOptions, Table, open_data, open_source
from mmcore.data.sources.imagefolder import ImageFolder
from tests.data.test_folder import STRAY, tree, values

CLASSES = {"cat/0.png": 0, "cat/1.jpg": 1, "dog/0.png": 10, "dog/deep/2.png": 12, "owl/0.png": 20}


def labels(source: Any) -> dict[int, Any]:
    """Each picture's class."""
    return {row["image"]: row.get("label") for row in values(source).values()}


def test_a_folder_of_each_class_gives_image_and_class(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, CLASSES | {f"cat/{name}": content for name, content in STRAY.items()})
    source = ImageFolder(tmp_path)
    assert labels(source) == {0: "cat", 1: "cat", 10: "dog", 12: "dog", 20: "owl"}
    assert source.classes == {"label": ("cat", "dog", "owl")}
    assert list(source.column("label")) == ["cat", "cat", "dog", "dog", "owl"]
    assert source.where(3) == f"{tmp_path.name}/ dog/deep/2.png"
    variables = [registry.modality("image", channels=1, size=2), registry.modality("label", classes=3, names=["cat", "dog", "owl"])]  # fmt: skip
    options = DataOptions("imagefolder", {"path": str(tmp_path)}, filters=[FilterOptions("label", drop=["dog"])])
    assert Table.read(open_data(registry, options, variables)).rows.values["label"].tolist() == [0, 0, 2]


def test_classes_are_in_the_order_of_their_names_and_numbers_by_size(tmp_path: Path) -> None:
    tree(tmp_path, {f"{name}/0.png": k for k, name in enumerate(("10", "9", "2", "b\u00e9"))})
    assert ImageFolder(tmp_path).classes == {"label": ("2", "9", "10", "b\u00e9")}


def test_classes_may_be_some_and_in_another_order(tmp_path: Path) -> None:
    tree(tmp_path, CLASSES)
    source = ImageFolder(tmp_path, classes=["owl", "cat"])
    assert source.classes == {"label": ("owl", "cat")}
    assert labels(source) == {0: "cat", 1: "cat", 20: "owl"}
    assert source.notes == ["folders that are not among the classes are left out: dog"]
    with pytest.raises(RequestError, match=r"classes = \['cow'\], expected folders among cat, dog, owl, not 'cow'"):
        ImageFolder(tmp_path, classes=["cow"])


@pytest.mark.parametrize("words", [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "dev", "Test")])  # fmt: skip
def test_parts_with_classes_in_them_are_the_parts(words: tuple[str, ...], tmp_path: Path, registry: Registry) -> None:
    files = {f"{words[0]}/{name}": value for name, value in CLASSES.items()}
    # A part may lack a class, and the class keeps its place; images in no class's folder have none.
    tree(tmp_path, files | {f"{words[1]}/owl/0.png": 30, f"{words[1]}/cat/0.png": 31, f"{words[2]}/7.png": 40})
    options = DataOptions("imagefolder", {"path": str(tmp_path)})
    assert labels(open_source(registry, options)) == {0: "cat", 1: "cat", 10: "dog", 12: "dog", 20: "owl"}
    assert labels(open_source(registry, options, "validation")) == {30: "owl", 31: "cat"}
    assert labels(open_source(registry, options, "test")) == {40: None}
    assert len(open_source(registry, options, "all")) == 8
    for part in ("train", "validation", "test"):
        assert ImageFolder(tmp_path, part=part).classes == {"label": ("cat", "dog", "owl")}
    assert ImageFolder.parts(tmp_path) == ("train", "validation", "test")


METADATA = "file_name,label,age,mask_file_name\n0.png,cat,3,m/0.png\na/1.png,dog,4.5,m/1.png\n"
LINES = (
    '{"file_name": "0.png", "label": "cat", "age": 3, "mask_file_name": "m/0.png"}\n'
    '{"file_name": "a/1.png", "label": "dog", "age": 4.5, "mask_file_name": "m/1.png"}\n'
)


@pytest.mark.parametrize(("name", "text"), [("metadata.csv", METADATA), ("metadata.jsonl", LINES)])
def test_metadata_beside_the_images_are_their_variables(name: str, text: str, tmp_path: Path) -> None:
    tree(tmp_path, {"0.png": 1, "a/1.png": 2, "m/0.png": 101, "m/1.png": 102, name: text})
    source = ImageFolder(tmp_path)
    assert source.names == ("image", "label", "age", "mask")
    assert list(values(source).values()) == [
        {"image": 1, "label": "cat", "age": 3, "mask": 101},
        {"image": 2, "label": "dog", "age": 4.5, "mask": 102},
    ]
    assert source.classes == {}


@pytest.mark.parametrize("form", ["{part}/metadata.csv", "metadata.csv"])
def test_metadata_of_parts_lie_in_them_or_beside_them(form: str, tmp_path: Path) -> None:
    tables: dict[str, str] = {}
    for part, word in (("train", "cat"), ("val", "dog")):
        start = "" if "{" in form else f"{part}/"
        tables.setdefault(form.format(part=part), "file_name,kind\n")
        tables[form.format(part=part)] += f"{start}0.png,{word}\n{start}1.png,{word}\n"
    tree(tmp_path, {f"{part}/{i}.png": i for part in ("train", "val") for i in range(2)} | tables)
    for part, word in (("train", "cat"), ("validation", "dog")):
        rows = values(ImageFolder(tmp_path, part=part))
        assert list(rows.values()) == [{"image": i, "kind": word} for i in range(2)]


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"README.md": "x"}, {}, r"found README.md in .*expected a folder of images for each class, or images and a"),
        ({"0.png": 1, "metadata.csv": "file,label\n0.png,a\n"}, {}, r"found the columns file, label in .*metadata.csv, expected file_name"),
        ({"0.png": 1, "metadata.csv": "file_name,label\n0.png,a\n0.png,b\n"}, {}, r"metadata.csv line 3: found '0.png' again"),
        ({"0.png": 1, "metadata.csv": "file_name,label\n,a\n"}, {}, r"metadata.csv line 2: found no file_name"),
        (
            {"img/0.png": 1, "img/1.png": 1, "metadata.csv": "file_name,label\n0.png,a\n1.png,b\n"},
            {},
            r"found 0 of 2 names of .*metadata.csv among the 2 images \(the images have 'img/0.png', file_name has '0.png'\)",
        ),
        ({"0.png": 1, "metadata.csv": "file_name,a\n0.png,a\n"}, {"classes": ["a"]}, r"classes = \['a'\], expected none beside metadata.csv"),
        ({"cat/0.png": 1}, {"part": "test"}, r"part = 'test', expected train or all"),
        ({"train/cat/0.png": 1, "val/cat/0.png": 1}, {"part": "test"}, r"one of the parts in .*: train, validation"),
        ({"train/cat/0.png": 1, "training/cat/0.png": 1}, {}, r"found train and training in .*expected one folder of the part train"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(
    files: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tree(tmp_path, files)
    with pytest.raises(RequestError, match=message) as told:
        ImageFolder(tmp_path, **options)
    assert "\n" not in str(told.value)


def test_an_image_that_metadata_tell_of_and_that_is_not_there_is_a_bad_row(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, {"0.png": 1, "1.png": 2, "metadata.csv": "file_name,label\n0.png,0\n1.png,1\n2.png,1\n"})
    variables = [registry.modality("image", channels=1, size=2), registry.modality("label", classes=2)]
    rows = open_data(registry, DataOptions("imagefolder", {"path": str(tmp_path)}), variables)
    with pytest.raises(RequestError, match=r"2.png, image: found no file .*2.png"):
        rows.take(range(3))
