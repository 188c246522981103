"""A small model in double precision, in which rounding is far below what a wrong row or timestep would change."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import mmcore
from mmcore import JointModel, Registry


@pytest.fixture(scope="module", autouse=True)
def double() -> Iterator[None]:
    """The default, too, for whoever imports it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def small(registry: Registry, layout: Any, backbone: str | nn.Module = "mlp", **options: Any) -> JointModel:
    """A vector, a label and an image, with random weights, as after some training."""
    parts = [
        registry.modality("clip", name="a", width=3, unit_norm=False),
        registry.modality("label", classes=4),
        registry.modality("image", channels=1, size=4),
    ]
    how = {} if isinstance(backbone, nn.Module) else {"backbone_options": {"width": 16, "depth": 1} | options}
    model = mmcore.compose(parts, layout=layout, backbone=backbone, registry=registry, **how)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model.double()
