"""Whatever happens to a run's folder: its commands work with what is whole, and say what is not; or they end with a line."""

import base64
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcore import MmcoreError, Registry
from mmcore.cli import program
from mmcore.config.resolve import configured
from mmcore.data import Table
from mmcore.errors import ConfigError
from mmcore.metrics import Figure
from mmcore.metrics.draws import Calibrated
from mmcore.metrics.telling import KINDS, Diagram, Point
from mmcore.runs import calibrated, evaluated, report
from mmcore.runs.pictures import png, sheet
from mmcore.runs.run import Run, rows_with, train
from mmcore.store.reading import DamagedError, digest
from tests.runs.test_resumed import tables

SECRET = "a-secret-of-the-machine"
PNG = b"\x89PNG\r\n\x1a\n" + SECRET.encode() + b"IEND\xaeB`\x82"
# All that a page may hold of it.
TOLD = (SECRET.encode(), base64.b64encode(PNG)[12:-12])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    np.savez(folder / "a.npz", image=rng.integers(0, 256, (60, 4, 4), np.uint8), label=np.arange(60) % 3)
    given = tables(folder, split={"validation": 0.1, "test": 0.1})
    given["training"] |= {"log_every": 1, "validate_every": 3, "pictures_every": 3, "trackers": []}
    run = train(configured(given, registry=registry), quiet=True)
    points = (Point(0.25, 0.4, 0.3, 0.5, 9), Point(0.75, 0.6, 0.5, 0.7, 8))
    diagrams = tuple(Diagram(kind, "image->label", "label", name, points) for kind in KINDS for name in ("", "[0]"))
    figures = {
        "image->label label.brier": Figure(0.1, 9, 0.0, 0.2),
        "image->label label.coverage_80[0]": Figure(0.7, 9, 0.6, 0.75),
    }
    calibrated.save(run, Calibrated(figures, diagrams, 39, ("few",)), "the test rows")
    model = Run.open(run, registry).model("cpu")
    table = Table.read(rows_with(configured(given, registry=registry).rows("test"), model))
    beside = evaluated.Beside.ask(model, table, steps=2)
    assert len(beside.truth["label"]) == len(table) > 4
    evaluated.save(run, model, {"image->label label.accuracy": Figure(0.5, 6, 0.2, 0.8)}, beside, "the test rows", {})
    return run


def test_the_page_shows_the_data_and_what_the_training_took(whole: Path, registry: Registry) -> None:
    page, shown = (whole / "report.html").read_text(), (whole / "samples" / "data.png").read_bytes()
    assert "What the data look like" in page
    assert base64.b64encode(shown).decode() in page
    # Sixteen of the training rows, evenly: the sheet of the very values that a table of them holds.
    rows = Run.open(whole, registry).setup.rows()
    table = Table.read(rows)
    places = [k * len(rows) // 16 for k in range(16)]
    assert png(sheet(rows.variables, {name: x[places] for name, x in table.rows.values.items()})) == shown
    took = json.loads((whole / "timing.jsonl").read_text().splitlines()[-1])
    assert 5e7 < took["memory"] < 1e12
    assert f"{took['memory'] / 1e9:,.2f} GB" in page


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    """A place with a run, and beside it what is none of its business."""
    outside = tmp_path / "outside"
    outside.mkdir()
    line = {"step": 9, "loss": 1.0, "seconds": 1, "tasks": {SECRET: {"loss": 1.0, "rows": 1}}}
    (outside / "x.jsonl").write_text(f"{json.dumps(line)}\n")
    (outside / "x.json").write_text(json.dumps({"given": {SECRET: 1}, "format": 2}))
    (outside / "x.toml").write_text(f"# {SECRET}\n[training]\nsteps = 3\n")
    (outside / "x.html").write_text("<!doctype html>\nmine")
    (outside / "x.png").write_bytes(PNG)
    shutil.copytree(outside, outside / "samples")
    for name in ("samples.png", "step-00000003-sheet.png"):
        (outside / "samples" / name).write_bytes(PNG)
    (outside / "samples" / "samples.json").write_text(json.dumps({"given": {SECRET: 1}}))
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path


ODD = [
    *(
        "",
        "null",
        "[]",
        "3",
        '"x"',
        "{}",
        "{",
        "}",
        '{"step": NaN}',
        '{"step": -1}',
        '{"step": true}',
        "\ufeff{}",
        "\x00",
    ),
    *('{"step": 1e999}', f'{{"step": {"9" * 40}}}', f'{{"step": {"9" * 5000}}}', "[" * 30_000, '{"step": "1"}'),
    *(
        '{"step": 1, "loss": NaN, "tasks": {}}',
        '{"step": 1, "loss": 1e308, "tasks": {}}',
        '{"step": 1, "seconds": null}',
    ),
    '{"step": 1, "loss": 1, "tasks": {"image": {"loss": null, "rows": 3}}}',
    '{"step": 1, "loss": 1, "tasks": {"$\\\\frac{": {"loss": 1, "rows": 3}, "\\ud800": {"loss": 2, "rows": 1}}}',
    '{"step": 4611686018427387903, "loss": 1, "seconds": -1e29, "tasks": {"image": {"loss": 1e29, "rows": 3}}}',
    '{"step": 7, "loss": 1, "seconds": 1e29, "tasks": {"<script>": {"loss": -1e29, "rows": 3}}}',
    '{"step": 1, "loss": 1, "tasks": [1]}',
    '{"step": 1, "loss": 1, "tasks": {"image": 3}}',
]
CONFIGS = [
    *(
        "",
        "training = 3",
        "[training]",
        "x = [",
        "[training]\nsteps = -1",
        '[training]\nsteps = "many"\nbatch_size = nan',
    ),
    *(
        f"[training]\nsteps = {'9' * 4000}",
        "modalities = 3",
        "[modalities]",
        "[[modalities]]\na = 1",
        "x = " + "[" * 5000,
    ),
    *('out = 3\n[training]\nsteps = 3\n[modalities."<b>"]', "seed = 1979-05-27", "\x00", "steps = inf"),
]
SAMPLES = [
    *(
        "",
        "null",
        "[]",
        '{"given": 3}',
        '{"given": [1]}',
        '{"given": {"<i>": {"a": NaN}}}',
        '{"answers": 3}',
        "[" * 30_000,
    ),
    *('{"given": null}', '{"given": {"\\ud800": "\\udfff"}}'),
]
STRAY = [
    *("step-x.png", "step-.png", "step-99999999999999999999999-a.png", "step-00000001.png", "step-00000001-\n.png"),
    *("grid-.png", "step-00000002-a.png", ".aside-samples.png"),
]


def of_run(run: Path) -> list[Path]:
    """But for what cannot be damaged a second time: links, and what has grown beyond memory."""
    files = (path for path in run.rglob("*") if path.is_file() and not path.is_symlink() and path.name != ".lock")
    return sorted(path for path in files if path.stat().st_size < 1 << 30)


def any_file(run: Path, draw: random.Random) -> Path:
    """Logs and what a page shows as often as all else together."""
    shown = [path for path in of_run(run) if "checkpoints" not in path.parts and "best" not in path.parts]
    return draw.choice(shown if draw.random() < 0.7 else of_run(run))


def changed(run: Path, draw: random.Random) -> str:
    path = any_file(run, draw)
    if path.stat().st_size > 1 << 30:
        return f"{path.name} is huge already"
    data = bytearray(path.read_bytes())
    how = draw.choice(["cut", "flip", "noise", "latin", "empty", "grow", "huge", "none"])
    at = draw.randrange(len(data) + 1)
    if how == "huge":
        with path.open("r+b") as file:
            file.truncate(100 << 30)
        return f"{path.name} {how}"
    if how == "none":
        path.unlink()
        return f"{path.name} {how}"
    if how == "flip" and data:
        data[at % len(data)] ^= 1 << draw.randrange(8)
    new = {
        "cut": data[:at],
        "noise": data[:at] + draw.randbytes(9) + data[at:],
        "latin": data[:at] + "é".encode("latin-1") + data[at:],
        "empty": b"",
        "grow": data + draw.randbytes(5),
    }
    path.write_bytes(new.get(how, data))
    return f"{path.name} {how}"


def lines(run: Path, draw: random.Random) -> str:
    path = run / draw.choice(["metrics.jsonl", "validation.jsonl", "timing.jsonl"])
    there = path.read_text().splitlines(keepends=True)
    odd = draw.choice(ODD)
    there.insert(draw.randrange(len(there) + 1), odd + draw.choice(["\n", "\n", "\r\n", ""]))
    path.write_text("".join(there), encoding="utf-8", newline="")
    return f"{path.name} has {odd[:60]}"


def values(run: Path, draw: random.Random) -> str:
    """One value of a log's line of another kind."""
    path = run / draw.choice(["metrics.jsonl", "timing.jsonl"])
    there = [json.loads(line) for line in path.read_text().splitlines()]
    value: Any = draw.choice([None, "x", [], {}, True, -1, 1e300, float("nan"), float("inf"), 10**30, "<b>"])
    inside = draw.choice(there)
    while True:
        key = draw.choice(sorted(inside))
        if isinstance(inside[key], dict) and draw.random() < 0.7:
            inside = inside[key]
            continue
        inside[key] = value
        break
    path.write_text("".join(json.dumps(line) + "\n" for line in there))
    return f"{path.name}: {key} = {value}"


def texts(run: Path, draw: random.Random) -> str:
    if draw.random() < 0.6:
        text = draw.choice(CONFIGS)
        (run / "config.toml").write_text(text)
        return f"config.toml is {text[:60]!r}"
    text = draw.choice(SAMPLES)
    (run / "samples" / "samples.json").write_text(text)
    return f"samples.json is {text[:60]!r}"


def stray(run: Path, draw: random.Random) -> str:
    name = draw.choice(STRAY)
    (run / "samples" / name).write_bytes(draw.choice([b"", PNG.replace(SECRET.encode(), b"x"), b"GIF89a"]))
    return f"{name!r} is there"


def linked(run: Path, draw: random.Random) -> str:
    """To another place, to itself, to nothing; or what is no file at all."""
    path = any_file(run, draw)
    path.unlink()
    outside = run.parent / "outside"
    how = draw.choice(["out", "out", "itself", "nowhere", "folder", "pipe", "device"])
    if how == "out":
        path.symlink_to(outside / f"x{path.suffix if (outside / f'x{path.suffix}').exists() else '.json'}")
    elif how == "itself":
        path.symlink_to(path)
    elif how == "nowhere":
        path.symlink_to(outside / "nowhere")
    elif how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return f"{path.relative_to(run)} is a {how}"


def moved(run: Path, draw: random.Random) -> str:
    folder = run / draw.choice(["model", "samples", "checkpoints", "best"])
    shutil.rmtree(folder)
    how = draw.choice(["gone", "file", "link"])
    if how == "file":
        folder.write_text("x")
    elif how == "link":
        folder.symlink_to(run.parent / "outside" / "samples")
    return f"{folder.name} is {how}"


DAMAGES: list[Callable[[Path, random.Random], str]] = [changed, lines, values, texts, stray, linked, moved]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def told(error: MmcoreError) -> str:
    """One line; of a configuration one for each thing that is wrong with it."""
    text = str(error)
    if not isinstance(error, ConfigError):
        assert "\n" not in text.strip("\n"), text
    return text


def again(whole: Path, home: Path) -> Path:
    shutil.rmtree(home / "run")
    shutil.copytree(whole, home / "run")
    return home / "run"


@pytest.mark.parametrize("kind", DAMAGES, ids=lambda kind: kind.__name__)
def test_a_report_tells_what_is_whole_and_names_what_is_not(
    kind: Callable[[Path, random.Random], str], whole: Path, home: Path
) -> None:
    outside, draw = tree(home / "outside"), random.Random(kind.__name__)
    for _ in range(32):
        run = again(whole, home)
        what = kind(run, draw)
        if draw.random() < 0.3:
            what += f"; {changed(run, draw)}"
        said: list[str] = []
        try:
            page = report.write(run, said.append)
        except MmcoreError as error:
            told(error)
            continue
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        text = page.read_bytes()
        assert page == run / "report.html"
        assert not page.is_symlink()
        assert not any(secret in text for secret in TOLD), what
        assert b"<script" not in text
        assert text.decode().endswith("</main></body></html>\n")
        assert all(line.startswith("report: left out: ") for line in said)
    assert tree(home / "outside") == outside


def test_weights_longer_than_their_header_says_are_not_read_through(home: Path) -> None:
    """A sparse file of 100 GB takes no room, and minutes to read: refused before its digest is made."""
    path = home / "run" / "model" / "model.safetensors"
    length = path.stat().st_size
    for longer in (length + 1, 12 << 30, 100 << 30):
        with path.open("r+b") as file:
            file.truncate(longer)
        told = "the limit is" if longer > 16 << 30 else f"has {longer} bytes, its header tells of {length}"
        with pytest.raises(DamagedError, match=told):
            digest(path)


def test_what_is_left_of_a_log_is_shown_and_the_rest_told(whole: Path, home: Path) -> None:
    """The figures of the last line that is whole."""
    run = home / "run"
    kept = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    report.write(run)
    assert "Left out" not in (run / "report.html").read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 7, "loss": "low"}\n\udcff\n'.encode("utf-8", "surrogateescape").decode("latin-1") + '{"step"'
        )
    (run / "samples" / "samples.png").write_bytes(b"GIF89a")
    (run / "samples" / "step-x.png").write_bytes(b"")
    (run / "timing.jsonl").unlink()
    said: list[str] = []
    page = report.write(run, said.append).read_text()
    assert said == [
        f"report: left out: {run / 'metrics.jsonl'}: 2 of {len(kept) + 2} lines cannot be read",
        f"report: left out: {run / 'samples' / 'samples.png'}: found no whole PNG",
    ]
    assert f"<b>{kept[-1]['step']}</b>" in page
    assert f"<b>{kept[-1]['loss']:.3f}</b>" in page
    assert "2 of 8 lines cannot be read" in page
    assert "On the way" in page


@pytest.mark.parametrize(
    "change",
    [
        {"figures": 3},
        {"figures": {"a b.c": {"value": float("nan"), "n": 1, "low": 0, "high": 1}}},
        {"words": {"label": [["a"], ["b", "c"]]}},
        {"words": {"label": [["a"]]}},
        {"words": None},
        {"pictures": None},
        {"rows": "<script>", "words": {"<script>": [["<script>"], ["<script>"]]}},
        {"model": "other"},
    ],
)
def test_an_evaluation_is_read_without_trust(change: dict[str, Any], home: Path) -> None:
    path = home / "run" / "evaluation.json"
    kept = json.loads(path.read_text())
    whole = report.write(home / "run").read_text()
    assert "What it answers" in whole
    assert "image → label" in whole
    path.write_text(json.dumps(kept | change))
    said: list[str] = []
    page = report.write(home / "run", said.append).read_text()
    assert "<script" not in page
    assert ("What it answers" in page) == (not said) == ("rows" in change)
    assert all("evaluation.json" in line for line in said)


def test_a_link_is_not_followed_out_of_the_folder(home: Path) -> None:
    run = home / "run"
    for name in ("samples/samples.png", "samples/step-00000003-sheet.png"):
        (run / name).unlink()
        (run / name).symlink_to(home / "outside" / "x.png")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(home / "outside" / "x.jsonl")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(home / "outside" / "new.html")
    said: list[str] = []
    page = report.write(run, said.append).read_bytes()
    assert not any(secret in page for secret in TOLD)
    assert [line.endswith("leads out of the folder, expected a file in it") for line in said] == [True] * 3
    assert not (home / "outside" / "new.html").exists()
    (run / "config.toml").unlink()
    (run / "config.toml").symlink_to(home / "outside" / "x.toml")
    with pytest.raises(MmcoreError, match=r"config.toml: leads out of the folder"):
        report.write(run)


def test_calibration_is_shown_where_it_is_of_these_weights(home: Path) -> None:
    run, said = home / "run", []
    page = report.write(run, said.append).read_text()
    assert said == []
    assert page.count("<svg") == 2 * len(KINDS)
    assert page.count("each element by itself") == 1
    assert "<td>brier</td><td>0.100 (0.000 … 0.200)</td><td class=n></td>" in page
    assert 'color: var(--accent); font-weight: 600">0.700 (0.600 … 0.750)</td><td class=n>0.8</td>' in page
    told = json.loads((run / "calibration.json").read_text())
    # A name may have spaces, in a question too.
    text = json.dumps(told).replace("image->label label", "image->the label the label")
    text = text.replace('"image->label"', '"image->the label"').replace('"label"', '"the label"')
    named = json.loads(text)
    assert named != told
    (run / "calibration.json").write_text(json.dumps(named))
    page = report.write(run).read_text()
    assert page.count("<svg") == 2 * len(KINDS)
    assert "<h3>image-&gt;the label: the label, " in page
    told["figures"] = {"<b>x->y</b> y.z": {"value": 1, "n": 3, "low": 0, "high": 2}}
    told["diagrams"][0]["name"] = "</svg><b>"
    (run / "calibration.json").write_text(json.dumps(told))
    assert "<b>x" not in (page := report.write(run).read_text())
    assert "</svg><b>" not in page
    told["figures"]["x->y y.z"] = {"value": 10**400, "n": 3, "low": 0, "high": 2}
    (run / "calibration.json").write_text(json.dumps(told))
    report.write(run, said.append)
    assert [line.partition(": holds no ")[2] for line in said] == [
        "figures as mmcore evaluate --calibration writes them (something else for a number)"
    ]
    shutil.copy(home / "outside" / "x.png", run / "model" / "model.safetensors")
    (run / "calibration.json").write_text(json.dumps(told | {"figures": {}}))
    assert "<svg" not in report.write(run, said.append).read_text()
    assert any(
        "calibration.json: is of other weights than model/model.safetensors; mmcore evaluate --calibration" in line
        for line in said
    )


def test_a_calibration_of_one_s_own_is_not_overwritten(home: Path) -> None:
    for text in ("mine", '{"what": "mine"}', "[]"):
        (home / "run" / "calibration.json").write_text(text)
        with pytest.raises(
            MmcoreError, match=r"calibration.json is none of a run's, and is not overwritten; move it away"
        ):
            calibrated.save(home / "run", Calibrated({}, (), 39, ()), "rows")
        assert (home / "run" / "calibration.json").read_text() == text


def test_a_page_of_one_s_own_is_not_overwritten(home: Path, registry: Registry) -> None:
    (home / "run" / "report.html").write_text("<h1>my thesis</h1>")
    with pytest.raises(MmcoreError, match=r"report.html is no report of a run, and is not overwritten"):
        report.write(home / "run")
    assert (home / "run" / "report.html").read_text() == "<h1>my thesis</h1>"


COMMANDS = [
    "sample RUN -n 2 --steps 2",
    "predict RUN test -o OUT --draws 1 --steps 2",
    "evaluate RUN --draws 2",
    "train CONFIG --resume",
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_commands_of_a_damaged_run_end_with_a_line(
    command: str, whole: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outside, draw = tree(home / "outside"), random.Random(command)
    place = str(home / "run")
    config = home / "config.toml"
    config.write_text((whole / "config.toml").read_text().replace(str(whole), place))
    assert place in config.read_text()
    for number in range(36):
        run = again(whole, home)
        what = draw.choice(DAMAGES)(run, draw)
        words = command.replace("RUN", place).replace("OUT", str(home / f"out-{number}"))
        monkeypatch.setattr(sys, "argv", ["mmcore", *words.replace("CONFIG", str(config)).split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            program.main()
        err = capsys.readouterr().err
        assert "Traceback" not in err, what
        assert "not expected" not in err, (what, err)
        assert end.value.code in (0, None, 1, 2), what
        if end.value.code:
            assert err.startswith(("mmcore: ", "training: ", "resume: ", str(run))), (what, err)
    assert tree(home / "outside") == outside
