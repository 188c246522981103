"""What a step draws is each row's own: alone, in any batch, whichever steps are drawn at once, and whatever the others lack."""

from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcore import JointModel, Registry, Rng, RoleMix
from mmcore.data import Table, TensorBatch
from mmcore.training import draws
from mmcore.training.draws import Drawing, split
from mmcore.training.timesteps import Timesteps
from mmcore.training.weighting import WEIGHTINGS

from .runs import small

LAYOUTS = ("shared", "separate")
ROWS = 5


@pytest.fixture(scope="module")
def models(registry: Registry) -> dict[str, JointModel]:
    return {layout: small(registry, layout=layout) for layout in LAYOUTS}


def batch_of(model: JointModel, present: Tensor) -> TensorBatch:
    return TensorBatch({m.name: m.typical(len(present), 0) for m in model.variables}, present)


def alone(
    model: JointModel,
    weighting: str,
    timesteps: Timesteps | None,
    roles: RoleMix,
    step: int,
    row: int,
    present: Tensor,
) -> dict[str, Any]:
    """One row's draws, by itself."""
    rng = Rng(3, torch.tensor([row])).at(step).of("train")
    t = WEIGHTINGS[weighting].draw(model, rng.of("t"))
    asked = roles.asked(model.variables, model.driver.generable, model.driver.encoded)
    drawn, kinds = roles.draw(rng, present[None], model.driver.generable, model.driver.encoded, asked)
    if timesteps is not None:
        t = timesteps(rng.of("t"), t, drawn)
    seen = roles.draw_seen(rng, [m for m in model.modalities if model.divisible(m)])
    return {
        "t": t,
        "roles": drawn,
        "kinds": kinds,
        "seen": seen,
        "drive": model.drive(t, drawn, seen),
        "factors": WEIGHTINGS[weighting].factors(model, t),
        "level": rng.of("blur level").uniform(1),
        "noise": rng.of("noise").normal(3),
    }


def same(found: Any, wanted: Any) -> bool:
    if attrs.has(type(wanted)):
        return all(
            same(getattr(found, field.name), getattr(wanted, field.name)) for field in attrs.fields(type(wanted))
        )
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[name], x) for name, x in wanted.items())
    return found is None if wanted is None else torch.equal(found, wanted)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_row_draws_by_itself(models: dict[str, JointModel], data: st.DataObject) -> None:
    model = models[data.draw(st.sampled_from(LAYOUTS))]
    weighting = data.draw(st.sampled_from(sorted(WEIGHTINGS)))
    partial = data.draw(st.sampled_from([0.0, 0.5]))
    questions = data.draw(st.sampled_from([{}, {"words -> label": 0.3, "-> words": 0.1}]))
    roles = RoleMix(joint=0.3, single=0.3, partial=partial, questions=questions)
    timesteps = Timesteps.of(model) if data.draw(st.booleans()) else None
    drawing = Drawing(model, WEIGHTINGS[weighting], roles, Rng.for_rows(3, ROWS), timesteps)
    steps = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    for step in steps:
        bits = data.draw(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
        present = torch.ones(ROWS, 2, dtype=torch.bool)
        present[:, 1] = torch.tensor(bits)
        found = drawing(step, batch_of(model, present))
        low = data.draw(st.integers(0, ROWS - 1))
        part = split(found, [low, ROWS - low])[1]
        for row in range(ROWS):
            wanted = alone(model, weighting, timesteps, roles, step, row, present[row])
            for got, at in ((found, row), (part, row - low)):
                if at < 0:
                    continue
                one = split(got, [at, 1, len(got.t) - at - 1])[1]
                assert same(one.rng.of("noise").normal(3), wanted["noise"])
                for name in ("t", "roles", "kinds", "seen", "drive", "factors", "level"):
                    assert same(getattr(one, name), wanted[name]), (name, step, row)


def test_complete_batches_draw_several_steps_at_once(
    models: dict[str, JointModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = models["shared"], []
    roles = RoleMix()
    draw = RoleMix.draw

    def counted(self: RoleMix, rng: Rng, *args: Tensor) -> Tensor:
        calls.append(len(rng.rows))
        return draw(self, rng, *args)

    monkeypatch.setattr(RoleMix, "draw", counted)
    complete = batch_of(model, torch.ones(ROWS, 2, dtype=torch.bool))
    lacking = batch_of(model, torch.tensor([[True, False]] * ROWS))
    drawing = Drawing(model, WEIGHTINGS["simple"], roles, Rng.for_rows(3, ROWS))
    for step in range(2 * draws.MOST_STEPS):
        drawing(step, complete)
    assert calls == [draws.MOST_STEPS * ROWS] * 2
    drawing(2 * draws.MOST_STEPS - 1, lacking)
    assert calls[2:] == [ROWS]
    many = batch_of(model, torch.ones(draws.MOST_ROWS + 1, 2, dtype=torch.bool))
    Drawing(model, WEIGHTINGS["simple"], roles, Rng.for_rows(3, len(many)))(0, many)
    assert calls[3:] == [len(many)]


def test_a_batch_knows_whether_its_rows_are_complete(models: dict[str, JointModel]) -> None:
    """Also where others of its table are not, and on a device, where asking would mean to wait."""
    model = models["shared"]
    present = torch.ones(ROWS, 2, dtype=torch.bool)
    present[3, 1] = False
    for table in (Table(batch_of(model, present)), Table(batch_of(model, torch.ones_like(present)))):
        for places in ([0, 1, 2], [2, 3], [3, 4, 0], [4]):
            batch = table.__getitems__(places)
            assert batch.complete == bool(batch.present.all())
            assert batch.to(torch.device("meta")).complete == batch.complete
