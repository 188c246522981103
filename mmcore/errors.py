"""The errors that mmcore raises on purpose."""

import contextlib
import enum
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class MmcoreError(Exception):
    """Base of every error raised on purpose: one line that names the thing and the mend.

    Attributes:
        option: which option of the request it is about, a name or a dotted path; empty where that is not known.
    """

    option: str = ""

    def __str__(self) -> str:
        return _legible(self._said())

    def _said(self) -> str:
        return super().__str__()


class RequestError(MmcoreError, ValueError):
    """The request was wrong: usage, configuration, a plugin's name, or data (exit status 2)."""


class PluginError(MmcoreError):
    """A plugin cannot be used; its own failure is the cause."""


class _Missing(enum.Enum):
    MISSING = enum.auto()


MISSING = _Missing.MISSING
"""Stands for a value that was not given."""


class OptionError(RequestError):
    """An option has a value that cannot be used.

    Which option it is, what was found and what was expected are data, so that a configuration can tell of it at its place;
    ``str(error)`` is one whole line. Constructors of plugins may raise it too.

    Args:
        subject: what the option belongs to, such as ``"training"``; empty for nothing before the option.
        option: its name, or a dotted path such as ``"tasks.image.weight"``.
        value: what was found; left out where something is missing.
        expected: in words, such as ``"at least 1"``; by default one of ``choices``.
        choices: the names that it may be; the nearest one is told.
        mend: what to do, where ``expected`` alone does not say it.
        beside: other options that the value does not go with; to change one of them would do as well.

    Attributes:
        also: what else the same thing refuses (:func:`refuse`).
    """

    def __init__(
        self,
        subject: str,
        option: str,
        value: Any = MISSING,
        expected: str = "",
        choices: Iterable[str] = (),
        mend: str = "",
        beside: Iterable[str] = (),
    ) -> None:
        self.subject, self.option, self.value, self.expected = subject, option, value, expected
        self.choices, self.mend, self.beside = tuple(choices), mend, tuple(beside)
        self.also: tuple[OptionError, ...] = ()
        # The arguments, by which copies are made between processes.
        super().__init__(subject, option, value, expected, self.choices, mend, self.beside)

    def called(self, option: str) -> "OptionError":
        """The same refusal of an option under another name, by itself."""
        return OptionError(self.subject, option, self.value, self.expected, self.choices, self.mend, self.beside)

    @property
    def text(self) -> str:
        """What was expected, the nearest of the choices and the mend: all but the option and its value."""
        expected = self.expected or f"one of {', '.join(map(str, self.choices))}"
        near = nearest(self.value, self.choices) if isinstance(self.value, str) else ""
        return f"expected {expected}{near}{f'; {self.mend}' if self.mend else ''}"

    def _said(self) -> str:
        before = f"{self.subject}: " if self.subject else ""
        found = "is missing" if self.value is MISSING else f"= {quoted(self.value)}"
        return f"{before}{self.option} {found}, {self.text}"


def refuse(refused: Iterable[OptionError]) -> None:
    """Raise the first of some refusals, with the others in its ``also``; nothing where there is none."""
    errors = tuple(refused)
    if errors:
        errors[0].also = (*errors[0].also, *errors[1:])
        raise errors[0]


@contextlib.contextmanager
def about(option: str) -> Iterator[None]:
    """What is refused inside is about an option of the caller's: ``width`` becomes ``backbone_options.width``."""
    try:
        yield
    except OptionError as error:
        refuse(one.called(f"{option}.{one.option}") for one in (error, *error.also))
    except MmcoreError as error:
        error.option = option
        raise


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'steps'?``, or nothing where no known name is near."""
    # Not above: whoever imports mmcore would wait for it.
    import difflib

    by_case = {one.casefold(): one for one in known if isinstance(one, str)}
    near = difflib.get_close_matches(name.casefold(), by_case, 1, cutoff=0.5)
    return f"; did you mean {by_case[near[0]]!r}?" if near else ""


class Problem(NamedTuple):
    """One thing that is wrong with a configuration.

    Attributes:
        key: its place, dotted as in the file.
        text: what was expected, and the mend.
        value: what was found; left out where something is missing.
    """

    key: str
    text: str
    value: Any = MISSING

    def __str__(self) -> str:
        if self.value is MISSING:
            return f"{self.key}: {self.text}" if self.key else self.text
        import json

        return f"{self.key} = {_shortened(json.dumps(self.value, ensure_ascii=False, default=str), 80)}: {self.text}"


class ConfigError(RequestError):
    """All that is wrong with a configuration, a line each.

    Args:
        where: the file.
        problems: at least one.
    """

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        self.where, self.problems = where, tuple(problems)
        # The arguments, by which copies are made between processes.
        super().__init__(where, self.problems)

    def __str__(self) -> str:
        return "\n".join(_legible(f"{self.where}: {problem}") for problem in self.problems)


def quoted(value: Any) -> str:
    """A value on one plain line, whatever its class makes of it."""
    try:
        return plainly(repr(value))
    except Exception:  # such as whole numbers of more digits than Python writes
        return f"<{type(value).__name__}>"


def plainly(text: str, most: int = 200) -> str:
    """A text on one line, no longer than so many characters, all of them seen."""
    return "".join(map(_escaped, _shortened(text, most)))


def _escaped(one: str) -> str:
    """A character, so that it is seen."""
    return one if one.isprintable() else one.encode("unicode_escape").decode()


def _legible(text: str) -> str:
    """A message of one line, with nothing in it that moves a cursor and no word that nobody reads: names and values of a caller's are in it as they came."""
    # Not above: whoever imports mmcore would wait for it.
    import re

    text = re.sub(r"\S{501,}", lambda word: f"{word[0][:200]}…{word[0][-3:]}", text)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _shortened(text: str, most: int) -> str:
    """On one line, as arrays show themselves on several, and no longer than so many characters."""
    text = " ".join(text.split()) if "\n" in text else text
    return text if len(text) <= most else f"{text[: most - 3]}…"
