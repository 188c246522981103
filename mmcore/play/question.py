"""What a person asks, as plain data; and the same question in Python and for the command line."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs
import numpy as np
from PIL import Image

from mmcore.errors import RequestError
from mmcore.model.joint import JointModel
from mmcore.play.values import Value, npy, png
from mmcore.runs.asking import Asked, ask
from mmcore.runs.reader import Reader

GIVEN, WANTED, LEFT_OUT = "given", "wanted", "left out"
MOST_DRAWS = 64
MOST_STEPS = 1000


def allowed(model: JointModel, name: str) -> list[str]:
    """What a variable may be in a question: given needs an encoding, wanted a head that recovers it."""
    encoded = any(m.name == name for m in model.modalities)
    return [*[GIVEN] * encoded, *[WANTED] * model.heads.reads(name), LEFT_OUT]


@attrs.frozen(eq=False)
class Part:
    """What a question says of one variable.

    Attributes:
        role: ``"given"``, ``"wanted"`` or ``"left out"``.
        value: where it is given.
        known: which elements of it are, of the file's size or as the model has the value; None for all.
    """

    role: str
    value: Value | None = None
    known: np.ndarray | None = None


@attrs.frozen(eq=False)
class Question:
    """What is asked.

    Attributes:
        parts: by variable, of all of them.
        draws: how many answers.
        guidance: the scale for everything that is given whole; 1 for none.
        how: arguments of :func:`mmcore.sample`: sampler, steps, seed and draw.
    """

    parts: Mapping[str, Part]
    draws: int
    guidance: float
    how: Mapping[str, Any]

    @classmethod
    def checked(
        cls, model: JointModel, parts: Mapping[str, Part], draws: Any, guidance: Any, how: Mapping[str, Any]
    ) -> Self:
        """A question that can be asked, whatever a page has sent.

        Raises:
            RequestError: naming what is missing or beyond its limits.
        """
        for name, part in parts.items():
            if part.role not in allowed(model, name):
                raise RequestError(f"{name}: found {part.role!r}, expected one of {', '.join(allowed(model, name))}")
            if part.role == GIVEN and part.value is None:
                raise RequestError(f"{name} is given, but there is no value yet: choose one, or set it to wanted")
        if not any(part.role == WANTED or part.known is not None for part in parts.values()):
            raise RequestError("nothing is wanted: set something to wanted, or brush what is unknown")
        draws = _whole("draws", draws, 1, MOST_DRAWS)
        steps = how.get("steps")
        settled = dict(how) | ({} if steps is None else {"steps": _whole("steps", steps, 1, MOST_STEPS)})
        settled["seed"] = _whole("seed", how.get("seed", 0), 0, 2**31 - 1)
        if not isinstance(guidance, int | float) or isinstance(guidance, bool) or not 0 <= guidance <= 100:
            raise RequestError(f"guidance = {guidance!r}, expected a number in 0 … 100")
        return cls(dict(parts), draws, float(guidance), settled)

    @property
    def wanted(self) -> list[str]:
        """The variables that are answered, in part or as a whole."""
        return [name for name, part in self.parts.items() if part.role == WANTED or part.known is not None]

    @property
    def scales(self) -> dict[str, float]:
        """Guidance by variable: of what is given whole."""
        if self.guidance == 1:
            return {}
        return {name: self.guidance for name, part in self.parts.items() if part.role == GIVEN and part.known is None}

    @property
    def absent(self) -> list[str]:
        """The variables that are left out."""
        return [name for name, part in self.parts.items() if part.role == LEFT_OUT]

    def asked(self, reader: Reader, watch: Callable[[int, int], None] | None = None) -> Asked:
        """The answer: by the same door as ``mmcore sample``.

        Raises:
            RequestError: a value that cannot be read, or a question that makes no sense.
        """
        given = {name: [part.value.raw] for name, part in self._given()}
        where = {name: part.known for name, part in self._given() if part.known is not None}
        return ask(
            reader,
            self.draws,
            given=given,
            where=where,
            absent=self.absent,
            guidance=self.scales,
            watch=watch,
            **self.how,
        )

    # ---- elsewhere ----

    def files(self) -> dict[str, bytes]:
        """What Python and the command line read beside them, by file name."""
        found = {}
        for number, (name, part) in enumerate(self._given()):
            stem = self._stem(name, number)
            if part.value.word is None:
                found[f"{stem}{part.value.suffix}"] = part.value.data
            if part.known is not None:
                found[f"{stem}-known{_suffix(part.known)}"] = _mask(part.known)
        return found

    def command(self, place: str) -> str:
        """The line for a shell, in the folder of the :meth:`files`.

        Args:
            place: of the run or model.
        """
        told = ["mmcore", "sample", place, "-n", str(self.draws)]
        for option, pairs in self._told().items():
            for name, text in pairs.items():
                told += [f"--{option}", f"{name}={text}"]
        for name in self.absent:
            told += ["--absent", name]
        for name, value in self.how.items():
            told += [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
        return _folded([shlex.quote(one) for one in told])

    def python(self, place: str) -> str:
        """The same in Python.

        Args:
            place: of the run or model.
        """
        told: dict[str, Any] = {name: pairs for name, pairs in self._told().items() if pairs}
        # What is typed in Python is a value already.
        given = {name: part.value.raw for name, part in self._given() if part.value.word is not None}
        if "given" in told:
            told["given"] = told["given"] | {
                name: raw if not isinstance(raw, str) else [raw] for name, raw in given.items()
            }
        if self.absent:
            told["absent"] = self.absent
        lines = [f"    {name}={_literal(value)}," for name, value in (told | dict(self.how)).items()]
        head = [
            "import mmcore",
            "",
            f"reader = mmcore.Reader.open({_literal(place)})",
            "answer = reader.ask(",
            f"    {self.draws},",
        ]
        return "\n".join([*head, *lines, ")"])

    def _told(self) -> dict[str, dict[str, Any]]:
        given, where = {}, {}
        for number, (name, part) in enumerate(self._given()):
            stem = self._stem(name, number)
            given[name] = f"{stem}{part.value.suffix}" if part.value.word is None else part.value.word
            if part.known is not None:
                where[name] = f"{stem}-known{_suffix(part.known)}"
        return {"given": given, "where": where, "guidance": self.scales}

    def _given(self) -> list[tuple[str, Any]]:
        return [(name, part) for name, part in self.parts.items() if part.role == GIVEN]

    def _stem(self, name: str, number: int) -> str:
        """A file's name for a variable's."""
        plain = re.sub(r"[^A-Za-z0-9_-]", "", name)
        return plain if plain == name and not name.startswith("-") else f"value-{number + 1}"


def _whole(option: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{option} = {value!r}, expected a whole number in {low:,} … {high:,}")
    return value


def _suffix(known: np.ndarray) -> str:
    return ".png" if known.ndim == 2 else ".npy"


def _mask(known: np.ndarray) -> bytes:
    return png(Image.fromarray(known.astype(np.uint8) * 255)) if known.ndim == 2 else npy(known)


def _literal(value: Any) -> str:
    """A value as Python writes it, with double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _folded(words: list[str], most: int = 88) -> str:
    """A command on several lines, folded before options."""
    lines, line = [], ""
    for word in words:
        if line and word.startswith("-") and len(line) + len(word) > most - 24:
            lines.append(line)
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return " \\\n".join([*lines, line])
