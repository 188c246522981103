"""Images and labels: the joint model against a classifier, a model of images alone, and a block and clock for each."""

import torch

from benchmarks.paper.asking import SEPARATE, answers, ask, only, without
from benchmarks.paper.judge import Judge
from benchmarks.paper.runs import DIRECT, Experiment, Trained, values
from benchmarks.paper.written import Result, Row
from mmcore import metrics
from mmcore.metrics import Figure

COLUMNS = {
    "image->label label.classifier_accuracy": ("image → label", True),
    "image->label label.calibration_error": ("calibration error", False),
    "judged": ("label → image, judged", True),
    "coherence": ("joint samples agree", True),
    "joint image.frechet": ("Fréchet", False),
    "joint image.precision": ("precision", True),
    "joint image.recall": ("recall", True),
}


def made(experiment: Experiment, one: Trained, judge: Judge) -> dict[str, Figure]:
    """Whether images show the class they were asked for, and joint samples agree with themselves."""
    labels = torch.arange(experiment.rows) % 10
    asked, joint = answers(one, len(labels), label=labels)["image"], answers(one, len(labels))
    found = {"judged": metrics.accuracy(judge(asked), labels)}
    return found | {"coherence": metrics.accuracy(judge(joint["image"]), joint["label"])}


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-label", COLUMNS)
    classify = only("label", "image")
    judge = None
    for seed in experiment.seeds:
        joint = experiment.trained("joint", seed=seed)
        like = joint.parameters
        if judge is None:
            rows = values(experiment.training_rows(joint), "image", "label")
            judge = Judge.fit(rows["image"], rows["label"], 10, steps=experiment.judging)
            held = values(experiment.held_out(joint), "image", "label")
            right = metrics.accuracy(judge(held["image"]), held["label"])
            result.notes.append(
                f"The judge, fitted on real training images only, has accuracy {right} on the same test images."
            )
        alone = without("label")
        for one in (
            joint,
            experiment.trained("separate blocks and clocks", SEPARATE, seed, like),
        ):
            found = ask(experiment, one, ["image->label", "joint"])
            result.rows.append(Row.of(one, found | made(experiment, one, judge)))
        for one in (
            experiment.trained("classifier only", classify, seed, like),
            experiment.trained("classifier only, without diffusion", {**classify, **DIRECT}, seed, like),
        ):
            result.rows.append(Row.of(one, ask(experiment, one, ["image->label"])))
        one = experiment.trained("image only", alone, seed, like)
        result.rows.append(Row.of(one, ask(experiment, one, ["joint"])))
    return result
