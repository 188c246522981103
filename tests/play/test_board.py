"""The drawing board: what is drawn is what is asked, what is brushed is unknown, and what nobody touched keeps all its digits."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcore import Reader, Registry, RequestError
from mmcore.modality.control import Painting, Picture
from mmcore.play.board import Board, Told, data_url
from mmcore.play.values import Value, png, tensor_of, value_of


def layer(pixels: np.ndarray) -> str:
    return data_url(png(Image.fromarray(pixels, "RGBA")))


def board(reader: Reader, name: str) -> Board:
    control = reader.model.variable(name).control()
    assert isinstance(control, Picture | Painting)
    return Board(reader, name, control)


def base(text: str) -> np.ndarray:
    told = json.loads(text)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["base"].partition(",")[2]))))
    assert picture.shape[:2] == (told["height"], told["width"])
    return picture


@pytest.fixture
def photo(reader: Reader) -> Value:
    pixels = np.random.default_rng(3).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    return value_of(reader.model.variable("image"), Image.fromarray(pixels))


def test_it_shows_a_picture_as_it_is_and_a_map_in_its_colours(reader: Reader, photo: Value) -> None:
    assert np.array_equal(base(board(reader, "image").shows("m", photo)), np.asarray(photo.picture))
    m = reader.model.variable("mask")
    classes = m.typical(1, 0)[0]
    shown = base(board(reader, "mask").shows("m", value_of(m, m.raw(classes))))
    assert np.array_equal(shown[..., 0] // 255, classes.numpy())
    assert json.loads(board(reader, "mask").shows()) == {"mark": "", "width": 12, "height": 8, "base": ""}


def test_a_large_picture_is_shown_smaller_and_asked_whole(reader: Reader) -> None:
    large = Image.effect_noise((1500, 1000), 60).convert("RGB")
    value = value_of(reader.model.variable("image"), large)
    on = board(reader, "image")
    assert base(on.shows("m", value)).shape == (341, 512, 3)
    assert on.value(Told("m"), value) == (value, None)
    hidden = np.zeros((341, 512), dtype=bool)
    hidden[:, :256] = True
    same, known = on.value(Told("m", None, hidden), value)
    assert same is value
    assert known is not None
    assert known.shape == (1000, 1500)
    assert not known[:, :750].any()
    assert known[:, 750:].all()


def test_what_is_drawn_lies_over_the_picture(reader: Reader, photo: Value) -> None:
    drawn = np.zeros((24, 36, 4), dtype=np.uint8)
    drawn[5:9, 10:20] = (224, 49, 49, 255)
    value, known = board(reader, "image").value(Told.read(json.dumps({"mark": "m", "drawn": layer(drawn)})), photo)
    assert known is None
    assert value is not None
    wanted = np.asarray(photo.picture).copy()
    wanted[5:9, 10:20] = (224, 49, 49)
    assert np.array_equal(np.asarray(value.picture), wanted)
    # On an empty sheet the rest is black.
    small = np.zeros((8, 12, 4), dtype=np.uint8)
    small[2, 3] = 255
    value, _ = board(reader, "image").value(Told("", small), None)
    assert value is not None
    assert np.asarray(value.picture).sum() == 3 * 255


def test_what_is_painted_is_the_nearest_class(reader: Reader) -> None:
    m = reader.model.variable("mask")
    under = m.typical(1, 2)[0]
    on = board(reader, "mask")
    painted = np.zeros((8, 12, 4), dtype=np.uint8)
    painted[0, :6] = (250, 251, 252, 255)
    painted[0, 6:] = (5, 0, 3, 255)
    value, _ = on.value(Told("m", painted), value_of(m, m.raw(under)))
    assert value is not None
    wanted = under.clone()
    wanted[0] = torch.tensor([1] * 6 + [0] * 6)
    assert torch.equal(tensor_of(reader, "mask", value), wanted)
    value, _ = on.value(Told("", painted), None)
    assert value is not None
    assert tensor_of(reader, "mask", value).sum() == 6


def test_unknown_is_what_is_brushed_of_a_value_that_there_is(reader: Reader, photo: Value) -> None:
    on = board(reader, "image")
    hidden = np.ones((24, 36), dtype=bool)
    for told, held, text in (
        (Told("m", None, hidden), photo, "all of it is brushed as unknown"),
        (Told("", None, hidden), None, "nothing but the unknown is brushed"),
    ):
        with pytest.raises(RequestError, match=text):
            on.value(told, held)
    assert on.value(Told(), None) == (None, None)


def test_what_has_more_digits_than_a_picture_is_not_drawn_on(registry: Registry, reader: Reader) -> None:
    plain = board(reader, "image")
    deep = Board(reader, "image", Picture((8, 12), drawn=False))
    dot = np.full((8, 12, 4), 255, dtype=np.uint8)
    assert plain.value(Told("", dot), None)[0] is not None
    with pytest.raises(RequestError, match="cannot be drawn; open a file, or take a row"):
        deep.value(Told("", dot), None)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[1]",
        "3",
        '{"drawn": "file:///etc/passwd"}',
        '{"drawn": 3}',
        '{"drawn": "data:image/png;base64,AAAA"}',
        '{"drawn": "data:image/png;base64,%%%"}',
        '{"unknown": "data:image/svg+xml;base64,AAAA"}',
        '{"file": "/etc/passwd"}',
        '{"file": {"name": "a.png"}}',
        '{"file": {"name": "a.png", "data": "data:;base64,@@@"}}',
        "[" * 100_000,
        json.dumps({"drawn": data_url(b"x" * 5 * 2**20)}),
        json.dumps({"drawn": data_url(png(Image.new("RGBA", (2000, 10))))}),
    ],
    ids=lambda text: text[:40],
)
def test_what_no_board_would_tell_is_one_line(text: str) -> None:
    with pytest.raises(RequestError) as found:
        Told.read(text)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_nothing_told_is_nothing(text: Any) -> None:
    found = Told.read(text)
    assert (found.mark, found.drawn, found.unknown, found.file) == ("", None, None, None)
