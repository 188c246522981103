"""Strangers' files: what is no file is not read, no number of theirs decides memory or time, and none of their text reaches a terminal raw."""

import ast
import io
import json
import os
import re
import shutil
import socket
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmcore
from benchmarks import hostile
from mmcore import MmcoreError, OptionError, Registry, RequestError, files, limits
from mmcore.config import configured
from mmcore.config import files as toml
from mmcore.config.guess import configuration
from mmcore.data.decode import decode
from mmcore.data.sources.npz import Npz
from mmcore.data.sources.shards import Shards
from mmcore.errors import ConfigError
from mmcore.store.reading import DamagedError, read_tensors

CORE = Path(mmcore.__file__).parent
WITHIN = 5.0
"""Seconds, of a refusal."""


def test_hundreds_of_hostile_folders_end_in_time_and_in_lines(tmp_path: Path) -> None:
    wrong = [
        f"{case.kind}, {case.what}: {ended.fault}" for case, ended in hostile.outcomes(300, 1, tmp_path) if ended.fault
    ]
    assert not wrong, "\n".join(wrong)


# ---- the door ----

READS = {"open", "read_text", "read_bytes", "load", "memmap", "fromfile", "load_file", "safe_open", "mmap"}
ELSEWHERE = {
    "config/growing.py": "a model folder, by the store's reader",
    "data/decode.py": "pictures of bytes that were read",
    "data/embed.py": "what is written",
    "data/sources/npz.py": "members of an open archive",
    "data/sources/shards.py": "an open file",
    "data/sources/idx.py": "an open file, unpacked",
    "store/checkpoint.py": "what is written",
    "store/folder.py": "a run's lock",
    "store/reading.py": "tensors of bytes that were read",
    "data/sources/saved.py": "a library's own reader",
}


def test_data_models_and_configurations_are_read_through_one_door() -> None:
    found = set()
    for room in ("data", "store", "config"):
        for path in (CORE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                called = getattr(node, "func", None)
                name = getattr(called, "attr", None) or getattr(called, "id", None)
                if isinstance(node, ast.Call) and name in READS and ast.unparse(node.func) != "files.opened":
                    found.add(str(path.relative_to(CORE)))
    assert found <= ELSEWHERE.keys()


def odd(at: Path, kind: str) -> Path:
    if kind == "a pipe":
        os.mkfifo(at)
    elif kind == "a device":
        at.symlink_to("/dev/zero")
    elif kind == "a folder":
        at.mkdir()
    else:
        here = os.getcwd()
        os.chdir(at.parent)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(at.name)
        os.chdir(here)
    return at


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path, registry: Registry) -> None:
    at = odd(tmp_path / "x", kind)
    with pytest.raises(OSError, match=f"it is {kind}, expected a file"):
        files.read(at, limits.FILE)
    for name in ("x.png", "x.npy", "x.json", "x.txt"):
        (tmp_path / name).symlink_to(at)
        with pytest.raises(RequestError, match=rf"{name} unreadable \(it is {kind}"):
            decode(tmp_path / name)
    with pytest.raises(ConfigError, match=f"cannot be read: it is {kind}"):
        toml.read(at)
    for source, suffix in (
        ("npz", "npz"),
        ("table", "csv"),
        ("table", "jsonl"),
        ("table", "parquet"),
        ("shards", "tar"),
    ):
        (tmp_path / f"y.{suffix}").symlink_to(at)
        started = time.monotonic()
        with pytest.raises(RequestError):
            registry.source(source, path=tmp_path / f"y.{suffix}")
        assert time.monotonic() - started < WITHIN


def test_a_socket_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"expected a file|No such device or address"):
        files.read(odd(tmp_path / "x", "a socket"), limits.FILE)


def test_a_file_is_measured_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = tmp_path / "x.txt"
    at.touch()
    os.truncate(at, 8 * 10**9)
    with pytest.raises(RequestError, match=r"it has 8\.0 GB, the limit is 1\.1 GB; MMCORE_MOST_FILE raises it"):
        decode(at)
    at.write_text("hello")
    assert decode(at) == "hello"
    monkeypatch.setenv("MMCORE_MOST_FILE", "4")
    with pytest.raises(RequestError, match="it has 5 bytes, the limit is 4 bytes"):
        decode(at)
    monkeypatch.setenv("MMCORE_MOST_FILE", "many")
    with pytest.raises(OptionError, match="MMCORE_MOST_FILE = 'many', expected a whole number"):
        files.read(at, limits.FILE)


def test_a_link_in_a_folder_leads_not_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "one").write_text("1")
    (tmp_path / "secret").write_text("2")
    (tmp_path / "m" / "in").symlink_to("one")
    (tmp_path / "m" / "out").symlink_to("../secret")
    assert files.read(tmp_path / "m" / "in", limits.RECORD, inside=tmp_path / "m") == b"1"
    with pytest.raises(OSError, match="a link that leads out of the folder"):
        files.read(tmp_path / "m" / "out", limits.RECORD, inside=tmp_path / "m")
    assert files.read(tmp_path / "m" / "out", limits.FILE) == b"2"


# ---- what files promise ----


@pytest.mark.parametrize("size", [-512, -(2**62), 2**62])
def test_a_member_of_a_size_that_cannot_be_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(hostile._tar_of(b"0", size))
    with pytest.raises(RequestError, match=r"shards: found .*r\.tar unreadable"):
        Shards(tmp_path / "r.tar")


def test_the_name_of_a_member_is_not_read_whatever_its_length(tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(hostile._tar_of(b"L", 10**11))
    os.truncate(tmp_path / "r.tar", 10**11)
    with pytest.raises(RequestError, match=r"asks for 100,000,000,\d+ bytes at once"):
        Shards(tmp_path / "r.tar")


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_is_no_longer_than_its_file(packed: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "r.npz", "w", packed) as archive:
        archive.writestr("image.npy", hostile._npy((10**15,)))
    with pytest.raises(RequestError, match=r"image.npy has \d+ bytes, its header tells of 8000000000000\d+"):
        Npz(tmp_path / "r.npz")
    (tmp_path / "x.npy").write_bytes(hostile._npy((10**15,)))
    with pytest.raises(RequestError, match="it has 0 bytes of data, its header tells of 8000000000000000"):
        decode(tmp_path / "x.npy")


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_were_written(order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=(7, 3, 2)), order=order)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "r.npz", x=array, y=np.arange(7)[:, None])
        source = Npz(tmp_path / "r.npz")
        assert all(np.array_equal(source[i]["x"], array[i]) and source[i]["y"] == i for i in range(7))
        assert np.array_equal(np.stack(source.column("x")), array)
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(decode(tmp_path / "x.npy"), array)


def test_an_archive_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.zeros((1000, 64)))
    source = Npz(tmp_path / "r.npz")
    assert source[999]["x"].sum() == 0
    os.truncate(tmp_path / "r.npz", 4096)
    with pytest.raises(RequestError, match=r"r\.npz has been cut since it was opened"):
        source[999]


def test_weights_are_as_long_as_their_header_says(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    at = tmp_path / "w.safetensors"
    save_file({"x": torch.arange(3.0)}, at)
    assert torch.equal(read_tensors(at)["x"], torch.arange(3.0))
    length = at.stat().st_size
    os.truncate(at, 100 * 10**9)
    with pytest.raises(DamagedError, match="has 100 GB, the limit is 17 GB; MMCORE_MOST_WEIGHTS raises it"):
        read_tensors(at)
    os.truncate(at, 8 * 10**9)
    with pytest.raises(DamagedError, match=f"has 8000000000 bytes, its header tells of {length}"):
        read_tensors(at)


@pytest.mark.parametrize("data", [hostile._bomb(60_000, 60_000), hostile._tiff(10**5, 10**5)])
def test_a_bomb_is_told_with_what_raises_the_limit(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(RequestError, match="MMCORE_MOST_PIXELS raises"):
        decode(tmp_path / "x.png")


def test_the_limit_of_pixels_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "x.png")
    monkeypatch.setenv("MMCORE_MOST_PIXELS", "399")
    with pytest.raises(RequestError, match="MMCORE_MOST_PIXELS raises"):
        decode(tmp_path / "x.png")
    monkeypatch.setenv("MMCORE_MOST_PIXELS", "400")
    assert decode(tmp_path / "x.png").size == (20, 20)


def test_a_line_without_end_is_not_read(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCORE_MOST_LINE", "1000")
    (tmp_path / "r.jsonl").write_text('{"x": 1}\n' + "x" * 2000)
    with pytest.raises(RequestError, match=r"line 2 of .*r\.jsonl with 1\.0 kB, the limit is 1\.0 kB"):
        registry.source("table", path=tmp_path / "r.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 800) + " = 1",
        ".".join("a" * 400_000) + " = 1",
        "a = { " + ".".join("a" * 400_000) + " = 1 }",
        '"=".' * 100_000 + "a = 1",
        "a = " + "[" * 40 + "]" * 40,
        "a = " + "[" * 100_000,
        f"# {chr(34) * 3}\n" + ".".join("a" * 60_000) + f" = 1\n# {chr(34) * 3}",
    ],
    ids=range(7),
)
def test_a_configuration_of_many_levels_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    started = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"is not TOML: .*(levels, the limit is 32 levels; MMCORE_MOST_NESTING|brackets)"
    ):
        toml.read(tmp_path / "c.toml")
    assert time.monotonic() - started < WITHIN
    assert toml.value_of(text.partition("= ")[2]) is not None
    with pytest.raises(ConfigError, match="has a key of 800 levels"):
        toml.change({}, [".".join("a" * 800) + "=1"])


def test_texts_and_comments_count_for_no_levels(tmp_path: Path) -> None:
    dots = ". " * 100
    (tmp_path / "c.toml").write_text(
        f"# {dots}\na = \"{dots}\"\nb = '{dots}'\nc = [0.1, 0.2{', 0.3' * 100}]\nd = '''{dots}'''"
    )
    assert toml.read(tmp_path / "c.toml")["a"] == dots


# ---- numbers that decide memory ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.a_model(tmp_path_factory.mktemp("models") / "m")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("space", 0), 10**9, r"64,000,000,000 elements \(256 GB for one row\).*MMCORE_MOST_SPACE"),
        (("space", 0), 10**400, r"more than 10\^18 elements"),
        (("backbone", "options", "depth"), 10**6, "a whole number in 1"),
        (("backbone", "options", "depth"), 60_000, "360,000 tensors.*MMCORE_MOST_TENSORS"),
        (("backbone", "options", "width"), 10**7, "a whole number in 1"),
        (("backbone", "options", "width"), 60_000, "GB.*MMCORE_MOST_WEIGHTS"),
        (("backbone", "options", "width"), 8192, r"would take .* at least .*tensors of [\d,]+ bytes"),
        (("backbone", "options"), "x", "config.json: compose: backbone_options = .x., expected a mapping"),
        (("modalities", 0, "options", "mean"), "x", "image: mean = 'x'"),
        (("modalities", 0, "options", "mean"), float("nan"), "image: mean = nan"),
        (("modalities", 0, "options", "size"), True, "image: size = True"),
        (("modalities", 0, "options", "size"), 10**6, "4,000 GB for one row"),
        (("modalities", 1, "options"), {"classes": 10**8}, "400 MB for one row"),
        (("modalities", 1, "options"), {"classes": 10**14}, "MMCORE_MOST_SPACE"),
        (("modalities", 0, "name"), "a\x1b[2J", "what is not seen"),
        (("modalities", 0, "name"), "/etc/passwd", "slashes"),
    ],
)
def test_numbers_of_a_strangers_model_are_refused_before_anything_is_built(
    place: Any, value: Any, said: str, folder: Path, tmp_path: Path
) -> None:
    at = tmp_path / "m"
    shutil.copytree(folder, at)
    config = json.loads((at / "config.json").read_text())
    here = config
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    (at / "config.json").write_text(json.dumps(config))
    started = time.monotonic()
    with pytest.raises(RequestError, match=f"load: .*{said}") as caught:
        mmcore.load(at)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < WITHIN


def test_pip_is_told_no_options_of_a_strangers(folder: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    shutil.copytree(folder, at)
    config = json.loads((at / "config.json").read_text())
    config["distributions"]["--index-url=http://evil"] = "1"
    (at / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match="expected a name and a version") as caught:
        mmcore.load(at)
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "model.space",
            [10**9, 8, 8],
            r"elements, the limit is 16,777,216 elements; MMCORE_MOST_SPACE .*256 GB for one row",
        ),
        ("model.backbone_options.depth", 10**6, "a whole number in 1"),
        ("model.backbone_options.depth", 50_000, "TENSORS"),
        ("model.backbone_options.width", 60_000, r"found \d+ GB"),
        ("model.schedule_options.steps", 10**8, "100,000,000 timesteps"),
        ("modalities.label.classes", 10**8, "400 MB for one row"),
        ("modalities.image.size", 10**6, "4,000 GB for one row"),
        ("training.batch_size", 10**7, r"take 30 GB, the limit is 17 GB; MMCORE_MOST_BATCH"),
        ("training.steps", 10**30, "expected an integer"),
        ("training.lr", 10**400, "expected a finite number"),
        ("sampling.n", 10**9, "MMCORE_MOST_BATCH"),
        ("sampling.seed", "x", "expected an integer"),
    ],
    ids=str,
)
def test_numbers_of_a_configuration_are_refused_with_what_they_would_take(
    key: str, value: Any, said: str, registry: Registry
) -> None:
    tables: Any = toml.json_copy(hostile.VALID)
    *above, last = key.split(".")
    here = tables
    for part in above:
        here = here.setdefault(part, {})
    here[last] = value
    started = time.monotonic()
    with pytest.raises(ConfigError, match=f"{re.escape(key)}.*{said}"):
        configured(tables, registry=registry)
    assert time.monotonic() - started < WITHIN


def test_a_limit_is_raised_by_its_variable(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    monkeypatch.setenv("MMCORE_MOST_SPACE", "100")
    with pytest.raises(OptionError, match="expected at most 100 elements, found 256 elements"):
        registry.modality("image", channels=1, size=16)
    monkeypatch.setenv("MMCORE_MOST_SPACE", "256")
    registry.modality("image", channels=1, size=16)
    assert len({one.variable for one in limits.ALL}) == len(limits.ALL)


def test_a_model_is_the_same_whether_it_is_counted_or_not(registry: Registry) -> None:
    made = [
        mmcore.compose(
            [registry.modality("label", classes=3)], backbone="mlp", backbone_options={"width": 8}, registry=registry
        )
        for _ in range(2)
    ]
    assert all(
        torch.equal(x, y) for x, y in zip(made[0].state_dict().values(), made[1].state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("seed", ["x", 1.5, None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    from mmcore.config import SamplingOptions

    with pytest.raises(OptionError, match="seed"):
        SamplingOptions(seed=seed)


# ---- names ----


def test_every_command_prints_through_one_function() -> None:
    for path in (CORE / "cli").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert len(prints) == {"common.py": 1, "ending.py": 3, "program.py": 1}.get(path.name, 0), path.name


def test_a_warning_is_one_line_of_the_programs_own(folder: Path, tmp_path: Path) -> None:
    at = tmp_path / "m"
    shutil.copytree(folder, at)
    config = json.loads((at / "config.json").read_text())
    config["distributions"]["mmcore-label"] = "9"
    (at / "config.json").write_text(json.dumps(config))
    (tmp_path / "outside").mkdir()
    case = hostile.Case("model", "another version", ("sample", "m", "-n", "1", "--steps", "1", "--device", "cpu"))
    ended = hostile.outcome(case, tmp_path, tmp_path / "outside")
    assert not ended.fault
    assert re.fullmatch(r"mmcore: load: m was made with mmcore-label 9, here is mmcore-label \S+\n", ended.errors)


@pytest.mark.parametrize("name", [name for name in hostile.NAMES if name])
def test_a_columns_name_is_one_line_and_nothing_else(name: str, tmp_path: Path, registry: Registry) -> None:
    with (tmp_path / "r.jsonl").open("w") as file:
        for i in range(60):
            vector = [i / 60 + 0.5, 1.0, i * 0.1, 2.0]
            file.write(json.dumps({"label": f"w{i % 3}", "vec": vector, name: i % 3, f"{name}text": f"u{i}"}) + "\n")
    guess = configuration(tmp_path / "r.jsonl", registry)
    tables = tomllib.loads(guess.text)
    assert "embed" not in tables["data"]
    assert all(line.isprintable() for line in (*guess.text.split("\n"), *guess.said))
    columns = {one if isinstance(one, str) else one["column"] for one in tables["data"].get("columns", {}).values()}
    assert name in columns | set(tables["modalities"])
    setup = configured(tables, registry=registry)
    assert len(setup.rows()) > 0
    assert tomllib.loads(toml.text(setup.tables())) == tomllib.loads(
        toml.text(tomllib.loads(toml.text(setup.tables())))
    )
    assert all(line.isprintable() for line in toml.text(setup.tables()).split("\n"))


def test_half_a_character_is_refused(tmp_path: Path, registry: Registry) -> None:
    with (tmp_path / "r.jsonl").open("w") as file:
        for i in range(60):
            file.write(json.dumps({"\ud800": i % 3, "vec": [i / 60 + 0.5, 1.0]}) + "\n")
    with pytest.raises(MmcoreError, match="no Unicode text"):
        configuration(tmp_path / "r.jsonl", registry)


def test_toml_keeps_what_is_not_seen() -> None:
    tables = {"a\x1b": "b\x9b\u202e\n\U000e0001", "c": "plain ü 标签"}
    text = toml.text(tables)
    assert all(line.isprintable() for line in text.split("\n"))
    assert tomllib.loads(text) == tables


def test_good_shards_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "r.tar").write_bytes(hostile.tar())
    assert len(Shards(tmp_path / "r.tar")) == 20
    with tarfile.open(tmp_path / "long.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(f"{'x' * 300}ü.cls")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"1"))
    assert len(Shards(tmp_path / "long.tar")) == 1
