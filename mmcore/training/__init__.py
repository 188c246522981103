"""Training: :func:`fit`, its options and state, one optimizer step, and trackers."""

from mmcore.training.loop import fit
from mmcore.training.options import TrainOptions
from mmcore.training.scale import CodeScaleWarning
from mmcore.training.state import TrainState
from mmcore.training.step import StepReport, training_step
from mmcore.training.trackers import Tracker

__all__ = ["CodeScaleWarning", "StepReport", "Tracker", "TrainOptions", "TrainState", "fit", "training_step"]
