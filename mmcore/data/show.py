"""What a model will see of data beside what lies on the disk: a table of figures, and what of them is hardly ever right."""

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from mmcore.data.batch import TensorBatch
from mmcore.data.dataset import Dataset
from mmcore.data.disk import OnDisk, escaped, listed, looked, spread
from mmcore.data.source import classes_of
from mmcore.data.stream import head_of
from mmcore.data.transforms import Resize, changed_by
from mmcore.modality.base import ModalityProtocol
from mmcore.modality.holes import code_there, encoded

CLASSES = 1 << 16
"""The most classes whose shares are counted; of whole numbers that are no classes ``NUMBERS``."""
NUMBERS = 64
TOLD = 12
"""The most classes whose shares are told, the largest first; of those that are hardly there ``FEW``. Up to :data:`NAMED` are named beside the disk."""
FEW = 8
NAMED = 4
RARE = 1e-4
"""The share below which a class is hardly there."""
FAR = 4.0
"""How many times above or below 1 a code's variance is far from it."""
CLIPPED = 0.05
"""The share of values beyond the limits above which clipping takes much away."""
ELEMENTS = 1 << 26
"""About how many numbers of all variables are read."""
ENDS = 0.95
"""The share of a picture's values at the ends of its range from which it is hardly a picture."""
CUT = 0.25
"""The share of the pixels above which a resize that covers cuts much away."""
TRACED = 16
"""Rows of which that is worked out."""
ENOUGH, OFTEN = 20, 3
"""Rows, and rows of each class, from which on two variables hardly say the same by chance."""
SINGLE = 64
"""Variables of one value that are compared with each other."""


@attrs.frozen
class Seen:
    """What was seen of one variable.

    Attributes:
        name: of the variable.
        shape: of one value.
        dtype: of its elements.
        present: the share of rows that have it.
        low: the smallest element, void apart.
        high: the largest.
        mean: of the elements.
        std: their deviation.
        classes: each class's share of the elements, void apart; empty for real values.
        code_variance: of the code's elements over rows and elements; about 1 is what the process assumes.
        code_range: the smallest and largest variance of one element of the code over rows.
        void: the share of the elements that are void.
        flat: the rows read, by their places, that are pictures of one value.
        ends: the shares of the elements at the lower and upper end of the range.
        alike: whether several rows were read, and all have the same value.
        first: the number of the first class.
        names: of the classes, or what they are on the disk; empty where neither is known.
        several: whether the classes exclude no other.
        count: how many of the rows read have it.
        disk: what lies on the disk.
        mends: the line of a configuration that mends what is wrong with ``"classes"``, ``"void"`` or the ``"code"``.
        cut: the share of the pixels that a resize cuts away to cover its size, in the mean of a few rows.
        copy: another variable that says the same in all rows; empty where none does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    present: float
    low: float
    high: float
    mean: float
    std: float
    classes: tuple[float, ...]
    code_variance: float
    code_range: tuple[float, float]
    void: float = 0.0
    flat: tuple[str, ...] = ()
    ends: tuple[float, float] = (0.0, 0.0)
    alike: bool = False
    first: int = 0
    names: tuple[str, ...] = ()
    several: bool = False
    count: int = 0
    disk: OnDisk | None = attrs.field(default=None, eq=False, repr=False)
    mends: Mapping[str, str] = {}
    cut: float = 0.0
    copy: str = ""

    def called(self, index: int) -> str:
        """A class by its number, and its name where that is known: ``3 (cat)``."""
        number = index + self.first
        return f"{number} ({escaped(self.names[index], 24)})" if self.names else str(number)

    def largest(self, most: int = TOLD) -> list[int]:
        """The classes that have the largest shares, by index, without those that are nowhere; all of so many classes."""
        if len(self.classes) <= most:
            return list(range(len(self.classes)))
        order = sorted(range(len(self.classes)), key=lambda k: (-self.classes[k], k))[:most]
        return sorted(k for k in order if self.classes[k])

    def rare(self) -> list[int]:
        """The classes that are hardly there or nowhere."""
        return [k for k, share in enumerate(self.classes) if share < RARE]

    def values(self) -> str:
        """What a model sees of it, in words."""
        shape = f", {_shape(self.shape)}" if self.shape else ""
        if not self.count:
            return "nothing"
        if self.void == 1:
            return f"void everywhere{shape}"
        if there := [k for k, share in enumerate(self.classes) if share]:
            void = f" and void ({self.void:.1%})" if self.void else ""
            few = self.names and len(there) <= NAMED
            told = ", ".join(map(self.called, there)) if few else listed([k + self.first for k in there])
            return f"{'labels' if self.several else 'classes'} {told}{void}{shape}"
        return f"{self.low:.4g} … {self.high:.4g}{shape}"

    def shares(self) -> str:
        """The classes' shares, those of the largest and what is hardly there."""
        largest = self.largest()
        told = [f"{self.called(k)} {self.classes[k]:.1%}" for k in largest]
        rare = [k for k in self.rare() if k not in largest]
        rest = len(self.classes) - len(largest) - len(rare)
        told += [f"{rest:,} more"] if rest else []
        told += [f"{len(rare):,} hardly there or nowhere: {self._few(rare)}"] if rare else []
        told += [f"void {self.void:.1%} of all"] if self.void else []
        return "  ".join(told)

    def _few(self, classes: Sequence[int]) -> str:
        some = ", ".join(f"{self.called(k)} {self.classes[k]:.2%}" for k in classes[:FEW])
        return some + (" …" if len(classes) > FEW else "")

    def warnings(self) -> Iterator[str]:
        """What is hardly ever right, with its figure and the line of a configuration that mends it."""
        column = f'columns.{self.name} = "…" in [data]'
        if not self.count:
            yield f"{self.name} is in no row; {column} names its column"
            return
        if rare := self.rare():
            yield (
                f"{self.name}: {len(rare):,} of {len(self.classes):,} classes are hardly there or nowhere: {self._few(rare)}; "
                f"{self.mends['classes']} says which there are"
            )
        if self.void > 0.9:
            yield (
                f"{self.name}: {self.void:.1%} of the elements are void, and count for nothing; {self.mends['void']} says which value is, if "
                "it is a class"
            )
        if self.cut > CUT:
            yield (
                f'{self.name}: resize cuts {self.cut:.0%} of the pixels away to cover its size; fit = "stretch" in [[data.transforms]] keeps all, and a '
                "size of the files' ratio keeps most"
            )
        if self.void == 1:
            return
        if self.low == self.high or self.alike:
            what = (
                f"{self.low:.4g} everywhere" if self.low == self.high else f"the same in all {self.count:,} rows read"
            )
            yield f"{self.name} is {what}: there is nothing to learn; leave out [modalities.{self.name}], or {column} names another"
            return
        if self.flat:
            some = ", ".join(self.flat[:3]) + (" …" if len(self.flat) > 3 else "")
            yield (
                f"{self.name}: {len(self.flat):,} of the {self.count:,} pictures read are of one value ({some}); take out those that are empty or damaged, "
                f"or limits = [low, high] in [modalities.{self.name}] says what the others' values mean"
            )
        yield from self._narrow()
        if self.copy:
            yield (
                f"{self.name} says the same as {self.copy} in all rows read, so that one given the other is no prediction; leave out "
                f"[modalities.{self.name}] if it is made of it"
            )
        if not 1 / FAR <= self.code_variance <= FAR:
            yield f"{self.name}: its code has the variance {self.code_variance:.3g}, expected about 1; {self.mends['code']}"

    def _narrow(self) -> Iterator[str]:
        """What is wrong with a picture's range."""
        disk = self.disk
        if disk is not None and disk.limits is not None and disk.beyond > CLIPPED * disk.elements:
            low, high = (f"{end:g}" for end in disk.limits)
            yield (
                f"{self.name}: {disk.beyond / disk.elements:.1%} of the values are beyond its limits {low} … {high}, and clipped; "
                f"limits = [{disk.low:.6g}, {disk.high:.6g}] in [modalities.{self.name}] keeps them"
            )
        elif sum(self.ends) >= ENDS:
            yield (
                f"{self.name}: {sum(self.ends):.1%} of the values are at the ends of its range; if it is a class map, "
                f'plugin = "mask" in [modalities.{self.name}] says so'
            )


@attrs.frozen
class Summary:
    """What was seen of a data set.

    Attributes:
        rows: of each part, by its name.
        read: how many training rows the figures are of.
        together: the share of rows that have all variables.
        variables: one by one.
        bad: the rows among them that could not be read.
    """

    rows: Mapping[str, int]
    read: int
    together: float
    variables: tuple[Seen, ...]
    bad: tuple[str, ...]

    def warnings(self) -> Iterator[str]:
        """What is hardly ever right."""
        if len(self.variables) > 1 and not self.together:
            each = ", ".join(f"{seen.name} in {seen.present:.1%}" for seen in self.variables[:FEW])
            yield (
                f"0 of the {self.read:,} rows read have every variable ({each}): do their names or keys meet? columns, or suffixes in "
                "options, in [data] let them"
            )
        for seen in self.variables:
            yield from seen.warnings()

    def text(self) -> str:
        """A table for a terminal, what lies on the disk beside what is seen, the shares of classes, and a line for each warning."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.rows.items())
        lines = [
            f"rows: {parts}; {self.read:,} read, {self.together:.1%} of them with every variable, {len(self.bad)} bad"
        ]
        lines += self._table()
        for seen in self.variables:
            if seen.disk is not None:
                lines.append(f"{seen.name}: on disk {seen.disk.text()}; the model sees {seen.values()}")
        lines += [f"classes of {seen.name}: {seen.shares()}" for seen in self.variables if seen.classes]
        lines += [f"warning: {warning}" for warning in self.warnings()]
        lines += [f"bad: {problem}" for problem in self.bad]
        return "\n".join(escaped(line, 2000) for line in lines)

    def _table(self) -> list[str]:
        head = ["variable", "shape", "type", "present", "range", "mean ± std", "code variance (by element)"]
        body = [
            [
                escaped(seen.name, 40),
                _shape(seen.shape) or "one",
                seen.dtype,
                f"{seen.present:.1%}",
                f"{seen.low:.4g} … {seen.high:.4g}",
                f"{seen.mean:.3g} ± {seen.std:.3g}",
                f"{seen.code_variance:.2f} ({seen.code_range[0]:.2f} … {seen.code_range[1]:.2f})",
            ]
            for seen in self.variables
        ]
        widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *body]
        ]


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def summarize(datasets: Mapping[str, Dataset], rows: int = 2048) -> Summary:
    """Figures of the first data set, and how many rows each has.

    Args:
        datasets: by part, what is to be looked at first.
        rows: how many to read at most, spread evenly; fewer than :data:`ELEMENTS` elements, and at least 16.

    Raises:
        RequestError: a bad row, unless the data set skips them.
    """
    dataset = next(iter(datasets.values()))
    # At once they are codes too, in double precision: of large pictures fewer rows are enough.
    most = ELEMENTS // max(sum(math.prod(m.spec.shape) for m in dataset.variables), 1)
    places = spread(len(dataset), min(rows, max(most, 16)))
    batch = dataset.take(places)
    disk = looked(dataset, rows)
    lost = _cut(dataset, spread(len(dataset), min(len(dataset), TRACED)))
    copies = _copies(dataset.variables, batch)
    seen = []
    for k, m in enumerate(dataset.variables):
        here = batch.present[:, k]
        where = [place for place, there in zip(places, here.tolist(), strict=True) if there]
        one = _seen(m, batch.values[m.name][here], where, dataset)
        told = {"cut": lost.get(m.name, 0.0), "copy": copies.get(m.name, "")}
        seen.append(attrs.evolve(one, present=float(here.double().mean()), disk=disk[m.name], **told))
    return Summary(
        {f"{part}, the first of a stream" if head_of(one.source) else part: len(one) for part, one in datasets.items()},
        len(batch),
        float(batch.present.all(1).double().mean()),
        tuple(seen),
        tuple(row.problem for row in batch.bad),
    )


def _cut(dataset: Dataset, places: Sequence[int]) -> dict[str, float]:
    """The share of each variable's pixels that covering a size cuts away, of some rows."""
    lost: dict[str, list[float]] = {}
    if any(isinstance(transform, Resize) for transform in dataset.transforms):
        for trace in dataset.traced(places)[1]:
            for transform, sizes in trace.steps:
                if isinstance(transform, Resize):
                    for name in sizes.keys() & {*changed_by(transform, sizes)}:
                        lost.setdefault(name, []).append(transform.cut(sizes[name]))
    return {name: sum(shares) / len(shares) for name, shares in lost.items()}


def _copies(variables: Sequence[ModalityProtocol], batch: TensorBatch) -> dict[str, str]:
    """Variables of one value that say what an earlier one says: the same number but for unit and zero, or the same class under another name."""
    found: dict[str, str] = {}
    single = [(k, m) for k, m in enumerate(variables) if not m.spec.shape][:SINGLE]
    for place, (k, m) in enumerate(single):
        for j, other in single[:place]:
            both = batch.present[:, k] & batch.present[:, j]
            one, two = (batch.values[v.name][both].double() for v in (m, other))
            real = [v.spec.dtype.is_floating_point for v in (m, other)]
            if real[0] == real[1] and len(one) >= ENOUGH and (_along if real[0] else _renamed)(one, two):
                found[m.name] = other.name
                break
    return found


def _along(one: Tensor, two: Tensor) -> bool:
    """Whether numbers lie on a line."""
    return (
        bool(one.std() > 0)
        and bool(two.std() > 0)
        and bool(torch.corrcoef(torch.stack([one, two]))[0, 1].abs() > 1 - 1e-9)
    )


def _renamed(one: Tensor, two: Tensor) -> bool:
    """Whether each class of one is one of the other, and none is so rare that this may be by chance."""
    pairs, counts = torch.stack([one, two]).unique(dim=1, return_counts=True)
    kinds = pairs.shape[1]
    return kinds > 1 and bool((counts >= OFTEN).all()) and kinds == len(one.unique()) == len(two.unique())


@torch.no_grad()
def _seen(m: ModalityProtocol, x: Tensor, places: Sequence[int], dataset: Dataset) -> Seen:
    spec, nan = m.spec, float("nan")
    kind = str(spec.dtype).removeprefix("torch.")
    valid = x if spec.void is None else x[spec.there(x)]
    if not len(x):
        return Seen(m.name, spec.shape, kind, 0.0, nan, nan, nan, nan, (), nan, (nan, nan))
    real = valid.double()
    low, high = (float(real.min()), float(real.max())) if real.numel() else (nan, nan)
    code = encoded(m, m.encoder(), x).double().flatten(1)
    # What void elements leave unknown of a code does not count.
    there = torch.ones_like(code) if (known := code_there(m, x)) is None else known.flatten(1).double()
    counts = there.sum(0).clamp(min=1)
    each = ((code - (code * there).sum(0) / counts).square() * there).sum(0) / counts
    square = (code - (code * there).sum() / counts.sum()).square() * there
    classes = _classes(m, valid)
    return Seen(
        m.name,
        spec.shape,
        kind,
        1.0,
        low,
        high,
        float(real.mean()),
        float(real.std(correction=0)),
        classes,
        float(square.sum() / counts.sum()),
        (float(each.min()), float(each.max())),
        void=1 - valid.numel() / x.numel(),
        flat=tuple(dataset.source.where(places[k]) for k in _flat(m, x)),
        ends=_ends(m, x),
        alike=len(x) > 1 and bool((x == x[:1]).all()),
        first=int(spec.low or 0) if classes else 0,
        names=_names(m, dataset, len(classes)),
        several=spec.dtype == torch.bool,
        count=len(x),
        mends=_mends(m, x),
    )


def _flat(m: ModalityProtocol, x: Tensor) -> list[int]:
    """The rows that are pictures of one value, or of one in each channel."""
    if not (x.is_floating_point() and m.planar) or x.shape[-2] * x.shape[-1] < 2:
        return []
    low, high = x.flatten(-2).aminmax(dim=-1)
    return (low == high).reshape(len(x), -1).all(1).nonzero()[:, 0].tolist()


def _ends(m: ModalityProtocol, x: Tensor) -> tuple[float, float]:
    """The shares of a picture's values at the ends of its range."""
    spec = m.spec
    if not (spec.dtype.is_floating_point and m.planar):
        return 0.0, 0.0
    low, high = (0.0 if end is None else float((x == end).double().mean()) for end in (spec.low, spec.high))
    return low, high


def _classes(m: ModalityProtocol, x: Tensor) -> tuple[float, ...]:
    spec = m.spec
    if spec.dtype.is_floating_point:
        return ()
    if spec.dtype == torch.bool:
        return tuple(x.double().flatten(1).mean(0).tolist()) if x.ndim > 1 and x[0].numel() <= CLASSES else ()
    most = CLASSES if getattr(m, "discrete", False) else NUMBERS
    if spec.low is None or spec.high is None or spec.high - spec.low >= most:
        return ()
    kept = x[(x >= spec.low) & (x <= spec.high)] - int(spec.low)
    counts = torch.bincount(kept.flatten(), minlength=int(spec.high - spec.low) + 1).double()
    return tuple((counts / counts.sum().clamp(min=1)).tolist())


def _names(m: ModalityProtocol, dataset: Dataset, classes: int) -> tuple[str, ...]:
    """What the classes are called by the modality or the source, else what they are on the disk by its options."""
    said = {} if m.made is None else m.made.options
    for names in (getattr(m, "names", None), classes_of(dataset.source).get(m.name)):
        if names is not None and len(names) == classes:
            return tuple(map(str, names))
    on_disk = said.get("values") or said.get("colours") or ()
    return tuple(f"{value} on disk" for value in on_disk) if len(on_disk) == classes else ()


def _mends(m: ModalityProtocol, x: Tensor) -> dict[str, str]:
    said = {} if m.made is None else m.made.options
    table = f"in [modalities.{m.name}]"
    classes = next((option for option in ("names", "values", "colours") if said.get(option) is not None), "classes")
    measured = m.measured(x)
    if other := [option for option, value in measured.items() if option in said and said[option] != value]:
        code = f"leave {' and '.join(other)} out of [modalities.{m.name}], that the data say it"
    elif measured.keys() - said.keys():
        code = "measure = 4096 in [data] lets it be measured"
    else:
        code = f"other options {table} may mend it"
    return {
        "classes": f"{classes} {table}",
        "void": f"{'ignore' if said.get('ignore') else 'void'} {table}",
        "code": code,
    }
