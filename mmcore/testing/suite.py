"""The kit under pytest: one line in a plugin's own tests."""

import os
from collections.abc import Callable
from typing import Any

from mmcore.testing.engine import Case, Plan
from mmcore.testing.optouts import OptOuts
from mmcore.testing.report import FAILED, Result


def conformance_suite(
    thing: Any,
    *,
    kind: str | None = None,
    name: str | None = None,
    profile: str | None = None,
    seed: int = 0,
    opt_outs: OptOuts | None = None,
) -> Callable[..., None]:
    """A test function that pytest collects as one test per check, and one for the verdict.

    Assign it to a name that pytest collects: ``test_audio = conformance_suite(AudioModality())``. The tests are called
    ``test_audio[audio/encoder.unit_variance[float32-cpu]]`` and so on; a check that cannot be run here is skipped
    with its reason, an excused one too.

    Args:
        thing: a :class:`mmcore.Modality`; or, with ``kind``, what makes a plugin of that kind.
        kind: ``"modality"``, or another of ``mmcore.testing.check.KINDS``: ``"backbone"``, ``"sampler"`` …
        name: in the tests' ids; by default the plugin's own.
        profile: ``"quick"``, ``"ci"`` or ``"deep"``; by default the environment's ``MMCORE_CHECK_PROFILE``, else quick.
        seed: of everything random.
        opt_outs: what is excused; required core checks cannot be.

    Raises:
        RequestError: a thing that is no plugin of the kind, an unknown profile, an opt-out that is not allowed.
    """
    import pytest

    profile = profile or os.environ.get("MMCORE_CHECK_PROFILE", "quick")
    plan = Plan.make(thing, kind=kind, name=name, profile=profile, seed=seed, opt_outs=opt_outs)
    results: dict[str, Result] = {}
    params = [pytest.param(case, id=f"{plan.name}/{case.id}") for case in plan.cases]

    @pytest.mark.parametrize("case", [*params, pytest.param(None, id=f"{plan.name}/verdict")])
    def test(case: Case | None, request: pytest.FixtureRequest) -> None:
        if case is None:
            _judge(plan, results)
            return
        replay = f"python -m pytest {request.node.nodeid!r}"
        result = results[case.id] = plan.execute(case, replay, list(results.values()))
        if result.status == "failed":
            if case.check.level == "provisional":
                pytest.xfail(f"provisional: {result.explain()}")
            pytest.fail(result.explain(), pytrace=False)
        if result.status == "known failure":
            pytest.xfail(f"{result.reason}\n{result.explain()}")
        if result.status != "passed":
            pytest.skip(f"{result.status}: {result.reason}")

    test.__doc__ = f"{plan.name} keeps the rules of its kind."
    return test


def _judge(plan: Plan, results: dict[str, Result]) -> None:
    """The verdict over what ran in this process; that nothing ran is a failure."""
    import pytest

    report = plan.report(list(results.values()))
    spread = "PYTEST_XDIST_WORKER" in os.environ
    if len(report.results) < report.planned and (report.executed or spread):
        pytest.skip(f"{report.planned - len(report.results)} of {report.planned} checks were not run in this process")
    if report.verdict == FAILED:
        pytest.fail(report.summary(), pytrace=False)
    print(report.summary())
