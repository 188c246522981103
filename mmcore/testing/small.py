"""A small joint model of values that a test has made, trained in seconds: whether a modality is learned, against what is known of the values."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import mmcore
from mmcore.data import Table, TensorBatch
from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.process import schedule


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
    with warnings.catch_warnings():
        # Whether codes are as large as they should be is another question.
        warnings.filterwarnings("ignore", message="training: over the first")
        mmcore.fit(model, rows, **{"batch_size": 128, "lr": 3e-3, "weighting": "snr", **how}, quiet=True, device="cpu")
    return model
