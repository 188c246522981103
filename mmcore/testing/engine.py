"""The engine: it plans which checks a plugin gets, runs them, and judges. pytest and the command line share it."""

import random
import time
import traceback
from collections.abc import Callable, Collection
from typing import Any, Self

import attrs
import numpy as np
import torch

import mmcore
from mmcore.errors import RequestError
from mmcore.hooks import Made
from mmcore.modality.base import Modality
from mmcore.testing import (  # noqa: F401  (importing them fills the table)
    checks_answers,
    checks_axes,
    checks_backbone,
    checks_calibration,
    checks_calls,
    checks_cast,
    checks_control,
    checks_decoder,
    checks_draws,
    checks_embedder,
    checks_encoder,
    checks_engine,
    checks_entry,
    checks_guidance,
    checks_joint,
    checks_loss,
    checks_outside,
    checks_own,
    checks_place,
    checks_process,
    checks_sampled,
    checks_sampler,
    checks_schedule,
    checks_source,
    checks_state,
    checks_stream,
    checks_tracked,
    checks_tracker,
    checks_transform,
    checks_undo,
    checks_weights,
)
from mmcore.testing.check import CHECKS, KINDS, PROFILES, Check, Failure, NotRun, Profile
from mmcore.testing.context import Context
from mmcore.testing.optouts import OptOuts, Tolerance
from mmcore.testing.reference import Reference
from mmcore.testing.report import Report, Result
from mmcore.testing.requirements import required
from mmcore.testing.snippet import command, literal, snippet
from mmcore.testing.surroundings import put_back

ORDER = ("entry", "spec", "read", "show", "metrics", "calibration", "control", "encoder", "decoder", "expected_code", "own", "loss", "state", "dtype", "device", "engine", "roles", "learn")  # fmt: skip
"""The groups of a modality's checks, from what is simple to what rests on it."""


def ordered(kind: str) -> list[Check]:
    """The checks of a kind, in the order in which they run."""
    mine = [check for check in CHECKS.values() if check.kind == kind]
    group = {check.id: check.id.partition(".")[0] for check in mine}
    return sorted(mine, key=lambda check: ORDER.index(group[check.id]) if group[check.id] in ORDER else 0)


@attrs.frozen(eq=False)
class Case:
    """One check in one dtype on one device."""

    check: Check
    dtype: str
    device: str

    @property
    def id(self) -> str:
        """``group.name[dtype-device]``."""
        return f"{self.check.id}[{self.dtype}-{self.device}]"


@attrs.frozen(eq=False)
class Plan:
    """A plugin, and the checks that it gets.

    Attributes:
        thing: a modality, or what makes a plugin of that kind.
        kind: of plugin.
        name: in ids and reports.
        profile: how much work to do.
        seed: of everything random.
        opt_outs: what is excused.
        cases: the checks, in order.
        planned: how many there are when none is left out.
    """

    thing: Any
    kind: str
    name: str
    profile: Profile
    seed: int
    opt_outs: OptOuts
    cases: tuple[Case, ...]
    planned: int

    @classmethod
    def make(
        cls,
        thing: Any,
        *,
        kind: str | None = None,
        name: str | None = None,
        profile: str = "quick",
        seed: int = 0,
        opt_outs: OptOuts | None = None,
        only: Collection[str] = (),
    ) -> Self:
        """The plan for a plugin; arguments and errors as :func:`run`."""
        kind = kind or ("modality" if isinstance(thing, Modality) else None)
        if isinstance(thing, type) and issubclass(thing, Modality):
            raise RequestError(
                f"conformance: found the class {thing.__name__}, expected a modality: {thing.__name__}(…)"
            )
        if kind is None:
            raise RequestError(
                f"conformance: found {thing!r}, expected a mmcore.Modality, or kind= one of {', '.join(KINDS[1:])} "
                "with what makes it"
            )
        if kind not in KINDS:
            raise RequestError(f"conformance: kind {kind!r}, expected one of {', '.join(KINDS)}")
        if kind == "modality" and not isinstance(thing, Modality):
            raise RequestError(f"conformance: found {thing!r}, expected a mmcore.Modality")
        if kind != "modality" and not callable(thing):
            raise RequestError(f"conformance: found {thing!r}, expected what makes a {kind}: a class or a function")
        if profile not in PROFILES:
            raise RequestError(f"conformance: profile {profile!r}, expected one of {', '.join(PROFILES)}")
        opt_outs = opt_outs or OptOuts()
        _check_opt_outs(opt_outs, kind)
        everything = [
            Case(check, dtype, device) for check in ordered(kind) for dtype in check.dtypes for device in check.devices
        ]
        cases = [case for case in everything if not only or not {case.id, case.check.id}.isdisjoint(only)]
        known = {text for case in everything for text in (case.id, case.check.id)}
        if wrong := [text for text in only if text not in known]:
            raise RequestError(f"conformance: no check {wrong[0]!r} for a {kind}; there are {_ids(kind)}")
        made = getattr(thing, "made", None)
        default = getattr(thing, "__name__", kind)
        if isinstance(thing, Modality):
            default = thing.name
        elif isinstance(made, Made):
            default = made.offer
        return cls(thing, kind, name or str(default), PROFILES[profile], seed, opt_outs, tuple(cases), len(everything))

    def tolerance(self, case: Case) -> float | None:
        """What counts as equal: the last fitting opt-out's number, or the check's own."""
        value = case.check.tolerance
        for opt in self.opt_outs.tolerances:
            if opt.check == case.check.id and opt.dtype in (None, case.dtype) and opt.device in (None, case.device):
                value = opt.value
        return value

    def execute(self, case: Case, replay: str = "", before: Collection[Result] = ()) -> Result:
        """Run one check; nothing that the plugin raises gets out, but for an interrupt.

        An exception that is not needed is told with the last of the check's cases, once every other one of ``before`` passed too.
        """
        started = time.monotonic()
        tolerance = self.tolerance(case)
        context = Context(
            self.thing,
            case.check,
            self.profile,
            self.seed,
            getattr(torch, case.dtype),
            torch.device(case.device),
            0.0 if tolerance is None else tolerance,
        )
        finding, raised, reason = _put(case, context)
        check = case.check if required(self.kind, case.check.id) else attrs.evolve(case.check, level="provisional")
        result = Result(case.id, check, case.dtype, case.device, "passed", 0.0, tolerance=tolerance, reason=reason)
        if raised and finding is not None and self._kit_fails(case, context):
            reason, status = f"the kit fails here with any plugin: {finding.found}", "kit error"
            return attrs.evolve(result, status=status, reason=reason, seconds=round(time.monotonic() - started, 4))
        status = "not run" if reason else "passed" if finding is None else "failed"
        # What fails in one dtype may well work in another.
        passed = {r.id for r in before if r.check.id == case.check.id and r.status == "passed"} | {case.id}
        needless = status == "passed" and len(passed) == len(case.check.dtypes) * len(case.check.devices)
        for opt in self.opt_outs.unsupported:
            if opt.check == case.check.id and raised:
                status, reason, finding = "unsupported", opt.reason, None
            elif opt.check == case.check.id and (needless or status == "failed"):
                what = "a wrong answer" if status == "failed" else "the capability, and it works"
                status, finding = "failed", Failure(what, f"an error, as it is declared unsupported ({opt.reason})")
        for opt in self.opt_outs.known_failures:
            if opt.check == case.check.id and status == "failed":
                status, reason = "known failure", f"{opt.reason} (until {opt.until})"
            elif opt.check == case.check.id and needless:
                # What is mended and still listed would hide the next time that it breaks.
                status = "failed"
                finding = Failure(
                    f"a known failure ({opt.reason}) that passes now", "no entry for it: drop the opt-out"
                )
        result = attrs.evolve(result, status=status, reason=reason, seconds=round(time.monotonic() - started, 4))
        if finding is None:
            return result
        shown = {name: _short(value) for name, value in finding.inputs.items()}
        how = (self.kind, case.id, self.profile.name, self.seed)
        return attrs.evolve(
            result,
            found=finding.found,
            expected=finding.expected,
            input="\n".join(f"{name} = {text}" for name, text in shown.items()),
            snippet=snippet(self.thing, *how, finding.inputs, finding.code),
            replay=replay or command(self.thing, self.kind, self.name, *how[1:]),
        )

    def _kit_fails(self, case: Case, context: Context) -> bool:
        """Whether the check ends in an error with the kit's own healthy modality too: then it is no fault of the plugin's."""
        if self.kind != "modality":
            return False
        _, raised, _ = _put(case, attrs.evolve(context, thing=Reference(), failure=None, inputs={}, clipped=0.0))
        return raised

    def report(self, results: Collection[Result]) -> Report:
        """The report of these results."""
        made: Made | None = getattr(self.thing, "made", None)
        how = None
        if isinstance(made, Made):
            how = {"offer": made.offer, "distribution": made.distribution, "version": made.version, "options": made.options}  # fmt: skip
        return Report(
            self.kind, self.name, how, self.profile.name, self.seed, self.opt_outs, self.planned, tuple(results)
        )


def run(
    thing: Any,
    *,
    kind: str | None = None,
    name: str | None = None,
    profile: str = "quick",
    seed: int = 0,
    opt_outs: OptOuts | None = None,
    only: Collection[str] = (),
    watch: Callable[[Result], None] | None = None,
) -> Report:
    """Run a plugin's checks.

    Args:
        thing: a :class:`mmcore.Modality`; or, with ``kind``, what makes a plugin of that kind.
        kind: ``"modality"``, or another of ``mmcore.testing.check.KINDS``: ``"backbone"``, ``"sampler"`` …
        name: in the report; by default the plugin's own.
        profile: ``"quick"``, ``"ci"`` or ``"deep"``.
        seed: of everything random.
        opt_outs: what is excused; required core checks cannot be.
        only: ids of checks, with or without ``[dtype-device]``; by default all. The verdict is then ``incomplete``.
        watch: called with each result.

    Raises:
        RequestError: a thing that is no plugin of the kind, an unknown id or profile, an opt-out that is not allowed.
    """
    plan = Plan.make(thing, kind=kind, name=name, profile=profile, seed=seed, opt_outs=opt_outs, only=only)
    results: list[Result] = []
    for case in plan.cases:
        result = plan.execute(case, before=results)
        results.append(result)
        if watch is not None:
            watch(result)
    return plan.report(results)


def _put(case: Case, context: Context) -> tuple[Failure | None, bool, str]:
    """The finding, whether it was an error that the plugin raised, and why the check was not run."""
    if case.device == "cuda" and not torch.cuda.is_available():
        return None, False, "there is no GPU here"
    # Whatever the plugin does to global randomness stays inside, and starts the same.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with put_back(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            np.random.seed(context.seed % 2**32)  # noqa: NPY002
            random.seed(context.seed)
            case.check.run(context)
    except NotRun as error:
        return None, False, str(error)
    except Failure as failure:
        return failure, False, ""
    # BaseException: Hypothesis's groups, and a plugin's SystemExit.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if context.failure is not None and type(error).__module__.startswith("hypothesis"):
            return context.failure, False, ""
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:500]
        found = f"{type(error).__name__}: {text} (raised in {last.name}, {last.filename}:{last.lineno})"
        return Failure(found, "no error", **context.inputs), True, ""
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    return None, False, ""


def _short(value: Any) -> str:
    """A value for the eye; the snippet has it in full."""
    if isinstance(value, torch.Tensor) and value.numel() > 24 and value.unique().numel() > 1:
        return f"{tuple(value.shape)} in {value.dtype}, {value.min().item():.4g} … {value.max().item():.4g}"
    return literal(value) or repr(value)


def _ids(kind: str) -> str:
    return ", ".join(check.id for check in ordered(kind))


def _check_opt_outs(opt_outs: OptOuts, kind: str) -> None:
    for opt in opt_outs.all():
        check = CHECKS.get(opt.check)
        if check is None or check.kind != kind:
            raise RequestError(f"opt-out: no check {opt.check!r} for a {kind}; there are {_ids(kind)}")
        if isinstance(opt, Tolerance):
            if not check.tolerance:
                raise RequestError(f"opt-out: {opt.check} has no tolerance to change")
            if not 0 < opt.value < float("inf") or (check.core and opt.value > 10 * check.tolerance):
                most = f" … {10 * check.tolerance:g}, as it is a core check" if check.core else ""
                raise RequestError(f"opt-out: {opt.check}: tolerance {opt.value}, expected one above 0{most}")
        elif check.core:
            raise RequestError(f"opt-out: {opt.check} is a required core check, which no plugin can do without")
    for opt in opt_outs.known_failures:
        if _version(mmcore.__version__) >= _version(opt.until):
            raise RequestError(
                f"opt-out: {opt.check}: its known failure was excused until {opt.until}, and this is {mmcore.__version__}"
            )


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isdigit() for part in parts):
        raise RequestError(f"opt-out: version {text!r}, expected numbers with dots, such as 0.3")
    return tuple(map(int, parts))
