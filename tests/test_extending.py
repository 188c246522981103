"""The page on adding parts of one's own: each script is short, and does what the page says."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (An? \w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
LINES = 12


def test_the_page_has_every_kind_that_a_script_can_add() -> None:
    assert {"A sampler", "A guidance", "A backbone", "A transform", "A tracker", "A source"} == SECTIONS.keys()


def script(section: str) -> tuple[str, str]:
    """A section's script, and what it prints."""
    parts = re.search(r"```{testcode}\n(.*?)```\n\n```{testoutput}\n(.*?)```", SECTIONS[section], re.S)
    assert parts is not None
    return parts[1], parts[2]


NAMES = (
    "sampling.Sampler",
    "data.Source",
    "training.Tracker",
    "process.Process",
    "config.configured",
    "metrics.evaluate",
)


def test_the_packages_are_there_after_import_mmcore_alone() -> None:
    """Each in a process of its own, forked where torch is imported and nothing of this project is."""
    code = f"""
import os, sys, torch
for name in {NAMES}:
    if (child := os.fork()) == 0:
        import mmcore
        exec(f"mmcore.{{name}}")
        assert name.partition(".")[0] in dir(mmcore)
        os._exit(0)
    assert not any(found.startswith("mmcore") for found in sys.modules)
    assert os.waitpid(child, 0)[1] == 0, name
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("section", SECTIONS)
def test_each_script_is_short_and_prints_what_the_page_says(section: str, tmp_path: Path) -> None:
    """As a file of its own, in a process that has imported nothing else."""
    code, printed = script(section)
    assert len([line for line in code.splitlines() if line.strip()]) <= LINES
    (tmp_path / "own.py").write_text(code)
    told = subprocess.run(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == printed


def test_the_network_is_killed_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(script("A backbone")[0])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "net.py"]
    subprocess.run(command, cwd=tmp_path / "whole", env=environment, check=True, capture_output=True)
    run = tmp_path / "killed" / "runs" / "net"
    process = subprocess.Popen(command, cwd=tmp_path / "killed", env=environment)
    try:
        # Killed wherever it is by then, as soon as one checkpoint beyond the first is whole.
        while process.poll() is None and len(list((run / "checkpoints").glob("step-*"))) < 2:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it had ended before it was killed"
    subprocess.run([*command, "--resume"], cwd=tmp_path / "killed", env=environment, check=True, capture_output=True)
    for path in ("model/model.safetensors", "metrics.jsonl"):
        assert (run / path).read_bytes() == (tmp_path / "whole" / "runs" / "net" / path).read_bytes()
