"""Hidden patches restored: generation and reconstruction trained together, against either alone.

Patches of a few pixels are hidden at fractions of 10 % to 90 %, the same ones for all models. Measured is LPIPS between the restored
image and the true one, known pixels being the true ones in every case.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import mmcore
from benchmarks.paper.asking import answers, ask
from benchmarks.paper.runs import DIRECT, Experiment, Trained
from benchmarks.paper.written import Curve, Result, Row
from mmcore import metrics
from mmcore.errors import RequestError
from mmcore.metrics import Figure
from mmcore.rng import Rng

SINGLES = 2
"""Restoring, and images alone."""
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
PATCH = 2
"""Pixels a side of what is hidden."""
STRENGTHS = (0.3, 0.5, 0.7)
"""How far an image-only model noises what it restores."""
Restorer = Callable[[Trained, Tensor, Tensor], Tensor]


def hidden(n: int, size: Sequence[int], fraction: float, patch: int = PATCH, seed: int = 0) -> Tensor:
    """Which pixels are hidden, ``(n, 1, H, W)`` bool: the same number of whole patches in every row, ``fraction`` of all."""
    rows, columns = (-(-side // patch) for side in size)
    order = Rng.for_rows(seed, n).of("hidden").of(str(fraction)).uniform(rows * columns).argsort(1).argsort(1)
    chosen = (order < round(fraction * rows * columns)).reshape(n, 1, rows, columns)
    return chosen.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, : size[0], : size[1]]


def answered(steps: int | None = None) -> Restorer:
    """Told what is known, sampled in so many steps; by default as everything is."""

    def restore(one: Trained, images: Tensor, gone: Tensor) -> Tensor:
        return told(one, images, gone, **({} if steps is None else {"steps": steps}))

    return restore


def replaced(one: Trained, images: Tensor, gone: Tensor) -> Tensor:
    """Told nothing, but with the known pixels put in place at every step."""
    return told(one, images, gone, conditioning="posterior")


def told(one: Trained, images: Tensor, gone: Tensor, **changes: Any) -> Tensor:
    """What is asked of the hidden pixels, sampled as the recipe says, with these changes."""
    how = one.setup.config.sampling.how() | changes
    return mmcore.sample(one.model, len(images), given={"image": images}, where={"image": ~gone}, **how)["image"]


def noised(strength: float) -> Restorer:
    """Hidden pixels set to the data's mean, all noised to a share of the way, denoised, and the known pixels put back."""

    def restore(one: Trained, images: Tensor, gone: Tensor) -> Tensor:
        mean = getattr(one.model.variable("image"), "mean", 0.0)
        start = torch.where(gone, torch.full_like(images, mean), images)
        how = one.setup.config.sampling.how()
        made = mmcore.sample(one.model, len(images), start={"image": start}, strength=strength, **how)
        return torch.where(gone, made["image"], images)

    return restore


def figures(experiment: Experiment, one: Trained, restore: Restorer) -> dict[str, Figure]:
    """LPIPS and the squared error of hidden pixels, by fraction."""
    if experiment.weights is None:
        raise RequestError("paper: masked-image is measured by LPIPS, expected --weights")
    network = metrics.SqueezeNet.load(experiment.weights, one.model.device)
    images = experiment.held_out(one).rows.values["image"]
    found = {}
    for fraction in FRACTIONS:
        gone = hidden(len(images), images.shape[2:], fraction).expand_as(images)
        made = restore(one, images, gone)
        error = ((made - images).square() * gone).flatten(1).sum(1) / gone.flatten(1).sum(1)
        found[f"lpips {fraction:.0%}"] = metrics.lpips(made.to(one.model.device), images.to(one.model.device), network)
        found[f"error {fraction:.0%}"] = metrics.average(error)
    return found


def generated(experiment: Experiment, one: Trained) -> dict[str, Figure]:
    """The figures of whole images made of nothing, in SqueezeNet's features."""
    return {name.partition(".")[2]: figure for name, figure in ask(experiment, one, ["joint"]).items()}


def models(experiment: Experiment, seed: int) -> dict[str, Trained]:
    """The joint model, and those of either question alone."""
    joint = experiment.joint(seed)
    like = joint.parameters
    alone = {"training.roles.partial": 1.0}
    return {
        "joint": joint,
        "reconstruction only": experiment.trained("reconstruction only", alone, seed, like),
        "reconstruction only, without diffusion": experiment.trained(
            "reconstruction only, without diffusion", {**alone, **DIRECT}, seed, like
        ),
        "image only": experiment.trained("image only", {"training.roles.partial": 0.0}, seed, like),
    }


def pictures(experiment: Experiment, n: int = 14) -> list[tuple[str, list[Any]]]:
    """Held-out images with half of them hidden, and restored."""
    found = models(experiment, experiment.seeds[0])
    joint = found["joint"]
    images = experiment.held_out(joint).rows.values["image"][:n]
    gone = hidden(len(images), images.shape[2:], 0.5).expand_as(images)
    restored = {
        "joint": answered()(joint, images, gone),
        "reconstruction only": answered()(found["reconstruction only"], images, gone),
        "without diffusion": answered(1)(found["reconstruction only, without diffusion"], images, gone),
        "image only": replaced(found["image only"], images, gone),
    }
    rows = {"true": images, "half hidden": torch.where(gone, -torch.ones_like(images), images)} | restored
    rows["joint, of nothing"] = answers(joint, len(images))["image"]
    return [(name, [joint.model.variable("image").show(x) for x in made]) for name, made in rows.items()]


def measure(experiment: Experiment) -> Result:
    """Train, restore and measure."""
    columns = {f"lpips {fraction:.0%}": (f"LPIPS, {fraction:.0%} hidden", False) for fraction in FRACTIONS}
    columns |= {"error 50%": ("squared error, 50% hidden", False), "frechet": ("Fréchet, whole images", False)}
    result = Result("masked-image", columns)
    for seed in experiment.seeds:
        joint, *others = [experiment.joint(seed)] if experiment.variation else models(experiment, seed).values()
        # The last says whether the model makes whole images too.
        ways: list[tuple[str, Trained, Restorer, bool]] = [
            (joint.name, joint, answered(), True),
            (f"{joint.name}, in one step", joint, answered(1), False),
        ]
        if others:
            restoring, direct, image = others
            if experiment.budget == "specialise":
                one = experiment.specialised(joint, "hidden patches")
                ways.append((one.name, one, answered(), False))
            ways += [
                ("reconstruction only", restoring, answered(), True),
                ("reconstruction only, in one step", restoring, answered(1), False),
                ("reconstruction only, without diffusion", direct, answered(1), False),
                ("image only, known pixels put in at every step", image, replaced, True),
            ]
            ways += [(f"image only, noised to {s:g} and denoised", image, noised(s), False) for s in STRENGTHS]
        for name, one, restore, whole in ways:
            found = figures(experiment, one, restore) | (generated(experiment, one) if whole else {})
            result.rows.append(Row.of(one, found, name))
    lines = {name: [(100 * f, name, f"lpips {f:.0%}") for f in FRACTIONS] for name in result.names}
    result.curves.append(Curve("LPIPS to the true image", "% of the image hidden", lines))
    return result


def conclude(result: Result) -> None:
    """How far the aim is, over all seeds."""
    half = {name: result.over_seeds(name, "lpips 50%") for name in result.names}
    rivals = {name: one.value for name, one in half.items() if one is not None and not name.startswith("joint")}
    mine = min(one.value for name, one in half.items() if one is not None and name.startswith("joint"))
    best = min(rivals, key=lambda name: rivals[name])
    result.notes.append(
        f"At 50 % hidden the better reading of the joint model has {mine / rivals[best]:.2f} times the LPIPS of the best baseline "
        f"(*{best}*); the aim was a third."
    )
