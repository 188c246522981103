"""The worked example of the author's guide: a modality from the scaffold, trained jointly with labels."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcore import RequestError
from mmcore.testing import run

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "mmcore-profile"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the example, which is not installed here; ``test_scaffold`` installs it from its wheel."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module


def test_a_scan_reads_to_its_profiles(example: Any) -> None:
    modality = example("mmcore_profile").ProfileModality()
    scan = torch.zeros(8, 8)
    scan[2] = 1
    scan[5, 3] = 0.5
    x = modality.read(scan.numpy())
    assert x[0].tolist() == [0, 0, 1, 0, 0, 0.0625, 0, 0]
    assert x[1].tolist() == [0.125] * 3 + [0.1875] + [0.125] * 4
    assert torch.equal(modality.read(x.tolist()), x)
    assert modality.show(x) == "rows ▁▁█▁▁▁▁▁ columns ▂▂▂▂▂▂▂▂"
    with pytest.raises(RequestError, match=r"found values 0 … 16, expected ink in 0 … 1"):
        modality.read(16 * scan)


def test_its_default_means_are_those_of_the_data(example: Any) -> None:
    module = example("mmcore_profile.modality")
    x = module.profiles(module.digits())
    torch.testing.assert_close(x.mean(0), torch.tensor(module.MEAN), atol=0.005, rtol=0)
    assert abs(float(x.var(0).mean().sqrt()) - module.STD) < 0.002


def test_its_source_conforms_and_holds_a_fifth_back(example: Any) -> None:
    source = example("mmcore_profile.source").Profiles
    assert run(source, kind="source").verdict == "conformant"
    assert (len(source("train")), len(source("test"))) == (1438, 359)


def test_profiles_and_labels_train_jointly(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("joint").main(steps=150, draws=4)
    assert "label given profile, right" in capsys.readouterr().out
    # Ten labels: blind guesses are right in a tenth of the cases.
    assert found["label given profile, right"] > 0.4
    assert found["profile given label, judged right"] > 0.3
    assert found["nearest neighbours' label, right"] > 0.9
