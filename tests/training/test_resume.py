"""A run that was interrupted ends as one that was not, byte by byte."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmcore import JointModel, MmcoreError, Registry, RequestError, Task
from mmcore.data import LoaderOptions
from mmcore.store.checkpoint import folders
from mmcore.training import TrainState
from tests.training.runs import OPTIONS, digests, fit, pictures, read_again, rows, small


class StopError(Exception):
    pass


def stop_at(step: int) -> Any:
    def watch(state: TrainState, report: object) -> None:
        if state.step == step:
            raise StopError

    return watch


EVERYTHING: dict[str, Any] = {
    "save_steps": 1,
    "validate_every": 2,
    "pictures_every": 3,
    "pictures": pictures,
    "task_weights": "learned",
    "weighting": "snr",
    "accumulate": 2,
}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_ends_with_the_same_bytes(registry: Registry, tmp_path: Path, workers: int) -> None:
    held = rows(small(registry), 10, seed=9)
    how = EVERYTHING | {"validation": held}
    if workers:
        how["loading"] = LoaderOptions(memory=False, workers=workers)
        how["rows"] = read_again(rows(small(registry)), small(registry))
    fit(registry, tmp_path / "whole", **how)
    with pytest.raises(StopError):
        fit(registry, tmp_path / "cut", watch=[stop_at(5)], **how)
    # Watchers come before the saver: the last checkpoint is of step 4, and the logs tell of step 5.
    state = fit(registry, tmp_path / "cut", resume=True, **how)
    assert state.step == OPTIONS["steps"]
    first, second = digests(tmp_path / "whole"), digests(tmp_path / "cut")
    assert first == second
    wanted = {"metrics.jsonl", "validation.jsonl", "model/model.safetensors", "best/model.safetensors"}
    wanted |= {f"checkpoints/step-00000008/{x}.safetensors" for x in ("model", "ema", "optimizer", "task_weights")}
    wanted |= {f"samples/step-{n:08d}-words.png" for n in (3, 6, 8)}
    assert wanted <= set(first)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_what_is_restored_is_all_that_counts(registry: Registry, tmp_path: Path) -> None:
    """The optimizer's state and the average come back bit for bit, under their parameters' names."""
    with pytest.raises(StopError):
        fit(registry, tmp_path, watch=[stop_at(3)], save_steps=1)
    caught: dict[str, Any] = {}

    def look(state: TrainState, report: object) -> None:
        caught.update(
            {f"{n}/{k}": x.clone() for n, p in state.named().items() for k, x in state.optimizer.state[p].items()}
        )
        caught.update({f"ema {n}": x.clone() for n, x in state.ema.items()})

    fit(registry, tmp_path / "other", watch=[look], steps=8, save_steps=0)
    with pytest.raises(StopError):
        fit(registry, tmp_path, resume=True, watch=[stop_at(8)], save_steps=1)
    mine: dict[str, Any] = {}
    fit(registry, tmp_path, resume=True, watch=[lambda s, r: (look(s, r), mine.update(caught))])
    assert len(mine) > 20
    assert all(torch.equal(x, caught[n]) for n, x in mine.items())


def test_a_finished_run_is_resumed_by_doing_nothing(registry: Registry, tmp_path: Path) -> None:
    fit(registry, tmp_path)
    before = digests(tmp_path)
    taken = []
    fit(registry, tmp_path, resume=True, watch=[lambda state, report: taken.append(state.step)])
    assert not taken
    assert digests(tmp_path) == before


def test_a_run_is_neither_overwritten_nor_made_up(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no checkpoint in .*leave out resume"):
        fit(registry, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    fit(registry, tmp_path)
    before = digests(tmp_path)
    (tmp_path / "mine.txt").write_text("a note")
    with pytest.raises(RequestError, match="holds a run with a checkpoint of step 8; resume it"):
        fit(registry, tmp_path)
    fit(registry, tmp_path, replace=True)
    assert digests(tmp_path) == before | {"mine.txt": digests(tmp_path)["mine.txt"]}


def test_a_changed_configuration_is_refused_unless_told(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(registry, tmp_path, steps=4)
    with pytest.raises(RequestError, match=r"options.steps: 4 before, 8 now; options.lr: 0.01 before, 0.02 now"):
        fit(registry, tmp_path, resume=True, lr=0.02)
    model = small(registry)
    with pytest.raises(RequestError, match="rows: 40 before, 41 now"):
        fit(registry, tmp_path, steps=4, resume=True, rows=rows(model, 41))
    # What does not decide the result may change.
    fit(registry, tmp_path, steps=4, resume=True, keep=9, save_steps=7, loading=LoaderOptions(memory=False))
    assert fit(registry, tmp_path, resume=True, accept_changes=True).step == 8
    assert "resume: configuration: options.steps: 4 before, 8 now" in capsys.readouterr().err
    other = small(registry, backbone="transformer")
    with pytest.raises(RequestError, match=r"model.backbone.offer: 'mlp' before, 'transformer' now"):
        fit(registry, tmp_path, model=other, resume=True)
    with pytest.raises(RequestError, match=r"model.safetensors: lacks backbone"):
        fit(registry, tmp_path, model=other, resume=True, accept_changes=True)


@pytest.mark.parametrize("how", ["fixed", "learned"])
def test_a_tasks_weight_that_is_changed_and_accepted_counts(registry: Registry, tmp_path: Path, how: str) -> None:
    def model(weight: float) -> JointModel:
        return small(registry, tasks=[Task("label", "label", weight=weight), Task("words", "words")])

    def weights(into: list[Tensor]) -> Any:
        return lambda state, report: into.append(report.weights)

    first: list[Tensor] = []
    second: list[Tensor] = []
    how_both: dict[str, Any] = {"steps": 5, "task_weights": how}
    fit(registry, tmp_path / "one", model=model(1.0), watch=[weights(first)], **how_both)
    with pytest.raises(StopError):
        fit(registry, tmp_path / "two", model=model(1.0), watch=[stop_at(5)], save_steps=4, **how_both)
    changed = {"model": model(3.0), "watch": [weights(second)], "resume": True, **how_both}
    with pytest.raises(RequestError, match=r"model.tasks\[0\].weight: 1.0 before, 3.0 now"):
        fit(registry, tmp_path / "two", **changed)
    fit(registry, tmp_path / "two", accept_changes=True, **changed)
    assert len(second) == 1
    assert torch.allclose(second[0], first[4] * torch.tensor([3.0, 1.0]))


def test_damaged_checkpoints_are_named_and_passed_over(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(registry, tmp_path / "whole", save_steps=2)
    fit(registry, tmp_path / "cut", save_steps=2)
    path = tmp_path / "cut" / "checkpoints" / "step-00000008" / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    fit(registry, tmp_path / "cut", save_steps=2, resume=True)
    said = capsys.readouterr().err
    assert f"{path}: has" in said
    assert "the checkpoint before it is tried" in said
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    for _, folder in folders(tmp_path / "cut" / "checkpoints"):
        (folder / "state.json").unlink()
    with pytest.raises(RequestError, match=r"none of the 3 checkpoints in .* is whole"):
        fit(registry, tmp_path / "cut", resume=True)


def test_lost_log_lines_are_told(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(registry, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:10])
    fit(registry, tmp_path, resume=True)
    assert "metrics.jsonl is not as it was at step 8; its whole lines are kept" in capsys.readouterr().err
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:3])


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_run_after_a_saved_step(
    registry: Registry, tmp_path: Path, number: signal.Signals, error: type[BaseException]
) -> None:
    def ask(state: TrainState, report: object) -> None:
        if state.step == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    fit(registry, tmp_path / "whole")
    with pytest.raises(error):
        fit(registry, tmp_path / "cut", watch=[ask])
    assert signal.getsignal(number) is before
    assert folders(tmp_path / "cut" / "checkpoints")[0][0] == 3
    fit(registry, tmp_path / "cut", resume=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_checkpoints_are_kept_by_count_and_saved_by_time(registry: Registry, tmp_path: Path) -> None:
    fit(registry, tmp_path / "a", save_steps=1, keep=2)
    assert [step for step, _ in folders(tmp_path / "a" / "checkpoints")] == [8, 7]
    fit(registry, tmp_path / "b", save_seconds=1e-9, keep=9)
    steps = [step for step, _ in folders(tmp_path / "b" / "checkpoints")]
    # As one is skipped while another is being written, only some of the steps are sure.
    assert steps[0] == 8
    assert steps[-1] == 0
    assert len(steps) > 2


def test_one_run_at_a_time_in_a_folder(registry: Registry, tmp_path: Path) -> None:
    """The lock is a process's: the second runner is another one."""
    found: list[int] = []

    def second(state: TrainState, report: object) -> None:
        if state.step == 1:
            child = os.fork()
            if child == 0:
                try:
                    fit(registry, tmp_path, resume=True)
                except RequestError as error:
                    os._exit(7 if "another process trains in" in str(error) else 1)
                finally:
                    os._exit(2)
            found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    fit(registry, tmp_path, watch=[second], steps=2)
    assert found == [7]


def test_a_full_disk_ends_the_run_and_keeps_the_old_checkpoint(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcore.store import checkpoint as store

    put, full = store.door.create, []

    def refuse(path: Path, data: bytes) -> None:
        if "step-00000002" in str(path) and path.name == "optimizer.safetensors":
            full.append(path)
            put(path, data[:100])
            raise OSError(28, "No space left on device")
        put(path, data)

    monkeypatch.setattr(store.door, "create", refuse)
    with pytest.raises(MmcoreError, match=r"step-00000002: cannot be written: No space.*step 1 is untouched"):
        fit(registry, tmp_path / "cut", save_steps=1)
    assert full
    assert [p.name for p in sorted((tmp_path / "cut" / "checkpoints").iterdir())] == ["step-00000000", "step-00000001"]
    monkeypatch.undo()
    fit(registry, tmp_path / "cut", save_steps=1, resume=True)
    fit(registry, tmp_path / "whole", save_steps=1)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_is_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be written: Not a directory"):
        fit(registry, tmp_path / "file" / "run")
