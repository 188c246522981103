"""What a check is given: the plugin, its parts ready to use, and random numbers by the seed."""

import copy
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self

import attrs
import hypothesis
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

from mmcore.modality.base import Decoder, Modality
from mmcore.modality.holes import encoded, nats
from mmcore.model.compose import compose
from mmcore.model.joint import JointModel
from mmcore.plugins import discover
from mmcore.process import Schedule, schedule
from mmcore.rng import Rng
from mmcore.space import Space
from mmcore.testing.check import Check, Failure, NotRun, Profile
from mmcore.testing.reference import Reference
from mmcore.testing.strategies import corners

LAYOUTS: tuple[Any, ...] = ("shared", "separate")
"""The layouts in which compositions are checked."""
SPACES = (Space((8, 8)), Space((4, 4, 4)), Space((4, 2, 2, 2)))
"""Spaces of one, two and three axes."""
WIDTH = 6
"""Channels of the features that a decoder under test reads."""
CLIPPED = (0.002, 0.2)
"""The share of clipped draws from which on a mismatch is not decided, and that from which on it is the sampler's own doing."""
COMPANIES = ("alone", "beside a reference", "beside itself twice")
"""In whose company a modality is composed."""


@attrs.define(eq=False)
class Trial:
    """One run of one check: what it is about, how it is put to examples, and how it fails.

    Attributes:
        thing: the plugin: a modality, or what makes a plugin of another kind.
        check: the check being run.
        profile: how much work to do.
        seed: of everything random.
        dtype: of real values.
        device: of tensors.
        tolerance: what counts as equal.
        failure: the last finding, kept for where Hypothesis raises something else.
        inputs: what the last example was.
        clipped: of the draws at the parameters last settled, the share that was clipped to a limit of the spec.
    """

    thing: Any
    check: Check
    profile: Profile
    seed: int
    dtype: torch.dtype
    device: torch.device
    tolerance: float
    failure: Failure | None = None
    inputs: dict[str, Any] = attrs.field(factory=dict)
    clipped: float = 0.0

    def beside(self, **changes: Any) -> Self:
        """The same trial of another thing, by another seed or in another dtype, with no finding yet."""
        return attrs.evolve(self, **{"failure": None, "inputs": {}, "clipped": 0.0, **changes})

    # ---- findings ----

    def fail(self, found: str, expected: str, *, code: str = "", **inputs: Any) -> NoReturn:
        """Raise the finding."""
        raise Failure(found, expected, code=code, **(inputs or self.inputs))

    def fault(self, found: str, expected: str, *, code: str = "", **inputs: Any) -> NoReturn:
        """Fail at settled parameters, unless some draws were clipped into the spec, which then do not follow the likelihood.

        Where a fifth or more lie on a limit that is the sampler's own doing.
        """
        if CLIPPED[0] < self.clipped < CLIPPED[1]:
            raise NotRun(f"not decided: {self.clipped:.1%} of the draws lie on a limit of the spec, as clipped ones do")
        self.fail(found, expected, code=code, **inputs)

    def same(
        self, got: Tensor, want: Tensor, what: str, *, like: Tensor | None = None, code: str = "", **inputs: Any
    ) -> None:
        """Fail unless ``got`` is ``want`` to the check's tolerance, of 1 and of an element's own size.

        What is computed from large numbers rounds by their size, also where it happens to be near 0. Where that is so they, or
        rows of which some are as large, are what it is ``like``.
        """
        if got.shape != want.shape:
            self.fail(f"{what} of shape {tuple(got.shape)}", f"{tuple(want.shape)}", code=code, **inputs)
        a, b = got.detach().cpu().double(), want.detach().cpu().double()
        # Equal infinities are equal; NaN is nothing's equal.
        size = torch.ones_like(b)
        if like is not None and like.numel():
            size = like.detach().cpu().double().nan_to_num(0.0, 0.0, 0.0).abs().amax(0).clamp(min=1)
        allowed = (self.tolerance * (size + b.nan_to_num(0.0, 0.0, 0.0).abs())).expand_as(b)
        close = (a == b) | ((a - b).abs() <= allowed)
        if not close.all():
            at = tuple((~close).nonzero()[0].tolist())
            self.fail(
                f"{what}: {a[at].item():.6g} at {list(at)}, {int((~close).sum())} of {close.numel()} elements differ",
                f"{b[at].item():.6g} (± {allowed[at].item():.3g})",
                code=code,
                **inputs,
            )

    def forall(
        self, body: Callable[..., None], first: Sequence[Mapping[str, Any]] = (), /, **strategies: SearchStrategy[Any]
    ) -> None:
        """Put ``body`` to the ``first`` examples, which no seed leaves out, then to others; the one that fails is shrunk."""

        def put(**example: Any) -> None:
            # A plugin must not reach the next example, so it works on copies.
            self.inputs = {k: v.clone() if isinstance(v, Tensor) else v for k, v in example.items()}
            try:
                body(**example)
            except Failure as failure:
                self.failure = failure
                raise

        for example in first:
            put(**{k: v.clone() if isinstance(v, Tensor) else v for k, v in example.items()})

        @hypothesis.seed(self.seed)
        @settings(
            max_examples=self.profile.examples,
            database=None,
            deadline=None,
            derandomize=False,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=tuple(HealthCheck),  # type: ignore[reportArgumentType]
            phases=(Phase.generate, Phase.shrink),
        )
        @hypothesis.given(**strategies)
        def more(**example: Any) -> None:
            put(**example)

        more()
        self.inputs = {}


@attrs.define(eq=False)
class Context(Trial):
    """A trial of a plugin, with the parts that its checks ask for."""

    # ---- a modality's parts ----

    @property
    def modality(self) -> Modality:
        """The modality under test."""
        return self.thing

    def corners(self, **more: Any) -> list[dict[str, Any]]:
        """First examples ``x`` for :meth:`forall`: samples at the spec's corners, each with these other inputs."""
        return [{"x": x, **more} for x in corners(self.modality.spec)]

    def cast(self, x: Tensor) -> Tensor:
        """``x`` on the check's device, real values in its dtype."""
        return x.to(self.device, self.dtype if x.is_floating_point() else x.dtype)

    def typical(self, n: int, more: int = 0) -> Tensor:
        """``n`` typical samples."""
        return self.cast(self.modality.typical(n, self.seed + more))

    def rng(self, n: int, purpose: str = "") -> Rng:
        """An rng for ``n`` rows."""
        return Rng.for_rows(self.seed, n, device=self.device).of(f"{self.check.id}/{purpose}")

    def encoder(self) -> nn.Module:
        """A new encoder, called as the engine calls it: void elements are its modality's only where it is not divisible."""
        return hollow(self.modality, self.modality.encoder().to(self.device, self.dtype))

    def decoder(self, space: Space | None = None, more: int = 0) -> Decoder:
        """A new decoder with random weights; heads start at zero, which would hide faults."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + more)
            decoder = self.modality.decoder(WIDTH, space or SPACES[1])
            with torch.no_grad():
                for p in decoder.parameters():
                    p += 0.2 * torch.randn_like(p)
        return decoder.to(self.device, self.dtype)

    def features(self, n: int, space: Space | None = None) -> tuple[Tensor, Tensor]:
        """Random features ``(n, WIDTH, *grid)`` and steps ``(n,)``."""
        space = space or SPACES[1]
        features = self.rng(n, "features").normal(WIDTH, *space.grid, dtype=self.dtype)
        return features, torch.arange(1, n + 1, device=self.device)

    def params(self, n: int) -> Tensor:
        """``(n, ...)`` distribution parameters, as a decoder with random weights gives them."""
        with torch.no_grad():
            return self.decoder()(*self.features(n))

    def params_at(self, scale: float, seed: int, n: int = 1) -> Tensor:
        """``(n, ...)`` parameters that the decoder gives for features of this scale: what a loss may have to read."""
        features = scale * Rng.for_rows(seed, n, device=self.device).normal(WIDTH, *SPACES[1].grid, dtype=self.dtype)
        with torch.no_grad():
            return self.decoder()(features, torch.ones(n, dtype=torch.int64, device=self.device))

    def settled_params(self, n: int) -> Tensor:
        """``(n, ...)`` parameters whose draws keep off the limits of the spec.

        A draw outside the spec is clipped into it, and a clipped draw is no longer one from the likelihood.
        So for real values with limits the parameters are fitted, by the plugin's own loss, to values
        spread around points in the middle of the range; all others are as :meth:`params` gives.
        """
        spec, params = self.modality.spec, self.params(n)
        if not spec.dtype.is_floating_point or (spec.low is None and spec.high is None):
            return params
        copies = 64
        place = 0.8 * self.rng(n, "place").uniform(*spec.shape, dtype=self.dtype) - 0.4
        noise = 0.1 * self.rng(n * copies, "spread").normal(*spec.shape, dtype=self.dtype)
        target = inside(self, place.repeat_interleave(copies, 0) + noise)
        # From small features: a deviation that starts far out would not come back in time.
        fitted = self.params_at(0.1, self.seed, n).requires_grad_()
        descend(fitted, lambda p: self.loss(p.repeat_interleave(copies, 0), target).mean(), steps=250, lr=0.08)
        fitted = fitted.detach()
        self.clipped = (
            sum(_cut(self, fitted[k : k + 1], self.draws(fitted[k : k + 1], 200, f"limits {k}")) for k in range(n)) / n
        )
        return fitted

    def loss(self, params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
        """The modality's loss, asked as the engine asks it: void elements do not count."""
        return nats(self.modality, self.modality.loss(), params, target, where)

    def draws(self, params: Tensor, n: int, purpose: str = "draws") -> Tensor:
        """``n`` draws from one row of parameters ``(1, ...)``."""
        with torch.no_grad():
            return self.decoder().sample(params.expand(n, *params.shape[1:]), self.rng(n, purpose))

    # ---- compositions ----

    def compositions(self) -> Iterator[tuple[str, list[Modality], Any]]:
        """The modality, called ``"subject"`` and first, in every company and layout."""
        for layout in LAYOUTS:
            for company in COMPANIES:
                subject = renamed(self.modality, "subject")
                others: list[Modality] = []
                if company == "beside a reference":
                    others = [renamed(Reference(), "neighbour")]
                elif company == "beside itself twice":
                    others = [renamed(self.modality, "second"), renamed(self.modality, "third")]
                yield f"{company}, layout {layout!r}", [subject, *others], layout

    def compose(
        self, modalities: Sequence[Modality], layout: Any, table: Schedule | None = None, *, reading: str = "codes"
    ) -> JointModel:
        """A tiny model with random weights."""
        with warnings.catch_warnings():
            # Few steps end a little short of the prior, which is of no concern here.
            warnings.filterwarnings("ignore", message=".*does not reach the prior.*")
            model = compose(
                modalities,
                layout=layout,
                schedule=table or schedule.paper_steps(8, len(modalities)),
                backbone="transformer",
                backbone_options={"width": 32, "depth": 1, "heads": 2, "features": 16},
                reading=reading,
                seed=self.seed,
                registry=discover(),
            )
        # What starts at zero would hide from these checks what depends on it.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed)
            # An encoder is as it was made, whatever it holds.
            for p in (*model.backbone.parameters(), *model.decoders.parameters()):
                p += 0.05 * torch.randn_like(p)
        return model

    def batch(self, modalities: Sequence[Modality], n: int, more: int = 0) -> dict[str, Tensor]:
        """``n`` rows of typical samples; copies of one modality get different ones."""
        return {m.name: m.typical(n, self.seed + more + 100 * k) for k, m in enumerate(modalities)}


def _cut(c: Context, params: Tensor, x: Tensor) -> float:
    """The share of draws' elements that lie on a limit of the spec as clipped ones do: the loss is there what it is beside it.

    Where it is another, the limit has a probability of its own, as no rain has.
    """
    rows, at = params.expand(len(x), *params.shape[1:]), torch.zeros_like(x, dtype=torch.bool)
    for limit, inwards in ((c.modality.spec.low, 1.0), (c.modality.spec.high, -1.0)):
        if limit is None:
            continue
        here = (x - limit).abs() <= 1e-6 * max(1.0, abs(limit))
        with torch.no_grad():
            on, beside = (
                c.loss(rows, torch.where(here, value, x))
                for value in (limit, limit + inwards * 1e-5 * (abs(limit) or 1.0))
            )
        step = (on - beside).abs() / here.reshape(len(x), -1).sum(1).clamp(min=1)
        at |= here & (step < 0.5).reshape(-1, *[1] * (x.ndim - 1))
    return float(at.double().mean())


def inside(c: Context, place: Tensor) -> Tensor:
    """Values inside the limits, by their places -1 … 1 about the middle: of the range, or of the data where they fill little of it."""
    spec = c.modality.spec
    typical = c.typical(512).reshape(512, -1)
    known = spec.there(typical)
    if spec.low is not None and spec.high is not None:
        half = (spec.high - spec.low) / 2
        if float(typical[known].std()) > 0.1 * half:
            return spec.low + half * (1 + place)
    # By the data's own quantiles, element by element, which lie inside whatever the distribution's form.
    ordered = typical.where(known, torch.full_like(typical, float("inf"))).sort(0).values
    last = (known.sum(0) - 1).clamp(min=0)
    at = ((place.reshape(len(place), -1).clamp(-0.8, 0.8) + 1) / 2 * last).round().long()
    return ordered.gather(0, at).reshape(place.shape)


def surest_and_least(c: Context, params: Tensor) -> tuple[Tensor, Tensor]:
    """Of these rows of parameters that whose draws differ least from each other, and that whose draws differ most, ``(1, ...)`` each."""
    width = []
    for k in range(len(params)):
        x = c.draws(params[k : k + 1], 64, f"width {k}")
        apart = x[::2] - x[1::2] if x.is_floating_point() else x[::2] != x[1::2]
        width.append(apart.double().abs().mean())
    least, *_, most = torch.stack(width).argsort(stable=True).tolist()
    return params[[least]], params[[most]]


def hollow(m: Modality, encoder: nn.Module) -> nn.Module:
    """An encoder that does with void what the engine does around it."""
    if m.spec.void is None:
        return encoder
    own = type(encoder)

    class Hollow(own):
        """As a class of its own it survives a deep copy."""

        def forward(self, x: Tensor) -> Tensor:
            plain = functools.partial(own.forward, self)
            # In expected_code classes are encoded in other shapes.
            return encoded(m, plain, x) if tuple(x.shape[1:]) == m.spec.shape else plain(x)

    encoder.__class__ = Hollow
    return encoder


def renamed(modality: Modality, name: str) -> Modality:
    """The same modality under another name."""
    twin = copy.copy(modality)
    twin.name = name
    return twin


def descend(x: Tensor, objective: Callable[[Tensor], Tensor], *, steps: int, lr: float) -> None:
    """Minimise ``objective`` over the leaf ``x``, in place, by Adam with a falling rate."""
    optimizer = torch.optim.Adam([x], lr=lr)
    with torch.enable_grad():
        for k in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 - k / steps)
            optimizer.zero_grad()
            objective(x).backward()
            optimizer.step()


def aggregate(model: JointModel, placed: Tensor, t: int, roles: Tensor) -> Tensor:
    """``h_t (B, *Z)`` with all of the space at step ``t``."""
    drive = model.drive(torch.full((len(roles),), t, device=roles.device), roles)
    return model.frame.weighted(placed, drive.level.W)
