"""A question to a trained model, asked: the one way of ``mmcore sample``, of :meth:`mmcore.Reader.ask` and of ``mmcore play``."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.runs.beyond import Beyond
from mmcore.sampling.ask import sample

if TYPE_CHECKING:
    from mmcore.runs.reader import Reader


@attrs.frozen(eq=False)
class Asked:
    """A question and its answer.

    Attributes:
        n: how many samples.
        values: ``(n, *spec.shape)`` by name, on the CPU; what was given is among them.
        question: what was asked, as plain values.
        beyond: what of the given values is far from the training rows.
    """

    n: int
    values: dict[str, Tensor]
    question: dict[str, Any]
    beyond: Beyond


def ask(
    reader: "Reader",
    n: int | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    where: Mapping[str, str | Path | np.ndarray] | None = None,
    absent: Collection[str] = (),
    start: Mapping[str, Any] | None = None,
    strength: float | None = None,
    guidance: Mapping[str, float] | None = None,
    guide: str | None = None,
    watch: Callable[[int, int], None] | None = None,
    signs: str = "",
    **how: Any,
) -> Asked:
    """Ask a model about values as data have them.

    Args:
        reader: of the model, which reads them as its training data were read.
        n: how many samples; by default one for each value given, or if there is but one as many as the run's configuration says.
        given: by variable what is known: a file, a folder or pattern of files, a table, a word or number; or a list of raw values.
        where: of what is given, which parts are known: a picture, white where it is, a ``.npy`` file of booleans, or such an array.
        absent: modalities to leave out.
        start: values to edit, of every modality that is generated.
        strength: of an edit, as :func:`mmcore.sample` has it.
        guidance: by given modality the scale of guidance.
        guide: a plugin's guidance, for these scales.
        watch: as :func:`mmcore.sample` has it.
        signs: what messages put before an option's name, such as ``"--"``.
        **how: of :func:`mmcore.sample`, such as ``steps``, ``sampler`` or ``seed``; by default as the run's configuration says.

    Raises:
        RequestError: a value that cannot be read, or a question that makes no sense.
    """
    given, where, start = given or {}, where or {}, start or {}
    settled = reader.asking(**how)
    if strength is not None:
        if not start:
            raise RequestError(
                f"{signs}strength without {signs}start, expected name=value to edit, such as {signs}start image=a.png"
            )
        settled["strength"] = strength
    scales = dict(guidance or {})
    if guide is not None and not scales:
        raise RequestError(
            f"{signs}guide without {signs}guidance, expected name=scale, such as {signs}guidance label=2"
        )
    for name in where:
        if name not in given:
            raise RequestError(
                f"{signs}where {name} without {signs}given {name}, expected the value of which parts are known"
            )
    values, edited = reader.asked(given, option=f"{signs}given"), reader.asked(start, option=f"{signs}start")
    several = max(len(values.rows), len(edited.rows))
    count = n or (several if several > 1 else reader.n)
    answer = sample(
        reader.model,
        count,
        given=values.repeated(count, f"{signs}given"),
        where={name: reader.known(name, mask, values, count) for name, mask in where.items()},
        start=edited.repeated(count, f"{signs}start") or None,
        absent=list(absent),
        guidance=scales if guide is None else reader.registry.guidance(guide, scales=scales),
        registry=reader.registry,
        watch=watch,
        **settled,
    )
    beyond = Beyond(reader.model)
    beyond.see(values.tensors, {name: torch.ones(len(x), dtype=torch.bool) for name, x in values.tensors.items()})
    told = {"given": given, "where": where, "start": start, "guide": guide, "absent": list(absent), "guidance": scales}
    return Asked(count, answer, {"n": count, **told, **settled}, beyond)
