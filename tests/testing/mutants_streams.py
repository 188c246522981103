"""Streams broken on purpose, and one that must pass."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmcore.data.stream import Stream
from tests.testing.mutants import Mutant


class Tides(Stream):
    """Fifty-three rows in files of seven, whose order every epoch changes."""

    names: Any = ("tide", "label")
    fingerprint = "eight files"

    def files(self, epoch: int, seed: int) -> list[range]:
        some = [range(at, min(at + 7, 53)) for at in range(0, 53, 7)]
        random.Random(f"{seed} {epoch}").shuffle(some)
        return some

    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[list[Any], Any]]:
        numbers = [k for file in self.files(epoch, seed) for k in file][rank::ranks]
        for at in range(state["read"] if state else 0, len(numbers), 5):
            yield [self.row(k) for k in numbers[at : at + 5]], {"read": at + 5}

    def row(self, k: int) -> dict[str, Any]:
        return {"tide": k / 8, "label": k % 3}


class Behind(Tides):
    """A state of the chunk before."""

    def chunks(self, epoch: int, **how: Any) -> Iterator[tuple[list[Any], Any]]:
        last: Any = {"read": 0}
        for rows, state in super().chunks(epoch, **how):
            yield rows, last
            last = state


class OneState(Tides):
    """One dictionary for all states."""

    def chunks(self, epoch: int, **how: Any) -> Iterator[tuple[list[Any], Any]]:
        one: dict[str, Any] = {}
        for rows, state in super().chunks(epoch, **how):
            one.update(state)
            yield rows, one


class Numbered(Tides):
    """A state whose keys are numbers: of JSON's texts it finds none."""

    def chunks(self, epoch: int, *, state: Any = None, **how: Any) -> Iterator[tuple[list[Any], Any]]:
        begun = {"read": state.get(0, 0)} if state else None
        for rows, after in super().chunks(epoch, state=begun, **how):
            yield rows, {0: after["read"]}


class NoJson(Tides):
    def chunks(self, epoch: int, **how: Any) -> Iterator[tuple[list[Any], Any]]:
        for rows, state in super().chunks(epoch, **how):
            yield rows, {**state, "place": Path()}


class Anyhow(Tides):
    def files(self, epoch: int, seed: int) -> list[range]:
        some = super().files(0, 0)
        if epoch:
            random.shuffle(some)
        return some


class GoesOn(Tides):
    """An epoch that begins where the one before was left."""

    begun = 0

    def files(self, epoch: int, seed: int) -> list[range]:
        some = super().files(epoch, seed)
        self.begun += 1
        return some[self.begun % 8 :] + some[: self.begun % 8]


class Dwindling(Tides):
    def files(self, epoch: int, seed: int) -> list[range]:
        return super().files(epoch, seed)[: 8 - epoch]


class Shared(Tides):
    """Shares that are cut by ``cut``."""

    @staticmethod
    def cut(numbers: list[int], rank: int, ranks: int) -> list[int]:
        raise NotImplementedError

    def chunks(
        self, epoch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, state: Any = None
    ) -> Iterator[tuple[list[Any], Any]]:
        numbers = self.cut([k for file in self.files(epoch, seed) for k in file], rank, ranks)
        for at in range(state["read"] if state else 0, len(numbers), 5):
            yield [self.row(k) for k in numbers[at : at + 5]], {"read": at + 5}


def shared(cut: Callable[[list[int], int, int], list[int]]) -> Callable[[Path], Any]:
    return lambda _: type("Mutant", (Shared,), {"cut": staticmethod(cut)})


def saying(**says: Any) -> Callable[[Path], Any]:
    return lambda _: type("Mutant", (Tides,), says)


STREAMS: dict[str, Callable[..., Any]] = {"tides": Tides}
MUTANTS = [
    Mutant("source.resume", "a state that lags behind", lambda _: Behind, "source"),
    Mutant("source.resume", "one dictionary for all states", lambda _: OneState, "source"),
    Mutant("source.resume", "keys that are numbers", lambda _: Numbered, "source"),
    Mutant("source.resume", "a state that is no JSON", lambda _: NoJson, "source"),
    Mutant("source.epochs", "files shuffled by a global generator", lambda _: Anyhow, "source"),
    Mutant("source.epochs", "an epoch that begins where the last one ended", lambda _: GoesOn, "source"),
    Mutant("source.epochs", "fewer rows in every epoch", lambda _: Dwindling, "source"),
    Mutant("source.shares", "all rows in every share", shared(lambda numbers, rank, ranks: numbers), "source"),
    Mutant("source.shares", "a remainder that is left out", shared(lambda numbers, rank, ranks: numbers[rank : len(numbers) // ranks * ranks : ranks]), "source"),
    Mutant("source.told", "a buffer without a row", saying(buffer=0), "source"),
    Mutant("source.told", "a fingerprint by address", saying(fingerprint=property(lambda self: str(id(self)))), "source"),
    Mutant("source.told", "a name that is not told", saying(names=("tide",)), "source"),
]  # fmt: skip
