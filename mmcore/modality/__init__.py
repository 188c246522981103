"""What a plugin author writes: a modality with its encoder, decoder and loss term, and parts to write them with."""

from mmcore.modality.base import (
    Decoder,
    Encoder,
    LossTerm,
    Metric,
    Modality,
    ModalityProtocol,
    Readable,
    Task,
)
from mmcore.modality.calibration import Calibration
from mmcore.modality.noisy import NoisyCode
from mmcore.modality.outward import OutwardProtocol
from mmcore.modality.spec import VOID, Spec

__all__ = [
    "VOID",
    "Calibration",
    "Decoder",
    "Encoder",
    "LossTerm",
    "Metric",
    "Modality",
    "ModalityProtocol",
    "NoisyCode",
    "OutwardProtocol",
    "Readable",
    "Spec",
    "Task",
]
