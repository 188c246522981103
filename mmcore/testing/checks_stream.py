"""Streams: sources whose rows come in an order of their own. The plugin is what makes one."""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmcore.data.stream import Stream
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_source import content_of
from mmcore.testing.context import Context
from mmcore.testing.surroundings import reseed

MOST = 4000
"""Of how many rows an epoch is asked."""


def _stream(c: Context) -> Stream:
    stream = c.thing()
    if not isinstance(stream, Stream):
        raise NotRun("it is no mmcore.data.Stream: its rows have numbers")
    return stream


def _read(stream: Stream, epoch: int, **how: Any) -> tuple[list[bytes], list[tuple[int, str]], bool]:
    """The content of an epoch's first rows, after how many of them each state came, as text, and whether these were all."""
    rows: list[bytes] = []
    states: list[tuple[int, str]] = []
    for some, state in itertools.islice(stream.chunks(epoch, **how), MOST):
        rows += [content_of(row) for row in some]
        states.append((len(rows), json.dumps(state)))
        if len(rows) >= MOST:
            return rows, states, False
    return rows, states, len(states) < MOST


def _whole(stream: Stream, epoch: int, **how: Any) -> list[bytes]:
    rows, _, ended = _read(stream, epoch, **how)
    if not ended:
        raise NotRun(f"an epoch has more than {MOST} rows, or no end: fewer files would be asked")
    return rows


def _same(c: Context, found: Sequence[bytes], want: Sequence[bytes], what: str) -> None:
    count = min(len(want), MOST)
    if list(found[:count]) != list(want[:count]):
        place = next((k for k, (a, b) in enumerate(zip(found, want, strict=False)) if a != b), min(len(found), count))
        c.fail(f"another row {place} {what}", "the same")


@check(
    "source.resume",
    kind="source",
    fault="a state that lags behind, a state that later rows change, keys that JSON makes texts of",
    core=False,
)
def resume(c: Context) -> None:
    """A stream goes on from each of its states, through JSON and in another one made alike, to the very rows that would have come."""
    stream = _stream(c)
    shares = {"alone": {}, "as a share": {"rank": 1, "ranks": 2}}
    for epoch, (what, share) in itertools.product((0, 1), shares.items()):
        kept: list[Any] = []
        rows: list[bytes] = []
        for some, state in itertools.islice(stream.chunks(epoch, seed=3, **share), 60):
            rows += [content_of(row) for row in some]
            try:
                kept.append((len(rows), state, json.dumps(state)))
            except (TypeError, ValueError) as error:
                c.fail(f"a state that is no JSON ({error})", "dictionaries, lists, texts and numbers")
        rows = _read(stream, epoch, seed=3, **share)[0]
        places = sorted({*range(min(len(kept), 4)), len(kept) // 2, len(kept) - 1}) if kept else []
        for k, again in itertools.product(places, (stream, c.thing())):
            done, state, text = kept[k]
            if json.dumps(state) != text:
                c.fail(f"a state after row {done} that changed as later rows were read", "a copy for each")
            found = _read(again, epoch, seed=3, **share, state=json.loads(text))[0]
            _same(c, found, rows[done:], f"of epoch {epoch}, read {what}, from the state after row {done}")


@check(
    "source.epochs",
    kind="source",
    fault="files shuffled by a global generator, an epoch that begins where the last one ended",
    core=False,
)
def epochs(c: Context) -> None:
    """An epoch of a stream is a function of its number and the seed: any stream made alike has the same rows in the same order, and every epoch the same rows."""
    stream = _stream(c)
    first = _read(stream, 0, seed=c.seed)[0]
    for number in (0, 2, 1):
        reseed(c.seed + number)
        rows = _read(stream, number, seed=c.seed)[0]
        reseed(c.seed + 7)
        _same(c, _read(c.thing(), number, seed=c.seed)[0], rows, f"of epoch {number} in another one made alike")
        _same(c, _read(stream, number, seed=c.seed)[0], rows, f"of epoch {number} when it is read again")
        if len(rows) < MOST and Counter(rows) != Counter(first):
            c.fail(f"other rows in epoch {number} than in epoch 0", "the same, in whatever order")


@check(
    "source.shares",
    kind="source",
    fault="rows that are left out where their number is no multiple, a row in two shares",
    core=False,
)
def shares(c: Context) -> None:
    """Of a stream that is shared by ranks every row is in one share, in every epoch, and a stream alone is the whole."""
    stream = _stream(c)
    for epoch, ranks in ((0, 2), (1, 3)):
        whole = Counter(_whole(stream, epoch, seed=1))
        found: Counter[bytes] = Counter()
        for rank in range(ranks):
            found += Counter(_whole(stream, epoch, seed=1, rank=rank, ranks=ranks))
        if extra := found - whole:
            c.fail(f"{sum(extra.values())} rows in two of {ranks} shares", "each in one")
        if lost := whole - found:
            c.fail(f"{sum(lost.values())} of {sum(whole.values())} rows in none of {ranks} shares", "each in one")


@check(
    "source.told",
    kind="source",
    fault="a fingerprint that differs from time to time, a buffer without a row",
    core=False,
)
def told(c: Context) -> None:
    """What a stream says of itself holds: `buffer` and `head` are at least 1, `title` and `fingerprint` texts, the same when it is made anew, `names` those of its rows."""
    stream, again = _stream(c), c.thing()
    for name in ("buffer", "head"):
        value = getattr(stream, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            c.fail(f"{name} = {value!r}", "a whole number of at least 1")
    for name in ("title", "fingerprint"):
        value = getattr(stream, name)
        if not isinstance(value, str) or value != getattr(again, name):
            c.fail(f"{name} = {value!r}, and {getattr(again, name)!r} made anew", "one text")
    if stream.names is not None:
        extra = {name for row in itertools.islice(iter(stream), 60) for name in row} - set(stream.names)
        if extra:
            c.fail(f"names = {list(stream.names)}, and rows with {sorted(extra)}", "the names of its rows")
