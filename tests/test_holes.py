"""Void elements of samples: their codes are 0, the network is told that they are not there, nothing counts them, and they can be filled."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import Decoder, Encoder, LossTerm, Modality, RequestError, RoleMix, Space, Spec
from mmcore.data import Dataset, Table
from mmcore.modality import VOID
from mmcore.modality.heads import PooledHead
from mmcore.modality.holes import encoded, nats
from mmcore.modality.likelihood import gaussian, total
from mmcore.model.roles import Role
from mmcore.rng import Rng

GENERATE, OBSERVE, ABSENT = (int(role) for role in Role)


class Logs(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        assert (x > 0).all(), "an encoder was given void"
        return x.log()


class MapHead(Decoder):
    def __init__(self, width: int, space: Space, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.head = PooledHead(width, space, 2 * math.prod(shape), pools=2, hidden=16)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features).unflatten(1, (2, *self.shape))

    def point(self, params: Tensor) -> Tensor:
        return params[:, 0].exp().clamp(0.1, 10)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return (params[:, 0] + rng.normal(*self.shape)).exp().clamp(0.1, 10)


class Depth(Modality):
    """A map of distances in 0.1 … 10 m in which 0 is a hole: nothing but the spec says so."""

    def __init__(self, name: str = "depth") -> None:
        self.name = name
        self.spec, self.code = Spec((1, 3, 4), low=0.1, high=10.0, void=0), (1, 3, 4)

    def encoder(self) -> Encoder:
        return Logs()

    def decoder(self, width: int, space: Space) -> Decoder:
        return MapHead(width, space, self.spec.shape)

    def loss(self) -> LossTerm:
        def loss(params: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
            assert (target > 0).all(), "a loss was given void"
            return total(gaussian(params[:, 0], 0 * params[:, 1], target.log()), where)

        return loss

    def read(self, raw: Any) -> Tensor:
        return torch.as_tensor(raw).to(self.spec.dtype)

    def show(self, x: Tensor) -> str:
        return str(x.tolist())

    def typical(self, n: int, seed: int) -> Tensor:
        rng = Rng.for_rows(seed, n).of("typical")
        x = rng.of("x").normal(*self.spec.shape).exp().clamp(0.1, 10)
        return torch.where(rng.of("hole").uniform(*self.spec.shape) < 0.3, 0.0, x)


class Spy(nn.Module):
    """A backbone that remembers what it was told."""

    features = 6

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, 6, 1)
        self.told: list[tuple[Tensor, ...]] = []

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        self.told.append((z, t, roles, condition))
        return torch.tanh(self.mix(torch.cat([z, condition], 1)))


def model_of(parts: list[Modality], layout: Any = "shared", **options: Any) -> mmcore.JointModel:
    space = mmcore.space.Space.for_codes(
        [m.code for m in parts], mmcore.space.Layout.groups(layout, [m.name for m in parts])
    )
    torch.manual_seed(0)
    backbone = Spy(space.shape[0])
    model = mmcore.compose(parts, layout=layout, space=space.shape, schedule="paper", backbone=backbone, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


@pytest.fixture
def parts(registry: mmcore.Registry) -> list[Modality]:
    return [Depth(), registry.modality("label", classes=3)]


def batch_of(parts: list[Modality], n: int, seed: int = 0) -> dict[str, Tensor]:
    return {m.name: m.typical(n, seed) for m in parts}


def noise_of(model: mmcore.JointModel, n: int) -> Tensor:
    return torch.randn(n, *model.space.shape, generator=torch.Generator().manual_seed(5))


def test_neither_encoder_nor_loss_sees_void_and_no_hole_counts(parts: list[Modality]) -> None:
    model, n = model_of(parts), 5
    batch, t = batch_of(parts, n), torch.arange(1, n + 1)
    roles = torch.full((n, 2), GENERATE)
    found: list[Tensor] = []
    model.decoders["depth"].register_forward_hook(lambda *args: found.append(args[2]))
    losses = model(batch, t, roles, noise_of(model, n))
    x, there = batch["depth"], batch["depth"] > 0
    assert 0 < int((~there).sum()) < x.numel()
    want = [0.0] * n
    for k, _, row, column in there.nonzero().tolist():
        gap = float(x[k, 0, row, column].log() - found[0].detach()[k, 0, 0, row, column])
        want[k] += gap**2 / 2 + math.log(2 * math.pi) / 2
    assert losses[:, 0].tolist() == pytest.approx(want, rel=1e-5)
    codes = encoded(parts[0], Logs(), x)
    assert torch.equal(codes, torch.where(there, x.clamp(min=0.1).log(), 0))


def test_seen_elements_and_holes_are_both_left_out(parts: list[Modality]) -> None:
    depth, x = parts[0], parts[0].typical(4, 1)
    params = torch.randn(4, 2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    where = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    each = gaussian(params[:, 0], 0 * params[:, 1], x.clamp(min=0.1).log())
    found = nats(depth, depth.loss(), params, x, where)
    assert torch.allclose(found, (each * (where & (x > 0))).flatten(1).sum(1))


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_the_network_is_told_that_holes_are_not_there(parts: list[Modality], layout: str) -> None:
    model, n = model_of(parts, layout), 4
    batch, roles = batch_of(parts, n), torch.tensor([[OBSERVE, GENERATE]] * n)
    model(batch, torch.full((n,), 9), roles, noise_of(model, n))
    codes, flags = model.backbone.told[-1][3].chunk(2, dim=1)  # type: ignore[union-attr]
    P = torch.zeros(12, model.space.size)
    for place, (source, owner) in enumerate(
        zip(model.frame._source.tolist(), model.frame._owner.tolist(), strict=True)
    ):  # type: ignore[union-attr]
        if owner == 0:
            P[source, place] = 1
    there = (batch["depth"] > 0).flatten(1).float()
    assert torch.equal(flags.flatten(1), there @ P)
    assert torch.equal(codes.flatten(1) * (1 - flags.flatten(1)), torch.zeros(n, model.space.size))


@pytest.mark.parametrize("trained", [False, True])
def test_of_the_bound_holes_have_no_part(parts: list[Modality], trained: bool) -> None:
    """Also where a learned turn mixes what is known with what is not."""
    model, n = model_of(parts, trained_encoders=["depth"] if trained else []), 6
    batch, roles = batch_of(parts, n), torch.full((n, 2), GENERATE)
    found: list[Tensor] = []

    def keep(*args: Any) -> None:
        args[2].retain_grad()
        found.append(args[2])

    model.decoders["depth"].register_forward_hook(keep)
    t = torch.tensor([1, 2, 40, 300, 700, 999])
    model(batch, t, roles, noise_of(model, n), objective="bound").sum().backward()
    slope = found[0].grad
    assert slope is not None
    holes = (batch["depth"] == 0)[:, None].expand(-1, 2, -1, -1, -1)
    assert (slope[holes] == 0).all()
    assert (slope[:, 0][(batch["depth"] > 0)] != 0).all()


def test_training_with_parts_observed_never_observes_a_hole(parts: list[Modality]) -> None:
    model = model_of(parts)
    rows = [
        {"depth": x, "label": int(k)} for x, k in zip(parts[0].typical(40, 3), parts[1].typical(40, 3), strict=True)
    ]
    mmcore.fit(
        model, rows, steps=30, batch_size=8, roles=RoleMix(partial=0.8), weighting="elbo", device="cpu", quiet=True
    )
    there = {tuple(row["depth"].flatten().tolist()): row["depth"] > 0 for row in rows}
    assert len(there) == 40
    told = 0
    for _, _, roles, condition in model.backbone.told:  # type: ignore[union-attr]
        codes, flags = condition.chunk(2, dim=1)
        assert (codes[flags == 0] == 0).all()
        told += int(((roles[:, 0] == GENERATE) & (flags[:, 0].flatten(1).sum(1) > 0)).sum())
        # A log of 0 nowhere: no known code is exactly that of a hole.
        assert (codes[:, 0][flags[:, 0] == 1] != 0).all()
    assert told > 20


def test_what_is_given_comes_back_and_its_holes_are_filled_when_asked(parts: list[Modality]) -> None:
    model = model_of(parts)
    x = parts[0].typical(6, 2)
    there = parts[0].spec.there(x)
    kept = mmcore.sample(model, 6, given={"depth": x}, steps=4)
    assert torch.equal(kept["depth"], x)
    filled = mmcore.sample(model, 6, given={"depth": x}, where={"depth": there}, steps=4)["depth"]
    assert torch.equal(filled[there], x[there])
    assert (filled[~there] >= 0.1).all()
    # What is said to be known, and is void, stays so; of it nothing is told.
    half = torch.ones_like(there)
    half[..., :2] = False
    model.backbone.told.clear()  # type: ignore[union-attr]
    answer = mmcore.sample(model, 6, given={"depth": x}, where={"depth": half}, steps=4)["depth"]
    assert torch.equal(answer[half], x[half])
    assert (answer[~half] > 0).all()
    flags = model.backbone.told[0][3].chunk(2, dim=1)[1][:, :1]  # type: ignore[union-attr]
    assert torch.equal(flags.bool(), half & there)


@pytest.mark.parametrize("conditioning", ["roles", "posterior"])
def test_a_sample_of_nothing_but_void_is_one_that_is_not_given(parts: list[Modality], conditioning: str) -> None:
    model = model_of(parts)
    x = parts[0].typical(4, 2)
    x[1] = 0
    answer = mmcore.sample(model, 4, given={"depth": x}, conditioning=conditioning, steps=4)
    assert torch.equal(answer["depth"], x)
    absent = mmcore.sample(model, 4, absent=["depth"], steps=4)
    if conditioning == "roles":
        assert torch.equal(answer["label"][1], absent["label"][1])
    asked = mmcore.sample(model, 4, given={"depth": x}, where={"depth": x > 0}, conditioning=conditioning, steps=4)
    assert (asked["depth"][1] > 0).all()
    nothing = mmcore.sample(model, 2, given={"depth": 0 * x[:2]}, where={"depth": x[:2] >= 0}, steps=4)
    assert torch.equal(nothing["depth"], 0 * x[:2])


def test_rejection_refuses_void(registry: mmcore.Registry) -> None:
    mask = registry.modality("mask", size=2, classes=2, void=9)
    model = mmcore.compose([mask, registry.modality("label", classes=2)], backbone="mlp", registry=registry)
    x = torch.tensor([[[0, 9], [1, 1]]])
    with pytest.raises(RequestError, match="given 'mask' with void, which no sample equals"):
        mmcore.sample(model, 1, given={"mask": x}, conditioning="rejection")


def test_rows_of_nothing_but_void_lack_the_modality(parts: list[Modality]) -> None:
    x = parts[0].typical(3, 0)
    x[1] = 0
    batch = Dataset([{"depth": row, "label": 0} for row in x], parts).take([0, 1, 2])
    assert batch.present.tolist() == [[True, True], [False, True], [True, True]]


def test_the_bound_is_per_number_that_is_known(parts: list[Modality]) -> None:
    model = model_of(parts)
    x = parts[0].typical(5, 4)
    found = mmcore.evaluate(model, Table.read([{"depth": row} for row in x], model.variables), draws=2)
    assert found.variables["depth"].dimensions == pytest.approx(float((x > 0).sum()) / 5)


def test_reals_without_limits_have_a_void_that_every_format_holds() -> None:
    spec = Spec((2, 3), void=VOID)
    x = torch.randn(4, 2, 3)
    x[0, 1, 2] = VOID
    spec.check(x, "x")
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert int((~spec.there(x.to(dtype))).sum()) == 1
    assert spec.filled(x)[0, 1, 2] == 0
    directions = Spec((3,), unit_norm=True, void=VOID)
    directions.check(torch.tensor([[1.0, 0, 0], [VOID] * 3]), "x")
    with pytest.raises(RequestError, match="in row 0, expected 1"):
        directions.check(torch.tensor([[VOID, 0.6, 0.8]]), "x")


class Tokens(Depth):
    """Texts of five places, each with a code of three numbers, and a flat code of fifteen."""

    discrete = True

    def __init__(self) -> None:
        self.name = "tokens"
        self.spec, self.code = Spec((5,), torch.int64, 0, 3), (15,)

    @property
    def divisible(self) -> bool:
        return True

    def code_where(self, where: Tensor) -> Tensor:
        return where.repeat_interleave(3, 1)

    def encoder(self) -> Encoder:
        return TokenEncoder()

    def decoder(self, width: int, space: Space) -> Decoder:
        return TokenHead(width, space, (5,))

    def loss(self) -> LossTerm:
        return lambda params, target, where=None: total(
            nn.functional.cross_entropy(params, target, reduction="none"), where
        )

    def expected_code(self, params: Tensor, encode: Any, decoder: Decoder) -> Tensor:
        codes = encode(torch.arange(4)[:, None].expand(-1, 5)).unflatten(1, (5, 3))
        return torch.einsum("bke,ked->bed", params.softmax(1), codes).flatten(1)

    def typical(self, n: int, seed: int) -> Tensor:
        return Rng.for_rows(seed, n).integers(0, 4, 5)


class TokenEncoder(Encoder):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x == k for k in (1, 2, 3)], dim=-1).flatten(1).float()


class TokenHead(MapHead):
    def __init__(self, width: int, space: Space, shape: tuple[int, ...]) -> None:
        super().__init__(width, space, (10,))

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.head(features).unflatten(1, (4, 5))

    def point(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return rng.categorical(params.softmax(1).transpose(1, 2))


def test_a_flat_code_of_another_size_than_its_sample_is_observed_in_part(registry: mmcore.Registry) -> None:
    tokens = Tokens()
    seen = RoleMix(partial=0.9).draw_seen(Rng.for_rows(0, 400), [tokens])
    assert seen is not None
    assert seen["tokens"].shape == (400, 5)
    share = seen["tokens"].float().mean(1)
    assert {0.0, 0.2, 0.4, 0.6, 0.8, 1.0} <= {round(float(x), 1) for x in share}
    model = mmcore.compose([tokens, registry.modality("label", classes=2)], backbone="mlp", registry=registry)
    rows = [{"tokens": x, "label": 0} for x in tokens.typical(30, 0)]
    mmcore.fit(model, rows, steps=3, roles=RoleMix(partial=0.8), device="cpu", quiet=True)
    x, half = tokens.typical(4, 1), torch.tensor([[True, False, True, False, True]] * 4)
    answer = mmcore.sample(model, 4, given={"tokens": x}, where={"tokens": half}, steps=4)["tokens"]
    assert torch.equal(answer[half], x[half])
