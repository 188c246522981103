"""Discovery: from metadata alone, torch-free, and one broken plugin harms no other."""

import email.parser
import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet

import mmcore
from mmcore import PluginError, RequestError
from mmcore.plugins import Entry, loading, metadata
from mmcore.plugins.metadata import GROUP, canonical, fits, headers_of, installed, plain, points
from mmcore.plugins.probe import probe

from .installing import HEALTHY, HOOK, install


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


PROGRAM = "import sys; sys.argv = ['mmcore', {arguments}]; import mmcore.cli.program as c\ntry: c.main()\nexcept SystemExit: pass"
LISTING = "import sys; sys.argv = ['mmcore', 'plugins', 'list']; from mmcore.__main__ import main; main()"
SLOW = ("attrs", "pluggy", "rich", "json", "inspect", "packaging")


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import mmcore", (*SLOW, "typer", "importlib.metadata")),
        ("from mmcore import hookimpl, Offer", (*SLOW, "typer", "importlib.metadata")),
        ("import mmcore; mmcore.discover().table()", ("attrs", "pluggy")),
        ("import mmcore; r = mmcore.discover(); [r.offer(e) for e in r.entries]", ()),
        (PROGRAM.format(arguments="'plugins', 'list'"), ("attrs", "pluggy", "rich")),
        (LISTING, (*SLOW, "typer", "email.parser")),
        (PROGRAM.format(arguments="'--help'"), ("attrs", "pluggy", "rich", "importlib.metadata")),
        (PROGRAM.format(arguments="'plugins', 'list', '--help'"), ("attrs", "pluggy", "rich")),
        (PROGRAM.format(arguments="'--version'"), ("attrs", "pluggy", "rich")),
    ],
)
def test_what_is_quick_imports_neither_torch_nor_what_else_is_slow(code: str, without: tuple[str, ...]) -> None:
    done = run(f"{code}\nimport sys; print([name for name in {('torch', *without)} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on ``sys.path`` to install into, and nothing told yet; what was imported from it is forgotten after."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(loading, "_told", set())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Unreadable entry points make discover() change it.
    everybodys = importlib.metadata.Distribution
    monkeypatch.setattr(everybodys, "entry_points", everybodys.entry_points)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


CODE_FAULTS = {
    "raises": ("raise RuntimeError('boom')", "importing plugin_raises gave RuntimeError: boom"),
    "raises-lines": ("raise RuntimeError('boom\\n\\nbang')", "RuntimeError: boom bang"),
    "needs": ("import not_there_at_all", r"No module named 'not_there_at_all'; pip install not_there_at_all"),
    "syntax": ("def (", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "skips": ("class Skipped(BaseException): ...\nraise Skipped('no')", "Skipped: no"),
    "unprintable": (
        "class E(Exception):\n  def __str__(self): raise ValueError\nraise E",
        "importing plugin_unprintable gave E;",
    ),
    "misspelt": (
        "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modality(): return []",
        "unknown hook 'mmcore_modality'",
    ),
    "arguments": (
        "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modalities(registry): return []",
        r"Argument\(s\) {'registry'}",
    ),
    "half": (
        HOOK + "return [Offer('half', 'a:b')]\n@hookimpl\ndef mmcore_trackers(x): return []",
        "the hooks of plugin_half gave",
    ),
    "no-offer": (HOOK + "return ['x']", "mmcore_modalities of plugin_no_offer offers a str, expected mmcore.Offer"),
    "no-list": (HOOK + "return 3", "the hook mmcore_modalities of plugin_no_list gave TypeError"),
    "odd-offer": (HOOK + "return [Offer('odd-offer', None)]", "with factory NoneType, expected two strings"),
    "other-offer": (HOOK + "return [Offer('x', 'a:b')]", r"offers \['x'\]; expected 'other-offer' once"),
    "two-offers": (HOOK + "return [Offer('two-offers', 'a:b')] * 2", "expected 'two-offers' once"),
    "hook-fails": (HOOK + "raise KeyError('x')", "the hook mmcore_modalities of plugin_hook_fails gave KeyError: 'x'"),
    "hook-exits": (HOOK + "exit()", "gave SystemExit"),
    "no-factory": (
        HOOK + "return [Offer('no-factory', 'nowhere_at_all:X')]",
        "importing its factory nowhere_at_all:X gave",
    ),
    "no-attribute": (HOOK + "return [Offer('no-attribute', 'mmcore:X')]", "has no attribute 'X'"),
    "no-callable": (HOOK + "return [Offer('no-callable', 'mmcore:__version__')]", "str is not callable"),
    "makes-other": (
        HOOK + "return [Offer('makes-other', 'builtins:dict')]",
        r"made a dict without spec, code, encoder\(\), .*typical\(\), expected a mmcore.Modality; ",
    ),
    "makes-nothing": (
        HOOK + "return [Offer('makes-nothing', 'mmcore:Modality')]",
        r"its factory, the class Modality, lacks decoder\(\), encoder\(\), .*typical\(\); ",
    ),
    "odd-summary": (
        HOOK + "return [Offer('odd-summary', 'a:b', 3)]",
        "offers 'odd-summary' with summary int, expected a string",
    ),
    "making-fails": (HOOK + "return [Offer('making-fails', 'os:abort_not')]", "has no attribute"),
    "making-exits": (
        HOOK + "return [Offer('making-exits', 'sys:exit')]",
        "making modality 'making-exits' gave SystemExit",
    ),
}


@pytest.mark.parametrize("fault", CODE_FAULTS)
def test_broken_code_fails_alone_when_asked_for_with_its_cause(
    fault: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, match = CODE_FAULTS[fault]
    module = f"plugin_{fault.replace('-', '_')}"
    install(site, "mmcore-bad", {f"modality.{fault}": module}, {module: code})
    registry = mmcore.discover()
    for _ in range(2):
        with pytest.raises(PluginError, match=match) as caught:
            registry.modality(fault)
        assert "mmcore-bad" in str(caught.value)
        assert "\n" not in str(caught.value)
        if "offer" not in fault and fault not in ("makes-other", "makes-nothing", "odd-summary"):
            assert caught.value.__cause__ is not None
    assert registry.modality("label", classes=3).name == "label"
    assert capsys.readouterr().err == ""


def test_a_keyboard_interrupt_stays_the_users(site: Path) -> None:
    install(site, "mmcore-bad", {"modality.stop": "stop"}, {"stop": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        mmcore.discover().modality("stop")


def test_a_failed_plugin_is_not_imported_again_by_the_same_registry(site: Path) -> None:
    code = f"with open({str(site / 'log')!r}, 'a') as log: log.write('x')\n1 / 0"
    install(site, "mmcore-bad", {"modality.a": "counted", "modality.b": "counted"}, {"counted": code})
    registry = mmcore.discover()
    for name in ("a", "b", "a"):
        with pytest.raises(PluginError, match="ZeroDivisionError"):
            registry.modality(name)
    assert (site / "log").read_text() == "x"
    with pytest.raises(PluginError):
        mmcore.discover().modality("a")
    assert (site / "log").read_text() == "xx"


def test_loading_all_tells_of_each_broken_plugin_once(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "mmcore-bad", {"modality.bad": "bad", "backbone.bad": "bad"}, {"bad": "raise RuntimeError('a\\nb')"})
    install(site, "mmcore-good", {"modality.good": "good"}, {"good": HEALTHY.format(name="good")})
    for registry in (mmcore.discover(), mmcore.discover()):
        registry.load()
        status = {f"{row['kind']}.{row['name']}": row["status"] for row in registry.table()}
        assert (status["modality.bad"], status["backbone.bad"], status["modality.good"]) == ("broken", "broken", "ok")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(
        "mmcore: plugin mmcore-bad 1.0 is broken and left out: importing bad gave RuntimeError: a b; "
    )


METADATA_FAULTS = {
    "no kind": ({"points": {"x": "m"}}, "broken", "its entry point 'x' is none of modality.NAME, "),
    "unknown kind": (
        {"points": {"modalty.x": "m"}},
        "broken",
        "its entry point 'modalty.x' is none of modality.NAME, ",
    ),
    "attribute": (
        {"points": {"modality.x": "m:attribute"}},
        "broken",
        "has the value 'm:attribute', expected a module",
    ),
    "extras": ({"points": {"modality.x": "m [extra]"}}, "broken", r"has the value 'm \[extra\]', expected a module"),
    "no value": ({"points": f"[{GROUP}]\nmodality.x\n"}, "broken", "entry_points.txt cannot be read"),
    "colon": ({"points": {"modality.x:y": "m"}}, "broken", "is called 'x:y', expected letters"),
    "word": ({"points": {"sampler.auto": "m"}}, "broken", "has a name that stands for mmcore's own choice"),
    "twice": ({"points": f"[{GROUP}]\nmodality.x = m\nmodality.x = n\n"}, "broken", "two modules for one entry point"),
    "not utf-8": (
        {"points": f"[{GROUP}]\nmodality.x = m".encode() + b"\xff\n"},
        "broken",
        "entry_points.txt cannot be read: UnicodeDecodeError.*; remove /",
    ),
    "no name": (
        {"points": {"modality.x": "m"}, "metadata": "Version: 1\n"},
        "broken",
        "its metadata has no name; remove /",
    ),
    "no metadata": ({"points": {"modality.x": "m"}, "metadata": ""}, "broken", "its metadata has no name"),
    "next API": (
        {"points": {"modality.x": "m"}, "group": "mmcore.v2"},
        "incompatible",
        "for plugin API v2, mmcore .* has v1",
    ),
    "newer core": (
        {"points": {"modality.x": "m"}, "requires": ["mmcore-diffusion>=99"]},
        "incompatible",
        r"needs mmcore-diffusion>=99, this is mmcore-diffusion .*; pip install --upgrade mmcore-diffusion mmcore-odd",
    ),
    "older core": (
        {
            "points": {"modality.x": "m"},
            "requires": ["numpy", "MMCore_Diffusion[testing] (<0.0.1) ; python_version > '3'"],
        },
        "incompatible",
        "needs mmcore-diffusion<0.0.1",
    ),
    "odd requirement": (
        {"points": {"modality.x": "m"}, "requires": ["mmcore-diffusion =>> 1"]},
        "broken",
        "requirement 'mmcore-diffusion =>> 1' cannot be read",
    ),
}


@pytest.mark.parametrize("fault", METADATA_FAULTS)
def test_faulty_metadata_is_told_in_one_line_and_raised_when_asked_for(
    fault: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, status, match = METADATA_FAULTS[fault]
    install(site, "mmcore-odd", **options, modules={"m": "raise RuntimeError('never imported')"})  # type: ignore[arg-type]
    registry = mmcore.discover()
    mmcore.discover()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert f"is {status} and left out" in told[0]
    asked = {"colon": ("modality", "x:y"), "next API": ("modality", "mmcore_odd:x"), "word": ("sampler", "auto")}
    with pytest.raises(PluginError, match=match):
        registry.make(*asked.get(fault, ("modality", "x")), {})
    assert {row["status"] for row in registry.table() if "odd" in str(row["distribution"])} == {status}
    assert registry.modality("label", classes=3).name == "label"


@pytest.mark.parametrize(
    "requires",
    [
        [],
        ["mmcore-diffusion"],
        ["mmcore-diffusion>=0.0.1"],
        ["mmcore-diffusion>=99; extra == 'future'"],
        ["mmcore-label>=99"],
        ["mmcore-diffusion-more>=99"],
        ["mmcore>=99"],
        ["not a requirement"],
    ],
)
def test_a_core_version_that_fits_is_no_fault(requires: list[str], site: Path) -> None:
    install(site, "mmcore-fine", {"modality.fine": "fine"}, {"fine": HEALTHY.format(name="fine")}, requires=requires)
    assert mmcore.discover().modality("fine", classes=2).name == "fine"


def test_a_distribution_may_serve_two_interfaces(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"[mmcore.v2]\nmodality.both = newer\n[{GROUP}]\nmodality.both = ours\n[console_scripts]\nx = y:z\n"
    install(site, "mmcore-both", text, {"ours": HEALTHY.format(name="both")})
    assert mmcore.discover().modality("both", classes=2).name == "both"
    assert capsys.readouterr().err == ""


def test_of_two_copies_on_the_path_the_first_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "mmcore-twin", {"modality.twin": "old", "modality.gone": "old"}, version="1.0")
    (tmp_path / "front").mkdir()
    install(tmp_path / "front", "mmcore-twin", {"modality.twin": "new"}, version="2.0")
    monkeypatch.syspath_prepend(str(tmp_path / "front"))
    found = [(e.name, e.version) for e in installed() if e.distribution == "mmcore-twin"]
    assert found == [("twin", "2.0")]


def test_what_pip_has_renamed_to_remove_it_does_not_count(site: Path) -> None:
    install(site, "mmcore-twin", {"modality.twin": "m"})
    (site / "mmcore_twin-1.0.dist-info").rename(site / "~mcore_twin-1.0.dist-info")
    assert not [e for e in installed() if e.name == "twin"]


def test_metadata_cannot_write_to_the_terminal(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = "Name: mmcore-odd\n \x1b[2J\nVersion: 1\n\t2\n"
    install(site, "mmcore-odd", {"x\x1b[2J": "m"}, metadata=metadata)
    mmcore.discover()
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "\x1b" not in told


def test_unreadable_entry_points_fail_nobody_else_after_a_discovery(site: Path) -> None:
    install(site, "mmcore-odd", f"[{GROUP}]\nmodality.x = m".encode() + b"\xff\n")
    with pytest.raises(UnicodeDecodeError):
        importlib.metadata.entry_points(group="torch.backends")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"entry_points\.txt cannot be read"):
            mmcore.discover().modality("mmcore-odd:x")
        assert "modality.label" in {point.name for point in importlib.metadata.entry_points(group=GROUP)}


def test_a_blocked_fault_is_not_told(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "mmcore-odd", {"x": "m"})
    for blocked in ("x", "mmcore_odd", "Mmcore-Odd:x", "?.x"):
        row = next(r for r in mmcore.discover(without=[blocked]).table() if r["distribution"] == "mmcore-odd")
        assert (row["status"], row["error"]) == ("blocked", None)
    assert capsys.readouterr().err == ""


def test_strict_raises_at_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCORE_STRICT_PLUGINS", "1")
    mmcore.discover()
    install(site, "mmcore-bad", {"modality.bad": "bad"}, {"bad": "1 / 0"})
    with pytest.raises(PluginError, match="importing bad gave ZeroDivisionError") as caught:
        mmcore.discover()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    mmcore.discover(without=["bad"])
    mmcore.discover(strict=False)
    install(site, "mmcore-bad", {"modality.bad": "bad"}, group="mmcore.v7")
    with pytest.raises(PluginError, match="plugin API v7"):
        mmcore.discover()


# The laws of metadata.


@given(
    st.dictionaries(
        st.from_regex(r"[a-z.]{1,12}", fullmatch=True),
        st.dictionaries(
            st.from_regex(r"[a-z][a-z.\-]{0,8}", fullmatch=True),
            st.from_regex(r"[a-z.:]{1,9}", fullmatch=True),
            max_size=3,
        ),
        max_size=3,
    )
)
def test_well_formed_entry_points_read_as_the_standard_library_reads_them(groups: dict[str, dict[str, str]]) -> None:
    text = "".join(f"[{g}]\n# no\n" + "".join(f"{n}  = {v}\n\n" for n, v in some.items()) for g, some in groups.items())
    expected = importlib.metadata.EntryPoints._from_text_for(text, None)  # type: ignore[attr-defined]
    assert list(points(text)) == [(p.group, p.name, p.value) for p in expected]


@given(st.text())
def test_no_text_of_entry_points_raises(text: str) -> None:
    assert all(len(point) == 3 for point in points(text))


@given(st.text("[]=#;:. \n\r\tab\ufffd\u00e9", max_size=40))
def test_entry_points_that_are_called_plain_the_standard_library_can_read(text: str) -> None:
    if plain(text):
        importlib.metadata.EntryPoints._from_text_for(text, None)  # type: ignore[attr-defined]


HEADER = st.tuples(
    st.sampled_from(["Name", "NAME", "Version", "Requires-Dist", "Summary"]),
    st.text("ab é:;>=1 \t", max_size=8),
    st.lists(st.text("a: b", max_size=4), max_size=2),
)


@given(st.lists(HEADER, max_size=5), st.sampled_from(["\n", "\r\n"]), st.text("a:\n ", max_size=9))
def test_headers_read_as_the_email_package_reads_them(
    given: list[tuple[str, str, list[str]]], end: str, body: str
) -> None:
    lines = [line for name, value, more in given for line in (f"{name}: {value}", *(f"\t{part}" for part in more))]
    text = end.join(lines) + 2 * end + body
    expected = email.parser.HeaderParser().parsestr(text)
    found = headers_of(text)
    assert found.keys() == {name.lower() for name in expected}
    for name, values in found.items():
        assert [" ".join(v.split()) for v in values] == [" ".join(v.split()) for v in expected.get_all(name)]


BOUND = st.tuples(
    st.sampled_from([">=", "<=", "==", "!=", ">", "<", "~=", "===", "=", ""]),
    st.lists(st.sampled_from(["0", "1", "2", "00", "*", "1a1", "0.dev1"]), min_size=1, max_size=3).map(".".join),
).map(lambda parts: " ".join(parts))


@settings(max_examples=300)
@given(st.lists(BOUND, max_size=3).map(",".join), st.sampled_from(["0.1.0", "0.1", "1", "1.0.2", "2.0.0", "0.1.dev3"]))
def test_plain_bounds_take_a_version_only_where_packaging_says_so(bounds: str, version: str) -> None:
    plain_bounds = all(char in "0123456789.<>=!, " for char in bounds) and "===" not in bounds
    try:
        expected = SpecifierSet(bounds).contains(version, prereleases=True)
    except InvalidSpecifier:
        expected = False
    # What is not plain is left to packaging.
    assert fits(bounds, version) <= expected
    if plain_bounds and "dev" not in version:
        assert fits(bounds, version) == expected


@settings(max_examples=30)
@given(st.lists(st.text("abz019", min_size=1, max_size=4), min_size=1, max_size=3).map("-".join), st.data())
def test_any_spelling_of_a_distribution_names_it(name: str, data: st.DataObject) -> None:
    spelt = "".join(
        data.draw(st.sampled_from("-_.")) if c in "-_." else data.draw(st.sampled_from([c, c.upper()])) for c in name
    )
    assert canonical(spelt) == canonical(name) == canonical(canonical(name))
    entry = Entry("modality", "x", name, "1", "m")
    assert entry.matches(spelt)
    assert entry.answers_to(f"{spelt}:x")
    assert entry.answers_to(f"{spelt}:modality.x")
    assert not entry.answers_to(f"{spelt}:y")


@pytest.mark.parametrize(
    ("requires", "status"),
    {
        "mmcore-diffusion ~= 0.1": "not loaded",
        "mmcore_diffusion (<99, >=0.0)": "not loaded",
        "mmcore.diffusion>=0.dev0": "not loaded",
        "mmcore-diffusion==0.1.*": "not loaded",
        "mmcore-diffusion~=0.0.1": "incompatible",
        "mmcore-diffusion<0.0.9,>=0.0.1": "incompatible",
        "mmcore-diffusion != 0.1": "incompatible",
    }.items(),
)
def test_bounds_in_any_form_count(requires: str, status: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "__version__", "0.1.0")
    install(site, "mmcore-fine", {"modality.fine": "fine"}, {"fine": HEALTHY.format(name="fine")}, requires=[requires])
    rows = mmcore.discover().table()
    assert next(row["status"] for row in rows if row["name"] == "fine") == status


# Processes of their own.


def test_trying_plugins_cuts_off_what_hangs_and_survives_what_crashes(
    site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = {
        "hangs": "import time; time.sleep(60)",
        "forks": "import os, time\nos.fork()\ntime.sleep(60)",
        "crashes": "import os; os._exit(7)",
        "aborts": "import os; os.abort()",
        "interrupts": "raise KeyboardInterrupt",
        "prints": "print('noise')\n" + HEALTHY.format(name="prints"),
        "asks": "input('your name?')",
        "deafens": "import sys; sys.stdout = sys.stderr = None\n" + HEALTHY.format(name="deafens"),
        "lingers": "import threading, time\nthreading.Thread(target=time.sleep, args=[60]).start()\n"
        + HEALTHY.format(name="lingers"),
    }
    for name, code in codes.items():
        install(site, f"mmcore-{name}", {f"modality.{name}": f"plugin_{name}"}, {f"plugin_{name}": code})
    started = time.monotonic()
    trials = {e.name: t for e, t in probe([e for e in installed() if e.name in codes], limit=6).items()}
    assert time.monotonic() - started < 40
    problems = {name: trial.fault.problem if trial.fault else "" for name, trial in trials.items()}
    assert problems == {
        "hangs": "importing plugin_hangs took more than 6 s and was cut off",
        "forks": "importing plugin_forks took more than 6 s and was cut off",
        "crashes": "importing plugin_crashes ended the process with status 7",
        "aborts": "importing plugin_aborts ended the process with status -6",
        "interrupts": "importing plugin_interrupts gave KeyboardInterrupt",
        "prints": "",
        "asks": "importing plugin_asks gave EOFError: EOF when reading a line",
        "deafens": "",
        "lingers": "",
    }
    assert "Traceback" in trials["asks"].trace
    assert trials["prints"].seconds is not None
    assert trials["prints"].file == str(site / "plugin_prints.py")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "requires", "mend"),
    [
        ("import not_there.at_all", [], "pip install not_there"),
        ("import not_there", ["not-there>=2; python_version > '3'", "numpy"], "pip install 'not-there>=2'"),
        ("import numpy.nothing", ["numpy>=9999"], "pip install 'numpy>=9999'"),
        ("import plugin_mended.part", [], "pip install --force-reinstall --no-deps mmcore-mended"),
        (
            "1 / 0",
            [],
            "pip install --upgrade mmcore-mended, or tell its author and block it: mmcore --no-plugin mmcore-mended:x",
        ),
    ],
)
def test_the_mend_is_exact(code: str, requires: list[str], mend: str, site: Path) -> None:
    install(site, "mmcore-mended", {"modality.x": "plugin_mended"}, {"plugin_mended": code}, requires=requires)
    registry = mmcore.discover()
    entry = registry.find("modality", "x")
    with pytest.raises(PluginError):
        registry.offer(entry)
    fault = registry.fault(entry)
    assert fault is not None
    assert fault.mend == mend


# Names, versions, and what is installed meanwhile.


def test_two_offers_of_one_name_conflict_until_one_is_picked(site: Path) -> None:
    install(site, "mmcore-rival", {"modality.label": "rival"}, {"rival": HEALTHY.format(name="label")})
    registry = mmcore.discover()
    with pytest.raises(RequestError, match=r"mmcore-label:label or mmcore-rival:label"):
        registry.modality("label")
    assert registry.modality("Mmcore_Rival:label", classes=4).made.distribution == "mmcore-rival"  # type: ignore[union-attr]
    assert [row["status"] for row in registry.table() if row["name"] == "label"] == ["conflict"] * 2
    assert mmcore.discover(without=["mmcore-rival"]).modality("label", classes=3).made.distribution == "mmcore-label"  # type: ignore[union-attr]


def test_a_rival_that_cannot_be_used_is_no_rival(site: Path) -> None:
    install(site, "mmcore-rival", {"modality.label": "rival"}, requires=["mmcore-diffusion>=99"])
    assert mmcore.discover().modality("label", classes=3).made.distribution == "mmcore-label"  # type: ignore[union-attr]
    with pytest.raises(PluginError, match="needs mmcore-diffusion>=99"):
        mmcore.discover().modality("mmcore-rival:label")


def test_a_plugin_installed_meanwhile_is_seen_at_once(site: Path) -> None:
    before = mmcore.discover()
    install(site, "mmcore-late", {"modality.late": "late"}, {"late": HEALTHY.format(name="late")})
    with pytest.raises(RequestError, match="no modality 'late'"):
        before.modality("late")
    assert mmcore.discover().modality("late", classes=2).name == "late"


def test_a_plugin_mended_meanwhile_works_at_once(site: Path) -> None:
    install(site, "mmcore-late", {"modality.late": "late"}, {"late": "import not_there_yet"})
    with pytest.raises(PluginError, match="not_there_yet"):
        mmcore.discover().modality("late")
    (site / "not_there_yet.py").write_text("")
    (site / "late.py").write_text("import not_there_yet\n" + HEALTHY.format(name="late"))
    assert mmcore.discover().modality("late", classes=2).name == "late"


def test_an_upgrade_brings_new_hooks_and_says_what_stays_old(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = "from mmcore import Offer, hookimpl\n@hookimpl\ndef mmcore_modalities():\n    return [{offers}]\n"
    code = "from mmcore_label import LabelModality\nclass Made(LabelModality): ..."
    one = entry.format(offers="Offer('one', 'up_code:Made')")
    install(site, "mmcore-up", {"modality.one": "up_entry"}, {"up_entry": one, "up_code": code}, version="1.0")
    assert mmcore.discover().modality("one", classes=2).made.version == "1.0"  # type: ignore[union-attr]
    both = entry.format(offers="Offer('one', 'up_code:Made'), Offer('two', 'up_code_two:Made')")
    install(
        site,
        "mmcore-up",
        {"modality.one": "up_entry", "modality.two": "up_entry"},
        {"up_entry": both, "up_code": code, "up_code_two": code},
        version="2.0",
    )
    registry = mmcore.discover()
    assert registry.modality("two", classes=2).made.version == "2.0"  # type: ignore[union-attr]
    assert capsys.readouterr().err == ""
    assert registry.modality("one", classes=2).made.version == "1.0"  # type: ignore[union-attr]
    assert "mmcore-up 1.0 was imported before 2.0 was installed" in capsys.readouterr().err


def test_allow_list_and_block_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCORE_PLUGINS", "image, label")
    registry = mmcore.discover()
    registry.modality("label")
    with pytest.raises(RequestError, match=r"'mask' .* is blocked"):
        registry.modality("mask")
    monkeypatch.setenv("MMCORE_PLUGINS", "")
    with pytest.raises(RequestError, match="is blocked"):
        mmcore.discover().modality("image")
    monkeypatch.delenv("MMCORE_PLUGINS")
    with pytest.raises(RequestError, match="is blocked"):
        mmcore.discover(without=["image"]).modality("image")


def test_unknown_names_and_options_say_what_there_is() -> None:
    registry = mmcore.discover()
    with pytest.raises(RequestError, match=r"no modality 'imge' is installed; .* did you mean 'image'\? \(") as caught:
        registry.modality("imge")
    # Whoever has registered that name may be anybody.
    assert "pip install" not in str(caught.value)
    with pytest.raises(RequestError, match="unexpected keyword argument 'chanels'"):
        registry.modality("image", chanels=3)
    with pytest.raises(RequestError, match="no schedule 'cosin' is installed"):
        registry.schedule("cosin", modalities=2)


def test_of_what_is_not_installed_only_the_projects_own_is_advised() -> None:
    without = ("mmcore-mask", "mmcore-diffusers")
    registry = mmcore.Registry([entry for entry in installed() if entry.distribution not in without])
    with pytest.raises(
        RequestError,
        match=r"expected one of audio, clip, depth, image, label, scalar, text \(pip install mmcore-mask\)$",
    ):
        registry.modality("mask")
    with pytest.raises(RequestError, match=r"\(pip install mmcore-mask\)$"):
        registry.modality("mmcore-mask:modality.mask")
    with pytest.raises(RequestError, match=r"\(install a plugin with the entry point backbone.mask, or register it\)$"):
        registry.make("backbone", "mask", {})


def test_summaries_are_known_of_the_core_at_once_and_of_plugins_once_they_are_loaded(site: Path) -> None:
    install(site, "mmcore-good", {"modality.good": "good"}, {"good": HEALTHY.format(name="good")})
    registry = mmcore.discover()

    def summary(name: str) -> str | None:
        return next(row["summary"] for row in registry.table() if row["name"] == name)

    assert summary("mlp") == "a residual perceptron over the whole of a small space"
    assert summary("good") is None
    registry.modality("good", classes=2)
    assert summary("good") == "labels again"
    assert summary("label") is None


def test_what_core_offers_agrees_with_its_metadata() -> None:
    registry = mmcore.discover()
    for entry in registry.entries:
        assert registry.offer(entry).name == entry.name


# What a saved model says.

TINY = {"width": 16, "depth": 1, "heads": 2}


def saved(site: Path, registry: mmcore.Registry, tmp_path: Path) -> Path:
    model = mmcore.compose(
        [registry.modality("mmcore-rival:label", classes=3)], backbone_options=TINY, registry=registry, seed=1
    )
    return mmcore.save(model, tmp_path / "model")


def test_a_saved_model_knows_its_distributions(site: Path, tmp_path: Path) -> None:
    rival = {"rival": HEALTHY.format(name="label")}
    install(site, "mmcore-rival", {"modality.label": "rival"}, rival, version="1.0")
    folder = saved(site, mmcore.discover(), tmp_path)
    # The name is in conflict, the file is not.
    loaded = mmcore.load(folder)
    assert loaded.modalities[0].made.distribution == "mmcore-rival"
    weights = {name: value.clone() for name, value in loaded.state_dict().items()}

    install(site, "mmcore-rival", {"modality.label": "rival"}, rival, version="2.0")
    with pytest.warns(UserWarning, match=r"was made with mmcore-rival 1\.0, here is mmcore-rival 2\.0"):
        loaded = mmcore.load(folder)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())

    for info in site.glob("*.dist-info"):
        (info / "entry_points.txt").unlink()
    with pytest.raises(
        RequestError, match=r"was made with mmcore-rival 1\.0, not installed here: pip install mmcore-rival==1\.0"
    ):
        mmcore.load(folder)


def test_loading_with_a_blocked_or_incompatible_distribution_says_so(site: Path, tmp_path: Path) -> None:
    install(site, "mmcore-rival", {"modality.label": "rival"}, {"rival": HEALTHY.format(name="label")})
    folder = saved(site, mmcore.discover(), tmp_path)
    with pytest.raises(RequestError, match="is blocked"):
        mmcore.load(folder, registry=mmcore.discover(without=["mmcore-rival"]))
    install(site, "mmcore-rival", {"modality.label": "rival"}, requires=["mmcore-diffusion>=99"])
    with pytest.raises(PluginError, match="needs mmcore-diffusion>=99"):
        mmcore.load(folder)
