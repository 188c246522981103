"""All checks of the conformance kit."""

from mmcore.testing import conformance_suite
from mmcore_text import TextModality

test_text = conformance_suite(TextModality(8, words=["one", "two", "three", "four", "and"]))
