"""Digits with their labels: joint samples, images of a label, labels of an image."""

import matplotlib.pyplot as plt
import torch

import mmcore

reg = mmcore.discover()
image = reg.modality("image", channels=1, size=8, levels=17, mean=-0.39, std=0.75)
label = reg.modality("label", classes=10)
model = mmcore.compose(
    [image, label],
    backbone="mlp",
    backbone_options={"width": 192, "depth": 3, "gates": True},
)
mmcore.fit(model, reg.source("digits", part="train"), steps=2000, lr=1.4e-3)

joint = mmcore.sample(model, 12, seed=1)
asked = mmcore.sample(model, 12, given={"label": [3] * 6 + [8] * 6}, seed=1)
held = list(reg.source("digits", part="test"))
truth = torch.tensor([int(row["label"]) for row in held])
answer = mmcore.sample(
    model, len(held), given={"image": [row["image"] for row in held]}
)["label"]
print(
    f"image -> label: {(answer == truth).float().mean():.3f} of {len(held)} test digits"
)

figure, axes = plt.subplots(2, 12, figsize=(9, 1.9))
for axis, x, k in zip(
    axes.flat,
    torch.cat([joint["image"], asked["image"]]),
    torch.cat([joint["label"], asked["label"]]),
    strict=True,
):
    axis.imshow(image.show(x), cmap="gray_r")
    axis.set_title(label.show(k), fontsize=8)
    axis.axis("off")
figure.savefig("digits.png", dpi=110, bbox_inches="tight")
