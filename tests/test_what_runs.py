"""The formula that is found is the formula that runs: with any public function of the mathematics broken, something that a user does fails."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import mmcore
from mmcore import Registry, process
from mmcore.process import Gaussian, Process, bound, schedule
from mmcore.testing import run

ROWS = [{"image": torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(k)), "label": k % 3} for k in range(8)]


class BrokenError(Exception):
    """Raised in the place of a formula."""


def public() -> Iterator[tuple[str, Any, str]]:
    """Every public function of ``mmcore.process``: where it is, what holds it, its name."""
    holders: list[tuple[str, Any]] = [("bound", bound), ("schedule", schedule)]
    for name in process.__all__:
        thing = getattr(process, name)
        if inspect.isclass(thing):
            holders += [(f"{kind.__module__}.{kind.__name__}", kind) for kind in thing.__mro__[:-1]]
        elif inspect.isfunction(thing):
            yield name, process, name
    seen = set()
    for where, holder in holders:
        if holder in seen or not getattr(holder, "__module__", "mmcore.process").startswith("mmcore.process"):
            continue
        seen.add(holder)
        for name, thing in vars(holder).items():
            plain = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
            own = getattr(plain, "__module__", "").startswith("mmcore.process")
            if not name.startswith("_") and inspect.isfunction(plain) and own:
                yield f"{where}.{name}", holder, name


PUBLIC = {title: (holder, name) for title, holder, name in public()}


def models(registry: Registry, schedule: Any) -> Iterator[mmcore.JointModel]:
    parts = [registry.modality("image", channels=1, size=4), registry.modality("label", classes=3)]
    for layout in ("shared", "separate"):
        yield mmcore.compose(
            parts,
            layout=layout,
            schedule=schedule,
            backbone="mlp",
            backbone_options={"width": 8, "depth": 1},
            registry=registry,
        )


def everything(registry: Registry) -> Iterator[Callable[[], Any]]:
    """What a user does."""
    for name in ("cosine", "linear", "paper", "paper-steps"):
        yield lambda name=name: list(models(registry, name))
    (model, apart), label = models(registry, "cosine"), torch.tensor([0, 1])
    for weighting in ("simple", "snr", "elbo"):
        yield lambda weighting=weighting: [
            mmcore.fit(one, ROWS, steps=2, batch_size=4, weighting=weighting, device="cpu", quiet=True)
            for one in (model, apart)
        ]
    for sampler in ("auto", "ddim", "ancestral", "2m", "heun"):
        yield lambda sampler=sampler: mmcore.sample(model, 2, sampler=sampler, steps=4, given={"label": label})
    yield lambda: mmcore.sample(model, 2, steps=4, spacing="snr", given={"label": label}, guidance={"label": 2.0})
    yield lambda: mmcore.sample(apart, 2, steps=4, given={"label": label}, conditioning="posterior")
    yield lambda: mmcore.evaluate(model, ROWS, draws=2)
    # As `mmcore check image` does.
    checks = ["engine.chain", "engine.posterior", "engine.bayes"]
    yield lambda: _passed(run(registry.modality("image", channels=1, size=4), only=checks))


def _do(actions: Iterator[Callable[[], Any]]) -> None:
    for act in actions:
        act()


def _passed(report: Any) -> None:
    wrong = [result for result in report.results if result.status != "passed"]
    if wrong:
        raise BrokenError(f"{wrong[0].found} {wrong[0].reason}")


def test_everything_works_as_it_is(registry: Registry) -> None:
    _do(everything(registry))


@pytest.mark.parametrize("title", PUBLIC)
def test_what_is_found_is_what_runs(registry: Registry, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    holder, name = PUBLIC[title]
    own = inspect.getattr_static(holder, name)

    def broken(*args: Any, **options: Any) -> Any:
        raise BrokenError(title)

    replaced = type(own)(broken) if isinstance(own, classmethod | staticmethod) else broken
    actions = everything(registry)
    monkeypatch.setattr(holder, name, replaced)
    if inspect.ismodule(holder):
        # Wherever else the function is called by its own name.
        for module in (process, bound, schedule, process.process, process.blocks, process.coefficients):
            if getattr(module, name, None) is own:
                monkeypatch.setattr(module, name, broken)
        for key, thing in schedule.NAMED.items():
            if thing is own:
                monkeypatch.setitem(schedule.NAMED, key, broken)
    with pytest.raises((BrokenError, mmcore.MmcoreError)) as failure:
        _do(actions)
    assert title in str(failure.value) + str(failure.value.__cause__)


def test_the_list_is_of_what_readers_look_for() -> None:
    named = {title.rpartition(".")[2] for title in PUBLIC}
    assert named >= {"marginal", "transition", "posterior", "step", "level", "jump", "half_log_snr", "prior", "shares"}
    assert {name for name in vars(Gaussian) if not name.startswith("_")} <= named | {"mean", "variance", "deviation"}
    assert issubclass(process.Blocks, Process)
