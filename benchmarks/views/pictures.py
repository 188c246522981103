"""Joint samples, and what is answered to one view and to four, as a sheet."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.kinds.figures import Trained
from benchmarks.views.answers import joint, real, sample
from benchmarks.views.coherence import Rows
from benchmarks.views.data import SIDE, VIEWS

SCALE = 2
MARGIN = 16


def block(title: str, rows: Rows, given: Tensor | None = None) -> Image.Image:
    """Rows as columns of their views, the label above; given views are framed."""
    n, step = len(rows["label"]), SIDE * SCALE + 4
    sheet = Image.new("RGB", (n * step + 8, len(VIEWS) * step + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((4, 2), title, fill="black")
    for k in range(n):
        pen.text((k * step + step // 2, MARGIN), str(int(rows["label"][k])), fill="black")
        for line, view in enumerate(VIEWS):
            pixels = ((rows[view][k].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            one = Image.fromarray(pixels).resize((SIDE * SCALE, SIDE * SCALE), Image.Resampling.NEAREST)
            x, y = 4 + k * step, 2 * MARGIN + line * step
            if given is not None and given[k, line]:
                pen.rectangle((x - 2, y - 2, x + SIDE * SCALE + 1, y + SIDE * SCALE + 1), fill="red")
            sheet.paste(one, (x, y))
    return sheet


def draw(run: Path, path: Path, n: int = 8) -> None:
    """Draw real rows, joint samples all at once, and answers to one view and to four."""
    trained = Trained.of(run, n)
    blocks = [block("held out", real("test", n, 2)), block("joint samples", joint(trained, n)["at once"])]
    for k in (1, 4):
        shown = torch.zeros(n, len(VIEWS), dtype=torch.bool)
        shown[:, :k] = True
        given = {view: trained.rows[view] for view in VIEWS[:k]}
        blocks.append(block(f"of {k} (framed)", sample(trained, n, seed=k, given=given), shown))
    wide, high = blocks[0].size
    sheet = Image.new("RGB", (2 * wide, 2 * high), "white")
    for k, one in enumerate(blocks):
        sheet.paste(one, (k % 2 * wide, k // 2 * high))
    sheet.save(path)
