"""What the demo reports: whether answers agree with each other, with the data, and are not copies of it."""

import attrs
import torch
from torch import Tensor

from mmcore.demo.judge import Judge
from mmcore.metrics import frechet_distance, precision_recall
from mmcore.model.joint import JointModel
from mmcore.rng import Rng
from mmcore.sampling.ask import sample

Rows = dict[str, Tensor]


@attrs.frozen(eq=False)
class Answers:
    """The demo's questions answered.

    Attributes:
        joint: samples of everything, each independent of the others.
        by_label: everything, for a given label (as many of each).
        by_image: everything else, for the test images.
    """

    joint: Rows
    by_label: Rows
    by_image: Rows

    @classmethod
    def ask(
        cls,
        model: JointModel,
        test: Rows,
        *,
        joint: int,
        per_label: int,
        seed: int,
        guidance: float = 1.0,
        **how: object,
    ) -> "Answers":
        """Ask all three; ``guidance`` is the scale of what is given, and ``how`` goes to :func:`mmcore.sample`."""
        options: dict = dict(how)

        def given(name: str, x: Tensor, offset: int) -> Rows:
            scale = {name: guidance} if guidance != 1 else None
            return sample(model, len(x), given={name: x}, guidance=scale, seed=seed + offset, **options)

        every = torch.arange(10).repeat_interleave(per_label)
        return cls(
            sample(model, joint, seed=seed, **options),
            given("label", every, 1),
            given("image", test["image"], 2),
        )


def measure(answers: Answers, model: JointModel, judge: Judge, train: Rows, test: Rows) -> dict[str, float]:
    """All figures, by name."""
    joint, by_label, by_image = answers.joint, answers.by_label, answers.by_image
    iou = model.variable("mask").metrics()["iou"]
    cosine = model.variable("embedding").metrics()["cosine"]
    figures = {
        "judge_test_accuracy": _mean(judge(test["image"]) == test["label"]),
        "joint_samples": float(len(joint["image"])),
        "joint_coherence": _mean(judge(joint["image"]) == joint["label"]),
        "label_to_image_accuracy": _mean(judge(by_label["image"]) == by_label["label"]),
        "image_to_label_accuracy": _mean(by_image["label"] == test["label"]),
        "image_to_mask_iou": _mean(iou(by_image["mask"], test["mask"])),
        "image_to_embedding_cosine": _mean(cosine(by_image["embedding"], test["embedding"])),
    }
    return figures | image_figures(joint["image"], judge, train, test)


def image_figures(images: Tensor, judge: Judge, train: Rows, test: Rows) -> dict[str, float]:
    """Figures of generated images by themselves; none needs their labels."""
    real, held, made = (judge.features(x) for x in (train["image"], test["image"], images))
    shares = torch.bincount(judge(images), minlength=10) / len(images)
    data = torch.bincount(train["label"], minlength=10) / len(train["label"])
    precision, recall = precision_recall(made[: len(held)], held)
    distance, draws = batches_distance(made, real, len(held)), draws_distance(real, len(held))
    return {
        "frechet_ratio": distance / draws,
        "frechet_distance": distance,
        "frechet_of_training_draws": draws,
        "frechet_floor": frechet_distance(held, real),
        "class_total_variation": 0.5 * (shares - data).abs().sum().item(),
        "class_entropy_nats": -(shares * shares.clamp(min=1e-12).log()).sum().item(),
        "knn_precision": precision,
        "knn_recall": recall,
        "nearest_train_distance": nearest(images, train["image"]),
        "nearest_train_distance_of_test": nearest(test["image"], train["image"]),
    }


def batches_distance(made: Tensor, real: Tensor, n: int, labels: Tensor | None = None) -> float:
    """The mean Fréchet distance of batches of ``n`` rows of ``made`` to all of ``real``; NaN where there is no whole batch.

    The distance depends on how a batch was drawn: one whose classes come unequally often by chance is farther off. The test
    split is divided class by class; what is dealt is drawn as it was.

    Args:
        made: ``(rows, features)``.
        real: ``(m, features)``.
        n: rows of a batch; what is left over is in none.
        labels: ``(rows,)``, the rows' own classes. Then the rows are dealt to the batches class by class, and each batch has
            the classes as often as all rows have them, within one row; without, batches are the rows as they come.
    """
    count = len(made) // n
    if not count:
        return float("nan")
    made = made[: count * n]
    if labels is None:
        batches = made.split(n)
    else:
        order = labels[: count * n].argsort(stable=True)
        batches = [made[order[first::count]] for first in range(count)]
    return sum(frechet_distance(batch, real) for batch in batches) / count


def draws_distance(real: Tensor, n: int, labels: Tensor | None = None, *, draws: int = 32, seed: int = 0) -> float:
    """:func:`batches_distance` of rows drawn from ``real`` itself, with replacement: what samples of the very data have."""
    rows = Rng.for_rows(seed, draws).of("draws").integers(0, len(real), n).flatten()
    return batches_distance(real[rows], real, n, None if labels is None else labels[rows])


def nearest(images: Tensor, train: Tensor) -> float:
    """The mean Euclidean distance to the nearest training image, pixels in -1 … 1."""
    return _mean(torch.cdist(images.flatten(1), train.flatten(1)).min(1).values)


def _mean(x: Tensor) -> float:
    return x.double().mean().item()
