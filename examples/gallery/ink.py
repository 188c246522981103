"""A modality that mmcore has never seen, from an installed plugin: which digits have this shadow?."""

import matplotlib.pyplot as plt
import torch

import mmcore

reg = mmcore.discover()
image = reg.modality("image", channels=1, size=8, levels=17, mean=-0.39, std=0.75)
profile = reg.modality("profile")  # pip install examples/mmcore-profile
model = mmcore.compose(
    [image, profile],
    backbone="mlp",
    backbone_options={"width": 192, "depth": 3, "gates": True},
)


def both(part: str) -> list[dict]:
    return [
        {"image": row["image"], "profile": row["image"]}
        for row in reg.source("digits", part=part)
    ]


mmcore.fit(model, both("train"), steps=2000, lr=1.4e-3)

held = both("test")
asked = torch.stack([profile.read(row["profile"]) for row in held])
made = mmcore.sample(model, len(held), given={"profile": asked})["image"]
found = torch.stack([profile.read((x[0] + 1) / 2) for x in made])
error = profile.metrics()["mae"]
print(
    f"the ink of the images differs by {error(found, asked).mean():.3f} from what was asked for",
    end=", ",
)
print(f"that of other digits by {error(asked.roll(7, 0), asked).mean():.3f}")

figure, axes = plt.subplots(3, 10, figsize=(8, 2.5))
for line, k in zip(axes, (0, 4, 5), strict=True):
    draws = mmcore.sample(model, 8, given={"profile": asked[k]}, seed=2)["image"]
    line[0].bar(range(8), asked[k, 1].numpy(), color="0.3")
    for axis, x in zip(
        line[1:], [image.read(held[k]["image"]), *draws], strict=True
    ):
        axis.imshow(x[0].numpy(), cmap="gray_r", vmin=-1, vmax=1)
    for axis in line:
        axis.set(xticks=[], yticks=[])
for axis, name in zip(axes[0], ("asked", "true", "drawn"), strict=False):
    axis.set_title(name, fontsize=9)
figure.savefig("ink.png", dpi=110, bbox_inches="tight")
