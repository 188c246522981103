"""Masks: what is read, what void does, and intersection over union by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import RequestError
from mmcore.testing import conformance_suite
from mmcore_mask import MaskModality

test_mask = conformance_suite(MaskModality(8, 4, void=9))


def test_index_maps_bits_and_alpha_read_alike(tmp_path: object) -> None:
    m = MaskModality(4)
    bits = np.eye(4, dtype=bool)
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[..., 3] = bits * 255
    for raw in (
        bits,
        bits.astype(np.uint8),
        bits.astype(np.float32),
        rgba,
        Image.fromarray(rgba),
        Image.fromarray(bits),
    ):
        assert torch.equal(m.read(raw), torch.eye(4, dtype=torch.int64))


def test_void_is_read_coded_as_zero_and_counts_for_nothing() -> None:
    m = MaskModality(2, classes=3, void=255)
    x = m.read(np.array([[0, 2], [255, 1]]))[None]
    assert torch.equal(m.encoder()(x)[0, :, 1, 0], torch.zeros(3))
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    changed = logits.clone()
    changed[0, :, 1, 0] += torch.tensor([5.0, -1.0, 0.0])
    assert torch.equal(m.loss()(logits, x), m.loss()(changed, x))
    other = x.clone()
    other[0, 1, 0] = 1
    assert all(torch.equal(metric(other, x), metric(x, x)) for metric in m.metrics().values())


def test_loss_is_the_log_softmax_by_hand() -> None:
    m = MaskModality(2, classes=3)
    logits = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    x = torch.randint(3, (4, 2, 2), generator=torch.Generator().manual_seed(2))
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    want = [-sum(float(p[b, x[b, i, j], i, j].log()) for i in range(2) for j in range(2)) for b in range(4)]
    torch.testing.assert_close(m.loss()(logits, x), torch.tensor(want))


def test_iou_by_hand() -> None:
    iou = MaskModality(2).metrics()["iou"]
    truth = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    answer = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]])
    torch.testing.assert_close(iou(answer, truth), torch.tensor([1 / 3, 1.0]))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (np.full((4, 4), 3), "found class 3, expected 0 … 2 or void 9"),
        (np.zeros((4, 5), dtype=int), r"found shape \(4, 5\), expected 4 × 4"),
        (np.zeros((4, 4), dtype=bool), "found a boolean map, expected indices of 3 classes"),
        (np.full((4, 4), 0.5), "with fractions, expected class indices"),
        (Image.new("RGB", (4, 4)), "mode RGB, expected indices"),
        ("/no/such.png", "found no file /no/such.png, expected an image"),
        ([1], "found list"),
    ],
)
def test_wrong_values_are_refused(raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        MaskModality(4, classes=3, void=9).read(raw)


def test_wrong_options_are_refused() -> None:
    for match, options in {
        "classes = 1, expected a whole number of at least 2": {"classes": 1},
        "void = 1, expected a value that is none of the classes 0 … 1": {"void": 1},
        "expected 2 numbers above 0": {"frequencies": [1.0]},
    }.items():
        with pytest.raises(RequestError, match=match):
            MaskModality(4, **options)  # type: ignore[arg-type]
