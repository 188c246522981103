"""What lies in a run's folder, read without trust, and what belongs to it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from mmcore import files
from mmcore.errors import RequestError, quoted
from mmcore.limits import FILE, RECORD, Limit
from mmcore.metrics.figure import Figure
from mmcore.store.reading import DamagedError, digest, parse_json, read_bytes

FORMAT = 1
"""Of the records in a run's folder."""
WEIGHTS = Path("model", "model.safetensors")
"""In a run's folder, what its records are of."""
MOST = 1e30
"""A figure beyond it is none that a run has written."""


@attrs.frozen(eq=False)
class Kept:
    """A run's folder, read without trust.

    Attributes:
        folder: of the run.
        faults: what cannot be read, and why.
    """

    folder: Path
    faults: list[str] = attrs.field(factory=list)

    def read(self, name: str, limit: Limit = RECORD) -> bytes | None:
        """A file of the folder; None where there is none, or where it cannot be read."""
        path = self.folder / name
        try:
            if not path.is_symlink() and not path.exists():
                return None
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise DamagedError(f"{path}: leads out of the folder, expected a file in it")
            return read_bytes(path, limit)
        except (DamagedError, OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            self.faults.append(str(error))
            return None

    def lines(self, name: str, check: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The lines of a log that say what they should; one that is being written is not missed."""
        data = self.read(name, FILE) or b""
        kept, whole = [], data.split(b"\n")[:-1]
        for line in whole:
            try:
                found = parse_json(line, Path(name))
            except DamagedError:
                continue
            if is_count(found.get("step")) and check(found):
                kept.append(found)
        if len(kept) < len(whole):
            self.faults.append(f"{self.folder / name}: {len(whole) - len(kept)} of {len(whole)} lines cannot be read")
        return kept

    def picture(self, name: str) -> bytes | None:
        """A PNG that is whole."""
        data = self.read(name)
        if data is not None and not (data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")):
            self.faults.append(f"{self.folder / name}: found no whole PNG")
            return None
        return data


@attrs.frozen
class Record:
    """A JSON file that a command leaves in a run's folder, of the weights that are there.

    Attributes:
        name: of the file.
        what: it says that it is.
        command: by which it is made.
    """

    name: str
    what: str
    command: str

    def check_own(self, folder: Path) -> None:
        """Refuse to overwrite a file that is none of a run's.

        Raises:
            RequestError: there is one.
        """
        path = folder / self.name
        if not os.path.lexists(path):
            return
        try:
            ours = parse_json(read_bytes(path, RECORD, follow=False), path).get("what") == self.what
        except DamagedError:
            ours = False
        if not ours:
            raise RequestError(f"{self.subject}: {path} is none of a run's, and is not overwritten; move it away")

    def save(self, folder: Path, told: Mapping[str, Any]) -> Path:
        """Write it, in place of the one that was there.

        Raises:
            RequestError: it cannot be written, or a file of other origin is there.
        """
        self.check_own(folder)
        path = folder / self.name
        told = {"what": self.what, "format": FORMAT, "model": digest(folder / WEIGHTS), **told}
        text = json.dumps(told, indent=1)
        try:
            files.write(path, text.encode())
        except OSError as error:
            raise RequestError(f"{self.subject}: {path} cannot be written: {error.strerror or error}") from error
        return path

    def check_weights(self, data: Mapping[str, Any], folder: Path) -> None:
        """Refuse what is told of other weights than are there, or in another format.

        Raises:
            DamagedError: it is.
        """
        self._check_format(data, folder)
        if data.get("model") != digest(folder / WEIGHTS):
            raise DamagedError(
                f"{folder / self.name}: is of other weights than model/model.safetensors; {self.command} makes it anew"
            )

    def figures(self, folder: Path) -> tuple[dict[str, Figure], str] | None:
        """The figures that it holds, and the rows that they are of, in words; None where there is none, or one of other weights.

        Raises:
            DamagedError: it is not what was written.
        """
        path = folder / self.name
        if not path.exists():
            return None
        data = parse_json(read_bytes(path, RECORD), path)
        self._check_format(data, folder)
        if data.get("model") != digest(folder / WEIGHTS):
            return None
        return self.read_figures(data, folder), str(data.get("rows", ""))

    def read_figures(self, data: Mapping[str, Any], folder: Path) -> dict[str, Figure]:
        """The figures of what was read.

        Raises:
            DamagedError: they are not what was written.
        """
        try:
            return {str(name): read_figure(one) for name, one in data["figures"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(
                f"{folder / self.name}: holds no figures as {self.command} writes them ({error})"
            ) from error

    def _check_format(self, data: Mapping[str, Any], folder: Path) -> None:
        if (found := data.get("format")) != FORMAT:
            raise DamagedError(
                f"{folder / self.name}: is of format {quoted(found)}, expected {FORMAT}; {self.command} makes it anew"
            )

    @property
    def subject(self) -> str:
        """What an error is of."""
        return self.name.partition(".")[0]


def is_count(value: Any) -> bool:
    """Whether it is a whole number that a run may have counted."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def is_number(value: Any) -> bool:
    """Whether it is a number that a run may have measured."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST


def read_number(value: Any) -> float:
    """It, where it is a number.

    Raises:
        TypeError: it is none.
    """
    if not is_number(value):
        raise TypeError("something else for a number")
    return float(value)


def read_count(value: Any) -> int:
    """It, where it is a count.

    Raises:
        TypeError: it is none.
    """
    if not is_count(value):
        raise TypeError("something else for a count")
    return value


def read_figure(data: Any) -> Figure:
    """A figure as :meth:`Figure.json <mmcore.metrics.figure.Figure.json>` has it.

    Raises:
        KeyError, TypeError: it is none.
    """
    return Figure(
        read_number(data["value"]), read_count(data["n"]), read_number(data["low"]), read_number(data["high"])
    )
