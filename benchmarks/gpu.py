"""The engine's tests and a short training on a GPU: ``python -m benchmarks.gpu``.

Prints a Markdown table with the machine's name, or says that there is no GPU.
"""

import subprocess
import sys
import time

import torch

import mmcore
from mmcore.data import Table
from mmcore.demo.run import COMPONENTS, TRAINING, digits_model


def main() -> None:
    """Run both, or say why not."""
    if not torch.cuda.is_available():
        print("no GPU here: not run")
        return
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests"], capture_output=True, text=True, check=False)
    registry = mmcore.discover()
    model = digits_model(registry)
    table = Table.read(registry.source("digits", components=COMPONENTS), model.variables)
    mmcore.fit(model, table, options=TRAINING, steps=20, device="cuda", quiet=True)
    torch.cuda.synchronize()
    started = time.perf_counter()
    mmcore.fit(model, table, options=TRAINING, steps=300, device="cuda", quiet=True)
    torch.cuda.synchronize()
    step = (time.perf_counter() - started) / 300
    answer = mmcore.sample(model, 64, steps=10)
    ok = all(bool(x.isfinite().all()) for x in answer.values() if x.is_floating_point())
    print("| machine | torch | tests | ms per step | samples finite |\n|---|---|---|---|---|")
    last = tests.stdout.strip().splitlines()[-1] if tests.stdout.strip() else tests.stderr.strip()[-80:]
    print(f"| {torch.cuda.get_device_name()} | {torch.__version__} | {last} | {1e3 * step:.2f} | {ok} |")


if __name__ == "__main__":
    main()
