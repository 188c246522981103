"""Trackio, W&B and MLflow in their offline or file modes: what they keep of a run, read by their own readers.

The libraries are extras: ``tox -e trackers`` has them, and elsewhere what needs them is skipped.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmcore
from mmcore import Registry, RequestError
from mmcore.store.folder import check_free
from mmcore.testing import run as checked
from mmcore.training import Tracker
from mmcore.training.experiment import keep, kept
from mmcore.training.services import MLflow, Trackio, Wandb
from tests.training.runs import fit, rows, small
from tests.training.test_resume import StopError, stop_at
from tests.training.test_trackers import SEEN, curves, lines

# What the libraries' own imports warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")

KINDS = ("trackio", "wandb", "mlflow")
Curves = dict[str, list[tuple[int, float]]]


def need(kind: str) -> None:
    pytest.importorskip(kind, reason=f"{kind} is an extra; tox -e trackers has it")


def made(kind: str, **more: Any) -> Tracker:
    """A tracker, in its offline or file mode."""
    if kind == "wandb":
        return Wandb(**{"project": "digits", "mode": "offline", **more})
    return {"trackio": Trackio, "mlflow": MLflow}[kind](**more)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of trackio's files, which it looks up as it is imported."""
    assert "trackio" not in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trackio")
        patch.setenv("TRACKIO_DIR", str(folder))
        for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            patch.delenv(name, raising=False)
        yield folder


class Found:
    """What a library says of the experiments of a run's folder: how many there are, their curves, pictures and configuration."""

    def __init__(self, experiments: int, curves: Curves, pictures: list[np.ndarray], configuration: Any) -> None:
        self.experiments, self.curves, self.pictures, self.configuration = experiments, curves, pictures, configuration


def of_trackio(folder: Path) -> Found:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import MEDIA_DIR

    runs = [run for run in trackio.Api().runs("mmcore") if run.name.startswith(f"{folder.name}-")]
    told: Curves = {}
    shown = []
    for line in SQLiteStorage.get_logs("mmcore", runs[-1].name, max_points=None):
        for name, value in line.items():
            if isinstance(value, dict):
                with Image.open(Path(MEDIA_DIR) / value["file_path"]) as picture:
                    shown.append(np.asarray(picture.convert("RGB")))
            elif name not in ("step", "timestamp"):
                told.setdefault(name, []).append((line["step"], value))
    return Found(len(runs), told, shown, runs[-1].config)


def records(content: bytes) -> Iterator[bytes]:
    """Of a ``.wandb`` file: LevelDB's log format, blocks of 32 KB with pieces of a CRC, a length and a type, behind a head of seven bytes."""
    at, piece = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        piece += content[at + 7 : at + 7 + length]
        at += 7 + length
        # Whole, or the last of several.
        if kind in (1, 4):
            yield piece
            piece = b""


def of_wandb(folder: Path) -> Found:
    from wandb.proto.wandb_internal_pb2 import Record

    told: Curves = {}
    shown, configuration, names = [], {}, set()
    # Of a run that was resumed there are two files, which wandb sync puts together by their name.
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        names.add(path.name)
        for data in records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            line = {tuple(item.nested_key) or (item.key,): json.loads(item.value_json) for item in record.history.item}
            step = line.get(("_step",), record.history.step.num)
            for (name, *part), value in line.items():
                if part == ["path"]:
                    with Image.open(path.parent / "files" / value) as picture:
                        shown.append(np.asarray(picture.convert("RGB")))
                elif not part and not name.startswith("_"):
                    told.setdefault(name, []).append((step, value))
            for item in record.run.config.update:
                configuration[item.key] = json.loads(item.value_json)
    return Found(len(names), told, shown, configuration)


def of_mlflow(folder: Path) -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mmcore")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    run = runs[0]
    told = {
        name: [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    artifacts = folder / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    shown = []
    for path in sorted(artifacts.rglob("*.png")):
        with Image.open(path) as picture:
            shown.append(np.asarray(picture.convert("RGB")))
    assert run.info.status == "FINISHED"
    assert run.data.params["options.batch_size"] == "8"
    return Found(len(runs), told, shown, json.loads((artifacts / "configuration.json").read_text()))


READERS: dict[str, Callable[[Path], Found]] = {"trackio": of_trackio, "wandb": of_wandb, "mlflow": of_mlflow}


def expected(folder: Path) -> Curves:
    told: Curves = {}
    for step, values in curves(lines(folder / "metrics.jsonl")):
        for name, value in values.items():
            told.setdefault(name, []).append((step, value))
    if (folder / "validation.jsonl").exists():
        for line in lines(folder / "validation.jsonl"):
            for name, value in line["losses"].items():
                told.setdefault(f"validation/{name}", []).append((line["step"], value))
    return told


def plain(told: Curves) -> Curves:
    """By name and step, each figure once."""
    return {name: sorted(set(points)) for name, points in told.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_pictures_and_configuration_are_kept(registry: Registry, tmp_path: Path, kind: str) -> None:
    need(kind)
    folder = tmp_path / f"a {kind} run"
    fit(registry, folder, trackers=[made(kind)], validation=rows(small(registry), 10, seed=9), **SEEN)
    found = READERS[kind](folder)
    assert found.experiments == 1
    assert {name: sorted(points) for name, points in found.curves.items()} == expected(folder)
    assert found.configuration["options"]["batch_size"] == 8
    assert [m["name"] for m in found.configuration["model"]["modalities"]] == ["label", "words"]
    steps = [folder / "samples" / f"step-{step:08d}-words.png" for step in (4, 8)]
    drawn = [np.asarray(Image.open(path).convert("RGB")) for path in steps]
    assert len(found.pictures) == 2
    for picture in drawn:
        assert any(np.array_equal(picture, one) for one in found.pictures)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_in_the_same_experiment(registry: Registry, tmp_path: Path, kind: str) -> None:
    need(kind)
    folder = tmp_path / f"resumed {kind}"
    with pytest.raises(StopError):
        fit(registry, folder, trackers=[made(kind)], watch=[stop_at(6)], save_steps=4)
    first = kept(kind, folder, 4)
    fit(registry, folder, trackers=[made(kind)], save_steps=4, resume=True)
    assert first is not None
    assert kept(kind, folder, 8) == first
    found = READERS[kind](folder)
    assert found.experiments == 1
    # Steps 5 and 6 are told twice, with the same values.
    assert plain(found.curves) == expected(folder)
    assert [step for step, _ in expected(folder)["loss/total"]] == list(range(1, 9))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_run_in_the_folder_is_another_experiment(registry: Registry, tmp_path: Path, kind: str) -> None:
    need(kind)
    folder = tmp_path / f"replaced {kind}"
    fit(registry, folder, trackers=[made(kind)], log_every=4)
    first = kept(kind, folder, 8)
    fit(registry, folder, trackers=[made(kind)], log_every=4, replace=True)
    assert kept(kind, folder, 8) not in (None, first)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kits_checks_pass(kind: str) -> None:
    need(kind)
    offline = {"mode": "offline"} if kind == "wandb" else {}
    report = checked(lambda **given: mmcore.discover().make("tracker", kind, {**offline, **given})[1], kind="tracker")
    assert not report.failures, report.failures[0].explain()


# What is refused, and the experiment in the folder; without any of the libraries.


@pytest.mark.parametrize(("kind", "title"), [("trackio", "trackio"), ("wandb", "W&B"), ("mlflow", "MLflow")])
def test_a_library_that_is_not_there_is_told_with_the_line_that_installs_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, title: str
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(RequestError) as refused:
        fit(registry, tmp_path / "run", trackers=[made(kind)])
    assert str(refused.value) == f"{kind}: {title} is not installed; pip install 'mmcore-diffusion[{kind}]'"
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_run_without_a_folder_is_told_what_to_give(registry: Registry, kind: str) -> None:
    if kind == "mlflow":
        need(kind)
    with pytest.raises(RequestError, match=rf"{kind}: the run has no folder, expected .*fit\(out=…\)"):
        fit(registry, None, trackers=[made(kind)])


def test_wandb_without_a_login_refuses_before_the_first_step(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[int] = []
    with pytest.raises(RequestError, match=r"wandb: .*; wandb login, or mode = 'offline'"):
        fit(
            registry,
            tmp_path / "run",
            trackers=[made("wandb", mode="online")],
            watch=[lambda state, report: seen.append(state.step)],
        )
    assert seen == []


@pytest.mark.parametrize("identity", ["", "../../etc", "a/b", "-x", "x" * 300, 3, None, ["a"]])
def test_an_experiment_that_no_run_has_kept_is_none(tmp_path: Path, identity: Any) -> None:
    keep("wandb", tmp_path, "abc")
    assert kept("wandb", tmp_path, 4) == "abc"
    assert kept("wandb", tmp_path, None) is None
    assert kept("mlflow", tmp_path, 4) is None
    (tmp_path / "trackers" / "wandb.json").write_text(json.dumps({"experiment": identity}))
    assert kept("wandb", tmp_path, 4) is None
    (tmp_path / "trackers" / "wandb.json").write_text("no JSON")
    assert kept("wandb", tmp_path, 4) is None


def test_a_link_is_not_followed_to_another_runs_experiment(tmp_path: Path) -> None:
    keep("wandb", tmp_path / "one", "abc")
    (tmp_path / "two" / "trackers").mkdir(parents=True)
    (tmp_path / "two" / "trackers" / "wandb.json").symlink_to(tmp_path / "one" / "trackers" / "wandb.json")
    assert kept("wandb", tmp_path / "two", 4) is None


def test_a_run_that_was_stopped_before_its_first_checkpoint_may_begin_anew(registry: Registry, tmp_path: Path) -> None:
    keep("wandb", tmp_path, "abc")
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "what": "a run of mmcore"}))
    check_free(tmp_path)
    fit(registry, tmp_path, trackers=[])
    fit(registry, tmp_path, trackers=[], replace=True)
    # The run that was replaced was in it; this one is in none.
    assert kept("wandb", tmp_path, 8) is None


def test_their_environment_has_the_suites_versions_but_for_what_they_do_not_take() -> None:
    root = Path(__file__).parents[2]
    suite, theirs = (
        dict(line.split("==") for line in (root / name).read_text().splitlines() if not line.startswith("#"))
        for name in ("constraints.txt", "constraints-trackers.txt")
    )
    assert theirs.keys() - suite.keys() == {*KINDS}
    assert suite.keys() <= theirs.keys()
    assert {name for name, version in suite.items() if theirs[name] != version} == {"pillow", "pyarrow"}
