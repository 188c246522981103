"""Numbers beside an image whose distribution given the image is known: does the model say what it does not know?

An image of ``S × S`` is smooth noise. Two numbers are ``y = f(x) + s(x) e`` and ``w = f(x)/2 + s(x) (ρ e + √(1 - ρ²) e')``, with ``f`` four times the mean of the
image's first quarter, ``s`` between 0.25 and 1 by the mean of its last quarter, ``e`` and ``e'`` standard normal, and ``ρ = 0.8``. A class tells the signs of the
other two quarters.

``python -m benchmarks.uncertainty`` trains a model on each set of variables and size, draws ``y`` (and ``w``) given images that it has not seen, and prints a
Markdown table: the deviation of the draws over ``s(x)``; how much of the true distribution the intervals of 50, 80 and 95 % of the draws hold, in closed form; the
error of their mean over ``s(x)``; and the mean correlation of ``y`` and ``w`` given the image. ``--reading space --timesteps even --balance rows`` is what was done before.
"""

import argparse
import time
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

import mmcore
from mmcore import JointModel, Registry, RoleMix, Task
from mmcore.data import Table, TensorBatch

RHO = 0.8
LEVELS = (0.5, 0.8, 0.95)
VARIABLES = (("image", "y"), ("image", "y", "w"), ("image", "y", "w", "label"))
IMAGE_WEIGHT = 12.8
"""Of the image's loss, over its number of pixels: a sum over pixels would drown one number's."""


@attrs.frozen(eq=False)
class World:
    """Rows, and what is true of them.

    Attributes:
        values: by variable.
        mean: ``f(x) (B,)``, of ``y``.
        deviation: ``s(x) (B,)``, of ``y`` and of ``w``.
    """

    values: dict[str, Tensor]
    mean: Tensor
    deviation: Tensor


def world(rows: int, size: int, seed: int) -> World:
    """Rows of all variables, ``size`` a multiple of 2."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = (torch.randn(rows, 1, n, n, generator=generator) for n in (5, size))
    smooth = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)
    x = (0.5 * smooth + 0.05 * fine).clamp(-1, 1)
    x = ((x + 1) * 127.5).round() / 127.5 - 1
    half = size // 2
    quarters = [x[:, 0, a : a + half, b : b + half].mean((1, 2)) for a in (0, half) for b in (0, half)]
    mean, deviation = 4 * quarters[0], 0.25 + 0.75 * torch.sigmoid(6 * quarters[3])
    e, other = torch.randn(2, rows, generator=generator)
    values = {
        "image": x,
        "y": mean + deviation * e,
        "w": mean / 2 + deviation * (RHO * e + (1 - RHO**2) ** 0.5 * other),
        "label": (quarters[1] > 0).long() + 2 * (quarters[2] > 0).long(),
    }
    return World(values, mean, deviation)


def model_of(names: tuple[str, ...], rows: World, registry: Registry, *, reading: str = "codes") -> JointModel:
    """A model of some of the variables, with their statistics."""
    size, parts = rows.values["image"].shape[-1], []
    for name in names:
        x = rows.values[name].float()
        if name == "label":
            parts.append(registry.modality("label", classes=4))
        elif name == "image":
            parts.append(registry.modality("image", channels=1, size=size, mean=float(x.mean()), std=float(x.std())))
        else:
            parts.append(registry.modality("scalar", name=name, mean=float(x.mean()), std=float(x.std())))
    tasks = [Task(name, name, weight=IMAGE_WEIGHT / size**2 if name == "image" else 1.0) for name in names]
    options = {"width": 128, "depth": 3, "features": 8}
    return mmcore.compose(parts, tasks, backbone="mlp", backbone_options=options, reading=reading, registry=registry)


def trained(model: JointModel, rows: World, steps: int, seed: int = 0, **options: Any) -> JointModel:
    """Trained on a third each of joint rows, of rows that observe one variable, and of the question that is asked."""
    values = {m.name: rows.values[m.name] for m in model.modalities}
    table = Table(TensorBatch(values, torch.ones(len(rows.mean), len(values), dtype=torch.bool)))
    wanted = ", ".join(name for name in values if name in ("y", "w"))
    mix = RoleMix(joint=0.3, single=0.3, questions={f"image -> {wanted}": 0.3})
    mmcore.fit(model, table, steps=steps, batch_size=64, seed=seed, device="cpu", quiet=True, roles=mix, **options)
    return model


@attrs.frozen
class Found:
    """What the draws say, as means over images.

    Attributes:
        deviation: of the draws, over the truth.
        coverage: of the intervals of :data:`LEVELS`.
        error: of the draws' mean, root mean square, over the true deviation.
        correlation: of ``y`` and ``w``; None without ``w``.
    """

    deviation: float
    coverage: tuple[float, ...]
    error: float
    correlation: float | None


def measured(model: JointModel, truth: World, draws: int, seed: int = 3) -> Found:
    """Draw ``y``, and ``w`` where the model has it, given each image; the class is left out."""
    rows = len(truth.mean)
    given = {"image": truth.values["image"].repeat_interleave(draws, dim=0)}
    left_out = [m.name for m in model.modalities if m.name == "label"]
    answer = mmcore.sample(model, rows * draws, given=given, absent=left_out, seed=seed)
    y = answer["y"].reshape(rows, draws)
    normal = torch.distributions.Normal(truth.mean, truth.deviation)
    coverage = []
    for level in LEVELS:
        low, high = (y.quantile(p, dim=1) for p in (0.5 - level / 2, 0.5 + level / 2))
        coverage.append(float((normal.cdf(high) - normal.cdf(low)).mean()))
    correlation = None
    if "w" in answer:
        w = answer["w"].reshape(rows, draws)
        pairs = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(y, w, strict=True)]
        correlation = float(torch.stack(pairs).mean())
    return Found(
        float((y.std(1) / truth.deviation).mean()),
        tuple(coverage),
        float(((y.mean(1) - truth.mean) / truth.deviation).square().mean().sqrt()),
        correlation,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reading", default="codes")
    parser.add_argument("--timesteps", default="question")
    parser.add_argument("--balance", default="question")
    parser.add_argument("--weighting", default="simple")
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = mmcore.discover()
    print("| image | variables | deviation | in 50 % | in 80 % | in 95 % | error of the mean | correlation | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.sizes:
        rows, truth = world(options.rows, size, 1), world(options.images, size, 2)
        for names in VARIABLES:
            started = time.process_time()
            model = model_of(names, rows, registry, reading=options.reading)
            how = {"timesteps": options.timesteps, "balance": options.balance, "weighting": options.weighting}
            found = measured(trained(model, rows, options.steps, options.seed, **how), truth, options.draws)
            figures = [found.deviation, *found.coverage, found.error]
            cells = [f"{x:.3f}" for x in figures] + ["" if found.correlation is None else f"{found.correlation:.2f}"]
            seconds = time.process_time() - started
            print(f"| {size} × {size} | {', '.join(names)} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
