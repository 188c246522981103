"""What is said of long work where there is no terminal."""

import pytest

from mmcore import progress
from mmcore.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "done", "line"),
    [
        (20, 50, "training: 50/100  loss 1.500  2.5/s  20 s left"),
        (20, 2, "training: 2/100  loss 1.500  10 s each  16 min left"),
        (1000, 3, "training: 3/100  loss 1.500  6 min each  9.0 h left"),
        (1, 100, "training: 100/100  loss 1.500  100.0/s  0.0 s left"),
    ],
)
def test_a_line_has_speed_and_time_left_in_units_that_fit(
    seconds: float, done: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, seconds])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    Progress("training", 100).update(done, loss=1.5)
    assert capsys.readouterr().err.rstrip("\n") == line


def test_other_work_in_between_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("predicting", 100) as bar:
        with bar.aside("asking", 10) as other:
            now = 500.0
            other.update(10)
        now = 520.0
        bar.update(50)
    asked, predicted = capsys.readouterr().err.splitlines()
    assert asked == "asking: 10/10  50 s each  0.0 s left"
    assert predicted == "predicting: 50/100  2.5/s  20 s left"
