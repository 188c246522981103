"""Rows that have no two variables together, or fewer than was promised, are refused before a training."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmcore
from mmcore import Registry, RequestError
from mmcore.data import ColumnOptions, DataOptions, Dataset, FilterOptions, Rows, Table, open_data
from mmcore.data.pairing import presence
from mmcore.data.select import Named, Subset
from mmcore.data.sources.folder import Folder
from tests.data.test_folder import tree

APART: list[dict[str, Any]] = [{"a": k % 3} if k % 2 else {"b": k % 3} for k in range(20)]


@pytest.fixture
def variables(registry: Registry) -> list[Any]:
    return [registry.modality("label", name=name, classes=3) for name in "ab"]


def train(rows: Any, variables: Any, registry: Registry) -> None:
    small = {"width": 4, "depth": 1, "features": 2}
    model = mmcore.compose(variables, backbone="mlp", backbone_options=small, registry=registry)
    mmcore.fit(model, rows, steps=1, batch_size=4, device="cpu", quiet=True)


def test_rows_of_one_variable_each_are_refused_however_they_are_given(variables: Any, registry: Registry) -> None:
    for rows in (APART, Table.read(APART, variables), Dataset(APART, variables)):
        with pytest.raises(RequestError, match=r"found no row with two variables among 20 rows \(a in 10, b in 10"):
            train(rows, variables, registry)
    train(Dataset(APART, variables, unpaired=True), variables, registry)
    train(Table.read(Dataset(APART, variables, unpaired=True)), variables, registry)
    train([*APART, {"a": 1, "b": 2}], variables, registry)
    train([{"a": 1}], variables[:1], registry)


def test_a_shard_of_images_and_one_of_masks_whose_keys_differ_are_told_with_two_of_them(
    tmp_path: Path, registry: Registry
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(file, format="png")
    for name, form in (("images", "{:03d}.png"), ("masks", "{:03d}_m.mask.png")):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for k in range(4):
                info = tarfile.TarInfo(form.format(k))
                info.size = len(file.getvalue())
                archive.addfile(info, io.BytesIO(file.getvalue()))
    both = [registry.modality("image", channels=1, size=2), registry.modality("mask", size=2)]
    options = DataOptions("shards", {"path": str(tmp_path)})
    words = r"no row with two variables among 8 rows \(image in 4, mask in 4; images.tar member 000 and masks.tar member 000_m may be one\)"
    with pytest.raises(RequestError, match=words):
        open_data(registry, options, both)
    assert len(open_data(registry, DataOptions("shards", {"path": str(tmp_path)}, unpaired=True), both)) == 8
    assert len(open_data(registry, options, both, "all")) == 8


def test_a_table_whose_columns_are_filled_in_turn_is_told(tmp_path: Path, variables: Any, registry: Registry) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n" + "".join("1,\n" if k % 2 else ",2\n" for k in range(1000)))
    with pytest.raises(RequestError, match="no row with two variables among 256 of 1000 rows looked at"):
        open_data(registry, DataOptions("table", {"path": str(tmp_path / "rows.csv")}), variables)


@pytest.mark.parametrize(("masks", "fine"), [(8, True), (4, True), (3, False), (0, False)])
def test_fewer_than_half_of_what_was_promised_is_refused(
    masks: int, fine: bool, tmp_path: Path, registry: Registry
) -> None:
    tree(tmp_path, {f"images/{k}.png": k for k in range(10)} | {f"masks/{k}.png": 1 for k in range(masks)})
    both = [registry.modality("image", channels=1, size=2), registry.modality("mask", size=2)]
    options = DataOptions("folder", {"path": str(tmp_path), "folders": {"image": "images", "mask": "masks"}}, expect={"mask": 0.8, "image": 1}, unpaired=True)  # fmt: skip
    (tmp_path / "masks").mkdir(exist_ok=True)
    if fine:
        assert len(open_data(registry, options, both)) == 10
    else:
        with pytest.raises(RequestError, match=rf"expect.mask = 0.8, expected a share of at most .*: {masks} of 10"):
            open_data(registry, options, both)


def test_what_a_source_knows_of_its_rows_is_what_they_have(tmp_path: Path) -> None:
    tree(tmp_path, {f"images/{k}.png": k for k in range(6)} | {f"masks/{k}.png": 1 for k in range(0, 6, 2)})
    folder = Folder(tmp_path)
    assert list(folder.has("mask") or ()) == [row["mask"] is not None for row in folder]
    some = Subset(Named(folder, {"truth": ColumnOptions("mask")}), [0, 1, 3, 4])
    assert list(some.has("truth") or ()) == [True, False, False, True]
    assert presence(some, ["image", "truth"])[1].tolist() == [[True, True], [True, False], [True, False], [True, True]]
    assert Rows(APART).has("a") is None
    assert presence(Rows(APART), ["a"])[1][:, 0].tolist() == ["a" in row for row in APART]


def test_a_filter_that_leaves_no_pair_is_told(tmp_path: Path, registry: Registry) -> None:
    tree(tmp_path, {f"images/{k}.png": k for k in range(6)} | {f"masks/{k}.png": 1 for k in range(3)})
    both = [registry.modality("image", channels=1, size=2), registry.modality("mask", size=2)]
    options = DataOptions("folder", {"path": str(tmp_path)}, filters=[FilterOptions("mask", present=False)])
    with pytest.raises(RequestError, match=r"no row with two variables among 3 rows \(image in 3, mask in 0\)"):
        open_data(registry, options, both)


def test_wrong_shares_are_refused() -> None:
    with pytest.raises(RequestError, match=r"expect = {'mask': 2}, expected a share of rows in 0 … 1"):
        DataOptions("folder", expect={"mask": 2})
