"""How far a sampling has come is told, and what the watcher raises ends it."""

import pytest
import torch

import mmcore
from mmcore import JointModel, Registry
from mmcore.errors import OptionError
from tests.training.runs import small


@pytest.fixture(scope="module")
def model(registry: Registry) -> JointModel:
    return small(registry)


@pytest.mark.parametrize(("n", "batch_size", "calls"), [(3, 500, 4), (5, 2, 12), (4, 4, 4)])
def test_every_timestep_of_every_batch_is_told_once(model: JointModel, n: int, batch_size: int, calls: int) -> None:
    told: list[tuple[int, int]] = []
    asked = {"steps": 4, "seed": 1, "batch_size": batch_size}
    answer = mmcore.sample(model, n, watch=lambda done, total: told.append((done, total)), **asked)
    assert told == [(done, calls) for done in range(calls)]
    plain = mmcore.sample(model, n, **asked)
    assert all(torch.equal(plain[name], answer[name]) for name in plain)


def test_rows_that_one_call_answers_count_once(model: JointModel) -> None:
    told: list[tuple[int, int]] = []
    words = model.variable("words").typical(6, 0)
    mmcore.sample(model, 6, given={"words": words}, watch=lambda *at: told.append(at), steps=4, batch_size=3)
    assert told == [(0, 2), (1, 2)]
    told.clear()
    # Of two rows of six the vector is not known, and these take all four timesteps.
    known = torch.tensor([True, True, False, True, False, True])
    mmcore.sample(model, 6, given={"words": words}, where={"words": known}, watch=lambda *at: told.append(at), steps=4)
    assert told == [(done, 5) for done in range(5)]


def test_what_is_raised_ends_it_and_leaves_the_model_as_it_was(model: JointModel) -> None:
    class StoppedError(Exception):
        pass

    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if done == 2:
            raise StoppedError

    model.train()
    with pytest.raises(StoppedError):
        mmcore.sample(model, 2, steps=10, watch=stop)
    assert calls == [0, 1, 2]
    assert model.training
    model.eval()


def test_of_joint_samples_that_are_chosen_from_nobody_knows_how_many_there_will_be(model: JointModel) -> None:
    told: list[tuple[int, int]] = []
    given = {"label": torch.tensor([0, 1])}
    mmcore.sample(model, 2, given=given, conditioning="rejection", steps=3, watch=lambda *at: told.append(at))
    assert len(told) % 3 == 0
    assert told == [(done, 0) for done in range(len(told))]


def test_a_watcher_is_called(model: JointModel) -> None:
    with pytest.raises(OptionError, match=r"watch = 3, expected a function"):
        mmcore.sample(model, 2, watch=3)  # type: ignore[arg-type]
