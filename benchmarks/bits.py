"""Whether a change kept every bit: hashes of trained weights and of answers, and the words of refusals.

    python -m benchmarks.bits before.json                 write them down
    python -m benchmarks.bits after.json --against before.json

Six short trainings (both layouts by the three weightings, with missing labels, parts observed, learned task weights and
a trained encoder) and 900 questions (kinds by samplers by layouts by schedules). Bits depend on the processor and on torch, so two
files are comparable when one machine wrote both. Names of parameters and modules do not count.
"""

import argparse
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmcore

STEPS = 6
ROWS = 5


def digest(tensors: dict[str, Tensor]) -> str:
    """One hash of named tensors."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        found.update(x.view(torch.uint8).numpy().tobytes() if x.ndim else x[None].view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def weights(model: mmcore.JointModel) -> str:
    """One hash of all weights, whatever their names are."""
    each = sorted(digest({"": p}) for p in model.state_dict().values())
    return hashlib.sha256("".join(each).encode()).hexdigest()


def rows(count: int, *, missing: bool) -> list[dict[str, Any]]:
    """Small random rows; with ``missing`` a third of them lack their label."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 4, 4, generator=generator)
    labels = torch.randint(5, (count,), generator=generator)
    masks = torch.randint(2, (count, 4, 4), generator=generator)
    return [
        {"image": images[k], "label": None if missing and k % 3 == 0 else int(labels[k]), "mask": masks[k]}
        for k in range(count)
    ]


def parts(registry: mmcore.Registry) -> list[mmcore.Modality]:
    """A real-valued modality, a class and a map."""
    return [
        registry.modality("image", channels=1, size=4),
        registry.modality("label", classes=5),
        registry.modality("mask", size=4, classes=2),
    ]


def trainings(registry: mmcore.Registry) -> dict[str, str]:
    """Hashes of the weights of six short trainings."""
    found = {}
    for layout, weighting in itertools.product(("shared", "separate"), ("simple", "elbo", "snr")):
        trained = ["label"] if weighting == "snr" else []
        model = mmcore.compose(
            parts(registry), layout=layout, trained_encoders=trained, backbone="transformer", registry=registry,
            backbone_options={"width": 32, "depth": 2},
        )  # fmt: skip
        mmcore.fit(
            model,
            rows(40, missing=weighting != "elbo"),
            steps=12,
            batch_size=8,
            weighting=weighting,
            task_weights="learned" if weighting == "snr" else "fixed",
            condition_noise=0.1 if layout == "separate" else 0.0,
            accumulate=2 if weighting == "elbo" else 1,
            roles=mmcore.RoleMix(partial=0.5 if weighting == "simple" else 0.0),
            device="cpu",
            quiet=True,
        )
        found[f"{layout} {weighting}"] = weights(model)
    return found


def questions() -> Iterator[tuple[str, dict[str, Any]]]:
    """What is asked, by kind."""
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(5, (ROWS,), generator=generator)
    image = torch.rand(ROWS, 1, 4, 4, generator=generator) * 2 - 1
    mask = torch.randint(2, (ROWS, 4, 4), generator=generator)
    half = torch.zeros(ROWS, 1, 4, 4, dtype=torch.bool)
    half[:, :, :2] = True
    some = torch.tensor([True, False, True, False, False])
    yield "joint", {}
    yield "of a label", {"given": {"label": label}}
    yield "of half an image", {"given": {"image": image}, "where": {"image": half}}
    yield "of a label in some rows", {"given": {"label": label}, "where": {"label": some}}
    yield "without masks", {"absent": ["mask"], "given": {"image": image}}
    yield "without masks in some rows", {"absent": {"mask": some}}
    yield "by the posterior", {"given": {"label": label, "mask": mask}, "conditioning": "posterior"}
    yield "guided", {"given": {"label": label, "mask": mask}, "guidance": {"label": 2.0, "mask": 1.5}}
    yield "edited", {"start": {"image": image, "label": label, "mask": mask}, "strength": 0.6, "draw": True}
    yield "by rejection", {"given": {"label": label}, "conditioning": "rejection"}


SAMPLERS: dict[str, dict[str, Any]] = {
    "auto": {},
    "ddim": {"sampler": "ddim"},
    "ddim half": {"sampler": "ddim", "eta": 0.5, "codes": "draw"},
    "ddim snr": {"sampler": "ddim", "eta": 0.0, "spacing": "snr"},
    "ancestral": {"sampler": "ancestral"},
    "ancestral drawn": {"sampler": "ancestral", "codes": "draw-all", "draw": True},
    "2m": {"sampler": "2m"},
    "2m snr": {"sampler": "2m", "spacing": "snr", "steps": 5},
    "heun": {"sampler": "heun"},
    "2m eta": {"sampler": "2m", "eta": 0.5},
}


def answers(registry: mmcore.Registry) -> dict[str, str]:
    """Hashes of the answers, or the words of the refusals."""
    found = {}
    layouts: dict[str, Any] = {"shared": "shared", "separate": "separate", "grouped": [["image", "mask"], ["label"]]}
    for (title, layout), schedule in itertools.product(layouts.items(), ("cosine", "paper", "paper-steps")):
        model = mmcore.compose(
            parts(registry), layout=layout, schedule=schedule, backbone="mlp", registry=registry,
            backbone_options={"width": 32, "depth": 1},
        )  # fmt: skip
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            # Heads begin at zero: then no question would have an answer of its own.
            for p in sorted(model.parameters(), key=lambda p: (p.ndim, tuple(p.shape))):
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        for (name, how), (kind, asked) in itertools.product(SAMPLERS.items(), questions()):
            key = f"{title} / {schedule} / {name} / {kind}"
            found[key] = told(
                lambda model=model, how=how, asked=asked: mmcore.sample(model, ROWS, **{"steps": STEPS, **how, **asked})
            )
    return found


def told(ask: Callable[[], dict[str, Tensor]]) -> str:
    """The hash of an answer, or what was said instead."""
    try:
        return digest(ask())
    except mmcore.MmcoreError as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    registry = mmcore.discover()
    found = {"trainings": trainings(registry), "answers": answers(registry)}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    refused = sum(len(x) != 64 for x in found["answers"].values())
    print(f"{len(found['trainings'])} trainings, {len(found['answers'])} questions, {refused} of them refused")
    if options.against is None:
        return
    before = json.loads(options.against.read_text())
    wrong = [
        (kind, name) for kind in found for name in found[kind] | before[kind] if found[kind].get(name) != before[kind].get(name)
    ]  # fmt: skip
    for kind, name in wrong[:20]:
        print(f"{kind}: {name}\n  before {before[kind].get(name)}\n  after  {found[kind].get(name)}")
    print(f"{len(wrong)} differ" if wrong else "all equal")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
