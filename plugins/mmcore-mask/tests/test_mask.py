from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import RequestError, Space
from mmcore.testing import conformance_suite
from mmcore_mask import MaskModality
from mmcore_mask.modality import MaskEncoder

test_mask = conformance_suite(MaskModality(8, 4, void=9))


def test_index_maps_bits_and_alpha_read_alike(tmp_path: object) -> None:
    m = MaskModality(4, channel="alpha")
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


@pytest.mark.parametrize("classes", [2, 3])
def test_expected_codes_are_by_the_encoder_as_it_is(classes: int) -> None:
    """Not by codes of another one, nor of the same one before it was changed."""

    class Doubled(MaskEncoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    m = MaskModality(2, classes=classes)
    decoder, encoder = m.decoder(6, Space((1, 2, 2))), m.encoder()
    logits = torch.randn(5, classes, 2, 2, generator=torch.Generator().manual_seed(0))

    def expected(encode: Any) -> torch.Tensor:
        return m.expected_code(logits, encode, decoder)

    first = expected(encoder)
    assert torch.equal(first, expected(lambda x: encoder(x)))
    assert torch.equal(2 * first, expected(Doubled(m.frequencies, void=None)))
    encoder.table.mul_(3)
    assert torch.equal(expected(encoder), expected(lambda x: encoder(x)))
    assert not torch.equal(expected(encoder), first)


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
        (Image.new("RGB", (4, 4), "red"), "found a colour #ff0000 at row 0, column 0, expected one grey value"),
        (Image.new("CMYK", (4, 4)), "mode CMYK, expected indices"),
        (Image.new("RGBA", (4, 4), "#ff000080"), "found an alpha that is not opaque"),
        (np.zeros((3, 4, 4), dtype=int), r"found shape \(3, 4, 4\), expected 4 × 4"),
        ("/no/such.png", "found no file /no/such.png, expected an image"),
        (["a"], "found an array of <U1"),
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
        "void = 0, expected .*; ignore = .0. says that 0 in the data is void": {"void": 0},
        "values = .0, 1., expected one for each of 3 classes": {"values": [0, 1], "classes": 3},
        "one meaning for each, but 255 is there twice": {"values": [0, 255], "ignore": [255]},
        "expected a whole number, not 0.5": {"values": [0, 0.5]},
        "expected a colour as .*, not '#fff'": {"colours": ["#fff", "#000000"]},
        "either values or colours": {"values": [0, 1], "colours": ["#000000", "#ffffff"]},
        "channel = 'red', expected one of alpha, colour": {"channel": "red"},
    }.items():
        with pytest.raises(RequestError, match=match):
            MaskModality(4, **options)  # type: ignore[arg-type]


def words(mask: np.ndarray, table: list[object]) -> np.ndarray:
    return np.asarray(table)[mask]


INDICES = np.random.Generator(np.random.Philox(5)).integers(0, 3, (6, 5))
BINARY = INDICES > 0
GREY, VOC = [7, 11, 26], [[0, 0, 0], [128, 0, 0], [224, 224, 192]]


def palette(indices: np.ndarray, colours: list[list[int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([one for colour in colours for one in colour])
    return image


def translucent(alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 9), alpha]).astype(np.uint8), "RGBA")


@pytest.mark.parametrize(
    ("options", "raw", "expected"),
    [
        ({"values": [0, 255]}, words(BINARY * 1, [0, 255]).astype(np.uint8), BINARY),
        ({"values": [0, 255]}, Image.fromarray(words(BINARY * 1, [0, 255]).astype(np.uint8)), BINARY),
        ({"values": [0, 255]}, np.dstack([words(BINARY * 1, [0, 255])] * 3).astype(np.uint8), BINARY),
        ({"values": [0, 255]}, Image.fromarray(BINARY), BINARY),
        ({"values": [255, 0]}, words(BINARY * 1, [255, 0]), BINARY),
        ({"values": [-1, 1]}, words(BINARY * 1, [-1, 1]).astype(">i2"), BINARY),
        ({"values": [0, 65535]}, words(BINARY * 1, [0, 65535]).astype(np.uint16), BINARY),
        ({"values": [0, 1]}, (BINARY * 1.0)[..., None], BINARY),
        ({"values": GREY}, words(INDICES, GREY).astype(np.uint8), INDICES),
        ({"values": [[7, 8], 11, 26]}, words(INDICES, [8, 11, 26]).tolist(), INDICES),
        ({"values": [0, 70_000, 9]}, words(INDICES, [0, 70_000, 9]).astype(np.uint32), INDICES),
        ({"classes": 2, "ignore": [0]}, INDICES, words(INDICES, [-1, 0, 1])),
        ({"classes": 2, "ignore": [-1]}, words(INDICES, [0, 1, -1]), words(INDICES, [0, 1, -1])),
        ({"classes": 2, "void": 250}, words(INDICES, [0, 1, 250]), words(INDICES, [0, 1, 250])),
        ({"values": [1, 2], "ignore": [3, 4]}, words(INDICES, [3, 1, 2]), words(INDICES, [-1, 0, 1])),
        ({"colours": VOC}, words(INDICES, VOC).astype(np.uint8), INDICES),
        ({"colours": VOC}, np.moveaxis(words(INDICES, VOC), 2, 0).astype(np.uint8), INDICES),
        ({"colours": ["#000000", "#800000", "#E0E0C0"]}, palette(INDICES, VOC), INDICES),
        ({"colours": VOC[:2], "ignore": ["#e0e0c0"]}, palette(INDICES, VOC), words(INDICES, [0, 1, -1])),
        ({"colours": [[VOC[0], VOC[1]], VOC[2]]}, palette(INDICES, VOC), INDICES == 2),
        ({"colours": ["#000000", "#ffffff"]}, Image.fromarray(BINARY), BINARY),
        ({"classes": 3}, palette(INDICES, VOC), INDICES),
        ({"channel": "alpha"}, translucent(words(BINARY * 1, [100, 200])), BINARY),
        ({"channel": "alpha", "values": [9, 255]}, translucent(words(BINARY * 1, [9, 255])), BINARY),
        ({"channel": "colour", "values": [9, 8]}, translucent(words(BINARY * 1, [9, 255])), BINARY & False),
        ({"values": [9, 8]}, translucent(words(BINARY * 1, [255, 255])), BINARY & False),
    ],
)
def test_conventions_are_read_as_their_classes(options: dict, raw: object, expected: np.ndarray) -> None:
    m = MaskModality((6, 5), **options)
    read = m.read(raw)
    assert read.dtype == torch.int64
    assert read.tolist() == expected.astype(int).tolist()
    m.spec.check(read[None], "mask")
    assert torch.equal(m.read_many([raw, raw])[1], read)


@pytest.mark.parametrize(
    ("options", "raw", "match"),
    [
        ({}, [[0, 255], [0, 0]], "found class 255, expected 0 … 1; .* values = .0, 255. says so"),
        (
            {"values": [0, 255]},
            [[0, 128], [255, 128]],
            "found value 128 in 2 pixels, expected one of 0, 255; values says",
        ),
        (
            {"colours": ["#000000", "#ff0000"]},
            [[0, 7], [0, 0]],
            "found colour #070707 in 1 pixels, expected one of #0{6}, #ff0{4}",
        ),
        (
            {"colours": ["#000000", "#ff0000"]},
            [[0, 300], [0, 0]],
            "found int64 values 0 … 300, expected colours of 0 … 255",
        ),
    ],
)
def test_values_that_no_option_names_are_refused(options: dict, raw: object, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        MaskModality(2, **options).read(raw)


def test_colours_of_the_data_are_those_shown() -> None:
    m = MaskModality((6, 5), colours=VOC)
    assert np.array_equal(np.asarray(m.show(torch.from_numpy(INDICES))), words(INDICES, VOC))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "L"),
        ({"values": [0, 255]}, "L"),
        ({"values": [[7, 8], [11], [300, 2]]}, "I;16"),
        ({"classes": 4, "void": 255}, "L"),
        ({"classes": 3, "ignore": [0]}, "L"),
        ({"classes": 3, "ignore": [-1]}, "int64"),
        ({"colours": ["#000000", "#800000", ["#00ff00", "#00ff01"]], "ignore": ["#e0e0c0"]}, "RGB"),
        ({"channel": "alpha"}, "LA"),
        ({"channel": "alpha", "values": [9, 255]}, "LA"),
        ({"classes": 3, "values": [0, 70000, 3]}, "int64"),
    ],
)
def test_what_is_written_is_read_again(options: dict[str, Any], kind: str, tmp_path: Path) -> None:
    m = MaskModality((5, 7), **options)
    x = torch.randint(0, m.classes, (5, 7), generator=torch.Generator().manual_seed(0))
    if m.void is not None:
        x[1, 2:4] = m.void
    if m.classes == 3:
        x[0, :3] = torch.arange(3)
    raw = m.raw(x)
    assert (raw.mode if isinstance(raw, Image.Image) else str(raw.dtype)) == kind
    if isinstance(raw, Image.Image):
        raw.save(tmp_path / "x.png")
        raw = tmp_path / "x.png"
    assert torch.equal(m.read(raw), x)
    # Of another size too, as a map is written for its photograph.
    assert np.asarray(m.raw(x.repeat(2, 3))).shape[:2] == (10, 21)
