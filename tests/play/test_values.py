"""What a person gives: read as what it is, written so that any other door reads the same, and never a path."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Reader, Registry, RequestError
from mmcore.data.decode import IMAGES
from mmcore.errors import MmcoreError
from mmcore.play import values
from mmcore.play.rows import Held
from mmcore.play.values import Value, fitted, png, tensor_of, uploaded, value_of


def written(value: Value, name: str, folder: Path) -> Any:
    """What would be typed after ``name=``."""
    if value.word is not None:
        return value.word
    path = folder / f"{name}{value.suffix}"
    path.write_bytes(value.data)
    return str(path)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("kind", "cat"),
        ("kind", "7"),
        ("age", 31.25),
        ("age", 0.1),
        ("age", np.float32(0.1)),
        ("age", 7),
        ("vector", np.linspace(-1, 1, 20).astype(np.float32)),
        ("vector", [0.5] * 20),
        ("image", Image.effect_noise((36, 24), 90).convert("RGB")),
        ("image", np.arange(24 * 36 * 3, dtype=np.uint8).reshape(24, 36, 3)),
        ("mask", 255 * (np.arange(96).reshape(8, 12) % 2).astype(np.uint8)),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_word_or_file_is_read_as_the_value_is(name: str, raw: Any, reader: Reader, tmp_path: Path) -> None:
    value = value_of(reader.model.variable(name), raw)
    wanted = reader.asked({name: [raw]}).tensors[name]
    assert torch.equal(reader.asked({name: [value.raw]}).tensors[name], wanted)
    assert torch.equal(reader.asked({name: written(value, name, tmp_path)}).tensors[name], wanted)
    assert (value.word is None) == (name not in ("kind", "age"))


def test_every_row_is_read_as_the_row_is(reader: Reader, tmp_path: Path) -> None:
    held = Held.of(reader)
    assert held.part == "test"
    assert len(held) > 3
    lacking = 0
    for number in range(len(held)):
        found, truth = held.row(number)
        assert found.keys() == truth.keys()
        lacking += "age" not in found
        for name, value in found.items():
            again = reader.asked({name: written(value, f"{number}-{name}", tmp_path)})
            assert torch.equal(again.tensors[name][0], truth[name])
    assert lacking


def test_a_row_that_is_not_there_is_told(reader: Reader, home: Path) -> None:
    with pytest.raises(RequestError, match=r"row 20: expected one of 0 … \d"):
        Held.of(reader).row(20)
    alone = Held.of(Reader.open(home / "run" / "model", registry=reader.registry, device="cpu"))
    assert (len(alone), alone.why) == (0, "a model folder by itself has no rows beside it")
    found, truth = alone.drawn(3)
    for name, value in found.items():
        assert tensor_of(alone.reader, name, value).shape == truth[name].shape


def test_data_that_are_gone_leave_the_page_without_rows(home: Path, reader: Reader) -> None:
    (home / "photos").rename(home / "moved")
    try:
        held = Held.of(Reader.open(home / "run", registry=reader.registry, device="cpu"))
        assert len(held) == 0
        assert held.why.startswith("the run's held-out rows cannot be read: ")
    finally:
        (home / "moved").rename(home / "photos")


def test_a_run_whose_plugin_is_gone_is_told_in_one_line(home: Path, registry: Registry) -> None:
    left = Registry([entry for entry in registry.entries if entry.distribution != "mmcore-clip"])
    for folder in (home / "run", home / "run" / "model"):
        with pytest.raises(MmcoreError, match="clip") as told:
            Reader.open(folder, registry=left, device="cpu")
        assert "\n" not in str(told.value)


def test_a_text_is_no_path(reader: Reader, home: Path) -> None:
    path = str(home / "photos" / "images" / "00.png")
    for name in ("image", "mask", "kind", "age", "vector"):
        value = value_of(reader.model.variable(name), path)
        assert value.suffix == ".json"
        with pytest.raises(RequestError):
            # JSON of a text: the modality is given the text itself, which is no picture, number or class.
            fitted(reader, name, value)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large, in some bytes."""
    raw = zlib.compress(b"\0" * 1000)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/tmp/made-by-eps) (w) file closefile showpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.png", b"", "unreadable"),
        ("a.png", b"not a picture", "unreadable"),
        ("a.png", EPS, "unreadable"),
        ("a.eps", EPS, "found a file .eps, expected .png"),
        ("a.svg", b"<svg/>", "found a file .svg"),
        ("a.png", bomb(9000, 9000), "the picture has 81,000,000 pixels"),
        ("a.png", bomb(60000, 60000), "unreadable|pixels"),
        ("a.png", png(Image.new("RGB", (50, 50)))[:-20], "unreadable"),
        ("a", b"x", "without a suffix"),
        ("../../etc/passwd", b"x", "without a suffix"),
        ("a.npy", b"\x93NUMPY\x01\x00", "unreadable"),
        ("a.json", b"[" * 100_000, "unreadable"),
    ],
)
def test_a_hostile_file_is_one_line(name: str, data: bytes, text: str) -> None:
    with pytest.raises(RequestError, match=text) as found:
        uploaded(name, data, (*IMAGES, ".npy", ".json"))
    assert "\n" not in str(found.value)


def test_a_file_that_is_too_large_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "decode", None)
    with pytest.raises(RequestError, match="the file has 33 MB, the limit is 33 MB; MMCORE_MOST_UPLOAD raises it"):
        uploaded("a.png", bytes(2**25 + 1), (".png",))


def test_arrays_that_run_code_are_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RequestError, match="it has objects"):
        uploaded("a.npy", buffer.getvalue(), (".npy",))


def test_a_picture_that_does_not_fit_is_made_to_and_said_so(reader: Reader, registry: Any) -> None:
    # The run resizes pictures of any shape; what it lacks is a background for what is not opaque.
    seen = Image.new("RGBA", (50, 40), (255, 0, 0, 0))
    value, note = fitted(reader, "image", value_of(reader.model.variable("image"), seen))
    assert note == "cut and resized to 12 × 8 pixels, as the model sees it"
    assert tensor_of(reader, "image", value).unique().tolist() == [1.0]
    plain = value_of(reader.model.variable("image"), seen.convert("RGB"))
    assert fitted(reader, "image", plain) == (plain, "")


@pytest.mark.parametrize("numbers", [[np.nan] * 20, [np.inf] * 20, [0.0] * 3], ids=["nan", "inf", "three"])
def test_numbers_that_are_none_are_told(numbers: list[float], reader: Reader) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array(numbers, dtype=np.float32))
    with pytest.raises(RequestError, match=r"vector.*expected"):
        fitted(reader, "vector", uploaded("a.npy", buffer.getvalue(), (".npy",)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16"])
def test_a_picture_of_any_mode_is_read_or_told(mode: str, reader: Reader) -> None:
    picture = Image.new(mode, (41, 30))
    # Pillow 12 does not read the TIFF of this mode that it has written, and no file is of HSV.
    suffix = {"YCbCr": ".jpg"}.get(mode, ".tiff")
    buffer = io.BytesIO()
    if mode != "HSV":
        picture.save(buffer, format="JPEG" if suffix == ".jpg" else "TIFF")
    m = reader.model.variable("image")
    if mode in ("I", "I;16"):
        with pytest.raises(RequestError, match="limits"):
            fitted(reader, "image", value_of(m, picture))
        return
    value, _ = fitted(reader, "image", value_of(m, picture))
    assert tensor_of(reader, "image", value).shape == m.spec.shape
    if mode != "HSV":
        fitted(reader, "image", uploaded(f"a{suffix}", buffer.getvalue(), (suffix,)))
