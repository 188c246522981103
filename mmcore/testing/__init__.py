"""The conformance kit: what every plugin owes, as checks that anyone can run.

One line in a plugin's own tests runs them all under pytest::

    from mmcore.testing import conformance_suite
    test_audio = conformance_suite(AudioModality(rate=8000, seconds=1))

:func:`run` and ``mmcore check NAME`` run the same checks by the same engine without pytest.
"""

from typing import TYPE_CHECKING

from mmcore._lazy import lazily

if TYPE_CHECKING:
    from mmcore.testing.check import CHECKS, Check, Failure, NotRun, Profile
    from mmcore.testing.engine import Case, Plan, run
    from mmcore.testing.optouts import KnownFailure, OptOuts, Tolerance, Unsupported
    from mmcore.testing.report import Report, Result, schema
    from mmcore.testing.suite import conformance_suite

_WHERE = {
    # By the engine: the table is full only once the modules that fill it are imported.
    "CHECKS": "engine",
    "Case": "engine",
    "Check": "engine",
    "Failure": "check",
    "KnownFailure": "optouts",
    "NotRun": "check",
    "OptOuts": "optouts",
    "Plan": "engine",
    "Profile": "check",
    "Report": "report",
    "Result": "report",
    "Tolerance": "optouts",
    "Unsupported": "optouts",
    "conformance_suite": "suite",
    "run": "engine",
    "schema": "report",
}

__all__ = [
    "CHECKS",
    "Case",
    "Check",
    "Failure",
    "KnownFailure",
    "NotRun",
    "OptOuts",
    "Plan",
    "Profile",
    "Report",
    "Result",
    "Tolerance",
    "Unsupported",
    "conformance_suite",
    "run",
    "schema",
]

__getattr__ = lazily(__name__, _WHERE)
