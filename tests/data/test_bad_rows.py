"""Faulty rows end in one line that names source, row, variable, found and expected; a sample of the benchmark's cases."""

from pathlib import Path

import pytest

from benchmarks.bad_rows import cases, verdict
from mmcore import Registry


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of casting NaN, where the faults are made
def test_a_fault_in_every_source_and_variable_is_told_in_one_line(tmp_path: Path, registry: Registry) -> None:
    seen = list(cases(tmp_path))
    assert len(seen) >= 200
    kinds = {(case.source, case.variable) for case in seen}
    for source in ("folder", "shards", "table (csv)", "table (jsonl)", "npz", "idx"):
        assert {variable for kind, variable in kinds if kind == source} >= {"image", "mask", "label", "embedding"}
    for case in seen[::3]:
        line, wrong = verdict(case, registry)
        assert not wrong, f"{case.source}, {case.variable}, {case.fault}: {wrong}: {line}"
