"""The gallery's programs run as they stand, but for their steps, and their pages have their pictures."""

import importlib
import re
from pathlib import Path

import pytest

import mmcore

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "examples" / "gallery").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_of_the_gallery_runs(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if program.stem == "ink":
        # As installed: its distribution is built and installed by the test of the scaffold.
        monkeypatch.syspath_prepend(str(ROOT / "examples" / "mmcore-profile"))
        registry = mmcore.discover()
        registry.register("modality", "profile", importlib.import_module("mmcore_profile").ProfileModality)
        monkeypatch.setattr(mmcore, "discover", lambda: registry)
    code = program.read_text()
    assert len(re.findall(r"steps=\d+", code)) == 1
    code = re.sub(r"steps=\d+", "steps=2, quiet=True, device='cpu'", code).replace("64", "2")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(program), "exec"), {})
    assert (tmp_path / f"{program.stem}.png").stat().st_size > 1000
    assert "nan" not in capsys.readouterr().out


def test_every_program_is_shown_with_its_picture() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    for program in PROGRAMS:
        assert f"../examples/gallery/{program.name}" in page
        assert f"images/gallery-{program.stem}.png" in page
