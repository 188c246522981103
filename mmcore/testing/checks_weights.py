"""Backbones as things that are trained: their gradients, weights and copies, and a model around them."""

import ast
import copy
import itertools
from types import SimpleNamespace

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mmcore.model.compose import compose
from mmcore.model.roles import Role
from mmcore.process import Schedule
from mmcore.sampling.ask import sample
from mmcore.space import Layout, Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_backbone import STEPS, inputs, made_backbone, random_backbone
from mmcore.testing.context import SPACES, Context, renamed
from mmcore.testing.reference import Reference
from mmcore.testing.surroundings import elsewhere, holds, left_alone, reseed


@check("backbone.gradient", kind="backbone", fault="weights that nothing uses, a detached branch")
def backbone_gradient(c: Context) -> None:
    """The gradient reaches `z`, the condition and every weight that is trained, and is finite; an unused one hangs training on many devices."""
    backbone = random_backbone(c, train=True)
    seen: set[str] = set()
    for n, t_of_all in ((4, None), (5, 0), (6, STEPS)):
        z, t, roles, condition = inputs(c, n)
        t = t if t_of_all is None else torch.full_like(t, t_of_all)
        z.requires_grad_()
        condition.requires_grad_()
        backbone.zero_grad(set_to_none=True)
        backbone(z, t, roles, condition).square().sum().backward()
        for name, x in (("z", z), ("the condition", condition)):
            if x.grad is None or not x.grad.abs().sum() > 0:
                c.fail(f"no gradient at {name}", "one that is not zero")
        trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        if not trained:
            raise NotRun("it has no weight that is trained")
        if missing := [name for name, p in trained.items() if p.grad is None]:
            c.fail(f"weights without a gradient: {', '.join(missing)}", "every weight in use")
        if wrong := [name for name, p in trained.items() if not p.grad.isfinite().all()]:  # type: ignore[union-attr]
            c.fail(f"NaN or infinity in the gradient of {', '.join(wrong)}", "finite numbers")
        for name, x in (("z", z), ("the condition", condition)):
            if len(none := (x.grad.flatten(1) == 0).all(1).nonzero()):  # type: ignore[union-attr]
                c.fail(f"no gradient at {name} of row {int(none[0])} of {n}", "one in every row")
        seen |= {name for name, p in trained.items() if bool((p.grad != 0).any())}  # type: ignore[union-attr]
    _check_slope(c, backbone)
    if unmoved := [name for name in trained if name not in seen]:
        c.fail(f"weights whose gradient is zero throughout: {', '.join(unmoved)}", "every weight in use")


def _check_slope(c: Context, backbone: nn.Module) -> None:
    """The gradient is that of the features: what they change by a small step in any direction, as far as rounding lets this be seen."""
    backbone = copy.deepcopy(backbone).eval().double()
    _, t, roles, _ = inputs(c, 4)
    z, condition = (x.double() for x in (inputs(c, 4)[0], inputs(c, 4)[3]))
    weights = [p for p in backbone.parameters() if p.requires_grad]
    to = c.rng(4, "slope").normal(1, *z.shape[2:], dtype=torch.float64)

    def value() -> Tensor:
        return (backbone(z, t, roles, condition).double() * to).sum()

    places = [z.requires_grad_(), condition.requires_grad_(), *weights]
    try:
        gradients = torch.autograd.grad(value(), places)
    except (RuntimeError, TypeError):
        return  # It takes no double precision, which another check says.
    for k in range(4):
        ways = [
            c.rng(1, f"way {k} {i}").normal(x.numel(), dtype=torch.float64)[0].reshape(x.shape)
            for i, x in enumerate(places)
        ]
        ways = [way if k < 2 or i == k - 2 else 0 * way for i, way in enumerate(ways)]
        want = float(sum((g.double() * way).sum() for g, way in zip(gradients, ways, strict=True)))
        size = float(sum((g.double() * way).square().sum() for g, way in zip(gradients, ways, strict=True))) ** 0.5
        found = []
        for h in (1e-4, 5e-5):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    for x, way in zip(places, ways, strict=True):
                        x += (sign * h * way).to(x.dtype)
                    ends.append(float(value()))
                    for x, way in zip(places, ways, strict=True):
                        x -= (sign * h * way).to(x.dtype)
            found.append((ends[0] - ends[1]) / (2 * h))
        if abs(found[0] - found[1]) < 0.02 * size and abs(found[1] - want) > 0.1 * size:
            c.fail(f"a slope of {found[1]:.4g} where the gradient says {want:.4g}", "the gradient of the features")


@check(
    "backbone.elsewhere",
    kind="backbone",
    fault="weights or tables drawn as a module is imported, or by a hash",
    core=False,
    tolerance=1e-5,
)
def backbone_elsewhere(c: Context) -> None:
    """In another process the same seed makes the same backbone. Asked in the profiles above quick."""
    code = (
        "import torch\nfrom mmcore.space import Space\ntorch.manual_seed(5)\n"
        "b = make(space=Space((4, 4, 4)), modalities=2, steps=10, blocks=2).eval()\n"
        "x = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4)\n"
        "t = torch.tensor([[3, 7]])\n"
        "print(b(x, t, t % 3, torch.cat([x, x > 0], dim=1)).flatten()[::7].tolist())"
    )
    told = elsewhere(c, "backbone", code)
    if told is None:
        raise NotRun("asked in the profiles above quick, of what another process can make")
    torch.manual_seed(5)
    backbone = c.thing(space=SPACES[1], modalities=2, steps=STEPS, blocks=2).eval()
    x, t = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4), torch.tensor([[3, 7]])
    mine = backbone(x, t, t % 3, torch.cat([x, x > 0], dim=1)).flatten()[::7]
    c.same(torch.tensor(ast.literal_eval(told)), mine, "features in another process")


@check(
    "backbone.state", kind="backbone", fault="weights held as plain attributes, or not drawn by the seed", tolerance=0.0
)
def backbone_state(c: Context) -> None:
    """Initial weights depend on torch's seed alone, which is used and not set; a state dict goes through safetensors into a new backbone.

    Two backbones share nothing, and a deep copy, as averaging keeps one, gives the same.
    """
    given = inputs(c, 2)
    reseed(c.seed + 7)
    one = random_backbone(c)
    reseed(c.seed + 8)
    again, other = random_backbone(c), random_backbone(c, more=1)
    c.same(again(*given), one(*given), "the features of a backbone made under the same seed")
    after = []
    for seed in (1, 2):
        torch.manual_seed(c.seed + seed)
        with left_alone(c, "as it was made", but=("torch's global generator",), seeded=False):
            c.thing(space=SPACES[1], modalities=2, steps=STEPS, blocks=2)
        after.append(torch.get_rng_state())
    if torch.equal(*after):
        c.fail(
            "torch's global generator in the same state under two seeds, so it was seeded as the backbone was made",
            "draws from it only",
        )
    want = one(*given).detach().clone()
    twin = copy.deepcopy(one)
    c.same(twin(*given), want, "the features by a deep copy")
    for changed in (again, twin):
        with torch.no_grad():
            for p in changed.parameters():
                p.zero_()
    c.same(one(*given), want, "the features after another backbone was changed")
    other.load_state_dict(load(save({k: v.contiguous() for k, v in one.state_dict().items()})))
    c.same(other(*given), want, "the features by the loaded backbone")


@check("backbone.grows", kind="backbone", fault="a cache by input, a list of what it was given", core=False)
def grows(c: Context) -> None:
    """Calls of the same shape leave nothing behind: after eight it holds no more than after two."""
    backbone = random_backbone(c)
    held = []
    for k in range(8):
        c2 = c.beside(seed=c.seed + k)
        with torch.no_grad():
            backbone(*inputs(c2, 4))
        held.append(sum(map(_held, backbone.modules())))
    if all(b > a for a, b in itertools.pairwise(held[1:])):
        c.fail(f"{held[-1] - held[1]} things more held after six more calls", "none")


def _held(module: nn.Module) -> int:
    """How much one module holds beside its parts."""
    torchs = vars(nn.Module()).keys()
    return holds(SimpleNamespace(**{name: x for name, x in vars(module).items() if name not in torchs}))


@check("backbone.device", kind="backbone", fault="a tensor made on the CPU inside forward", core=False)
def backbone_device(c: Context) -> None:
    """It computes where it is moved to, with all that it holds; asked with torch's meta device."""
    meta = torch.device("meta")
    backbone = random_backbone(c).to(meta)
    for where, module in backbone.named_modules():
        if held := [k for k, v in vars(module).items() if isinstance(v, Tensor)]:
            c.fail(
                f"{', '.join(held)} of {where or 'it'} as a plain tensor, which does not move along",
                "a parameter or a buffer",
            )
    out = backbone(*[x.to(meta) for x in inputs(c, 2)])
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


ATTEMPTS = ((60, 3e-3), (300, 1e-2))
"""Steps and rate of a short training, and of a longer one for what was too slow for it."""
SHARE = 0.9
"""Of the variance, what may be left after either."""
LAST = 30
"""Steps over which that is averaged."""


@check(
    "backbone.learns",
    kind="backbone",
    fault="an output that no training changes, a tanh that saturates, a dead branch",
    core=False,
)
def learns(c: Context) -> None:
    """It learns: by training its features follow what they should show, the clean codes where they are known, the noisy latents and the timestep.

    Asked of it as it was made, with a linear reading of its features. Where 60 steps do not do, 300 of a higher rate are made from the start. What has come nearer
    by then, but not by a tenth, is slow: that is not decided.
    """
    left = torch.full((3,), torch.inf)
    nearer = torch.zeros(3, dtype=torch.bool)
    for steps, rate in ATTEMPTS:
        last = _trained(c, steps, rate)[-LAST:]
        # The first attempt has no time to be averaged over so many.
        left = left.minimum(last[-15:].mean(0))
        nearer = last.mean(0) + 6 * last.std(0) / len(last) ** 0.5 < 1
        if bool((left < SHARE).all()):
            return
    names = ("known codes", "noisy latents", "timestep")
    for name, share, slow in zip(names, left.tolist(), nearer.tolist(), strict=True):
        if not share < SHARE and not slow:
            c.fail(f"{share:.0%} of the variance of the {name} left after {ATTEMPTS[-1][0]} steps of training", f"less than {SHARE:.0%}")  # fmt: skip
    raise NotRun(f"not decided: it learns, and too slowly to be judged by {ATTEMPTS[-1][0]} steps of training")


def _trained(c: Context, steps: int, rate: float) -> Tensor:
    """The shares of the variances left at each step of a training, ``(steps, 3)``; it ends where little is left."""
    backbone = made_backbone(c, Space((2, 4, 4)), 2, 1).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed)
        read = nn.Linear(backbone.features, 3)  # type: ignore[arg-type]
        parameters = [p for p in [*backbone.parameters(), *read.parameters()] if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=rate)
        losses = []
        for step in range(steps):
            c2 = c.beside(seed=c.seed + step)
            z, t, roles, condition = inputs(c2, 16, Space((2, 4, 4)), 2, 1)
            target = torch.cat(
                [condition[:, :1], z[:, 1:], (t[:, :, None, None] / STEPS - 0.5).expand(-1, -1, 4, 4)], dim=1
            )
            out = read(backbone(z, t, roles, condition).movedim(1, -1)).movedim(-1, 1)
            loss = (out - target).square().mean((0, 2, 3)) / target.var((0, 2, 3))
            losses.append(loss.detach())
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            if step > 15 and bool((torch.stack(losses[-15:]).mean(0) < SHARE - 0.1).all()):
                break
    return torch.stack(losses)
