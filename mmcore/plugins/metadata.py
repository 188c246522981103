"""What the metadata of installed distributions says; runs no code of theirs, and no metadata makes it raise.

Reading many plugins takes little more than the standard library takes to list entry points: a distribution that offers nothing is read
no further, and what is slow to import is imported for what is out of the ordinary only.
"""

import importlib
import importlib.metadata
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmcore._version import __version__
from mmcore.hooks import DISTRIBUTION, PROJECT, REGISTERED

if TYPE_CHECKING:
    from packaging.requirements import Requirement

GROUP = "mmcore.v1"
"""The group of the entry points that offer something; its number is the major version of the plugin interface."""
API = GROUP.rpartition(".")[2]
HOOKS = {
    "modality": "mmcore_modalities",
    "backbone": "mmcore_backbones",
    "schedule": "mmcore_schedules",
    "source": "mmcore_sources",
    "embedder": "mmcore_embedders",
    "sampler": "mmcore_samplers",
    "guidance": "mmcore_guidances",
    "transform": "mmcore_transforms",
    "tracker": "mmcore_trackers",
}
"""The hook that a kind of offer comes from."""
NAME = re.compile(r"\w[\w.\-]*")
"""What an offer may be called."""
RESERVED = {"sampler": ("auto",)}
"""Words that mean something else where a name of the kind is asked for, so that no offer under them would be found."""


class Fault(NamedTuple):
    """Why a plugin cannot be used, and what to do.

    Attributes:
        status: ``broken`` or ``incompatible``.
        problem: what is wrong, on one line.
        mend: what to type or do about it, on one line.
        cause: the plugin's own failure, if its code has run.
        spreads: whether it also fails all others who read the entry points of everything installed, as torch does.
    """

    status: str
    problem: str
    mend: str
    cause: BaseException | None = None
    spreads: bool = False


class Entry(NamedTuple):
    """One entry point, as metadata tells it, or what was registered in its place.

    Attributes:
        kind: one of :data:`HOOKS`, such as ``modality``; ``?`` where the entry's name has none.
        name: what it is asked for by.
        distribution: the distribution it comes with; :data:`mmcore.hooks.REGISTERED` for what was registered in this process.
        version: that distribution's version, empty for what was registered.
        module: the module with the hook implementations, or of the factory that was registered.
        api: the major version of the plugin interface that it is written for.
        path: the folder of the distribution's metadata.
        fault: what the metadata alone shows to be wrong.
        blocked: whether the caller or ``MMCORE_PLUGINS`` has shut it out.
    """

    kind: str
    name: str
    distribution: str
    version: str
    module: str
    api: str = API
    path: str = ""
    fault: Fault | None = None
    blocked: bool = False

    @property
    def registered(self) -> bool:
        """Whether it was registered in this process: there is no metadata, and no module with hooks."""
        return self.distribution == REGISTERED

    @property
    def full_name(self) -> str:
        """``distribution:name``, which picks one of several offers of a name."""
        return f"{self.distribution}:{self.name}"

    def answers_to(self, query: str) -> bool:
        """Whether ``query`` is its name, ``kind.name``, or either after ``distribution:``."""
        names = (self.name, f"{self.kind}.{self.name}")
        distribution, colon, name = query.partition(":")
        return query in names or (
            bool(colon) and name in names and canonical(distribution) == canonical(self.distribution)
        )

    def matches(self, query: str) -> bool:
        """Whether it answers to ``query``, or ``query`` is its distribution."""
        return self.answers_to(query) or canonical(query) == canonical(self.distribution)


def canonical(distribution: str) -> str:
    """A distribution's name as PEP 503 compares it: ``Mmcore_Label`` is ``mmcore-label``."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def one_line(text: str) -> str:
    """The text on one line, without what would move a terminal's cursor."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with U+FFFD in place of what is not seen, such as what would move a terminal's cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def pip(command: str, *arguments: str) -> str:
    """A line to paste into a shell."""
    import shlex

    return f"pip {command} {shlex.join(arguments)}"


def installed() -> list[Entry]:
    """All entries in the groups ``mmcore.v1``, ``mmcore.v2`` …, sorted; of two distributions of one name the first on the path."""
    importlib.invalidate_caches()
    entries: dict[Entry, None] = {}
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        stem = _stem(distribution)
        # pip renames to "~…" what it is about to remove, and may leave it.
        if stem.startswith("~"):
            continue
        name = canonical(stem or _first(_headers(distribution), "name"))
        # An older copy further down the path may offer what the one in use no longer does.
        if name and name in seen:
            continue
        seen.add(name)
        text = _read(distribution, "entry_points.txt")
        if f"[{PROJECT}.v" in text:
            entries |= dict.fromkeys(_entries(distribution, text))
    return sorted(entries, key=lambda e: (e.kind, e.name, e.distribution, e.module, e.api))


def version_of(distribution: str) -> str:
    """The version that its metadata tells; empty where it is not installed, ``?`` where the metadata does not say."""
    found = next(iter(importlib.metadata.distributions(name=distribution)), None)
    return (one_line(_first(_headers(found), "version")) or "?") if found else ""


def forgive() -> None:
    """Make unreadable entry points count as none in this process, for everybody.

    The standard library reads those of all distributions at once, so that one unreadable file fails each of its
    callers; torch and fsspec are among them, as they are imported.
    """
    importlib.metadata.Distribution.entry_points = property(_forgiving)  # type: ignore[reportAttributeAccessIssue]


def _forgiving(distribution: importlib.metadata.Distribution) -> importlib.metadata.EntryPoints:
    try:
        return _entry_points(distribution)
    except Exception:
        return importlib.metadata.EntryPoints(())


def _entry_points(distribution: importlib.metadata.Distribution) -> importlib.metadata.EntryPoints:
    assert _PROPERTY.fget is not None
    return _PROPERTY.fget(distribution)


_PROPERTY = importlib.metadata.Distribution.entry_points


def points(text: str) -> Iterator[tuple[str, str, str]]:
    """Group, name and value of each line of an ``entry_points.txt``; a line that is none has an empty value."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, name.strip(), value.strip()


def unmet(distribution: str) -> list[str]:
    """The distribution's requirements that are not installed in a fitting version."""
    headers = _headers(next(iter(importlib.metadata.distributions(name=distribution)), None))
    lacking = []
    for line in headers.get("requires-dist", ()):
        try:
            requirement = _requirement(line)
            if requirement is None:
                continue
            found = importlib.metadata.version(requirement.name)
            if requirement.specifier.contains(found, prereleases=True):
                continue
        except importlib.metadata.PackageNotFoundError:
            pass
        except Exception:  # unreadable metadata of others is no reason to say nothing
            continue
        lacking.append(line.partition(";")[0].strip())
    return lacking


def _entries(distribution: importlib.metadata.Distribution, text: str) -> list[Entry]:
    """What the ``text`` of its entry points offers."""
    headers = _headers(distribution)
    folder = str(getattr(distribution, "_path", ""))
    title = one_line(_first(headers, "name")) or _stem(distribution) or "?"
    version = one_line(_first(headers, "version")) or "?"
    fault = _distribution_fault(distribution, text, headers, f"remove {folder or 'it'}, then")
    found = []
    for group, point, value in points(text):
        api = group.removeprefix(f"{PROJECT}.")
        if api != group and api[:1] == "v" and api[1:].isdecimal():
            kind, dot, rest = point.partition(".")
            entry = Entry(kind if dot else "?", rest if dot else point, title, version, value, api, folder)
            found.append(entry._replace(fault=fault or _entry_fault(entry)))
    here = [(e.kind, e.name) for e in set(found) if e.api == API]
    for number, entry in enumerate(found):
        if here.count((entry.kind, entry.name)) > 1 and not entry.fault:
            mend = f"{pip('install', '--upgrade', title)}, or tell its author"
            found[number] = entry._replace(fault=Fault("broken", "it names two modules for one entry point", mend))
    # A distribution may serve several versions of the interface; then ours is the one that counts.
    return [e for e in found if e.api == API or (e.kind, e.name) not in here]


def _distribution_fault(
    distribution: importlib.metadata.Distribution, text: str, headers: Mapping[str, Sequence[str]], remove: str
) -> Fault | None:
    """What makes all its entries useless."""
    name = one_line(_first(headers, "name"))
    unreadable = _unreadable(distribution, text)
    if unreadable:
        mend = f"{remove} {pip('install', name or _stem(distribution) or '?')}"
        return Fault("broken", f"its entry_points.txt cannot be read: {unreadable}", mend, spreads=True)
    if not name:
        return Fault("broken", "its metadata has no name", f"{remove} {pip('install', _stem(distribution) or '?')}")
    return None if canonical(name) == DISTRIBUTION else _core_fault(name, headers.get("requires-dist", ()))


def _unreadable(distribution: importlib.metadata.Distribution, text: str) -> str:
    """What the standard library says that is wrong with these entry points; it is not asked where all is plain."""
    if plain(text):
        return ""
    try:
        _entry_points(distribution)
    except Exception as error:
        return f"{type(error).__name__}: {one_line(str(error))}"
    return ""


def plain(text: str) -> bool:
    """Whether entry points are surely ones that the standard library reads: nothing but groups, names and references."""
    if "\N{REPLACEMENT CHARACTER}" in text or ";" in text:
        return False
    return all(
        group and name and all(part.isidentifier() for part in value.replace(":", ".", 1).split("."))
        for group, name, value in points(text)
    )


def _entry_fault(entry: Entry) -> Fault | None:
    if entry.api != API:
        mend = pip("install", "--upgrade", DISTRIBUTION, entry.distribution)
        return Fault("incompatible", f"it is for plugin API {entry.api}, mmcore {__version__} has {API}", mend)
    if entry.kind not in HOOKS:
        point = entry.name if entry.kind == "?" else f"{entry.kind}.{entry.name}"
        problem = f"its entry point {point!r} is none of {', '.join(f'{kind}.NAME' for kind in HOOKS)}"
    elif not NAME.fullmatch(entry.name):
        problem = f"its entry point is called {entry.name!r}, expected letters, digits, '.', '_' and '-'"
    elif entry.name in RESERVED.get(entry.kind, ()):
        problem = f"its entry point {entry.kind}.{entry.name} has a name that stands for mmcore's own choice, expected another"
    elif not all(part.isidentifier() for part in entry.module.split(".")):
        problem = f"its entry point {entry.kind}.{entry.name} has the value {entry.module!r}, expected a module, without attribute or extras"
    else:
        return None
    return Fault("broken", problem, f"{pip('install', '--upgrade', entry.distribution)}, or tell its author")


def _core_fault(distribution: str, requirements: Sequence[str]) -> Fault | None:
    """Whether the distribution requires another version of mmcore than this."""
    for line in requirements:
        name = re.match(r"\s*([-_.\w]*)\s*", line)
        if not name or canonical(name[1]) != DISTRIBUTION or fits(line[name.end() :], __version__):
            continue
        mend = pip("install", "--upgrade", DISTRIBUTION, distribution)
        try:
            requirement = _requirement(line)
        except Exception:
            return Fault("broken", f"its requirement {one_line(line)!r} cannot be read", mend)
        if requirement and not requirement.specifier.contains(__version__, prereleases=True):
            problem = f"it needs {DISTRIBUTION}{requirement.specifier}, this is {DISTRIBUTION} {__version__}"
            return Fault("incompatible", problem, mend)
    return None


def fits(bounds: str, version: str) -> bool:
    """Whether plain bounds, such as ``>=0.1,<0.2``, take a plain version; False also for what only packaging can read, which is slow to import."""
    try:
        return all(_holds(bound.strip(), version) for bound in bounds.split(",")) if bounds else True
    except ValueError:
        return False


def _holds(bound: str, version: str) -> bool:
    for sign, compare in _COMPARE.items():
        if bound.startswith(sign):
            return compare(_numbers(version), _numbers(bound.removeprefix(sign).strip()))
    raise ValueError(bound)


_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _numbers(version: str) -> list[int]:
    """The numbers of a plain version; 1.0 is 1."""
    parts = version.split(".")
    if not version.isascii() or not all(part.isdecimal() for part in parts):
        raise ValueError(version)
    numbers = [int(part) for part in parts]
    while numbers[-1:] == [0]:
        numbers.pop()
    return numbers


def _requirement(line: str) -> "Requirement | None":
    """The requirement, if its marker holds here."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    return requirement if requirement.marker is None or requirement.marker.evaluate({"extra": ""}) else None


def _headers(distribution: importlib.metadata.Distribution | None) -> dict[str, list[str]]:
    return headers_of(_read(distribution, "METADATA") or _read(distribution, "PKG-INFO")) if distribution else {}


def headers_of(text: str) -> dict[str, list[str]]:
    """The values of each header of a ``METADATA`` file, by its name in lower case, as the email package reads them."""
    found: dict[str, list[str]] = {}
    last: list[str] = []
    # The long description after the empty line would take most of the time.
    for line in text.replace("\r\n", "\n").replace("\r", "\n").partition("\n\n")[0].split("\n"):
        if line[:1] in (" ", "\t"):
            if last:
                last[-1] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        if not colon or not name.isascii() or not name.isprintable() or not name or " " in name:
            break
        last = found.setdefault(name.lower(), [])
        last.append(value.lstrip(" \t"))
    return found


def _first(headers: Mapping[str, Sequence[str]], name: str) -> str:
    return headers[name][0] if headers.get(name) else ""


def _stem(distribution: importlib.metadata.Distribution) -> str:
    return os.path.basename(str(getattr(distribution, "_path", ""))).partition("-")[0]


def _read(distribution: importlib.metadata.Distribution, name: str) -> str:
    """A metadata file's text, empty if there is none; bytes that are not UTF-8 become U+FFFD."""
    try:
        return distribution.read_text(name) or ""
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")
    except Exception:
        return ""
