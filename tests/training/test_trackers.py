"""Trackers: what they are told, that none decides anything, and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmcore
from mmcore import Registry, RequestError
from mmcore.config.resolve import configured
from mmcore.runs.run import train
from mmcore.training import Tracker, TrainOptions
from mmcore.training.trackers import TensorBoard
from tests.installing import install
from tests.training.processes import ranks
from tests.training.runs import OPTIONS, digests, fit, pictures, rows, small
from tests.training.test_resume import StopError, stop_at


class Kept(Tracker):
    """Keeps all that it is told, and raises where it is asked to."""

    def __init__(self, fails: str = "", error: BaseException | None = None, at: int = 0) -> None:
        self.fails, self.error, self.at = fails, error or OSError("no connection"), at
        self.told: list[tuple[Any, ...]] = []

    def _tell(self, call: str, *what: Any) -> None:
        self.told.append((call, *what))
        if call == self.fails and (call in ("begin", "end") or what[0] >= self.at):
            raise self.error

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        self._tell("begin", folder, configuration, after)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._tell("scalars", step, dict(values))

    def pictures(self, step: int, pictures: Mapping[str, Image.Image]) -> None:
        self._tell("pictures", step, {name: np.asarray(one) for name, one in pictures.items()})

    def end(self) -> None:
        self._tell("end")

    def of(self, call: str) -> list[tuple[Any, ...]]:
        return [rest for name, *rest in self.told if name == call]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def curves(metrics: list[dict[str, Any]]) -> list[list[Any]]:
    """What trackers are told of these lines of metrics.jsonl."""
    return [
        [
            line["step"],
            {"loss/total": line["loss"], "grad_norm": line["grad_norm"], "lr": line["lr"]}
            | {f"loss/{name}": task["loss"] for name, task in line["tasks"].items() if task["loss"] is not None},
        ]
        for line in metrics
    ]


SEEN: dict[str, Any] = {"log_every": 2, "validate_every": 4, "pictures_every": 4, "pictures": pictures}


def test_a_tracker_is_told_the_figures_and_pictures_that_a_run_keeps(registry: Registry, tmp_path: Path) -> None:
    kept = Kept()
    fit(registry, tmp_path, trackers=[kept], validation=rows(small(registry), 10, seed=9), **SEEN)
    (folder, configuration, after), *more = kept.of("begin")
    assert (folder, after, more) == (tmp_path, None, [])
    assert configuration["options"]["batch_size"] == 8
    assert configuration["rows"] == 40
    assert [m["name"] for m in configuration["model"]["modalities"]] == ["label", "words"]
    trained = [told for told in kept.of("scalars") if "lr" in told[1]]
    assert trained == curves(lines(tmp_path / "metrics.jsonl"))
    assert [step for step, _ in trained] == [1, 2, 4, 6, 8]
    validated = [told for told in kept.of("scalars") if "lr" not in told[1]]
    assert validated == [
        [line["step"], {f"validation/{name}": loss for name, loss in line["losses"].items()}]
        for line in lines(tmp_path / "validation.jsonl")
    ]
    assert [step for step, _ in validated] == [4, 8]
    for step, drawn in kept.of("pictures"):
        with Image.open(tmp_path / "samples" / f"step-{step:08d}-words.png") as picture:
            np.testing.assert_array_equal(drawn["words"], np.asarray(picture))
    assert [step for step, _ in kept.of("pictures")] == [4, 8]
    assert kept.told[0][0] == "begin"
    assert [told for told in kept.told if told[0] == "end"] == kept.told[-1:]
    assert not (tmp_path / "tensorboard").exists()


def test_a_run_without_a_folder_is_tracked_too(registry: Registry) -> None:
    kept = Kept()
    fit(registry, None, trackers=[kept], log_every=4)
    ((folder, configuration, after),) = kept.of("begin")
    assert (folder, configuration["rows"], after) == (None, 40, None)
    assert [step for step, _ in kept.of("scalars")] == [1, 4, 8]


def test_what_a_tracker_does_to_what_it_is_given_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    class Clearing(Tracker):
        def begin(self, folder: Path | None, configuration: Any, after: int | None) -> None:
            configuration.clear()

        def scalars(self, step: int, values: Any) -> None:
            values.clear()

        def pictures(self, step: int, pictures: Any) -> None:
            pictures.clear()

    kept, held = Kept(), rows(small(registry), 10, seed=9)
    fit(registry, tmp_path / "one", trackers=[], validation=held, **SEEN)
    fit(registry, tmp_path / "two", trackers=[Clearing(), kept], validation=held, **SEEN)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert kept.of("begin")[0][1]["rows"] == 40
    assert all(values for _, values in kept.of("scalars") + kept.of("pictures"))
    # And it can be resumed: what the checkpoints say of the configuration is whole.
    fit(registry, tmp_path / "two", trackers=[], validation=held, resume=True, **SEEN)


@pytest.mark.parametrize("error", [OSError("no connection"), SystemExit(3), RequestError("no such run")])
@pytest.mark.parametrize("fails", ["begin", "scalars", "pictures", "end"])
def test_a_tracker_that_raises_is_named_and_left_out(
    registry: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str], fails: str, error: BaseException
) -> None:
    if fails == "begin" and isinstance(error, RequestError):
        error = mmcore.MmcoreError("no such run")
    bad, good = Kept(fails, error, at=4), Kept()
    held = rows(small(registry), 10, seed=9)
    fit(registry, tmp_path / "one", trackers=[], validation=held, **SEEN)
    fit(registry, tmp_path / "two", trackers=[bad, good], validation=held, **SEEN)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "tracker" in line]
    what = f"{type(error).__name__}: {error}"
    assert line == f"training: the tracker Kept gave {what}; the run goes on without it"
    assert bad.told[-1][0] == fails
    assert [told[0] for told in bad.told].count("end") == (fails == "end")
    assert len(good.of("scalars")) == 7
    assert good.told[-1] == ("end",)


def test_a_tracker_can_refuse_a_run_before_its_first_step(registry: Registry, tmp_path: Path) -> None:
    seen: list[int] = []
    good = Kept()
    with pytest.raises(RequestError, match="no project 'digits'"):
        fit(
            registry,
            tmp_path,
            trackers=[good, Kept("begin", RequestError("no project 'digits'"))],
            watch=[lambda state, report: seen.append(state.step)],
        )
    assert seen == []
    assert [told[0] for told in good.told] == ["begin", "end"]


def test_ctrl_c_in_a_tracker_is_the_users(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(registry, tmp_path, trackers=[Kept("scalars", KeyboardInterrupt(), at=3)])


def test_the_end_is_told_of_a_run_that_fails(registry: Registry, tmp_path: Path) -> None:
    kept = Kept()
    with pytest.raises(StopError):
        fit(registry, tmp_path, trackers=[kept], watch=[stop_at(3)])
    assert kept.told[-1] == ("end",)


def test_a_resumed_run_goes_on_after_its_checkpoint(registry: Registry, tmp_path: Path) -> None:
    first, second = Kept(), Kept()
    with pytest.raises(StopError):
        fit(registry, tmp_path, trackers=[first], watch=[stop_at(6)], save_steps=4)
    # Trackers decide nothing, so another one is no change of the configuration.
    fit(registry, tmp_path, trackers=[second], save_steps=4, resume=True)
    assert second.of("begin")[0][2] == 4
    assert [step for step, _ in first.of("scalars")] == [1, 2, 3, 4, 5, 6]
    assert first.of("scalars")[:4] + second.of("scalars") == curves(lines(tmp_path / "metrics.jsonl"))
    assert first.of("scalars")[4:] == second.of("scalars")[:2]


def test_of_several_processes_the_first_one_tracks(registry: Registry, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        kept = Kept()
        fit(registry, tmp_path / "run", trackers=[kept])
        (tmp_path / f"told-{rank}").write_text(json.dumps([told[0] for told in kept.told]))

    assert ranks(2, work) == [0, 0]
    told = [json.loads((tmp_path / f"told-{rank}").read_text()) for rank in range(2)]
    assert told == [["begin", *["scalars"] * 8, "end"], []]


# TensorBoard.


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_tensorboard_shows_the_same_curves_and_pictures_by_default(registry: Registry, tmp_path: Path) -> None:
    fit(registry, tmp_path, validation=rows(small(registry), 10, seed=9), **SEEN)
    found = events(tmp_path / "tensorboard")
    wanted = {
        name: [(step, values[name]) for step, values in curves(lines(tmp_path / "metrics.jsonl"))]
        for name in ("loss/total", "loss/label", "loss/words", "grad_norm", "lr")
    }
    for name in ("label", "words", "total"):
        wanted[f"validation/{name}"] = [
            (line["step"], line["losses"][name]) for line in lines(tmp_path / "validation.jsonl")
        ]
    assert set(found.Tags()["scalars"]) == set(wanted)
    for name, points in wanted.items():
        shown = [(event.step, event.value) for event in found.Scalars(name)]
        assert [step for step, _ in shown] == [step for step, _ in points]
        np.testing.assert_allclose([value for _, value in shown], [value for _, value in points], rtol=1e-6)
    assert [(event.step, event.width, event.height) for event in found.Images("words")] == [(4, 6, 4), (8, 6, 4)]


def test_tensorboards_curves_go_on_where_a_resumed_run_does(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        fit(registry, tmp_path, watch=[stop_at(6)], save_steps=4)
    fit(registry, tmp_path, save_steps=4, resume=True)
    found = events(tmp_path / "tensorboard").Scalars("loss/total")
    assert [event.step for event in found] == list(range(1, 9))
    losses = [line["loss"] for line in lines(tmp_path / "metrics.jsonl")]
    np.testing.assert_allclose([event.value for event in found], losses, rtol=1e-6)


def test_tensorboard_writes_where_it_is_told_to(registry: Registry, tmp_path: Path) -> None:
    fit(registry, None, trackers=[{"kind": "tensorboard", "folder": str(tmp_path / "curves")}], log_every=4)
    assert [event.step for event in events(tmp_path / "curves").Scalars("lr")] == [1, 4, 8]
    with pytest.raises(RequestError, match="tensorboard: the run has no folder, expected"):
        fit(registry, None, trackers=["tensorboard"])


def test_without_tensorboard_runs_go_untracked_unless_it_is_asked_for(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    fit(registry, tmp_path / "one")
    assert not (tmp_path / "one" / "tensorboard").exists()
    with pytest.raises(RequestError, match="TensorBoard is not installed; pip install tensorboard"):
        fit(registry, tmp_path / "two", trackers=[TensorBoard()])


# Names, and what is refused.


class Lone:
    def scalars(self, step: int, values: Any) -> None: ...


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        ([Kept], r"trackers\[0\] is the class Kept, expected an object of it, Kept\(…\)"),
        ([Kept(), Lone()], r"trackers\[1\] is a Lone, .*mmcore.training.Tracker \(it lacks begin, pictures, end\)"),
        ("tensorboard", "trackers is a str, expected a list"),
        (Kept(), "trackers is a Kept, expected a list"),
        (["tensorbord"], "no tracker 'tensorbord' is installed; .* did you mean 'tensorboard'"),
        ([{"kind": "tensorboard", "foldr": 1}], "unexpected keyword argument 'foldr'"),
    ],
)
def test_what_is_no_tracker_is_refused_with_what_it_lacks(
    registry: Registry, tmp_path: Path, trackers: Any, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        fit(registry, tmp_path / "run", trackers=trackers)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("trackers", ["tensorboard", [3], [{"folder": "x"}], 5])
def test_the_option_is_a_list_of_names(trackers: Any) -> None:
    with pytest.raises(RequestError, match=r"training: trackers.* expected a list of names of installed trackers"):
        TrainOptions(trackers=trackers)


PLUGIN = """
from pathlib import Path

from mmcore import Offer, hookimpl
from mmcore.training import Tracker


@hookimpl
def mmcore_trackers():
    return [Offer("lines", "lines_tracker:Lines", "a line for each step")]


class Lines(Tracker):
    def __init__(self, path: str, mark: str = "-") -> None:
        self.path, self.mark = path, mark

    def begin(self, folder, configuration, after) -> None:
        Path(self.path).write_text(f"{configuration['configuration']['modalities']['label']['classes']}\\n")

    def scalars(self, step, values) -> None:
        with Path(self.path).open("a") as file:
            file.write(f"{self.mark} {step}\\n")
"""


def test_a_plugins_tracker_is_named_in_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    install(tmp_path / "site", "acme-lines", {"tracker.lines": "lines_tracker"}, {"lines_tracker": PLUGIN})
    np.savez(tmp_path / "rows.npz", label=np.arange(12) % 3)
    wanted = {"kind": "lines", "path": str(tmp_path / "lines.txt"), "mark": "step"}
    tables: dict[str, Any] = {
        "out": str(tmp_path / "run"),
        "data": {"source": "npz", "options": {"path": str(tmp_path / "rows.npz")}},
        "modalities": {"label": {"classes": 3}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 4, "depth": 1, "features": 2}},
        "training": {"steps": 2, "batch_size": 4, "log_every": 1, "trackers": [wanted]},
        "sampling": {"n": 1, "steps": 1},
    }
    setup = configured(tables, registry=mmcore.discover())
    assert setup.tables()["training"]["trackers"] == [wanted]
    train(setup, quiet=True)
    assert (tmp_path / "lines.txt").read_text().splitlines() == ["3", "step 1", "step 2"]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_options_of_a_run_with_trackers_may_change_as_it_is_resumed() -> None:
    assert TrainOptions(trackers=["tensorboard"]).deciding() == TrainOptions().deciding()
    assert OPTIONS.get("trackers") is None
