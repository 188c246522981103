"""Progress of long work: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class Progress:
    """Shows how far work has come, its loss, speed and time left, on stderr.

    Args:
        title: what is being done.
        total: steps in all.
        quiet: show nothing.
        every: seconds between two plain lines, where stderr is no terminal.
    """

    def __init__(self, title: str, total: int, *, quiet: bool = False, every: float = 10.0) -> None:
        self.title, self.total, self.quiet, self.every = title, total, quiet, every
        self.started = self.said = time.monotonic()
        self._bar = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @contextmanager
    def aside(self, title: str, total: int) -> Iterator["Progress"]:
        """Progress of other work in between, whose time does not count as this work's.

        Args:
            title: what else is being done.
            total: its steps in all.
        """
        begun = time.monotonic()
        if self._bar is not None:
            # Taken away meanwhile, as two bars would write over each other.
            self._bar.live.transient = True
            self._bar.stop()
            self._bar.live.transient = False
        try:
            with Progress(title, total, quiet=self.quiet, every=self.every) as other:
                yield other
        finally:
            self.started += time.monotonic() - begun
            if self._bar is not None:
                self._bar.start()

    def update(self, done: int, **figures: float) -> None:
        """Say that ``done`` steps are done, with figures such as ``loss``."""
        if self.quiet:
            return
        now = time.monotonic()
        speed = done / max(now - self.started, 1e-9)
        pace = f"{speed:.1f}/s" if speed >= 1 else f"{words(1 / max(speed, 1e-9))} each"
        note = "  ".join([*(f"{name} {value:.3f}" for name, value in figures.items()), pace])
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif now - self.said >= self.every or done == self.total:
            self.said = now
            left = (self.total - done) / speed
            print(f"{self.title}: {done}/{self.total}  {note}  {words(left)} left", file=sys.stderr, flush=True)


def words(seconds: float) -> str:
    """A time, in the unit that fits it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
