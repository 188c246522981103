"""The demo's pictures."""

import io
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmcore import files
from mmcore.demo.measure import Answers, Rows
from mmcore.runs.pictures import INK, STYLE


def write(out: Path, answers: Answers, test: Rows) -> None:
    """All pictures, grids from answers and test rows: of so few columns that what is written in them can be read on a phone."""
    with mpl.rc_context(STYLE):
        _joint(out / "joint.png", answers.joint)
        _by_label(out / "by_label.png", answers.by_label)
        _masks(out / "masks.png", test, answers.by_image)
        _confusion(out / "confusion.png", test["label"], answers.by_image["label"])


def grid(images: Tensor, path: Path, title: str) -> None:
    """100 images, ten by ten."""
    figure = Figure(figsize=(5, 5.2), layout="constrained")
    axes = figure.subplots()
    tiled = images[:100, 0].reshape(10, 10, 8, 8)
    tiled = torch.nn.functional.pad(tiled, (1, 1, 1, 1), value=-1).permute(0, 2, 1, 3).reshape(100, 100)
    axes.imshow(tiled.numpy(), cmap="gray_r", vmin=-1, vmax=1)
    axes.set_title(title)
    axes.axis("off")
    _keep(figure, path)


def _keep(figure: Figure, path: Path) -> None:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    files.write(path, data.getvalue())


def _joint(path: Path, joint: Rows) -> None:
    figure = Figure(figsize=(5, 2.9), layout="constrained")
    axes = figure.subplots(4, 10)
    for i in range(20):
        row, column = 2 * (i // 10), i % 10
        _show(axes[row, column], joint["image"][i, 0], title=str(int(joint["label"][i])))
        _show(axes[row + 1, column], 2.0 * joint["mask"][i] - 1, warm=True)
    _keep(figure, path)


def _by_label(path: Path, by_label: Rows) -> None:
    figure = Figure(figsize=(5, 4.8), layout="constrained")
    axes = figure.subplots(10, 10)
    for digit in range(10):
        mine = by_label["image"][by_label["label"] == digit]
        for column in range(10):
            _show(axes[digit, column], mine[column, 0])
        axes[digit, 0].set_ylabel(str(digit), rotation=0, labelpad=10, va="center", fontsize=11)
    _keep(figure, path)


def _masks(path: Path, test: Rows, by_image: Rows) -> None:
    figure = Figure(figsize=(5, 1.6), layout="constrained")
    axes = figure.subplots(3, 10)
    for i in range(10):
        _show(axes[0, i], test["image"][i, 0])
        _show(axes[1, i], 2.0 * test["mask"][i] - 1, warm=True)
        _show(axes[2, i], 2.0 * by_image["mask"][i] - 1, warm=True)
    for row, name in enumerate(("image", "true mask", "answer")):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    _keep(figure, path)


def _confusion(path: Path, truth: Tensor, answer: Tensor) -> None:
    counts = torch.zeros(10, 10, dtype=torch.int64)
    counts.index_put_((truth, answer), torch.ones_like(truth), accumulate=True)
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts.numpy(), cmap="Blues")
    for i in range(10):
        for j in range(10):
            if counts[i, j]:
                dark = counts[i, j] > counts.max() / 2
                axes.text(
                    j, i, str(int(counts[i, j])), ha="center", va="center", fontsize=8, color="white" if dark else INK
                )
    axes.set(
        xticks=range(10), yticks=range(10), xlabel="answer", ylabel="true label", title="Image → label, test digits"
    )
    _keep(figure, path)


def _show(axes: Axes, x: Tensor, *, title: str = "", warm: bool = False) -> None:
    axes.imshow(x.numpy(), cmap="Oranges" if warm else "gray_r", vmin=-1, vmax=1)
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
