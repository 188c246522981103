"""Samplers by number of steps, and guidance, on the digits.

``python -m benchmarks.samplers [--seeds 3] [--threads N]`` prints the Fréchet distance of 5,000 samples of each sampler to the training images at several
numbers of steps (all in one batch, mean over the seeds of sampling), then the curves of guidance by the label.
"""

import sys

import torch

import mmcore
from benchmarks.trained import Data, arguments, trained

SAMPLES = 5000
SAMPLERS: dict[str, tuple[dict, tuple[int, ...]]] = {
    "ancestral, mean codes": ({"sampler": "ancestral"}, (20, 250)),
    "ancestral, drawn codes": ({"sampler": "ancestral", "codes": "draw-all"}, (20, 250)),
    "DDIM, η = 0": ({"sampler": "ddim", "eta": 0.0}, (20,)),
    "2M": ({"sampler": "2m"}, (10, 20, 250)),
    "2M, even in the log signal-to-noise ratio": ({"sampler": "2m", "spacing": "snr"}, (20,)),
    "Heun (two predictions a step)": ({"sampler": "heun"}, (10, 20)),
}
"""How, and in how many steps."""
STEPS = (10, 20, 250)
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)


def main() -> None:
    """Sample and print."""
    registry, options, given = arguments(__doc__)
    data = Data.read(registry)
    model = trained(registry, data.train, options=options)
    print("| sampler | " + " | ".join(f"{n} steps" for n in STEPS) + " |\n|---|" + "---|" * len(STEPS))
    for name, (how, counts) in SAMPLERS.items():
        cells = []
        for steps in STEPS:
            if steps not in counts:
                cells.append("–")
                continue
            distances = []
            for seed in range(given.seeds):
                images = mmcore.sample(model, SAMPLES, steps=steps, seed=seed, absent=[], **how)["image"]
                distances.append(data.frechet(images, batch=SAMPLES))
            cells.append(f"{sum(distances) / len(distances):.3f}")
            print(f"{name}, {steps} steps: {distances}", file=sys.stderr, flush=True)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("\n| guidance by label | label → image | recall of the class's test images' features |\n|---|---|---|")
    labels = torch.arange(10).repeat_interleave(100)
    for scale in SCALES:
        asked = {"given": {"label": labels}, "guidance": {"label": scale}}
        images = mmcore.sample(model, len(labels), sampler="ancestral", seed=1, **asked)["image"]
        right = (data.judge(images) == labels).double().mean().item()
        print(f"| {scale} | {right:.3f} | {_recall(data, images, labels):.3f} |", flush=True)


def _recall(data: Data, images: torch.Tensor, labels: torch.Tensor) -> float:
    """k-NN recall within each class, so that a batch of even classes is compared with its like; the mean over classes."""
    from mmcore.metrics import precision_recall

    made, real = data.judge.features(images), data.judge.features(data.held["image"])
    each = [precision_recall(made[labels == k], real[data.held["label"] == k])[1] for k in range(10)]
    return sum(each) / len(each)


if __name__ == "__main__":
    main()
