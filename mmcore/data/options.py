"""What a configuration says of data: plain descriptions, checked when they are made. Imports no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mmcore.errors import RequestError

PARTS = ("train", "validation", "test", "all")


def _refuse(what: str, found: Any, expected: str) -> RequestError:
    return RequestError(f"data: {what} = {found!r}, expected {expected}")


def _within(low: float, high: float, *, none: bool = False) -> Any:
    expected = f"a number {low:g} … {high:g}" if high < math.inf else f"a number from {low:g} on"

    def check(thing: Any, attribute: Any, value: Any) -> None:
        if value is None and none:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _refuse(attribute.name, value, expected)

    return check


def _text(thing: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise _refuse(attribute.name, value, "a name")


def _one_of(*names: str) -> Any:
    def check(thing: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise _refuse(attribute.name, value, f"one of {', '.join(names)}")

    return check


@attrs.frozen
class ColumnOptions:
    """Where a variable's raw values are.

    Attributes:
        column: of the source.
        present: a column that says whether a row has the value (true, or a number other than 0); by default it has where there is one.
        missing: values that stand for a missing one, such as -1.
    """

    column: str = attrs.field(validator=_text)
    present: str | None = None
    missing: tuple[Any, ...] = attrs.field(default=(), converter=tuple)


def _columns(value: Any) -> dict[str, ColumnOptions]:
    made = {}
    for name, column in dict(value).items():
        if isinstance(column, str):
            column = ColumnOptions(column)
        elif isinstance(column, dict):
            column = ColumnOptions(**column)
        made[name] = column
    return made


@attrs.frozen
class SplitOptions:
    """Which rows are held out: by the hash of a key, so that a row's part never depends on the other rows.

    Attributes:
        by: the column whose value is hashed; rows with equal values, such as variants of one thing, stay together. By default the row's own key
            (its file's stem, its line or its number).
        validation: the share of validation rows.
        test: the share of test rows.
        seed: another one deals the rows anew.
        values: in place of shares, the values of the column ``by`` that make each part, such as ``{train = [0], test = [2]}``.
    """

    by: str | None = None
    validation: float = attrs.field(default=0.0, validator=_within(0, 1))
    test: float = attrs.field(default=0.0, validator=_within(0, 1))
    seed: int = attrs.field(default=0, validator=_within(-math.inf, math.inf))
    values: dict[str, tuple[Any, ...]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise _refuse(
                "split.validation + split.test", self.validation + self.test, "less than 1, or no training row is left"
            )
        for part in self.values:
            if part not in PARTS[:3]:
                raise _refuse("split.values", part, f"parts among {', '.join(PARTS[:3])}")
        if self.values and (self.by is None or self.validation or self.test):
            raise _refuse("split.values", dict(self.values), "a column named by split.by, and no shares beside it")


@attrs.frozen
class FilterOptions:
    """Which rows are kept, by one column's raw value.

    Attributes:
        column: of the source.
        keep: the values to keep; all by default.
        drop: values to drop.
        least: the smallest number to keep.
        most: the largest number to keep.
        present: keep only rows that have a value (true) or have none (false).
    """

    column: str = attrs.field(validator=_text)
    keep: tuple[Any, ...] = attrs.field(default=(), converter=tuple)
    drop: tuple[Any, ...] = attrs.field(default=(), converter=tuple)
    least: float | None = attrs.field(default=None, validator=_within(-math.inf, math.inf, none=True))
    most: float | None = attrs.field(default=None, validator=_within(-math.inf, math.inf, none=True))
    present: bool | None = None

    def __attrs_post_init__(self) -> None:
        if not self.keep and not self.drop and self.least is self.most is self.present is None:
            raise _refuse("filters", self.column, "one of keep, drop, least, most and present with it")


def parts_by_kind(option: str, what: str, value: Any) -> tuple[dict[str, Any], ...]:
    """Parts that a registry makes, as tables with ``kind`` and the part's own options; a name stands for a table with nothing else.

    Raises:
        RequestError: no list of such.
    """
    expected = f"expected a list of names of installed {what}, or of tables with such a name as kind and its options"
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise RequestError(f"{option} = {value!r}, {expected}")
    tables = [{"kind": one} if isinstance(one, str) else one for one in value]
    for place, table in enumerate(tables):
        if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
            raise RequestError(f"{option}[{place}] = {table!r}, {expected}")
    return tuple(dict(table) for table in tables)


@attrs.frozen
class EmbedOptions:
    """A variable made once from another column, by a pretrained network, and kept on disk.

    Attributes:
        variable: what the vectors are called.
        column: of the source, whose values are turned into vectors.
        embedder: the name of an installed embedder.
        options: the embedder's own, such as the folder of its weights.
        cache: the folder in which vectors are kept, by content.
        batch_size: values at once.
    """

    variable: str = attrs.field(validator=_text)
    column: str = attrs.field(validator=_text)
    embedder: str = attrs.field(default="clip", validator=_text)
    options: dict[str, Any] = attrs.field(factory=dict)
    cache: str = attrs.field(default="embedded", validator=_text)
    batch_size: int = attrs.field(default=32, validator=_within(1, math.inf))


@attrs.frozen
class DataOptions:
    """Where rows come from and what is done to them before a model sees them.

    Attributes:
        source: the name of an installed source.
        options: the source's own, such as a path.
        columns: where variables' values are, by variable; by default in the column of the same name.
        split: which rows are held out.
        filters: which rows are kept; each must keep a row.
        limit: the most rows of a part; all by default.
        embed: variables made once by a pretrained network.
        transforms: changes of a row's values, in order: names of installed transforms, or tables with such a name as ``kind`` and the
            transform's own options, such as ``{kind = "resize", size = 64}``. What is random in them is left out of held-out parts.
        measure: how many training rows the modalities measure their own statistics on (such as an image's mean and deviation), where their
            options do not say them; 0 for none.
        memory: whether rows are read once and kept as tensors: true, false, or by default if they are few (``"auto"``).
        on_bad_row: ``"stop"`` at a row that cannot be read, or ``"skip"`` it and tell.
        bad_row_limit: how many bad rows are skipped before that is an error.
        workers: processes that read ahead; 0 reads in the training process.
        prefetch: batches that each worker reads ahead.
        pin: put batches into pinned memory.
    """

    source: str = attrs.field(validator=_text)
    options: dict[str, Any] = attrs.field(factory=dict)
    columns: dict[str, ColumnOptions] = attrs.field(factory=dict, converter=_columns)
    split: SplitOptions = attrs.field(factory=SplitOptions)
    filters: tuple[FilterOptions, ...] = attrs.field(default=(), converter=tuple)
    limit: int | None = attrs.field(default=None, validator=_within(1, math.inf, none=True))
    embed: tuple[EmbedOptions, ...] = attrs.field(default=(), converter=tuple)
    transforms: tuple[str | Mapping[str, Any], ...] = attrs.field(
        default=(), converter=lambda value: parts_by_kind("data: transforms", "transforms", value)
    )
    measure: int = attrs.field(default=4096, validator=_within(0, math.inf))
    memory: Any = attrs.field(default="auto", validator=_one_of("auto", True, False))  # type: ignore[arg-type]
    on_bad_row: str = attrs.field(default="stop", validator=_one_of("stop", "skip"))
    bad_row_limit: int = attrs.field(default=100, validator=_within(0, math.inf))
    workers: int = attrs.field(default=0, validator=_within(0, math.inf))
    prefetch: int = attrs.field(default=2, validator=_within(1, math.inf))
    pin: bool = False
