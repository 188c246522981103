"""One or two real digits side by side, with a caption in words: "seven", "three and four"."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.kinds.figures import Trained, same
from mmcore import metrics
from mmcore.data.sources.digits import Digits
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure
from mmcore.rng import Rng

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROWS = {"train": 6000, "validation": 300, "test": 600}


def write(path: Path) -> None:
    """Write ``image (n, 8, 16)``, ``label`` (of the left digit), ``caption`` and ``split`` (0 train, 1 validation, 2 test).

    Every second picture has one digit, on its left. Scans of the test part are in no other.
    """
    images, labels, captions, splits = [], [], [], []
    for number, (part, count) in enumerate(ROWS.items()):
        digits = Digits(part, **({"hold_out": True} if part == "train" else {}))
        rng = Rng.for_rows(number, count).of("captions")
        left, right = (rng.of(side).integers(0, len(digits)).numpy() for side in ("left", "right"))
        two = (rng.of("two").uniform() < 0.5).numpy()
        a, b = digits.labels[left], digits.labels[right]
        second = np.where(two[:, None, None], digits.images[right], np.float32(0))
        images.append(np.concatenate([digits.images[left], second], axis=2))
        labels.append(a)
        captions += [WORDS[x] + (f" and {WORDS[y]}" if both else "") for x, y, both in zip(a, b, two, strict=True)]
        splits.append(np.full(count, number))
    arrays = {"image": np.concatenate(images), "label": np.concatenate(labels), "split": np.concatenate(splits)}
    np.savez(path, allow_pickle=False, caption=np.array(captions), **arrays)


def judge() -> Judge:
    """A classifier of single scans, fitted on real training scans."""
    rows = Digits("train")
    return Judge.fit(torch.from_numpy(rows.images)[:, None] * 2 - 1, torch.from_numpy(rows.labels))


def read(judged: Judge, images: Tensor) -> list[str]:
    """The captions that pictures ``(n, 1, 8, 16)`` should have, as a judge sees them."""
    left, right = (judged(images[..., half].contiguous()) for half in (slice(0, 8), slice(8, 16)))
    two = images[..., 8:].mean((1, 2, 3)) > -0.9
    return [
        WORDS[int(a)] + (f" and {WORDS[int(b)]}" if both else "") for a, b, both in zip(left, right, two, strict=True)
    ]


def measure(run: Path) -> dict[str, Figure]:
    """Both directions between picture, class and caption, on held-out rows; and joint samples."""
    trained, judged = Trained.of(run), judge()
    model, rows = trained.reader.model, trained.rows
    text, n = model.variable("caption"), len(rows["caption"])
    true = [str(text.show(x)) for x in rows["caption"]]
    found = trained.ask(n, image=rows["image"])
    told = [str(text.show(x)) for x in found["caption"]]
    error_rate = text.metrics()["symbol_error_rate"]
    figures = {
        "image → caption, every word": same(told, true),
        "image → caption, symbol error rate": metrics.average(error_rate(found["caption"], rows["caption"])),
        "image → label": metrics.accuracy(found["label"], rows["label"]),
    }
    by_label = trained.ask(n, label=rows["label"])
    told = [str(text.show(x)) for x in by_label["caption"]]
    figures["label → caption, its first word"] = same([one.split()[0] if one else "" for one in told], [WORDS[int(x)] for x in rows["label"]])  # fmt: skip
    figures["label → caption, of two digits (0.5 in the data)"] = same([str(" and " in one) for one in told], ["True"] * n)  # fmt: skip
    drawn = trained.ask(n, caption=rows["caption"])
    figures["caption → image, judged"] = same(read(judged, drawn["image"]), true)
    figures["the judge on real pictures"] = same(read(judged, rows["image"]), true)
    figures["caption → label"] = metrics.accuracy(drawn["label"], rows["label"])
    joint = trained.ask(n)
    figures["joint samples agree, judged"] = same(read(judged, joint["image"]), [str(text.show(x)) for x in joint["caption"]])  # fmt: skip
    return figures


def picture(run: Path, path: Path, n: int = 7) -> None:
    """Draw pictures of captions, and captions of held-out pictures."""
    trained = Trained.of(run, 64)
    model = trained.reader.model
    text, image = model.variable("caption"), model.variable("image")
    asked = ["seven", "three and four", "zero and eight", "nine and one"]
    x = torch.stack([text.read(one) for one in asked]).repeat_interleave(n, 0)
    drawn = trained.ask(len(x), caption=x)["image"]
    told = trained.ask(2 * n, image=trained.rows["image"][: 2 * n])["caption"]
    wide, high = 16 * 6, 8 * 6
    sheet = Image.new("RGB", (150 + n * (wide + 6), 6 * (high + 20)), "white")
    pen = ImageDraw.Draw(sheet)

    def put(x: Tensor, column: int, row: int) -> None:
        shown = image.show(x)
        assert not isinstance(shown, str)
        shown = shown.convert("RGB").resize((wide, high), Image.Resampling.NEAREST)
        sheet.paste(shown, (150 + column * (wide + 6), row * (high + 20)))

    for row, words in enumerate(asked):
        pen.text((4, row * (high + 20) + high // 2), words, fill="black")
        for column in range(n):
            put(drawn[row * n + column], column, row)
    for k in range(2 * n):
        row = 4 + k // n
        put(trained.rows["image"][k], k % n, row)
        pen.text((150 + k % n * (wide + 6), row * (high + 20) + high + 3), str(text.show(told[k])), fill="black")
    pen.text((4, 4 * (high + 20) + high // 2), "held out, captioned", fill="black")
    sheet.save(path)
