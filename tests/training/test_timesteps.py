"""Timesteps by question, against what is left open in closed form; and rows' kinds, questions and shares, against what was declared."""

import math

import numpy as np
import pytest
import torch

import mmcore
from mmcore import JointModel, Registry, RequestError, Rng, Role, RoleMix
from mmcore.training.timesteps import AT_END, EVEN, Timesteps, left_open

ROWS = 20_000


@pytest.fixture(scope="module", params=["shared", "separate"])
def model(request: pytest.FixtureRequest, registry: Registry) -> JointModel:
    """A coin, a label, a vector, and a map of three classes."""
    parts = [
        registry.modality("label", name="coin", classes=2),
        registry.modality("label", name="label", classes=5, frequencies=[0.5, 0.2, 0.1, 0.1, 0.1]),
        registry.modality("clip", name="words", width=6, unit_norm=False),
        registry.modality("mask", name="mask", classes=3, size=4),
    ]
    return mmcore.compose(
        parts,
        layout=request.param,
        backbone="mlp",
        backbone_options={"width": 8, "depth": 1, "features": 4},
        registry=registry,
    )


def test_what_is_left_open_of_a_coin(model: JointModel) -> None:
    """A code of ±1 along one direction: ``1 - E[tanh²]``, by quadrature over the noise."""
    level = model.process.level(torch.arange(1, model.process.steps + 1)[:, None].expand(-1, model.process.blocks))
    codes = model.encoders["coin"](torch.arange(2)).double()
    half = float((codes[0] - codes[1]).norm()) / 2
    x, w = np.polynomial.hermite_e.hermegauss(101)
    w = w / w.sum()
    truth = []
    for W, sigma in zip(level.W[:, 0].tolist(), model.process.by_modality(level.sigma)[:, 0].tolist(), strict=True):
        r = W * half / sigma
        truth.append(1 - float((w * np.tanh(r * r + r * x) ** 2).sum()))
    found = left_open(model, 0)
    # 256 samples, and lines between 33 levels of noise.
    assert float((found - torch.tensor(truth)).abs().max()) < 0.06
    assert float(found[-1]) == pytest.approx(1, abs=0.01)
    assert float(found[0]) < 0.01


def test_what_is_left_open_of_a_normal_code(model: JointModel) -> None:
    log_A = model.process.schedules[model.process.block_of[2]].log_A[1:]
    torch.testing.assert_close(left_open(model, 2), 1 - log_A.exp(), rtol=0, atol=1e-9)  # under ``cosine`` W² = A


def drawn(model: JointModel, roles: list[int]) -> torch.Tensor:
    rng = Rng.for_rows(5, ROWS)
    even = rng.of("even").integers(1, model.process.steps + 1, model.process.blocks)
    return Timesteps.of(model)(rng.of("t"), even, torch.tensor([roles]).expand(ROWS, -1))


G, S, A = (int(role) for role in Role)
"""Generated, seen, absent."""


def test_one_class_is_always_at_the_end(model: JointModel) -> None:
    T = model.process.steps
    for roles in ([A, G, S, A], [G, A, A, S], [A, G, A, A]):
        assert (drawn(model, roles) == T).all()
        assert model.driver.one_class(torch.tensor([roles])).item()
    for roles in ([G, G, S, A], [A, A, S, G], [S, A, G, A]):
        assert not model.driver.one_class(torch.tensor([roles])).item()


def test_real_answers_and_rows_that_observe_nothing_stay_even(model: JointModel) -> None:
    """Bit for bit the timesteps that were drawn without the question."""
    even = Rng.for_rows(5, ROWS).of("even").integers(1, model.process.steps + 1, model.process.blocks)
    for roles in ([G, G, G, G], [S, A, G, S], [A, A, A, G], [G, A, G, G]):
        assert torch.equal(drawn(model, roles), even)


def test_a_map_is_drawn_where_it_is_open(model: JointModel) -> None:
    """Half at ``T``, a tenth evenly, the rest in proportion to what is open; by a bound of 4.5 standard errors on each of ten bins."""
    T, block = model.process.steps, int(model.process.block_of[3])
    t = drawn(model, [S, A, A, G])[:, block]
    open_ = left_open(model, 3)
    by_open = open_ / open_.sum()
    chance = AT_END * torch.eye(T, dtype=torch.float64)[-1] + EVEN / T + (1 - AT_END - EVEN) * by_open
    for part in torch.arange(T).chunk(10):
        p = float(chance[part].sum())
        found = float(torch.isin(t - 1, part).double().mean())
        assert abs(found - p) <= 4.5 * math.sqrt(p * (1 - p) / ROWS), (part[0], found, p)


def test_all_blocks_are_at_the_end_together(model: JointModel) -> None:
    """And one of what a block generates is chosen evenly: a map beside a coin, given a vector."""
    t = drawn(model, [G, A, S, G])
    at_end = t == model.process.steps
    blocks = {int(model.process.block_of[i]) for i in (0, 3)}
    together = at_end[:, sorted(blocks)]
    whole = together.all(1).double().mean()
    assert float(whole) == pytest.approx(AT_END, abs=0.02)
    if len(blocks) == 1:
        parts = [left_open(model, i) / left_open(model, i).sum() for i in (0, 3)]
        mean = sum(float((p * torch.arange(1, len(p) + 1)).sum()) for p in parts) / 2
        T = model.process.steps
        expected = AT_END * T + EVEN * (T + 1) / 2 + (1 - AT_END - EVEN) * mean
        error = float(t[:, 0].double().std()) / math.sqrt(ROWS)
        assert abs(float(t[:, 0].double().mean()) - expected) < 4.5 * error


# ---- roles ----


def test_kinds_have_their_declared_shares(model: JointModel) -> None:
    mix = RoleMix(joint=0.2, single=0.3, questions={"words -> label": 0.25, "words, coin -> mask": 0.1})
    assert mix.shares == pytest.approx((0.2, 0.3, 0.15, 0.25, 0.1))
    driver, rng = model.driver, Rng.for_rows(2, ROWS)
    asked = mix.asked(model.variables, driver.generable, driver.encoded)
    assert asked.tolist() == [[A, G, S, A], [S, A, S, G]]
    roles, kinds = mix.draw(rng, torch.ones(ROWS, 4, dtype=torch.bool), driver.generable, driver.encoded, asked)
    for kind, share in enumerate(mix.shares):
        mine = kinds == kind
        assert abs(float(mine.double().mean()) - share) <= 4.5 * math.sqrt(share * (1 - share) / ROWS)
        if kind >= 3:
            assert torch.equal(roles[mine], asked[kind - 3].expand(int(mine.sum()), -1))
    assert (roles[kinds == 0][:, [0, 1, 3]] == G).all()


@pytest.mark.parametrize("lacks", [0, 1, 2, 3])
def test_a_row_that_lacks_what_a_question_is_of_is_one_of_the_other_kinds_by_their_shares(
    model: JointModel, lacks: int
) -> None:
    """It neither asks another question under that one's name, nor counts for it."""
    mix = RoleMix(joint=0.2, single=0.3, questions={"words -> label": 0.25, "words, coin -> mask": 0.1})
    driver, rng = model.driver, Rng.for_rows(2, ROWS)
    asked = mix.asked(model.variables, driver.generable, driver.encoded)
    present = torch.ones(ROWS, 4, dtype=torch.bool)
    _, were = mix.draw(rng, present, driver.generable, driver.encoded, asked)
    present[:, lacks] = False
    roles, kinds = mix.draw(rng, present, driver.generable, driver.encoded, asked)
    gone = (asked[:, lacks] != A).nonzero()[:, 0] + 3
    # The others keep the kinds that they had.
    kept = ~torch.isin(were, gone)
    assert torch.equal(kinds[kept], were[kept])
    assert not torch.isin(kinds, gone).any()
    moved = kinds[~kept]
    for kind, share in enumerate((0.2 / 0.65, 0.3 / 0.65, 0.15 / 0.65)):
        if len(moved):
            assert abs(float((moved == kind).double().mean()) - share) <= 4.5 * math.sqrt(share / len(moved))
    for kind in {3, 4} - set(gone.tolist()):
        assert torch.equal(roles[kinds == kind], asked[kind - 3].expand(int((kinds == kind).sum()), -1))
    assert (roles[:, lacks] == A).all()
    assert (roles == G).any(1).all()


def test_where_questions_have_all_shares_a_row_that_lacks_something_is_left_out(model: JointModel) -> None:
    mix, driver, rng = RoleMix(joint=0, single=0, questions={"words, coin -> label": 1.0}), model.driver, Rng.for_rows(2, 64)  # fmt: skip
    asked = mix.asked(model.variables, driver.generable, driver.encoded)
    present = torch.ones(64, 4, dtype=torch.bool)
    present[::2, 0] = False
    roles, _ = mix.draw(rng, present, driver.generable, driver.encoded, asked)
    assert (roles[::2] == A).all()
    assert torch.equal(roles[1::2], asked.expand(32, -1))


def test_half_of_the_single_rows_ask_for_one_alone(model: JointModel) -> None:
    present, driver = torch.ones(ROWS, 4, dtype=torch.bool), model.driver
    roles, _ = RoleMix(joint=0, single=1).draw(Rng.for_rows(2, ROWS), present, driver.generable, driver.encoded)
    assert ((roles == S).sum(1) == 1).all()
    alone = (roles == G).sum(1) == 1
    assert set((roles == G).sum(1).tolist()) == {1, 3}
    assert abs(float(alone.double().mean()) - 0.5) <= 4.5 * math.sqrt(0.25 / ROWS)
    counts = (roles[alone] == G).double().mean(0)
    assert ((counts - 0.25).abs() <= 4.5 * math.sqrt(0.25 * 0.75 / int(alone.sum()))).all()


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ({"words -> lable": 0.1}, r"roles: questions = 'words -> lable', expected names of what it can generate, each once: coin, label, words, mask; not 'lable'"),
        ({"words, words -> label": 0.1}, "names of what it can observe, each once: .*; not 'words'"),
        ({"words ->": 0.1}, "expected something to generate that has a code, after ->"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_asked(model: JointModel, questions: dict[str, float], words: str) -> None:
    rows = [{"coin": 0, "label": 1, "words": [0.0] * 6, "mask": np.zeros((4, 4), np.uint8)}]
    with pytest.raises(RequestError, match=words):
        mmcore.fit(model, rows, roles=RoleMix(questions=questions), quiet=True)


def test_shares_that_are_none() -> None:
    with pytest.raises(RequestError, match="shares in 0 … 1 by question, such as 'image -> label'"):
        RoleMix(questions={"image": 0.5})
    with pytest.raises(RequestError, match="shares of at most 1 together"):
        RoleMix(joint=0.5, single=0.4, questions={"image -> label": 0.2})


def test_a_class_and_a_target_without_a_code_go_together(registry: mmcore.Registry) -> None:
    """The words say nothing, and the class's twin, which has no code, is the class: drawn by one call, where neither is told of the other, they would agree in half of the rows."""
    words = registry.modality("clip", name="words", width=2, unit_norm=False)
    label, twin = (registry.modality("label", name=name, classes=2) for name in ("label", "twin"))
    tasks = [mmcore.Task("label", "label"), mmcore.Task("twin", twin)]
    small = {"width": 16, "depth": 1, "features": 4}
    model = mmcore.compose([words, label], tasks, backbone="mlp", backbone_options=small, registry=registry)
    assert model.driver.one_class(torch.tensor([[S, G, G], [S, G, A]])).tolist() == [False, True]
    y = torch.arange(128) % 2
    rows = [{"words": w, "label": int(k), "twin": int(k)} for w, k in zip(words.typical(128, 0), y, strict=True)]
    mmcore.fit(model, rows, steps=60, batch_size=64, lr=2e-2, roles=mmcore.RoleMix(), device="cpu", quiet=True)
    answer = mmcore.sample(model, 128, given={"words": words.typical(128, 1)}, steps=5)
    # Of a fair coin that is thrown 128 times more than 64 + 30 agree in one of a million runs.
    assert int((answer["label"] == answer["twin"]).sum()) > 94
    assert 34 < int(answer["label"].sum()) < 94
