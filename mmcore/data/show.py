"""What a model will see of data: a table of figures and a picture of rows."""

from collections.abc import Mapping, Sequence
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

    def text(self) -> str:
        """A table for a terminal."""
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
    )


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
