"""A local folder of a model of diffusers: ``config.json`` and weights as safetensors. Nothing is downloaded, and nothing of it is executed.

A configuration names a class and the arguments of its constructor. The class is looked up among diffusers' own models, and only what its
constructor takes is given to it.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from mmcore import RequestError
from mmcore.errors import nearest
from mmcore.files import expanded
from mmcore.modality.pretrained import Pretrained, WeightsFile
from mmcore.store.reading import DamagedError, read_json

WEIGHTS = "diffusion_pytorch_model.safetensors"
_LEGACY = {("Transformer2DModel", "ada_norm_zero"): "DiTTransformer2DModel"}
"""Classes that had another name, by that name and their norm."""
_FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of attention, by what diffusers called them before its version 0.17: most autoencoders that are published have these names."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@attrs.frozen
class Folder:
    """What a folder holds.

    Attributes:
        path: where it is.
        model: the name of its class.
        config: the arguments of its constructor.
        weights: its one file of weights.
    """

    path: Path
    model: str
    config: Mapping[str, Any]
    weights: WeightsFile

    @classmethod
    def read(cls, given: str | Path | WeightsFile, subject: str, expected: Sequence[str]) -> "Folder":
        """A folder, or the one in which a file of weights lies.

        Args:
            given: its path; or the file, as :func:`mmcore.load` finds it by its digest.
            subject: what messages begin with.
            expected: the classes that it may be of.

        Raises:
            RequestError: no such folder, none of a model of diffusers, or a model of another class.
        """
        if isinstance(given, WeightsFile):
            if given.path is None:
                raise RequestError(
                    f"{subject}: of the weights {given.sha256[:12]}… nothing but the digest is known; give their folder"
                )
            path, file = given.path.parent, given
        else:
            path, file = expanded(given), None
        model, config = _described(path, subject)
        if model not in expected:
            raise RequestError(
                f"{subject}: {path} holds a {model}, expected {' or '.join(expected)}{nearest(model, expected)}"
            )
        if file is None:
            file = WeightsFile.of(_weights(path, subject), keep="beside")
        return cls(path, model, config, file)

    @property
    def digest(self) -> str:
        """Of weights, class and configuration together: whatever computes otherwise has another."""
        told = json.dumps([self.model, self.config, self.weights.sha256], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of its constructor, with the defaults of those that the configuration leaves out; nothing of what is None by default."""
        own = defaults(self.model, "diffusers")
        found = {key: list(x) if isinstance(x, tuple) else x for key, x in {**own, **self.config}.items()}
        return {key: x for key, x in found.items() if x is not None or own.get(key) is not None}

    def load(self, subject: str) -> nn.Module:
        """The model with its weights, frozen.

        Raises:
            RequestError: a configuration that its class refuses, or weights of another network.
        """
        return Pretrained(lambda: self.make(subject), self.weights, _today).network

    def make(self, subject: str) -> nn.Module:
        """The model with initial weights.

        Raises:
            RequestError: a configuration that its class refuses.
        """
        return make(self.model, self.config, subject)


def _described(path: Path, subject: str) -> tuple[str, dict[str, Any]]:
    if not path.is_dir():
        raise RequestError(f"{subject}: found no folder {path}, expected a local folder of a model of diffusers")
    if not (path / "config.json").is_file():
        parts = sorted(one.parent.name for one in path.glob("*/config.json"))
        hint = f"; it may be one of its parts: {', '.join(parts[:6])}" if parts else ""
        raise RequestError(
            f"{subject}: found no config.json in {path}, expected a folder of a model of diffusers{hint}"
        )
    try:
        config = read_json(path / "config.json")
    except DamagedError as error:
        raise RequestError(f"{subject}: {error}") from error
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise RequestError(f"{subject}: {path / 'config.json'} names no _class_name, expected a model of diffusers")
    name = _LEGACY.get((name, str(config.get("norm_type"))), name)
    return name, {key: value for key, value in config.items() if not key.startswith("_")}


def _today(name: str) -> str:
    """What a weight is called now."""
    place, _, rest = name.rpartition(".")
    parent, _, layer = place.rpartition(".")
    return f"{parent}.{_FORMER[layer]}.{rest}" if layer in _FORMER else name


def _weights(path: Path, subject: str) -> Path:
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    there = sorted(path.glob("*.safetensors"))
    if len(there) == 1:
        return there[0]
    if there:
        raise RequestError(
            f"{subject}: found {len(there)} files of weights in {path}, expected one, {WEIGHTS}; diffusers joins them: load the model and "
            'save it elsewhere, save_pretrained(…, max_shard_size="99GB")'
        )
    pickles = sorted(one.name for one in path.iterdir() if one.suffix in _PICKLES)
    hint = f"; {pickles[0]} there may be a pickle, which is never read" if pickles else ""
    raise RequestError(f"{subject}: found no {WEIGHTS} in {path}, expected weights as safetensors{hint}")


def class_of(name: str, subject: str) -> type[nn.Module]:
    """One of diffusers' models by the name of its class.

    Raises:
        RequestError: there is none.
    """
    import diffusers
    from diffusers.models.modeling_utils import ModelMixin

    found = getattr(diffusers, name, None) if name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, ModelMixin)):
        raise RequestError(f"{subject}: diffusers {diffusers.__version__} has no model {name!r}")
    return found


def defaults(name: str, subject: str) -> dict[str, Any]:
    """What the constructor of one of diffusers' models takes where nothing is said.

    Raises:
        RequestError: there is no such class.
    """
    parameters = inspect.signature(class_of(name, subject).__init__).parameters
    return {key: p.default for key, p in parameters.items() if p.default is not p.empty}


def make(name: str, config: Mapping[str, Any], subject: str) -> nn.Module:
    """A model of diffusers with initial weights; what its constructor does not take is left out.

    Raises:
        RequestError: no such class, or one that refuses the configuration.
    """
    kind = class_of(name, subject)
    takes = inspect.signature(kind.__init__).parameters
    try:
        return kind(**{key: value for key, value in config.items() if key in takes})
    except RequestError:
        raise
    except Exception as error:  # the library raises many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(f"{subject}: {name} cannot be made of its configuration: {reason}") from error
