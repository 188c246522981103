"""What is said on the terminal of a first configuration: what each column was taken for, on what evidence, and what was left out."""

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmcore.config.column import Column
from mmcore.config.looking import Looked
from mmcore.config.naming import variables
from mmcore.data import Source
from mmcore.data.sources.survey import Survey

_SUMS = frozenset(
    ("total", "totals", "sum", "subtotal", "grand total", "summe", "gesamt", "total general", "mean", "average", "avg")
)
"""What a row is called that sums up the others."""
_WIDE = 32
"""Numbered columns from which on those that are read are told together."""
_RUN = 8
"""Numbered columns from which on they are told together."""


def told(
    path: Path, surveyed: Survey, looked: Looked, columns: Sequence[Column], shares: Mapping[str, float]
) -> Iterator[str]:
    """Lines for the terminal."""
    called = variables([column for column in columns if column.plugin])
    rows = f"{len(looked.source):,} rows"
    if looked.read < len(looked.source):
        rows += f", pictures and vectors of {looked.read:,} of them, drawn at random"
    yield f"{path}: read by the source {surveyed.source}, {rows}"
    yield from (f"  {one}" for one in surveyed.evidence)
    for run in _runs(columns):
        column = run[0]
        if column.plugin and len(run) >= _WIDE:
            yield (
                f"  {column.name} … {run[-1].name}, {len(run)} columns: {column.plugin}, a variable each, such as {column.note}; if they are one vector, "
                "make an array of them (.npz), or one column of lists"
            )
            continue
        yield from (line for one in run for line in _of(one, called, shares))
    left = [column for column in columns if not column.plugin]
    if left:
        yield "left out:"
        yield from (f"  {one}" for one in left_out(left))
    yield from (f"note: {one}" for one in looked.source.notes)
    if said := _summed(looked.source):
        yield f"note: {said}"
    if looked.apart and looked.alike:
        yield f"sizes differ inside {len(looked.apart)} rows, but not the ratio of the sides: each variable is resized by itself; {looked.apart[0]}"
    elif looked.apart:
        turned = any(seen.turned for seen in looked.seen)
        why = (
            " (files that say how to turn a picture are turned upright: were the masks drawn on the stored one?)"
            if turned
            else ""
        )
        yield f"sizes differ inside {len(looked.apart)} rows, which resize refuses; {looked.apart[0]}{why}"
    if looked.bad:
        more = f", and {len(looked.bad) - 3} more" if len(looked.bad) > 3 else ""
        yield f'cannot be read: {"; ".join(looked.bad[:3])}{more}. Training stops at such a row; data.on_bad_row = "skip" passes over it'


def _summed(source: Source) -> str:
    """What is to be said of a last row that sums up the others, as spreadsheets have one; empty where there is none."""
    with contextlib.suppress(Exception):  # a row that cannot be read is told already
        for name, value in source[len(source) - 1].items():
            if (
                isinstance(value, str)
                and value.strip(" :").casefold() in _SUMS
                and list(source.column(name)).count(value) == 1
            ):
                return f"the last row has {value!r} in {name}: if it sums up the others, take it out"
    return ""


def _runs(columns: Sequence[Column]) -> Iterator[list[Column]]:
    """Columns in their order, those together that are called alike but for a number and are of one modality."""
    for _, some in itertools.groupby(columns, lambda column: (column.plugin, re.sub(r"\d+$", "", column.name))):
        yield list(some)


def _of(column: Column, called: Mapping[str, str], shares: Mapping[str, float]) -> Iterator[str]:
    """Lines for one column."""
    if column.plugin:
        change = f"; to change: {column.change}" if column.change else ""
        share = shares.get(column.name, 1.0)
        where = f"in {share:.0%} of the rows; " if share < 1 else ""
        yield f"  {column.name}: {column.plugin}, {where}{column.note}{change}"
        if column.missing is not None:
            yield f"    missing: {column.missing!r}; to change: data.columns"
        if called[column.name] != column.name:
            yield f"    called {called[column.name]}, as a variable cannot be called {column.name!r}"
        if column.present:
            yield f"    {column.present} says which rows have it"
    yield from (f"    {one}" for one in column.told)


def left_out(columns: Sequence[Column]) -> Iterator[str]:
    """A line for each column that is left out; one for many that are numbered, such as the pixels of a picture."""
    for prefix, some in itertools.groupby(columns, lambda column: re.sub(r"\d+$", "", column.name)):
        run = list(some)
        if len(run) < _RUN or prefix == run[0].name:
            yield from (f"{column.name}: {column.note}" for column in run)
        else:
            yield (
                f"{run[0].name} … {run[-1].name}, {len(run)} columns: {run[0].note}; …; if they are one vector or picture, make an array of them (.npz), "
                "or one column of lists"
            )
