"""Depth maps: what is read, what is a hole, what is refused, and the log-normal likelihood against an integral."""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmcore
from mmcore import OptionError, RequestError
from mmcore.config import configured
from mmcore.config.guess import configuration
from mmcore.data import Dataset
from mmcore.data.transforms import Resize
from mmcore.runs.run import train
from mmcore_depth import DepthModality

MAP = np.array([[1.0, 2.0], [0.0, 4.0]], np.float32)
STEPS = (MAP * 1000).astype(np.uint16)


@pytest.mark.parametrize(
    "raw",
    [
        MAP,
        MAP.tolist(),
        torch.from_numpy(MAP)[None],
        MAP[..., None],
        np.where(MAP == 0, np.nan, MAP),
        np.where(MAP == 0, np.inf, MAP),
        Image.fromarray(MAP),
        STEPS,
        STEPS.astype(">u2"),
        Image.fromarray(STEPS),
    ],
)
def test_maps_become_distances_with_holes(raw: Any, tmp_path: Path) -> None:
    m = DepthModality(2, scale=0.001)
    want = torch.from_numpy(MAP)[None]
    torch.testing.assert_close(m.read(raw), want)
    assert m.spec.there(m.read(raw)[None])[0].tolist() == [[[True, True], [False, True]]]
    if isinstance(raw, Image.Image) and raw.mode != "F":
        raw.save(tmp_path / "x.png")
        torch.testing.assert_close(m.read(tmp_path / "x.png"), want)
    if isinstance(raw, np.ndarray):
        np.save(tmp_path / "x.npy", raw)
        torch.testing.assert_close(m.read(str(tmp_path / "x.npy")), want)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    x = DepthModality(5).typical(1, 0)[0]
    millimetres = DepthModality(5, scale=0.001)
    millimetres.raw(x).save(tmp_path / "x.png")
    again = millimetres.read(tmp_path / "x.png")
    torch.testing.assert_close(again, x, atol=0.0005, rtol=0)
    assert torch.equal(again == 0, x == 0)
    assert torch.equal(DepthModality(5).read(DepthModality(5).raw(x)), x)
    # Of a file of another size, too.
    assert millimetres.raw(torch.full((1, 3, 7), 0.1)).size == (7, 3)


@pytest.mark.parametrize(
    ("options", "raw", "match"),
    [
        ({}, -MAP, "found the distance -1, expected 0 for a hole, or numbers above it"),
        (
            {},
            9 * MAP,
            'found the distance 18, expected 0.1 … 10, low and high; outside = "hole" takes others for holes',
        ),
        ({}, STEPS, "found whole numbers 0 … 4000, expected floats; scale says"),
        ({}, np.ones((3, 2)), r"found shape \(3, 2\), expected 2 × 2"),
        ({}, Image.fromarray(np.zeros((2, 2), np.uint8)), "found a picture of mode L, expected one of 16 bits"),
        ({}, "/no/such.png", "found no file /no/such.png"),
        ({}, None, "found NoneType, expected a path"),
        ({}, 1.5, "found float, expected a path"),
    ],
)
def test_wrong_maps_are_refused_in_a_line(options: dict[str, Any], raw: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match) as refused:
        DepthModality(2, **options).read(raw)
    assert "\n" not in str(refused.value)


def test_distances_beyond_the_limits_may_be_holes() -> None:
    assert DepthModality(2, high=3.0, outside="hole").read(MAP)[0].tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"low": 0.0},
        {"high": 0.05},
        {"scale": 1e-5},
        {"outside": "clip"},
        {"std": 0.0},
        {"mean": 9.0},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as refused:
        DepthModality(**options)
    assert refused.value.option in options


def test_the_likelihood_integrates_to_one_over_distances() -> None:
    m = DepthModality(1, low=1e-3, high=1e3)
    x = torch.logspace(-3, 3, 20_001, dtype=torch.float64)
    params = torch.tensor([0.3, math.log(0.4)], dtype=torch.float64).reshape(1, 2, 1, 1, 1).expand(len(x), -1, 1, 1, 1)
    density = (-m.loss()(params, x.reshape(-1, 1, 1, 1))).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-6)
    log = torch.distributions.LogNormal(torch.tensor(0.3, dtype=torch.float64), 0.4).log_prob(x)
    torch.testing.assert_close(density, log.exp())


def test_metrics_are_of_what_the_truth_has() -> None:
    m = DepthModality(2)
    target, prediction = torch.from_numpy(MAP)[None, None], torch.tensor([[[[1.1, 3.0], [9.0, 4.0]]]])
    assert m.metrics()["relative_error"](prediction, target).tolist() == pytest.approx([(0.1 + 0.5 + 0) / 3])
    assert m.metrics()["within_a_quarter"](prediction, target).tolist() == pytest.approx([2 / 3])
    assert m.metrics()["relative_error"](prediction, 0 * target).isnan().all()


def test_figures_are_of_what_is_known() -> None:
    m = DepthModality(2)
    logs = np.log([1.0, 2.0, 4.0])
    found = m.measured(torch.from_numpy(MAP)[None, None])
    assert found["mean"] == pytest.approx(logs.mean(), rel=1e-5)
    assert found["std"] == pytest.approx(logs.std(ddof=1), rel=1e-4)


def test_resizing_makes_no_distance_of_a_hole_and_its_neighbour() -> None:
    m = DepthModality(2)
    large = np.kron(MAP, np.ones((3, 3), np.float32))
    large[0, 0] = 0
    got = Dataset([{"depth": large}], [m], transforms=[Resize(2)]).take([0]).values["depth"]
    assert got[0, 0].tolist() == MAP.tolist()


def test_init_writes_what_a_training_takes(tmp_path: Path) -> None:
    (tmp_path / "data/depth").mkdir(parents=True)
    (tmp_path / "data/image").mkdir()
    for k in range(12):
        Image.fromarray(np.tile(STEPS, (4, 4)) + np.uint16(k)).save(tmp_path / f"data/depth/{k:02}.png")
        Image.fromarray(np.full((8, 8, 3), 20 * k, np.uint8)).save(tmp_path / f"data/image/{k:02}.png")
    guess = configuration(tmp_path / "data", mmcore.discover(), out=str(tmp_path / "run"))
    assert 'plugin = "depth"\nsize = 8\nlow = 0.0005\nhigh = 8.02\nscale = 0.001\n' in guess.text, guess.text
    assert "depth: depth, distances 1 … 4011, whole numbers, taken for thousandths" in "\n".join(guess.said)
    small = {
        "training": {"steps": 2, "batch_size": 4},
        "model": {"backbone": "mlp", "backbone_options": {"width": 8, "depth": 1}},
        "sampling": {"n": 3, "steps": 2},
    }
    train(configured(tomllib.loads(guess.text) | small, registry=mmcore.discover()), quiet=True)
    (tmp_path / "new/image").mkdir(parents=True)
    (tmp_path / "data/image/00.png").rename(tmp_path / "new/image/00.png")
    mmcore.predict(tmp_path / "run", tmp_path / "new", steps=2).write(tmp_path / "out")
    with Image.open(tmp_path / "out/depth/00.png") as found:
        assert (found.mode, found.size) == ("I;16", (8, 8))
        assert np.asarray(found).min() > 0  # what is filled in has no holes
