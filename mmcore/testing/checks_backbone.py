"""Backbones: the network between the noisy space and the features that decoders read. The plugin is what makes one."""

import ast
import copy
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mmcore.model.backbones.base import lacks
from mmcore.model.compose import compose
from mmcore.model.roles import Role
from mmcore.process import Schedule
from mmcore.sampling.ask import sample
from mmcore.space import Layout, Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, Context, renamed
from mmcore.testing.reference import Reference
from mmcore.testing.surroundings import GENERATORS, elsewhere, holds, left_alone, reseed

STEPS = 10
ODD = (Space((1, 5)), Space((3, 5, 3)), Space((2, 3, 1, 5)), Space((1, 1, 1)), Space((7, 8, 4)))
"""Spaces of odd grids, of one channel, of one place, and longer than wide."""


def _made(c: Context, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, more: int = 0, steps: int = STEPS) -> nn.Module:  # fmt: skip
    """A backbone as the engine gets it: made under a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed + more)
        with left_alone(c, "as it was made", but=(GENERATORS[0],), seeded=False):
            return c.thing(space=space, modalities=modalities, steps=steps, blocks=blocks)


def _backbone(
    c: Context, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, more: int = 0, train: bool = False, steps: int = STEPS
) -> nn.Module:  # fmt: skip
    """A backbone with random weights, as after some training; what starts at zero would hide faults. What is frozen stays."""
    backbone = _made(c, space, modalities, blocks, more, steps)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(c.seed + more)
        for p in backbone.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
    return backbone.train(train)


def _given(
    c: Context, n: int, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, steps: int = STEPS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the engine gives a backbone: ``z``, timesteps, roles and condition, the known codes and the flags where they are."""
    z = c.rng(n, "z").normal(*space.shape)
    known = (c.rng(n, "known").uniform(*space.shape) < 0.5).to(z.dtype)
    condition = torch.cat([known * c.rng(n, "condition").normal(*space.shape), known], dim=1)
    return z, c.rng(n, "t").integers(0, steps + 1, blocks), c.rng(n, "roles").integers(0, 3, modalities), condition


def drops_out(module: nn.Module) -> bool:
    """Whether it declares dropout, by torch's own modules: then it draws in training, and there only."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in module.modules())


@check("backbone.features", kind="backbone", fault="another width than `features` says, or one grid only")
def features(c: Context) -> None:
    """In spaces of one to three axes, odd ones and of one channel too, for any number of modalities and timesteps, the features are `(B, features, *grid)` and finite."""
    for space, n, blocks in [(s, n, n) for s in SPACES for n in (1, 3)] + [(s, 4, 2) for s in ODD]:
        backbone = _backbone(c, space, n, blocks)
        if missing := lacks(backbone):
            c.fail(missing[0], "features and forward(z, t, roles, condition)")
        width: Any = backbone.features
        for rows in (4, 1):
            # Also of the very first call of all.
            with left_alone(c, "in a call", but=() if not backbone.training else (GENERATORS[0],)):
                out = backbone(*_given(c, rows, space, n, blocks))
            want = (rows, width, *space.grid)
            if not isinstance(out, Tensor) or tuple(out.shape) != want or not out.isfinite().all():
                shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                c.fail(f"features of shape {shape} in {space}", f"finite ones of {want}")


@check("backbone.ends", kind="backbone", fault="a table of T rows for T + 1 timesteps, a logarithm of t, roles that divide by their number")
def ends(c: Context) -> None:
    """Features are finite at every timestep 0 … T, for 1, 10 and 1000 of them, for all roles alike, for a space of zeros and one ten times as large."""
    for steps in (1, STEPS, 1000):
        backbone = _backbone(c, steps=steps)
        n = min(steps + 1, 50)
        z, _, _, condition = _given(c, n, steps=steps)
        t = torch.linspace(0, steps, n).round().long()[:, None].expand(-1, 2)
        for role in (*map(int, Role), None):
            roles = torch.full((n, 2), role) if role is not None else torch.arange(2 * n).reshape(n, 2) % 3
            for scale in (1.0, 0.0, 10.0):
                out = backbone(scale * z, t, roles, scale * condition)
                if not out.isfinite().all():
                    at = int((~out.flatten(1).isfinite().all(1)).nonzero()[0])
                    c.fail(f"NaN or infinity at t = {int(t[at, 0])} of {steps}, roles {roles[at].tolist()}, z times {scale:g}", "finite features")


@check("backbone.dtype", kind="backbone", fault="a table in single precision, a sum that overflows", core=False, dtypes=("float64", "bfloat16", "float16"), tolerance=0.1)
def dtype(c: Context) -> None:
    """Cast to another precision it gives features of that dtype, near those of single precision; in half precision to a tenth of their deviation."""
    whole, other = _backbone(c), _backbone(c).to(c.dtype)
    z, t, roles, condition = _given(c, 16)
    # Rounded first: what half precision cannot hold is not its affair.
    z, condition = (x.to(c.dtype) for x in (z, condition))
    want = whole(z.float(), t, roles, condition.float()).detach().double()
    got = other(z, t, roles, condition).detach()
    if got.dtype != c.dtype:
        c.fail(f"features in {got.dtype}", f"{c.dtype}")
    error = float((got.double() - want).abs().mean() / want.std().clamp(min=1e-3))
    bound = 1e-4 if c.dtype == torch.float64 else c.tolerance
    if not error <= bound:
        c.fail(f"features that are off by {error:.3g} of their deviation on average", f"at most {bound:g}")
    if c.dtype == torch.bfloat16:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = whole(z.float(), t, roles, condition.float())
        if not mixed.isfinite().all():
            c.fail("NaN or infinity in mixed precision", "finite features")


@check("backbone.rows", kind="backbone", fault="batch norm", tolerance=1e-4)
def backbone_rows(c: Context) -> None:
    """A sample's features do not depend on the batch that it is in: alone, in another order, beside others; in training too, but for declared dropout."""
    for train in (False, True):
        backbone, given = _backbone(c, train=train), _given(c, 6)
        if train and drops_out(backbone):
            continue
        torch.manual_seed(c.seed)
        whole = backbone(*given)
        for some in ([4, 0, 5, 2, 1, 3], [2, 3], [5], [*range(6)] * 6):
            torch.manual_seed(c.seed)
            part = backbone(*[x[some] for x in given])
            c.same(part, whole[some], f"features of rows {some[:6]} of 6{' in training' if train else ''}", like=whole)
        far = [x.clone() for x in given]
        far[0][0] *= 100
        c.same(backbone(*far)[1:], whole[1:], "features of rows beside one that is a hundred times as large", like=whole)


@check("backbone.deterministic", kind="backbone", fault="noise from the global generator, a call that changes the next", tolerance=0.0)
def backbone_deterministic(c: Context) -> None:
    """The same input gives the same features, whatever came before, in training too, and global generators are left alone.

    Torch's dropout modules may draw in training.
    """
    for train in (True, False):
        backbone, given = _backbone(c, train=train), _given(c, 4)
        if train and drops_out(backbone):
            continue
        with left_alone(c, "in a call"):
            first = backbone(*[x.clone() for x in given]).detach().clone()
        kept = {name: x.clone() for name, x in backbone.state_dict().items()}
        reseed(c.seed + 5)
        for n, space_rows in ((3, 7), (1, 4), (2, 5)):
            more = _given(Context(c.thing, c.check, c.profile, c.seed + n, c.dtype, c.device, c.tolerance), space_rows)
            late = backbone(*more)
            c.same(late, _backbone(c, train=train)(*more), "the features of an input, against those of a backbone that has met no other")
            late.sum().backward()
        c.same(backbone(*given), first, "the features of the same input again, after others")
        for name, x in backbone.state_dict().items():
            c.same(x, kept[name], f"{name}, a weight or buffer, after calls")


@check("backbone.modes", kind="backbone", fault="another way in evaluation than in training, or where no gradient is recorded", tolerance=1e-5)
def modes(c: Context) -> None:
    """In training and in evaluation, with gradients, without and in inference mode the features are the same, but for declared dropout."""
    backbone, given = _backbone(c), _given(c, 4)
    want = backbone(*given).detach()
    with torch.no_grad():
        c.same(backbone(*given), want, "the features without gradients")
    with torch.inference_mode():
        c.same(backbone(*given).clone(), want, "the features in inference mode")
    # And what inference mode left behind can be trained through.
    backbone(*given).sum().backward()
    if not drops_out(backbone):
        c.same(backbone.train()(*given), want, "the features in training")


@check("backbone.pure", kind="backbone", fault="an input changed in place", tolerance=1e-5)
def pure(c: Context) -> None:
    """Its inputs stay as they are, expanded and strided ones are as good as others, and features given out do not change later."""
    for recorded in (True, False):
        backbone, given = _backbone(c), _given(c, 4)
        kept = [x.clone() for x in given]
        with torch.set_grad_enabled(recorded):
            first = backbone(*given)
            out = first.detach().clone()
            if any(not torch.equal(a, b) for a, b in zip(given, kept, strict=True)):
                names = [n for n, a, b in zip(("z", "t", "roles", "condition"), given, kept, strict=True) if not torch.equal(a, b)]
                c.fail(f"{', '.join(names)} changed in place", "inputs as they were")
            backbone(*[x.flip(0) for x in given])
            if not torch.equal(first.detach(), out):
                c.fail("features given out that changed in a later call", "features of its own")
    z, t, roles, condition = _given(c, 4)
    t, roles = t[:1, :1].expand(4, 2), roles[:1].expand(4, -1)
    want = backbone(z, t.contiguous(), roles.contiguous(), condition)
    strided = [x.transpose(1, -1).contiguous().transpose(1, -1) for x in (z, condition)]
    c.same(backbone(strided[0], t, roles, strided[1]), want, "the features of strided and expanded inputs")


@check("backbone.reads", kind="backbone", fault="a network that ignores a timestep, its roles or what is observed")
def reads(c: Context) -> None:
    """The features depend on each of `z`, every block's timestep, every modality's role, the known codes and the flags where they are.

    Each timestep is told from the next, each role from the others, and of `z` and the condition every element is read.
    """
    backbone, given = _backbone(c), list(_given(c, 4))
    given[1] = torch.full((4, 2), 2)
    given[2] = torch.zeros(4, 2, dtype=torch.int64)
    whole = backbone(*given)
    codes, flags = given[3].chunk(2, dim=1)

    def roles(one: int, two: int) -> Tensor:
        return torch.tensor([[one, two]]).expand(4, -1)

    others = {
        "z": (0, given[0] + 1),
        "the first block's timestep": (1, torch.tensor([[STEPS, 2]]).expand(4, -1)),
        "the second block's timestep": (1, torch.tensor([[2, STEPS]]).expand(4, -1)),
        "the roles": (2, torch.ones(4, 2, dtype=torch.int64)),
        "the first modality's role": (2, roles(1, 0)),
        "the second modality's role": (2, roles(0, 1)),
        "the role of what is generated": (2, roles(2, 0)),
        "the known codes": (3, torch.cat([codes + flags, flags], dim=1)),
        "the flags": (3, torch.cat([codes, 1 - flags], dim=1)),
    }
    found = {"what it was": whole}
    for name, (k, other) in others.items():
        found[name] = backbone(*[other if i == k else x for i, x in enumerate(given)])
        if (found[name] - whole).abs().max() < 1e-6:
            c.fail(f"the same features whatever {name}", f"features that depend on {name}")
    for a, b in (("the first modality's role", "the role of what is generated"), ("the first modality's role", "the second modality's role"), ("the first block's timestep", "the second block's timestep")):  # fmt: skip
        if (found[a] - found[b]).abs().max() < 1e-6:
            c.fail(f"the same features by {a} as by {b}", "features that tell them apart")
    z, _, told, condition = (x[:1].expand(STEPS + 1, *x.shape[1:]) for x in given)
    for block in (0, 1):
        t = torch.full((STEPS + 1, 2), 2)
        t[:, block] = torch.arange(STEPS + 1)
        steps = backbone(z, t, told, condition).flatten(1)
        alike = (steps.diff(dim=0).abs().amax(1) < 1e-7).nonzero()
        if len(alike):
            c.fail(f"the same features at t = {int(alike[0])} and {int(alike[0]) + 1} of {STEPS} in block {block}", "others")
    # Of many timesteps neighbours are told apart too.
    fine = _backbone(c, steps=1000)
    for t0 in (1, 10, 333, 500, 998):
        two = fine(z[:2], torch.tensor([[t0, t0], [t0 + 1, t0 + 1]]), told[:2], condition[:2])
        if float((two[0] - two[1]).abs().max()) < 1e-7:
            c.fail(f"the same features at t = {t0} and {t0 + 1} of 1000", "others")
    _reads_everywhere(c, backbone, given)


def _reads_everywhere(c: Context, backbone: nn.Module, given: list[Tensor]) -> None:
    """Every element of ``z`` and the condition has a gradient, and every place of the output depends on one."""
    z, t, roles, condition = given
    z, condition = z.clone().requires_grad_(), condition.clone().requires_grad_()
    out = backbone(z, t, roles, condition)
    (out * torch.linspace(0.5, 1.5, out[0].numel()).reshape(out[0].shape).cos()).sum().backward()
    for name, x in (("z", z), ("the condition", condition)):
        grad = torch.zeros_like(x) if x.grad is None else x.grad
        unread = (grad == 0).all(0)
        if unread.any():
            at = tuple(unread.nonzero()[0].tolist())
            c.fail(f"{int(unread.sum())} of {unread.numel()} elements of {name} that nothing reads, such as {list(at)}", "every element read")
    # One place after another is asked what it has of z.
    moved = torch.stack([(backbone(z + 0.5 * c.rng(4, f"place {k}").normal(*z.shape[1:]), t, roles, condition) - out) for k in range(3)])
    still = (moved.abs().amax((0, 1, 2)) < 1e-9).nonzero()
    if len(still):
        c.fail(f"features at the place {still[0].tolist()} that no z changes", "features of what is there")


@check("backbone.gradient", kind="backbone", fault="weights that nothing uses, a detached branch")
def backbone_gradient(c: Context) -> None:
    """The gradient reaches `z`, the condition and every weight that is trained, and is finite; an unused one hangs training on many devices."""
    backbone = _backbone(c, train=True)
    seen: set[str] = set()
    for n, t_of_all in ((4, None), (5, 0), (6, STEPS)):
        z, t, roles, condition = _given(c, n)
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
    _, t, roles, _ = _given(c, 4)
    z, condition = (x.double() for x in (_given(c, 4)[0], _given(c, 4)[3]))
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
        ways = [c.rng(1, f"way {k} {i}").normal(x.numel(), dtype=torch.float64)[0].reshape(x.shape) for i, x in enumerate(places)]
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


@check("backbone.elsewhere", kind="backbone", fault="weights or tables drawn as a module is imported, or by a hash", core=False, tolerance=1e-5)
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


@check("backbone.state", kind="backbone", fault="weights held as plain attributes, or not drawn by the seed", tolerance=0.0)
def backbone_state(c: Context) -> None:
    """Initial weights depend on torch's seed alone, which is used and not set; a state dict goes through safetensors into a new backbone.

    Two backbones share nothing, and a deep copy, as averaging keeps one, gives the same.
    """
    given = _given(c, 2)
    reseed(c.seed + 7)
    one = _backbone(c)
    reseed(c.seed + 8)
    again, other = _backbone(c), _backbone(c, more=1)
    c.same(again(*given), one(*given), "the features of a backbone made under the same seed")
    after = []
    for seed in (1, 2):
        torch.manual_seed(c.seed + seed)
        with left_alone(c, "as it was made", but=("torch's global generator",), seeded=False):
            c.thing(space=SPACES[1], modalities=2, steps=STEPS, blocks=2)
        after.append(torch.get_rng_state())
    if torch.equal(*after):
        c.fail("torch's global generator in the same state under two seeds, so it was seeded as the backbone was made", "draws from it only")
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
    backbone = _backbone(c)
    held = []
    for k in range(8):
        c2 = Context(c.thing, c.check, c.profile, c.seed + k, c.dtype, c.device, c.tolerance)
        with torch.no_grad():
            backbone(*_given(c2, 4))
        held.append(sum(map(_held, backbone.modules())))
    if all(b > a for a, b in zip(held[1:], held[2:], strict=False)):
        c.fail(f"{held[-1] - held[1]} things more held after six more calls", "none")


def _held(module: nn.Module) -> int:
    """How much one module holds beside its parts."""
    torchs = vars(nn.Module()).keys()
    return holds(SimpleNamespace(**{name: x for name, x in vars(module).items() if name not in torchs}))


@check("backbone.device", kind="backbone", fault="a tensor made on the CPU inside forward", core=False)
def backbone_device(c: Context) -> None:
    """It computes where it is moved to, with all that it holds; asked with torch's meta device."""
    meta = torch.device("meta")
    backbone = _backbone(c).to(meta)
    for where, module in backbone.named_modules():
        if held := [k for k, v in vars(module).items() if isinstance(v, Tensor)]:
            c.fail(f"{', '.join(held)} of {where or 'it'} as a plain tensor, which does not move along", "a parameter or a buffer")
    out = backbone(*[x.to(meta) for x in _given(c, 2)])
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


@check("backbone.learns", kind="backbone", fault="an output that no training changes, a tanh that saturates, a dead branch", core=False)
def learns(c: Context) -> None:
    """It learns: after some steps of training its features follow what they should show, the clean codes where they are known and the timestep.

    Asked of it as it was made, with a linear reading of its features.
    """
    backbone = _made(c, Space((2, 4, 4)), 2, 1).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed)
        read = nn.Linear(backbone.features, 3)  # type: ignore[arg-type]
        parameters = [p for p in [*backbone.parameters(), *read.parameters()] if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=3e-3)
        losses = []
        for step in range(60):
            c2 = Context(c.thing, c.check, c.profile, c.seed + step, c.dtype, c.device, c.tolerance)
            z, t, roles, condition = _given(c2, 16, Space((2, 4, 4)), 2, 1)
            target = torch.cat([condition[:, :1], z[:, 1:], (t[:, :, None, None] / STEPS - 0.5).expand(-1, -1, 4, 4)], dim=1)
            out = read(backbone(z, t, roles, condition).movedim(1, -1)).movedim(-1, 1)
            loss = (out - target).square().mean((0, 2, 3)) / target.var((0, 2, 3))
            losses.append(loss.detach())
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            if step > 15 and bool((torch.stack(losses[-15:]).mean(0) < 0.8).all()):
                break
    last = torch.stack(losses[-15:]).mean(0)
    for name, share in zip(("known codes", "noisy latents", "timestep"), last.tolist(), strict=True):
        if not share < 0.9:
            c.fail(f"{share:.0%} of the variance of the {name} left after 60 steps of training", "less than 90 %")
