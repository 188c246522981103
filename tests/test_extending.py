"""The page on adding parts of one's own: each script is short, and does what the page says."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (An? \w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
LINES = 12


def test_the_page_has_transform_tracker_and_source() -> None:
    assert {"A transform", "A tracker", "A source"} <= SECTIONS.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_each_script_is_short_and_prints_what_the_page_says(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, printed = re.search(r"```{testcode}\n(.*?)```\n\n```{testoutput}\n(.*?)```", SECTIONS[section], re.S).groups()  # type: ignore[union-attr]
    assert len([line for line in code.splitlines() if line.strip()]) <= LINES
    monkeypatch.chdir(tmp_path)
    told, scope = io.StringIO(), dict[str, Any](__name__="__main__")
    with contextlib.redirect_stdout(told):
        exec(compile(code, section, "exec"), scope)
    assert told.getvalue() == printed
