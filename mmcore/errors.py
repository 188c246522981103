"""The errors that mmcore raises on purpose."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class MmcoreError(Exception):
    """Base of every error raised on purpose: one line that names the thing and the mend."""


class RequestError(MmcoreError, ValueError):
    """The request was wrong: usage, configuration, a plugin's name, or data (exit status 2)."""


class PluginError(MmcoreError):
    """A plugin cannot be used; its own failure is the cause."""


_NOTHING = object()


class Problem(NamedTuple):
    """One thing that is wrong with a configuration.

    Attributes:
        key: its place, dotted as in the file.
        text: what was expected, and the mend.
        value: what was found; left out where something is missing.
    """

    key: str
    text: str
    value: Any = _NOTHING

    def __str__(self) -> str:
        if self.value is _NOTHING:
            return f"{self.key}: {self.text}" if self.key else self.text
        # Not above: whoever imports mmcore would wait for it.
        import json

        found = json.dumps(self.value, ensure_ascii=False, default=str)
        return f"{self.key} = {found if len(found) <= 80 else f'{found[:77]}…'}: {self.text}"


class ConfigError(RequestError):
    """All that is wrong with a configuration, a line each.

    Args:
        where: the file.
        problems: at least one.
    """

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        self.where, self.problems = where, tuple(problems)
        super().__init__("\n".join(f"{where}: {problem}" for problem in self.problems))
