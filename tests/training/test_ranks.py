"""Two processes train as one."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import mmcore
from mmcore import JointModel, MmcoreError, Registry, RequestError
from mmcore.data import Table, TensorBatch
from mmcore.store.checkpoint import folders, read
from mmcore.training import TrainOptions, TrainState, training_step
from mmcore.training.ranks import Ranks, is_sharded, local_shard
from tests.training.processes import ranks
from tests.training.runs import digests, fit, rows, small

WAYS = ["ddp", "fsdp"]


def double(registry: Registry) -> tuple[JointModel, Table]:
    """In float64, where sums in another order differ by little."""
    model = small(registry).double()
    batch = rows(model).rows
    values = {name: x.double() if x.is_floating_point() else x for name, x in batch.values.items()}
    return model, Table(TensorBatch(values, batch.present))


class StopError(Exception):
    pass


@pytest.mark.parametrize("parallel", WAYS)
def test_two_ranks_train_and_resume_as_one(registry: Registry, tmp_path: Path, parallel: str) -> None:
    """The losses and weights of one process, but for rounding; and a run that was cut ends with the bytes of one that was not."""
    how: dict[str, Any] = {
        "task_weights": "learned",
        "accumulate": 2,
        "save_steps": 2,
        "parallel": parallel,
        "steps": 5,
    }

    def losses(out: Path, **changes: Any) -> list[list[float]]:
        found = []
        model, data = double(registry)

        def watch(state: TrainState, report: Any) -> None:
            found.append(report.by_task().tolist())
            if state.step == changes.get("stop"):
                raise StopError

        fit(registry, out, model=model, rows=data, watch=[watch], **how, resume=changes.get("resume", False))
        return found

    def work(rank: int) -> None:
        found = losses(tmp_path / "two")
        (tmp_path / f"losses-{rank}").write_text(json.dumps(found))
        with pytest.raises(StopError):
            losses(tmp_path / "cut", stop=3)
        assert len(losses(tmp_path / "cut", resume=True)) == 3  # from step 2 on

    alone = torch.tensor(losses(tmp_path / "one"))
    assert ranks(2, work) == [0, 0]
    for rank in range(2):
        found = torch.tensor(json.loads((tmp_path / f"losses-{rank}").read_text()))
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=0, equal_nan=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "two")
    one, two = (read(folders(tmp_path / name / "checkpoints")[0][1]).files for name in ("one", "two"))
    for file in one:
        # Element by element only the names and shapes agree: AdamW makes a full step of a gradient that is zero but for rounding.
        if file.endswith(".safetensors"):
            assert {n: x.shape for n, x in one[file].items()} == {n: x.shape for n, x in two[file].items()}


def starting(registry: Registry, parallel: str) -> TrainState:
    model = small(registry).train()
    return TrainState.start(
        model,
        TrainOptions(steps=99, parallel=parallel),
        Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size()),
    )


@pytest.mark.parametrize("parallel", WAYS)
def test_ranks_whose_rows_hold_different_modalities(registry: Registry, parallel: str) -> None:
    steps = {"ddp": 20, "fsdp": 6}[parallel]

    def work(rank: int) -> None:
        state = starting(registry, parallel)
        parts = [is_sharded(p) for p in state.model.parameters() if p.requires_grad]
        assert all(parts) if parallel == "fsdp" else not any(parts)
        table = rows(small(registry))
        for step in range(steps):
            batch = table.__getitems__(range(step, step + 4))
            kinds = [(True, False), (False, True), (True, True), (False, False)]
            batch.present[:] = torch.tensor(kinds[(step + rank * (1 + step // 2)) % 4])
            training_step(state, batch)
        assert state.step == steps

    assert ranks(2, work) == [0, 0]


@pytest.mark.parametrize("parallel", WAYS)
def test_pictures_are_drawn_in_between(registry: Registry, tmp_path: Path, parallel: str) -> None:
    """Of a sharded model every rank draws, the first one writes; what is drawn is what one process draws, and the training goes on as without."""

    def drawing(found: list[Tensor]) -> Callable[[JointModel, int], dict[str, Image.Image]]:
        def draw(model: JointModel, step: int) -> dict[str, Image.Image]:
            # Twice: weights must still be whole after they have been used.
            for steps in (2, 3):
                found.append(mmcore.sample(model, 2, steps=steps, seed=step)["words"].double())
            return {"words": Image.new("L", (4, 4), step)}

        return draw

    def trained(out: Path, **how: Any) -> list[Tensor]:
        model, data = double(registry)
        found: list[Tensor] = []
        fit(registry, out, model=model, rows=data, steps=4, parallel=parallel, pictures=drawing(found), **how)
        return found

    def work(rank: int) -> None:
        torch.save(trained(tmp_path / "two", pictures_every=2), tmp_path / f"drawn-{rank}")
        trained(tmp_path / "none")

    alone = trained(tmp_path / "one", pictures_every=2)
    assert ranks(2, work) == [0, 0]
    assert len(list((tmp_path / "two" / "samples").glob("*.png"))) == 2
    found = torch.load(tmp_path / "drawn-0")
    assert len(found) == len(alone) == 4
    for one, two in zip(found, alone, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    two, none = (read(folders(tmp_path / name / "checkpoints")[0][1]).files for name in ("two", "none"))
    for file in two:
        if file.endswith(".safetensors"):
            for name, x in two[file].items():
                assert torch.equal(x, none[file][name]), name


def poisoned(where: str, model: JointModel, batch: TensorBatch) -> None:
    """NaN in an input, a loss or a gradient."""
    if where == "input":
        batch.present[2] = True
        batch.values["words"][2, 1] = float("nan")
        return
    term = model.heads.losses[0]

    def loss(params: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
        found = term(params, target, seen)
        if where == "loss":
            return found * torch.tensor([1.0, 1.0, float("nan"), 1.0])
        found.register_hook(lambda gradient: gradient * float("nan"))
        return found

    model.heads.losses[0] = loss


WORDS = {
    "input": "'words' is not finite in row 6 of the batch",
    "loss": "task 'label' has loss nan in row 6 of the batch",
    "gradient": "the gradient's norm is nan, every loss being finite",
}


@pytest.mark.parametrize("parallel", WAYS)
def test_nan_on_one_rank_stops_all_before_the_update(registry: Registry, parallel: str) -> None:
    def work(rank: int) -> None:
        for where, said in WORDS.items():
            state = starting(registry, parallel)
            batch = rows(small(registry)).__getitems__(range(4))
            training_step(state, batch)
            before = [local_shard(p).clone() for p in state.model.parameters()]
            average = [local_shard(x).clone() for x in state.ema.values()]
            batch = rows(small(registry)).__getitems__(range(4))
            batch.present[:, 0] = True
            if rank == 1:
                poisoned(where, state.model, batch)
            with pytest.raises(MmcoreError, match=r"at step 1 on rank .*; the step was not taken") as caught:
                training_step(state, batch)
            assert said in str(caught.value) or (rank == 0 and "on another rank" in str(caught.value))
            assert state.step == 1
            assert all(torch.equal(a, local_shard(p)) for a, p in zip(before, state.model.parameters(), strict=True))
            assert all(torch.equal(a, local_shard(x)) for a, x in zip(average, state.ema.values(), strict=True))

    assert ranks(2, work) == [0, 0]


def test_a_lost_rank_ends_the_others_with_a_message(
    registry: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def die(state: TrainState, report: object) -> None:
        if state.step == 4 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def work(rank: int) -> None:
        fit(registry, tmp_path, save_steps=3, watch=[die])

    assert ranks(2, work) == [1, -signal.SIGKILL]
    assert "another rank is lost" in capfd.readouterr().err
    assert folders(tmp_path / "checkpoints")[0][0] == 3


def test_what_stops_the_first_rank_at_the_start_stops_all(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def work(rank: int) -> None:
        expected: Callable[..., Any] = RequestError if rank == 0 else MmcoreError
        with pytest.raises(expected, match=r"cannot be written" if rank == 0 else "rank 0 could not begin"):
            fit(registry, tmp_path / "file" / "run")
        with pytest.raises(RequestError, match="over 2 ranks, expected a multiple of 2"):
            fit(registry, None, batch_size=3)

    assert ranks(2, work) == [0, 0]
