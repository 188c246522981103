"""A model's answers to questions beside held-out rows: every figure that fits what is asked for.

A question is ``"joint"``, or what is given and what is asked, ``"image->label"``, several of each by commas. What is
neither is generated along. Which figures fit a variable follows from its spec:

- integers without a shape are classes: calibration error, log score and accuracy of the network's probabilities;
- integers with a shape are maps of classes: mean intersection over union;
- floats with one axis are vectors: cosine, and retrieval among the held-out rows;
- floats ``(1 or 3, H, W)`` with limits are images: LPIPS, and the distances of sets in SqueezeNet's features, where there are weights.

Before them come the figures per sample that the modality itself offers, as means.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from mmcore.data import Dataset, Table
from mmcore.errors import PluginError, RequestError, nearest
from mmcore.metrics import distances, scores
from mmcore.metrics.figure import Figure, average
from mmcore.metrics.squeezenet import SqueezeNet, extract, lpips
from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating
from mmcore.options import check_call, counted, require
from mmcore.rng import Rng
from mmcore.sampling import Denoiser, Here, Question, sample

Extractor = Callable[[Tensor], Tensor]
_GIVEN = ("model", "n", "given", "where", "absent", "start", "strength", "numbers", "seed")
_SAMPLING = tuple(name for name in inspect.signature(sample).parameters if name not in _GIVEN)
"""The arguments of :func:`mmcore.sample` that say how the answers are found."""
_TOPS = (1, 5)
_NEIGHBOURS = 3


@attrs.frozen
class Asked:
    """A question in words.

    Attributes:
        given: the variables observed, in the model's order; none for ``"joint"``.
        asked: the variables whose answers are measured.
    """

    given: tuple[str, ...]
    asked: tuple[str, ...]

    @classmethod
    def read(cls, text: str, model: JointModel) -> Self:
        """From ``"joint"`` or ``"given,…->asked,…"``.

        Raises:
            RequestError: neither, an unknown name, or a name that cannot be where it is.
        """
        names = [m.name for m in model.variables]
        readable = tuple(name for name in names if model.heads.reads(name))
        if text.strip() == "joint":
            return cls((), readable)
        left, arrow, right = text.partition("->")
        given, asked = ([name.strip() for name in side.split(",")] for side in (left, right))
        if not arrow or "" in (*given, *asked):
            raise RequestError(
                f"question {text!r}, expected 'joint' or what is given and what is asked, such as 'image->label'"
            )
        encoded = [m.name for m in model.modalities]
        for side, allowed in ((given, encoded), (asked, readable)):
            for name in side:
                if name not in names:
                    raise RequestError(f"question {text!r}: no variable {name!r}, expected one of {', '.join(names)}")
                if name not in allowed:
                    why = "it has no encoding: it can only be asked" if side is given else "no task recovers it"
                    raise RequestError(f"question {text!r}: {name!r} cannot be there, {why}")
        if both := set(given) & set(asked):
            raise RequestError(f"question {text!r}: {', '.join(sorted(both))} both given and asked, expected one")
        return cls(tuple(name for name in names if name in given), tuple(name for name in names if name in asked))

    @classmethod
    def every(cls, model: JointModel) -> list[Self]:
        """Each variable that a task recovers, from all others."""
        encoded = [m.name for m in model.modalities]
        questions = []
        for m in model.variables:
            others = tuple(name for name in encoded if name != m.name)
            # Something that has an encoding must be left to generate.
            if model.heads.reads(m.name) and m.name in encoded and others:
                questions.append(cls(others, (m.name,)))
        return questions

    def __str__(self) -> str:
        return f"{','.join(self.given)}->{','.join(self.asked)}" if self.given else "joint"


def report(
    model: JointModel,
    table: Iterable[Mapping[str, Any]] | Dataset | Table,
    questions: str | Sequence[str] | None = None,
    *,
    weights: str | Path | None = None,
    features: Mapping[str, Extractor] | None = None,
    seed: int = 0,
    resamples: int | None = None,
    **sampling: Any,
) -> dict[str, Figure]:
    """Evaluate a model: every metric that fits each question's answers, as ``{"image->label label.accuracy": …}``.

    A row takes part in a question where it has all that is given, and in a variable's figures where it has the variable too. Joint samples
    are as many as rows.

    Args:
        model: a joint model.
        table: held-out rows, of which neither the model nor an extractor has learned: mappings from variable name to raw value, or a
            :class:`mmcore.data.Table` of them.
        questions: ``"joint"`` or such as ``"image->label"``; by default each variable from all others, and ``"joint"`` where an
            extractor can judge its samples.
        weights: a safetensors file for :meth:`SqueezeNet.load <mmcore.metrics.SqueezeNet.load>`, for the figures of images.
        features: extractors ``(n, *spec.shape) -> (n, d)`` by variable, for the distances of sets, called with tensors on the CPU; before
            SqueezeNet's.
        seed: of the samples and the intervals.
        resamples: of every interval; by default each figure's own number.
        sampling: options of :func:`mmcore.sample`, such as ``steps``.

    Raises:
        RequestError: a question that makes no sense, for which there are no rows, or that no figure fits; weights that
            cannot be used.
    """
    check_call(report, locals())
    check_measured(resamples=resamples, sampling=sampling)
    network = None if weights is None else SqueezeNet.load(weights, model.device)
    extractors = dict(features or {})
    for name in extractors:
        model.variable(name)
    if network is not None:
        for m in model.variables:
            if _is_image(m):
                extractors.setdefault(m.name, _Pixels(m, network))
    if questions is None:
        asked = Asked.every(model)
        if any(model.heads.reads(name) for name in extractors):
            asked.append(Asked.read("joint", model))
    else:
        asked = [Asked.read(text, model) for text in ([questions] if isinstance(questions, str) else questions)]
    if not asked:
        raise RequestError(
            "metrics: nothing to ask; give questions, or weights or features to measure joint samples by"
        )
    options = {"seed": seed} | ({} if resamples is None else {"resamples": resamples})
    measure = _Measure(model, Table.of(table, model.variables), network, extractors, options)
    answers: dict[tuple[str, ...], dict[str, Tensor]] = {}
    figures: dict[str, Figure] = {}
    for question in asked:
        if question.given not in answers:
            values = measure.rows(question.given)
            given = {name: values[name] for name in question.given}
            count = len(next(iter(values.values())))
            answers[question.given] = sample(model, count, given=given, seed=seed, **sampling)
        answered = {
            f"{question} {name}.{figure}": value
            for name in question.asked
            for figure, value in measure(question.given, name, answers[question.given]).items()
        }
        if not answered:
            raise RequestError(
                f"question '{question}': no figure fits {', '.join(question.asked)}; give weights or features to measure by"
            )
        figures |= answered
    return figures


def check_measured(*, resamples: int | None, sampling: Mapping[str, Any]) -> None:
    """Refuse what no interval and no answer can be had by, before any work.

    Raises:
        RequestError: naming it.
    """
    require("metrics", resamples=(resamples, counted(2).or_none()))
    for name in sampling:
        if name not in _SAMPLING:
            raise RequestError(
                f"metrics: {name} is no option of sampling, expected some of {', '.join(_SAMPLING)}{nearest(name, _SAMPLING)}"
            )


@attrs.frozen(eq=False)
class _Measure:
    """Answers beside a table's rows."""

    model: JointModel
    table: Table
    network: SqueezeNet | None
    extractors: dict[str, Extractor]
    options: dict[str, int]

    def has(self, names: Sequence[str]) -> Tensor:
        """Which rows have all these variables, ``(rows,)``."""
        columns = [m.name for m in self.model.variables]
        present = self.table.rows.present
        return present[:, [columns.index(name) for name in names]].all(1)

    def rows(self, given: tuple[str, ...]) -> dict[str, Tensor]:
        """The values of the rows that take part in a question."""
        has = self.has(given)
        if not has.any():
            raise RequestError(f"metrics: no row has {' and '.join(given)}, expected one at least")
        return {name: x[has] for name, x in self.table.rows.values.items()}

    def __call__(self, given: tuple[str, ...], name: str, answers: Mapping[str, Tensor]) -> dict[str, Figure]:
        """The figures of one variable."""
        m = self.model.variable(name)
        values = self.rows(given)
        known = self.has([name])[self.has(given)]
        if not known.any():
            raise RequestError(f"metrics: no row has {' and '.join((*given, name))}, expected one at least")
        truth = values[name][known]
        if not given:
            return self._sets(m, answers[name], truth)
        answer = answers[name][known]
        figures = self._own(m, answer, truth)
        for figure, value in self._by_spec(m, answer, truth).items():
            figures.setdefault(figure, value)
        if _is_class(m) and (p := self._probabilities(given, name, values)) is not None:
            figures["classifier_accuracy"] = scores.accuracy(p[known].argmax(1) + _low(m), truth, **self.options)
            figures["calibration_error"] = scores.calibration_error(p[known], truth - _low(m), **self.options)
            figures["log_score"] = scores.log_score(p[known], truth - _low(m), **self.options)
        return figures | self._sets(m, answer, truth)

    def _own(self, m: Modality, answer: Tensor, truth: Tensor) -> dict[str, Figure]:
        figures = {}
        for figure, metric in m.metrics().items():
            values = metric(answer, truth)
            if not isinstance(values, Tensor) or values.shape != (len(truth),):
                returned = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise PluginError(
                    f"modality {m.name!r}: its metric {figure!r} gave {returned}, expected one figure for each of {len(truth)} samples"
                )
            if m.spec.void is not None:
                # Of what is void there is no score.
                values = values[~values.isnan()]
            if len(values):
                figures[figure] = average(values, **self.options)
        if figures:
            figures |= {figure: Figure(value, n, value, value) for figure, (value, n) in m.floors().items()}
        return figures

    def _by_spec(self, m: Modality, answer: Tensor, truth: Tensor) -> dict[str, Figure]:
        spec = m.spec
        if _is_map(m):
            low, void = _low(m), None if spec.void is None else int(spec.void) - _low(m)
            classes = int(spec.high or 0) - low + 1
            return {"mean_iou": scores.mean_iou(answer - low, truth - low, classes, void=void, **self.options)}
        if spec.dtype.is_floating_point and len(spec.shape) == 1 and spec.void is None:
            figures = {"cosine": scores.cosine(answer, truth, **self.options)}
            for top in _TOPS:
                if len(truth) > top:
                    figures[f"top{top}"] = scores.retrieval(answer, truth, top=top, **self.options)
            return figures
        if _is_image(m) and self.network is not None and len(self.network.linear):
            # Where the truth is void, any answer is as good.
            answer = torch.where(spec.there(truth), answer, truth)
            generated, real = (_pixels(m, x).to(self.model.device) for x in (answer, truth))
            return {"lpips": lpips(generated, real, self.network, **self.options)}
        return {}

    def _sets(self, m: Modality, generated: Tensor, real: Tensor) -> dict[str, Figure]:
        if m.name not in self.extractors:
            return {}
        a, b = (extract(self.extractors[m.name], x) for x in (generated, real))
        if min(len(a), len(b)) <= _NEIGHBOURS:
            raise RequestError(
                f"metrics: {min(len(a), len(b))} samples of {m.name!r} to compare as sets, expected more than {_NEIGHBOURS}"
            )
        figures = (distances.frechet, distances.kernel, distances.precision, distances.recall)
        return {figure.__name__: figure(a, b, **self.options) for figure in figures}

    def _probabilities(self, given: tuple[str, ...], name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        """As :func:`class_probabilities`; None where the task's decoder or loss is not the modality's own."""
        task = next(
            task for task, target in zip(self.model.tasks, self.model.heads.targets, strict=True) if target.name == name
        )
        if task.decoder is not None or task.loss is not None:
            return None
        return class_probabilities(self.model, {k: values[k] for k in given}, name, seed=self.options["seed"])


def class_probabilities(
    model: JointModel, given: Mapping[str, Tensor], name: str, *, seed: int = 0, batch_size: int = 500
) -> Tensor:
    """The model as a classifier: probabilities of a variable's classes given others, ``(n, K)``, by one call of the network for each row.

    At ``t = T`` the space holds nothing but noise and what is observed, so that the predicted distribution is the conditional one. It
    is read by the modality's loss term, ``p_k ∝ exp(-loss(params, k))``.

    Args:
        model: a joint model.
        given: observed values ``(n, *spec.shape)`` by name, one at least.
        name: of a variable of classes: integers without a shape, within limits.
        seed: of the noise.
        batch_size: rows at once.

    Raises:
        RequestError: a variable without classes or task, or one that is given, or nothing given.
    """
    m = model.variable(name)
    if not _is_class(m) or not model.heads.reads(name) or name in given or not given:
        raise RequestError(
            f"probabilities of {name!r} given {', '.join(given) or 'nothing'}: expected a variable of classes that a task recovers, and others given"
        )
    n = len(next(iter(given.values())))
    for other, x in given.items():
        model.variable(other).spec.check(x, f"given {other!r}")
    loss, parts = m.loss(), []
    with evaluating(model), torch.inference_mode():
        for rows in torch.arange(n).split(batch_size):
            params = _at_the_end(model, {k: x[rows] for k, x in given.items()}, rows, seed)[name]
            classes = range(_low(m), int(m.spec.high or 0) + 1)
            targets = (torch.full((len(rows),), k, dtype=m.spec.dtype, device=model.device) for k in classes)
            parts.append(torch.stack([-loss(params, target) for target in targets], 1).double().softmax(1).cpu())
    return torch.cat(parts)


def _at_the_end(model: JointModel, given: Mapping[str, Tensor], rows: Tensor, seed: int) -> dict[str, Tensor]:
    """Parameters by variable, predicted at ``T`` from noise and what is given."""
    device, T = model.device, model.process.steps
    question = Question.ask(model, len(rows), given=given, where={}, absent=())
    denoiser = Denoiser(model, question.to(device))
    noise = Rng(seed, rows.to(device)).of("probabilities").normal(*model.space.shape, dtype=denoiser.known.dtype)
    predictions = denoiser.at(Here(denoiser.begin(T, noise), T))
    return {m.name: model.heads.params(predictions, m.name) for m in model.variables if model.heads.reads(m.name)}


def _integers(m: Modality) -> bool:
    dtype = m.spec.dtype
    whole = not dtype.is_floating_point and not dtype.is_complex and dtype != torch.bool
    return whole and m.spec.low is not None and m.spec.high is not None


def _low(m: Modality) -> int:
    return int(m.spec.low or 0)


def _is_class(m: Modality) -> bool:
    return _integers(m) and m.spec.shape == ()


def _is_map(m: Modality) -> bool:
    return m.discrete and _integers(m) and m.spec.shape != ()


def _is_image(m: Modality) -> bool:
    spec = m.spec
    limits = spec.low is not None and spec.high is not None
    return spec.dtype.is_floating_point and limits and len(spec.shape) == 3 and spec.shape[0] in (1, 3)


def _pixels(m: Modality, x: Tensor) -> Tensor:
    """From the spec's range to -1 … 1."""
    low, high = float(m.spec.low or 0), float(m.spec.high or 0)
    return (2 * (x - low) / (high - low) - 1).clamp(-1, 1)


@attrs.frozen(eq=False)
class _Pixels:
    """SqueezeNet's features of a modality's images."""

    modality: Modality
    network: SqueezeNet

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(_pixels(self.modality, x).to(next(self.network.parameters()).device))
