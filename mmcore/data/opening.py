"""From a description of data to data sets, batches and modalities that know the data's statistics."""

import inspect
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mmcore.data.options import PARTS, DataOptions, EmbedOptions, LoaderOptions, SplitOptions
from mmcore.data.select import Named, keep, limit, part_missing, split, together
from mmcore.data.source import Source, classes_of
from mmcore.data.stream import Head, as_source, head_of, over
from mmcore.errors import OptionError, RequestError, about
from mmcore.options import by_kind
from mmcore.plugins.metadata import one_line

if TYPE_CHECKING:
    from mmcore.data.batches import Batches
    from mmcore.data.dataset import Dataset
    from mmcore.data.embed import Cache, EmbedReport
    from mmcore.data.table import Table
    from mmcore.data.transforms import Transform
    from mmcore.modality.base import ModalityProtocol
    from mmcore.plugins import Registry

MEMORY = 1 << 29
"""Bytes of tensors up to which rows are kept in memory by default."""


def open_source(registry: "Registry", options: DataOptions, part: str = "train") -> Source:
    """The raw rows of a part, under the variables' names, filtered, and at most ``limit``.

    What ``options.split`` holds out is taken from the source's training part; a part that it does not name is asked of the source. A
    stream (:class:`mmcore.data.Stream`) is its first rows here, of which a training reads on; with a limit it is so many rows and no stream.

    Raises:
        RequestError: no such source, options that it does not take, or a part that neither has.
        PluginError: the source's plugin is broken.
    """
    if part not in PARTS:
        raise OptionError("data", "part", part, choices=PARTS)
    given = dict(options.options)
    named = _named(options, part)
    factory, _ = registry.factory(registry.find("source", options.source))
    parts = "part" not in given and _takes_part(factory)
    held_out = part in ("validation", "test")
    if parts:
        given = {**getattr(factory, "disjoint", {}), **given, "part": "train" if held_out and named else part}
    with about("options"):
        source: Source = as_source(registry.source(options.source, **given))
    if options.columns:
        source = Named(source, options.columns)
    if (head := head_of(source)) is not None and head.stream is not None:
        if options.limit is None:
            return _streamed(source, head, options, part)
        source = over(source, Head(head.stream, options.limit))
    if not (parts and held_out and not named):
        source = split(source, options.split, part)
    for one in options.filters:
        source = keep(source, one)
    return limit(source, options.limit)


def _streamed(source: Source, head: Head, options: DataOptions, part: str) -> Source:
    """A stream's rows, to be read as they come; of a held-out part its first ones, which is told.

    Raises:
        RequestError: what needs rows by number.
    """
    needs = {"split": options.split != SplitOptions(), "filters": options.filters, "embed": options.embed}
    if asked := [name for name, given in needs.items() if given]:
        raise RequestError(
            f"data: {', '.join(asked)}: found {options.source}, which streams rows that have no numbers; expected files that are divided, filtered and "
            "embedded beforehand, or limit = 100000, which reads so many rows into memory"
        )
    if part == "train":
        return source
    if not head.whole:
        text = f"the part {part} is the first {len(head):,} rows of a stream that has more (head of {options.source}'s options)"
        print(f"mmcore: data: {one_line(text)}", file=sys.stderr, flush=True)
    return over(source, head.kept())


def check_part(registry: "Registry", options: DataOptions, part: str) -> None:
    """Refuse a held-out part that there cannot be: the split does not name it, and the source has no parts of its own. No row is read.

    A source whose parts depend on what lies on the disk tells them by its function ``parts``, which takes its options.

    Raises:
        OptionError: of the split.
        RequestError: no such source.
        PluginError: the source's plugin is broken.
    """
    factory, _ = registry.factory(registry.find("source", options.source))
    if _named(options, part):
        return
    if "part" in options.options or not _takes_part(factory) or part not in _own_parts(factory, options, (part,)):
        raise part_missing(options.split, part)


def _own_parts(factory: Any, options: DataOptions, default: tuple[str, ...]) -> tuple[str, ...]:
    """The parts that a source says it has, none where it cannot be asked; the default where it says nothing of them."""
    tell = getattr(factory, "parts", None)
    try:
        return default if tell is None else tuple(tell(**options.options))
    except (RequestError, TypeError):
        return ()


def _named(options: DataOptions, part: str) -> Any:
    """What the split says of a part: its share, or its values."""
    return options.split.values.get(part) if options.split.values else getattr(options.split, part, 0)


def open_data(
    registry: "Registry",
    options: DataOptions,
    variables: "Sequence[ModalityProtocol]",
    part: str = "train",
    *,
    seed: int = 0,
) -> "Dataset":
    """The rows of a part as tensors.

    Args:
        registry: where the source, embedders and transforms are found.
        options: what to open.
        variables: what is read of every row.
        part: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``; what is random in transforms is left out but for training.
        seed: of that.

    Raises:
        RequestError: as :func:`open_source`; a variable that is in no row seen; transforms that there are not, or that do not fit
            their options or the variables; or training rows of which none has two variables, or too few what is expected.
    """
    from mmcore.data.dataset import Dataset
    from mmcore.data.pairing import check_expected, check_together

    source = open_source(registry, options, part)
    if options.embed:
        from mmcore.data.embed import Embedded

        for one in options.embed:
            source = Embedded.of(registry, source, one)
    source = together(source, variables)
    _check_names(source, options, variables)
    dataset = Dataset(
        source,
        variables,
        transforms=transforms_of(registry, options),
        seed=seed,
        augment=part == "train",
        on_bad_row=options.on_bad_row,
        bad_row_limit=options.bad_row_limit,
        unpaired=options.unpaired,
    )
    if part == "train":
        check_together(dataset)
        check_expected(dataset, options.expect)
    return dataset


def at_hand(rows: "Dataset | Table", options: LoaderOptions) -> "Dataset | Table":
    """Rows in memory, where the options say so or they are few; else, and those of a stream, as they are, to be read as they come.

    Raises:
        RequestError: a bad row, where all are read now.
    """
    from mmcore.data.table import Table

    if isinstance(rows, Table) or head_of(rows.source) is not None:
        return rows
    if not (options.memory is True or (options.memory == "auto" and fits(rows))):
        return rows
    return Table.read(rows)


def open_loader(
    rows: "Dataset | Table",
    options: LoaderOptions,
    batch_size: int,
    seed: int,
    *,
    rank: int = 0,
    ranks: int = 1,
) -> "Batches":
    """Batches as the options say: from memory or read as they come, here or by workers. All that trains opens its loader here.

    Args:
        rows: a data set, or rows in memory.
        options: how they are read; those of the data (:class:`DataOptions`) say it too.
        batch_size: of every batch, over all ranks.
        seed: of the order.
        rank: which share of every batch is read here.
        ranks: how many shares there are.

    Raises:
        RequestError: a bad row, where all are read now; sizes that cannot be.
    """
    from mmcore.data.loader import Loader
    from mmcore.data.streaming import StreamLoader
    from mmcore.data.table import Table

    how: dict[str, Any] = {"rank": rank, "ranks": ranks}
    how |= {"workers": options.workers, "pin": options.pin, "prefetch": options.prefetch}
    if not isinstance(rows, Table) and head_of(rows.source) is not None:
        if options.memory is True:
            mend = "limit = 100000 reads so many rows, which are then kept"
            expected = "false or auto with a stream, which has no length and may have no end"
            raise OptionError("data", "memory", True, expected, mend=mend, beside=("limit",))
        return StreamLoader(rows, batch_size, seed, **how)
    return Loader(at_hand(rows, options), batch_size, seed, **how)


def fits(dataset: "Dataset") -> bool:
    """Whether the rows are the same in every epoch, and few enough to be kept as tensors."""
    bytes_of_row = sum(m.spec.dtype.itemsize * _count(m.spec.shape) for m in dataset.variables)
    return not dataset.varies and len(dataset) * bytes_of_row <= MEMORY


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def measured(
    registry: "Registry", variables: "Sequence[ModalityProtocol]", dataset: "Dataset", rows: int
) -> "list[ModalityProtocol]":
    """The variables made again with the statistics of the data, where their options do not say them.

    Each modality names its own (:meth:`mmcore.Modality.measured`); they become part of its options, which a saved model keeps.

    Args:
        registry: that made the variables.
        variables: all or some of the data set's.
        dataset: training rows; what it has of a variable is read.
        rows: how many to measure on at most, spread evenly over the data set.

    Raises:
        RequestError: a bad row, or statistics that the modality's constructor refuses.
    """
    count = min(rows, len(dataset))
    if not count:
        return list(variables)
    at = [index * len(dataset) // count for index in range(count)]
    batch = dataset.take(at)
    found: list[ModalityProtocol] = []
    for m in variables:
        made = m.made
        samples = batch.values[m.name][batch.present[:, dataset.names.index(m.name)]]
        news: dict[str, Any] = dict(m.measured(samples)) if made is not None and len(samples) else {}
        if made is not None and not news.keys() <= made.options.keys():
            offer = f"{made.distribution}:{made.offer}"
            m = registry.modality(offer, name=m.name, **{**news, **made.options})
        found.append(m)
    return found


def embed(
    registry: "Registry", options: DataOptions, *, only: Iterable[str] = (), quiet: bool = False
) -> "list[EmbedReport]":
    """Do all that ``options.embed`` asks for, over the rows of all parts.

    Args:
        registry: where source and embedders are found.
        options: of the data.
        only: names of variables; all by default.
        quiet: show no progress.

    Raises:
        RequestError: nothing to embed, no such embedder, or what :func:`mmcore.data.embed.embed_column` raises.
    """
    chosen = [one for one in options.embed if not only or one.variable in only]
    if not chosen:
        raise RequestError(
            "embed: the configuration has nothing to embed, expected [[data.embed]] with variable, column and embedder"
        )
    source = open_source(registry, options, "all")
    reports = []
    for one in chosen:
        _, report = kept_vectors(registry, source, one, on_bad_row=options.on_bad_row, quiet=quiet)
        for problem in report.bad:
            print(f"mmcore: skipped {one_line(str(problem))}", file=sys.stderr)
        reports.append(report)
    return reports


def kept_vectors(
    registry: "Registry", source: Source, one: EmbedOptions, *, on_bad_row: str, quiet: bool = False
) -> "tuple[Cache, EmbedReport]":
    """The vectors of a column's values, made now where they are not kept already, and what was done.

    Raises:
        RequestError: no such embedder, or what :func:`mmcore.data.embed.embed_column` raises.
    """
    from mmcore.data.embed import Cache, embed_column
    from mmcore.progress import Progress

    embedder = registry.make("embedder", one.embedder, dict(one.options))[1]
    cache = Cache(one.cache, embedder.fingerprint)
    with Progress(f"embedding {one.variable}", len(source), quiet=quiet) as bar:
        report = embed_column(
            source,
            one.column,
            embedder,
            cache,
            variable=one.variable,
            batch_size=one.batch_size,
            on_bad_row=on_bad_row,
            progress=lambda done, _: bar.update(done),
        )
    return cache, report


def transforms_of(registry: "Registry", options: DataOptions) -> "list[Transform]":
    """New objects of the transforms that are described, in order.

    Raises:
        RequestError: no such transform, or options that it does not take.
    """
    made = []
    tables: tuple[dict[str, Any], ...] = by_kind(options.transforms)
    for number, table in enumerate(tables):
        with about(f"transforms[{number}]"):
            made.append(registry.make("transform", table.pop("kind"), table)[1])
    return made


def _takes_part(factory: Any) -> bool:
    try:
        return "part" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _check_names(source: Source, options: DataOptions, variables: "Sequence[ModalityProtocol]") -> None:
    """Refuse variables that no row can have; where a source does not know its columns, those of its first rows tell."""
    known = source.names
    if known is None:
        known = list(dict.fromkeys(name for index in range(min(len(source), 64)) for name in source[index]))
    for m in variables:
        if m.name not in known:
            raise OptionError(
                "data",
                f"columns.{m.name}",
                expected=f"a column of {options.source} for the variable {m.name!r} among {', '.join(map(str, known))}",
                mend=f'columns.{m.name} = "its column" names another',
            )
        _check_classes(source, m)


def _check_classes(source: Source, variable: "ModalityProtocol") -> None:
    """Refuse names of classes in another order than the numbers of the data have: each would be called as another is."""
    theirs, mine = classes_of(source).get(variable.name), getattr(variable, "names", None)
    if not theirs or not mine or tuple(theirs) == tuple(mine):
        return
    values = (source[index].get(variable.name) for index in range(min(len(source), 64)))
    if any(isinstance(value, int) for value in values):
        raise RequestError(
            f"data: {variable.name}: found the names {', '.join(mine)}, expected those that the data give their numbers, in this order: "
            f"{', '.join(theirs)}"
        )
