"""A first configuration from data, by looking at them: which source, which modalities, of what size, and a model of about the right size."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from mmcore.config.column import Column
from mmcore.config.files import value_of
from mmcore.config.holding import disagreement, parts_of
from mmcore.config.looking import Looked
from mmcore.config.naming import class_names, with_names
from mmcore.config.offered import proposals
from mmcore.config.telling import told
from mmcore.config.writing import lines
from mmcore.data import as_source
from mmcore.data.sources.manifest import CELLS
from mmcore.data.sources.survey import survey
from mmcore.errors import ConfigError, Problem, RequestError
from mmcore.options import TEXT, Rule, whole
from mmcore.plugins import Registry
from mmcore.plugins.metadata import printable


def _ordered(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(isinstance(x, int | float) for x in value)
    return numbers and -math.inf < value[0] < value[1] < math.inf


_OPTIONS = {
    "limits": Rule("two numbers, the smaller first, such as 0,1", _ordered),
    "classes": whole(1),
    "channels": whole(1),
    "channel": TEXT,
}
"""Options of a column by which others are worked out, before its modality sees them."""


@attrs.frozen
class Guess:
    """A configuration, and why it is this one.

    Attributes:
        text: of the TOML file.
        said: lines for the terminal: what each column was taken for, on what evidence, what to change, and what was left out.
    """

    text: str
    said: tuple[str, ...]


def configuration(path: Path, registry: Registry, *, out: str = "", assume: Sequence[str] = ()) -> Guess:
    """A commented configuration for the data at a path.

    Args:
        path: a file or folder.
        registry: where sources are found.
        out: of the run; by default named after the data.
        assume: ``KEY=VALUE`` pairs where the evidence does not decide: ``COLUMN=MODALITY`` (``none`` leaves it out), ``COLUMN.OPTION=VALUE`` for an
            option of its modality, ``options.OPTION=VALUE`` for one of the source, or ``layout=classes`` or ``layout=modalities`` for what the
            folders in a folder are.

    Raises:
        RequestError: no data there, or nothing in them that a modality reads.
        ConfigError: the evidence does not decide; each question with what to assume.
    """
    said = _assumed(assume)
    layout, asked = said.pop("layout", {}).get("", ""), said.pop("options", {})
    surveyed = survey(path, layout, {key: value for key, value in asked.items() if key in CELLS})
    if surveyed.question and "folders" not in asked:
        raise ConfigError("init", [Problem("", surveyed.question)])
    name, options = surveyed.source, surveyed.options | asked
    parts = parts_of(registry, name, options)
    source = as_source(registry.source(name, **options, **({"part": "all"} if parts else {})))
    looked = Looked(source, said, _installed(registry), proposals(registry))
    questions = list(looked.questions)
    if looked.split and parts:
        questions += filter(None, [disagreement(registry, name, options, parts, looked.split, looked.parts)])
    if questions:
        raise ConfigError("init", [Problem("", str(question)) for question in questions])
    columns = [_beside(column, parts) for column in looked.columns]
    names = class_names(name, options, source, columns)
    shares = looked.shares()
    columns = [with_names(column, names) for column in columns]
    used = [column for column in columns if column.plugin]
    if not used:
        raise RequestError(
            f"init: found {', '.join(f'{c.name} ({c.note})' for c in columns) or 'no column'} in {path}, expected pictures, "
            "class maps, labels or vectors; write the configuration by hand, or a plugin that reads them"
        )
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.absolute().name.split(".")[0]).strip("-") or "data"
    text = map(
        printable,
        lines(
            out or f"runs/{stem}",
            name,
            options,
            columns,
            used,
            source,
            parts,
            shares,
            apart=bool(looked.apart) and looked.alike,
        ),
    )
    return Guess("\n".join(text) + "\n", tuple(map(printable, told(path, surveyed, looked, columns, shares))))


def _beside(column: Column, own: Sequence[str]) -> Column:
    """A column without the parts that the data have themselves: held out twice, a part would have no row."""
    return attrs.evolve(column, parts={part: words for part, words in column.parts.items() if part not in own})


def _assumed(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the user says, by column: the modality as ``""``, and options.

    Raises:
        RequestError: a pair of another form.
    """
    said: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        column, _, option = key.rpartition(".") if "." in key else (key, "", "")
        if not equals or not column or not text:
            raise RequestError(f"init: --assume {pair!r}, expected COLUMN=MODALITY or COLUMN.OPTION=VALUE")
        value: Any = text if option in ("", "separator") else value_of(text)
        if (
            isinstance(value, str)
            and "," in value
            and option not in ("", "missing", "decimal", "delimiter", "separator")
        ):
            value = listed if isinstance(listed := value_of(f"[{text}]"), list) else text.split(",")
        if option in ("ignore", "values", "colours", "names") and not isinstance(value, list):
            value = [value]
        rule = _OPTIONS.get(option)
        if rule is not None and column != "options" and not rule.holds(value):
            raise RequestError(f"init: --assume {printable(pair)}: found {printable(text)}, expected {rule.expected}")
        said.setdefault(column, {})[option] = value
    return said


def _installed(registry: Registry) -> list[str]:
    """The modalities that can be used here: what is shut out, or cannot be used, reads nothing."""
    return [e.name for e in registry.entries if e.kind == "modality" and not e.blocked and not e.fault]
