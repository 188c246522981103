"""Backbones: the network between the noisy space and the features that decoders read. The plugin is what makes one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcore.model.backbones.base import lacks, looks_ahead
from mmcore.model.roles import Role
from mmcore.space import Space
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import SPACES, Context
from mmcore.testing.surroundings import GENERATORS, left_alone, reseed

STEPS = 10
ODD = (Space((1, 5)), Space((3, 5, 3)), Space((2, 3, 1, 5)), Space((1, 1, 1)), Space((7, 8, 4)))
"""Spaces of odd grids, of one channel, of one place, and longer than wide."""


def made_backbone(c: Context, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, more: int = 0, steps: int = STEPS) -> nn.Module:  # fmt: skip
    """A backbone as the engine gets it: made under a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed + more)
        with left_alone(c, "as it was made", but=(GENERATORS[0],), seeded=False):
            return c.thing(space=space, modalities=modalities, steps=steps, blocks=blocks)


def random_backbone(
    c: Context, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, more: int = 0, train: bool = False, steps: int = STEPS
) -> nn.Module:  # fmt: skip
    """A backbone with random weights, as after some training; what starts at zero would hide faults. What is frozen stays.

    In training declared dropout is left out.
    """
    backbone = made_backbone(c, space, modalities, blocks, more, steps)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(c.seed + more)
        for p in backbone.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
    return undropped(backbone.train()) if train else backbone.eval()


def inputs(
    c: Context, n: int, space: Space = SPACES[1], modalities: int = 2, blocks: int = 2, steps: int = STEPS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the engine gives a backbone: ``z``, timesteps, roles and condition, the known codes and the flags where they are."""
    z = c.rng(n, "z").normal(*space.shape)
    known = (c.rng(n, "known").uniform(*space.shape) < 0.5).to(z.dtype)
    condition = torch.cat([known * c.rng(n, "condition").normal(*space.shape), known], dim=1)
    return z, c.rng(n, "t").integers(0, steps + 1, blocks), c.rng(n, "roles").integers(0, 3, modalities), condition


DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
"""Torch's modules of which dropout is declared, beside those that have it within."""


def undropped(module: nn.Module) -> nn.Module:
    """The same module with every declared dropout at a rate of 0, so that all else of it can be asked in training too."""
    for part in module.modules():
        if isinstance(part, DROPS):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0
    return module


@check("backbone.features", kind="backbone", fault="another width than `features` says, or one grid only")
def features(c: Context) -> None:
    """In spaces of one to three axes, odd ones and of one channel too, for any number of modalities and timesteps, the features are `(B, features, *grid)`, finite, and of each place its own."""
    for space, n, blocks in [(s, n, n) for s in SPACES for n in (1, 3)] + [(s, 4, 2) for s in ODD]:
        backbone = random_backbone(c, space, n, blocks)
        if missing := lacks(backbone):
            c.fail(missing[0], "features and forward(z, t, roles, condition)")
        width: Any = backbone.features
        for rows in (1, 4):
            # Also of the very first call of all.
            with left_alone(c, "in a call"):
                out = backbone(*inputs(c, rows, space, n, blocks))
            want = (rows, width, *space.grid)
            if not isinstance(out, Tensor) or tuple(out.shape) != want or not out.isfinite().all():
                shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                c.fail(f"features of shape {shape} in {space}", f"finite ones of {want}")
        if alike := _twins(out):
            c.fail(f"the same features at places {alike[0]} and {alike[1]} of {space}", "each place's own")


def _twins(features: Tensor) -> tuple[int, int] | None:
    """Two places, by their numbers in the grid, at which all rows have the same features; None where there are none."""
    places = features.detach().flatten(2).permute(2, 0, 1).flatten(1)
    # By subtraction: products of large numbers would round a small distance away.
    apart = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    pairs = (apart <= 1e-6 * places.abs().max()).nonzero()
    return (int(pairs[0, 0]), int(pairs[0, 1])) if len(pairs) else None


@check(
    "backbone.ends",
    kind="backbone",
    fault="a table of T rows for T + 1 timesteps, a logarithm of t, roles that divide by their number",
)
def ends(c: Context) -> None:
    """Features are finite at every timestep 0 … T, for 1, 10 and 1000 of them, for all roles alike, for a space of zeros and one ten times as large."""
    for steps in (1, STEPS, 1000):
        backbone = random_backbone(c, steps=steps)
        n = min(steps + 1, 50)
        z, _, _, condition = inputs(c, n, steps=steps)
        t = torch.linspace(0, steps, n).round().long()[:, None].expand(-1, 2)
        for role in (*map(int, Role), None):
            roles = torch.full((n, 2), role) if role is not None else torch.arange(2 * n).reshape(n, 2) % 3
            for scale in (1.0, 0.0, 10.0):
                out = backbone(scale * z, t, roles, scale * condition)
                if not out.isfinite().all():
                    at = int((~out.flatten(1).isfinite().all(1)).nonzero()[0])
                    c.fail(
                        f"NaN or infinity at t = {int(t[at, 0])} of {steps}, roles {roles[at].tolist()}, z times {scale:g}",
                        "finite features",
                    )


@check(
    "backbone.dtype",
    kind="backbone",
    fault="a table in single precision, a sum that overflows",
    core=False,
    dtypes=("float64", "bfloat16", "float16"),
    tolerance=0.1,
)
def dtype(c: Context) -> None:
    """Cast to another precision it gives features of that dtype, near those of single precision; in half precision to a tenth of their deviation."""
    whole, other = random_backbone(c), random_backbone(c).to(c.dtype)
    z, t, roles, condition = inputs(c, 16)
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
        backbone, given = random_backbone(c, train=train), inputs(c, 6)
        torch.manual_seed(c.seed)
        whole = backbone(*given)
        for some in ([4, 0, 5, 2, 1, 3], [2, 3], [5], [*range(6)] * 6):
            torch.manual_seed(c.seed)
            part = backbone(*[x[some] for x in given])
            c.same(part, whole[some], f"features of rows {some[:6]} of 6{' in training' if train else ''}", like=whole)
        far = [x.clone() for x in given]
        far[0][0] *= 100
        c.same(
            backbone(*far)[1:], whole[1:], "features of rows beside one that is a hundred times as large", like=whole
        )


@check(
    "backbone.deterministic",
    kind="backbone",
    fault="noise from the global generator, a call that changes the next, a table kept by a tensor's place in memory",
    tolerance=0.0,
)
def backbone_deterministic(c: Context) -> None:
    """The same input gives the same features, whatever came before, in training too, and global generators are left alone.

    Torch's own dropout may draw in training; it is left out here.
    """
    for train in (True, False):
        backbone, given = random_backbone(c, train=train), inputs(c, 4)
        with left_alone(c, "in a call"):
            first = backbone(*[x.clone() for x in given]).detach().clone()
        kept = {name: x.clone() for name, x in backbone.state_dict().items()}
        reseed(c.seed + 5)
        for n, space_rows in ((3, 7), (1, 4), (2, 5)):
            more = inputs(c.beside(seed=c.seed + n), space_rows)
            late = backbone(*more)
            c.same(
                late,
                random_backbone(c, train=train)(*more),
                "the features of an input, against those of a backbone that has met no other",
            )
            late.sum().backward()
        c.same(backbone(*given), first, "the features of the same input again, after others")
        # A loop fills the same tensors again and again.
        more = inputs(c.beside(seed=c.seed + 4), 4)
        want = random_backbone(c, train=train)(*more)
        for x, other in zip(given, more, strict=True):
            x.copy_(other)
        c.same(backbone(*given), want, "the features after an input's tensors were filled with other values")
        for name, x in backbone.state_dict().items():
            c.same(x, kept[name], f"{name}, a weight or buffer, after calls")


@check(
    "backbone.modes",
    kind="backbone",
    fault="another way in evaluation than in training, or where no gradient is recorded",
    tolerance=1e-5,
)
def modes(c: Context) -> None:
    """In training and in evaluation, with gradients, without and in inference mode the features are the same, but for declared dropout."""
    backbone, given = random_backbone(c), inputs(c, 4)
    want = backbone(*given).detach()
    with torch.no_grad():
        c.same(backbone(*given), want, "the features without gradients")
    with torch.inference_mode():
        c.same(backbone(*given).clone(), want, "the features in inference mode")
    # And what inference mode left behind can be trained through.
    backbone(*given).sum().backward()
    c.same(undropped(backbone.train())(*given), want, "the features in training")


@check("backbone.pure", kind="backbone", fault="an input changed in place", tolerance=1e-5)
def pure(c: Context) -> None:
    """Its inputs stay as they are, expanded and strided ones are as good as others, and features given out do not change later."""
    for recorded in (True, False):
        backbone, given = random_backbone(c), inputs(c, 4)
        kept = [x.clone() for x in given]
        with torch.set_grad_enabled(recorded):
            first = backbone(*given)
            out = first.detach().clone()
            if any(not torch.equal(a, b) for a, b in zip(given, kept, strict=True)):
                names = [
                    n
                    for n, a, b in zip(("z", "t", "roles", "condition"), given, kept, strict=True)
                    if not torch.equal(a, b)
                ]
                c.fail(f"{', '.join(names)} changed in place", "inputs as they were")
            backbone(*[x.flip(0) for x in given])
            if not torch.equal(first.detach(), out):
                c.fail("features given out that changed in a later call", "features of its own")
    z, t, roles, condition = inputs(c, 4)
    t, roles = t[:1, :1].expand(4, 2), roles[:1].expand(4, -1)
    want = backbone(z, t.contiguous(), roles.contiguous(), condition)
    strided = [x.transpose(1, -1).contiguous().transpose(1, -1) for x in (z, condition)]
    c.same(backbone(strided[0], t, roles, strided[1]), want, "the features of strided and expanded inputs")


@check(
    "backbone.ahead",
    kind="backbone",
    fault="what is worked out ahead of another timestep, of other roles, or of all rows together",
    tolerance=1e-4,
)
def ahead(c: Context) -> None:
    """What a backbone works out ahead of timesteps and roles gives the features that it has without: of several timesteps together, a row each or one for all."""
    single = c
    for dtype in (torch.float32, torch.float64):
        # What is rounded on its way shows in double precision.
        c = single if dtype == torch.float32 else single.beside(tolerance=1e-9)
        backbone: Any = random_backbone(c).to(dtype)
        if not looks_ahead(backbone):
            raise NotRun("it works out nothing ahead")
        z, t, roles, condition = (x.to(dtype) if x.is_floating_point() else x for x in inputs(c, 4))
        want = backbone(z, t, roles, condition)
        made = backbone.ahead(t, roles, dtype)
        if not isinstance(made, tuple) or not all(isinstance(x, Tensor) and len(x) == 4 for x in made):
            c.fail(f"{type(made).__name__} worked out ahead of 4 rows", "a tuple of tensors (4, …)")
        c.same(
            backbone(z, t, roles, condition, ahead=made), want, "the features with what was worked out ahead", like=want
        )
        for k in range(4):
            each = tuple(x[k : k + 1] for x in made)
            like = backbone(z, t[k : k + 1].expand(4, -1), roles[k : k + 1].expand(4, -1), condition)
            got = backbone(z, t[k : k + 1].expand(4, -1), roles[k : k + 1].expand(4, -1), condition, ahead=each)
            c.same(got, like, f"the features with row {k} of what was worked out ahead, for all rows", like=like)


@check("backbone.reads", kind="backbone", fault="a network that ignores a timestep, its roles or what is observed")
def reads(c: Context) -> None:
    """The features depend on each of `z`, every block's timestep, every modality's role, the known codes and the flags where they are.

    Each timestep is told from every other, each role from the others, and of `z` and the condition every element is read.
    """
    backbone, given = random_backbone(c), list(inputs(c, 4))
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
        _told_apart(c, backbone(z, t, told, condition), range(STEPS + 1), f"{STEPS} in block {block}")
    # Of many timesteps too: neighbours, the ends, and what lies far apart.
    fine = random_backbone(c, steps=1000)
    some = [0, 1, 2, 10, 11, 333, 334, 500, 501, 998, 999, 1000]
    z, told, condition = (x[:1].expand(len(some), *x.shape[1:]) for x in (z, told, condition))
    _told_apart(c, fine(z, torch.tensor(some)[:, None].expand(-1, 2), told, condition), some, "1000")
    _reads_everywhere(c, backbone, given)


def _told_apart(c: Context, features: Tensor, timesteps: Sequence[int], of: str) -> None:
    """Fail where rows that differ by their timestep alone have the same features."""
    flat = features.detach().flatten(1)
    apart = (flat[:, None] - flat).abs().amax(2).fill_diagonal_(torch.inf)
    a, b = divmod(int(apart.argmin()), len(flat))
    if apart[a, b] < 1e-7:
        c.fail(
            f"features at t = {timesteps[min(a, b)]} and {timesteps[max(a, b)]} of {of} that differ by {float(apart[a, b]):.2g}",
            "features of each timestep's own, 1e-7 apart at least",
        )


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
            c.fail(
                f"{int(unread.sum())} of {unread.numel()} elements of {name} that nothing reads, such as {list(at)}",
                "every element read",
            )
    # One place after another is asked what it has of z.
    moved = torch.stack(
        [(backbone(z + 0.5 * c.rng(4, f"place {k}").normal(*z.shape[1:]), t, roles, condition) - out) for k in range(3)]
    )
    still = (moved.abs().amax((0, 1, 2)) < 1e-9).nonzero()
    if len(still):
        c.fail(f"features at the place {still[0].tolist()} that no z changes", "features of what is there")
