"""One training step against the loss written out row by row: which rows count, what they are divided by, and how they are weighed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import Decoder, JointModel, Registry, Rng, Role, RoleMix, Space, Task
from mmcore.data import TensorBatch
from mmcore.testing.reference import Reference
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.timesteps import Timesteps
from mmcore_clip import ClipModality

from .runs import fit, rows
from .runs import small as smallest

WEIGHTS = {"label": 0.7, "words": 2.5}


class Words(ClipModality):
    """Whose head does not begin from its own noisy code, so that its loss has the factor of such heads."""

    def __init__(self) -> None:
        super().__init__(6, unit_norm=False)
        self.name = "words"

    def decoder(self, width: int, space: Space) -> Decoder:
        head = super().decoder(width, space)
        head.preconditioned = False  # type: ignore[misc]
        return head


def weighed(registry: Registry, layout: str) -> JointModel:
    parts = [registry.modality("label", classes=4), Words()]
    return mmcore.compose(
        parts,
        [Task(name, name, weight=weight) for name, weight in WEIGHTS.items()],
        layout=layout,
        space=(2, 4, 4),
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1, "features": 4},
        registry=registry,
    ).double()


def by_hand(model: JointModel, batch: TensorBatch, options: TrainOptions) -> tuple[Tensor, list[int]]:
    """The step's loss, and how many rows count for each task; ``λ`` from the schedule's own tables."""
    schedule, total, counts = model.process.schedule, torch.zeros((), dtype=torch.float64), []
    timesteps, mix = Timesteps.of(model), options.roles
    listed = list(mix.questions.values())
    declared = [mix.joint, mix.single, 1 - mix.joint - mix.single - sum(listed), *listed]
    asked = mix.asked(model.variables, model.driver.generable, model.driver.encoded)
    for column, task in enumerate(model.tasks):
        mine: dict[int, list[Tensor]] = {}
        for k in range(len(batch)):
            # A row's numbers are its own: it is drawn, and meets the model, alone.
            rng = Rng(options.seed, torch.tensor([k])).at(0).of("train")
            row = {name: x[k : k + 1] for name, x in batch.values.items()}
            even = rng.of("t").integers(1, model.process.steps + 1, model.process.blocks)
            roles, kinds = mix.draw(rng, batch.present[k : k + 1], model.driver.generable, model.driver.encoded, asked)
            t = timesteps(rng.of("t"), even, roles)
            u = float(rng.of("roles").uniform(1))
            ends = [
                mix.joint,
                mix.joint + mix.single,
                *(mix.joint + mix.single + sum(listed[: k + 1]) for k in range(len(listed))),
            ]
            kind = next(
                (place for place, end in zip((0, 1, *range(3, 3 + len(listed))), ends, strict=True) if u < end), 2
            )
            wanted = asked[kind - 3] if kind >= 3 else None
            if wanted is not None and not bool((batch.present[k] | (wanted == Role.ABSENT)).all()):
                kind = int(kinds)  # such a row is of another kind: tests/training/test_timesteps.py
            assert kind == int(kinds)
            seen = options.roles.draw_seen(rng, [m for m in model.modalities if model.divisible(m)])
            if int(roles[0, column]) != Role.GENERATE:
                continue
            assert bool(batch.present[k, column])
            size, codes = model.space.size, (4 + 6 if options.condition_noise else 0)
            noise, condition_noise = (
                rng.of("noise").normal(size + codes, dtype=torch.float64).split([size, codes], dim=1)
            )
            noise = noise.reshape(1, *model.space.shape)
            if options.condition_noise:
                condition_noise = options.condition_noise * rng.of("blur level").uniform(1).double() * condition_noise
            else:
                condition_noise = None
            loss = model(row, t, roles, noise, seen, condition_noise=condition_noise)[0, column]
            block = 0 if model.process.blocks == 1 else column
            variance = 1 - math.exp(float(schedule.log_A[t[0, block]]))
            signal = float(schedule.W[t[0, block], column]) ** 2
            factor = 1.0 if task.name == "label" else variance / (variance + signal)
            mine.setdefault(kind, []).append(loss * factor)
        counts.append(sum(map(len, mine.values())))
        if options.balance == "rows" and mine:
            total = total + WEIGHTS[task.name] * torch.stack([x for losses in mine.values() for x in losses]).mean()
        elif mine:
            there = sum(declared[kind] for kind in mine)
            means = [declared[kind] / there * torch.stack(losses).mean() for kind, losses in mine.items()]
            total = total + WEIGHTS[task.name] * torch.stack(means).sum()
    return total, counts


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize(
    ("accumulate", "condition_noise", "balance", "questions"),
    [
        (1, 0.0, "question", {}),
        (3, 0.0, "rows", {}),
        (3, 0.5, "question", {}),
        # The last one is hardly asked: its share goes to the other kinds.
        (1, 0.0, "question", {"words -> label": 0.2, "-> label": 0.2, "label -> words": 1e-6}),
    ],
)
def test_the_gradient_is_that_of_the_loss_written_out(
    layout: str, accumulate: int, condition_noise: float, balance: str, questions: dict[str, float], registry: Registry
) -> None:
    model = weighed(registry, layout)
    # Heads and gates start at zero, which would hide most of the gradient.
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.1 * Rng.for_rows(i, 1).normal(*p.shape, dtype=torch.float64)[0]
    table = rows(model, 12)
    values = {name: x.double() if x.is_floating_point() else x for name, x in table.rows.values.items()}
    batch = TensorBatch(values, table.rows.present)
    options = TrainOptions(
        steps=3,
        batch_size=12,
        clip=math.inf,
        accumulate=accumulate,
        condition_noise=condition_noise,
        balance=balance,
        roles=RoleMix(joint=0.3, single=0.2, partial=0.5, questions=questions),
    )
    loss, counts = by_hand(model, batch, options)
    assert 0 < min(counts) < max(counts) < len(batch)
    wanted = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    training_step(TrainState.start(model, options), batch)
    # The factors λ are float32, whatever the model is.
    for (name, p), want in zip(((n, p) for n, p in model.named_parameters() if p.requires_grad), wanted, strict=True):
        got = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(got, torch.zeros_like(p) if want is None else want, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_noise_on_what_is_observed_is_that_of_other_observations(layout: str) -> None:
    """Codes are the vectors themselves, so ``condition_noise`` is the same as observing ``x + condition_noise``; what is generated keeps its own loss."""
    parts = [Reference(3), Reference(2)]
    for name, part in zip("ab", parts, strict=True):
        part.name = name
    model = mmcore.compose(parts, layout=layout, backbone="mlp", backbone_options={"width": 16, "depth": 1}).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.1 * Rng.for_rows(i, 1).normal(*p.shape, dtype=torch.float64)[0]
    draw = Rng.for_rows(0, 6).of("test")
    size = {"a": 3, "b": 2}
    x = {name: draw.of(name).normal(n, dtype=torch.float64) for name, n in size.items()}
    condition_noise = draw.of("blur").normal(5, dtype=torch.float64)
    roles = torch.tensor([[Role.GENERATE, Role.OBSERVE], [Role.OBSERVE, Role.GENERATE]] * 2 + [[Role.GENERATE] * 2] * 2)
    observed = roles == Role.OBSERVE
    other = {
        "a": x["a"] + observed[:, :1] * condition_noise[:, :3],
        "b": x["b"] + observed[:, 1:] * condition_noise[:, 3:],
    }
    t = draw.of("t").integers(1, model.process.steps + 1, model.process.blocks)
    noise = draw.of("noise").normal(*model.space.shape, dtype=torch.float64)
    found = model(x, t, roles, noise, condition_noise=condition_noise)
    torch.testing.assert_close(found, model(other, t, roles, noise))
    changed = (found != model(x, t, roles, noise)).any(1)
    assert changed.tolist() == observed.any(1).tolist()


def test_a_task_without_rows_keeps_its_learned_weight(registry: Registry) -> None:
    model = weighed(registry, "shared").float()
    table = rows(model, 12)
    present = table.rows.present.clone()
    present[:, 0], present[:, 1] = False, True
    options = TrainOptions(steps=20, batch_size=12, task_weights="learned")
    state = TrainState.start(model, options)
    before = [w.item() for w in state.task_weights(torch.ones(2))[0]]
    for _ in range(5):
        training_step(state, TensorBatch(table.rows.values, present))
    after = [w.item() for w in state.task_weights(torch.ones(2))[0]]
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("steps", [1, 7, 12])
@pytest.mark.parametrize("ema_every", [1, 4, 5, 50])
def test_the_average_forgets_its_start_alike_however_often_it_is_made(
    steps: int, ema_every: int, registry: Registry
) -> None:
    """Of weights that do not move, the average has ``1 - Π_s ema_decay(s)`` in the end, and what it began with the rest."""
    options = TrainOptions(steps=steps, batch_size=8, lr=0.0, ema=0.8, ema_every=ema_every)
    model = weighed(registry, "shared")
    batch = rows(model, 8).rows
    batch = TensorBatch({n: x.double() if x.is_floating_point() else x for n, x in batch.values.items()}, batch.present)
    state = TrainState.start(model, options)
    begun = {name: x.fill_(3.0) for name, x in state.ema.items()}
    for _ in range(steps):
        training_step(state, batch)
    kept = math.prod(min(0.8, (1 + s) / (10 + s)) for s in range(steps))
    live = dict(model.named_parameters())
    for name, x in begun.items():
        torch.testing.assert_close(x, 3.0 * kept + (1 - kept) * live[name].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_gradient_beyond_clip_is_shortened_to_it(dtype: torch.dtype, rtol: float, registry: Registry) -> None:
    """After one step AdamW's first moment is ``(1 - β₁)`` times the gradient that it was given; in single precision its kernel divides."""
    first_moments = {}
    for clip in (math.inf, 1e-3):
        model = weighed(registry, "shared").to(dtype)
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):
                p.copy_(0.1 * Rng(7, torch.arange(1)).of(str(i)).normal(*p.shape, dtype=dtype)[0])
        batch = rows(model, 8).rows
        values = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.values.items()}
        state = TrainState.start(model, TrainOptions(steps=10, batch_size=8, clip=clip))
        report = training_step(state, TensorBatch(values, batch.present))
        assert report.grad_norm > 1e-2
        moments = [state.optimizer.state[p]["exp_avg"].flatten() for p in model.parameters() if p.requires_grad]
        first_moments[clip] = torch.cat(moments).double() / (1 - 0.9)
    whole, short = first_moments[math.inf], first_moments[1e-3]
    torch.testing.assert_close(whole.norm(), report.grad_norm.double(), rtol=rtol, atol=0.0)
    # The divisor has 1e-6 beside the norm, against a norm of zero.
    torch.testing.assert_close(
        short, whole * (1e-3 / (whole.norm() + 1e-6)), rtol=rtol, atol=1e-12 if dtype == torch.float32 else 0.0
    )


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_training_learns_whatever_is_around_it(registry: Registry, around: Callable[[], Any]) -> None:
    one, two = smallest(registry), smallest(registry)
    fit(registry, None, model=one, steps=3)
    with around():
        fit(registry, None, model=two, steps=3)
    assert all(torch.equal(x, two.state_dict()[name]) for name, x in one.state_dict().items())
