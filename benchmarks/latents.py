"""Images of a label by latents and by pixels, in equal time of the processor, that of the autoencoder's training counted to the latents.

``python -m benchmarks.latents fashion-mnist [--steps 2000]`` trains, on Fashion-MNIST at 28 × 28, a small autoencoder (``python -m mmcore_diffusers.small``), the recipe
``latent-image-label`` on its latents, and the recipe ``image-label`` on the pixels, with the same network and for as long as both took together. A judge, fitted on
real training images alone, says of which class 1,000 images are that were asked for by label; it is also asked of real held-out images and of what the autoencoder makes of them.
The table is written to ``benchmarks/results/latents.md``. Trained models are kept under ``runs/benchmarks/latents``.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmcore
from benchmarks.paper.judge import fit_judge
from benchmarks.paper.runs import Experiment, Trained
from mmcore import metrics
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure
from mmcore_diffusers import LatentModality, small
from mmcore_image import ImageModality

RUNS = Path("runs/benchmarks/latents")
RESULT = Path(__file__).parent / "results" / "latents.md"
AUTOENCODER: dict[str, Any] = {"latents": 4, "width": 16, "steps": 1200}


def autoencoder(pictures: Tensor, at: Path) -> float:
    """Train one, unless it is there; seconds of the processor."""
    if not (at / "seconds.json").exists():
        started = time.process_time()
        small.train(pictures, quiet=False, **AUTOENCODER).save_pretrained(at)
        (at / "seconds.json").write_text(json.dumps(time.process_time() - started))
    return float(json.loads((at / "seconds.json").read_text()))


def asked(one: Trained, n: int, judge: Judge) -> dict[str, Figure]:
    """Whether images are of the class that they were asked for, and joint samples agree with themselves."""
    how, image = one.setup.config.sampling.how(), one.model.variable("image")

    def seen(x: Tensor) -> Tensor:
        decoded = image.pictured(x)
        return x if decoded is None else decoded

    labels = torch.arange(n) % 10
    made = mmcore.sample(one.model, n, given={"label": labels}, **how)["image"]
    joint = mmcore.sample(one.model, n, **how)
    return {
        "judged": metrics.accuracy(judge(seen(made)), labels),
        "agree": metrics.accuracy(judge(seen(joint["image"])), joint["label"]),
    }


def main() -> None:
    """Train, ask and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of Fashion-MNIST's IDX files")
    parser.add_argument("--steps", type=int, default=2000, help="of the latents' model")
    parser.add_argument("--rows", type=int, default=1000, help="images to judge")
    given = parser.parse_args()
    registry = mmcore.discover()
    torch.set_num_threads(1)

    # The pixels first, as the autoencoder and the judge learn from the same rows.
    changes = {"data.transforms": None, "modalities.image.size": 28, "model.backbone_options": {"width": 256, "depth": 4, "features": 8, "gates": True}}  # fmt: skip
    pixels = Experiment("image-label", given.data, registry, rows=given.rows, runs=RUNS)
    setup = pixels.setup(changes)
    reader = ImageModality(1, 28)
    train, test = (setup.rows(part) for part in ("train", "test"))
    few = range(0, len(train), 3)
    pictures = torch.cat([train.take(few[k : k + 512]).values["image"] for k in range(0, len(few), 512)])
    labels = torch.cat([train.take(few[k : k + 512]).values["label"] for k in range(0, len(few), 512)])
    held = test.take([k * len(test) // given.rows for k in range(given.rows)]).values
    coder = RUNS / "autoencoder"
    seconds = autoencoder(pictures, coder)
    judge = fit_judge(pictures, labels, 10)

    os.environ["MMCORE_BESIDE"] = str(coder)
    own = [f'modalities.image.autoencoder="{coder}"']
    latents = Experiment("latent-image-label", given.data, registry, steps=given.steps, rows=given.rows, changes=own, runs=RUNS)  # fmt: skip
    by_latents = latents.trained("latents")
    took = by_latents.seconds_per_step * given.steps
    # A few steps tell what one takes.
    step = Experiment("image-label", given.data, registry, steps=40, runs=RUNS).trained("pixels, to time them", changes).seconds_per_step  # fmt: skip
    count = round((seconds + took) / step)
    by_pixels = Experiment("image-label", given.data, registry, steps=count, runs=RUNS).trained("pixels", changes)

    coded = LatentModality(coder, 28)
    back = coded.pictured(coded.read_many([reader.raw(x) for x in held["image"]]))
    error = float((back - held["image"]).square().mean())
    lines = [
        "| | parameters | steps | processor seconds | label → image, judged | joint samples agree |",
        "|---|---|---|---|---|---|",
    ]
    for name, one, steps, spent in (
        ("latents", by_latents, given.steps, f"{seconds:.0f} + {took:.0f}"),
        ("pixels", by_pixels, count, f"{by_pixels.seconds_per_step * count:.0f}"),
    ):
        figures = asked(one, given.rows, judge)
        lines.append(
            f"| {name} | {one.parameters:,} | {steps:,} | {spent} | {figures['judged']} | {figures['agree']} |"
        )
    real, decoded = (metrics.accuracy(judge(x), held["label"]) for x in (held["image"], back))
    told = (
        f"The judge is right of {real} of real held-out images, and of {decoded} of what the autoencoder makes of them; its mean squared error there is {error:.4f} in -1 … 1, "
        f"{error / float(held['image'].var(correction=0)):.1%} of the pixels' variance."
    )
    text = "\n".join(
        [
            f"# Latents beside pixels\n\n`python -m benchmarks.latents fashion-mnist --steps {given.steps}`\n",
            *lines,
            "",
            told,
            "",
        ]
    )
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
