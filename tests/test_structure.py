"""The house: rooms on floors, arrows that only go down, and one meaning for every name."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mmcore

CORE = Path(mmcore.__file__).parent
FIRST_PARTY = (
    "mmcore_image",
    "mmcore_mask",
    "mmcore_label",
    "mmcore_clip",
    "mmcore_scalar",
    "mmcore_text",
    "mmcore_audio",
    "mmcore_depth",
    "mmcore_diffusers",
)
FLOORS = (
    ("_lazy", "_version"),
    ("errors", "hooks", "progress"),
    ("limits", "rng", "options", "space"),
    ("files", "process"),
    ("modality",),
    ("plugins",),
    ("data",),
    ("model",),
    ("store",),
    ("sampling",),
    ("training",),
    ("metrics",),
    ("config",),
    ("runs",),
    ("hub", "play", "scaffold", "testing"),
    ("demo",),
    ("cli",),
)
"""From the ground up. A room imports rooms below it, or itself; those on one floor do not know each other."""
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == "mmcore"
            found |= {f"mmcore.{alias.name}" for alias in node.names} if inside else {node.module}
    return found


def room(name: str) -> str:
    """Of a module, or of a public name of ``mmcore`` itself."""
    first = name.split(".")[1]
    return mmcore._WHERE.get(first, first).partition(".")[0]


PATHS = sorted(CORE.rglob("*.py"))
FACADE = (CORE / "__init__.py", CORE / "__main__.py")


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(CORE).parts[0].removesuffix(".py") for path in PATHS if path not in FACADE}
    assert rooms == LEVEL.keys()


@pytest.mark.parametrize("path", [p for p in PATHS if p not in FACADE], ids=lambda p: str(p.relative_to(CORE)))
def test_arrows_go_down_and_core_imports_no_plugin(path: Path) -> None:
    names = imports(path)
    assert not any(name.split(".")[0] in FIRST_PARTY for name in names)
    mine = path.relative_to(CORE).parts[0].removesuffix(".py")
    inside = {room(name) for name in names if name.startswith("mmcore.")} - {mine}
    up = {other for other in inside if LEVEL[other] >= LEVEL[mine]}
    assert not up, f"{mine} imports {', '.join(sorted(up))}, which is not below it"


def test_the_process_imports_nothing_of_the_rest() -> None:
    for path in (CORE / "process").rglob("*.py"):
        assert all(name.startswith("mmcore.process") for name in imports(path) if name.split(".")[0] == "mmcore")


def test_modules_inside_a_room_are_in_no_circle() -> None:
    """Nor by what a function imports when it is called; names that only annotations use are another matter."""
    graph: dict[str, set[str]] = {}
    names = {_name(path) for path in PATHS}
    for path in PATHS:
        if path in FACADE:
            continue
        # A package's own ``__init__`` is no part of its modules' circles: they import each other by full names.
        if path.name != "__init__.py":
            graph[_name(path)] = {m for m in _at_run_time(path) if m in names} - {_name(path)}
    order: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in order:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            order[name] = len(order)

    for name in sorted(graph):
        visit(name, ())


def _name(path: Path) -> str:
    parts = ("mmcore", *path.relative_to(CORE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _at_run_time(path: Path) -> Iterator[str]:
    """What is imported, but for type checkers alone."""
    pending: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def _packages() -> Iterator[ModuleType]:
    yield mmcore
    for found in pkgutil.walk_packages(mmcore.__path__, "mmcore."):
        if found.ispkg:
            yield importlib.import_module(found.name)


def test_no_name_is_a_module_and_something_else() -> None:
    for package in _packages():
        modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
        names = {*getattr(package, "__all__", ()), *getattr(package, "_WHERE", ())}
        for name in modules - {"__main__"}:
            thing = getattr(package, name, None)
            assert thing is None or inspect.ismodule(thing), f"{package.__name__}.{name} is a module and a {thing!r}"
            assert name not in names or inspect.ismodule(getattr(package, name)), f"{package.__name__}.{name}"


MOST_METHODS, MOST_LINES = 16, 250


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path in PATHS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield f"{path.relative_to(CORE)}:{node.name}", node


def test_no_class_knows_everything() -> None:
    for where, node in _classes():
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        assert len(methods) <= MOST_METHODS, f"{where} has {len(methods)} methods"
        assert lines <= MOST_LINES, f"{where} has {lines} lines"


OPENS = {
    *("open", "fdopen", "FileIO", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "savefig", "safe_open", "save_file", "load_file"),
    *("mkstemp", "mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "copyfile", "copytree", "copy", "copy2", "SummaryWriter"),
}  # fmt: skip
ARRAYS = {"save", "savez", "savez_compressed", "load", "memmap", "fromfile", "loadtxt", "savetxt", "imread", "imsave"}
BESIDES = {
    "testing/checks_outside.py: path.write_bytes": "into the check's own folder",
    # What is open already, or in memory.
    "data/decode.py: Image.open": "bytes in memory, by a list of formats",
    "data/embed.py: np.save": "into memory",
    "data/sources/idx.py: gzip.open": "a file that the door has opened",
    "data/sources/npz.py: archive.open": "a member of an archive that the door has opened",
    "data/sources/shards.py: tarfile.open": "a file that the door has opened",
    "demo/pictures.py: figure.savefig": "into memory",
    "play/values.py: np.save": "into memory",
    "runs/filled.py: np.save": "into memory",
    "runs/pictures.py: figure.savefig": "into memory",
    # A folder or file of its own, made where only its owner looks.
    "cli/ending.py: tempfile.mkstemp": "the report of an error nobody has foreseen",
    "cli/ending.py: os.fdopen": "the same",
    "hub/push.py: tempfile.TemporaryDirectory": "what is about to be uploaded",
    "data/sources/streamed.py: tempfile.TemporaryDirectory": "a library's cache, which stays empty",
    "plugins/probe.py: tempfile.TemporaryDirectory": "what a probing process is asked, and answers",
    "plugins/probe.py: part.write_text": "the same",
    "plugins/probe.py: Path(folder, 'request.json').read_text": "the same",
    "plugins/probe.py: (folder / 'request.json').write_text": "the same",
    "plugins/probe.py: (self.folder / 'answer.json').read_text": "the same",
    "testing/checks_process.py: tempfile.TemporaryDirectory": "what a second process of the kit is given, and answers",
    "testing/checks_process.py: torch.save": "the same",
    "testing/checks_process.py: torch.load": "the same, with weights_only",
    "testing/checks_outside.py: tempfile.TemporaryDirectory": "known files that the kit writes for a plugin to read",
    "testing/checks_outside.py: np.save": "the same",
    "testing/checks_source.py: tempfile.TemporaryDirectory": "another working directory for a source",
    "testing/checks_tracker.py: tempfile.TemporaryDirectory": "the run's folder that a tracker is given",
    "testing/checks_tracker.py: tempfile.TemporaryFile": "what a tracker prints",
    "testing/checks_tracker.py: os.fdopen": "the same",
    "testing/checks_tracker.py: path.open": "a file of the check itself, to learn what waiting for a disk takes",
    "testing/checks_tracked.py: (folder / name).write_bytes": "the run's own files, which a tracker must leave",
    "testing/checks_tracked.py: (folder / name).read_bytes": "the same",
    "testing/checks_tracked.py: path.read_bytes": "what a tracker wrote into the kit's folder",
    "testing/checks_tracked.py: path.read_text": "the same",
    "testing/checks_tracked.py: Image.open": "the same",
    # What is installed.
    "plugins/metadata.py: distribution.read_text": "metadata of an installed distribution",
    "scaffold/__init__.py: (templates / f'{_fill(template, words)}.tmpl').read_text": "a template of the package",
    "play/widgets.py: resources('mmcore.play').joinpath('page.js').read_text": "what the package holds",
    "play/widgets.py: resources('mmcore.play').joinpath('page.css').read_text": "the same",
    "testing/requirements.py: files('mmcore.testing').joinpath('requirements.json').read_text": "what the package holds",
    "testing/report.py: files('mmcore.testing').joinpath('report.schema.json').read_text": "a schema of the package",
    # Names of our own that open by the door.
    "cli/evaluate.py: Run.open": "reads a configuration by the door",
    "cli/merge.py: Run.open": "the same",
    "cli/play.py: Reader.open": "the same",
    "cli/sample.py: Reader.open": "the same",
    "runs/filling.py: Reader.open": "the same",
    "runs/reader.py: Run.open": "the same",
    "runs/specialise.py: Run.open": "the same",
    "training/loop.py: Logs.open": "opens logs by the door",
    # Another library's.
    "training/trackers.py: SummaryWriter": "TensorBoard makes a new file of its own name, below a folder that is no link",
}
"""Calls outside the door that open files, or look as if they did, each with the reason why it may."""


def _opening() -> Iterator[str]:
    for path in PATHS:
        if path == CORE / "files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            of = ast.unparse(node.func)
            head, _, last = of.rpartition(".")
            door = head in ("files", "door", "np.random") or of == "opened"
            array = last in ARRAYS and head in ("np", "numpy", "torch", "plt", "safetensors.torch")
            memory = last == "copy" and head not in ("shutil",)
            bare = not head and last not in ("open", "FileIO", "safe_open", "save_file", "load_file", "SummaryWriter")
            if not (door or memory or bare) and (array or last in OPENS):
                yield f"{path.relative_to(CORE)}: {of}"


def test_files_are_opened_by_one_door() -> None:
    assert {*_opening()} == {*BESIDES}


def test_every_distribution_says_that_it_has_types() -> None:
    packages = [CORE, *CORE.parent.glob("plugins/*/mmcore_*")]
    assert len(packages) > 9
    assert not [package for package in packages if package.is_dir() and not (package / "py.typed").exists()]
