"""A small joint model of values that a test has made, trained in seconds: whether a modality is learned, against what is known of the values."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import mmcore
from mmcore.data import Table, TensorBatch
from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.process import schedule
from mmcore.training import CodeScaleWarning


@contextlib.contextmanager
def codes_of_any_size() -> Iterator[None]:
    """Within, a training does not warn of codes far from unit variance: the kit has checks for that, which name the plugin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CodeScaleWarning)
        yield


def trained(modalities: Sequence[Modality], values: Mapping[str, Tensor], *, width: int = 64, **how: Any) -> JointModel:
    """A model of these modalities, trained on these values on the CPU.

    Args:
        modalities: of the values' names.
        values: ``(n, *spec.shape)`` by name.
        width: of the network, a perceptron of two blocks.
        how: options of :func:`mmcore.fit`, such as ``steps`` and ``roles``.
    """
    options = {"width": width, "depth": 2}
    noise = schedule.cosine(100, len(modalities))
    model = mmcore.compose(modalities, schedule=noise, backbone="mlp", backbone_options=options)
    n = len(next(iter(values.values())))
    rows = Table(TensorBatch(dict(values), torch.ones(n, len(modalities), dtype=torch.bool)))
    with codes_of_any_size():
        mmcore.fit(model, rows, **{"batch_size": 128, "lr": 3e-3, "weighting": "snr", **how}, quiet=True, device="cpu")
    return model
