"""A step compiled as a whole: one graph for each of its parts, the same for all steps, and the same numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import OptionError, Registry, RoleMix
from mmcore.data import TensorBatch
from mmcore.rng import Rng
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.precision import Compiled
from tests.training.runs import rows, small

RICH: dict[str, Any] = {"task_weights": "learned", "condition_noise": 0.2, "roles": RoleMix(partial=0.5), "clip": 0.1}


def taken(
    registry: Registry, compiled: bool, layout: str, backend: str = "aot_eager"
) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Losses of five steps whose rows, timesteps and learning rates differ; the weights after them; graphs made by then, after each."""
    model = small(registry, layout=layout, **({} if layout == "shared" else {"space": None})).train()
    table = rows(model, 8).rows
    options = TrainOptions(steps=20, batch_size=8, compile="step" if compiled else False, **RICH)
    state = TrainState.start(model, options)
    if compiled:
        state.compiled = Compiled("step", backend)
    losses, graphs = [], []
    for k in range(5):
        values = {name: x.roll(k, 0) for name, x in table.values.items()}
        losses.append(training_step(state, TensorBatch(values, table.present.roll(k, 0)), wait=False).losses)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    state.settle()
    return losses, [p.detach() for p in (*model.parameters(), *state.ema.values())], graphs


@pytest.mark.parametrize("layout", ["separate"])
def test_a_step_is_three_graphs_that_are_never_made_anew(registry: Registry, layout: str) -> None:
    """``fullgraph`` refuses a break. The backend has all that a real one has, kernels' shapes too, but for the code that is generated."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    losses, weights, graphs = taken(registry, True, layout)
    assert graphs == [3, 3, 3, 3, 3]
    assert not torch._dynamo.utils.counters["graph_break"]
    plain_losses, plain_weights, _ = taken(registry, False, layout)
    for found, wanted in zip([*losses, *weights], [*plain_losses, *plain_weights], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-6)


def test_a_compiled_step_that_was_not_finite_is_not_kept(registry: Registry) -> None:
    """By the graphs' own words, which are not those of the optimizer."""
    model = small(registry).train()
    table = rows(model, 8).rows
    state = TrainState.start(model, TrainOptions(steps=20, batch_size=8, compile="step"))
    state.compiled = lambda part: part
    for _ in range(2):
        training_step(state, table)
    before = [x.clone() for p in state.named().values() for x in (p.detach(), *state.optimizer.state[p].values())]
    bad = {name: x.clone() for name, x in table.values.items()}
    bad["words"][3] = float("nan")
    with pytest.raises(mmcore.MmcoreError, match="at step 2, 'words' is not finite in row 3"):
        training_step(state, TensorBatch(bad, table.present))
    after = [x for p in state.named().values() for x in (p.detach(), *state.optimizer.state[p].values())]
    assert all(map(torch.equal, before, after))


def test_random_numbers_are_the_same_in_a_graph() -> None:
    rng = Rng.for_rows(3, 5).at(7).of("train")

    def draw(key: Tensor) -> tuple[Tensor, ...]:
        mine = Rng.keyed(key, "/train")
        return mine.of("a").normal(3, 5), mine.uniform(2, dtype=torch.float64), mine.of("b").of("c").integers(-3, 9, 4)

    found = torch.compile(draw, backend="eager", fullgraph=True)(rng.key())
    wanted = (rng.of("a").normal(3, 5), rng.uniform(2, dtype=torch.float64), rng.of("b").of("c").integers(-3, 9, 4))
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"compile": "whole"}, "compile = 'whole', expected true, false or one of step, graphs"),
        ({"compile": "step", "precision": "fp16"}, "precision = 'fp16', expected bf16 or float32"),
        ({"compile": "graphs", "activation_checkpointing": True}, "activation_checkpointing = True, expected false"),
    ],
)
def test_what_no_graph_can_be_is_refused(registry: Registry, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        TrainState.start(small(registry), TrainOptions(**changes))
