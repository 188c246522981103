"""What a backbone works out ahead for a sampler's whole path gives the answers that it gives step by step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mmcore
from mmcore import JointModel, Registry
from tests.double import double, small  # noqa: F401

N, STEPS = 5, 12


def questions(model: JointModel) -> dict[str, dict[str, Any]]:
    typical = {m.name: m.typical(N, 3) for m in model.modalities}
    some = torch.arange(N) % 2 == 0
    return {
        "joint": {},
        "given": {"given": {"label": typical["label"]}},
        "by row": {"given": {"a": typical["a"]}, "where": {"a": some}, "absent": {"image": ~some}},
        "guided": {"given": {"label": typical["label"]}, "guidance": {"label": 2.0}},
    }


@pytest.mark.parametrize("layout", ["shared", "separate"])
@pytest.mark.parametrize(
    ("backbone", "options"), [("mlp", {}), ("mlp", {"gates": True}), ("transformer", {"heads": 2})]
)
def test_the_answer_is_that_of_every_step_by_itself(
    backbone: str, options: dict[str, Any], layout: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(registry, layout, backbone, depth=2, **options)
    for sampler in ("ddim", "2m", "heun"):
        for name, asked in questions(model).items():
            found = mmcore.sample(model, N, steps=STEPS, sampler=sampler, draw=True, **asked)
            with monkeypatch.context() as patch:
                patch.setattr("mmcore.model.joint.looks_ahead", lambda module: False)
                want = mmcore.sample(model, N, steps=STEPS, sampler=sampler, draw=True, **asked)
            for variable in want:
                torch.testing.assert_close(
                    found[variable], want[variable], rtol=1e-9, atol=1e-9, msg=f"{sampler} {name} {variable}"
                )


def test_timesteps_are_embedded_once_for_the_whole_path(registry: Registry) -> None:
    model = small(registry, "shared")
    rows: list[int] = []
    model.backbone.timestep.register_forward_hook(lambda module, given, out: rows.append(len(out)))  # type: ignore[union-attr]
    mmcore.sample(model, N, steps=STEPS, sampler="2m")
    # One row for each timestep at which the network is asked: all rows ask alike.
    assert rows == [STEPS]


def test_another_network_is_called_as_it_always_was(registry: Registry) -> None:
    """Neither its `ahead` of another meaning nor a forward without it is taken for one that looks ahead."""
    mlp = small(registry, "shared").backbone

    class Own(nn.Module):
        features = mlp.features
        ahead = 3

        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp

        def forward(self, z: Tensor, t: Tensor, roles: Tensor, condition: Tensor) -> Tensor:
            return self.inner(z, t, roles, condition)

    class Method(Own):
        def ahead(self) -> None:  # type: ignore[override]
            raise AssertionError

    for own in (Own(), Method()):
        model = small(registry, "shared", own)
        assert mmcore.sample(model, 2, steps=3)["image"].isfinite().all()
