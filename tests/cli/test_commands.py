"""The commands from a configuration to a report, in this process; a few by themselves."""

import gzip
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mmcore
from mmcore import JointModel, Rng
from mmcore.cli import program
from mmcore.config.guess import configuration
from mmcore.config.resolve import configured
from mmcore.data import Table
from mmcore.metrics import bound

SMALL = """
out = "run"
seed = 3
device = "cpu"

[data]
source = "npz"
options = { path = "rows.npz" }

[data.split]
validation = 0.2
test = 0.2

[data.columns]
vector = { column = "vector", present = "has_vector" }

[modalities.image]
channels = 3
size = 4

[modalities.label]
classes = 3
names = ["a", "b", "3"]

[modalities.vector]
plugin = "clip"
width = 5
unit_norm = false

[tasks]
image = { weight = 0.1 }

[model]
backbone = "mlp"
backbone_options = { width = 8, depth = 1, features = 2 }
schedule_options = { steps = 20 }

[training]
steps = 2
batch_size = 4
log_every = 1
pictures_every = 1
validate_every = 2

[sampling]
n = 6
steps = 2
"""


def arrays(rows: int = 40) -> dict[str, np.ndarray]:
    rng = Rng.for_rows(0, rows)
    return {
        "image": rng.of("image").integers(0, 256, 48).reshape(rows, 4, 4, 3).to(torch.uint8).numpy(),
        "label": (torch.arange(rows) % 3).numpy(),
        "vector": rng.of("vector").normal(5).numpy(),
        "has_vector": (torch.arange(rows) % 4 > 0).numpy(),
    }


def call(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mmcore", *line.split()])
    capsys.readouterr()
    status = 0
    try:
        program.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return status, told.out, told.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "rows.npz", **arrays())
    (folder / "config.toml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["mmcore", "train", "config.toml"])
        with pytest.raises(SystemExit) as end:
            program.main()
        assert not end.value.code
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained / "run"


def test_data_shows_what_is_on_disk_beside_what_the_model_sees(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    out = tmp_path / "deep" / "data.png"
    monkeypatch.setattr(sys, "argv", ["mmcore", "data", "config.toml", "-o", str(out)])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("image: on disk ") and " arrays of uint8, " in line for line in lines), lines
    assert lines[-1] == f"picture: {out}"
    with Image.open(out) as sheet:
        assert sheet.mode == "RGB"


def test_a_run_folder_holds_all_of_a_run(here: Path, registry: mmcore.Registry) -> None:
    tables = tomllib.loads((here / "config.toml").read_text())
    assert tables["data"]["options"]["path"] == str(here.parent / "rows.npz")
    options = tables["modalities"]["image"]
    assert options.keys() >= {"mean", "std", "levels"}
    assert (
        configured(tables, registry=registry).recorded()
        == json.loads((here / "model" / "config.json").read_text())["configuration"]
    )
    assert mmcore.load(here / "model", registry=registry).variable("image").mean == options["mean"]  # type: ignore[attr-defined]
    assert [json.loads(line)["step"] for line in (here / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert {"timing.jsonl", "validation.jsonl", "checkpoints", "tensorboard"} <= {p.name for p in here.iterdir()}
    made = {p.name for p in (here / "samples").iterdir()}
    assert made == {
        *("samples.png", "data.png", "grid-image.png", "samples.json", "samples.safetensors"),
        *("step-00000001-sheet.png", "step-00000002-sheet.png"),
    }
    answer = load_file(here / "samples" / "samples.safetensors")
    model = mmcore.load(here / "model", registry=registry)
    again = mmcore.sample(model, 6, steps=2, seed=3)
    assert answer.keys() == again.keys()
    assert all(torch.equal(answer[name], again[name]) for name in answer)


def test_the_grid_shows_the_samples_pixel_by_pixel(here: Path, registry: mmcore.Registry) -> None:
    image = mmcore.load(here / "model", registry=registry).variable("image")
    x = load_file(here / "samples" / "samples.safetensors")["image"]
    grid = Image.open(here / "samples" / "grid-image.png")
    assert grid.size == (6 * 5 - 1, 4)
    for i in range(6):
        shown = image.show(x[i])
        assert not isinstance(shown, str)
        assert grid.crop((5 * i, 0, 5 * i + 4, 4)).tobytes() == shown.convert("RGB").tobytes()


def test_the_report_needs_no_other_file(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "report.html").unlink()
    assert call("report run", capsys, monkeypatch)[0] == 0
    page = (here / "report.html").read_text()
    model = mmcore.load(here / "model")
    # Each task's curve, samples, rows of the data, and the two sheets on the way.
    assert page.count("data:image/png;base64,") == len(model.tasks) + 4
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "All 2 steps are done." in page
    assert "pictures_every = 1" in page
    weights = load_file(here / "model" / "model.safetensors")
    count = sum(x.numel() for name, x in weights.items() if name.startswith("decoders.label."))
    assert f"<td>head label</td><td class=n>{count:,}</td>" in page


def test_a_run_is_not_overwritten_and_a_changed_one_not_continued(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (here / "config.toml").read_bytes()
    status, _, told = call("train config.toml --set training.lr=0.5", capsys, monkeypatch)
    assert (status, "holds a run" in told) == (2, True)
    status, _, told = call("train config.toml --resume --set training.lr=0.5", capsys, monkeypatch)
    assert (status, "lr" in told) == (2, True)
    assert (here / "config.toml").read_bytes() == before
    status, _, _ = call("train config.toml --resume --set sampling.n=3", capsys, monkeypatch)
    assert status == 0
    assert len(load_file(here / "samples" / "samples.safetensors")["image"]) == 3
    assert call("train config.toml --resume", capsys, monkeypatch)[0] == 0


def test_a_project_s_own_files_are_not_overwritten(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run in the folder of its configuration: neither what training writes, nor what the command writes beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained / "rows.npz", tmp_path)
    shutil.copy(trained / "config.toml", tmp_path / "c.toml")
    for name in ("config.toml", "report.html", "metrics.jsonl", "model/config.json", "samples/samples.png", "run.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(trained / "config.toml", path)
        before = bytes_of(tmp_path)
        for more in ("", " --replace"):
            status, _, told = call(f"train c.toml --set out=.{more}", capsys, monkeypatch)
            assert (status, told.count("\n"), f"training: {name} is there, where a run" in told) == (2, 1, True), told
            assert bytes_of(tmp_path) == before
        path.unlink()
    (tmp_path / "metrics.json").write_text("mine")
    status, _, told = call("demo --out .", capsys, monkeypatch)
    assert (status, "demo: metrics.json is there, and no demo has left it" in told) == (2, True)
    assert call("train c.toml --set out=.", capsys, monkeypatch)[0] == 0
    assert (tmp_path / "metrics.json").read_text() == "mine"
    kept = bytes_of(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    status, _, told = call("train c.toml --set out=. --set seed=5", capsys, monkeypatch)
    assert (status, "holds a run without its checkpoints" in told) == (2, True)
    now = bytes_of(tmp_path)
    assert {name: kept[name] for name in now} == now


def test_a_configuration_that_no_run_has_written_is_kept(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the user's own beside a run that was begun in Python; what a run has written is replaced, and an empty file too."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copy(trained / "rows.npz", tmp_path)
    shutil.copy(trained / "config.toml", tmp_path / "c.toml")
    own, before = tmp_path / "run" / "config.toml", bytes_of(tmp_path / "run")
    for text in ("mine = 1\n", "# mine\n"):
        own.write_text(text)
        for more in ("--resume", "--replace"):
            status, _, told = call(f"train c.toml {more}", capsys, monkeypatch)
            assert (status, told.count("\n")) == (2, 1)
            assert "training: run/config.toml is there, and no run has written it" in told
        status, _, told = call("demo --out run", capsys, monkeypatch)
        assert (status, "no run has written it" in told) == (2, True)
        assert bytes_of(tmp_path / "run") == before | {"config.toml": text.encode()}
    for text in (b"", before["config.toml"][:9], before["config.toml"]):
        own.write_bytes(text)
        assert call("train c.toml --replace", capsys, monkeypatch)[0] == 0
        assert own.read_bytes().startswith(before["config.toml"].partition(b"\n")[0])


def test_samples_on_request(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for label, index in (("b", 1), ("3", 2), ("0", 0)):
        out = tmp_path / label
        asked = f"sample run -n 5 --given label={label} --absent vector --steps 1 --out {out}"
        assert call(asked, capsys, monkeypatch)[0] == 0
        answer = load_file(out / "samples.safetensors")
        assert answer.keys() == {"image", "label"}
        assert answer["label"].tolist() == [index] * 5
        told = json.loads((out / "samples.json").read_text())
        assert (told["given"], told["absent"], told["answers"]["label"]) == (
            {"label": label},
            ["vector"],
            [["a", "b", "3"][index]] * 5,
        )
    picture = Image.fromarray(arrays()["image"][0])
    picture.save(tmp_path / "a.png")
    out = tmp_path / "s"
    asked = f"sample run/model -n 2 --given image={tmp_path}/a.png --guidance image=2 --steps 2 --seed 1 --out {out}"
    assert call(asked, capsys, monkeypatch)[0] == 0
    assert Image.open(out / "grid-image.png").crop((0, 0, 4, 4)).tobytes() == picture.tobytes()


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_answer_takes_the_place_of_another(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the run's own samples, which its report shows, nor those of the call before."""
    folders = []
    for label in ("a", "b", "3"):
        before = bytes_of(here / "samples")
        status, told, _ = call(f"sample run -n 2 --steps 1 --given label={label}", capsys, monkeypatch)
        assert status == 0
        folders.append(Path(told.splitlines()[0]).parent)
        after = bytes_of(here / "samples")
        assert before.items() < after.items()
        assert json.loads((folders[-1] / "samples.json").read_text())["given"] == {"label": label}
    assert len(set(folders)) == 3
    out = tmp_path / "s"
    assert call(f"sample run -n 2 --steps 1 --out {out}", capsys, monkeypatch)[0] == 0
    assert (out / "grid-image.png").exists()
    before = bytes_of(out)
    status, _, told = call(f"sample run -n 2 --steps 1 --out {out} --seed 9", capsys, monkeypatch)
    assert (status, bytes_of(out)) == (2, before)
    assert f"--out {out} holds samples already; name another folder, or overwrite them by --force" in told
    (out / "notes.txt").write_text("mine")
    again = f"sample run -n 2 --steps 1 --absent image --out {out} --force"
    assert call(again, capsys, monkeypatch)[0] == 0
    # No picture of the answer that was here before, and nothing else touched.
    assert set(bytes_of(out)) == {"samples.png", "samples.json", "samples.safetensors", "notes.txt"}
    assert load_file(out / "samples.safetensors").keys() == {"label", "vector"}
    # A picture of one's own is none of an answer, whatever it is called.
    (out / "grid-mine.png").write_bytes(b"mine")
    assert call(again, capsys, monkeypatch)[0] == 0
    assert (out / "grid-mine.png").read_bytes() == b"mine"
    for name in ("samples.json", "samples.png", "grid-image.png"):
        own = tmp_path / f"own-{name}"
        own.mkdir()
        (own / name).write_text("mine")
        for more in ("", " --force"):
            status, _, told = call(f"sample run -n 2 --steps 1 --out {own}{more}", capsys, monkeypatch)
            assert (status, f"has {name}, and no samples that it is of" in told) == (2, True)
        assert bytes_of(own) == {name: b"mine"}


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((3, 4, 4), True),
        ((4, 4), True),
        ((1, 4, 4), True),
        ((3, 1, 1), True),
        ((4,), False),
        ((1,), False),
        ((), False),
        ((3, 4), False),
        ((1, 3, 4, 4), False),
    ],
)
def test_a_mask_s_axes_are_those_of_the_value(
    shape: tuple[int, ...],
    fits: bool,
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.fromarray(arrays()["image"][0]).save(tmp_path / "a.png")
    np.save(tmp_path / "known.npy", np.ones(shape, bool))
    asked = f"sample run -n 1 --steps 1 --given image={tmp_path}/a.png --where image={tmp_path}/known.npy --out {tmp_path}/s"
    status, _, told = call(asked, capsys, monkeypatch)
    assert (status == 0) == fits
    if not fits:
        assert f"found a mask of shape {shape}, expected (3, 4, 4) or (4, 4)" in told


def asked_of(files: Path, model: JointModel) -> dict[str, tuple[str, dict[str, Any]]]:
    """Options of ``mmcore sample``, and the same question in Python."""
    image = model.variable("image").read(arrays()["image"][0])[None].expand(3, -1, -1, -1)
    known = torch.zeros(3, 3, 4, 4, dtype=torch.bool)
    known[..., :2] = True
    label = torch.full((3,), 1)
    picture, mask, array = files / "a.png", files / "mask.png", files / "mask.npy"
    Image.fromarray(arrays()["image"][0]).save(picture)
    Image.fromarray((known[0, 0].numpy() * 255).astype(np.uint8)).save(mask)
    np.save(array, known[0].numpy())
    inpainted = {"given": {"image": image}, "where": {"image": known}}
    edit = {"image": image, "label": label, "vector": torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).expand(3, -1)}
    start = f"--start image={picture} --start label=b --start vector=[0.1,0.2,0.3,0.4,0.5]"
    return {
        "inpainting": (f"--given image={picture} --where image={mask}", inpainted),
        "inpainting by an array": (f"--given image={picture} --where image={array}", inpainted),
        "posterior": (
            "--given label=b --conditioning posterior",
            {"given": {"label": label}, "conditioning": "posterior"},
        ),
        "guidance": (
            "--given label=b --guidance label=2 --guide classifier-free",
            {"given": {"label": label}, "guidance": {"label": 2.0}},
        ),
        "drawn": ("--absent vector --draw", {"absent": ["vector"], "draw": True}),
        "half ancestral": (
            "--sampler ddim --eta 0.5 --codes draw --steps 4",
            {"sampler": "ddim", "eta": 0.5, "codes": "draw", "steps": 4},
        ),
        "spacing": ("--sampler 2m --spacing snr --steps 4", {"sampler": "2m", "spacing": "snr", "steps": 4}),
        "edit": (f"{start} --strength 0.5", {"start": edit, "strength": 0.5}),
    }


QUESTIONS = (
    *("inpainting", "inpainting by an array", "posterior", "guidance", "drawn", "half ancestral", "spacing", "edit"),
)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_command_line_asks_what_python_asks(
    name: str,
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    registry: mmcore.Registry,
) -> None:
    model = mmcore.load(here / "model", registry=registry)
    questions = asked_of(tmp_path, model)
    assert questions.keys() == set(QUESTIONS)
    line, asked = questions[name]
    status, _, told = call(f"sample run -n 3 --seed 5 {line} --out {tmp_path / 's'}", capsys, monkeypatch)
    never = "note: this run never saw parts of a value"
    assert status == 0
    assert (told == "") if "where" not in line else told.startswith(f"mmcore: {never}"), told
    answer = load_file(tmp_path / "s" / "samples.safetensors")
    expected = mmcore.sample(model, 3, **{"seed": 5, "steps": 2, **asked})
    assert answer.keys() == expected.keys()
    for variable, x in expected.items():
        torch.testing.assert_close(answer[variable], x, rtol=0, atol=0)


def test_a_sampler_without_an_option_is_not_given_it(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"sample run -n 1 --steps 2 --sampler mmcore-diffusion:2m --out {tmp_path}"
    assert call(asked, capsys, monkeypatch)[0] == 0


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("sample run --given label=a --where label=gone.png", "--where label=gone.png: found no file gone.png"),
        ("sample run --given vector=[0.1,0.2,0.3,0.4,0.5] --where vector=rows.npz", "--where vector=rows.npz: "),
        ("sample run --given label=a --where label=empty.npy", "--where label=empty.npy: "),
        (
            "sample run --given label=a --where label=zip.npy",
            "--where label=zip.npy: found zip.npy unreadable (it is an archive of arrays)",
        ),
        ("sample run --given label=a --where label=torn.npy", "--where label=torn.npy: found torn.npy unreadable"),
        ("sample run --given label=a --given label=b", "--given label twice, expected it once"),
        ("sample run --given label=a --guidance label=2 --guidance label=3", "--guidance label twice"),
        ("sample run --device meta", "device 'meta' cannot be used: it holds no values"),
        ("sample run --strength 0.5", "--strength without --start"),
        ("sample run --guide classifier-free", "--guide without --guidance"),
        ("sample run --given label=a --guidance label=2 --guide mine", "no guidance 'mine' is installed"),
        ("sample run --conditioning poster", "did you mean 'posterior'?"),
        ("sample run --given label=d", "--given label=d: found 'd', expected one of a, b, 3"),
        ("sample run --given lable=1", "--given lable: expected one of image, label, vector; did you mean 'label'?"),
        ("sample run --given label", "--given 'label', expected name=value"),
        ("sample run --guidance label=x", "--guidance label=x, expected a number"),
        ("sample run --sampler heum", "sampler = 'heum', expected one of"),
        ("sample run --absent nothing", "absent names 'nothing'"),
        ("sample nowhere", "run nowhere: there is no such folder, expected what mmcore train made"),
        ("report nowhere", "holds no config.toml"),
        ("evaluate run --set part=test", "--set belongs to --source"),
        ("evaluate run --weights x.safetensors", "--weights belongs to --metrics"),
        ("evaluate run --ask joint", "--ask belongs to --metrics or --calibration"),
        ("evaluate run --answers 9", "--answers belongs to --calibration"),
        ("evaluate run --draws 2 --calibration --ask joint", "question 'joint' has no truth of a row"),
        ("evaluate run --draws 2 --metrics --weights gone.safetensors", "gone.safetensors"),
        ("evaluate run --draws 2 --metrics --ask image-label", "question 'image-label', expected 'joint' or"),
        ("evaluate nowhere", "there is no such folder"),
        ("check transform.resize", "missing 1 required positional argument: 'size'; its options are given by --set"),
        ("config nowhere.toml", "nowhere.toml: cannot be read: No such file"),
        ("config config.toml --set training.stepz=3", "did you mean 'steps'?"),
        ("config config.toml --set training", "has not the form a.b=value"),
        ("init nowhere -o y.toml", "there is nothing at nowhere"),
        ("init config.toml -o x.toml", "is nothing that a source reads"),
        ("init rows.npz", "config.toml is there already"),
        ("embed config.toml", "nothing to embed"),
        ("train config.toml --set data.options.path=gone.npz --set out=new", "gone.npz"),
    ],
)
def test_wrong_requests_end_with_2_and_a_line(
    line: str, match: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.parent / "empty.npy").write_bytes(b"")
    (here.parent / "torn.npy").write_bytes(b"PK\x03\x04 an archive's first bytes")
    with (here.parent / "zip.npy").open("wb") as file:
        np.savez(file, known=np.ones((), bool))
    status, _, told = call(line, capsys, monkeypatch)
    assert status == 2
    assert match in told
    assert len(told.splitlines()) == 1
    assert not (here.parent / "new").exists()


def test_config_prints_what_it_takes(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, once, _ = call("config config.toml --set training.steps=7", capsys, monkeypatch)
    assert status == 0
    assert tomllib.loads(once)["training"]["steps"] == 7
    (tmp_path / "again.toml").write_text(once)
    assert call(f"config {tmp_path}/again.toml", capsys, monkeypatch)[1] == once
    assert json.loads(call("config config.toml --json", capsys, monkeypatch)[1])["out"] == "run"


def test_a_dry_run_tells_of_all_parts_and_writes_nothing(
    here: Path, registry: mmcore.Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(here.parent.rglob("*"))
    status, told, _ = call("train config.toml --dry-run --set out=other", capsys, monkeypatch)
    assert status == 0
    assert set(here.parent.rglob("*")) == before
    model = mmcore.load(here / "model", registry=registry)
    counts = {line[:24].strip(): int(line[24:36].replace(",", "")) for line in told.split("\n\n")[0].splitlines()[1:]}
    assert counts["backbone"] == sum(p.numel() for p in model.backbone.parameters())
    assert counts["head label"] == sum(p.numel() for p in model.decoders["label"].parameters())
    assert counts["all"] == sum(p.numel() for p in model.parameters())
    assert re.search(r"next step +\d+ ms", told)
    assert re.search(r"peak memory +[\d,]+ MB", told)


def test_evaluate_takes_held_out_rows(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, registry: mmcore.Registry
) -> None:
    status, told, _ = call("evaluate run --draws 2 --json", capsys, monkeypatch)
    assert status == 0
    rows = configured(tomllib.loads((here / "config.toml").read_text()), registry=registry).rows("test")
    assert json.loads(told)["rows"] == len(rows) < 40


@pytest.mark.parametrize(("space", "said"), [(9e-17, False), (0.00004, False), (0.0009, True), (2.5, True)])
def test_evaluate_tells_what_belongs_to_the_space_where_the_table_s_digits_show_it(
    space: float,
    said: bool,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate = bound.evaluate
    monkeypatch.setattr(bound, "evaluate", lambda *a, **k: attrs.evolve(evaluate(*a, **k), space=space))
    status, told, _ = call("evaluate run --draws 2", capsys, monkeypatch)
    assert status == 0
    assert "\nall " in told
    assert (f"\nL0 of all is {space:.4g} nats above the sum of the variables: " in told) == said
    assert ("L0 of all" in told) == said


def test_evaluate_measures_answers_as_the_library_does(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, registry: mmcore.Registry
) -> None:
    asked = "evaluate run --draws 2 --rows 6 --metrics --ask image->label --ask label->vector --steps 3 --seed 4"
    status, told, _ = call(f"{asked} --json", capsys, monkeypatch)
    assert status == 0
    model = mmcore.load(here / "model", registry=registry)
    held = Table.read(configured(tomllib.loads((here / "config.toml").read_text()), registry=registry).rows("test"))
    assert len(held) > 6
    few = held.spread(6)
    expected = mmcore.metrics.report(model, few, ["image->label", "label->vector"], steps=3, seed=4)
    assert json.loads(told)["metrics"] == {name: figure.json() for name, figure in expected.items()}
    assert json.loads(told)["rows"] == len(few)
    assert {"image->label label.calibration_error", "label->vector vector.cosine"} <= expected.keys()
    _, words, _ = call(asked, capsys, monkeypatch)
    assert words.endswith(mmcore.metrics.table(expected) + "\n")
    assert "answers beside the rows, in 3 steps; in brackets" in words
    # The run keeps it, with some answers beside the truth, and its page shows them.
    kept = json.loads((here / "evaluation.json").read_text())
    assert kept["figures"] == {name: figure.json() for name, figure in expected.items()}
    whole = few.rows.present.all(1).nonzero()[:8, 0]
    given = {m.name: few.rows.values[m.name][whole] for m in model.variables if m.name != "label"}
    answers = mmcore.sample(model, len(whole), given=given, steps=3, seed=4)["label"]
    label = model.variable("label")
    assert kept["words"]["label"] == [[label.show(x) for x in xs] for xs in (few.rows.values["label"][whole], answers)]
    page = (here / "report.html").read_text()
    assert "<td>image → label</td><td>label: accuracy<br>" in page
    assert str(expected["image->label label.accuracy"]) in page
    assert "<th>label, true</th>" in page
    assert "answers beside the truth" in page
    assert "on validation rows" in page
    assert "mmcore evaluate run --calibration    # adds to this page" in page
    (here / "evaluation.json").write_text("my own")
    assert "is none of a run&#x27;s" not in page
    assert "is none of a run's, and is not overwritten" in call(asked, capsys, monkeypatch)[2]
    (here / "evaluation.json").unlink()
    with monkeypatch.context() as patch:  # a run that leaves the steps to the sampler
        patch.setattr("mmcore.config.schema.SamplingOptions.how", lambda options: {"steps": None})
        _, words, _ = call("evaluate run --draws 2 --rows 2 --metrics --ask image->label", capsys, monkeypatch)
    assert "answers beside the rows; in brackets" in words
    (here / "evaluation.json").unlink()
    (here / "report.html").write_text(page)


def test_evaluate_tells_calibration_as_the_library_does_and_the_report_shows_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, registry: mmcore.Registry
) -> None:
    asked = "evaluate run --draws 2 --rows 6 --calibration --answers 3 --ask image->label,vector --steps 2 --seed 4"
    status, told, _ = call(f"{asked} --json", capsys, monkeypatch)
    assert status == 0
    model = mmcore.load(here / "model", registry=registry)
    held = Table.read(configured(tomllib.loads((here / "config.toml").read_text()), registry=registry).rows("test"))
    expected = mmcore.metrics.calibration(
        model, held.spread(6), "image->label,vector", draws=3, rows=6, steps=2, seed=4
    )
    assert json.loads(told)["calibration"] == json.loads(json.dumps(expected.json()))
    assert {"image->label,vector label.brier", "image->label,vector vector.coverage_50"} <= expected.figures.keys()
    kept = json.loads((here / "calibration.json").read_text())
    assert kept["rows"] == "the run's test data"
    assert kept["figures"] == json.loads(told)["calibration"]["figures"]
    assert call("report run", capsys, monkeypatch)[0] == 0
    assert (here / "report.html").read_text().count("<svg") == len(expected.diagrams) > 4
    _, words, meanwhile = call(asked, capsys, monkeypatch)
    assert re.search(r"calibration, question 1 of 1: (\d+)/\1 ", meanwhile)
    assert "3 draws of each answer beside its row" in words
    assert words.splitlines()[-1].startswith("note: image->label,vector vector:")
    (here / "calibration.json").write_text("my own")
    assert "is none of a run's, and is not overwritten" in call(asked, capsys, monkeypatch)[2]
    (here / "calibration.json").unlink()


def test_data_shows_what_a_model_will_see(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, told, _ = call(f"data config.toml -o {tmp_path}/d.png", capsys, monkeypatch)
    assert status == 0
    assert re.search(r"rows: \d+ train, \d+ validation, \d+ test", told)
    with Image.open(tmp_path / "d.png") as shown:
        assert shown.size[0] > 64


def test_help_and_wrong_usage_import_no_torch(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['mmcore', {arguments}]\ntry:\n  from mmcore.cli import program; program.main()\nexcept SystemExit as e:\n  print(e.code, 'torch' in sys.modules)"
    for arguments, status in (
        ("'--help'", 0),
        ("'train', '--help'", 0),
        ("'train'", 2),
        ("'sample', 'x', '-n', 'y'", 2),
    ):
        line = [sys.executable, "-c", code.format(arguments=arguments)]
        told = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert told.stdout.splitlines()[-1] == f"{status} False", told.stderr


def test_the_version_is_one_line_and_torch_may_lack_or_be_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    done = subprocess.run(
        [sys.executable, "-m", "mmcore", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    expected = f"mmcore {mmcore.__version__} (torch {torch.__version__}, Python {python})\n"
    assert (done.stdout, done.stderr) == (expected, "")
    info = tmp_path / "torch-9.dist-info"
    info.mkdir()
    for metadata, version in ((b"Name: torch\nVersion: 9.1\n", "9.1"), (b"\xff", "?")):
        (info / "METADATA").write_bytes(metadata)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        assert call("--version", capsys, monkeypatch)[:2] == (0, expected.replace(torch.__version__, version))
    monkeypatch.setattr(sys, "path", [])
    assert call("--version", capsys, monkeypatch)[:2] == (0, expected.replace(torch.__version__, "not installed"))


def test_a_wrong_configuration_ends_a_process_with_2(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[data]\nsource = 'digit'\n[modalities.label]\nclases = 3\n")
    line = [sys.executable, "-m", "mmcore", "train", "c.toml"]
    told = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 2
    assert sorted(line.partition(" ")[2].partition(":")[2].split()[0] for line in told.stderr.splitlines()) == [
        "data.source",
        "modalities.label.clases",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]


# ---- init ----


def write(layout: str, folder: Path, rows: int = 24) -> Path:
    """Tiny collections in the layouts that people have."""
    rng = Rng.for_rows(1, rows)
    grey = rng.of("grey").integers(0, 256, 64).reshape(rows, 8, 8).to(torch.uint8).numpy()
    colour = rng.of("colour").integers(0, 256, 192).reshape(rows, 8, 8, 3).to(torch.uint8).numpy()
    classes = rng.of("mask").integers(0, 4, 64).reshape(rows, 8, 8).to(torch.uint8).numpy()
    labels = np.arange(rows, dtype=np.uint8) % 5
    vectors = rng.of("vector").normal(6).numpy().astype(np.float16)
    at = folder / layout
    at.mkdir()
    if layout == "idx":
        for part in ("train", "t10k"):
            for name, array in (("images-idx3", grey), ("labels-idx1", labels)):
                head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
                (at / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
        return at
    if layout == "npz":
        has = np.arange(rows) % 3 > 0
        names = np.array(["fish", "bird", "cat", "dog", "ant"])
        extra = {
            "has_words": has,
            "kind_names": names,
            "unit": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        }
        np.savez(at / "a.npz", image=colour, kind=labels, words=vectors * has[:, None], **extra)
        return at / "a.npz"
    if layout == "folder":
        for name in ("images", "masks"):
            (at / name).mkdir()
        for i in range(rows):
            Image.fromarray(colour[i]).save(at / "images" / f"{i:04}.png")
            if i % 4:
                Image.fromarray(classes[i]).save(at / "masks" / f"{i:04}.png")
        lines = ["stem,animal", *(f"{i:04},{('cat', 'dog')[i % 2]}" for i in range(rows))]
        (at / "labels.csv").write_text("\n".join(lines) + "\n")
        return at
    if layout == "table":
        (at / "pictures").mkdir()
        lines = ["image,label,note,vector"]
        for i in range(rows):
            Image.fromarray(grey[i]).resize((100, 80)).save(at / "pictures" / f"{i}.png")
            lines.append(f'pictures/{i}.png,{labels[i] if i % 5 else -1},text {i},"{vectors[i].tolist()}"')
        (at / "a.csv").write_text("\n".join(lines) + "\n")
        return at / "a.csv"
    with tarfile.open(at / "0.tar", "w") as tar:
        for i in range(rows):
            buffer = BytesIO()
            Image.fromarray(colour[i]).save(buffer, format="PNG")
            for suffix, data in (("png", buffer.getvalue()), ("cls", str(labels[i]).encode())):
                member = tarfile.TarInfo(f"{i:04}.{suffix}")
                member.size = len(data)
                tar.addfile(member, BytesIO(data))
    return at


EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "idx": {"image": {"plugin": "image", "size": 8, "channels": 1}, "label": {"plugin": "label", "classes": 5}},
    "npz": {
        "image": {"plugin": "image", "size": 8, "channels": 3},
        "kind": {"plugin": "label", "classes": 5, "names": ["fish", "bird", "cat", "dog", "ant"]},
        "words": {"plugin": "clip", "width": 6, "unit_norm": False},
        "unit": {"plugin": "clip", "width": 6, "unit_norm": True},
    },
    "folder": {
        "image": {"plugin": "image", "size": 8, "channels": 3},
        "mask": {"plugin": "mask", "size": 8, "classes": 4},
        "animal": {"plugin": "label", "classes": 2, "names": ["cat", "dog"]},
    },
    "table": {
        "image": {"plugin": "image", "size": [24, 32], "channels": 1},
        "label": {"plugin": "label", "classes": 4, "names": ["1", "2", "3", "4"]},
        "vector": {"plugin": "clip", "width": 6, "unit_norm": False},
    },
    "shards": {"image": {"plugin": "image", "size": 8, "channels": 3}, "label": {"plugin": "label", "classes": 5}},
}


OWN = ("image", "mask", "label", "clip", "scalar")
"""Modalities that the core looks for by itself; what others say of a column is tested with them."""


@pytest.mark.parametrize("layout", EXPECTED)
def test_init_finds_what_is_there(layout: str, tmp_path: Path) -> None:
    registry = mmcore.discover(only=[*OWN, "mmcore-diffusion"])
    text = configuration(write(layout, tmp_path), registry).text
    tables = tomllib.loads(text)
    assert tables["modalities"] == EXPECTED[layout]
    setup = configured(tables, registry=registry)
    rows = setup.rows()
    batch = rows.__getitems__(range(len(rows)))
    names = [m.name for m in rows.variables]
    # What was left out on purpose is missing, and nothing else is.
    missing = {name for name, here in zip(names, batch.present.all(0).tolist(), strict=True) if not here}
    assert missing == {"npz": {"words"}, "folder": {"mask"}, "table": {"label"}}.get(layout, set())
    if layout == "table":
        assert "note: texts, 24 different ones" in text


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("train", "val", "test"), {"validation": ["val"], "test": ["test"]}),
        (("Training", "Dev", "valid"), {"validation": ["Dev", "valid"]}),
        (("train", "test"), {"test": ["test"]}),
        (("train",), None),
        (("val", "test"), None),
    ],
)
def test_init_takes_the_parts_that_the_data_name(
    words: tuple[str, ...], values: dict[str, list[str]] | None, tmp_path: Path, registry: mmcore.Registry
) -> None:
    lines = [f"{i % 3},{words[i // 3 % len(words)]}" for i in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["label,split", *lines]) + "\n")
    tables = tomllib.loads(configuration(tmp_path / "a.csv", registry).text)
    if values is None:
        assert not {"by", "values"} & tables["data"]["split"].keys()
        return
    assert tables["data"]["split"] == {"by": "split", "values": values}
    assert list(tables["modalities"]) == ["label"]
    assert (tables["training"]["validate_every"] > 0) == ("validation" in values)
    setup = configured(tables, registry=registry)
    for part, said in ({"train": [words[0]]} | values).items():
        source = setup.rows(part).source
        assert set(source.column("split")) == set(said)
        assert len(source) == sum(line.split(",")[1] in said for line in lines)


def masked(at: Path, values: tuple[int, ...], rows: int = 24) -> Path:
    rng = np.random.Generator(np.random.Philox(0))
    for name in ("images", "masks"):
        (at / name).mkdir(parents=True)
    for i in range(rows):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(at / "images" / f"{i}.png")
        Image.fromarray(rng.choice(np.asarray(values, np.uint8), (8, 8))).save(at / "masks" / f"{i}.png")
    return at


def test_init_says_what_it_decided_and_on_what_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMCORE_PLUGINS", ",".join([*OWN, "mmcore-diffusion"]))
    (masked(tmp_path / "d", (0, 255)) / "notes.csv").write_text(
        "file,note\n" + "".join(f"{i},text {i}\n" for i in range(24))
    )
    status, told, said = call("init d -o c.toml", capsys, monkeypatch)
    assert (status, said) == (0, "")
    assert "d: read by the source folder, 24 rows" in told
    line = next(line for line in told.splitlines() if line.startswith("  mask: "))
    assert re.search(r"two values, 0 \(\d+\.\d%\), 255 \(\d+\.\d%\), so two classes: were 255 void", line)
    assert "to change: values, void or ignore" in line
    assert "left out:\n  note: texts, 24 different ones" in told
    assert tomllib.loads(Path("c.toml").read_text())["modalities"]["mask"]["values"] == [0, 255]


def test_init_names_the_package_that_reads_what_no_installed_plugin_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMCORE_PLUGINS", ",".join([*(set(OWN) - {"audio", "depth", "text"}), "mmcore-diffusion"]))
    for name in ("sound", "depth", "caption", "music"):
        (tmp_path / "d" / name).mkdir(parents=True)
    for i in range(12):
        (tmp_path / f"d/sound/{i}.wav").write_bytes(b"RIFF")
        (tmp_path / f"d/music/{i}.mp3").write_bytes(b"ID3")
        (tmp_path / f"d/caption/{i}.txt").write_text(f"the number {i} in words")
        Image.fromarray(np.full((8, 8), 900 * i + 100, np.uint16)).save(tmp_path / f"d/depth/{i}.png")
    status, told, said = call("init d -o c.toml", capsys, monkeypatch)
    assert (status, said) == (0, "")
    lines = {line.strip().partition(": ")[0]: line.strip() for line in told.splitlines()}
    assert lines["sound"] == "sound: files of .wav, which are read by mmcore-audio (pip install mmcore-audio)"
    assert (
        lines["music"]
        == "music: files of .mp3; of sounds .wav, .flac, .ogg are read, so make .mp3 one of these: mmcore-audio (pip install mmcore-audio)"
    )
    assert lines["caption"].endswith("as texts they are read by mmcore-text (pip install mmcore-text)")
    assert "as distances, with holes, they are read by mmcore-depth (pip install mmcore-depth)" in told
    for name in ("depth", "caption", "music"):
        (tmp_path / "d" / name).rename(tmp_path / name)
    status, told, said = call("init d -o e.toml", capsys, monkeypatch)
    assert status == 2
    assert "sound (files of .wav, which are read by mmcore-audio (pip install mmcore-audio))" in said


def test_init_asks_in_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    masked(tmp_path / "d", (0, 128, 255))
    status, told, said = call("init d -o c.toml", capsys, monkeypatch)
    assert (status, told) == (2, "")
    assert said.count("\n") == 1
    assert "say which: --assume mask.values=0,128,255 (3 classes); --assume mask.void=255 (255 is void)" in said
    assert not Path("c.toml").exists()
    assert call("init d -o c.toml --assume mask.void=255", capsys, monkeypatch)[0] == 0
    assert tomllib.loads(Path("c.toml").read_text())["modalities"]["mask"]["void"] == 255
    assert call("init d -o none.toml --assume mask=none", capsys, monkeypatch)[0] == 0
    assert list(tomllib.loads(Path("none.toml").read_text())["modalities"]) == ["image"]
    for pair, words in (
        ("maks=image", "--assume maks: expected a column among image, mask; did you mean 'mask'?"),
        ("mask", "--assume 'mask', expected COLUMN=MODALITY or COLUMN.OPTION=VALUE"),
        ("mask.void=255 --assume image.sise=3", "modality 'image' has no 'sise', expected one of channels, size"),
    ):
        status, _, said = call(f"init d -o x.toml --assume {pair}", capsys, monkeypatch)
        assert status == 2
        assert words in said
    (tmp_path / "classes").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "d" / "images").rename(tmp_path / "classes" / name)
        masked(tmp_path / "d2" / name, (0, 1))
        (tmp_path / "d2" / name / "images").rename(tmp_path / "d" / "images")
    status, _, said = call("init classes -o y.toml", capsys, monkeypatch)
    assert (status, said.count("\n")) == (2, 1)
    assert "--assume layout=classes or --assume layout=modalities" in said
    assert call("init classes -o y.toml --assume layout=classes", capsys, monkeypatch)[0] == 0
    assert tomllib.loads(Path("y.toml").read_text())["modalities"]["label"]["names"] == ["cat", "dog"]


@pytest.mark.parametrize("layout", ["idx", "npz", "folder"])
def test_init_then_train_then_sample(
    layout: str,
    tmp_path: Path,
    registry: mmcore.Registry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(layout, tmp_path, rows=60)
    assert call(f"init {path} -o c.toml", capsys, monkeypatch)[0] == 0
    # Only so that it is over soon: nothing that init wrote is changed but the amount of work.
    few = {
        "training.steps": 2,
        "training.batch_size": 4,
        "sampling.n": 2,
        "sampling.steps": 1,
        "model.backbone_options.width": 16,
    }
    changes = " ".join(f"--set {key}={value}" for key, value in few.items())
    status, told, said = call(f"train c.toml {changes}", capsys, monkeypatch)
    assert status == 0, said
    run = Path(told.splitlines()[0].partition("model:")[2].strip()).parent
    assert call(f"sample {run} -n 3 --steps 1 --out s", capsys, monkeypatch)[0] == 0
    assert {name: len(x) for name, x in load_file("s/samples.safetensors").items()} == dict.fromkeys(
        EXPECTED[layout], 3
    )
