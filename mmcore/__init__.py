"""Joint diffusion models over any number of modalities and tasks.

Names are imported when they are first used: ``import mmcore`` alone imports no torch.
"""

from typing import TYPE_CHECKING

from mmcore.errors import MmcoreError, PluginError, RequestError
from mmcore.hookspecs import Offer, hookimpl
from mmcore.lazy import lazily

if TYPE_CHECKING:
    from mmcore.checkpoint import load, save
    from mmcore.composition import compose
    from mmcore.evaluation import evaluate
    from mmcore.modality import Decoder, Encoder, LossTerm, Metric, Modality, Spec, Task
    from mmcore.model import JointModel
    from mmcore.plugins import Registry, discover
    from mmcore.process import Process, Schedule
    from mmcore.rng import Rng
    from mmcore.roles import Role, RoleMix
    from mmcore.sampling import sample
    from mmcore.space import Space
    from mmcore.training import fit

__version__ = "0.1.0"

_WHERE = {
    "compose": "composition",
    "Decoder": "modality",
    "discover": "plugins",
    "Encoder": "modality",
    "evaluate": "evaluation",
    "fit": "training",
    "JointModel": "model",
    "load": "checkpoint",
    "LossTerm": "modality",
    "Metric": "modality",
    "Modality": "modality",
    "Process": "process",
    "Registry": "plugins",
    "Rng": "rng",
    "Role": "roles",
    "RoleMix": "roles",
    "sample": "sampling",
    "save": "checkpoint",
    "Schedule": "process",
    "Space": "space",
    "Spec": "modality",
    "Task": "modality",
}

__all__ = [
    "Decoder",
    "Encoder",
    "JointModel",
    "LossTerm",
    "Metric",
    "MmcoreError",
    "Modality",
    "Offer",
    "PluginError",
    "Process",
    "Registry",
    "RequestError",
    "Rng",
    "Role",
    "RoleMix",
    "Schedule",
    "Space",
    "Spec",
    "Task",
    "compose",
    "discover",
    "evaluate",
    "fit",
    "hookimpl",
    "load",
    "sample",
    "save",
]

__getattr__ = lazily(__name__, _WHERE)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
