"""The recipe of five views: its data are what it says, its figures are right where the truth is known, and its page's commands work on few rows."""

import math
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mmcore
from benchmarks.views import __main__ as program
from benchmarks.views import answers, coherence, data
from benchmarks.views.data import NAMES, SIDE, VIEWS
from mmcore.cli.program import main
from mmcore.config import configured
from mmcore.data import Table
from mmcore.data.sources.digits import Digits
from mmcore.rng import Rng

ROOT = Path(__file__).parents[1]
FEW = {"train": 24, "validation": 8, "test": 8}


def test_a_view_is_a_scan_of_its_class_before_its_texture() -> None:
    """Ink, told by where a picture is its background's negative, is a scan of the row's class; views of one row have scans of their own."""
    digits, n = Digits("test"), 40
    rows, rng = data.views(digits, n, 3), Rng.for_rows(3, n).of("views")
    found = []
    for view in VIEWS:
        back = data.textures(view, rng.of(view))
        # picture = back (1 - ink) + (1 - back) ink
        ink = ((torch.from_numpy(rows[view]) / 255 - back) / (1 - 2 * back)).mean(1)
        assert ink.min() > -0.03
        assert ink.max() < 1.03
        corners = ink[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        torch.testing.assert_close(corners, torch.zeros_like(corners), atol=0.03, rtol=0)
        # The 24 pixels of the middle are 8 x 8 cells of 3: a bilinear cell's middle is the scan's own value.
        scans = ink[:, 3:-2:3, 3:-2:3]
        nearest = torch.cdist(scans.flatten(1).float(), torch.from_numpy(digits.images).flatten(1))
        assert nearest.min(1).values.max() < 0.1
        found.append(nearest.argmin(1))
        np.testing.assert_array_equal(digits.labels[found[-1]], rows["label"])
    assert all((a != b).float().mean() > 0.8 for a, b in combinations(found, 2))


@pytest.mark.parametrize("view", VIEWS)
def test_textures_lie_on_one_side_of_grey(view: str) -> None:
    made = data.textures(view, Rng.for_rows(0, 50).of("x"))
    assert made.shape == (50, 3, SIDE, SIDE)
    low, high = (0.6, 0.95) if view in ("checks", "clouds") else (0.05, 0.4)
    assert low - 1e-9 <= made.min()
    assert made.max() <= high + 1e-9
    assert (made.flatten(1).std(1) > 0.005).all()


def test_missing_values_are_of_the_training_alone_and_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(data, "ROWS", {"train": 200, "validation": 10, "test": 10})
    data.write(tmp_path / "views.npz", 75)
    data.write(tmp_path / "whole.npz")
    some, whole = np.load(tmp_path / "views.npz"), np.load(tmp_path / "whole.npz")
    there = np.stack([some[f"has_{name}"] for name in NAMES], 1)
    assert there[200:].all()
    assert there[:200].sum() == 300
    assert there.any(1).all()
    # Each variable keeps a quarter of its 200: within five standard errors, by chance once in a million.
    assert (abs(there[:200].mean(0) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 200)).all()
    for k, name in enumerate(NAMES):
        assert whole[f"has_{name}"].all()
        np.testing.assert_array_equal(some[name][there[:, k]], whole[name][there[:, k]])
        assert not some[name][~there[:, k]].any()


def pictures(classes: Tensor) -> dict[str, Tensor]:
    """Views that show these classes ``(n, 5)`` to :func:`seen`."""
    return {
        view: classes[:, k, None, None, None].expand(-1, 3, SIDE, SIDE) / 10.0 + 0.03 for k, view in enumerate(VIEWS)
    }


def seen(x: Tensor) -> Tensor:
    return (10 * x[:, 0, 0, 0]).long().clamp(min=0)


def test_coherence_counts_what_agrees() -> None:
    """Against counting by hand: 4 of 10 rows agree, and of the views not given those that are right."""
    labels = torch.arange(10)
    classes = labels[:, None].repeat(1, 5)
    for row in range(6):
        classes[row, row % 5] = (labels[row] + 1) % 10
    found = coherence.shown(seen, pictures(classes))
    torch.testing.assert_close(found, classes)
    assert coherence.agree(found, labels).value == 0.4
    # The wrong view of rows 0 … 5 is view 0, 1, 2, 3, 4, 0; views 0 and 1 are given: rows 2, 3, 4 have one wrong of three.
    given = torch.tensor([True, True, False, False, False]).expand(10, 5)
    assert coherence.conditional(found, labels, given).value == pytest.approx(1 - 3 / 30)


def test_answers_of_other_models_are_read_as_they_were_written(tmp_path: Path) -> None:
    labels = torch.arange(10).repeat(2)
    made = pictures(labels[:, None].repeat(1, 5))
    given = coherence.subsets(2, 20)
    rows = {view: (x * 127.5 + 127.5).round().byte().numpy() for view, x in made.items()} | {"label": labels.numpy()}
    arrays = {f"{part}/{name}": x for part in ("prior", "2") for name, x in rows.items()}
    np.savez(tmp_path / "other.npz", allow_pickle=False, **arrays, **{"2/given": given.numpy()})
    joint, conditional = answers.written(tmp_path / "other.npz")
    assert list(joint) == ["prior"]
    assert list(conditional) == [2]
    assert coherence.agree(coherence.shown(seen, joint["prior"]), joint["prior"]["label"]).value == 1
    found, shown = conditional[2]
    assert torch.equal(shown, given)
    torch.testing.assert_close(found["rings"], made["rings"], atol=0.5 / 127.5, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_every_choice_of_views_is_given_equally_often(k: int) -> None:
    count = math.comb(5, k)
    given = coherence.subsets(k, 3 * count)
    assert (given.sum(1) == k).all()
    _, times = given.unique(dim=0, return_counts=True)
    assert times.tolist() == [3] * count


def test_distance_is_the_closed_form_of_gaussians() -> None:
    """Features with means 3 apart and variances 1 and 4: ``9 + (2 - 1)²`` in each view; 20,000 rows are within 0.15, some five standard errors."""

    def drawn(number: int, mean: float, deviation: float) -> dict[str, Tensor]:
        rng = Rng.for_rows(number, 20000)
        return {view: mean + deviation * rng.of(view).normal(1) for view in VIEWS}

    assert coherence.distance(lambda x: x, drawn(0, 0.0, 1.0), drawn(1, 3.0, 2.0)) == pytest.approx(10, abs=0.15)


def test_the_judge_learns_real_views() -> None:
    """After 60 steps on 200 rows, right for most test views; chance is 0.1."""
    judge = coherence.judge(200, 60)
    rows = data.views(Digits("test"), 60, 4)
    right = [
        judge(torch.from_numpy(rows[view]).float() / 127.5 - 1) == torch.from_numpy(rows["label"]) for view in VIEWS
    ]
    assert torch.stack(right).float().mean() > 0.5


@pytest.mark.parametrize("recipe", ["views", "views-latents"])
def test_a_recipe_gives_every_variable_its_flag(recipe: str) -> None:
    tables = tomllib.loads((ROOT / f"recipes/{recipe}.toml").read_text())
    assert list(tables["modalities"]) == list(NAMES) == list(tables["data"]["columns"])
    assert all(tables["data"]["columns"][name] == {"column": name, "present": f"has_{name}"} for name in NAMES)
    assert len(tables["model"]["schedule_options"]["gains"]) == len(NAMES)


def test_the_commands_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the recipe of latents, which needs a plugin that is not everywhere."""
    monkeypatch.setattr(data, "ROWS", FEW)
    monkeypatch.setattr(answers, "REAL", 8)
    judge: Callable[..., object] = coherence.judge
    monkeypatch.setattr(coherence, "judge", lambda: judge(8, 2))
    page = (ROOT / "docs/recipes/views.md").read_text()
    block = re.findall(r"```shell\n(.*?)```", page, re.S)[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    backbone = "model.backbone_options={width=8, depth=1, heads=2, patch=14, features=2}"
    small = [backbone, "training.steps=1", "training.batch_size=4", "sampling.steps=1", "sampling.n=2"]
    for line in [*block.splitlines(), "python -m benchmarks.views picture runs/views views.png"]:
        name, *words = shlex.split(line)
        if name == "python":
            assert words[:2] == ["-m", "benchmarks.views"]
            monkeypatch.setattr(sys, "argv", words[1:])
            program.main()
            continue
        if words[0] == "train":
            words += [part for one in small for part in ("--set", one)]
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, line
    assert (tmp_path / "views.png").exists()


def test_missing_views_are_missing_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "ROWS", FEW)
    data.write(tmp_path / "views.npz", 50)
    tables = tomllib.loads((ROOT / "recipes/views.toml").read_text())
    tables["data"]["options"]["path"] = str(tmp_path / "views.npz")
    rows = configured(tables, registry=mmcore.discover()).rows()
    with np.load(tmp_path / "views.npz") as arrays:
        there = np.stack([arrays[f"has_{name}"][:24] for name in NAMES], 1)
    np.testing.assert_array_equal(Table.read(rows).rows.present.numpy(), there)
