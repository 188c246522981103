"""Arrays and saved data sets of other shapes, types and parts: their values, or one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import Registry, RequestError
from mmcore.data import DataOptions, Table, open_data, open_source
from mmcore.data.decode import Encoded, decode
from mmcore.data.npy import from_npy
from mmcore.data.sources.idx import Idx
from mmcore.data.sources.npz import Npz
from tests.data.written import write_idx

DTYPES = ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2", "<i2", ">i2", ">i4", "<i8", ">i8", "u1", "i1", ">u2", "<u4", ">u8")


@pytest.mark.parametrize("packed", [False, True])
@given(st.sampled_from(DTYPES), st.sampled_from([(), (3,), (2, 3), (1, 3), (1,)]), st.sampled_from("CF"))
@settings(max_examples=40)
def test_any_byte_order_width_and_axis_gives_the_values(
    packed: bool, dtype: str, shape: tuple[int, ...], order: Any
) -> None:
    import tempfile

    array = np.arange(5 * int(np.prod(shape))).reshape(5, *shape).astype(dtype, order=order)
    with tempfile.TemporaryDirectory() as folder:
        (np.savez_compressed if packed else np.savez)(Path(folder) / "rows.npz", x=array)
        source = Npz(Path(folder) / "rows.npz")
        rows = [row["x"] for row in source]
        assert list(map(np.ndarray.tolist, map(np.asarray, source.column("x")))) == [
            np.asarray(r).tolist() for r in rows
        ]
    plain = shape[1:] if shape[:1] == (1,) else shape
    for row, want in zip(rows, array, strict=True):
        assert np.asarray(row).tolist() == want.reshape(plain).tolist()
        if plain:
            assert row.dtype.isnative
            assert row.dtype == np.dtype(dtype).newbyteorder("=")
        else:
            assert type(row) is (float if "f" in dtype else int)


def test_a_number_that_is_nan_is_none_and_a_vector_keeps_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", age=np.array([1.0, np.nan]), name=np.array([b"a", b"b"]), x=np.full((2, 3), np.nan))
    rows = list(Npz(tmp_path / "rows.npz"))
    assert [(row["age"], row["name"]) for row in rows] == [(1.0, "a"), (None, "b")]
    assert np.isnan(rows[0]["x"]).all()


@pytest.mark.parametrize("form", ["{part}_{kind}s", "{kind}_{part}", "{kind}s-{part}"])
def test_arrays_of_parts_are_the_parts(form: str, tmp_path: Path, registry: Registry) -> None:
    sizes = {"train": 5, "val": 2, "test": 3}
    arrays = {}
    for k, (part, n) in enumerate(sizes.items()):
        arrays[form.format(part=part, kind="image")] = np.full((n, 2, 2), 10 * k, np.uint8)
        arrays[form.format(part=part, kind="label")] = (np.arange(n) % 2)[:, None]
    np.savez(tmp_path / "med.npz", info=np.array(["by me"]), **arrays)  # type: ignore[arg-type]
    options = DataOptions("npz", {"path": str(tmp_path / "med.npz")})
    variables = [registry.modality("image", channels=1, size=2), registry.modality("label", classes=2)]
    for k, (part, n) in enumerate(zip(("train", "validation", "test"), sizes.values(), strict=True)):
        batch = Table.read(open_data(registry, options, variables, part)).rows
        assert batch.values["label"].tolist() == [i % 2 for i in range(n)]
        assert np.allclose((batch.values["image"].numpy() + 1) / 2 * 255, 10 * k, atol=1e-4)
    whole = open_source(registry, options, "all")
    assert len(whole) == 10
    assert [whole.where(k) for k in (0, 5, 9)] == [
        "med.npz train row 0", "med.npz validation row 0", "med.npz test row 2"
    ]  # fmt: skip
    assert len({whole.key(k) for k in range(10)}) == 10
    assert Npz.parts(tmp_path / "med.npz") == ("train", "validation", "test")


def test_rows_with_numbers_of_training_rows_beside_them_are_one_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", image=np.zeros((6, 2, 2)), train_ids=np.arange(4), test_ids=np.arange(2))
    source = Npz(tmp_path / "rows.npz")
    assert (len(source), source.names) == (6, ("image",))
    assert source.notes == ["arrays not of 6 rows are left out: train_ids of 4, test_ids of 2"]
    with pytest.raises(RequestError, match=r"part = 'test', expected train or all, as .* has no parts of its own"):
        Npz(tmp_path / "rows.npz", part="test")


def test_idx_files_given_by_name_have_no_test_rows_of_their_own(tmp_path: Path, registry: Registry) -> None:
    write_idx(np.arange(4, dtype=np.uint8)[:, None], tmp_path / "a.idx")
    options = DataOptions("idx", {"files": {"label": str(tmp_path / "a.idx")}})
    assert [row["label"] for row in open_source(registry, options)] == [0, 1, 2, 3]
    with pytest.raises(RequestError, match=r"part = 'test', expected train or all, as files are one whole"):
        open_source(registry, options, "test")


def test_idx_tells_the_parts_whose_files_are_there(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        write_idx(np.zeros((2, 2, 2), np.uint8), tmp_path / name)
    assert Idx.parts(tmp_path) == ("train",)


# Hugging Face's data sets.


@pytest.fixture
def hub() -> Any:
    return pytest.importorskip("datasets")


def saved(hub: Any, at: Path, splits: dict[str, int]) -> Path:
    features = hub.Features(
        {
            "image": hub.Image(),
            "label": hub.ClassLabel(names=["cat", "dog", "owl"]),
            "tags": hub.List(hub.ClassLabel(names=["a", "b"])),
            "half": hub.List(hub.Value("float16")),
            "age": hub.Value("float32"),
        }
    )

    def part(n: int, start: int) -> Any:
        return hub.Dataset.from_dict(
            {
                "image": [None if i == 1 else Image.fromarray(np.full((2, 2), start + i, np.uint8)) for i in range(n)],
                "label": [-1 if start >= 100 else i % 3 for i in range(n)],
                "tags": [[1, 0]] * n,
                "half": [[1.0, 2.0]] * n,
                "age": [float("nan")] + [1.5] * (n - 1),
            },
            features=features,
        )

    hub.DatasetDict({name: part(n, 50 * k) for k, (name, n) in enumerate(splits.items())}).save_to_disk(str(at))
    return at


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("training", "dev", "test"), ("train", "val", "Test")]
)
def test_a_dataset_dicts_splits_are_the_parts(
    names: tuple[str, ...], hub: Any, tmp_path: Path, registry: Registry
) -> None:
    at = saved(hub, tmp_path / "saved", dict(zip(names, (4, 2, 3), strict=True)))
    options = DataOptions("datasets", {"path": str(at)})
    for part, n, start in (("train", 4, 0), ("validation", 2, 50), ("test", 3, 100)):
        source = open_source(registry, options, part)
        rows = list(source)
        assert len(rows) == n
        assert rows[1]["image"] is None
        assert isinstance(rows[0]["image"], Encoded)
        assert np.asarray(decode(rows[0]["image"]))[0, 0] == start
        assert [row["label"] for row in rows] == ([None] * n if part == "test" else [i % 3 for i in range(n)])
        assert list(source.column("label")) == [row["label"] for row in rows]
        assert rows[0]["tags"] == [1, 0]
        assert rows[0]["half"].tolist() == [1, 2]
        assert [row["age"] for row in rows] == [None, *[1.5] * (n - 1)]
    assert len(open_source(registry, options, "all")) == 9
    source = registry.source("datasets", path=str(at))
    assert source.classes == {"label": ("cat", "dog", "owl")}
    assert type(source).parts(at) == ("train", "validation", "test")


def test_splits_that_are_one_part_alike_are_told(hub: Any, tmp_path: Path, registry: Registry) -> None:
    at = saved(hub, tmp_path / "saved", {"train": 2, "test1": 2, "test2": 2})
    with pytest.raises(RequestError, match=r"part = 'test', expected one of the splits in .*test1 and test2 are test"):
        registry.source("datasets", path=str(at), part="test")
    assert len(registry.source("datasets", path=str(at), part="test2")) == 2


def test_names_in_another_order_than_the_numbers_of_the_data_are_refused(
    hub: Any, tmp_path: Path, registry: Registry
) -> None:
    options = DataOptions(
        "datasets", {"path": str(saved(hub, tmp_path / "saved", {"train": 4}))}, columns={"kind": "label"}
    )
    names = ["cat", "dog", "owl"]
    variable = registry.modality("label", name="kind", classes=3, names=names)
    assert Table.read(open_data(registry, options, [variable])).rows.values["kind"].tolist() == [0, 1, 2, 0]
    variable = registry.modality("label", name="kind", classes=3, names=names[::-1])
    with pytest.raises(
        RequestError, match=r"kind: found the names owl, dog, cat, expected .* in this order: cat, dog, owl"
    ):
        open_data(registry, options, [variable])


def test_idx_files_of_training_alone_are_all_there_is(tmp_path: Path, registry: Registry) -> None:
    for name, dims, data in (("labels-idx1", (3,), b"\0\1\2"), ("images-idx3", (3, 2, 2), bytes(12))):
        head = bytes((0, 0, 8, len(dims))) + b"".join(n.to_bytes(4, "big") for n in dims)
        (tmp_path / f"train-{name}-ubyte").write_bytes(head + data)
    assert registry.source("idx", path=tmp_path, part="all").column("label") == [0, 1, 2]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_texts_of_numbers_that_are_no_characters_are_told(save: Any, order: str, tmp_path: Path) -> None:
    """NumPy makes a string of them, and Python fails wherever that is touched."""
    path = tmp_path / ("rows.npy" if save is np.save else "rows.npz")
    codes = np.array([0x63, 0x1F600, 0x10FFFF, 0x64], f"{order}u4")
    whole, broken = codes.view(f"{order}U1"), np.where(codes == 0x64, 0x110000, codes).astype(codes.dtype).view(f"{order}U1")  # fmt: skip

    def read(texts: Any) -> list[Any]:
        save(path, texts) if save is np.save else save(path, x=texts)
        if save is np.save:
            return from_npy(path.read_bytes()).tolist()
        return list(Npz(path).column("x"))

    assert read(whole) == ["c", "\U0001f600", "\U0010ffff", "d"]
    with pytest.raises((RequestError, ValueError), match="a text with 0x110000 in it, which is no character"):
        read(broken)
