"""A small joint model of a picture, a label and a sound: what it answers, against what is known of the data."""

import math

import pytest
import torch

import mmcore
from mmcore import JointModel, Rng, RoleMix
from mmcore.testing.small import trained

RATE, LENGTH, PERIODS = 1000, 32, (16, 8)
"""A class's tone has a period of so many samples, any phase, and a loudness that the picture shows."""
NOISE = 0.05
N = 500


def made(label: torch.Tensor, loud: torch.Tensor, rng: Rng) -> torch.Tensor:
    period = torch.tensor(PERIODS)[label][:, None]
    phase = 2 * math.pi * rng.of("phase").uniform(1)
    tone = loud[:, None] * torch.sin(2 * math.pi * torch.arange(LENGTH) / period + phase)
    return (tone + NOISE * rng.of("noise").normal(LENGTH))[:, None].clamp(-1, 1)


def amplitudes(x: torch.Tensor) -> torch.Tensor:
    """Of both tones in sounds ``(B, 1, LENGTH)``, by projection: ``(B, 2)``."""
    found = []
    for period in PERIODS:
        angle = 2 * math.pi * torch.arange(LENGTH) / period
        parts = torch.stack([angle.sin(), angle.cos()]) * 2 / LENGTH
        found.append((x[:, 0] @ parts.T).norm(dim=1))
    return torch.stack(found, 1)


@pytest.fixture(scope="module")
def model() -> JointModel:
    registry = mmcore.discover()
    rng = Rng.for_rows(0, 20_000).of("data")
    label = rng.of("label").integers(0, 2)
    loud = 0.2 + 0.6 * rng.of("loud").uniform()
    values = {"image": (2 * loud - 1)[:, None, None, None].expand(-1, 1, 2, 2).clone(), "label": label, "audio": made(label, loud, rng)}  # fmt: skip
    audio = {"rate": RATE, "seconds": LENGTH / RATE}
    figures = registry.modality("audio", **audio).measured(values["audio"])
    parts = [
        registry.modality("image", channels=1, size=2, mean=0.0, std=0.35),
        registry.modality("label", classes=2),
        registry.modality("audio", **audio, **figures),
    ]
    return trained(parts, values, width=96, steps=1200, roles=RoleMix(joint=0.2, single=0.4))


def test_the_sound_of_a_class_and_a_picture_is_its_tone_as_loud_as_it_shows(model: JointModel) -> None:
    label = torch.arange(N) % 2
    loud = 0.2 + 0.6 * torch.arange(N) / N
    image = (2 * loud - 1)[:, None, None, None].expand(-1, 1, 2, 2)
    x = mmcore.sample(model, N, given={"image": image, "label": label}, seed=1, steps=40)["audio"]
    found = amplitudes(x)
    own, other = found.gather(1, label[:, None])[:, 0], found.gather(1, 1 - label[:, None])[:, 0]
    assert float((own > other).float().mean()) > 0.95
    # The data's own error is that of the noise in a projection, 0.05 * sqrt(2 / 32) = 0.0125.
    assert float((own - loud).abs().mean()) < 0.08
    # The phase is any: its mean direction is short, of N = 500 below 0.13 in 999 of 1000 draws.
    angle = 2 * math.pi * torch.arange(LENGTH) / PERIODS[0]
    mine = x[label == 0][:, 0]
    phase = torch.atan2(mine @ angle.cos(), mine @ angle.sin())
    assert float(torch.polar(torch.ones_like(phase), phase).mean().abs()) < 0.25


def test_the_class_and_the_picture_of_a_sound_are_what_made_it(model: JointModel) -> None:
    rng = Rng.for_rows(5, N).of("held out")
    label, loud = rng.of("label").integers(0, 2), 0.2 + 0.6 * rng.of("loud").uniform()
    found = mmcore.sample(model, N, given={"audio": made(label, loud, rng)}, seed=2, steps=40)
    assert float((found["label"] == label).float().mean()) > 0.97
    assert float(((found["image"].mean((1, 2, 3)) + 1) / 2 - loud).abs().mean()) < 0.08
