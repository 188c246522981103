"""The arrows between rooms run one way."""

import ast
from pathlib import Path

import pytest

import mmcore

CORE = Path(mmcore.__file__).parent
FIRST_PARTY = ("mmcore_image", "mmcore_mask", "mmcore_label", "mmcore_clip")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_core_imports_no_plugin_and_the_process_nothing_of_the_rest(path: Path) -> None:
    names = imports(path)
    assert not any(name.split(".")[0] in FIRST_PARTY for name in names)
    room = path.relative_to(CORE).parts[0]
    if room == "process":
        assert all(n.startswith("mmcore.process") for n in names if n.split(".")[0] == "mmcore")
    if room not in ("cli", "demo", "__main__.py"):
        assert not any(n.startswith(("mmcore.cli", "mmcore.demo")) for n in names)
