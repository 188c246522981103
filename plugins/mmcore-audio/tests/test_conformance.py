"""All checks of the conformance kit."""

from mmcore.testing import conformance_suite
from mmcore_audio import AudioModality

test_waves = conformance_suite(AudioModality(rate=2000, seconds=0.016), name="waves")
