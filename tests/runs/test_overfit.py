"""Tasks that were learned by heart are told, and no others."""

import json
from pathlib import Path

import pytest

from mmcore.runs.overfit import learned_by_heart


def log(folder: Path, **losses: list[float | None]) -> Path:
    count = max(map(len, losses.values()))
    lowest, lines = float("inf"), []
    for k in range(count):
        here = {task: found[k] for task, found in losses.items()}
        total = sum(x for x in here.values() if x is not None)
        lowest = min(lowest, total)
        lines.append({"step": 100 * (k + 1), "losses": here | {"total": total}, "best": "total", "so_far": lowest})
    (folder / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_loss_that_rises_far_is_told_with_its_step(tmp_path: Path) -> None:
    (told,) = learned_by_heart(log(tmp_path, mask=[80.0, 40.0, 20.0], label=[1.38, 1.5, 5.18]))
    assert told.startswith("label was best on validation rows at step 100 of 300 (1.38 nats, 5.18 at the end)")
    assert f"{tmp_path / 'best'} is of step 300" in told


def test_many_tasks_have_one_line(tmp_path: Path) -> None:
    (told,) = learned_by_heart(
        log(tmp_path, a=[2.0, 1.0, 9.0], b=[1.0, 2.0, 9.0], c=[3.0, 3.0, 3.0], d=[1.0, 5.0, 9.0])
    )
    assert told.startswith("a, b, d were best on validation rows at steps 100 … 200 of 300 (a: 1 nats, 9 at the end)")
    assert len(learned_by_heart(log(tmp_path, a=[2.0, 1.0, 9.0], b=[1.0, 2.0, 9.0]))) == 2


@pytest.mark.parametrize(
    "losses",
    [
        {"mask": [80.0, 40.0, 20.0]},
        {"label": [1.4, 1.2, 1.4]},
        {"image": [8000.0, 7800.0, 7900.0]},
        {"density": [-3.0, -3.5, -3.3]},
        {"label": [None, None]},
        {"label": [1.0]},
    ],
)
def test_chance_is_not_told(losses: dict[str, list[float | None]], tmp_path: Path) -> None:
    assert learned_by_heart(log(tmp_path, **losses)) == []


def test_what_is_torn_or_odd_is_passed_over(tmp_path: Path) -> None:
    assert learned_by_heart(tmp_path) == []
    folder = log(tmp_path, label=[1.0, 9.0])
    with (folder / "validation.jsonl").open("ab") as file:
        file.write(b'[]\n{"step": "x"}\n{"step": 3, "losses": {"label": "y"}}\n\xff\n{"step": 400, "los')
    assert len(learned_by_heart(folder)) == 1
