"""The recipes of texts, sounds and depth: their data are what they say, and their pages' commands work, on few rows."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import mmcore
from benchmarks.kinds import __main__ as program
from benchmarks.kinds import captions, chords, shapes
from mmcore.cli.program import main
from mmcore.config import configured
from mmcore.demo.judge import Judge

ROOT = Path(__file__).parents[1]
FEW = {"train": 24, "validation": 8, "test": 8}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "ROWS", FEW)
    monkeypatch.setattr(shapes, "ROWS", FEW)
    monkeypatch.setattr(chords, "ROWS", 60)
    fit = Judge.fit
    monkeypatch.setattr(Judge, "fit", lambda images, labels: fit(images, labels, steps=2))


@pytest.mark.parametrize("kind", ["captions", "chords", "shapes"])
def test_the_commands_of_a_page_work(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / f"docs/recipes/{kind}.md").read_text()
    lines = [line for block in re.findall(r"```shell\n(.*?)```", page, re.S) for line in block.splitlines()]
    assert len(lines) >= 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for line in lines:
        name, *words = shlex.split(line)
        if name == "python":
            assert words[:2] == ["-m", "benchmarks.kinds"]
            monkeypatch.setattr(sys, "argv", words[1:])
            program.main()
            continue
        if name == "pip":
            assert words[0] == "install"
            assert all((ROOT / word.partition("[")[0] / "pyproject.toml").is_file() for word in words[1:])
            continue
        assert name == "mmcore"
        if words[0] == "train":
            for small in (
                "training.steps=1",
                "model.backbone_options={width=8, depth=1}",
                "sampling.steps=1",
                "sampling.n=2",
            ):
                words += ["--set", small]
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line


def test_captions_say_what_the_digits_are(tmp_path: Path) -> None:
    captions.write(tmp_path / "captions.npz")
    setup = configured(
        tomllib.loads((ROOT / "recipes/captions.toml").read_text())
        | {"data": {"source": "npz", "options": {"path": str(tmp_path / "captions.npz")}}},
        registry=mmcore.discover(),
    )
    rows = setup.rows("all").take(range(40))
    text = setup.variables[2]
    for x, label, image in zip(rows.values["caption"], rows.values["label"], rows.values["image"], strict=True):
        said = text.show(x).split(" and ")
        assert captions.WORDS.index(said[0]) == label
        assert (len(said) == 2) == bool((image[..., 8:] > -1).any())


def test_a_chord_is_heard_and_seen_as_it_was_made() -> None:
    time = np.arange(chords.SAMPLES) / chords.RATE
    for kind, name in enumerate(chords.CHORDS):
        for root in (0, 5, 11):
            down = chords.notes(kind, root)
            sound = sum(np.sin(2 * np.pi * chords.HERTZ[key] * time + key) * (0.1 + 0.01 * key) for key in down)
            assert chords.listen(sound) == f"{root} {name}"
            assert chords.look(torch.from_numpy(2 * chords.keyboard(down)[None] - 1)) == f"{root} {name}"


@pytest.mark.parametrize("kind", range(3))
def test_rendered_points_lie_on_their_shapes(kind: int) -> None:
    """Every point that is nearer than the wall satisfies the shape's own equation."""
    centre = np.array([0.2, -0.3, 2.0])
    _, depth, view = shapes.render(kind, centre, np.zeros(2), 1.0)
    place = (np.arange(shapes.SIDE) + 0.5) / shapes.SIDE - 0.5
    y, x = np.meshgrid(place, place, indexing="ij")
    points = np.stack([x, y, np.ones_like(x)], -1) * depth[..., None]
    near = points[depth < 4 - 1e-9] - centre
    assert len(near) > 20
    assert ((view >= 0) & (view <= 1 + 1e-9)).all()
    if kind == 0:
        np.testing.assert_allclose((near**2).sum(1), 0.25)
    elif kind == 1:
        np.testing.assert_allclose(np.abs(near).max(1), 0.42)
    else:
        round_ = np.hypot(near[:, 0], near[:, 2])
        np.testing.assert_allclose(np.maximum(round_ / 0.42, np.abs(near[:, 1]) / 0.5), 1)
