"""Work that is killed at named points goes on to the same bytes; fewer of the trials of ``benchmarks/kills.py``."""

import errno
import json
import os
import random
import threading
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import kills
from mmcore import RequestError
from mmcore.cli import program
from mmcore.data.embed import Cache
from mmcore.runs.filled import _recorded
from mmcore.runs.samples import check_answers, own_folder
from mmcore.store import checkpoint as store


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    kills.warm(tmp_path_factory.mktemp("warm"))


def trials(name: str, folder: Path, count: int, *, odd: bool = False, full: bool = False) -> kills.Count:
    options = Namespace(kills=count, deep=1, odd=odd, full=full, verbose=False)
    found = kills.killed(kills.WORKS[name], folder.resolve(), options, 1.0, random.Random(1))
    assert not found.wrong, found.wrong[0]
    return found


@pytest.mark.parametrize(
    ("name", "count"),
    [("train", 4), ("predict", 2), ("sample", 1), ("ask", 2), ("embed", 4), ("init", 1), ("plugin", 3)],
)
def test_killed_work_goes_on_to_the_same_bytes(name: str, count: int, tmp_path: Path) -> None:
    found = trials(name, tmp_path / "home", count)
    assert found.same == found.trials
    assert found.kills >= count


@pytest.mark.parametrize(("name", "count"), [("train", 2), ("predict", 1), ("embed", 3)])
def test_where_nothing_is_replaced_in_one_go_all_is_there_or_a_line_tells(
    name: str, count: int, tmp_path: Path
) -> None:
    trials(name, tmp_path / "home", count, odd=True)


@pytest.mark.parametrize(("name", "count"), [("train", 2), ("predict", 1), ("embed", 2)])
def test_a_full_disk_is_a_line_and_loses_nothing(name: str, count: int, tmp_path: Path) -> None:
    found = trials(name, tmp_path / "home", count, full=True)
    assert found.same == found.trials == count


def test_an_answer_that_was_cut_off_is_seen_to_be_and_its_folder_is_used_again(tmp_path: Path) -> None:
    """Folders with anything of another origin are kept, and so is what links lead to."""
    samples, victim = tmp_path / "samples", tmp_path / "victim"
    victim.mkdir()
    (victim / "samples.png").write_text("mine")
    for number, names in enumerate((["samples.json"], ["samples.png", "notes.txt"], ["samples.png", ".lock"]), start=1):
        (samples / f"asked-{number}").mkdir(parents=True)
        for name in names:
            (samples / f"asked-{number}" / name).write_text("")
    (samples / "asked-3" / "samples.safetensors").write_text("")
    with pytest.raises(RequestError, match=r"whose writing was cut off; name another folder, or .* by --force"):
        check_answers(samples / "asked-3", force=False)
    (samples / "asked-4").symlink_to(victim)
    with own_folder(samples) as first, own_folder(samples) as second:
        assert (first.name, second.name) == ("asked-3", "asked-5")
        assert os.listdir(first) == [".lock"]
        for asked in (first, second):
            (asked / "samples.json").write_text("whole")
    assert os.listdir(first) == ["samples.json"]
    with own_folder(samples) as third:
        assert third.name == "asked-6"
    assert sorted(os.listdir(samples / "asked-2")) == ["notes.txt", "samples.png"]
    assert (victim / "samples.png").read_text() == "mine"
    (tmp_path / "elsewhere").symlink_to(victim)
    with pytest.raises(RequestError, match="elsewhere is a link"), own_folder(tmp_path / "elsewhere"):
        pass


def test_a_checkpoint_is_whole_where_folders_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, moved = os.rename, list[str]()

    def refused(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        moved.append(Path(source).name)
        if len(moved) == stop[0]:
            raise KeyboardInterrupt
        kept(source, target)

    monkeypatch.setattr(os, "rename", refused)
    stop, files = [0], {"state.json": {"a": 1}, "other.json": {"b": 2}}
    for step in range(3):
        store.write(tmp_path, step, files, keep=9)
        assert store.read(tmp_path / f"step-0000000{step}").files == files
    # Cut off in the midst, it is none, and is told of; the next one of this step takes its place.
    for stop[0] in (1, 2, 3):
        moved.clear()
        with pytest.raises(KeyboardInterrupt):
            store.write(tmp_path, 3, files, keep=9)
        assert store.newest(tmp_path, lambda line: None).step == 2
    stop[0] = 0
    store.write(tmp_path, 3, files, keep=9)
    assert store.newest(tmp_path, pytest.fail).step == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-0000000{step}" for step in range(4)]


def test_half_a_part_of_vectors_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "one")
    cache.add([bytes(16)], np.zeros((1, 2), np.float32))
    for name in ("x.keys.npy", "x.vectors.npy"):
        (cache.folder / f".aside-{name}").write_bytes(b"\x93NUM")
    assert len(Cache(tmp_path, "one")) == 1


def test_the_record_beside_a_lost_one_is_read(tmp_path: Path) -> None:
    assert _recorded(tmp_path) is None
    aside = tmp_path / ".aside-predictions.json"
    aside.write_text(json.dumps({"new": 1}))
    assert _recorded(tmp_path) == {"new": 1}
    (tmp_path / "predictions.json").write_text('{"torn')
    assert _recorded(tmp_path) == {"new": 1}
    (tmp_path / "predictions.json").write_text(json.dumps({"old": 1}))
    assert _recorded(tmp_path) == {"old": 1}


def test_a_librarys_thread_ends_with_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left\x1b[2J on device")

    monkeypatch.setattr(threading, "excepthook", program._thread_ended)
    thread = threading.Thread(target=fail, name="curves")
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert told.startswith("mmcore: a thread ended (curves): OSError: [Errno 28] No space left")
    assert told.count("\n") == 1
    assert told.strip().isprintable()
