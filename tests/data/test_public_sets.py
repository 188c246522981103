"""Files in the conventions of public data sets: the right values, or one line that asks or refuses."""

import io
import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcore import Registry
from tests.data.test_exports import chosen
from tests.data.test_people import BINARY, PHOTOS, REGIONS, ROWS, asked, photos, read, save, table

IMAGES = np.moveaxis(PHOTOS, 3, 1) / 127.5 - 1


def same(values: Any, right: np.ndarray) -> bool:
    return np.allclose(values, right, rtol=0, atol=1e-6)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def shard(at: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(at, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return at


# ---- images and masks side by side ----


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        ("0016E5_{:05}.png", "0016E5_{:05}_L.png", "'_L' after it, and have 32 colours at most"),  # CamVid
        ("data/{:02}.png", "data/{:02}_roi.png", "'_roi' after it"),
        ("img_{:02}.png", "mask_{:02}.png", "'mask_' before it"),
        ("{:02}.png", "gt-{:02}.png", "'gt-' before it"),
        ("x/a ({}).png", "x/a ({})_mask.png", "'_mask' after it"),  # BUSI
    ],
)
def test_masks_beside_their_images_are_masks(
    image: str, mask: str, words: str, tmp_path: Path, registry: Registry
) -> None:
    for i in range(ROWS):
        save(tmp_path / image.format(i), PHOTOS[i])
        save(tmp_path / mask.format(i), REGIONS[i])
    values, said, _ = read(tmp_path, registry)
    assert words in said
    assert same(values["image"], IMAGES)
    assert np.array_equal(values["mask"], REGIONS)


def test_one_more_mask_of_an_image_is_no_picture(tmp_path: Path, registry: Registry) -> None:
    """As BUSI has a second tumour in some of its images, in folders of what they are."""
    for i in range(ROWS):
        save(tmp_path / f"{'ab'[i % 2]}/{i:02}.png", PHOTOS[i])
        save(tmp_path / f"{'ab'[i % 2]}/{i:02}_mask.png", BINARY[i] * 255)
    save(tmp_path / "a/02_mask_1.png", BINARY[0] * 255)
    values, said, _ = read(tmp_path, registry)
    assert len(values["image"]) == len(values["mask"]) == ROWS
    assert "left out: 1 more of an image that has one, such as a/02_mask_1" in said
    assert "the folders that they lie in are no classes: a, b" in said


def test_masks_of_two_people_are_told(tmp_path: Path, registry: Registry) -> None:
    """As CHASE-DB1 has them."""
    for i in range(ROWS):
        save(tmp_path / f"Image_{i:02}L.jpg", PHOTOS[i])
        for who, mask in (("1stHO", BINARY[i]), ("2ndHO", 1 - BINARY[i])):
            save(tmp_path / f"Image_{i:02}L_{who}.png", Image.fromarray(mask * 255).convert("1"))
    values, said, _ = read(tmp_path, registry)
    assert np.array_equal(values["mask"], BINARY)
    assert len(values["image"]) == ROWS
    assert "left out: those with '_2ndHO'" in said


def test_photographs_beside_photographs_are_no_masks(tmp_path: Path, registry: Registry) -> None:
    for i in range(ROWS):
        save(tmp_path / f"{i:02}.png", PHOTOS[i])
        save(tmp_path / f"{i:02}_small.png", PHOTOS[-i])
    assert list(read(tmp_path, registry)[0]) == ["image"]


@pytest.mark.parametrize("form", ["folder", "classes", "shards"])
def test_masks_among_pictures_are_asked(form: str, tmp_path: Path, registry: Registry) -> None:
    """Names that say nothing, IDRiD's folders, and a tar of folders: as pictures or classes they would be trained on without a word."""
    if form == "shards":
        members = {f"images/{i:02}.png": png(PHOTOS[i]) for i in range(ROWS)}
        path = shard(tmp_path / "a.tar", members | {f"masks/{i:02}.png": png(REGIONS[i]) for i in range(ROWS)})
    else:
        path = tmp_path
        names = ("a/{:02}x.png", "b/{:02}y.png") if form == "classes" else ("{:02}x.png", "{:02}y.png")
        for i in range(ROWS):
            save(tmp_path / names[0].format(i), PHOTOS[i])
            save(tmp_path / names[1].format(i + 50), REGIONS[i])
    line = asked(path, registry)
    assert "image has 24 pictures of 8 values at most, such as" in line
    assert len(read(path, registry, chosen(line, "all are pictures"))[0]["image"]) == 2 * ROWS


def test_drawings_of_few_values_are_drawings(tmp_path: Path, registry: Registry) -> None:
    for i in range(ROWS):
        save(tmp_path / f"images/{i}.png", BINARY[i] * 255)
    assert list(read(tmp_path, registry)[0]) == ["image"]


# ---- folders ----


def test_numbered_folders_beside_a_table_are_one_whole(tmp_path: Path, registry: Registry) -> None:
    """As HAM10000 comes."""
    for i in range(ROWS):
        save(tmp_path / f"HAM10000_images_part_{1 + i // 12}/ISIC_{i:07}.png", PHOTOS[i])
    table(tmp_path, ["lesion_id,image_id,dx", *(f"HAM_{i // 2},ISIC_{i:07},{'abc'[i % 3]}" for i in range(ROWS))])
    values, _, _ = read(tmp_path, registry)
    assert same(values["image"], IMAGES)
    assert values["dx"] == [i % 3 for i in range(ROWS)]


def test_a_table_in_each_folder_of_a_class_changes_no_class(tmp_path: Path, registry: Registry) -> None:
    """As GTSRB has them."""
    for i in range(ROWS):
        save(tmp_path / f"{i % 6:05}/{i:05}.ppm", PHOTOS[i])
    for k in range(6):
        table(tmp_path / f"{k:05}", ["Filename;ClassId", "00000.ppm;1"], f"GT-{k:05}.csv")
    values, said, options = read(tmp_path, registry)
    assert options["label"]["names"] == [f"{k:05}" for k in range(6)]
    assert sorted(values["label"]) == sorted(i % 6 for i in range(ROWS))
    assert "6 files that are no images are left out, such as 00000/GT-00000.csv" in said


def test_folders_in_classes_are_told(tmp_path: Path, registry: Registry) -> None:
    for k, name in enumerate(("animals/cat", "animals/dog", "cars/bus", "cars/van")):
        for i in range(4):
            save(tmp_path / name / f"{k}_{i}.png", PHOTOS[4 * k + i])
    values, said, _ = read(tmp_path, registry)
    assert values["label"] == [0] * 8 + [1] * 8
    assert "the folders in them, such as animals/cat, are no classes of their own" in said


@pytest.mark.parametrize("top", ["", "stage1_train/"])
def test_folders_of_a_row_each_are_no_classes(top: str, tmp_path: Path, registry: Registry) -> None:
    """The Data Science Bowl's in a folder, and BraTS' files, which have the patient's name."""
    for i in range(8):
        save(tmp_path / f"dsb/{top}id{i}/images/id{i}.png", PHOTOS[i])
        save(tmp_path / f"dsb/{top}id{i}/masks/m{i}.png", BINARY[i] * 255)
        for kind in ("t1", "flair", "seg"):
            save(tmp_path / f"brats/{top}BraTS_{i:03}/BraTS_{i:03}_{kind}.png", PHOTOS[i][..., 0])
    assert "each of the 8 folders (id0, id1" in asked(tmp_path / "dsb", registry)
    line = asked(tmp_path / "brats", registry)
    assert "holds flair and seg and t1, files of a row rather than of a class" in line


def test_masks_in_one_folder_more_meet_their_images(tmp_path: Path, registry: Registry) -> None:
    """As Oxford's pets have them, and CUB's birds their images."""
    photos(tmp_path / "pets")
    for i in range(ROWS):
        save(tmp_path / f"pets/annotations/trimaps/{i:02}.png", REGIONS[i] + np.uint8(1))
    values, _, options = read(tmp_path / "pets", registry)
    assert np.array_equal(values["annotation"], REGIONS)
    assert options["annotation"]["values"] == [1, 2, 3]
    for i in range(ROWS):
        save(tmp_path / f"birds/CUB/images/{i % 3:03}/{i:02}.png", PHOTOS[i])
        save(tmp_path / f"birds/segmentations/{i % 3:03}/{i:02}.png", BINARY[i] * 255)
    values, said, _ = read(tmp_path / "birds", registry)
    order = sorted(range(ROWS), key=lambda i: (i % 3, i))
    assert np.array_equal(values["segmentation"], BINARY[order])
    assert same(values["CUB"], IMAGES[order])
    assert "are no variable (000, 001, 002)" in said


def test_a_folder_of_masks_for_each_organ_is_asked(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    for i in range(ROWS):
        save(tmp_path / f"masks/liver/{i:02}.png", BINARY[i] * 255)
        save(tmp_path / f"masks/spleen/{i:02}.png", (1 - BINARY[i]) * 255)
    line = asked(tmp_path, registry)
    assert "the folder masks holds liver, spleen, each with files called as those of image" in line
    assume = [shlex.split(line)[-1], "liver=mask", "spleen=mask"]
    values, _, _ = read(tmp_path, registry, assume)
    assert np.array_equal(values["liver"], BINARY)
    assert np.array_equal(values["spleen"], 1 - BINARY)


def test_train_val_is_training(tmp_path: Path, registry: Registry) -> None:
    """As SUIM calls it."""
    for i in range(ROWS):
        part = "train_val" if i < 16 else "TEST"
        save(tmp_path / f"{part}/images/{part}_{i:02}.png", PHOTOS[i])
        save(tmp_path / f"{part}/masks/{part}_{i:02}.bmp", REGIONS[i])
    values, said, _ = read(tmp_path, registry)
    assert np.array_equal(values["mask"], REGIONS)
    assert "image of TEST/images and train_val/images" in said


def test_objects_of_pascal_voc_are_no_classes(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path, "JPEGImages/{:02}.jpg")
    for i in range(6):
        save(tmp_path / f"SegmentationClass/{i:02}.png", REGIONS[i])
        save(tmp_path / f"SegmentationObject/{i:02}.png", BINARY[i] * np.uint8(1 + i % 3))
    assert "SegmentationObject has 4 values up to 3, and is called so" in asked(tmp_path, registry)


@pytest.mark.parametrize("parts", [False, True])
def test_files_that_metadata_name_are_read(parts: bool, tmp_path: Path, registry: Registry) -> None:
    """Hugging Face's columns for several images of a row."""
    for i in range(ROWS):
        save(tmp_path / f"{i:02}.png", PHOTOS[i])
        save(tmp_path / f"m{i:02}.png", REGIONS[i])
    lines = [
        json.dumps({"image_file_name": f"{i:02}.png", "mask_file_name": f"m{i:02}.png", "k": i % 2, **({"split": "train" if i % 3 else "test"} if parts else {})})
        for i in range(ROWS)
    ]  # fmt: skip
    table(tmp_path, lines, "metadata.jsonl")
    values, _, _ = read(tmp_path, registry)
    assert same(values["image_file_name"], IMAGES)
    assert np.array_equal(values["mask_file_name"], REGIONS)
    assert values["k"] == [i % 2 for i in range(ROWS)]


def test_an_archives_own_folder_is_looked_into(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "a" / "data").mkdir(parents=True)
    np.savez(tmp_path / "a" / "data" / "rows.npz", image=PHOTOS, label=np.arange(ROWS) % 3)
    assert read(tmp_path / "a", registry)[0]["label"] == [i % 3 for i in range(ROWS)]
    photos(tmp_path / "b" / "data", "{:02}.png")
    table(tmp_path / "b" / "data", ["file,kind", *(f"{i:02}.png,{'ab'[i % 2]}" for i in range(ROWS))])
    values, said, _ = read(tmp_path / "b", registry)
    assert values["kind"] == [i % 2 for i in range(ROWS)]
    assert "rows.csv is left out" not in said
    assert "no pictures or arrays" not in said


# ---- shards ----


def test_classes_of_shards_may_be_words(tmp_path: Path, registry: Registry) -> None:
    members = {
        f"{i:02}.{end}": data
        for i in range(ROWS)
        for end, data in (("png", png(PHOTOS[i])), ("cls", [b"dog", b"cat\n"][i % 2]))
    }
    values, _, options = read(shard(tmp_path / "a.tar", members), registry)
    assert options["label"]["names"] == ["cat", "dog"]
    assert values["label"] == [1 - i % 2 for i in range(ROWS)]


def test_keys_with_dots_are_refused(tmp_path: Path, registry: Registry) -> None:
    members = {f"a.{i:03}.{end}": png(PHOTOS[i]) for i in range(ROWS) for end in ("png", "seg.png")}
    assert "found 48 variables" in asked(shard(tmp_path / "a.tar", members), registry)


def test_a_packed_shard_is_told(tmp_path: Path, registry: Registry) -> None:
    assert "unpack it" in asked(shard(tmp_path / "a.tar", {"0.png": png(PHOTOS[0])}, "w:gz"), registry)


# ---- pixels ----


def test_pictures_of_floats_are_read_as_they_are_said_to_be(tmp_path: Path, registry: Registry) -> None:
    grey = PHOTOS[..., 0].astype(np.float32) / 255
    for i in range(ROWS):
        save(tmp_path / f"images/{i:02}.tif", Image.fromarray(grey[i]))
    values, _, options = read(tmp_path, registry)
    assert options["image"]["limits"] == [0, 1]
    assert same(values["image"], 2 * grey[:, None] - 1)


def test_deep_greys_of_a_portable_map_are_its_own(tmp_path: Path, registry: Registry) -> None:
    deep = (4 * PHOTOS[..., 0].astype(np.uint16)).astype(">u2")
    (tmp_path / "images").mkdir()
    for i in range(ROWS):
        (tmp_path / f"images/{i:02}.pgm").write_bytes(b"P5\n16 16\n1023\n" + deep[i].tobytes())
    assert np.allclose(read(tmp_path, registry)[0]["image"], 2 * deep[:, None].astype(float) / 1023 - 1, atol=1e-4)


@pytest.mark.parametrize(("lossless", "levels"), [(False, 2), (False, 3), (True, 3)])
def test_webp_blurs_maps_unless_it_is_lossless(lossless: bool, levels: int, tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path)
    maps = np.minimum(REGIONS, levels - 1)
    for i in range(ROWS):
        mask = maps[i] * np.uint8(255 if levels == 2 else 100)
        save(tmp_path / f"masks/{i:02}.webp", np.stack([mask] * 3, 2), lossless=lossless, quality=60)
    if not lossless and levels == 3:
        assert "is WebP, which has blurred its" in asked(tmp_path, registry)
        return
    values, said, _ = read(tmp_path, registry)
    assert np.array_equal(values["mask"], maps)
    assert lossless or "WebP has blurred the values 0 and 255" in said


def test_values_close_about_a_few_are_asked(tmp_path: Path, registry: Registry) -> None:
    """A lossy file's, saved as PNG."""
    photos(tmp_path)
    for i in range(ROWS):
        rng = np.random.Generator(np.random.Philox(i))
        noise = np.kron(rng.integers(0, 4, (8, 8)), np.ones((2, 2), int))
        save(tmp_path / f"masks/{i:02}.png", (REGIONS[i] * 100 + noise).astype(np.uint8))
    assert "12 values close about 2, 100, 202, as a lossy format leaves them" in asked(tmp_path, registry)


# ---- what is not read ----


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("cifar/data_batch_1", b"\x80\x02}q\x01(", "pickles run code and are not read"),
        ("IM0001", bytes(128) + b"DICM" + bytes(9), "it is DICOM: make PNG files"),
        ("images/1", b"\x89PNG\r\n", "it is PNG: rename it"),
        ("labels.txt", b"a.png 1\n", "if it is a table, save it as CSV"),
        ("data/a-0.parquet", b"PAR1", "found"),
    ],
)
def test_what_a_file_is_tells_what_to_do(
    name: str, data: bytes, words: str, tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(data)
    assert words in asked(tmp_path, registry)


def test_texts_and_vectors_beside_their_pictures_are_told(tmp_path: Path, registry: Registry) -> None:
    photos(tmp_path / "a", "{:02}.jpg")
    for i in range(ROWS):
        (tmp_path / "a" / f"{i:02}.txt").write_text("a red cat")
    assert "texts of pictures are read in a folder of their own, such as captions/" in read(tmp_path / "a", registry)[1]
    photos(tmp_path / "b", "{:02}.jpg", 12)
    for i in range(11):
        np.save(tmp_path / "b" / f"{i:02}.npy", np.zeros(4, np.float32))
    line = asked(tmp_path / "b", registry)
    assert "move those of one kind into a folder of their own" in line
    assert len(read(tmp_path / "b", registry, ['options.ignore=["*.npy"]'])[0]["image"]) == 12


def test_rows_on_the_last_axis_are_told(tmp_path: Path, registry: Registry) -> None:
    """As SVHN has them."""
    np.savez(tmp_path / "a.npz", X=np.moveaxis(PHOTOS, 0, 3), y=np.arange(ROWS) % 3)
    assert "X: its last axis is of 24: save np.moveaxis(X, -1, 0)" in read(tmp_path / "a.npz", registry)[1]


def test_names_that_have_their_parts_in_them_meet(tmp_path: Path, registry: Registry) -> None:
    """As DRIVE has its vessels: what follows a stem differs from part to part."""
    for part, first in (("training", 0), ("test", ROWS // 2)):
        for i in range(first, first + ROWS // 2):
            save(tmp_path / part / "images" / f"{i:02}_{part}.tif", PHOTOS[i])
            save(tmp_path / part / "1st_manual" / f"{i:02}_manual1.gif", BINARY[i] * 255)
            save(tmp_path / part / "mask" / f"{i:02}_{part}_mask.gif", (1 - BINARY[i]) * 255)
    assert "1st_manual has 2 different" in asked(tmp_path, registry)
    for path, rows in ((tmp_path, ROWS), (tmp_path / "training", ROWS // 2)):
        values, _, _ = read(path, registry, ["1st_manual=mask"])
        assert np.array_equal(values["x_1st_manual"], BINARY[:rows])
        assert np.array_equal(values["mask"], 1 - BINARY[:rows])
        assert np.allclose(values["image"], np.moveaxis(PHOTOS[:rows], 3, 1) / 127.5 - 1, atol=1e-6)


def test_stems_keep_the_name_of_a_part_that_not_all_have() -> None:
    from mmcore.data.sources.pairs import without_word

    assert without_word(["x/01_test", "test_2", "3test"], "test") == ["x/01_{part}", "{part}_2", "3{part}"]
    assert without_word(["x/01_test", "test_2"], "test") == ["x/01_{part}", "{part}_2"]
    assert without_word(["01_testing", "test_2"], "test") == ["01_testing", "test_2"]
    assert without_word(["a", "b"], "") == ["a", "b"]
