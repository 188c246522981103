"""A run reads its rows as ``[data]`` says, and its dry run measures that very reading."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mmcore
from mmcore.config import configured
from mmcore.data import Dataset, LoaderOptions, Table, at_hand, batches, open_loader
from mmcore.runs.dry import dry_run
from mmcore.runs.run import show_data, train

# What is tested holds on a machine of one core too, where torch advises against two workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def tables(**data: Any) -> dict[str, Any]:
    return {
        "out": "run",
        "device": "cpu",
        "data": {"source": "digits", "limit": 24, **data},
        "modalities": {"image": {"channels": 1, "size": 8}, "label": {}},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1, "features": 2}},
        "training": {"steps": 3, "batch_size": 8, "seed": 4},
        "sampling": {"n": 2, "steps": 2},
    }


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What torch's loader is asked for, each time one is opened."""
    monkeypatch.chdir(tmp_path)
    made: list[dict[str, Any]] = []
    before = batches.StatefulDataLoader

    def opened(rows: Any, **options: Any) -> Any:
        places = options["batch_sampler"]
        kept = ("num_workers", "prefetch_factor", "pin_memory", "timeout")
        made.append({name: options[name] for name in kept})
        made[-1]["table"] = isinstance(rows.dataset, Table)
        made[-1]["batches"] = (places.count, places.batch_size, places.seed, places.rank, places.ranks)
        return before(rows, **{**options, "pin_memory": False})

    monkeypatch.setattr(batches, "StatefulDataLoader", opened)
    # So that pinned memory is asked for where there is no GPU.
    shim = SimpleNamespace(Generator=torch.Generator, cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(batches, "torch", shim)
    return made


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as they come": (
        {"memory": False},
        {"num_workers": 0, "prefetch_factor": None, "pin_memory": False, "timeout": 0, "table": False},
    ),
    "ahead, by workers": (
        {"memory": False, "workers": 2, "prefetch": 3, "pin": True},
        {"num_workers": 2, "prefetch_factor": 3, "pin_memory": True, "timeout": 600.0, "table": False},
    ),
    "from memory, since they are few": (
        {"workers": 2, "pin": True},
        {"num_workers": 0, "prefetch_factor": None, "pin_memory": True, "timeout": 0, "table": True},
    ),
    "from memory, as is said": (
        {"memory": True, "workers": 1},
        {"num_workers": 0, "prefetch_factor": None, "pin_memory": False, "timeout": 0, "table": True},
    ),
}


@pytest.mark.parametrize("how", CASES)
def test_a_run_reads_as_its_configuration_says_and_as_its_dry_run_measured(
    how: str, registry: mmcore.Registry, asked: list[dict[str, Any]]
) -> None:
    data, wanted = CASES[how]
    dry_run(configured(tables(**data), registry=registry))
    train(configured(tables(**data), registry=registry), quiet=True)
    assert asked == [wanted | {"batches": (24, 8, 4, 0, 1)}] * 2


def test_how_rows_are_read_changes_no_byte(
    registry: mmcore.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    for data, _ in CASES.values():
        setup = configured(tables(**{**data, "pin": False}), registry=registry)
        folder = train(setup, quiet=True, replace=bool(written))
        written.append((folder / "model" / "model.safetensors").read_bytes())
    assert written.count(written[0]) == len(CASES)


def test_validation_rows_are_read_as_the_training_rows_are(
    registry: mmcore.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(
        "mmcore.training.loop.Validation", lambda held, logs, best: seen.append(type(held)) or (lambda *_: None)
    )
    for memory in (False, True):
        given = tables(memory=memory)
        given["training"] |= {"validate_every": 1, "steps": 1}
        train(configured(given, registry=registry), quiet=True, replace=True)
    assert seen == [Dataset, Table]


def test_each_rank_opens_its_share(registry: mmcore.Registry, asked: list[dict[str, Any]]) -> None:
    rows = configured(tables(), registry=registry).rows()
    next(iter(open_loader(rows, LoaderOptions(memory=False), 8, 4, rank=1, ranks=2)))
    assert asked[0]["batches"] == (24, 8, 4, 1, 2)


def test_rows_are_kept_in_memory_where_they_are_few_and_alike_in_every_epoch(registry: mmcore.Registry) -> None:
    rows = configured(tables(), registry=registry).rows()
    assert isinstance(at_hand(rows, LoaderOptions()), Table)
    assert at_hand(rows, LoaderOptions(memory=False)) is rows
    table = at_hand(rows, LoaderOptions(memory=True))
    assert at_hand(table, LoaderOptions(memory=False)) is table
    flip = {"kind": "flip", "variables": ["image"]}
    flipped = configured(tables(transforms=[flip]), registry=registry).rows()
    assert at_hand(flipped, LoaderOptions()) is flipped


def test_fit_takes_loader_options_and_says_so_where_one_is_given_alone(registry: mmcore.Registry) -> None:
    model = configured(tables(), registry=registry).model()
    with pytest.raises(
        mmcore.RequestError, match=r"fit: workers: .*; workers: loading=LoaderOptions\(…\) says how rows"
    ):
        mmcore.fit(model, [{"label": 1}], workers=2)
    assert "workers" not in mmcore.training.TrainOptions().deciding()


def test_rows_that_cannot_be_read_leave_a_finished_run_without_their_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training may end before it reads a bad row; to look at the data afterwards must not undo that."""
    label = mmcore.discover().modality("label", classes=3)
    good, bad = ([{"label": k} for k in classes] for classes in ((0, 1, 2, 1), (0, 1, 7, 1)))
    (tmp_path / "bad").mkdir()
    show_data(tmp_path / "bad", [label], Dataset(bad, [label]))
    assert list((tmp_path / "bad").iterdir()) == []
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path / 'bad' / 'data.png'} is not written: row 2, label: found class 7")
    assert told.count("\n") == 1
    (tmp_path / "good").mkdir()
    show_data(tmp_path / "good", [label], Dataset(good, [label]))
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["data.png"]
