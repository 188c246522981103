"""All checks of the conformance kit, in several settings."""

from mmcore.testing import conformance_suite
from mmcore_scalar import ScalarModality

test_plain = conformance_suite(ScalarModality(), name="plain")
test_vector = conformance_suite(ScalarModality(3, mean=[40, 1.5, -3e4], std=[12, 0.02, 500]), name="vector")
test_limits = conformance_suite(ScalarModality(low=0, high=120, mean=41, std=18), name="limits")
test_heavy = conformance_suite(ScalarModality(tail="student", mean=100, std=30), name="heavy-tailed")
test_heavy_limits = conformance_suite(
    ScalarModality(tail="student", low=0, mean=30, std=20), name="heavy-tailed limits"
)
test_count = conformance_suite(ScalarModality(kind="count", mean=6, std=3), name="count")
test_stars = conformance_suite(ScalarModality(kind="count", low=1, high=5, mean=3.8, std=1.1), name="stars")
test_log = conformance_suite(ScalarModality(log=True, mean=5, std=1.2), name="log")
