"""An installed plugin that counts how often each of its parts is made."""

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

import mmcore
from tests.installing import install

CODE = """
import collections

import torch
from mmcore_label.modality import LabelModality
from torch import nn

from mmcore import Offer, hookimpl
from mmcore.process import schedule

made = collections.Counter()


class Label(LabelModality):
    def __init__(self, classes: int = 4, *, frequencies: list[float] | None = None) -> None:
        made["modality"] += 1
        super().__init__(classes, frequencies=frequencies)

    def encoder(self):
        made["encoder"] += 1
        return super().encoder()

    def decoder(self, width, space):
        made["decoder"] += 1
        return super().decoder(width, space)


class Net(nn.Module):
    features = 2

    def __init__(self, *, space, modalities, steps, blocks=1, width: int = 4, depth: int = 1) -> None:
        made["backbone"] += 1
        if width > 8:
            raise ValueError(f"a width of {width} is too much")
        super().__init__()
        self.read = nn.Linear(3 * space.shape[0], width)
        self.write = nn.Linear(width, 2)

    def forward(self, z, t, roles, condition):
        return self.write(self.read(torch.cat([z, condition], 1).movedim(1, -1))).movedim(-1, 1)


def rows(part: str = "train", count: int = 12):
    made["source"] += 1
    return [{"first": i % 4, "second": i % 3} for i in range(count)]


def even(steps: int, modalities: int, gains: list[float] | None = None):
    made["schedule"] += 1
    return schedule.cosine(steps, modalities, gains)


@hookimpl
def mmcore_modalities():
    return [Offer("counted", "counting_plugin:Label")]


@hookimpl
def mmcore_backbones():
    return [Offer("counted", "counting_plugin:Net")]


@hookimpl
def mmcore_schedules():
    return [Offer("counted", "counting_plugin:even")]


@hookimpl
def mmcore_sources():
    return [Offer("counted", "counting_plugin:rows")]
"""
KINDS = ("modality", "backbone", "schedule", "source")


def counting(folder: Path, patch: pytest.MonkeyPatch) -> tuple[mmcore.Registry, "Counter[str]"]:
    """The registry that has it, and what was made so far."""
    install(folder, "counting", {f"{kind}.counted": "counting_plugin" for kind in KINDS}, {"counting_plugin": CODE})
    patch.syspath_prepend(str(folder))
    patch.setattr(sys, "dont_write_bytecode", True)
    patch.delitem(sys.modules, "counting_plugin", raising=False)
    return mmcore.discover(), importlib.import_module("counting_plugin").made
