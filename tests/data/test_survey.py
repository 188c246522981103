"""Layouts that public data sets have, told apart by what lies in them: the source, and the rows that it reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data.sources.survey import survey
from tests.data.test_folder import tree, values

N = range(4)


def both(image: str, mask: str, **more: Any) -> dict[str, Any]:
    """Files of four images and their masks."""
    return {image.format(i): i for i in N} | {mask.format(i): 100 + i for i in N} | more


PAIRS = [(i, 100 + i) for i in N]
TREES: dict[str, tuple[dict[str, Any], str, str]] = {
    "Kvasir-SEG": (both("images/cju{}a.jpg", "masks/cju{}a.jpg") | {"bboxes.json": "{}"}, "image", "mask"),
    "ISIC 2018": (
        both("ISIC2018_Task1-2_Training_Input/ISIC_000000{}.jpg", "ISIC2018_Task1_Training_GroundTruth/ISIC_000000{}_segmentation.png"),
        "ISIC2018_Task1-2_Input",
        "ISIC2018_Task1_GroundTruth",
    ),
    "ISIC 2017, with superpixels": (
        both("ISIC-2017_Training_Data/ISIC_000000{}.jpg", "ISIC-2017_Training_Part1_GroundTruth/ISIC_000000{}_segmentation.png")
        | {f"ISIC-2017_Training_Data/ISIC_000000{i}_superpixels.png": 50 for i in N},
        "ISIC-2017_Data",
        "ISIC-2017_Part1_GroundTruth",
    ),
    "Carvana": (
        both("train/0c{}_01.jpg", "train_masks/0c{}_01_mask.gif") | {"test/9_01.jpg": 9, "train_masks.csv": "img,rle_mask\n" + "".join(f"0c{i}_01.jpg,1 2\n" for i in N)},
        "image",
        "mask",
    ),
    "Cityscapes": (
        both("leftImg8bit/train/aachen/aachen_00000{}_000019_leftImg8bit.png", "gtFine/train/aachen/aachen_00000{}_000019_gtFine_labelIds.png")
        | {f"gtFine/train/aachen/aachen_00000{i}_000019_gtFine_{kind}.png": 7 for i in N for kind in ("color", "instanceIds")}
        | {f"gtFine/train/aachen/aachen_00000{i}_000019_gtFine_polygons.json": "{}" for i in N}
        | {"leftImg8bit/val/bonn/bonn_000000_000019_leftImg8bit.png": 8, "gtFine/val/bonn/bonn_000000_000019_gtFine_labelIds.png": 9},
        "leftImg8bit",
        "gtFine",
    ),
    "ADE20K": (both("images/training/ADE_train_0000{}.jpg", "annotations/training/ADE_train_0000{}.png") | both("images/validation/v{}.jpg", "annotations/validation/v{}.png"), "image", "annotation"),
    "COCO-Stuff": (both("images/train2017/00000000{}.jpg", "annotations/train2017/00000000{}.png") | both("images/val2017/v{}.jpg", "annotations/val2017/v{}.png"), "image", "annotation"),
    "Pascal VOC": (
        both("VOC2012/JPEGImages/2007_00{}.jpg", "VOC2012/SegmentationClass/2007_00{}.png")
        | {f"VOC2012/Annotations/2007_00{i}.xml": "<a/>" for i in N}
        | {f"VOC2012/ImageSets/Segmentation/{part}.txt": "2007_000\n" for part in ("train", "val", "trainval")},
        "JPEGImage",
        "SegmentationClass",
    ),
    "LGG, side by side by patient": (both("kaggle_3m/TCGA_CS_{0}/TCGA_CS_{0}_1.tif", "kaggle_3m/TCGA_CS_{0}/TCGA_CS_{0}_1_mask.tif") , "image", "mask"),
    "side by side": (both("{}.png", "{}_mask.png"), "image", "mask"),
    "parts that hold both": (both("train/images/{}.png", "train/masks/{}.png") | both("test/images/t{}.png", "test/masks/t{}.png"), "image", "mask"),
    "an archive's own folder": (both("archive/images/{}.png", "archive/masks/{}.png", **{"__MACOSX/archive/._x": b"\0"}), "image", "mask"),
    "COCO": (
        both("train2017/00000000{}.jpg", "stuff/train2017/00000000{}.png")
        | {"val2017/9.jpg": 9, "stuff/val2017/9.png": 8, "annotations/instances_train2017.json": "{}", "annotations/instances_val2017.json": "{}"},
        "image",
        "stuff",
    ),
    "CVAT": (both("JPEGImages/a{}.jpg", "SegmentationClass/a{}.png") | {"ImageSets/Segmentation/default.txt": "a0\n", "labelmap.txt": "#"}, "JPEGImage", "SegmentationClass"),
    "labelme, with masks": (both("images/a{}.jpg", "masks/a{}.png") | {f"images/a{i}.json": '{"shapes": []}' for i in N}, "image", "mask"),
    "prefixes": (both("imgs/img_{}.png", "gt/gt_{}.png"), "img", "gt"),
    "names that say nothing, but meet": (both("A/scene{}x.png", "B/scene{}x_b.png"), "A", "B"),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_images_and_masks_of_public_layouts_meet(name: str, tmp_path: Path, registry: Registry) -> None:
    files, image, mask = TREES[name]
    tree(tmp_path, files)
    found = survey(tmp_path)
    assert (found.source, found.question) == ("folder", "")
    rows = values(registry.source(found.source, **found.options)).values()
    assert [(row[image], row[mask]) for row in rows] == PAIRS, found
    assert found.evidence


CLASSES: dict[str, tuple[dict[str, Any], dict[int, str]]] = {
    "ImageNet": (
        {f"train/n0144{k}/n0144{k}_{i}.JPEG": 10 * k + i for k in range(3) for i in range(2)}
        | {f"val/n0144{k}/v_{k}.JPEG": 90 for k in range(3)},
        {10 * k + i: f"n0144{k}" for k in range(3) for i in range(2)},
    ),
    "chest X-rays": (
        {f"chest_xray/train/{name}/{name}-{i}.jpeg": 10 * k + i for k, name in enumerate(("NORMAL", "PNEUMONIA")) for i in range(2)}
        | {f"chest_xray/test/{name}/t{k}.jpeg": 90 for k, name in enumerate(("NORMAL", "PNEUMONIA"))},
        {10 * k + i: name for k, name in enumerate(("NORMAL", "PNEUMONIA")) for i in range(2)},
    ),
    "faces with and without a mask": (
        {f"data/{name}/{name}_{i}.jpg": 10 * k + i for k, name in enumerate(("with_mask", "without_mask")) for i in range(2)},
        {10 * k + i: name for k, name in enumerate(("with_mask", "without_mask")) for i in range(2)},
    ),
    "digits by folders": (
        {f"{k}/{i}.png": 10 * k + i for k in range(11) for i in range(2)},
        {10 * k + i: str(k) for k in range(11) for i in range(2)},
    ),
    "vehicles, of which one is called as a part is": (
        {f"{name}/{name}{i}.jpg": 10 * k + i for k, name in enumerate(("bus", "car", "train")) for i in range(2)},
        {10 * k + i: name for k, name in enumerate(("bus", "car", "train")) for i in range(2)},
    ),
    "cats and dogs": (
        {f"train/{name}s/{name}.{i}.jpg": 10 * k + i for k, name in enumerate(("cat", "dog")) for i in range(2)},
        {10 * k + i: f"{name}s" for k, name in enumerate(("cat", "dog")) for i in range(2)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_folders_of_classes_are_told_from_modalities(name: str, tmp_path: Path, registry: Registry) -> None:
    files, expected = CLASSES[name]
    tree(tmp_path, files)
    found = survey(tmp_path)
    assert (found.source, found.question) == ("imagefolder", "")
    source = registry.source(found.source, **found.options)
    assert {row["image"]: row["label"] for row in values(source).values()} == expected
    assert "are classes" in found.evidence[0]


def test_what_may_be_two_classes_or_two_modalities_is_asked(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, {f"{name}/{i}.png": i for name in ("cat", "dog") for i in N})
    found = survey(tmp_path)
    assert "the folders cat and dog hold files of the same names" in found.question
    assert "--assume layout=classes or --assume layout=modalities" in found.question
    classes = survey(tmp_path, "classes")
    assert (classes.source, classes.question) == ("imagefolder", "")
    assert len(registry.source(classes.source, **classes.options)) == 8
    paired = survey(tmp_path, "modalities")
    assert (paired.source, paired.question) == ("folder", "")
    assert list(values(registry.source(paired.source, **paired.options)).values()) == [{"cat": i, "dog": i} for i in N]
    with pytest.raises(RequestError, match="layout = 'class', expected one of classes, modalities"):
        survey(tmp_path, "class")


def test_two_sets_of_photographs_that_are_no_pairs_are_no_rows(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, {f"{part}{side}/n0{k}{9 - i if k else i}.jpg": i for part in ("train", "test") for k, side in enumerate("AB") for i in N})  # fmt: skip
    found = survey(tmp_path)
    assert found.source == "folder"
    with pytest.raises(RequestError, match=r"found 0 of 4 names of B among the 4 of A .*expected stems that meet"):
        registry.source(found.source, **found.options)


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"images/0.png": 1, "masks/0.png": 2, "rows.csv": "image,mask\nimages/0.png,masks/0.png\n"}, "table"),
        ({"images/0.png": 1, "masks/0.png": 2, "labels.csv": "file,label\n0.png,1\n"}, "folder"),
        ({"images/0.png": 1, "rows.csv": "image,label\nimages\\0.png,1\n"}, "table"),
        ({"0.png": 1, "1.png": 1, "metadata.csv": "file_name,text\n0.png,a\n1.png,b\n"}, "imagefolder"),
        ({"train/0.png": 1, "train/metadata.jsonl": '{"file_name": "0.png", "text": "a"}\n'}, "imagefolder"),
        ({"train-images-idx3-ubyte": b"", "train-labels-idx1-ubyte": b""}, "idx"),
        ({"a.tar": b""}, "shards"),
        ({"dataset_dict.json": "{}"}, "datasets"),
        ({"rows.parquet": b""}, "table"),
        ({"rows.npz": b"", "README": "x"}, "npz"),
    ],
)
def test_other_kinds_are_known_by_their_files(files: dict[str, Any], source: str, tmp_path: Path) -> None:
    tree(tmp_path, files)
    assert survey(tmp_path).source == source


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is nothing that a source reads; expected an .npz file"),
        ({"a.xyz": "1"}, "holds a.xyz, which is nothing that a source reads"),
        ({"a.csv": "x\n1\n", "b.csv": "x\n1\n"}, "found a.csv, b.csv in .*expected one of them"),
        ({".DS_Store": "", "__MACOSX/x": ""}, "is nothing that a source reads"),
    ],
)
def test_what_nothing_reads_is_told(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    tree(tmp_path, files)
    with pytest.raises(RequestError, match=message) as told:
        survey(tmp_path)
    assert "\n" not in str(told.value)
    with pytest.raises(RequestError, match="there is nothing at"):
        survey(tmp_path / "nowhere")


LABELLED: dict[str, dict[str, Any]] = {
    "NIH chest X-rays": {f"images_00{i}/images/0000000{i}_000.png": i for i in N}
    | {"Data_Entry_2017.csv": "Image Index,Finding Labels,Patient Age,\n" + "".join(f"0000000{i}_000.png,{'ab'[i % 2]},{50 + i},\n" for i in N)},
    "CelebA": {f"img_align_celeba/img_align_celeba/00000{i}.jpg": i for i in N}
    | {"list_attr_celeba.csv": "image_id,Finding Labels,Patient Age\n" + "".join(f"00000{i}.jpg,{'ab'[i % 2]},{50 + i}\n" for i in N)},
    "a table beside flat images": {f"{i:03d}.png": i for i in N}
    | {"labels.csv": "id;Finding Labels;Patient Age\n" + "".join(f"{i:03d};{'ab'[i % 2]};{50 + i}\n" for i in N)},
}  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_images_meet_the_lines_of_a_table(name: str, tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, LABELLED[name])
    found = survey(tmp_path)
    assert (found.source, found.question) == ("folder", "")
    rows = values(registry.source(found.source, **found.options)).values()
    assert [row["image"] for row in rows] == list(N)
    assert [(row["Finding Labels"], row["Patient Age"]) for row in rows] == [("ab"[i % 2], 50 + i) for i in N]


def test_images_alone_are_images(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, {f"img_align_celeba/00000{i}.jpg": i for i in N} | {"list_attr_celeba.txt": "4\na b\n"})
    found = survey(tmp_path)
    assert [row["image"] for row in values(registry.source(found.source, **found.options)).values()] == list(N)


def test_what_lies_beside_is_told(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), dtype=np.uint8)
    (tmp_path / "a" / "images").mkdir(parents=True)
    (tmp_path / "a" / "masks").mkdir()
    for k in range(3):
        for folder in ("images", "masks"):
            Image.fromarray(pixels).save(tmp_path / "a" / folder / f"{k}.png")
    Image.fromarray(pixels).save(tmp_path / "a" / "loose.png")
    assert "left out: 1 images that lie beside the folders" in survey(tmp_path / "a").evidence[-1]
    (tmp_path / "b" / "masks").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(pixels).save(tmp_path / "b" / f"{k}.png")
        Image.fromarray(pixels).save(tmp_path / "b" / "masks" / f"{k}.png")
    (tmp_path / "b" / "labels.csv").write_text("file,kind\n0.png,cat\n1.png,dog\n2.png,cat\n")
    found = survey(tmp_path / "b")
    assert found.source == "table"
    assert found.evidence[-1] == "left out: the folder masks, whose pictures no column of labels.csv names"
