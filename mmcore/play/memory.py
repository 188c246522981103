"""What a server that runs for long does not keep."""

import ctypes
import platform

_MALLOPT = {-8: 2, -3: 4 * 2**20, -1: 4 * 2**20}
"""Of glibc's ``malloc.h``: ``M_ARENA_MAX``, for two questions at a time; ``M_MMAP_THRESHOLD`` and ``M_TRIM_THRESHOLD``, in bytes."""


def give_back() -> None:
    """Have large pieces of memory go back to the system as soon as they are freed, from now on in this process.

    By default glibc keeps them: for every few threads apart, and the more the larger one ever was. A page that is sent files grows by it.
    Of other C libraries nothing is changed.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOPT.items():
            mallopt(option, value)
