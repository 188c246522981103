"""What a GPU must do as the CPU does. Where there is none these do not run: ``python -m benchmarks.gpu`` runs them on one."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mmcore
from benchmarks import survival
from mmcore import JointModel, Registry, Rng, metrics
from mmcore.data import Table, TensorBatch
from mmcore.demo.run import digits_model
from mmcore.training import TrainOptions, TrainState, training_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
GPU = "cuda"


def rngs(count: int = 300) -> tuple[Rng, Rng]:
    return tuple(Rng.for_rows(7, count, start=5, device=device).at(3).of("x") for device in ("cpu", GPU))  # type: ignore[return-value]


def digits(registry: Registry, part: str = "train") -> tuple[JointModel, Table]:
    options = {"width": 32, "depth": 2, "features": 4, "gates": True}
    model = digits_model(registry, backbone_options=options)
    return model, Table.read(registry.source("digits", part=part, components=20), model.variables)


def test_random_integers_are_equal_and_normals_equal_to_rounding() -> None:
    here, there = rngs()
    assert torch.equal(here.bits(50), there.bits(50).cpu())
    assert torch.equal(here.integers(-3, 1000, 50), there.integers(-3, 1000, 50).cpu())
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        assert torch.equal(here.uniform(50, dtype=dtype), there.uniform(50, dtype=dtype).cpu())
        torch.testing.assert_close(
            there.normal(50, dtype=dtype).cpu(), here.normal(50, dtype=dtype), rtol=bound, atol=bound
        )


@pytest.mark.parametrize("schedule", ["cosine", "linear", "paper", "paper-steps"])
def test_process_is_the_same_in_double_precision(registry: Registry, schedule: str) -> None:
    modalities = [registry.modality("label", name=f"label{k}", classes=3) for k in range(3)]
    process = mmcore.compose(
        modalities, space=(3, 4), schedule=schedule, gains=[1.0, 3.0, 0.5], registry=registry
    ).process
    rng = Rng.for_rows(0, 64)
    t = rng.of("t").integers(2, process.steps + 1, 1)
    s = (t * rng.of("s").uniform(1, dtype=torch.float64)).long()
    z, e = (rng.of(name).normal(*shape, dtype=torch.float64) for name, shape in (("z", (3, 4)), ("e", (3, 3, 4))))
    here = (process.marginal(e, t), process.transition(z, e, s, t), process.posterior(z, e, s, t))
    z, e, s, t = (x.to(GPU) for x in (z, e, s, t))
    there = (process.marginal(e, t), process.transition(z, e, s, t), process.posterior(z, e, s, t))
    for a, b in zip(here, there, strict=True):
        for x, y in ((a.mean, b.mean), (a.variance, b.variance)):
            torch.testing.assert_close(y.cpu(), x, rtol=1e-12, atol=1e-12)


def test_training_takes_the_same_steps(registry: Registry) -> None:
    losses = []
    for device in ("cpu", GPU):
        model, table = digits(registry)
        found: list[Tensor] = []
        mmcore.fit(
            model, table, steps=30, batch_size=64, device=device, quiet=True,
            watch=[lambda state, report, found=found: found.append(report.by_task().cpu())],
        )  # fmt: skip
        losses.append(torch.stack(found))
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-3, atol=2e-3, equal_nan=True)


def test_samples_and_figures_are_the_same(registry: Registry) -> None:
    model, table = digits(registry)
    mmcore.fit(model, table, steps=40, batch_size=64, device="cpu", quiet=True)
    _, held = digits(registry, "test")
    held = held.spread(60)
    answers, figures = [], []
    for device in ("cpu", GPU):
        model.to(device)
        given = {"image": held.rows.values["image"]}
        answers.append(mmcore.sample(model, 60, given=given, steps=10, sampler="2m", seed=2))
        figures.append(metrics.report(model, held, ["image->label", "image->embedding"], steps=5, sampler="2m"))
    here, there = answers
    torch.testing.assert_close(there["embedding"].cpu(), here["embedding"].cpu(), rtol=1e-3, atol=1e-3)
    for name in ("label", "mask"):
        # A class drawn from nearly equal probabilities may fall on either side of a rounding.
        assert (there[name].cpu() == here[name].cpu()).double().mean() > 0.99
    assert figures[0].keys() == figures[1].keys()
    for name, figure in figures[0].items():
        assert abs(figures[1][name].value - figure.value) < 0.02, name


def test_likelihood_is_the_same(registry: Registry) -> None:
    model, table = digits(registry)
    here, there = (mmcore.evaluate(model.to(device), table.spread(20), draws=2) for device in ("cpu", GPU))
    assert there.all.total.nats == pytest.approx(here.all.total.nats, rel=1e-4)
    for name, terms in here.variables.items():
        for part in ("L0", "L1", "L2"):
            want, got = (getattr(one, part).nats for one in (terms, there.variables[name]))
            assert got == pytest.approx(want, rel=1e-3, abs=1e-3), (name, part)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"precision": "bf16", "compile": True}, {"precision": "fp16"}]
)
def test_a_run_goes_on_to_the_same_bytes(registry: Registry, tmp_path: Path, changes: dict) -> None:
    """In deterministic mode, as docs/runs.md says."""
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"
    torch.use_deterministic_algorithms(True)
    try:
        how = {"device": GPU, "steps": 12, **changes}
        survival.train(registry, tmp_path / "whole", **how)
        with pytest.raises(KeyboardInterrupt):
            survival.train(registry, tmp_path / "cut", watch=[_stop_at(7)], **how)
        survival.train(registry, tmp_path / "cut", resume=True, **how)
    finally:
        torch.use_deterministic_algorithms(False)
    assert survival.digest(tmp_path / "cut") == survival.digest(tmp_path / "whole")


def _stop_at(step: int) -> object:
    def watch(state: TrainState, report: object) -> None:
        if state.step == step:
            raise KeyboardInterrupt

    return watch


def test_a_step_does_not_wait_for_the_device(registry: Registry) -> None:
    """Whether it was finite is read when the next step is on its way."""
    model, table = digits(registry)
    state = TrainState.start(model.to(GPU).train(), TrainOptions(steps=99, batch_size=32))
    batch = table.__getitems__(list(range(32))).to(torch.device(GPU))
    training_step(state, batch, wait=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(40):  # also where random numbers are drawn ahead
                training_step(state, batch, wait=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in told if "called a synchronizing" in str(w.message)]
    assert not waits
    state.settle()
    assert state.step == 41


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch, in its own compiler
@pytest.mark.parametrize("how", ["step", "graphs"])
def test_a_step_compiled_as_a_whole_is_the_same_step(registry: Registry, how: str) -> None:
    """Losses of five steps, and weights after them; and the samples of a compiled sampler."""
    found = []
    for compiled in (False, how):
        model, table = digits(registry)
        state = TrainState.start(model.to(GPU).train(), TrainOptions(steps=20, batch_size=32, compile=compiled))
        batches = [table.__getitems__(list(range(32 * k, 32 * k + 32))).to(torch.device(GPU)) for k in range(5)]
        reports = [training_step(state, batch, wait=False) for batch in batches]
        state.settle()
        way = False if compiled is False else True if how == "step" else "graphs"
        drawn = [
            mmcore.sample(model.eval(), 16, steps=6, sampler="2m", seed=k, compiled=way)["embedding"] for k in (0, 1)
        ]
        found.append((torch.stack([r.by_task() for r in reports]), *model.parameters(), *drawn))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=2e-3, atol=2e-3)


def test_a_step_that_was_not_finite_is_not_kept(registry: Registry) -> None:
    model, table = digits(registry)
    state = TrainState.start(model.to(GPU).train(), TrainOptions(steps=10, batch_size=32, ema_every=1))
    batch = table.__getitems__(list(range(32))).to(torch.device(GPU))
    training_step(state, batch)
    before = [x.clone() for x in (*state.model.parameters(), *state.ema.values())]
    bad = TensorBatch({name: x.clone() for name, x in batch.values.items()}, batch.present)
    bad.values["embedding"][3, 1] = float("nan")
    training_step(state, bad, wait=False)
    with pytest.raises(mmcore.MmcoreError, match="at step 1, 'embedding' is not finite in row 3"):
        training_step(state, batch, wait=False)
    assert state.step == 1
    assert all(map(torch.equal, before, (*state.model.parameters(), *state.ema.values())))
