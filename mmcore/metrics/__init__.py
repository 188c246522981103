"""Metrics: figures with bootstrap intervals, and a report of all that fit a model's answers."""

from mmcore.metrics.bound import Bound, Estimate, Terms, evaluate
from mmcore.metrics.distances import frechet, frechet_distance, kernel, precision, precision_recall, recall
from mmcore.metrics.draws import Calibrated, calibration
from mmcore.metrics.figure import Figure, average, bootstrap, table
from mmcore.metrics.questions import class_probabilities, report
from mmcore.metrics.scores import accuracy, calibration_error, cosine, log_score, mean_iou, retrieval
from mmcore.metrics.squeezenet import SqueezeNet, extract, lpips
from mmcore.metrics.telling import Diagram

__all__ = [
    "Bound",
    "Calibrated",
    "Diagram",
    "Estimate",
    "Figure",
    "SqueezeNet",
    "Terms",
    "accuracy",
    "average",
    "bootstrap",
    "calibration",
    "calibration_error",
    "class_probabilities",
    "cosine",
    "evaluate",
    "extract",
    "frechet",
    "frechet_distance",
    "kernel",
    "log_score",
    "lpips",
    "mean_iou",
    "precision",
    "precision_recall",
    "recall",
    "report",
    "retrieval",
    "table",
]
