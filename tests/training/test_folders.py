"""A run's folder: one run at a time, and no file but a run's own is overwritten or removed."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import mmcore
from mmcore import Registry, RequestError
from mmcore.store import checkpoint as store
from mmcore.store.checkpoint import folders
from mmcore.store.folder import RECORD, alone, check_free, is_run
from mmcore.training import TrainState
from tests.training.runs import digests, fit, pictures, rows, small


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies there; a link's target is what it holds."""
    return {
        path.relative_to(folder).as_posix(): (
            os.readlink(path).encode() if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
    }


def put(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def finished(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    held = rows(small(registry), 10, seed=9)
    fit(registry, out, save_steps=4, validate_every=4, validation=held, pictures_every=4, pictures=pictures)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_without_its_checkpoints_is_not_overwritten(registry: Registry, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    before = tree(run)
    with pytest.raises(
        RequestError, match=r"run holds a run without its checkpoints \(it has metrics.jsonl\).*replace"
    ):
        fit(registry, run)
    assert tree(run) == before
    fit(registry, run, replace=True, steps=1)
    assert (run / "metrics.jsonl").read_text().count("\n") == 1
    assert {"best", "samples"} & {path.name for path in run.iterdir()} == set()


@pytest.mark.parametrize("left", ["model", "best", "samples", "validation.jsonl"])
def test_nor_one_of_which_little_is_left(registry: Registry, run: Path, left: str) -> None:
    for path in run.iterdir():
        if path.name not in (left, RECORD):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = tree(run)
    with pytest.raises(RequestError, match=f"it has {left}"):
        fit(registry, run)
    assert tree(run) == before


OWN = {
    "model/net.py": "print(1)",
    "model/config/a.json": "{}",
    "samples/recording.wav": "x",
    "samples/grid.txt": "x",
    "best/of.txt": "y",
    "checkpoints/last.pt": "z",
    "checkpoints/step-9/model.safetensors": "z",
    "tensorboard/notes.md": "n",
    "notes.txt": "mine",
}


@pytest.mark.parametrize("replace", [False, True])
def test_what_no_run_writes_stays(registry: Registry, tmp_path: Path, replace: bool) -> None:
    put(tmp_path, OWN)
    fit(registry, tmp_path, steps=1)
    fit(registry, tmp_path, steps=2, replace=True)
    fit(registry, tmp_path, steps=1, replace=True)
    assert {name: (tmp_path / name).read_text() for name in OWN} == OWN
    assert [step for step, _ in folders(tmp_path / "checkpoints")] == [1, 0]


def test_replace_takes_a_run_s_files_from_among_others(registry: Registry, run: Path, tmp_path: Path) -> None:
    more = OWN | {"checkpoints/step-00000004.kept/a/b.txt": "n", "model/NOTES": "n", "samples/asked-1/x.json": "{}"}
    put(run, {name.replace(".kept", ""): text for name, text in more.items()})
    fit(registry, run, replace=True, steps=1)
    assert {name: (run / name).read_text() for name in more} == more
    fit(registry, tmp_path / "other", steps=1)
    for name in more:
        (run / name).unlink()
    names = {path.name for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name}
    assert names == {
        path.name for path in (tmp_path / "other").rglob("*") if "tfevents" not in path.name and path.is_file()
    }


@pytest.mark.parametrize(
    "name",
    [
        "metrics.jsonl",
        "validation.jsonl",
        "timing.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "model/README.md",
        "best/config.json",
        "samples/samples.png",
        "samples/data.png",
        "samples/grid-mine.png",
        "samples/step-00000001-words.png",
        "tensorboard/events.out.tfevents.1.mine",
        "checkpoints/step-00000007/model.safetensors",
        "run.json",
        "model",
        "samples",
        "checkpoints",
    ],
)
def test_files_of_other_origin_are_named_and_kept(registry: Registry, tmp_path: Path, name: str) -> None:
    put(tmp_path, {name: '{"mine": 1}', "checkpoints-of-mine/step-00000001/x": "x"})
    before = tree(tmp_path)
    for replace in (False, True):
        with pytest.raises(RequestError) as caught:
            fit(registry, tmp_path, replace=replace)
        assert str(tmp_path / name.removesuffix("/model.safetensors")) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert tree(tmp_path) == before


def test_links_are_not_followed_out_of_a_run(registry: Registry, run: Path, tmp_path: Path) -> None:
    shutil.move(run / "samples", tmp_path / "samples")
    (run / "samples").symlink_to(tmp_path / "samples")
    before, kept = tree(run), tree(tmp_path / "samples")
    for how in ({"replace": True}, {"resume": True}):
        with pytest.raises(RequestError, match="samples is a link"):
            fit(registry, run, **how)
    assert (tree(run), tree(tmp_path / "samples")) == (before, kept)
    (run / "samples").unlink()
    (tmp_path / "mine.jsonl").write_text("mine")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(tmp_path / "mine.jsonl")
    (run / "validation.jsonl").unlink()
    (run / "validation.jsonl").symlink_to(tmp_path / "nowhere")
    fit(registry, run, replace=True, steps=1)
    assert (tmp_path / "mine.jsonl").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert not (run / "metrics.jsonl").is_symlink()


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcore.store import checkpoint as store

    def killed(path: Path, data: bytes) -> None:
        path.write_bytes(data[:3])
        os._exit(9)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(store.door, "create", killed)
        fit(registry, tmp_path / "run", steps=2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert is_run(tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    fit(registry, tmp_path / "run", steps=2)
    fit(registry, tmp_path / "other", steps=2)
    assert digests(tmp_path / "run") == digests(tmp_path / "other")


def test_a_run_of_before_the_record_is_known_by_its_checkpoints(registry: Registry, run: Path) -> None:
    (run / RECORD).unlink()
    assert is_run(run)
    with pytest.raises(RequestError, match="holds a run with a checkpoint of step 8"):
        fit(registry, run)
    held = rows(small(registry), 10, seed=9)
    how: dict[str, Any] = {"validate_every": 4, "validation": held, "pictures_every": 4, "pictures": pictures}
    assert fit(registry, run, resume=True, save_steps=4, **how).step == 8
    assert (run / RECORD).exists()
    (run / RECORD).write_bytes(b"")  # a power cut
    check_free(run, replace=True)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RequestError, match=r"metrics.jsonl is there, where a run would write its own"):
        fit(registry, run, replace=True)


def ending(call: Callable[[], object]) -> str:
    try:
        call()
    except RequestError as error:
        return str(error)
    return "done"


def test_one_run_at_a_time_also_in_one_process(registry: Registry, tmp_path: Path) -> None:
    """Around a call, in another thread, under another path, and after a fork; the lock stays with the first."""
    out, said = tmp_path / "run", dict[str, str]()
    (tmp_path / "link").symlink_to(out)

    def others(state: TrainState, report: object) -> None:
        if state.step != 2:
            return
        said["nested"] = ending(lambda: fit(registry, out, replace=True))
        said["link"] = ending(lambda: fit(registry, tmp_path / "link", resume=True))
        thread = threading.Thread(target=lambda: said.update(thread=ending(lambda: fit(registry, out, replace=True))))
        thread.start()
        thread.join()
        child = os.fork()
        if child == 0:
            told = ending(lambda: fit(registry, out, resume=True))
            os._exit(7 if "another process trains in" in told else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    fit(registry, out, watch=[others], steps=4)
    for told in said.values():
        assert "training: this process trains in " in told, said
        assert "already, in another thread or around this call" in told
    assert len(said) == 3
    fit(registry, tmp_path / "whole", steps=4)
    assert digests(out) == digests(tmp_path / "whole")
    # Once it has ended, also by an error, the folder is free.
    with pytest.raises(ZeroDivisionError):
        fit(registry, out, replace=True, watch=[lambda state, report: 1 / 0])
    assert fit(registry, out, resume=True, steps=4, accept_changes=True).step == 4


def test_two_threads_that_begin_at_once(registry: Registry, tmp_path: Path) -> None:
    said: list[str] = []
    gate = threading.Barrier(4)

    def one() -> None:
        gate.wait()
        said.append(ending(lambda: fit(registry, tmp_path / "run", steps=3)))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("done") == 1, said
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert folders(tmp_path / "run" / "checkpoints")[0][0] == 3


def test_a_folder_may_be_used_for_one_thing_after_another(tmp_path: Path) -> None:
    for _ in range(2):
        with alone(tmp_path, "predict", "predicts"), pytest.raises(RequestError, match="this process predicts in"):
            alone(tmp_path, "predict", "predicts").__enter__()


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint that somebody has edited, with a manifest that says it is whole."""
    found = store.read(folder)
    files = {name: dict(part) for name, part in found.files.items()}
    change(files)
    aside = folder.parent.parent / "elsewhere"
    shutil.rmtree(aside, ignore_errors=True)
    written = store.write(aside, found.step, files, 1)
    shutil.rmtree(folder)
    shutil.move(written, folder)
    assert store.read(folder).step == found.step
    return folder


def lacking(file: str, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(files: dict[str, Any]) -> None:
        inside = files[file] = json.loads(json.dumps(files[file])) if file.endswith(".json") else files[file]
        for key in keys[:-1]:
            inside = inside[key]
        del inside[keys[-1] if keys else next(iter(inside))]

    return change


def saying(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda files: files["state.json"].update({key: value})


def cut_moments(files: dict[str, Any]) -> None:
    files["optimizer.safetensors"] = {n: x for n, x in files["optimizer.safetensors"].items() if "exp_avg_sq" not in n}


RESEALED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    **{
        f"no {key}": (lacking("state.json", key), f"state.json: lacks or misstates {key}")
        for key in (
            "format",
            "step",
            "best",
            "scaler",
            "loader",
            "ranks",
            "threads",
            "versions",
            "configuration",
            "logs",
        )
    },
    "no state": (lambda files: files["state.json"].clear(), "state.json: lacks or misstates format, step"),
    "another step": (saying("step", 7), "misstates step"),
    "a step that is true": (saying("step", True), "misstates step"),
    "best in words": (saying("best", "low"), "misstates best"),
    "best is no number": (saying("best", float("nan")), "misstates best"),
    "no batches": (lacking("state.json", "loader", "batches"), "misstates loader"),
    "bad rows": (saying("loader", {"batches": 8, "batch_size": 8, "rows": 40, "seed": 0, "bad": {"x": 1}}), "loader"),
    "another place in the data": (lambda f: f["state.json"]["loader"].update(batches=3), "misstates loader"),
    "no scale": (saying("scaler", {"scale": 0, "good": 0}), "misstates scaler"),
    "no options": (lacking("state.json", "configuration", "options"), "misstates configuration"),
    "no digest of a log": (lacking("state.json", "logs", "metrics.jsonl", "sha256"), "misstates logs"),
    "no log": (lacking("state.json", "logs", "metrics.jsonl"), "misstates logs"),
    "idle in words": (saying("idle", "backbone"), "misstates idle"),
    "a weight less": (lacking("model.safetensors"), "model.safetensors: lacks "),
    "an average less": (lacking("ema.safetensors"), "ema.safetensors: lacks "),
    "a moment less": (lacking("optimizer.safetensors"), "optimizer.safetensors: lacks "),
    "no second moments": (cut_moments, "optimizer.safetensors: lacks .*exp_avg_sq"),
    "no weights at all": (lambda files: files.pop("model.safetensors"), "has no model.safetensors"),
    "no state at all": (lambda files: files.pop("state.json"), "has no state.json"),
}


@pytest.mark.parametrize("name", RESEALED)
def test_a_checkpoint_that_lacks_something_is_passed_over(
    name: str, registry: Registry, run: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, text = RESEALED[name]
    resealed(run / "checkpoints" / "step-00000008", change)
    held = rows(small(registry), 10, seed=9)
    how: dict[str, Any] = {"validation": held, "pictures_every": 4, "pictures": pictures}
    fit(registry, run, resume=True, save_steps=4, validate_every=4, **how)
    said = capsys.readouterr().err
    assert re.search(f"step-00000008.*{text}.*; the checkpoint before it is tried", said), said
    shutil.rmtree(run / "elsewhere", ignore_errors=True)
    assert digests(run) == digests(finished)


def test_a_checkpoint_of_a_later_mmcore_is_not_passed_over(registry: Registry, run: Path) -> None:
    resealed(run / "checkpoints" / "step-00000008", saying("format", 99))
    with pytest.raises(RequestError, match="has format 99, expected 4 at most; it is of a later mmcore"):
        fit(registry, run, resume=True)


@pytest.mark.parametrize("name", ["manifest", "state.json", "model.safetensors"])
def test_a_file_that_has_grown_beyond_memory_is_passed_over(
    name: str, registry: Registry, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run / "checkpoints" / "step-00000008" / name).open("r+b") as file:
        file.truncate(100 << 30)
    held = rows(small(registry), 10, seed=9)
    how: dict[str, Any] = {"validation": held, "pictures_every": 4, "pictures": pictures}
    assert fit(registry, run, resume=True, save_steps=4, validate_every=4, **how).step == 8
    told = capsys.readouterr().err
    assert f"{name}: has {100 << 30} bytes, expected" in told or f"{name}: has 107 GB, the limit is" in told


def test_what_memory_does_not_hold_is_passed_over(registry: Registry, tmp_path: Path) -> None:
    """Also where a manifest was made for it."""
    store.write(tmp_path, 1, {"a.json": {}}, 3)
    folder = store.write(tmp_path, 2, {"a.json": {}}, 3)
    size = 1 << 55
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fstat", lambda descriptor: os.stat_result((0o100644, *[0] * 5, size, 0, 0, 0)))
        patch.setattr(store, "_manifest", lambda at: {"a.json": ("0" * 64, size)} if at == folder else {})
        said: list[str] = []
        with pytest.raises(RequestError):
            store.newest(tmp_path, said.append)
    assert said


def test_a_file_system_in_layers_moves_no_folder(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of containers, where a folder of a lower layer cannot be renamed."""
    fit(registry, tmp_path / "whole", save_steps=1, keep=2)

    def stop(state: TrainState, report: object) -> None:
        if state.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(registry, tmp_path / "run", save_steps=1, keep=2, watch=[stop])
    lower = {path for path in (tmp_path / "run").rglob("*") if path.is_dir()}
    newest = folders(tmp_path / "run" / "checkpoints")[0][1]
    (newest / "ema.safetensors").unlink()  # damaged, so that one of its step is written again
    rename = os.rename

    def refusing(source: Any, target: Any, **how: Any) -> None:
        if Path(source) in lower:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target, **how)

    monkeypatch.setattr(os, "rename", refusing)
    fit(registry, tmp_path / "run", save_steps=1, keep=2, resume=True)
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"step-00000007", "step-00000008"}


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_model_is_not_saved_over_files_of_other_origin(registry: Registry, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(RequestError, match=f"save: .*{name} is there, and is none of a model of mmcore"):
        mmcore.save(small(registry), tmp_path)
    assert tree(tmp_path) == {name: b'{"mine": 1}'}
    model = mmcore.save(small(registry), tmp_path / "model")
    before = tree(model)
    mmcore.save(small(registry, seed=1), model)
    after = tree(model)
    assert before["config.json"] == after["config.json"]
    assert before["model.safetensors"] != after["model.safetensors"]
    for lost in ("model.safetensors", "README.md"):  # cut off before it
        (model / lost).unlink()
    mmcore.save(small(registry), model)
    assert tree(model) == before


@pytest.mark.parametrize("value", [None, "x", [], {}, True, -1, 3.5, "<b>", [1]])
def test_a_model_s_configuration_that_misstates_something_is_a_line(
    registry: Registry, tmp_path: Path, value: Any
) -> None:
    folder = mmcore.save(small(registry), tmp_path / "model")
    told = (folder / "config.json").read_text()
    config = json.loads(told)
    places = [(key,) for key in config] + [("backbone", key) for key in config["backbone"]]
    places += [("modalities", 0, key) for key in config["modalities"][0]] + [("modalities", 0), ("tasks", 0)]
    for place in places:
        changed = json.loads(told)
        inside = changed
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        (folder / "config.json").write_text(json.dumps(changed))
        said = ending(lambda: mmcore.load(folder, registry=registry))
        assert "\n" not in said, place
