"""What the demo reports: whether answers agree with each other, with the data, and are not copies of it."""

import attrs
import torch
from torch import Tensor

from mmcore.demo.judge import Judge
from mmcore.metrics import frechet_distance, precision_recall
from mmcore.model import JointModel
from mmcore.rng import Rng
from mmcore.sampling import sample

Rows = dict[str, Tensor]


@attrs.frozen(eq=False)
class Answers:
    """The demo's questions answered.

    Attributes:
        joint: samples of everything.
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

        labels = torch.arange(10).repeat_interleave(per_label)
        return cls(
            sample(model, joint, seed=seed, **options), given("label", labels, 1), given("image", test["image"], 2)
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
    batches = [b for b in made.split(len(held)) if len(b) == len(held)]
    distances = [frechet_distance(b, real) for b in batches]
    shares = torch.bincount(judge(images), minlength=10) / len(images)
    data = torch.bincount(train["label"], minlength=10) / len(train["label"])
    precision, recall = precision_recall(made[: len(held)], held)
    return {
        "frechet_distance": sum(distances) / len(distances) if distances else float("nan"),
        "frechet_floor": frechet_distance(held, real),
        "frechet_of_training_draws": draws_distance(real, len(held)),
        "class_total_variation": 0.5 * (shares - data).abs().sum().item(),
        "class_entropy_nats": -(shares * shares.clamp(min=1e-12).log()).sum().item(),
        "knn_precision": precision,
        "knn_recall": recall,
        "nearest_train_distance": nearest(images, train["image"]),
        "nearest_train_distance_of_test": nearest(test["image"], train["image"]),
    }


def draws_distance(real: Tensor, n: int, *, draws: int = 32, seed: int = 0) -> float:
    """The mean Fréchet distance of ``n`` rows drawn from ``real`` to all of it: what samples of the very data have, class by chance included."""
    rng = Rng.for_rows(seed, draws).of("draws")
    return sum(frechet_distance(real[at], real) for at in rng.integers(0, len(real), n)) / draws


def nearest(images: Tensor, train: Tensor) -> float:
    """The mean Euclidean distance to the nearest training image, pixels in -1 … 1."""
    return _mean(torch.cdist(images.flatten(1), train.flatten(1)).min(1).values)


def _mean(x: Tensor) -> float:
    return x.double().mean().item()
