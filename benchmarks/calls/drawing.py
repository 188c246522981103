"""Examples of a strategy one after the other, by a seed alone."""

from collections.abc import Iterator
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def drawn(strategy: SearchStrategy[T], count: int, number: int) -> Iterator[T]:
    """At most so many different examples, drawn with a seed."""
    examples: list[T] = []

    @seed(number)
    # How fast a machine draws says nothing of what is drawn.
    @settings(max_examples=count, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=_SLOW)
    @given(strategy)
    def keep(example: T) -> None:
        examples.append(example)

    keep()
    yield from examples
