"""The README's commands are the ones that are run, and its Python compiles and works."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import mmcore
from mmcore.cli import program
from mmcore.config import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_command() -> None:
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line[0] != "#"
    ]
    assert len(commands) == 3
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == commands[-1]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_python_example_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 11
    monkeypatch.chdir(tmp_path)
    code = code.replace("steps=1500", "steps=2").replace("64", "2")
    scope: dict[str, Any] = {}
    fit = mmcore.fit
    monkeypatch.setattr(mmcore, "fit", lambda *a, **k: fit(*a, quiet=True, device="cpu", batch_size=4, **k))
    exec(code, scope)
    assert (tmp_path / "digits" / "model.safetensors").exists()
    assert {p.name for p in (tmp_path / "runs" / "digits").iterdir()} >= {"metrics.jsonl", "timing.jsonl", "model"}


def test_the_folder_to_try_the_commands_on_is_taken_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``mmcore init photos/ -o photos.toml`` writes of it can be trained, and ``new/`` is read as its rows are."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "photos.py"), run_name="__main__")
    monkeypatch.setattr(sys, "argv", ["mmcore", "init", "photos/", "-o", "photos.toml"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    setup = load(tmp_path / "photos.toml")
    rows = list(setup.rows("all").source)
    assert [sum(row.get(name) is not None for row in rows) for name in ("image", "mask", "label")] == [200, 160, 171]
    assert {row["label"] for row in rows} - {None, ""} == {"circle", "square"}
    assert len(list((tmp_path / "new" / "images").glob("*.png"))) == 8


def test_pictures_exist() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).stat().st_size > 1000


def test_the_table_leads_to_what_it_names() -> None:
    """One hop: each name in the table is defined in the file that it leads to."""
    table = README[README.index("## Where things are") :]
    found = re.findall(r"\[`([\w.]+)`\]\((mmcore/[\w/]+\.py)\)", table)
    assert len(found) >= 6
    for name, path in found:
        source = (ROOT / path).read_text()
        last = name.rpartition(".")[2]
        assert path.endswith(name) or re.search(rf"^\s*(def|class) {last}\b", source, re.M), (name, path)
