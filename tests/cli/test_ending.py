"""Whatever happens, a command ends with one line and a status; of what nobody has foreseen the rest is in a file."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmcore.cli import program
from mmcore.cli.ending import ending
from mmcore.errors import ConfigError, MmcoreError, Problem, RequestError


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end, ending():
        raise error
    return end.value.code, capsys.readouterr().err


class PanicError(BaseException):
    """As a library in another language raises it."""


@pytest.mark.parametrize("error", [KeyError("width"), RecursionError("deep\nand deeper"), PanicError("\x1b[2J")])
def test_what_nobody_has_foreseen_is_a_line_and_a_file(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["mmcore", "train", "a b.toml"])
    status, said = ended(error, capsys)
    (kept,) = tmp_path.iterdir()
    assert status == 1
    assert said.count("\n") == 1
    assert said.startswith(f"mmcore: an error that was not expected, {type(error).__name__}: ")
    assert said.endswith(f"; a full report is in {kept}\n")
    assert "\x1b" not in said
    text = kept.read_text()
    assert "mmcore train 'a b.toml'" in text
    assert f"torch {torch.__version__}" in text
    assert "Traceback (most recent call last)" in text
    assert "    raise error\n" in text
    assert kept.stat().st_mode & 0o077 == 0


def test_where_no_file_can_be_written_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert ended(KeyError("x"), capsys) == (
        1,
        "mmcore: an error that was not expected, KeyError: 'x'; no report of it could be written\n",
    )


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (MmcoreError("no\nluck"), 1, "no\\nluck"),
        (RequestError("wrong"), 2, "wrong"),
        (ConfigError("a.toml", [Problem("x", "expected 1", 2)]), 2, "a.toml: x = 2: expected 1"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "a/b: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (OSError(5, "Input/output error", b"a"), 1, "a: Input/output error"),
        (OSError("a file of no name"), 1, "a file of no name"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "memory does not suffice; ask for less at once, such as by a smaller batch_size or -n"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nmore"
            ),
            1,
            "memory does not suffice ([enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.); "
            "ask for less at once, such as by a smaller batch_size or -n",
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_every_error_has_its_status_and_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error, capsys) == (status, f"mmcore: {line}\n")


def test_an_exit_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(SystemExit(143), capsys) == (143, "")


@pytest.mark.parametrize("words", [["plugins", "list"], ["check", "x"], ["report", "run"]])
def test_the_program_ends_so(words: list[str], tmp_path: Path) -> None:
    """With what any library may do inside."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("")
    (tmp_path / "broken.py").write_text(
        "import sys, mmcore.plugins, mmcore.plugins.registry\n"
        "def failing(*a, **k): raise ZeroDivisionError('inside')\n"
        "mmcore.plugins.discover = mmcore.plugins.registry.discover = failing\n"
        "import mmcore.runs.report\nmmcore.runs.report.write = failing\n"
        "from mmcore.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "broken.py", *words],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (kept,) = tmp_path.glob("mmcore-*.txt")
    assert done.stderr == (
        f"mmcore: an error that was not expected, ZeroDivisionError: inside; a full report is in {kept}\n"
    )


AS_A_USER = """
import ctypes, os, sys, tempfile
if os.geteuid() == 0 and sys.platform == "linux":
    for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which open every file to root
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP, from the next program on
LOOK = "import os, sys, tempfile; file = tempfile.NamedTemporaryFile(); os.chmod(file.name, 0); sys.exit(os.access(file.name, os.R_OK))"
if os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", LOOK]):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "mmcore", *sys.argv[1:]])
"""
"""Runs a command as somebody to whom files can be closed: root without its right to open every file."""


def run_as_a_user(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", AS_A_USER, *words], capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode == 77:
        pytest.skip("no file is closed to this process, and it cannot give that right up; Linux and other users run it")
    return done


@pytest.mark.parametrize("lock", [lambda run: run.chmod(0), lambda run: (run / "config.toml").chmod(0)])
def test_another_user_s_folder_is_a_line(lock: Callable[[Path], None], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("")
    lock(run)
    try:
        done = run_as_a_user(["report", str(run)], tmp_path)
    finally:
        run.chmod(0o755)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("command", ["sample", "evaluate", "report", "predict", "config", "data", "train", "init"])
def test_what_is_closed_to_the_user_is_a_line(command: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    more = ["test", "-o", str(tmp_path / "out")] if command == "predict" else []
    closed.chmod(0)
    try:
        done = run_as_a_user([command, str(closed), *more], tmp_path)
    finally:
        closed.chmod(0o755)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init", "rows.csv", "\ufeff1"], "unexpected extra argument"),
        (["--no\x1b[2J"], "No such option"),
        (["no\x9b31m"], "No such command"),
        (["evaluate", "run", "--draws", "\u202e3"], "Invalid value for '--draws'"),
        (["plugins", "a\rb"], "No such command"),
    ],
)
def test_a_command_line_that_cannot_be_read_moves_no_cursor(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mmcore", *words])
    with pytest.raises(SystemExit) as end:
        program.main()
    told = capsys.readouterr()
    assert end.value.code == 2
    assert told.out == ""
    usage, *_, last = told.err.splitlines()
    assert usage.startswith("Usage: ")
    assert last.startswith("Error: ")
    assert said in last
    assert all(line.isprintable() for line in told.err.split("\n"))


def test_the_demo_refuses_a_device_before_it_makes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mmcore", "demo", "--out", str(tmp_path / "demo"), "--device", "nowhere"])
    with pytest.raises(SystemExit) as end:
        program.main()
    told = capsys.readouterr()
    assert (end.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert told.err.startswith("mmcore: device 'nowhere' cannot be used: ")
    assert not (tmp_path / "demo").exists()
