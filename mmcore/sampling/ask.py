r"""Sampling: from a question to its samples.

Every sampler is one step formula, :func:`ddim_step`, driven by predicted codes :math:`\hat E_i`: the step functions are
the process's posterior and its DDIM family, with noise as an argument. Second order comes from the codes: those of
two predictions extrapolated (``2m``) or averaged (``heun``). :func:`sample` visits decreasing steps from ``T`` to 1:
predict, put what is known in place, re-encode, step; the answer is read at the last one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.model.joint import Drive, JointModel
from mmcore.model.roles import Role
from mmcore.process import Process
from mmcore.rng import Rng
from mmcore.sampling.question import Question
from mmcore.sampling.rejection import by_rejection, check_discrete

SAMPLERS = ("auto", "ddim", "ancestral", "2m", "heun")
STEPS = {"ddim": 50, "ancestral": 50, "2m": 20, "heun": 10}
"""How many steps each visits by default."""
CODES = ("mean", "draw", "draw-all")
SPACINGS = ("time", "snr")


def ddim_step(
    process: Process, z_t: Tensor, h: tuple[Tensor, Tensor], s: Tensor, t: Tensor, noise: Tensor, eta: float
) -> Tensor:
    """``z_s = ĥ_s + sqrt(σ_s² - τ²) ε̂ + τ ξ``, ``ε̂ = (z_t - ĥ_t) / σ_t``, ``τ² = η² β_{t,s}``: ``(B, *Z)``.

    After "Denoising Diffusion Implicit Models" (Song, Meng and Ermon 2021); ``η = 1`` is the ancestral step.
    """
    jump, sigma_s, sigma_t = process.jump(s, t), process.level(s).sigma, process.level(t).sigma
    tau = eta * jump.beta.sqrt()
    # σ_s² - τ² = (1 - η²) σ_s² + η² k² σ_t², which does not cancel where β is nearly σ_s².
    kept = ((1 - eta**2) * (sigma_s / sigma_t).square() + eta**2 * jump.k.square()).sqrt()
    return h[0] + process.widen(kept, z_t) * (z_t - h[1]) + process.widen(tau, z_t) * noise


def extrapolation(process: Process, s: Tensor, t: Tensor, previous: Tensor) -> Tensor:
    """``c = (λ_s - λ_t) / (2 (λ_t - λ_prev))``, how far the second-order multistep goes beyond its last prediction.

    After "DPM-Solver++" (Lu et al. 2022), in the process's own clock ``λ_t = ½ log(Σ_i (W_t^(i))² / σ_t²)``: with the
    codes ``Ê + c (Ê - Ê_prev)`` a deterministic :func:`ddim_step` is of order two.

    Args:
        process: the process.
        s: where the step goes, in the shape of the process's clocks.
        t: where it starts.
        previous: where the step before it started.
    """
    clock = process.half_log_snr
    return (clock(s) - clock(t)) / (2 * (clock(t) - clock(previous)))


def visited(
    process: Process, steps: int | Sequence[int], spacing: str = "time", *, begin: int | None = None
) -> list[int]:
    """The decreasing steps that a sampler visits, the last of them at least 1.

    Args:
        process: the process.
        steps: how many, from ``T`` to 1, or all of them where ``T`` is smaller; or the very steps.
        spacing: ``"time"``, even in ``t``; or ``"snr"``, even in the half log signal-to-noise ratio, of several blocks
            the first one's.
        begin: the first step, ``T`` by default.

    Raises:
        RequestError: fewer than one step, an unknown spacing, steps that do not decrease, do not begin where they must or leave
            ``1 … T``, or a ratio that does not grow towards ``t = 1``.
    """
    begin = process.steps if begin is None else begin
    if spacing not in SPACINGS:
        raise RequestError(f"sample: spacing {spacing!r}, expected one of {', '.join(SPACINGS)}")
    if isinstance(steps, Sequence | torch.Tensor) and not isinstance(steps, str):
        path = [int(t) for t in steps if isinstance(t, Integral)] if isinstance(steps, Sequence) else steps.tolist()
        if not path or path != sorted(set(path), reverse=True) or len(path) != len(steps) or path[-1] < 1:
            raise RequestError(f"sample: steps = {list(steps)}, expected decreasing whole numbers inside 1 … {begin}")
        if path[0] != begin:
            raise RequestError(f"sample: steps begin at {path[0]}, expected {begin}, where what they start from is")
        return path
    if not isinstance(steps, int | Integral) or isinstance(steps, bool) or int(steps) < 1:
        raise RequestError(f"sample: steps = {steps!r}, expected a whole number of at least 1, or the steps themselves")
    if steps == 1 or begin == 1:
        return [begin]
    count = min(int(steps), begin)
    if spacing == "time":
        return torch.linspace(begin, 1, count, dtype=torch.float64).round().long().tolist()
    levels = _checked_clock(process, list(range(begin, 0, -1)), "spacing 'snr'")[:, 0].contiguous()
    wanted = torch.linspace(float(levels[0]), float(levels[-1]), count, dtype=torch.float64)
    chosen = torch.searchsorted(levels, wanted).clamp(max=len(levels) - 1)
    return sorted({begin - int(i) for i in chosen} | {begin, 1}, reverse=True)


def _checked_clock(process: Process, path: list[int], what: str) -> Tensor:
    """``λ`` at each step of a decreasing path, ``(steps, K)``, which must rise along it."""
    clock, still = _clock(process, path)
    if still is not None:
        raise RequestError(
            f"sample: {what} needs a signal-to-noise ratio above zero that falls with t; under schedule "
            f"{process.schedule.name!r} it does not between t = {path[still + 1]} and t = {path[still]}; use 'ddim' "
            "with spacing 'time', or another schedule"
        )
    return clock


def _clock(process: Process, path: list[int]) -> tuple[Tensor, int | None]:
    """``λ`` at each step of a decreasing path, ``(steps, K)``, and the first place where it does not rise, if any."""
    clock = torch.cat([process.half_log_snr(process.clock_at(t)).reshape(1, -1) for t in path])
    rises = clock.isfinite().all(1)[:-1] & (clock.diff(dim=0) > 0).all(1)
    return clock, None if rises.all() else int((~rises).nonzero()[0])


@attrs.frozen
class Sampler:
    """How to go from noise to an answer; checked once, before any work.

    Attributes:
        name: ``"ddim"``, ``"ancestral"``, ``"2m"`` or ``"heun"``.
        path: the decreasing steps to visit.
        eta: DDIM's ``η``.
        codes: how modalities enter a step, as in :func:`sample`.
    """

    name: str
    path: list[int]
    eta: float
    codes: str

    @classmethod
    def plan(
        cls,
        process: Process,
        *,
        sampler: str,
        steps: int | Sequence[int] | None,
        spacing: str,
        eta: float | None,
        codes: str,
        begin: int | None = None,
    ) -> "Sampler":
        """Check the options; arguments and errors as :func:`sample`'s."""
        if sampler not in SAMPLERS:
            raise RequestError(f"sample: sampler {sampler!r}, expected one of {', '.join(SAMPLERS)}")
        if codes not in CODES:
            raise RequestError(f"sample: codes {codes!r}, expected one of {', '.join(CODES)}")
        if sampler == "auto":
            plain = eta is None and codes == "mean"
            path = visited(process, STEPS["2m"] if steps is None else steps, spacing, begin=begin)
            sampler = "2m" if plain and _clock(process, path)[1] is None else "ddim"
        if sampler != "ddim" and eta is not None:
            raise RequestError(f"sample: eta = {eta} with the sampler {sampler!r}, expected none (it is DDIM's)")
        if sampler == "ddim":
            eta = process.schedule.eta if eta is None else eta
        else:
            eta = 1.0 if sampler == "ancestral" else 0.0
        if not 0 <= eta <= 1:
            raise RequestError(f"sample: eta = {eta}, expected 0 … 1")
        if codes != "mean" and eta == 0:
            raise RequestError(
                f"sample: codes = {codes!r} with a deterministic sampler, expected 'mean': it would no longer be one"
            )
        path = visited(process, STEPS[sampler] if steps is None else steps, spacing, begin=begin)
        if sampler in ("2m", "heun"):
            _checked_clock(process, path, f"sampler {sampler!r}")
        return cls(sampler, path, eta, codes)


def sample(
    model: JointModel,
    n: int,
    *,
    given: Mapping[str, Tensor] | None = None,
    where: Mapping[str, Tensor] | None = None,
    absent: Collection[str] | Mapping[str, Tensor] = (),
    conditioning: str = "roles",
    guidance: Mapping[str, float] | None = None,
    start: Mapping[str, Tensor] | None = None,
    strength: float = 0.5,
    steps: int | Sequence[int] | None = None,
    spacing: str = "time",
    sampler: str = "auto",
    eta: float | None = None,
    codes: str = "mean",
    draw: bool = False,
    seed: int = 0,
    batch_size: int = 500,
) -> dict[str, Tensor]:
    """Samples of every variable that is not absent.

    Sample ``k`` depends on ``(seed, k)`` only, to rounding, whatever the batch size (with ``"rejection"``, on what is given to all rows).

    Args:
        model: a joint model.
        n: how many.
        given: observed values ``(n, *spec.shape)`` by name; they come back unchanged.
        where: for what is given only in part, which elements are observed, bool ``(n, *spec.shape)`` by name, or
            which rows, ``(n,)``; the rest is generated. For parts of a modality train with ``RoleMix(partial=…)``.
        absent: modalities to leave out; or by name the rows, bool ``(n,)``, in which they are. Such rows come back as placeholders.
        conditioning: ``"roles"``: the network is told what is observed. ``"posterior"``, the article's: it is told that all is
            generated, and the known encodings replace the predicted ones in the posterior; approximate even with the
            exact predictor. ``"rejection"``: everything is generated, and of the joint samples of this seed, in their order, each
            goes to the first row that still wants its values; exact for the model's joint distribution, for classes only.
        guidance: by observed modality the scale ``g`` of classifier-free guidance (Ho and Salimans 2022):
            ``Ê + Σ (g - 1) (Ê - Ê without it)``; 1 is none. Train with ``RoleMix(absent=…)`` above 0.
        start: values ``(n, *spec.shape)`` of every generated modality, to edit: sampling starts from them, noised to
            ``strength``, in place of noise alone.
        strength: of an edit, the share of the way to noise, above 0 and at most 1; used with ``start`` only.
        steps: how many steps are visited (``"heun"`` asks the network twice in each), or the decreasing steps themselves; by default 20
            of ``"2m"``, 10 of ``"heun"`` and 50 of the others.
        spacing: ``"time"``, even in ``t``, or ``"snr"``, even in the log signal-to-noise ratio.
        sampler: ``"ddim"``, ``"ancestral"``, ``"2m"`` (DPM-Solver++, second-order multistep) or ``"heun"``; ``"auto"`` is ``"2m"``, but
            ``"ddim"`` where ``eta`` or ``codes`` ask for noise or the signal-to-noise ratio does not fall from step to step.
        eta: DDIM's ``η`` in 0 … 1; by default the schedule's own.
        codes: how modalities enter a step: by their ``"mean"`` codes; or discrete ones, ``"draw"``, or all, ``"draw-all"``, by
            the code of a draw from what is predicted. With few steps mean codes lose variance.
        draw: draw continuous modalities from the last prediction too, instead of reading their mean.
        seed: of the samples.
        batch_size: rows at once.

    Returns:
        ``(n, *spec.shape)`` by name, on the CPU.

    Raises:
        RequestError: a question, sampler or option that makes no sense, before any work.
    """
    n, batch_size = (_whole(value, what) for what, value in (("n", n), ("batch_size", batch_size)))
    for what, value, kind in (
        ("given", given, Mapping),
        ("where", where, Mapping),
        ("guidance", guidance, Mapping),
        ("start", start, Mapping),
    ):
        if value is not None and not isinstance(value, kind):
            raise RequestError(f"sample: {what} is {type(value).__name__}, expected a mapping by modality name")
    if not isinstance(absent, Collection) or isinstance(absent, str):
        raise RequestError(f"sample: absent = {absent!r}, expected a list of names, or a mapping from name to rows")
    begin = None if start is None else _begin(model.process, strength)
    plan = Sampler.plan(model.process, sampler=sampler, steps=steps, spacing=spacing, eta=eta, codes=codes, begin=begin)
    question = Question.ask(model, n, given=given or {}, where=where or {}, absent=absent, conditioning=conditioning)
    if conditioning == "rejection":
        check_discrete(model, given or {}, where or {})
        if start is not None or isinstance(absent, Mapping):
            what = "start" if start is not None else "absent by row"
            raise RequestError(f"sample: {what} with conditioning 'rejection', expected none, or 'roles'")
    scales = _guidance(model, question, guidance or {}, conditioning)
    if start is not None:
        _check_start(model, question, start, n)

    def answers(question: Question, at: int, first: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Of the samples from ``at`` on, as many as the question has rows."""
        rng = Rng.for_rows(seed, len(question.roles), start=at, device=model.device).of("sample")
        run = _Run(model, question.to(model.device), plan, rng, scales)
        return {name: x.cpu() for name, x in run.answer(run.walk(first), draw).items()}

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            if conditioning == "rejection":
                joint = Question.ask(model, batch_size, given={}, where={}, absent=absent)
                return by_rejection(lambda at: answers(joint, at, None), given or {}, n)
            parts = []
            for at in range(0, n, batch_size):
                rows = slice(at, min(n, at + batch_size))
                first = None if start is None else {name: x[rows].to(model.device) for name, x in start.items()}
                parts.append(answers(question.rows(rows), at, first))
    finally:
        model.train(training)
    answer = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return answer | {name: x for name, x in (given or {}).items() if name not in (where or {})}


@attrs.frozen(eq=False)
class _Run:
    """One batch on its way from noise to an answer."""

    model: JointModel
    question: Question
    plan: Sampler
    rng: Rng
    scales: dict[int, float]

    def walk(self, first: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Visit the path's steps; the predictions at the last."""
        model, plan = self.model, self.plan
        known = model.encode(self.question.known)
        observed = model.place(known)
        begin = observed if first is None else model.place(model.encode(self._edited(first)))
        shape, dtype = model.space.shape, observed.dtype
        t = torch.full((len(known),), plan.path[0], device=known.device)
        noise = self.rng.of("prior").normal(*shape, dtype=dtype)
        drive = self._drive(t)
        # Without a start nothing but noise, and the clean codes of observed blocks, is there at T.
        weight = drive.weight if first is not None else torch.where(drive.sigma[:, self._of()] == 0, drive.weight, 0.0)
        sigma = drive.sigma if first is not None else (drive.sigma != 0).to(drive.sigma.dtype)
        z = model.noisy(begin, attrs.evolve(drive, weight=weight, sigma=sigma), noise)
        moves = model.process.widen((drive.t != 0) & self._moves(), z) != 0
        before: tuple[Tensor, Tensor] | None = None
        predictions = self._predict(z, t, observed)
        for step in plan.path[1:]:
            s, here = torch.full_like(t, step), self.rng.at(step)
            codes = self._codes(predictions, z, t, observed, known, here)
            driving = codes
            if plan.name == "2m" and before is not None:
                driving = codes + self._extrapolation(s, t, before[0]) * (codes - before[1])
            noise = here.of("noise").normal(*shape, dtype=dtype) if plan.eta > 0 else torch.zeros_like(z)
            z_s = self._step(z, driving, s, t, noise, moves)
            if plan.name == "heun":
                there = self._codes(self._predict(z_s, s, observed), z_s, s, observed, known, here)
                z_s = self._step(z, (codes + there) / 2, s, t, noise, moves)
            before, z, t = (t, codes), z_s, s
            predictions = self._predict(z, t, observed)
        return predictions

    def _edited(self, first: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What an edit starts from: the start's values, but what is known where it is known."""
        known, where = self.question.known, self.question.where
        return known | {
            name: torch.where(where[name], known[name], x) if name in where else x for name, x in first.items()
        }

    def answer(self, predictions: Mapping[str, Tensor], draw: bool) -> dict[str, Tensor]:
        """Values of every variable that some row generates or knows."""
        model, question = self.model, self.question
        answer = {}
        for column, m in enumerate(model.variables):
            role = question.roles[:, column]
            if bool((role == Role.ABSENT).all()):
                continue
            value = question.known[m.name]
            if model.reads(m.name):
                decoder, params = model.decoder(m.name), model.params(predictions, m.name)
                read = (
                    decoder.sample(params, self.rng.of("read").of(m.name))
                    if draw or m.discrete
                    else decoder.point(params)
                )
                asked = (role == Role.GENERATE).reshape(-1, *[1] * (value.ndim - 1)).expand_as(value)
                if m.name in question.where:
                    asked = asked & ~question.where[m.name]
                value = torch.where(asked, read, value)
            answer[m.name] = value
        return answer

    def _of(self) -> Tensor:
        return self.model.process.block_of.to(self.rng.rows.device)

    def _moves(self) -> Tensor:
        """``(B, K)``, the blocks that generate something."""
        return self.model.moves(self.question.told)

    def _drive(self, t: Tensor) -> Drive:
        return self.model.drive(t, self.question.told, self.question.seen or None)

    def _predict(self, z: Tensor, t: Tensor, observed: Tensor) -> dict[str, Tensor]:
        return self.model.predict(z, t, self.question.told, observed, self.question.seen or None)

    def _codes(
        self, predictions: Mapping[str, Tensor], z: Tensor, t: Tensor, observed: Tensor, known: Tensor, rng: Rng
    ) -> Tensor:
        """The codes ``(B, D)`` that drive a step: predicted, guided, and with what is known in place."""
        model = self.model
        draws = rng.of("codes") if self.plan.codes != "mean" else None
        every = self.plan.codes == "draw-all"
        codes = model.expected_codes(predictions, draws, draw_all=every)
        guided = codes
        for column, scale in self.scales.items():
            less = attrs.evolve(self, question=self.question.without(column))
            drive = less._drive(t)
            # In its own block the observation must not stay in the space when it is left out; the noise there is one for the whole run.
            left_out = (less.question.told != self.question.told).any(1, keepdim=True)
            its_block = torch.arange(model.process.blocks, device=t.device) == self._of()[column]
            emptied = model.process.widen((left_out & its_block & ~drive.moves).to(drive.sigma.dtype), z) != 0
            fresh = self.rng.of("without").of(str(column)).normal(*z.shape[1:], dtype=z.dtype)
            z_less = torch.where(emptied, model.noisy(observed, drive, fresh), z)
            bare = model.expected_codes(less._predict(z_less, t, observed), draws, draw_all=every)
            guided = guided + (scale - 1) * (codes - bare)
        fixed = self.question.fixed
        return guided if fixed is None else torch.where(fixed, known, guided)

    def _step(self, z: Tensor, codes: Tensor, s: Tensor, t: Tensor, noise: Tensor, moves: Tensor) -> Tensor:
        model = self.model
        placed = model.place(codes)
        h = (model.aggregate(placed, self._drive(s)), model.aggregate(placed, self._drive(t)))
        wide = model.process.clock_shape(len(z))
        stepped = ddim_step(model.process, z, h, s[:, None].expand(wide), t[:, None].expand(wide), noise, self.plan.eta)
        # Blocks that generate nothing hold what they held.
        return torch.where(moves, stepped, z)

    def _extrapolation(self, s: Tensor, t: Tensor, previous: Tensor) -> Tensor:
        """``c`` for each code element, ``(B, D)``, by its modality's block."""
        wide = self.model.process.clock_shape(len(s))
        c = extrapolation(self.model.process, *(u[:, None].expand(wide) for u in (s, t, previous)))
        sizes = torch.tensor([torch.Size(m.code).numel() for m in self.model.modalities], device=s.device)
        return c[:, self._of()].repeat_interleave(sizes, dim=1).to(torch.get_default_dtype())


def _guidance(
    model: JointModel, question: Question, guidance: Mapping[str, float], conditioning: str
) -> dict[int, float]:
    names = [m.name for m in model.modalities]
    scales = {}
    for name, scale in guidance.items():
        if name not in names:
            raise RequestError(f"sample: guidance names {name!r}, expected one of {', '.join(names)}")
        column = names.index(name)
        if not (question.roles[:, column] == Role.OBSERVE).any():
            raise RequestError(f"sample: guidance by {name!r}, which is not observed; expected it among the given")
        if conditioning != "roles":
            raise RequestError(f"sample: guidance with conditioning {conditioning!r}, expected 'roles'")
        if not isinstance(scale, Real) or not math.isfinite(scale):
            raise RequestError(f"sample: guidance {name!r} = {scale!r}, expected a finite number")
        if scale != 1:
            scales[column] = float(scale)
    return scales


def _whole(value: int, what: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise RequestError(f"sample: {what} = {value!r}, expected a whole number of at least 1")
    return int(value)


def _begin(process: Process, strength: float) -> int:
    """The step to which an edit is noised."""
    if not isinstance(strength, Real) or not 0 < strength <= 1:
        raise RequestError(f"sample: strength = {strength!r}, expected above 0 and at most 1")
    return max(1, round(strength * process.steps))


def _check_start(model: JointModel, question: Question, start: Mapping[str, Tensor], n: int) -> None:
    names = [m.name for m in model.modalities]
    for name, x in start.items():
        if name not in names:
            raise RequestError(f"sample: start names {name!r}, expected one of {', '.join(names)}")
        model.variable(name).spec.check(x, f"start {name!r}")
        if len(x) != n:
            raise RequestError(f"sample: start {name!r} has {len(x)} rows, expected n = {n}")
    for column, name in enumerate(names):
        if name not in start and (question.roles[:, column] == Role.GENERATE).any():
            raise RequestError(f"sample: start lacks {name!r}, expected a value of every generated modality")
