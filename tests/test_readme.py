"""The README's commands are the ones that are run, and its Python compiles and works."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import mmcore

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_command() -> None:
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line[0] != "#"
    ]
    assert len(commands) == 2
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == commands[1]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    code = code.replace("steps=1500", "steps=2").replace("64", "2")
    scope: dict[str, Any] = {"torch": torch}
    fit = mmcore.fit
    monkeypatch.setattr(mmcore, "fit", lambda *a, **k: fit(*a, quiet=True, device="cpu", batch_size=4, **k))
    exec(code, scope)
    assert (tmp_path / "digits" / "model.safetensors").exists()
    assert {p.name for p in (tmp_path / "runs" / "digits").iterdir()} >= {"metrics.jsonl", "timing.jsonl", "model"}


def test_pictures_exist() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).stat().st_size > 1000
