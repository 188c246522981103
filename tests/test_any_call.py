"""Whatever public functions and commands are called with, they refuse in one line or answer by the laws (``benchmarks.calls`` tries thousands)."""

import random
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


def _refuses(text: str) -> None:
    raise RequestError(text)


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
