"""What a network and its heads are given of noisy latents, by explicit matrices; and Bayes' rule, by quadrature."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mmcore
from mmcore import Decoder, JointModel, Registry, Rng, Role, Space
from mmcore.modality import NoisyCode
from mmcore.space import Layout, place
from mmcore.testing.reference import Reference, ReferenceDecoder

T = 50
NAMES = ("label", "words", "number", "image")


def model_of(registry: Registry, layout: Any = "shared", **options: Any) -> JointModel:
    parts = [
        registry.modality("label", classes=4),
        registry.modality("clip", name="words", width=3, unit_norm=False),
        registry.modality("scalar", name="number"),
        registry.modality("image", channels=1, size=4),
    ]
    return mmcore.compose(
        parts,
        layout=layout,
        space=(4, 4, 4),
        schedule=mmcore.process.schedule.cosine(T, 4),
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1, "features": 4},
        registry=registry,
        **options,
    )


@pytest.fixture(scope="module", params=["shared", "separate"])
def model(request: pytest.FixtureRequest, registry: Registry) -> JointModel:
    return model_of(registry, request.param)


def matrices(model: JointModel) -> list[Tensor]:
    """``P_i (dim Z, d_i)``."""
    codes = [m.code for m in model.modalities]
    layout = Layout(model.process.members, model.process.channels)
    placement = place(codes, model.space, layout=layout)
    return [placement.matrix(i) for i in range(len(codes))]


@settings(deadline=None, max_examples=40)
@given(
    roles=st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4),
    t=st.integers(1, T),
    known=st.lists(st.booleans(), min_size=16, max_size=16),
)
def test_the_network_is_shown_each_code_by_itself(
    model: JointModel, roles: list[int], t: int, known: list[bool]
) -> None:
    """``P_iᵀ z`` at unit variance wherever the code lies; nothing of what is not generated, is known, or is drowned at ``T``."""
    asked, process = torch.tensor([roles]), model.process
    z = Rng.for_rows(t, 1).normal(*model.space.shape, dtype=torch.float64)
    seen = {"image": torch.tensor(known).reshape(1, 1, 4, 4)} if roles[3] == Role.GENERATE else None
    drive = model.drive(torch.tensor([t]), asked, seen)
    wanted = torch.zeros(model.space.size, dtype=torch.float64)
    for i, P in enumerate(matrices(model)):
        block = int(process.block_of[i])
        alone = all(roles[j] != Role.GENERATE for j in process.members[block])
        code = z.flatten() @ P
        if roles[i] == Role.GENERATE and t < T:
            W = float(process.schedule.W[t, i])
            sigma2 = float(-torch.expm1(process.schedules[block].log_A[t]))
            code = code / (W**2 + sigma2) ** 0.5
            if i == 3:
                code = torch.where(torch.tensor(known), 0.0, code)
        elif not (roles[i] == Role.OBSERVE and alone):
            code = torch.zeros_like(code)
        wanted += P.sign() @ code
    found = model.read(z, drive).shown.flatten()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_space_as_it_is(registry: Registry) -> None:
    """The former reading: scaled as a whole, and nothing told to heads."""
    model = model_of(registry, reading="space")
    z = Rng.for_rows(0, 2).normal(*model.space.shape)
    drive = model.drive(torch.tensor([20, T]), torch.tensor([[0, 1, 0, 2], [0, 0, 0, 0]]))
    read = model.read(z, drive)
    torch.testing.assert_close(read.shown, z * drive.scale.float().reshape(2, 1, 1, 1))
    assert read.codes is None
    assert model.reading.beginning == frozenset()


@settings(deadline=None, max_examples=60)
@given(
    mean=st.floats(-2, 2),
    log_scale=st.floats(-2, 1),
    z=st.floats(-2, 2),
    weight=st.floats(0, 1),
    sigma=st.floats(0.05, 1),
)
def test_a_normal_code_given_its_noisy_code(
    mean: float, log_scale: float, z: float, weight: float, sigma: float
) -> None:
    """Mean and deviation of ``N(e; μ, s²) N(z; W e, σ²)`` over ``e``, by quadrature."""
    e = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    s = torch.tensor(log_scale, dtype=torch.float64).exp()
    log_p = -0.5 * ((e - mean) / s) ** 2 - 0.5 * ((z - weight * e) / sigma) ** 2
    p = (log_p - log_p.max()).exp()
    p = p / p.sum()
    truth = float((p * e).sum())
    spread = float((p * (e - truth) ** 2).sum().sqrt())
    one = torch.ones(1, dtype=torch.float64)
    own = NoisyCode(z * one[:, None], weight * one, sigma * one)
    found, log_found = own.around(mean * one[:, None], log_scale * one[:, None])
    assert float(found) == pytest.approx(truth, abs=2e-3)
    assert float(log_found.exp()) == pytest.approx(spread, rel=1e-2, abs=1e-3)


class Listening(ReferenceDecoder):
    """Keeps what it is given."""

    heard: NoisyCode | None = None

    def forward(self, features: Tensor, t: Tensor, own: NoisyCode | None = None) -> Tensor:
        self.heard = own
        return super().forward(features, t, own)


class Heard(Reference):
    def decoder(self, width: int, space: Space) -> Decoder:
        return Listening(width, space, self.spec.shape[0])


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_head_is_told_its_own_noisy_code(registry: Registry, layout: str, trained: bool) -> None:
    """In the encoder's own terms, a learned turn undone; nothing where it is observed, absent, or drowned at ``T``."""
    parts = [Heard(), registry.modality("label", classes=3)]
    name = parts[0].name
    model = mmcore.compose(
        parts,
        layout=layout,
        schedule=mmcore.process.schedule.cosine(T, 2),
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1},
        trained_encoders=[name] if trained else [],
        registry=registry,
    )
    if trained:
        turn = model.encoders[name].turn
        with torch.no_grad():
            turn.weight = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    x, label = parts[0].typical(5, 0), torch.zeros(5, dtype=torch.int64)
    t = torch.tensor([1, 20, T, 20, 20])
    roles = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 0], [2, 0]])
    zero = torch.zeros(5, *model.space.shape)
    with torch.no_grad():
        model({name: x, "label": label}, t, roles, zero)
    own = model.decoders[name].heard
    W = model.process.schedule.W[t, 0].float()
    said = torch.tensor([True, True, False, False, False])
    torch.testing.assert_close(own.weight, torch.where(said, W, 0.0))
    sigma2 = -torch.expm1(model.process.schedules[0].log_A[t]).float()
    torch.testing.assert_close(own.sigma.square(), torch.where(said, sigma2, 1.0))
    # Without noise what is left of the code is W times it.
    torch.testing.assert_close(own.z, torch.where(said[:, None], W[:, None] * x, 0.0), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*overlap")
def test_of_codes_that_overlap_no_head_is_told(registry: Registry) -> None:
    """At such a place lies ``W_a E_a + W_b E_b + σ ε``: a head that took it for its own code would be as sure as ``σ`` of what is not so."""
    parts = [Heard(), Heard()]
    for name, part in zip("ab", parts, strict=True):
        part.name = name
    options: dict[str, Any] = {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}, "registry": registry}
    for space, told in (((1, 3), False), ((2, 3), True)):
        model = mmcore.compose(parts, space=space, overlap=True, **options)
        batch = {part.name: part.typical(4, k) for k, part in enumerate(parts)}
        with torch.no_grad():
            model(batch, torch.ones(4).long(), torch.zeros(4, 2).long(), torch.zeros(4, *model.space.shape))
        assert [model.decoders[name].heard is not None for name in "ab"] == [told, told]


def test_a_head_that_takes_no_noisy_code_is_given_none(registry: Registry) -> None:
    class Plain(ReferenceDecoder):
        preconditioned = False

        def forward(self, features: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
            return self.head(features).unflatten(1, (2, self.size))

    class Old(Reference):
        def decoder(self, width: int, space: Space) -> Decoder:
            return Plain(width, space, self.spec.shape[0])

    model = mmcore.compose([Old()], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
    assert isinstance(model.backbone, nn.Module)
    assert mmcore.sample(model, 2, steps=2)["reference"].isfinite().all()


def test_a_folder_of_format_2_reads_the_space_as_it_did(registry: Registry, tmp_path: Path) -> None:
    model = model_of(registry, reading="space")
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.2 * Rng.for_rows(i, 1).normal(*p.shape)[0]
    answer = mmcore.sample(model.eval(), 3, steps=4, registry=registry)
    folder = mmcore.save(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 4
    assert config.pop("reading") == "space"
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}))
    former = mmcore.load(folder, registry=registry)
    assert former.reading.how == "space"
    assert all(torch.equal(x, answer[name]) for name, x in mmcore.sample(former, 3, steps=4).items())
    with pytest.raises(mmcore.RequestError, match="compose: reading = 'spaces', expected one of codes, space"):
        model_of(registry, reading="spaces")
