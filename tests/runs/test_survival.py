"""The claims of ``docs/runs.md``, each shown by fewer trials of what ``benchmarks/survival.py`` does at length."""

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import survival
from mmcore import Registry


@pytest.fixture(scope="module", autouse=True)
def warm(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the forked trials import would be imported by each of them."""
    survival.train(registry, tmp_path_factory.mktemp("warm"), steps=1)


def test_killed_runs_end_with_the_same_bytes(registry: Registry, tmp_path: Path) -> None:
    assert survival.kill(registry, tmp_path, Namespace(trials=3, seed=1))


def test_damage_to_any_file_is_found_and_the_older_checkpoint_used(registry: Registry, tmp_path: Path) -> None:
    assert survival.damage(registry, tmp_path, Namespace(trials=25, seed=1))


def test_no_file_of_a_stranger_is_executed(registry: Registry, tmp_path: Path) -> None:
    assert survival.malice(registry, tmp_path, Namespace())
