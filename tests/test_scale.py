"""The cost model of docs/scale.md against what is counted at a small size."""

import pytest

from benchmarks.scale import SMALL, compared


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_what_is_worked_out_is_what_is_counted() -> None:
    """A group of five ranks, by which no axis of the weights can be divided."""
    found = {what: (predicted, counted) for what, predicted, counted in compared(SMALL[0], devices=5)}
    predicted, counted = found.pop("bytes kept")
    assert predicted == pytest.approx(counted, rel=0.05)
    assert len(found) == 6
    for what, (predicted, counted) in found.items():
        assert predicted == pytest.approx(counted, rel=1e-4), what
