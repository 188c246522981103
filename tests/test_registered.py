"""Parts that were registered in process, in a model folder."""

from pathlib import Path
from typing import Any

import mmcore
from mmcore import Registry
from tests.test_doors import MyNet, Sound, fit, refused, rows, same


def registry_with(**factories: Any) -> Registry:
    registry = mmcore.discover()
    for kind, (name, factory) in factories.items():
        registry.register(kind, name, factory)
    return registry


def network(*, space: object, modalities: int, steps: int, blocks: int, width: int = 8) -> MyNet:
    return MyNet(width)


def test_registered_parts_are_found_again_in_a_registry_that_has_them(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"modality": ("sound", Sound), "backbone": ("mine", network)}

    def model(registry: Registry) -> mmcore.JointModel:
        modalities = [registry.modality("label", classes=4), registry.modality("sound", width=5)]
        return mmcore.compose(
            modalities, space=(2, 4, 4), backbone="mine", backbone_options={"width": 6}, registry=registry
        )

    registry = registry_with(**parts)
    one = model(registry)
    fit(registry, tmp_path / "run", model=one, rows=rows(one), steps=3)
    fit(registry, tmp_path / "run", model=model(registry_with(**parts)), rows=rows(one), steps=3, resume=True)
    folder = tmp_path / "run/model"
    same(mmcore.load(folder, registry=registry_with(**parts)), one)
    refused(
        lambda: mmcore.load(folder),
        r"made with a modality 'sound' that was registered in process, .* registry.register\('modality', 'sound', …\), load\(folder, registry=registry\)$",
    )
    refused(
        lambda: mmcore.load(folder, registry=registry_with(modality=parts["modality"])),
        r"a backbone 'mine' that was registered in process",
    )
    refused(
        lambda: mmcore.load(folder, registry=registry_with(**parts), modalities={"sound": Sound(5)}),
        r"modalities\['sound'\] is given, but in .* it was made by \(registered\):sound; leave it out$",
    )


def test_options_that_no_file_can_hold(tmp_path):
    registry = registry_with(modality=("sound", lambda width, rate: Sound(width)))
    m = mmcore.compose(
        [registry.modality("sound", width=6, rate=object())],
        backbone="mlp",
        backbone_options={"width": 8},
        registry=registry,
    )
    refused(lambda: mmcore.save(m, tmp_path), "save: modalities of the model have an option that no file can hold")
