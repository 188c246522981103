"""What a run's model answers for held-out rows, beside the truth: ``evaluation.json``, ``evaluation.png``, and their part of the report."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor

from mmcore import files
from mmcore.data import Table
from mmcore.errors import RequestError
from mmcore.metrics.figure import Figure
from mmcore.metrics.questions import Asked
from mmcore.model.joint import JointModel
from mmcore.runs import pictures
from mmcore.runs.kept import Kept, Record
from mmcore.runs.page import image
from mmcore.sampling.ask import sample
from mmcore.store.reading import DamagedError, parse_json

if TYPE_CHECKING:
    from PIL.Image import Image

RECORD = Record("evaluation.json", "the evaluation of a run of mmcore", "mmcore evaluate --metrics")
PICTURE = "evaluation.png"
SHOWN = 8
"""Rows that are shown beside their answers."""
WORDS = {
    "accuracy": "share that is right; 1 is best",
    "classifier_accuracy": "share whose likeliest class is right; 1 is best",
    "calibration_error": "how far confidence is from being right; 0 is best",
    "log_score": "minus the log probability of the truth, in nats; 0 is best",
    "mean_iou": "overlap with the true map over the union, mean of classes; 1 is best",
    "iou": "overlap with the truth over the union; 1 is best",
    "pixel_accuracy": "share of pixels that are right; 1 is best",
    "cosine": "of the angle to the truth; 1 is best",
    "top1": "share whose nearest held-out row is the right one; 1 is best",
    "top5": "share whose right row is among the five nearest; 1 is best",
    "mae": "mean absolute error, in the data's unit; 0 is best",
    "mse": "mean squared error; 0 is best",
    "rmse": "root of the mean squared error; 0 is best",
    "psnr": "peak signal-to-noise ratio, in dB; more is better",
    "lpips": "perceptual distance to the truth; 0 is best",
    "frechet": "distance of the sets in features; 0 is best",
    "kernel": "kernel distance of the sets in features; 0 is best",
    "precision": "share of answers that are near real ones; 1 is best",
    "recall": "share of real ones that are near answers; 1 is best",
}
"""What figures of common names say. A modality's own are told by their names alone."""


@attrs.frozen(eq=False)
class Beside:
    """Some rows and what the model answers for them: each variable given all others.

    Attributes:
        truth: by variable, ``(n, *spec.shape)``.
        answers: by variable, of the same rows.
    """

    truth: dict[str, Tensor]
    answers: dict[str, Tensor]

    @classmethod
    def ask(cls, model: JointModel, table: Table, **sampling: Any) -> "Beside":
        """Ask of the first rows that have everything; nothing where none has.

        Args:
            model: of the run.
            table: held-out rows.
            sampling: options of :func:`mmcore.sample`.
        """
        truth, answers = {}, {}
        whole = table.rows.present.all(1).nonzero()[:SHOWN, 0]
        for question in Asked.every(model) if len(whole) else ():
            given = {name: table.rows.values[name][whole] for name in question.given}
            (name,) = question.asked
            answers[name] = sample(model, len(whole), given=given, **sampling)[name]
            truth[name] = table.rows.values[name][whole]
        return cls(truth, answers)

    def pictures(self, model: JointModel) -> "Image | None":
        """For each variable that shows itself as a picture, a line of the true ones and one of the answers."""
        from PIL import Image

        lines: list[list[Image.Image]] = []
        for name, x in self.truth.items():
            m = model.variable(name)
            for values in (x, self.answers[name]):
                shown = [one.convert("RGB") for one in map(m.show, values) if not isinstance(one, str)]
                if shown:
                    size = pictures.enlarged(shown[0].size)
                    lines.append([one.resize(size, Image.Resampling.NEAREST) for one in shown])
        if not lines:
            return None
        gap = pictures.GAP
        width = max(sum(one.width + gap for one in line) for line in lines) + gap
        sheet = Image.new("RGB", (width, sum(line[0].height + gap for line in lines) + gap), "white")
        y = gap
        for line in lines:
            x = gap
            for one in line:
                sheet.paste(one, (x, y))
                x += one.width + gap
            y += line[0].height + gap
        return sheet

    def words(self, model: JointModel) -> dict[str, list[list[str]]]:
        """By variable that shows itself in words, the true ones and the answers."""
        found = {}
        for name, x in self.truth.items():
            m = model.variable(name)
            told = [[str(m.show(one)) for one in values] for values in (x, self.answers[name])]
            if isinstance(m.show(x[0]), str):
                found[name] = told
        return found


def save(
    folder: Path, model: JointModel, found: Mapping[str, Figure], beside: Beside, rows: str, how: Mapping[str, Any]
) -> None:
    """Write what was found into a run's folder, in place of what was found before.

    Args:
        folder: of the run.
        model: that answered.
        found: figures by question, variable and name.
        beside: some answers to be shown.
        rows: which they are of, in words.
        how: they were sampled.

    Raises:
        RequestError: a file cannot be written, or is of other origin.
    """
    RECORD.check_own(folder)
    figures = {name: one.json() for name, one in found.items()}
    sheet = beside.pictures(model)
    words = beside.words(model)
    drawn = [name for name in beside.truth if name not in words]
    told = {"rows": rows, "steps": how.get("steps"), "figures": figures, "words": words, "pictures": drawn}
    try:
        if sheet is not None:
            files.write(folder / PICTURE, pictures.png(sheet))
    except OSError as error:
        raise RequestError(f"evaluation: {folder / PICTURE} cannot be written: {error.strerror or error}") from error
    RECORD.save(folder, told)


def section(kept: Kept) -> str:
    """The part of a run's report, from what :func:`save` wrote, read without trust; empty where there is none.

    Raises:
        DamagedError: it is not what was written, or of other weights than are there.
    """
    data = kept.read(RECORD.name)
    if data is None:
        return ""
    path = kept.folder / RECORD.name
    found = parse_json(data, path)
    figures = RECORD.read_figures(found, kept.folder)
    try:
        rows = str(found["rows"])
        words = {str(name): [[str(cell) for cell in line] for line in two] for name, two in found["words"].items()}
        drawn = [str(name) for name in found["pictures"]]
        if any(len(two) != 2 or len(two[0]) != len(two[1]) for two in words.values()):
            raise ValueError("other than two lines of words")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: holds no evaluation as mmcore evaluate writes it ({error})") from error
    RECORD.check_weights(found, kept.folder)
    text = [f"<h2>What it answers</h2><p class=note>Asked of {html.escape(rows)}, each variable from all others.</p>"]
    picture = kept.picture(PICTURE) if drawn else None
    if picture is not None:
        told = "; ".join(f"{name}: true above, answered below" for name in drawn)
        text.append(
            f"<figure class=pixels>{image(picture, 'answers beside the truth')}<br>{html.escape(told)}</figure>"
        )
    if words:
        lines = "".join(_beside(name, *two) for name, two in words.items())
        text.append(f"<div class=wide><table>{lines}</table></div>")
    if figures:
        text.append(_figures(figures))
    return "\n".join(text)


def _beside(name: str, truth: Sequence[str], answers: Sequence[str]) -> str:
    cells = [f"<tr><th>{html.escape(name)}, true</th>{''.join(f'<td>{html.escape(one)}</td>' for one in truth)}</tr>"]
    marked = (
        f"<td>{html.escape(one)}</td>" if one == true else f"<td><b>{html.escape(one)}</b></td>"
        for one, true in zip(answers, truth, strict=True)
    )
    cells.append(f"<tr><th>{html.escape(name)}, answered</th>{''.join(marked)}</tr>")
    return "".join(cells)


def _figures(figures: Mapping[str, Figure]) -> str:
    lines = []
    for name, one in figures.items():
        question, _, what = name.partition(" ")
        variable, _, figure = what.rpartition(".")
        told = WORDS.get(figure, "")
        lines.append(
            f"<tr><td>{html.escape(question.replace('->', ' → ').replace(',', ', '))}</td>"
            f"<td>{html.escape(f'{variable}: {figure}'.replace('_', ' '))}<br><small>{html.escape(told)}</small></td><td>{html.escape(str(one))}</td></tr>"
        )
    head = "<tr><th>question</th><th>figure</th><th>value, 95 % interval</th></tr>"
    return f"<div class=wide><table>{head}{''.join(lines)}</table></div>"
