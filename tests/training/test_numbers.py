"""Precision, accumulation, compilation and recomputation: the same step, computed otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmcore
from mmcore import JointModel, MmcoreError, Registry, RequestError
from mmcore.data import TensorBatch
from mmcore.model.roles import RoleMix
from mmcore.rng import Rng
from mmcore.store.checkpoint import folders
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.precision import Scaler, backbone_execution
from mmcore.training.ranks import Ranks, blocks
from mmcore.training.validation import validation_losses
from tests.training.runs import fit, rows, small


def stirred(registry: Registry) -> JointModel:
    """Output layers start at zero; with noise on them every loss depends on the whole backbone."""
    model = small(registry)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p += 0.1 * Rng.for_rows(i, 1).normal(*p.shape)[0]
    return model


def after(model: JointModel, batch: TensorBatch, **options: Any) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of one step in float64, and its losses."""
    model = model.double().train()
    values = {name: x.double() if x.is_floating_point() else x for name, x in batch.values.items()}
    state = TrainState.start(model, TrainOptions(clip=1e9, **options))
    report = training_step(state, TensorBatch(values, batch.present))
    return {name: p.grad.clone() for name, p in state.named().items() if p.grad is not None}, report.losses


@pytest.mark.parametrize("accumulate", [2, 3, 12, 50])
@pytest.mark.parametrize("weighting", ["simple", "elbo"])
def test_micro_batches_are_the_large_batch(registry: Registry, accumulate: int, weighting: str) -> None:
    """Means are over the whole step though rows lack modalities unevenly, and draws belong to places in it."""
    how: dict[str, Any] = {"task_weights": "learned", "weighting": weighting, "roles": RoleMix(partial=0.5)}
    batch = rows(small(registry), 12).rows
    whole, losses = after(small(registry), batch, **how)
    parts, same = after(small(registry), batch, accumulate=accumulate, **how)
    torch.testing.assert_close(same, losses, rtol=1e-12, atol=1e-12)
    assert whole.keys() == parts.keys()
    assert "task_weights/raw" in whole
    for name, x in whole.items():
        rtol = 1e-9 if x.dtype == torch.float64 else 1e-5  # the tasks' weights are float32
        torch.testing.assert_close(parts[name], x, rtol=rtol, atol=1e-12, msg=name)


@pytest.mark.parametrize("backbone", ["mlp", "transformer"])
def test_recomputed_activations_change_nothing(registry: Registry, backbone: str) -> None:
    batch = rows(small(registry), 8).rows
    plain, losses = after(small(registry, backbone=backbone), batch)
    model = small(registry, backbone=backbone)
    calls: list[int] = []
    for block in blocks(model.backbone):
        block.register_forward_hook(lambda *_: calls.append(1))
    names = list(model.state_dict())
    with backbone_execution(model.backbone, precision="float32", compiled=False, activation_checkpointing=True):
        again, same = after(model, batch)
        assert list(model.state_dict()) == names
    assert len(blocks(model.backbone)) == 2
    assert torch.equal(same, losses)
    assert all(torch.equal(again[name], x) for name, x in plain.items())
    assert all("forward" not in block.__dict__ for block in blocks(model.backbone))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_precision_is_lowered_around_the_backbone_alone(registry: Registry, precision: str, dtype: torch.dtype) -> None:
    model = stirred(registry).train()
    found: dict[str, torch.dtype] = {}
    linear = next(m for m in blocks(model.backbone)[0].modules() if isinstance(m, torch.nn.Linear))
    linear.register_forward_hook(lambda m, i, out: found.update(inside=out.dtype))
    model.decoders["label"].register_forward_pre_hook(lambda m, i: found.update(features=i[0].dtype))
    batch = rows(model, 8).rows
    state = TrainState.start(model, TrainOptions(precision=precision))
    with backbone_execution(model.backbone, precision=precision, compiled=False, activation_checkpointing=False):
        low = training_step(state, batch)
    assert found == {"inside": dtype, "features": torch.float32}
    assert low.losses.dtype == torch.float32
    plain = stirred(registry).train()
    exact = training_step(TrainState.start(plain, TrainOptions()), batch)
    torch.testing.assert_close(low.losses, exact.losses, rtol=0.05, atol=0.05)
    assert not torch.equal(low.losses, exact.losses)
    torch.testing.assert_close(low.grad_norm, exact.grad_norm, rtol=0.05, atol=0.0)


def test_an_overflowing_gradient_is_computed_again_at_a_lower_scale(registry: Registry) -> None:
    model = stirred(registry).train()
    state = TrainState.start(model, TrainOptions(precision="fp16"))
    state.scaler.scale = 2.0**126
    with backbone_execution(model.backbone, precision="fp16", compiled=False, activation_checkpointing=False):
        report = training_step(state, rows(model, 8).rows)
    assert state.step == 1
    assert report.grad_norm.isfinite()
    assert 1 < state.scaler.scale < 2.0**60
    scaler = Scaler(4.0, Scaler.GROWS_AFTER - 1, True)
    scaler.advance()
    assert (scaler.scale, scaler.good) == (8.0, 0)
    assert [scaler.shrink() for _ in range(4)] == [True, True, True, False]
    assert scaler.scale == 1.0


def test_fp16_resumes_with_its_scale(registry: Registry, tmp_path: Path) -> None:
    def lower(state: TrainState, report: object) -> None:
        if state.step == 2:
            state.scaler.scale = 1024.0

    fit(registry, tmp_path, precision="fp16", steps=3, watch=[lower])
    state = fit(registry, tmp_path, precision="fp16", steps=3, resume=True)
    assert (state.scaler.scale, state.scaler.good) == (1024.0, 3)


def test_compilation_wraps_the_backbone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler itself takes half a minute; what it is given, and that its result is called, is checked."""
    given: list[Any] = []
    calls: list[int] = []

    def compiler(call: Any) -> Any:
        given.append(call)
        return lambda *args: (calls.append(1), call(*args))[1]

    monkeypatch.setattr(torch, "compile", compiler)
    model = small(registry)
    fit(registry, None, model=model, steps=2, compile=True)
    assert len(given) == 1
    assert len(calls) == 2
    assert "forward" not in model.backbone.__dict__


@pytest.mark.parametrize("what", ["allocator", "cuda"])
def test_short_memory_says_what_to_try(registry: Registry, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    model = small(registry)

    def forward(*args: Tensor) -> Tensor:
        if what == "allocator":
            return torch.empty(2**55)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(model.backbone, "forward", forward)
    expected = "at step 0, 4 rows at once do not fit the memory of cpu; try batch_size = 4, or accumulate = 4, which computes the same steps"
    with pytest.raises(MmcoreError, match=expected):
        fit(registry, None, model=model, accumulate=2)


def test_an_input_that_is_not_finite_is_named(registry: Registry, tmp_path: Path) -> None:
    table = rows(small(registry), 8)
    table.rows.present[:] = True
    table.rows.values["words"][5, 2] = float("inf")
    with pytest.raises(
        MmcoreError, match=r"at step 0, 'words' is not finite in row \d of the batch; the step was not taken"
    ):
        fit(registry, tmp_path, rows=table)
    assert [step for step, _ in folders(tmp_path / "checkpoints")] == [0]


def test_validation_is_by_rows_and_weights_alone(registry: Registry) -> None:
    """The means of a double loop over rows one by one; another batch size gives the same."""
    model = small(registry).double().eval()
    held = rows(model, 7)
    held.rows.values["words"] = held.rows.values["words"].double()
    options = TrainOptions(batch_size=4)
    means, counts = validation_losses(model, held, options, Ranks())
    again = validation_losses(model, held, TrainOptions(batch_size=1), Ranks())
    assert counts == again[1]
    torch.testing.assert_close(torch.tensor(means), torch.tensor(again[0]), rtol=1e-9, atol=0)
    assert max(counts) <= int(held.rows.present.sum(0).max())
    with pytest.raises(RequestError, match="validate_every = 2, but validation is not given"):
        fit(registry, None, validate_every=2)
    with pytest.raises(RequestError, match="best = 'lable', expected one of label, words, total"):
        fit(registry, None, best="lable")


def test_the_best_model_is_kept(registry: Registry, tmp_path: Path) -> None:
    """Of validations whose figures go up and down, the model of the lowest one."""

    def spoil(state: TrainState, report: object) -> None:
        if state.step == 7:
            for x in state.ema.values():
                x.mul_(9)

    model = small(registry)
    held = rows(model, 12, seed=5)
    fit(
        registry,
        tmp_path,
        model=model,
        rows=rows(model, 8),
        validation=held,
        validate_every=2,
        steps=8,
        best="words",
        watch=[spoil],
    )
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    figures = [line["losses"]["words"] for line in lines]
    assert [line["step"] for line in lines] == list(range(2, 9, 2))
    assert min(figures) < figures[-1]
    best = mmcore.load(tmp_path / "best", registry=registry)
    means, _ = validation_losses(best, held, TrainOptions(batch_size=8), Ranks())
    assert means[1] == pytest.approx(min(figures), rel=1e-6)
