"""Memory that a page has freed is the system's again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
from mmcore.play.memory import give_back

fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
told = type("Told", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in fields]})
library = ctypes.CDLL(None)
library.mallinfo2.restype = told
give_back()
for _ in range(3):
    del (large := [bytes(24 * 2**20)])[:]
    # As large as a photograph's pixels: apart from the heap, which keeps what lies below anything that stays.
    begun, photograph = library.mallinfo2().hblkhd, bytes(8 * 2**20)
    print((library.mallinfo2().hblkhd - begun) >> 20)
    del photograph
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed, and tells")
def test_large_pieces_lie_apart_however_large_one_was_before() -> None:
    """By default glibc takes all that is smaller than what was once freed from its heap, and these would be 0."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["8", "8", "8"]
