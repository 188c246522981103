"""Whatever public functions and commands are called with, they refuse in one line or answer by the laws (``benchmarks.calls`` tries thousands)."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmcore
from benchmarks.calls import commands
from benchmarks.calls.drawing import drawn
from benchmarks.calls.functions import Subjects, calls
from benchmarks.calls.laws import Call, ended, place
from benchmarks.calls.odd import Nothing, made
from benchmarks.calls.questions import JUNK, Caller, fault, faults, models
from mmcore import RequestError

# ---- sample ----


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_are_refused_or_right(seed: int) -> None:
    found = [f"{text}: {asked}" for text, asked in faults(120, seed)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "option",
    ["n", "given", "where", "absent", "conditioning", "guidance", "start", "strength", "sampler", "steps", "spacing", "eta", "codes", "draw", "seed", "numbers", "batch_size"],
)  # fmt: skip
def test_no_junk_in_any_argument_is_an_error_of_another_kind(option: str) -> None:
    model = models()[0]
    for junk in JUNK:
        caller = Caller(0)
        asked = {"n": 2, "given": {}, "steps": 2, option: junk}
        text = fault(model, caller, asked, right=False)
        assert not text, f"{option} = {junk!r}: {text}"


@pytest.mark.parametrize("sampler", ["auto", "ddim", "2m"])
@pytest.mark.parametrize("steps", [range(10**12), range(10**12, 0, -1)])
def test_timesteps_without_end_are_refused_at_once(sampler: str, steps: range) -> None:
    with pytest.raises(RequestError, match=r"steps = range\(.*expected decreasing whole numbers"):
        mmcore.sample(models()[0], 1, sampler=sampler, steps=steps)


# ---- the other functions ----


@pytest.fixture(scope="module")
def around() -> Iterator[Path]:
    with place() as folder:
        yield folder


@pytest.fixture(scope="module")
def subjects(around: Path) -> Subjects:
    return Subjects(around)


@pytest.mark.parametrize("name", Subjects.NAMES)
def test_random_calls_of_a_function_are_refused_or_right(name: str, subjects: Subjects, around: Path) -> None:
    for call in drawn(calls(subjects.named(name)), 8, 0):
        found = ended(call, around)
        assert not found.fault, f"{found.fault}: {call}"


@pytest.mark.parametrize("name", Subjects.NAMES)
def test_what_is_right_is_answered(name: str, subjects: Subjects, around: Path) -> None:
    """Else nothing would be tried but refusals."""
    subject = subjects.named(name)
    assert {*subject.right} <= {*subject.annotations}
    assert {*subject.needed} <= {*subject.right}
    arguments = {argument: subject.right[argument][0] for argument in subject.needed}
    call = Call(name, subject.function, arguments, (), subject.told, subject.writes, subject.changes)
    found = ended(call, around)
    assert (found.fault, found.refusal) == ("", "")


@pytest.mark.parametrize("name", Subjects.NAMES)
def test_every_argument_refuses_what_is_no_such_thing_by_its_name(name: str, subjects: Subjects) -> None:
    subject = subjects.named(name)
    for argument in subject.annotations:
        given = {one: made(subject.right[one][0]) for one in subject.needed}
        with pytest.raises(RequestError) as refused:
            subject.told(subject.function(**{**given, argument: Nothing()}))
        assert argument in str(refused.value), f"{argument}: {refused.value}"
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("compose", {"seed": 10**30}, "compose: seed = 10{30}, expected a whole number from -2⁶³ to 2⁶⁴ - 1"),
        ("compose", {"backbone_options": "label"}, "compose: backbone_options = 'label', expected a mapping"),
        ("extend", {"gains": iter([1])}, "extend: gains = <.*>, expected a list of numbers"),
        ("evaluate", {"model": "x"}, "evaluate: model = 'x', expected a JointModel"),
        ("evaluate", {"draws": 3}, "evaluate: draws = 3, expected an even number of at least 2"),
        ("evaluate", {"draws": 2**31 - 2}, "evaluate: draws = .*MMCORE_MOST_BATCH raises the limit"),
        ("evaluate", {"batch_size": 0}, "evaluate: batch_size = 0, expected a whole number of at least 1 and below 2³¹"),
        ("report", {"stps": 3}, "metrics: stps is no option of sampling, expected some of .*; did you mean 'steps'\\?"),
        ("report", {"given": {}}, "metrics: given is no option of sampling, expected some of .*"),
        ("report", {"resamples": 2.0}, "report: resamples = 2.0, expected a whole number"),
        ("calibration", {"resamples": 1}, "metrics: resamples = 1, expected a whole number of at least 2 and below 2³¹"),
        ("calibration", {"draws": torch.zeros(2, 2)}, r"calibration: draws = tensor\(.*\), expected a whole number"),
        ("load", {"device": "Label"}, "device 'Label' cannot be used: .*"),
        ("load", {"device": "x" * 10**5}, "device 'x*… cannot be used: .*"),
        ("load", {"folder": "a\0b"}, r"load: folder = 'a\\x00b', expected a path"),
        ("load", {"tasks": torch.zeros(0)}, "load: tasks is a Tensor, expected objects by their names"),
        ("save", {"tensors": {}}, "save: the tensors given are not the model's: .*: none given, float64 .* in the model.*"),
        ("save", {"tensors": {"w": np.zeros(2)}}, r"save: tensors\['w'\] is array\(.*\), expected a tensor"),
        ("save", {"tensors": {"w": torch.zeros(2, device="meta")}}, "save: .* is a tensor on the device meta, .*"),
        ("load", {"folder": Path("x" * 300)}, "load: folder = PosixPath\\('x*…, expected a path"),
        ("predict", {"data": "x" * 300}, "rows: data = 'x*…, expected a path"),
        ("predict", {"draws": 2**31 - 1}, "predict: draws = .*MMCORE_MOST_BATCH raises the limit"),
        ("predict", {"columns": "label"}, "predict: columns = 'label', expected a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_what_can(name: str, changes: dict[str, Any], said: str, subjects: Subjects, around: Path) -> None:  # fmt: skip
    subject = subjects.named(name)
    given = {one: subject.right[one][0] for one in subject.needed} | changes
    found = ended(Call(name, subject.function, given, (), subject.told, subject.writes, subject.changes), around)
    assert not found.fault
    assert re.fullmatch(said, found.refusal), found.refusal


def test_numbers_of_other_kinds_are_the_same_numbers(subjects: Subjects) -> None:
    fit, evaluate = subjects.fit(), subjects.evaluate()
    given = {one: fit.right[one][0] for one in fit.needed}
    one, other = (fit.told(mmcore.fit(**made(given), betas=betas)) for betas in ([0, 0.5], (0.0, 0.5)))
    assert all(torch.equal(x, other[name]) for name, x in one.items() if isinstance(x, torch.Tensor))
    asked = {"model": subjects.model, "rows": subjects.table}
    whole = [evaluate.told(mmcore.evaluate(**asked, draws=n, batch_size=n)) for n in (2, np.int64(2))]
    assert whole[0] == whole[1]


# ---- the command line ----


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    with commands.workshop() as folder:
        yield folder


def test_random_commands_end_as_commands_do(workshop: Path) -> None:
    for case in drawn(commands.lines(), 25, 0):
        found = commands.ended(case, workshop)
        assert not found.fault, f"{found.fault}: {case.command}"


# ---- what the laws see ----


class RawError(RequestError):
    """As mmcore's own would be if they did not see to their text."""

    def __str__(self) -> str:
        return self.args[0]


def _refuses(text: str) -> None:
    raise RawError(text)


def _appends(values: list[int]) -> None:
    values.append(1)


def _writes(path: str, *, then: str = "") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("1")
    if then:
        raise RequestError(then)


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        (lambda: 1 / 0, {}, "ZeroDivisionError: division by zero"),
        (lambda: _refuses("one\ntwo"), {}, "a refusal of 2 lines and 7 characters"),
        (lambda: _refuses("a\x1bb"), {}, "a refusal that is no plain text"),
        (lambda: _refuses("x" * 5000), {}, "a refusal of 1 lines and 5000 characters"),
        (_appends, {"values": [1]}, "values was changed"),
        (lambda x: x.add_(1), {"x": torch.zeros(2)}, "x was changed"),
        (lambda: torch.rand(1), {}, "a global generator was used"),
        (random.random, {}, "a global generator was used"),
        (lambda: np.random.rand(), {}, "a global generator was used"),  # noqa: NPY002
        (lambda: _writes("elsewhere"), {}, "elsewhere was written"),
        (lambda out: _writes("out/x", then="no"), {"out": "out"}, "was written before it was refused"),
        (lambda: print("\x1b[2J"), {}, "printed"),
        (lambda: float("nan"), {}, "answer is not finite"),
        (lambda: torch.tensor([1.0, float("inf")]), {}, "answer is not finite"),
        (lambda: id(object()) + random.SystemRandom().random(), {}, "another answer in a second call"),
        (lambda batch_size=500: float(batch_size), {}, "in batches of 1: answer"),
    ],
)  # fmt: skip
def test_a_broken_law_is_seen(function: Callable[..., Any], arguments: dict[str, Any], told: str, around: Path) -> None:
    def numbers(answer: Any) -> dict[str, Any]:
        return {"answer": answer}

    call = Call("it", function, arguments, (), numbers, "out", batched="batches" in told)
    assert told in ended(call, around).fault


def test_what_keeps_the_laws_is_right(around: Path) -> None:
    def numbers(answer: Any) -> dict[str, Any]:
        return {"answer": answer}

    for function, arguments in ((lambda: 1.5, {}), (lambda out: _writes(f"{out}/x"), {"out": "deep/er"})):
        assert ended(Call("it", function, arguments, (), numbers, "out"), around).fault == ""
    assert ended(Call("it", lambda: _refuses("no"), {}, (), numbers), around).refusal == "no"
