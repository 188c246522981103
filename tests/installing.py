"""Fabricated plugins: distributions as pip would leave them, in a folder of the test's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmcore.plugins import GROUP

HEALTHY = """
from mmcore import Offer, hookimpl

@hookimpl
def mmcore_modalities():
    return [Offer({name!r}, "mmcore_label.modality:LabelModality", "labels again")]
"""
HOOK = "from mmcore import Offer, hookimpl\n\n@hookimpl\ndef mmcore_modalities(): "


def install(
    folder: Path,
    distribution: str,
    points: Mapping[str, str] | str | bytes = "",
    modules: Mapping[str, str] | None = None,
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    group: str = GROUP,
    metadata: str | None = None,
) -> None:
    """Install a distribution; ``points`` and ``metadata`` may be the files' text, to be as wrong as a test likes."""
    stem = distribution.replace("-", "_")
    for old in folder.glob(f"{stem}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    info = folder / f"{stem}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata is None:
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}\nA description.\n"
    (info / "METADATA").write_text(metadata)
    if isinstance(points, Mapping):
        points = f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_bytes(points if isinstance(points, bytes) else points.encode())
    for module, text in (modules or {}).items():
        (folder / f"{module}.py").write_text(text)
