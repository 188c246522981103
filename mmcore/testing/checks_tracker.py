"""Trackers: told of runs that begin, go on, are resumed and end, in folders of their own. The plugin is what makes one."""

import contextlib
import csv
import gc
import io
import json
import logging
import math
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmcore.errors import RequestError
from mmcore.rng import Rng
from mmcore.testing.check import NotRun, check
from mmcore.testing.context import Context
from mmcore.testing.surroundings import descriptors, given_options, left_alone, pickled
from mmcore.training.trackers import Tracker

FEW = 60
"""Calls that are timed together."""
CONFIGURATION = {
    "options": {"steps": 20, "learning_rate": 1e-3, "log_every": 2, "precision": None},
    "rows": 128,
    "model": {"modalities": ["image", "label"], "tasks": [{"name": "image", "weight": 1.0}]},
    "configuration": None,
}


def _figures(c: Context, step: int, more: str = "") -> dict[str, float]:
    """Figures that nobody would take for others, each exact in single precision."""
    u = Rng.for_rows(c.seed, 1).of(f"tracker{more}").at(step).uniform(4)[0]
    names = ("loss/total", "loss/image", "grad_norm", "lr")
    return {name: float(np.float32(0.1 + v)) for name, v in zip(names, u.tolist(), strict=True)}


def _all_figures(c: Context, step: int, more: str = "") -> dict[str, float]:
    """Those of a step, every third time with the validation's."""
    figures = _figures(c, step, more)
    if step % 3 == 0:
        figures |= {"validation/image": figures["lr"] + 1, "validation/total": figures["loss/image"] + 2}
    return figures


def _picture(c: Context, mode: str = "RGB", size: tuple[int, int] = (12, 9), more: str = "") -> Image.Image:
    pixels = Rng.for_rows(c.seed, 1).of(f"picture{more}").integers(0, 256, size[1], size[0], 3)[0]
    return Image.fromarray(pixels.numpy().astype(np.uint8)).convert(mode)


@contextlib.contextmanager
def _run_folder() -> Iterator[Path]:
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


def _tracker(c: Context) -> Tracker:
    tracker = c.thing()
    if not isinstance(tracker, Tracker):
        c.fail(f"a {type(tracker).__name__}", "an object of a subclass of mmcore.training.Tracker")
    return tracker


def _begin(c: Context, tracker: Tracker, folder: Path | None, after: int | None = None) -> None:
    """The run begins; one that refuses it, as for an account that there is not, cannot be put to the test."""
    try:
        tracker.begin(folder, json.loads(json.dumps(CONFIGURATION)), after)
    except RequestError as error:
        raise NotRun(f"it refuses the run: {error}") from error


def _story(c: Context, tracker: Tracker, folder: Path | None, steps: range, *, after: int | None = None, end: bool = True, more: str = "") -> None:
    """A run from its beginning to its end, as the training tells it."""
    _begin(c, tracker, folder, after)
    for step in steps:
        tracker.scalars(step, _all_figures(c, step, more))
        if step % 5 == 0:
            tracker.pictures(step, {"samples": _picture(c), "conditional/image": _picture(c)})
    if end:
        tracker.end()


def _content(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _told(content: bytes, value: float) -> bool:
    """Whether a figure is among these bytes: as text, or as a number of single or double precision."""
    texts = {repr(value), f"{value:.6g}", f"{value:.7g}", f"{value:.8g}", f"{value:.5f}", f"{value:.6f}", f"{value:.4f}", repr(round(value, 6))}  # fmt: skip
    packed = [struct.pack(form, value) for form in ("<f", ">f", "<d", ">d")]
    return any(x in content for x in (*packed, *(t.encode() for t in texts if len(t) > 5)))


def _missing(c: Context, content: bytes, steps: range, more: str = "") -> list[str]:
    return [f"{name} of step {step}" for step in steps for name, v in _all_figures(c, step, more).items() if not _told(content, v)]  # fmt: skip


@check("tracker.lives", kind="tracker", fault="a call that fails: a picture's mode, NaN, a name with a slash, figures that come and go")
def lives(c: Context) -> None:
    """It goes through a run without an error: figures that come and go, NaN and infinity among them, names of any kind, pictures of any mode.

    So it does where the run has no folder, unless it refuses that with a RequestError as it begins; and where a run ends at once.
    """
    with _run_folder() as folder:
        tracker = _tracker(c)
        _begin(c, tracker, folder)
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
            tracker.pictures(step, {"samples/a b": _picture(c, mode), "ü": _picture(c, mode, (1, 1))})
        tracker.pictures(12, {})
        tracker.scalars(10**9, {"loss/total": 0.25})
        tracker.end()
        short = _tracker(c)
        _begin(c, short, folder)
        short.end()
        without = _tracker(c)
        try:
            without.begin(None, json.loads(json.dumps(CONFIGURATION)), None)
        except RequestError:
            return
        without.scalars(1, {"loss/total": 1.0})
        without.pictures(1, {"samples": _picture(c)})
        without.end()


@check("tracker.lazy", kind="tracker", fault="a file, a thread or a program that begins as it is made")
def lazy(c: Context) -> None:
    """Making one only keeps its options: nothing is written, no thread is started and no file left open, as it is called to check them."""
    with _run_folder() as folder, left_alone(c, "as it was made"):
        threads, files = threading.active_count(), descriptors()
        tracker = _tracker(c)
        if written := [path for path in folder.parent.rglob("*") if path not in (folder, folder.parent / "elsewhere")]:
            c.fail(f"{written[0].name} written as it is made", "nothing before begin")
        if threading.active_count() > threads:
            c.fail("a thread started as it is made", "none before begin")
        if descriptors() > files:
            c.fail("a file open as it is made", "none before begin")
        pickled(c, tracker, "a tracker that has not begun")
        # The options are read twice: to check them, and to use them.
        _story(c, tracker, folder, range(1, 4))


@check("tracker.alone", kind="tracker", fault="draws, settings or handlers of the process that the training then runs with")
def alone(c: Context) -> None:
    """It leaves the process alone: global generators, settings of torch and numpy, working directory, environment, signals, and the logging of others."""
    with _run_folder() as folder:
        tracker = _tracker(c)
        root = logging.getLogger()
        before = (list(root.handlers), root.level)
        with left_alone(c, "by a run that is tracked", but=("the environment's variables",)):
            _story(c, tracker, folder, range(1, 11))
        if (list(root.handlers), root.level) != before:
            root.handlers[:], root.level = before
            c.fail("another handler or level of the root logger", "the logging of others left alone")


@check("tracker.quiet", kind="tracker", fault="lines that are printed into the training's own", core=False)
def quiet(c: Context) -> None:
    """It prints nothing: neither to standard output nor, but for a warning, to standard error."""
    with _run_folder() as folder, tempfile.TemporaryFile() as out:
        tracker = _tracker(c)
        sys.stdout.flush()
        saved, plain = os.dup(1), sys.stdout
        os.dup2(out.fileno(), 1)
        sys.stdout = os.fdopen(os.dup(1), "w")
        try:
            _story(c, tracker, folder, range(1, 8))
            sys.stdout.close()
        finally:
            sys.stdout = plain
            os.dup2(saved, 1)
            os.close(saved)
        out.seek(0)
        if text := out.read().decode(errors="replace").strip():
            c.fail(f"{text[:120]!r} printed", "nothing")


@check("tracker.pure", kind="tracker", fault="a picture drawn upon, figures rounded in place")
def pure(c: Context) -> None:
    """What it is told stays as it is: configuration, figures and pictures; others are told the same."""
    with _run_folder() as folder:
        tracker = _tracker(c)
        configuration = json.loads(json.dumps(CONFIGURATION))
        try:
            tracker.begin(folder, configuration, None)
        except RequestError as error:
            raise NotRun(f"it refuses the run: {error}") from error
        figures, picture = _figures(c, 1), _picture(c)
        told, shown = dict(figures), picture.tobytes()
        pictures = {"samples": picture}
        tracker.scalars(1, figures)
        tracker.pictures(1, pictures)
        tracker.end()
        if configuration != CONFIGURATION:
            c.fail("the configuration changed by begin", "the configuration as it was")
        if figures != told or list(figures) != list(told):
            c.fail("figures changed by scalars", "figures as they were")
        if list(pictures) != ["samples"] or picture.tobytes() != shown or picture.size != (12, 9) or picture.mode != "RGB":
            c.fail("a picture changed by pictures", "the picture as it was")


@check("tracker.keeps", kind="tracker", fault="the last figures never written, every other step left out, a name that overwrites another")
def keeps(c: Context) -> None:
    """Of one that keeps files in the run's folder: every figure that it was told lies there at the end, at once after `end`, with its step.

    Figures are looked for as text of four digits or more, and as single and double precision; steps as text and as whole numbers.
    """
    steps = range(100_003, 100_003 + 23 * 37, 37)
    with _run_folder() as folder:
        _story(c, _tracker(c), folder, steps)
        content = _content(folder)
        missing = _missing(c, content, steps)
        if len(missing) >= 4 * len(steps):
            if empty := [p.name for p in folder.rglob("*") if p.is_file() and not p.stat().st_size]:
                c.fail(f"the empty file {empty[0]} after the end", "what it was told, written")
            raise NotRun("not decided: it keeps no figures in the run's folder in a form that is known here")
        if missing:
            c.fail(f"{len(missing)} figures not found, first {missing[0]}", "every figure that it was told")
        lost = [step for step in steps if not any(x in content for x in _whole(step))]
        as_text = any(repr(v).encode() in content for v in _figures(c, steps[0]).values())
        if lost and (as_text or len(lost) < len(steps)):
            c.fail(f"{len(lost)} of {len(steps)} steps not found beside their figures, first {lost[0]}", "each figure with its step")


def _whole(step: int) -> list[bytes]:
    """A whole number as text and in the forms of binary files."""
    varint, rest = b"", step
    while rest >= 128:
        varint, rest = varint + bytes([rest & 127 | 128]), rest >> 7
    forms = [struct.pack(form, step) for form in ("<i", ">i", "<q", ">q", "<d", ">d", "<f", ">f")]
    # SQLite's whole numbers of three bytes.
    return [str(step).encode(), varint + bytes([rest]), step.to_bytes(3, "big"), *forms]


@check("tracker.names", kind="tracker", fault="figures under each other's names, or of another step", core=False)
def names(c: Context) -> None:
    """Of one that keeps JSON lines or CSV: each record has a figure under its own name, and beside the step that it is of."""
    steps = range(100_003, 100_003 + 12 * 37, 37)
    with _run_folder() as folder:
        _story(c, _tracker(c), folder, steps)
        told = {step: _all_figures(c, step) for step in steps}
        owner = {value: (step, name) for step, figures in told.items() for name, value in figures.items()}
        known = {name for figures in told.values() for name in figures}
        compared = 0
        for record in _records(folder):
            flat = {**record, **{k: v for x in record.values() if isinstance(x, dict) for k, v in x.items()}}
            named = {str(x) for pair in flat.items() for x in pair if str(x) in known}
            for key, value in flat.items():
                number = _number(value)
                if number not in owner:
                    continue
                compared += 1
                step, name = owner[number]
                if named and (key if key in named else name) != name or (named and name not in named):
                    c.fail(f"the figure of {name!r} at step {step} in a record {dict(list(flat.items())[:4])}", "under its own name")
                others = [x for x in map(_number, flat.values()) if x in told]
                if others and step not in others:
                    c.fail(f"the figure of {name!r} at step {step} beside the step {others[0]:.0f}", "beside its own step")
        if not compared:
            raise NotRun("not decided: it keeps no JSON lines and no CSV with figures in the run's folder")


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of files with JSON in every line, and of CSV tables."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        parsed = []
        for line in lines:
            with contextlib.suppress(ValueError):
                parsed.append(json.loads(line))
        if not parsed and path.suffix in (".csv", ".tsv"):
            parsed = list(csv.DictReader(lines, delimiter="," if path.suffix == ".csv" else "\t"))
        yield from (record for record in parsed if isinstance(record, dict))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@check("tracker.shows", kind="tracker", fault="a picture of one name written over that of another, colours exchanged", core=False)
def shows(c: Context) -> None:
    """Of one that keeps pictures as PNG in the run's folder: of each name the last one lies there, pixel by pixel."""
    with _run_folder() as folder:
        tracker = _tracker(c)
        _begin(c, tracker, folder)
        told = {name: _picture(c, more=name) for name in ("samples", "conditional/image", "conditional/mask")}
        for step in (3, 5):
            tracker.scalars(step, _figures(c, step))
            tracker.pictures(step, {name: picture.copy() for name, picture in told.items()})
        tracker.end()
        content, kept = _content(folder), set()
        at = content.find(b"\x89PNG\r\n")
        while at >= 0:
            with contextlib.suppress(OSError, SyntaxError):
                kept.add(Image.open(io.BytesIO(content[at:])).convert("RGB").tobytes())
            at = content.find(b"\x89PNG\r\n", at + 1)
        if not kept:
            raise NotRun("not decided: it keeps no pictures as PNG in the run's folder")
        if lost := [name for name, picture in told.items() if picture.tobytes() not in kept]:
            c.fail(f"no picture of {', '.join(lost)} as it was told", "the last of each name")


@check("tracker.resumes", kind="tracker", fault="a resumed run that begins its files anew, or refuses to go on")
def resumes(c: Context) -> None:
    """A run that was killed goes on by another tracker, in the same experiment: what was told up to there is kept, and what comes after is added.

    What the killed one was told of later steps comes again. Asked of files in the run's folder; that it raises nothing, of all.
    """
    with _run_folder() as folder:
        killed = _tracker(c)
        _story(c, killed, folder, range(1, 14))
        before = _missing(c, _content(folder), range(1, 11))
        resumed = _tracker(c)
        _story(c, resumed, folder, range(11, 21), after=10, more="again")
        content = _content(folder)
        if len(before) < 30 and (lost := [x for x in _missing(c, content, range(1, 11)) if x not in before]):
            c.fail(f"{len(lost)} figures of before the resumption lost, first {lost[0]}", "all of them kept")
        if len(before) < 30 and (missing := _missing(c, content, range(11, 21), "again")):
            c.fail(f"{len(missing)} figures of the resumed run not found, first {missing[0]}", "every figure that it was told")
        # Of a run of which nothing was tracked before, as when tracking is turned on later.
        other = folder.parent / "another run"
        other.mkdir()
        _story(c, _tracker(c), other, range(11, 14), after=10)
        # And of one that was killed and never told that it ends.
        third = folder.parent / "killed"
        third.mkdir()
        _story(c, _tracker(c), third, range(1, 8), end=False)
        gc.collect()
        _story(c, _tracker(c), third, range(6, 9), after=5)


@check("tracker.apart", kind="tracker", fault="figures kept on the class, or in one place for all runs")
def apart(c: Context) -> None:
    """Two runs in one process do not mix: one's figures lie in its own folder only, also where they run at once."""
    if "folder" in given_options(c.thing):
        raise NotRun("not decided: an option says where it writes")
    with _run_folder() as folder:
        other = folder.parent / "another run"
        other.mkdir()
        one, two = _tracker(c), _tracker(c)
        _begin(c, one, folder)
        _begin(c, two, other)
        for step in range(1, 6):
            one.scalars(step, _all_figures(c, step))
            two.scalars(step, _all_figures(c, step, "other"))
        one.end()
        two.scalars(6, _figures(c, 6, "other"))
        two.end()
        count = sum(len(_all_figures(c, step)) for step in range(1, 6))
        for place, mine, more in ((folder, "", "other"), (other, "other", "")):
            content = _content(place)
            if len(_missing(c, content, range(1, 6), more)) < count:
                c.fail("figures of another run in a run's folder", "its own only")
            missing = _missing(c, content, range(1, 6), mine)
            if 0 < len(missing) < count:
                c.fail(f"{len(missing)} of a run's figures lost beside another run, first {missing[0]}", "all of them")
        sides = [len(_missing(c, _content(place), range(1, 6), more)) for place, more in ((folder, ""), (other, "other"))]
        if sorted(sides) == [0, count]:
            c.fail("one of two runs that nothing was written of", "each in its own folder")


@check("tracker.places", kind="tracker", fault="files written to where the process happens to be")
def places(c: Context) -> None:
    """Files go to the run's folder, or to where an option says, and not to where the process happens to be; a run's own files stay as they are."""
    with _run_folder() as folder:
        own = {"metrics.jsonl": b'{"step": 1}\n', "config.toml": b"seed = 1\n", "samples.png": b"picture", "model/config.json": b"{}", "checkpoints/last": b"3"}  # fmt: skip
        for name, content in own.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        _story(c, _tracker(c), folder, range(1, 8))
        if written := list((folder.parent / "elsewhere").rglob("*")):
            c.fail(f"{written[0].name} written where the process is", "files in the run's folder")
        for name, content in own.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                c.fail(f"the run's own {name} changed or removed", "files of its own beside it")


@check("tracker.ends", kind="tracker", fault="a thread or a file that is left open, figures held for ever", core=False)
def ends(c: Context) -> None:
    """After `end` nothing is left: no thread but those of before, no open file, and little is held while the run goes on."""
    with _run_folder() as folder:
        # What a library opens once and for all is no leak.
        _story(c, _tracker(c), folder, range(1, 4))
        threads, files = threading.active_count(), descriptors()
        for k in range(3):
            place = folder / f"run {k}"
            place.mkdir()
            _story(c, _tracker(c), place, range(1, 4))
        until = time.monotonic() + 3
        while threading.active_count() > threads and time.monotonic() < until:
            time.sleep(0.05)
        if threading.active_count() > threads:
            c.fail(f"{threading.active_count() - threads} threads more after three runs ended", "none")
        if descriptors() >= files + 3:
            c.fail(f"{descriptors() - files} open files more after three runs ended", "none")


@check("tracker.prompt", kind="tracker", fault="a request that is waited for in every call, work that grows with the run", core=False)
def prompt(c: Context) -> None:
    """A call takes no more than a fraction of a step: at most 20 ms on average for figures, after many as after few."""
    with _run_folder() as folder:
        tracker = _tracker(c)
        _begin(c, tracker, folder)
        took: list[tuple[float, float]] = []
        while len(took) < 5 and not (len(took) == 2 and min(wall for wall, _ in took) > FEW * 0.02):
            started, waited = time.thread_time(), time.monotonic()
            for step in range(FEW * len(took), FEW * (len(took) + 1)):
                tracker.scalars(step + 1, _figures(c, 1))
            took.append((time.monotonic() - waited, time.thread_time() - started))
        tracker.end()
        if min(wall for wall, _ in took) > FEW * 0.02:
            c.fail(f"{min(wall for wall, _ in took) / FEW:.3g} s for each call", "20 ms at most")
        work = [cpu for _, cpu in took]
        if work[-1] > 3 * work[0] + 0.1 and work == sorted(work):
            c.fail(f"{work[-1] / FEW:.3g} s for a call after {4 * FEW}, {work[0] / FEW:.3g} s at first", "as much after many as after few")
