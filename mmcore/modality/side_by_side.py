"""How draws of several modalities in one sample lie about the truth: each part as it is judged alone, and all of a row jointly."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmcore.modality.calibration import Calibration, depth, distances
from mmcore.modality.packed import PackedSpec

if TYPE_CHECKING:
    from mmcore.modality.base import Modality


def calibration(parts: Mapping[str, "Modality"], spec: PackedSpec, draws: Tensor, truth: Tensor) -> Calibration:
    """What each part answers, its name before every name of its own; and the depth of whole rows, as ``"joint"``.

    Parts have units of their own. So the distance of two values of a row is Euclidean over the parts, each in the part's mean distance among the row's draws and its truth, in which all
    of these have the same say.

    Args:
        parts: by name.
        spec: of them side by side.
        draws: ``(M, B, D)``.
        truth: ``(B, D)``; a part that is void in a row counts nowhere in it.
    """
    M, B = draws.shape[:2]
    told: dict[str, dict[str, Tensor]] = {kind: {} for kind in Calibration.SHAPES}
    apart = torch.zeros(B, M + 1, M + 1, dtype=torch.float64, device=truth.device)
    columns = zip(
        parts.items(),
        spec.split(draws.flatten(0, 1)),
        spec.split(truth),
        spec.split_mask(spec.there(truth)),
        strict=True,
    )
    for (name, part), drawn, true, there in columns:
        x, known = drawn.unflatten(0, (M, B)), there.reshape(B, -1)
        y = _hidden(true, there, part.spec.void)
        # Whole numbers without void have no way to say that one is missing.
        whole = known.any(1) if part.spec.void is not None or y.is_floating_point() else known.all(1)
        # Also where no row has the part, so that all batches of rows tell the same.
        some = whole if whole.any() else torch.arange(B, device=whole.device) == 0
        found = part.calibration(x[:, some], (y if whole.any() else true)[some])
        for kind, own, rows in found.parts():
            told[kind][_of_part(name, own)] = _among(rows[whole[some]], kind, whole)
        between = distances(x.reshape(M, B, -1), true.reshape(B, -1), known & whole[:, None]).double()
        mean = between.sum((1, 2), keepdim=True) / (M * (M + 1))
        apart += (between / mean.where(mean > 0, 1)).square()
    if len(parts) > 1:
        told["depths"]["joint"] = depth(apart.sqrt()).where(spec.there(truth).any(1, keepdim=True), 0)
    return Calibration(**told)


def _among(found: Tensor, kind: str, rows: Tensor) -> Tensor:
    """What is told of some rows, with NaN or counts of 0 in the others."""
    told = found.new_full((len(rows), *found.shape[1:]), torch.nan if kind in ("scores", "means", "spreads") else 0)
    told[rows] = found
    return told


def _hidden(truth: Tensor, there: Tensor, void: float | None) -> Tensor:
    """A part's truth with what is missing as the part itself would say it."""
    if void is not None:
        return truth.where(there, void).to(truth.dtype)
    return truth.where(there, torch.nan) if truth.is_floating_point() else truth


def _of_part(part: str, name: str) -> str:
    """``"age"`` of all elements, ``"pose[2]"`` of one, ``"age_crps"``."""
    return part + name if not name or name.startswith("[") else f"{part}_{name}"
