r"""Sampling: from a question to its samples.

The step functions are the process's posterior and its DDIM family, with noise as an argument; a
predicted :math:`\hat h` stands where the true one would. :func:`sample` visits decreasing steps
from ``T`` to 1: predict, re-encode, step; the answer is read at the last one.
"""

from collections.abc import Collection, Mapping

import attrs
import torch
from torch import Tensor

from mmcore.errors import RequestError
from mmcore.model import JointModel
from mmcore.process import Process, widen
from mmcore.rng import Rng
from mmcore.roles import Role

SAMPLERS = ("ddim", "ancestral")
CODES = ("mean", "draw")


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
    return h[0] + widen(kept, z_t) * (z_t - h[1]) + widen(tau, z_t) * noise


def visited(process: Process, steps: int) -> list[int]:
    """``steps`` evenly spaced decreasing steps from ``T`` to 1, or all of them where ``T`` is smaller.

    Raises:
        RequestError: ``steps < 1``.
    """
    if steps < 1:
        raise RequestError(f"sample: steps = {steps}, expected at least 1")
    if steps == 1:
        return [process.steps]
    spaced = torch.linspace(process.steps, 1, min(steps, process.steps), dtype=torch.float64).round().long()
    return spaced.tolist()


@attrs.frozen(eq=False)
class Question:
    """What is known and what is asked, checked against a model.

    Attributes:
        roles: ``(B, V)``.
        known: a value for every variable, placeholders where it is not observed.
    """

    roles: Tensor
    known: dict[str, Tensor]

    @classmethod
    def ask(cls, model: JointModel, n: int, given: Mapping[str, Tensor], absent: Collection[str]) -> "Question":
        """The question of ``n`` samples with ``given`` observed and ``absent`` left out.

        Raises:
            RequestError: unknown names, values that do not fit, a wrong batch size, a modality both given and
                absent, or nothing left to generate.
        """
        if n < 1:
            raise RequestError(f"sample: n = {n}, expected at least 1")
        names = [m.name for m in model.variables]
        for what, group in (("given", given), ("absent", absent)):
            for name in group:
                if name not in names:
                    raise RequestError(f"sample: {what} names {name!r}, expected one of {', '.join(names)}")
                if what == "given" and name not in [m.name for m in model.modalities]:
                    raise RequestError(f"sample: {name!r} is given, but it has no encoding: it can only be predicted")
        if both := set(given) & set(absent):
            raise RequestError(f"sample: {', '.join(sorted(both))} both given and absent, expected at most one")
        roles = torch.full((n, len(names)), int(Role.GENERATE))
        known = {}
        for column, m in enumerate(model.variables):
            if m.name in given:
                m.spec.check(given[m.name], f"given {m.name!r}")
                if len(given[m.name]) != n:
                    raise RequestError(f"sample: given {m.name!r} has {len(given[m.name])} rows, expected n = {n}")
                known[m.name] = given[m.name]
                roles[:, column] = Role.OBSERVE
            else:
                known[m.name] = m.spec.placeholder(n)
                if m.name in absent or not model.reads(m.name):
                    roles[:, column] = Role.ABSENT
        if not ((roles == Role.GENERATE) & model.encoded.to(roles.device)).any():
            raise RequestError("sample: every modality is given, absent or only observed: nothing is left to generate")
        return cls(roles, known)

    def rows(self, rows: slice) -> "Question":
        """The same for some rows."""
        return Question(self.roles[rows], {name: x[rows] for name, x in self.known.items()})

    def to(self, device: torch.device) -> "Question":
        """The same on a device."""
        return Question(self.roles.to(device), {name: x.to(device) for name, x in self.known.items()})


def sample(
    model: JointModel,
    n: int,
    *,
    given: Mapping[str, Tensor] | None = None,
    absent: Collection[str] = (),
    steps: int = 50,
    sampler: str = "ddim",
    eta: float | None = None,
    codes: str = "mean",
    draw: bool = False,
    seed: int = 0,
    batch_size: int = 500,
) -> dict[str, Tensor]:
    """Samples of every variable that is not absent.

    Sample ``k`` depends on ``(seed, k)`` only, to rounding, whatever the batch size.

    Args:
        model: a joint model.
        n: how many.
        given: observed values ``(n, *spec.shape)`` by name; they come back unchanged.
        absent: modalities to leave out.
        steps: how often the network is asked.
        sampler: ``"ddim"`` or ``"ancestral"``.
        eta: DDIM's ``η`` in 0 … 1; by default the schedule's own.
        codes: how a discrete modality enters a step, by its ``"mean"`` code or that of a ``"draw"``.
        draw: draw continuous modalities from the last prediction too, instead of reading their mean.
        seed: of the samples.
        batch_size: rows at once.

    Returns:
        ``(n, *spec.shape)`` by name, on the CPU.

    Raises:
        RequestError: a question, sampler or option that makes no sense, before any work.
    """
    if sampler not in SAMPLERS:
        raise RequestError(f"sample: sampler {sampler!r}, expected one of {', '.join(SAMPLERS)}")
    if codes not in CODES:
        raise RequestError(f"sample: codes {codes!r}, expected one of {', '.join(CODES)}")
    if sampler == "ancestral":
        if eta not in (None, 1.0):
            raise RequestError(f"sample: eta = {eta} with the ancestral sampler, expected none (it is DDIM's)")
        eta = 1.0
    eta = model.process.schedule.eta if eta is None else eta
    if not 0 <= eta <= 1:
        raise RequestError(f"sample: eta = {eta}, expected 0 … 1")
    if codes == "draw" and eta == 0:
        raise RequestError(
            "sample: codes = 'draw' with eta = 0, expected 'mean': a deterministic sampler draws nothing"
        )
    question = Question.ask(model, n, given or {}, absent)
    path = visited(model.process, steps)
    parts: list[dict[str, Tensor]] = []
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, n, batch_size):
                rows = slice(start, min(n, start + batch_size))
                rng = Rng.for_rows(seed, rows.stop - start, start=start, device=model.device).of("sample")
                part = _answer(model, question.rows(rows).to(model.device), path, rng, eta, codes == "draw", draw)
                parts.append({name: x.cpu() for name, x in part.items()})
    finally:
        model.train(training)
    answer = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return answer | dict(given or {})


def _answer(
    model: JointModel, question: Question, path: list[int], rng: Rng, eta: float, draw_codes: bool, draw: bool
) -> dict[str, Tensor]:
    roles = question.roles
    observed = model.place(model.encode(question.known))
    dtype = observed.dtype
    z = rng.of("prior").normal(*model.space.shape, dtype=dtype)
    t = torch.full((len(z),), path[0], device=z.device)
    predictions = model.predict(z, t, roles, observed)
    for step in path[1:]:
        s = torch.full_like(t, step)
        here = rng.at(step)
        codes = model.expected_codes(predictions, here.of("codes") if draw_codes else None)
        placed = model.place(codes)
        h = (model.aggregate(placed, s, roles), model.aggregate(placed, t, roles))
        noise = here.of("noise").normal(*model.space.shape, dtype=dtype) if eta > 0 else torch.zeros_like(z)
        z, t = ddim_step(model.process, z, h, s, t, noise, eta), s
        predictions = model.predict(z, t, roles, observed)
    answer = {}
    for column, m in enumerate(model.variables):
        if bool((roles[:, column] == Role.GENERATE).all()):
            decoder, params = model.decoder(m.name), model.params(predictions, m.name)
            drawn = draw or m.discrete
            answer[m.name] = decoder.sample(params, rng.of("read").of(m.name)) if drawn else decoder.point(params)
    return answer
