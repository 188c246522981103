"""A table of patients, with gaps: any column given any others, with how sure the answer is."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_diabetes

import mmcore

found = load_diabetes(scaled=False)
columns = ("age", "bmi", "bp", "progression")
values = torch.tensor(
    [[*row[[0, 2, 3]], y] for row, y in zip(found.data, found.target, strict=True)]
)
rows = [
    dict(zip(columns, row, strict=True)) | {"sex": int(person[1]) - 1}
    for row, person in zip(values.tolist(), found.data, strict=True)
]
train, held = rows[:342], rows[342:]
for k, row in enumerate(train):
    row[("age", "bmi", "bp", "sex")[k % 4]] = None  # each row lacks something

reg = mmcore.discover()
mean, std = values[:342].mean(0), values[:342].std(0)
parts = [
    reg.modality("scalar", name=name, mean=mean[i].item(), std=std[i].item())
    for i, name in enumerate(columns)
]
parts.append(reg.modality("label", name="sex", classes=2))
model = mmcore.compose(
    parts, backbone="mlp", backbone_options={"width": 96, "depth": 2}
)
mmcore.fit(model, train, steps=1200, lr=1e-3, condition_noise=0.3)

# What the disease does within a year, from all other columns: 64 draws for each patient.
given = {
    name: [row[name] for row in held for _ in range(64)]
    for name in ("age", "bmi", "bp", "sex")
}
draws = mmcore.sample(model, 64 * len(held), given=given, draw=True)[
    "progression"
].reshape(len(held), 64)
truth = torch.tensor([row["progression"] for row in held])
low, middle, high = draws.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1)
inside = (low <= truth) & (truth <= high)
print(
    f"{inside.float().mean():.2f} of {len(held)} patients lie in their 80 % interval"
)
print(
    f"mean error {(middle - truth).abs().mean():.0f}, that of the mean of all {(mean[3] - truth).abs().mean():.0f}"
)

order = middle.argsort()
figure, axis = plt.subplots(figsize=(8, 3))
axis.fill_between(
    range(len(held)),
    low[order].numpy(),
    high[order].numpy(),
    alpha=0.3,
    label="80 % interval",
)
axis.plot(middle[order].numpy(), label="median of 64 draws")
axis.plot(truth[order].numpy(), ".", color="black", label="true")
axis.set(
    xlabel="held-out patients, by their median", ylabel="progression after a year"
)
axis.legend(fontsize=8)
figure.savefig("table.png", dpi=110, bbox_inches="tight")
