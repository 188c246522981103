"""Whatever ``sample`` is called with, it refuses in one line or answers by the laws (``benchmarks.calls`` tries thousands)."""

import pytest

from benchmarks.calls import JUNK, Caller, fault, faults, models


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
