"""Questions: what is refused, what is observed in part, guidance of 1, and samples that depend on their own number only.

The laws of any network are held by a perceptron with random weights, in float64 so that rounding cannot hide anything.
"""

import copy
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mmcore
from mmcore import JointModel, MmcoreError, Registry, RequestError, Rng
from mmcore.process import Process, schedule
from mmcore.sampling import Ddim, plan
from mmcore.sampling.samplers import SAMPLERS as SAMPLER_CLASSES
from mmcore_scalar import ScalarModality

from .oracle import GENERATE, OBSERVE, SAMPLERS, Oracle, Vector, gaussian_model, mixed

LAYOUTS: dict[str, Any] = {"shared": "shared", "separate": "separate", "two blocks": [["a", "label"], ["b"]]}


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request: pytest.FixtureRequest, registry: Registry) -> JointModel:
    modalities = [Vector("a", 0, 3), Vector("b", 3, 2), registry.modality("label", classes=4)]
    # Vectors read their part of the features themselves; the label has a head.
    for m in modalities[:2]:
        m.decoder = lambda width, space, m=m: _Pooled(m.size, width, space)  # type: ignore[method-assign]
    model = mmcore.compose(
        modalities,
        layout=LAYOUTS[request.param],
        backbone="mlp",
        backbone_options={"width": 16, "depth": 1},
        registry=registry,
    ).double()
    # Output layers start at zero; noise on them makes every prediction depend on its inputs.
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.2 * Rng.for_rows(i, 1).normal(*p.shape, dtype=torch.float64)[0]
    return model


class _Pooled(mmcore.Decoder):
    def __init__(self, size: int, width: int, space: mmcore.Space) -> None:
        super().__init__()
        self.out = torch.nn.Linear(width * (space.size // space.shape[0]), size)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        mean = self.out(features.flatten(1))
        return torch.cat([mean, torch.full_like(mean, 0.3)], dim=1)

    def point(self, params: Tensor) -> Tensor:
        return params.chunk(2, dim=1)[0]

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        mean, deviation = params.chunk(2, dim=1)
        return mean + deviation * rng.normal(mean.shape[1], dtype=mean.dtype)


def values(n: int, seed: int = 0) -> dict[str, Tensor]:
    rng = Rng.for_rows(seed, n)
    a, b = (rng.of(name).normal(size, dtype=torch.float64) for name, size in (("a", 3), ("b", 2)))
    return {"a": a, "b": b, "label": rng.integers(0, 4)}


# ---- laws ----


def test_an_edit_keeps_what_is_given_whatever_its_start_says_of_it(model: JointModel) -> None:
    """The start's value of an observed modality, or of its observed elements, reaches nothing."""
    x, one, other = values(4), values(4, 1), values(4, 2)
    known = torch.tensor([[True, False, True]]).expand(4, 3)
    for where in ({}, {"a": known}):
        given = {"a": torch.where(known, x["a"], 0.0) if where else x["a"]}
        # Only what is known of ``a`` differs between the starts.
        changed = other["a"] if not where else torch.where(known, other["a"], one["a"])
        how: dict[str, Any] = {"given": given, "where": where, "strength": 0.6, "steps": 4, "seed": 3}
        first = mmcore.sample(model, 4, start=one, **how)
        second = mmcore.sample(model, 4, start=one | {"a": changed}, **how)
        for name, value in first.items():
            assert torch.equal(value, second[name])


def test_an_edit_starts_from_its_start(model: JointModel) -> None:
    """Another start gives another answer, and strength 1 is further from it than a small one."""
    start = {name: 3 * value if value.is_floating_point() else value for name, value in values(64).items()}
    gaps = []
    for strength in (0.02, 1.0):
        answer = mmcore.sample(model, 64, start=start, strength=strength, steps=3, sampler="ddim", eta=0.0)
        again = mmcore.sample(model, 64, start=values(64, 5), strength=strength, steps=3, sampler="ddim", eta=0.0)
        gaps.append((answer["a"] - again["a"]).abs().mean())
    assert gaps[0] > 2 * gaps[1] > 0


def test_guidance_moves_only_the_rows_that_are_guided(model: JointModel) -> None:
    x, rows = values(4), torch.tensor([True, False, True, False])
    how: dict[str, Any] = {"given": {"a": x["a"]}, "where": {"a": rows}, "absent": ["label"], "steps": 5, "seed": 2}
    plain = mmcore.sample(model, 4, sampler="ddim", eta=0.0, **how)["b"]
    guided = mmcore.sample(model, 4, sampler="ddim", eta=0.0, guidance={"a": 4.0}, **how)["b"]
    moved = (plain - guided).abs().amax(1)
    assert (moved[~rows] < 1e-12).all()
    assert (moved[rows] > 1e-3).all()


@pytest.mark.parametrize(
    ("name", "how", "expected"),
    [
        ("cosine", {}, ("2m", 0.0, 20)),
        ("linear", {}, ("2m", 0.0, 20)),
        ("paper", {}, ("2m", 0.0, 20)),
        ("paper-steps", {}, ("ddim", 0.0, 50)),
        ("cosine", {"eta": 0.5}, ("ddim", 0.5, 50)),
        ("cosine", {"codes": "draw"}, ("ddim", 1.0, 50)),
        ("cosine", {"steps": 7}, ("2m", 0.0, 7)),
        ("cosine", {"sampler": "heun"}, ("heun", 0.0, 10)),
        ("cosine", {"sampler": "ancestral"}, ("ancestral", 1.0, 50)),
    ],
)
def test_the_default_is_of_second_order_where_it_can_be(
    name: str, how: dict[str, Any], expected: tuple[str, float, int]
) -> None:
    defaults = {
        key: value.default
        for key, value in inspect.signature(mmcore.sample).parameters.items()
        if key in ("steps", "spacing", "sampler", "eta", "codes")
    }
    sampler, path = plan(Process(schedule.NAMED[name](1000, 3)), **(defaults | how))
    kind, eta, count = expected
    assert type(sampler) is SAMPLER_CLASSES[kind]
    assert len(path) == count
    if isinstance(sampler, Ddim):
        assert sampler.of(Process(schedule.NAMED[name](1000, 3))) == eta


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("draw", [False, True])
def test_a_sample_depends_on_its_own_number_only(model: JointModel, sampler: str, draw: bool) -> None:
    """Sample ``k`` of 8 is sample ``k`` of 3, in whatever batches; another seed's is another."""
    x = values(8)
    how: dict[str, Any] = {"steps": 5, "seed": 7, "draw": draw, **SAMPLERS[sampler]}
    for names in ((), ("label",), ("a",)):
        eight, three, parts = (
            mmcore.sample(model, n, given={name: x[name][:n] for name in names}, batch_size=size, **how)
            for n, size in ((8, 500), (3, 500), (8, 3))
        )
        for name in ("a", "b"):
            torch.testing.assert_close(eight[name][:3], three[name], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(eight[name], parts[name], rtol=1e-9, atol=1e-9)
        assert torch.equal(eight["label"][:3], three["label"])
        assert torch.equal(eight["label"], parts["label"])
        other = mmcore.sample(model, 3, given={name: x[name][:3] for name in names}, **how | {"seed": 8})
        assert (other["b"] - three["b"]).abs().min() > 1e-6
        assert (eight["b"][0] - eight["b"][1]).abs().min() > 1e-6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_of_1_is_none(model: JointModel, sampler: str) -> None:
    """Bit for bit; and a scale beside 1 is not."""
    how = {"given": {"label": torch.tensor([0, 1, 2, 3])}, "steps": 5, **SAMPLERS[sampler]}
    without, one, two = (
        mmcore.sample(model, 4, **how, guidance=guidance) for guidance in (None, {"label": 1.0}, {"label": 2.0})
    )
    for name, found in without.items():
        assert torch.equal(one[name], found)
    assert not torch.equal(two["a"], without["a"])


@settings(max_examples=20)
@given(data=st.data(), conditioning=st.sampled_from(["roles", "posterior"]))
def test_observed_elements_come_back_bit_for_bit(model: JointModel, data: st.DataObject, conditioning: str) -> None:
    x = values(4, seed=3)
    bits = lambda count: st.lists(st.booleans(), min_size=count, max_size=count)  # noqa: E731
    where = {
        "a": torch.tensor(data.draw(bits(12))).reshape(4, 3),
        # Something is left to generate in every row.
        "b": torch.tensor([[known, False] for known in data.draw(bits(4))]),
        "label": torch.tensor(data.draw(bits(4))),
    }
    answer = mmcore.sample(model, 4, given=x, where=where, conditioning=conditioning, steps=3)
    for name, mask in where.items():
        assert torch.equal(answer[name][mask], x[name][mask])
        if name != "label":
            assert (answer[name][~mask] != x[name][~mask]).all()
    # What the caller left in the unknown elements reaches nothing.
    other = {name: torch.where(mask, x[name], values(4, seed=9)[name]) for name, mask in where.items()}
    again = mmcore.sample(model, 4, given=other, where=where, conditioning=conditioning, steps=3)
    for name in answer:
        assert torch.equal(again[name], answer[name])


@settings(max_examples=60)
@given(st.sampled_from(["shared", "separate"]), st.integers(0, 2**20), st.data())
def test_only_hidden_elements_have_loss(layout: str, seed: int, data: st.DataObject) -> None:
    """With the exact predictor the loss is that of the hidden elements given the seen ones, by NumPy alone."""
    model = _two(layout)
    assert isinstance(model.backbone, Oracle)
    rng = np.random.default_rng(seed)
    C = mixed(5, seed)
    x, noise = rng.multivariate_normal(np.zeros(5), C), rng.normal(size=model.space.shape)
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=5, max_size=5).filter(any)))
    t = [data.draw(st.integers(1, 100)) for _ in range(model.process.blocks)]
    whole = [bool(not hidden[:3].any()), bool(not hidden[3:].any())]

    # The space has an element for each of the five; each block is at its own timestep.
    timestep = np.repeat([t[0], t[-1]], [3, 2])
    A = model.process.schedule.log_A.exp().numpy()[timestep]
    P = _places(model)
    z = np.sqrt(A) * x + np.sqrt(1 - A) * (P.T @ noise.flatten())
    y_of = np.concatenate([np.flatnonzero(hidden), 5 + np.flatnonzero(~hidden)])
    H = np.concatenate([np.diag(np.sqrt(A)), np.eye(5)])[y_of]
    R = np.diag(np.concatenate([1 - A, np.zeros(5)])[y_of])
    y = np.concatenate([z, x])[y_of]
    gain = C @ H.T @ np.linalg.inv(H @ C @ H.T + R)
    mean, variance = gain @ y, np.diag(C - gain @ H @ C)
    with np.errstate(invalid="ignore", divide="ignore"):
        nats = 0.5 * (x - mean) ** 2 / variance + 0.5 * np.log(2 * np.pi * variance)
    want = [nats[part][hidden[part]].sum() for part in (slice(0, 3), slice(3, 5))]

    model.backbone.covariance = torch.as_tensor(C)[None]
    seen = torch.as_tensor(~hidden)[None]
    losses = model(
        {"a": torch.as_tensor(x)[None, :3], "b": torch.as_tensor(x)[None, 3:]},
        torch.tensor([t]),
        torch.tensor([[OBSERVE if w else GENERATE for w in whole]]),
        torch.as_tensor(noise)[None],
        {"a": seen[:, :3] & ~torch.tensor(whole[0]), "b": seen[:, 3:] & ~torch.tensor(whole[1])},
    )
    np.testing.assert_allclose(losses[0].numpy(force=True), want, rtol=1e-6, atol=1e-6)


def _two(layout: str) -> JointModel:
    return gaussian_model(schedule.cosine(100, 2), [3, 2], layout, space=(5, 1))


def _places(model: JointModel) -> np.ndarray:
    """``(dim Z, 5)``, where each element of the data is: once each, in a space with an element for each."""
    codes = torch.eye(5, dtype=torch.float64)
    return model.frame.place(codes).sum(1).T.numpy()


# ---- what is refused ----


class Walk(mmcore.sampling.Sampler):
    """A sampler that says its path, and what becomes of the latents."""

    def __init__(self, path: Any, z: Any = None) -> None:
        super().__init__()
        vars(self).update(told=path, z=z or (lambda z: z))

    def path(self, process: Any, begin: int | None = None) -> Any:
        return self.told  # type: ignore[attr-defined]

    def step(self, denoiser: Any, here: Any, to: int, rng: Any, memory: Any) -> Any:
        return self.z(here.z)  # type: ignore[attr-defined]


class Follow(mmcore.sampling.Guidance):
    """A guidance that says its names, and what becomes of the codes."""

    def __init__(self, names: Any, codes: Any = None) -> None:
        self.told, self.codes = names, codes or (lambda codes: codes)

    def names(self) -> Any:
        return self.told

    def combine(self, codes: Any, without: Any, here: Any) -> Any:
        return self.codes(codes)


def test_a_guidance_that_drops_nothing_is_asked_too(model: JointModel) -> None:
    """One that changes codes without any others is used as one that is given them and does not look."""
    x = values(4)
    how: dict[str, Any] = {"given": {"label": x["label"]}, "steps": 3, "seed": 2}
    alone, beside = (
        mmcore.sample(model, 4, guidance=Follow(names, lambda codes: codes / 2), **how) for names in ((), ["label"])
    )
    plain = mmcore.sample(model, 4, **how)
    assert all(torch.equal(alone[name], beside[name]) for name in plain)
    assert any(not torch.equal(alone[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"given": ["a"], "absent": ["a"]}, "a both given and absent, expected at most one"),
        (
            {
                "given": ["a"],
                "where": {"a": torch.tensor([False, True, True])},
                "absent": {"a": torch.tensor([True, False, True])},
            },
            "a both given and absent in row 2, expected at most one",
        ),
        (
            {
                "given": ["a"],
                "where": {"a": torch.tensor([[False] * 3, [False] * 3, [False, True, False]])},
                "absent": {"a": torch.tensor([True, False, True])},
            },
            "a both given and absent in row 2, expected at most one",
        ),
        ({"given": ["a", "b", "label"]}, "in row 0 every modality is given, .* nothing is left to generate"),
        ({"given": ["a"], "absent": ["b", "label"]}, "nothing is left to generate"),
        ({"given": ["a", "b"], "absent": {"label": torch.tensor([False, True, False])}}, "in row 1 every modality"),
        (
            {"given": ["a"], "where": {"a": torch.ones(3, 2, dtype=torch.bool)}},
            r"where 'a' is torch.bool \(3, 2\), expected booleans \(3, 3\)",
        ),
        ({"given": ["a"], "where": {"a": torch.ones(3, 3)}}, r"where 'a' is torch.float32 \(3, 3\), expected booleans"),
        ({"given": ["a"], "where": {"a": [1] * 3}}, "where 'a' is list, expected booleans"),
        ({"where": {"a": torch.ones(3, 3, dtype=torch.bool)}}, "where names 'a', which is not given"),
        (
            {"given": ["a"], "where": {"c": torch.ones(3, dtype=torch.bool)}},
            "where names 'c', expected one of a, b, label",
        ),
        (
            {"absent": {"a": torch.ones(2, dtype=torch.bool)}},
            r"absent 'a' is torch.bool \(2,\), expected booleans \(3,\)",
        ),
        ({"absent": {"a": torch.ones(3)}}, r"absent 'a' is torch.float32 \(3,\), expected booleans"),
        ({"guidance": {"label": 2.0}}, "guidance = 'label', expected a modality that is observed, among the given"),
        ({"given": ["a"], "guidance": {"c": 2.0}}, "guidance = 'c', expected one of a, b, label"),
        ({"given": ["a"], "guidance": {"a": float("nan")}}, "guidance.a = nan, expected a finite number"),
        (
            {"given": ["a"], "guidance": {"a": 2.0}, "conditioning": "posterior"},
            "conditioning = 'posterior', expected roles, as there is guidance",
        ),
        (
            {"given": ["label"], "guidance": {"label": 2.0}, "conditioning": "rejection"},
            "conditioning = 'rejection', expected roles, as there is guidance",
        ),
        ({"conditioning": "rejection"}, "'rejection' with nothing given, expected 'roles'"),
        (
            {"given": ["label", "a"], "conditioning": "rejection"},
            "'rejection' given 'a', whose values are real numbers: no sample would equal them; expected classes",
        ),
        (
            {"given": ["label"], "where": {"label": torch.ones(3, dtype=torch.bool)}, "conditioning": "rejection"},
            "'rejection' with 'label' given in part, expected all of it",
        ),
        (
            {"given": ["label"], "absent": {"a": torch.tensor([True, False, True])}, "conditioning": "rejection"},
            "conditioning = 'rejection', expected roles, or no absent by row beside it",
        ),
        (
            {"given": ["label"], "start": ["a", "b", "label"], "conditioning": "rejection"},
            "conditioning = 'rejection', expected roles, or no start beside it",
        ),
        (
            {"conditioning": "poster"},
            "conditioning = 'poster', expected one of roles, posterior, rejection; did you mean 'posterior'",
        ),
        ({"sampler": "dpm"}, "sampler = 'dpm', expected one of auto, ddim, ancestral, 2m, heun"),
        ({"steps": 0}, "steps = 0, expected a whole number of at least 1"),
        ({"steps": []}, r"steps = \[\], expected decreasing whole numbers inside 1 … 1000"),
        ({"steps": [3, 3]}, r"steps = \[3, 3\], expected decreasing whole numbers"),
        ({"steps": [1001, 3]}, r"steps = \[1001, 3\], expected 1000 first"),
        ({"steps": [5, 3]}, r"steps = \[5, 3\], expected 1000 first"),
        ({"steps": [3, 0]}, "expected decreasing whole numbers inside 1 … 1000"),
        ({"steps": torch.tensor(5)}, r"steps = tensor\(5\), expected a whole number"),
        ({"steps": torch.tensor([1000.0, 1.0])}, "expected decreasing whole numbers inside 1 … 1000"),
        ({"steps": torch.tensor([[1000, 1]])}, "expected decreasing whole numbers inside 1 … 1000"),
        ({"steps": [1000, True]}, "expected decreasing whole numbers inside 1 … 1000"),
        ({"sampler": "ddim", "eta": "1"}, "eta = '1', expected 0 … 1"),
        (
            {"sampler": Walk([])},
            r"the sampler Walk has the path \[\], expected decreasing whole numbers from 1000, none below 1",
        ),
        ({"sampler": Walk(None)}, "the sampler Walk has the path None, expected decreasing whole numbers"),
        ({"sampler": Walk([500, 1])}, r"the sampler Walk has the path \[500, 1\], expected .* from 1000"),
        ({"sampler": Walk([1000, 1000, 1])}, "the sampler Walk has the path"),
        ({"sampler": Walk([1000, 500, 0])}, "the sampler Walk has the path"),
        ({"sampler": Walk([1000.0, 1.0])}, "the sampler Walk has the path"),
        (
            {"sampler": Walk([1000, 1], z=lambda z: None)},
            r"the sampler Walk gave a NoneType, expected noisy latents torch.float64 \(3, ",
        ),
        ({"sampler": Walk([1000, 1], z=lambda z: z[:, :1])}, r"the sampler Walk gave torch.float64 \(3, 1, "),
        ({"sampler": Walk([1000, 1], z=torch.Tensor.float)}, "the sampler Walk gave torch.float32"),
        (
            {"given": ["a"], "guidance": Follow(["a"], lambda codes: None)},
            r"the guidance Follow gave a NoneType, expected codes torch.float64 \(3, ",
        ),
        (
            {"given": ["a"], "guidance": Follow(["a"], lambda codes: codes[:1])},
            r"the guidance Follow gave torch.float64 \(1, ",
        ),
        (
            {"given": ["a"], "guidance": Follow(None)},
            "the guidance Follow has the names None, expected a list of modality names",
        ),
        ({"given": ["a"], "guidance": Follow(name for name in ["a"])}, "the guidance Follow has the names <generator"),
        ({"given": ["a"], "guidance": Follow("a")}, "the guidance Follow has the names 'a', expected a list"),
        ({"spacing": "even"}, "spacing = 'even', expected one of time, snr"),
        ({"sampler": "2m", "eta": 0.0}, "eta = 0.0, expected none with the sampler '2m'"),
        ({"codes": "mode"}, "codes = 'mode', expected one of mean, draw"),
        ({"codes": "draw", "sampler": "heun"}, "codes = 'draw', expected 'mean' with a deterministic sampler"),
        ({"start": ["a"]}, "start.b is missing, expected a value of every generated modality"),
        ({"start": ["a", "b", "label"], "strength": 0.0}, "strength = 0.0, expected a number above 0 and at most 1"),
    ],
)
def test_questions_without_an_answer_are_refused(model: JointModel, options: dict[str, Any], match: str) -> None:
    named = {key: {name: values(3)[name] for name in options[key]} for key in ("given", "start") if key in options}
    with pytest.raises(RequestError, match=match):
        mmcore.sample(model, 3, **options | named)


@settings(max_examples=10, deadline=None)
@given(picks=st.lists(st.integers(0, 30), min_size=1, max_size=12), batch_size=st.integers(5, 60), absent=st.booleans())
def test_rejection_keeps_the_joint_samples_that_are_as_given(
    model: JointModel, picks: list[int], batch_size: int, absent: bool
) -> None:
    """Each row has, of the joint samples with its label, the one after those of the rows before it."""
    how: dict[str, Any] = {"steps": 3, "seed": 5, "absent": ["b"] if absent else []}
    joint = mmcore.sample(model, 400, **how)
    label = joint["label"][picks]  # classes that come soon enough
    wanted = label.tolist()
    answer = mmcore.sample(
        model, len(wanted), given={"label": label}, conditioning="rejection", batch_size=batch_size, **how
    )
    assert torch.equal(answer["label"], label)
    assert answer.keys() == joint.keys()
    for row, k in enumerate(wanted):
        place = (joint["label"] == k).nonzero()[wanted[:row].count(k), 0]
        for name, x in joint.items():
            torch.testing.assert_close(answer[name][row], x[place], rtol=1e-9, atol=1e-9)


def test_rejection_gives_up_what_is_never_generated(model: JointModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcore.sampling.rejection.PATIENCE", 20)
    monkeypatch.setattr(
        type(model.heads.decoder("label")),
        "sample",
        lambda self, params, rng: torch.zeros(len(params), dtype=torch.int64),
    )
    with pytest.raises(
        RequestError, match=r"the last \d+ had none of the values given .* such as those of row 1; expected"
    ):
        mmcore.sample(
            model, 3, given={"label": torch.tensor([0, 2, 0])}, conditioning="rejection", steps=2, batch_size=10
        )


def test_a_class_cannot_be_seen_in_part_nor_can_a_unit_vector(registry: Registry) -> None:
    clip = registry.modality("clip", width=4)
    model = mmcore.compose(
        [clip, Vector("a", 0, 2)],
        schedule=schedule.cosine(10, 2),
        backbone="mlp",
        backbone_options={"width": 8},
        registry=registry,
    )
    where = {"clip": torch.tensor([[True, False, True, True]])}
    with pytest.raises(RequestError, match="'clip' cannot be observed in part, expected all of it or none"):
        mmcore.sample(model, 1, given={"clip": clip.typical(1, 0)}, where=where)


@given(data=st.data(), n=st.integers(1, 4))
@settings(max_examples=25)
def test_a_value_for_all_rows_is_that_value_in_each(data: st.DataObject, n: int, registry: Registry) -> None:
    model = _small(registry)
    name = data.draw(st.sampled_from(["label", "image", "a"]))
    m = model.variable(name)
    one = m.typical(1, data.draw(st.integers(0, 50)))[0]
    rows = one.expand(n, *one.shape).clone()
    raw = m.raw(one)
    expected = mmcore.sample(model, n, given={name: rows}, steps=2)
    for form in (one, raw, [raw] * n):
        read = torch.stack([m.read(raw)] * n) if form is not one else rows
        answer = mmcore.sample(model, n, given={name: form}, steps=2)
        assert torch.equal(answer[name], read)
        if torch.equal(read, rows):
            assert all(torch.equal(answer[key], x) for key, x in expected.items())


def _small(registry: Registry) -> JointModel:
    parts = [
        registry.modality("label", classes=4),
        registry.modality("image", channels=1, size=4),
        registry.modality("clip", name="a", width=3, unit_norm=False),
    ]
    return mmcore.compose(parts, backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry)


def test_answers_are_the_callers_own(registry: Registry) -> None:
    """One row written to changes no other, nor what was given; and a network is trained on them."""
    model, label = _small(registry), torch.tensor(2)
    image = torch.rand(1, 4, 4)
    kept = image.clone()
    answer = mmcore.sample(model, 3, given={"label": label, "image": image}, steps=2)
    for name in ("label", "image"):
        answer[name][0] = 0
    assert torch.equal(image, kept)
    assert label == 2
    assert torch.equal(answer["image"][1:], kept.expand(2, 1, 4, 4))
    assert answer["label"].tolist() == [0, 2, 2]
    learner = torch.nn.Linear(3, 1)
    learner(answer["a"].mul_(2)).sum().backward()
    assert torch.allclose(learner.weight.grad, answer["a"].sum(0)[None])


@pytest.mark.parametrize("name", ["age", "image"])
def test_a_model_in_double_precision_answers_as_in_single(name: str, registry: Registry) -> None:
    """Also where codes lie in the space as they are, of an encoder without weights."""
    parts = {"age": ScalarModality(mean=40, std=15), "image": registry.modality("image", channels=1, size=4)}
    parts["age"].name = "age"
    model = mmcore.compose([parts[name]], backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.2 * Rng.for_rows(i, 1).normal(*p.shape)[0]
    single = mmcore.sample(model, 3, steps=3)
    double = mmcore.sample(model.double(), 3, steps=3)
    assert double[name].dtype == torch.float64
    assert torch.allclose(single[name].double(), double[name], rtol=1e-4, atol=1e-4)


def test_what_no_task_predicts_is_observed_whatever_the_default_dtype(registry: Registry) -> None:
    parts = _small(registry).modalities
    tasks = [mmcore.Task("label", "label"), mmcore.Task("image", "image")]
    model = mmcore.compose(parts, tasks, backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry)
    given = {"a": torch.ones(3, 3)}
    expected = mmcore.sample(model, 3, given=given, steps=2)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        answer = mmcore.sample(model, 3, given=given, steps=2)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(answer[name], x) for name, x in expected.items())


def test_values_by_name_of_a_class_and_of_an_edit(registry: Registry) -> None:
    label = registry.modality("label", classes=3, names=["cat", "dog", "owl"])
    image = registry.modality("image", channels=1, size=4)
    model = mmcore.compose(
        [label, image], backbone="mlp", backbone_options={"width": 16, "depth": 1}, registry=registry
    )
    assert mmcore.sample(model, 2, given={"label": "owl"}, steps=2)["label"].tolist() == [2, 2]
    assert mmcore.sample(model, 2, given={"label": ["owl", "dog"]}, steps=2)["label"].tolist() == [2, 1]
    x, grey = image.typical(1, 0)[0], np.zeros((4, 4), np.uint8)
    edited = mmcore.sample(model, 2, start={"image": x, "label": 1}, strength=0.5, steps=4)
    whole = mmcore.sample(
        model, 2, start={"image": torch.stack([x, x]), "label": torch.tensor([1, 1])}, strength=0.5, steps=4
    )
    assert all(torch.equal(edited[name], whole[name]) for name in whole)
    assert torch.equal(mmcore.sample(model, 2, given={"image": grey}, steps=2)["image"], -torch.ones(2, 1, 4, 4))


def test_an_array_of_n_values_is_a_value_for_each_row(registry: Registry) -> None:
    model = _small(registry)
    assert mmcore.sample(model, 3, given={"label": np.array([0, 1, 0])}, steps=2)["label"].tolist() == [0, 1, 0]
    assert mmcore.sample(model, 3, given={"label": np.array([0, 0, 0, 1])}, steps=2)["label"].tolist() == [3, 3, 3]
    # As many rows as classes: by its shape a class for each row, whatever the values are.
    for classes in ([0, 1, 0, 0], [0, 0, 0, 0], [3, 1, 0, 0]):
        answer = mmcore.sample(model, 4, given={"label": np.array(classes)}, steps=2)
        assert answer["label"].tolist() == classes
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    image = mmcore.sample(model, 2, given={"image": pixels}, steps=2)["image"]
    assert torch.equal(image, model.variable("image").read_many(list(pixels)))
    with pytest.raises(RequestError, match="given 'label': found class 7"):
        mmcore.sample(model, 2, given={"label": np.array([1, 7])})


def test_masks_may_be_arrays_and_lists(registry: Registry) -> None:
    model = _small(registry)
    known, given = torch.tensor([True, False]), {"label": [1, 2]}
    asked = mmcore.sample(model, 2, given=given, where={"label": known}, absent={"a": ~known}, steps=2)
    for form in (torch.Tensor.numpy, torch.Tensor.tolist):
        where, absent = {"label": form(known)}, {"a": form(~known)}
        again = mmcore.sample(model, 2, given=given, where=where, absent=absent, steps=2)
        assert all(torch.equal(again[name], x) for name, x in asked.items())
    for wrong in ([1, 0], [True, [False]], np.array([1, 0])):
        with pytest.raises(RequestError, match=r"where 'label' is .*, expected booleans"):
            mmcore.sample(model, 2, given=given, where={"label": wrong}, steps=2)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("fox", "given 'label'"),
        (7, "given 'label'"),
        ([1], "1 values, expected one for each of n = 2"),
        (None, "given 'label'"),
        (object(), "given 'label'"),
        (float("nan"), "given 'label'"),
    ],
)
def test_a_value_that_cannot_be_read_is_told_with_its_name(value: Any, told: str, registry: Registry) -> None:
    with pytest.raises(RequestError, match="sample") as error:
        mmcore.sample(_small(registry), 2, given={"label": value})
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("given", [None, {"a": [0.5, 0.5, 0.5]}], ids=["joint", "label alone, in one call"])
def test_a_prediction_that_is_nan_is_no_answer(model: JointModel, given: Any) -> None:
    """The likeliest class of NaN would be the first: a model whose weights are not finite says so, in words."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(torch.nan)
    question: dict[str, Any] = {}
    if given is not None:
        question = {"given": {"a": torch.tensor(given["a"]).double(), "b": torch.zeros(2).double()}}
    with pytest.raises(
        MmcoreError, match=r"prediction of '\w+' is NaN in 3 of 3 rows, expected numbers: its weights are not finite"
    ):
        mmcore.sample(model, 3, steps=2, **question)


def test_a_list_of_numbers_is_one_vector_as_a_row_has_it(registry: Registry) -> None:
    """Also where there are as many rows as it has numbers: a number is no vector. Rows of data can be given as they are."""
    vector = registry.modality("scalar", name="v", size=3)
    label = registry.modality("label", classes=2)
    model = mmcore.compose(
        [vector, label], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry
    )
    for n in (1, 2, 3):
        answer = mmcore.sample(model, n, given={"v": [0.5, -1.0, 2.0]}, steps=2)
        assert torch.equal(answer["v"], torch.tensor([0.5, -1.0, 2.0]).expand(n, 3))
    each = mmcore.sample(model, 2, given={"v": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]}, steps=2)["v"]
    assert torch.equal(each, torch.arange(6.0).reshape(2, 3))
    with pytest.raises(RequestError, match=r"'label' has 3 values, expected one for each of n = 2"):
        mmcore.sample(model, 2, given={"label": [0, 1, 0]}, steps=2)


class _Heading(ScalarModality):
    """A vector of two numbers that may be read of one."""

    def read(self, raw: Any) -> Tensor:
        if isinstance(raw, float):
            return torch.tensor([raw, raw]).mul_(torch.pi).cos_()
        return super().read(raw)


def test_a_list_of_as_many_values_as_rows_has_one_for_each_where_a_modality_reads_them_so(registry: Registry) -> None:
    heading = _Heading(2)
    heading.name = "heading"
    model = mmcore.compose(
        [heading, registry.modality("label", classes=2)],
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1},
        registry=registry,
    )
    answer = mmcore.sample(
        model, 2, given={"heading": [0.0, 1.0]}, where={"heading": torch.tensor([True, True])}, steps=2
    )
    assert torch.allclose(answer["heading"], torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))


class _Flat(mmcore.Decoder):
    """Parameters without an axis but the rows."""

    def __init__(self, width: int, space: mmcore.Space) -> None:
        super().__init__()
        self.out = torch.nn.Linear(width * (space.size // space.shape[0]), 1)

    def forward(self, features: Tensor, t: Tensor) -> Tensor:
        return self.out(features.flatten(1))[:, 0]

    def point(self, params: Tensor) -> Tensor:
        return params

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return params


class _Lone(ScalarModality):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def decoder(self, width: int, space: mmcore.Space) -> mmcore.Decoder:
        return _Flat(width, space)

    def expected_code(self, params: Tensor, encode: Any, decoder: Any) -> Tensor:
        return encode(params)


def test_parameters_of_one_axis_are_checked_too(registry: Registry) -> None:
    model = mmcore.compose([_Lone("a")], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
    assert mmcore.sample(model, 3, steps=2)["a"].shape == (3,)
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(MmcoreError, match="prediction of 'a' is NaN in 3 of 3 rows"):
        mmcore.sample(model, 3, steps=2)
