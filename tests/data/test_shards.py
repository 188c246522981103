"""Tar files as programs pack them: members in any order, other people's litter, keys that come back."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcore import RequestError
from mmcore.data.decode import Encoded, decode
from mmcore.data.sources.shards import Shards


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 2), value, np.uint8)).save(file, format="png")
    return file.getvalue()


Member = tuple[str, bytes]


def pack(at: Path, members: Sequence[Member]) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(at, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return at


def row(key: str, value: int) -> list[Member]:
    return [(f"{key}.png", png(value)), (f"{key}.mask.png", png(100 + value)), (f"{key}.cls", b"%d" % value)]


def values(source: Shards) -> dict[str, dict[str, Any]]:
    def plain(value: Any) -> Any:
        return int(np.asarray(decode(value))[0, 0]) if isinstance(value, Encoded) else value

    return {source.key(i): {name: plain(value) for name, value in source[i].items()} for i in range(len(source))}


def expected(keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {key: {"image": k, "mask": 100 + k, "label": k} for k, key in enumerate(keys)}


KEYS = ("0000", "0001", "a/0000", "b\u00e9")


@given(st.permutations([member for k, key in enumerate(KEYS) for member in row(key, k)]), st.integers(1, 3), st.data())
@settings(max_examples=60)
def test_the_order_of_members_and_the_shards_that_they_lie_in_change_no_row(
    members: list[Member], shards: int, data: st.DataObject
) -> None:
    import tempfile
    import unicodedata

    with tempfile.TemporaryDirectory() as folder:
        parts: list[list[Member]] = [[] for _ in range(shards)]
        for name, content in members:
            form = data.draw(st.sampled_from(["NFC", "NFD"]))
            start = data.draw(st.sampled_from(["", "./"]))
            parts[data.draw(st.integers(0, shards - 1))].append((start + unicodedata.normalize(form, name), content))
        for k, part in enumerate(parts):
            pack(Path(folder) / f"{k}.tar", part)
        found = values(Shards(folder))
    assert found == expected(KEYS)


def test_rows_are_in_the_order_of_their_first_members(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", [member for key, k in (("z", 0), ("b", 1), ("y", 2)) for member in row(key, k)])
    assert Shards(tmp_path).keys == ["z", "b", "y"]


def test_a_member_for_what_its_row_has_already_is_refused(tmp_path: Path) -> None:
    twice = [*row("0", 0), *row("1", 1), ("0.png", png(7))]
    with pytest.raises(RequestError, match=r"found 0.png for image again in .*a.tar, expected one member for each"):
        Shards(pack(tmp_path / "a.tar", twice))
    with pytest.raises(RequestError, match=r"found 1.jpg for image again .* another suffix, such as .mask.png"):
        Shards(pack(tmp_path / "b.tar", [*row("1", 1), ("1.jpg", png(1))]))


def test_keys_that_every_shard_begins_anew_are_refused_unless_said(tmp_path: Path) -> None:
    for k, name in enumerate("ab"):
        pack(tmp_path / f"{name}.tar", row("0", k))
    with pytest.raises(RequestError, match=r'found 0.png for image again in .*b.tar.*keys = "shard"'):
        Shards(tmp_path)
    assert values(Shards(tmp_path, keys="shard")) == expected(["a/0", "b/0"])
    with pytest.raises(RequestError, match="keys = 'shards', expected one of all, shard"):
        Shards(tmp_path, keys="shards")


def test_what_systems_leave_among_members_is_passed_over(tmp_path: Path) -> None:
    litter = [
        (".", b""), ("./._0000.png", b"\0\5"), ("._0000.cls", b"\0\5"), ("__MACOSX/0000.png", b"\0"),
        (".DS_Store", b"x"), ("Thumbs.db", b"x"), ("a/.DS_Store", b"x"), ("README", b"x"), ("a/._0000.png", b"\0"),
    ]  # fmt: skip
    members = [member for k, key in enumerate(KEYS[:3]) for member in row(f"./{key}", k)]
    mixed = [one for k, member in enumerate(members) for one in (member, litter[k])]
    assert values(Shards(pack(tmp_path / "a.tar", mixed))) == expected(KEYS[:3])
    (tmp_path / "._a.tar").write_bytes(b"\0\5")
    assert values(Shards(tmp_path)) == expected(KEYS[:3])


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("rows-000.tar", 1), ("rows-{000..002}.tar", 3), ("rows-{000,002}.tar", 2), ("rows-*.tar", 3), ("", 3),
        ("rows-00[01].tar", 2), ("rows-{000..001}.tar", 2), ("rows-{{000..001},00[2]}.tar", 3), ("*", 3), ("x-{0..1}.tar", 0),
    ],
)  # fmt: skip
def test_a_folder_whose_name_has_signs_of_patterns_is_itself(pattern: str, count: int, tmp_path: Path) -> None:
    home = tmp_path / "data [v2] {a,b} *"
    for k in range(3):
        pack(home / f"rows-00{k}.tar", row(str(k), k))
    if not count:
        with pytest.raises(RequestError, match="found no file at"):
            Shards(home / pattern)
        return
    assert len(Shards(home / pattern)) == count


def test_a_file_with_holes_is_told(tmp_path: Path) -> None:
    import subprocess

    with (tmp_path / "0.npy").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
    done = subprocess.run(["tar", "--sparse", "-cf", "rows.tar", "0.npy"], cwd=tmp_path, check=False)
    if done.returncode or os.path.getsize(tmp_path / "rows.tar") > 1 << 20:
        return  # this tar or this disk keeps none
    with pytest.raises(RequestError, match=r"found 0.npy with holes in"):
        Shards(tmp_path / "rows.tar")


@pytest.mark.parametrize("form", ["{}-000.tar", "imagenet-{}-000.tar", "{}/000.tar"])
def test_shards_of_parts_are_the_parts(form: str, tmp_path: Path) -> None:
    for word, keys in (("train", ("0", "1")), ("val", ("0",)), ("test", ("0", "1", "2"))):
        pack(tmp_path / form.format(word), [member for k, key in enumerate(keys) for member in row(key, k)])
    assert values(Shards(tmp_path)) == expected(["train/0", "train/1"])
    assert values(Shards(tmp_path, part="validation")) == expected(["validation/0"])
    assert len(Shards(tmp_path, part="all")) == 6
    assert Shards.parts(tmp_path) == ("train", "validation", "test")
    one = tmp_path / form.format("train")
    assert len(Shards(one)) == 2
    with pytest.raises(RequestError, match=r"part = 'test', expected one of the parts in .*: train|as .* has no parts"):
        Shards(one, part="test")


def test_names_full_of_dots_are_told(tmp_path: Path) -> None:
    members = [(f"IMG.2019.{k}.png", b"x") for k in range(300)]
    with pytest.raises(
        RequestError, match=r"found 300 variables, such as 2019.1, .*expected names whose first dot ends the key"
    ):
        Shards(pack(tmp_path / "a.tar", members))


@pytest.mark.parametrize(
    ("written", "expected"),
    [("7", 7), ("-1\n", -1), ("+3", 3), ("007", 7), ("1_0", "1_0"), ("٣", "٣"), ("1.0", "1.0"), ("0x1f", "0x1f")],
)
def test_a_class_is_a_number_only_where_it_is_written_as_one(written: str, expected: int | str, tmp_path: Path) -> None:
    """Python reads 1_0 as 10 and digits of every script; a file's writer meant names."""
    assert Shards(pack(tmp_path / "a.tar", [("0.cls", written.encode())]))[0]["label"] == expected
