"""A training step waits for no device, and what it would have waited for is kept all the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmcore
from benchmarks.launches import Launches, made_on_the_host
from mmcore import JointModel, MmcoreError, Registry, RoleMix
from mmcore.data import Table, TensorBatch
from mmcore.demo.run import digits_model
from mmcore.store.checkpoint import folders
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.finite import Finding
from tests.training.runs import fit, rows, small

TINY = {"width": 32, "depth": 1, "features": 4, "gates": True}
HOW: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "as the demo": ("shared", True, {"condition_noise": 0.35, "roles": RoleMix(joint=0.6, single=0.35)}),
    "learned weights, in part": ("separate", False, {"task_weights": "learned", "roles": RoleMix(partial=0.5), "accumulate": 2}),
    "clipped, averaged, of the bound": ("shared", False, {"clip": 1e-3, "weighting": "elbo", "ema_every": 1, "balance": "rows"}),
    "asked": ("separate", True, {"roles": RoleMix(questions={"image -> label": 0.2}), "weighting": "snr"}),
}  # fmt: skip
"""Layout, whether the rows are complete, and options."""


def started(registry: Registry, layout: str = "shared", **options: Any) -> tuple[TrainState, TensorBatch]:
    space = {} if layout == "shared" else {"space": None}
    model = digits_model(registry, backbone_options=TINY, layout=layout, **space).train()
    table = Table.read(registry.source("digits", components=20), model.variables)
    return TrainState.start(model, TrainOptions(steps=99, batch_size=8, **options)), table.__getitems__(range(8))


@pytest.mark.parametrize("how", HOW)
def test_a_step_reads_nothing_of_the_device(registry: Registry, how: str) -> None:
    layout, complete, options = HOW[how]
    state, batch = started(registry, layout, **options)
    if not complete:
        batch.present[::3, 2] = False
        batch = TensorBatch(batch.values, batch.present)
    state.draws(batch)  # what is asked in words is put into numbers once
    with Launches() as found:
        for _ in range(2):
            training_step(state, batch, wait=False)
    assert not found.waits
    assert found.total > 500
    state.settle()
    assert state.step == 2


def test_waiting_is_counted(registry: Registry) -> None:
    """What the test above would see."""
    x = torch.arange(4.0)
    for read in (
        lambda: bool(x.any()),
        lambda: float(x.sum()),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: torch.where(x > 1),
        lambda: x.unique(),
        lambda: x.repeat_interleave(torch.ones(4, dtype=torch.int64)),
        lambda: x.index_put_((x > 1,), torch.zeros(())),
    ):
        with Launches() as found:
            read()
        assert found.waits.total() == 1, found.names
    given: list[str] = []
    with made_on_the_host(given):
        torch.tensor([1.0], device="meta")
        torch.tensor([1.0])
    assert given == ["tensor"]


def test_a_step_runs_where_nothing_can_be_read(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without values, by the same code as on a GPU: reading one raises. Nor is any made of numbers that the host has."""
    state, batch = started(registry, "separate", timesteps="even")
    options = TrainOptions(steps=99, batch_size=8, roles=RoleMix(partial=0.5), condition_noise=0.1, timesteps="even")
    state = TrainState.start(state.model.to("meta"), options)
    values = {name: x.to("meta") for name, x in batch.values.items()}
    monkeypatch.setattr(Finding, "sent", lambda *_: None)
    monkeypatch.setattr(state.optimizer, "step", lambda: None)  # its fused kernel knows no such tensors
    given: list[str] = []
    for complete in (True, True, False):
        there = TensorBatch(values, batch.present.to("meta"), complete=complete)
        if state.step:
            with made_on_the_host(given):
                training_step(state, there, wait=False)
        else:
            training_step(state, there, wait=False)
    assert state.step == 3
    assert not given


def poison(model: JointModel, *, where: str, at: int) -> None:
    """NaN in a loss or a gradient of the step ``at``, counted from 0."""
    term, calls = model.heads.losses[0], []

    def loss(params: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
        found = term(params, target, seen)
        calls.append(1)
        if len(calls) == at + 1:
            if where == "loss":
                return found * float("nan")
            found.register_hook(lambda gradient: gradient * float("nan"))
        return found

    model.heads.losses[0] = loss  # type: ignore[call-overload]


def everything(state: TrainState) -> dict[str, Tensor]:
    moments = {f"{name}/{key}": x for name, p in state.named().items() for key, x in state.optimizer.state[p].items()}
    weights = {f"model/{name}": x for name, x in state.model.state_dict().items()}
    average = {f"ema/{name}": x for name, x in state.ema.items()}
    return {name: x.detach().clone() for name, x in (weights | average | moments).items()}


@pytest.mark.parametrize("where", ["loss", "gradient", "input"])
def test_a_step_that_was_not_finite_is_told_one_later_and_neither_is_kept(registry: Registry, where: str) -> None:
    model = small(registry).train()
    table = rows(model, 8)
    table.rows.present[:] = True
    state = TrainState.start(model, TrainOptions(steps=20, batch_size=8, ema_every=1, task_weights="learned"))
    batch = TensorBatch(table.rows.values, table.rows.present)
    bad = TensorBatch({name: x.clone() for name, x in batch.values.items()}, batch.present)
    if where == "input":
        bad.values["words"][2, 1] = float("inf")
    for _ in range(3):
        training_step(state, batch, wait=False)
    state.settle()
    before = everything(state)
    poison(model, where=where, at=0)
    training_step(state, bad, wait=False)
    said = {
        "loss": "task 'label' has loss nan in row 0, 1",
        "gradient": "the gradient's norm is nan, every loss being finite",
        "input": "'words' is not finite in row 2 of the batch",
    }[where]
    with pytest.raises(MmcoreError, match=rf"at step 3, {said}.*; the step was not taken"):
        training_step(state, batch, wait=False)
    after = everything(state)
    assert state.step == 3
    assert all(torch.equal(after[name], x) for name, x in before.items())
    # Whoever goes on with other rows goes on as if nothing had been.
    training_step(state, batch)
    other = TrainState.start(small(registry).train(), state.options)
    for _ in range(4):
        training_step(other, batch)
    assert all(torch.equal(everything(other)[name], x) for name, x in everything(state).items())


def test_no_checkpoint_holds_what_was_not_finite(registry: Registry, tmp_path: Path) -> None:
    """Wherever it comes, a checkpoint after every step, of which none is of a step that was not taken; and a run goes on from the last to the same bytes."""
    whole = fit(registry, tmp_path / "whole", steps=5)
    for at in (0, 3):
        out = tmp_path / str(at)
        model = small(registry)
        poison(model, where="loss", at=at)
        with pytest.raises(MmcoreError, match=rf"at step {at}, task 'label' has loss nan"):
            fit(registry, out, model=model, steps=5, save_steps=1, keep=20)
        assert [step for step, _ in folders(out / "checkpoints")] == list(range(at, -1, -1))
        again = fit(registry, out, steps=5, resume=True)
        assert all(torch.equal(everything(again)[name], x) for name, x in everything(whole).items())
        assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_line_is_of_steps_that_were_taken(registry: Registry, tmp_path: Path) -> None:
    model = small(registry)
    poison(model, where="gradient", at=3)
    with pytest.raises(MmcoreError, match="at step 3, the gradient's norm is nan"):
        fit(registry, tmp_path, model=model, steps=8, log_every=1)
    assert "nan" not in (tmp_path / "metrics.jsonl").read_text().lower()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_no_step_is_waited_for_in_a_run(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fit`` reads of each step when the next is on its way, and of the first, the last and those with a line at once."""
    read: list[tuple[int, int]] = []
    real = Finding.good
    states: list[TrainState] = []
    monkeypatch.setattr(Finding, "good", lambda self: (read.append((self.step, states[0].step)), real(self))[1])
    start = TrainState.start.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(TrainState, "start", classmethod(lambda *a: (states.append(start(*a)), states[0])[1]))
    mmcore.fit(small(registry), rows(small(registry)), steps=7, log_every=5, batch_size=4, device="cpu", quiet=True)
    # Each with how many steps had been begun: one more than its number, if it was waited for.
    assert read == [(0, 1), (1, 3), (2, 4), (3, 5), (4, 5), (5, 7), (6, 7)]
