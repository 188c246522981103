"""How much is taken from what a stranger may have made: every limit, once, and the environment variable that raises it.

Sizes are compared before anything of that size is read or built. Importing this module imports no torch.
"""

import os
from typing import Any, NamedTuple

from mmcore.errors import OptionError


class Limit(NamedTuple):
    """The most of one thing.

    Attributes:
        name: of the thing, and with ``MMCORE_MOST_`` before it of the environment variable.
        default: where that is not set.
        unit: of both; empty for what is counted.
    """

    name: str
    default: int
    unit: str = "bytes"

    @property
    def variable(self) -> str:
        """The environment variable that raises or lowers it."""
        return f"MMCORE_MOST_{self.name}"

    @property
    def most(self) -> int:
        """The limit now.

        Raises:
            OptionError: the environment variable is no whole number of at least 1.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text)):
            raise OptionError("environment", self.variable, text, "a whole number of at least 1")
        return int(text)

    def excess(self, found: int) -> str:
        """What was found, the limit and what raises it, in words; empty where it is not beyond."""
        if found <= self.most:
            return ""
        return f"{self.words(found)}, the limit is {self.words(self.most)}; {self.variable} raises it"

    def check(self, subject: str, option: str, value: Any, count: int, note: str = "") -> None:
        """Refuse an option by which there would be too much.

        Args:
            subject: what the option belongs to.
            option: its name.
            value: its value.
            count: how many or how much there would be by it.
            note: what else to say of that.

        Raises:
            OptionError: it is beyond the limit.
        """
        if count > self.most:
            expected = f"at most {self.words(self.most)}, found {self.words(count)}{note}"
            raise OptionError(
                subject, option, value, expected, mend=f"make it smaller, or {self.variable} raises the limit"
            )

    def words(self, count: int) -> str:
        """A number of them."""
        if self.unit != "bytes":
            return f"{_short(count)} {self.unit}"
        for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
            if count >= size:
                return f"{_short(count // size)} {unit}" if count >= 10 * size else f"{count / size:.1f} {unit}"
        return f"{count} bytes"


def _short(count: int) -> str:
    # Python itself refuses to write numbers of very many digits.
    return f"{count:,}" if count < 10**18 else "more than 10^18"


FILE = Limit("FILE", 2**30)
"""A file that is read whole for one value: a picture, an array, a text, JSON."""
PIXELS = Limit("PIXELS", 178_956_970, "pixels")
"""Of one picture; by default where Pillow takes it for a decompression bomb."""
LINE = Limit("LINE", 64 * 2**20)
"""One line of a table."""
UNPACKED = Limit("UNPACKED", 8 * 2**30)
"""What is unpacked into memory of one file: a compressed array, a gzipped IDX file, a Parquet table."""
CONFIGURATION = Limit("CONFIGURATION", 2**20)
"""A configuration's file."""
NESTING = Limit("NESTING", 32, "levels")
"""Tables and lists inside one another in a configuration."""
RECORD = Limit("RECORD", 64 * 2**20)
"""A JSON file of a model folder or a checkpoint, or its manifest."""
WEIGHTS = Limit("WEIGHTS", 16 * 2**30)
"""The tensors of one file of weights, and of a model that is composed."""
TENSORS = Limit("TENSORS", 20_000, "tensors")
"""How many of them there are."""
SPACE = Limit("SPACE", 2**24, "elements")
"""The diffusion space, and all codes together."""
TIMESTEPS = Limit("TIMESTEPS", 10**6, "timesteps")
"""``T`` of a noise schedule."""
BATCH = Limit("BATCH", 16 * 2**30)
"""What the latents of the rows that are computed at once take, in training or sampling."""
UPLOAD = Limit("UPLOAD", 32 * 2**20)
"""A file that a person gives to the page of ``mmcore play``."""
UPLOAD_PIXELS = Limit("UPLOAD_PIXELS", 50_000_000, "pixels")
"""Of a picture that a person gives to that page."""

ALL = (
    FILE,
    PIXELS,
    LINE,
    UNPACKED,
    CONFIGURATION,
    NESTING,
    RECORD,
    WEIGHTS,
    TENSORS,
    SPACE,
    TIMESTEPS,
    BATCH,
    UPLOAD,
    UPLOAD_PIXELS,
)


def takes(elements: int) -> str:
    """The memory of so many numbers of a row, in words."""
    return f" ({WEIGHTS.words(4 * elements)} for one row)"
