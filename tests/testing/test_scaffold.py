"""What ``mmcore new-plugin`` writes: installed from wheels in a clean environment, it is found and conforms."""

import importlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch

import mmcore
from mmcore import Registry, RequestError
from mmcore.scaffold import KINDS, bounded, new_plugin

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "mmcore-profile"
LEFT = re.compile(r"\{\{|\}\}(?!\})")


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One plugin of each kind, by the kind's name."""
    out = tmp_path_factory.mktemp("plugins")
    return {kind: new_plugin(f"my-{kind}", kind=kind, out=out, registry=mmcore.discover()) for kind in KINDS}


def test_all_files_are_written(plugins: dict[str, Path]) -> None:
    for kind, folder in plugins.items():
        package = f"mmcore_my_{kind}"
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert found == {
            ".github/workflows/tests.yml",
            ".gitignore",
            "LICENSE",
            "README.md",
            f"{package}/__init__.py",
            f"{package}/modality.py",
            f"{package}/plugin.py",
            f"{package}/py.typed",
            "pyproject.toml",
            "tests/test_conformance.py",
        }
        for path in found:
            text = (folder / path).read_text()
            # The workflow has expressions of its own.
            assert not LEFT.search(re.sub(r"\$\{\{ [\w.]+ \}\}", "", text)), path
        assert (
            f'dependencies = ["mmcore-diffusion{bounded(mmcore.__version__)}"'
            in (folder / "pyproject.toml").read_text()
        )
        assert "TODO" in (folder / package / "modality.py").read_text()
    assert not list(folder.parent.glob(".new-plugin-*"))


@pytest.mark.parametrize(
    ("version", "requirement"),
    [("0.1.0", ">=0.1,<0.2"), ("0.12.3.dev4", ">=0.12,<0.13"), ("1.0.0", ">=1.0,<2"), ("2.5rc1", ">=2.5,<3")],
)
def test_the_requirement_on_the_core_is_bounded(version: str, requirement: str) -> None:
    assert bounded(version) == requirement


@pytest.mark.parametrize(
    "name", ["", "Audio", "heart_rate", "heart.rate", "2d", "-a", "a-", "a--b", "../a", "class", "é"]
)
def test_invalid_names_are_refused(name: str, tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(RequestError, match=r"new-plugin: name .* expected lower-case letters"):
        new_plugin(name, out=tmp_path, registry=registry)
    assert not list(tmp_path.iterdir())


def test_names_and_folders_that_are_taken_are_refused(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(RequestError, match="modality 'label' is already offered by mmcore-label"):
        new_plugin("label", out=tmp_path, registry=registry)
    # A name of another kind would have to be asked for by its kind everywhere.
    with pytest.raises(RequestError, match="schedule 'cosine' is already offered by mmcore-diffusion 0"):
        new_plugin("cosine", out=tmp_path, registry=registry)
    with pytest.raises(
        RequestError, match="name 'diffusion', whose distribution would be mmcore-diffusion, mmcore itself"
    ):
        new_plugin("diffusion", out=tmp_path, registry=registry)
    with pytest.raises(RequestError, match="kind 'audio', expected one of vector, sequence, grid, categorical, text"):
        new_plugin("sound", kind="audio", out=tmp_path, registry=registry)
    folder = new_plugin("sound", out=tmp_path, registry=registry)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RequestError, match="is there already, and nothing is overwritten"):
        new_plugin("sound", kind="grid", out=tmp_path, registry=registry)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with pytest.raises(RequestError, match="cannot be written: there is no folder"):
        new_plugin("sound", out=tmp_path / "nowhere", registry=registry)
    assert [path.name for path in tmp_path.iterdir()] == ["mmcore-sound"]


@pytest.mark.parametrize("kind", ["vector", "sequence", "grid", "categorical"])
def test_what_is_written_measures_its_data(
    kind: str, plugins: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(plugins[kind]))
    made = getattr(importlib.import_module(f"mmcore_my_{kind}"), f"My{kind.capitalize()}Modality")
    if kind == "categorical":
        data = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    else:
        data = 100 + 30 * made().typical(2000, seed=0)
    options = json.loads(json.dumps(made().measured(data)))  # as a model folder keeps them
    code = made(**options).encoder()(data).double()
    assert code.mean().abs() < 0.01
    assert code.var(correction=0) == pytest.approx(1, rel=0.01)


def test_a_series_is_as_long_as_what_is_seen_of_it_says(
    plugins: dict[str, Path], monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    monkeypatch.syspath_prepend(str(plugins["series"]))
    made, n = importlib.import_module("mmcore_my_series.modality").MySeriesModality, 4
    m, loss = made(n), made(n).loss()
    # Numbers of 0 nats: what is left is the length's.
    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(n, generator=generator, dtype=torch.float64)
    params = torch.stack([torch.zeros(n), torch.full((n,), -0.5 * math.log(2 * math.pi)), ends])
    every = torch.stack([torch.stack([torch.zeros(n), (torch.arange(n) <= last).double()]) for last in range(n)])
    for places in itertools.product([False, True], repeat=n):
        where = torch.tensor(places).expand(n, 2, n)
        p = (-loss(params.expand(n, -1, -1), every, where)).exp()
        for last in range(n):
            alike = (torch.where(where, every, 0.0) == torch.where(where, every, 0.0)[last]).flatten(1).all(1)
            assert float(p[last]) == pytest.approx(float(ends.softmax(0)[alike].sum()))
            given = m.conditioned(params[None], every[last][None], where[:1])[0, 2].softmax(0)
            torch.testing.assert_close(given, torch.where(alike, ends, -torch.inf).softmax(0))
    # What a network says of its length, when most of it is seen already.
    short = torch.stack([torch.zeros(n), torch.zeros(n), torch.tensor([100.0, 0, 0, 0])])
    whole = type(m.decoder(1, mmcore.Space((1, 1))))
    said = type("Said", (whole,), {"forward": lambda self, features, t: short.expand(len(features), -1, -1)})
    m.decoder = lambda width, space: said(width, space, n, 0.0, 1.0)
    model = mmcore.compose([m], backbone="mlp", backbone_options={"width": 8, "depth": 1}, registry=registry)
    x, where = m.read([1.0, 2.0, 3.0])[None], (torch.arange(n) < 3).expand(1, 2, n)
    answer = mmcore.sample(model, 1, given={m.name: x}, where={m.name: where}, steps=2)[m.name][0]
    assert m.raw(answer).tolist() == [1.0, 2.0, 3.0]


@pytest.fixture(scope="module")
def clean(plugins: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheels of the core, the plugins and the example, and an empty folder beside it."""
    folder = tmp_path_factory.mktemp("clean")
    wheels = folder / "wheels"
    for source in (ROOT, EXAMPLE, *plugins.values()):
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)], source)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    # What the wheels depend on is taken from here. Of what is installed here in place only the metadata shows, as the
    # files that lead to its sources are not read; and the wheels come first.
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here) + "\n")
    install = ["install", "-q", "--no-deps", "--no-index", "--no-warn-script-location", *map(str, wheels.glob("*.whl"))]
    run([sys.executable, "-m", "pip", "--python", str(python), *install], folder)
    (folder / "empty").mkdir()
    return folder


def run(command: list[str], folder: Path) -> str:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH", "MMCORE"))}
    done = subprocess.run(
        command, cwd=folder, env={**own, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["my-vector", "my-sequence", "my-grid", "profile"])
def test_it_is_found_and_conforms_by_the_command_line(name: str, clean: Path) -> None:
    report = clean / f"{name}.json"
    text = run([str(clean / "env/bin/mmcore"), "check", name, "--report", str(report)], clean / "empty")
    found = json.loads(report.read_text())
    assert found["verdict"] == "conformant", text
    assert found["plugin"]["made"]["distribution"] == f"mmcore-{name}"
    # Installed it is, so these had something to look at.
    passed = {check["check"] for check in found["checks"] if check["status"] == "passed"}
    assert {"entry.torch_free", "entry.agrees", "learn.improves", "engine.posterior"} <= passed
    assert not list((clean / "empty").iterdir())


def test_it_conforms_under_pytest(clean: Path, plugins: dict[str, Path]) -> None:
    python = str(clean / "env/bin/python")
    where = run([python, "-c", "import mmcore, mmcore_my_categorical as m; print(mmcore.__file__, m.__file__)"], clean)
    assert all(path.startswith(str(clean / "env")) for path in where.split())
    test = plugins["categorical"] / "tests" / "test_conformance.py"
    text = run([python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(test)], clean / "empty")
    counted = re.search(r"(\d+) passed, (\d+) skipped", text)
    assert counted
    assert int(counted[1]) > 60
    # What is not asked of a class, each with its reason.
    assert set(re.findall(r"not run: (.*)", text)) - {"there is no GPU here"} == {
        "a sample of one element",
        "a sample of one element: encoder.distinct judges it",
        "code and sample have no places in common",
        "data are no levels between two limits",
        "its values are classes, which may be the numbers of a palette",
        "not asked: the decoder does not begin from its own noisy code (preconditioned = False)",
        "show gives no picture in grey or colours",
        "the loss is a sum over elements, of classes or of a direction: others judge it",
        "the loss is a sum over elements: decoder.distribution judges it",
        "the modality is known as a whole or not at all",
        "the spec has no void value",
    }


def test_the_command_says_what_to_do_next(clean: Path, tmp_path: Path) -> None:
    command = str(clean / "env/bin/mmcore")
    text = run([command, "new-plugin", "heart-rate", "--kind", "sequence"], tmp_path)
    assert text.startswith("mmcore-heart-rate: now 'pip install -e mmcore-heart-rate[testing]'")
    assert (
        "class HeartRateModality(Modality)"
        in (tmp_path / "mmcore-heart-rate/mmcore_heart_rate/modality.py").read_text()
    )
    again = subprocess.run(
        [command, "new-plugin", "heart-rate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert again.stderr.startswith("mmcore: new-plugin: mmcore-heart-rate is there already")
