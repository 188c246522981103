"""Street scenes and class masks: the joint model against segmentation alone, painting alone, and a block and timestep for each.

Scenes made of a mask are judged by segmenting them, with a network that was trained on real scenes alone.
"""

from torch import Tensor

from benchmarks.paper.asking import SEPARATE, answers, ask, in_one_step, only, specialised
from benchmarks.paper.runs import DIRECT, Experiment, Trained, parameters, values
from benchmarks.paper.written import Result, Row
from mmcore import metrics
from mmcore.metrics import Figure

SINGLES = 2
"""Segmentation, and scenes of a mask."""
COLUMNS = {
    "image->mask mask.mean_iou": ("image → mask, mIoU", True),
    "image->mask mask.pixel_accuracy": ("pixels right", True),
    "segmented": ("mask → image, segmented again, mIoU", True),
    "mask->image image.lpips": ("LPIPS", False),
}


def segmented(judge: Trained, images: Tensor, masks: Tensor) -> Figure:
    """Mean IoU of the judge's masks of images with the masks these were made of."""
    m = judge.model.variable("mask")
    found = answers(judge, len(images), image=images)["mask"]
    void = None if m.spec.void is None else int(m.spec.void)
    return metrics.mean_iou(found, masks, int(m.spec.high or 0) + 1, void=void)


def painted(experiment: Experiment, one: Trained, questions: list[str], judge: Trained, masks: Tensor) -> Row:
    """The questions' figures, and the judge's mIoU on scenes made of the masks."""
    made = answers(one, len(masks), mask=masks)["image"]
    return Row.of(one, ask(experiment, one, questions) | {"segmented": segmented(judge, made, masks)})


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-mask", COLUMNS)
    segment, paint = only("mask", "image"), only("image", "mask")
    for seed in experiment.seeds:
        joint = experiment.joint(seed)
        like = joint.parameters
        # One judge for all variations, whatever their size.
        own = parameters(experiment.setup({}, seed).model())
        judge = experiment.trained("segmentation only, without diffusion", {**segment, **DIRECT}, seed, own)
        held = values(experiment.held_out(joint), "image", "mask")
        images, masks = held["image"], held["mask"]
        both = ["image->mask", "mask->image"]
        result.rows += [painted(experiment, joint, both, judge, masks), in_one_step(experiment, joint, ["image->mask"])]
        if experiment.variation is not None:
            continue
        result.rows += specialised(experiment, joint, both)
        if experiment.budget == "steps":
            separate = experiment.trained("separate blocks and timesteps", SEPARATE, seed, like)
            result.rows.append(painted(experiment, separate, both, judge, masks))
        painter = experiment.trained("scene from mask only", paint, seed, like)
        result.rows.append(painted(experiment, painter, ["mask->image"], judge, masks))
        one = experiment.trained("segmentation only", segment, seed, like)
        result.rows += [
            Row.of(one, ask(experiment, one, ["image->mask"])),
            in_one_step(experiment, one, ["image->mask"]),
        ]
        result.rows.append(Row.of(judge, ask(experiment, judge, ["image->mask"])))
        result.notes.append(
            f"Seed {seed}: the judge is *{judge.name}*; its masks of the real test scenes have mIoU {segmented(judge, images, masks)}."
        )
    return result
