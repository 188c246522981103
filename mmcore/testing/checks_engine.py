"""The plugin inside the engine: the process's identities with its codes, its roles, and that it learns.

The identities of the process hold for any tensors. Each check here is put so that a faulty plugin, not
the process, decides it: the encoder is called anew where the identity has the same code twice.
"""

import copy
import math

import torch
from torch import Tensor

from mmcore.data import Table, TensorBatch
from mmcore.modality.base import Modality
from mmcore.model.joint import JointModel
from mmcore.model.roles import Role, RoleMix
from mmcore.process import Schedule
from mmcore.sampling.ask import sample
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import LAYOUTS, Context, aggregate, descend
from mmcore.testing.reached import Reached, restricted
from mmcore.testing.small import codes_of_any_size
from mmcore.testing.statistics import heavy, mean_bound, of_draws, sigmas
from mmcore.training import fit


def _generate(model: JointModel, n: int) -> Tensor:
    return torch.full((n, len(model.variables)), int(Role.GENERATE))


def _shuffled(batch: dict[str, Tensor], other: dict[str, Tensor], turn: int) -> dict[str, Tensor]:
    """The rows rotated by ``turn``, with rows of others after them."""
    return {k: torch.cat([x.roll(turn, 0), other[k][: turn % 3]]) for k, x in batch.items()}


@check(
    "engine.chain",
    fault="a code that changes from call to call or with the batch, an encoder that edits its input, a cached batch",
    tolerance=1e-4,
)
def chain(c: Context) -> None:
    """The transitions' chain, encoding anew at each step and in other company, arrives at the marginal at every step."""
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        process, n = model.process, 5
        batch, other = c.batch(modalities, n), c.batch(modalities, n, 1)
        kept = {k: x.clone() for k, x in batch.items()}
        roles = _generate(model, n)
        alone = torch.cat([model.encode({k: x[i : i + 1].clone() for k, x in kept.items()}) for i in range(n)])
        placed = model.frame.place(alone)
        z = aggregate(model, placed, 0, roles)
        for t in range(1, process.steps + 1):
            codes = model.encode(_shuffled(batch, other, t))[:n].roll(-t, 0)
            now = model.frame.place(codes)
            h = (aggregate(model, now, t - 1, roles), aggregate(model, now, t, roles))
            z = process.transition(z, None, t - 1, t, h=h).mean
            want = process.marginal(None, t, h=aggregate(model, placed, t, roles)).mean
            c.same(z, want, f"{composition}: the chain's mean at step {t}")


@check(
    "engine.bayes",
    fault="a code that depends on how often, or in what company, it was asked for",
    tolerance=1e-4,
)
def bayes(c: Context) -> None:
    """Forward and back is one joint density: posterior times marginal is transition times marginal, encoding anew for each."""
    n = 5
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        noise = c.rng(n, "noise").normal(2, *model.space.shape, dtype=torch.float64)
        back, ahead = _back_and_ahead(model, c.batch(modalities, n), c.batch(modalities, n, 1), noise)
        c.same(back / model.space.size, ahead / model.space.size, f"{composition}: nats per element, back and ahead")


def _back_and_ahead(
    model: JointModel, batch: dict[str, Tensor], other: dict[str, Tensor], noise: Tensor
) -> tuple[Tensor, Tensor]:
    """``log q(z_s|z_t) q(z_t)`` and ``log q(z_t|z_s) q(z_s)``, ``(B,)`` each, with new codes for every factor."""
    s, t, n, process = 3, 6, len(noise), model.process
    roles = _generate(model, n)

    def h(turn: int) -> tuple[Tensor, Tensor]:
        placed = model.frame.place(model.encode(_shuffled(batch, other, turn))[:n].roll(-turn, 0))
        return aggregate(model, placed, s, roles).double(), aggregate(model, placed, t, roles).double()

    z_s = process.marginal(None, s, h=h(0)[0]).draw(noise[:, 0])
    z_t = process.transition(z_s, None, s, t, h=h(1)).draw(noise[:, 1])
    back = process.posterior(z_t, None, s, t, h=h(2)).log_prob(z_s) + process.marginal(None, t, h=h(3)[1]).log_prob(z_t)
    forth = process.transition(z_s, None, s, t, h=h(4)).log_prob(z_t)
    return back, forth + process.marginal(None, s, h=h(5)[0]).log_prob(z_s)


@check(
    "engine.posterior",
    fault="an expected code that is not the mean of its draws' codes, or is laid out in another order than the code",
    tolerance=1e-3,
    false_alarm="1e-8 per composition: the empirical Bernstein bound over all elements of the space",
)
def posterior(c: Context) -> None:
    """The posterior rebuilt from the expected codes is the mean of those rebuilt from the codes of draws."""
    n = c.profile.draws // 2
    own = c.settled_params(1)
    clipped, decided = c.clipped, False
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        process = model.process
        params, drawn = {}, {}
        c.clipped = clipped
        for k, m in enumerate(modalities):
            twin = c.beside(thing=m, seed=c.seed + k)
            params[m.name] = own if k == 0 else twin.settled_params(1)
            # Draws of whichever of them may be clipped.
            c.clipped = max(c.clipped, twin.clipped)
            drawn[m.name] = model.heads.decoder(m.name).sample(params[m.name].expand(n, *own_shape(params[m.name])), twin.rng(n, m.name))  # fmt: skip
        with torch.no_grad():
            s, t = 3, 6
            codes = {"expected": model.heads.expected_codes(params), "drawn": model.encode(drawn)}
            # One z_t for all: its share of the posterior's mean is the same in each.
            z = c.rng(1, "z").normal(*model.space.shape)
            means = {}
            for name, code in codes.items():
                placed, roles = model.frame.place(code), _generate(model, len(code))
                h = (aggregate(model, placed, s, roles), aggregate(model, placed, t, roles))
                means[name] = process.posterior(z.expand_as(h[0]), None, s, t, h=h).mean.flatten(1).double()
        usual = model.frame.place(model.encode({m.name: m.typical(512, c.seed + k) for k, m in enumerate(modalities)}))
        roles = _generate(model, len(usual))
        h = (aggregate(model, usual, s, roles), aggregate(model, usual, t, roles))
        met = process.posterior(z.expand_as(h[0]), None, s, t, h=h).mean.flatten(1).double()
        both = torch.cat([means["drawn"], met])
        reach = float((codes["drawn"].max() - codes["drawn"].min()).abs()) if c.modality.discrete else 0.0
        # How far the posterior moves per unit of a code, at most: what a class too rare to be drawn could have added.
        per_code = float(means["drawn"].std(0).max() / codes["drawn"].std(0).max().clamp(min=1e-6))
        reaches = (both.amax(0) - both.amin(0)).clamp(min=reach * per_code)
        bound = mean_bound(means["drawn"], reaches) + c.tolerance + of_draws(c.modality.code_draws, means["drawn"])
        gap = (means["drawn"].mean(0) - means["expected"][0]).abs()
        judged = torch.ones_like(gap, dtype=torch.bool) if c.modality.discrete else ~heavy(means["drawn"])
        gap = gap.where(judged, torch.zeros_like(gap))
        # Alone all that varies is its own.
        varies = means["drawn"].std(0) > 0
        decided |= len(modalities) == 1 and bool((judged & varies).any() or not varies.any())
        if (gap > bound).any():
            e = int((gap - bound).argmax())
            c.fault(
                f"{composition}: a posterior mean of {float(means['expected'][0, e]):.4g} in element {e} of the space",
                f"{means['drawn'][:, e].mean():.4g} (± {bound[e]:.2g}), the mean over {n} draws",
            )
    if not decided:
        raise NotRun("not decided: a few draws far out make up the mean of all codes")


def own_shape(params: Tensor) -> tuple[int, ...]:
    """A row's shape."""
    return tuple(params.shape[1:])


@check(
    "engine.order", fault="parts of two modalities that share state, weights drawn while they are made", tolerance=1e-6
)
def order(c: Context) -> None:
    """Its codes and expected codes are the same alone, first or last in a composition, and beside itself under another name."""
    p = c.params(4)
    alone: list[Tensor] = []
    for composition, modalities, layout in c.compositions():
        seen: list[tuple[Tensor, Tensor]] = []
        batch = c.batch(modalities, 4)
        for arranged in (modalities, modalities[::-1]):
            model = c.compose(arranged, layout)
            params = {m.name: p if m is modalities[0] else c.beside(thing=m).params(4) for m in arranged}
            with torch.no_grad():
                both = model.encode(batch), model.heads.expected_codes(params)
            start = sum(math.prod(m.code) for m in arranged[: arranged.index(modalities[0])])
            stop = start + math.prod(modalities[0].code)
            seen.append((both[0][:, start:stop], both[1][:, start:stop]))
        c.same(seen[1][0], seen[0][0], f"{composition}: its codes when it comes last")
        c.same(seen[1][1], seen[0][1], f"{composition}: its expected codes when it comes last")
        # The first composition is that of the modality alone.
        alone = alone or list(seen[0])
        c.same(seen[0][0], alone[0], f"{composition}: its codes, unlike alone")
        c.same(seen[0][1], alone[1], f"{composition}: its expected codes, unlike alone")


@check("engine.rows", fault="a loss or a head that looks at its neighbours in the batch", tolerance=1e-4)
def rows(c: Context) -> None:
    """In the model a sample's losses are its own: permuting the batch permutes them."""
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        batch, roles = c.batch(modalities, 6), _generate(model, 6)
        t, noise = torch.arange(1, 7), c.rng(6, "noise").normal(*model.space.shape)
        whole = model(batch, t, roles, noise)
        if not whole.isfinite().all():
            c.fail(f"{composition}: losses with NaN or infinity", "finite nats")
        way = torch.tensor([4, 0, 5, 2, 1, 3])
        moved = model({k: x[way] for k, x in batch.items()}, t[way], roles[way], noise[way])
        c.same(moved, whole[way], f"{composition}: losses of the permuted batch")


@check(
    "roles.absent",
    fault="a placeholder whose loss or code is not finite, so that its zeroed gradient is NaN; codes that leak between rows",
    tolerance=1e-6,
)
def absent(c: Context) -> None:
    """Where it is absent it changes nothing: any value gives the neighbours' same losses and gradients, all finite."""
    for composition, modalities, layout in c.compositions():
        if len(modalities) == 1:
            continue
        model = c.compose(modalities, layout)
        n = 4
        batch = c.batch(modalities, n)
        roles = _generate(model, n)
        roles[:, 0] = Role.ABSENT
        # One row has it, as in any batch with missing data.
        roles[0, 0] = Role.GENERATE
        t, noise = torch.arange(1, n + 1), c.rng(n, "noise").normal(*model.space.shape)
        outcomes = []
        for value in (batch["subject"], c.modality.spec.placeholder(n), c.batch(modalities, n, 1)["subject"]):
            given = value.clone()
            given[0] = batch["subject"][0]
            model.zero_grad()
            losses = model({**batch, "subject": given}, t, roles, noise)
            losses.sum().backward()
            slopes = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            if not losses.isfinite().all() or not slopes.isfinite().all():
                c.fail(f"{composition}: losses or gradients with NaN or infinity", "finite ones")
            outcomes.append((losses.detach(), slopes))
        scale = outcomes[0][1].abs().max().clamp(min=1)
        for losses, slopes in outcomes[1:]:
            c.same(losses, outcomes[0][0], f"{composition}: losses after the absent value changed")
            c.same(slopes / scale, outcomes[0][1] / scale, f"{composition}: gradients after the absent value changed")


@check("roles.observed", fault="an encoder that edits its input, which is then the user's own tensor", tolerance=0.0)
def observed(c: Context) -> None:
    """Observed, it comes back from `sample` untouched, and a training step leaves the batch as it was."""
    for composition, modalities, layout in c.compositions():
        if len(modalities) == 1:
            continue
        model = c.compose(modalities, layout)
        x = c.typical(3)
        kept = x.clone()
        answer = sample(model, 3, given={"subject": x}, steps=3, seed=c.seed)
        c.same(answer["subject"], kept, f"{composition}: the observed value in the answer")
        c.same(x, kept, f"{composition}: the tensor given as observed")
        batch = {**c.batch(modalities, 3), "subject": x}
        roles = _generate(model, 3)
        roles[:, 0] = Role.OBSERVE
        model(batch, torch.tensor([1, 4, 8]), roles, c.rng(3, "noise").normal(*model.space.shape))
        c.same(x, kept, f"{composition}: the batch's value after a training step")


@check(
    "roles.generated",
    fault="draws outside the spec at parameters that untrained heads give, or rows that sway each other",
    tolerance=1e-3,
)
def generated(c: Context) -> None:
    """Generated, its samples fit the spec, in every role of the others, and do not depend on the batch size."""
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        questions: list[dict] = [{}]
        if len(modalities) > 1:
            last = modalities[-1]
            questions += [{"absent": [last.name]}, {"given": {last.name: last.typical(4, c.seed)}}]
        for question in questions:
            answer = sample(model, 4, steps=3, seed=c.seed, **question)["subject"]
            c.modality.spec.check(answer, f"{composition}: generated")
        if not c.modality.discrete:
            # Classes may flip where a uniform number falls on a rounded probability.
            c.same(sample(model, 4, steps=3, seed=c.seed, batch_size=3)["subject"], sample(model, 4, steps=3, seed=c.seed)["subject"], f"{composition}: samples in batches of 3")  # fmt: skip


@check(
    "learn.gradient",
    fault="a head that detaches its features, an encoder that is constant, weights that nothing uses",
    core=False,
)
def gradient(c: Context) -> None:
    """The loss's gradient reaches the code, the whole backbone and every weight of the head."""
    for composition, modalities, layout in c.compositions():
        model = c.compose(modalities, layout)
        n = 4
        batch, roles = c.batch(modalities, n), _generate(model, n)
        t = torch.full((n,), 2)
        codes = model.encode(batch).detach().requires_grad_()
        placed = model.frame.place(codes)
        z = aggregate(model, placed, 2, roles) + 0.1 * c.rng(n, "noise").normal(*model.space.shape)
        drive = model.drive(t, roles)
        params = model.predict(model.read(z, drive), drive.t, drive.timesteps, roles, model.condition(placed, drive))[
            "subject"
        ]
        loss = c.loss(params, batch["subject"]).sum()
        if not loss.requires_grad:
            c.fail(f"{composition}: a loss without a gradient", "one to the code, the backbone and the head")
        loss.backward()
        size = math.prod(modalities[0].code)
        if codes.grad is None or not codes.grad[:, :size].abs().sum() > 0:
            c.fail(f"{composition}: no gradient at the code", "one that is not zero")
        for part, module in (("backbone", model.backbone), ("head", model.heads.decoder("subject"))):
            for name, p in module.named_parameters():
                if p.grad is None:
                    c.fail(f"{composition}: no gradient at {name} of the {part}", "one that is not zero")
            if not sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None) > 0:
                c.fail(f"{composition}: a gradient of 0 at the {part}", "one that is not zero")


MOST_HELD = 8192
"""How many samples are held out at most."""


@check(
    "learn.improves",
    fault="a loss of something else than the target, codes too small or too alike to be told from noise",
    core=False,
    tolerance=0.03,
    false_alarm="1e-8: 5.7 standard errors of the gain over held-out samples",
)
def improves(c: Context) -> None:
    """A short training on typical samples lowers the held-out loss below the untrained model's and below a constant's.

    By at least the tolerance in nats per element of the sample, or a quarter of all that there is to gain where that is less; the
    best constant parameters are found by descent. A head that begins from its own noisy code is asked without it, as with it an untrained one may be right. More samples are held out until the gain is told from the least; where it is
    not, though twice the least on average, it is not decided. One that has learned its few samples by heart is trained on more.
    """
    subject: Modality = c.modality
    # Little noise: what the code holds can be read, so a healthy pair of encoder and head beats any constant soon.
    log_A = torch.tensor([0.0, 0.02, 0.05, 0.1, 0.2], dtype=torch.float64).neg()
    model = c.compose(
        [subject], LAYOUTS[0], Schedule.from_cumulative(log_A, (0.5 * log_A).exp()[:, None]), reading="space"
    )
    name = subject.name
    most = max(256, min(MOST_HELD, 2**22 // math.prod(subject.spec.shape)))
    train, held = subject.typical(512, c.seed), subject.typical(most, c.seed + 1)

    def losses(model: JointModel, n: int, rows: Tensor = held) -> Tensor:
        noise, t = c.rng(n, "noise").normal(*model.space.shape), torch.arange(n) % 4 + 1
        with torch.no_grad():
            return model({name: rows[:n]}, t, _generate(model, n), noise)[:, 0].double()

    untrained = copy.deepcopy(model)
    start = c.params_at(0.1, c.seed)
    constant = start.clone().requires_grad_()
    descend(constant, lambda p: c.loss(p.expand(len(train), *p.shape[1:]), train).mean(), steps=400, lr=0.1)

    def fitted(train: Tensor, steps: int) -> JointModel:
        model = copy.deepcopy(untrained)
        table = Table(TensorBatch({name: train}, torch.ones(len(train), 1, dtype=torch.bool)))
        with codes_of_any_size():
            fit(model, table, steps=steps, batch_size=64, lr=5e-3, ema=0.9, roles=RoleMix(joint=1.0, single=0.0), seed=c.seed, device="cpu", quiet=True)  # fmt: skip
        return model

    steps = c.profile.steps
    model = fitted(train, steps)
    least = c.tolerance * math.prod(subject.spec.shape)
    n, free = 256, True
    while True:
        trained = losses(model, n)
        fixed = c.loss(constant.detach().expand(n, *start.shape[1:]), held[:n]).double()
        # No likelihood of classes is better than certainty.
        asked = least if subject.spec.dtype.is_floating_point else min(least, float(fixed.mean()) / 4)
        open_ = False
        for what, other in (("the untrained model", losses(untrained, n)), ("the best constant", fixed)):
            gain = other - trained
            doubt = sigmas() * float(gain.std()) / math.sqrt(n)
            if float(gain.mean()) - doubt > asked:
                continue
            if n == len(held) and float(gain.mean()) > 2 * asked:
                raise NotRun(
                    f"not decided: {float(gain.mean()):.3g} nats are gained over {what} (± {doubt:.2g}), of {float(other.mean()):.3g} in all"
                )
            if free and what == "the best constant":
                # Numbers that are no parameters may have any loss.
                free = False
                if restricted(c):
                    constant, open_ = Reached(c).constant(train), True
                    break
            if n == len(held) or float(gain.mean()) + doubt < asked:
                by_heart = float(trained.mean() - losses(model, len(train), train).mean())
                if steps == c.profile.steps and by_heart > asked:
                    # Of many classes a few rows are learned by heart; what is met once cannot be.
                    steps *= 4
                    model = fitted(subject.typical(max(most, 512), c.seed + 2), steps)
                    n, open_ = 128, True
                    break
                c.fail(
                    f"a loss of {trained.mean():.4g} nats after {steps} steps, that of {what} being {other.mean():.4g}",
                    f"one lower by {asked:.3g} nats at least, beyond doubt",
                )
            open_ = True
        if not open_:
            return
        n = min(2 * n, len(held))
