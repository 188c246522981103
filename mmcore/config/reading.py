"""One configuration while it is read: its tables, what they name, and all that is found wrong with them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from torch import nn

from mmcore.config.build import below, placed
from mmcore.config.check import dotted
from mmcore.errors import MISSING, MmcoreError, PluginError, Problem
from mmcore.plugins import Registry
from mmcore.plugins.metadata import one_line

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""Names that are keys of a file, parts of file names and names of a module's children all at once."""


@attrs.define(eq=False)
class Reading:
    """What the readers of sections share.

    Attributes:
        given: the tables of the file.
        where: the file's name, for messages.
        registry: where names are looked up.
        problems: what was found wrong so far.
    """

    given: Mapping[str, Any]
    where: str
    registry: Registry
    problems: list[Problem] = attrs.field(factory=list)

    def say(self, key: str, text: str, value: Any = MISSING) -> None:
        """One more thing is wrong."""
        self.problems.append(Problem(key, text, value))

    def refused(
        self,
        error: Exception,
        place: Sequence[str],
        given: Mapping[str, Any],
        options: Iterable[str] = (),
        *,
        named: Sequence[str] = (),
    ) -> None:
        """A constructor refused something; arguments as :func:`mmcore.config.build.placed`.

        A plugin that is broken is told of where it is ``named``: no other values of its options would mend it.
        """
        if named and isinstance(error, PluginError):
            if not self.broken(*place):
                self.say(dotted(*named), one_line(str(error)))
            return
        self.problems += placed(error, place, given, options, self.problems)

    def broken(self, *place: str) -> bool:
        """Whether something at a place, or inside it, is wrong."""
        return below(self.problems, dotted(*place))

    def table(self, *place: str) -> dict[str, Any]:
        """A section, empty where there is none or it is no table."""
        found: Any = self.given
        for part in place:
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        return dict(found) if isinstance(found, Mapping) else {}

    def checked_table(self, key: str, value: Any) -> dict[str, Any] | None:
        """A value that must be a table."""
        if isinstance(value, Mapping):
            return dict(value)
        self.say(key, f"expected a table, [{key}]", value)
        return None

    def named(self, section: str) -> dict[str, Any]:
        """What a section holds under names of the user's own, those that are names."""
        table = self.checked_table(section, self.given.get(section, {})) or {}
        for name in table:
            if not NAME.fullmatch(name):
                self.say(
                    dotted(section, name), "is no name: expected a letter, then letters, digits, _ or -, at most 64"
                )
            elif hasattr(nn.ModuleDict, name):
                self.say(dotted(section, name), f"{name!r} is taken by torch itself; use another name")
        bad = {p.key for p in self.problems}
        return {name: value for name, value in table.items() if dotted(section, name) not in bad}

    def factory(self, kind: str, plugin: str, place: Sequence[str]) -> Callable[..., Any] | None:
        """The factory of a plugin's offer, imported; None where there is none."""
        try:
            return self.registry.factory(self.registry.find(kind, plugin))[0]
        except MmcoreError as error:
            self.say(dotted(*place), one_line(str(error)), plugin if place[-1] in ("plugin", kind) else MISSING)
            return None
