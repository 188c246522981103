"""What the metadata of installed distributions says; runs no code of theirs, and no metadata makes it raise."""

import email.message
import email.parser
import importlib
import importlib.metadata
import os
import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from mmcore._version import __version__
from mmcore.hooks import DISTRIBUTION, PROJECT

if TYPE_CHECKING:
    from packaging.requirements import Requirement

GROUP = "mmcore.v1"
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


@attrs.frozen
class Fault:
    """Why a plugin cannot be used.

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
    cause: BaseException | None = attrs.field(default=None, eq=False, repr=False)
    spreads: bool = False


@attrs.frozen
class Entry:
    """One entry point, as metadata tells it.

    Attributes:
        kind: one of :data:`HOOKS`, such as ``modality``; ``?`` where the entry's name has none.
        name: what it is asked for by.
        distribution: the distribution it comes with.
        version: that distribution's version.
        module: the module with the hook implementations.
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
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def pip(command: str, *arguments: str) -> str:
    """A line to paste into a shell."""
    return f"pip {command} {shlex.join(arguments)}"


def installed() -> list[Entry]:
    """All entries in the groups ``mmcore.v1``, ``mmcore.v2`` …, sorted; of two distributions of one name the first on the path."""
    importlib.invalidate_caches()
    entries: dict[Entry, None] = {}
    seen: set[str] = set()
    for candidate in importlib.metadata.distributions():
        # pip renames to "~…" what it is about to remove, and may leave it.
        if _stem(candidate).startswith("~") or f"[{PROJECT}.v" not in _read(candidate, "entry_points.txt"):
            continue
        name = canonical(_stem(candidate) or _headers(candidate)["Name"] or "")
        if name not in seen:
            seen.add(name)
            # An older copy further down the path may offer what the one in use no longer does.
            first = next(iter(importlib.metadata.distributions(name=name)), candidate) if name else candidate
            entries |= dict.fromkeys(_entries(first))
    return sorted(entries, key=lambda e: (e.kind, e.name, e.distribution, e.module, e.api))


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
    for line in headers.get_all("Requires-Dist", []):
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


def _entries(distribution: importlib.metadata.Distribution) -> list[Entry]:
    headers = _headers(distribution)
    folder = str(getattr(distribution, "_path", ""))
    name = one_line(headers["Name"] or "")
    title = name or _stem(distribution) or "?"
    text = _read(distribution, "entry_points.txt")
    fault = None
    unreadable = _unreadable(distribution)
    anew = f"remove {folder or 'it'}, then {pip('install', title)}"
    if unreadable:
        fault = Fault("broken", f"its entry_points.txt cannot be read: {unreadable}", anew, spreads=True)
    elif not name:
        fault = Fault("broken", "its metadata has no name", anew)
    elif canonical(name) != DISTRIBUTION:
        fault = _core_fault(name, headers.get_all("Requires-Dist", []))
    found = []
    for group, point, value in points(text):
        major = re.fullmatch(rf"{PROJECT}\.(v\d+)", group)
        if major:
            kind, dot, rest = point.partition(".")
            entry = Entry(
                kind if dot else "?",
                rest if dot else point,
                title,
                one_line(headers["Version"] or "?"),
                value,
                major[1],
                folder,
            )
            found.append(attrs.evolve(entry, fault=fault or _entry_fault(entry)))
    here = [(e.kind, e.name) for e in set(found) if e.api == API]
    twice = Fault(
        "broken",
        "it names two modules for one entry point",
        f"{pip('install', '--upgrade', title)}, or tell its author",
    )
    found = [attrs.evolve(e, fault=e.fault or twice) if here.count((e.kind, e.name)) > 1 else e for e in found]
    # A distribution may serve several versions of the interface; then ours is the one that counts.
    return [e for e in found if e.api == API or (e.kind, e.name) not in here]


def _unreadable(distribution: importlib.metadata.Distribution) -> str:
    try:
        _entry_points(distribution)
    except Exception as error:
        return f"{type(error).__name__}: {one_line(str(error))}"
    return ""


def _entry_fault(entry: Entry) -> Fault | None:
    if entry.api != API:
        mend = pip("install", "--upgrade", DISTRIBUTION, entry.distribution)
        return Fault("incompatible", f"it is for plugin API {entry.api}, mmcore {__version__} has {API}", mend)
    if entry.kind not in HOOKS:
        point = entry.name if entry.kind == "?" else f"{entry.kind}.{entry.name}"
        problem = f"its entry point {point!r} is none of {', '.join(f'{kind}.NAME' for kind in HOOKS)}"
    elif not re.fullmatch(r"\w[\w.\-]*", entry.name):
        problem = f"its entry point is called {entry.name!r}, expected letters, digits, '.', '_' and '-'"
    elif not all(part.isidentifier() for part in entry.module.split(".")):
        problem = f"its entry point {entry.kind}.{entry.name} has the value {entry.module!r}, expected a module, without attribute or extras"
    else:
        return None
    return Fault("broken", problem, f"{pip('install', '--upgrade', entry.distribution)}, or tell its author")


def _core_fault(distribution: str, requirements: list[str]) -> Fault | None:
    """Whether the distribution requires another version of mmcore than this."""
    mend = pip("install", "--upgrade", DISTRIBUTION, distribution)
    for line in requirements:
        if canonical(re.match(r"[-_.\w]*", line.strip())[0]) != DISTRIBUTION:
            continue
        try:
            requirement = _requirement(line)
        except Exception:
            return Fault("broken", f"its requirement {one_line(line)!r} cannot be read", mend)
        if requirement and not requirement.specifier.contains(__version__, prereleases=True):
            problem = f"it needs {DISTRIBUTION}{requirement.specifier}, this is {DISTRIBUTION} {__version__}"
            return Fault("incompatible", problem, mend)
    return None


def _requirement(line: str) -> "Requirement | None":
    """The requirement, if its marker holds here."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    return requirement if requirement.marker is None or requirement.marker.evaluate({"extra": ""}) else None


def _headers(distribution: importlib.metadata.Distribution | None) -> email.message.Message:
    text = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO") if distribution else ""
    # The long description after the empty line would take most of the time.
    return email.parser.HeaderParser().parsestr(re.split(r"\r?\n\r?\n", text, maxsplit=1)[0])


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
