"""Images and labels: the joint model against a classifier, a model of images alone, and a block and timestep for each."""

from typing import Any

import torch

from benchmarks.paper.asking import SEPARATE, answers, ask, only, specialised, without
from benchmarks.paper.judge import fit_judge
from benchmarks.paper.runs import DIRECT, Experiment, Trained, values
from benchmarks.paper.written import Result, Row
from mmcore import metrics
from mmcore.demo.judge import Judge
from mmcore.metrics import Figure

SINGLES = 2
"""A classifier, and a model of images alone."""
COLUMNS = {
    "image->label label.classifier_accuracy": ("image → label", True),
    "image->label label.calibration_error": ("calibration error", False),
    "judged": ("label → image, judged", True),
    "coherence": ("joint samples agree", True),
    "joint image.frechet": ("Fréchet", False),
    "joint image.precision": ("precision", True),
    "joint image.recall": ("recall", True),
}


def both(experiment: Experiment, one: Trained, judge: Judge) -> Row:
    """Both directions, and joint samples."""
    return Row.of(one, ask(experiment, one, ["image->label", "joint"]) | made(experiment, one, judge))


def made(experiment: Experiment, one: Trained, judge: Judge) -> dict[str, Figure]:
    """Whether images show the class they were asked for, and joint samples agree with themselves."""
    labels = torch.arange(experiment.rows) % 10
    asked, joint = answers(one, len(labels), label=labels)["image"], answers(one, len(labels))
    found = {"judged": metrics.accuracy(judge(asked), labels)}
    return found | {"coherence": metrics.accuracy(judge(joint["image"]), joint["label"])}


def pictures(experiment: Experiment, n: int = 14) -> list[tuple[str, list[Any]]]:
    """Images of each class by the joint model."""
    joint = experiment.trained("joint", seed=experiment.seeds[0])
    label = joint.model.variable("label")
    made = answers(joint, 10 * n, label=torch.arange(10).repeat_interleave(n))["image"]
    shown = [joint.model.variable("image").show(x) for x in made]
    return [(str(label.show(torch.tensor(k))), shown[k * n : (k + 1) * n]) for k in range(10)]


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-label", COLUMNS)
    classify = only("label", "image")
    judge = None
    for seed in experiment.seeds:
        joint = experiment.joint(seed)
        like = joint.parameters
        if judge is None:
            rows = values(experiment.training_rows(joint), "image", "label")
            judge = fit_judge(rows["image"], rows["label"], 10, steps=experiment.judging)
            held = values(experiment.held_out(joint), "image", "label")
            right = metrics.accuracy(judge(held["image"]), held["label"])
            result.notes.append(
                f"The judge, fitted on real training images only, has accuracy {right} on the held-out images."
            )
        result.rows.append(both(experiment, joint, judge))
        if experiment.variation is not None:
            continue
        result.rows += specialised(experiment, joint, ["image->label"])
        if experiment.budget == "steps":
            separate = experiment.trained("separate blocks and timesteps", SEPARATE, seed, like)
            result.rows.append(both(experiment, separate, judge))
        for one in (
            experiment.trained("classifier only", classify, seed, like),
            experiment.trained("classifier only, without diffusion", {**classify, **DIRECT}, seed, like),
        ):
            result.rows.append(Row.of(one, ask(experiment, one, ["image->label"])))
        one = experiment.trained("image only", without("label"), seed, like)
        result.rows.append(Row.of(one, ask(experiment, one, ["joint"])))
    return result
