"""All checks of mmcore's conformance kit."""

from mmcore.testing import conformance_suite
from mmcore_profile import ProfileModality

test_profile = conformance_suite(ProfileModality())
