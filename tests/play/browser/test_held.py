"""What Gradio holds of people goes when they do, and of many who never say goodbye only the last are held."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmcore.play.work import VISITORS


def test_nothing_is_held_of_who_left_and_of_many_only_the_last(home: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed here: tox run -e browser")
    command = [sys.executable, "-m", "tests.play.browser.held", str(home / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(ended.stdout or "[]") == [1, 0, VISITORS], ended.stderr
    assert "Traceback" not in ended.stderr
