"""Joint diffusion models over any number of modalities and tasks.

Names are imported when they are first used: ``import mmcore`` alone imports no torch.
"""

from typing import TYPE_CHECKING

from mmcore._lazy import lazily
from mmcore._version import __version__
from mmcore.errors import MmcoreError, OptionError, PluginError, RequestError
from mmcore.hooks import Offer, hookimpl

if TYPE_CHECKING:
    from mmcore import config as config
    from mmcore import data as data
    from mmcore import hub as hub
    from mmcore import metrics as metrics
    from mmcore import process as process
    from mmcore import sampling as sampling
    from mmcore import training as training
    from mmcore.metrics.bound import evaluate
    from mmcore.modality.base import Decoder, Encoder, LossTerm, Metric, Modality, Task
    from mmcore.modality.spec import Spec
    from mmcore.model.backbones.base import Backbone
    from mmcore.model.compose import compose
    from mmcore.model.extending import extend, without
    from mmcore.model.joint import JointModel
    from mmcore.model.roles import Role, RoleMix
    from mmcore.plugins import Registry, discover
    from mmcore.process import Process, Schedule
    from mmcore.rng import Rng
    from mmcore.runs.filling import predict
    from mmcore.runs.reader import Reader
    from mmcore.sampling.ask import sample
    from mmcore.space import Space
    from mmcore.store.model import load, save
    from mmcore.training import fit
    from mmcore.training.specialise import specialise

_WHERE = {
    "Backbone": "model.backbones.base",
    "compose": "model.compose",
    "Decoder": "modality.base",
    "discover": "plugins",
    "Encoder": "modality.base",
    "evaluate": "metrics.bound",
    "extend": "model.extending",
    "fit": "training.loop",
    "JointModel": "model.joint",
    "load": "store.model",
    "LossTerm": "modality.base",
    "Metric": "modality.base",
    "Modality": "modality.base",
    "predict": "runs.filling",
    "Process": "process",
    "Reader": "runs.reader",
    "Registry": "plugins",
    "Rng": "rng",
    "Role": "model.roles",
    "RoleMix": "model.roles",
    "sample": "sampling.ask",
    "save": "store.model",
    "Schedule": "process",
    "Space": "space",
    "specialise": "training.specialise",
    "Spec": "modality.spec",
    "Task": "modality.base",
    "without": "model.extending",
}

_PACKAGES = ("config", "data", "hub", "metrics", "process", "sampling", "training")

__all__ = [
    "Backbone",
    "Decoder",
    "Encoder",
    "JointModel",
    "LossTerm",
    "Metric",
    "MmcoreError",
    "Modality",
    "Offer",
    "OptionError",
    "PluginError",
    "Process",
    "Reader",
    "Registry",
    "RequestError",
    "Rng",
    "Role",
    "RoleMix",
    "Schedule",
    "Space",
    "Spec",
    "Task",
    "__version__",
    "compose",
    "discover",
    "evaluate",
    "extend",
    "fit",
    "hookimpl",
    "load",
    "predict",
    "sample",
    "save",
    "specialise",
    "without",
]

__getattr__ = lazily(__name__, _WHERE, _PACKAGES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, *_PACKAGES})
