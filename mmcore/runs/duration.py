"""How long a training takes: what it does, how often by its options, and the seconds of each."""

from collections.abc import Callable, Sequence

import attrs

from mmcore.progress import words
from mmcore.training import TrainOptions


@attrs.frozen
class Share:
    """What a training does, once or again and again.

    Attributes:
        name: of one.
        count: how often.
        seconds: of one.
    """

    name: str
    count: int
    seconds: float

    @property
    def whole(self) -> float:
        """Seconds of all."""
        return self.count * self.seconds

    def __str__(self) -> str:
        count = "" if self.name in ONCE else f"{self.count:,} "
        return f"{count}{self.name}{'s' if count and self.count != 1 else ''} {words(self.whole)}"


ONCE = ("start", "end")
"""What is done once, whatever the options."""


@attrs.frozen(kw_only=True)
class Seconds:
    """What was measured.

    Attributes:
        start: until the first step: the program loaded, rows read, the model made.
        first: of the first step, with its batch.
        step: of a later one.
        validation: of one validation.
        sheet: of one sheet of samples on the way.
        checkpoint: of one checkpoint.
        end: of the last samples.
    """

    start: float = 0.0
    first: float = 0.0
    step: float = 0.0
    validation: float = 0.0
    sheet: float = 0.0
    checkpoint: float = 0.0
    end: float = 0.0


def shares(options: TrainOptions, seconds: Seconds) -> tuple[Share, ...]:
    """All that a training does.

    Args:
        options: of the training.
        seconds: what each takes.
    """
    # The first step is one of the steps, and takes longer.
    step = (seconds.first + (options.steps - 1) * seconds.step) / options.steps
    found = [
        Share("start", 1, seconds.start),
        Share("step", options.steps, step),
        Share("validation", occasions(options.steps, options.validate_every), seconds.validation),
        Share("sheet", occasions(options.steps, options.pictures_every), seconds.sheet),
        Share("end", 1, seconds.end),
    ]
    found.insert(4, Share("checkpoint", checkpoints(options, sum(share.whole for share in found)), seconds.checkpoint))
    return tuple(share for share in found if share.count)


def occasions(steps: int, every: int) -> int:
    """How often it is time for what is done every so many steps, and after the last: never where ``every`` is 0."""
    return -(-steps // every) if every else 0


def checkpoints(options: TrainOptions, seconds: float) -> int:
    """How many are written, by steps or by time, and one before the first step and one after the last.

    Args:
        options: of the training.
        seconds: that the training takes without them.
    """
    by_steps = (options.steps - 1) // options.save_steps if options.save_steps else 0
    by_time = int(seconds / options.save_seconds) if options.save_seconds else 0
    return 2 + max(by_steps, by_time)


def by_rows(measure: Callable[[int], float], wanted: Sequence[int], within: float) -> list[float]:
    """Seconds of as many rows as wanted: measured with ever more rows while time is left, and beyond along a line.

    Args:
        measure: with so many rows, in seconds.
        wanted: numbers of rows, of which the largest is measured if there is time.
        within: seconds after which no third number, or any further one, is begun.
    """
    found: list[tuple[int, float]] = []
    rows = 1
    # What a call costs and what a row costs are told apart by two numbers of rows at least.
    while not found or (found[-1][0] < max(wanted) and (len(found) < 2 or sum(took for _, took in found) < within)):
        found.append((rows, measure(rows)))
        rows = min(4 * rows, max(wanted))
    (before, less), (last, more) = found[-2] if len(found) > 1 else (0, 0.0), found[-1]
    slope = max(0.0, (more - less) / (last - before))
    known = dict(found)
    return [known.get(n, max(0.0, more + (n - last) * slope)) for n in wanted]
