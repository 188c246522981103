"""Work in a thread: it tells how far it is, stops when told, and when nobody looks; and each person's own."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

import mmcore
from mmcore import Registry
from mmcore.play.values import Value
from mmcore.play.work import StoppedError, Visitors, Work
from tests.training.runs import small

Watch = Callable[[int, int], None]


def endless(started: threading.Event) -> Callable[[Watch], None]:
    def do(watch: Watch) -> None:
        for done in range(100_000):
            watch(done, 100_000)
            started.set()
            time.sleep(0.001)

    return do


def ended(work: Work[None]) -> None:
    assert work.wait(10)
    with pytest.raises(StoppedError):
        work.answer()


def test_it_is_stopped_and_tells_how_far_it_came() -> None:
    started = threading.Event()
    work = Work(endless(started))
    assert started.wait(10)
    assert not work.wait(0.02)
    work.stop()
    ended(work)
    assert work.total == 100_000
    assert 0 < work.done < 100_000


def test_it_stops_where_nobody_waits() -> None:
    started = threading.Event()
    work = Work(endless(started), patience=0.2)
    for _ in range(8):
        time.sleep(0.05)
        # Somebody looks: it goes on, though it has taken longer than the patience by then.
        assert not work.wait(0)
    at = time.monotonic()
    while not work._ended.is_set() and time.monotonic() - at < 10:
        time.sleep(0.02)
    ended(work)
    assert time.monotonic() - at < 10


def test_what_it_raises_is_raised_where_it_is_asked() -> None:
    def wrong(watch: Watch) -> None:
        raise ZeroDivisionError("so")

    work = Work(wrong)
    assert work.wait(10)
    with pytest.raises(ZeroDivisionError, match="so"):
        work.answer()


def test_a_sampling_is_stopped_between_two_timesteps(registry: Registry) -> None:
    model = small(registry)
    work = Work(lambda watch: mmcore.sample(model, 2, steps=900, sampler="ddim", watch=watch))
    while not work.done:
        assert not work.wait(0.01)
    work.stop()
    ended(work)  # type: ignore[arg-type]
    assert work.done < 899
    again = Work(lambda watch: mmcore.sample(model, 2, steps=4, seed=3, watch=watch))
    assert again.wait(30)
    alone = mmcore.sample(model, 2, steps=4, seed=3)
    assert all(torch.equal(x, again.answer()[name]) for name, x in alone.items())


def test_each_person_has_their_own_and_the_oldest_is_forgotten() -> None:
    visitors = Visitors(most=2)
    mark = visitors["ann"].keep("image", Value("one"))
    assert visitors["ben"].values == {}
    assert visitors["ann"].values["image"][0] == mark
    assert visitors["ann"].keep("image", Value("two")) != mark
    started = threading.Event()
    work = visitors["ben"].work = Work(endless(started))
    assert visitors["ann"].values
    visitors["cid"]
    ended(work)
    assert len(visitors) == 2
    assert visitors["ann"].values


def test_who_leaves_is_forgotten_and_their_work_stops() -> None:
    visitors = Visitors()
    work = visitors["ann"].work = Work(endless(threading.Event()))
    visitors.leave("ann")
    visitors.leave("nobody")
    ended(work)
    assert len(visitors) == 0
