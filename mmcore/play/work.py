"""One question being answered, in a thread of its own: how far it has come, and a way to stop it."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from mmcore.errors import MmcoreError
from mmcore.play.values import Value

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds after which work stops that nobody has looked at, as when a browser went away."""
VISITORS = 32
"""People whose values are remembered."""


class StoppedError(MmcoreError):
    """The work was stopped."""


class Work(Generic[T]):
    """Calls a function in a thread, with a watcher by which it is stopped.

    Args:
        do: is given the watcher of :func:`mmcore.sample`.
        patience: seconds after which it stops where nobody has called :meth:`wait`.
    """

    def __init__(self, do: Callable[[Callable[[int, int], None]], T], patience: float = PATIENCE) -> None:
        self.done, self.total, self.result = 0, 0, None
        self.error: BaseException | None = None
        self.patience = patience
        self._stop, self._ended, self._seen = threading.Event(), threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(do,), name="mmcore-play", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop before the next timestep."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        self._seen = time.monotonic()
        return self._ended.wait(seconds)

    def answer(self) -> T:
        """What the function returned.

        Raises:
            BaseException: what it raised; StoppedError where it was stopped.
        """
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]

    def _watch(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self._stop.is_set():
            raise StoppedError("stopped")
        if time.monotonic() - self._seen > self.patience:
            raise StoppedError("stopped, as nobody waits for the answer")

    def _run(self, do: Callable[[Callable[[int, int], None]], T]) -> None:
        try:
            self.result = do(self._watch)
        except BaseException as error:
            self.error = error
        finally:
            self._ended.set()


@attrs.define(eq=False)
class Visitor:
    """What is remembered of one person's page.

    Attributes:
        values: given ones, by variable, each with the mark that the page knows it by.
        truth: samples ``(*spec.shape)`` of the row that was begun with, by variable.
        row: its number; None for none.
        work: that is being done.
    """

    values: dict[str, tuple[str, Value]] = attrs.field(factory=dict)
    truth: dict[str, Any] = attrs.field(factory=dict)
    row: int | None = None
    work: Work[Any] | None = None

    def keep(self, name: str, value: Value) -> str:
        """Remember a value; its mark."""
        mark = secrets.token_hex(8)
        self.values[name] = (mark, value)
        return mark

    def stop(self) -> None:
        """Stop what is being done."""
        if self.work is not None:
            self.work.stop()


class Visitors:
    """The people who have the page open, by what their browser calls itself; of many the one who asked longest ago is forgotten.

    Args:
        most: how many.
    """

    def __init__(self, most: int = VISITORS) -> None:
        self.most = most
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, who: str) -> Visitor:
        with self._lock:
            found = self._known.setdefault(who, Visitor())
            self._known.move_to_end(who)
            while len(self._known) > self.most:
                self._known.popitem(last=False)[1].stop()
            return found

    def __len__(self) -> int:
        return len(self._known)

    def leave(self, who: str) -> None:
        """Forget one, and stop what is done for them."""
        with self._lock:
            gone = self._known.pop(who, None)
        if gone is not None:
            gone.stop()
