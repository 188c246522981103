"""The demo from end to end at toy size, its figures against known values, and the command line's manners."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmcore
from mmcore.config.resolve import configured
from mmcore.data.sources.digits import Digits
from mmcore.demo import run
from mmcore.demo.judge import Judge
from mmcore.demo.measure import batches_distance, draws_distance
from mmcore.rng import Rng

REQUIRED = {
    "joint_coherence",
    "label_to_image_accuracy",
    "image_to_label_accuracy",
    "image_to_mask_iou",
    "image_to_embedding_cosine",
    "frechet_distance",
    "frechet_floor",
    "frechet_of_training_draws",
    "frechet_ratio",
    "judge_test_accuracy",
    "class_total_variation",
    "class_entropy_nats",
    "knn_precision",
    "knn_recall",
    "nearest_train_distance",
    "nearest_train_distance_of_test",
}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo at a size that takes seconds."""
    monkeypatch.setattr(run, "SAMPLING", {"steps": 2})
    monkeypatch.setattr(run, "JOINT", 400)
    monkeypatch.setattr(run, "PER_LABEL", 14)
    fit = Judge.fit
    monkeypatch.setattr(Judge, "fit", lambda images, labels: fit(images, labels, steps=30))


@pytest.mark.usefixtures("toy")
def test_the_demo_runs_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOX_ENV_NAME", raising=False)
    figures = run.run(mmcore.discover(), tmp_path, steps=3, compare=True, device="cpu", threads=1)
    assert figures.keys() >= REQUIRED
    assert figures["frechet_ratio"] == figures["frechet_distance"] / figures["frechet_of_training_draws"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == figures
    page = (tmp_path / "report.html").read_text()
    shown = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(shown) == 5 + 4
    # On a phone, 358 pixels are left for a picture: what is written in it, about 16 pixels high, is then 8 at least.
    assert all(Image.open(io.BytesIO(base64.b64decode(one))).width <= 716 for one in shown)
    assert 'src="http' not in page
    for name in ("joint", "by_label", "masks", "confusion", "image-only"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 3]
    assert mmcore.sample(mmcore.load(tmp_path / "model"), 2, steps=1)["image"].shape == (2, 1, 8, 8)
    # The folder is a run like any other: it is asked by its own configuration, about its own rows.
    reader = mmcore.Reader.open(tmp_path, device="cpu")
    assert reader.read({"label": "3"}, 2)["label"].tolist() == [3, 3]
    rows = mmcore.predict(reader, "test", draws=1, again=["label"], steps=1)
    assert len(rows) == 364
    assert set(next(iter(rows)).answers) == {"label"}
    told = capsys.readouterr().out
    assert str(tmp_path / "report.html") in told
    assert told.splitlines()[-1] == f"play with it: mmcore play {tmp_path}"


def test_the_configuration_is_of_the_demo_s_own_model(tmp_path: Path) -> None:
    registry = mmcore.discover()
    setup = configured(run.configuration(tmp_path), registry=registry)
    assert setup.config.training == run.TRAINING
    made, written = run.digits_model(registry), setup.model()
    assert [(m.name, m.spec, m.code) for m in made.variables] == [(m.name, m.spec, m.code) for m in written.variables]
    assert torch.equal(made.process.schedule.W, written.process.schedule.W)
    assert {task.name: task.weight for task in made.tasks} == {task.name: task.weight for task in written.tasks}
    for one, two in zip(made.state_dict().values(), written.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_split_is_fixed_disjoint_and_balanced() -> None:
    train, held, test, everything = (Digits(part) for part in ("train", "validation", "test", "all"))
    assert (len(everything), len(train) + len(test), len(Digits("train", hold_out=True)) + len(held)) == (
        1797,
        1797,
        len(train),
    )
    shares = np.bincount(test.labels) / np.bincount(everything.labels)
    assert (abs(shares - 0.2) < 0.01).all()
    covariance = np.cov(train.embeddings.T)
    np.testing.assert_allclose(covariance, np.eye(20), atol=0.01)


def test_draws_of_the_data_are_as_far_as_chance_has_them() -> None:
    """In one dimension the distance of ``n`` normal draws is ``(Δμ)² + (Δσ)²``, on average ``σ² (1 + ½) / n``.

    Its deviation is ``√2.5 σ² / n``, a sixteenth of that for the mean of 256: 0.5 is 5 of these (6e-7).
    """
    x = 3 * Rng.for_rows(0, 20_000).normal(1)
    assert abs(draws_distance(x, 400, draws=256) * 400 / 9 - 1.5) < 0.5


def test_dealt_batches_leave_out_the_chance_of_classes_alone() -> None:
    """Two classes at ±3 with unit deviation and equal shares, in one dimension: ``σ² = 10`` by chance, and dealt the mean varies by 1 alone.

    The deviation ``s`` of a dealt batch has the variance of ``x²`` within a class over ``4 σ² n``, ``(2 + 4 · 9) / 40 n``, beside
    ``1 / n`` of the mean's. Over seeds the mean of 256 batches, times ``n``, has a deviation of 0.13: the bound is four of these.
    """
    n, draws = 200, 256
    labels = torch.arange(100_000) % 2
    x = Rng.for_rows(0, 100_000).normal(1) + 3 * (2 * labels[:, None] - 1)
    rows = Rng.for_rows(1, draws).of("rows").integers(0, 100_000, n).flatten()
    dealt = batches_distance(x[rows], x, n, labels[rows])
    assert abs(dealt * n - (1 + 38 / 40)) < 0.6
    chance = batches_distance(x[rows], x, n)
    assert chance * n > 8
    # Shares that are wrong as a whole stay so.
    wrong = torch.where(torch.rand(len(rows), generator=torch.Generator().manual_seed(0)) < 0.5, rows // 2 * 2, rows)
    assert batches_distance(x[wrong], x, n, labels[wrong]) > 2


def test_the_judge_learns_from_training_digits() -> None:
    train, test = Digits("train"), Digits("test")
    images, held = (torch.tensor(2 * d.images - 1)[:, None] for d in (train, test))
    judge = Judge.fit(images, torch.tensor(train.labels), steps=250)
    assert (judge(held) == torch.tensor(test.labels)).double().mean() > 0.95


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mmcore", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("demo", "--out", "/dev/null/x"), "--out /dev/null/x cannot be made"),
        (("--no-plugins", "demo", "--out", "{tmp}"), "modality 'image' (mmcore-image) is blocked"),
        (("plugins", "why", "nothing-such"), "nothing is called 'nothing-such'"),
        (("demo", "--steps", "-3"), "--steps"),
        (("dmo",), "No such command"),
    ],
)
def test_wrong_requests_end_with_2_and_no_traceback(arguments: tuple[str, ...], match: str, tmp_path: Path) -> None:
    done = command(*(a.replace("{tmp}", str(tmp_path / "x")) for a in arguments))
    assert done.returncode == 2
    assert match in done.stderr
    assert "Traceback" not in done.stderr


def test_plugins_are_listed_and_explained() -> None:
    rows = json.loads(command("plugins", "list", "--json").stdout)
    assert any(row["name"] == "image" and row["distribution"] == "mmcore-image" for row in rows)
    assert "mmcore_image.modality:ImageModality" in command("plugins", "why", "image").stdout
