"""``mmcore new-plugin``: write a distribution that installs, is discovered and passes the conformance kit at once.

The files are templates beside this module. ``{{word}}`` stands for one of the words that :func:`new_plugin` puts in.
"""

import keyword
import re
import shutil
from importlib.resources import files
from pathlib import Path

from packaging.version import Version

import mmcore
from mmcore import files as door
from mmcore.errors import RequestError
from mmcore.hooks import DISTRIBUTION, PROJECT
from mmcore.plugins import GROUP, Registry
from mmcore.plugins.metadata import canonical

KINDS = {
    "vector": "vectors of real numbers",
    "sequence": "series of real numbers",
    "grid": "maps of real numbers",
    "categorical": "one class of several",
    "text": "short texts",
    "series": "series of real numbers, of any length",
    "depth": "maps of positive numbers with holes",
    "table": "columns of a table: numbers, counts and classes",
    "pretrained": "pictures, encoded by a pretrained network",
}
"""The kinds of data that there are templates for."""
NEEDS = {"table": ("mmcore-label", "mmcore-scalar"), "pretrained": ("mmcore-image",)}
"""The distributions beside mmcore's that a template builds on."""
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    ".gitignore": "gitignore",
    ".github/workflows/tests.yml": "workflow.yml",
    "{{package}}/__init__.py": "package.py",
    "{{package}}/plugin.py": "plugin.py",
    "{{package}}/modality.py": "{{kind}}.py",
    "{{package}}/py.typed": "py.typed",
    "tests/test_conformance.py": "test_conformance.py",
}
"""Each file of the distribution, and its template."""


def new_plugin(name: str, *, kind: str = "vector", out: Path = Path("."), registry: Registry) -> Path:
    """Write the distribution of a new modality.

    Args:
        name: of the modality, such as ``audio`` or ``heart-rate``; the distribution is called ``mmcore-NAME``.
        kind: of data, one of ``KINDS``.
        out: the folder in which the distribution's folder is made.
        registry: what is installed; its names are taken.

    Returns:
        The distribution's folder.

    Raises:
        RequestError: a name that is not valid or taken, an unknown kind, or a folder that is there or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise RequestError(
            f"new-plugin: name {name!r}, expected lower-case letters and digits, in words joined by '-', "
            "such as audio or heart-rate, and no word of Python's"
        )
    if kind not in KINDS:
        raise RequestError(f"new-plugin: kind {kind!r}, expected one of {', '.join(KINDS)}")
    distribution = f"{PROJECT}-{name}"
    if distribution == DISTRIBUTION:
        raise RequestError(
            f"new-plugin: name {name!r}, whose distribution would be {DISTRIBUTION}, mmcore itself; choose another name"
        )
    for entry in registry.entries:
        if entry.name == name or canonical(entry.distribution) == distribution:
            raise RequestError(
                f"new-plugin: {entry.kind} {entry.name!r} is already offered by {entry.distribution} {entry.version}; "
                "choose another name, or uninstall that one first"
            )
    folder = out / distribution
    if folder.exists():
        raise RequestError(f"new-plugin: {folder} is there already, and nothing is overwritten; choose another --out")
    words = {
        "name": name,
        "kind": kind,
        "data": KINDS[kind],
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "word": name.replace("-", "_"),
        "class": "".join(part.capitalize() for part in name.split("-")),
        "core": bounded(mmcore.__version__),
        "needs": "".join(f', "{need}{bounded(mmcore.__version__)}"' for need in NEEDS.get(kind, ())),
        "group": GROUP,
    }
    templates = files("mmcore.scaffold") / "templates"
    try:
        if not out.is_dir():
            raise NotADirectoryError(f"there is no folder {out}")
        # Beside its place, so that it is there as a whole or not at all.
        made = out / f"{door.ASIDE}{distribution}"
        try:
            if made.is_dir() and not made.is_symlink():  # of a call that was stopped
                shutil.rmtree(made)
            for path, template in FILES.items():
                text = (templates / f"{_fill(template, words)}.tmpl").read_text(encoding="utf-8")
                door.write(made / _fill(path, words), _fill(text, words).encode())
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise RequestError(f"new-plugin: {folder} cannot be written: {error}") from error
    return folder


def bounded(version: str) -> str:
    """The requirement on a core of this version: at least its minor version, below the next that may break.

    Before 1.0 that is the next minor version, then the next major one.
    """
    found = Version(version)
    return f">={found.major}.{found.minor},<{f'0.{found.minor + 1}' if found.major == 0 else found.major + 1}"


def _fill(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text)
