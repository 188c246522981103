"""Several threads ask one model: each has the answer that it would have alone, and the model is as it was."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import JointModel, Registry
from mmcore.model.mode import evaluating
from tests.training.runs import rows, small


class Dropping(nn.Module):
    """A network that says so where it is asked in training mode, and whose first layer is kept in evaluation mode."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.features, self.kept = inner, inner.features, nn.Dropout(0.5)
        self.trained = 0

    def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
        self.trained += self.training
        return self.inner(self.kept(z), t, roles, condition)


@pytest.fixture
def model(registry: Registry) -> JointModel:
    made = small(registry)
    made.backbone = Dropping(made.backbone)
    made.train()
    made.backbone.kept.eval()
    return made


def modes(model: JointModel) -> dict[str, bool]:
    return {name: part.training for name, part in model.named_modules()}


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    found: list[object] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def one(place: int) -> None:
        gate.wait()
        found[place] = calls[place]()

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_that_sample_leave_the_model_in_its_modes(registry: Registry, model: JointModel) -> None:
    before = modes(model)
    assert len(set(before.values())) == 2

    def asked(seed: int) -> dict[str, Tensor]:
        # Of different lengths, so that no two end together.
        return mmcore.sample(model, 3 + seed % 3, steps=2 + seed % 5, seed=seed, registry=registry)

    alone = [asked(seed) for seed in range(12)]
    assert modes(model) == before
    together = at_once([lambda seed=seed: asked(seed) for seed in range(12)])
    assert modes(model) == before
    assert model.backbone.trained == 0
    for one, two in zip(alone, together, strict=True):
        assert isinstance(two, dict)
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_so_do_the_bound_and_an_answer_that_fails(registry: Registry, model: JointModel) -> None:
    before, table = modes(model), rows(model, 6)
    wanted = mmcore.evaluate(model, table, draws=2).json()
    found = at_once([lambda: mmcore.evaluate(model, table, draws=2).json()] * 3)
    assert all(one == wanted for one in found)

    def fail() -> object:
        assert not model.training
        return 1 / 0

    def failing() -> None:
        with pytest.raises(ZeroDivisionError), evaluating(model):
            fail()

    at_once([failing] * 4)
    assert modes(model) == before
    assert model.backbone.trained == 0


def test_what_is_called_inside_changes_nothing(model: JointModel) -> None:
    before = modes(model)
    with evaluating(model):
        with evaluating(model):
            pass
        assert not model.training
    assert modes(model) == before
