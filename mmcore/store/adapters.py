"""A folder of adapters: what was learned beside a network's own weights, and the name and digest of the base that it belongs to.

``adapter_config.json`` and ``adapter_model.safetensors`` are called as peft calls its own; the second has everything that learned, adapters, heads, and what is new in the network.
"""

import json
from pathlib import Path

import attrs
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from mmcore import files
from mmcore.errors import MmcoreError, RequestError
from mmcore.files import expanded
from mmcore.model.adapters import Adapters, adapt, base_digest, own_names, plain
from mmcore.model.joint import JointModel
from mmcore.plugins.metadata import one_line, printable
from mmcore.store.parts import unlike
from mmcore.store.reading import DamagedError, read_json, read_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_adapters(model: JointModel, folder: str | Path, *, base: str) -> Path:
    """Save what a model with adapters has learned, without its base.

    Args:
        model: composed with ``adapters``.
        folder: made where it is missing.
        base: what the base is called, for people.

    Raises:
        RequestError: the model has no adapters, or has grown beside them, so that no file holds its base.
        MmcoreError: the folder cannot be written.
    """
    folder, told = expanded(folder), None if model.config is None else model.config.adapters
    if told is None:
        raise RequestError("adapters: the model has none, expected one that was composed with adapters")
    grown = model.grown
    inside = {f"backbone.{plain(name)}" for name in own_names(model.backbone)}
    if grown is not None and not inside.isdisjoint({*grown.part, *grown.made}):
        raise RequestError(
            "adapters: the model has grown, and what is new in its network learned beside them, so that no file holds their base; save it as a whole, mmcore.save"
        )
    chosen = Adapters.of(told)
    record = {
        "peft_type": "LORA",
        "r": chosen.rank,
        "lora_alpha": chosen.alpha or chosen.rank,
        "base_model_name_or_path": base,
        "base_sha256": base_digest(model.backbone),
        "adapters": told,
    }
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    try:
        files.write(folder / CONFIG, (json.dumps(record, indent=2) + "\n").encode())
        files.write(folder / WEIGHTS, to_bytes(tensors))
    except OSError as error:
        raise MmcoreError(f"adapters: {folder} cannot be written: {error.strerror or error}") from error
    return folder


def load_adapters(model: JointModel, folder: str | Path) -> JointModel:
    """Put saved adapters into a model of the same composition and base, in place.

    Args:
        model: with or without adapters of its own, which are overwritten.
        folder: as :func:`save_adapters` wrote it.

    Raises:
        RequestError: a missing or damaged file, another base than the adapters are of, or another composition.
    """
    folder = expanded(folder)
    path = folder / CONFIG
    try:
        record, tensors = read_json(path), read_tensors(folder / WEIGHTS)
    except DamagedError as error:
        raise RequestError(f"adapters: {error}") from error
    own, theirs = base_digest(model.backbone), str(record.get("base_sha256"))
    if theirs != own:
        name = one_line(str(record.get("base_model_name_or_path")))[:100]
        raise RequestError(
            f"adapters: {folder} belongs to another base, {name!r} of digest {printable(theirs)[:12]}…, not to this one of {own[:12]}…; load them into a model of that base"
        )
    if model.config is None:
        raise RequestError("adapters: the model was not made by mmcore.compose")
    if not isinstance(record.get("adapters"), dict):
        raise RequestError(f'adapters: {path} lacks or misstates adapters, expected a table such as {{"rank": 16}}')
    try:
        chosen = Adapters.of(record["adapters"])
        learned = _learned(model, chosen)
    except RequestError as error:
        raise RequestError(one_line(f"adapters: {path}: {error}")) from error
    # Before anything of that size is made, or changed.
    if lines := unlike(tensors, learned):
        raise RequestError(f"adapters: {folder} does not fit the model: {lines}")
    if model.config.adapters is None:
        adapt(model.backbone, chosen)
        model.config = attrs.evolve(model.config, adapters=chosen.record())
    elif model.config.adapters != chosen.record():
        raise RequestError(
            f"adapters: {folder} has {chosen.record()}, expected those of the model, {model.config.adapters}; load them into a model without any"
        )
    model.load_state_dict(tensors, strict=False)
    return model


def _learned(model: JointModel, chosen: Adapters) -> dict[str, Tensor]:
    """What learns of a model with these adapters, which are not made: their shapes stand for them.

    Raises:
        RequestError: they name no layer.
    """
    named = dict(model.named_parameters())
    if model.config is not None and model.config.adapters is not None:
        return {name: p for name, p in named.items() if p.requires_grad}
    own, found = {f"backbone.{name}" for name in own_names(model.backbone)}, dict[str, Tensor]()
    for place in chosen.layers(model.backbone):
        weight = named[f"backbone.{place}.weight"]
        for part, shape in (("A", (chosen.rank, weight.shape[1])), ("B", (weight.shape[0], chosen.rank))):
            name = f"backbone.{place}.lora_{part}.default.weight"
            found[name] = torch.empty(shape, dtype=weight.dtype, device="meta")
    fresh = {
        name: p for name, p in named.items() if name not in own and (p.requires_grad or name.startswith("backbone."))
    }
    return fresh | found
