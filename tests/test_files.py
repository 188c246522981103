"""The one door: what is written is whole or not there, and never written through a link."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcore import files


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_go_and_nothing_else_is_left(tmp_path: Path) -> None:
    at = tmp_path / "new" / "a.txt"
    files.write(at, b"one")
    with at.open("rb") as reader:
        files.write(at, b"two", durable=True)
        assert reader.read() == b"one"
    assert at.read_bytes() == b"two"
    assert left(at.parent) == ["a.txt"]


@pytest.mark.parametrize("name", ["a.txt", ".aside-a.txt"])
@pytest.mark.parametrize("make", [lambda at, to: at.symlink_to(to), lambda at, to: at.hardlink_to(to)])
def test_nothing_is_written_through_a_link(name: str, make: Callable[[Path, Path], None], tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_bytes(b"mine")
    folder.mkdir()
    make(folder / name, victim)
    files.write(folder / "a.txt", b"theirs")
    assert victim.read_bytes() == b"mine"
    assert (folder / "a.txt").read_bytes() == b"theirs"
    assert not (folder / "a.txt").is_symlink()
    assert left(folder) == ["a.txt"]


@pytest.mark.parametrize("write", [files.append, lambda path, data: files.edited(path).close()])
def test_a_file_that_is_edited_is_neither_a_link_nor_a_pipe(
    write: Callable[[Path, bytes], object], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "nowhere").symlink_to(tmp_path / "made")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "nowhere", "pipe", "."):
        with pytest.raises(OSError, match=r".+"):
            write(tmp_path / name, b"theirs")
    assert victim.read_bytes() == b"mine"
    assert left(tmp_path) == ["link", "nowhere", "pipe", "victim"]
    files.append(tmp_path / "log", b"1\n")
    files.append(tmp_path / "log", b"2\n")
    assert (tmp_path / "log").read_bytes() == b"1\n2\n"


def test_what_a_stopped_process_left_is_used_again_and_what_another_writes_is_not(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()

    def write() -> None:
        _, file = files._aside(tmp_path / "a.txt")
        with file:
            file.write(b"torn")
            file.flush()
            begun.set()
            end.wait(20)
            os._exit(0)

    other = context.Process(target=write)
    other.start()
    assert begun.wait(20)
    files.write(tmp_path / "a.txt", b"whole")
    assert left(tmp_path) == [".aside-a.txt", "a.txt"]
    end.set()
    other.join()
    assert (tmp_path / ".aside-a.txt").read_bytes() == b"torn"
    files.write(tmp_path / "a.txt", b"again")
    assert left(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"again"


def test_many_processes_write_one_file_and_each_time_it_is_whole(tmp_path: Path) -> None:
    at, context = tmp_path / "a.bin", multiprocessing.get_context("fork")

    def write(number: int) -> None:
        for _ in range(60):
            files.write(at, bytes([number]) * 5000)
        os._exit(0)

    at.write_bytes(b"\0" * 5000)
    writers = [context.Process(target=write, args=(number,)) for number in (1, 2, 3)]
    for one in writers:
        one.start()
    while any(one.is_alive() for one in writers):
        data = at.read_bytes()
        assert len(data) == 5000
        assert len(set(data)) == 1
    assert [one.exitcode for one in writers] == [0, 0, 0]
    assert left(tmp_path) == ["a.bin"]


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "a.txt", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "a.txt", b"new")
    assert left(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_a_path_that_the_user_has_named_is_followed_to_a_file_or_a_terminal(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    files.write(link, b"new", follow=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    # Also to one that is not there yet, or whose folder is not.
    later, far = tmp_path / "later", tmp_path / "far"
    later.symlink_to("folder/not yet")
    far.symlink_to(tmp_path / "not yet")
    for at in (later, far):
        files.write(at, b"one", follow=True)
        assert at.is_symlink()
    assert (tmp_path / "folder" / "not yet").read_bytes() == (tmp_path / "not yet").read_bytes() == b"one"
    files.write("/dev/null", b"gone", follow=True)
    assert Path("/dev/null").is_char_device()
    reader, writer = os.pipe()
    files.write(f"/dev/fd/{writer}", b"told", follow=True)
    assert os.read(reader, 10) == b"told"
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_private_file_stays_private(tmp_path: Path) -> None:
    at = tmp_path / "a.txt"
    files.write(at, b"one")
    usual = at.stat().st_mode
    at.chmod(0o600)
    files.write(at, b"two")
    assert at.stat().st_mode & 0o777 == 0o600
    # What a stranger has opened to all is not opened further.
    at.chmod(0o6777)
    files.write(at, b"three")
    assert at.stat().st_mode == usual


def test_a_name_that_is_none_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="null byte"):
        files.write(tmp_path / "a\0b", b"one")
    assert left(tmp_path) == []


def test_a_new_file_overwrites_nothing(tmp_path: Path) -> None:
    files.create(tmp_path / "a", b"one")
    (tmp_path / "link").symlink_to(tmp_path / "made")
    for name in ("a", "link"):
        with pytest.raises(FileExistsError):
            files.create(tmp_path / name, b"two")
    assert left(tmp_path) == ["a", "link"]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ä" * 125 + ".png", "n" * 255])
def test_a_name_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    """Also where another process, stopped, has left the file beside it; two long names that begin alike are two files."""
    other = "y" + name[1:]
    files.write(tmp_path / name, b"old")
    files.write(tmp_path / name, b"new", durable=True)
    files.write(tmp_path / other, b"other")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"new", other: b"other"}


def test_a_name_that_no_file_system_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        files.write(tmp_path / ("x" * 256), b"data")
    assert not list(tmp_path.iterdir())
