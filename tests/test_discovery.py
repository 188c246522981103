"""Discovery: from metadata alone, torch-free, and one broken plugin harms no other."""

import subprocess
import sys
from pathlib import Path

import pytest

import mmcore
from mmcore import PluginError, RequestError
from mmcore.plugins import GROUP


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize(
    "code",
    [
        "import mmcore",
        "from mmcore import hookimpl, Offer",
        "import mmcore; mmcore.discover().table()",
        "import mmcore; r = mmcore.discover(); [r.offer(e) for e in r.entries]",
        "import sys; sys.argv = ['mmcore', 'plugins', 'list']; import mmcore.cli as c\ntry: c.main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['mmcore', '--help']; import mmcore.cli as c\ntry: c.main()\nexcept SystemExit: pass",
    ],
)
def test_no_torch_is_imported(code: str) -> None:
    done = run(f"{code}\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'")
    assert done.returncode == 0, done.stderr


def install(
    folder: Path, name: str, points: dict[str, str], modules: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution on ``sys.path``, as pip would leave it."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()) + "\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))


HEALTHY = """
from mmcore import Offer, hookimpl
@hookimpl
def mmcore_modalities():
    return [Offer("{name}", "mmcore_label.modality:LabelModality", "labels again")]
"""
BROKEN = {
    "raises": "raise RuntimeError('boom')",
    "exits": "raise SystemExit(3)",
    "misspelt": "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modality(): return []",
    "no_offer": "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modalities(): return ['x']",
    "hook_fails": "from mmcore import hookimpl\n@hookimpl\ndef mmcore_modalities(): raise KeyError('x')",
    "bad_factory": (
        "from mmcore import Offer, hookimpl\n@hookimpl\n"
        "def mmcore_modalities(): return [Offer('bad_factory', 'nowhere_at_all:X', '')]"
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_fails_alone_with_its_cause(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"plugin_{fault}"
    install(tmp_path, "mmcore-bad", {f"modality.{fault}": module}, {module: BROKEN[fault]}, monkeypatch)
    registry = mmcore.discover()
    with pytest.raises(PluginError, match="mmcore-bad"):
        registry.modality(fault)
    assert registry.modality("label", classes=3).name == "label"


def test_two_offers_of_one_name_conflict_until_one_is_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mmcore-rival", {"modality.label": "rival"}, {"rival": HEALTHY.format(name="label")}, monkeypatch)
    registry = mmcore.discover()
    with pytest.raises(RequestError, match=r"mmcore-label:label or mmcore-rival:label"):
        registry.modality("label")
    assert registry.modality("mmcore-rival:label", classes=4).made.distribution == "mmcore-rival"  # type: ignore[union-attr]
    assert [row["status"] for row in registry.table() if row["name"] == "label"] == ["conflict"] * 2


def test_a_plugin_installed_meanwhile_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mmcore.discover()
    install(tmp_path, "mmcore-late", {"modality.late": "late"}, {"late": HEALTHY.format(name="late")}, monkeypatch)
    with pytest.raises(RequestError, match="no modality 'late'"):
        before.modality("late")
    assert mmcore.discover().modality("late", classes=2).name == "late"


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
    with pytest.raises(RequestError, match=r"no modality 'imge' is installed; .* did you mean 'image'\?"):
        registry.modality("imge")
    with pytest.raises(RequestError, match="unexpected keyword argument 'chanels'"):
        registry.modality("image", chanels=3)
    with pytest.raises(RequestError, match="no schedule 'cosin' is installed"):
        registry.schedule("cosin", modalities=2)


def test_what_core_offers_agrees_with_its_metadata() -> None:
    registry = mmcore.discover()
    for entry in registry.entries:
        assert registry.offer(entry).name == entry.name
