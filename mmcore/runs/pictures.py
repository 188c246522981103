"""Pictures for a person's eye: sheets of samples, and curves of a run."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmcore.errors import RequestError
from mmcore.plugins.metadata import printable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from mmcore.modality.base import Modality

INK, WARM, MUTED = "#1f2a44", "#d1495b", "#8a93a6"
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
SIDE, GAP, LINE, COLUMNS = 72, 6, 13, 8
MOST_CURVES = 64


def sheet(variables: Sequence["Modality"], answer: Mapping[str, "Tensor"], limit: int = 64) -> "Image":
    """One cell for each sample: its pictures side by side, and below them what is told in words.

    Pictures are enlarged by whole factors, so that pixels stay pixels.

    Args:
        variables: of the model; those that are not in the answer are left out.
        answer: ``(n, *spec.shape)`` by name.
        limit: at most so many samples.
    """
    from PIL import Image, ImageDraw

    shown = [m for m in variables if m.name in answer]
    count = min(limit, len(next(iter(answer.values()))))
    cells: list[dict[str, Any]] = [{m.name: m.show(answer[m.name][i]) for m in shown} for i in range(count)]
    pictures = [m.name for m in shown if not isinstance(cells[0][m.name], str)]
    words = [m.name for m in shown if m.name not in pictures and (m.discrete or not m.spec.shape or not pictures)]
    sizes = {name: enlarged(cells[0][name].size) for name in pictures}
    width = max(sum(w + 2 for w, _ in sizes.values()), SIDE if pictures else 3 * SIDE)
    tall = max((h for _, h in sizes.values()), default=0)
    height = tall + LINE * len(words)
    columns = max(1, min(count, COLUMNS, 1600 // (width + GAP)))
    rows = math.ceil(count / columns)
    canvas = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + GAP)), "white")
    draw, font = ImageDraw.Draw(canvas), _font()
    for i, cell in enumerate(cells):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + GAP)
        left = x
        for name in pictures:
            picture = cell[name].convert("RGB").resize(sizes[name], Image.Resampling.NEAREST)
            canvas.paste(picture, (left, y))
            left += sizes[name][0] + 2
        for line, name in enumerate(words):
            text = cell[name] if len(words) == 1 else f"{name}: {cell[name]}"
            text = text.encode("latin-1", "replace").decode("latin-1")
            draw.text((x, y + tall + LINE * line), _shortened(text, width, draw, font), fill=INK, font=font)
    return canvas


def grid(m: "Modality", x: "Tensor", limit: int = 64) -> "Image | None":
    """The pictures of one modality, eight in a row, pixel by pixel; None for one that shows itself in words."""
    from PIL import Image

    shown = [m.show(sample) for sample in x[:limit]]
    if isinstance(shown[0], str):
        return None
    width, height = shown[0].size
    columns = min(len(shown), COLUMNS)
    canvas = Image.new("RGB", (columns * (width + 1) - 1, math.ceil(len(shown) / columns) * (height + 1) - 1), "white")
    for i, picture in enumerate(shown):
        assert not isinstance(picture, str)
        canvas.paste(picture.convert("RGB"), (i % columns * (width + 1), i // columns * (height + 1)))
    return canvas


def png(image: "Image") -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def curves(lines: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]] = ()) -> dict[str, bytes]:
    """Each task's loss over training, from the lines of ``metrics.jsonl`` and ``validation.jsonl``: a PNG by the task's name.

    Each is a picture of its own, no wider than a phone: what is written in it can be read there.

    Raises:
        RequestError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except Exception as error:  # a broken installation fails in ways of its own, and must not end a run that is done
        raise RequestError("report: matplotlib is not installed; pip install 'mmcore-diffusion[report]'") from error
    pictures = {}
    for name in list(lines[-1]["tasks"])[:MOST_CURVES] if lines else []:
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(3.6, 2.4), layout="constrained")
            axes = figure.subplots()
            # No name is mathematics, nor has what no font shows.
            axes.set(title=printable(name).replace("$", r"\$"), xlabel="step", ylabel="nats per sample")
            told = [(line["step"], line["tasks"].get(name)) for line in lines]
            if points := [(step, float(task["loss"])) for step, task in told if task and task["rows"]]:
                steps, losses = zip(*points, strict=True)
                axes.plot(steps, losses, color=MUTED, linewidth=0.8)
                axes.plot(steps, _smooth(losses), color=WARM, linewidth=1.6)
                kept = [(line["step"], line["losses"].get(name)) for line in validation]
                if held := [(step, float(loss)) for step, loss in kept if loss is not None]:
                    axes.plot(*zip(*held, strict=True), color=INK, linewidth=1.4, marker="o", markersize=3)
            figure.savefig(buffer, format="png", dpi=130)
        pictures[name] = buffer.getvalue()
    return pictures


def _smooth(losses: Sequence[float]) -> list[float]:
    smooth, kept = [], losses[0]
    for loss in losses:
        kept = 0.85 * kept + 0.15 * loss
        smooth.append(kept)
    return smooth


def enlarged(size: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture as it is shown: by a whole factor, so that pixels stay pixels."""
    factor = max(1, SIDE // max(size))
    return size[0] * factor, size[1] * factor


def _font() -> Any:
    from PIL import ImageFont, features

    return ImageFont.load_default(11 if features.check("freetype2") else None)


def _shortened(text: str, width: int, draw: Any, font: Any) -> str:
    """The text, cut where it would leave its cell."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font=font) > width:
        text = text[:-1]
    return f"{text}..."
