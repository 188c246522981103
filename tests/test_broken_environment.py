"""One healthy plugin and ten broken ones, each broken differently: every command still does its work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .installing import HEALTHY, HOOK, install

BROKEN = {
    "b-import": "broken",
    "b-raises": "broken",
    "b-exits": "broken",
    "b-hangs": "broken",
    "b-misspelt": "broken",
    "b-arguments": "broken",
    "b-no-offer": "broken",
    "b-metadata": "broken",
    "b-api": "incompatible",
    "b-core": "incompatible",
}
TOLD_BY_METADATA = 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    codes = {
        "b-import": "import not_there_at_all",
        "b-raises": "raise RuntimeError('boom\\nbang')",
        "b-exits": "import sys; sys.exit(0)",
        "b-hangs": "import time; time.sleep(600)",
        "b-misspelt": "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modalitys(): return []",
        "b-arguments": HOOK.replace("()", "(name)") + "return []",
        "b-no-offer": HOOK + "return [{'name': 'b-no-offer'}]",
    }
    for name, code in codes.items():
        module = name.replace("-", "_")
        install(folder, f"mmcore-{name}", {f"modality.{name}": module}, {module: code})
    install(folder, "mmcore-b-metadata", b"[mmcore.v1]\nmodality.b-metadata = m\nno-\xff-kind [x\n")
    install(folder, "mmcore-b-api", {"modality.b-api": "m"}, group="mmcore.v2")
    install(folder, "mmcore-b-core", {"modality.b-core": "m"}, requires=["mmcore-diffusion>=99"])
    install(folder, "mmcore-healthy", {"modality.healthy": "healthy"}, {"healthy": HEALTHY.format(name="healthy")})
    return folder


def mmcore(
    site: Path, *arguments: str, status: int = 0, told: int | None = TOLD_BY_METADATA, **environment: str
) -> str:
    """Run the command; nothing on stderr but ``told`` lines of mmcore's own, and never a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "mmcore", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200", **environment},
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("mmcore: ") for line in lines), done.stderr
    assert told is None or len(lines) == told, done.stderr
    return done.stdout if status == 0 else lines[-1]


def statuses(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in json.loads(text):
        found.setdefault(row["distribution"].removeprefix("mmcore-"), set()).add(row["status"])
    return found


def test_help(site: Path) -> None:
    assert "plugins" in mmcore(site, "--help", told=0)
    assert "why" in mmcore(site, "plugins", "--help", told=0)


@pytest.mark.parametrize("strict", ["", "1"])
def test_list(site: Path, strict: str) -> None:
    text = mmcore(site, "plugins", "list", MMCORE_STRICT_PLUGINS=strict)
    assert all(name in text for name in (*BROKEN, "healthy", "label"))
    found = statuses(mmcore(site, "plugins", "list", "--json", MMCORE_STRICT_PLUGINS=strict))
    assert found["healthy"] == found["label"] == found["b-import"] == {"not loaded"}
    assert found["b-metadata"] == {"broken"}
    assert found["b-api"] == found["b-core"] == {"incompatible"}


def test_the_quick_way_to_list_and_the_parsed_one_agree(site: Path) -> None:
    for options in ([], ["--json"]):
        parsed = mmcore(site, "--no-plugin", "healthy", "plugins", "list", *options)
        quick = mmcore(site, "plugins", "list", *options)
        assert [line.split()[:4] for line in parsed.splitlines() if "status" not in line] == [
            line.split()[:4] for line in quick.splitlines() if "status" not in line
        ]


def test_the_list_shows_summaries_those_of_plugins_where_they_are_loaded(site: Path) -> None:
    core = "a residual perceptron over the whole of a small space"
    for options in ([], ["--json"]):
        text = mmcore(site, "plugins", "list", *options)
        assert core in text
        assert "labels again" not in text
        text = mmcore(
            site, *[f"--no-plugin={name}" for name in BROKEN], "plugins", "list", "--load", *options, told=None
        )
        assert core in text
        assert "labels again" in text
    assert "  summary:      labels again\n" in mmcore(site, "plugins", "why", "healthy")


def test_list_load(site: Path) -> None:
    load = ("plugins", "list", "--load", "--timeout", "4")
    found = statuses(mmcore(site, *load, "--json", told=len(BROKEN)))
    assert {name: found[name] for name in BROKEN} == {name: {status} for name, status in BROKEN.items()}
    assert found["healthy"] == found["label"] == found["diffusion"] == {"ok"}
    text = mmcore(site, "--no-plugin", "b-hangs", *load, told=len(BROKEN) - 1)
    assert "importing b_raises gave RuntimeError: boom bang" in text


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "b-import": ["No module named 'not_there_at_all'", "Traceback", "pip install not_there_at_all"],
        "b-raises": ["RuntimeError: boom bang", "line 1, in <module>"],
        "b-exits": ["SystemExit: 0", "--no-plugin mmcore-b-exits:b-exits"],
        "b-hangs": ["took more than 3 s and was cut off"],
        "b-misspelt": ["unknown hook 'mmcore_modalitys'"],
        "b-arguments": ["Argument(s) {'name'}", "mmcore_modalities"],
        "b-no-offer": ["offers a dict, expected mmcore.Offer"],
        "b-metadata": ["entry_points.txt cannot be read: UnicodeDecodeError", "pip install mmcore-b-metadata"],
        "b-api": ["plugin API v2", "pip install --upgrade mmcore-diffusion mmcore-b-api"],
        "b-core": ["needs mmcore-diffusion>=99", "pip install --upgrade mmcore-diffusion mmcore-b-core"],
    }.items(),
)
def test_why_each(name: str, words: list[str], site: Path) -> None:
    options = ["--timeout", "3"] if name == "b-hangs" else []
    text = mmcore(site, "plugins", "why", name, *options)
    for word in (*words, f"mmcore-{name} 1.0", str(site), f"status:       {BROKEN[name]}", "mend:"):
        assert word in text


def test_why_the_healthy_one_and_why_nothing(site: Path) -> None:
    text = mmcore(site, "plugins", "why", "healthy")
    for word in (
        "status:       ok",
        "mmcore-healthy 1.0",
        str(site / "healthy.py"),
        "mmcore_modalities",
        "LabelModality",
    ):
        assert word in text
    line = mmcore(site, "plugins", "why", "nothing", status=2, told=TOLD_BY_METADATA + 1)
    assert line.startswith("mmcore: plugins why: nothing is called 'nothing'")


def test_blocking(site: Path) -> None:
    for arguments in (["--no-plugins"], [f"--no-plugin={name}" for name in (*BROKEN, "mmcore-b-metadata")]):
        found = statuses(
            mmcore(site, *arguments, "plugins", "list", "--load", "--json", told=0, MMCORE_STRICT_PLUGINS="1")
        )
        assert all(found[name] == {"blocked"} for name in BROKEN)
        assert found["diffusion"] == {"ok"}
    text = mmcore(site, "--no-plugins", "plugins", "why", "b-hangs", told=0)
    assert "blocked" in text
    assert mmcore(site, "--no-plugin", "nobody", "plugins", "list", told=TOLD_BY_METADATA + 1)


def test_work_goes_on_and_only_what_is_asked_for_can_fail(site: Path) -> None:
    code = (
        "import sys, mmcore.cli.program as c, mmcore\n"
        "@c.app.command()\n"
        "def make(context: c.typer.Context, name: str) -> None:\n"
        "    print(c.registry_of(context).modality(name, classes=3))\n"
        "c.main()"
    )

    def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(site), **environment},
            timeout=60,
            check=False,
        )

    done = make("make", "healthy")
    assert (done.returncode, done.stdout) == (0, "LabelModality('healthy', shape=(), code=(3,))\n")
    assert len(done.stderr.splitlines()) == TOLD_BY_METADATA
    for name, told in (("b-exits", 4), ("b-raises", 4), ("b-api", 4)):
        done = make("make", name)
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert len(lines) == told
        assert lines[-1].startswith(f"mmcore: plugin mmcore-{name}:{name} is {BROKEN[name]}: ")
    done = make("--no-plugin", "b-hangs", "make", "healthy", MMCORE_STRICT_PLUGINS="1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
