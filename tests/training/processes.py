"""Several processes that train together, forked from this one so that nothing is imported again."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist


def ranks(count: int, work: Callable[[int], object], *, limit: float = 60.0) -> list[int]:
    """Call ``work(rank)`` in as many processes under gloo; their exit codes.

    A process that returns exits with 0, one that raises prints its error and exits with 1; one that is killed has the signal's
    negative number.
    """
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                _work(rank, count, Path(folder) / "store", work, limit)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _work(rank: int, count: int, store: Path, work: Callable[[int], object], limit: float) -> None:
    code = 1
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=timedelta(seconds=limit)
        )
        work(rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Neither the parent's exit handlers nor its tests belong to this process.
        os._exit(code)
