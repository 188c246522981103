"""What a configuration says of data: plain descriptions, checked when they are made. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from mmcore.errors import OptionError
from mmcore.options import (
    FLAG,
    SEVERAL,
    TABLE,
    TEXT,
    Rule,
    Together,
    all_of,
    by_kind,
    check,
    instance,
    named,
    one_of,
    option,
    several,
    whole,
    within,
)

PARTS = ("train", "validation", "test", "all")


_VALUES = Rule(
    f"values for parts among {', '.join(PARTS[:3])}",
    lambda value: isinstance(value, dict) and set(value) <= set(PARTS[:3]),
)
_SHARES = Rule(
    "a share of rows in 0 … 1 for each variable",
    lambda value: isinstance(value, dict) and all(within(0, 1).holds(share) for share in value.values()),
)
_PARTED_BY = Rule('what parts words, such as "|"', lambda value: isinstance(value, str) and value != "")
_PARTED = Together(
    ("test", "validation"),
    lambda test, validation: test + validation < 1,
    "shares of less than 1 together, or no training row is left",
)
_GROUPED = Together(
    ("values", "by", "validation", "test"),
    lambda values, by, validation, test: not values or (by is not None and not validation and not test),
    "a column named by split.by beside split.values, and no shares",
)


@attrs.frozen
class ColumnOptions:
    """Where a variable's raw values are.

    Attributes:
        column: of the source.
        present: a column that says whether a row has the value (true, or a number other than 0); by default it has where there is one.
        missing: values that stand for a missing one, such as -1.
        separator: what parts the words of a text, which then is a list of them, such as ``"|"``.
    """

    column: str = option(rule=TEXT)
    present: str | None = option(None, rule=TEXT.or_none())
    missing: tuple[Any, ...] = option((), converter=several, rule=SEVERAL)
    separator: str | None = option(None, rule=_PARTED_BY.or_none())

    def __attrs_post_init__(self) -> None:
        check(self, "data.columns")


_NAMES = {field.name for field in attrs.fields(ColumnOptions)}


def _columns(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    made = {}
    for name, column in value.items():
        if isinstance(column, str):
            column = ColumnOptions(column)
        elif isinstance(column, Mapping) and "column" in column and set(column) <= _NAMES:
            column = ColumnOptions(**column)
        made[name] = column
    return made


_COLUMNS = Rule(
    f"a column, or a table of {', '.join(attrs.fields_dict(ColumnOptions))}, for each variable",
    lambda value: TABLE.holds(value) and all(isinstance(one, ColumnOptions) for one in value.values()),
)


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

    by: str | None = option(None, rule=TEXT.or_none())
    validation: float = option(0.0, rule=within(0, 1))
    test: float = option(0.0, rule=within(0, 1))
    seed: int = option(0, rule=whole())
    values: dict[str, tuple[Any, ...]] = option(factory=dict, rule=_VALUES)

    def __attrs_post_init__(self) -> None:
        check(self, "data.split", _PARTED, _GROUPED)


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

    column: str = option(rule=TEXT)
    keep: tuple[Any, ...] = option((), converter=several, rule=SEVERAL)
    drop: tuple[Any, ...] = option((), converter=several, rule=SEVERAL)
    least: float | None = option(None, rule=within(-math.inf).or_none())
    most: float | None = option(None, rule=within(-math.inf).or_none())
    present: bool | None = option(None, rule=FLAG.or_none())

    def __attrs_post_init__(self) -> None:
        check(self, "data.filters")
        if not self.keep and not self.drop and self.least is self.most is self.present is None:
            which = ("keep", "drop", "least", "most", "present")
            raise OptionError("data.filters", "column", self.column, f"one of {', '.join(which)} with it", beside=which)


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

    variable: str = option(rule=TEXT)
    column: str = option(rule=TEXT)
    embedder: str = option("clip", rule=TEXT)
    options: dict[str, Any] = option(factory=dict, rule=TABLE)
    cache: str = option("embedded", rule=TEXT)
    batch_size: int = option(32, rule=whole(1))

    def __attrs_post_init__(self) -> None:
        check(self, "data.embed")


@attrs.frozen(kw_only=True)
class LoaderOptions:
    """How rows come to a training; none of it changes a result.

    Attributes:
        memory: whether rows are read once and kept as tensors: true, false, or by default if they are few (``"auto"``).
        workers: processes that read ahead; 0 reads in the training process, as it always is for rows in memory.
        prefetch: batches that each worker reads ahead.
        pin: put batches into pinned memory, for a faster way to a GPU.
        compared: when a run goes on, so many rows are compared with what they were, spread evenly; 0 for all.
    """

    memory: bool | str = option("auto", rule=one_of("auto", True, False))
    workers: int = option(0, rule=whole(0))
    prefetch: int = option(2, rule=whole(1))
    pin: bool = option(False, rule=one_of(True, False))
    compared: int = option(256, rule=whole(0))

    def __attrs_post_init__(self) -> None:
        check(self, "data")


@attrs.frozen
class DataOptions(LoaderOptions):
    """Where rows come from, what is done to them before a model sees them, and how they come to a training.

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
        on_bad_row: ``"stop"`` at a row that cannot be read, or ``"skip"`` it and tell.
        bad_row_limit: how many bad rows are skipped before that is an error.
        expect: the share of rows that have a variable, by variable; of training rows at least half as many must.
        unpaired: whether training rows need not have two variables together.
    """

    source: str = option(rule=TEXT)
    options: dict[str, Any] = option(factory=dict, rule=TABLE)
    columns: dict[str, ColumnOptions] = option(factory=dict, converter=_columns, rule=_COLUMNS)
    split: SplitOptions = option(factory=SplitOptions, rule=instance(SplitOptions, "SplitOptions"))
    filters: tuple[FilterOptions, ...] = option(
        (), converter=several, rule=all_of(FilterOptions, "a list of FilterOptions")
    )
    limit: int | None = option(None, rule=whole(1).or_none())
    embed: tuple[EmbedOptions, ...] = option((), converter=several, rule=all_of(EmbedOptions, "a list of EmbedOptions"))
    transforms: tuple[str | Mapping[str, Any], ...] = option((), converter=by_kind, rule=named("transforms"))
    measure: int = option(4096, rule=whole(0))
    on_bad_row: str = option("stop", rule=one_of("stop", "skip"))
    bad_row_limit: int = option(100, rule=whole(0))
    expect: dict[str, float] = option(factory=dict, rule=_SHARES)
    unpaired: bool = option(False, rule=one_of(True, False))
