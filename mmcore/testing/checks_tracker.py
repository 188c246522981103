"""Trackers: told of runs that begin, go on, are resumed and end, in folders of their own. The plugin is what makes one."""

import contextlib
import json
import logging
import math
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from mmcore.errors import RequestError
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.surroundings import descriptors, left_alone, pickled
from mmcore.training.trackers import Tracker

FEW = 60
"""Calls that are timed together."""
CONFIGURATION = {
    "options": {"steps": 20, "learning_rate": 1e-3, "log_every": 2, "precision": None},
    "rows": 128,
    "model": {"modalities": ["image", "label"], "tasks": [{"name": "image", "weight": 1.0}]},
    "configuration": None,
}


def figures_of(c: Context, step: int, more: str = "") -> dict[str, float]:
    """Figures that nobody would take for others, each exact in single precision."""
    u = Rng.for_rows(c.seed, 1).of(f"tracker{more}").at(step).uniform(4)[0]
    names = ("loss/total", "loss/image", "grad_norm", "lr")
    return {name: float(np.float32(0.1 + v)) for name, v in zip(names, u.tolist(), strict=True)}


def all_figures(c: Context, step: int, more: str = "") -> dict[str, float]:
    """Those of a step, every third time with the validation's."""
    figures = figures_of(c, step, more)
    if step % 3 == 0:
        figures |= {"validation/image": figures["lr"] + 1, "validation/total": figures["loss/image"] + 2}
    return figures


def picture_of(c: Context, mode: str = "RGB", size: tuple[int, int] = (12, 9), more: str = "") -> Image.Image:
    pixels = Rng.for_rows(c.seed, 1).of(f"picture{more}").integers(0, 256, size[1], size[0], 3)[0]
    return Image.fromarray(pixels.numpy().astype(np.uint8)).convert(mode)


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mmcore-check-") as folder:
        run = Path(folder) / "a run, ü"
        run.mkdir()
        here = os.getcwd()
        # What is written to where the process happens to be would lie here.
        outside = Path(folder) / "elsewhere"
        outside.mkdir()
        os.chdir(outside)
        try:
            yield run
        finally:
            os.chdir(here)


def tracker_of(c: Context) -> Tracker:
    tracker = c.thing()
    if not isinstance(tracker, Tracker):
        c.fail(f"a {type(tracker).__name__}", "an object of a subclass of mmcore.training.Tracker")
    return tracker


def begin(c: Context, tracker: Tracker, folder: Path | None, after: int | None = None) -> None:
    """The run begins; one that refuses it, as for an account that there is not, cannot be put to the test."""
    try:
        tracker.begin(folder, json.loads(json.dumps(CONFIGURATION)), after)
    except RequestError as error:
        raise NotRun(f"it refuses the run: {error}") from error


def story(
    c: Context,
    tracker: Tracker,
    folder: Path | None,
    steps: range,
    *,
    after: int | None = None,
    end: bool = True,
    more: str = "",
) -> None:
    """A run from its beginning to its end, as the training tells it."""
    begin(c, tracker, folder, after)
    for step in steps:
        tracker.scalars(step, all_figures(c, step, more))
        if step % 5 == 0:
            tracker.pictures(step, {"samples": picture_of(c), "conditional/image": picture_of(c)})
    if end:
        tracker.end()


@check(
    "tracker.lives",
    kind="tracker",
    fault="a call that fails: a picture's mode, NaN, a name with a slash, figures that come and go",
)
def lives(c: Context) -> None:
    """It goes through a run without an error: figures that come and go, NaN and infinity among them, names of any kind, pictures of any mode.

    So it does where the run has no folder, unless it refuses that with a RequestError as it begins; and where a run ends at once.
    """
    with run_folder() as folder:
        tracker = tracker_of(c)
        begin(c, tracker, folder)
        odd: list[Mapping[str, float]] = [
            {"loss/total": 1.5, "lr": 1e-3},
            {},
            {"loss/total": math.nan, "loss/a task, ü": math.inf, "grad_norm": -math.inf},
            {"validation/total": 0.0, "loss/x/y/z": 1e-300, "lr": 1},
            {"grad_norm": 1e38},
        ]
        for step, figures in enumerate(odd, start=1):
            tracker.scalars(step, dict(figures))
        for step, mode in enumerate(("RGB", "L", "RGBA", "1", "P", "LA"), start=6):
            tracker.pictures(step, {"samples/a b": picture_of(c, mode), "ü": picture_of(c, mode, (1, 1))})
        tracker.pictures(12, {})
        tracker.scalars(10**9, {"loss/total": 0.25})
        tracker.end()
        short = tracker_of(c)
        begin(c, short, folder)
        short.end()
        without = tracker_of(c)
        try:
            without.begin(None, json.loads(json.dumps(CONFIGURATION)), None)
        except RequestError:
            return
        without.scalars(1, {"loss/total": 1.0})
        without.pictures(1, {"samples": picture_of(c)})
        without.end()


@check("tracker.lazy", kind="tracker", fault="a file, a thread or a program that begins as it is made")
def lazy(c: Context) -> None:
    """Making one only keeps its options: nothing is written, no thread is started and no file left open, as it is called to check them."""
    with run_folder() as folder, left_alone(c, "as it was made"):
        threads, files = threading.active_count(), descriptors()
        tracker = tracker_of(c)
        if written := [path for path in folder.parent.rglob("*") if path not in (folder, folder.parent / "elsewhere")]:
            c.fail(f"{written[0].name} written as it is made", "nothing before begin")
        if threading.active_count() > threads:
            c.fail("a thread started as it is made", "none before begin")
        if descriptors() > files:
            c.fail("a file open as it is made", "none before begin")
        pickled(c, tracker, "a tracker that has not begun")
    with run_folder() as folder:
        # The options are read twice: to check them, and to use them.
        story(c, tracker, folder, range(1, 4))


@check(
    "tracker.alone", kind="tracker", fault="draws, settings or handlers of the process that the training then runs with"
)
def alone(c: Context) -> None:
    """It leaves the process alone: global generators, settings of torch and numpy, working directory, signals, and the logging of others.

    Variables of the environment stay as they were; it may add its own, as clients of servers do.
    """
    with run_folder() as folder:
        tracker = tracker_of(c)
        root = logging.getLogger()
        before, environment = (list(root.handlers), root.level), dict(os.environ)
        with left_alone(c, "by a run that is tracked", but=("the environment's variables",)):
            story(c, tracker, folder, range(1, 11))
            changed = [name for name, value in environment.items() if os.environ.get(name) != value]
        if changed:
            c.fail(f"the environment's {changed[0]} changed by a run that is tracked", "as it was")
        if (list(root.handlers), root.level) != before:
            root.handlers[:], root.level = before
            c.fail("another handler or level of the root logger", "the logging of others left alone")


@check("tracker.quiet", kind="tracker", fault="lines that are printed into the training's own", core=False)
def quiet(c: Context) -> None:
    """It prints nothing: neither to standard output nor, but for warnings by `warnings` and `logging`, to standard error."""
    with run_folder() as folder, tempfile.TemporaryFile() as out:
        tracker = tracker_of(c)
        with _captured(out):
            story(c, tracker, folder, range(1, 8))
        out.seek(0)
        if text := out.read().decode(errors="replace").strip():
            c.fail(f"{text[:120]!r} printed", "nothing")


@contextlib.contextmanager
def _captured(out: IO[bytes]) -> Iterator[None]:
    """What this process prints goes to a file, past ``sys`` too; warnings go nowhere."""
    plain, last = (sys.stdout, sys.stderr), logging.lastResort
    for stream in plain:
        stream.flush()
    saved = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(out.fileno(), number)
        logging.lastResort = logging.NullHandler()  # type: ignore[assignment]
        with warnings.catch_warnings(record=True), os.fdopen(os.dup(1), "w") as sys.stdout, os.fdopen(os.dup(2), "w") as sys.stderr:  # fmt: skip
            yield
    finally:
        logging.lastResort, (sys.stdout, sys.stderr) = last, plain
        for number, own in zip((1, 2), saved, strict=True):
            os.dup2(own, number)
            os.close(own)


@check("tracker.pure", kind="tracker", fault="a picture drawn upon, figures rounded in place")
def pure(c: Context) -> None:
    """What it is told stays as it is: configuration, figures and pictures; others are told the same."""
    with run_folder() as folder:
        tracker = tracker_of(c)
        configuration = json.loads(json.dumps(CONFIGURATION))
        try:
            tracker.begin(folder, configuration, None)
        except RequestError as error:
            raise NotRun(f"it refuses the run: {error}") from error
        figures, picture = figures_of(c, 1), picture_of(c)
        told, shown = dict(figures), picture.tobytes()
        pictures = {"samples": picture}
        tracker.scalars(1, figures)
        tracker.pictures(1, pictures)
        tracker.end()
        if configuration != CONFIGURATION:
            c.fail("the configuration changed by begin", "the configuration as it was")
        if figures != told or list(figures) != list(told):
            c.fail("figures changed by scalars", "figures as they were")
        if (
            list(pictures) != ["samples"]
            or picture.tobytes() != shown
            or picture.size != (12, 9)
            or picture.mode != "RGB"
        ):
            c.fail("a picture changed by pictures", "the picture as it was")


@check("tracker.ends", kind="tracker", fault="a thread or a file that is left open", core=False)
def ends(c: Context) -> None:
    """After `end` nothing is left: no thread but those of before, and no open file."""
    with run_folder() as folder:
        # What a library opens once and for all is no leak.
        story(c, tracker_of(c), folder, range(1, 4))
        threads, files = threading.active_count(), descriptors()
        for k in range(3):
            place = folder / f"run {k}"
            place.mkdir()
            story(c, tracker_of(c), place, range(1, 4))
        until = time.monotonic() + 3
        while threading.active_count() > threads and time.monotonic() < until:
            time.sleep(0.05)
        if threading.active_count() > threads:
            c.fail(f"{threading.active_count() - threads} threads more after three runs ended", "none")
        if descriptors() >= files + 3:
            c.fail(f"{descriptors() - files} open files more after three runs ended", "fewer than 3")


@check(
    "tracker.prompt",
    kind="tracker",
    fault="a request that is waited for in every call, work that grows with the run",
    core=False,
)
def prompt(c: Context) -> None:
    """A call takes no more than a fraction of a step: at most 20 ms on average for figures, of work or of waiting, after many as after few.

    What a busy machine takes is not counted: by as much as it holds up the kit's own lines in a file.
    """
    with run_folder() as folder:
        tracker = tracker_of(c)
        begin(c, tracker, folder)
        took: list[tuple[float, float]] = []
        while len(took) < 5 and not (len(took) == 2 and min(map(max, took)) > FEW * 0.02):
            own = _timed(lambda _: _appends(folder.parent / "line"))
            waited, worked = _timed(lambda step: tracker.scalars(step, figures_of(c, 1)), FEW * len(took))
            held_up = max(1.0, sum(own) / max(own[1], 1e-6))
            took.append((max(0.0, waited + worked - worked * held_up), worked))
        tracker.end()
        if min(map(max, took)) > FEW * 0.02:
            wait, work = min(took, key=max)
            c.fail(f"{wait / FEW:.3g} s of waiting and {work / FEW:.3g} s of work for each call", "20 ms at most")
        work = [cpu for _, cpu in took]
        if work[-1] > 3 * work[0] + 0.1 and work == sorted(work):
            c.fail(
                f"{work[-1] / FEW:.3g} s for a call after {4 * FEW}, {work[0] / FEW:.3g} s at first",
                "as much after many as after few",
            )


def _timed(call: Callable[[int], object], before: int = 0) -> tuple[float, float]:
    """Seconds of waiting and of work that some calls take, which are numbered."""
    started, worked = time.monotonic(), time.thread_time()
    for step in range(before + 1, before + FEW + 1):
        call(step)
    work = time.thread_time() - worked
    return time.monotonic() - started - work, work


def _appends(path: Path) -> None:
    with path.open("a") as file:
        file.write("a line\n")
