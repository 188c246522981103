"""A small joint model of a picture, a label and a depth map with holes: what it answers, against the conditional distributions of the data."""

import pytest
import torch

import mmcore
from mmcore import JointModel, Rng, RoleMix
from mmcore.testing.small import trained

MEANS, SLOPE, NOISE = torch.tensor([0.0, 1.0]), 0.5, 0.1
"""A map's logarithms are the class's mean, what the picture shows times the slope, and noise of each pixel; a fifth of the pixels are holes."""
N = 1000


def made(label: torch.Tensor, shown: torch.Tensor, rng: Rng) -> torch.Tensor:
    logs = MEANS[label] + SLOPE * shown
    x = (logs[:, None, None, None] + NOISE * rng.of("noise").normal(1, 2, 2)).exp()
    return torch.where(rng.of("holes").uniform(1, 2, 2) < 0.2, 0.0, x)


@pytest.fixture(scope="module")
def model() -> JointModel:
    registry = mmcore.discover()
    rng = Rng.for_rows(0, 20_000).of("data")
    label = rng.of("label").integers(0, 2)
    shown = 2 * rng.of("shown").uniform() - 1
    depth = made(label, shown, rng)
    options = {"size": 2, "low": 0.1, "high": 20.0}
    figures = registry.modality("depth", **options).measured(depth)
    parts = [
        registry.modality("image", channels=1, size=2, mean=0.0, std=0.58),
        registry.modality("label", classes=2),
        registry.modality("depth", **options, **figures),
    ]
    values = {"image": shown[:, None, None, None].expand(-1, 1, 2, 2).clone(), "label": label, "depth": depth}
    return trained(parts, values, steps=2500, roles=RoleMix(joint=0.2, single=0.5, partial=0.6))


def test_the_depth_of_a_picture_and_a_class_is_log_normal_about_its_mean(model: JointModel) -> None:
    label, shown = torch.arange(N) % 2, 1.6 * torch.arange(N) / N - 0.8
    given = {"image": shown[:, None, None, None].expand(-1, 1, 2, 2), "label": label}
    logs = mmcore.sample(model, N, given=given, seed=1, steps=40)["depth"].log()
    mean = logs.mean((1, 2, 3))
    assert float((mean - MEANS[label] - SLOPE * shown).abs().mean()) < 0.1
    # What no picture tells is in the answers: the pixels' own noise, by its unbiased deviation of four.
    spread = float((logs - mean[:, None, None, None]).std()) * (4 / 3) ** 0.5
    assert 0.8 * NOISE < spread < 1.2 * NOISE


def test_class_and_picture_of_a_map_with_holes_are_what_made_it(model: JointModel) -> None:
    """Classes whose maps cannot be told apart by more than the picture: Bayes' share of right answers, by the integral over what is shown."""
    rng = Rng.for_rows(5, N).of("held out")
    label = rng.of("label").integers(0, 2)
    shown = 2 * rng.of("shown").uniform() - 1
    depth = made(label, shown, rng)
    found = mmcore.sample(model, N, given={"depth": depth}, seed=2, steps=40)
    # The ranges of the two classes' logarithms, -0.5 … 0.5 and 0.5 … 1.5, meet at 0.5 alone.
    there = depth > 0
    some = there.flatten(1).any(1)
    mean = (depth.clamp(min=0.1).log() * there).sum((1, 2, 3)) / there.sum((1, 2, 3)).clamp(min=1)
    clear = some & ((mean - 0.5).abs() > 0.2)
    assert float((found["label"] == label)[clear].float().mean()) > 0.97
    assert float((found["image"].mean((1, 2, 3)) - shown)[clear].abs().mean()) < 0.25


def test_holes_are_filled_by_what_is_around_them(model: JointModel) -> None:
    """Of a map the logarithms differ by noise alone, so a hole is near the mean of the others."""
    rng = Rng.for_rows(6, N).of("held out")
    label, shown = rng.of("label").integers(0, 2), 2 * rng.of("shown").uniform() - 1
    depth = made(label, shown, rng)
    there = depth > 0
    use = there.flatten(1).sum(1) == 3
    depth, there = depth[use], there[use]
    filled = mmcore.sample(model, len(depth), given={"depth": depth}, where={"depth": there}, seed=3, steps=40)["depth"]
    assert torch.equal(filled[there], depth[there])
    gap = filled.log()[~there] - (depth.clamp(min=0.1).log() * there).sum((1, 2, 3)) / 3
    # In the data the gap has a deviation of 0.1 * sqrt(1 + 1/3) = 0.115.
    assert float(gap.mean().abs()) < 0.06
    assert float(gap.std()) < 0.2
