"""A column that says no more than that it is to be predicted may be classes or numbers: its values decide, or the user is asked."""

from collections.abc import Callable

import pytest

from mmcore.config.column import Column, Question
from mmcore.config.labels import column

INSTALLED = ["label", "scalar"]
PROGRESSION = [37 + (k * k * 7) % 310 for k in range(376)]
"""Whole numbers of a quantity: spread, few of them twice or more."""


@pytest.mark.parametrize("name", ["target", "y", "answer", "targets"])
def test_what_is_to_be_predicted_may_be_a_number(name: str) -> None:
    """Such as the progression of diabetes, 25 … 346: not 199 classes without a word, and not left out either."""
    found = column(name, PROGRESSION, {}, INSTALLED)
    assert isinstance(found, Question)
    assert set(found.choices) == {f"{name}=label", f"{name}=scalar", f"{name}=none"}
    found = column(name, PROGRESSION, {"": "scalar"}, INSTALLED)
    assert isinstance(found, Column)
    assert found.plugin == "scalar"
    # Prices, all different.
    found = column(name, [100_000 + 37 * k for k in range(400)], {}, INSTALLED)
    assert isinstance(found, Question)


@pytest.mark.parametrize(
    "values",
    [
        lambda k: k % 10,  # digits
        lambda k: k % 100,  # as CIFAR-100's
        lambda k: 1 + k % 5,  # ratings
        lambda k: [3, 17, 40][k % 3],
    ],
)
def test_classes_are_still_classes(values: Callable[[int], int]) -> None:
    numbers = [values(k) for k in range(400)]
    found = column("target", numbers, {}, INSTALLED)
    assert isinstance(found, Column)
    assert found.plugin == "label"
    assert found.options["classes"] == len(set(numbers))


def test_a_name_that_says_classes_is_believed() -> None:
    found = column("label", PROGRESSION, {}, INSTALLED)
    assert isinstance(found, Column)
    assert found.options["names"] == [str(number) for number in sorted(set(PROGRESSION))]
