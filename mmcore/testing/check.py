"""What a check is, and the table of all checks."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

KINDS = ("modality", "backbone", "schedule", "source", "sampler", "guidance", "transform", "tracker", "embedder")
LEVELS = ("required", "provisional")


class Failure(Exception):  # noqa: N818
    """A check's finding: the plugin breaks the rule.

    Attributes:
        found: what the plugin did.
        expected: what the rule asks for.
        inputs: the values that it did it with, by the names used in ``code``.
        code: lines that show it, given the plugin as ``modality`` (or ``make``) and the inputs.
    """

    def __init__(self, found: str, expected: str, *, code: str = "", **inputs: Any) -> None:
        super().__init__(f"found {found}, expected {expected}")
        self.found, self.expected, self.code = found, expected, code
        self.inputs: Mapping[str, Any] = inputs


class NotRun(Exception):  # noqa: N818
    """The rule cannot be put to this plugin, or not on this machine; never the same as passing."""


@attrs.frozen(eq=False)
class Check:
    """One rule, and the function that puts it to a plugin.

    Attributes:
        id: ``group.name``.
        rule: what is asked, in one sentence.
        fault: a plugin fault that fails it.
        run: raises :class:`Failure` or :class:`NotRun`, or returns.
        kind: of plugin, one of ``KINDS``.
        since: the version of mmcore that it came in.
        level: ``required``, or ``provisional``: told, but without a say in the verdict.
        core: whether it can never be opted out of.
        dtypes: it is run in each.
        devices: it is run on each.
        tolerance: what counts as equal, where the rule needs a number.
        false_alarm: of a check by samples, how likely a healthy plugin fails it at a random seed.
    """

    id: str
    rule: str
    fault: str
    run: Callable[[Any], None]
    kind: str = attrs.field(default="modality", validator=attrs.validators.in_(KINDS))
    since: str = "0.1.0"
    level: str = attrs.field(default="required", validator=attrs.validators.in_(LEVELS))
    core: bool = True
    dtypes: tuple[str, ...] = ("float32",)
    devices: tuple[str, ...] = ("cpu",)
    tolerance: float | None = None
    false_alarm: str | None = None


CHECKS: dict[str, Check] = {}
"""All checks by id, in the order in which they run."""


def check(id: str, fault: str, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: A002
    """Enter a function into the table; its docstring's first paragraph is the rule."""

    def enter(run: Callable[..., None]) -> Callable[..., None]:
        rule = " ".join((run.__doc__ or "").split("\n\n")[0].split())
        assert rule.endswith("."), f"{id} has no rule"
        assert id not in CHECKS, f"two checks are called {id}"
        CHECKS[id] = Check(id, rule, fault, run, **options)
        return run

    return enter


@attrs.frozen
class Profile:
    """How much work a run may do.

    Attributes:
        name: what it is asked for by.
        examples: of a property.
        draws: of an estimate by Monte Carlo.
        steps: of the short training.
    """

    name: str
    examples: int
    draws: int
    steps: int


PROFILES = {
    p.name: p
    for p in (Profile("quick", 10, 4000, 150), Profile("ci", 60, 20_000, 400), Profile("deep", 500, 100_000, 1500))
}
"""``quick`` while writing, ``ci`` before a release, ``deep`` overnight."""
