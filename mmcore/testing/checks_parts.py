"""Backbones, schedules and sources: the smaller sets. The plugin is what makes one."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mmcore.model.compose import compose
from mmcore.model.roles import Role
from mmcore.process import Process, Schedule
from mmcore.sampling.ask import sample
from mmcore.space import Layout, Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, Context, renamed
from mmcore.testing.reference import Reference

STEPS = 10

# ---- backbones ----


def _backbone(
    c: Context, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, more: int = 0, train: bool = False
) -> nn.Module:
    """A backbone with random weights; what starts at zero would hide faults."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed + more)
        backbone = c.thing(space=space, modalities=modalities, steps=STEPS, blocks=blocks)
        with torch.no_grad():
            for p in backbone.parameters():
                p += 0.05 * torch.randn_like(p)
    return backbone.train(train)


def _given(
    c: Context, n: int, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the engine gives a backbone: ``z``, timesteps, roles and condition, the known codes and the flags where they are."""
    z = c.rng(n, "z").normal(*space.shape)
    known = (c.rng(n, "known").uniform(*space.shape) < 0.5).to(z.dtype)
    condition = torch.cat([known * c.rng(n, "condition").normal(*space.shape), known], dim=1)
    return z, c.rng(n, "t").integers(0, STEPS + 1, blocks), c.rng(n, "roles").integers(0, 3, modalities), condition


@check("backbone.features", kind="backbone", fault="another width than `features` says, or one grid only")
def features(c: Context) -> None:
    """In spaces of one to three axes, for one or more modalities and timesteps, the features are `(B, features, *grid)` and finite."""
    for space in SPACES:
        for n in (1, 3):
            backbone = _backbone(c, space, n, n)
            width = getattr(backbone, "features", None)
            if not isinstance(width, int):
                c.fail(f"features = {width!r}", "an attribute with the number of the output's channels")
            out = backbone(*_given(c, 4, space, n, n))
            want = (4, width, *space.grid)
            if tuple(out.shape) != want or not out.isfinite().all():
                c.fail(f"features of shape {tuple(out.shape)} in {space}", f"finite ones of {want}")


@check("backbone.rows", kind="backbone", fault="batch norm", tolerance=1e-4)
def backbone_rows(c: Context) -> None:
    """A sample's features do not depend on the batch that it is in, in training too."""
    backbone, given = _backbone(c, train=True), _given(c, 6)
    torch.manual_seed(c.seed)
    whole = backbone(*given)
    way = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.manual_seed(c.seed)
    c.same(backbone(*[x[way] for x in given]), whole[way], "features of the permuted batch")
    torch.manual_seed(c.seed)
    c.same(backbone(*[x[2:4] for x in given]), whole[2:4], "features of rows 2 and 3 alone")


@check("backbone.deterministic", kind="backbone", fault="dropout or noise from the global generator", tolerance=0.0)
def backbone_deterministic(c: Context) -> None:
    """The same input gives the same features, in training too, and the global random generator is left alone."""
    backbone, given = _backbone(c, train=True), _given(c, 4)
    state = torch.get_rng_state()
    first = backbone(*[x.clone() for x in given])
    c.same(backbone(*given), first, "the features of the same input again")
    if not torch.equal(torch.get_rng_state(), state):
        c.fail("numbers drawn from torch's global generator", "none, or training cannot be resumed exactly")


@check("backbone.reads", kind="backbone", fault="a network that ignores a timestep, its roles or what is observed")
def reads(c: Context) -> None:
    """The features depend on each of `z`, every block's timestep, the roles, the known codes and the flags where they are."""
    backbone, given = _backbone(c), list(_given(c, 4))
    given[1] = torch.full((4, 2), 2)
    given[2] = torch.zeros(4, 2, dtype=torch.int64)
    whole = backbone(*given)
    codes, flags = given[3].chunk(2, dim=1)
    others = {
        "z": (0, given[0] + 1),
        "the first block's timestep": (1, torch.tensor([[STEPS, 2]]).expand(4, -1)),
        "the second block's timestep": (1, torch.tensor([[2, STEPS]]).expand(4, -1)),
        "the roles": (2, torch.ones(4, 2, dtype=torch.int64)),
        "the known codes": (3, torch.cat([codes + flags, flags], dim=1)),
        "the flags": (3, torch.cat([codes, 1 - flags], dim=1)),
    }
    for name, (k, other) in others.items():
        changed = backbone(*[other if i == k else x for i, x in enumerate(given)])
        if (changed - whole).abs().max() < 1e-6:
            c.fail(f"the same features whatever {name}", f"features that depend on {name}")


@check("backbone.gradient", kind="backbone", fault="weights that nothing uses, a detached branch")
def backbone_gradient(c: Context) -> None:
    """The gradient reaches `z`, the condition and every weight; an unused one hangs training on many devices."""
    backbone = _backbone(c, train=True)
    z, t, roles, condition = _given(c, 4)
    z.requires_grad_()
    condition.requires_grad_()
    backbone(z, t, roles, condition).square().sum().backward()
    for name, x in (("z", z), ("the condition", condition)):
        if x.grad is None or not x.grad.abs().sum() > 0:
            c.fail(f"no gradient at {name}", "one that is not zero")
    if missing := [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]:
        c.fail(f"weights without a gradient: {', '.join(missing)}", "every weight in use")


@check(
    "backbone.state", kind="backbone", fault="weights held as plain attributes, or not drawn by the seed", tolerance=0.0
)
def backbone_state(c: Context) -> None:
    """Initial weights depend on torch's seed alone; a state dict goes through safetensors into a new backbone."""
    given = _given(c, 2)
    one, again, other = _backbone(c), _backbone(c), _backbone(c, more=1)
    c.same(again(*given), one(*given), "the features of a backbone made under the same seed")
    other.load_state_dict(load(save({k: v.contiguous() for k, v in one.state_dict().items()})))
    c.same(other(*given), one(*given), "the features by the loaded backbone")


@check("backbone.device", kind="backbone", fault="a tensor made on the CPU inside forward", core=False)
def backbone_device(c: Context) -> None:
    """It computes where it is moved to, with all that it holds; asked with torch's meta device."""
    meta = torch.device("meta")
    out = _backbone(c).to(meta)(*[x.to(meta) for x in _given(c, 2)])
    if out.device != meta:
        c.fail(f"features on {out.device}", "on the device it was moved to")


@check(
    "backbone.composes",
    kind="backbone",
    fault="a batch size, grid or number of modalities or timesteps fixed in the code",
)
def composes(c: Context) -> None:
    """A model around it, alone and of three modalities in one block or three, gives finite losses and samples that fit."""
    for n, layout in ((1, "shared"), (3, "shared"), (3, "separate")):
        members = [renamed(Reference(2 + k), f"m{k}") for k in range(n)]
        codes, names = [m.code for m in members], [m.name for m in members]
        groups = Layout.groups(layout, names)
        space = Space.for_codes(codes, groups)
        table = Schedule.from_cumulative(torch.linspace(0, -8, STEPS + 1), torch.linspace(0, -4, STEPS + 1).exp()[:, None].repeat(1, n))  # fmt: skip
        backbone = c.thing(space=space, modalities=n, steps=STEPS, blocks=len(groups))
        model = compose(members, layout=layout, space=space.shape, schedule=table, backbone=backbone)
        batch = {m.name: m.typical(3, c.seed) for m in members}
        roles = torch.full((3, n), int(Role.GENERATE))
        losses = model(batch, torch.tensor([1, 5, STEPS]), roles, c.rng(3, "noise").normal(*space.shape))
        if not losses.isfinite().all():
            c.fail(f"losses with NaN or infinity around the backbone, layout {layout!r}", "finite nats")
        for m in members:
            m.spec.check(sample(model, 3, steps=3, seed=c.seed)[m.name], f"sampled around the backbone, {m.name}")


# ---- schedules ----


def _schedules(c: Context) -> Iterable[tuple[int, int, Schedule]]:
    for steps in (STEPS, 1000):
        for n in (1, 2, 8):
            yield steps, n, c.thing(steps=steps, modalities=n)


@check("schedule.tables", kind="schedule", fault="another number of steps, float32 tables, an A that rises")
def tables(c: Context) -> None:
    """It has the steps and modalities asked for, in finite float64 tables; log A starts at 0 and decreases."""
    for steps, n, s in _schedules(c):
        if not isinstance(s, Schedule):
            c.fail(f"a {type(s).__name__}", "a mmcore.Schedule")
        if s.log_A.shape != (steps + 1,) or s.W.shape != (steps + 1, n):
            c.fail(f"tables of {tuple(s.log_A.shape)} and {tuple(s.W.shape)}", f"({steps + 1},) and ({steps + 1}, {n})")
        if s.log_A.dtype != torch.float64 or s.W.dtype != torch.float64:
            c.fail(f"tables in {s.log_A.dtype} and {s.W.dtype}", "float64: float32 loses a step's factor")
        if not (s.log_A.isfinite().all() and s.W.isfinite().all()):
            c.fail("tables with NaN or infinity", "finite numbers")
        if s.log_A[0] != 0 or not (s.log_A.diff() < 0).all():
            c.fail(f"log A from {s.log_A[0]:.4g}, not decreasing everywhere", "0 at first, then less at every step")
        if not 0 <= s.eta <= 1:
            c.fail(f"eta = {s.eta}", "0 … 1")


@check("schedule.deterministic", kind="schedule", fault="random weights", tolerance=0.0)
def schedule_deterministic(c: Context) -> None:
    """The same options give the same tables."""
    for steps, n, s in _schedules(c):
        again = c.thing(steps=steps, modalities=n)
        c.same(again.log_A, s.log_A, "log A, made again")
        c.same(again.W, s.W, "W, made again")


@check(
    "schedule.prior",
    kind="schedule",
    fault="too little noise at the end, so that samples start from what is never reached",
)
def prior(c: Context) -> None:
    """At 1000 steps the process reaches the prior: L0 is at most 0.001 nats per element for one to eight modalities."""
    for steps, n, s in _schedules(c):
        variance = s.variance[-1]
        # Codes of unit variance that share the space evenly.
        L0 = float(0.5 * (variance - 1 - variance.log() + s.W[-1].square().mean()))
        if steps == 1000 and not L0 <= 1e-3:
            c.fail(f"L0 = {L0:.3g} nats per element for {n} modalities", "at most 0.001")


@check("schedule.signal", kind="schedule", fault="weights that leave a modality below the noise at every step")
def signal(c: Context) -> None:
    """At some step every modality stands out of the noise, with a signal-to-noise ratio of at least 0.1."""
    for _, n, s in _schedules(c):
        snr = (s.W[1:].square() / s.variance[1:, None]).max(0).values
        if not (snr >= 0.1).all():
            c.fail(f"a largest signal-to-noise ratio of {float(snr.min()):.3g} for {n} modalities", "0.1 or more")


@check("schedule.steps", kind="schedule", fault="steps so small or large that the variances lose their digits")
def steps(c: Context) -> None:
    """Every jump's posterior variance is finite and between 0 and the transition's."""
    for length, _, s in _schedules(c):
        process = Process(s)
        t = torch.arange(1, length + 1)
        for before in (t - 1, t // 2, torch.zeros_like(t)):
            jump = process.jump(before, t)
            ok = (jump.beta >= 0) & (jump.beta <= jump.v * (1 + 1e-9)) & (jump.v > 0) & jump.k.isfinite()
            if not ok.all():
                k = int((~ok).nonzero()[0])
                c.fail(
                    f"from {int(before[k])} to {int(t[k])} beta = {jump.beta[k]:.4g}, v = {jump.v[k]:.4g}",
                    "0 ≤ beta ≤ v, v > 0",
                )


@check(
    "schedule.alike",
    kind="schedule",
    fault="a weight by the modality's place in the list",
    level="provisional",
    core=False,
    tolerance=1e-9,
)
def alike(c: Context) -> None:
    """Without options all modalities have the same weights."""
    for _, n, s in _schedules(c):
        c.same(s.W, s.W[:, :1].expand(-1, n), "W of the modalities")


# ---- sources ----


def _rows(c: Context, most: int = 200) -> list[Any]:
    rows = []
    for row in c.thing():
        rows.append(row)
        if len(rows) == most:
            break
    return rows


def _equal(a: Any, b: Any) -> bool:
    """Whether two raw values are the same; NaN is its own equal here."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    if hasattr(a, "tobytes"):
        # Arrays and pictures.
        return getattr(a, "shape", None) == getattr(b, "shape", None) and a.tobytes() == b.tobytes()
    return bool(a == b) or (a != a and b != b)


@check("source.rows", kind="source", fault="tuples for rows, or no row at all")
def source_rows(c: Context) -> None:
    """It gives one row at least; each is a mapping from names to raw values, and holds a value."""
    rows = _rows(c)
    if not rows:
        c.fail("no row", "one at least")
    for k, row in enumerate(rows):
        if not isinstance(row, Mapping):
            c.fail(f"row {k} is a {type(row).__name__}", "a mapping from names to raw values")
        if not all(isinstance(name, str) and name and "." not in name for name in row):
            c.fail(f"row {k} has the names {list(row)}", "words without dots")
        if all(value is None for value in row.values()):
            c.fail(f"row {k} with no value", "one that is not None")


@check("source.repeatable", kind="source", fault="an iterator that is used up, rows shuffled by the global generator")
def source_repeatable(c: Context) -> None:
    """The same source gives the same rows in the same order each time, and another one made alike does too."""
    source = c.thing()
    passes = []
    for k, one in enumerate((source, source, c.thing())):
        torch.manual_seed(c.seed + k)
        np.random.seed(c.seed + k)  # noqa: NPY002
        passes.append([row for _, row in zip(range(200), one, strict=False)])
    for rows, what in ((passes[1], "a second pass"), (passes[2], "another source made alike")):
        if len(rows) != len(passes[0]):
            c.fail(f"{len(rows)} rows by {what}", f"{len(passes[0])}")
        for k, (a, b) in enumerate(zip(passes[0], rows, strict=True)):
            if not _equal(a, b):
                c.fail(f"another row {k} by {what}", "the same")


@check("source.own_rows", kind="source", fault="one dictionary filled anew for every row")
def own_rows(c: Context) -> None:
    """A row is the caller's: each is a mapping of its own, and changing it changes no other and no later pass."""
    source = c.thing()
    rows = [row for _, row in zip(range(20), source, strict=False)]
    if len({id(row) for row in rows}) != len(rows):
        c.fail("one mapping given out for several rows", "one for each")
    kept = [dict(row) for row in rows]
    for row in rows:
        if isinstance(row, dict):
            row.clear()
    for k, (row, old) in enumerate(zip(source, kept, strict=False)):
        if not _equal(dict(row), old):
            c.fail(f"another row {k} after earlier ones were changed", "the same")


@check("source.length", kind="source", fault="a length that counts what the split leaves out", core=False)
def length(c: Context) -> None:
    """Where it has a length, that is the number of its rows, and indexing gives the rows in their order."""
    source = c.thing()
    if not hasattr(source, "__len__"):
        raise NotRun("the source has no length")
    n = len(source)
    rows = list(source)
    if len(rows) != n:
        c.fail(f"a length of {n} with {len(rows)} rows", "the number of rows")
    if hasattr(source, "__getitem__"):
        for k in (0, n // 2, n - 1):
            if not _equal(source[k], rows[k]):
                c.fail(f"another row by index {k} than in order", "the same")
