"""Which weights learn: all that can, or only what a model's extension added."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from mmcore.errors import RequestError
from mmcore.model.adapters import own_names, plain
from mmcore.model.joint import JointModel

LEARNS = ("all", "new")


def fresh_columns(model: JointModel, learns: str) -> Mapping[str, Tensor]:
    """Of weights that are new in part and do not learn as a whole, which elements are new, by the parameter's name; nothing where all learn.

    Raises:
        RequestError: ``"new"``, and the model has grown from none, or was read from a folder since.
    """
    if learns == "all" and not _grown_beside_adapters(model):
        return {}
    if model.grown is None or model.grown.fresh is None:
        fault = (
            "has grown from none"
            if model.grown is None
            else "was read from a folder, which does not keep what of it is new"
        )
        raise RequestError(
            f"training: learns = 'new', but the model {fault}; extend a model, mmcore.extend(model, [modality]), or train --from MODEL"
        )
    fresh = {name: mask for name, mask in model.grown.fresh.items() if mask.any()}
    whole = _learn_anyway(model) if learns == "all" else set()
    return {
        name: fresh[plain(name)] for name, _ in model.named_parameters() if plain(name) in fresh and name not in whole
    }


@contextmanager
def learning(model: JointModel, learns: str) -> Iterator[None]:
    """Within, with ``"new"``, what went over from another model does not learn; adapters that were put in since do.

    With ``"all"`` and adapters the network's own weights do not learn, but for those that an extension added.

    Of a weight that is new in part, the rest has no gradient, and as it has no decay either (:meth:`TrainState.start`) its bytes stay.

    Raises:
        RequestError: as :func:`fresh_columns`.
    """
    fresh = fresh_columns(model, learns)
    if learns == "all" and not _grown_beside_adapters(model):
        yield
        return
    assert model.grown is not None
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    own = {*model.grown.made, *(line.partition(" ")[0] for line in model.grown.unfit)}
    old = {*model.grown.over, *model.grown.part}
    hooks = []
    for name, p in model.named_parameters():
        if name in fresh:
            p.requires_grad_(True)
            mask = fresh[name].to(p.device)
            hooks.append(p.register_hook(lambda grad, mask=mask: grad * mask))
        elif plain(name) in old and learns == "new":
            p.requires_grad_(False)
        elif plain(name) in own and name.startswith("backbone."):
            p.requires_grad_(True)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, p in model.named_parameters():
            p.requires_grad_(before[name])


def _grown_beside_adapters(model: JointModel) -> bool:
    """Whether an extension added to a network whose own weights do not learn."""
    adapted = model.config is not None and model.config.adapters is not None
    return adapted and model.grown is not None and model.grown.fresh is not None


def _learn_anyway(model: JointModel) -> set[str]:
    """What learns as a whole beside adapters: all but the network's own weights."""
    inside = {f"backbone.{name}" for name in own_names(model.backbone)}
    return {name for name, _ in model.named_parameters() if name not in inside}
