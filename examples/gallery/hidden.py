"""Half-hidden digits, restored in several ways: where the answer is open, the answers differ."""

import matplotlib.pyplot as plt
import torch

import mmcore

reg = mmcore.discover()
image = reg.modality("image", channels=1, size=8, levels=17, mean=-0.39, std=0.75)
model = mmcore.compose(
    [image],
    backbone="mlp",
    backbone_options={"width": 192, "depth": 3, "gates": True},
)
# In most rows some part of the image is seen, and the rest is to be found.
mmcore.fit(
    model,
    reg.source("digits", part="train"),
    steps=2000,
    lr=1.4e-3,
    roles=mmcore.RoleMix(joint=0.3, partial=0.7),
)

rows = list(reg.source("digits", part="test"))[:10]
truth = torch.stack([image.read(row["image"]) for row in rows])
known = torch.zeros_like(truth, dtype=torch.bool)
known[..., :4] = True  # the left half
draws = [
    mmcore.sample(
        model, len(rows), given={"image": truth}, where={"image": known}, seed=seed
    )["image"]
    for seed in range(4)
]

sheets = {"true": truth, "known": torch.where(known, truth, 0.0)} | {
    f"draw {k + 1}": x for k, x in enumerate(draws)
}
figure, axes = plt.subplots(len(sheets), len(rows), figsize=(7.5, 4.6))
for line, (name, x) in zip(axes, sheets.items(), strict=True):
    for axis, one in zip(line, x, strict=True):
        axis.imshow(one[0].numpy(), cmap="gray_r", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig("hidden.png", dpi=110, bbox_inches="tight")
