"""The kit under test: every broken plugin is caught by the check made for it, and the healthy ones pass."""

import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmcore.testing import CHECKS, run
from mmcore.testing.engine import ordered
from tests.testing.matrix import (
    DATA,
    GPU,
    JUDGING,
    MORE,
    MUTANTS,
    NOT_RUN,
    PAGE,
    QUICK,
    WIDE,
    caught,
    not_run,
    page,
    put,
)
from tests.testing.mutants import HEALTHY, Mutant
from tests.testing.mutants_parts import HEALTHY_PARTS
from tests.testing.odd import ODD

FEW = {
    "backbone": 1,
    "schedule": 2,
    "source": 5,
    "sampler": 1,
    "guidance": 2,
    "transform": 4,
    "tracker": 3,
    "embedder": 2,
}
"""How many of each kind are put to everything here, the first ones; ``matrix --seeds`` puts all."""
PARTS = [
    (kind, name, make) for kind, makers in HEALTHY_PARTS.items() for name, make in list(makers.items())[: FEW[kind]]
]
SLOW = (
    "sampler.law", "sampler.converges", "sampler.order", "sampler.step", "sampler.batches", "sampler.observed", "guidance.samples",
    "backbone.learns", "backbone.elsewhere", "source.processes", "tracker.prompt", "tracker.ends",
)  # fmt: skip
"""Checks that take a second or more, of which the first mutant is tried here; ``matrix --seeds`` tries all."""
TRIED = [
    m for k, m in enumerate(MUTANTS) if m.check not in SLOW or all(m.check != other.check for other in MUTANTS[:k])
]


def test_every_check_has_a_mutant() -> None:
    assert {mutant.check for mutant in MUTANTS} == set(CHECKS)


# A tracker that fails in its last call leaves its file open.
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("mutant", TRIED, ids=lambda m: m.id)
def test_a_mutant_is_caught_by_its_own_check(mutant: Mutant) -> None:
    report = put(mutant, 0, (mutant.check,))
    if mutant.kind == "tracker":
        gc.collect()  # what it left open is found here, and in no other test
    if all(r.status == "not run" for r in report.results):
        assert mutant.check == GPU
        assert not torch.cuda.is_available()
        pytest.skip("there is no GPU here")
    assert caught(report) == [mutant.check]
    level = CHECKS[mutant.check].level
    assert report.verdict == ("failed" if level == "required" or not report.executed else "incomplete")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_modality_passes_everything(name: str) -> None:
    # A process of its own takes as long as all the rest: the example's and the plugins' own tests start it.
    ids = [check.id for check in ordered("modality") if check.id != "state.process"]
    report = run(HEALTHY[name](), seed=1, only=ids)
    assert [failure.explain() for failure in report.failures] == []
    assert report.verdict == "incomplete"
    assert report.tier == "full"


@pytest.mark.parametrize("name", WIDE)
def test_a_healthy_modality_of_another_kind_is_not_blamed(name: str) -> None:
    """By the checks that go by samples, sizes or wrong values; ``matrix --seeds`` puts all."""
    report = run(WIDE[name](), seed=1, only=JUDGING)
    assert [failure.explain() for failure in report.failures] == []
    assert not_run(report) == NOT_RUN[name], "run python -m tests.testing.matrix --not-run"


@pytest.mark.parametrize("name", MORE)
def test_a_healthy_modality_of_yet_another_kind_is_not_blamed(name: str) -> None:
    """By some quick checks; ``matrix --seeds`` puts all."""
    report = run(MORE[name](), seed=1, only=QUICK)
    assert [failure.explain() for failure in report.failures] == []
    assert not_run(report) == NOT_RUN[name], "run python -m tests.testing.matrix --not-run"


@pytest.mark.parametrize("name", ODD)
def test_a_healthy_modality_that_was_blamed_once_is_not_again(name: str) -> None:
    """By the checks that did; ``matrix --seeds`` puts all."""
    make, ids = ODD[name]
    for seed in range(3):
        report = run(make(), seed=seed, only=ids)
        assert [failure.explain() for failure in report.failures] == []
        assert report.executed == len(ids)


# A tracker whose process is killed leaves its file open.
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "name", "make"), PARTS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_healthy_part_passes_everything(kind: str, name: str, make: Callable[..., Any]) -> None:
    report = run(make, kind=kind, name=name)
    gc.collect()
    assert [failure.explain() for failure in report.failures] == []
    assert report.verdict == "conformant"


def test_the_page_is_what_is_generated() -> None:
    found = json.loads(DATA.read_text(encoding="utf-8"))
    assert list(found) == [mutant.id for mutant in MUTANTS], "run python -m tests.testing.matrix --write"
    assert all(mutant.check in found[mutant.id] for mutant in MUTANTS if mutant.check != GPU)
    assert PAGE.read_text(encoding="utf-8") == page(found), "run python -m tests.testing.matrix --page"
