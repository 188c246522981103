"""Labels: what is read, what is refused, and probabilities that sum to one."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mmcore import RequestError, Space
from mmcore.testing import conformance_suite
from mmcore_label import LabelModality
from mmcore_label.modality import LabelEncoder

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


def test_one_number_is_a_label_however_it_is_wrapped() -> None:
    for raw in (np.array([2]), np.array([[2]], np.uint8), np.array([2], ">i4"), torch.tensor([2]), 2.0, np.float32(2)):
        assert LabelModality(3).read(raw) == 2
    assert [
        int(LabelModality(2, names=["false", "true"]).read(raw)) for raw in (True, False, np.bool_(True), "false")
    ] == [1, 0, 1, 0]
    for raw in (np.eye(4)[2], np.eye(4, dtype=bool)[2], torch.eye(4)[2]):
        assert LabelModality(4).read(raw) == 2


def test_numbers_are_names_where_names_are_numbers() -> None:
    m = LabelModality(3, names=["1", "2", "A"])
    assert [int(m.read(raw)) for raw in (1, "1", 2, 2.0, np.int64(2), "A")] == [0, 0, 1, 1, 1, 2]
    with pytest.raises(RequestError, match="found 0, expected one of 1, 2, A"):
        m.read(0)
    assert LabelModality(3, names=["cat", "dog", "owl"]).read(0) == 0


def test_numbers_of_each_class_are_several_labels() -> None:
    m = LabelModality(4, multi=True)
    for raw in (
        np.array([1, 0, 0, 1], np.uint8),
        np.array([1.0, 0, 0, 1]),
        [1, 0, 0, 1],
        [True, False, False, True],
        torch.tensor([1, 0, 0, 1]),
    ):
        assert m.read(raw).tolist() == [True, False, False, True]
    assert m.read([0, 3]).tolist() == [True, False, False, True]
    assert not m.read([]).any()
    with pytest.raises(
        RequestError, match=r"found the list \[1, 0\], which may be indices or one number for each class"
    ):
        LabelModality(2, multi=True).read([1, 0])


@pytest.mark.parametrize("multi", [False, True])
def test_probabilities_sum_to_one(multi: bool) -> None:
    m = LabelModality(3, multi=multi)
    values = list(itertools.product([False, True], repeat=3)) if multi else [0, 1, 2]
    x = torch.tensor(values)
    logits = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64).expand(len(x), 3)
    torch.testing.assert_close((-m.loss()(logits, x)).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_codes_are_centred_scaled_one_hot_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.tensor([0.5, 0.2, 0.3])
    m = LabelModality(3, frequencies=p.tolist())
    x = torch.tensor([2, 0, 0, 1])
    code = (torch.eye(3)[x] - p) * (p * (1 - p)).rsqrt()
    assert torch.equal(m.encoder()(x), code)
    monkeypatch.setattr("mmcore_label.modality.MOST_TABLED", 2)
    assert torch.equal(m.encoder()(x), code)


def test_expected_codes_are_by_the_encoder_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by codes of another one, nor of the same one before it was changed."""

    class Doubled(LabelEncoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    m = LabelModality(4)
    decoder, encoder = m.decoder(6, Space((1, 2, 2))), m.encoder()
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))

    def expected(encode: Any) -> torch.Tensor:
        return m.expected_code(logits, encode, decoder)

    first = expected(encoder)
    assert torch.equal(first, expected(lambda x: encoder(x)))
    assert torch.equal(2 * first, expected(Doubled(m.frequencies, multi=False)))
    encoder.table.mul_(3)  # type: ignore[operator]
    assert torch.equal(expected(encoder), expected(lambda x: encoder(x)))
    assert not torch.equal(expected(encoder), first)
    assert encoder.double()(torch.tensor([1])).dtype == torch.float64
    assert torch.equal(expected(encoder), expected(lambda x: encoder(x)))
    assert not encoder.state_dict()
    monkeypatch.setattr("mmcore_label.modality.MOST_TABLED", 3)
    # Of so many in closed form, which is the same up to rounding.
    torch.testing.assert_close(expected(m.encoder()), first, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (3, "found class 3, expected 0 … 2"),
        (-1, "found class -1"),
        (1.5, r"found 1.5 \(float\)"),
        (True, "found True"),
        ("x", r"found 'x' \(str\), expected a class index 0 … 2; names = \[...\] lets words be classes"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        LabelModality(3).read(raw)


def test_a_number_beyond_the_classes_is_answered_with_their_names() -> None:
    with pytest.raises(RequestError, match="found class 3, expected 0 … 1 or one of cat, dog"):
        LabelModality(2, names=["cat", "dog"]).read(3)


def test_wrong_options_are_refused() -> None:
    for match, options in {
        "expected a whole number of at least 2": {"classes": 1},
        "expected 3 different names, one of each class$": {"classes": 3, "names": ["a", "a", "b"]},
        "expected 10 different names, one of each class; classes = 2 goes with them": {"names": ["a", "b"]},
        "expected 3 numbers inside 0 … 1": {"classes": 3, "frequencies": [0.5, 0.5]},
    }.items():
        with pytest.raises(RequestError, match=match):
            LabelModality(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "x", "raw"),
    [
        ({"classes": 3}, torch.tensor(2), 2),
        ({"classes": 3, "names": ["b", "7", "a"]}, torch.tensor(1), "7"),
        ({"classes": 3, "multi": True}, torch.tensor([True, False, True]), [True, False, True]),
        ({"classes": 3, "multi": True, "names": ["b", "7", "a"]}, torch.tensor([False, True, True]), ["7", "a"]),
        ({"classes": 2, "multi": True, "names": ["b", "a"]}, torch.tensor([False, False]), []),
    ],
)
def test_what_is_written_is_read_again(options: dict[str, Any], x: torch.Tensor, raw: Any) -> None:
    m = LabelModality(**options)
    assert m.raw(x) == raw
    assert torch.equal(m.read(m.raw(x)), x)


def test_many_classes_take_memory_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 classes: a matrix of all their codes would be 40 GB. Of few the closed form is the weighted sum."""
    m = LabelModality(100_000)
    encoder = m.encoder()
    params = torch.zeros(2, 100_000)
    params[0, 7] = 30.0
    code = m.expected_code(params, encoder, m.decoder(4, Space((4, 2))))
    torch.testing.assert_close(code[0], encoder(torch.tensor([7]))[0], rtol=1e-4, atol=1e-4)
    assert code[1].abs().max() < 1e-3
    frequencies = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1
    few = LabelModality(50, frequencies=(frequencies / frequencies.sum()).tolist())
    params = torch.randn(3, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    decoder = few.decoder(4, Space((4, 2)))
    summed = few.expected_code(params, few.encoder().double(), decoder)
    monkeypatch.setattr("mmcore_label.modality.MOST_TABLED", 2)
    closed = few.expected_code(params, few.encoder().double(), decoder)
    torch.testing.assert_close(closed, summed, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("raw", [None, float("nan"), np.float32("nan")])
def test_what_is_missing_says_how_it_is_left_out(raw: Any) -> None:
    for names in (None, ["a", "b", "c"]):
        with pytest.raises(RequestError, match="leave it out where it is missing"):
            LabelModality(3, names=names).read(raw)
