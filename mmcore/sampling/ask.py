r"""Sampling: jointly, conditioned on given values, or inpainted.

:func:`sample` visits decreasing timesteps from ``T`` to 1. At each the sampler asks the :class:`~mmcore.sampling.denoiser.Denoiser` for the
codes that the model predicts and moves on by :meth:`mmcore.Process.step`; the answer is read at the last timestep.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from mmcore.errors import OptionError, RequestError
from mmcore.model.joint import JointModel
from mmcore.model.mode import evaluating
from mmcore.model.roles import Role
from mmcore.options import check_call
from mmcore.plugins import Registry
from mmcore.process import Process
from mmcore.rng import Rng
from mmcore.sampling.compiled import Stepper, check_compile
from mmcore.sampling.denoiser import Asked, Denoiser, Here, given_back
from mmcore.sampling.guidance import ClassifierFree, Guidance, Guided, Pinned
from mmcore.sampling.question import Question, flags_of, rows_of
from mmcore.sampling.rejection import by_rejection, check_discrete
from mmcore.sampling.samplers import Sampler, plan


def sample(
    model: JointModel,
    n: int,
    *,
    given: Mapping[str, Any] | None = None,
    where: Mapping[str, Any] | None = None,
    absent: Collection[str] | Mapping[str, Any] = (),
    conditioning: str = "roles",
    guidance: Mapping[str, float] | Guidance | None = None,
    start: Mapping[str, Any] | None = None,
    strength: float = 0.5,
    sampler: str | Sampler = "auto",
    steps: int | Sequence[int] | None = None,
    spacing: str | None = None,
    eta: float | None = None,
    codes: str | None = None,
    draw: bool = False,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    batch_size: int = 500,
    registry: Registry | None = None,
    watch: Callable[[int, int], None] | None = None,
    compiled: bool | str = False,
) -> dict[str, Tensor]:
    """Draw samples: jointly, conditioned on given values, or inpainted.

    Every variable that is not absent is answered. Where one class is all of a row's answer, the network is called once, whatever ``steps`` says:
    at ``T`` it predicts the distribution of just this class, and further steps cannot improve a draw from it. A target that nothing encodes, and that is not
    absent, is a further answer: it is drawn together with the class, on all steps. Sample ``k`` depends on ``(seed, k)`` only, to rounding, whatever the batch size (with ``"rejection"``, on what is given to all rows).

    Args:
        model: a joint model.
        n: how many.
        given: observed values by name: a tensor ``(n, *spec.shape)``, or of ``spec.shape`` for all samples; or a raw value for all samples, or a
            list or array of ``n``, as the modality reads them: ``{"label": 3}``. A list of a vector's numbers is that vector. They come back unchanged, void elements among them, which tell the network nothing.
        where: for what is given only in part, which elements are observed, booleans ``(n, *spec.shape)`` by name, or
            which rows, ``(n,)``; the rest is generated. For parts of a modality train with ``RoleMix(partial=…)``. What is void is filled
            by ``where={name: modality.spec.there(x)}``.
        absent: modalities to leave out; or by name the rows, bool ``(n,)``, in which they are. Such rows come back as placeholders.
        conditioning: ``"roles"``: the network is told what is observed. ``"posterior"``, the article's: it is told that all is
            generated, and the known encodings replace the predicted ones in the posterior; approximate even with the
            exact predictor. ``"rejection"``: everything is generated, and of the joint samples of this seed, in their order, each
            goes to the first row that still wants its values; exact for the model's joint distribution, for classes only.
        guidance: by observed modality the scale ``g`` of classifier-free guidance (Ho and Salimans 2022):
            ``Ê + Σ (g - 1) (Ê - Ê without it)``; 1 is none. Train with ``RoleMix(absent=…)`` above 0. Or a
            :class:`mmcore.sampling.Guidance` of one's own.
        start: values of every generated modality, as ``given`` takes them, to edit: sampling starts from them, noised to
            ``strength``, in place of noise alone.
        strength: of an edit, the share of the way to noise, above 0 and at most 1; used with ``start`` only.
        sampler: ``"ddim"``, ``"ancestral"``, ``"2m"`` (DPM-Solver++, second-order multistep), ``"heun"``, a plugin's name, or a
            :class:`mmcore.sampling.Sampler` with its options, such as ``Multistep(steps=20)``; ``"auto"`` is ``"2m"``, but
            ``"ddim"`` where ``eta`` or ``codes`` ask for noise or the signal-to-noise ratio does not fall from step to step.
        steps: for a sampler by name, how many timesteps are visited (``"heun"`` asks the network twice in each), or the decreasing timesteps
            themselves; by default 20 of ``"2m"``, 10 of ``"heun"`` and 50 of the others.
        spacing: for a sampler by name, ``"time"``, even in ``t``, or ``"snr"``, even in the log signal-to-noise ratio.
        eta: DDIM's ``η`` in 0 … 1; by default the noise schedule's own.
        codes: for a sampler by name, how modalities enter a step: by their ``"mean"`` codes; or discrete ones, ``"draw"``, or all,
            ``"draw-all"``, by the code of a draw from what is predicted. With few steps mean codes lose variance.
        draw: draw continuous modalities from the last prediction too, instead of reading their mean.
        seed: of the samples.
        numbers: of the samples, by which the seed gives each its own; by default ``0 … n - 1``. So some samples of a longer call are made alone.
        batch_size: rows at once.
        registry: where a plugin's sampler is looked up; by default a new :func:`mmcore.discover`.
        watch: called before each timestep of each batch with how many are done and how many there are in all (0 with ``"rejection"``, where nobody
            knows it). What it raises ends the sampling.
        compiled: a built-in sampler's step by ``torch.compile``, as one graph for all timesteps; ``"graphs"``, on a GPU started as one (a CUDA graph). The
            first step takes as long as its compiling; the graph is kept with the model, for calls of the same batch size.

    Returns:
        ``(n, *spec.shape)`` by name, on the CPU; memory of its own.

    Raises:
        RequestError: a question, sampler or option that makes no sense, before any work.
        MmcoreError: the model's prediction is NaN, of which no class is read.
    """
    check_call(
        sample, locals(), apart=["n", "absent", "guidance", "sampler", "steps", "eta", "numbers", "watch", "compiled"]
    )
    n, batch_size = (_whole(value, option) for option, value in (("n", n), ("batch_size", batch_size)))
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise OptionError("sample", "seed", seed, "a whole number")
    if not isinstance(draw, bool):
        raise OptionError("sample", "draw", draw, choices=("True", "False"))
    if watch is not None and not callable(watch):
        raise OptionError(
            "sample", "watch", watch, "a function of two numbers: how many timesteps are done, of how many"
        )
    rows = _numbers(numbers, n)
    mappings: dict[str, object] = {"given": given, "where": where, "start": start}
    if not isinstance(guidance, Guidance):
        mappings["guidance"] = guidance
    for option, value in mappings.items():
        if value is not None and not isinstance(value, Mapping):
            raise OptionError("sample", option, value, "a mapping by modality name")
    named = isinstance(absent, Collection) and not isinstance(absent, str | bytes | Tensor)
    if not named or not all(isinstance(name, str) for name in absent):
        raise OptionError("sample", "absent", absent, "a list of names, or a mapping from name to rows")
    begin = None if start is None else _begin(model.process, strength)
    chosen, path = plan(
        model.process,
        sampler,
        steps=steps,
        spacing=spacing,
        eta=eta,
        codes=codes,
        begin=begin,
        registry=registry,
    )
    given = rows_of(model, given or {}, n, "given")
    start = None if start is None else rows_of(model, start, n, "start")
    where = flags_of(where or {})
    absent = flags_of(absent) if isinstance(absent, Mapping) else absent
    question = Question.ask(model, n, given=given, where=where, absent=absent, conditioning=conditioning)
    if conditioning == "rejection":
        check_discrete(model, given, where)
        excluded = {
            "start": start is not None,
            "absent by row": isinstance(absent, Mapping),
            "numbers": numbers is not None,
        }
        if any(excluded.values()):
            option = next(name for name, here in excluded.items() if here)
            expected = f"roles, or no {option} beside it"
            raise OptionError("sample", "conditioning", conditioning, expected, beside=["start", "absent", "numbers"])
    guide = _guidance(model, question, guidance or {}, conditioning)
    check_compile(compiled, chosen, guide is not None)
    if start is not None:
        _check_start(model, question, start, n)

    at_once = model.driver.one_class(question.told.to(model.device)).cpu()
    if at_once.any():
        _check_at_once(at_once, {"start": start, "guidance": guide})
    progress = _Steps(watch)

    def answers(question: Question, numbers: Tensor, begun: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Of the samples of these numbers, one for each row of the question."""
        rng = Rng(seed, numbers.to(model.device)).of("sample")
        question = question.to(model.device)
        way = [model.process.steps] if bool(model.driver.one_class(question.told).all()) else path
        values = _walk(
            Denoiser(model, question, way, chosen.codes), chosen, way, guide, rng, begun, draw, progress, compiled
        )
        return {name: x.cpu() for name, x in values.items()}

    # What is absent in every row is left out; of the rest every batch answers, also one whose rows all lack it.
    absent_everywhere = (question.roles == Role.ABSENT).all(0)
    names = [
        m.name
        for m, left_out in zip(model.variables, absent_everywhere.tolist(), strict=True)
        if not left_out or (m.name in given and bool(question.where.get(m.name, torch.ones(1)).any()))
    ]
    with evaluating(model), torch.inference_mode():
        if conditioning == "rejection":
            joint = Question.ask(model, batch_size, given={}, where={}, absent=absent)
            values = by_rejection(lambda at: answers(joint, torch.arange(at, at + batch_size), None), given, n)
        else:
            # Rows that one call answers go together, and the others.
            kinds = [at_once.nonzero()[:, 0], (~at_once).nonzero()[:, 0]]
            batches = [some for kind in kinds if len(kind) for some in kind.split(batch_size)]
            progress.total = sum(1 if at_once[some[0]] else len(path) for some in batches)
            parts = []
            for some in batches:
                begun = None if start is None else {name: x[some].to(model.device) for name, x in start.items()}
                parts.append(answers(question.rows(some), rows[some], begun))
            back = torch.cat(batches).argsort()
            values = {name: torch.cat([part[name] for part in parts])[back] for name in names}
    answer = {name: values[name] for name in names}
    answer |= {name: x for name, x in given.items() if name not in where}
    # The caller's own: to be written to without another row or what was given changing with it, and to be trained on.
    return {name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in answer.items()}


class _Steps:
    """Tells how far the work has come."""

    def __init__(self, watch: Callable[[int, int], None] | None) -> None:
        self.watch, self.done, self.total = watch, 0, 0

    def next(self) -> None:
        if self.watch is not None:
            self.watch(self.done, self.total)
        self.done += 1


def _walk(
    denoiser: Denoiser,
    sampler: Sampler,
    path: Sequence[int],
    guidance: Guidance | None,
    rng: Rng,
    start: Mapping[str, Tensor] | None,
    draw: bool,
    steps: _Steps,
    compiled: bool | str = False,
) -> dict[str, Tensor]:
    """Visit the path's timesteps, and read the answer at the last."""
    asked: Asked = denoiser if guidance is None else Guided(denoiser, guidance, rng)
    fixed = denoiser.question.fixed
    if fixed is not None:
        asked = Pinned(asked, fixed, denoiser.known)
    noise = rng.of("prior").normal(*denoiser.model.space.shape, dtype=denoiser.known.dtype)
    here = Here(denoiser.begin(path[0], noise, start), path[0])
    memory: dict[str, object] = {}
    graph = Stepper(sampler, denoiser, compiled, rng) if compiled and len(path) > 1 else None
    for to in path[1:]:
        steps.next()
        z = sampler.step(asked, here, to, rng.at(to), memory) if graph is None else graph(here, to)
        here = Here(given_back(sampler, "sampler", "noisy latents", z, here.z), to)
    steps.next()
    return denoiser.read(denoiser.at(here), rng, draw=draw)


def _guidance(
    model: JointModel, question: Question, guidance: Mapping[str, float] | Guidance, conditioning: str
) -> Guidance | None:
    """Guidance that fits the question; None for none."""
    names = [m.name for m in model.modalities]
    told = guidance.names() if isinstance(guidance, Guidance) else guidance
    if not isinstance(told, Collection) or isinstance(told, str):
        kind = type(guidance).__name__
        raise RequestError(f"sample: the guidance {kind} has the names {told!r}, expected a list of modality names")
    for name in told:
        if name not in names:
            raise OptionError("sample", "guidance", name, choices=names)
        column = names.index(name)
        if not (question.roles[:, column] == Role.OBSERVE).any():
            raise OptionError(
                "sample", "guidance", name, "a modality that is observed, among the given", beside=["given"]
            )
        if conditioning != "roles":
            raise OptionError(
                "sample", "conditioning", conditioning, "roles, as there is guidance", beside=["guidance"]
            )
    guide = guidance if isinstance(guidance, Guidance) else ClassifierFree(guidance)
    # Without another scale than 1 it changes nothing. One's own may change codes without asking for any others.
    return None if isinstance(guide, ClassifierFree) and not guide.names() else guide


def _numbers(numbers: Sequence[int] | None, n: int) -> Tensor:
    """The numbers of the samples, ``(n,)``."""
    if numbers is None:
        return torch.arange(n)
    try:
        found = torch.as_tensor(numbers)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if found.shape != (n,) or found.dtype not in (torch.int32, torch.int64) or (found < 0).any():
        raise OptionError("sample", "numbers", numbers, f"{n} whole numbers of at least 0", beside=["n"])
    return found.long()


def _check_at_once(at_once: Tensor, moves: Mapping[str, object]) -> None:
    """Refuse what moves an answer on its way, where rows are answered by one call.

    Raises:
        RequestError: naming it.
    """
    for option, value in moves.items():
        if value is not None:
            row = int(at_once.nonzero()[0])
            raise RequestError(
                f"sample: {option} is given, expected none where one class is the whole answer, as in row {row}: the first call gives it, and "
                "there is no way on which to move it"
            )


def _whole(value: int, option: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise OptionError(
            "sample",
            option,
            value,
            f"a whole number of at least 1{' and below 2³¹' if isinstance(value, Integral) and value > 1 else ''}",
        )
    return int(value)


def _begin(process: Process, strength: float) -> int:
    """The step to which an edit is noised."""
    if not isinstance(strength, Real) or not 0 < strength <= 1:
        raise OptionError("sample", "strength", strength, "a number above 0 and at most 1")
    return max(1, round(strength * process.steps))


def _check_start(model: JointModel, question: Question, start: Mapping[str, Tensor], n: int) -> None:
    names = [m.name for m in model.modalities]
    for name, x in start.items():
        if name not in names:
            raise OptionError("sample", "start", name, choices=names)
        model.variable(name).spec.check(x, f"start {name!r}")
        if len(x) != n:
            raise OptionError("sample", f"start.{name}", f"{len(x)} rows", f"n = {n}")
    for column, name in enumerate(names):
        if name not in start and (question.roles[:, column] == Role.GENERATE).any():
            raise OptionError("sample", f"start.{name}", expected="a value of every generated modality")
