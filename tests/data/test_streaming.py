"""Streams: blocks are permutations, states need no row, shares partition, workers change nothing, and nothing is read in silence."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcore import MmcoreError, RequestError
from mmcore.data import (
    ColumnOptions,
    DataOptions,
    Dataset,
    FilterOptions,
    LoaderOptions,
    Rows,
    SplitOptions,
    Stream,
    StreamLoader,
    Table,
    Transform,
    open_loader,
    open_source,
)
from mmcore.data.stream import head_of
from mmcore.data.table import rows_for
from mmcore.plugins.products import misfit
from mmcore.rng import Rng
from tests.data.test_loader import Number

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Counting(Stream):
    """The numbers from 0, in chunks whose lengths another seed makes others; a rank has every so many-th."""

    def __init__(
        self, count: int | None, *, buffer: int = 4, head: int = 5, cuts: int = 0, files: bool = False
    ) -> None:
        self.count, self.buffer, self.head, self.cuts, self.files = count, buffer, head, cuts, files
        self.title, self.names = "counting", ("x",)

    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[list[Any], Any]]:
        draw = random.Random(self.cuts)
        at = state["next"] if state else rank
        while self.count is None or at < self.count:
            some = range(at, at + ranks * draw.choice([0, 1, 3, 5]), ranks)
            some = some if self.count is None else some[: len(range(at, self.count, ranks))]
            at += len(some) * ranks
            yield [{"x": k} for k in some], {"next": at}


def loader(stream: Stream, size: int, seed: int = 0, **how: Any) -> StreamLoader:
    return StreamLoader(Dataset(stream, [Number()]), size, seed, **how)


def take(loader: StreamLoader, count: int) -> list[list[int]]:
    return [batch.values["x"][:, 0].long().tolist() for batch in itertools.islice(loader, count)]


counts, sizes, buffers = st.integers(1, 40), st.integers(1, 9), st.integers(1, 12)


@given(counts, sizes, buffers, st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=20)
def test_blocks_are_permutations_that_seed_epoch_and_place_decide(
    count: int, size: int, buffer: int, seed: int, cuts: int
) -> None:
    """By brute force: every block of ``buffer`` rows in the order of its keys, whatever the chunks and batches are."""
    rows = list(
        itertools.chain(*take(loader(Counting(count, buffer=buffer, cuts=cuts), size, seed), -(-3 * count // size)))
    )
    want: list[int] = []
    for epoch in range(3):
        for begin in range(0, count, buffer):
            block = list(range(begin, min(begin + buffer, count)))
            if buffer > 1:
                keys = Rng.for_rows(seed, len(block)).at(epoch).of(f"block/0/{begin}").bits(1)[:, 0].tolist()
                block = [k for _, k in sorted(zip(keys, block, strict=True))]
            want += block
    assert rows[: 3 * count] == want


@given(counts, sizes, buffers, st.integers(0, 14), st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.integers(0, 3))
@settings(max_examples=30)
def test_a_resumed_loader_goes_on_whatever_the_chunks_were(
    count: int, size: int, buffer: int, done: int, share: tuple[int, int], cuts: int
) -> None:
    rank, ranks = share
    count, size = count + ranks, size * ranks
    how = {"rank": rank, "ranks": ranks}
    whole = take(loader(Counting(count, buffer=buffer), size, 1, **how), done + 5)
    first = loader(Counting(count, buffer=buffer), size, 1, **how)
    take(first, done)
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) < 400  # of rows it holds none
    second = loader(Counting(count, buffer=buffer, cuts=cuts), size, 1, **how)
    second.load_state_dict(state)
    assert take(second, 5) == whole[done:]
    assert second.batches == done + 5


@given(st.integers(3, 40), st.sampled_from([2, 3]), buffers)
@settings(max_examples=10)
def test_ranks_have_every_row_of_an_epoch_once(count: int, ranks: int, buffer: int) -> None:
    found: Counter[int] = Counter()
    for rank in range(ranks):
        mine = len(range(rank, count, ranks))
        rows = itertools.chain(*take(loader(Counting(count, buffer=buffer), ranks, rank=rank, ranks=ranks), mine))
        found += Counter(rows)
    assert found == Counter(range(count))


def test_workers_change_nothing_and_read_ahead_without_being_counted() -> None:
    whole = take(loader(Counting(37, buffer=8), 8, 5), 12)
    some = loader(Counting(37, buffer=8), 8, 5, workers=2, prefetch=3)
    assert take(some, 7) == whole[:7]
    again = loader(Counting(37, buffer=8), 8, 5, workers=1)
    again.load_state_dict(some.state_dict())
    assert take(again, 5) == whole[7:]


def test_of_an_endless_stream_only_what_is_asked_for_is_read() -> None:
    read: list[int] = []

    class Watched(Counting):
        def chunks(self, *args: Any, **how: Any) -> Iterator[tuple[list[Any], Any]]:
            for rows, state in super().chunks(*args, **how):
                read.extend(row["x"] for row in rows)
                yield rows, state

    endless = Watched(None, buffer=8, head=6)
    batches = loader(endless, 4)
    assert len(read) < 12  # the head, and the rest of its chunk
    read.clear()
    take(batches, 5)
    assert len(read) <= 4 * 5 + 8 + 5  # a block and a chunk ahead at most
    for misuse in (
        lambda: Table.read(endless, [Number()]),
        lambda: Rows(endless),
        lambda: open_loader(Dataset(endless, [Number()]), LoaderOptions(memory=True), 4, 0),
    ):
        with pytest.raises(RequestError, match=r"no length.* may have no end"):
            misuse()
    assert [row["x"] for row in Rows(endless, limit=9)] == list(range(9))


def test_what_a_transform_draws_is_a_function_of_row_and_epoch() -> None:
    class Noise(Transform):
        varies = True

        def __call__(self, values: dict[str, Any], rng: Rng) -> dict[str, Any]:
            return {name: value + float(rng.uniform(1)[0, 0]) / 2 for name, value in values.items()}

    def seen(size: int, buffer: int) -> set[float]:
        dataset = Dataset(Counting(12, buffer=buffer), [Number()], transforms=[Noise()])
        batches = itertools.islice(StreamLoader(dataset, size, 0), 24 // size)
        return {float(x) for batch in batches for x in batch.values["x"][:, 0]}

    assert len(seen(4, 6)) == 24  # other numbers in each epoch
    assert seen(4, 6) == seen(3, 12) == seen(12, 1)  # and the same whatever the batches and blocks are


def test_a_bad_row_is_told_with_its_place_and_counted_once() -> None:
    class Faulty(Counting):
        def chunks(self, *args: Any, **how: Any) -> Iterator[tuple[list[Any], Any]]:
            for rows, state in super().chunks(*args, **how):
                yield [{"x": "far" if row["x"] == 6 else row["x"]} for row in rows], state

    with pytest.raises(RequestError, match=r"counting epoch 0 row 6, x: reading it gave ValueError"):
        take(loader(Faulty(8), 8), 1)
    told: list[Any] = []
    dataset = Dataset(Faulty(8), [Number()], on_bad_row="skip", bad_row_limit=1)
    batches = StreamLoader(dataset, 4, 0, tell=told.append)
    present = sum(int(batch.present.sum()) for batch in itertools.islice(batches, 6))
    assert (present, len(told), len(batches.bad)) == (21, 1, 1)  # three epochs, each without it
    again = StreamLoader(dataset, 4, 0, tell=told.append)
    again.load_state_dict(json.loads(json.dumps(batches.state_dict())))
    assert again.bad == batches.bad


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"batch_size": 8}, "batch_size = 6, expected 8"),
        (
            {"ranks": 2},
            "ranks = 1, expected 2 as in the run that is resumed: a stream's state is of its shares and blocks; start 2 processes again",
        ),
        ({"buffer": 9}, "buffer = 4, expected 9"),
        ({"places": None}, "found the stream counting, expected rows by number"),
    ],
)
def test_a_state_of_another_loader_is_refused(change: dict[str, Any], match: str) -> None:
    state = {**loader(Counting(9), 6).state_dict(), **change}
    if state["places"] is None:
        del state["places"]
    with pytest.raises(RequestError, match=match):
        loader(Counting(9), 6).load_state_dict(state)


def test_files_that_have_shrunk_since_are_told() -> None:
    first = loader(Counting(20, buffer=16), 4)
    take(first, 3)
    second = loader(Counting(10, buffer=16), 4)
    second.load_state_dict(first.state_dict())
    with pytest.raises(
        RequestError, match=r"found 10 rows in epoch 0 after row 0, expected 12 at least.*files have changed"
    ):
        take(second, 1)


def test_a_failing_stream_and_an_empty_share_are_told_in_one_line() -> None:
    class Lost(Counting):
        def chunks(self, *args: Any, **how: Any) -> Iterator[tuple[list[Any], Any]]:
            yield from itertools.islice(super().chunks(*args, **how), 6)
            raise OSError("train-3.parquet is gone")

    with pytest.raises(
        RequestError, match=r"counting: reading on gave OSError: train-3.parquet is gone, in epoch 0"
    ) as found:
        take(loader(Lost(None), 4), 99)
    assert "\n" not in str(found.value)
    with pytest.raises(MmcoreError, match="found no row in rank 2's share of epoch 0, of 3"):
        take(loader(Counting(2, head=1), 3, rank=2, ranks=3), 1)


class _Registry:
    """One that has a stream."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def find(self, kind: str, name: str) -> Any: ...
    def factory(self, entry: Any) -> Any:
        return (lambda part="train": Counting(self.count)), None

    def source(self, name: str, **options: Any) -> Any:
        return Counting(self.count)


def test_what_a_configuration_asks_of_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are renamed as it comes; held-out rows are its first ones, which is told; what needs numbers is refused."""
    registry: Any = _Registry(None)
    renamed = open_source(registry, DataOptions("s", columns={"y": ColumnOptions("x", missing=(3,))}))
    rows = Dataset(renamed, [_named("y")], on_bad_row="skip", bad_row_limit=9)
    (batch,) = itertools.islice(StreamLoader(rows, 4, 0), 1)
    assert sorted(batch.values["y"][batch.present[:, 0], 0].tolist()) == [0, 1, 2]
    assert "skipped counting epoch 0 row 3: found no value of y" in capsys.readouterr().err
    assert [row["x"] for row in open_source(registry, DataOptions("s", limit=7))] == list(range(7))
    assert capsys.readouterr().err == ""
    held = open_source(registry, DataOptions("s"), "validation")
    assert len(held) == 5
    assert head_of(held) is None
    assert "the part validation is the first 5 rows of a stream that has more" in capsys.readouterr().err
    for option, value in (("split", SplitOptions(validation=0.1)), ("filters", [FilterOptions("x", least=3)])):
        with pytest.raises(RequestError, match=f"data: {option}: found s, which streams rows that have no numbers"):
            open_source(registry, DataOptions("s", **{option: value}))
        assert 1 <= len(open_source(registry, DataOptions("s", **{option: value}, limit=30))) < 30  # rows by number


def _named(name: str) -> Number:
    number = Number()
    number.name = name
    return number


def test_a_stream_is_a_source_and_rows_for_a_training() -> None:
    assert misfit("source", Counting(3)) == ""
    rows = rows_for(Counting(9), [Number()])
    assert isinstance(rows, Dataset)
    assert isinstance(open_loader(rows, LoaderOptions(), 2, 0), StreamLoader)
    assert torch.equal(rows[3].values["x"], torch.tensor([[3.0]]))
