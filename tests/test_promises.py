"""The oldest versions that are promised are those that the suite is run with: ``tox run -e lowest``."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
APART = {
    "torch": "only the tested build is there",
    "transformers": "4.40 takes no huggingface_hub from 1.0 on; clip's own tests passed with it",
    "tokenizers": "0.20 takes no huggingface_hub from 1.0 on; text's own tests passed with it",
}
"""What stands there by a newer version than the oldest, and why."""
ELSEWHERE = {"gradio", "mlflow", "trackio", "wandb"}
"""What has environments and constraints of its own."""


def promised() -> dict[str, Version]:
    """The oldest version of each library, of the core, its extras and the plugins."""
    found: dict[str, set[Version]] = {}
    for path in PROJECTS:
        project = tomllib.loads(path.read_text())["project"]
        lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
        for requirement in map(Requirement, (text for texts in lists for text in texts)):
            for one in requirement.specifier:
                if one.operator == ">=" and not requirement.name.startswith("mmcore"):
                    found.setdefault(canonicalize_name(requirement.name), set()).add(Version(one.version))
    assert all(len(versions) == 1 for versions in found.values()), f"promised by several numbers: {found}"
    return {name: versions.pop() for name, versions in found.items()}


def lowest() -> dict[str, Version]:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pair[1]): Version(pair[2]) for pair in pairs if pair is not None}


def test_what_is_promised_is_what_the_lowest_environment_has() -> None:
    oldest, there = promised(), lowest()
    assert len(oldest) > 15
    assert oldest.keys() - ELSEWHERE == there.keys()
    off = {
        name: f"{oldest[name]} is promised, {version} is tested"
        for name, version in there.items()
        if name not in APART and version.release[: len(oldest[name].release)] != oldest[name].release
    }
    assert not off
    assert all(there[name] > oldest[name] for name in APART)
