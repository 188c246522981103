"""``python -m benchmarks.paper.cost N [THREADS]``: a training step with N modalities, as JSON.

Processor time, and by how much the model, its rows and the steps raise the process's peak memory over that of the import.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import torch

import mmcore
from benchmarks.paper.runs import parameters
from mmcore.data import Table, TensorBatch

CHANNELS, SIDE, ROWS, STEPS = 16, 8, 64, 30


def main() -> None:
    """Take steps, and print."""
    n = int(sys.argv[1])
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    registry = mmcore.discover()
    before = _peak()
    modalities = [registry.modality("image", name=f"image{k}", channels=1, size=SIDE) for k in range(n)]
    options = {"width": 128, "depth": 3, "features": 16}
    model = mmcore.compose(
        modalities, space=(CHANNELS, SIDE, SIDE), backbone="mlp", backbone_options=options, registry=registry
    )
    rows = {m.name: m.typical(4 * ROWS, k) for k, m in enumerate(modalities)}
    table = Table(TensorBatch(rows, torch.ones(4 * ROWS, n, dtype=torch.bool)))
    ticks = [time.process_time()]
    mmcore.fit(
        model,
        table,
        steps=STEPS,
        batch_size=ROWS,
        device="cpu",
        quiet=True,
        watch=[lambda state, report: ticks.append(time.process_time())],
    )
    gaps = sorted(b - a for a, b in itertools.pairwise(ticks[5:]))
    print(
        json.dumps({"n": n, "parameters": parameters(model), "ms": 1000 * gaps[len(gaps) // 2], "mb": _peak() - before})
    )


def _peak() -> float:
    """Of this process's memory up to now, in MB; Linux's own word, as ``getrusage`` begins with that of the process it was started by."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
