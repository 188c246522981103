"""All that is broken on purpose beside the modalities, and all that must pass, by kind."""

from collections.abc import Callable
from typing import Any

from tests.testing import mutants_networks, mutants_rows, mutants_runs, mutants_sampling
from tests.testing.mutants import Mutant

PARTS: list[Mutant] = [
    *mutants_networks.MUTANTS,
    *mutants_sampling.MUTANTS,
    *mutants_rows.MUTANTS,
    *mutants_runs.MUTANTS,
]
HEALTHY_PARTS: dict[str, dict[str, Callable[..., Any]]] = {
    "backbone": mutants_networks.BACKBONES,
    "schedule": mutants_networks.SCHEDULES,
    "source": mutants_rows.SOURCES,
    "sampler": mutants_sampling.SAMPLERS,
    "guidance": mutants_sampling.GUIDANCES,
    "transform": mutants_rows.TRANSFORMS,
    "tracker": mutants_runs.TRACKERS,
    "embedder": mutants_rows.EMBEDDERS,
}
