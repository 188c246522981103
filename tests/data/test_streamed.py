"""Streams of Hugging Face's datasets: local files, a run that is killed and goes on to the same bytes, shares, and refusals."""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcore import OptionError, Registry, RequestError
from mmcore.data import DataOptions, Dataset, LoaderOptions, Rows, StreamLoader, open_data
from mmcore.data.show import summarize
from mmcore.data.sources.streamed import Streamed, files
from mmcore.store.checkpoint import folders
from mmcore.testing import run
from mmcore.training import TrainState
from tests.training.processes import ranks
from tests.training.runs import digests, fit, small

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
# What is tested holds on a machine of one core too, where torch advises against two workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def parquet(folder: Path, count: int = 90, files: int = 4, part: str = "train") -> Path:
    """Rows of a label and a vector, in files of different lengths and small row groups."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    cuts = [0, *sorted(rng.choice(np.arange(1, count), files - 1, replace=False).tolist()), count]
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    for number, (a, b) in enumerate(itertools.pairwise(cuts)):
        columns = {
            "label": [k % 4 if k % 9 else None for k in range(a, b)],
            "words": [vectors[k].tolist() for k in range(a, b)],
            "number": list(range(a, b)),
        }
        pq.write_table(pa.table(columns), folder / f"{part}-{number:03d}.parquet", row_group_size=7)
    return folder


def lines(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        rows = [{"label": k % 3, "text": f"row {k}"} for k in range(number * 11, number * 11 + 11)]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def pictures(folder: Path) -> Path:
    for k in range(24):
        at = folder / ("cat", "dog")[k >= 12]
        at.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(at / f"{k:02d}.png")
    return folder


@pytest.mark.parametrize("make", [parquet, lines, pictures])
def test_streams_of_files_pass_the_kit(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Exact states, epochs and shares among the rest."""
    report = run(partial(files, make(tmp_path / "rows"), buffer=8), kind="source")
    assert [failure.explain() for failure in report.failures] == []
    assert {r.check.id for r in report.results if r.status == "passed"} >= {
        "source.resume",
        "source.epochs",
        "source.shares",
    }


def test_the_values_are_those_of_the_files(tmp_path: Path, registry: Registry) -> None:
    rows = {row["number"]: row for row in files(parquet(tmp_path / "rows"))}
    rng = np.random.default_rng(0)
    rng.choice(np.arange(1, 90), 3, replace=False)
    vectors = rng.normal(size=(90, 6)).astype(np.float32)
    assert sorted(rows) == list(range(90))
    for k, row in rows.items():
        np.testing.assert_array_equal(row["words"], vectors[k].astype(np.float64))
        assert row["label"] == (k % 4 if k % 9 else None)
    stream = files(pictures(tmp_path / "pictures"), buffer=24)
    assert stream.classes == {"label": ("cat", "dog")}
    variables = [registry.modality("image", channels=3, size=4), registry.modality("label", classes=2)]
    data = open_data(registry, DataOptions("datasets-stream", {"path": str(tmp_path / "pictures")}), variables)
    assert "rows: 24 train, the first of a stream;" in summarize({"train": data}).text()
    (batch,) = itertools.islice(StreamLoader(data, 24, 0), 1)
    grey = ((batch.values["image"][:, 0, 0, 0] + 1) * 127.5).round().long()
    assert sorted(grey.tolist()) == list(range(24))
    assert ((grey >= 12).long() == batch.values["label"]).all()
    # Not one class after the other, though they lie so.
    first = [row["label"] for row in itertools.islice(iter(files(tmp_path / "pictures", buffer=1)), 12)]
    assert 0 < sum(first) < 12


def test_every_epoch_and_seed_has_another_order_of_files(tmp_path: Path) -> None:
    stream = files(parquet(tmp_path / "rows"))
    orders = [
        tuple(row["number"] for some, _ in stream.chunks(epoch, seed=seed) for row in some)
        for epoch, seed in itertools.product(range(3), range(3))
    ]
    assert len(set(orders)) > 5
    assert all(sorted(order) == list(range(90)) for order in orders)
    (order,) = {
        tuple(row["number"] for some, _ in files(tmp_path / "rows", buffer=1).chunks(epoch) for row in some)
        for epoch in range(3)
    }
    assert order == tuple(range(90))


def die_at(step: int, rank: int = 0) -> Callable[[TrainState, object], None]:
    def watch(state: TrainState, report: object) -> None:
        if state.step == step and state.ranks.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def streaming(registry: Registry, path: Path, out: Path, workers: int = 0, **changes: Any) -> None:
    """20 steps of 8 rows: into the second epoch, and the second block of each."""
    model = small(registry)
    how = {"loading": LoaderOptions(workers=workers), "steps": 20, "save_steps": 3}
    fit(registry, out, model=model, rows=Dataset(files(path, buffer=32, head=16), model.variables), **(how | changes))


def places(out: Path) -> dict[str, Any]:
    """Where the shares of a finished run are."""
    return json.loads((out / "checkpoints" / "step-00000020" / "state.json").read_text())["loader"]["places"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_to_the_same_bytes(registry: Registry, tmp_path: Path, workers: int) -> None:
    path = parquet(tmp_path / "rows")
    streaming(registry, path, tmp_path / "whole")
    child = os.fork()
    if child == 0:
        streaming(registry, path, tmp_path / "cut", workers, watch=[die_at(17)])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert folders(tmp_path / "cut" / "checkpoints")[0][0] in (12, 15)
    streaming(registry, path, tmp_path / "cut", workers, resume=True)
    whole = digests(tmp_path / "whole")
    assert digests(tmp_path / "cut") == whole
    assert "model/model.safetensors" in whole
    # The stream is gone on with, and not begun again: the order of the files is another one in epoch 1.
    assert places(tmp_path / "cut")["0"]["epoch"] == 1


def test_killed_ranks_go_on_to_the_same_bytes(registry: Registry, tmp_path: Path) -> None:
    path = parquet(tmp_path / "rows")
    works = {
        "whole": lambda rank: streaming(registry, path, tmp_path / "whole", parallel="ddp"),
        "cut": lambda rank: streaming(registry, path, tmp_path / "cut", parallel="ddp", watch=[die_at(17, 1)]),
        "on": lambda rank: streaming(registry, path, tmp_path / "cut", parallel="ddp", resume=True),
    }
    assert ranks(2, works["whole"]) == [0, 0]
    assert -signal.SIGKILL in ranks(2, works["cut"])
    assert ranks(2, works["on"]) == [0, 0]
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    found = places(tmp_path / "cut")
    assert found.keys() == {"0", "1"}
    assert found["0"] != found["1"]
    with pytest.raises(RequestError, match="ranks = 1, expected 2 as in the run that is resumed"):
        streaming(registry, path, tmp_path / "cut", steps=21, resume=True, accept_changes=True)


def test_changed_files_are_told_on_resume(registry: Registry, tmp_path: Path) -> None:
    path = parquet(tmp_path / "rows")
    streaming(registry, path, tmp_path / "run", steps=3)
    (path / "train-003.parquet").unlink()
    with pytest.raises(
        RequestError, match=r"the stream's files are not what they were: some were added, removed or changed"
    ):
        streaming(registry, path, tmp_path / "run", steps=3, resume=True)


def test_a_stream_at_hand(tmp_path: Path) -> None:
    """Mapped and filtered rows too go on where they were; one that would lose rows or has no state is refused."""
    found = sorted(map(str, parquet(tmp_path / "rows").glob("*.parquet")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.load.increase_load_count", lambda name: None)
        given = datasets.load_dataset(
            "parquet", data_files=found, split="train", streaming=True, cache_dir=str(tmp_path / "cache")
        )
    changed = given.filter(lambda row: row["number"] % 5 != 0).map(lambda row: {"number": row["number"] * 2})
    for rows, want in ((given, set(range(90))), (changed, {2 * k for k in range(90) if k % 5})):
        stream = Streamed(rows, buffer=16)
        assert {row["number"] for row in stream} == want
        report = run(
            lambda rows=rows: Streamed(rows, buffer=16), kind="source", only=["source.resume", "source.shares"]
        )
        assert [failure.explain() for failure in report.failures] == []
    with pytest.raises(RequestError, match="shuffled already: its state forgets the rows in its buffer"):
        Streamed(given.shuffle(buffer_size=9))
    with pytest.raises(
        RequestError, match="found a generator without state_dict, load_state_dict, set_epoch: a stream without a state"
    ):
        Streamed(row for row in [{"x": 1}])
    with pytest.raises(RequestError, match="IterableDataset, which has no length and may have no end"):
        Rows(given)


def test_parts_are_those_that_the_names_say(tmp_path: Path) -> None:
    parquet(tmp_path / "rows")
    parquet(tmp_path / "rows", 20, 2, "val")
    counts = {part: sum(1 for _ in files(tmp_path / "rows", part=part)) for part in ("train", "validation", "all")}
    assert counts == {"train": 90, "validation": 20, "all": 110}
    assert sum(1 for _ in files(tmp_path / "rows" / "val-*.parquet")) == 20
    with pytest.raises(OptionError, match=r"one of the parts in .*: train, validation"):
        files(tmp_path / "rows", part="test")


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (lambda at: None, {}, r"found nothing at .* nothing is fetched from elsewhere"),
        (lambda at: at.mkdir(), {}, "files of parquet, json, csv, arrow, imagefolder, found none"),
        (lambda at: parquet(at), {"kind": "csv"}, "files of csv, found none"),
        (lambda at: parquet(at), {"kind": "webdataset"}, "kind = 'webdataset', expected one of parquet, json"),
        (lambda at: parquet(at), {"buffer": 0}, "buffer = 0, expected a whole number of at least 1"),
    ],
)
def test_refusals(tmp_path: Path, make: Callable[[Path], Any], options: dict[str, Any], match: str) -> None:
    make(tmp_path / "rows")
    with pytest.raises(RequestError, match=match) as found:
        files(tmp_path / "rows", **options)
    assert "\n" not in str(found.value)


def test_damaged_files_and_a_file_outside_are_told_in_one_line(tmp_path: Path) -> None:
    at = tmp_path / "rows"
    at.mkdir()
    (at / "a.parquet").write_bytes(b"PAR1" + b"\0" * 40)
    with pytest.raises(RequestError, match="rows") as found:
        list(files(at))
    assert "\n" not in str(found.value)
    features = datasets.Features({"image": datasets.Image()})
    told = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "/etc/hostname"}]}, features=features)
    told.to_parquet(at / "a.parquet")
    (row,) = files(at)
    with pytest.raises(RequestError, match=r"found a file outside .*rows, expected one in it, or its bytes"):
        row["image"]


def test_the_library_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "rows")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        RequestError, match=r"datasets-stream: the library is not installed; pip install 'mmcore-diffusion\[datasets\]'"
    ):
        files(tmp_path / "rows")
