"""Checkpoints on the disk: whole or not there, and every damage found, with the name of the file."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcore import MmcoreError, RequestError
from mmcore.limits import RECORD
from mmcore.store import checkpoint as store
from mmcore.store.reading import DamagedError, read_json, read_tensors

FILES = {
    "model.safetensors": {"a": torch.arange(5.0), "b": torch.zeros(2, 3)},
    "state.json": {"step": 3, "x": [1, None]},
}


def made(root: Path, *steps: int, keep: int = 9) -> list[Path]:
    return [store.write(root, step, {**FILES, "more.json": {"step": step}}, keep) for step in steps]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (folder,) = made(tmp_path / "c", 3)
    found = store.read(folder)
    assert found.step == 3
    assert found.files["state.json"] == FILES["state.json"]
    assert torch.equal(found.files["model.safetensors"]["a"], torch.arange(5.0))
    assert {p.name for p in folder.iterdir()} == {*FILES, "more.json", "manifest"}


def test_the_count_is_kept_and_what_was_passed_by_goes(tmp_path: Path) -> None:
    made(tmp_path, 1, 2, 3, 9, keep=3)
    assert [s for s, _ in store.folders(tmp_path)] == [9, 3, 2]
    made(tmp_path, 4, keep=3)  # a run that went on from 3, as 9 was damaged
    assert [s for s, _ in store.folders(tmp_path)] == [4, 3, 2]
    made(tmp_path, 4, keep=3)
    assert {p.name for p in tmp_path.iterdir()} == {f"step-{s:08d}" for s in (2, 3, 4)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tuple(made(tmp_path_factory.mktemp("pair"), 1, 2))  # type: ignore[return-value]


@given(st.data())
def test_every_changed_or_missing_byte_is_found_by_its_file(pair: tuple[Path, Path], data: st.DataObject) -> None:
    """A bit, an end, a whole file, or another checkpoint's, of every file, the manifest included."""
    other, folder = pair
    name = data.draw(st.sampled_from(sorted(p.name for p in folder.iterdir())))
    path, kept = folder / name, (folder / name).read_bytes()
    how = data.draw(st.sampled_from(["flip", "cut", "grow", "delete", "swap"]))
    if how == "swap" and (other / name).read_bytes() == kept:
        name = "manifest"
        path, kept = folder / name, (folder / name).read_bytes()
    changed = bytearray(kept)
    if how == "flip":
        bit = data.draw(st.integers(0, 8 * len(kept) - 1))
        changed[bit // 8] ^= 1 << bit % 8
    elif how == "cut":
        del changed[data.draw(st.integers(0, len(kept) - 1)) :]
    elif how == "grow":
        changed += data.draw(st.binary(min_size=1, max_size=3))
    elif how == "swap":
        changed = bytearray((other / name).read_bytes())
    try:
        path.write_bytes(changed)
        if how == "delete":
            path.unlink()
        with pytest.raises(DamagedError) as caught:
            store.read(folder)
        assert str(path) in str(caught.value)
        told: list[str] = []
        assert store.newest(folder.parent, told.append).folder == other
        assert len(told) == 1
        assert str(path) in told[0]
    finally:
        path.write_bytes(kept)
    assert store.read(folder).step == 2


def test_whole_folders_under_another_name_are_found(tmp_path: Path) -> None:
    first, _ = made(tmp_path, 1, 2)
    shutil.copytree(first, tmp_path / "step-00000007")
    with pytest.raises(DamagedError, match="step-00000007/manifest: is that of 'step-00000001'"):
        store.read(tmp_path / "step-00000007")
    (first / "extra.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"extra.json: the manifest does not list it"):
        store.read(first)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    """A stranger can seal a manifest; what it lists must still be plain names of plain files."""
    (folder,) = made(tmp_path, 1)
    for name in ("../secret.json", "/etc/passwd.json", "a/b.json", "model.pkl", "MODEL.json", "manifest"):
        body = f"{folder.name}\n{'0' * 64} 5 {name}\n".encode()
        (folder / "manifest").write_bytes(body + store._seal(body))
        with pytest.raises(DamagedError, match="manifest: has the line"):
            store.read(folder)
    for body in (b"", b"\xff\xfe", b"step-00000001\nstep-00000001\n"):
        (folder / "manifest").write_bytes(body + store._seal(body))
        with pytest.raises(DamagedError, match="manifest"):
            store.read(folder)
    for path in made(tmp_path, 2):
        (tmp_path / "secret.json").write_bytes((path / "state.json").read_bytes())
        (path / "state.json").unlink()
        (path / "state.json").symlink_to(tmp_path / "secret.json")
        with pytest.raises(DamagedError, match=r"state.json cannot be read: a link, expected a file"):
            store.read(path)


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    with pytest.raises(DamagedError, match="expected a file"):
        read_json(tmp_path / "pipe.json")
    with pytest.raises(DamagedError, match="expected a file"):
        read_tensors(tmp_path / "zero.safetensors")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DamagedError, match="nested too deep"):
        read_json(tmp_path / "deep.json")
    with (tmp_path / "long.json").open("wb") as file:
        file.truncate(RECORD.default + 1)
    with pytest.raises(DamagedError, match="the limit is 67 MB; MMCORE_MOST_RECORD raises it"):
        read_json(tmp_path / "long.json")


@pytest.mark.parametrize("size", [2**20, 2**40, 2**63, 2**64 - 1, 0])
def test_headers_that_lie_are_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(size.to_bytes(8, "little") + json.dumps({}).encode())
    with pytest.raises(DamagedError, match=r"x.safetensors"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("size", [0x80, 0x180, 0x4B50])
def test_headers_whose_size_looks_like_another_format_are_read(tmp_path: Path, size: int) -> None:
    x = torch.arange(3.0)
    header = json.dumps({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode().ljust(size)
    data = size.to_bytes(8, "little") + header + x.numpy().tobytes()
    assert data[:1] == b"\x80" or data[:2] == b"PK"
    (tmp_path / "x.safetensors").write_bytes(data)
    assert torch.equal(read_tensors(tmp_path / "x.safetensors")["x"], x)


def test_pickles_and_archives_are_named(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "zip.safetensors")
    (tmp_path / "plain.safetensors").write_bytes(pickle.dumps({"x": list(range(9))}))
    for name in ("zip", "plain"):
        with pytest.raises(DamagedError, match="it is a pickle or an archive of pickles, which is never loaded"):
            read_tensors(tmp_path / f"{name}.safetensors")


def test_no_folder_and_no_checkpoint_are_an_error(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RequestError, match="there is no checkpoint"):
            store.newest(root, print)


def test_an_interrupted_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, 1)
    calls: list[Path] = []

    def killed(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(store.door, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, 2)
    assert [s for s, _ in store.folders(tmp_path)] == [1]
    assert store.newest(tmp_path, print).step == 1
    assert len(list(tmp_path.iterdir())) == 2
    made(tmp_path, 3)
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000001", "step-00000003"}


def test_a_folder_that_cannot_be_written_says_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MmcoreError, match=r"cannot be written: .*; there is no older one"):
        made(tmp_path / "file", 1)
