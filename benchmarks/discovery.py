"""How long ``mmcore plugins list`` takes with many plugins installed.

``python -m benchmarks.discovery [--plugins 50] [--runs 15]`` fabricates plugins in a temporary folder on
``PYTHONPATH`` and prints the median of whole processes, start of Python included. The aim: under 0.3 s with 50.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METADATA = """Metadata-Version: 2.4
Name: mmcore-made-{i}
Version: 1.{i}
Summary: A plugin that only its metadata knows of
Requires-Dist: mmcore-diffusion<0.2,>=0.1
Requires-Dist: numpy>=1.26
Description-Content-Type: text/markdown

"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fabricate(Path(folder), options.plugins)
        for title, arguments in {
            "plugins list": ["plugins", "list"],
            "plugins list --json": ["plugins", "list", "--json"],
            "--help": ["--help"],
        }.items():
            times = [_time(folder, arguments) for _ in range(options.runs)]
            print(
                f"mmcore {title}, {options.plugins} plugins: median {statistics.median(times):.3f} s, "
                f"from {min(times):.3f} to {max(times):.3f} s ({options.runs} runs)"
            )


def fabricate(folder: Path, count: int) -> None:
    """Install ``count`` plugins as pip would leave their metadata; their modules would fail if imported."""
    for i in range(count):
        info = folder / f"mmcore_made_{i}-1.{i}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.format(i=i) + "A line of a long description.\n" * 200)
        (info / "entry_points.txt").write_text(
            f"[mmcore.v1]\nmodality.made-{i} = made_{i}\nbackbone.made-{i} = made_{i}\n"
        )
        (folder / f"made_{i}.py").write_text("raise RuntimeError('listing must not import')\n")


def _time(folder: str, arguments: list[str]) -> float:
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mmcore", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
