"""A sampler's step compiled as a whole: one graph for all timesteps and questions of a kind, and the same answers."""

from typing import Any

import pytest
import torch

import mmcore
from mmcore import JointModel, OptionError, Registry
from mmcore.sampling import compiled
from tests.training.runs import small


def stirred(registry: Registry, **composition: Any) -> JointModel:
    model = small(registry, **composition).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


@pytest.fixture
def by_eager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The graph itself, run as it was traced."""
    real = compiled.one_graph
    monkeypatch.setattr(compiled, "one_graph", lambda part, mode, backend: real(part, mode, "eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return torch._dynamo.utils.counters


@pytest.mark.parametrize(
    ("how", "layout", "graphs"),
    [
        ({"sampler": "2m"}, "shared", 2),  # its first step has no codes before it
        ({"sampler": "ddim", "eta": 0.5, "codes": "draw", "conditioning": "posterior"}, "separate", 1),  # and recorded
    ],
)
def test_steps_are_graphs_that_are_never_made_anew(
    registry: Registry, by_eager: Any, how: dict[str, Any], layout: str, graphs: int
) -> None:
    model = stirred(registry, layout=layout, **({} if layout == "shared" else {"space": None}))
    compile = True if layout == "shared" else "graphs"  # noqa: A001
    for seed, path in ((0, [1000, 700, 300, 1]), (1, [1000, 900, 500, 20])):
        given = {"label": torch.full((3,), seed)}
        found = mmcore.sample(model, 3, given=given, steps=path, seed=seed, compiled=compile, **how)
        wanted = mmcore.sample(model, 3, given=given, steps=path, seed=seed, **how)
        for name, x in wanted.items():
            torch.testing.assert_close(found[name], x, rtol=1e-4, atol=1e-4)
        assert by_eager["stats"]["unique_graphs"] == graphs
    assert not by_eager["graph_break"]


def test_what_no_graph_can_be_is_refused(registry: Registry) -> None:
    class Mine(mmcore.sampling.Ddim):
        pass

    model = small(registry).eval()
    given = {"label": torch.zeros(2, dtype=torch.int64)}
    for how, match in (
        ({"compiled": "all"}, "compiled = 'all', expected one of True, False, graphs"),
        ({"compiled": True, "sampler": Mine(steps=3)}, "expected False with a sampler that is none of ddim, ancestral"),
        ({"compiled": True, "given": given, "guidance": {"label": 2.0}}, "expected False beside guidance"),
    ):
        with pytest.raises(OptionError, match=match):
            mmcore.sample(model, 2, **how)
