"""All checks of the conformance kit."""

from mmcore.testing import conformance_suite
from mmcore_depth import DepthModality

test_depth = conformance_suite(DepthModality(8))
