"""Results: what a run found, for a person, as JSON, and as a badge."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs

import mmcore
from mmcore import files as door
from mmcore.plugins import GROUP
from mmcore.testing.check import Check
from mmcore.testing.optouts import OptOuts

STATUSES = ("passed", "failed", "not run", "unsupported", "known failure", "kit error")
FULL, SUBSTANTIAL, NONE = "full", "substantial", "none"
CONFORMANT, EXCEPTIONS, FAILED, INCOMPLETE = "conformant", "conformant with exceptions", "failed", "incomplete"


@attrs.frozen(eq=False)
class Result:
    """What one check found in one dtype on one device.

    Attributes:
        id: ``group.name[dtype-device]``.
        check: the rule.
        dtype: of real values.
        device: of tensors.
        status: one of ``STATUSES``.
        seconds: it took.
        reason: why it was not run, or why its failure is excused.
        found: what the plugin did.
        expected: what the rule asks for.
        input: the shrunk input, as Python.
        snippet: a program that shows the failure.
        replay: a command that runs this check again.
        tolerance: what counted as equal.
    """

    id: str
    check: Check
    dtype: str
    device: str
    status: str
    seconds: float
    reason: str = ""
    found: str = ""
    expected: str = ""
    input: str = ""
    snippet: str = ""
    replay: str = ""
    tolerance: float | None = None

    def explain(self) -> str:
        """The failure in words: id, rule, input, found, expected, snippet and replay command."""
        lines = [f"{self.id}: {self.check.rule}"]
        for name in ("input", "found", "expected"):
            if text := getattr(self, name):
                lines.append(f"  {name + ':':10}" + text.replace("\n", "\n" + " " * 12))
        if self.snippet:
            lines += ["  see it by itself:", *(f"      {line}" for line in self.snippet.splitlines())]
        if self.replay:
            lines.append(f"  run it again:  {self.replay}")
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """As plain values."""
        fields = ("id", "dtype", "device", "status", "seconds", "reason", "found", "expected", "input", "snippet", "replay", "tolerance")  # fmt: skip
        own = {name: getattr(self, name) for name in fields}
        return own | {"check": self.check.id, "rule": self.check.rule, "level": self.check.level, "since": self.check.since}  # fmt: skip


@attrs.frozen(eq=False)
class Report:
    """All results of one run.

    Attributes:
        kind: of the plugin.
        name: of the plugin.
        made: distribution, version and options, where a registry made it.
        profile: the profile's name.
        seed: of the run.
        opt_outs: what was excused.
        planned: how many checks there are for this kind of plugin.
        results: one per check, dtype and device.
    """

    kind: str
    name: str
    made: dict[str, Any] | None
    profile: str
    seed: int
    opt_outs: OptOuts
    planned: int
    results: tuple[Result, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many results there are of each status."""
        return {status: sum(r.status == status for r in self.results) for status in STATUSES}

    @property
    def failures(self) -> list[Result]:
        """The failed checks, provisional ones too."""
        return [r for r in self.results if r.status == "failed"]

    @property
    def executed(self) -> int:
        """How many required checks came to a finding of their own."""
        return sum(r.check.level == "required" and r.status in ("passed", "failed") for r in self.results)

    @property
    def verdict(self) -> str:
        """``conformant``, ``conformant with exceptions``, ``failed``, or ``incomplete`` where only some checks were asked for, or the kit itself failed."""
        required = [r for r in self.failures if r.check.level == "required"]
        # Nothing that was never put to the test can pass.
        if required or self.executed == 0:
            return FAILED
        if len(self.results) < self.planned or self.counts["kit error"]:
            return INCOMPLETE
        return EXCEPTIONS if self.opt_outs.all() or self.failures else CONFORMANT

    @property
    def tier(self) -> str:
        """``full`` where every required check that ran passed, ``substantial`` where all core ones did and four fifths of the rest, else ``none``.

        What is excused counts as not passed.
        """
        counted = [r for r in self.results if r.check.level == "required" and r.status not in ("not run", "kit error")]
        core, rest = ([r.status == "passed" for r in counted if r.check.core == own] for own in (True, False))
        if not core or not all(core):
            return NONE
        return FULL if all(rest) else SUBSTANTIAL if 5 * sum(rest) >= 4 * len(rest) else NONE

    def summary(self) -> str:
        """The verdict with its counts, in one line."""
        counted = ", ".join(f"{n} {status}" for status, n in self.counts.items() if n)
        return f"{self.name}: {self.verdict} ({counted or 'no check ran'}; of {self.planned}; {self.executed} required)"

    def json(self) -> dict[str, Any]:
        """As plain values, in the form of :func:`schema`."""
        return {
            "schema": 1,
            "kit_version": mmcore.__version__,
            "api_major": int(GROUP.rpartition(".v")[2]),
            "plugin": {"kind": self.kind, "name": self.name, "made": self.made},
            "profile": self.profile,
            "seed": self.seed,
            "dtypes": sorted({r.dtype for r in self.results}),
            "devices": sorted({r.device for r in self.results}),
            "tolerances": {r.id: r.tolerance for r in self.results if r.tolerance is not None},
            "opt_outs": json.loads(json.dumps(attrs.asdict(self.opt_outs))),
            "verdict": self.verdict,
            "tier": self.tier,
            "planned": self.planned,
            "required_executed": self.executed,
            "counts": self.counts,
            "checks": [r.json() for r in self.results],
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON report."""
        door.write(path, (json.dumps(self.json(), indent=2, default=str) + "\n").encode(), follow=True)

    def badge(self, path: str | Path) -> None:
        """Write the verdict as an SVG badge."""
        label, text = "mmcore", self.verdict
        colour = {CONFORMANT: "#2e7d32", EXCEPTIONS: "#9a6700", FAILED: "#b3261e"}.get(self.verdict, "#555555")
        a, b = 7 * len(label) + 12, 7 * len(text) + 12
        picture = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img" aria-label="{label}: {text}">'
            f'<title>{label}: {text}</title><rect width="{a}" height="20" fill="#444444"/>'
            f'<rect x="{a}" width="{b}" height="20" fill="{colour}"/>'
            '<g fill="#ffffff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
            f'<text x="{a / 2}" y="14">{label}</text><text x="{a + b / 2}" y="14">{text}</text></g></svg>\n'
        )
        door.write(path, picture.encode(), follow=True)


def schema() -> dict[str, Any]:
    """The JSON schema of a report."""
    return json.loads(files("mmcore.testing").joinpath("report.schema.json").read_text(encoding="utf-8"))
