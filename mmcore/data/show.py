"""What a model will see of data: a table of figures and a picture of rows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mmcore.data.batch import TensorBatch
from mmcore.data.dataset import Dataset
from mmcore.modality.base import ModalityProtocol

CLASSES = 64
"""The most classes whose shares are told."""
RARE = 1e-4
"""The share below which a class is hardly there."""
FAR = 4.0
"""How many times above or below 1 a code's variance is far from it."""
CLIPPED = 0.05
"""The share of values at an end of the limits above which clipping takes much away."""
ENDS = 0.95
"""The share of a picture's values at the ends of its range from which it is hardly a picture."""


@attrs.frozen
class Seen:
    """What was seen of one variable.

    Attributes:
        name: of the variable.
        shape: of one value.
        dtype: of its elements.
        present: the share of rows that have it.
        low: the smallest element.
        high: the largest.
        mean: of the elements.
        std: their deviation.
        classes: each class's share of the elements, void apart; empty for real values.
        code_variance: of the code's elements over rows and elements; about 1 is what the process assumes.
        code_range: the smallest and largest variance of one element of the code over rows.
        void: the share of the elements that are void.
        flat: how many of the rows read that have it are pictures of one value.
        ends: the shares of the elements at the lower and upper end of the range.
        clipped: whether values beyond the range are taken for its ends.
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
    flat: int = 0
    ends: tuple[float, float] = (0.0, 0.0)
    clipped: bool = False

    def warnings(self) -> Iterator[str]:
        """What is hardly ever right."""
        if not self.present:
            yield f"{self.name} is in no row"
            return
        rare = [f"{k} ({share:.2%})" for k, share in enumerate(self.classes) if share < RARE]
        if rare:
            some = ", ".join(rare[:8]) + (" …" if len(rare) > 8 else "")
            yield f"{self.name}: {len(rare)} of {len(self.classes)} classes are hardly there or nowhere: {some}; are there so many?"
        if self.void > 0.9:
            yield f"{self.name}: {self.void:.1%} of the elements are void, and count for nothing; is that value no class?"
        if self.low == self.high:
            yield f"{self.name} is {self.low:.4g} everywhere: there is nothing to learn"
            return
        if self.flat:
            yield f"{self.name}: {self.flat} of the pictures read are of one value; are they empty or unreadable?"
        if self.clipped and max(self.ends) > CLIPPED:
            yield f"{self.name}: {self.ends[0]:.1%} and {self.ends[1]:.1%} of the values are at the ends of its limits, many of them clipped; are the limits right?"
        elif sum(self.ends) >= ENDS:
            yield f"{self.name}: {sum(self.ends):.1%} of the values are at the ends of its range; is it a class map, or are its limits too narrow?"
        if not 1 / FAR <= self.code_variance <= FAR:
            yield f"{self.name}: its code has the variance {self.code_variance:.3g}, expected about 1; let it be measured (data.measure), or mend its options"


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
            yield "no row has every variable: do their names or keys meet?"
        for seen in self.variables:
            yield from seen.warnings()

    def text(self) -> str:
        """A table for a terminal, with a line for each warning."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.rows.items())
        lines = [
            f"rows: {parts}; {self.read:,} read, {self.together:.1%} of them with every variable, {len(self.bad)} bad"
        ]
        head = ["variable", "shape", "type", "present", "range", "mean ± std", "code variance (by element)"]
        body = [
            [
                seen.name,
                " × ".join(map(str, seen.shape)) or "one",
                seen.dtype,
                f"{seen.present:.1%}",
                f"{seen.low:.4g} … {seen.high:.4g}",
                f"{seen.mean:.3g} ± {seen.std:.3g}",
                f"{seen.code_variance:.2f} ({seen.code_range[0]:.2f} … {seen.code_range[1]:.2f})",
            ]
            for seen in self.variables
        ]
        widths = [max(len(row[k]) for row in [head, *body]) for k in range(len(head))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *body]
        ]
        for seen in self.variables:
            if seen.classes:
                lines.append(
                    f"classes of {seen.name}: " + "  ".join(f"{k} {p:.1%}" for k, p in enumerate(seen.classes))
                )
            if seen.void:
                lines[-1] += f"  void {seen.void:.1%} of all" if seen.classes else ""
        lines += [f"warning: {warning}" for warning in self.warnings()]
        lines += [f"bad: {problem}" for problem in self.bad]
        return "\n".join(lines)


def summarize(datasets: Mapping[str, Dataset], rows: int = 2048) -> Summary:
    """Figures of the first data set, and how many rows each has.

    Args:
        datasets: by part, what is to be looked at first.
        rows: how many to read at most, spread evenly.

    Raises:
        RequestError: a bad row, unless the data set skips them.
    """
    dataset = next(iter(datasets.values()))
    batch = _spread(dataset, rows)
    seen = [_seen(m, batch.values[m.name][here]) for m, here in zip(dataset.variables, batch.present.T, strict=True)]
    share = batch.present.double().mean(0).tolist()
    return Summary(
        {part: len(one) for part, one in datasets.items()},
        len(batch),
        float(batch.present.all(1).double().mean()),
        tuple(attrs.evolve(one, present=p) for one, p in zip(seen, share, strict=True)),
        tuple(row.problem for row in batch.bad),
    )


def _spread(dataset: Dataset, rows: int) -> TensorBatch:
    count = min(rows, len(dataset))
    return dataset.take([index * len(dataset) // count for index in range(count)])


@torch.no_grad()
def _seen(modality: ModalityProtocol, x: Tensor) -> Seen:
    spec, nan = modality.spec, float("nan")
    kind = str(spec.dtype).removeprefix("torch.")
    if not len(x):
        return Seen(modality.name, spec.shape, kind, 0.0, nan, nan, nan, nan, (), nan, (nan, nan))
    flat = x.double()
    code = modality.encoder()(x).double().flatten(1)
    each = code.var(0, correction=0)
    return Seen(
        modality.name,
        spec.shape,
        kind,
        1.0,
        float(flat.min()),
        float(flat.max()),
        float(flat.mean()),
        float(flat.std(correction=0)),
        _classes(spec, x),
        float((code - code.mean()).square().mean()),
        (float(each.min()), float(each.max())),
        *_pixels(modality, x),
    )


def _pixels(modality: ModalityProtocol, x: Tensor) -> tuple[float, int, tuple[float, float], bool]:
    """The share of void, how many pictures are of one value, and the shares at the ends of the range."""
    spec = modality.spec
    if not spec.dtype.is_floating_point:
        return (0.0 if spec.void is None else float((x == spec.void).double().mean())), 0, (0.0, 0.0), False
    if len(spec.shape) < 2:
        return 0.0, 0, (0.0, 0.0), False
    low, high = x.flatten(1).aminmax(dim=1)
    ends = [0.0 if end is None else float((x == end).double().mean()) for end in (spec.low, spec.high)]
    return 0.0, int((low == high).sum()), (ends[0], ends[1]), bool(getattr(modality, "clip", False))


def _classes(spec: Any, x: Tensor) -> tuple[float, ...]:
    if spec.dtype.is_floating_point:
        return ()
    if spec.dtype == torch.bool:
        return tuple(x.double().flatten(1).mean(0).tolist()) if x.ndim > 1 and x[0].numel() <= CLASSES else ()
    if spec.low is None or spec.high is None or spec.high - spec.low >= CLASSES:
        return ()
    kept = x[(x >= spec.low) & (x <= spec.high)] - int(spec.low)
    counts = torch.bincount(kept.flatten(), minlength=int(spec.high - spec.low) + 1).double()
    return tuple((counts / counts.sum().clamp(min=1)).tolist())


def picture(dataset: Dataset, path: str | Path, *, rows: int = 8, columns: int = 3, side: int = 64) -> Path:
    """Write a grid of rows, each as the model sees it: a cell for every variable, grey where the row lacks it.

    Args:
        dataset: of the rows, which are spread evenly over it.
        path: of the PNG.
        rows: of the grid.
        columns: rows of data side by side.
        side: pixels of a cell.
    """
    batch = _spread(dataset, rows * columns)
    names = [m.name for m in dataset.variables]
    gap, head = 4, 16
    group = len(names) * (side + gap) + gap
    lines = -(-len(batch) // columns)
    sheet = Image.new("RGB", (columns * group, head + lines * (side + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for k in range(len(batch)):
        line, column = divmod(k, columns)
        for j, (m, name) in enumerate(zip(dataset.variables, names, strict=True)):
            left, top = column * group + gap + j * (side + gap), head + gap + line * (side + gap)
            if line == 0:
                pen.text((left, 2), name[: side // 6], fill="black")
            shown = m.show(batch.values[name][k]) if batch.present[k, j] else None
            sheet.paste(_cell(shown, side), (left, top))
    at = Path(path)
    at.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(at)
    return at


def _cell(shown: Any, side: int) -> Image.Image:
    cell = Image.new("RGB", (side, side), (200, 200, 200) if shown is None else "white")
    if isinstance(shown, Image.Image):
        scale = side / max(shown.size)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        cell.paste(shown.convert("RGB").resize(size, Image.Resampling.NEAREST))
    elif shown is not None:
        ImageDraw.Draw(cell).multiline_text((3, 3), "\n".join(_wrapped(str(shown), side // 7)), fill="black")
    return cell


def _wrapped(text: str, width: int) -> Sequence[str]:
    return [text[k : k + width] for k in range(0, len(text), width)][:5]
