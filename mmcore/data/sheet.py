"""A picture of rows: of each variable what lies on the disk, and beside it what a model sees."""

import io
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image, ImageDraw, ImageFont, features

from mmcore import files
from mmcore.data.batch import TensorBatch
from mmcore.data.dataset import Dataset
from mmcore.data.decode import Encoded
from mmcore.data.disk import OnDisk, brief, drawn, escaped, limits_of, listed, opened, spread
from mmcore.data.select import column_called
from mmcore.data.show import Seen, Summary, summarize
from mmcore.errors import RequestError
from mmcore.modality.base import ModalityProtocol

WIDTH = 1440
"""Pixels of the sheet, unless one variable needs more."""
LINES = 16
"""The most lines of cells, however many variables there are."""
GAP, LINE, CAPTIONS = 10, 14, 4
INK, MUTED, RED, LACKING = "#1f2a44", "#6b7486", "#b3261e", "#d9dce2"


def picture(
    dataset: Dataset, path: str | Path, *, rows: int = 8, side: int = 128, summary: Summary | None = None
) -> Path:
    """Write a sheet of rows: for every variable a cell of what lies on the disk, and one of what the model sees.

    What a row lacks, and what could not be read, is said in its cell. Above the rows are the classes with their colours and shares.

    Args:
        dataset: of the rows, which are spread evenly over it.
        path: of the PNG.
        rows: how many at most; fewer where there are many variables.
        side: pixels of a cell.
        summary: of the same data, as :func:`~mmcore.data.show.summarize` makes it; made anew by default.

    Raises:
        RequestError: a bad row, unless the data set skips them.
    """
    summary = summarize({"rows": dataset}) if summary is None else summary
    where, block, deep = _flow(dataset.variables, side)
    variables = dataset.variables[: len(where)]
    beside = max(1, (WIDTH - GAP) // block)
    places = spread(len(dataset), max(1, min(rows, beside * (LINES // deep))))
    batch = dataset.take(places)
    problems = {row.index: row.problem for row in batch.bad}
    legends = [_legend(m, seen) for m, seen in zip(variables, summary.variables, strict=False) if seen.classes]
    more = len(dataset.variables) - len(variables)
    width, cell = max(min(beside, len(places)) * block + GAP, 480), side + (CAPTIONS + 1) * LINE + GAP
    tall = LINE + deep * cell + GAP
    top = _Pen(width, 1).legends(legends, GAP)
    pen = _Pen(width, top + -(-len(places) // beside) * tall + (LINE if more else 0))
    pen.legends(legends, GAP)
    for k, place in enumerate(places):
        line, column = divmod(k, beside)
        left, y = GAP + column * block, top + line * tall
        problem = problems.get(place)
        heading = dataset.source.where(place) if problem is None else f"skipped: {problem}"
        pen.text((left, y), heading, block - 2 * GAP, INK if problem is None else RED)
        stored = _stored(dataset, place)
        for j, (m, (right, down)) in enumerate(zip(variables, where, strict=True)):
            at = (left + right, y + LINE + down * cell)
            pen.pair(at, side, _is_picture(m), _disk(m, stored, dataset), _seen(m, batch, k, j, problem))
    if more:
        pen.text((GAP, pen.sheet.height - LINE - GAP // 2), f"and {more:,} more variables", width, MUTED)
    data = io.BytesIO()
    # By the name's ending, as ever; PNG where that tells none.
    pen.sheet.save(data, format=Image.registered_extensions().get(Path(path).suffix.lower(), "PNG"))
    files.write(path, data.getvalue(), follow=True)
    return Path(path)


def _is_picture(m: ModalityProtocol) -> bool:
    return m.planar


def _flow(variables: Sequence[ModalityProtocol], side: int) -> tuple[list[tuple[int, int]], int, int]:
    """Where in a row's block each variable is, as pixels from the left and a line; the block's width, and its lines."""
    found, x, line, block = [], 0, 0, 0
    for m in variables:
        wide = (2 * side + GAP // 2 if _is_picture(m) else side) + 2 * GAP
        if x and x + wide > WIDTH - GAP:
            x, line = 0, line + 1
        if line == LINES:
            break
        found.append((x, line))
        x += wide
        block = max(block, x)
    return found, block, found[-1][1] + 1


@attrs.frozen
class _Cell:
    """A picture, or words in its place, with a heading and captions."""

    head: str
    picture: Image.Image | None = None
    words: str = ""
    ground: str = "white"
    smooth: bool = False
    captions: tuple[str, ...] = ()


@attrs.frozen
class _Legend:
    title: str
    entries: tuple[tuple[tuple[int, int, int] | None, str], ...]


class _Pen:
    """What draws on the sheet."""

    def __init__(self, width: int, height: int) -> None:
        self.sheet = Image.new("RGB", (width, max(height, 1)), "white")
        self.draw = ImageDraw.Draw(self.sheet)

    def text(self, at: tuple[int, int], text: str, width: int, ink: str = INK) -> None:
        self.draw.text(at, shortened(text, width), fill=ink, font=_font())

    def pair(self, at: tuple[int, int], side: int, beside: bool, disk: _Cell, seen: _Cell) -> None:
        """What is on the disk and what is seen: pictures beside each other, words one above the other."""
        left, top = at
        height = side if beside else (side - LINE) // 2
        self.cell((left, top), side, height, disk)
        if beside:
            self.cell((left + side + GAP // 2, top), side, height, seen)
        else:
            self.cell((left, top + height + 3 * LINE + GAP // 2), side, height, seen)

    def cell(self, at: tuple[int, int], side: int, height: int, cell: _Cell) -> None:
        left, top = at
        self.text(at, cell.head, side, MUTED)
        top += LINE
        if cell.picture is not None:
            shown = fitted(cell.picture, side, height, cell.smooth)
            self.sheet.paste(shown, (left, top))
            self.draw.rectangle((left - 1, top - 1, left + shown.width, top + shown.height), outline=LACKING)
        else:
            self.draw.rectangle((left, top, left + side - 1, top + height - 1), fill=cell.ground, outline=LACKING)
            for k, line in enumerate(wrapped(cell.words, side - 10, (height - 8) // LINE)):
                self.draw.text((left + 5, top + 4 + k * LINE), line, fill=INK, font=_font())
        first, *rest = cell.captions or ("",)
        captions = (first, *rest) if height == side else (first, ", ".join(filter(None, rest)))
        for k, caption in enumerate(captions[:CAPTIONS]):
            self.text((left, top + height + 3 + k * LINE), caption, side, INK if k == 0 else MUTED)

    def legends(self, legends: Sequence[_Legend], top: int) -> int:
        """Classes, their colours and shares, on as many lines as they need; where they end."""
        for legend in legends:
            x, title = GAP, f"{legend.title}: "
            entries = [(None, title), *legend.entries]
            for colour, text in entries:
                text = shortened(text, 300)
                wide = round(self.draw.textlength(text, font=_font())) + (14 if colour else 0)
                if x > GAP and x + wide > self.sheet.width - GAP:
                    x, top = GAP + 14, top + LINE + 2
                if colour:
                    self.draw.rectangle((x, top + 2, x + 9, top + 11), fill=colour, outline=MUTED)
                self.draw.text((x + (14 if colour else 0), top), text, fill=INK, font=_font())
                x += wide + 14
            top += LINE + 4
        return top + GAP // 2


def _legend(m: ModalityProtocol, seen: Seen) -> _Legend:
    """The largest classes of a variable, what is hardly there, and void."""
    largest = seen.largest()
    rare = [k for k in seen.rare() if k not in largest][:4]
    colours = _colours(m, [k + seen.first for k in [*largest, *rare]])
    entries = [
        (colour, f"{seen.called(k)}: {seen.classes[k]:{'.1%' if k in largest else '.2%'}}")
        for k, colour in zip([*largest, *rare], colours, strict=True)
    ]
    rest = len(seen.classes) - len(entries)
    entries += [(None, f"and {rest:,} more classes")] if rest else []
    if seen.void and m.spec.void is not None:
        entries.append((_colours(m, [int(m.spec.void)])[0], f"void: {seen.void:.1%} of all"))
    return _Legend(m.name, tuple(entries))


def _colours(m: ModalityProtocol, values: Sequence[int]) -> list[tuple[int, int, int] | None]:
    """The colour that a map of classes has in each of these, as its modality shows them pixel by pixel; None where it does not."""
    spec, found = m.spec, []
    per = torch.Size(spec.shape).numel()
    for k in range(0, len(values), per):
        some = values[k : k + per]
        if spec.dtype.is_floating_point or spec.dtype == torch.bool or len(spec.shape) != 2:
            found += [None] * len(some)
            continue
        x = torch.full((per,), some[0], dtype=spec.dtype)
        x[: len(some)] = torch.tensor(some, dtype=spec.dtype)
        shown = m.show(x.view(spec.shape))
        if isinstance(shown, str) or shown.size != (spec.shape[1], spec.shape[0]):
            found += [None] * len(some)
            continue
        shown = shown.convert("RGB")
        found += [shown.getpixel((at % spec.shape[1], at // spec.shape[1])) for at in range(len(some))]
    return found


def _stored(dataset: Dataset, place: int) -> Mapping[str, Any]:
    try:
        return dataset.stored(place)
    except RequestError as error:
        return dict.fromkeys(dataset.names, error)


def _disk(m: ModalityProtocol, row: Mapping[str, Any], dataset: Dataset) -> _Cell:
    """What lies on the disk of one value."""
    column = column_called(dataset.source, m.name)
    head = f"{m.name}, on disk"
    stored = row.get(m.name)
    try:
        if isinstance(stored, RequestError):
            raise stored
        value = None if stored is None else opened(stored, m.spec)
    except RequestError as error:
        return _Cell(head, words=f"unreadable: {error}", ground=LACKING, captions=(_place(stored, column),))
    if value is None:
        return _Cell(head, words="missing", ground=LACKING, captions=(f"column {column}",))
    counted = OnDisk(m.spec, limits_of(m))
    counted.add(value)
    image = drawn(value, m.spec)
    kind, *rest = counted.parts(counted=False, most=3)
    if counted.turned:
        rest[0] += ", turned by EXIF"
    if image is None and not counted.sizes:
        rest = []
    smooth = image is not None and not getattr(m, "discrete", False) and getattr(value, "mode", "") not in ("P", "1")
    words = "" if image is not None else brief(value)
    return _Cell(head, image, words, smooth=smooth, captions=(_place(stored, column), kind, *rest))


def _place(stored: Any, column: str) -> str:
    """A file's name, or the column of what is in no file of its own."""
    if isinstance(stored, Path):
        return f"{stored.parent.name}/{stored.name}"
    if isinstance(stored, Encoded):
        return f"{column}{stored.suffix}"
    return f"column {column}"


def _seen(m: ModalityProtocol, batch: TensorBatch, k: int, j: int, problem: str | None) -> _Cell:
    """What the model sees of one value."""
    head = "seen by the model"
    if problem is not None:
        return _Cell(head, words="nothing: the row is skipped", ground=LACKING)
    if not batch.present[k, j]:
        return _Cell(head, words="missing", ground=LACKING)
    x = batch.values[m.name][k]
    shown = m.show(x)
    shape = " × ".join(map(str, x.shape))
    if isinstance(shown, str):
        return _Cell(head, words=shown, captions=("", str(x.dtype).removeprefix("torch."), shape))
    real = x.is_floating_point()
    values = (
        f"{x.min():.4g} … {x.max():.4g}" if real else _classes(x, None if m.spec.void is None else int(m.spec.void))
    )
    kind = str(x.dtype).removeprefix("torch.")
    return _Cell(head, shown.convert("RGB"), smooth=real, captions=("", kind, shape, values))


def _classes(x: torch.Tensor, void: int | None) -> str:
    there = torch.unique(x).tolist()
    told = listed([one for one in there if one != void], 3)
    return f"classes {told}" + (" and void" if void in there else "") if told else "void"


def fitted(image: Image.Image, width: int, height: int, smooth: bool) -> Image.Image:
    """A picture in a cell: enlarged by a whole factor, so that pixels stay pixels, or made smaller, ``smooth`` or by the nearest pixel."""
    factor = min(width // image.width, height // image.height)
    if factor >= 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    scale = min(width / image.width, height / image.height)
    # A strip is never thinner than can be seen.
    size = (max(round(image.width * scale), 3), max(round(image.height * scale), 3))
    return image.resize(size, Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)


@cache
def _font() -> Any:
    return ImageFont.load_default(11 if features.check("freetype2") else None)


def plain(text: str) -> str:
    """A text in the letters that the built-in font has; accents are left out, and other letters are numbers."""
    text = escaped(text).translate({0xD7: "x", 0x2013: "-", 0x2026: "..."})
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.encode("ascii", "backslashreplace").decode()


def shortened(text: str, width: int) -> str:
    """The text with its middle left out where it would be wider than so many pixels."""
    text = plain(text)
    if _font().getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # how many letters can stay
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _font().getlength(_cut(text, middle)) <= width else (low, middle - 1)
    return _cut(text, low)


def _cut(text: str, kept: int) -> str:
    tail = kept // 2
    return f"{text[: kept - tail]}...{text[len(text) - tail :]}"


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """The text on at most so many lines of a width in pixels, at blanks where there are some."""
    rest, found = plain(text), []
    while rest and len(found) < lines:
        kept = len(rest)
        while kept > 1 and _font().getlength(rest[:kept]) > width:
            kept -= 1
        if kept < len(rest) and (blank := rest.rfind(" ", 0, kept + 1)) > 0:
            kept = blank
        found.append(rest[:kept])
        rest = rest[kept:].lstrip()
    if rest and found:
        found[-1] = f"{found[-1][:-3]}..."
    return found
