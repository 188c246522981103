"""Try plugins in processes of their own, each with a time limit: a hang or a crash ends there."""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import attrs

from mmcore.errors import PluginError
from mmcore.plugins.loading import brief, broken
from mmcore.plugins.metadata import Entry, Fault, forgive
from mmcore.plugins.registry import Registry

AT_ONCE = max(1, min(4, os.cpu_count() or 1))
LIMIT = 10.0
"""Seconds that one plugin's process may take."""

_CHILD = "import sys; sys.path[:] = {path!r}; from mmcore.plugins.probe import answer; answer({folder!r})"


@attrs.frozen
class Trial:
    """What came of importing one entry's module.

    Attributes:
        seconds: the time its import and hooks took, unless it was cut off.
        file: where its module lies.
        factory: that it offers.
        summary: of what it offers.
        fault: why it is broken.
        trace: the traceback of its failure.
    """

    seconds: float | None = None
    file: str = ""
    factory: str = ""
    summary: str = ""
    fault: Fault | None = None
    trace: str = ""


def probe(entries: Iterable[Entry], *, limit: float = LIMIT, factories: bool = False) -> dict[Entry, Trial]:
    """Import the modules of these entries, a few at once, each in its own process; none of it touches this one.

    Args:
        entries: blocked and faulty ones are passed over, and what was registered in this process.
        limit: seconds for one plugin's process, after which it is killed.
        factories: import the factories as well, which may take as long as importing torch.
    """
    plugins: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if not entry.blocked and not entry.fault and not entry.registered:
            plugins.setdefault((entry.distribution, entry.module), []).append(entry)
    waiting = collections.deque(plugins.values())
    running: list[_Run] = []
    trials: dict[Entry, Trial] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    running.append(_Run.start(waiting.popleft(), Path(folder, str(len(waiting))), limit, factories))
                for run in [run for run in running if run.over()]:
                    running.remove(run)
                    trials |= run.trials()
                time.sleep(0.005)
        finally:
            for run in running:
                run.kill()
    return trials


def answer(folder: str) -> None:
    """The child's part: do what ``request.json`` says, and write ``answer.json``."""
    request = json.loads(Path(folder, "request.json").read_text())
    entries = [Entry(**fields) for fields in request["entries"]]
    # Others' unreadable entry points, which discovery met in the parent, are no fault of these.
    forgive()
    registry = Registry(entries)
    answers = []
    started, seconds = time.perf_counter(), 0.0
    for entry in entries:
        offer = fault = None
        try:
            offer = registry.offer(entry)
            seconds = seconds or time.perf_counter() - started
            if request["factories"]:
                registry.factory(entry)
        except PluginError:
            fault = registry.fault(entry)
        except BaseException as error:
            # A KeyboardInterrupt can only be the plugin's own: the user's does not reach this session.
            fault = broken(entry, f"importing {entry.module} gave {brief(error)}", error)
        seconds = seconds or time.perf_counter() - started
        answers.append(
            {
                "seconds": seconds,
                "file": str(getattr(sys.modules.get(entry.module), "__file__", None) or ""),
                "factory": offer.factory if offer else "",
                "summary": offer.summary if offer else "",
                "fault": fault and fault._replace(cause=None)._asdict(),
                "trace": "".join(traceback.format_exception(fault.cause)) if fault and fault.cause else "",
            }
        )
    part = Path(folder, "answer.part")
    part.write_text(json.dumps(answers))
    part.replace(Path(folder, "answer.json"))
    # Threads that the plugin left running, and its exit handlers, are of no interest.
    os._exit(0)


@attrs.frozen
class _Run:
    entries: list[Entry]
    folder: Path
    limit: float
    process: "subprocess.Popen[bytes]"
    deadline: float

    @classmethod
    def start(cls, entries: list[Entry], folder: Path, limit: float, factories: bool) -> "_Run":
        folder.mkdir()
        request = {"entries": [entry._asdict() for entry in entries], "factories": factories}
        (folder / "request.json").write_text(json.dumps(request))
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(path=[str(part) for part in sys.path], folder=str(folder))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(entries, folder, limit, process, time.monotonic() + limit)

    def over(self) -> bool:
        if self.process.poll() is None and time.monotonic() < self.deadline:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """End the process and what it started, unless it has ended by itself."""
        if self.process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
            self.process.wait()

    def trials(self) -> dict[Entry, Trial]:
        try:
            answers = json.loads((self.folder / "answer.json").read_text())
        except (OSError, ValueError):
            return dict.fromkeys(self.entries, Trial(fault=self._lost()))
        trials = {}
        for entry, fields in zip(self.entries, answers, strict=True):
            fault = fields.pop("fault")
            trials[entry] = Trial(**fields, fault=fault and Fault(**fault))
        return trials

    def _lost(self) -> Fault:
        entry, status = self.entries[0], self.process.returncode
        if time.monotonic() >= self.deadline:
            return broken(entry, f"importing {entry.module} took more than {self.limit:g} s and was cut off")
        return broken(entry, f"importing {entry.module} ended the process with status {status}")
