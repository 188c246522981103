"""Labels: what is read, what is refused, and probabilities that sum to one."""

import itertools

import numpy as np
import pytest
import torch

from mmcore import RequestError
from mmcore.testing import conformance_suite
from mmcore_label import LabelModality

test_label = conformance_suite(LabelModality(5))
test_label_multi = conformance_suite(LabelModality(4, multi=True), name="labels")


def test_indices_and_names_read_alike() -> None:
    m = LabelModality(3, names=["cat", "dog", "owl"])
    for raw in (1, np.int64(1), np.array(1), torch.tensor(1), "dog"):
        assert m.read(raw) == 1
    assert m.show(torch.tensor(1)) == "dog"


def test_several_labels_read_alike() -> None:
    m = LabelModality(3, multi=True, names=["cat", "dog", "owl"])
    for raw in (np.array([True, False, True]), [0, 2], {"cat", "owl"}):
        assert m.read(raw).tolist() == [True, False, True]
    assert m.show(torch.tensor([True, False, True])) == "cat, owl"


@pytest.mark.parametrize("multi", [False, True])
def test_probabilities_sum_to_one(multi: bool) -> None:
    m = LabelModality(3, multi=multi)
    values = list(itertools.product([False, True], repeat=3)) if multi else [0, 1, 2]
    x = torch.tensor(values)
    logits = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64).expand(len(x), 3)
    torch.testing.assert_close((-m.loss()(logits, x)).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (3, "found class 3, expected 0 … 2"),
        (-1, "found class -1"),
        (1.5, r"found 1.5 \(float\)"),
        (True, "found True"),
        ("x", "found 'x'"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        LabelModality(3).read(raw)


def test_wrong_options_are_refused() -> None:
    for match, options in {
        "expected a whole number of at least 2": {"classes": 1},
        "expected 3 different names": {"classes": 3, "names": ["a", "a", "b"]},
        "expected 3 numbers inside 0 … 1": {"classes": 3, "frequencies": [0.5, 0.5]},
    }.items():
        with pytest.raises(RequestError, match=match):
            LabelModality(**options)  # type: ignore[arg-type]
