"""Pages that are served, and a browser: the tests of this folder run where both can be had (tox run -e play)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.play.browser.chromium import on_this_machine

ROOT = Path(__file__).parents[3]


def pytest_ignore_collect(collection_path: Path) -> bool:
    """Helpers that need Gradio are no tests."""
    return collection_path.name == "strange.py"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium: the machine's, or Playwright's own."""
    pytest.importorskip("gradio", reason="gradio is not installed here: tox run -e play")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here: tox run -e play")
    found = on_this_machine()
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium here: apt install chromium, or python -m playwright install chromium")
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Server:
    """A page that is served in a process of its own."""

    def __init__(self, log: Path, command: list[str]) -> None:
        self.log = log
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command], stdout=file, stderr=file, env=environment, cwd=log.parent
            )
        until = time.monotonic() + 240
        while "open http" not in self.text and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.1)
        assert "open http" in self.text, self.text
        self.url = self.text.partition("open ")[2].split()[0]

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def end(self, times: int = 1) -> int:
        """Interrupt it, as Ctrl-C does; its exit status."""
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)
            time.sleep(0.1 if times > 1 else 0)
        return self.process.wait(90)


def served(folder: Path, command: list[str]) -> Iterator[Server]:
    server = Server(folder / "serve.log", command)
    yield server
    server.end()
    assert "Traceback" not in server.text
    assert server.text.splitlines() == [line for line in server.text.splitlines() if line.startswith("open http")]


@pytest.fixture(scope="session")
def page_of_run(browser: Any, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The run's page."""
    command = ["-m", "mmcore", "play", str(home / "run"), "--port", "0", "--device", "cpu"]
    yield from served(tmp_path_factory.mktemp("served"), command)


@pytest.fixture(scope="session")
def page_of_strangers(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page of a model of plugins that mmcore has never seen."""
    folder = tmp_path_factory.mktemp("strange")
    yield from served(folder, ["-m", "tests.play.browser.strange", str(folder / "model"), str(folder / "counts")])


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens a page as somebody of their own; whatever it fetches elsewhere, or its console calls an error, fails the test."""
    contexts, wrong = [], []

    def opened(server: Server, width: int = 1280, height: int = 900) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 600)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else wrong.append(r.url))
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(server.url)
        page.locator("#ask").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong
