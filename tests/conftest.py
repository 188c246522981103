"""Shared by all tests: one thread, and examples that are the same in every run."""

import gc
import os

import hypothesis
import pytest
import torch

import mmcore
from mmcore import Registry

hypothesis.settings.register_profile("mmcore", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("mmcore")
torch.set_num_threads(1)
# Before CUDA starts, for the tests of runs that must repeat their bytes on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_finish() -> None:
    """What imports and collection have made stays to the end: no search for garbage, of which some checks of the kit make many, need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def registry() -> Registry:
    return mmcore.discover()
