"""Trackers by what they keep of a run: figures with their steps and names, pictures, and whose folder they lie in."""

import contextlib
import csv
import gc
import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mmcore.testing.check import NotRun, check
from mmcore.testing.checks_tracker import all_figures, begin, figures_of, picture_of, run_folder, story, tracker_of
from mmcore.testing.context import Context
from mmcore.testing.surroundings import given_options


def _content(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _told(content: bytes, value: float) -> bool:
    """Whether a figure is among these bytes: as text, or as a number of single or double precision."""
    texts = {repr(value), f"{value:.6g}", f"{value:.7g}", f"{value:.8g}", f"{value:.5f}", f"{value:.6f}", f"{value:.4f}", repr(round(value, 6))}  # fmt: skip
    packed = [struct.pack(form, value) for form in ("<f", ">f", "<d", ">d")]
    return any(x in content for x in (*packed, *(t.encode() for t in texts if len(t) > 5)))


def _rounded(content: bytes, value: float) -> bool:
    """Whether a figure is among these bytes as a text of two or three digits."""
    texts = {f"{value:.3g}", f"{value:.2g}", f"{value:.3f}", f"{value:.2f}"}
    return any(re.search(rb"(?<![\d.])" + re.escape(text.encode()) + rb"(?![\d])", content) for text in texts)


def _missing(c: Context, content: bytes, steps: range, more: str = "") -> list[str]:
    return [f"{name} of step {step}" for step in steps for name, v in all_figures(c, step, more).items() if not _told(content, v)]  # fmt: skip


@check(
    "tracker.keeps",
    kind="tracker",
    fault="the last figures never written, every other step left out, a name that overwrites another",
)
def keeps(c: Context) -> None:
    """Of one that keeps files in the run's folder: every figure that it was told lies there at the end, at once after `end`, with its step.

    Figures are looked for as text of four digits or more, and as single and double precision; steps as text and as whole numbers.
    """
    steps = range(100_003, 100_003 + 23 * 37, 37)
    with run_folder() as folder:
        story(c, tracker_of(c), folder, steps)
        content = _content(folder)
        missing = _missing(c, content, steps)
        if len(missing) >= 4 * len(steps):
            if empty := [p.name for p in folder.rglob("*") if p.is_file() and not p.stat().st_size]:
                c.fail(f"the empty file {empty[0]} after the end", "what it was told, written")
            rounded = [f"{name} of step {step}" for step in steps for name, v in all_figures(c, step).items() if _rounded(content, v)]  # fmt: skip
            if len(rounded) > 0.9 * sum(len(all_figures(c, step)) for step in steps):
                c.fail(f"{len(rounded)} figures by three digits or fewer, such as {rounded[0]}", "four digits or more")
            raise NotRun("not decided: it keeps no figures in the run's folder in a form that is known here")
        if missing:
            c.fail(f"{len(missing)} figures not found, first {missing[0]}", "every figure that it was told")
        lost = [step for step in steps if not any(x in content for x in _whole(step))]
        as_text = any(repr(v).encode() in content for v in figures_of(c, steps[0]).values())
        if lost and (as_text or len(lost) < len(steps)):
            c.fail(
                f"{len(lost)} of {len(steps)} steps not found beside their figures, first {lost[0]}",
                "each figure with its step",
            )


def _whole(step: int) -> list[bytes]:
    """A whole number as text and in the forms of binary files."""
    varint, rest = b"", step
    while rest >= 128:
        varint, rest = varint + bytes([rest & 127 | 128]), rest >> 7
    forms = [struct.pack(form, step) for form in ("<i", ">i", "<q", ">q", "<d", ">d", "<f", ">f")]
    # SQLite's whole numbers of three bytes.
    return [str(step).encode(), varint + bytes([rest]), step.to_bytes(3, "big"), *forms]


@check(
    "tracker.names",
    kind="tracker",
    fault="figures under each other's names, of another step, or under none",
    core=False,
)
def names(c: Context) -> None:
    """Of one that keeps JSON lines or CSV: each record has a figure under its own name, and beside the step that it is of."""
    steps = range(100_003, 100_003 + 12 * 37, 37)
    with run_folder() as folder:
        story(c, tracker_of(c), folder, steps)
        told = {step: all_figures(c, step) for step in steps}
        owner = {value: (step, name) for step, figures in told.items() for name, value in figures.items()}
        known = {name for figures in told.values() for name in figures}
        compared = 0
        for record in _records(folder):
            # What a table's reader gives of cells beyond its head.
            unnamed = [number for cell in record.pop(None, ()) if (number := _number(cell)) in owner]
            if unnamed:
                step, name = owner[unnamed[0]]
                c.fail(f"the figure of {name!r} at step {step} in a column without a name", "under its own name")
            flat = {**record, **{k: v for x in record.values() if isinstance(x, dict) for k, v in x.items()}}
            named = {str(x) for pair in flat.items() for x in pair if str(x) in known}
            for key, value in flat.items():
                number = _number(value)
                if number not in owner:
                    continue
                compared += 1
                step, name = owner[number]
                if (named and (key if key in named else name) != name) or (named and name not in named):
                    c.fail(
                        f"the figure of {name!r} at step {step} in a record {dict(list(flat.items())[:4])}",
                        "under its own name",
                    )
                others = [x for x in map(_number, flat.values()) if x in told]
                if others and step not in others:
                    c.fail(
                        f"the figure of {name!r} at step {step} beside the step {others[0]:.0f}", "beside its own step"
                    )
        if not compared:
            raise NotRun("not decided: it keeps no JSON lines and no CSV with figures in the run's folder")


def _records(folder: Path) -> Iterator[dict[str | None, Any]]:
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


@check(
    "tracker.shows",
    kind="tracker",
    fault="a picture of one name written over that of another, colours exchanged",
    core=False,
)
def shows(c: Context) -> None:
    """Of one that keeps pictures as PNG in the run's folder: of each name the last one lies there, pixel by pixel."""
    with run_folder() as folder:
        tracker = tracker_of(c)
        begin(c, tracker, folder)
        told = {name: picture_of(c, more=name) for name in ("samples", "conditional/image", "conditional/mask")}
        for step in (3, 5):
            tracker.scalars(step, figures_of(c, step))
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
    """A run that ended or was killed goes on by another tracker, in the same experiment: what was kept up to there stays, what comes after is added.

    What the first one was told of later steps comes again. Asked of files in the run's folder; that it raises nothing, of all.
    """
    with run_folder() as folder:
        known = True
        # Of one that was killed only what lay in its files can stay.
        for what, ends in (("ended", True), ("was killed", False)):
            run = folder / what
            run.mkdir()
            story(c, tracker_of(c), run, range(1, 14), end=ends)
            # What the process held, such as a lock on a file, dies with it.
            gc.collect()
            before = _missing(c, _content(run), range(1, 11))
            if ends:
                known = len(before) < 30
            story(c, tracker_of(c), run, range(11, 21), after=10, more="again")
            content = _content(run)
            lost = [x for x in _missing(c, content, range(1, 11)) if x not in before]
            # A few may be found by chance among the digits of others.
            if known and len(lost) > (0 if ends else 3):
                c.fail(f"{len(lost)} figures of before the resumption lost, of a run that {what}, first {lost[0]}", "all of them kept")  # fmt: skip
            if known and (missing := _missing(c, content, range(11, 21), "again")):
                c.fail(f"{len(missing)} figures of the resumed run not found, first {missing[0]}", "every figure that it was told")  # fmt: skip
        # Of a run of which nothing was tracked before, as when tracking is turned on later.
        other = folder.parent / "another run"
        other.mkdir()
        story(c, tracker_of(c), other, range(11, 14), after=10)
    if not known:
        raise NotRun("not decided but for errors: it keeps no figures in the run's folder in a form that is known here")


@check("tracker.apart", kind="tracker", fault="figures kept on the class, or in one place for all runs")
def apart(c: Context) -> None:
    """Two runs in one process do not mix: one's figures lie in its own folder only, also where they run at once."""
    if "folder" in given_options(c.thing):
        raise NotRun("not decided: an option says where it writes")
    with run_folder() as folder:
        other = folder.parent / "another run"
        other.mkdir()
        one, two = tracker_of(c), tracker_of(c)
        begin(c, one, folder)
        begin(c, two, other)
        for step in range(1, 6):
            one.scalars(step, all_figures(c, step))
            two.scalars(step, all_figures(c, step, "other"))
        one.end()
        two.scalars(6, figures_of(c, 6, "other"))
        two.end()
        count = sum(len(all_figures(c, step)) for step in range(1, 6))
        for place, mine, more in ((folder, "", "other"), (other, "other", "")):
            content = _content(place)
            strange = count - len(_missing(c, content, range(1, 6), more))
            # Of four digits some may be those of others by chance.
            if strange > count // 4:
                c.fail(f"{strange} of {count} figures of another run in a run's folder", "its own only")
            missing = _missing(c, content, range(1, 6), mine)
            if 0 < len(missing) < count:
                c.fail(f"{len(missing)} of a run's figures lost beside another run, first {missing[0]}", "all of them")
        sides = [
            len(_missing(c, _content(place), range(1, 6), more)) for place, more in ((folder, ""), (other, "other"))
        ]
        if sorted(sides) == [0, count]:
            c.fail("one of two runs that nothing was written of", "each in its own folder")


@check("tracker.places", kind="tracker", fault="files written to where the process happens to be")
def places(c: Context) -> None:
    """Files go to the run's folder, or to where an option says, and not to where the process happens to be; a run's own files stay as they are."""
    with run_folder() as folder:
        own = {"metrics.jsonl": b'{"step": 1}\n', "config.toml": b"seed = 1\n", "samples.png": b"picture", "model/config.json": b"{}", "checkpoints/last": b"3"}  # fmt: skip
        for name, content in own.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        story(c, tracker_of(c), folder, range(1, 8))
        if written := list((folder.parent / "elsewhere").rglob("*")):
            c.fail(f"{written[0].name} written where the process is", "files in the run's folder")
        for name, content in own.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                c.fail(f"the run's own {name} changed or removed", "files of its own beside it")
