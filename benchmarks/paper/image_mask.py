"""Street scenes and class masks: the joint model against segmentation alone, painting alone, and a block and clock for each.

Scenes made of a mask are judged by segmenting them, with a network that was trained on real scenes alone.
"""

from torch import Tensor

from benchmarks.paper.asking import SEPARATE, answers, ask, only
from benchmarks.paper.runs import DIRECT, Experiment, Trained, values
from benchmarks.paper.written import Result, Row
from mmcore import metrics
from mmcore.metrics import Figure

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
    return metrics.mean_iou(found, masks, int(m.spec.high or 0) + 1, void=m.spec.void)


def measure(experiment: Experiment) -> Result:
    """Train, ask and measure."""
    result = Result("image-mask", COLUMNS)
    segment, paint = only("mask", "image"), only("image", "mask")
    for seed in experiment.seeds:
        joint, *tries = experiment.joint(seed)
        like = joint.parameters
        judge = experiment.trained("segmentation only, without diffusion", {**segment, **DIRECT}, seed, like)
        held = values(experiment.held_out(joint), "image", "mask")
        images, masks = held["image"], held["mask"]
        for one in (
            joint,
            *tries,
            experiment.trained("separate blocks and clocks", SEPARATE, seed, like),
            experiment.trained("scene from mask only", paint, seed, like),
        ):
            both = one.model.reads("mask")
            found = ask(experiment, one, ["image->mask", "mask->image"] if both else ["mask->image"])
            made = answers(one, len(masks), mask=masks)["image"]
            result.rows.append(Row.of(one, found | {"segmented": segmented(judge, made, masks)}))
        for one in (experiment.trained("segmentation only", segment, seed, like), judge):
            result.rows.append(Row.of(one, ask(experiment, one, ["image->mask"])))
        result.notes.append(
            f"Seed {seed}: the judge is *{judge.name}*; its masks of the real test scenes have mIoU {segmented(judge, images, masks)}."
        )
    return result
