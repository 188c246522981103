"""Train profiles jointly with labels, and ask both ways: ``python joint.py [--steps 1500]``.

Labels given profiles are compared with the truth. Profiles given labels are judged by what nearest neighbours
among the training profiles say of them, which for real ones is right most of the time.
"""

import argparse

import torch
from sklearn.neighbors import KNeighborsClassifier

import mmcore
from mmcore_label import LabelModality
from mmcore_profile import ProfileModality
from mmcore_profile.source import Profiles


def main(steps: int = 1500, draws: int = 40, seed: int = 0) -> dict[str, float]:
    """Train, ask and print.

    Args:
        steps: of training.
        draws: profiles asked for each of the ten labels.
        seed: of training and samples.
    """
    profile, label = ProfileModality(), LabelModality(10)
    train, test = Profiles("train"), Profiles("test")
    model = mmcore.compose([profile, label], backbone="mlp", backbone_options={"width": 128, "depth": 3}, seed=seed)
    mmcore.fit(model, train, steps=steps, batch_size=128, lr=2e-3, seed=seed, device="cpu")

    def read(rows: Profiles) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([profile.read(scan) for scan in rows.scans]), torch.from_numpy(rows.labels)

    seen, known = read(train)
    judge = KNeighborsClassifier(5).fit(seen.flatten(1).numpy(), known.numpy())
    x, y = read(test)
    answered = mmcore.sample(model, len(x), given={"profile": x}, steps=20, seed=seed)["label"]
    asked = torch.arange(10).repeat_interleave(draws)
    drawn = mmcore.sample(model, len(asked), given={"label": asked}, steps=20, seed=seed)["profile"]
    both = mmcore.sample(model, len(asked), steps=20, seed=seed)
    found = {
        "label given profile, right": float((answered == y).float().mean()),
        "nearest neighbours' label, right": float(judge.score(x.flatten(1).numpy(), y.numpy())),
        "profile given label, judged right": float(judge.score(drawn.flatten(1).numpy(), asked.numpy())),
        "both generated, judged to agree": float(
            judge.score(both["profile"].flatten(1).numpy(), both["label"].numpy())
        ),
        "distinct labels generated, of 10": float(both["label"].unique().numel()),
    }
    for name, value in found.items():
        print(f"{name}: {value:.3g}")
    print(f"a 3: {profile.show(drawn[3 * draws])}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    main(parser.parse_args().steps)
