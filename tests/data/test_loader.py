"""The loader's laws: epochs are permutations, ranks partition batches, resuming continues, workers change nothing."""

import itertools
import json
import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore import MmcoreError, RequestError
from mmcore.data import BadRow, Dataset, Loader, Rows, Source, Table, TensorBatch
from mmcore.modality.base import Modality
from mmcore.modality.spec import Spec

# What is tested holds on a machine of one core too, where torch advises against two workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Number(Modality):
    """One float per row, read as it is."""

    name, spec, code = "x", Spec((1,)), (1,)

    def read(self, raw: Any) -> torch.Tensor:
        return torch.tensor([float(raw)])

    encoder = decoder = loss = show = typical = None  # type: ignore[assignment]


def numbers(count: int) -> Table:
    return Table(TensorBatch({"x": torch.arange(count)[:, None].float()}, torch.ones(count, 1, dtype=torch.bool)))


def take(loader: Loader, count: int) -> list[list[int]]:
    return [batch.values["x"][:, 0].long().tolist() for batch in itertools.islice(loader, count)]


counts = st.integers(1, 23)
sizes = st.integers(1, 30)


@given(counts, sizes, st.integers(0, 3))
@settings(max_examples=60)
def test_epochs_are_permutations_that_the_seed_and_epoch_decide(count: int, size: int, seed: int) -> None:
    stream = list(itertools.chain(*take(Loader(numbers(count), size, seed), -(-3 * count // size))))
    epochs = [stream[e * count : (e + 1) * count] for e in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    other = list(itertools.chain(*take(Loader(numbers(count), 1, seed), 3 * count)))
    assert stream[: 3 * count] == other  # the batch's size decides nothing
    if count > 8:
        assert len({tuple(epoch) for epoch in epochs}) == 3


@given(counts, st.integers(1, 5), st.sampled_from([1, 2, 3, 4]), st.integers(0, 9))
@settings(max_examples=60)
def test_ranks_hold_consecutive_parts_of_every_batch(count: int, share: int, ranks: int, seed: int) -> None:
    table, size = numbers(count), share * ranks
    whole = take(Loader(table, size, seed), 7)
    parts = [take(Loader(table, size, seed, rank=rank, ranks=ranks), 7) for rank in range(ranks)]
    assert [list(itertools.chain(*(part[n] for part in parts))) for n in range(7)] == whole


@given(counts, sizes, st.integers(0, 6), st.booleans())
@settings(max_examples=60)
def test_a_resumed_loader_goes_on(count: int, size: int, done: int, ranked: bool) -> None:
    table = numbers(count)
    size *= 2
    whole = take(Loader(table, size, 1), done + 4)
    first = Loader(table, size, 1, ranks=2 if ranked else 1)
    take(first, done)
    state = json.loads(json.dumps(first.state_dict()))
    second = Loader(table, size, 1)  # other ranks than before
    second.load_state_dict(state)
    assert take(second, 4) == whole[done:]
    assert second.batches == done + 4


def test_workers_change_nothing_and_read_ahead_without_being_counted() -> None:
    dataset = Dataset(Rows([{"x": k} for k in range(37)]), [Number()])
    whole = take(Loader(numbers(37), 8, 5), 12)
    loader = Loader(dataset, 8, 5, workers=2, prefetch=3)
    assert take(loader, 7) == whole[:7]
    again = Loader(dataset, 8, 5, workers=1)
    again.load_state_dict(loader.state_dict())
    assert take(again, 5) == whole[7:]


def test_rows_in_memory_need_no_workers() -> None:
    loader = Loader(numbers(37), 8, 5, workers=2)
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    first = [next(batches).values["x"][:, 0].long().tolist() for _ in range(3)]
    assert set(multiprocessing.active_children()) == before
    assert first == take(Loader(numbers(37), 8, 5), 3)


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    take(Loader(Dataset([{"x": 1.0}], [Number()]), 2, 0, workers=1), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_of_other_data_is_refused() -> None:
    state = Loader(numbers(9), 4, 0).state_dict()
    for loader, what in (
        (Loader(numbers(9), 5, 0), "batch_size = 5, expected 4"),
        (Loader(numbers(8), 4, 0), "rows = 8, expected 9"),
    ):
        with pytest.raises(RequestError, match=what):
            loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch size 0, expected at least 1"),
        ({"batch_size": 5, "ranks": 2}, "batch size 5 over 2 ranks, expected a multiple of 2"),
        ({"batch_size": 4, "rank": 2, "ranks": 2}, "rank 2 of 2"),
        ({"batch_size": 4, "workers": -1}, "workers = -1"),
    ],
)
def test_impossible_loaders_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Loader(numbers(9), seed=0, **options)


class Failing(Source):
    """Rows of which some fail as ``how`` says."""

    def __init__(self, bad: tuple[int, ...], how: str, count: int = 20) -> None:
        self.bad, self.how, self.count = bad, how, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self.bad:
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "hangs":
                time.sleep(60)
            if self.how == "other":
                raise KeyError("no such thing")
            return {"x": float("nan")}
        return {"x": float(index)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("how", "found"), [("nan", "found NaN"), ("other", "reading it gave KeyError")])
def test_a_bad_row_stops_with_its_place(workers: int, how: str, found: str) -> None:
    loader = Loader(Dataset(Failing((7,), how), [Number()]), 4, 0, workers=workers)
    with pytest.raises(RequestError, match=rf"^row 7\b.*{found}"):
        take(loader, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_rows_have_nothing_are_told_once_and_stay_counted(workers: int) -> None:
    told: list[BadRow] = []
    dataset = Dataset(Failing((3, 7), "nan"), [Number()], on_bad_row="skip", bad_row_limit=2)
    loader = Loader(dataset, 5, 0, workers=workers, tell=told.append)
    places = take(Loader(numbers(20), 5, 0), 12)
    for place, batch in zip(places, itertools.islice(loader, 12), strict=True):
        assert batch.present[:, 0].tolist() == [row not in (3, 7) for row in place]
        assert batch.values["x"][:, 0].tolist() == [0.0 if row in (3, 7) else float(row) for row in place]
    assert sorted(row.index for row in told) == [3, 7]
    resumed = Loader(dataset, 5, 0, tell=told.append)
    resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    list(itertools.islice(resumed, 4))
    assert len(told) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_more_bad_rows_than_the_limit_are_an_error(workers: int) -> None:
    dataset = Dataset(Failing((3, 7, 9), "nan"), [Number()], on_bad_row="skip", bad_row_limit=2)
    with pytest.raises(RequestError, match=r"3 bad rows, more than bad_row_limit = 2; the last: row \d, x: found NaN"):
        take(Loader(dataset, 5, 0, workers=workers, tell=lambda row: None), 4)
    with pytest.raises(RequestError, match="3 bad rows, more than bad_row_limit = 2; the first: row 3, x: found NaN"):
        Table.read(dataset)


# torch tells of a dead worker by an error from a signal handler, which hits whatever Python is doing, a garbage collection's callback too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_dies_or_hangs_ends_the_loader() -> None:
    for how, message in (("dies", "a worker is gone"), ("hangs", "a worker is gone.*timed out")):
        started = time.monotonic()
        with pytest.raises(MmcoreError, match=message):
            take(Loader(Dataset(Failing((7,), how), [Number()]), 4, 0, workers=1, timeout=5), 6)
        assert time.monotonic() - started < 50


def test_rows_of_later_epochs_are_the_same_rows() -> None:
    dataset = Dataset([{"x": k} for k in range(5)], [Number()])
    at = np.asarray([1, 6, 14])
    assert dataset.__getitems__(at).values["x"][:, 0].tolist() == [1, 1, 4]
    assert numbers(5).__getitems__(at).values["x"][:, 0].tolist() == [1, 1, 4]
