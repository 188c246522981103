"""What a plugin author writes: a modality with its encoder, decoder and loss term, and parts to write them with."""

from mmcore.modality.base import VOID, Decoder, Encoder, LossTerm, Metric, Modality, ModalityProtocol, Spec, Task

__all__ = ["VOID", "Decoder", "Encoder", "LossTerm", "Metric", "Modality", "ModalityProtocol", "Spec", "Task"]
