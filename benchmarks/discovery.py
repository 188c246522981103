"""How long ``import mmcore`` and ``mmcore plugins list`` take with many plugins installed, beside what cannot be avoided.

``python -m benchmarks.discovery [--plugins 50] [--rounds 25]`` fabricates plugins in a temporary folder on ``PYTHONPATH`` and starts fresh
processes, each kind once a round; before the first round all byte code is written, as an installation has it. It prints medians of
whole processes, start of Python included, and two ratios with their aims: ``plugins list`` at most 1.3 times
``importlib.metadata.entry_points()``, and ``import mmcore`` at most 3 times Python alone. Processor time counts where
others share the machine.
"""

import argparse
import os
import resource
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
CASES = {
    "python": ["-c", "pass"],
    "import mmcore": ["-c", "import mmcore"],
    "entry_points()": ["-c", "import importlib.metadata; importlib.metadata.entry_points()"],
    "mmcore plugins list": ["-m", "mmcore", "plugins", "list"],
    "mmcore plugins list --json": ["-m", "mmcore", "plugins", "list", "--json"],
    "mmcore --help": ["-m", "mmcore", "--help"],
}
RATIOS = (("mmcore plugins list", "entry_points()", 1.3), ("import mmcore", "python", 3.0))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        site.mkdir()
        fabricate(site, options.plugins)
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(Path(folder, "bytecode"))}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for arguments in CASES.values():
            _run(arguments, environment)
        rounds = [{title: _run(line, environment) for title, line in CASES.items()} for _ in range(options.rounds)]
    walls, processors = (
        {title: statistics.median(found[title][kind] for found in rounds) for title in CASES} for kind in (0, 1)
    )
    print(f"{options.plugins} plugins, medians of {options.rounds} rounds: wall clock, processor time")
    for title in CASES:
        print(f"  {title:28} {1e3 * walls[title]:7.1f} ms {1e3 * processors[title]:7.1f} ms")
    for title, base, aim in RATIOS:
        wall, processor = walls[title] / walls[base], processors[title] / processors[base]
        print(f"{title} / {base}: {wall:.2f} by the clock, {processor:.2f} of processor time (aim: {aim:g})")


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


def _run(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall clock and processor time of one process."""
    before, started = _used(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, _used() - before


def _used() -> float:
    """Processor time of the processes that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


if __name__ == "__main__":
    main()
