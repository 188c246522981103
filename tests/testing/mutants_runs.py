"""Trackers broken on purpose, and those that must pass."""

import csv
import io
import json
import logging
import os
import random
import signal
import sqlite3
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmcore import RequestError
from mmcore.training import Tracker
from tests.testing.mutants import Mutant

# ---- healthy ----


class Lines(Tracker):
    """Figures as JSON lines in the run's folder, pictures beside them."""

    def __init__(self, name: str = "figures.jsonl") -> None:
        self.name = name
        self.file: Any = None

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        if folder is None:
            raise RequestError("lines: the run has no folder, expected fit(out=…)")
        self.folder = folder / "lines"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps(configuration))
        self.file = (self.folder / self.name).open("w" if after is None else "a")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")

    def pictures(self, step: int, pictures: Mapping[str, Image.Image]) -> None:
        for name, picture in pictures.items():
            picture.convert("RGB").save(self.folder / f"{step}-{name.replace('/', ' ')}.png")

    def end(self) -> None:
        self.file.close()


class Warns(Lines):
    """Lines that warn as the run begins, in both ways, and have a variable of the environment of their own."""

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        warnings.warn("lines: figures are kept as text", stacklevel=2)
        logging.getLogger("lines").warning("figures are kept as text")
        os.environ["LINES_SERVICE"] = "none"
        super().begin(folder, configuration, after)


class Listing(Tracker):
    """Figures in a list."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append((step, dict(values)))


class Database(Tracker):
    """Figures in a database, those after the step that a resumed run goes on from taken out."""

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        self.base = sqlite3.connect(":memory:" if folder is None else folder / "figures.db")
        self.base.execute("create table if not exists figures (step integer, name text, value real)")
        if after is not None:
            self.base.execute("delete from figures where step > ?", (after,))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.base.executemany("insert into figures values (?, ?, ?)", [(step, k, v) for k, v in values.items()])

    def end(self) -> None:
        self.base.commit()
        self.base.close()


class Packed(Tracker):
    """Figures as numbers of single precision, all written at the end; it has a thread that waits meanwhile."""

    def begin(self, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
        self.path, self.numbers, self.stop = folder and folder / "figures.bin", [], threading.Event()
        self.thread = threading.Thread(target=self.stop.wait, daemon=True)
        self.thread.start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.numbers.extend(np.float32(value).tobytes() for value in values.values())

    def end(self) -> None:
        self.stop.set()
        self.thread.join()
        if self.path:
            with self.path.open("ab") as file:
                file.write(b"".join(self.numbers))


def tensorboard() -> Any:
    """The core's own, imported when it is needed."""
    from mmcore.training.trackers import TensorBoard

    return TensorBoard()


TRACKERS: dict[str, Callable[..., Any]] = {
    "tensorboard": tensorboard, "lines": Lines, "a list": Listing, "a database": Database, "packed at the end": Packed, "lines that warn": Warns,
}  # fmt: skip

# ---- broken ----


def tracker(base: type = Lines, **changes: Any) -> Callable[[Path], Any]:
    """A tracker with methods changed."""
    return lambda _: type(f"Broken{base.__name__}", (base,), changes)


def before(name: str, do: Callable[..., object]) -> Callable[[Path], Any]:
    """Lines that do something before one of its calls."""

    def call(self: Any, *args: Any) -> Any:
        do(self, *args)
        return getattr(Lines, name)(self, *args)

    return tracker(**{name: call})


def told(change: Callable[[int, Mapping[str, float]], Mapping[str, float] | None]) -> Callable[[Path], Any]:
    """Lines of other figures."""

    def scalars(self: Any, step: int, values: Mapping[str, float]) -> None:
        found = change(step, values)
        if found is not None:
            Lines.scalars(self, step, found)

    return tracker(scalars=scalars)


def made(do: Callable[[Any], object]) -> Callable[[Path], Any]:
    """Lines that do something as it is made."""

    def __init__(self: Any) -> None:  # noqa: N807
        Lines.__init__(self)
        do(self)

    return tracker(__init__=__init__)


def first_head(self: Any, step: int, values: Mapping[str, float]) -> None:
    """A table whose head is of the first figures; what comes later has no column."""
    with (self.folder / "figures.csv").open("a", newline="") as file:
        rows = csv.writer(file)
        if not file.tell():
            rows.writerow(["step", *values])
        rows.writerow([step, *values.values()])


def anew(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    """A resumed run begins its file anew."""
    Lines.begin(self, folder, configuration, None)


def refuses(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    if folder is not None and (folder / "lines").exists():
        raise FileExistsError(folder / "lines")
    Lines.begin(self, folder, configuration, after)


def here(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    """Files where the process is."""
    Lines.begin(self, Path(), configuration, after)


def over_metrics(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    """Files over the run's own."""
    if folder is None:
        raise RequestError("no folder")
    self.folder, self.file = folder, (folder / "metrics.jsonl").open("w" if after is None else "a")


def whole_runs_only(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    """A run that did not end is begun anew."""
    ended = folder is not None and (folder / "lines" / "ended").exists()
    Lines.begin(self, folder, configuration, after if ended else None)


def written_at_once(self: Any, step: int, values: Mapping[str, float]) -> None:
    Lines.scalars(self, step, values)
    self.file.flush()


def leaves_a_mark(self: Any) -> None:
    (self.folder / "ended").touch()
    Lines.end(self)


def last_ten(self: Any, step: int, values: Mapping[str, float]) -> None:
    """Figures in tens, of which the last few are never written."""
    waiting = self.__dict__.setdefault("waiting", [])
    waiting.append((step, values))
    if len(waiting) == 10:
        for one in waiting:
            Lines.scalars(self, *one)
        waiting.clear()


CLASS: list[tuple[int, dict[str, float]]] = []


def on_the_class(self: Any, step: int, values: Mapping[str, float]) -> None:
    CLASS.append((step, dict(values)))


def all_of_class(self: Any) -> None:
    for one in CLASS:
        Lines.scalars(self, *one)
    Lines.end(self)


PLACE: dict[str, Any] = {}


def one_place(self: Any, folder: Path | None, configuration: Mapping[str, Any], after: int | None) -> None:
    """The folder of the run that began last, for all."""
    Lines.begin(self, folder, configuration, after)
    PLACE["file"] = self.file


def slower(self: Any, step: int, values: Mapping[str, float]) -> None:
    """All figures written anew at each call."""
    kept = self.__dict__.setdefault("kept", [])
    kept.append((step, dict(values)))
    json.dumps(kept * 10)
    Lines.scalars(self, step, values)


def chatters(self: Any, *_: Any) -> None:
    os.write(1, b"logged\n")


def thread_for_ever(self: Any, *_: Any) -> None:
    threading.Thread(target=lambda: time.sleep(300), daemon=True).start()


def opened(self: Any, *_: Any) -> None:
    CLASS_FILES.append(open(os.devnull))  # noqa: SIM115


CLASS_FILES: list[Any] = []


def drawn_on(self: Any, step: int, pictures: Mapping[str, Image.Image]) -> None:
    for picture in pictures.values():
        picture.putpixel((0, 0), 0)


def rounded(self: Any, step: int, values: Any) -> None:
    for name in values:
        values[name] = round(values[name], 2)


def edited(self: Any, folder: Any, configuration: Any, after: Any) -> None:
    configuration["rows"] = 0
    configuration["options"].pop("steps")


MUTANTS = [
    Mutant("tracker.lives", "a name with a slash as a file's name", tracker(pictures=lambda self, step, pictures: [p.convert("RGB").save(self.folder / f"{step}-{name}.png") for name, p in pictures.items()]), "tracker"),
    Mutant("tracker.lives", "a picture's mode that no file has", tracker(pictures=lambda self, step, pictures: [p.save(self.folder / f"{step}.jpg") for p in pictures.values()]), "tracker"),
    Mutant("tracker.lives", "figures that must always be there", before("scalars", lambda self, step, values: values["loss/total"] + values["lr"]), "tracker"),
    Mutant("tracker.lives", "NaN that is refused", before("scalars", lambda self, step, values: json.dumps(dict(values), allow_nan=False)), "tracker"),
    Mutant("tracker.lives", "an end that needs figures", before("end", lambda self: self.best), "tracker"),
    Mutant("tracker.lives", "a run without a folder that fails late", tracker(begin=lambda self, folder, configuration, after: folder is not None and Lines.begin(self, folder, configuration, after)), "tracker"),
    Mutant("tracker.lives", "the largest figure of a single precision", told(lambda step, values: {name: struct.unpack("<f", struct.pack("<f", value * 100))[0] for name, value in values.items()}), "tracker"),
    Mutant("tracker.lazy", "a file as it is made", made(lambda self: Path("figures.jsonl").touch()), "tracker"),
    Mutant("tracker.lazy", "a thread as it is made", made(thread_for_ever), "tracker"),
    Mutant("tracker.lazy", "a file opened as it is made", made(lambda self: setattr(self, "null", open(os.devnull))), "tracker"),  # noqa: SIM115
    Mutant("tracker.lazy", "the generator seeded as it is made", made(lambda self: random.seed(0)), "tracker"),
    Mutant("tracker.alone", "an experiment's name drawn from Python's generator", before("begin", lambda self, *_: random.random()), "tracker"),
    Mutant("tracker.alone", "torch's generator seeded", before("scalars", lambda self, *_: torch.manual_seed(1)), "tracker"),
    Mutant("tracker.alone", "Ctrl-C taken", before("begin", lambda self, *_: signal.signal(signal.SIGINT, lambda *_: None)), "tracker"),
    Mutant("tracker.alone", "the working directory changed", before("begin", lambda self, folder, *_: folder and os.chdir(folder)), "tracker"),
    Mutant("tracker.alone", "a variable of the environment changed", before("begin", lambda self, *_: os.environ.update(PATH="")), "tracker"),
    Mutant("tracker.alone", "a variable of the environment removed", before("begin", lambda self, *_: os.environ.pop("PATH", None)), "tracker"),
    Mutant("tracker.alone", "gradients turned off", before("pictures", lambda self, *_: torch.set_grad_enabled(False)), "tracker"),
    Mutant("tracker.alone", "one thread for all", before("begin", lambda self, *_: torch.set_num_threads(torch.get_num_threads() + 1)), "tracker"),
    Mutant("tracker.alone", "a handler on the root logger", before("begin", lambda self, *_: logging.getLogger().addHandler(logging.NullHandler())), "tracker"),
    Mutant("tracker.quiet", "a line for every call, by print", before("scalars", lambda self, step, values: print(step, values)), "tracker"),
    Mutant("tracker.quiet", "a line at the beginning, past print", before("begin", chatters), "tracker"),
    Mutant("tracker.quiet", "a line for every call to standard error", before("scalars", lambda self, step, values: print(step, file=sys.stderr)), "tracker"),
    Mutant("tracker.quiet", "a line to standard error, past print", before("end", lambda self: os.write(2, b"uploaded\n")), "tracker"),
    Mutant("tracker.pure", "a picture that is drawn upon", before("pictures", drawn_on), "tracker"),
    Mutant("tracker.pure", "figures rounded in place", before("scalars", rounded), "tracker"),
    Mutant("tracker.pure", "a configuration that is edited", before("begin", edited), "tracker"),
    Mutant("tracker.keeps", "the last figures never written", tracker(scalars=last_ten), "tracker"),
    Mutant("tracker.keeps", "every other step left out", told(lambda step, values: values if step % 2 else None), "tracker"),
    Mutant("tracker.keeps", "figures that are rounded to two digits now and then", told(lambda step, values: {k: round(v, 2) if step % 3 == 0 else v for k, v in values.items()}), "tracker"),
    Mutant("tracker.keeps", "figures by three digits", told(lambda step, values: {k: float(f"{v:.3g}") for k, v in values.items()}), "tracker"),
    Mutant("tracker.keeps", "names without what is before the slash", told(lambda step, values: {k.rpartition("/")[0] or k: v for k, v in values.items()}), "tracker"),
    Mutant("tracker.keeps", "a file that is never closed", tracker(end=lambda self: CLASS_FILES.append(self.file)), "tracker"),
    Mutant("tracker.keeps", "steps that it counts itself", tracker(scalars=lambda self, step, values: Lines.scalars(self, self.__dict__.setdefault("count", [0]).append(0) or len(self.count), values)), "tracker"),
    Mutant("tracker.keeps", "the validation left out", told(lambda step, values: {k: v for k, v in values.items() if "validation" not in k}), "tracker"),
    Mutant("tracker.names", "figures under each other's names", told(lambda step, values: dict(zip(values, [*list(values.values())[1:], *list(values.values())[:1]], strict=True))), "tracker"),
    Mutant("tracker.names", "a table's columns by the first figures", tracker(scalars=first_head), "tracker"),
    Mutant("tracker.names", "figures of the call before", tracker(scalars=lambda self, step, values: [Lines.scalars(self, step, self.__dict__.get("last", values)), self.__dict__.update(last=dict(values))]), "tracker"),
    Mutant("tracker.shows", "one picture's file for all names", tracker(pictures=lambda self, step, pictures: [p.convert("RGB").save(self.folder / f"{step}.png") for p in pictures.values()]), "tracker"),
    Mutant("tracker.shows", "red and blue exchanged", tracker(pictures=lambda self, step, pictures: Lines.pictures(self, step, {k: Image.fromarray(np.asarray(p.convert("RGB"))[..., ::-1].copy()) for k, p in pictures.items()})), "tracker"),
    Mutant("tracker.alone", "warnings silenced for all", before("begin", lambda self, *_: warnings.simplefilter("ignore")), "tracker"),
    Mutant("tracker.alone", "what is printed sent elsewhere", before("begin", lambda self, *_: setattr(sys, "stdout", io.StringIO())), "tracker"),
    Mutant("tracker.resumes", "a file begun anew", tracker(begin=anew), "tracker"),
    Mutant("tracker.resumes", "a folder that must not be there", tracker(begin=refuses), "tracker"),
    Mutant("tracker.resumes", "a file begun anew where the run was killed", tracker(begin=whole_runs_only, scalars=written_at_once, end=leaves_a_mark), "tracker"),
    Mutant("tracker.resumes", "figures of a resumed run left out", tracker(begin=lambda self, folder, configuration, after: (Lines.begin(self, folder, configuration, after), setattr(self, "file", self.file if after is None else open(os.devnull, "w")))[0]), "tracker"),  # noqa: SIM115
    Mutant("tracker.apart", "figures on the class", tracker(scalars=on_the_class, end=all_of_class), "tracker"),
    Mutant("tracker.apart", "the folder of the run that began last", tracker(begin=one_place, scalars=lambda self, step, values: PLACE["file"].write(json.dumps(dict(values)) + "\n") and PLACE["file"].flush()), "tracker"),
    Mutant("tracker.places", "files where the process is", tracker(begin=here), "tracker"),
    Mutant("tracker.places", "the run's own metrics written over", tracker(begin=over_metrics), "tracker"),
    Mutant("tracker.places", "samples of the run removed", before("begin", lambda self, folder, *_: folder and (folder / "samples.png").unlink(missing_ok=True)), "tracker"),
    Mutant("tracker.ends", "a thread that stays", before("begin", thread_for_ever), "tracker"),
    Mutant("tracker.ends", "a file that stays open", before("begin", opened), "tracker"),
    Mutant("tracker.prompt", "a request that is waited for", before("scalars", lambda self, *_: time.sleep(0.05)), "tracker"),
    Mutant("tracker.prompt", "work for each call", before("scalars", lambda self, *_: sum(range(4_000_000))), "tracker"),
    Mutant("tracker.prompt", "work that grows with the run", tracker(scalars=slower), "tracker"),
]  # fmt: skip
